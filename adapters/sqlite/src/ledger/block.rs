//! Blocks: skeletons and payloads of neighbouring events, compressed together; and those decoded last. Knows
//! nothing of tables.

use super::fault::Fail;
use burnlog_log::{Error, ErrorKind};
use bytes::Bytes;
use std::collections::VecDeque;
use std::ops::Range;
use zstd::bulk::Compressor;

/// The most that a block can hold: blocks are cut after the event that fills them.
const RAW_BYTES_MAX: u64 =
    2 * (burnlog_log::limits::PAYLOAD_BYTES_MAX + burnlog_log::limits::SKELETON_BYTES_MAX) as u64;
/// How much of decoded blocks is kept for the next page.
const CACHE_BYTES: usize = 8 << 20;

/// Cuts events of these sizes into blocks of about `block_bytes`, as even as they come: a small one at the end would
/// compress badly. Returns ranges of events.
pub(crate) fn cut(sizes: &[usize], block_bytes: usize) -> Vec<Range<usize>> {
    let total: usize = sizes.iter().sum();
    let target = total.div_ceil((total * 4).div_ceil(block_bytes.max(1) * 5).max(1));
    let (mut cuts, mut start, mut filled) = (Vec::new(), 0, 0);
    for (at, size) in sizes.iter().enumerate() {
        if filled > 0 && filled + size > block_bytes * 5 / 4 {
            cuts.push(start..at);
            (start, filled) = (at, 0);
        }
        filled += size;
        if filled >= target || at + 1 == sizes.len() {
            cuts.push(start..at + 1);
            (start, filled) = (at + 1, 0);
        }
    }
    cuts
}

/// Compresses blocks; several may go through one.
pub(crate) struct Encoder(Compressor<'static>);

impl Encoder {
    pub(crate) fn new(level: i32) -> Result<Self, Fail> {
        Compressor::new(level).map(Self).map_err(failed)
    }

    pub(crate) fn encode(&mut self, raw: &[u8]) -> Result<Vec<u8>, Fail> {
        self.0.compress(raw).map_err(failed)
    }
}

fn failed(error: std::io::Error) -> Fail {
    Fail::Refused(Error::new(ErrorKind::Unavailable, "compress", "out of memory").caused_by(error))
}

/// Decompresses a block that should have `raw_bytes`.
pub(crate) fn decode(bytes: &[u8], raw_bytes: u64) -> Result<Vec<u8>, Fail> {
    if raw_bytes > RAW_BYTES_MAX {
        return Err(Fail::damaged(format!("the block claims {raw_bytes} bytes")));
    }
    let raw = zstd::bulk::decompress(bytes, raw_bytes as usize)
        .map_err(|error| Fail::damaged(format!("the block does not decompress: {error}")))?;
    if raw.len() as u64 != raw_bytes {
        return Err(Fail::damaged(format!("the block has {} bytes and should have {raw_bytes}", raw.len())));
    }
    Ok(raw)
}

/// The blocks decoded last, by the id of their bytes, which never names others. So it may be behind the store.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    blocks: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

impl Cache {
    /// Returns a block, and remembers that it was asked for.
    pub(crate) fn get(&mut self, id: u64) -> Option<Bytes> {
        let position = self.blocks.iter().rposition(|(kept, _)| *kept == id)?;
        let block = self.blocks.remove(position)?;
        let bytes = block.1.clone();
        self.blocks.push_back(block);
        Some(bytes)
    }

    /// Keeps a block and drops those not asked for the longest.
    pub(crate) fn put(&mut self, id: u64, raw: &Bytes) {
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
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_are_dense_and_within_their_size(sizes in prop::collection::vec(0usize..3000, 0..60)) {
            let cuts = cut(&sizes, 1000);
            let mut next = 0;
            for cut in cuts {
                prop_assert_eq!(cut.start, next);
                prop_assert!(cut.end > cut.start);
                let bytes: usize = sizes[cut.clone()].iter().sum();
                prop_assert!(bytes <= 1250 || sizes[cut.clone()].iter().filter(|size| **size > 0).count() == 1);
                next = cut.end;
            }
            prop_assert_eq!(next, sizes.len());
        }
    }

    #[test]
    fn a_block_that_claims_too_much_is_refused_before_memory_is_taken() {
        let bytes = Encoder::new(3).unwrap().encode(&[1; 100]).unwrap();
        assert_eq!(decode(&bytes, 100).unwrap(), [1; 100]);
        for claim in [99, 101, RAW_BYTES_MAX + 1, u64::MAX] {
            assert!(matches!(decode(&bytes, claim), Err(Fail::Damaged(_))), "{claim}");
        }
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
    }
}
