//! A cursor: how far one file was recorded in one feed, and what is needed to go on, to notice that the file
//! was rewritten, and to say what it was once it is gone. Holds the stored form as well.

use crate::extent::Extent;
use crate::files::FileStat;
use crate::source::Shape;
use bincode::config::{Configuration, Limit};
use burnlog_log::{Frontier, PayloadHash, Root, leaf};

/// How many bytes of an unterminated last record are kept, so that it can still be recorded when the file is gone.
pub(crate) const PENDING_BYTES_KEPT_MAX: u64 = 1 << 20;

/// The size and root of a feed at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedPoint {
    /// The number of entries.
    pub size: u64,
    /// The RFC 6962 root.
    pub root: Root,
}

#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "facts that do not depend on each other")]
pub(crate) struct Cursor {
    pub(crate) source: String,
    pub(crate) stream: String,
    pub(crate) shape: Shape,
    /// The working folder that the content names, once it has named one.
    pub(crate) project: Option<String>,
    /// The name of the project's folder.
    pub(crate) folder: String,
    /// The file when it was read to its end; `None` after anything less.
    pub(crate) stat: Option<FileStat>,
    /// What is recorded: bytes, records, and the list tree over the payload hashes of their events.
    pub(crate) offset: u64,
    pub(crate) records: u64,
    pub(crate) frontier: Frontier,
    /// BLAKE3 of all bytes before `offset`.
    pub(crate) prefix: [u8; 32],
    /// Whether the last record had its newline.
    pub(crate) ends_with_newline: bool,
    /// Whether the last record had a carriage return before its newline.
    pub(crate) ends_with_return: bool,
    /// The length of the unterminated record at `offset`, and its bytes where they are few enough.
    pub(crate) pending_bytes: u64,
    pub(crate) pending: Vec<u8>,
    /// The feed may hold events of the stream for every `seq` below this.
    pub(crate) seen: u64,
    /// The `seq`s for which the feed holds more than one version, ascending.
    pub(crate) ambiguous: Vec<u64>,
    /// What an extent must name; of `records` only.
    pub(crate) chosen: Vec<(u64, PayloadHash)>,
    /// Every record goes into `chosen`, because it is not known which are ambiguous.
    pub(crate) choose_all: bool,
    /// Tail and extent of this very state are recorded.
    pub(crate) closed: bool,
    /// The feed when this was saved.
    pub(crate) point: FeedPoint,
}

impl Cursor {
    /// The cursor of a file of which nothing is recorded.
    pub(crate) fn new(source: &str, stream: String, shape: Shape) -> Self {
        Self {
            source: source.to_owned(),
            stream,
            shape,
            project: None,
            folder: String::new(),
            stat: None,
            offset: 0,
            records: 0,
            frontier: Frontier::default(),
            prefix: *blake3::hash(b"").as_bytes(),
            ends_with_newline: true,
            ends_with_return: false,
            pending_bytes: 0,
            pending: Vec::new(),
            seen: 0,
            ambiguous: Vec::new(),
            chosen: Vec::new(),
            // An object is rewritten all the time; its extent always says which version it means.
            choose_all: shape == Shape::Object,
            closed: false,
            point: FeedPoint { size: 0, root: Root([0; 32]) },
        }
    }

    /// The cursor for reading the same file again from its start: remembers which records have several versions.
    pub(crate) fn again_from_start(&self) -> Self {
        Self {
            project: self.project.clone(),
            folder: self.folder.clone(),
            seen: self.seen,
            ambiguous: self.ambiguous.clone(),
            choose_all: self.choose_all,
            point: self.point,
            ..Self::new(&self.source, self.stream.clone(), self.shape)
        }
    }

    /// Counts one event of the record `seq` in.
    pub(crate) fn add_event(&mut self, seq: u64, payload: PayloadHash, in_parts: bool) {
        self.frontier.push(leaf(&payload.0));
        if self.choose_all || in_parts {
            self.chosen.push((seq, payload));
        }
    }

