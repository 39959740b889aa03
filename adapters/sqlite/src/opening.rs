//! Opening a file: which one a name means, setting up the connection, and the store's own records in a new one.

use crate::building::Building;
use crate::convert::Located;
use crate::names::{NameIds, NameTexts};
use crate::numbered;
use crate::schema;
use burnlog_log::{Error, ErrorKind, Result};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The size of a page. Each of some forty trees ends in a page that is not full, so half the size saves 0.6 MB; but a first ingest of a dense
/// set (86 MB of rows) then takes 3 % more and a rebuild 8 %, for the calls.
const PAGE_BYTES: u32 = 8192;
/// Pages of the log from which on a commit brings them into the file: such pages change at each commit, and need not be
/// brought in each time.
const CHECKPOINT_PAGES: u32 = 8192;
/// How often a name is looked at again that meanwhile means another file.
const ATTEMPTS_MAX: u32 = 8;

/// How a file is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Only for queries: nothing is written, and a missing file is `NotFound`.
    pub read_only: bool,
    /// How long another process's transaction is waited for.
    pub busy_timeout: Duration,
    /// The memory for pages, in KiB.
    pub cache_kib: u32,
    /// Whether a file that is missing is built beside its name, which is a link to it from then on.
    pub linked: bool,
    /// How long a first file is built before its rows are shown as far as they are.
    pub unshown_max: Duration,
}

impl Default for SqliteOptions {
    /// Writable; 10 s; 8 MiB; in its place; 10 s.
    fn default() -> Self {
        let busy_timeout = Duration::from_secs(10);
        Self { read_only: false, busy_timeout, cache_kib: 8 << 10, linked: false, unshown_max: busy_timeout }
    }
}

/// Projections in a SQLite file.
#[derive(Debug)]
pub struct SqliteProjections {
    pub(crate) connection: Connection,
    /// The name under which it was opened.
    pub(crate) place: String,
    /// The file that the name meant then.
    pub(crate) file: PathBuf,
    pub(crate) building: Option<Building>,
    pub(crate) options: SqliteOptions,
    pub(crate) names: NameIds,
    pub(crate) texts: NameTexts,
    /// Whether there is a ledger in the file.
    pub(crate) keeps_previews: bool,
}

impl SqliteProjections {
    /// Opens the file, which is made if it is missing and may be written.
    ///
    /// `Corrupt` when it is damaged or no projections: delete it and fold again. `Unsupported` when a newer program
    /// made it, `NotFound` when it is missing and only to be read.
    pub fn open(path: &Path, options: &SqliteOptions) -> Result<Self> {
        if path.is_dir() {
            let message = "a folder stands where the file of the projections belongs; move it away";
            return Err(Error::new(ErrorKind::Invalid, "open projections", message).at(path.display()));
        }
        let access = if options.read_only {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        } else {
            OpenFlags::SQLITE_OPEN_READ_WRITE
        };
        let mut attempt = 0;
        loop {
            let found = numbered::file_of(path);
            let opened = match &found {
                Some((file, _)) => Self::open_found(file, path, access, options),
                None if options.read_only => {
                    let message = "nothing was folded yet; run ingest or project rebuild";
                    Err(Error::new(ErrorKind::NotFound, "open projections", message).at(path.display()))
                }
                None => match Some(path).filter(|_| options.linked).and_then(Building::begin) {
                    Some(building) => Self::open_building(path, building, options),
                    None => Self::open_as(path, path, access | OpenFlags::SQLITE_OPEN_CREATE, options, None),
                },
            };
            // Another may have been put in its place in between, and this one be gone.
            attempt += 1;
            if opened.is_ok() || attempt == ATTEMPTS_MAX || numbered::file_of(path) == found {
                return opened;
            }
        }
    }

    fn open_found(file: &Path, path: &Path, access: OpenFlags, options: &SqliteOptions) -> Result<Self> {
        match Self::open_as(file, path, access, options, None) {
            Err(error) if options.read_only && error.kind() == ErrorKind::Denied => match unchanging(file) {
                Some(url) => {
                    let access = access | OpenFlags::SQLITE_OPEN_URI;
                    let mut opened = Self::open_as(Path::new(&url), path, access, options, None)?;
                    file.clone_into(&mut opened.file);
                    Ok(opened)
                }
                None => Err(error),
            },
            result => result,
        }
    }

