//! Events: one immutable record each, addressed by its skeleton. Holds the canonical text of a skeleton
//! (`docs/format.md`, section 1) and nothing about who recorded it, where, or when.

use crate::limits::{PAYLOAD_BYTES_MAX, SKELETON_BYTES_MAX};
use crate::{Error, ErrorKind, PayloadHash, Result};
use bytes::Bytes;
use std::borrow::Cow;
use std::fmt;

/// The version of the skeletons that this crate writes.
pub const SKELETON_VERSION: u64 = 1;

/// What an event is about. An unknown kind is carried like any other.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind<'a> {
    /// One raw record of a session file.
    Line,
    /// An unterminated last record of a closed stream that is not complete JSON.
    Tail,
    /// What made up a stream's file at one moment.
    Extent,
    /// An already normalised row: imported, or kept when a payload is erased.
    Record,
    /// A selector with key/value enrichment.
    Stamp,
    /// Who writes a feed: host label, system, program version.
    Writer,
    /// A receipt: payloads to be made unreadable.
    Erase,
    /// A statement about a feed or session, for outsiders.
    Seal,
    /// A kind of a newer program.
    Other(Cow<'a, str>),
}

impl<'a> Kind<'a> {
    /// Returns the name as it stands in the skeleton.
    pub fn name(&self) -> &str {
        match self {
            Self::Line => "line",
            Self::Tail => "tail",
            Self::Extent => "extent",
            Self::Record => "record",
            Self::Stamp => "stamp",
            Self::Writer => "writer",
            Self::Erase => "erase",
            Self::Seal => "seal",
            Self::Other(name) => name,
        }
    }

    /// Returns the kind of that name.
    pub fn of_name(name: Cow<'a, str>) -> Self {
        match &*name {
            "line" => Self::Line,
            "tail" => Self::Tail,
            "extent" => Self::Extent,
            "record" => Self::Record,
            "stamp" => Self::Stamp,
            "writer" => Self::Writer,
            "erase" => Self::Erase,
            "seal" => Self::Seal,
            _ => Self::Other(name),
        }
    }
}

impl fmt::Display for Kind<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Which part of a record longer than `PAYLOAD_BYTES_MAX` an event holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Part {
    /// The number of the part, from 0.
    pub number: u32,
    /// Whether another part follows.
    pub more: bool,
}

/// Where a record stands: everything of a skeleton that does not depend on the payload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Position<'a> {
    /// What the event is about.
    pub kind: Kind<'a>,
    /// The source that the record came from: `claude-code`, `codex`, …; `burnlog` for first-party records.
    pub source: Cow<'a, str>,
    /// The stream: names the session file independent of host, home and container.
    pub stream: Cow<'a, str>,
    /// The record number in the stream, from 0.
    pub seq: u64,
    /// Set when the record is split.
    pub part: Option<Part>,
}

/// A parsed skeleton of a version that this crate understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skeleton<'a> {
    /// Where the record stands.
    pub position: Position<'a>,
    /// The hash of the payload.
    pub payload: PayloadHash,
    /// The length of the payload in bytes.
    pub bytes: u64,
}

impl<'a> Skeleton<'a> {
    /// Appends the canonical text to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Position { kind, source, stream, seq, part } = &self.position;
        out.extend_from_slice(b"{\"v\":1,\"kind\":");
        push_json_string(out, kind.name());
        out.extend_from_slice(b",\"source\":");
        push_json_string(out, source);
        out.extend_from_slice(b",\"stream\":");
        push_json_string(out, stream);
        out.extend_from_slice(b",\"seq\":");
        push_number(out, *seq);
        if let Some(part) = part {
            out.extend_from_slice(b",\"part\":");
            push_number(out, u64::from(part.number));
            if part.more {
                out.extend_from_slice(b",\"more\":true");
            }
        }
        out.extend_from_slice(b",\"payload\":\"");
        self.payload.push_text(out);
        out.extend_from_slice(b"\",\"bytes\":");
        push_number(out, self.bytes);
        out.push(b'}');
    }

    /// Parses canonical text and accepts no other form: what parses encodes to the same bytes.
    ///
    /// `Unsupported` for a skeleton of another version, `Invalid` for anything that is not canonical.
    pub fn parse(text: &'a [u8]) -> Result<Self> {
        parse_canonical(text).ok_or_else(|| {
            let version = SkeletonFrozen::parse(text).map_or(SKELETON_VERSION, |frozen| frozen.version);
            if version == SKELETON_VERSION {
                Error::new(ErrorKind::Invalid, "parse skeleton", "not the canonical text of a skeleton")
            } else {
                Error::new(
                    ErrorKind::Unsupported,
                    "parse skeleton",
                    format!("the skeleton has version {version}, this program reads {SKELETON_VERSION}"),
                )
            }
        })
    }
}

