//! Reading JSON that somebody else shapes: fields by name, in place, borrowed, in one pass. A field of the wrong type
//! is absent, a name that comes twice has its last value, and what is not asked for is skipped unread.

use burnlog_log::scan::{Scanner, Word};
use std::borrow::Cow;

/// How a value is filled from the next one of a text. What is of another type is skipped and leaves it as it is: absent.
pub(crate) trait Taken<'a>: Default {
    /// Goes past the next value. `None` when it is not JSON.
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()>;
}

/// Text, borrowed from the payload where it has no escapes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Text<'a>(Option<Cow<'a, str>>);

impl<'a> Taken<'a> for Text<'a> {
    #[inline]
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'"' {
            return from.skip();
        }
        self.0 = Some(from.string()?.text());
        Some(())
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

impl<'a> Taken<'a> for Flag {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if !matches!(from.peek()?, b't' | b'f') {
            return from.skip();
        }
        self.0 = Some(from.word()? == Word::True);
        Some(())
    }
}

/// Whether a value is there at all and not `null`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct There(pub(crate) bool);

impl<'a> Taken<'a> for There {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        self.0 = from.peek()? != b'n';
        from.skip()
    }
}

/// A count: absent, or a number from 0; one that does not fit is the nearest that does, and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Count {
    pub(crate) value: Option<i64>,
    pub(crate) clamped: bool,
}

impl<'a> Taken<'a> for Count {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if !matches!(from.peek()?, b'-' | b'0'..=b'9') {
            return from.skip();
        }
        let number = from.number()?;
        *self = match number.parse::<i64>() {
            Ok(value) => Self { value: Some(value.max(0)), clamped: value < 0 },
            Err(_) => Self::of_float(number.parse().unwrap_or(f64::NAN)),
        };
        Some(())
    }
}

impl Count {
    /// Floats cast to the nearest number that fits; a fraction of a token is cut off and said so.
    fn of_float(value: f64) -> Self {
        let kept = (value as i64).max(0);
        Self { value: Some(kept), clamped: kept == i64::MAX || (kept as f64).to_bits() != value.to_bits() }
    }
}

impl<'a, T: Taken<'a>> Taken<'a> for Option<T> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'{' {
            return from.skip();
        }
        self.insert(T::default()).take(from)
    }
}

impl<'a, T: Taken<'a>> Taken<'a> for Box<T> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        self.as_mut().take(from)
    }
}

/// Where a value stands in a text, in bytes; of no bytes when it was not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) bytes: u32,
}

impl Span {
    /// Whether there was no value.
    pub(crate) fn is_absent(self) -> bool {
        self.bytes == 0
    }
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Spanned<T> {
    pub(crate) value: T,
    pub(crate) span: Span,
}

impl<'a, T: Taken<'a>> Taken<'a> for Spanned<T> {
    #[inline]
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        from.peek()?;
        let start = from.position();
        self.value.take(from)?;
        // Payloads have at most 32 MiB.
        let bytes = u32::try_from(from.position() - start).unwrap_or(u32::MAX);
        self.span = Span { start: u32::try_from(start).unwrap_or(u32::MAX), bytes };
        Some(())
    }
}

impl Spanned<Text<'_>> {
    /// Where the value stands if it is a text.
    pub(crate) fn text_span(&self) -> Span {
        if self.value.as_deref().is_some() { self.span } else { Span::default() }
    }
}

impl Spanned<There> {
    /// Where the value stands if it is there and not `null`.
    pub(crate) fn there(&self) -> Span {
        if self.value.0 { self.span } else { Span::default() }
    }
}

/// A value that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Unread;

impl<'a> Taken<'a> for Unread {
    #[inline]
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        from.skip()
    }
}

/// A list. Most lists have one element: it needs no memory of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List<T> {
    first: Option<T>,
    rest: Vec<T>,
}

impl<T> Default for List<T> {
    fn default() -> Self {
        Self { first: None, rest: Vec::new() }
    }
}

impl<T> List<T> {
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.rest)
    }
}

