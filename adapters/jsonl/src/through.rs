//! File seams that change one thing of another and pass the rest on: for tests and measurements, which say what they change and
//! nothing else.

use crate::files::{Access, File, Files, Listed};
use crate::map::Mapped;
use burnlog_log::Timestamp;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// A file seam over another one.
pub trait FilesThrough: Send + Sync + fmt::Debug {
    /// Returns the one below.
    fn inner(&self) -> &dyn Files;
    /// As [`Files::open`].
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        self.inner().open(path, access)
    }
    /// As [`Files::now`].
    fn now(&self) -> Timestamp {
        self.inner().now()
    }
    /// As [`Files::random`].
    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        self.inner().random(out)
    }
}

impl<T: FilesThrough> Files for T {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        FilesThrough::open(self, path, access)
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        self.inner().list(folder)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        self.inner().create_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner().rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner().remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.inner().sync_folder(folder)
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        self.inner().map(path)
    }

    fn now(&self) -> Timestamp {
        FilesThrough::now(self)
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        FilesThrough::random(self, out)
    }

    fn pause(&self, duration: Duration) {
        self.inner().pause(duration);
    }
}

/// An open file over another one.
pub trait FileThrough: Send + Sync + fmt::Debug {
    /// Returns the one below.
    fn inner(&self) -> &dyn File;
    /// As [`File::write_at`].
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner().write_at(bytes, offset)
    }
    /// As [`File::set_bytes`].
    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.inner().set_bytes(bytes)
    }
    /// As [`File::sync`].
    fn sync(&self) -> io::Result<()> {
        self.inner().sync()
    }
}

impl<T: FileThrough> File for T {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner().read_at(out, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileThrough::write_at(self, bytes, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner().bytes()
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        FileThrough::set_bytes(self, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        FileThrough::sync(self)
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.inner().is_at(path)
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        self.inner().try_lock(exclusive)
    }

    fn unlock(&self) -> io::Result<()> {
        self.inner().unlock()
    }
}
