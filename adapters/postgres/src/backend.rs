//! The backend: holds what the operations share, and gives each method of the seam to the module that does it.

use crate::block::Cache;
use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::schema::{self, Half};
use crate::sql::Sql;
use crate::target::Target;
use burnlog_log::{
    Address, Append, Backend, Body, Compacted, Damage, FeedsPage, Found, LedgerId, Limit, Location, Page,
    Result, Stat, Token, WriterId,
};
use bytes::Bytes;
use std::sync::{Mutex, PoisonError};

/// A ledger in one schema of a Postgres database. Any number of processes may have it open, to read and to write.
pub struct PostgresBackend {
    pub(crate) pool: Pool,
    pub(crate) sql: Sql,
    blocks: Mutex<Cache>,
    id: LedgerId,
}

impl PostgresBackend {
    /// Opens the ledger at `postgres://…[?ledger=NAME]`; makes its schema where it is new and `options` allow it.
    ///
    /// `Invalid` for a URL that cannot be right, `Denied` for wrong credentials or too few rights, `NotFound` for an unknown
    /// database (or ledger, with `create` off), `Unavailable` when the server does not answer, `Unsupported` for a schema of a newer
    /// program or a server older than 13. May be called, used and dropped inside another runtime.
    pub fn open(url: &str, options: &PostgresOptions) -> Result<Self> {
        let target = Target::parse(url)?;
        let ledger = target.ledger.clone();
        let sql = Sql::new(&ledger);
        let pool = Pool::new(target, options)?;
        let id = schema::open(&pool, &sql, &ledger, options, Half::Ledger)?;
        Ok(Self { pool, sql, blocks: Mutex::default(), id })
    }

    /// Returns a decoded block if it was read not long ago.
    pub(crate) fn cached(&self, id: i64) -> Option<Bytes> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).get(id)
    }

    /// Keeps a decoded block for the next page.
    pub(crate) fn cache(&self, id: i64, raw: &Bytes) {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner).put(id, raw);
    }
}

impl std::fmt::Debug for PostgresBackend {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresBackend({})", self.pool.url())
    }
}

impl Backend for PostgresBackend {
    fn location(&self) -> Location {
        Location { url: self.pool.url().to_owned(), backend: "postgres", id: self.id }
    }

    fn stat(&self) -> Result<Stat> {
        self.count()
    }

    fn feeds(
        &self,
        after: Option<&WriterId>,
        changed_since: Option<&Token>,
        limit: usize,
    ) -> Result<FeedsPage> {
        self.list_feeds(after, changed_since, limit)
    }

    fn append(&self, append: &Append<'_>) -> Result<()> {
        self.append_batch(append)
    }

    fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        self.read_page(feed, from, limit)
    }

    fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        self.find_addresses(feed, addresses)
    }

    fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>> {
        self.get_events(addresses, limit)
    }

    fn erase(&self, addresses: &[Address]) -> Result<()> {
        self.erase_payloads(addresses)
    }

    fn compact(&self) -> Result<Compacted> {
        self.vacuum()
    }

    fn check(&self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        self.check_tables(report)
    }
}
