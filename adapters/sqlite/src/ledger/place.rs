//! The file: whether it can be a ledger, how it is made whole or not at all, how connections to it are set up.

use super::fault::Fail;
use super::options::{Durability, SqliteLedgerOptions};
use super::rows::State;
use super::schema::{FORMAT_VERSION, TABLES};
use burnlog_log::{Error, ErrorKind, LedgerId, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Small pages would cut a block into many; also what the projections want.
const PAGE_BYTES: u32 = 8192;
/// After so many pages in the log of changes, a commit brings them into the file.
const CHECKPOINT_PAGES: u32 = 2000;

/// Where a ledger is and how it is reached.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// The path, for people.
    pub(crate) name: String,
    /// What SQLite is told to open: the path, or a URL of it.
    target: PathBuf,
    flags: OpenFlags,
    /// Device and number of the file that was identified.
    file: Option<(u64, u64)>,
    pub(crate) options: SqliteLedgerOptions,
}

impl Place {
    /// Names the file at `path`. `Invalid` for a path that is not text.
    pub(crate) fn new(path: &Path, options: SqliteLedgerOptions) -> Result<Self> {
        let Some(name) = path.to_str() else {
            let message = "the path is not UTF-8; name another";
            return Err(Error::new(ErrorKind::Invalid, "open ledger", message).at(path.display()));
        };
        let access = if options.read_only {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        } else {
            OpenFlags::SQLITE_OPEN_READ_WRITE
        };
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            target: path.to_owned(),
            flags,
            file: None,
            options,
        })
    }

    fn refuse(&self, kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Error {
        Error::new(kind, operation, message).at(&self.name)
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(suffix);
        PathBuf::from(name)
    }

    /// Returns whether there is a file, or says why there cannot be a ledger.
    pub(crate) fn exists(&self) -> Result<bool> {
        let invalid = |message: &str| Err(self.refuse(ErrorKind::Invalid, "open ledger", message));
        match fs::metadata(&self.path) {
            Ok(found) if found.is_dir() => {
                invalid("this is a folder; a SQLite ledger is a file: name one inside it")
            }
            Ok(found) if found.len() == 0 => {
                invalid("the file is empty and so no ledger: remove it to have one made, or restore it")
            }
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                invalid("a part of the path is a file and not a folder")
            }
            Err(error) => Err(self
                .refuse(ErrorKind::Denied, "open ledger", "the path cannot be looked at")
                .caused_by(error)),
        }
    }

    /// Makes the file whole or not at all: it is prepared under another name. A file that somebody else makes
    /// meanwhile is left as it is.
    pub(crate) fn create(&self, id: LedgerId) -> Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            let message = format!("the folder {} is not there: make it first", folder.display());
            return Err(self.refuse(ErrorKind::NotFound, "create ledger", message));
        }
        if self.beside("-wal").metadata().is_ok_and(|log| log.len() > 0) {
            let message = "the log of changes of a ledger (-wal) lies here without its file: bring the file back, or remove the log";
            return Err(self.refuse(ErrorKind::Invalid, "create ledger", message));
        }
        let draft = self.beside(&format!(".{id}.new"));
        let result = fill(&draft, id)
            .map_err(|fail| fail.located("create ledger", &self.name))
            .and_then(|()| self.publish(folder, &draft));
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let mut name = draft.clone().into_os_string();
            name.push(suffix);
            let _ = fs::remove_file(name); // gone already where all went well
        }
        result
    }

    fn publish(&self, folder: &Path, draft: &Path) -> Result<()> {
        let failed = |error: io::Error| {
            let message = "the file of the ledger cannot be put in its place: check owner, mode and mount";
            self.refuse(ErrorKind::Denied, "create ledger", message).caused_by(error)
        };
        // A link fails where the name is taken; a rename would replace what another process has just made.
        match fs::hard_link(draft, &self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(_) if !self.path.exists() => fs::rename(draft, &self.path).map_err(failed)?,
            Err(error) => return Err(failed(error)),
        }
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }

    /// Reads the ledger's id, after its format. On a read-only file system the file is from now on read as one that
    /// nobody changes, if it was closed properly.
    pub(crate) fn identify(&mut self) -> Result<(LedgerId, Connection)> {
        self.file = self.file_there();
        match self.try_identify() {
            Err(error) if self.options.read_only && error.kind() == ErrorKind::Denied => {
                let Some(url) = crate::opening::unchanging(&self.path) else { return Err(error) };
                self.target = PathBuf::from(url);
                self.flags |= OpenFlags::SQLITE_OPEN_URI;
                self.try_identify()
            }
            result => result,
        }
    }

    /// `NotFound` where the file that was opened is not at its path any more. SQLite goes on writing into a file that was
    /// deleted, so that a batch would be acknowledged that nobody can ever read.
    pub(crate) fn check_in_place(&self, operation: &'static str) -> Result<()> {
        if self.file_there() == self.file {
            return Ok(());
        }
        let message = "the file was deleted, moved or replaced after it was opened, nothing was written: put it back, \
                       or open it again";
        Err(self.refuse(ErrorKind::NotFound, operation, message))
    }

    fn file_there(&self) -> Option<(u64, u64)> {
        fs::metadata(&self.path).ok().map(|found| (found.dev(), found.ino()))
    }

    fn try_identify(&self) -> Result<(LedgerId, Connection)> {
        let invalid = |message: &str| self.refuse(ErrorKind::Invalid, "open ledger", message);
        let located = |fail: Fail| fail.located("open ledger", &self.name);
        let connection = self.connect(false).map_err(|fail| match fail {
            Fail::Sqlite(error) if is_no_database(&error) => {
                invalid("this is not a SQLite database, or its first bytes were overwritten").caused_by(error)
            }
            fail => located(fail),
        })?;
        let tables = "SELECT count(*) FROM sqlite_schema WHERE name IN ('ledger_meta', 'ledger_events')";
        let tables: i64 =
            connection.query_row(tables, [], |row| row.get(0)).map_err(|error| located(error.into()))?;
        if tables != 2 {
            return Err(invalid("this is a SQLite database without a ledger: name another file"));
        }
        let format: Option<i64> = meta(&connection, "format").map_err(located)?;
        match format {
            Some(FORMAT_VERSION) => {}
            Some(newer) if newer > FORMAT_VERSION => {
                let message = format!(
                    "the ledger has format {newer}, this program reads {FORMAT_VERSION}: upgrade burnlog"
                );
                return Err(self.refuse(ErrorKind::Unsupported, "open ledger", message));
            }
            other => return Err(located(Fail::damaged(format!("the ledger has format {other:?}")))),
        }
        let id: Option<[u8; 16]> = meta(&connection, "id").map_err(located)?;
        let id = id.ok_or_else(|| located(Fail::damaged("the ledger has no id")))?;
        Ok((LedgerId(id), connection))
    }

    /// Opens a connection; a writing one cleans up after itself and waits for the disk.
    pub(crate) fn connect(&self, writes: bool) -> Result<Connection, Fail> {
        let connection = Connection::open_with_flags(&self.target, self.flags)?;
        connection.busy_timeout(self.options.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(64);
        connection.pragma_update(None, "cell_size_check", true)?;
        if !writes {
            connection.pragma_update(None, "query_only", true)?;
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
            return Ok(connection);
        }
        connection.pragma_update(None, "cache_size", -i64::from(self.options.cache_kib))?;
        let synchronous = match self.options.durability {
            Durability::Batch => "FULL",
            Durability::Os => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        pragma(&connection, "secure_delete = ON")?;
        pragma(&connection, &format!("wal_autocheckpoint = {CHECKPOINT_PAGES}"))?;
        Ok(connection)
    }

    /// Counts the bytes of the file and of the log of changes beside it.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        bytes(&self.path) + bytes(&self.beside("-wal"))
    }
}