    /// Counts the unterminated record in, with which the file ends. Extents always name it: a line may follow it under
    /// the same `seq`.
    pub(crate) fn add_tail(&mut self, hashes: &[PayloadHash], bytes: u64) {
        for hash in hashes {
            self.frontier.push(leaf(&hash.0));
            self.chosen.push((self.records, *hash));
        }
        self.records += 1;
        self.offset += bytes;
        self.ends_with_newline = false;
    }

    /// Takes note that the record `seq` has another version in the feed than the one just recorded.
    pub(crate) fn add_ambiguous(&mut self, seq: u64) {
        if let Err(at) = self.ambiguous.binary_search(&seq) {
            self.ambiguous.insert(at, seq);
        }
    }

    pub(crate) fn is_ambiguous(&self, seq: u64) -> bool {
        self.ambiguous.binary_search(&seq).is_ok()
    }

    /// Remembers the unterminated record of `bytes` at `offset`. `text` may be empty where it is too long to keep.
    pub(crate) fn set_pending(&mut self, bytes: u64, text: &[u8]) {
        let keep = bytes <= PENDING_BYTES_KEPT_MAX;
        self.closed &= bytes == self.pending_bytes;
        self.pending_bytes = bytes;
        self.pending.clear();
        self.pending.extend_from_slice(if keep { text } else { b"" });
    }

    /// Counts one record of the file in, whose events are counted in already and which ends before `offset`.
    pub(crate) fn end_record(&mut self, offset: u64, newline: bool, last: Option<&u8>) {
        self.records += 1;
        self.seen = self.seen.max(self.records);
        self.offset = offset;
        self.ends_with_newline = newline;
        self.ends_with_return = last == Some(&b'\r');
        self.closed = false;
        if self.pending_bytes > 0 {
            self.set_pending(0, b"");
        }
    }

    /// Returns whether nothing of the file was ever seen: made to remember the project alone, or of an empty file.
    pub(crate) fn is_blank(&self) -> bool {
        self.seen == 0 && self.offset == 0 && self.pending_bytes == 0
    }

    /// Returns whether a repeated reading ended before it came to where an earlier one had been. Some of what
    /// went out last may have been acknowledged without being remembered here.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.stat.is_none() && self.records < self.seen && !self.choose_all
    }

    /// Says what is recorded.
    pub(crate) fn extent(&self) -> Extent {
        let mut chosen = self.chosen.clone();
        // Parts are noted when they go out, second versions when they are acknowledged. Stable: parts stay in order.
        chosen.sort_by_key(|(seq, _)| *seq);
        Extent {
            stream: self.stream.clone(),
            records: self.records,
            bytes: self.offset,
            ends_with_newline: self.ends_with_newline,
            root: self.frontier.root(),
            chosen,
        }
    }
}

/// The stored form: plain fields in a fixed order.
#[derive(bincode::Encode, bincode::Decode)]
#[allow(clippy::struct_excessive_bools, reason = "the fields of a cursor, as they are stored")]
struct Stored {
    source: String,
    stream: String,
    shape: Shape,
    project: Option<String>,
    folder: String,
    stat: Option<FileStat>,
    offset: u64,
    records: u64,
    leaves: u64,
    peaks: Vec<[u8; 32]>,
    prefix: [u8; 32],
    ends_with_newline: bool,
    ends_with_return: bool,
    pending_bytes: u64,
    pending: Vec<u8>,
    seen: u64,
    ambiguous: Vec<u64>,
    chosen: Vec<(u64, [u8; 32])>,
    choose_all: bool,
    closed: bool,
    point: (u64, [u8; 32]),
}

/// The limit keeps a wrong length from claiming memory.
fn codec() -> Configuration<bincode::config::LittleEndian, bincode::config::Varint, Limit<{ 1 << 30 }>> {
    bincode::config::standard().with_limit::<{ 1 << 30 }>()
}

