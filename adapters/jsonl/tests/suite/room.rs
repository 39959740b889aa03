//! Room that is written ahead: nobody takes it for anything else, a crash leaves nothing to settle by hand, and no tool stumbles
//! over it.

use burnlog_jsonl::{Durability, Fault, JsonlBackend, JsonlOptions, Simulated};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Backend, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FOLDER: &str = "/ledger";
const ROOM_BYTES: usize = 20_000;

fn open_as(system: &Simulated, durability: Durability, read_only: bool) -> JsonlBackend {
    let options = JsonlOptions {
        create: !read_only,
        read_only,
        durability,
        room_bytes: ROOM_BYTES,
        files: Arc::new(system.clone()),
        ..JsonlOptions::default()
    };
    JsonlBackend::open(Path::new(FOLDER), options).unwrap()
}

fn open(system: &Simulated) -> JsonlBackend {
    open_as(system, Durability::Batch, false)
}

fn segment(system: &Simulated) -> (PathBuf, Vec<u8>) {
    let is_active = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "jsonl");
    let path = system.paths().into_iter().find(is_active).unwrap();
    let bytes = system.bytes_of(&path).unwrap();
    (path, bytes)
}

/// Returns how much room there is after the last line.
fn room(system: &Simulated) -> usize {
    let (_, bytes) = segment(system);
    let blanks = bytes.iter().rev().take_while(|byte| **byte == b' ').count();
    assert_eq!(bytes[bytes.len() - blanks - 1], b'\n');
    blanks
}

/// Appends so many batches of one event.
fn append(backend: &JsonlBackend, feed: &mut TestFeed, events: &mut Vec<Event>, count: u64) {
    for _ in 0..count {
        let event = Event::line("a", events.len() as u64, b"{\"n\":1}");
        feed.append(backend, std::slice::from_ref(&event)).unwrap();
        events.push(event);
    }
}

/// Returns the feed as it stands, to be gone on with twice.
fn again(feed: &TestFeed) -> TestFeed {
    let mut again = TestFeed::new(1);
    (again.frontier, again.heads) = (feed.frontier.clone(), feed.heads.clone());
    again
}

fn assert_sound(backend: &JsonlBackend, feed: &TestFeed, events: &[Event]) {
    assert_feed(backend, feed, events);
    backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
    assert_eq!(backend.take_notices(), []);
}

#[test]
fn who_appends_batch_after_batch_gets_room_and_gives_it_back() {
    let system = Simulated::new(1);
    let (mut feed, mut events) = (TestFeed::new(1), Vec::new());
    let backend = open(&system);
    append(&backend, &mut feed, &mut events, 4);
    assert_eq!(room(&system), 0, "few batches need none");
    append(&backend, &mut feed, &mut events, 1);
    let first = room(&system);
    assert_eq!(2 * first, segment(&system).1.len(), "as much as there is");
    let (.., writes) = system.counts();
    append(&backend, &mut feed, &mut events, 1);
    let (.., after) = system.counts();
    assert!(room(&system) < first, "the next batch is written into the room");
    let (_, bytes) = segment(&system);
    append(&backend, &mut feed, &mut events, 1);
    assert_eq!(segment(&system).1.len(), bytes.len(), "and leaves the length of the file as it is");
    assert_eq!(system.counts().2 - after, after - writes, "with as many writes as any other");
    assert_sound(&backend, &feed, &events);
    assert_sound(&open_as(&system, Durability::Batch, true), &feed, &events);
    // Any tool that reads JSON reads it with its room.
    let (_, bytes) = segment(&system);
    let values = serde_json::Deserializer::from_slice(&bytes).into_iter::<serde::de::IgnoredAny>();
    assert_eq!(values.flatten().count(), 1 + 2 * events.len());
    drop(backend);
    assert_eq!(room(&system), 0);
    assert_sound(&open(&system), &feed, &events);
}

