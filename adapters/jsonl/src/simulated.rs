//! An operating system in memory for crash tests. Each file and each folder has a *live* image, which the program sees,
//! and a *durable* one, to which only a sync brings what was written. A crash leaves the durable image and any subset
//! of the 4 KiB pages and names that were not synced. Compiled with the feature `faults`, for tests.

use crate::files::{Access, File, Files, Listed};
use crate::map::Mapped;
use burnlog_log::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const PAGE: usize = 4096;

/// What an operation changes; the kinds at which a fault can be put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Write,
    Sync,
    Cut,
    Other,
}

/// What goes wrong, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// From the n-th changing operation on nothing happens any more: the machine is off.
    Crash(u64),
    /// The n-th sync fails; the pages count as clean although they are not durable, as Linux does it.
    FailedSync(u64),
    /// The n-th write fails half way: the disk is full.
    FullDisk(u64),
    /// The n-th write fails half way, and what arrived of it cannot be cut off until something else was written.
    StuckDisk(u64),
}

#[derive(Debug, Clone, Default)]
struct Inode {
    live: Vec<u8>,
    durable: Vec<u8>,
    dirty: BTreeSet<usize>,
}

#[derive(Debug, Default, Clone)]
struct Disk {
    inodes: Vec<Inode>,
    folders: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    durable_names: BTreeMap<PathBuf, usize>,
    /// Who holds which lock: inode and handle to exclusive or not.
    locks: BTreeMap<(usize, u64), bool>,
    handles: u64,
    random: u64,
    changes: u64,
    syncs: u64,
    writes: u64,
    fault: Option<Fault>,
    paused: Duration,
}

/// The simulated system. Clones share the disk.
#[derive(Debug, Clone, Default)]
pub struct Simulated(Arc<Mutex<Disk>>);

#[derive(Debug)]
struct Handle {
    system: Simulated,
    inode: usize,
    number: u64,
    writable: bool,
}

fn gone() -> io::Error {
    io::Error::other("the machine is off")
}

