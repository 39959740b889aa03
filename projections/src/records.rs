//! Which event stands at which record of which stream: packed chunks of 200 record numbers each.
//! What `show`, `restore` and chains stand on, and how a fold recognises an event that it has seen.

use crate::table::row;
use crate::text::Name;
use burnlog_log::{Address, parse_hex};

/// How many record numbers one chunk covers: as many as fill a page of SQLite (8 KiB) with their places of some 38 bytes; of 128
/// a row took 60 % of it.
pub const CHUNK_RECORDS: u64 = 200;
/// Offset, class, address and fingerprint of one entry, in bytes.
const ENTRY_BYTES: usize = 1 + 1 + 32 + FINGERPRINT_BYTES;
/// Enough to name few candidates among many millions of records; which is meant, the records tell.
const FINGERPRINT_BYTES: usize = 4;

/// What kind of record stands at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordClass {
    /// A record of a type or source that the folds do not know.
    Unknown = 0,
    /// What a model said.
    Assistant = 1,
    /// What a user said, or a tool gave back.
    User = 2,
    /// What the agent says of itself.
    System = 3,
    /// A sign of life, perhaps with a subagent's message in it.
    Progress = 4,
    /// A title or summary.
    Title = 5,
    /// Known, and of no meaning to the folds.
    Other = 6,
    /// Not to be parsed.
    Unreadable = 7,
    /// An unterminated last record.
    Tail = 8,
    /// A part of a record too long for one event.
    Part = 9,
    /// A record whose payload was erased before it was folded.
    Erased = 10,
    /// A record that another program made of a session.
    Normalised = 11,
    /// An event of a kind that the folds do not know.
    OtherKind = 12,
}

impl RecordClass {
    const ALL: [Self; 13] = [
        Self::Unknown,
        Self::Assistant,
        Self::User,
        Self::System,
        Self::Progress,
        Self::Title,
        Self::Other,
        Self::Unreadable,
        Self::Tail,
        Self::Part,
        Self::Erased,
        Self::Normalised,
        Self::OtherKind,
    ];

    fn of_byte(byte: u8) -> Self {
        Self::ALL.get(usize::from(byte)).copied().unwrap_or(Self::OtherKind)
    }

    /// Returns the stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Assistant => "assistant",
            Self::User => "user",
            Self::System => "system",
            Self::Progress => "progress",
            Self::Title => "title",
            Self::Other => "other",
            Self::Unreadable => "unreadable",
            Self::Tail => "tail",
            Self::Part => "part",
            Self::Erased => "erased",
            Self::Normalised => "normalised",
            Self::OtherKind => "other_kind",
        }
    }

    /// Returns whether such an entry is one of the file's records, or a part of one.
    pub fn is_line(self) -> bool {
        !matches!(self, Self::Tail | Self::Normalised | Self::OtherKind)
    }
}

/// An event at a record number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordPlace {
    /// The record number in the stream.
    pub seq: u64,
    /// The event.
    pub address: Address,
    /// What kind of record it is.
    pub class: RecordClass,
    /// The [`fingerprint`] of the record's own id; zeros where it has none.
    pub fingerprint: [u8; 4],
}

/// Returns the fingerprint of a record's own id: of a UUID its last four bytes, else the first of its BLAKE3.
pub fn fingerprint(id: &str) -> [u8; 4] {
    let mut bytes = [0; 4];
    let text = id.as_bytes();
    let is_uuid = text.len() == 36 && text[23] == b'-' && parse_hex(&text[28..], &mut bytes);
    if !is_uuid {
        bytes.copy_from_slice(&blake3::hash(text).as_bytes()[..4]);
    }
    bytes
}

row! {
    /// The events at [`CHUNK_RECORDS`] consecutive record numbers of a stream, ordered by number and address.
    pub struct Chunk in "records" dumped true
    key {
        /// The source.
        source: Name,
        /// The stream.
        stream: Name,
        /// The record number divided by [`CHUNK_RECORDS`].
        chunk: i64,
    }
    /// For each event 38 bytes: the number's offset, the class, the address, the fingerprint.
    entries: Vec<u8>,
}

impl Chunk {
    /// Unpacks the entries.
    pub fn places(&self) -> impl Iterator<Item = RecordPlace> + '_ {
        places(&self.entries, self.chunk as u64)
    }
}

fn places(entries: &[u8], chunk: u64) -> impl Iterator<Item = RecordPlace> + '_ {
    entries.chunks_exact(ENTRY_BYTES).map(move |entry| unpack(chunk * CHUNK_RECORDS, entry))
}

