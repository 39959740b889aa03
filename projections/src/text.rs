//! The one normalisation of what databases refuse: NUL, lone surrogates, long keys, numbers beyond 64 bits.
//! Holds the small types that rows are made of; knows no table.

use hashbrown::HashSet;
use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The longest key text, in bytes; a longer one becomes its beginning and its hash.
pub const KEY_BYTES_MAX: usize = 256;
/// How much of a longer key stays readable, in bytes.
const KEY_PREFIX_BYTES: usize = 200;
/// The most names that an interner remembers.
const NAMES_MAX: usize = 1 << 16;

/// A number of tokens; never negative, saturating.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, serde::Serialize)]
pub struct Tokens(pub i64);

/// A text of which there are few (a session, a model, a folder): shared, normalised as a key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Returns the shared text.
    pub fn shared(&self) -> &Arc<str> {
        &self.0
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self(Arc::from(&*key_text(text)))
    }
}

impl Deref for Name {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Default for Name {
    fn default() -> Self {
        Self(Arc::from(""))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl serde::Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// Gives out one [`Name`] for each text, so that rows share it.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: HashSet<Name>,
    /// Names that were asked for lately, each at the place that its length and last bytes give it.
    recent: Vec<Name>,
}

impl Names {
    /// Returns the name of `text`.
    pub(crate) fn get(&mut self, text: &str) -> Name {
        let place = recent_place(text);
        if let Some(name) = self.recent.get(place).filter(|name| &***name == text) {
            return name.clone();
        }
        let name = self.known.get(text).cloned().unwrap_or_else(|| {
            let name = Name::from(text);
            if self.known.len() >= NAMES_MAX {
                self.known.clear();
            }
            self.known.insert(name.clone());
            name
        });
        self.recent.resize(RECENT_NAMES, Name::default());
        self.recent[place] = name.clone();
        name
    }

    /// Returns the name of `text`, or of nothing.
    pub(crate) fn option(&mut self, text: Option<&str>) -> Option<Name> {
        text.map(|text| self.get(text))
    }
}

/// How many names are found without hashing; a power of two.
const RECENT_NAMES: usize = 256;

/// Returns where a text would stand among the recent names.
fn recent_place(text: &str) -> usize {
    let last = text.as_bytes().last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let first = text.as_bytes().first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    let mixed = (last ^ (u64::from(first) << 7) ^ text.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as usize % RECENT_NAMES
}

/// Returns `text` without NUL, which becomes U+FFFD.
pub(crate) fn plain_text(text: &str) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Returns `text` as a key: without NUL, and of more than [`KEY_BYTES_MAX`] bytes the beginning and the hash.
pub fn key_text(text: &str) -> Cow<'_, str> {
    let plain = plain_text(text);
    if plain.len() <= KEY_BYTES_MAX {
        return plain;
    }
    let hash = blake3::hash(text.as_bytes()).to_hex();
    let end = (0..=KEY_PREFIX_BYTES).rev().find(|end| plain.is_char_boundary(*end)).unwrap_or(0);
    Cow::Owned(format!("{}#b3:{}", &plain[..end], &hash[..32]))
}

/// Returns `payload` as text that a strict JSON parser accepts where only these stand in its way: a byte order
/// mark, bytes that are not UTF-8, escapes of lone surrogates, numbers beyond a double. `None` when there is nothing to mend.
///
/// Bytes and surrogates become U+FFFD, numbers 1e308.
pub(crate) fn mended(payload: &[u8]) -> Option<Vec<u8>> {
    let text = String::from_utf8_lossy(payload);
    let mut bytes = text.trim_start_matches('\u{feff}').as_bytes().to_vec();
    let mut at = 0;
    let mut in_string = false;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => in_string = !in_string,
            b'\\' if in_string => {
                at += mend_escape(&mut bytes[at..]);
                continue;
            }
            b'-' | b'0'..=b'9' if !in_string => {
                at += mend_number(&mut bytes[at..]);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    (bytes != payload).then_some(bytes)
}

/// Mends the escape at the front of `bytes` and returns its length (at least 1).
fn mend_escape(bytes: &mut [u8]) -> usize {
    let Some(first) = surrogate(bytes) else { return 2 };
    let pair = (0xD800..0xDC00).contains(&first)
        && bytes.get(6..).and_then(surrogate).is_some_and(|second| second >= 0xDC00);
    if pair {
        return 12;
    }
    bytes[2..6].copy_from_slice(b"fffd");
    6
}

/// Returns the code unit of a `\uXXXX` escape at the front of `bytes` if it is a surrogate.
fn surrogate(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.get(..6)?.strip_prefix(b"\\u")?;
    let unit = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    (0xD800..0xE000).contains(&unit).then_some(unit)
}

/// Mends the number at the front of `bytes` and returns its length (at least 1).
fn mend_number(bytes: &mut [u8]) -> usize {
    let is_part = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
    let length = bytes.iter().take_while(is_part).count();
    let number = &mut bytes[..length];
    let value = std::str::from_utf8(number).ok().and_then(|text| text.parse::<f64>().ok());
    // The shortest number beyond a double, `2e308`, has room for the largest that is not.
    if let Some(value) = value.filter(|value| value.is_infinite() && length >= 6) {
        number.fill(b' ');
        let largest: &[u8] = if value > 0.0 { b"1e308" } else { b"-1e308" };
        number[..largest.len()].copy_from_slice(largest);
    } else if value.is_some_and(f64::is_infinite) {
        number.copy_from_slice(&b"1e308"[..length.min(5)]);
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn long_keys_keep_their_beginning_and_stay_distinct() {
        let (one, two) = ("x".repeat(300), "x".repeat(301));
        assert!(key_text(&one).len() <= KEY_BYTES_MAX);
        assert_ne!(key_text(&one), key_text(&two));
        assert!(key_text(&one).starts_with("xxxx"));
        assert_eq!(key_text("a\0b"), "a\u{fffd}b");
        assert_eq!(key_text(&"x".repeat(256)).len(), 256);
    }

    #[test]
    fn what_a_strict_parser_refuses_is_mended() {
        for (bad, good) in [
            (&b"{\"a\":\"\\ud83d\"}"[..], "{\"a\":\"\\ufffd\"}"),
            (b"{\"a\":\"\\ud83d\\u0041\"}", "{\"a\":\"\\ufffd\\u0041\"}"),
            (b"{\"a\":\"\\udc00\\ud83d\\ude00\"}", "{\"a\":\"\\ufffd\\ud83d\\ude00\"}"),
            (b"{\"a\":1e999}", "{\"a\":1e308}"),
            (b"{\"a\":-1e999}", "{\"a\":-1e308}"),
            (b"{\"a\":9e999999}", "{\"a\":1e308   }"),
            (b"{\"a\":\"\xff\"}", "{\"a\":\"\u{fffd}\"}"),
            (b"\xef\xbb\xbf{}", "{}"),
        ] {
            let mended = mended(bad).unwrap();
            assert_eq!(String::from_utf8_lossy(&mended), good);
            assert!(serde_json::from_slice::<serde_json::Value>(&mended).is_ok());
        }
        for fine in ["{\"a\":\"\\\\ud83d 1e999\"}", "{\"a\":\"\\ud83d\\ude00\"}", "{\"a\":1e3}"] {
            assert_eq!(mended(fine.as_bytes()), None, "{fine}");
        }
    }

    proptest! {
        #[test]
        fn mending_takes_any_bytes_and_is_done_once(payload: Vec<u8>) {
            if let Some(once) = mended(&payload) {
                prop_assert_eq!(mended(&once), None);
            }
        }
    }
}