#[test]
fn more_room_follows_when_it_is_used_up_and_none_for_large_batches() {
    let system = Simulated::new(1);
    let (mut feed, mut events) = (TestFeed::new(1), Vec::new());
    let backend = open(&system);
    append(&backend, &mut feed, &mut events, 200);
    let (_, bytes) = segment(&system);
    assert!(bytes.len() - room(&system) > 4 * ROOM_BYTES, "several times over");
    assert!((1..=ROOM_BYTES).contains(&room(&system)));
    let large = Event::line("large", 0, format!("\"{}\"", "x".repeat(2 * ROOM_BYTES)).as_bytes());
    feed.append(&backend, std::slice::from_ref(&large)).unwrap();
    events.push(large);
    assert_eq!(room(&system), 0);
    append(&backend, &mut feed, &mut events, 1);
    assert_sound(&backend, &feed, &events);
    drop(backend);
    // Without syncs there is nothing to gain.
    let backend = open_as(&system, Durability::Os, false);
    append(&backend, &mut feed, &mut events, 10);
    assert_eq!(room(&system), 0);
}

#[test]
fn room_that_a_dead_process_left_is_taken_over_without_a_word() {
    for seed in 0..20 {
        let system = Simulated::new(seed);
        let (mut feed, mut events) = (TestFeed::new(1), Vec::new());
        let backend = open(&system);
        append(&backend, &mut feed, &mut events, 6);
        std::mem::forget(backend);
        system.release_all_locks();
        for (system, crashed) in [(system.copy(), false), (system.after_crash(), true)] {
            let (mut feed, mut events) = (again(&feed), events.clone());
            let reader = open_as(&system, Durability::Batch, true);
            assert_feed(&reader, &feed, &events);
            reader
                .check(&mut |damage| {
                    // A crash may leave zeros among the blanks.
                    assert!(crashed && damage.code == "torn-tail" && damage.rebuildable, "{damage:?}");
                    assert!(!damage.message.contains("quarantine"), "{damage:?}");
                })
                .unwrap();
            let backend = open(&system);
            assert_sound(&backend, &feed, &events);
            append(&backend, &mut feed, &mut events, 6);
            assert_sound(&backend, &feed, &events);
            drop(backend);
            assert_eq!(room(&system), 0);
            let quarantined = |path: &PathBuf| path.starts_with("/ledger/quarantine");
            assert!(!system.paths().iter().any(quarantined), "blanks are nothing to keep");
        }
    }
}

#[test]
fn a_disk_without_room_to_spare_takes_the_batch() {
    let system = Simulated::new(1);
    let (mut feed, mut events) = (TestFeed::new(1), Vec::new());
    let backend = open(&system);
    append(&backend, &mut feed, &mut events, 4);
    let (.., writes) = system.counts();
    system.set_fault(Some(Fault::FullDisk(writes + 1)));
    append(&backend, &mut feed, &mut events, 1);
    assert_eq!(room(&system), 0);
    append(&backend, &mut feed, &mut events, 3);
    assert_eq!(room(&system), 0, "and is not asked for more");
    assert_sound(&backend, &feed, &events);
    drop(backend);
    // Where the batch does not fit either, it fails.
    let backend = open(&system);
    append(&backend, &mut feed, &mut events, 4);
    let (.., writes) = system.counts();
    system.set_fault(Some(Fault::StuckDisk(writes + 1)));
    let refused = feed.prepare(&Event::lines("refused", 1));
    assert_eq!(refused.refused(&backend).kind(), ErrorKind::Unavailable);
    append(&backend, &mut feed, &mut events, 2);
    assert_sound(&backend, &feed, &events);
}

#[test]
fn every_flipped_bit_of_the_room_is_named_and_cut() {
    let system = Simulated::new(1);
    let (mut feed, mut events) = (TestFeed::new(1), Vec::new());
    let backend = open(&system);
    append(&backend, &mut feed, &mut events, 6);
    std::mem::forget(backend);
    system.release_all_locks();
    let (path, bytes) = segment(&system);
    let end = bytes.len() - room(&system);
    for at in (end..bytes.len()).step_by(499).chain([end, bytes.len() - 1]) {
        for bit in 0..8 {
            let system = system.copy();
            let mut spoiled = bytes.clone();
            spoiled[at] ^= 1 << bit;
            system.put(&path, &spoiled);
            let reader = open_as(&system, Durability::Batch, true);
            let mut found = Vec::new();
            reader.check(&mut |damage| found.push(damage.code)).unwrap();
            assert_eq!(found, ["torn-tail"], "byte {at}, bit {bit}");
            let backend = open(&system);
            append(&backend, &mut again(&feed), &mut events.clone(), 1);
            backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
        }
    }
}
