//! The one normalisation of text that databases refuse: NUL and keys that are too long. Holds the small types that
//! rows are made of; knows no table.

use burnlog_log::Timestamp;
use hashbrown::HashSet;
use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
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
#[derive(Clone)]
pub struct Name(Arc<str>);

// Most names that are compared are one and the same.
impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        if Arc::ptr_eq(&self.0, &other.0) { std::cmp::Ordering::Equal } else { self.0.cmp(&other.0) }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
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

/// Parses an instant as [`Timestamp::parse`] does; `2026-02-12T09:37:40.665Z`, which most are, much faster.
pub(crate) fn instant_of(text: &str) -> Option<Timestamp> {
    common_instant(text.as_bytes()).or_else(|| Timestamp::parse(text))
}

/// Parses exactly `YYYY-MM-DDTHH:MM:SS.mmmZ` of a plain date and time.
fn common_instant(text: &[u8]) -> Option<Timestamp> {
    let text: &[u8; 24] = text.try_into().ok()?;
    let number = |from: usize, to: usize| {
        text[from..to].iter().try_fold(0i64, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0'))
        })
    };
    let is_punctuated = text[4] == b'-' && text[7] == b'-' && text[10] == b'T' && text[23] == b'Z';
    if !is_punctuated || text[13] != b':' || text[16] != b':' || text[19] != b'.' {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days that not every month has, and leap seconds, are left to the slow way.
    if !(1..=12).contains(&month) || !(1..=28).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    // Days since 1970 in the proleptic Gregorian calendar, of years that begin in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    Some(Timestamp::from_micros(seconds * 1_000_000 + number(20, 23)? * 1000))
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

    proptest! {
        #[test]
        fn common_instants_are_parsed_as_all_are(micros in -62_200_000_000_000_000i64..253_500_000_000_000_000) {
            let instant = Timestamp::from_micros(micros - micros.rem_euclid(1000) + 1000);
            let text = instant.to_string();
            prop_assert_eq!(instant_of(&text), Some(instant));
            if let Some(common) = common_instant(text.as_bytes()) {
                prop_assert_eq!(common, instant);
            }
        }

        #[test]
        fn odd_instants_are_parsed_as_before(text in "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9].[0-9]{3}[Zz]") {
            prop_assert_eq!(instant_of(&text), Timestamp::parse(&text));
        }
    }
}
