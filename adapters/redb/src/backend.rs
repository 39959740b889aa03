//! The backend: opens the store, keeps what calls share, and puts the parts behind the seam together.

use crate::append::{Packing, Prepared};
use crate::block::Codecs;
use crate::bodies::Reading;
use crate::cache::BlockCache;
use crate::codec::{FORMAT_VERSION, State, decode_format, decode_ledger, encode_format};
use crate::fault::{Fail, caught};
use crate::feeds::list_feeds;
use crate::group::{Group, Outcome};
use crate::locate::prefix;
use crate::options::{Durability, RedbOptions};
use crate::place::{FilePlace, Place, Store};
use crate::read::{self, read_state};
use crate::tables::{BATCHES, BLOCKS, EVENTS, FEEDS, META, MOVED, PLACES, TWINS};
use burnlog_log::{
    Address, Append, Backend, Body, Compacted, Damage, Error, ErrorKind, FeedsPage, Found, LedgerId, Limit,
    Location, Page, Presence, Result, Stat, Token, WriterId,
};
use redb::{Database, ReadTransaction, WriteTransaction};
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

/// With [`Durability::Os`], the bytes after which an append waits for the disk.
const UNSYNCED_BYTES_MAX: u64 = 64 << 20;
/// How many addresses that were looked up and not found are remembered for the append that follows.
const ABSENT_MAX: usize = 1 << 16;

/// Keeps a ledger in one redb file.
pub struct RedbBackend {
    id: LedgerId,
    pub(crate) place: Box<dyn Place>,
    pub(crate) options: RedbOptions,
    /// `None` between giving up a store after a failure and opening it anew.
    store: RwLock<Option<Store>>,
    /// Set when the store failed in a way after which it must be opened anew.
    broken: AtomicBool,
    group: Group,
    pub(crate) codecs: Codecs,
    pub(crate) cache: BlockCache,
    absent: Mutex<Absent>,
    unsynced_bytes: AtomicU64,
}

/// What the last calls of `find` did not find: an append at the same clock need not look again.
#[derive(Default)]
struct Absent {
    clock: u64,
    prefixes: HashSet<u64>,
}

impl RedbBackend {
    /// Opens the ledger in the file at `path`, and makes it first where `options` say so.
    ///
    /// `NotFound` without a file, `Invalid` where something else is at `path`, `InUse` while another process writes,
    /// `Denied` without the rights, `Unsupported` for a newer format, `Corrupt` for a damaged file, and
    /// `Unavailable` for a read-only open of a file that its last writer did not close.
    pub fn open(path: impl AsRef<Path>, options: RedbOptions) -> Result<Self> {
        let place = FilePlace::new(path.as_ref());
        if !place.exists()? {
            if !options.create || options.read_only {
                let message =
                    "there is no ledger here; it is made when something is written for the first time";
                return Err(Error::new(ErrorKind::NotFound, "open ledger", message).at(place.name()));
            }
            let mut random = [0; 24];
            getrandom::fill(&mut random).map_err(|error| {
                let message = format!("the system has no random bytes: {error}");
                Error::new(ErrorKind::Unavailable, "create ledger", message).at(place.name())
            })?;
            let (id, name) = random.split_at(16);
            let id = LedgerId(id.try_into().expect("16 of 24 bytes"));
            let mut hex = Vec::new();
            burnlog_log::push_hex(&mut hex, name);
            place.create(&options, &String::from_utf8_lossy(&hex), |database| {
                initialize(database, id).map_err(|fail| fail.told("create ledger", place.name()))
            })?;
        }
        Self::open_in(Box::new(place), options)
    }

    /// Opens the ledger at a place where there is one.
    pub(crate) fn open_in(place: Box<dyn Place>, options: RedbOptions) -> Result<Self> {
        let (store, id) = open_store(&*place, &options)?;
        Ok(Self {
            id,
            store: RwLock::new(Some(store)),
            broken: AtomicBool::new(false),
            group: Group::default(),
            codecs: Codecs::new(options.compression_level),
            cache: BlockCache::new(options.block_cache_bytes),
            absent: Mutex::default(),
            unsynced_bytes: AtomicU64::new(0),
            place,
            options,
        })
    }