/// Appends the stored form to `out`.
pub(crate) fn encode(cursor: &Cursor, out: &mut Vec<u8>) {
    let c = cursor.clone();
    let stored = Stored {
        source: c.source,
        stream: c.stream,
        shape: c.shape,
        project: c.project,
        folder: c.folder,
        stat: c.stat,
        offset: c.offset,
        records: c.records,
        leaves: c.frontier.size(),
        peaks: c.frontier.peaks().iter().map(|peak| peak.0).collect(),
        prefix: c.prefix,
        ends_with_newline: c.ends_with_newline,
        ends_with_return: c.ends_with_return,
        pending_bytes: c.pending_bytes,
        pending: c.pending,
        seen: c.seen,
        ambiguous: c.ambiguous,
        chosen: c.chosen.into_iter().map(|(seq, payload)| (seq, payload.0)).collect(),
        choose_all: c.choose_all,
        closed: c.closed,
        point: (c.point.size, c.point.root.0),
    };
    bincode::encode_into_std_write(stored, out, codec()).expect("writing to memory cannot fail");
}

/// Reads the stored form; `None` for anything else.
pub(crate) fn decode(bytes: &[u8]) -> Option<Cursor> {
    let (stored, used): (Stored, usize) = bincode::decode_from_slice(bytes, codec()).ok()?;
    if used != bytes.len() {
        return None;
    }
    Some(Cursor {
        source: stored.source,
        stream: stored.stream,
        shape: stored.shape,
        project: stored.project,
        folder: stored.folder,
        stat: stored.stat,
        offset: stored.offset,
        records: stored.records,
        frontier: Frontier::from_parts(stored.leaves, stored.peaks.into_iter().map(Root).collect())?,
        prefix: stored.prefix,
        ends_with_newline: stored.ends_with_newline,
        ends_with_return: stored.ends_with_return,
        pending_bytes: stored.pending_bytes,
        pending: stored.pending,
        seen: stored.seen,
        ambiguous: stored.ambiguous,
        chosen: stored.chosen.into_iter().map(|(seq, payload)| (seq, PayloadHash(payload))).collect(),
        choose_all: stored.choose_all,
        closed: stored.closed,
        point: FeedPoint { size: stored.point.0, root: Root(stored.point.1) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::FileKind;

    fn cursor() -> Cursor {
        let mut cursor = Cursor::new("claude-code", "s/1".to_owned(), Shape::Lines);
        cursor.project = Some("/home/me".to_owned());
        cursor.stat = Some(FileStat {
            device: 1,
            inode: 2,
            size: 3,
            modified_ns: -4,
            changed_ns: i64::MAX,
            kind: FileKind::File,
        });
        cursor.choose_all = true;
        (0..5).for_each(|seq| cursor.add_event(seq, PayloadHash([seq as u8; 32]), false));
        cursor.add_ambiguous(3);
        cursor.add_ambiguous(1);
        cursor.add_ambiguous(3);
        cursor.set_pending(7, b"pending");
        cursor.point = FeedPoint { size: 300, root: Root([9; 32]) };
        cursor
    }

    #[test]
    fn what_is_stored_reads_back() {
        let cursor = cursor();
        assert_eq!(cursor.ambiguous, [1, 3]);
        let mut bytes = Vec::new();
        encode(&cursor, &mut bytes);
        assert_eq!(decode(&bytes).as_ref(), Some(&cursor));
        bytes.push(0);
        assert_eq!(decode(&bytes), None);
    }

    /// Cursors of earlier versions must read for ever, or be refused as a whole: these bytes are one.
    #[test]
    fn the_stored_form_is_fixed() {
        let mut bytes = Vec::new();
        encode(&cursor(), &mut bytes);
        let hash = blake3::hash(&bytes).to_hex();
        assert_eq!((bytes.len(), &hash[..16]), (GOLDEN.0, GOLDEN.1));
    }

    const GOLDEN: (usize, &str) = (361, "a113afdbb8f6f32c");
}
