//! Where the blocks of an index are in the log, packed: a run is what was indexed at once of the records of one chunk of
//! a stream, about two dozen bytes a block. Knows no text but that on its way into the index.

use crate::search::SearchKind;
use burnlog_log::Timestamp;

/// Stands for the kind of a block that was forgotten.
const FORGOTTEN: u8 = 0xff;
/// Stands for no timestamp.
const NO_INSTANT: i64 = i64::MIN;

/// A block of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunBlock {
    /// Its kind; `None` when it was forgotten.
    pub kind: Option<SearchKind>,
    /// The number of the block in its record.
    pub ordinal: u32,
    /// Where in the payload the JSON value stands, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
}

/// A record that has blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The record number in the stream.
    pub seq: u64,
    /// The first bytes of the address of the event.
    pub address: [u8; 6],
    /// When it was written.
    pub timestamp: Option<Timestamp>,
    /// Its blocks.
    pub blocks: Vec<RunBlock>,
}

/// What was indexed at once of one chunk. Its blocks have consecutive numbers in the index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchRun {
    /// The source.
    pub source: String,
    /// The stream.
    pub stream: String,
    /// The session that the stream belongs to.
    pub session: String,
    /// The number of the chunk: record number / 128.
    pub chunk: i64,
    /// The records, in the order in which their blocks are numbered.
    pub records: Vec<RunRecord>,
    /// The texts of all blocks, one behind the other; empty in a run that was read.
    pub texts: String,
    /// Where the text of each block ends in `texts`.
    pub ends: Vec<usize>,
    /// How many of the texts were cut.
    pub cut: u64,
}

impl SearchRun {
    /// Returns the number of blocks.
    pub fn blocks(&self) -> u64 {
        self.records.iter().map(|record| record.blocks.len() as u64).sum()
    }

    /// Packs the records.
    pub fn pack(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.records.len() * 32);
        for record in &self.records {
            push(&mut out, record.seq);
            out.extend_from_slice(&record.address);
            let instant = record.timestamp.map_or(NO_INSTANT, Timestamp::as_micros);
            out.extend_from_slice(&instant.to_le_bytes());
            push(&mut out, record.blocks.len() as u64);
            for block in &record.blocks {
                out.push(block.kind.map_or(FORGOTTEN, |kind| kind as u8));
                push(&mut out, u64::from(block.ordinal));
                push(&mut out, block.start);
                push(&mut out, block.bytes);
            }
        }
        out
    }

    /// Unpacks records; `None` when the bytes are damaged.
    pub fn unpack(mut packed: &[u8]) -> Option<Vec<RunRecord>> {
        let mut records = Vec::new();
        while !packed.is_empty() {
            let seq = take(&mut packed)?;
            let (address, rest) = packed.split_first_chunk::<6>()?;
            let (instant, rest) = rest.split_first_chunk::<8>()?;
            packed = rest;
            let instant = i64::from_le_bytes(*instant);
            let count = take(&mut packed)?;
            let mut blocks = Vec::new();
            for _ in 0..count {
                let (kind, rest) = packed.split_first()?;
                packed = rest;
                let kind = match *kind {
                    FORGOTTEN => None,
                    number => Some(*SearchKind::ALL.get(usize::from(number))?),
                };
                let ordinal = u32::try_from(take(&mut packed)?).ok()?;
                blocks.push(RunBlock { kind, ordinal, start: take(&mut packed)?, bytes: take(&mut packed)? });
            }
            let timestamp = (instant != NO_INSTANT).then(|| Timestamp::from_micros(instant));
            records.push(RunRecord { seq, address: *address, timestamp, blocks });
        }
        Some(records)
    }
}

/// Pushes a number, seven bits a byte, the lowest first.
fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn take(packed: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = packed.split_first()?;
        *packed = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn record()(
            seq: u64,
            address: [u8; 6],
            instant: Option<i32>,
            blocks: Vec<(Option<u8>, u32, u64, u64)>,
        ) -> RunRecord {
            let block = |(kind, ordinal, start, bytes): (Option<u8>, u32, u64, u64)| RunBlock {
                kind: kind.map(|number| SearchKind::ALL[usize::from(number) % 6]),
                ordinal,
                start,
                bytes,
            };
            let timestamp = instant.map(|micros| Timestamp::from_micros(i64::from(micros)));
            RunRecord { seq, address, timestamp, blocks: blocks.into_iter().map(block).collect() }
        }
    }

    proptest! {
        #[test]
        fn what_was_packed_is_unpacked(records in proptest::collection::vec(record(), 0..6)) {
            let run = SearchRun { records, ..SearchRun::default() };
            prop_assert_eq!(SearchRun::unpack(&run.pack()), Some(run.records));
        }

        #[test]
        fn damage_is_no_panic(packed: Vec<u8>) {
            SearchRun::unpack(&packed);
        }
    }
}
