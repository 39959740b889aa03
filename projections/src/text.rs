//! The one normalisation of text that databases refuse: NUL and keys that are too long. Holds the small types that
//! rows are made of; knows no table.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_keys_keep_their_beginning_and_stay_distinct() {
        let (one, two) = ("x".repeat(300), "x".repeat(301));
        assert!(key_text(&one).len() <= KEY_BYTES_MAX);
        assert_ne!(key_text(&one), key_text(&two));
        assert!(key_text(&one).starts_with("xxxx"));
        assert_eq!(key_text("a\0b"), "a\u{fffd}b");
        assert_eq!(key_text(&"x".repeat(256)).len(), 256);
    }
}
