//! How events are kept: blocks, twins, merging, the size of the file.

use super::{append, damages, noisy, open};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Address, Append, Backend, Body, Limit, NewEvent, Presence};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;

const BLOCKS: TableDefinition<&[u8; 10], &[u8]> = TableDefinition::new("blocks");

/// The numbers of the first events of all blocks.
fn blocks(path: &Path) -> Vec<u64> {
    let mut builder = redb::Builder::new();
    builder.set_concurrency_mode(redb::ConcurrencyMode::SingleWriter);
    let database = builder.open_read_only(path).unwrap();
    let table = database.begin_read().unwrap().open_table(BLOCKS).unwrap();
    let rows = table.iter().unwrap().map(|row| row.unwrap().0.value()[..8].try_into().unwrap());
    let mut firsts: Vec<u64> = rows.map(u64::from_be_bytes).collect();
    firsts.dedup();
    firsts
}

#[test]
fn compacting_merges_small_blocks_and_keeps_every_feed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let backend = open(&path);
    let events = Event::lines("a", 400);
    let (mut first, mut second) = (TestFeed::new(1), TestFeed::new(2));
    for chunk in events.chunks(4) {
        first.append(&backend, &chunk[..3]).unwrap();
        second.append(&backend, chunk).unwrap();
    }
    assert_eq!(blocks(&path).len(), 200);
    let before = std::fs::metadata(&path).unwrap().len();
    let compacted = backend.compact().unwrap();
    assert_eq!(compacted.bytes_before, before);
    assert!(compacted.bytes_after < before);
    assert_eq!(blocks(&path), [0]);
    let of_first: Vec<Event> = events.chunks(4).flat_map(|chunk| chunk[..3].to_vec()).collect();
    assert_feed(&backend, &first, &of_first);
    assert_feed(&backend, &second, &events);
    assert_eq!(damages(&backend), []);
    let more = Event::lines("b", 5);
    first.append(&backend, &more).unwrap();
    assert_feed(&backend, &first, &[of_first, more].concat());
    assert_eq!(blocks(&path), [0, 400]);
}

#[test]
fn blocks_are_even_and_a_large_payload_has_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let backend = open(&path);
    let mut events = noisy("a", 30, 100_000);
    events.insert(10, Event::line("large", 0, &super::noise(7, 3 << 20)));
    let feed = append(&backend, 1, &events, 31);
    assert_feed(&backend, &feed, &events);
    let firsts = blocks(&path);
    assert!(firsts.contains(&10) && firsts.contains(&11), "{firsts:?}");
    assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] <= 13), "{firsts:?}");
    assert!(firsts.len() <= 6, "{firsts:?}");
    assert_eq!(damages(&backend), []);
}

/// An address of our choice; backends take addresses as they come.
fn forged(front: u8, back: u8) -> Address {
    let mut bytes = [back; 32];
    bytes[..8].fill(front);
    Address(bytes)
}

fn append_forged(backend: &dyn Backend, feed: &mut TestFeed, addresses: &[Address]) {
    let lines: Vec<Event> =
        addresses.iter().map(|address| Event::line(&address.to_string(), 0, b"x")).collect();
    let prepared = feed.prepare(&lines);
    let texts: Vec<String> = addresses.iter().map(Address::to_string).collect();
    let events: Vec<NewEvent<'_>> = addresses
        .iter()
        .zip(&texts)
        .map(|(address, text)| NewEvent {
            address: *address,
            skeleton: text.as_bytes(),
            payload: Some(b"payload"),
        })
        .collect();
    let append = Append {
        expected_size: prepared.expected_size,
        expected_root: prepared.expected_root,
        entries: addresses,
        events: &events,
        head: &prepared.head,
        frontier: prepared.frontier.peaks(),
    };
    backend.append(&append).unwrap();
    feed.frontier = prepared.frontier;
}

#[test]
fn addresses_that_begin_alike_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let backend = open(&path);
    let mut feed = TestFeed::new(1);
    let all = [forged(1, 1), forged(2, 2), forged(1, 3), forged(1, 4), forged(2, 5)];
    append_forged(&backend, &mut feed, &all[..3]);
    append_forged(&backend, &mut feed, &all[3..]);
    let absent = forged(1, 9);
    let check = |backend: &dyn Backend| {
        let found = backend.find(&feed.id(), &all).unwrap();
        let indexes: Vec<_> = found.iter().map(|found| found.index).collect();
        assert_eq!(indexes, [0, 1, 2, 3, 4].map(Some));
        assert_eq!(backend.find(&feed.id(), &[absent]).unwrap()[0].presence, Presence::Absent);
        for (address, body) in all.iter().zip(backend.get(&all, Limit::default()).unwrap()) {
            let Some(Body::Present { skeleton, .. } | Body::Erased { skeleton }) = body else {
                panic!("{address} is not there")
            };
            assert_eq!(skeleton, address.to_string().as_bytes());
        }
        assert_eq!(damages(backend), []);
    };
    check(&backend);
    backend.erase(&[all[3]]).unwrap();
    backend.compact().unwrap();
    check(&backend);
    let found = backend.find(&feed.id(), &all).unwrap();
    let erased: Vec<bool> = found.iter().map(|found| found.presence == Presence::Erased).collect();
    assert_eq!(erased, [false, false, false, true, false]);
}

#[test]
fn the_same_events_brought_by_four_threads_are_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let backend = open(&path);
    let events = Event::lines("a", 240);
    let start = std::sync::Barrier::new(4);
    let feeds = std::thread::scope(|scope| {
        let (backend, events, start) = (&backend, &events, &start);
        let bring = |number: u8| {
            move || {
                let mut feed = TestFeed::new(number);
                for chunk in events.chunks(4) {
                    start.wait();
                    feed.append(backend, chunk).unwrap();
                }
                feed
            }
        };
        let threads: Vec<_> = (1..=4).map(|number| scope.spawn(bring(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for feed in &feeds {
        assert_feed(&backend, feed, &events);
    }
    assert_eq!(backend.stat().unwrap().events, 240);
    assert_eq!(damages(&backend), []);
}

#[test]
fn closing_after_much_writing_gives_space_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let events = noisy("a", 300, 60_000);
    let backend = open(&path);
    let feed = append(&backend, 1, &events, 3);
    let payload_bytes = 300 * 60_000;
    drop(backend);
    let closed = std::fs::metadata(&path).unwrap().len();
    assert!(closed < payload_bytes * 104 / 100, "{closed} bytes for {payload_bytes}");
    assert_feed(&open(&path), &feed, &events);
}