    /// Calls `work` with the open store; opens it anew first where an earlier call broke it.
    fn with<T>(&self, operation: &'static str, work: impl FnOnce(&Store) -> Result<T, Fail>) -> Result<T> {
        let store = self.store(operation)?;
        let store = store.as_ref().expect("`store` returns an open one");
        caught(|| work(store)).map_err(|fail| self.told(fail, operation))
    }

    /// Turns a failure into the caller's error, and notes whether the store must be opened anew.
    pub(crate) fn told(&self, fail: Fail, operation: &'static str) -> Error {
        if let Fail::Redb(error) = &fail
            && matches!(
                **error,
                redb::Error::Io(_)
                    | redb::Error::PreviousIo
                    | redb::Error::DatabaseClosed
                    | redb::Error::LockPoisoned(_)
            )
        {
            self.broken.store(true, Ordering::SeqCst);
        }
        fail.told(operation, self.place.name())
    }

    fn store(&self, operation: &'static str) -> Result<RwLockReadGuard<'_, Option<Store>>> {
        loop {
            let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
            if store.is_some() && !self.broken.load(Ordering::SeqCst) {
                return Ok(store);
            }
            drop(store);
            self.exclusively(operation, |_| Ok(()))?;
        }
    }

    /// Calls `work` with the store to itself: no other call of this process is under way.
    pub(crate) fn exclusively<T>(
        &self,
        operation: &'static str,
        work: impl FnOnce(&mut Store) -> Result<T, Fail>,
    ) -> Result<T> {
        let mut slot = self.store.write().unwrap_or_else(PoisonError::into_inner);
        if self.broken.load(Ordering::SeqCst) || slot.is_none() {
            // Closed before it is opened: it holds the lock.
            *slot = None;
            self.forget();
            let (store, id) = open_store(&*self.place, &self.options)?;
            if id != self.id {
                let message = format!("the file now holds another ledger, {id} instead of {}", self.id);
                return Err(Error::new(ErrorKind::Conflict, operation, message).at(self.place.name()));
            }
            *slot = Some(store);
            self.broken.store(false, Ordering::SeqCst);
        }
        let store = slot.as_mut().expect("set above where it was not");
        caught(|| work(store)).map_err(|fail| self.told(fail, operation))
    }

    /// Forgets what was remembered of the store's content.
    pub(crate) fn forget(&self) {
        self.cache.clear();
        *self.absent.lock().unwrap_or_else(PoisonError::into_inner) = Absent::default();
        self.unsynced_bytes.store(0, Ordering::SeqCst);
    }

    /// Reads the counters.
    pub(crate) fn state(&self, operation: &'static str) -> Result<State> {
        self.with(operation, |store| read_state(&store.begin_read()?.open_table(META)?))
    }

    fn reading(&self) -> Reading<'_> {
        Reading { name: self.place.name(), codecs: &self.codecs, cache: &self.cache }
    }