/// The two fields of a skeleton that are frozen in every version: enough to store, forward and check an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SkeletonFrozen {
    /// The version (`v`).
    pub version: u64,
    /// The hash of the payload.
    pub payload: PayloadHash,
    /// The length of the payload in bytes.
    pub bytes: u64,
}

impl SkeletonFrozen {
    /// Reads the frozen fields of a skeleton of any version.
    ///
    /// `Invalid` when the text is too long, not one line of compact JSON, or lacks one of the fields.
    pub fn parse(text: &[u8]) -> Result<Self> {
        #[derive(serde::Deserialize)]
        struct Fields {
            v: u64,
            payload: PayloadHash,
            bytes: u64,
        }
        if let Some(skeleton) = parse_canonical(text) {
            return Ok(Self { version: SKELETON_VERSION, payload: skeleton.payload, bytes: skeleton.bytes });
        }
        let invalid = |message: String| Error::new(ErrorKind::Invalid, "parse skeleton", message);
        if text.len() > SKELETON_BYTES_MAX {
            return Err(invalid(format!("{} bytes, at most {SKELETON_BYTES_MAX} are allowed", text.len())));
        }
        if text.iter().any(|byte| *byte < 0x20) {
            return Err(invalid("control characters outside an escape".to_owned()));
        }
        let fields: Fields = serde_json::from_slice(text).map_err(|error| invalid(error.to_string()))?;
        if fields.v == SKELETON_VERSION {
            return Err(invalid("not the canonical text of a version 1 skeleton".to_owned()));
        }
        Ok(Self { version: fields.v, payload: fields.payload, bytes: fields.bytes })
    }
}

/// Checks that `payload` is what `skeleton` says it is: length and hash.
pub fn check_payload(skeleton: &[u8], payload: &[u8]) -> Result<()> {
    SkeletonFrozen::parse(skeleton)?.check_payload(payload, PayloadHash::of(payload))
}

impl SkeletonFrozen {
    /// Checks that `payload`, which hashes to `actual`, is the one that the skeleton names.
    pub(crate) fn check_payload(&self, payload: &[u8], actual: PayloadHash) -> Result<()> {
        self.check_length(payload)?;
        if self.payload == actual {
            return Ok(());
        }
        let message = format!("the skeleton says {}, the payload hashes to {actual}", self.payload);
        Err(Error::new(ErrorKind::Invalid, "check payload", message))
    }

    /// Checks that `payload` has the length that the skeleton says, and one that is allowed.
    pub(crate) fn check_length(&self, payload: &[u8]) -> Result<()> {
        let length = payload.len();
        let message = if length > PAYLOAD_BYTES_MAX {
            format!("payload of {length} bytes, at most {PAYLOAD_BYTES_MAX} are allowed")
        } else if self.bytes != length as u64 {
            format!("the skeleton says {} bytes, the payload has {length}", self.bytes)
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::Invalid, "check payload", message))
    }
}

/// The body of a stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Skeleton and payload are readable.
    Present {
        /// The canonical bytes.
        skeleton: Bytes,
        /// The record as it stood in the file, without its newline.
        payload: Bytes,
    },
    /// The payload was erased; the skeleton stays.
    Erased {
        /// The canonical bytes.
        skeleton: Bytes,
    },
    /// The store cannot read this event back. Everything else stays readable.
    Damaged {
        /// Where the bytes are, in the store's own terms.
        place: String,
        /// What is wrong with them.
        reason: String,
    },
}

/// Appends `text` as a JSON string in the one escape form of skeletons (that of RFC 8785).
fn push_json_string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
        return;
    }
    serde_json::to_writer(out, text).expect("writing a string to memory cannot fail");
}

/// Appends a decimal number.
pub fn push_number(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

fn parse_canonical(text: &[u8]) -> Option<Skeleton<'_>> {
    if text.len() > SKELETON_BYTES_MAX {
        return None;
    }
    let mut rest = Rest(text);
    rest.literal(b"{\"v\":1,\"kind\":")?;
    let kind = Kind::of_name(rest.string()?);
    rest.literal(b",\"source\":")?;
    let source = rest.string()?;
    rest.literal(b",\"stream\":")?;
    let stream = rest.string()?;
    rest.literal(b",\"seq\":")?;
    let seq = rest.number()?;
    let part = match rest.literal(b",\"part\":") {
        Some(()) => {
            let number = u32::try_from(rest.number()?).ok()?;
            Some(Part { number, more: rest.literal(b",\"more\":true").is_some() })
        }
        None => None,
    };
    rest.literal(b",\"payload\":\"")?;
    let payload = PayloadHash::parse(rest.take(PayloadHash::TEXT_BYTES)?)?;
    rest.literal(b"\",\"bytes\":")?;
    let bytes = rest.number()?;
    rest.literal(b"}")?;
    let position = Position { kind, source, stream, seq, part };
    rest.0.is_empty().then_some(Skeleton { position, payload, bytes })
}

