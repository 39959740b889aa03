//! Which file a name of projections means. Where a file may be built beside its name, the name is a link to a file whose
//! name ends with a number, and one that is built takes the place of another by a new link.
//!
//! SQLite finds the log of a file by the name of the file, so no name is used for two files: whoever still has the one
//! before open goes on with a log of its own until it notices.

use rusqlite::ffi::ErrorCode::{DatabaseCorrupt, NotADatabase};
use rusqlite::{Connection, OpenFlags};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What SQLite keeps beside a file.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn folder_of(name: &Path) -> &Path {
    name.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the file that a name means, and whether it is a numbered one; nothing where none is there.
pub(crate) fn file_of(name: &Path) -> Option<(PathBuf, bool)> {
    match fs::read_link(name) {
        Ok(target) => {
            let is_numbered = target.parent() == Some(Path::new("")) && number_of(name, &target).is_some();
            let file = folder_of(name).join(target);
            file.exists().then_some((file, is_numbered))
        }
        Err(_) => name.exists().then(|| (name.to_owned(), false)),
    }
}

/// Returns the number at the end of the name of a file of the projections called `name`.
fn number_of(name: &Path, file: &Path) -> Option<u64> {
    let (name, file) = (name.file_name()?.to_str()?, file.file_name()?.to_str()?);
    file.strip_prefix(name)?.strip_prefix('.')?.parse().ok()
}

/// Makes an empty file to build in: its number is the moment, in microseconds since 1970. Fails also where the folder
/// takes no links.
pub(crate) fn create(name: &Path) -> io::Result<PathBuf> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let mut number = since.as_micros();
    loop {
        let file = with_suffix(name, &format!(".{number}"));
        match OpenOptions::new().write(true).create_new(true).open(&file) {
            Ok(_) => {
                let tried = try_link(&file);
                if tried.is_err() {
                    let _ = fs::remove_file(&file);
                }
                return tried.map(|()| file);
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// The link to a file before it has its name.
fn link_beside(file: &Path) -> PathBuf {
    with_suffix(file, "-link")
}

#[cfg(unix)]
fn make_link(file: &Path) -> io::Result<PathBuf> {
    let link = link_beside(file);
    let target: OsString = file.file_name().unwrap_or_default().to_owned();
    std::os::unix::fs::symlink(target, &link)?;
    Ok(link)
}

#[cfg(not(unix))]
fn make_link(_: &Path) -> io::Result<PathBuf> {
    Err(ErrorKind::Unsupported.into())
}

fn try_link(file: &Path) -> io::Result<()> {
    fs::remove_file(make_link(file)?)
}

/// Makes a name mean this file from now on, durably.
pub(crate) fn link(name: &Path, file: &Path) -> io::Result<()> {
    fs::rename(make_link(file)?, name)?;
    File::open(folder_of(name))?.sync_all()
}

/// Removes the numbered files that the name does not mean and that nobody has open: those from before, and those that
/// were never finished.
pub(crate) fn sweep(name: &Path) {
    let meant = file_of(name).map(|(file, _)| file);
    let Ok(entries) = fs::read_dir(folder_of(name)) else { return };
    for file in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let is_other = meant.as_ref().is_none_or(|meant| meant.file_name() != file.file_name());
        if is_other && number_of(name, &file).is_some() && is_left(&file) {
            remove(&file);
        }
    }
}

/// Removes a file with what SQLite keeps beside it.
pub(crate) fn remove(file: &Path) {
    for path in [file.to_owned(), link_beside(file)].into_iter().chain(BESIDE.map(|it| with_suffix(file, it)))
    {
        let _ = fs::remove_file(path);
    }
}

/// Whether nobody has a file open. Who begins to build has an empty one for a moment, so those count as open.
fn is_left(file: &Path) -> bool {
    if fs::metadata(file).map_or(true, |found| found.len() == 0) {
        return false;
    }
    let alone = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        // A file with a log of changes leaves it only where this connection is the only one.
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get(0))?;
        connection.execute_batch("BEGIN EXCLUSIVE")?;
        Ok(mode == "delete")
    };
    alone().unwrap_or_else(|error: rusqlite::Error| {
        matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
    })
}