    /// Opens a file by the name that SQLite is given; `path` is what it is called.
    pub(crate) fn open_as(
        file: &Path,
        path: &Path,
        access: OpenFlags,
        options: &SqliteOptions,
        building: Option<Building>,
    ) -> Result<Self> {
        let place = path.display().to_string();
        let mut connection = Connection::open_with_flags(file, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .located("open projections", &place)?;
        prepare(&mut connection, options, building.is_some()).located("open projections", &place)?;
        let keeps_previews = has_ledger(&connection);
        let (names, texts) = (NameIds::default(), NameTexts::default());
        let (file, options) = (file.to_owned(), options.clone());
        let store = Self { connection, place, file, building, options, names, texts, keeps_previews };
        store.check_version()?;
        Ok(store)
    }

    /// Opens the file that the name means by now, where another was put in its place.
    pub(crate) fn follow(&mut self) -> Result<()> {
        if self.has_lost_its_name() {
            let options = self.options.clone();
            *self = Self::open(&PathBuf::from(&self.place), &options)?;
            numbered::sweep(Path::new(&self.place));
        }
        Ok(())
    }

    fn check_version(&self) -> Result<()> {
        let version: Option<i64> = self
            .connection
            .query_row("SELECT value FROM projections_meta WHERE name = 'store_version'", [], |row| {
                row.get(0)
            })
            .optional()
            .map_err(|error| {
                if error.sqlite_error_code() == Some(rusqlite::ffi::ErrorCode::CannotOpen) {
                    return crate::convert::failed("open projections", &self.place, error);
                }
                if self.keeps_previews && is_without_projections(&self.connection).unwrap_or(false) {
                    let message = "nothing was folded yet; run ingest or project rebuild";
                    return Error::new(ErrorKind::NotFound, "open projections", message).at(&self.place);
                }
                let message = "this is a database, but not of projections; name another file or delete it";
                Error::new(ErrorKind::Corrupt, "open projections", message).at(&self.place).caused_by(error)
            })?;
        match version {
            Some(schema::STORE_VERSION) => Ok(()),
            Some(newer) if newer > schema::STORE_VERSION => {
                let message = format!(
                    "the file has version {newer}, this program reads {}; upgrade burnlog",
                    schema::STORE_VERSION
                );
                Err(Error::new(ErrorKind::Unsupported, "open projections", message).at(&self.place))
            }
            other => {
                let message = format!(
                    "the file has version {other:?}; if no ledger is in it, delete it and run project rebuild"
                );
                Err(Error::new(ErrorKind::Corrupt, "open projections", message).at(&self.place))
            }
        }
    }
}

/// The URL under which a file is read as one that nobody changes, without the files that SQLite makes beside it: for a
/// read-only file system. `None` where a log of changes lies beside the file, which would be ignored, or where a
/// path is not text.
pub(crate) fn unchanging(path: &Path) -> Option<String> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    if std::fs::metadata(log).is_ok_and(|log| log.len() > 0) {
        return None;
    }
    let mut url = "file:".to_owned();
    for byte in path.to_str()?.bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => url.push(byte.into()),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    Some(url + "?immutable=1")
}

/// Sets the connection up and makes the store's own records in a new file.
fn prepare(connection: &mut Connection, options: &SqliteOptions, is_built: bool) -> rusqlite::Result<()> {
    connection.busy_timeout(options.busy_timeout)?;
    connection.set_prepared_statement_cache_capacity(128);
    connection.pragma_update(None, "cache_size", -i64::from(options.cache_kib))?;
    if options.read_only {
        return Ok(());
    }
    let is_new = is_without_projections(connection)?;
    if is_new {
        // Both stay as they are where a ledger is in the file already.
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        if is_built {
            Building::prepare(connection)?;
        } else {
            connection.pragma_update(None, "journal_mode", "WAL")?;
        }
    }
    if has_ledger(connection) {
        // Its texts begin in rows of ours, and what was erased is to be gone.
        connection.pragma_update(None, "secure_delete", "ON")?;
    }
    if !is_built {
        connection.pragma_update(None, "synchronous", "NORMAL")?;
    }
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
    if is_new {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been first.
        if is_without_projections(&transaction)? {
            transaction.execute_batch(schema::STORE)?;
            let version = ("store_version", schema::STORE_VERSION);
            transaction.execute("INSERT INTO projections_meta (name, value) VALUES (?1, ?2)", version)?;
        }
        transaction.commit()?;
    }
    Ok(())
}

/// Whether there is nothing in the file, or a ledger alone.
fn is_without_projections(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*) = 0 FROM sqlite_schema WHERE tbl_name NOT GLOB 'ledger_*'";
    connection.query_row(sql, [], |row| row.get(0))
}

/// Whether there is a ledger in the file.
fn has_ledger(connection: &Connection) -> bool {
    let sql = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'ledger_meta'";
    connection.query_row(sql, [], |row| row.get(0)).unwrap_or(false)
}