/// Runs a pragma to its end; some answer with rows and work while they are read.
pub(crate) fn pragma(connection: &Connection, text: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare(&format!("PRAGMA {text}"))?;
    let mut rows = statement.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

fn is_no_database(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(rusqlite::ffi::ErrorCode::NotADatabase)
}

fn meta<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> Result<Option<T>, Fail> {
    let sql = "SELECT value FROM ledger_meta WHERE name = ?1";
    Ok(connection.query_row(sql, [name], |row| row.get(0)).optional()?)
}

/// Makes an empty ledger.
fn fill(draft: &Path, id: LedgerId) -> Result<(), Fail> {
    let mut connection = Connection::open(draft)?;
    // Before there is a table; later they would take a copy of the whole file.
    pragma(&connection, &format!("page_size = {PAGE_BYTES}"))?;
    pragma(&connection, "auto_vacuum = INCREMENTAL")?;
    pragma(&connection, "journal_mode = WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute("INSERT INTO ledger_meta VALUES ('format', ?1)", [FORMAT_VERSION])?;
    transaction.execute("INSERT INTO ledger_meta VALUES ('id', ?1)", [id.0])?;
    State::default().write(&transaction)?;
    transaction.commit()?;
    connection.close().map_err(|(_, error)| error)?;
    Ok(())
}
