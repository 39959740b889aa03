//! The values of the tables as bytes: fixed-width little-endian fields, then counted lists. Knows nothing of redb.
//! Decoding accepts exactly what encoding writes; anything else is `None`, which callers report as damage.

use burnlog_log::{BatchHead, LedgerId, Root, Signature, Timestamp, WriterId};

/// The version of the tables and of these encodings.
pub(crate) const FORMAT_VERSION: u32 = 1;
const FORMAT_NAME: &[u8; 12] = b"burnlog redb";

/// Takes fields off the front of a value.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn end(&self) -> Option<()> {
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
    /// Bytes of blocks that appends have written so far.
    pub(crate) written_bytes: u64,
    /// What `written_bytes` was when the ledger was compacted last.
    pub(crate) compacted_bytes: u64,
    /// Whether erased bytes may be left in pages that are free now.
    pub(crate) wipe: bool,
}

impl State {
    pub(crate) fn encode(&self) -> [u8; 61] {
        let mut out = [0; 61];
        out[..8].copy_from_slice(&self.clock.to_le_bytes());
        out[8..16].copy_from_slice(&self.events.to_le_bytes());
        out[16..20].copy_from_slice(&self.feeds.to_le_bytes());
        out[20..28].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[28..36].copy_from_slice(&self.erased_bytes.to_le_bytes());
        out[36..44].copy_from_slice(&self.blocks.to_le_bytes());
        out[44..52].copy_from_slice(&self.written_bytes.to_le_bytes());
        out[52..60].copy_from_slice(&self.compacted_bytes.to_le_bytes());
        out[60] = u8::from(self.wipe);
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
            written_bytes: fields.u64()?,
            compacted_bytes: fields.u64()?,
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use burnlog_log::push_hex;

    pub(crate) fn hex(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        push_hex(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    fn head() -> BatchHead {
        BatchHead {
            feed: WriterId([0xfe; 32]),
            size: 6,
            root: Root([0x12; 32]),
            recorded_at: Timestamp::from_micros(-2),
            signature: Signature([0x56; 64]),
        }
    }

    fn head_hex() -> String {
        ["0600000000000000", &"12".repeat(32), "feffffffffffffff", &"56".repeat(64)].concat()
    }

    /// Every shortening and lengthening of a value must be refused.
    pub(crate) fn assert_exact<T: PartialEq + std::fmt::Debug>(
        value: &[u8],
        decode: impl Fn(&[u8]) -> Option<T>,
    ) {
        assert!(decode(value).is_some());
        for length in 0..value.len() {
            assert_eq!(decode(&value[..length]), None, "the first {length} bytes");
        }
        assert_eq!(decode(&[value, &[0]].concat()), None);
    }

    #[test]
    fn golden_meta_records() {
        assert_eq!(hex(&encode_format(1)), "6275726e6c6f67207265646201000000");
        assert_eq!(decode_format(&encode_format(7)), Some(7));
        assert_eq!(decode_format(b"burnlog sql\0\x01\0\0\0"), None);
        assert_eq!(decode_ledger(&[9; 16]), Some(LedgerId([9; 16])));
        assert_eq!(decode_ledger(&[9; 15]), None);
        let state = State {
            clock: 1,
            events: 2,
            feeds: 3,
            payload_bytes: 4,
            erased_bytes: 5,
            blocks: 6,
            written_bytes: 7,
            compacted_bytes: 8,
            wipe: true,
        };
        let golden = "01000000000000000200000000000000030000000400000000000000050000000000000006000000000000000700000000000000080000000000000001";
        assert_eq!(hex(&state.encode()), golden);
        assert_eq!(State::decode(&state.encode()), Some(state));
        assert_exact(&state.encode(), State::decode);
    }

    #[test]
    fn golden_feed_row() {
        let peaks = [Root([0xa1; 32]), Root([0xa2; 32])];
        let value = FeedRow::encode(0x0102, 0x0304, &head(), &peaks);
        let golden =
            ["02010000", "0403000000000000", &head_hex(), &"a1".repeat(32), &"a2".repeat(32)].concat();
        assert_eq!(hex(&value), golden);
        let row = FeedRow { number: 0x0102, moved: 0x0304, head: head(), frontier: peaks.to_vec() };
        assert_eq!(FeedRow::decode(head().feed, &value), Some(row));
        assert_exact(&value, |value| FeedRow::decode(head().feed, value));
    }

    #[test]
    fn golden_batch_row() {
        let value = BatchRow::encode(&head(), &[7, 8, 9, 3, 10]);
        let golden =
            [&head_hex(), "070000000000000003000000", "030000000000000001000000", "0a0000000000000001000000"];
        assert_eq!(hex(&value), golden.concat());
        let runs = [(7, 3), (3, 1), (10, 1)].map(|(first, count)| Run { first, count }).to_vec();
        assert_eq!(BatchRow::decode(head().feed, &value), Some(BatchRow { head: head(), runs, count: 5 }));
        // A row ends with a run, so that a shorter one may be a row as well; never one with part of a run.
        assert_eq!(BatchRow::decode(head().feed, &value[..value.len() - 1]), None);
        let too_many = BatchRow::encode(&head(), &[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(BatchRow::decode(head().feed, &too_many), None);
    }
}
