//! Small files written whole: beside, synced, then renamed over, so that a reader sees the old or the new one, also after the
//! machine went off.

use burnlog_log::{Error, ErrorKind, Result, failpoint};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Turns an I/O error into one of ours, with the path and the next step where one is known.
pub(crate) fn io_error(operation: &'static str, path: &Path, error: io::Error) -> Error {
    let (kind, message) = match error.kind() {
        io::ErrorKind::NotFound => (ErrorKind::NotFound, "no such file or folder"),
        io::ErrorKind::PermissionDenied => (ErrorKind::Denied, "not allowed; check owner and mode"),
        io::ErrorKind::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "the file system is read-only; set RELAYBURN_HOME elsewhere")
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (ErrorKind::Unavailable, "the disk is full; free space and try again")
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            (ErrorKind::Invalid, "a file stands where a folder is needed; move it away")
        }
        io::ErrorKind::IsADirectory => {
            (ErrorKind::Invalid, "a folder stands where a file is needed; move it away")
        }
        _ => (ErrorKind::Unavailable, "the file system failed"),
    };
    Error::new(kind, operation, message).at(path.display()).caused_by(error)
}

/// Makes a folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| io_error("create folder", path, error))
}

/// Reads a file; `None` where there is none.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path, error)),
    }
}

/// Writes a file whole with mode 0600. If `durable`, the new one is there when this returns, whatever happens then; else a machine
/// that goes off may bring the old one back.
pub(crate) fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    let beside = path.with_extension(format!("new-{}", std::process::id()));
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        // A name may get to the disk before the bytes do, and a torn file would stop the next ingest.
        file.sync_all()?;
        failpoint("host-file-written");
        fs::rename(&beside, path)?;
        failpoint("host-file-renamed");
        match path.parent() {
            Some(folder) if durable => fs::File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(|error| {
        // Best effort: the error below is what matters.
        let _ = fs::remove_file(&beside);
        io_error("write", path, error)
    })
}
