//! The two lines of a segment that are not entries: the header with which it starts, and the commit line with which
//! each batch ends. Written and read with serde; the checksum of an active line is `line`'s.

use crate::index::SLOTS_MAX;
use crate::line::{begin_line, checked, end_line, hex8, parse_hex8};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use burnlog_log::limits::BATCH_ENTRIES_MAX;
use burnlog_log::{BatchHead, LedgerId, Root};
use serde::{Deserialize, Serialize};

/// The versions of active segments that this crate writes and reads: 1 has no packs.
pub(crate) const ACTIVE_FORMAT: u32 = 2;
pub(crate) const ACTIVE_FORMAT_MIN: u32 = 1;
/// The version of the lines of sealed segments.
const SEALED_FORMAT: u32 = 1;
/// A header line is shorter than this.
pub(crate) const HEADER_BYTES: usize = 4 << 10;

/// The first line of a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) segment: HeaderFields,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HeaderFields {
    pub(crate) format: u32,
    pub(crate) ledger: LedgerId,
}

/// The last line of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) head: BatchHead,
    /// The number of entry lines of the batch.
    pub(crate) entries: u32,
    /// The slot of the first of them.
    pub(crate) first_slot: u32,
    /// The bytes of the entry lines and their checksum; active lines only.
    pub(crate) extent: Option<(u64, u32)>,
    /// Empty where a later commit line of the same feed in a sealed segment has it.
    pub(crate) frontier: Vec<Root>,
}

#[derive(Serialize, Deserialize)]
struct CommitText {
    commit: BatchHead,
    entries: u32,
    first_slot: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    batch_crc: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    frontier: Option<String>,
}

/// Appends the header line of an active segment.
pub(crate) fn push_header(out: &mut Vec<u8>, ledger: LedgerId) {
    let header = Header { segment: HeaderFields { format: ACTIVE_FORMAT, ledger } };
    push_active(out, &header);
}

/// Appends the header line of a sealed segment.
pub(crate) fn push_sealed_header(out: &mut Vec<u8>, ledger: LedgerId) {
    let header = Header { segment: HeaderFields { format: SEALED_FORMAT, ledger } };
    serde_json::to_writer(&mut *out, &header).expect("plain data is JSON");
    out.push(b'\n');
}

fn push_active(out: &mut Vec<u8>, value: &impl Serialize) {
    let start = begin_line(out);
    let brace = out.len();
    serde_json::to_writer(&mut *out, value).expect("plain data is JSON");
    // The object was opened before the checksum.
    out.remove(brace);
    end_line(out, start);
}

impl Commit {
    fn text(&self, with_frontier: bool) -> CommitText {
        let mut peaks = Vec::with_capacity(self.frontier.len() * 32);
        self.frontier.iter().for_each(|peak| peaks.extend_from_slice(&peak.0));
        CommitText {
            commit: self.head,
            entries: self.entries,
            first_slot: self.first_slot,
            bytes: self.extent.map(|(bytes, _)| bytes),
            batch_crc: self.extent.map(|(_, crc)| String::from_utf8_lossy(&hex8(crc)).into_owned()),
            frontier: with_frontier.then(|| BASE64.encode(peaks)),
        }
    }

    /// Appends the active commit line.
    pub(crate) fn push_active(&self, out: &mut Vec<u8>) {
        push_active(out, &self.text(true));
    }

    /// Appends the sealed commit line, with the frontier where this is the last batch of its feed in the segment.
    pub(crate) fn push_sealed(&self, out: &mut Vec<u8>, is_last_of_feed: bool) {
        let text = CommitText { bytes: None, batch_crc: None, ..self.text(is_last_of_feed) };
        serde_json::to_writer(&mut *out, &text).expect("plain data is JSON");
        out.push(b'\n');
    }

    /// Parses an active commit line with a checksum that fits.
    pub(crate) fn parse_active(line: &[u8]) -> Option<Self> {
        let commit = Self::parse(line)?;
        (is_commit(checked(line)?) && commit.extent.is_some()).then_some(commit)
    }

    /// Parses a commit line and checks nothing.
    pub(crate) fn parse(line: &[u8]) -> Option<Self> {
        let text: CommitText = serde_json::from_slice(line).ok()?;
        let extent = match (text.bytes, text.batch_crc) {
            (Some(bytes), Some(crc)) => Some((bytes, parse_hex8(crc.as_bytes())?)),
            _ => None,
        };
        let peaks = BASE64.decode(text.frontier.unwrap_or_default()).ok()?;
        let (chunks, []) = peaks.as_chunks::<32>() else { return None };
        let frontier = chunks.iter().map(|peak| Root(*peak)).collect();
        // Numbers that no writer writes are damage, whatever the checksum says; sums of those that pass cannot overflow.
        let is_possible = text.entries > 0
            && u64::from(text.entries) <= text.commit.size
            && text.entries as usize <= BATCH_ENTRIES_MAX
            && text.first_slot < SLOTS_MAX;
        is_possible.then_some(Self {
            head: text.commit,
            entries: text.entries,
            first_slot: text.first_slot,
            extent,
            frontier,
        })
    }
}

/// Whether what a checksum covers is a commit line.
pub(crate) fn is_commit(covered: &[u8]) -> bool {
    covered.starts_with(b"\"commit\":")
}

/// Parses the header line of an active segment.
pub(crate) fn parse_header(line: &[u8]) -> Option<HeaderFields> {
    checked(line)?;
    serde_json::from_slice::<Header>(line).ok().map(|header| header.segment)
}

/// Parses the header line of a sealed segment.
pub(crate) fn parse_sealed_header(line: &[u8]) -> Option<HeaderFields> {
    serde_json::from_slice::<Header>(line).ok().map(|header| header.segment)
}
