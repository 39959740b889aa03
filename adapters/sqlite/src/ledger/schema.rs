//! The tables of a ledger as SQL. What the columns mean is in `rows.rs` and in the README.

/// The version of the tables, of their checksums and of the blocks.
pub(crate) const FORMAT_VERSION: i64 = 1;

/// Makes the tables in an empty database.
pub(crate) const TABLES: &str = "
CREATE TABLE ledger_meta (name TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID;
CREATE TABLE ledger_state (
    id INTEGER PRIMARY KEY CHECK (id = 1), clock INTEGER NOT NULL, events INTEGER NOT NULL,
    blocks INTEGER NOT NULL, payload_bytes INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE TABLE ledger_events (
    number INTEGER PRIMARY KEY, address BLOB NOT NULL, start INTEGER NOT NULL, skeleton_bytes INTEGER NOT NULL,
    payload_bytes INTEGER, feed INTEGER NOT NULL, entry INTEGER NOT NULL, crc INTEGER NOT NULL
);
CREATE INDEX ledger_events_fingerprint ON ledger_events (substr(address, 1, 8));
CREATE TABLE ledger_blocks (
    first INTEGER PRIMARY KEY, id INTEGER NOT NULL, events INTEGER NOT NULL, raw_bytes INTEGER NOT NULL,
    crc INTEGER NOT NULL, bytes BLOB NOT NULL
);
CREATE TABLE ledger_feeds (
    number INTEGER PRIMARY KEY, writer BLOB NOT NULL UNIQUE, size INTEGER NOT NULL, root BLOB NOT NULL,
    recorded_at INTEGER NOT NULL, signature BLOB NOT NULL, frontier BLOB NOT NULL, moved INTEGER NOT NULL,
    crc INTEGER NOT NULL
);
CREATE INDEX ledger_feeds_moved ON ledger_feeds (moved);
CREATE TABLE ledger_batches (
    feed INTEGER NOT NULL, size INTEGER NOT NULL, entries INTEGER NOT NULL, root BLOB NOT NULL,
    recorded_at INTEGER NOT NULL, signature BLOB NOT NULL, crc INTEGER NOT NULL, runs BLOB NOT NULL,
    UNIQUE (feed, size)
);
CREATE TABLE ledger_places (
    feed INTEGER NOT NULL, event INTEGER NOT NULL, entry INTEGER NOT NULL, crc INTEGER NOT NULL,
    PRIMARY KEY (feed, event)
) WITHOUT ROWID;
";
