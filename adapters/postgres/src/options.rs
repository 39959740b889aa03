//! What may be set beside the URL.

use std::time::Duration;

/// How a ledger in Postgres is opened. The URL says where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresOptions {
    /// Make the schema and its tables where they are not there; otherwise a missing ledger is `NotFound`.
    pub create: bool,
    /// The most connections at once, at least 1. Reads go on beside an append with 2 or more.
    pub connections: usize,
    /// The longest a single statement may take on the server; a call that gets no answer ends after three of these
    /// and one `lock_timeout`. `check` and `compact` have no limit.
    pub statement_timeout: Duration,
    /// The longest to wait for another writer's batch, and the longest that the server keeps a transaction of ours
    /// open without hearing from us.
    pub lock_timeout: Duration,
}

impl Default for PostgresOptions {
    /// Creates; 4 connections, 60 s for a statement, 30 s for a lock.
    fn default() -> Self {
        Self {
            create: true,
            connections: 4,
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(30),
        }
    }
}
