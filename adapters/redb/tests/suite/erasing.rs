//! Erasing: after compacting, the bytes are not in the file.

use super::{append, damages, noise, noisy, open, places_of, reader};
use burnlog_log::conformance::build::{Event, read_all};
use burnlog_log::{Backend, Body, ErrorKind, Limit};
use burnlog_redb::RedbBackend;
use std::collections::HashSet;
use std::path::Path;

fn is_in_file(path: &Path, event: &Event) -> bool {
    // Any part of it: a payload may be cut into pieces.
    event.payload.chunks(64).any(|part| !places_of(path, part).is_empty())
}

#[test]
fn erase_and_compact_remove_the_bytes_from_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let events: Vec<Event> = (0..24).map(|seq| Event::line("a", seq, &noise(seq + 1, 700))).collect();
    let large = Event::line("large", 0, &noise(99, 20_000));
    let backend = open(&path);
    let feed = append(&backend, 1, &events, 3);
    append(&backend, 2, std::slice::from_ref(&large), 1);
    let erased = [&events[0], &events[4], &events[23], &large];
    assert!(erased.iter().all(|event| is_in_file(&path, event)), "the test sees payloads in the file");
    backend.erase(&erased.map(|event| event.address)).unwrap();
    assert!(is_in_file(&path, &large), "erasing only marks");
    backend.compact().unwrap();
    for event in erased {
        assert!(!is_in_file(&path, event), "a part of {} is still in the file", event.address);
    }
    assert!(is_in_file(&path, &events[1]), "what was not erased is there");
    assert_eq!(damages(&backend), []);
    let page = read_all(&backend, &feed.id(), Limit::default());
    for (entry, event) in page.entries.iter().zip(&events) {
        match &entry.body {
            Body::Erased { skeleton } => {
                assert_eq!(*skeleton, event.skeleton);
                assert!(erased.contains(&event));
            }
            body => assert_eq!(*body, event.body()),
        }
    }
    drop(backend);
    assert!(!is_in_file(&path, &large), "closing brings nothing back");
}

#[test]
fn no_free_page_keeps_an_erased_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let backend = open(&path);
    let events = noisy("a", 600, 3000);
    append(&backend, 1, &events, 7);
    let erased: Vec<Event> = events.iter().step_by(5).cloned().collect();
    let addresses: Vec<_> = erased.iter().map(|event| event.address).collect();
    backend.erase(&addresses).unwrap();
    assert!(bytes_in_file(&path, &erased) > 300_000);
    backend.compact().unwrap();
    assert_eq!(bytes_in_file(&path, &erased), 0);
    assert_eq!(damages(&backend), []);
}

/// How many places of the file hold eight bytes of one of the payloads.
fn bytes_in_file(path: &Path, events: &[Event]) -> usize {
    let windows = events.iter().flat_map(|event| event.payload.windows(8));
    let needles: HashSet<&[u8]> = windows.collect();
    std::fs::read(path).unwrap().windows(8).filter(|window| needles.contains(window)).count()
}

#[test]
fn compacting_beside_a_reader_is_refused_and_done_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let backend = open(&path);
    let events = noisy("a", 6, 5000);
    append(&backend, 1, &events, 2);
    // A reader that is in the middle of reading: its snapshot needs the pages.
    let mut builder = redb::Builder::new();
    builder.set_concurrency_mode(redb::ConcurrencyMode::SingleWriter);
    let reading = builder.open_read_only(&path).unwrap();
    let snapshot = redb::ReadableDatabase::begin_read(&reading).unwrap();
    backend.erase(&[events[0].address]).unwrap();
    assert_eq!(backend.compact().unwrap_err().kind(), ErrorKind::InUse);
    assert!(is_in_file(&path, &events[0]));
    drop(snapshot);
    backend.compact().unwrap();
    assert!(!is_in_file(&path, &events[0]), "the call that was refused is made up for");
    drop(reading);
    let reader = RedbBackend::open(&path, reader()).unwrap();
    assert_eq!(damages(&reader), []);
    assert_eq!(reader.stat().unwrap().payload_bytes, 25_000);
}

#[test]
fn an_erased_event_that_arrives_with_its_payload_again_leaves_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let backend = open(&path);
    let events = noisy("a", 2, 3000);
    append(&backend, 1, &events, 2);
    backend.erase(&[events[0].address]).unwrap();
    backend.compact().unwrap();
    append(&backend, 2, &events, 2);
    assert!(!is_in_file(&path, &events[0]));
    assert!(is_in_file(&path, &events[1]));
}
