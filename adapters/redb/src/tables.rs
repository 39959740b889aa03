//! The tables and their keys. What the values mean is in `codec.rs`.

use redb::TableDefinition;

/// Key of a row of [`BLOCKS`]: the number of the block's first event and the number of the piece.
pub(crate) type BlockKey = [u8; 10];
/// Key of [`BATCHES`] and [`PLACES`]: the number of the feed, then a size or an event number.
pub(crate) type FeedKey = [u8; 12];

/// `format`, `ledger` and `state`: what is said once about the ledger.
pub(crate) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
/// First eight bytes of an address -> number of the event.
pub(crate) const EVENTS: TableDefinition<u64, u64> = TableDefinition::new("events");
/// Address -> number, for events whose first eight bytes another event has taken. Nearly always empty.
pub(crate) const TWINS: TableDefinition<&[u8; 32], u64> = TableDefinition::new("twins");
/// Directories and compressed bytes of blocks, cut into pieces of one page.
pub(crate) const BLOCKS: TableDefinition<&BlockKey, &[u8]> = TableDefinition::new("blocks");
/// Writer id -> number, newest head and frontier of its feed.
pub(crate) const FEEDS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("feeds");
/// (Feed, size after the batch) -> head and entries of the batch.
pub(crate) const BATCHES: TableDefinition<&FeedKey, &[u8]> = TableDefinition::new("batches");
/// (Feed, event) -> index, for entries beyond the one that brought the event.
pub(crate) const PLACES: TableDefinition<&FeedKey, u64> = TableDefinition::new("places");
/// Clock -> writer id: the feed that moved last at this tick. One row for each feed.
pub(crate) const MOVED: TableDefinition<u64, &[u8; 32]> = TableDefinition::new("moved");
/// Zeros, while free pages are being overwritten; does not exist otherwise.
pub(crate) const FILLER: TableDefinition<u64, &[u8]> = TableDefinition::new("filler");

/// The first piece number that belongs to the compressed bytes; lower ones belong to the directory.
pub(crate) const DATA_PART: u16 = 0x8000;

/// Makes the key of a piece of a block.
pub(crate) fn block_key(first: u64, part: u16) -> BlockKey {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&first.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Returns the number of the first event and of the piece.
pub(crate) fn split_block_key(key: &BlockKey) -> (u64, u16) {
    let (first, part) = key.split_at(8);
    (
        u64::from_be_bytes(first.try_into().expect("eight of ten bytes")),
        u16::from_be_bytes(part.try_into().expect("the other two")),
    )
}

/// Makes the key of a feed's row.
pub(crate) fn feed_key(feed: u32, number: u64) -> FeedKey {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&feed.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Returns the number of the feed and the other half of the key.
pub(crate) fn split_feed_key(key: &FeedKey) -> (u32, u64) {
    let (feed, number) = key.split_at(4);
    (
        u32::from_be_bytes(feed.try_into().expect("four of twelve bytes")),
        u64::from_be_bytes(number.try_into().expect("the other eight")),
    )
}
