//! The seam to the operating system: files, folders, locks, the clock and random bytes. Everything that can fail
//! or crash goes through here, so that tests can make it fail. Knows nothing of what the files hold.

use crate::map::Mapped;
use burnlog_log::{Error, ErrorKind, Timestamp};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; made when it does not exist.
    WriteOrCreate,
    /// For reading and writing; it must not exist.
    CreateNew,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The name, without the folder.
    pub name: String,
    /// The length in bytes; 0 for a folder.
    pub bytes: u64,
    /// Whether it is a folder.
    pub is_folder: bool,
}

/// The operating system, as far as this backend uses it.
///
/// A write is in the *live* image when `write_at` returns and durable when [`File::sync`] does; a name is durable after
/// [`Files::sync_folder`]. Nothing here retries.
pub trait Files: Send + Sync + fmt::Debug {
    /// Opens a file.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;
    /// Lists a folder, in no order.
    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>>;
    /// Makes a folder and those above it; an existing one is fine.
    fn create_folder(&self, folder: &Path) -> io::Result<()>;
    /// Renames a file over whatever has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Open handles go on reading it.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Maps a whole file that nobody changes any more, or reads it.
    fn map(&self, path: &Path) -> io::Result<Mapped>;
    /// Reads the clock.
    fn now(&self) -> Timestamp;
    /// Fills `out` with random bytes.
    fn random(&self, out: &mut [u8]) -> io::Result<()>;
    /// Waits before a lock is tried again.
    fn pause(&self, duration: Duration);
}

/// An open file. Locks belong to the handle and end with it.
pub trait File: Send + Sync + fmt::Debug {
    /// Reads at an offset; fewer bytes than asked for, or none, at the end.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at an offset. After an error any part of them may be there.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Returns the length.
    fn bytes(&self) -> io::Result<u64>;
    /// Cuts or extends the file.
    fn set_bytes(&self, bytes: u64) -> io::Result<()>;
    /// Makes what was written durable, the length included.
    fn sync(&self) -> io::Result<()>;
    /// Whether the path still leads to this file: it was not removed, moved or replaced.
    fn is_at(&self, path: &Path) -> io::Result<bool>;
    /// Takes the lock unless another handle has it; tells whether it did.
    fn try_lock(&self, exclusive: bool) -> io::Result<bool>;
    /// Gives the lock back.
    fn unlock(&self) -> io::Result<()>;
}

/// The real operating system.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemFiles;

#[derive(Debug)]
struct SystemFile(fs::File);

impl Files for SystemFiles {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match access {
            Access::Read => {}
            Access::Write => drop(options.write(true)),
            Access::WriteOrCreate => drop(options.write(true).create(true).truncate(false)),
            Access::CreateNew => drop(options.write(true).create_new(true)),
        }
        Ok(Arc::new(SystemFile(options.open(path)?)))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        let mut listed = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // A file that another process removed meanwhile is no longer part of the answer.
            let Ok(metadata) = fs::metadata(entry.path()) else { continue };
            let is_folder = metadata.is_dir();
            let bytes = if is_folder { 0 } else { metadata.len() };
            listed.push(Listed { name: entry.file_name().to_string_lossy().into_owned(), bytes, is_folder });
        }
        Ok(listed)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        fs::create_dir_all(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        fs::File::open(folder)?.sync_all()
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        Mapped::of_file(&fs::File::open(path)?)
    }

    fn now(&self) -> Timestamp {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
        };
        Timestamp::from_micros(micros)
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        getrandom::fill(out).map_err(|error| io::Error::other(error.to_string()))
    }

    fn pause(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}

impl File for SystemFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.0.read_at(out, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let own = self.0.metadata()?;
        match fs::metadata(path) {
            Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        let result = if exclusive { self.0.try_lock() } else { self.0.try_lock_shared() };
        match result {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self) -> io::Result<()> {
        self.0.unlock()
    }
}

/// Reads up to `length` bytes at `offset`; fewer where the file ends before.
pub(crate) fn read_range(file: &dyn File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let filled = fill_range(file, offset, &mut bytes)?;
    bytes.truncate(filled);
    Ok(bytes)
}

/// Reads into memory that is there, less where the file ends before; returns how much.
pub(crate) fn fill_range(file: &dyn File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

/// Reads a whole file.
pub(crate) fn read_file(files: &dyn Files, path: &Path) -> io::Result<Vec<u8>> {
    let file = files.open(path, Access::Read)?;
    read_range(&*file, 0, file.bytes()? as usize)
}

/// Turns an error of the operating system into one of ours: denied access is `Denied`, what has the wrong form `Invalid`,
/// anything else `Unavailable`.
pub(crate) fn io_error(operation: &'static str, place: impl fmt::Display, error: io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            (ErrorKind::Denied, "no permission; check the owner and mode of the ledger's folder")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "the file system is read-only; keep the ledger where it can be written")
        }
        io::ErrorKind::IsADirectory => {
            (ErrorKind::Invalid, "a folder stands where a file of the ledger belongs; move it away")
        }
        io::ErrorKind::NotADirectory => {
            (ErrorKind::Invalid, "a file stands where a folder of the ledger belongs; move it away")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Unavailable, "the disk is full; free space and try again")
        }
        io::ErrorKind::Unsupported => (ErrorKind::Unsupported, "made by a newer version; upgrade burnlog"),
        io::ErrorKind::InvalidData => (ErrorKind::Corrupt, "the file is not what it should be; run `verify`"),
        _ => (ErrorKind::Unavailable, "the file system refused"),
    };
    Error::new(kind, operation, message).at(place).caused_by(error)
}
