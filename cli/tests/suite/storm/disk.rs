//! The simulated disk of the ledger as the disk of the cursors.

use burnlog_jsonl::{Access, File, Files, Simulated};
use burnlog_sources::{CursorBytes, CursorDisk, CursorImage};
use std::io;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct CursorsOn(pub(super) Simulated);

#[derive(Debug)]
struct Opened(Arc<dyn File>);

impl CursorDisk for CursorsOn {
    fn read(&self, path: &Path) -> io::Result<CursorImage> {
        self.0.bytes_of(path).map(CursorImage::from).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn CursorBytes>> {
        Ok(Box::new(Opened(self.0.open(path, Access::WriteOrCreate)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }
}

impl CursorBytes for Opened {
    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.0.set_bytes(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }
}
