//! How a ledger is opened.

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After the sync that covers it. Other processes may read the ledger meanwhile.
    #[default]
    Batch,
    /// Before the sync: every 64 MiB and on closing. A crash of the process or of the machine loses what was
    /// acknowledged since the last sync, always whole batches from the end. No other process may have the
    /// ledger open, because it could not see what is not synced.
    Os,
}

/// Options of [`RedbBackend`](crate::RedbBackend).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedbOptions {
    /// Makes the ledger when there is no file. The folder must exist.
    pub create: bool,
    /// Opens for reading only: changes nothing and needs no right to write. One writer in another process goes on,
    /// and its batches are seen as they are committed.
    pub read_only: bool,
    /// When an append is acknowledged.
    pub durability: Durability,
    /// Bytes of pages that are kept in memory; half of them may be pages that wait to be written.
    pub cache_bytes: usize,
    /// Bytes of decompressed blocks that are kept in memory.
    pub block_cache_bytes: usize,
    /// The size before compression at which blocks are cut. A larger payload gets a block of its own.
    pub block_bytes: usize,
    /// The level of zstd.
    pub compression_level: i32,
    /// Compacts when the ledger is closed and more than a quarter (and 4 MiB) was written to it since it was compacted
    /// last. While it is written, a redb file is up to twice as long as what it holds.
    pub compact_on_close: bool,
}

impl Default for RedbOptions {
    fn default() -> Self {
        Self {
            create: false,
            read_only: false,
            durability: Durability::Batch,
            cache_bytes: 32 << 20,
            block_cache_bytes: 8 << 20,
            block_bytes: 1 << 20,
            compression_level: 3,
            compact_on_close: true,
        }
    }
}