fn unpack(base: u64, entry: &[u8]) -> RecordPlace {
    let mut address = [0; 32];
    address.copy_from_slice(&entry[2..34]);
    let mut fingerprint = [0; 4];
    fingerprint.copy_from_slice(&entry[34..]);
    let class = RecordClass::of_byte(entry[1]);
    RecordPlace {
        seq: base.saturating_add(u64::from(entry[0])),
        address: Address(address),
        class,
        fingerprint,
    }
}

/// A chunk in memory while a fold adds to it.
#[derive(Debug, Default)]
pub(crate) struct OpenChunk {
    packed: Vec<u8>,
    /// Whether the store has the chunk already.
    pub(crate) stored: bool,
    /// Whether the store's chunk is another.
    pub(crate) changed: bool,
}

/// What stood at a record number before an event came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Before {
    /// Whether this very event did.
    pub(crate) known: bool,
    /// Whether a record of the file did.
    pub(crate) line: bool,
    /// How many unterminated records did.
    pub(crate) tails: i64,
}

impl OpenChunk {
    /// Takes up the stored chunk, if there is one.
    pub(crate) fn of_stored(packed: Option<Vec<u8>>) -> Self {
        let stored = packed.is_some();
        Self { packed: packed.unwrap_or_default(), stored, changed: false }
    }

    /// Returns what stands at the number of `address`, and where in the chunk `address` belongs.
    pub(crate) fn look(&self, seq: u64, address: &Address) -> (Before, usize) {
        let offset = (seq % CHUNK_RECORDS) as u8;
        let mut before = Before::default();
        // Records mostly come in order: look from the end.
        let mut at = self.packed.len();
        while at > 0 {
            let entry = &self.packed[at - ENTRY_BYTES..at];
            if entry[0] < offset {
                break;
            }
            at -= ENTRY_BYTES;
        }
        let mut place = at;
        for entry in self.packed[at..].chunks_exact(ENTRY_BYTES) {
            if entry[0] != offset {
                break;
            }
            let class = RecordClass::of_byte(entry[1]);
            before.line |= class.is_line();
            before.tails += i64::from(class == RecordClass::Tail);
            match entry[2..34].cmp(&address.0[..]) {
                std::cmp::Ordering::Less => place += ENTRY_BYTES,
                std::cmp::Ordering::Equal => before.known = true,
                std::cmp::Ordering::Greater => {}
            }
        }
        (before, place)
    }

    /// Returns what kind of record an event was when it was folded; `None` for one that was not.
    pub(crate) fn class_of(&self, seq: u64, address: &Address) -> Option<RecordClass> {
        let offset = (seq % CHUNK_RECORDS) as u8;
        let mut entries = self.packed.chunks_exact(ENTRY_BYTES);
        let entry = entries.find(|entry| entry[0] == offset && entry[2..34] == address.0)?;
        Some(RecordClass::of_byte(entry[1]))
    }

    /// Inserts an event at the place that [`OpenChunk::look`] returned for it.
    pub(crate) fn insert(&mut self, at: usize, new: &RecordPlace) {
        let mut entry = [0; ENTRY_BYTES];
        entry[0] = (new.seq % CHUNK_RECORDS) as u8;
        entry[1] = new.class as u8;
        entry[2..34].copy_from_slice(&new.address.0);
        entry[34..].copy_from_slice(&new.fingerprint);
        if at == self.packed.len() {
            self.packed.extend_from_slice(&entry);
        } else {
            self.packed.splice(at..at, entry);
        }
        self.changed = true;
    }

    /// Unpacks the entries; `chunk` is the chunk's number.
    pub(crate) fn places(&self, chunk: u64) -> impl Iterator<Item = RecordPlace> + '_ {
        places(&self.packed, chunk)
    }

    /// Returns the packed entries.
    pub(crate) fn into_packed(self) -> Vec<u8> {
        self.packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_chunk_is_the_sorted_set_of_what_came(events: Vec<(u8, u8)>) {
            let mut chunk = OpenChunk::default();
            let mut expected = std::collections::BTreeMap::new();
            for (offset, name) in events {
                let seq = 5 * CHUNK_RECORDS + u64::from(offset) % CHUNK_RECORDS;
                let address = Address([name; 32]);
                let (before, at) = chunk.look(seq, &address);
                prop_assert_eq!(before.known, expected.contains_key(&(seq, address)));
                prop_assert_eq!(before.line, expected.keys().any(|(other, _)| *other == seq));
                if !before.known {
                    let place = RecordPlace { seq, address, class: RecordClass::User, fingerprint: [name; 4] };
                    chunk.insert(at, &place);
                    expected.insert((seq, address), place);
                }
            }
            let row = Chunk { source: "s".into(), stream: "t".into(), chunk: 5, entries: chunk.into_packed() };
            let places: Vec<_> = row.places().collect();
            prop_assert_eq!(places, expected.into_values().collect::<Vec<_>>());
        }
    }
}
