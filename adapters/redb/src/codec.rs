//! The values of the tables as bytes: fixed-width little-endian fields, then counted lists. Knows nothing of redb.
//! Decoding accepts exactly what encoding writes; anything else is `None`, which callers report as damage.

use burnlog_log::{Address, BatchHead, LedgerId, Root, Signature, Timestamp, WriterId};

/// The version of the tables and of these encodings.
pub(crate) const FORMAT_VERSION: u32 = 1;
const FORMAT_NAME: &[u8; 12] = b"burnlog redb";

/// Takes fields off the front of a value.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Encodes the `format` record.
pub(crate) fn encode_format(version: u32) -> Vec<u8> {
    [FORMAT_NAME.as_slice(), &version.to_le_bytes()].concat()
}

/// Decodes the `format` record into its version. A newer version may say more after it.
pub(crate) fn decode_format(value: &[u8]) -> Option<u32> {
    let mut fields = Fields(value);
    (fields.bytes(FORMAT_NAME.len())? == FORMAT_NAME).then_some(())?;
    fields.u32()
}

/// Decodes the `ledger` record.
pub(crate) fn decode_ledger(value: &[u8]) -> Option<LedgerId> {
    value.try_into().ok().map(LedgerId)
}

/// The `state` record: counters that every append brings forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// Batches appended so far; a feed remembers at which it moved last.
    pub(crate) clock: u64,
    /// Events stored, which is the number of the next one.
    pub(crate) events: u64,
    /// Feeds known, which is the number of the next one.
    pub(crate) feeds: u32,
    /// Bytes of payloads that are not erased.
    pub(crate) payload_bytes: u64,
    /// Bytes of erased payloads that are still in their blocks.
    pub(crate) erased_bytes: u64,
    /// Blocks written so far, which is the id of the next one.
    pub(crate) blocks: u64,
    /// Whether erased bytes may be left in pages that are free now.
    pub(crate) wipe: bool,
}

impl State {
    pub(crate) fn encode(&self) -> [u8; 45] {
        let mut out = [0; 45];
        out[..8].copy_from_slice(&self.clock.to_le_bytes());
        out[8..16].copy_from_slice(&self.events.to_le_bytes());
        out[16..20].copy_from_slice(&self.feeds.to_le_bytes());
        out[20..28].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[28..36].copy_from_slice(&self.erased_bytes.to_le_bytes());
        out[36..44].copy_from_slice(&self.blocks.to_le_bytes());
        out[44] = u8::from(self.wipe);
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut fields = Fields(value);
        let state = Self {
            clock: fields.u64()?,
            events: fields.u64()?,
            feeds: fields.u32()?,
            payload_bytes: fields.u64()?,
            erased_bytes: fields.u64()?,
            blocks: fields.u64()?,
            wipe: match fields.array()? {
                [0] => false,
                [1] => true,
                _ => return None,
            },
        };
        fields.end().map(|()| state)
    }
}

fn push_head(out: &mut Vec<u8>, head: &BatchHead) {
    out.extend_from_slice(&head.size.to_le_bytes());
    out.extend_from_slice(&head.root.0);
    out.extend_from_slice(&head.recorded_at.as_micros().to_le_bytes());
    out.extend_from_slice(&head.signature.0);
}

fn take_head(fields: &mut Fields<'_>, feed: WriterId) -> Option<BatchHead> {
    let size = fields.u64()?;
    let root = Root(fields.array()?);
    let micros = i64::from_le_bytes(fields.array()?);
    let recorded_at = Timestamp::from_micros(micros);
    let signature = Signature(fields.array()?);
    // Instants are clamped where they are made; one that is clamped here was not written by us.
    (recorded_at.as_micros() == micros).then_some(BatchHead { feed, size, root, recorded_at, signature })
}

/// A row of `feeds`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeedRow {
    /// The number that stands for the feed in the keys of other tables.
    pub(crate) number: u32,
    /// The clock when the feed moved last.
    pub(crate) moved: u64,
    /// The newest head.
    pub(crate) head: BatchHead,
    /// The peaks at that head.
    pub(crate) frontier: Vec<Root>,
}

