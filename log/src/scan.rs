//! Scanning JSON text (RFC 8259): strings, numbers and whole values, borrowed, each byte looked at once. Refuses what
//! the grammar refuses; of an escape that names half a surrogate pair it makes U+FFFD. Knows no field and no type.

use memchr::{memchr, memchr2};
use std::borrow::Cow;

/// A place in a JSON text.
#[derive(Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// Whether there are control characters anywhere, so that strings must be searched for them.
    has_controls: bool,
}

/// A string as it stands in the text, between its quotes; its escapes are known to be good.
#[derive(Debug, Clone, Copy)]
pub struct RawText<'a> {
    raw: &'a str,
    escaped: bool,
}

/// What comes next in an object.
#[derive(Debug, Clone, Copy)]
pub enum Step<'a> {
    /// A name; its value follows.
    Name(RawText<'a>),
    /// Nothing: the object has ended.
    End,
}

/// A value that is a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// `true`.
    True,
    /// `false`.
    False,
    /// `null`.
    Null,
}

impl<'a> Scanner<'a> {
    /// Stands at the beginning of a text.
    pub fn new(text: &'a str) -> Self {
        // Lines are compact, so that one quick look at all bytes saves one at each string.
        let has_controls = text.as_bytes().iter().fold(0, |found, byte| found | u8::from(*byte < 0x20)) != 0;
        Self { text, at: 0, has_controls }
    }

    /// Returns the first byte of what comes next, whitespace left behind; `None` at the end.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            let byte = *self.text.as_bytes().get(self.at)?;
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Returns where the scanner stands, in bytes from the beginning of the text.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Goes past `byte`, which must come next.
    #[inline]
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Goes past the byte that was peeked.
    #[inline]
    pub fn advance(&mut self) {
        self.at += 1;
    }

    /// Whether nothing is left but whitespace.
    pub fn is_at_end(&mut self) -> bool {
        self.peek().is_none()
    }