impl Disk {
    fn random(&mut self) -> u64 {
        // xorshift64*: deterministic, so that every failing case can be run again.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Counts an operation that changes something, and fails it where that is asked for.
    fn change(&mut self, operation: Operation) -> io::Result<()> {
        self.changes += 1;
        self.writes += u64::from(operation == Operation::Write);
        self.syncs += u64::from(operation == Operation::Sync);
        match self.fault {
            Some(Fault::Crash(at)) if self.changes >= at => Err(gone()),
            Some(Fault::FailedSync(at)) if operation == Operation::Sync && self.syncs == at => {
                Err(io::Error::other("injected: the sync failed"))
            }
            Some(Fault::FullDisk(at)) if operation == Operation::Write && self.writes == at => {
                Err(io::ErrorKind::StorageFull.into())
            }
            Some(Fault::StuckDisk(at))
                if matches!(operation, Operation::Write | Operation::Cut) && self.writes == at =>
            {
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn mark(&mut self, inode: usize, from: usize, to: usize) {
        self.inodes[inode].dirty.extend(from / PAGE..=to.saturating_sub(1).max(from) / PAGE);
    }
}

impl Simulated {
    /// Makes an empty system; the seed decides what a crash leaves.
    pub fn new(seed: u64) -> Self {
        let disk = Disk { random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1, ..Disk::default() };
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Returns the system with a fault to come.
    #[must_use]
    pub fn with_fault(self, fault: Fault) -> Self {
        self.disk().fault = Some(fault);
        self
    }

    /// Sets the fault to come, or none.
    pub fn set_fault(&self, fault: Option<Fault>) {
        self.disk().fault = fault;
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many operations of each kind there were: all changing ones, syncs, writes.
    pub fn counts(&self) -> (u64, u64, u64) {
        let disk = self.disk();
        (disk.changes, disk.syncs, disk.writes)
    }

    /// How long locks were waited for.
    pub fn paused(&self) -> Duration {
        self.disk().paused
    }

    /// Returns the system as it is found after the machine was switched off and on.
    #[must_use]
    pub fn after_crash(&self) -> Self {
        let mut disk = self.disk();
        let mut after = Disk { folders: disk.folders.clone(), random: disk.random() | 1, ..Disk::default() };
        let all: BTreeSet<PathBuf> = disk.names.keys().chain(disk.durable_names.keys()).cloned().collect();
        for path in all {
            let (live, durable) = (disk.names.get(&path).copied(), disk.durable_names.get(&path).copied());
            let kept = if live == durable || disk.random().is_multiple_of(2) { live } else { durable };
            let Some(inode) = kept else { continue };
            let inode = disk.inodes[inode].clone();
            let mut bytes = inode.durable.clone();
            if disk.random().is_multiple_of(2) {
                bytes.resize(inode.live.len(), 0);
            }
            for page in inode.dirty {
                let range = page * PAGE..((page + 1) * PAGE).min(inode.live.len()).min(bytes.len());
                if disk.random().is_multiple_of(2) && range.start < range.end {
                    bytes[range.clone()].copy_from_slice(&inode.live[range]);
                }
            }
            after.names.insert(path.clone(), after.inodes.len());
            after.durable_names.insert(path, after.inodes.len());
            after.inodes.push(Inode { live: bytes.clone(), durable: bytes, dirty: BTreeSet::new() });
        }
        Self(Arc::new(Mutex::new(after)))
    }

    /// Returns a system of its own that is as this one is now, locks left out.
    #[must_use]
    pub fn copy(&self) -> Self {
        let disk = Disk { locks: BTreeMap::new(), ..self.disk().clone() };
        Self(Arc::new(Mutex::new(disk)))
    }

    /// Ends all locks, as the death of the processes that hold them does.
    pub fn release_all_locks(&self) {
        self.disk().locks.clear();
    }

    /// Returns the live bytes of a file.
    pub fn bytes_of(&self, path: &Path) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(path).map(|inode| disk.inodes[*inode].live.clone())
    }

    /// Replaces the bytes of a file, or makes it.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut disk = self.disk();
        let inode = disk.inodes.len();
        disk.inodes.push(Inode { live: bytes.to_vec(), durable: bytes.to_vec(), dirty: BTreeSet::new() });
        disk.names.insert(path.to_path_buf(), inode);
        disk.durable_names.insert(path.to_path_buf(), inode);
    }

    /// Removes a folder's files, as a person might.
    pub fn remove_folder(&self, folder: &Path) {
        let mut disk = self.disk();
        disk.names.retain(|path, _| path.parent() != Some(folder));
        disk.durable_names.retain(|path, _| path.parent() != Some(folder));
    }

    /// Returns all paths.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.disk().names.keys().cloned().collect()
    }
}

impl Files for Simulated {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut disk = self.disk();
        let found = disk.names.get(path).copied();
        let inode = match (found, access) {
            (Some(_), Access::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, Access::Read | Access::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, Access::CreateNew | Access::WriteOrCreate) => {
                if !path.parent().is_some_and(|folder| disk.folders.contains(folder)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                disk.change(Operation::Other)?;
                let inode = disk.inodes.len();
                disk.inodes.push(Inode::default());
                disk.names.insert(path.to_path_buf(), inode);
                inode
            }
        };
        disk.handles += 1;
        let (number, writable) = (disk.handles, access != Access::Read);
        Ok(Arc::new(Handle { system: self.clone(), inode, number, writable }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        let disk = self.disk();
        if !disk.folders.contains(folder) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let files =
            disk.names.iter().filter(|(path, _)| path.parent() == Some(folder)).map(|(path, inode)| Listed {
                name: name(path),
                bytes: disk.inodes[*inode].live.len() as u64,
                is_folder: false,
            });
        let folders = disk.folders.iter().filter(|path| path.parent() == Some(folder));
        let folders = folders.map(|path| Listed { name: name(path), bytes: 0, is_folder: true });
        Ok(files.chain(folders).collect())
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        if !disk.folders.contains(folder) {
            disk.change(Operation::Other)?;
            disk.folders.extend(folder.ancestors().map(Path::to_path_buf));
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change(Operation::Other)?;
        let inode = disk.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        disk.names.insert(to.to_path_buf(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change(Operation::Other)?;
        disk.names.remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.change(Operation::Sync)?;
        let in_folder = |path: &Path| path.parent() == Some(folder);
        disk.durable_names.retain(|path, _| !in_folder(path));
        let names: Vec<_> = disk
            .names
            .iter()
            .filter(|(path, _)| in_folder(path))
            .map(|(path, inode)| (path.clone(), *inode))
            .collect();
        disk.durable_names.extend(names);
        Ok(())
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        let bytes = self.bytes_of(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Mapped::of_bytes(bytes))
    }

    fn now(&self) -> Timestamp {
        // A clock that only moves when somebody looks at it.
        let mut disk = self.disk();
        disk.handles += 1;
        Timestamp::from_micros(1_770_889_060_000_000 + disk.handles as i64 * 1_000_000)
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        let mut disk = self.disk();
        for byte in out {
            *byte = (disk.random() >> 56) as u8;
        }
        Ok(())
    }

    fn pause(&self, duration: Duration) {
        self.disk().paused += duration;
    }
}

impl File for Handle {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let disk = self.system.disk();
        let live = &disk.inodes[self.inode].live;
        let from = (offset as usize).min(live.len());
        let count = out.len().min(live.len() - from);
        out[..count].copy_from_slice(&live[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut disk = self.system.disk();
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let result = disk.change(Operation::Write);
        // A failing write leaves any part of itself behind, unless the machine was off before it began.
        let arrived = match disk.fault {
            _ if result.is_ok() => bytes.len(),
            Some(Fault::Crash(at)) if disk.changes > at => 0,
            _ => (disk.random() as usize) % (bytes.len() + 1),
        };
        let (from, to) = (offset as usize, offset as usize + arrived);
        if arrived > 0 {
            let live = &mut disk.inodes[self.inode].live;
            live.resize(live.len().max(to), 0);
            live[from..to].copy_from_slice(&bytes[..arrived]);
            disk.mark(self.inode, from, to);
        }
        result
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.system.disk().inodes[self.inode].live.len() as u64)
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        let mut disk = self.system.disk();
        disk.change(Operation::Cut)?;
        let before = disk.inodes[self.inode].live.len();
        disk.inodes[self.inode].live.resize(bytes as usize, 0);
        disk.mark(self.inode, before.min(bytes as usize), before.max(bytes as usize));
        Ok(())
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        Ok(self.system.disk().names.get(path) == Some(&self.inode))
    }

    fn sync(&self) -> io::Result<()> {
        let mut disk = self.system.disk();
        let result = disk.change(Operation::Sync);
        let is_off = matches!(disk.fault, Some(Fault::Crash(_))) && result.is_err();
        let inode = &mut disk.inodes[self.inode];
        if is_off {
            return result;
        }
        let dirty = std::mem::take(&mut inode.dirty);
        if result.is_ok() {
            inode.durable.resize(inode.live.len(), 0);
            for page in dirty {
                let range = page * PAGE..((page + 1) * PAGE).min(inode.live.len());
                if range.start < range.end {
                    inode.durable[range.clone()].copy_from_slice(&inode.live[range]);
                }
            }
        }
        result
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        let mut disk = self.system.disk();
        let is_taken = disk.locks.iter().any(|((inode, handle), other)| {
            *inode == self.inode && *handle != self.number && (exclusive || *other)
        });
        if !is_taken {
            disk.locks.insert((self.inode, self.number), exclusive);
        }
        Ok(!is_taken)
    }

    fn unlock(&self) -> io::Result<()> {
        self.system.disk().locks.remove(&(self.inode, self.number));
        Ok(())
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.system.disk().locks.remove(&(self.inode, self.number));
    }
}
