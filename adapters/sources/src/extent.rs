//! Extents: what made up a stream's file at one moment (`docs/format.md`). The payload is compact JSON with its fields
//! in one fixed order, so that the same file gives the same event on every host.

use burnlog_log::{Error, ErrorKind, PayloadHash, Result, Root};

/// The payload of an `extent` event.
///
/// The file is the payloads of the records `0..records` of the stream, a newline after each, after the last one only if
/// `ends_with_newline`; a record in parts is its parts in order. The record of a `seq` is an event of kind `line` or
/// `tail` among the entries of the feed *before* this extent's: the ones whose payload hashes `chosen` names for that `seq`
/// (one, or one for each part), else the newest. Where cursors were lost between two rewrites that newest one can be
/// the wrong one; `root` tells, and an older candidate fits.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extent {
    /// The stream.
    pub stream: String,
    /// The number of records.
    pub records: u64,
    /// The length of the file in bytes.
    pub bytes: u64,
    /// Whether the last record had its newline; true for no records.
    pub ends_with_newline: bool,
    /// RFC 6962 root over the payload hashes of the events in order, each leaf the 32 bytes of one hash.
    pub root: Root,
    /// `seq` and payload hash, by ascending `seq` and part: where the feed holds more than one version, of records in
    /// parts, of a tail, of objects, and of every record where the versions are not known.
    pub chosen: Vec<(u64, PayloadHash)>,
}

impl Extent {
    /// Appends the canonical text to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("writing to memory cannot fail");
    }

    /// Parses a payload. `Invalid` for anything that is not the canonical text.
    pub fn parse(payload: &[u8]) -> Result<Self> {
        let invalid = |message: String| Error::new(ErrorKind::Invalid, "parse extent", message);
        let extent: Self = serde_json::from_slice(payload).map_err(|error| invalid(error.to_string()))?;
        let mut again = Vec::with_capacity(payload.len());
        extent.encode(&mut again);
        if again != payload {
            return Err(invalid("not the canonical text".to_owned()));
        }
        Ok(extent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_fixed() {
        let extent = Extent {
            stream: "s/\"1".to_owned(),
            records: 2,
            bytes: 9,
            ends_with_newline: false,
            root: Root([1; 32]),
            chosen: vec![(1, PayloadHash([2; 32]))],
        };
        let mut text = Vec::new();
        extent.encode(&mut text);
        let expected = format!(
            "{{\"stream\":\"s/\\\"1\",\"records\":2,\"bytes\":9,\"ends_with_newline\":false,\
             \"root\":\"sha256:{}\",\"chosen\":[[1,\"b3:{}\"]]}}",
            "01".repeat(32),
            "02".repeat(32)
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
        assert_eq!(Extent::parse(expected.as_bytes()).unwrap(), extent);
        assert!(Extent::parse(format!("{expected} ").as_bytes()).is_err());
        assert!(Extent::parse(expected.replace("\"bytes\":9,", "").as_bytes()).is_err());
    }
}
