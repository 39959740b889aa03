//! The file: opening, generations, commits. One connection each; several processes may hold the file, one writes.

use crate::building::Building;
use crate::convert::{Bound, Located};
use crate::generations::{drop_generation, show, states, tables};
use crate::lease;
use crate::names::{NameIds, NameTexts};
use crate::numbered;
use crate::schema;
use crate::statements;
use crate::transaction::{Reading, SqliteTransaction, cursor};
use burnlog_log::{Error, ErrorKind, LedgerId, Result, WriterId, failpoint};
use burnlog_projections::{
    FeedCursor, FoldStore, FoldTransaction, Generation, Lease, Leasing, Promotion, RowReader, StoreState,
    Table, Value, Values, check_keys,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior, params};
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
    names: NameIds,
    texts: NameTexts,
    /// Whether there is a ledger in the file.
    keeps_previews: bool,
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
    fn follow(&mut self) -> Result<()> {
        if self.has_lost_its_name() {
            let options = self.options.clone();
            *self = Self::open(&PathBuf::from(&self.place), &options)?;
            numbered::sweep(Path::new(&self.place));
        }
        Ok(())
    }

    /// Returns the number of the last generation that was made.
    pub(crate) fn last_generation(&self) -> Result<Option<u32>> {
        last_generation(&self.connection).located("read projections", &self.place)
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

    pub(crate) fn reading(&self) -> Reading<'_> {
        Reading { connection: &self.connection, texts: &self.texts }
    }

    /// Runs `work` in a transaction that has the write lock from its beginning; the program may be made to end at its end.
    fn write<T>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&Connection, &str, &mut NameIds, &NameTexts) -> Result<T>,
    ) -> Result<T> {
        let done = self.transact(operation, |connection, place, names, texts| {
            let done = work(connection, place, names, texts)?;
            failpoint("projections-uncommitted");
            Ok(done)
        })?;
        failpoint("projections-committed");
        Ok(done)
    }

    fn transact<T>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&Connection, &str, &mut NameIds, &NameTexts) -> Result<T>,
    ) -> Result<T> {
        self.follow()?;
        let Self { connection, place, names, texts, building, .. } = self;
        if let Some(building) = building {
            building.check(operation, place)?;
        }
        let changes_before = connection.total_changes();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).located(operation, place)?;
        let done = work(&transaction, place, names, texts).and_then(|done| {
            transaction.commit().located(operation, place)?;
            Ok(done)
        });
        if let Err(error) = &done {
            // Numbers of names that were given in it are void.
            names.clear();
            texts.clear();
            if let Some(building) = building {
                building.failed(error.kind(), connection.total_changes() != changes_before);
            }
        }
        done
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