    /// Goes on in an object to its next name and past the colon, or past its end. `is_first` is true before the first.
    #[inline]
    pub fn next_name(&mut self, is_first: &mut bool) -> Option<Step<'a>> {
        let byte = self.peek()?;
        if byte == b'}' {
            self.at += 1;
            return Some(Step::End);
        }
        if std::mem::replace(is_first, false) {
            return self.name().map(Step::Name);
        }
        if byte != b',' {
            return None;
        }
        self.at += 1;
        self.name().map(Step::Name)
    }

    /// Goes past a name and its colon.
    #[inline]
    fn name(&mut self) -> Option<RawText<'a>> {
        let name = self.string()?;
        self.expect(b':')?;
        Some(name)
    }

    /// Goes on in a list to its next element; `Some(false)` past its end. `is_first` is true before the first.
    pub fn next_element(&mut self, is_first: &mut bool) -> Option<bool> {
        let byte = self.peek()?;
        if byte == b']' {
            self.at += 1;
            return Some(false);
        }
        if std::mem::replace(is_first, false) {
            return Some(true);
        }
        self.expect(b',')?;
        // A comma that nothing follows is refused by whoever reads the element.
        Some(true)
    }

    /// Goes past a string.
    #[inline]
    pub fn string(&mut self) -> Option<RawText<'a>> {
        self.expect(b'"')?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut end = start;
        let mut escaped = false;
        loop {
            end = next_mark(bytes, end)?;
            if bytes[end] == b'"' {
                break;
            }
            escaped = true;
            end += escape_length(&bytes[end..])?;
        }
        if self.has_controls && bytes[start..end].iter().any(|byte| *byte < 0x20) {
            return None;
        }
        self.at = end + 1;
        Some(RawText { raw: &self.text[start..end], escaped })
    }

    /// Goes past a number and returns its text.
    pub fn number(&mut self) -> Option<&'a str> {
        self.peek()?;
        let bytes = self.text.as_bytes();
        let start = self.at;
        let mut at = start + usize::from(bytes[start] == b'-');
        let digits = |at: &mut usize| {
            let first = *at;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
            (*at > first).then_some(*at - first)
        };
        let leads_with_zero = bytes.get(at) == Some(&b'0');
        if digits(&mut at)? > 1 && leads_with_zero {
            return None;
        }
        if bytes.get(at) == Some(&b'.') {
            at += 1;
            digits(&mut at)?;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            at += 1;
            at += usize::from(matches!(bytes.get(at), Some(b'+' | b'-')));
            digits(&mut at)?;
        }
        self.at = at;
        Some(&self.text[start..at])
    }

    /// Goes past `true`, `false` or `null` and returns which.
    pub fn word(&mut self) -> Option<Word> {
        let rest = &self.text.as_bytes()[self.at..];
        let (length, word) = match rest {
            [b't', b'r', b'u', b'e', ..] => (4, Word::True),
            [b'f', b'a', b'l', b's', b'e', ..] => (5, Word::False),
            [b'n', b'u', b'l', b'l', ..] => (4, Word::Null),
            _ => return None,
        };
        self.at += length;
        Some(word)
    }

    /// Whether there is a newline anywhere in the text.
    pub fn has_newline(&self) -> bool {
        self.has_controls && memchr(b'\n', self.text.as_bytes()).is_some()
    }

    /// Goes past any value, however deep, in memory of one bit a level.
    pub fn skip(&mut self) -> Option<()> {
        self.skip_within(usize::MAX)
    }

    /// Goes past any value whose brackets are nested at most `depth_max` deep.
    pub fn skip_within(&mut self, depth_max: usize) -> Option<()> {
        let mut nesting = Nesting::default();
        loop {
            match self.peek()? {
                b'"' => drop(self.string()?),
                b'{' => {
                    self.at += 1;
                    nesting.open(true, depth_max)?;
                    if self.peek()? != b'}' {
                        self.name()?;
                        continue;
                    }
                    self.at += 1;
                    nesting.close();
                }
                b'[' => {
                    self.at += 1;
                    nesting.open(false, depth_max)?;
                    if self.peek()? != b']' {
                        continue;
                    }
                    self.at += 1;
                    nesting.close();
                }
                b'-' | b'0'..=b'9' => drop(self.number()?),
                _ => drop(self.word()?),
            }
            // The value has ended: go on to the next, or out of what ends with it.
            loop {
                let Some(in_object) = nesting.is_object() else { return Some(()) };
                match (self.peek()?, in_object) {
                    (b',', true) => {
                        self.at += 1;
                        self.name()?;
                        break;
                    }
                    (b',', false) => {
                        self.at += 1;
                        break;
                    }
                    (b'}', true) | (b']', false) => {
                        self.at += 1;
                        nesting.close();
                    }
                    _ => return None,
                }
            }
        }
    }
}

/// Which of the open brackets are of objects, the innermost in the lowest bit.
#[derive(Debug, Default)]
struct Nesting {
    depth: usize,
    inner: u64,
    outer: Vec<u64>,
}

impl Nesting {
    /// Goes one level deeper; `None` where that is too deep.
    fn open(&mut self, is_object: bool, depth_max: usize) -> Option<()> {
        if self.depth >= depth_max {
            return None;
        }
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.outer.push(self.inner);
        }
        self.inner = (self.inner << 1) | u64::from(is_object);
        self.depth += 1;
        Some(())
    }

    fn close(&mut self) {
        self.depth -= 1;
        self.inner >>= 1;
        if self.depth > 0 && self.depth.is_multiple_of(64) {
            self.inner = self.outer.pop().unwrap_or_default();
        }
    }

    /// Whether the innermost bracket is an object's; `None` outside all.
    fn is_object(&self) -> Option<bool> {
        (self.depth > 0).then_some(self.inner & 1 == 1)
    }
}

/// From this length on a string is searched in the way that is best for long ones.
const LONG_BYTES: usize = 48;

