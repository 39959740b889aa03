//! Reading JSON that somebody else shapes: fields by name, in place, borrowed, in one pass. A field of the wrong type
//! is absent, a name that comes twice has its last value, and what is not asked for is skipped unread.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// How a value is filled by what a JSON parser comes with. What it does not take leaves it as it is: absent.
pub(crate) trait Taken<'de>: Default {
    fn take_str(&mut self, _: &str) {}

    fn take_borrowed_str(&mut self, text: &'de str) {
        self.take_str(text);
    }

    fn take_bool(&mut self, _: bool) {}

    fn take_integer(&mut self, _: i128) {}

    fn take_float(&mut self, _: f64) {}

    fn take_map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn take_seq<A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// Fills a value.
pub(crate) struct Taker<'t, T>(pub(crate) &'t mut T);

impl<'de, T: Taken<'de>> DeserializeSeed<'de> for Taker<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: Taken<'de>> Visitor<'de> for Taker<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.take_str(text);
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.0.take_borrowed_str(text);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.take_bool(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.take_integer(i128::from(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.take_integer(i128::from(value));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.0.take_float(value);
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.0.take_map(map)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        self.0.take_seq(seq)
    }
}

/// Text, borrowed from the payload where it has no escapes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Text<'a>(Option<Cow<'a, str>>);

impl<'de> Taken<'de> for Text<'de> {
    fn take_str(&mut self, text: &str) {
        self.0 = Some(Cow::Owned(text.to_owned()));
    }

    fn take_borrowed_str(&mut self, text: &'de str) {
        self.0 = Some(Cow::Borrowed(text));
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
    fn take_bool(&mut self, value: bool) {
        self.0 = Some(value);
    }
}

/// Whether a value is there at all and not `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct There(pub(crate) bool);

impl<'de> Taken<'de> for There {
    fn take_str(&mut self, _: &str) {
        self.0 = true;
    }

    fn take_bool(&mut self, _: bool) {
        self.0 = true;
    }

    fn take_integer(&mut self, _: i128) {
        self.0 = true;
    }

    fn take_float(&mut self, _: f64) {
        self.0 = true;
    }

    fn take_map<A: MapAccess<'de>>(&mut self, mut map: A) -> Result<(), A::Error> {
        self.0 = true;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn take_seq<A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        self.0 = true;
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// A count: absent, or a number from 0; one that does not fit is the nearest that does, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    pub(crate) value: Option<i64>,
    pub(crate) clamped: bool,
}

impl Taken<'_> for Count {
    fn take_integer(&mut self, value: i128) {
        let kept = value.clamp(0, i128::from(i64::MAX)) as i64;
        *self = Self { value: Some(kept), clamped: i128::from(kept) != value };
    }

    fn take_float(&mut self, value: f64) {
        // Floats cast to the nearest number that fits; a fraction of a token is cut off and said so.
        let kept = (value as i64).max(0);
        *self = Self { value: Some(kept), clamped: (kept as f64).to_bits() != value.to_bits() };
    }
}

impl<'de, T: Taken<'de>> Taken<'de> for Option<T> {
    fn take_map<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        self.insert(T::default()).take_map(map)
    }
}

impl<'de, T: Taken<'de>> Taken<'de> for Box<T> {
    fn take_map<A: MapAccess<'de>>(&mut self, map: A) -> Result<(), A::Error> {
        self.as_mut().take_map(map)
    }
}

/// A list. Most lists have one element: it needs no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List<T> {
    first: T,
    is_empty: bool,
    rest: Vec<T>,
}

impl<T: Default> Default for List<T> {
    fn default() -> Self {
        Self { first: T::default(), is_empty: true, rest: Vec::new() }
    }
}

impl<T> List<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (!self.is_empty).then_some(&self.first).into_iter().chain(&self.rest)
    }
}