    pub(crate) fn packing(&self) -> Packing<'_> {
        Packing { codecs: &self.codecs, block_bytes: self.options.block_bytes }
    }

    fn writable<'s>(&self, store: &'s Store, operation: &'static str) -> Result<&'s Database, Fail> {
        match store {
            Store::Writer(database) => Ok(database),
            Store::Reader(_) => {
                let message = "the ledger was opened read-only: open it for writing";
                Err(Error::new(ErrorKind::Denied, operation, message).at(self.place.name()).into())
            }
        }
    }

    /// Does `part` in a transaction that others may join, and returns once it is committed. `bytes` is what it writes,
    /// roughly.
    pub(crate) fn write(
        &self,
        operation: &'static str,
        bytes: u64,
        part: impl FnOnce(&WriteTransaction) -> Result<(), Fail>,
    ) -> Result<()> {
        self.with(operation, |store| {
            let database = self.writable(store, operation)?;
            let sync = self.options.durability == Durability::Batch
                || self.unsynced_bytes.fetch_add(bytes, Ordering::SeqCst) + bytes >= UNSYNCED_BYTES_MAX;
            let commit = |mut txn: WriteTransaction| {
                self.place.check_in_place(operation)?;
                txn.set_durability(if sync { redb::Durability::Immediate } else { redb::Durability::None })?;
                txn.commit()?;
                if sync {
                    self.unsynced_bytes.store(0, Ordering::SeqCst);
                }
                Ok(())
            };
            match self.group.run(|| Ok(database.begin_write()?), part, commit) {
                Outcome::Done => Ok(()),
                Outcome::Refused(error) => Err(error.into()),
                Outcome::Failed(fail) => Err(fail),
                Outcome::FailedElsewhere(ending) => {
                    let message = format!("the transaction shared with other batches failed: {}", ending.0);
                    let error = Error::new(ErrorKind::Unavailable, operation, message);
                    Err(error.at(self.place.name()).into())
                }
            }
        })
    }

    /// Tells which events are absent as of a clock: as `find` has just said, or by looking.
    fn absent_of(
        &self,
        txn: &ReadTransaction,
        clock: u64,
    ) -> Result<impl Fn(&Address) -> Result<bool, Fail>, Fail> {
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered =
            if absent.clock == clock { std::mem::take(&mut absent.prefixes) } else { HashSet::new() };
        let (events, twins, blocks) =
            (txn.open_table(EVENTS)?, txn.open_table(TWINS)?, txn.open_table(BLOCKS)?);
        Ok(move |address: &Address| {
            if remembered.contains(&prefix(address)) {
                return Ok(true);
            }
            let mut directories = crate::locate::Directories::default();
            Ok(crate::locate::locate(&events, &twins, &blocks, &mut directories, address)?.is_none())
        })
    }
}

/// Opens a store and reads what it says about itself.
fn open_store(place: &dyn Place, options: &RedbOptions) -> Result<(Store, LedgerId)> {
    let mut opened = None;
    caught(|| {
        opened = Some(place.open(options)?);
        Ok(())
    })
    .map_err(|fail| fail.told("open ledger", place.name()))?;
    let store = opened.expect("set where nothing failed");
    let id =
        caught(|| identify(&store, place.name())).map_err(|fail| fail.told("open ledger", place.name()))?;
    Ok((store, id))
}

fn identify(store: &Store, name: &str) -> Result<LedgerId, Fail> {
    let refuse = |kind, message: String| Fail::from(Error::new(kind, "open ledger", message).at(name));
    let txn = store.begin_read()?;
    let meta = match txn.open_table(META) {
        Ok(meta) => meta,
        Err(redb::TableError::TableDoesNotExist(_) | redb::TableError::TableTypeMismatch { .. }) => {
            return Err(refuse(
                ErrorKind::Invalid,
                "a redb file of another program, not a ledger".to_owned(),
            ));
        }
        Err(error) => return Err(error.into()),
    };
    let format = meta.get("format")?;
    match format.and_then(|format| decode_format(format.value())) {
        Some(FORMAT_VERSION) => {}
        Some(version) => {
            let message = format!(
                "the ledger has format {version}, this program reads {FORMAT_VERSION}: upgrade burnlog"
            );
            return Err(refuse(ErrorKind::Unsupported, message));
        }
        None => {
            return Err(refuse(
                ErrorKind::Invalid,
                "a redb file of another program, not a ledger".to_owned(),
            ));
        }
    }
    let id = meta.get("ledger")?.and_then(|id| decode_ledger(id.value()));
    id.ok_or_else(|| Fail::damaged("the id of the ledger does not decode"))
}