/// Returns the number of the last generation that was made.
fn last_generation(connection: &Connection) -> rusqlite::Result<Option<u32>> {
    let sql = "SELECT value FROM projections_meta WHERE name = 'generation'";
    connection.query_row(sql, [], |row| row.get(0)).optional()
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

fn conflict(operation: &'static str, message: String, generation: Generation) -> Error {
    Error::new(ErrorKind::Conflict, operation, message).at(format_args!("generation {}", generation.0))
}

impl RowReader for SqliteProjections {
    fn location(&self) -> String {
        self.place.clone()
    }

    fn is_replaced(&self) -> bool {
        self.has_lost_its_name()
    }

    fn state(&self) -> Result<StoreState> {
        states(&self.connection).located("read projections", &self.place)
    }

    fn get(
        &self,
        generation: Generation,
        table: &'static Table,
        key: &[Value<'_>],
    ) -> Result<Option<Values>> {
        self.connection
            .prepare_cached(&statements::get(table, generation))
            .and_then(|mut statement| self.reading().get_row(&mut statement, table, key))
            .located("read projection row", &self.place)
    }

    fn get_many(
        &self,
        generation: Generation,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<Option<Values>>> {
        check_keys(table, keys)?;
        let read = || {
            let _moment = self.connection.unchecked_transaction()?;
            let mut statement = self.connection.prepare_cached(&statements::get(table, generation))?;
            self.reading().get_rows(&mut statement, table, keys)
        };
        read().located("read projection rows", &self.place)
    }

    fn scan(
        &self,
        generation: Generation,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: usize,
    ) -> Result<Vec<Values>> {
        let read = || {
            let after = after.unwrap_or_default();
            let mut statement =
                self.connection.prepare_cached(&statements::scan(table, generation, after.len()))?;
            let limit = Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
            let parameters = std::iter::once(&limit).chain(after).map(Bound);
            statement
                .query_map(rusqlite::params_from_iter(parameters), |row| {
                    self.reading().row_values(row, table)
                })?
                .collect::<rusqlite::Result<_>>()
        };
        read().located("read projection rows", &self.place)
    }

    fn cursors(&self, generation: Generation) -> Result<Vec<FeedCursor>> {
        let read = || {
            self.connection
                .prepare_cached("SELECT feed, next FROM cursors WHERE generation = ?1 ORDER BY feed")?
                .query_map([generation.0], |row| {
                    Ok(FeedCursor { feed: WriterId(row.get(0)?), next: row.get(1)? })
                })?
                .collect::<rusqlite::Result<_>>()
        };
        read().located("read cursors", &self.place)
    }

    fn cursor(&self, generation: Generation, feed: &WriterId) -> Result<u64> {
        cursor(&self.connection, generation, feed).located("read cursor", &self.place)
    }
}

impl FoldStore for SqliteProjections {
    fn keeps_previews(&self) -> bool {
        self.keeps_previews
    }

    fn bind(&mut self, ledger: LedgerId) -> Result<()> {
        let known = |connection: &Connection| {
            connection
                .query_row("SELECT value FROM projections_meta WHERE name = 'ledger'", [], |row| {
                    row.get::<_, [u8; 16]>(0)
                })
                .optional()
        };
        let bound = known(&self.connection).located("bind projections", &self.place)?;
        let bound = match bound {
            Some(bound) => bound,
            None => self.write("bind projections", |connection, place, _, _| {
                connection
                    .execute(
                        "INSERT INTO projections_meta (name, value) VALUES ('ledger', ?1) ON CONFLICT (name) DO NOTHING",
                        [ledger.0],
                    )
                    .and_then(|_| known(connection))
                    .located("bind projections", place)
                    .map(|bound| bound.unwrap_or(ledger.0))
            })?,
        };
        if bound == ledger.0 {
            return Ok(());
        }
        let message = format!(
            "the projections belong to ledger {}, not to {ledger}; name another file",
            LedgerId(bound)
        );
        Err(Error::new(ErrorKind::Invalid, "bind projections", message).at(&self.place))
    }

    fn lease(&mut self, holder: &str, time_to_live: Duration, gone: Option<u64>) -> Result<Leasing> {
        self.transact("take lease", |connection, place, _, _| {
            lease::grant(connection, holder, time_to_live, gone).located("take lease", place)
        })
    }

    fn renew(&mut self, lease: &Lease) -> Result<()> {
        self.transact("renew lease", |connection, place, _, _| lease::renew(connection, place, lease))
    }

    fn release(&mut self, lease: &Lease) -> Result<()> {
        self.transact("give lease back", |connection, place, _, _| {
            lease::release(connection, lease).located("give lease back", place)
        })
    }

    fn create(&mut self, lease: &Lease, version: u32) -> Result<Generation> {
        let keeps_previews = self.keeps_previews;
        self.write("create projections", |connection, place, _, _| {
            lease::check(connection, place, lease)?;
            let create = || {
                let state = states(connection)?;
                if let Some(stale) = &state.building {
                    drop_generation(connection, stale.generation)?;
                }
                let generation = Generation(last_generation(connection)?.unwrap_or(0) + 1);
                connection.execute(
                    "INSERT INTO projections_meta (name, value) VALUES ('generation', ?1)
                     ON CONFLICT (name) DO UPDATE SET value = ?1",
                    [generation.0],
                )?;
                connection.execute(
                    "INSERT INTO generations (generation, version, revision, settled, live) VALUES (?1, ?2, 0, 0, 0)",
                    [generation.0, version],
                )?;
                for table in tables(keeps_previews) {
                    connection.execute_batch(&schema::create_table(table, generation))?;
                }
                if state.live.is_none() {
                    show(connection, generation, keeps_previews)?;
                }
                Ok(generation)
            };
            create().located("create projections", place)
        })
    }

    fn promote(&mut self, lease: &Lease, generation: Generation, when: Promotion) -> Result<()> {
        let keeps_previews = self.keeps_previews;
        self.write("promote projections", |connection, place, _, _| {
            lease::check(connection, place, lease)?;
            let state = states(connection).located("promote projections", place)?;
            if state.building.is_none_or(|building| building.generation != generation) {
                let message = "this generation is not being built".to_owned();
                return Err(conflict("promote projections", message, generation));
            }
            let promote = || {
                if let Some(live) = &state.live {
                    let behind: i64 = connection.query_row(
                        "SELECT count(*) FROM cursors l WHERE l.generation = ?1 AND l.next > coalesce(
                         (SELECT n.next FROM cursors n WHERE n.generation = ?2 AND n.feed = l.feed), 0)",
                        [live.generation.0, generation.0],
                        |row| row.get(0),
                    )?;
                    if behind > 0 && when == Promotion::CaughtUp {
                        return Ok(false);
                    }
                    drop_generation(connection, live.generation)?;
                }
                show(connection, generation, keeps_previews)?;
                Ok(true)
            };
            if promote().located("promote projections", place)? {
                return Ok(());
            }
            let message = "the live generation is ahead; catch up first".to_owned();
            Err(conflict("promote projections", message, generation))
        })
    }

    fn settle(&mut self, lease: &Lease, generation: Generation) -> Result<()> {
        let keeps_previews = self.keeps_previews;
        self.write("settle projections", |connection, place, _, _| {
            lease::check(connection, place, lease)?;
            let settle = || {
                for sql in tables(keeps_previews).flat_map(|table| schema::create_indexes(table, generation))
                {
                    connection.execute_batch(&sql)?;
                }
                connection.execute("UPDATE generations SET settled = 1 WHERE generation = ?1", [generation.0])
            };
            settle().map(drop).located("settle projections", place)
        })?;
        self.show_built()
    }

    fn commit(
        &mut self,
        lease: &Lease,
        generation: Generation,
        expected: u64,
        work: &mut dyn FnMut(&mut dyn FoldTransaction) -> Result<()>,
    ) -> Result<u64> {
        let revision = self.write("commit projections", |connection, place, names, texts| {
            lease::check(connection, place, lease)?;
            let revision: Option<u64> = connection
                .prepare_cached("SELECT revision FROM generations WHERE generation = ?1")
                .and_then(|mut statement| statement.query_row([generation.0], |row| row.get(0)).optional())
                .located("commit projections", place)?;
            if revision != Some(expected) {
                let message = format!("revision {revision:?} instead of {expected}: somebody else folded");
                return Err(conflict("commit projections", message, generation));
            }
            work(&mut SqliteTransaction::new(connection, place, generation, names, texts))?;
            connection
                .execute(
                    "UPDATE generations SET revision = ?2 WHERE generation = ?1",
                    params![generation.0, expected + 1],
                )
                .located("commit projections", place)?;
            lease::renew(connection, place, lease)?;
            Ok(expected + 1)
        })?;
        if self.building.as_ref().is_some_and(|building| building.is_due(&self.options)) {
            self.show_built()?;
        }
        Ok(revision)
    }
}
