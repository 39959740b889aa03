//! A cursor: how far one file was recorded in one feed, and what is needed to go on, to notice that the file
//! was rewritten, and to say what it was once it is gone. Holds the stored form as well.

use crate::extent::Extent;
use crate::files::FileStat;
use crate::source::Shape;
use bincode::config::{Configuration, Limit};
use bincode::de::read::BorrowReader;
use bincode::de::{BorrowDecode, BorrowDecoder, Decode};
use bincode::enc::write::Writer;
use bincode::enc::{Encode, Encoder};
use bincode::error::{DecodeError, EncodeError};
use burnlog_log::{Frontier, PayloadHash, Root, leaf};
use std::borrow::Cow;

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

/// The front of the stored form: what is asked of every cursor of a file, also where an ingest goes on with few.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::BorrowDecode)]
pub(crate) struct StoredHead<'a> {
    point: (u64, [u8; 32]),
    pub(crate) source: &'a str,
    pub(crate) stream: &'a str,
    offset: u64,
    seen: u64,
    pub(crate) pending_bytes: u64,
}

impl<'a> StoredHead<'a> {
    /// Reads the front of the stored form; `None` for anything else.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        bincode::borrow_decode_from_slice(bytes, codec()).ok().map(|(head, _)| head)
    }

    /// The feed when this was saved.
    pub(crate) fn point(&self) -> FeedPoint {
        FeedPoint { size: self.point.0, root: Root(self.point.1) }
    }

    /// See [`Cursor::is_blank`].
    pub(crate) fn is_blank(&self) -> bool {
        self.seen == 0 && self.offset == 0 && self.pending_bytes == 0
    }
}

/// The stored form: plain fields in a fixed order. It borrows, so that looking at a cursor claims no memory: an ingest
/// looks at every one of them and goes on with few.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::BorrowDecode)]
#[allow(clippy::struct_excessive_bools, reason = "the fields of a cursor, as they are stored")]
pub(crate) struct StoredCursor<'a> {
    pub(crate) head: StoredHead<'a>,
    shape: Shape,
    pub(crate) project: Option<&'a str>,
    pub(crate) folder: &'a str,
    pub(crate) stat: Option<FileStat>,
    records: u64,
    leaves: u64,
    /// None where the file is one record, as most files of OpenCode are: the payload's hash in `chosen` tells the peak.
    peaks: Peaks<'a>,
    /// Absent where the file is one record without a newline: then it is the payload's hash.
    prefix: Option<[u8; 32]>,
    ends_with_newline: bool,
    ends_with_return: bool,
    pending: &'a [u8],
    ambiguous: Vec<u64>,
    chosen: Vec<(u64, [u8; 32])>,
    pub(crate) choose_all: bool,
    pub(crate) closed: bool,
}

/// Hashes of 32 bytes side by side, stored as a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Peaks<'a>(Cow<'a, [u8]>);

impl Encode for Peaks<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        (self.0.len() as u64 / 32).encode(encoder)?;
        encoder.writer().write(&self.0)
    }
}

impl<'a, Context> BorrowDecode<'a, Context> for Peaks<'a> {
    fn borrow_decode<D: BorrowDecoder<'a, Context = Context>>(decoder: &mut D) -> Result<Self, DecodeError> {
        let bytes = u64::decode(decoder)?.checked_mul(32).ok_or(DecodeError::LimitExceeded)?;
        // Refused by the reader when there are fewer.
        Ok(Self(Cow::Borrowed(decoder.borrow_reader().take_bytes(bytes as usize)?)))
    }
}

/// The limit keeps a wrong length from claiming memory.
fn codec() -> Configuration<bincode::config::LittleEndian, bincode::config::Varint, Limit<{ 1 << 30 }>> {
    bincode::config::standard().with_limit::<{ 1 << 30 }>()
}