/// Makes the tables of an empty ledger.
pub(crate) fn initialize(database: &Database, id: LedgerId) -> Result<(), Fail> {
    let txn = database.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        meta.insert("format", encode_format(FORMAT_VERSION).as_slice())?;
        meta.insert("ledger", id.0.as_slice())?;
        meta.insert("state", State::default().encode().as_slice())?;
        txn.open_table(EVENTS)?;
        txn.open_table(TWINS)?;
        txn.open_table(BLOCKS)?;
        txn.open_table(FEEDS)?;
        txn.open_table(BATCHES)?;
        txn.open_table(PLACES)?;
        txn.open_table(MOVED)?;
    }
    Ok(txn.commit()?)
}

impl Backend for RedbBackend {
    fn location(&self) -> Location {
        Location { url: format!("redb:{}", self.place.name()), backend: "redb", id: self.id }
    }

    fn stat(&self) -> Result<Stat> {
        let state = self.state("stat")?;
        Ok(Stat {
            events: state.events,
            payload_bytes: state.payload_bytes,
            bytes_on_disk: self.place.bytes()?,
        })
    }

    fn feeds(
        &self,
        after: Option<&WriterId>,
        changed_since: Option<&Token>,
        limit: usize,
    ) -> Result<FeedsPage> {
        self.with("list feeds", |store| {
            list_feeds(&store.begin_read()?, self.id, after, changed_since, limit)
        })
    }

    fn append(&self, append: &Append<'_>) -> Result<()> {
        let prepared = self.with("append", |store| {
            self.writable(store, "append")?;
            let txn = store.begin_read()?;
            let clock = read_state(&txn.open_table(META)?)?.clock;
            Prepared::new(append, self.packing(), clock, self.absent_of(&txn, clock)?)
        })?;
        self.write("append", prepared.bytes(), |txn| prepared.apply(txn, self.packing()))
    }

    fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        self.with("read feed", |store| {
            read::read_page(&store.begin_read()?, self.reading(), feed, from, limit)
        })
    }

    fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        self.with("find events", |store| {
            let txn = store.begin_read()?;
            let found = read::find(&txn, feed, addresses)?;
            if matches!(store, Store::Writer(_)) {
                let clock = read_state(&txn.open_table(META)?)?.clock;
                self.remember_absent(clock, addresses, &found);
            }
            Ok(found)
        })
    }

    fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>> {
        self.with("get events", |store| read::get(&store.begin_read()?, self.reading(), addresses, limit))
    }

    fn erase(&self, addresses: &[Address]) -> Result<()> {
        self.write("erase", 0, |txn| crate::erase::erase(txn, addresses))
    }

    fn compact(&self) -> Result<Compacted> {
        crate::compact::compact(self)
    }

    fn check(&self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        crate::check::check(self, report)
    }
}

impl RedbBackend {
    fn remember_absent(&self, clock: u64, addresses: &[Address], found: &[Found]) {
        let mut absent = self.absent.lock().unwrap_or_else(PoisonError::into_inner);
        if absent.clock != clock || absent.prefixes.len() > ABSENT_MAX {
            *absent = Absent { clock, prefixes: HashSet::new() };
        }
        let not_found = addresses.iter().zip(found).filter(|(_, found)| found.presence == Presence::Absent);
        absent.prefixes.extend(not_found.map(|(address, _)| prefix(address)));
    }
}

impl Drop for RedbBackend {
    /// Closes the file, syncs first what [`Durability::Os`] left unsynced, and compacts where that is due. What
    /// fails here loses no batch that is on disk; the next open recovers.
    fn drop(&mut self) {
        let is_open = !self.options.read_only && !*self.broken.get_mut();
        if is_open && *self.unsynced_bytes.get_mut() > 0 {
            let _ = self.exclusively("close", |store| {
                let mut txn = self.writable(store, "close")?.begin_write()?;
                txn.set_durability(redb::Durability::Immediate)?;
                Ok(txn.commit()?)
            });
        }
        if is_open && self.options.compact_on_close && crate::compact::is_due(self).unwrap_or(false) {
            let _ = crate::compact::compact(self);
        }
    }
}

impl std::fmt::Debug for RedbBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedbBackend({}, {})", self.place.name(), self.id)
    }
}
