//! How events are kept: blocks, addresses that begin alike, the file shared with projections.

use super::{append, damages, folder, noise, noisy, open};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed, read_all};
use burnlog_log::{
    Address, Append, Backend, Batch, Body, Kind, Ledger, LedgerId, Limit, MemoryBackend, NewEvent, Position,
    Presence, Timestamp, WriterKey, replay, verify,
};
use burnlog_projections::conformance::build::{catch_up, dumped, expected_dump, made_up};
use burnlog_sqlite::{SqliteOptions, SqliteProjections};
use rusqlite::Connection;
use std::path::Path;

/// The numbers of the first events of all blocks.
fn blocks(path: &Path) -> Vec<u64> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare("SELECT first FROM ledger_blocks ORDER BY first").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[test]
fn compacting_merges_small_blocks_and_keeps_every_feed() {
    let (_folder, path) = folder();
    let backend = open(&path);
    let events = Event::lines("a", 400);
    let (mut first, mut second) = (TestFeed::new(1), TestFeed::new(2));
    for chunk in events.chunks(4) {
        first.append(&backend, &chunk[..3]).unwrap();
        second.append(&backend, chunk).unwrap();
    }
    assert_eq!(blocks(&path).len(), 200);
    let compacted = backend.compact().unwrap();
    assert!(compacted.bytes_after < compacted.bytes_before / 4, "{compacted:?}");
    assert_eq!(std::fs::metadata(&path).unwrap().len(), compacted.bytes_after, "no log of changes is left");
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
    let (_folder, path) = folder();
    let backend = open(&path);
    let mut events = noisy("a", 30, 25_000);
    events.insert(10, Event::line("large", 0, &noise(7, 20 << 20)));
    let feed = append(&backend, 1, &events, 31);
    assert_feed(&backend, &feed, &events);
    let firsts = blocks(&path);
    assert!(firsts.contains(&10) && firsts.contains(&11), "{firsts:?}");
    assert!(firsts.len() <= 5, "{firsts:?}");
    backend.compact().unwrap();
    assert_feed(&backend, &feed, &events);
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
    let events: Vec<NewEvent<'_>> = (addresses.iter().zip(&texts))
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
    let (_folder, path) = folder();
    let backend = open(&path);
    let mut feed = TestFeed::new(1);
    let all = [forged(1, 1), forged(2, 2), forged(1, 3), forged(1, 4), forged(2, 5)];
    append_forged(&backend, &mut feed, &all[..3]);
    append_forged(&backend, &mut feed, &all[3..]);
    let found = backend.find(&feed.id(), &all).unwrap();
    assert_eq!(found.iter().map(|found| found.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4].map(Some));
    assert_eq!(backend.find(&feed.id(), &[forged(1, 9)]).unwrap()[0].presence, Presence::Absent);
    backend.erase(&[all[3]]).unwrap();
    backend.compact().unwrap();
    for (address, body) in all.iter().zip(backend.get(&all, Limit::default()).unwrap()) {
        match body {
            Some(Body::Present { skeleton, .. }) if *address != all[3] => {
                assert_eq!(skeleton, address.to_string().as_bytes());
            }
            Some(Body::Erased { skeleton }) => {
                assert_eq!((skeleton.as_ref(), *address), (all[3].to_string().as_bytes(), all[3]));
            }
            other => panic!("{address}: {other:?}"),
        }
    }
    assert_eq!(damages(&backend), []);
}

#[test]
fn a_guess_that_all_events_are_new_is_put_right() {
    let (_folder, path) = folder();
    let backend = open(&path);
    let events = noisy("a", 12, 50_000);
    append(&backend, 1, &events[3..9], 2);
    let second = append(&backend, 2, &events, 12);
    assert_feed(&backend, &second, &events);
    let stat = backend.stat().unwrap();
    assert_eq!((stat.events, stat.payload_bytes), (12, 12 * 50_000));
    assert_eq!(damages(&backend), []);
}

/// A ledger in memory with two feeds that share events and an erased one.
fn source() -> Ledger {
    let ledger = Ledger::new(MemoryBackend::new(LedgerId([1; 16])));
    for number in 1..=2u8 {
        let mut writer = ledger.writer(WriterKey::from_secret([number; 32])).unwrap();
        for round in 0..5u64 {
            let mut batch = Batch::default();
            for seq in 0..40 {
                let stream = if seq % 3 == 0 { "shared".to_owned() } else { format!("host-{number}") };
                let kind = if round == 0 && seq == 0 { Kind::Writer } else { Kind::Line };
                let seq = round * 1000 + seq;
                let position =
                    Position { kind, source: "test".into(), stream: stream.into(), seq, part: None };
                batch.push(position, &noise(seq, 1 + seq as usize)).unwrap();
            }
            writer.append(&batch, Timestamp::from_micros(round as i64)).unwrap();
        }
    }
    let feed = ledger.feeds().unwrap()[0].feed;
    let erased = read_all(ledger.backend(), &feed, Limit::default()).entries[5].address;
    ledger.erase(&[erased]).unwrap();
    ledger
}

fn assert_same(here: &Ledger, there: &Ledger) {
    assert_eq!(here.feeds().unwrap(), there.feeds().unwrap());
    for head in here.feeds().unwrap() {
        let ours = read_all(here.backend(), &head.feed, Limit::default());
        assert_eq!(ours, read_all(there.backend(), &head.feed, Limit::default()));
    }
    let mut findings = Vec::new();
    verify(there, &[], &mut |finding| findings.push(finding)).unwrap();
    findings.retain(|finding| finding.code != "unanchored");
    assert_eq!(findings, []);
}

#[test]
fn replay_there_and_back_gives_the_same_feeds_heads_and_roots() {
    let (_folder, path) = folder();
    let (source, there) = (source(), Ledger::new(open(&path)));
    assert_eq!(replay(&source, &there, &mut |_| {}).unwrap().divergences, []);
    assert_same(&source, &there);
    let again = replay(&source, &there, &mut |_| {}).unwrap();
    assert_eq!((again.batches, again.events_sent, again.feeds_equal), (0, 0, 2));
    let back = Ledger::new(MemoryBackend::new(LedgerId([2; 16])));
    replay(&there, &back, &mut |_| {}).unwrap();
    assert_same(&source, &back);
}

#[test]
fn a_ledger_and_its_projections_live_in_one_file() {
    let (_folder, path) = folder();
    let ledger = Ledger::new(open(&path));
    let reading = SqliteOptions { read_only: true, ..SqliteOptions::default() };
    let early = SqliteProjections::open(&path, &reading).unwrap_err();
    assert_eq!(early.kind(), burnlog_log::ErrorKind::NotFound, "{early}");
    let events = made_up(21, 200);
    burnlog_projections::conformance::build::append(&ledger, 1, &events);
    let mut store = SqliteProjections::open(&path, &SqliteOptions::default()).unwrap();
    catch_up(&mut store, &ledger);
    assert_eq!(dumped(&store), expected_dump(&events));
    drop(store);
    ledger.compact().unwrap();
    let store = SqliteProjections::open(&path, &reading).unwrap();
    assert_eq!(dumped(&store), expected_dump(&events));
    assert_eq!(damages(ledger.backend()), []);
}