impl<'de, T: Taken<'de>> Taken<'de> for List<T> {
    fn take_seq<A: SeqAccess<'de>>(&mut self, mut seq: A) -> Result<(), A::Error> {
        if seq.next_element_seed(Taker(&mut self.first))?.is_none() {
            return Ok(());
        }
        self.is_empty = false;
        loop {
            let mut element = T::default();
            if seq.next_element_seed(Taker(&mut element))?.is_none() {
                return Ok(());
            }
            self.rest.push(element);
        }
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
            fn take_map<A: serde::de::MapAccess<$life>>(&mut self, mut map: A) -> Result<(), A::Error> {
                #[allow(non_camel_case_types)]
                #[derive(Clone, Copy)]
                enum Field { $($field,)+ Other }
                struct Key;
                impl<'de> serde::de::DeserializeSeed<'de> for Key {
                    type Value = Field;
                    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
                        deserializer.deserialize_bytes(self)
                    }
                }
                impl serde::de::Visitor<'_> for Key {
                    type Value = Field;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a name")
                    }
                    fn visit_bytes<E>(self, name: &[u8]) -> Result<Field, E> {
                        Ok(match name {
                            $($key => Field::$field,)+
                            _ => Field::Other,
                        })
                    }
                }
                let mut seen = 0u64;
                while let Some(field) = map.next_key_seed(Key)? {
                    let bit = 1 << field as u32;
                    let again = seen & bit != 0;
                    seen |= bit;
                    match field {
                        $(Field::$field => {
                            if again {
                                self.$field = Default::default();
                            }
                            map.next_value_seed($crate::json::Taker(&mut self.$field))?;
                        })+
                        Field::Other => {
                            map.next_value::<serde::de::IgnoredAny>()?;
                        }
                    }
                }
                Ok(())
            }
        }
    };
}
pub(crate) use lenient;

/// Reads one JSON text into a value. `None` when it is not one, or anything follows it.
pub(crate) fn read<'a, T: Taken<'a>>(text: &'a str) -> Option<T> {
    let mut value = T::default();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Taker(&mut value).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    Some(value)
}

/// Gives a payload to `take` as text: as it is, or mended where only trifles keep a strict parser from it.
pub(crate) fn with_payload<R>(payload: &[u8], mut take: impl FnMut(&str) -> Option<R>) -> Option<R> {
    if let Some(read) = std::str::from_utf8(payload).ok().and_then(&mut take) {
        return Some(read);
    }
    let mended = crate::text::mended(payload)?;
    take(std::str::from_utf8(&mended).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    lenient! {
        struct Sample<'a> {
            name: Text<'a> = b"name",
            count: Count = b"count",
            flag: Flag = b"flag",
            there: There = b"there",
            inner: Option<Box<Sample<'a>>> = b"inner",
            list: List<Text<'a>> = b"list",
        }
    }

    #[test]
    fn a_field_of_the_wrong_type_costs_that_field_alone() {
        let sample: Sample<'_> =
            read(r#"{"name":{"a":[1]},"count":"x","flag":1,"there":[],"inner":7,"list":{"a":1}}"#).unwrap();
        assert_eq!(sample.name.as_deref(), None);
        assert_eq!((sample.count.value, sample.flag.0, sample.there.0), (None, None, true));
        assert!(sample.inner.is_none());
        assert_eq!(sample.list.iter().count(), 0);
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_value_counts() {
        let sample: Sample<'_> =
            read(r#"{"name":"a","name":"b","count":1,"count":null,"na\u006de":"c","inner":{"name":"x"},"inner":{}}"#)
                .unwrap();
        assert_eq!(sample.name.as_deref(), Some("c"));
        assert_eq!(sample.count.value, None);
        assert_eq!(sample.inner.unwrap().name.as_deref(), None);
    }

    #[test]
    fn numbers_that_do_not_fit_are_clamped_and_say_so() {
        let count = |text: &str| {
            let sample: Sample<'_> = read(text).unwrap();
            (sample.count.value, sample.count.clamped)
        };
        assert_eq!(count(r#"{"count":9007199254740993}"#), (Some(9_007_199_254_740_993), false));
        assert_eq!(count(r#"{"count":18446744073709551615}"#), (Some(i64::MAX), true));
        assert_eq!(count(r#"{"count":1e300}"#), (Some(i64::MAX), true));
        assert_eq!(count(r#"{"count":-5}"#), (Some(0), true));
        assert_eq!(count(r#"{"count":2.0}"#), (Some(2), false));
        assert_eq!(count(r#"{"count":2.5}"#), (Some(2), true));
    }

    #[test]
    fn what_follows_the_text_makes_it_none() {
        assert!(read::<Sample<'_>>(r#"{"name":"a"}{"name":"b"}"#).is_none());
        assert!(read::<Sample<'_>>(r#"{"name":"a""#).is_none());
        assert!(read::<Sample<'_>>(r#"  {"name":"a"}  "#).is_some());
        assert!(read::<Sample<'_>>("[1]").is_some());
    }
}
