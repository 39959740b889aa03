//! BLAKE3 of many short inputs side by side. One input of a few hundred bytes keeps one lane of a processor busy that has sixteen; here the
//! blocks of different inputs fill the others. The hashes are those of `blake3::hash`, byte for byte.
//!
//! It stands on `blake3::platform`, which that crate exports and does not promise: its version is pinned to the patch, and the tests below
//! compare every length that takes another path.

use blake3::platform::Platform;
use blake3::{BLOCK_LEN, CHUNK_LEN, IncrementCounter};

/// A hash, or a chaining value on the way to one.
type Hash = [u8; 32];

/// So few inputs are not worth sorting into lanes.
const ALONE_MAX: usize = 3;
/// Longer inputs fill the lanes by themselves.
const CHUNKS_MAX: usize = 16;
const BLOCKS: usize = CHUNK_LEN / BLOCK_LEN;

const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const PARENT: u8 = 4;
const ROOT: u8 = 8;
/// Section 2.1 of the BLAKE3 paper; the first words of the fractional parts of square roots, as in SHA-256.
const INITIAL: [u32; 8] =
    [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19];

/// Computes the BLAKE3 hash of each input, in order.
pub(crate) fn hash_each(inputs: &[&[u8]]) -> Vec<Hash> {
    if inputs.len() <= ALONE_MAX {
        return inputs.iter().map(|input| *blake3::hash(input).as_bytes()).collect();
    }
    let lanes = Lanes { platform: Platform::detect() };
    let mut hashes = vec![[0; 32]; inputs.len()];
    let mut spans = Vec::with_capacity(inputs.len());
    let mut chunks = Vec::with_capacity(inputs.len());
    for (input, bytes) in inputs.iter().enumerate() {
        if bytes.len() > CHUNKS_MAX * CHUNK_LEN {
            hashes[input] = *blake3::hash(bytes).as_bytes();
            continue;
        }
        let first = chunks.len();
        chunks.extend(chunks_of(bytes));
        spans.push(Span { input, first, count: chunks.len() - first });
    }
    let mut values = lanes.chunks(&chunks);
    lanes.join(&mut spans, &mut values);
    for span in spans {
        hashes[span.input] = values[span.first];
    }
    hashes
}

/// A chunk of an input.
#[derive(Clone, Copy)]
struct Chunk<'a> {
    bytes: &'a [u8],
    /// Its number in the input.
    number: usize,
    /// The blocks that are compressed side by side with those of others: all of a chunk that others follow, else all but the last.
    blocks: usize,
    /// Whether the whole input is this one chunk.
    is_root: bool,
}

impl Chunk<'_> {
    fn is_whole(&self) -> bool {
        self.blocks == BLOCKS
    }
}

fn chunks_of(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let count = bytes.len().div_ceil(CHUNK_LEN).max(1);
    (0..count).map(move |number| {
        let rest = &bytes[number * CHUNK_LEN..];
        let is_last = number + 1 == count;
        Chunk {
            bytes: if is_last { rest } else { &rest[..CHUNK_LEN] },
            number,
            blocks: if is_last { rest.len().saturating_sub(1) / BLOCK_LEN } else { BLOCKS },
            is_root: count == 1,
        }
    })
}

/// The chaining values of one input: `count` of them from `first`.
struct Span {
    input: usize,
    first: usize,
    count: usize,
}

/// As many lanes as this processor has.
struct Lanes {
    platform: Platform,
}

