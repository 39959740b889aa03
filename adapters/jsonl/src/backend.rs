//! The backend: what others hold. Everything is passed on to the store.

use crate::options::JsonlOptions;
use crate::store::{Notice, Store};
use burnlog_log::{
    Address, Append, Backend, Body, Compacted, Damage, FeedsPage, Found, Limit, Location, Page, Result, Stat,
    Token, WriterId,
};
use std::path::Path;

/// A ledger in a folder of JSONL segments.
///
/// Any number of handles, in any number of processes, may read and append at once. Dropping a handle closes it as
/// [`JsonlBackend::close`] does, without telling about errors; nothing acknowledged depends on it.
#[derive(Debug)]
pub struct JsonlBackend {
    store: Store,
}

impl JsonlBackend {
    /// Opens the ledger in `folder`.
    ///
    /// `NotFound` when there is none and [`JsonlOptions::create`] is not set, `Invalid` when it is not a folder or the folder
    /// holds something else, `Unsupported` when the ledger is of a newer version, `Corrupt` when `ledger.json` cannot be read.
    pub fn open(folder: &Path, options: JsonlOptions) -> Result<Self> {
        Store::open(folder, options).map(|store| Self { store })
    }

    /// Opens the ledger in `folder`, making it when there is none.
    pub fn create(folder: &Path) -> Result<Self> {
        Self::open(folder, JsonlOptions { create: true, ..JsonlOptions::default() })
    }

    /// Opens the ledger in `folder` for reading only; works on a read-only file system and while others append.
    pub fn open_read_only(folder: &Path) -> Result<Self> {
        Self::open(folder, JsonlOptions { read_only: true, ..JsonlOptions::default() })
    }

    /// Seals the segment that this handle appends to, whatever its size. Tells whether there was one.
    pub fn seal(&self) -> Result<bool> {
        self.placed(self.store.seal_current(0))
    }

    /// Settles what is better done once at the end than with each append: syncs where appends are not, seals a
    /// large segment, writes the index. The handle stays usable.
    pub fn close(&self) -> Result<()> {
        self.placed(self.store.close())
    }

    /// Returns and forgets what happened on the side since the last call: a torn end that was cut, an index made
    /// again, damage that was met.
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.store.lock_state().notices)
    }
}

impl JsonlBackend {
    /// Inside the ledger places are relative to its folder; whoever gets an error wants to find the file.
    fn placed<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| {
            let place = Path::new(error.location());
            if error.location().is_empty() || place.is_absolute() || place.starts_with(&self.store.folder) {
                return error;
            }
            let whole = self.store.folder.join(place);
            error.at(whole.display())
        })
    }
}

impl Drop for JsonlBackend {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // Whatever fails here is done again by whoever opens the ledger next.
            let _ = self.close();
        }
    }
}

impl Backend for JsonlBackend {
    fn location(&self) -> Location {
        Location {
            url: format!("file:{}", self.store.folder.display()),
            backend: "jsonl",
            id: self.store.ledger,
        }
    }

    fn stat(&self) -> Result<Stat> {
        self.placed(self.store.stat())
    }

    fn feeds(
        &self,
        after: Option<&WriterId>,
        changed_since: Option<&Token>,
        limit: usize,
    ) -> Result<FeedsPage> {
        self.placed(self.store.feeds(after, changed_since, limit))
    }

    fn append(&self, append: &Append<'_>) -> Result<()> {
        self.placed(self.store.append(append))
    }

    fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        self.placed(self.store.read(feed, from, limit))
    }

    fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        self.placed(self.store.find(feed, addresses))
    }

    fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>> {
        self.placed(self.store.get(addresses, limit))
    }

    fn erase(&self, addresses: &[Address]) -> Result<()> {
        self.placed(self.store.erase(addresses))
    }

    fn compact(&self) -> Result<Compacted> {
        self.placed(self.store.compact())
    }

    fn check(&self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        self.placed(self.store.check(report))
    }
}