impl<'a, T: Taken<'a>> Taken<'a> for List<T> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'[' {
            return from.skip();
        }
        from.advance();
        let mut is_first = true;
        while from.next_element(&mut is_first)? {
            if self.first.is_none() {
                self.first.insert(T::default()).take(from)?;
            } else {
                self.rest.push(T::default());
                self.rest.last_mut()?.take(from)?;
            }
        }
        Some(())
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
            fn take(&mut self, from: &mut burnlog_log::scan::Scanner<$life>) -> Option<()> {
                #[allow(non_camel_case_types)]
                #[derive(Clone, Copy)]
                enum Field { $($field,)+ Other }
                fn field_of(name: &[u8]) -> Field {
                    match name {
                        $($key => Field::$field,)+
                        _ => Field::Other,
                    }
                }
                if from.peek()? != b'{' {
                    return from.skip();
                }
                from.advance();
                let (mut seen, mut is_first) = (0u64, true);
                while let burnlog_log::scan::Step::Name(name) = from.next_name(&mut is_first)? {
                    let field = match name.plain() {
                        Some(plain) => field_of(plain.as_bytes()),
                        None => field_of(name.text().as_bytes()),
                    };
                    let bit = 1 << field as u32;
                    let again = seen & bit != 0;
                    seen |= bit;
                    match field {
                        $(Field::$field => {
                            if again {
                                self.$field = Default::default();
                            }
                            $crate::json::Taken::take(&mut self.$field, from)?;
                        })+
                        Field::Other => from.skip()?,
                    }
                }
                Some(())
            }
        }
    };
}
pub(crate) use lenient;

/// Reads one JSON text into a value. `None` when it is not one, or anything follows it.
pub(crate) fn read<'a, T: Taken<'a>>(text: &'a str) -> Option<T> {
    let mut value = T::default();
    let mut scanner = Scanner::new(text);
    value.take(&mut scanner)?;
    scanner.is_at_end().then_some(value)
}

/// Returns a payload as text: without a byte order mark, and with U+FFFD for what is not UTF-8.
pub(crate) fn text_of(payload: &[u8]) -> Cow<'_, str> {
    let payload = payload.strip_prefix(b"\xef\xbb\xbf").unwrap_or(payload);
    match simdutf8::basic::from_utf8(payload) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    lenient! {
        struct Sample<'a> {
            name: Text<'a> = b"name",
            count: Count = b"count",
            flag: Flag = b"flag",
            inner: Option<Box<Sample<'a>>> = b"inner",
            list: List<Text<'a>> = b"list",
        }
    }

    #[test]
    fn a_field_of_the_wrong_type_costs_that_field_alone() {
        let sample: Sample<'_> =
            read(r#"{"name":{"a":[1]},"count":"x","flag":1,"inner":7,"list":{"a":1}}"#).unwrap();
        assert_eq!(sample.name.as_deref(), None);
        assert_eq!((sample.count.value, sample.flag.0), (None, None));
        assert!(sample.inner.is_none());
        assert_eq!(sample.list.iter().count(), 0);
    }

    #[test]
    fn of_a_name_that_comes_twice_the_last_value_counts() {
        let text = r#"{"name":"a","name":"b","count":1,"count":null,"na\u006de":"c","inner":{"name":"x"},"inner":{},"list":["1","2"],"list":["3", 4]}"#;
        let sample: Sample<'_> = read(text).unwrap();
        assert_eq!(sample.name.as_deref(), Some("c"));
        assert_eq!(sample.count.value, None);
        assert_eq!(sample.inner.unwrap().name.as_deref(), None);
        assert_eq!(sample.list.iter().map(Text::as_deref).collect::<Vec<_>>(), [Some("3"), None]);
    }

    #[test]
    fn numbers_that_do_not_fit_are_clamped_and_say_so() {
        let count = |number: &str| {
            let text = format!("{{\"count\":{number}}}");
            let sample: Sample<'_> = read(&text).unwrap();
            (sample.count.value, sample.count.clamped)
        };
        assert_eq!(count("9007199254740993"), (Some(9_007_199_254_740_993), false));
        assert_eq!(count("18446744073709551615"), (Some(i64::MAX), true));
        assert_eq!(count("1e999"), (Some(i64::MAX), true));
        assert_eq!(count("-1e999"), (Some(0), true));
        assert_eq!(count("-5"), (Some(0), true));
        assert_eq!(count("2.0"), (Some(2), false));
        assert_eq!(count("2.5"), (Some(2), true));
        assert_eq!(count("0"), (Some(0), false));
    }

    #[test]
    fn what_is_not_one_text_is_none() {
        for text in [
            r#"{"name":"a"}{"name":"b"}"#,
            r#"{"name":"a""#,
            r#"{"name":"a",}"#,
            r#"{"list":["a",]}"#,
            r#"{"list":[,]}"#,
            r#"{"name" "a"}"#,
            r#"{"count":01}"#,
            r#"{"other":tru}"#,
            "",
        ] {
            assert!(read::<Sample<'_>>(text).is_none(), "{text}");
        }
        assert!(read::<Sample<'_>>(" {\"name\" : \"a\" , \"list\" : [ \"a\" , \"b\" ] } \r").is_some());
        assert!(read::<Sample<'_>>("[1]").is_some());
    }

    #[test]
    fn bytes_that_are_not_text_become_text() {
        assert_eq!(text_of(b"\xef\xbb\xbf{}"), "{}");
        assert_eq!(text_of(b"a\xffb"), "a\u{fffd}b");
    }
}
