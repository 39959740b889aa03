//! Compacting: leaves erased payloads out of their blocks, merges small blocks, overwrites the pages that held
//! erased bytes, and gives the space back. Event numbers stay, so nothing that refers to an event changes.

use crate::append::Packing;
use crate::backend::RedbBackend;
use crate::block::{next_block, read_directory, read_pieces, remove_block, write_block};
use crate::codec::State;
use crate::directory::{Directory, Lengths};
use crate::fault::Fail;
use crate::place::{Place, Store};
use crate::read::read_state;
use crate::tables::{BLOCKS, BlockKey, DATA_PART, FILLER, META};
use burnlog_log::{Compacted, Error, ErrorKind, Result};
use redb::{Database, ReadableDatabase, Table, WriteTransaction};

/// The bytes of blocks rewritten in one transaction.
const REWRITE_BYTES_MAX: usize = 32 << 20;
/// Where less was written, closing does not compact.
const WRITTEN_BYTES_MIN: u64 = 4 << 20;
/// A value that fills a page of `filler` to its last byte.
const ZEROS: [u8; 4080] = [0; 4080];

type Blocks<'txn> = Table<'txn, &'static BlockKey, &'static [u8]>;

/// Compacts the ledger. `InUse` while another process reads it: its snapshot keeps the old pages. `NotFound`, and nothing more is
/// written, where the file is no longer in its place: what is made smaller there would be found by nobody.
pub(crate) fn compact(backend: &RedbBackend) -> Result<Compacted> {
    backend.place.check_in_place("compact")?;
    let bytes_before = backend.place.bytes()?;
    backend.exclusively("compact", |store| {
        let Store::Writer(database) = store else {
            let message = "the ledger was opened read-only: open it for writing";
            return Err(Error::new(ErrorKind::Denied, "compact", message).at(backend.place.name()).into());
        };
        let mut next = Some(0);
        while let Some(first) = next {
            let txn = database.begin_write()?;
            next = rewrite(&txn, backend.packing(), first)?;
            backend.place.check_in_place("compact")?;
            txn.commit()?;
        }
        // The last commit must be redb's own: after it no page is free, and another one would double the file.
        database.compact()?;
        backend.place.check_in_place("compact")?;
        let wipe = read_state(&database.begin_read()?.open_table(META)?)?.wipe;
        if wipe {
            overwrite_free_pages(database, &*backend.place)?;
            database.compact()?;
        }
        Ok(())
    })?;
    Ok(Compacted { bytes_before, bytes_after: backend.place.bytes()? })
}

/// Whether so much was written since the ledger was compacted last that closing should do it again.
pub(crate) fn is_due(backend: &RedbBackend) -> Result<bool> {
    let state = backend.state("compact")?;
    let since = state.written_bytes.saturating_sub(state.compacted_bytes);
    Ok(since > state.compacted_bytes / 4 + WRITTEN_BYTES_MIN)
}

/// Rewrites blocks from event `next` on; returns where to go on in another transaction.
fn rewrite(txn: &WriteTransaction, packing: Packing<'_>, mut next: u64) -> Result<Option<u64>, Fail> {
    let mut meta = txn.open_table(META)?;
    let mut state = read_state(&meta)?;
    let mut blocks = txn.open_table(BLOCKS)?;
    let mut merge = Merge::default();
    let mut written = 0;
    let go_on = loop {
        if written >= REWRITE_BYTES_MAX {
            // What was gathered and not written is gathered again.
            break Some(merge.firsts.first().copied().unwrap_or(next));
        }
        let Some((first, directory)) = block_from(&blocks, next)? else {
            merge.write(&mut blocks, packing, &mut state)?;
            break None;
        };
        next = first + directory.len() as u64;
        let raw_bytes = directory.raw_bytes();
        let is_small = raw_bytes < packing.block_bytes / 4;
        let follows = merge.end() == first && merge.raw.len() + raw_bytes <= packing.block_bytes * 5 / 4;
        if !is_small || !follows {
            written += merge.write(&mut blocks, packing, &mut state)?;
        }
        if is_small || erased_bytes(&directory) > 0 {
            let data = read_pieces(&blocks, first, DATA_PART)?;
            match packing.codecs.decompress(&data, raw_bytes) {
                Ok(raw) => merge.add(first, &directory, &raw),
                // A damaged block stays as it is, so that nothing is lost that may yet be restored.
                Err(_) => written += merge.write(&mut blocks, packing, &mut state)?,
            }
        }
        if !is_small {
            written += merge.write(&mut blocks, packing, &mut state)?;
        }
    };
    state.compacted_bytes = state.written_bytes;
    meta.insert("state", state.encode().as_slice())?;
    Ok(go_on)
}

