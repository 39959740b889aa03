//! The three kinds of rows of the index, each of fixed width with little-endian numbers: addresses by fingerprint, batches by
//! feed, batches by place. Knows how a row is written and compared, not where rows are kept.

use burnlog_log::{Address, BatchHead, Root, Signature, Timestamp, WriterId};

/// The first 16 bytes of an address. Two addresses that share them would take 2^64 tries to make.
pub(crate) type Fingerprint = [u8; 16];

/// Returns the fingerprint of an address.
pub(crate) fn fingerprint(address: &Address) -> Fingerprint {
    *address.0.first_chunk().expect("an address has 32 bytes")
}

/// A row of fixed width.
pub(crate) trait Row: Copy + Ord {
    /// The width in bytes.
    const BYTES: usize;
    /// The section of a run that holds these rows.
    const SECTION: usize;
    /// Appends the row to `out`.
    fn push(&self, out: &mut Vec<u8>);
    /// Reads a row of exactly [`Row::BYTES`].
    fn read(bytes: &[u8]) -> Self;
}

/// An entry line: the address that it names and where it stands. Ordered by fingerprint, then place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AddressRow {
    pub(crate) fingerprint: Fingerprint,
    pub(crate) segment: u32,
    /// The slot and two flags.
    place: u32,
}

const EVENT: u32 = 1 << 31;
const ERASED: u32 = 1 << 30;
/// The most slots of a segment.
pub(crate) const SLOTS_MAX: u32 = ERASED;

impl AddressRow {
    pub(crate) fn new(
        fingerprint: Fingerprint,
        segment: u32,
        slot: u32,
        has_event: bool,
        is_erased: bool,
    ) -> Self {
        let flags = if has_event { EVENT } else { 0 } | if is_erased { ERASED } else { 0 };
        Self { fingerprint, segment, place: (slot & (SLOTS_MAX - 1)) | flags }
    }

    /// Returns the ordinal of the entry line in its segment.
    pub(crate) fn slot(&self) -> u32 {
        self.place & (SLOTS_MAX - 1)
    }

    /// Whether the event stands there, and not only the entry.
    pub(crate) fn has_event(&self) -> bool {
        self.place & EVENT != 0
    }

    /// Whether the event stands there without its payload.
    pub(crate) fn is_erased(&self) -> bool {
        self.place & ERASED != 0
    }

    /// Returns the row in another numbering of the segments.
    pub(crate) fn in_segment(self, segment: u32) -> Self {
        Self { segment, ..self }
    }
}

impl Row for AddressRow {
    const BYTES: usize = 24;
    const SECTION: usize = 0;

    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.fingerprint);
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.place.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        Self { fingerprint: fields.take(), segment: fields.u32(), place: fields.u32() }
    }
}

/// A batch, found by its feed. Ordered by feed and first index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BatchRow {
    pub(crate) feed: WriterId,
    /// The index in the feed of its first entry.
    pub(crate) first: u64,
    pub(crate) place: Place,
    pub(crate) recorded_at: Timestamp,
    pub(crate) root: Root,
    pub(crate) signature: Bits<64>,
}

/// Where a batch, or a run of entries without one, stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) segment: u32,
    /// The slot of the first entry.
    pub(crate) first_slot: u32,
    pub(crate) count: u32,
    /// Of an active segment: where the entry lines begin.
    pub(crate) offset: u64,
    /// Of an active segment: the bytes of the entry lines. The commit line follows.
    pub(crate) bytes: u64,
}

/// Bytes that are only carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bits<const N: usize>(pub(crate) [u8; N]);

impl BatchRow {
    pub(crate) fn new(head: &BatchHead, place: Place) -> Self {
        Self {
            feed: head.feed,
            first: head.size.saturating_sub(u64::from(place.count)),
            place,
            recorded_at: head.recorded_at,
            root: head.root,
            signature: Bits(head.signature.0),
        }
    }

    /// Returns the size of the feed after the batch.
    pub(crate) fn size(&self) -> u64 {
        self.first.saturating_add(u64::from(self.place.count))
    }

    /// Returns the head of the batch.
    pub(crate) fn head(&self) -> BatchHead {
        BatchHead {
            feed: self.feed,
            size: self.size(),
            root: self.root,
            recorded_at: self.recorded_at,
            signature: Signature(self.signature.0),
        }
    }

    /// Returns the row by which the batch is found from its place.
    pub(crate) fn slot_row(&self) -> SlotRow {
        SlotRow { place: self.place, feed: Some((self.feed, self.first)) }
    }
}

impl Row for BatchRow {
    const BYTES: usize = 32 + 8 + PLACE_BYTES + 8 + 32 + 64;
    const SECTION: usize = 1;

    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.feed.0);
        out.extend_from_slice(&self.first.to_le_bytes());
        self.place.push(out);
        out.extend_from_slice(&self.recorded_at.as_micros().to_le_bytes());
        out.extend_from_slice(&self.root.0);
        out.extend_from_slice(&self.signature.0);
    }

    fn read(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            feed: WriterId(fields.take()),
            first: fields.u64(),
            place: Place::read(&mut fields),
            recorded_at: Timestamp::from_micros(fields.u64() as i64),
            root: Root(fields.take()),
            signature: Bits(fields.take()),
        }
    }
}

/// A batch, found by its place. Ordered by segment and first slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SlotRow {
    pub(crate) place: Place,
    /// The feed and the index in it of the first entry; absent for entries whose commit line is lost.
    pub(crate) feed: Option<(WriterId, u64)>,
}

impl Row for SlotRow {
    const BYTES: usize = PLACE_BYTES + 32 + 8;
    const SECTION: usize = 2;

    fn push(&self, out: &mut Vec<u8>) {
        let (feed, first) = self.feed.unwrap_or((WriterId([0; 32]), u64::MAX));
        self.place.push(out);
        out.extend_from_slice(&feed.0);
        out.extend_from_slice(&first.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        let place = Place::read(&mut fields);
        let (feed, first) = (WriterId(fields.take()), fields.u64());
        Self { place, feed: (first != u64::MAX).then_some((feed, first)) }
    }
}

const PLACE_BYTES: usize = 28;

impl Place {
    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.segment.to_le_bytes());
        out.extend_from_slice(&self.first_slot.to_le_bytes());
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(&self.offset.to_le_bytes());
        out.extend_from_slice(&self.bytes.to_le_bytes());
    }

    fn read(fields: &mut Fields<'_>) -> Self {
        Self {
            segment: fields.u32(),
            first_slot: fields.u32(),
            count: fields.u32(),
            offset: fields.u64(),
            bytes: fields.u64(),
        }
    }

    /// Returns the slot after the last entry.
    pub(crate) fn end_slot(&self) -> u32 {
        self.first_slot.saturating_add(self.count)
    }

    /// Whether a slot of the same segment lies in it.
    pub(crate) fn holds(&self, slot: u32) -> bool {
        slot >= self.first_slot && slot - self.first_slot < self.count
    }
}

/// Reads fields of a row one after the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk().expect("a row has all its bytes");
        self.0 = rest;
        *taken
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}
