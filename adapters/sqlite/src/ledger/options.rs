//! How a ledger is opened.

use std::time::Duration;

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After the sync of its commit.
    #[default]
    Batch,
    /// Before the sync; everything is synced when the log of changes is brought into the file, and on closing. A crash
    /// of the process loses nothing; one of the machine loses whole batches from the end.
    Os,
}

/// Options of [`SqliteBackend`](crate::SqliteBackend).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteLedgerOptions {
    /// Makes the ledger when there is no file. The folder must exist.
    pub create: bool,
    /// Opens for reading only: changes nothing that is stored. Writers in other processes go on, and their batches are
    /// seen as they are committed.
    pub read_only: bool,
    /// When an append is acknowledged.
    pub durability: Durability,
    /// How long another process's transaction is waited for; after that `InUse`.
    pub busy_timeout: Duration,
    /// The memory for pages of the writing connection, in KiB.
    pub cache_kib: u32,
    /// The bytes before compression at which blocks are cut. A larger event gets a block of its own.
    pub block_bytes: usize,
    /// The level of zstd.
    pub compression_level: i32,
}

impl Default for SqliteLedgerOptions {
    /// An existing ledger, for writing; durable batches; 10 s; 16 MiB; blocks of 256 KiB at level 3.
    fn default() -> Self {
        Self {
            create: false,
            read_only: false,
            durability: Durability::Batch,
            busy_timeout: Duration::from_secs(10),
            cache_kib: 16 << 10,
            block_bytes: 256 << 10,
            compression_level: 3,
        }
    }
}