impl FeedRow {
    pub(crate) fn encode(number: u32, moved: u64, head: &BatchHead, frontier: &[Root]) -> Vec<u8> {
        let mut out = Vec::with_capacity(124 + 32 * frontier.len());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&moved.to_le_bytes());
        push_head(&mut out, head);
        for peak in frontier {
            out.extend_from_slice(&peak.0);
        }
        out
    }

    pub(crate) fn decode(feed: WriterId, value: &[u8]) -> Option<Self> {
        let mut fields = Fields(value);
        let (number, moved) = (fields.u32()?, fields.u64()?);
        let head = take_head(&mut fields, feed)?;
        let (peaks, rest) = fields.0.as_chunks::<32>();
        (rest.is_empty() && peaks.len() == head.size.count_ones() as usize && head.size > 0).then(|| Self {
            number,
            moved,
            head,
            frontier: peaks.iter().map(|peak| Root(*peak)).collect(),
        })
    }
}

/// Consecutive entries whose events have consecutive numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The number of the first event.
    pub(crate) first: u64,
    /// How many entries.
    pub(crate) count: u32,
}

/// A row of `batches`: a head and the entries that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchRow {
    /// The head after the batch.
    pub(crate) head: BatchHead,
    /// The entries, as runs of event numbers.
    pub(crate) runs: Vec<Run>,
    /// The number of entries in all runs.
    pub(crate) count: u64,
}

impl BatchRow {
    pub(crate) fn encode(head: &BatchHead, numbers: &[u64]) -> Vec<u8> {
        let mut out = Vec::with_capacity(124);
        push_head(&mut out, head);
        let mut push = |run: Run| {
            out.extend_from_slice(&run.first.to_le_bytes());
            out.extend_from_slice(&run.count.to_le_bytes());
        };
        let mut run = Run { first: 0, count: 0 };
        for number in numbers {
            if run.count > 0 && run.first + u64::from(run.count) == *number {
                run.count += 1;
                continue;
            }
            if run.count > 0 {
                push(run);
            }
            run = Run { first: *number, count: 1 };
        }
        push(run);
        out
    }

    pub(crate) fn decode(feed: WriterId, value: &[u8]) -> Option<Self> {
        let mut fields = Fields(value);
        let head = take_head(&mut fields, feed)?;
        let mut runs = Vec::with_capacity(fields.0.len() / 12);
        let mut count = 0;
        while !fields.0.is_empty() {
            let run = Run { first: fields.u64()?, count: fields.u32()? };
            (run.count > 0 && run.first.checked_add(u64::from(run.count)).is_some()).then_some(())?;
            count += u64::from(run.count);
            runs.push(run);
        }
        (count > 0 && count <= head.size).then_some(Self { head, runs, count })
    }
}

/// From this slot on, events entered `feed` at `index` and the indexes after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The first slot of the run.
    pub(crate) slot: u32,
    /// The number of the feed that brought the events.
    pub(crate) feed: u32,
    /// The index of the first of them there.
    pub(crate) index: u64,
}

/// The lengths of one event in its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Lengths {
    /// Bytes of the skeleton.
    pub(crate) skeleton: u16,
    /// Bytes of the payload that the block holds; 0 once an erased payload was removed.
    pub(crate) payload: u32,
}

impl Lengths {
    /// The bytes of both.
    pub(crate) fn total(self) -> usize {
        usize::from(self.skeleton) + self.payload as usize
    }
}

/// What is known of the events of one block without decompressing it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Directory {
    /// The id of the block's bytes: another one each time that they are written anew.
    pub(crate) id: u64,
    /// Who brought the events.
    pub(crate) origins: Vec<Origin>,
    /// The slots of erased events, ascending.
    pub(crate) erased: Vec<u32>,
    /// The lengths by slot.
    pub(crate) lengths: Vec<Lengths>,
    /// The addresses by slot.
    pub(crate) addresses: Vec<Address>,
}

