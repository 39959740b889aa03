//! Instants as whole microseconds since 1970-01-01T00:00:00Z. No clock in here: instants are arguments.

use crate::{Error, ErrorKind, Result};
use std::fmt;
use std::str::FromStr;

/// An instant in microseconds since the Unix epoch, UTC; may be negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Makes an instant from microseconds since the epoch, clamped to the years -9999 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        // One second inside jiff's own ends, which hold nanoseconds that microseconds cannot name.
        let least = (jiff::Timestamp::MIN.as_second() + 1) * 1_000_000;
        let most = (jiff::Timestamp::MAX.as_second() - 1) * 1_000_000;
        Self(micros.clamp(least, most))
    }

    /// Returns microseconds since the epoch.
    pub fn as_micros(self) -> i64 {
        self.0
    }

    /// Parses RFC 3339 text with any offset; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|t| Self::from_micros(t.as_microsecond()))
    }
}

/// RFC 3339 in UTC, with as many digits of the second as needed (0, 3 or 6).
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_microsecond(self.0).expect("clamped at construction");
        match self.0.rem_euclid(1_000_000) {
            0 => write!(f, "{instant:.0}"),
            fraction if fraction % 1000 == 0 => write!(f, "{instant:.3}"),
            _ => write!(f, "{instant:.6}"),
        }
    }
}

impl FromStr for Timestamp {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text).ok_or_else(|| {
            Error::new(ErrorKind::Invalid, "parse instant", format!("{text:?} is not RFC 3339"))
        })
    }
}

impl serde::Serialize for Timestamp {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Timestamp {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_compare_whatever_their_offset() {
        let utc = Timestamp::parse("2026-02-12T09:37:40.665Z").unwrap();
        assert_eq!(utc, Timestamp::parse("2026-02-12T10:37:40.665+01:00").unwrap());
        assert_eq!(utc.to_string(), "2026-02-12T09:37:40.665Z");
        assert_eq!(Timestamp::from_micros(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Timestamp::parse("1969-12-31T23:59:59.999999Z").unwrap().as_micros(), -1);
    }

    #[test]
    fn the_ends_of_time_are_clamped() {
        assert_ne!(Timestamp::from_micros(i64::MAX).to_string(), "");
        assert_ne!(Timestamp::from_micros(i64::MIN).to_string(), "");
    }
}
