//! The fixed-size names of things: addresses and payload hashes (BLAKE3), roots (SHA-256), writers
//! (Ed25519 public keys), ledger ids. Each has one text form; parsing accepts that form and no other.

use crate::hashing::hash_each;
use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::str::FromStr;

/// The two digits of every byte.
const DIGITS: [[u8; 2]; 256] = {
    let hex = b"0123456789abcdef";
    let mut digits = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        digits[byte] = [hex[byte >> 4], hex[byte & 15]];
        byte += 1;
    }
    digits
};

/// The value of every digit; `NO_DIGIT` for anything else.
const VALUES: [u8; 256] = {
    let mut values = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        values[DIGITS[value][1] as usize] = value as u8;
        value += 1;
    }
    values
};
const NO_DIGIT: u8 = 0x80;

/// Appends the lower-case hexadecimal form of `bytes` to `out`.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + 2 * bytes.len(), 0);
    for (pair, byte) in out[start..].chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&DIGITS[usize::from(*byte)]);
    }
}

/// Decodes lower-case hexadecimal text into `out`; returns false unless it is exactly as long as needed.
pub fn parse_hex(text: &[u8], out: &mut [u8]) -> bool {
    if text.len() != out.len() * 2 {
        return false;
    }
    // Wrong digits are looked for once, at the end: they alone have the high bit.
    let mut seen = 0;
    for (slot, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let (high, low) = (VALUES[usize::from(pair[0])], VALUES[usize::from(pair[1])]);
        seen |= high | low;
        *slot = (high << 4) | (low & 15);
    }
    seen & NO_DIGIT == 0
}

macro_rules! named_bytes {
    ($(#[$doc:meta])* $name:ident, $length:literal, $prefix:literal, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $length]);

        impl $name {
            /// The prefix of the text form.
            pub const PREFIX: &'static str = $prefix;
            /// The length of the text form in bytes.
            pub const TEXT_BYTES: usize = $prefix.len() + 2 * $length;

            /// Returns the raw bytes.
            pub fn as_bytes(&self) -> &[u8; $length] {
                &self.0
            }

            /// Appends the text form to `out`.
            pub fn push_text(&self, out: &mut Vec<u8>) {
                out.extend_from_slice($prefix.as_bytes());
                push_hex(out, &self.0);
            }

            /// Parses the text form; `None` for anything else.
            pub fn parse(text: &[u8]) -> Option<Self> {
                let mut bytes = [0; $length];
                parse_hex(text.strip_prefix($prefix.as_bytes())?, &mut bytes).then_some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut text = Vec::with_capacity(Self::TEXT_BYTES);
                self.push_text(&mut text);
                f.write_str(std::str::from_utf8(&text).expect("digits are ASCII"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self> {
                Self::parse(text.as_bytes()).ok_or_else(|| {
                    Error::new(
                        ErrorKind::Invalid,
                        concat!("parse ", $noun),
                        format!(concat!("{:?} is not ", $prefix, " followed by {} hex digits"), text, 2 * $length),
                    )
                })
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

named_bytes!(
    /// The address of an event: BLAKE3 of its skeleton. Text form `b3:` and 64 hex digits.
    Address, 32, "b3:", "address"
);
named_bytes!(
    /// BLAKE3 of payload bytes. Text form `b3:` and 64 hex digits.
    PayloadHash, 32, "b3:", "payload hash"
);
named_bytes!(
    /// A node of an RFC 6962 tree over SHA-256; the root of a feed at a size. Text form `sha256:` and 64 hex digits.
    Root, 32, "sha256:", "root"
);
named_bytes!(
    /// A writer, and so the feed that it alone may grow: an Ed25519 public key. Text form `ed25519:` and 64 hex digits.
    WriterId, 32, "ed25519:", "writer id"
);
named_bytes!(
    /// The id of a ledger: 16 random bytes made at its creation. Text form 32 hex digits.
    LedgerId, 16, "", "ledger id"
);
named_bytes!(
    /// An Ed25519 signature. Text form 128 hex digits.
    Signature, 64, "", "signature"
);

impl Address {
    /// Computes the address of a skeleton.
    pub fn of(skeleton: &[u8]) -> Self {
        Self(*blake3::hash(skeleton).as_bytes())
    }

    /// Computes the address of each skeleton, in order: several times faster than one by one.
    pub fn of_each(skeletons: &[&[u8]]) -> Vec<Self> {
        hash_each(skeletons).into_iter().map(Self).collect()
    }
}

impl PayloadHash {
    /// Computes the hash of payload bytes.
    pub fn of(payload: &[u8]) -> Self {
        Self(*blake3::hash(payload).as_bytes())
    }

    /// Computes the hash of each payload, in order: several times faster than one by one where they are short.
    pub fn of_each(payloads: &[&[u8]]) -> Vec<Self> {
        hash_each(payloads).into_iter().map(Self).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_nothing_else_parses() {
        let address = Address::of(b"x");
        let text = address.to_string();
        assert_eq!(text.len(), Address::TEXT_BYTES);
        assert_eq!(text.parse::<Address>().unwrap(), address);
        for wrong in
            [text.to_uppercase(), text[1..].to_owned(), format!("{text}0"), text.replace("b3:", "b4:")]
        {
            assert!(wrong.parse::<Address>().is_err(), "{wrong} was accepted");
        }
    }
}
