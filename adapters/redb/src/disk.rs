//! A disk in memory for crash tests, over redb's storage seam: it has a live and a durable image, and every write
//! and every sync can fail or be the last.

use crate::backend::{RedbBackend, initialize};
use crate::options::RedbOptions;
use crate::place::{Place, Store, builder};
use burnlog_log::{Error, LedgerId};
use redb::{BackendError, StorageBackend};
use std::collections::BTreeSet;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};

/// What a disk writes whole or not at all.
const SECTOR_BYTES: u64 = 512;

/// What goes wrong, counted in operations that change the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Nothing,
    /// This operation and all after it fail: the machine is gone.
    CrashAt(usize),
    /// This write or growth fails once: no space.
    WriteFails(usize),
    /// This sync fails once, and what it should have written is never written by a later one.
    SyncFails(usize),
}

#[derive(Debug, Default)]
struct Image {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// Sectors of `live` that no sync has covered.
    unsynced: BTreeSet<u64>,
}

#[derive(Debug)]
struct DiskState {
    image: Image,
    trouble: Trouble,
    operations: usize,
    writes: usize,
    syncs: usize,
}

/// A disk in memory; clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct Disk(Arc<Mutex<DiskState>>);

impl Disk {
    pub(crate) fn with(bytes: Vec<u8>) -> Self {
        let image = Image { live: bytes.clone(), durable: bytes, unsynced: BTreeSet::new() };
        Self(Arc::new(Mutex::new(DiskState {
            image,
            trouble: Trouble::Nothing,
            operations: 0,
            writes: 0,
            syncs: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, DiskState> {
        self.0.lock().unwrap()
    }

    /// A disk with an empty ledger.
    pub(crate) fn with_ledger() -> Self {
        let disk = Self::with(Vec::new());
        let database = builder(&RedbOptions::default()).create_with_backend(disk.clone()).unwrap();
        initialize(&database, LedgerId([3; 16])).unwrap();
        database.close().unwrap();
        assert!(disk.lock().image.unsynced.is_empty(), "closing syncs");
        disk
    }

    /// Everything that was written.
    pub(crate) fn live(&self) -> Vec<u8> {
        self.lock().image.live.clone()
    }

    /// Operations, writes and syncs since the trouble was set.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let state = self.lock();
        (state.operations, state.writes, state.syncs)
    }

    /// Makes trouble for what comes now.
    pub(crate) fn trouble(&self, trouble: Trouble) {
        let mut state = self.lock();
        (state.trouble, state.operations, state.writes, state.syncs) = (trouble, 0, 0, 0);
    }

    /// What is on the disk after a crash: what was synced, and any part of the rest.
    pub(crate) fn after_crash(&self, seed: u64) -> Self {
        let state = self.lock();
        let Image { live, durable, unsynced } = &state.image;
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut coin = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Nothing, everything, or any half of it.
            match seed {
                0 => false,
                1 => true,
                _ => random & 64 == 0,
            }
        };
        let mut bytes = durable.clone();
        if coin() {
            bytes.resize(live.len(), 0);
        }
        for sector in unsynced {
            let start = (sector * SECTOR_BYTES) as usize;
            let end = (start + SECTOR_BYTES as usize).min(bytes.len()).min(live.len());
            if start < end && coin() {
                bytes[start..end].copy_from_slice(&live[start..end]);
            }
        }
        Self::with(bytes)
    }

    pub(crate) fn open(&self) -> Result<RedbBackend, Error> {
        RedbBackend::open_in(Box::new(self.clone()), RedbOptions::default())
    }
}

impl DiskState {
    fn operation(&mut self) -> io::Result<()> {
        self.operations += 1;
        match self.trouble {
            Trouble::CrashAt(at) if self.operations >= at => Err(io::Error::other("the machine is gone")),
            _ => Ok(()),
        }
    }

    fn writing(&mut self) -> io::Result<()> {
        self.operation()?;
        self.writes += 1;
        if self.trouble == Trouble::WriteFails(self.writes) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().image.live.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.lock();
        let from = state.image.live.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(from.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut state = self.lock();
        state.writing()?;
        state.image.live.resize(length as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.operation()?;
        state.syncs += 1;
        if state.trouble == Trouble::SyncFails(state.syncs) {
            // The pages count as clean from now on, as on Linux, and are on no disk.
            state.image.unsynced.clear();
            return Err(io::Error::from_raw_os_error(5));
        }
        let Image { live, durable, unsynced } = &mut state.image;
        durable.resize(live.len(), 0);
        for sector in std::mem::take(unsynced) {
            let start = (sector * SECTOR_BYTES) as usize;
            let end = (start + SECTOR_BYTES as usize).min(live.len());
            if start < end {
                durable[start..end].copy_from_slice(&live[start..end]);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        state.writing()?;
        let (start, end) = (offset as usize, offset as usize + data.len());
        let to = state.image.live.get_mut(start..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        to.copy_from_slice(data);
        state.image.unsynced.extend(offset / SECTOR_BYTES..(end as u64).div_ceil(SECTOR_BYTES));
        Ok(())
    }

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}

impl Place for Disk {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn open(&self, options: &RedbOptions) -> Result<Store, Error> {
        let opened = builder(options).create_with_backend(self.clone());
        opened.map(Store::writer).map_err(|error| crate::fault::fault("open ledger", "memory", error))
    }

    fn check_in_place(&self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    fn bytes(&self) -> Result<u64, Error> {
        Ok(self.lock().image.live.len() as u64)
    }

    fn contents(&self) -> Result<Box<dyn StorageBackend>, Error> {
        Ok(Box::new(Self::with(self.lock().image.live.clone())))
    }
}
