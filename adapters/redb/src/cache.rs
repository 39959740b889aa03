//! Decompressed blocks that were used last. Keyed by the id of a block's bytes, which never names other bytes.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Small blocks are looked for one by one; more of them would be searched slower than decompressed.
const BLOCKS_MAX: usize = 64;

/// A bounded set of decompressed blocks.
pub(crate) struct BlockCache {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The one used last in front.
    blocks: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

impl BlockCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: u64) -> Option<Bytes> {
        let mut kept = self.lock();
        let position = kept.blocks.iter().position(|(known, _)| *known == id)?;
        let block = kept.blocks.remove(position)?;
        let bytes = block.1.clone();
        kept.blocks.push_front(block);
        Some(bytes)
    }

    /// Keeps a block, unless it would take more than half of the room.
    pub(crate) fn put(&self, id: u64, bytes: &Bytes) {
        if bytes.len() > self.bytes_max / 2 {
            return;
        }
        let mut kept = self.lock();
        kept.bytes += bytes.len();
        kept.blocks.push_front((id, bytes.clone()));
        while kept.bytes > self.bytes_max || kept.blocks.len() > BLOCKS_MAX {
            let Some((_, dropped)) = kept.blocks.pop_back() else { break };
            kept.bytes -= dropped.len();
        }
    }

    pub(crate) fn clear(&self) {
        *self.lock() = Kept::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_last_stays_within_the_bytes() {
        let cache = BlockCache::new(100);
        let block = Bytes::from(vec![0; 40]);
        cache.put(1, &block);
        cache.put(2, &block);
        assert!(cache.get(1).is_some());
        cache.put(3, &block);
        assert!(cache.get(2).is_none() && cache.get(1).is_some() && cache.get(3).is_some());
        cache.put(4, &Bytes::from(vec![0; 51]));
        assert!(cache.get(4).is_none() && cache.get(3).is_some());
        cache.clear();
        assert!(cache.get(3).is_none());
    }
}