/// Returns the first block at or after event `next` whose directory decodes.
fn block_from(blocks: &Blocks<'_>, next: u64) -> Result<Option<(u64, Directory)>, Fail> {
    let mut from = next;
    while let Some(first) = next_block(blocks, from)? {
        match read_directory(blocks, first) {
            Ok(directory) => return Ok(Some((first, directory))),
            Err(Fail::Damaged(_)) => from = first + 1,
            Err(fail) => return Err(fail),
        }
    }
    Ok(None)
}

/// The bytes of erased payloads that a block still holds.
fn erased_bytes(directory: &Directory) -> u64 {
    directory.erased.iter().map(|slot| u64::from(directory.lengths[*slot as usize].payload)).sum()
}

/// Consecutive blocks on their way into one.
#[derive(Default)]
struct Merge {
    firsts: Vec<u64>,
    directory: Directory,
    raw: Vec<u8>,
    erased_bytes: u64,
}

impl Merge {
    /// The number of the event that would come next.
    fn end(&self) -> u64 {
        self.firsts.first().map_or(0, |first| first + self.directory.len() as u64)
    }

    /// Adds a block without the payloads that were erased.
    fn add(&mut self, first: u64, directory: &Directory, raw: &[u8]) {
        self.firsts.push(first);
        self.erased_bytes += erased_bytes(directory);
        let mut rest = raw;
        for (slot, lengths) in directory.lengths.iter().enumerate() {
            let (event, after) = rest.split_at(lengths.total());
            rest = after;
            let erased = directory.is_erased(slot);
            let kept = if erased { Lengths { payload: 0, ..*lengths } } else { *lengths };
            self.raw.extend_from_slice(&event[..kept.total()]);
            self.directory.push(directory.addresses[slot], kept, directory.origin(slot), erased);
        }
    }

    /// Writes one block in place of those gathered, where that gains something, and returns the bytes before
    /// compression.
    fn write(
        &mut self,
        blocks: &mut Blocks<'_>,
        packing: Packing<'_>,
        state: &mut State,
    ) -> Result<usize, Fail> {
        let merge = std::mem::take(self);
        if merge.firsts.len() < 2 && merge.erased_bytes == 0 {
            return Ok(0);
        }
        for first in &merge.firsts {
            remove_block(blocks, *first)?;
        }
        let directory = Directory { id: state.blocks, ..merge.directory };
        state.blocks += 1;
        write_block(blocks, merge.firsts[0], &directory, &packing.codecs.compress(&merge.raw)?)?;
        state.erased_bytes = state.erased_bytes.saturating_sub(merge.erased_bytes);
        state.wipe |= merge.erased_bytes > 0;
        Ok(merge.raw.len())
    }
}

/// Writes zeros into every page that is free, so that no erased byte is left in the file.
fn overwrite_free_pages(database: &Database, place: &dyn Place) -> Result<(), Fail> {
    let txn = database.begin_write()?;
    txn.delete_table(FILLER)?; // where an earlier call did not come to its end
    txn.commit()?;
    let txn = database.begin_write()?;
    {
        let mut filler = txn.open_table(FILLER)?;
        let before = place.bytes()?;
        let mut page = 0;
        // redb lets the file grow only when no page is free.
        while place.bytes()? <= before {
            filler.insert(page, ZEROS.as_slice())?;
            page += 1;
        }
    }
    txn.commit()?;
    let txn = database.begin_write()?;
    {
        txn.delete_table(FILLER)?;
        let mut meta = txn.open_table(META)?;
        let state = read_state(&meta)?;
        meta.insert("state", State { wipe: false, ..state }.encode().as_slice())?;
    }
    Ok(txn.commit()?)
}