impl Lanes {
    /// Returns the chaining value of each chunk; of a root its hash.
    fn chunks(&self, chunks: &[Chunk<'_>]) -> Vec<Hash> {
        let mut values = vec![[0; 32]; chunks.len()];
        let mut out = Vec::new();
        for group in groups(chunks) {
            let Some(Chunk { blocks, number, .. }) = group.first().map(|at| chunks[*at as usize]) else {
                continue;
            };
            self.blocks(chunks, &group, (blocks, number as u64), &mut out);
            for (at, value) in group.iter().zip(out.chunks_exact(32)) {
                values[*at as usize].copy_from_slice(value);
            }
        }
        for (chunk, value) in chunks.iter().zip(&mut values).filter(|(chunk, _)| !chunk.is_whole()) {
            self.last_block(chunk, value);
        }
        values
    }

    /// Compresses the first `blocks` blocks of the chunks of one group, which all have the same `number`.
    fn blocks(&self, chunks: &[Chunk<'_>], group: &[u32], (blocks, number): (usize, u64), out: &mut Vec<u8>) {
        out.clear();
        out.resize(group.len() * 32, 0);
        macro_rules! hash_blocks {
            ($($count:literal)*) => {
                match blocks {
                    $($count => {
                        let first = |at: &u32| {
                            chunks[*at as usize].bytes.first_chunk::<{ $count * BLOCK_LEN }>().expect("it has as many blocks")
                        };
                        let inputs: Vec<&[u8; $count * BLOCK_LEN]> = group.iter().map(first).collect();
                        let end = if $count == BLOCKS { CHUNK_END } else { 0 };
                        let same = IncrementCounter::No;
                        self.platform.hash_many(&inputs, &INITIAL, number, same, 0, CHUNK_START, end, out);
                    })*
                    _ => out.chunks_exact_mut(32).for_each(|value| value.copy_from_slice(&bytes_of(&INITIAL))),
                }
            };
        }
        hash_blocks!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16);
    }

    /// Compresses the last block of an input, which may be short.
    fn last_block(&self, chunk: &Chunk<'_>, value: &mut Hash) {
        let rest = &chunk.bytes[chunk.blocks * BLOCK_LEN..];
        let mut block = [0; BLOCK_LEN];
        block[..rest.len()].copy_from_slice(rest);
        let start = if chunk.blocks == 0 { CHUNK_START } else { 0 };
        let root = if chunk.is_root { ROOT } else { 0 };
        let mut words = words_of(value);
        let flags = start | CHUNK_END | root;
        self.platform.compress_in_place(&mut words, &block, rest.len() as u8, chunk.number as u64, flags);
        *value = bytes_of(&words);
    }

    /// Joins the chaining values of each input, two by two and level by level, until one is left: its hash.
    fn join(&self, spans: &mut [Span], values: &mut [Hash]) {
        let (mut parents, mut out) = (Vec::new(), Vec::new());
        while spans.iter().any(|span| span.count > 1) {
            for (is_root, flags) in [(false, PARENT), (true, PARENT | ROOT)] {
                let wanted = |span: &&mut Span| span.count > 1 && (span.count == 2) == is_root;
                parents.clear();
                for span in spans.iter().filter(|span| span.count > 1 && (span.count == 2) == is_root) {
                    parents.extend((span.first..span.first + span.count - 1).step_by(2).map(|left| {
                        let mut block = [0; BLOCK_LEN];
                        block[..32].copy_from_slice(&values[left]);
                        block[32..].copy_from_slice(&values[left + 1]);
                        block
                    }));
                }
                let inputs: Vec<&[u8; BLOCK_LEN]> = parents.iter().collect();
                out.clear();
                out.resize(parents.len() * 32, 0);
                let same = IncrementCounter::No;
                self.platform.hash_many(&inputs, &INITIAL, 0, same, flags, 0, 0, &mut out);
                let mut joined = out.chunks_exact(32);
                for span in spans.iter_mut().filter(wanted) {
                    for (pair, value) in (0..span.count / 2).zip(&mut joined) {
                        values[span.first + pair].copy_from_slice(value);
                    }
                    if span.count % 2 == 1 {
                        // One without a neighbour goes up as it is.
                        values[span.first + span.count / 2] = values[span.first + span.count - 1];
                    }
                    span.count = span.count.div_ceil(2);
                }
            }
        }
    }
}

/// Returns the positions of the chunks with equally many blocks and the same number in their input.
fn groups(chunks: &[Chunk<'_>]) -> Vec<Vec<u32>> {
    let mut groups = vec![Vec::new(); CHUNKS_MAX * (BLOCKS + 1)];
    for (at, chunk) in chunks.iter().enumerate() {
        groups[chunk.number * (BLOCKS + 1) + chunk.blocks].push(at as u32);
    }
    groups
}

fn words_of(bytes: &Hash) -> [u32; 8] {
    let mut words = [0; 8];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    }
    words
}

fn bytes_of(words: &[u32; 8]) -> Hash {
    let mut bytes = [0; 32];
    for (bytes, word) in bytes.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_equal(inputs: &[&[u8]]) {
        for (input, hash) in inputs.iter().zip(hash_each(inputs)) {
            assert_eq!(hash, *blake3::hash(input).as_bytes(), "of {} bytes", input.len());
        }
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut noise = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise
    }

    #[test]
    fn every_length_hashes_as_it_does_alone() {
        let noise = noise(CHUNKS_MAX * CHUNK_LEN + 2100);
        let short = 0..=2 * CHUNK_LEN + BLOCK_LEN + 1;
        let around = |edge: usize| edge - 1..=edge + 1;
        let edges = (1..=(noise.len() - 1) / BLOCK_LEN).flat_map(|block| around(block * BLOCK_LEN));
        let inputs: Vec<&[u8]> = short.chain(edges).map(|length| &noise[..length]).collect();
        assert_equal(&inputs);
        for input in inputs {
            assert_equal(&[input; ALONE_MAX + 1]);
            assert_equal(&[input]);
        }
        assert_equal(&[]);
    }

    #[test]
    fn neighbours_do_not_mix() {
        let noise = noise(100_000);
        for lanes in 1..=70 {
            let inputs: Vec<&[u8]> =
                (0..lanes).map(|lane| &noise[lane * 37..lane * 37 + 1 + (lane * 701) % 5000]).collect();
            assert_equal(&inputs);
        }
    }
}