/// Returns where the first quote or backslash is, from `at` on.
#[inline]
fn next_mark(bytes: &[u8], mut at: usize) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    // Eight bytes at a time: a byte's top bit is set in the mask where the byte is zero. Carries make false marks
    // only behind a true one.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let long = at + LONG_BYTES;
    while let Some(chunk) = bytes.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        if at >= long {
            return memchr2(b'"', b'\\', &bytes[at..]).map(|found| at + found);
        }
        let word = u64::from_le_bytes(*chunk);
        let marks = (zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')))) & TOPS;
        if marks != 0 {
            return Some(at + marks.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes.get(at..)?.iter().position(|byte| matches!(byte, b'"' | b'\\')).map(|found| at + found)
}

/// Returns the length of the escape at the front of `bytes`; `None` when it is none.
fn escape_length(bytes: &[u8]) -> Option<usize> {
    match bytes.get(1)? {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Some(2),
        b'u' => bytes.get(2..6)?.iter().all(u8::is_ascii_hexdigit).then_some(6),
        _ => None,
    }
}

/// Takes the escape at the front of `raw`: the character and the length of the escape.
fn unescaped(raw: &str) -> (char, usize) {
    let unit = |from: usize| raw.get(from..from + 4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let character = match raw.as_bytes().get(1) {
        Some(b'b') => '\u{8}',
        Some(b'f') => '\u{c}',
        Some(b'n') => '\n',
        Some(b'r') => '\r',
        Some(b't') => '\t',
        Some(b'u') => {
            let first = unit(2).unwrap_or(0xfffd);
            let is_pair = (0xd800..0xdc00).contains(&first) && raw.get(6..8) == Some("\\u");
            let second = if is_pair { unit(8).filter(|unit| (0xdc00..0xe000).contains(unit)) } else { None };
            if let Some(second) = second {
                let both = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return (char::from_u32(both).unwrap_or(char::REPLACEMENT_CHARACTER), 12);
            }
            return (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 6);
        }
        Some(other) => char::from(*other),
        None => char::REPLACEMENT_CHARACTER,
    };
    (character, 2)
}

impl<'a> RawText<'a> {
    /// Returns the text.
    pub fn text(self) -> Cow<'a, str> {
        if !self.escaped {
            return Cow::Borrowed(self.raw);
        }
        let mut text = String::with_capacity(self.raw.len());
        self.parts(|plain, character| {
            text.push_str(plain);
            text.extend(character);
        });
        Cow::Owned(text)
    }

    /// Returns the text if it has no escapes.
    #[inline]
    pub fn plain(self) -> Option<&'a str> {
        (!self.escaped).then_some(self.raw)
    }

    /// Returns the beginning of the text: whole characters of up to `bytes_max` bytes as they stand there.
    pub fn head(self, bytes_max: usize) -> Cow<'a, str> {
        if self.raw.len() <= bytes_max {
            return self.text();
        }
        let boundary = (0..=bytes_max).rev().find(|at| self.raw.is_char_boundary(*at)).unwrap_or(0);
        let mut end = boundary;
        // An escape, or a pair of them, that may be cut in two is left out.
        if let Some(near) =
            self.raw.as_bytes()[boundary.saturating_sub(12)..boundary].iter().position(|byte| *byte == b'\\')
        {
            end = boundary.saturating_sub(12) + near;
            while end > 0 && self.raw.as_bytes()[end - 1] == b'\\' {
                end -= 1;
            }
        }
        Self { raw: &self.raw[..end], escaped: self.escaped }.text()
    }

    /// Returns the length of the text in bytes.
    pub fn bytes(self) -> usize {
        let mut bytes = 0;
        self.parts(|plain, character| bytes += plain.len() + character.map_or(0, char::len_utf8));
        bytes
    }

    /// Returns the length of the text in characters.
    pub fn characters(self) -> usize {
        let mut characters = 0;
        self.parts(|plain, character| characters += plain.chars().count() + usize::from(character.is_some()));
        characters
    }

    /// Returns the first byte of the text that is not whitespace, or the backslash of its escape.
    pub fn first_mark(self) -> Option<u8> {
        self.raw.trim_start().as_bytes().first().copied()
    }

    /// Calls `each` with each stretch without escapes and the character escaped behind it.
    fn parts(self, mut each: impl FnMut(&str, Option<char>)) {
        let mut rest = self.raw;
        while self.escaped
            && let Some(at) = rest.find('\\')
        {
            let (character, length) = unescaped(&rest[at..]);
            each(&rest[..at], Some(character));
            rest = &rest[at + length..];
        }
        each(rest, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn skips(text: &str) -> bool {
        let mut scanner = Scanner::new(text);
        scanner.skip().is_some() && scanner.is_at_end()
    }

    fn is_json(text: &str) -> bool {
        serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
    }

    #[test]
    fn what_the_grammar_refuses_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "[",
            "]",
            "}",
            "{]",
            "[}",
            "[1,]",
            "{,}",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{1:2}",
            "[1 2]",
            "01",
            "-",
            "1.",
            "1e",
            "1e+",
            ".5",
            "+1",
            "tru",
            "nul",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\u{1}\"",
            "\"\n\"",
            "1 1",
            "{} {}",
            "\u{b}1",
            "truefalse",
            "[1]]",
            "\"\\\"",
        ] {
            assert!(!is_json(text), "{text:?}");
            assert!(!skips(text), "{text:?}");
        }
    }

    #[test]
    fn any_depth_is_skipped() {
        for depth in [1, 63, 64, 65, 127, 128, 129, 100_000] {
            let text = format!("{}1{}", "[{\"a\":".repeat(depth), "}]".repeat(depth));
            assert!(skips(&text), "{depth}");
            assert!(!skips(&text[..text.len() - 1]), "{depth}");
            assert!(!skips(&text.replace("1}", "1]")), "{depth}");
        }
    }

    #[test]
    fn what_is_deeper_than_allowed_is_refused() {
        let skips_within = |text: &str, depth| Scanner::new(text).skip_within(depth).is_some();
        for (text, depth) in [("1", 0), ("[]", 1), ("{}", 1), ("[[],{\"a\":[{}]}]", 4), ("[[],[],[[1]]]", 3)]
        {
            assert!(skips_within(text, depth), "{text}");
            assert!(depth == 0 || !skips_within(text, depth - 1), "{text}");
        }
    }

    #[test]
    fn escapes_become_what_they_name() {
        let read = |text: &str| {
            let mut scanner = Scanner::new(text);
            let raw = scanner.string().unwrap();
            let text = raw.text().into_owned();
            assert_eq!((raw.bytes(), raw.characters()), (text.len(), text.chars().count()));
            text
        };
        assert_eq!(read(r#""a\"\\\/\b\f\n\r\tb""#), "a\"\\/\u{8}\u{c}\n\r\tb");
        assert_eq!(read(r#""\u00e4\ud83d\ude00""#), "ä\u{1f600}");
        assert_eq!(read(r#""\ud83d""#), "\u{fffd}");
        assert_eq!(read(r#""\ud83d\u0041\udc00x""#), "\u{fffd}A\u{fffd}x");
        assert_eq!(read(r#""\ud83d\ud83d\ude00""#), "\u{fffd}\u{1f600}");
    }

    /// Texts that are JSON, or nearly.
    fn nearly_json() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just(":"),
            Just("\"a\""),
            Just("\"\\n\""),
            Just("\"\\ud800\""),
            Just("1"),
            Just("-0.5e+3"),
            Just("00"),
            Just("true"),
            Just("null"),
            Just(" "),
            Just("\""),
            Just("\\"),
            Just("\"12345678\\\"\""),
        ];
        proptest::collection::vec(token, 0..12).prop_map(|tokens| tokens.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(3000))]

        #[test]
        fn exactly_what_a_strict_parser_accepts_is_skipped(text in nearly_json()) {
            prop_assert_eq!(skips(&text), is_json(&text), "{}", text);
        }

        #[test]
        fn any_string_is_read_as_it_was_written(text: String, pad in 0usize..9) {
            let json = format!("{}{}", " ".repeat(pad), serde_json::to_string(&text).unwrap());
            let mut scanner = Scanner::new(&json);
            let raw = scanner.string().unwrap();
            prop_assert_eq!(raw.text(), text.as_str());
            prop_assert_eq!((raw.bytes(), raw.characters()), (text.len(), text.chars().count()));
            prop_assert!(scanner.is_at_end());
        }

        #[test]
        fn no_text_makes_it_panic(text: String) {
            let _ = skips(&text);
            let _ = skips(&format!("\"{text}"));
        }
    }
}
