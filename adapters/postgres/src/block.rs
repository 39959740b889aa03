//! Blocks: skeletons and payloads of neighbouring events, compressed together. Holds the layout and a small cache
//! of decoded blocks; knows nothing of tables. A block keeps its offsets for ever: erasing overwrites with zeros.

use burnlog_log::NewEvent;
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;

/// A block is closed when the next event would take it beyond this. An event that is larger has one of its own.
pub(crate) const BLOCK_BYTES: usize = 256 << 10;
/// The most that a block can hold: one payload and one skeleton of the largest size.
const BLOCK_BYTES_MAX: usize =
    burnlog_log::limits::PAYLOAD_BYTES_MAX + burnlog_log::limits::SKELETON_BYTES_MAX + BLOCK_BYTES;
/// How hard zstd tries: 3 takes 0.6 GB/s; 9 saves a twentieth of the size for four times the time.
const LEVEL: i32 = 3;
/// How much of decoded blocks is kept for the next page.
const CACHE_BYTES: usize = 8 << 20;

/// Where an event stands in the blocks of its batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The number of the block in the batch.
    pub(crate) block: usize,
    /// The first byte of the skeleton in the decoded block; the payload follows it.
    pub(crate) start: usize,
}

/// Lays events out in blocks, in the order given. Returns the place of each and the decoded size of each block.
pub(crate) fn lay_out<'e>(events: impl Iterator<Item = &'e NewEvent<'e>>) -> (Vec<Place>, Vec<usize>) {
    let (mut places, mut sizes) = (Vec::new(), Vec::<usize>::new());
    for event in events {
        let bytes = event.skeleton.len() + event.payload.map_or(0, <[u8]>::len);
        if sizes.last().is_none_or(|size| size + bytes > BLOCK_BYTES) {
            sizes.push(0);
        }
        let block = sizes.len() - 1;
        places.push(Place { block, start: sizes[block] });
        sizes[block] += bytes;
    }
    (places, sizes)
}

/// Compresses. The frame carries a checksum, so that a flipped bit is noticed when it is read.
pub(crate) struct Encoder(zstd::bulk::Compressor<'static>);

impl Encoder {
    /// Makes an encoder; several blocks may go through one.
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
        compressor.include_checksum(true)?;
        Ok(Self(compressor))
    }

    /// Compresses one block.
    pub(crate) fn encode(&mut self, raw: &[u8]) -> std::io::Result<Vec<u8>> {
        self.0.compress(raw)
    }
}

/// Decompresses a block that should have `raw_bytes`; the error says what is wrong with it.
pub(crate) fn decode(bytes: &[u8], raw_bytes: i32) -> Result<Vec<u8>, String> {
    let expected = usize::try_from(raw_bytes).ok().filter(|size| *size <= BLOCK_BYTES_MAX);
    let Some(expected) = expected else { return Err(format!("the block claims {raw_bytes} bytes")) };
    let raw = zstd::bulk::decompress(bytes, expected)
        .map_err(|error| format!("the block does not decompress: {error}"))?;
    if raw.len() != expected {
        return Err(format!("the block has {} bytes and should have {expected}", raw.len()));
    }
    Ok(raw)
}

/// Overwrites ranges of a block with zeros; ranges beyond its end are cut.
pub(crate) fn blank(raw: &mut [u8], ranges: impl Iterator<Item = Range<usize>>) {
    let end = raw.len();
    for range in ranges {
        raw[range.start.min(end)..range.end.min(end)].fill(0);
    }
}

/// The blocks decoded last.
///
/// Safe to be behind the store: places never change, and whether a payload may be read is never asked of a block.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    blocks: VecDeque<(i64, Bytes)>,
    bytes: usize,
}

impl Cache {
    /// Returns a block, and remembers that it was asked for.
    pub(crate) fn get(&mut self, id: i64) -> Option<Bytes> {
        let position = self.blocks.iter().rposition(|(kept, _)| *kept == id)?;
        let block = self.blocks.remove(position)?;
        let bytes = block.1.clone();
        self.blocks.push_back(block);
        Some(bytes)
    }

    /// Keeps a block and drops those not asked for the longest.
    pub(crate) fn put(&mut self, id: i64, raw: &Bytes) {
        if raw.len() > CACHE_BYTES / 4 || self.blocks.iter().any(|(kept, _)| *kept == id) {
            return;
        }
        self.bytes += raw.len();
        self.blocks.push_back((id, raw.clone()));
        while self.bytes > CACHE_BYTES {
            let Some((_, dropped)) = self.blocks.pop_front() else { break };
            self.bytes -= dropped.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burnlog_log::Address;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn places_are_dense_and_blocks_within_their_size(sizes in prop::collection::vec(0usize..400_000, 0..40)) {
            let payload = vec![7; 400_000];
            let events: Vec<NewEvent<'_>> = sizes
                .iter()
                .map(|size| NewEvent { address: Address([0; 32]), skeleton: b"s", payload: Some(&payload[..*size]) })
                .collect();
            let (places, blocks) = lay_out(events.iter());
            let mut filled = vec![0; blocks.len()];
            for (place, size) in places.iter().zip(&sizes) {
                prop_assert_eq!(place.start, filled[place.block]);
                filled[place.block] += size + 1;
                prop_assert!(filled[place.block] <= BLOCK_BYTES || place.start == 0);
            }
            prop_assert_eq!(filled, blocks);
        }

        #[test]
        fn a_changed_block_is_noticed(at in 0usize..1000, bit in 0u8..8) {
            let raw: Vec<u8> = (0..2000u32).flat_map(|n| (n * n).to_le_bytes()).collect();
            let mut bytes = Encoder::new().unwrap().encode(&raw).unwrap();
            prop_assert_eq!(&decode(&bytes, raw.len() as i32).unwrap(), &raw);
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(decode(&bytes, raw.len() as i32).map_or(true, |other| other == raw));
        }
    }

    #[test]
    fn a_block_that_claims_too_much_is_refused_before_memory_is_taken() {
        for raw_bytes in [-1, i32::MAX, BLOCK_BYTES_MAX as i32 + 1] {
            assert!(decode(b"", raw_bytes).unwrap_err().contains("claims"));
        }
        let bytes = Encoder::new().unwrap().encode(&[1; 100]).unwrap();
        assert!(decode(&bytes, 99).is_err());
        assert!(decode(&bytes, 101).unwrap_err().contains("100 bytes"));
    }

    #[test]
    fn the_cache_stays_within_its_size() {
        let mut cache = Cache::default();
        let block = Bytes::from(vec![0; 1 << 20]);
        for id in 0..20 {
            cache.put(id, &block);
            assert!(cache.get(0).is_some(), "the block asked for last stays");
        }
        assert!(cache.bytes <= CACHE_BYTES);
        assert!(cache.get(5).is_none());
        assert!(cache.get(19).is_some());
    }
}
