//! Blocks: skeletons and payloads of consecutive events, compressed together, with a directory beside them. Both
//! are cut into pieces of one page, because redb rounds what a value takes up to a power of two.

use crate::directory::Directory;
use crate::fault::Fail;
use crate::tables::{BlockKey, DATA_PART, block_key, split_block_key};
use bytes::Bytes;
use redb::{ReadableTable, Table};
use std::sync::{Mutex, PoisonError};
use zstd::bulk::{Compressor, Decompressor};

/// The bytes of redb's smallest page.
const PAGE_BYTES: usize = 4096;
/// What redb adds to the one value in a page: its header, the end of the value, the key.
const PAGE_OVERHEAD: usize = 4 + 4 + size_of::<BlockKey>();
/// A piece fills one page. Larger pages would do with fewer pieces, but redb cannot move them together when it
/// compacts: it stops at the first page for which there is no gap of its size.
const PIECE_BYTES: usize = PAGE_BYTES - PAGE_OVERHEAD;

/// Writes a block where none is, and returns the bytes it takes.
pub(crate) fn write_block(
    blocks: &mut Table<'_, &'static BlockKey, &'static [u8]>,
    first: u64,
    directory: &Directory,
    data: &[u8],
) -> Result<u64, Fail> {
    let directory = directory.encode();
    write_pieces(blocks, first, 0, &directory)?;
    write_pieces(blocks, first, DATA_PART, data)?;
    Ok((directory.len() + data.len()) as u64)
}

/// Writes the directory of a block anew.
pub(crate) fn write_directory(
    blocks: &mut Table<'_, &'static BlockKey, &'static [u8]>,
    first: u64,
    directory: &Directory,
) -> Result<(), Fail> {
    let next = write_pieces(blocks, first, 0, &directory.encode())?;
    remove_pieces(blocks, first, next, DATA_PART - 1)
}

/// Returns the part after the last piece.
fn write_pieces(
    blocks: &mut Table<'_, &'static BlockKey, &'static [u8]>,
    first: u64,
    mut part: u16,
    bytes: &[u8],
) -> Result<u16, Fail> {
    for piece in bytes.chunks(PIECE_BYTES) {
        blocks.insert(&block_key(first, part), piece)?;
        part += 1;
    }
    Ok(part)
}

/// Removes a block, directory and all.
pub(crate) fn remove_block(
    blocks: &mut Table<'_, &'static BlockKey, &'static [u8]>,
    first: u64,
) -> Result<(), Fail> {
    remove_pieces(blocks, first, 0, u16::MAX)
}

fn remove_pieces(
    blocks: &mut Table<'_, &'static BlockKey, &'static [u8]>,
    first: u64,
    from: u16,
    to: u16,
) -> Result<(), Fail> {
    let (from, to) = (block_key(first, from), block_key(first, to));
    let old: Vec<BlockKey> = blocks
        .range::<&BlockKey>(&from..=&to)?
        .map(|row| row.map(|(key, _)| *key.value()))
        .collect::<Result<_, _>>()?;
    for key in old {
        blocks.remove(&key)?;
    }
    Ok(())
}

/// Returns the first event of the block that `number` should be in; `None` when no block begins at or before it.
pub(crate) fn block_of(
    blocks: &impl ReadableTable<&'static BlockKey, &'static [u8]>,
    number: u64,
) -> Result<Option<u64>, Fail> {
    let last = block_key(number, u16::MAX);
    let row = blocks.range::<&BlockKey>(..=&last)?.next_back().transpose()?;
    Ok(row.map(|(key, _)| split_block_key(key.value()).0))
}

/// Returns the first event of the first block at or after event `from`.
pub(crate) fn next_block(
    blocks: &impl ReadableTable<&'static BlockKey, &'static [u8]>,
    from: u64,
) -> Result<Option<u64>, Fail> {
    let row = blocks.range::<&BlockKey>(&block_key(from, 0)..)?.next().transpose()?;
    let first = row.map(|(key, _)| split_block_key(key.value()).0);
    // On a damaged page redb may answer anything; whoever goes from block to block must come to an end.
    match first {
        Some(first) if first < from || first == u64::MAX => Err(Fail::damaged("the blocks are not in order")),
        first => Ok(first),
    }
}

/// Reads the pieces of a block's directory or of its compressed bytes.
pub(crate) fn read_pieces(
    blocks: &impl ReadableTable<&'static BlockKey, &'static [u8]>,
    first: u64,
    start: u16,
) -> Result<Vec<u8>, Fail> {
    let (from, to) = (block_key(first, start), block_key(first, start | 0x7fff));
    let mut bytes = Vec::new();
    for (row, part) in blocks.range::<&BlockKey>(&from..=&to)?.zip(start..) {
        let (key, piece) = row?;
        if split_block_key(key.value()) != (first, part) {
            return Err(Fail::damaged(format!("piece {part} of the block at event {first} is not there")));
        }
        bytes.extend_from_slice(piece.value());
    }
    Ok(bytes)
}

/// Reads the directory of a block.
pub(crate) fn read_directory(
    blocks: &impl ReadableTable<&'static BlockKey, &'static [u8]>,
    first: u64,
) -> Result<Directory, Fail> {
    Directory::decode(&read_pieces(blocks, first, 0)?)
        .ok_or_else(|| Fail::damaged(format!("the directory of the block at event {first} does not decode")))
}

/// Compresses and decompresses, in several threads at once. Keeps what zstd needs for that between calls.
#[derive(Default)]
pub(crate) struct Codecs {
    level: i32,
    compressors: Mutex<Vec<Compressor<'static>>>,
    decompressors: Mutex<Vec<Decompressor<'static>>>,
}

impl Codecs {
    pub(crate) fn new(level: i32) -> Self {
        Self { level, ..Self::default() }
    }

    /// Compresses a block, with a checksum of what goes in.
    pub(crate) fn compress(&self, raw: &[u8]) -> Result<Vec<u8>, Fail> {
        let mut compressor = match take(&self.compressors) {
            Some(compressor) => compressor,
            None => self.new_compressor().map_err(|error| Fail::from(redb::Error::Io(error)))?,
        };
        let data = compressor.compress(raw).map_err(|error| Fail::from(redb::Error::Io(error)))?;
        give_back(&self.compressors, compressor);
        Ok(data)
    }

    fn new_compressor(&self) -> std::io::Result<Compressor<'static>> {
        let mut compressor = Compressor::new(self.level)?;
        compressor.include_checksum(true)?;
        Ok(compressor)
    }

    /// Decompresses a block of `raw_bytes`; says what is wrong when that cannot be.
    pub(crate) fn decompress(&self, data: &[u8], raw_bytes: usize) -> Result<Bytes, String> {
        let mut decompressor = match take(&self.decompressors) {
            Some(decompressor) => decompressor,
            None => Decompressor::new().map_err(|error| error.to_string())?,
        };
        let raw = decompressor.decompress(data, raw_bytes).map_err(|error| error.to_string());
        give_back(&self.decompressors, decompressor);
        let raw = raw?;
        if raw.len() != raw_bytes {
            return Err(format!("{} bytes instead of {raw_bytes}", raw.len()));
        }
        Ok(Bytes::from(raw))
    }
}

fn take<T>(pool: &Mutex<Vec<T>>) -> Option<T> {
    pool.lock().unwrap_or_else(PoisonError::into_inner).pop()
}

fn give_back<T>(pool: &Mutex<Vec<T>>, item: T) {
    let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
    // As many as threads that are likely to work at once; each holds about a megabyte.
    if pool.len() < 4 {
        pool.push(item);
    }
}