impl<'a> StoredCursor<'a> {
    /// Reads the stored form; `None` for anything else.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (stored, used): (Self, usize) = bincode::borrow_decode_from_slice(bytes, codec()).ok()?;
        (used == bytes.len()).then_some(stored)
    }

    fn of(cursor: &'a Cursor) -> Self {
        let head = StoredHead {
            point: (cursor.point.size, cursor.point.root.0),
            source: &cursor.source,
            stream: &cursor.stream,
            offset: cursor.offset,
            seen: cursor.seen,
            pending_bytes: cursor.pending_bytes,
        };
        let only = only_payload(cursor.frontier.size(), cursor.chosen.iter().map(|(_, payload)| payload.0));
        let peaks = cursor.frontier.peaks();
        let is_told = only.is_some_and(|payload| *peaks == [leaf(&payload)]);
        let kept = if is_told { &[] } else { peaks };
        Self {
            head,
            shape: cursor.shape,
            project: cursor.project.as_deref(),
            folder: &cursor.folder,
            stat: cursor.stat,
            records: cursor.records,
            leaves: cursor.frontier.size(),
            peaks: Peaks(kept.iter().flat_map(|peak| peak.0).collect()),
            prefix: Some(cursor.prefix).filter(|prefix| only != Some(*prefix)),
            ends_with_newline: cursor.ends_with_newline,
            ends_with_return: cursor.ends_with_return,
            pending: &cursor.pending,
            ambiguous: cursor.ambiguous.clone(),
            chosen: cursor.chosen.iter().map(|(seq, payload)| (*seq, payload.0)).collect(),
            choose_all: cursor.choose_all,
            closed: cursor.closed,
        }
    }

    /// Returns the cursor; `None` where the peaks do not belong to a tree of that many leaves, or the prefix is nowhere.
    pub(crate) fn to_cursor(&self) -> Option<Cursor> {
        let only = only_payload(self.leaves, self.chosen.iter().map(|(_, payload)| *payload));
        let peaks = match only {
            Some(payload) if self.peaks.0.is_empty() => vec![leaf(&payload)],
            _ => self.peaks.0.as_chunks().0.iter().map(|peak| Root(*peak)).collect(),
        };
        Some(Cursor {
            source: self.head.source.to_owned(),
            stream: self.head.stream.to_owned(),
            shape: self.shape,
            project: self.project.map(str::to_owned),
            folder: self.folder.to_owned(),
            stat: self.stat,
            offset: self.head.offset,
            records: self.records,
            frontier: Frontier::from_parts(self.leaves, peaks)?,
            prefix: self.prefix.or(only)?,
            ends_with_newline: self.ends_with_newline,
            ends_with_return: self.ends_with_return,
            pending_bytes: self.head.pending_bytes,
            pending: self.pending.to_vec(),
            seen: self.head.seen,
            ambiguous: self.ambiguous.clone(),
            chosen: self.chosen.iter().map(|(seq, payload)| (*seq, PayloadHash(*payload))).collect(),
            choose_all: self.choose_all,
            closed: self.closed,
            point: self.head.point(),
        })
    }
}

/// Returns the hash of the payload of a file that is one event, where it is at hand.
fn only_payload(leaves: u64, mut chosen: impl Iterator<Item = [u8; 32]>) -> Option<[u8; 32]> {
    let first = chosen.next().filter(|_| leaves == 1)?;
    chosen.next().is_none().then_some(first)
}

/// Appends the stored form to `out`.
pub(crate) fn encode(cursor: &Cursor, out: &mut Vec<u8>) {
    bincode::encode_into_std_write(StoredCursor::of(cursor), out, codec())
        .expect("writing to memory cannot fail");
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
        let decoded = StoredCursor::read(&bytes).and_then(|stored| stored.to_cursor());
        assert_eq!(decoded.as_ref(), Some(&cursor));
        bytes.push(0);
        assert_eq!(StoredCursor::read(&bytes), None);
    }

    /// The peak and the prefix are left out where the one payload tells them, and nowhere else.
    #[test]
    fn a_file_of_one_record_keeps_its_hash_once() {
        let stored = |text: &[u8], payload: &[u8]| {
            let mut cursor = Cursor::new("opencode", "part/1".to_owned(), Shape::Object);
            cursor.add_event(0, PayloadHash(*blake3::hash(payload).as_bytes()), false);
            cursor.end_record(text.len() as u64, text != payload, text.last());
            cursor.prefix = *blake3::hash(text).as_bytes();
            let mut bytes = Vec::new();
            encode(&cursor, &mut bytes);
            let decoded = StoredCursor::read(&bytes).and_then(|stored| stored.to_cursor());
            assert_eq!(decoded, Some(cursor));
            bytes.len()
        };
        assert_eq!(stored(b"{}", b"{}") + 32, stored(b"{}\n", b"{}"));
        let mut other = cursor();
        other.chosen.truncate(1);
        let mut one = Cursor { frontier: Frontier::default(), ..other };
        one.frontier.push(leaf(&[77; 32]));
        let mut bytes = Vec::new();
        encode(&one, &mut bytes);
        let decoded = StoredCursor::read(&bytes).and_then(|stored| stored.to_cursor());
        assert_eq!(decoded, Some(one), "a peak that the payload does not tell is kept");
    }

    /// Cursors of earlier versions must read for ever, or be refused as a whole: these bytes are one.
    #[test]
    fn the_stored_form_is_fixed() {
        let mut bytes = Vec::new();
        encode(&cursor(), &mut bytes);
        let hash = blake3::hash(&bytes).to_hex();
        assert_eq!((bytes.len(), &hash[..16]), (GOLDEN.0, GOLDEN.1));
    }

    const GOLDEN: (usize, &str) = (362, "a9c761f27c1b47b6");
}
