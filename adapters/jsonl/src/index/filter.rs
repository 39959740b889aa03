//! A filter in front of the addresses of a run: one look at 32 bytes tells of nearly every absent address that it is absent.
//! A blocked Bloom filter whose blocks follow the order of the fingerprints, so that it is written in one pass.

use super::rows::{Fingerprint, Row};
use super::run::{PAGE_BYTES, finish_page, rows_per_page};

const BLOCK_BYTES: usize = 32;
/// Bits of the filter for each address: about one absent address in five hundred passes. Each one that does touches pages
/// of the addresses, which then count as memory of this process.
const BITS_PER_ROW: u64 = 16;
/// The last eight bytes of a fingerprint choose eight of the 256 bits of a block; the first eight choose the block.
const CHOOSING: std::ops::Range<usize> = 8..16;

/// One block of the filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FilterBlock([u8; BLOCK_BYTES]);

impl Row for FilterBlock {
    const BYTES: usize = BLOCK_BYTES;
    const SECTION: usize = 3;

    fn push(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }

    fn read(bytes: &[u8]) -> Self {
        Self(*bytes.first_chunk().expect("a row has all its bytes"))
    }
}

impl FilterBlock {
    /// Whether an address with this fingerprint may be in the run.
    pub(crate) fn may_hold(&self, fingerprint: &Fingerprint) -> bool {
        fingerprint[CHOOSING].iter().all(|bit| self.0[usize::from(bit / 8)] & (1 << (bit % 8)) != 0)
    }

    fn add(&mut self, fingerprint: &Fingerprint) {
        for bit in &fingerprint[CHOOSING] {
            self.0[usize::from(bit / 8)] |= 1 << (bit % 8);
        }
    }
}

/// Returns the number of blocks for so many addresses.
pub(crate) fn block_count(rows: u64) -> u64 {
    (rows * BITS_PER_ROW).div_ceil(BLOCK_BYTES as u64 * 8)
}

/// Returns the block of a fingerprint.
pub(crate) fn block_of(fingerprint: &Fingerprint, blocks: u64) -> u64 {
    let leading = u64::from_be_bytes(*fingerprint.first_chunk().expect("16 bytes"));
    ((u128::from(leading) * u128::from(blocks)) >> 64) as u64
}

/// Makes the pages of a filter from fingerprints in ascending order.
pub(crate) struct FilterWriter {
    blocks: u64,
    /// The number of the block at work.
    at: u64,
    block: FilterBlock,
    page: Vec<u8>,
    /// Pages that are finished; whoever writes them away clears this.
    pub(crate) ready: Vec<u8>,
}

impl FilterWriter {
    pub(crate) fn new(rows: u64) -> Self {
        Self {
            blocks: block_count(rows),
            at: 0,
            block: FilterBlock([0; BLOCK_BYTES]),
            page: Vec::with_capacity(PAGE_BYTES),
            ready: Vec::new(),
        }
    }

    /// Adds a fingerprint that is not less than the one before.
    pub(crate) fn add(&mut self, fingerprint: &Fingerprint) {
        self.advance(block_of(fingerprint, self.blocks));
        self.block.add(fingerprint);
    }

    /// Finishes the last page.
    pub(crate) fn finish(&mut self) {
        self.advance(self.blocks);
        if !self.page.is_empty() {
            self.finish_page();
        }
    }

    fn advance(&mut self, block: u64) {
        while self.at < block {
            self.block.push(&mut self.page);
            self.block = FilterBlock([0; BLOCK_BYTES]);
            self.at += 1;
            if self.page.len() == rows_per_page::<FilterBlock>() as usize * BLOCK_BYTES {
                self.finish_page();
            }
        }
    }

    fn finish_page(&mut self) {
        finish_page(&mut self.page);
        self.ready.append(&mut self.page);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_passes_and_little_else_does() {
        let fingerprint =
            |n: u64| -> Fingerprint { *blake3::hash(&n.to_le_bytes()).as_bytes().first_chunk().unwrap() };
        let mut there: Vec<Fingerprint> = (0..5000).map(fingerprint).collect();
        there.sort_unstable();
        let mut writer = FilterWriter::new(5000);
        for one in &there {
            writer.add(one);
        }
        writer.finish();
        let per_page = rows_per_page::<FilterBlock>();
        assert_eq!(writer.ready.len() as u64, block_count(5000).div_ceil(per_page) * PAGE_BYTES as u64);
        let passes = |one: &Fingerprint| {
            let block = block_of(one, block_count(5000));
            let at = (block / per_page) as usize * PAGE_BYTES + (block % per_page) as usize * BLOCK_BYTES;
            FilterBlock::read(&writer.ready[at..at + BLOCK_BYTES]).may_hold(one)
        };
        assert!(there.iter().all(passes));
        let wrong = (5000..105_000).filter(|n| passes(&fingerprint(*n))).count();
        assert!(wrong < 500, "{wrong} of 100,000 absent addresses pass");
    }
}
