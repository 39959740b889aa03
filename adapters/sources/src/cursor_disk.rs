//! The few calls that reach the disk for a cursor file, behind a seam: tests put one in their place that forgets what was not synced.
//! Knows nothing of cursors.

use crate::cursor_image::CursorImage;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The disk as far as cursors need it. Nothing is durable before [`CursorBytes::sync`], and a name never is for certain.
pub trait CursorDisk: fmt::Debug {
    /// Reads a whole file.
    fn read(&self, path: &Path) -> io::Result<CursorImage>;
    /// Opens a file for writing; makes an empty one where there is none.
    fn open(&self, path: &Path) -> io::Result<Box<dyn CursorBytes>>;
    /// Renames a file over whatever has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
}

/// A file that is open for writing.
pub trait CursorBytes: fmt::Debug {
    /// Returns the length.
    fn bytes(&self) -> io::Result<u64>;
    /// Cuts or extends the file.
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;
    /// Writes all of `bytes` at an offset. After an error any part of them may be there.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable, the length included.
    fn sync(&self) -> io::Result<()>;
}

/// The real disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemDisk {
    /// Whether only this process changes what it reads.
    pub(crate) is_alone: bool,
}

impl CursorDisk for SystemDisk {
    fn read(&self, path: &Path) -> io::Result<CursorImage> {
        if self.is_alone {
            CursorImage::map(&File::open(path)?)
        } else {
            fs::read(path).map(CursorImage::from)
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn CursorBytes>> {
        let file = File::options().write(true).create(true).truncate(false).open(path)?;
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
}

impl CursorBytes for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
