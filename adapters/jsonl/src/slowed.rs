//! A file seam as on a slower disk, for measurements: its syncs of active segments take longer, and are counted.

use crate::files::{Access, File, Files, Listed, SystemFiles};
use crate::map::Mapped;
use burnlog_log::Timestamp;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The operating system with slower syncs of active segments, which are counted.
#[derive(Debug, Clone)]
pub struct Slowed {
    delay: Duration,
    syncs: Arc<AtomicU64>,
}

impl Slowed {
    /// Makes each sync take so much longer.
    pub fn new(delay: Duration) -> Self {
        Self { delay, syncs: Arc::default() }
    }

    /// Returns how many syncs there were, all clones together.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
struct SlowedFile {
    inner: Arc<dyn File>,
    /// `None` for files that are no segments.
    slowed: Option<Slowed>,
}

impl Files for Slowed {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let inner = SystemFiles.open(path, access)?;
        let is_segment = path.extension().is_some_and(|ending| ending == "jsonl");
        Ok(Arc::new(SlowedFile { inner, slowed: is_segment.then(|| self.clone()) }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        SystemFiles.list(folder)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        SystemFiles.create_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemFiles.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        SystemFiles.sync_folder(folder)
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        SystemFiles.map(path)
    }

    fn now(&self) -> Timestamp {
        SystemFiles.now()
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        SystemFiles.random(out)
    }

    fn pause(&self, duration: Duration) {
        SystemFiles.pause(duration);
    }
}

impl File for SlowedFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(out, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_bytes(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        if let Some(Slowed { delay, syncs }) = &self.slowed {
            syncs.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(*delay);
        }
        self.inner.sync()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.inner.is_at(path)
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        self.inner.try_lock(exclusive)
    }

    fn unlock(&self) -> io::Result<()> {
        self.inner.unlock()
    }
}
