//! The ledger from outside: the conformance suite of the seam, and what is of SQLite alone.

mod damage;
mod disk;
mod erasing;
mod opening;
mod sharing;
mod storing;
mod views;

use burnlog_log::conformance::Fixture;
use burnlog_log::conformance::build::{Event, TestFeed};
use burnlog_log::{Backend, Damage};
use burnlog_sqlite::{SqliteBackend, SqliteLedgerOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Sqlite(tempfile::TempDir);

impl Fixture for Sqlite {
    fn create() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Arc<dyn Backend> {
        Arc::new(open(&self.0.path().join("ledger.sqlite")))
    }
}

burnlog_log::conformance!(Sqlite);

fn create() -> SqliteLedgerOptions {
    SqliteLedgerOptions { create: true, ..SqliteLedgerOptions::default() }
}

fn reader() -> SqliteLedgerOptions {
    SqliteLedgerOptions { read_only: true, ..SqliteLedgerOptions::default() }
}

/// Opens the ledger at `path` for writing; makes it where there is none.
fn open(path: &Path) -> SqliteBackend {
    SqliteBackend::open(path, create()).unwrap()
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.sqlite");
    (folder, path)
}

/// Bytes that do not compress, so that they stand in the file as they are.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u8
    };
    (0..bytes).map(next).collect()
}

/// `count` events of `bytes` incompressible bytes each.
fn noisy(stream: &str, count: u64, bytes: usize) -> Vec<Event> {
    let seed = |seq| seq + 1 + stream.len() as u64 * 1000;
    (0..count).map(|seq| Event::line(stream, seq, &noise(seed(seq), bytes))).collect()
}

fn damages(backend: &dyn Backend) -> Vec<Damage> {
    let mut damages = Vec::new();
    backend.check(&mut |damage| damages.push(damage)).unwrap();
    damages
}

/// Appends `events` as writer `number` in batches of `batch`.
fn append(backend: &dyn Backend, number: u8, events: &[Event], batch: usize) -> TestFeed {
    let mut feed = TestFeed::new(number);
    events.chunks(batch).for_each(|chunk| feed.append(backend, chunk).unwrap());
    feed
}
