//! The few calls that reach the file system, behind a seam: tests put a file that vanishes, grows or fails to
//! read in its place. Knows nothing of sessions.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What tells one state of a file from another without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct FileStat {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    /// Nanoseconds since the epoch, as the file system tells them.
    pub(crate) modified_ns: i64,
    pub(crate) changed_ns: i64,
    pub(crate) kind: FileKind,
}

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) enum FileKind {
    File,
    Folder,
    /// A symbolic link, where links are not followed.
    Link,
    /// A pipe, a socket, a device: reading one could block for ever.
    Other,
}

impl From<std::fs::FileType> for FileKind {
    fn from(kind: std::fs::FileType) -> Self {
        if kind.is_file() {
            Self::File
        } else if kind.is_dir() {
            Self::Folder
        } else if kind.is_symlink() {
            Self::Link
        } else {
            Self::Other
        }
    }
}

/// What a folder holds: names in the order of the file system, and the error that ended the listing early.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) entries: Vec<(OsString, FileKind)>,
    pub(crate) error: Option<io::Error>,
}

/// The file system as this crate sees it.
pub(crate) trait Files {
    /// Resolves links and relative parts of the whole path.
    fn canonical(&self, path: &Path) -> io::Result<PathBuf>;
    /// Follows links.
    fn stat(&self, path: &Path) -> io::Result<FileStat>;
    /// Does not follow links.
    fn list(&self, path: &Path) -> io::Result<Listing>;
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
}

/// An open file. Its stat is that of what is open, whatever the path leads to by now.
pub(crate) trait OpenFile: Read + Seek {
    fn stat(&self) -> io::Result<FileStat>;
}

/// The operating system's files.
pub(crate) struct OsFiles;

impl Files for OsFiles {
    fn canonical(&self, path: &Path) -> io::Result<PathBuf> {
        std::fs::canonicalize(path)
    }

    fn stat(&self, path: &Path) -> io::Result<FileStat> {
        Ok(stat_of(&std::fs::metadata(path)?))
    }

    fn list(&self, path: &Path) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for entry in std::fs::read_dir(path)? {
            match entry.and_then(|entry| Ok((entry.file_name(), entry.file_type()?.into()))) {
                Ok(entry) => listing.entries.push(entry),
                Err(error) => {
                    listing.error = Some(error);
                    break;
                }
            }
        }
        Ok(listing)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(File::open(path)?))
    }
}

impl OpenFile for File {
    fn stat(&self) -> io::Result<FileStat> {
        Ok(stat_of(&self.metadata()?))
    }
}

fn stat_of(metadata: &std::fs::Metadata) -> FileStat {
    let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
    FileStat {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        changed_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        kind: metadata.file_type().into(),
    }
}

/// Makes the error for a failed call, with the kind that fits what the system said.
pub(crate) fn io_error(operation: &'static str, path: &Path, error: io::Error) -> burnlog_log::Error {
    use burnlog_log::{Error, ErrorKind};
    let (kind, message) = match error.kind() {
        io::ErrorKind::NotFound => {
            (ErrorKind::NotFound, "it is not there (any more); of a link: what it names is gone")
        }
        io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "not allowed to; check its owner and mode"),
        io::ErrorKind::IsADirectory => {
            (ErrorKind::Invalid, "a folder stands where a file is expected; move it away")
        }
        io::ErrorKind::NotADirectory => {
            (ErrorKind::Invalid, "a file stands where a folder is expected; move it away")
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "the file system is read-only; set RELAYBURN_HOME elsewhere")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Unavailable, "the disk is full; free space and try again")
        }
        _ => (ErrorKind::Unavailable, "the system refused; the next ingest tries again"),
    };
    Error::new(kind, operation, message).at(path.display()).caused_by(error)
}
