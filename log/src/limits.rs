//! The limits of one record, one batch and one page. They are part of the format: every backend holds the same.

/// The longest skeleton, in bytes.
pub const SKELETON_BYTES_MAX: usize = 65_535;
/// The longest payload of one event, in bytes. A longer record becomes numbered parts under one seq.
pub const PAYLOAD_BYTES_MAX: usize = 32 << 20;
/// The most entries in one batch.
pub const BATCH_ENTRIES_MAX: usize = 16_384;
/// The most bytes in one batch: skeletons of all entries and payloads of the new events, summed.
pub const BATCH_BYTES_MAX: u64 = 64 << 20;

/// How much one call may return. At least one item is returned where there is one, whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The most items.
    pub entries: usize,
    /// The most bytes of skeletons and payloads, summed.
    pub bytes: u64,
}

impl Default for Limit {
    /// 4,096 items and 4 MiB: a page that keeps memory flat.
    fn default() -> Self {
        Self { entries: 4096, bytes: 4 << 20 }
    }
}