impl Directory {
    /// The bytes of the block before compression.
    pub(crate) fn raw_bytes(&self) -> usize {
        self.lengths.iter().map(|lengths| lengths.total()).sum()
    }

    /// The number of events.
    pub(crate) fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether the payload of the event at `slot` was erased.
    pub(crate) fn is_erased(&self, slot: usize) -> bool {
        self.erased.binary_search(&(slot as u32)).is_ok()
    }

    /// The feed that brought the event at `slot`, and its index there.
    pub(crate) fn origin(&self, slot: usize) -> (u32, u64) {
        let after = self.origins.partition_point(|origin| origin.slot as usize <= slot);
        let origin = self.origins[after - 1];
        (origin.feed, origin.index + (slot as u64 - u64::from(origin.slot)))
    }

    /// Adds one event behind the others.
    pub(crate) fn push(&mut self, address: Address, lengths: Lengths, origin: (u32, u64), erased: bool) {
        let slot = self.len();
        let (feed, index) = origin;
        if slot == 0 || self.origin(slot - 1) != (feed, index.wrapping_sub(1)) {
            self.origins.push(Origin { slot: slot as u32, feed, index });
        }
        if erased {
            self.erased.push(slot as u32);
        }
        self.lengths.push(lengths);
        self.addresses.push(address);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let Self { id, origins, erased, lengths, addresses } = self;
        let bytes = 24 + 16 * origins.len() + 4 * erased.len() + 38 * addresses.len();
        let mut out = Vec::with_capacity(bytes);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&id.to_le_bytes());
        for count in [addresses.len(), origins.len(), erased.len()] {
            out.extend_from_slice(&(count as u32).to_le_bytes());
        }
        for origin in origins {
            out.extend_from_slice(&origin.slot.to_le_bytes());
            out.extend_from_slice(&origin.feed.to_le_bytes());
            out.extend_from_slice(&origin.index.to_le_bytes());
        }
        for slot in erased {
            out.extend_from_slice(&slot.to_le_bytes());
        }
        for length in lengths {
            out.extend_from_slice(&length.skeleton.to_le_bytes());
            out.extend_from_slice(&length.payload.to_le_bytes());
        }
        for address in addresses {
            out.extend_from_slice(&address.0);
        }
        let checksum = crc32fast::hash(&out[4..]);
        out[..4].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        let mut fields = Fields(value);
        (fields.u32()? == crc32fast::hash(fields.0)).then_some(())?;
        let id = fields.u64()?;
        let [events, origin_count, erased_count] =
            [fields.u32()? as usize, fields.u32()? as usize, fields.u32()? as usize];
        let bytes = events
            .checked_mul(38)?
            .checked_add(origin_count.checked_mul(16)?)?
            .checked_add(erased_count.checked_mul(4)?)?;
        (fields.0.len() == bytes).then_some(())?;
        let origins: Vec<Origin> = (0..origin_count)
            .map(|_| Some(Origin { slot: fields.u32()?, feed: fields.u32()?, index: fields.u64()? }))
            .collect::<Option<_>>()?;
        let erased: Vec<u32> = (0..erased_count).map(|_| fields.u32()).collect::<Option<_>>()?;
        let lengths = (0..events)
            .map(|_| Some(Lengths { skeleton: fields.u16()?, payload: fields.u32()? }))
            .collect::<Option<_>>()?;
        let addresses = fields.0.as_chunks::<32>().0.iter().map(|bytes| Address(*bytes)).collect();
        let ascending = |slots: &mut dyn Iterator<Item = u32>| slots.is_sorted_by(|a, b| a < b);
        let in_range = |slot: Option<u32>| slot.is_none_or(|slot| (slot as usize) < events);
        let sound = origins.first().is_some_and(|origin| origin.slot == 0)
            && ascending(&mut origins.iter().map(|origin| origin.slot))
            && in_range(origins.last().map(|origin| origin.slot))
            && ascending(&mut erased.iter().copied())
            && in_range(erased.last().copied());
        sound.then_some(Self { id, origins, erased, lengths, addresses })
    }
}
