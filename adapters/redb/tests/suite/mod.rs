//! What is of redb alone, in a file.

mod damage;
mod erasing;
mod opening;
mod storing;

use burnlog_log::conformance::build::{Event, TestFeed};
use burnlog_log::{Backend, Damage};
use burnlog_redb::{RedbBackend, RedbOptions};
use std::path::Path;

/// Opens the ledger at `path` for writing; makes it where there is none.
pub(crate) fn open(path: &Path) -> RedbBackend {
    RedbBackend::open(path, RedbOptions { create: true, ..RedbOptions::default() }).unwrap()
}

/// The options of a reader.
fn reader() -> RedbOptions {
    RedbOptions { read_only: true, ..RedbOptions::default() }
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
    (0..count)
        .map(|seq| Event::line(stream, seq, &noise(seq + 1 + stream.len() as u64 * 1000, bytes)))
        .collect()
}

/// Where `needle` stands in the file.
fn places_of(path: &Path, needle: &[u8]) -> Vec<usize> {
    let bytes = std::fs::read(path).unwrap();
    let first = |window: &(usize, &[u8])| window.1 == needle;
    bytes.windows(needle.len()).enumerate().filter(first).map(|(place, _)| place).collect()
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
