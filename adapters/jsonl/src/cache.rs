//! What reading keeps in memory: open segments, decoded blocks, places inside large batches, frontiers. All of it bounded,
//! all of it under ids that are never used twice.

use crate::block::Block;
use crate::files::File;
use crate::sealed::SealedFile;
use burnlog_log::Root;
use std::collections::VecDeque;
use std::sync::Arc;

/// The most memory that decoded blocks take together, one block excepted.
const BLOCK_BYTES_MAX: usize = 8 << 20;
/// More would take longer to look through than to read again.
const BLOCKS_MAX: usize = 64;
const SOURCES_MAX: usize = 48;
const REGIONS_MAX: usize = 16;
const FRONTIERS_MAX: usize = 256;

/// A segment, open for reading.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Active(Arc<dyn File>),
    Sealed(Arc<SealedFile>),
}

/// A block by segment and offset (or number of frame).
pub(crate) type BlockKey = (u64, u64);

/// Places of lines inside a large batch: slot and offset, ascending.
pub(crate) type Marks = Vec<(u32, u64)>;

/// Least recently used last.
#[derive(Debug)]
struct Recent<K, V>(VecDeque<(K, V)>);

impl<K: PartialEq, V: Clone> Recent<K, V> {
    fn get(&mut self, key: &K) -> Option<V> {
        let at = self.0.iter().position(|(other, _)| other == key)?;
        if at > 0 {
            let item = self.0.remove(at)?;
            self.0.push_front(item);
        }
        self.0.front().map(|(_, value)| value.clone())
    }

    fn put(&mut self, key: K, value: V, count_max: usize) {
        self.0.retain(|(other, _)| *other != key);
        self.0.push_front((key, value));
        self.0.truncate(count_max);
    }
}

/// The cache.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: Recent<BlockKey, Arc<Block>>,
    sources: Recent<u64, Source>,
    marks: Recent<BlockKey, Arc<Marks>>,
    frontiers: Recent<(u64, u32), Arc<Vec<Root>>>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            blocks: Recent(VecDeque::new()),
            sources: Recent(VecDeque::new()),
            marks: Recent(VecDeque::new()),
            frontiers: Recent(VecDeque::new()),
        }
    }
}

impl Cache {
    pub(crate) fn block(&mut self, key: BlockKey) -> Option<Arc<Block>> {
        self.blocks.get(&key)
    }

    pub(crate) fn put_block(&mut self, key: BlockKey, block: Arc<Block>) {
        self.blocks.put(key, block, BLOCKS_MAX);
        let mut bytes = 0;
        let fits = self.blocks.0.iter().take_while(|(_, block)| {
            bytes += block.memory_bytes();
            bytes <= BLOCK_BYTES_MAX
        });
        let count = fits.count().max(1);
        self.blocks.0.truncate(count);
    }

    pub(crate) fn source(&mut self, segment: u64) -> Option<Source> {
        self.sources.get(&segment)
    }

    pub(crate) fn put_source(&mut self, segment: u64, source: Source) {
        self.sources.put(segment, source, SOURCES_MAX);
    }

    pub(crate) fn marks(&mut self, region: BlockKey) -> Option<Arc<Marks>> {
        self.marks.get(&region)
    }

    pub(crate) fn put_marks(&mut self, region: BlockKey, marks: Marks) {
        self.marks.put(region, Arc::new(marks), REGIONS_MAX);
    }

    pub(crate) fn frontier(&mut self, batch: (u64, u32)) -> Option<Arc<Vec<Root>>> {
        self.frontiers.get(&batch)
    }

    pub(crate) fn put_frontier(&mut self, batch: (u64, u32), frontier: Arc<Vec<Root>>) {
        self.frontiers.put(batch, frontier, FRONTIERS_MAX);
    }
}
