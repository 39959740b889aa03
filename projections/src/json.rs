//! Reading JSON that somebody else shapes: fields by name, borrowed, one pass. A field of the wrong type is absent,
//! a name that comes twice has its last value, and what is not asked for is skipped unread.

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

/// A value that is read leniently: anything of the wrong type is the type's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lenient<T>(pub(crate) T);

/// How a type takes the values that a JSON parser may come with. Whatever it does not take is skipped.
pub(crate) trait Taken<'de>: Default {
    fn of_str(_: &str) -> Self {
        Self::default()
    }

    fn of_borrowed_str(text: &'de str) -> Self {
        Self::of_str(text)
    }

    fn of_bool(_: bool) -> Self {
        Self::default()
    }

    fn of_integer(_: i128) -> Self {
        Self::default()
    }

    fn of_float(_: f64) -> Self {
        Self::default()
    }

    fn of_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }

    fn of_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self::default())
    }
}

impl<'de, T: Taken<'de>> Deserialize<'de> for Lenient<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Taker(PhantomData)).map(Self)
    }
}

struct Taker<T>(PhantomData<T>);

impl<'de, T: Taken<'de>> Visitor<'de> for Taker<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<T, E> {
        Ok(T::of_str(text))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<T, E> {
        Ok(T::of_borrowed_str(text))
    }

    fn visit_bool<E>(self, value: bool) -> Result<T, E> {
        Ok(T::of_bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<T, E> {
        Ok(T::of_integer(i128::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<T, E> {
        Ok(T::of_integer(i128::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<T, E> {
        Ok(T::of_float(value))
    }

    fn visit_unit<E>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::of_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        T::of_seq(seq)
    }
}

/// Text, borrowed from the payload where it has no escapes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Text<'a>(pub(crate) Option<Cow<'a, str>>);

impl<'de> Taken<'de> for Text<'de> {
    fn of_str(text: &str) -> Self {
        Self(Some(Cow::Owned(text.to_owned())))
    }

    fn of_borrowed_str(text: &'de str) -> Self {
        Self(Some(Cow::Borrowed(text)))
    }
}

impl Text<'_> {
    pub(crate) fn as_deref(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// A flag; absent unless it is `true` or `false`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flag(pub(crate) Option<bool>);

impl Taken<'_> for Flag {
    fn of_bool(value: bool) -> Self {
        Self(Some(value))
    }
}

/// Whether a value is there at all and not `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct There(pub(crate) bool);

impl<'de> Taken<'de> for There {
    fn of_str(_: &str) -> Self {
        Self(true)
    }

    fn of_bool(_: bool) -> Self {
        Self(true)
    }

    fn of_integer(_: i128) -> Self {
        Self(true)
    }

    fn of_float(_: f64) -> Self {
        Self(true)
    }

    fn of_map<A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Self(true))
    }

    fn of_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Self(true))
    }
}

/// A count: absent, or a number from 0; one that does not fit is the nearest that does, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    pub(crate) value: Option<i64>,
    pub(crate) clamped: bool,
}

impl Taken<'_> for Count {
    fn of_integer(value: i128) -> Self {
        let kept = value.clamp(0, i128::from(i64::MAX)) as i64;
        Self { value: Some(kept), clamped: i128::from(kept) != value }
    }

    fn of_float(value: f64) -> Self {
        // Floats cast to the nearest number that fits; a fraction of a token is cut off and said so.
        let kept = (value as i64).max(0);
        Self { value: Some(kept), clamped: (kept as f64).to_bits() != value.to_bits() }
    }
}

impl<'de, T: Taken<'de>> Taken<'de> for Option<Box<T>> {
    fn of_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::of_map(map).map(|value| Some(Box::new(value)))
    }
}

/// A list of which each element is taken leniently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List<T>(pub(crate) Vec<T>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Taken<'de>> Taken<'de> for List<T> {
    fn of_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        let mut list = Vec::new();
        while let Some(Lenient(element)) = seq.next_element()? {
            list.push(element);
        }
        Ok(Self(list))
    }
}

/// Declares a struct of fields that are taken by name, in any order, whatever else is there.
macro_rules! lenient {
    ($(#[$doc:meta])* struct $name:ident<$life:lifetime> { $($field:ident: $type:ty = $key:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub(crate) struct $name<$life> {
            $(pub(crate) $field: $type,)+
            lifetime: std::marker::PhantomData<&$life ()>,
        }

        impl<$life> $crate::json::Taken<$life> for $name<$life> {
            fn of_map<A: serde::de::MapAccess<$life>>(mut map: A) -> Result<Self, A::Error> {
                #[allow(non_camel_case_types)]
                enum Field { $($field,)+ Other }
                struct Key;
                impl<'de> serde::de::DeserializeSeed<'de> for Key {
                    type Value = Field;
                    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
                        deserializer.deserialize_str(self)
                    }
                }
                impl serde::de::Visitor<'_> for Key {
                    type Value = Field;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a name")
                    }
                    fn visit_str<E>(self, name: &str) -> Result<Field, E> {
                        Ok(match name {
                            $($key => Field::$field,)+
                            _ => Field::Other,
                        })
                    }
                }
                let mut fields = Self::default();
                while let Some(field) = map.next_key_seed(Key)? {
                    match field {
                        $(Field::$field => {
                            fields.$field = map.next_value::<$crate::json::Lenient<$type>>()?.0;
                        })+
                        Field::Other => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }
    };
}
pub(crate) use lenient;
