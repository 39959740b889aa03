//! The backend: opens the file, keeps the connections that calls share, and puts the parts behind the seam together.

use super::block::Cache;
use super::fault::Fail;
use super::groups::SharedWriter;
use super::options::SqliteLedgerOptions;
use super::place::Place;
use super::plan::{Packing, Plan};
use super::read::Reading;
use super::rows::State;
use super::{append, check, compact, erase, feeds};
use burnlog_log::{
    Address, Append, Backend, Body, Compacted, Damage, Error, ErrorKind, FeedsPage, Found, LedgerId, Limit,
    Location, Page, Result, Stat, Token, WriterId,
};
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many connections for reading are kept open between calls.
const READERS_MAX: usize = 4;

/// Keeps a ledger in one SQLite file. Any number of processes may have it open, to read and to write.
pub struct SqliteBackend {
    id: LedgerId,
    pub(super) place: Place,
    pub(super) writer: SharedWriter,
    /// Connections that no call is using.
    readers: Mutex<Vec<Connection>>,
    cache: Mutex<Cache>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SqliteBackend {
    /// Opens the ledger at `path`; makes it where there is no file and `options` allow it.
    ///
    /// `NotFound` without a file (or its folder, with `create`), `Invalid` for a folder, an empty file or another program's,
    /// `Unsupported` for a ledger of a newer program, `Corrupt` when its first pages are damaged, `Denied` when the file
    /// cannot be opened. A file that is there is never replaced.
    pub fn open(path: &Path, options: SqliteLedgerOptions) -> Result<Self> {
        let create = options.create && !options.read_only;
        let mut place = Place::new(path, options)?;
        if !place.exists()? {
            if !create {
                let message = "there is no ledger here; ingest makes one";
                return Err(Error::new(ErrorKind::NotFound, "open ledger", message).at(&place.name));
            }
            place.create(new_id()?)?;
        }
        let (id, reader) = place.identify()?;
        let readers = Mutex::new(vec![reader]);
        Ok(Self { id, place, writer: SharedWriter::default(), readers, cache: Mutex::default() })
    }

    /// Runs `work` in one snapshot.
    fn read_in<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Reading<'_>) -> Result<T, Fail>,
    ) -> Result<T> {
        let read = || {
            let kept = lock(&self.readers).pop();
            let mut connection = match kept {
                Some(connection) => connection,
                None => self.place.connect(false)?,
            };
            let transaction = connection.transaction()?;
            let done =
                work(&Reading { connection: &transaction, name: &self.place.name, cache: &self.cache })?;
            transaction.finish()?;
            let mut readers = lock(&self.readers);
            if readers.len() < READERS_MAX {
                readers.push(connection);
            }
            Ok(done)
        };
        read().map_err(|fail: Fail| fail.located(operation, &self.place.name))
    }

    fn check_writable(&self, operation: &'static str) -> Result<()> {
        if !self.place.options.read_only {
            return Ok(());
        }
        let message = "the ledger is open for reading only";
        Err(Error::new(ErrorKind::Denied, operation, message).at(&self.place.name))
    }

    /// Runs `work` on the connection that writes.
    fn with_writer<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Connection) -> Result<T, Fail>,
    ) -> Result<T> {
        self.check_writable(operation)?;
        self.writer.with(operation, &self.place, work)
    }

    /// Runs `work` in a transaction that has the write lock from its beginning.
    fn write_in<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&Connection) -> Result<T, Fail>,
    ) -> Result<T> {
        self.with_writer(operation, |connection| write(connection, work))
    }
}

/// Runs `work` in a transaction that has the write lock from its beginning; nothing of it stays after an error.
pub(crate) fn write<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Connection) -> Result<T, Fail>,
) -> Result<T, Fail> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

fn new_id() -> Result<LedgerId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "create ledger", format!("no random numbers: {error}"))
    })?;
    Ok(LedgerId(id))
}

impl std::fmt::Debug for SqliteBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SqliteBackend({})", self.place.name)
    }
}

impl Backend for SqliteBackend {
    fn location(&self) -> Location {
        Location { url: format!("sqlite:{}", self.place.name), backend: "sqlite", id: self.id }
    }

    fn stat(&self) -> Result<Stat> {
        let state = self.read_in("count", |reading| State::read(reading.connection))?;
        let bytes_on_disk = self.place.bytes();
        Ok(Stat { events: state.events, payload_bytes: state.payload_bytes, bytes_on_disk })
    }

    fn feeds(
        &self,
        after: Option<&WriterId>,
        changed_since: Option<&Token>,
        limit: usize,
    ) -> Result<FeedsPage> {
        self.read_in("list feeds", |reading| {
            feeds::list(reading.connection, self.id, after, changed_since, limit)
        })
    }

    fn append(&self, append: &Append<'_>) -> Result<()> {
        let options = &self.place.options;
        let packing = Packing { block_bytes: options.block_bytes, level: options.compression_level };
        let plan = Plan::new(append, packing)?;
        // Outside the lock, so that others write while this compresses.
        let packed = plan.pack_all().map_err(|fail| fail.located("append", &self.place.name))?;
        self.check_writable("append")?;
        self.writer.append(&self.place, |connection| append::apply(connection, &plan, packed))
    }

    fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        self.read_in("read", |reading| reading.page(feed, from, limit))
    }

    fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        self.read_in("find", |reading| reading.find(feed, addresses))
    }

    fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>> {
        self.read_in("get", |reading| reading.get(addresses, limit))
    }

    fn erase(&self, addresses: &[Address]) -> Result<()> {
        let level = self.place.options.compression_level;
        self.write_in("erase", |connection| erase::erase(connection, addresses, level))
    }

    fn compact(&self) -> Result<Compacted> {
        let bytes_before = self.place.bytes();
        let options = &self.place.options;
        let packing = Packing { block_bytes: options.block_bytes, level: options.compression_level };
        self.with_writer("compact", |connection| compact::compact(connection, packing))?;
        Ok(Compacted { bytes_before, bytes_after: self.place.bytes() })
    }

    fn check(&self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        self.read_in("check", |reading| check::check(reading.connection, report))
    }
}
