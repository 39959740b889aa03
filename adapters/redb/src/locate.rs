//! Finding events: from an address to its number, from a number to its block and slot. Works on the tables of a
//! read transaction and of a write transaction alike.

use crate::block::{block_of, read_directory};
use crate::directory::Directory;
use crate::fault::Fail;
use crate::tables::BlockKey;
use burnlog_log::Address;
use redb::ReadableTable;
use std::collections::VecDeque;
use std::sync::Arc;

/// Directories kept within one call; events that are asked for together stand together.
const DIRECTORIES_MAX: usize = 16;

/// The part of an address that is the key of `events`.
pub(crate) fn prefix(address: &Address) -> u64 {
    let (front, _) = address.0.split_at(8);
    u64::from_be_bytes(front.try_into().expect("eight of 32 bytes"))
}

/// Where an event is.
#[derive(Debug, Clone)]
pub(crate) struct Located {
    /// The number of the event.
    pub(crate) number: u64,
    /// The number of the first event of its block.
    pub(crate) first: u64,
    /// The directory of the block.
    pub(crate) directory: Arc<Directory>,
}

impl Located {
    /// The slot in the block.
    pub(crate) fn slot(&self) -> usize {
        (self.number - self.first) as usize
    }

    /// The address that the directory gives the event.
    pub(crate) fn address(&self) -> Address {
        self.directory.addresses[self.slot()]
    }

    /// Whether the payload was erased.
    pub(crate) fn is_erased(&self) -> bool {
        self.directory.is_erased(self.slot())
    }

    /// The feed that brought the event, and its index there.
    pub(crate) fn origin(&self) -> (u32, u64) {
        self.directory.origin(self.slot())
    }
}

/// The directories used last in one call. Not kept between calls: another process may erase.
#[derive(Default)]
pub(crate) struct Directories(VecDeque<(u64, Arc<Directory>)>);

impl Directories {
    /// Finds the event of that number; `Damaged` when no directory has it.
    pub(crate) fn find(
        &mut self,
        blocks: &impl ReadableTable<&'static BlockKey, &'static [u8]>,
        number: u64,
    ) -> Result<Located, Fail> {
        let holds = |first: u64, directory: &Directory| {
            number.checked_sub(first).is_some_and(|slot| slot < directory.len() as u64)
        };
        if let Some(position) = self.0.iter().position(|(first, directory)| holds(*first, directory)) {
            self.0.swap(0, position);
            let (first, directory) = &self.0[0];
            return Ok(Located { number, first: *first, directory: directory.clone() });
        }
        let absent = || Fail::damaged(format!("no block holds event {number}"));
        let first = block_of(blocks, number)?.ok_or_else(absent)?;
        let directory = Arc::new(read_directory(blocks, first)?);
        if !holds(first, &directory) {
            return Err(absent());
        }
        self.0.truncate(DIRECTORIES_MAX - 1);
        self.0.push_front((first, directory.clone()));
        Ok(Located { number, first, directory })
    }
}

/// Finds the event of an address; `None` when the ledger does not have it.
pub(crate) fn locate(
    events: &impl ReadableTable<u64, u64>,
    twins: &impl ReadableTable<&'static [u8; 32], u64>,
    blocks: &impl ReadableTable<&'static BlockKey, &'static [u8]>,
    directories: &mut Directories,
    address: &Address,
) -> Result<Option<Located>, Fail> {
    let Some(number) = events.get(prefix(address))?.map(|row| row.value()) else { return Ok(None) };
    let located = directories.find(blocks, number)?;
    if located.address() == *address {
        return Ok(Some(located));
    }
    let Some(number) = twins.get(&address.0)?.map(|row| row.value()) else { return Ok(None) };
    let twin = directories.find(blocks, number)?;
    if twin.address() == *address {
        return Ok(Some(twin));
    }
    Err(Fail::damaged(format!("the event of {address} is not where the tables say")))
}