/// What is left of a text while it is parsed from the front.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn literal(&mut self, expected: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(expected)?;
        Some(())
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A decimal number without sign or leading zeros.
    fn number(&mut self) -> Option<u64> {
        let length = self.0.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits = self.take(length)?;
        if length == 0 || (length > 1 && digits[0] == b'0') {
            return None;
        }
        digits
            .iter()
            .try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
    }

    /// A string in the canonical escape form.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        self.literal(b"\"")?;
        let mut length = 0;
        let mut escaped = false;
        loop {
            match self.0.get(length)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    length += 2;
                }
                byte if *byte < 0x20 => return None,
                _ => length += 1,
            }
        }
        let inner = self.take(length)?;
        self.literal(b"\"")?;
        if !escaped {
            return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
        }
        let mut quoted = Vec::with_capacity(length + 2);
        quoted.push(b'"');
        quoted.extend_from_slice(inner);
        quoted.push(b'"');
        let text: String = serde_json::from_slice(&quoted).ok()?;
        let mut again = Vec::with_capacity(quoted.len());
        push_json_string(&mut again, &text);
        (again == quoted).then_some(Cow::Owned(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn skeleton(stream: &str, seq: u64, part: Option<Part>) -> Vec<u8> {
        let position =
            Position { kind: Kind::Line, source: "claude-code".into(), stream: stream.into(), seq, part };
        let mut out = Vec::new();
        Skeleton { position, payload: PayloadHash::of(b"{}"), bytes: 2 }.encode(&mut out);
        out
    }

    #[test]
    fn non_canonical_text_is_refused() {
        let good = String::from_utf8(skeleton("a", 1, None)).unwrap();
        assert!(Skeleton::parse(good.as_bytes()).is_ok());
        for (from, to) in [
            ("\"v\":1", "\"v\": 1"),
            ("\"v\":1", "\"v\":01"),
            ("\"stream\":\"a\"", "\"stream\":\"\\u0061\""),
            ("\"seq\":1", "\"seq\":1.0"),
            ("\"seq\":1", "\"seq\":18446744073709551616"),
            ("\"seq\":1", "\"seq\":1,\"part\":0,\"more\":false"),
            ("}", "} "),
            ("b3:", "B3:"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good);
            assert!(Skeleton::parse(bad.as_bytes()).is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn a_newer_version_is_unsupported_but_its_frozen_fields_are_read() {
        let text = format!("{{\"v\":7,\"new\":[1],\"payload\":\"{}\",\"bytes\":2}}", PayloadHash::of(b"{}"));
        assert_eq!(Skeleton::parse(text.as_bytes()).unwrap_err().kind(), ErrorKind::Unsupported);
        assert_eq!(SkeletonFrozen::parse(text.as_bytes()).unwrap().version, 7);
        check_payload(text.as_bytes(), b"{}").unwrap();
        assert!(check_payload(text.as_bytes(), b"[]").is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_parses_to_the_same(stream in any::<String>(), seq: u64, number: u32, more: bool, split: bool) {
            let part = split.then_some(Part { number, more });
            let text = skeleton(&stream, seq, part);
            prop_assume!(text.len() <= SKELETON_BYTES_MAX);
            let parsed = Skeleton::parse(&text).unwrap();
            prop_assert_eq!(&*parsed.position.stream, stream.as_str());
            prop_assert_eq!(parsed.position.seq, seq);
            prop_assert_eq!(parsed.position.part, part);
            let mut again = Vec::new();
            parsed.encode(&mut again);
            prop_assert_eq!(again, text);
        }

        #[test]
        fn every_text_that_parses_is_canonical(mut text in Just(skeleton("s", 5, None)), at in 0usize..150, byte: u8) {
            let index = at % text.len();
            text[index] = byte;
            if let Ok(parsed) = Skeleton::parse(&text) {
                let mut again = Vec::new();
                parsed.encode(&mut again);
                prop_assert_eq!(again, text);
            }
        }
    }
}
