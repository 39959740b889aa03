//! Erasing: after compacting, the bytes are not in the file and not in the log of changes.

use super::{append, damages, folder, noise, noisy, open};
use burnlog_log::conformance::build::{Event, read_all};
use burnlog_log::{Backend, Body, ErrorKind, Limit};
use rusqlite::Connection;
use std::collections::HashSet;
use std::path::Path;

/// How many places of the file and of the log beside it hold eight bytes of one of the payloads.
fn bytes_in_file(path: &Path, events: &[Event]) -> usize {
    let windows = events.iter().flat_map(|event| event.payload.windows(8));
    let needles: HashSet<&[u8]> = windows.collect();
    let mut bytes = std::fs::read(path).unwrap();
    bytes.extend(std::fs::read(format!("{}-wal", path.display())).unwrap_or_default());
    bytes.windows(8).filter(|window| needles.contains(window)).count()
}

#[test]
fn erase_and_compact_remove_the_bytes_from_the_file() {
    let (_folder, path) = folder();
    let backend = open(&path);
    let mut events = noisy("a", 300, 3000);
    events.push(Event::line("large", 0, &noise(99, 400_000)));
    let feed = append(&backend, 1, &events, 7);
    let erased: Vec<Event> = events.iter().step_by(5).cloned().collect();
    let addresses: Vec<_> = erased.iter().map(|event| event.address).collect();
    assert!(bytes_in_file(&path, &erased) > 100_000, "the test sees payloads in the file");
    backend.erase(&addresses).unwrap();
    let stat = backend.stat().unwrap();
    let kept: usize = events.iter().filter(|event| !erased.contains(event)).map(|e| e.payload.len()).sum();
    assert_eq!((stat.events, stat.payload_bytes), (301, kept as u64));
    backend.compact().unwrap();
    assert_eq!(bytes_in_file(&path, &erased), 0);
    assert!(bytes_in_file(&path, &events[1..2]) > 0, "what was not erased is there");
    assert_eq!(damages(&backend), []);
    let page = read_all(&backend, &feed.id(), Limit::default());
    for (entry, event) in page.entries.iter().zip(&events) {
        match &entry.body {
            Body::Erased { skeleton } => assert!(*skeleton == event.skeleton && erased.contains(event)),
            body => assert_eq!(*body, event.body()),
        }
    }
    drop(backend);
    assert_eq!(bytes_in_file(&path, &erased), 0, "closing brings nothing back");
}

#[test]
fn compacting_beside_a_reader_is_refused_and_done_later() {
    let (_folder, path) = folder();
    let options = burnlog_sqlite::SqliteLedgerOptions {
        busy_timeout: std::time::Duration::from_millis(1),
        ..super::create()
    };
    let backend = burnlog_sqlite::SqliteBackend::open(&path, options).unwrap();
    let events = noisy("a", 6, 5000);
    append(&backend, 1, &events, 2);
    // A reader that is in the middle of reading: its snapshot needs the pages.
    let reader = Connection::open(&path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM ledger_events").unwrap();
    backend.erase(&[events[0].address]).unwrap();
    let error = backend.compact().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
    reader.execute_batch("COMMIT").unwrap();
    backend.compact().unwrap();
    assert_eq!(bytes_in_file(&path, &events[..1]), 0);
    assert_eq!(damages(&backend), []);
}
