//! Bodies of events out of their blocks, and what a page of them may hold. Damage is a body, never an error.

use crate::block::{Codecs, read_pieces};
use crate::cache::BlockCache;
use crate::fault::Fail;
use crate::locate::{Directories, Located};
use crate::tables::{BlockKey, DATA_PART};
use burnlog_log::{Body, Limit};
use bytes::Bytes;
use redb::ReadOnlyTable;

/// What reading needs besides the tables.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// What errors and damaged entries call the store.
    pub(crate) name: &'a str,
    /// Decompression.
    pub(crate) codecs: &'a Codecs,
    /// Blocks decompressed before.
    pub(crate) cache: &'a BlockCache,
}

/// What a page may still hold.
pub(crate) struct Budget {
    limit: Limit,
    entries: usize,
    bytes: u64,
}

impl Budget {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, entries: 0, bytes: 0 }
    }

    pub(crate) fn admits(&mut self, bytes: u64) -> bool {
        self.entries += 1;
        self.bytes += bytes;
        self.entries == 1 || (self.entries <= self.limit.entries && self.bytes <= self.limit.bytes)
    }
}

/// Reads the bodies of events, best in the order of their numbers: each block is decompressed once.
pub(crate) struct Bodies<'a> {
    pub(crate) blocks: ReadOnlyTable<&'static BlockKey, &'static [u8]>,
    pub(crate) directories: Directories,
    pub(crate) reading: Reading<'a>,
    current: Option<Current>,
}

/// The block of the event that was read last.
struct Current {
    id: u64,
    raw: Result<Bytes, String>,
    /// A slot and where it begins, to go on from.
    slot: usize,
    start: usize,
}

impl<'a> Bodies<'a> {
    pub(crate) fn new(blocks: ReadOnlyTable<&'static BlockKey, &'static [u8]>, reading: Reading<'a>) -> Self {
        Self { blocks, directories: Directories::default(), reading, current: None }
    }

    /// Finds an event by number; where its directory is damaged, the body that says so.
    pub(crate) fn find(&mut self, number: u64) -> Result<Result<Located, Body>, Fail> {
        match self.directories.find(&self.blocks, number) {
            Ok(located) => Ok(Ok(located)),
            Err(fail) => {
                let place = format!("{}: table blocks, event {number}", self.reading.name);
                Ok(Err(Body::Damaged { place, reason: damage_of(fail)? }))
            }
        }
    }

    pub(crate) fn body(&mut self, located: &Located) -> Result<Body, Fail> {
        let directory = &located.directory;
        if self.current.as_ref().is_none_or(|current| current.id != directory.id) {
            let raw = self.block(located)?;
            self.current = Some(Current { id: directory.id, raw, slot: 0, start: 0 });
        }
        let current = self.current.as_mut().expect("set above");
        let slot = located.slot();
        if slot < current.slot {
            (current.slot, current.start) = (0, 0);
        }
        let passed = &directory.lengths[current.slot..slot];
        current.start += passed.iter().map(|lengths| lengths.total()).sum::<usize>();
        current.slot = slot;
        let lengths = directory.lengths[slot];
        let middle = current.start + usize::from(lengths.skeleton);
        let end = current.start + lengths.total();
        Ok(match &current.raw {
            Ok(raw) => {
                let skeleton = raw.slice(current.start..middle);
                if located.is_erased() {
                    Body::Erased { skeleton }
                } else {
                    Body::Present { skeleton, payload: raw.slice(middle..end) }
                }
            }
            Err(reason) => Body::Damaged {
                place: format!(
                    "{}: block at event {}, event {}",
                    self.reading.name, located.first, located.number
                ),
                reason: reason.clone(),
            },
        })
    }

    /// The decompressed bytes, exactly as long as the directory says, or what is wrong with them.
    fn block(&self, located: &Located) -> Result<Result<Bytes, String>, Fail> {
        let directory = &located.directory;
        let raw_bytes = directory.raw_bytes();
        if let Some(raw) = self.reading.cache.get(directory.id).filter(|raw| raw.len() == raw_bytes) {
            return Ok(Ok(raw));
        }
        let data = match read_pieces(&self.blocks, located.first, DATA_PART) {
            Ok(data) => data,
            Err(fail) => return Ok(Err(damage_of(fail)?)),
        };
        let raw = self.reading.codecs.decompress(&data, raw_bytes);
        if let Ok(raw) = &raw {
            self.reading.cache.put(directory.id, raw);
        }
        Ok(raw.map_err(|error| format!("the block does not decompress: {error}")))
    }
}

/// The bytes that an event will take in a page.
pub(crate) fn body_bytes(located: &Located) -> u64 {
    let lengths = located.directory.lengths[located.slot()];
    let payload = if located.is_erased() { 0 } else { lengths.payload };
    u64::from(lengths.skeleton) + u64::from(payload)
}

/// The text of damage, or the failure where it is something else.
pub(crate) fn damage_of(fail: Fail) -> Result<String, Fail> {
    match fail {
        Fail::Damaged(what) => Ok(what),
        Fail::Redb(error) if matches!(*error, redb::Error::Corrupted(_)) => Ok(error.to_string()),
        other => Err(other),
    }
}
