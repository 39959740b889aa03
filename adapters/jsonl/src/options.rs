//! How a ledger is opened.

use crate::files::{Files, SystemFiles};
use std::sync::Arc;
use std::time::Duration;

/// When an append is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// After the fsync that covers it.
    #[default]
    Batch,
    /// After the write; synced when a segment is sealed and when the ledger is closed. A power failure may lose
    /// what was acknowledged since, always whole batches from the end.
    Os,
}

/// Options of [`JsonlBackend`](crate::JsonlBackend).
#[derive(Debug, Clone)]
pub struct JsonlOptions {
    /// Makes the ledger when there is none.
    pub create: bool,
    /// Opens for reading only: takes no lock and writes nothing, so that it works on a read-only folder.
    pub read_only: bool,
    /// When an append is acknowledged.
    pub durability: Durability,
    /// From this size an active segment is sealed as part of the append.
    pub segment_bytes_max: u64,
    /// From this size the active segment is sealed when the ledger is closed.
    pub seal_bytes_min: u64,
    /// The size of the lines that are compressed together.
    pub frame_bytes: usize,
    /// From so many bytes of new events the entries of a batch are compressed before they are written. 0 for all batches.
    pub pack_bytes_min: usize,
    /// How much room is written ahead at most, as blanks, for a process that appends small batches one after the other: a sync that
    /// finds length and blocks of its file as they are takes two thirds of the time. 0 for none.
    pub room_bytes: usize,
    /// The level of zstd.
    pub compression_level: i32,
    /// Whether compressing computes both hashes of every event again before it leaves them out. An event that does not fit
    /// its hashes is then stored with them, as it was given. May be unset where every event comes through
    /// [`Ledger`](burnlog_log::Ledger), which has computed them all; the checksum of the line is compared in any case.
    pub seal_recomputes_hashes: bool,
    /// How long a sync may wait for others who lately appended at the same time. Nobody who appends alone waits.
    pub gather_max: Duration,
    /// How long to wait for another process that is appending before giving up with `InUse`.
    pub lock_wait_max: Duration,
    /// The operating system.
    pub files: Arc<dyn Files>,
}

impl Default for JsonlOptions {
    fn default() -> Self {
        Self {
            create: false,
            read_only: false,
            durability: Durability::Batch,
            segment_bytes_max: 64 << 20,
            seal_bytes_min: 8 << 20,
            frame_bytes: 2 << 20,
            pack_bytes_min: 256 << 10,
            room_bytes: 1 << 20,
            compression_level: 3,
            seal_recomputes_hashes: true,
            gather_max: Duration::from_millis(8),
            lock_wait_max: Duration::from_secs(30),
            files: Arc::new(SystemFiles),
        }
    }
}
