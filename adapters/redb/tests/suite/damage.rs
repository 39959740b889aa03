//! Damage: named by reading, by checking and by verifying; what is sound stays readable; nothing panics.

use super::{append, damages, noisy, open, places_of};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed, read_all};
use burnlog_log::{Backend, Body, ErrorKind, Ledger, Limit, Severity, verify};
use burnlog_redb::{RedbBackend, RedbOptions};
use redb::{Builder, ConcurrencyMode, Database, Key, ReadableTable, TableDefinition, Value};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn flip(path: &Path, place: usize, mask: u8) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[place] ^= mask;
    std::fs::write(path, bytes).unwrap();
}

/// A closed ledger with two feeds over the same events and more.
fn ledger() -> (tempfile::TempDir, PathBuf, [TestFeed; 2], Vec<Event>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    let events = noisy("a", 12, 900);
    let backend = open(&path);
    let first = append(&backend, 1, &events, 4);
    let second = append(&backend, 2, &events[2..7], 5);
    drop(backend);
    (folder, path, [first, second], events)
}

#[test]
fn a_damaged_block_takes_its_own_events_and_no_others() {
    let (_folder, path, feeds, events) = ledger();
    let places = places_of(&path, &events[5].payload[100..130]);
    assert_eq!(places.len(), 1);
    flip(&path, places[0], 4);
    let backend = open(&path);
    let page = read_all(&backend, &feeds[0].id(), Limit::default());
    assert_eq!(page.entries.len(), 12);
    assert_eq!(page.heads, feeds[0].heads);
    for (index, (entry, event)) in page.entries.iter().zip(&events).enumerate() {
        assert_eq!(entry.address, event.address, "the directory tells the address");
        match &entry.body {
            Body::Damaged { place, reason } => {
                assert!((4..8).contains(&index), "entry {index} is in another block");
                assert!(place.contains("ledger.redb") && place.contains("block at event 4"), "{place}");
                assert!(!reason.is_empty());
            }
            body => assert_eq!(*body, event.body()),
        }
    }
    let got = backend.get(&[events[5].address, events[0].address], Limit::default()).unwrap();
    assert!(matches!(got[0], Some(Body::Damaged { .. })));
    assert_eq!(got[1], Some(events[0].body()));
    let codes: Vec<&str> = damages(&backend).iter().map(|damage| damage.code).collect();
    assert_eq!(codes, ["redb-page", "block-data"]);
    // The rest can be written and compacted; the damaged block stays as it is.
    let more = append(&backend, 3, &Event::lines("b", 3), 1);
    backend.erase(&[events[0].address, events[5].address]).unwrap();
    let _ = backend.compact(); // redb may refuse to move a damaged page
    assert_feed(&backend, &more, &Event::lines("b", 3));
    let page = read_all(&backend, &feeds[1].id(), Limit::default());
    assert_eq!(page.entries[0].body, events[2].body());
}

/// Changes a row behind the backend's back, as redb would: with right page checksums.
fn spoil<K: Key + 'static, V: Value + 'static>(
    path: &Path,
    table: TableDefinition<'_, K, V>,
    change: impl FnOnce(&mut redb::Table<'_, K, V>),
) {
    let mut builder = Builder::new();
    builder.set_concurrency_mode(ConcurrencyMode::SingleWriter);
    let database: Database = builder.open(path).unwrap();
    let txn = database.begin_write().unwrap();
    change(&mut txn.open_table(table).unwrap());
    txn.commit().unwrap();
}

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const EVENTS: TableDefinition<'_, u64, u64> = TableDefinition::new("events");
const BLOCKS: TableDefinition<'_, &[u8; 10], &[u8]> = TableDefinition::new("blocks");
const FEEDS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("feeds");
const BATCHES: TableDefinition<'_, &[u8; 12], &[u8]> = TableDefinition::new("batches");
const PLACES: TableDefinition<'_, &[u8; 12], u64> = TableDefinition::new("places");
const MOVED: TableDefinition<'_, u64, &[u8; 32]> = TableDefinition::new("moved");

fn key<const N: usize>(front: &[u8], last: u8) -> [u8; N] {
    let mut key = [0; N];
    key[..front.len()].copy_from_slice(front);
    key[N - 1] = last;
    key
}

/// Spoils a row, checks that `check` names exactly these codes, and that reading does not fail.
fn named(expected: &[&str], change: impl FnOnce(&Path, &[TestFeed; 2], &[Event])) {
    let (_folder, path, feeds, events) = ledger();
    change(&path, &feeds, &events);
    let backend = RedbBackend::open(&path, RedbOptions::default()).unwrap();
    let found = damages(&backend);
    let codes: BTreeSet<&str> = found.iter().map(|damage| damage.code).collect();
    assert_eq!(codes, expected.iter().copied().collect(), "{found:#?}");
    for damage in found {
        assert!(damage.place.contains("ledger.redb: ") && !damage.message.is_empty());
    }
    let ledger = Ledger::new(backend);
    if let Ok(heads) = ledger.feeds() {
        for head in heads {
            let page = read_all(ledger.backend(), &head.feed, Limit::default());
            assert_eq!(page.entries.len() as u64, head.size, "every entry is there, damaged or not");
        }
    }
}

#[test]
fn counters_that_do_not_fit_are_named() {
    let set = |at: usize, value: u64| {
        move |path: &Path, _: &[TestFeed; 2], _: &[Event]| {
            spoil(path, META, |meta| {
                let mut state = meta.get("state").unwrap().unwrap().value().to_vec();
                state[at..at + 8].copy_from_slice(&value.to_le_bytes());
                meta.insert("state", state.as_slice()).unwrap();
            });
        }
    };
    named(&["counter"], set(20, 1)); // payload bytes
    named(&["counter"], set(28, 7)); // erased bytes
    named(&["block-directory"], set(36, 1)); // blocks
    named(&["feed-moved"], set(0, 1)); // clock
    named(&["batch-row", "counter"], set(8, 3)); // events
    named(&["table-unreadable"], |path, _, _| {
        spoil(path, META, |meta| drop(meta.insert("state", b"short".as_slice()).unwrap()));
    });
}

#[test]
fn a_lost_or_changed_row_is_named_by_its_table() {
    named(&["counter", "event-index"], |path, _, events| {
        let prefix = u64::from_be_bytes(events[3].address.0[..8].try_into().unwrap());
        spoil(path, EVENTS, |rows| drop(rows.remove(prefix).unwrap()));
    });
    named(&["event-index"], |path, _, events| {
        let prefix = u64::from_be_bytes(events[3].address.0[..8].try_into().unwrap());
        spoil(path, EVENTS, |rows| drop(rows.insert(prefix, 4).unwrap()));
    });
    named(&["place-index"], |path, _, _| {
        spoil(path, PLACES, |rows| drop(rows.remove(&key(&[0, 0, 0, 1], 3)).unwrap()));
    });
    named(&["place-index"], |path, _, _| {
        spoil(path, PLACES, |rows| drop(rows.insert(&key(&[0, 0, 0, 1], 3), 9).unwrap()));
    });
    named(&["feed-moved", "counter"], |path, _, _| {
        spoil(path, MOVED, |rows| drop(rows.remove(3).unwrap()));
    });
    named(&["batch-order"], |path, _, _| {
        spoil(path, BATCHES, |rows| drop(rows.remove(&key(&[0, 0, 0, 0], 8)).unwrap()));
    });
    named(&["batch-order"], |path, _, _| {
        spoil(path, BATCHES, |rows| {
            let row = rows.get(&key(&[0, 0, 0, 0], 4)).unwrap().unwrap().value().to_vec();
            rows.insert(&key(&[0, 0, 0, 9], 4), row.as_slice()).unwrap();
        });
    });
    named(&["batch-row", "feed-row"], |path, _, _| {
        spoil(path, BATCHES, |rows| drop(rows.insert(&key(&[0, 0, 0, 0], 12), b"x".as_slice()).unwrap()));
    });
    named(&["feed-row"], |path, feeds, _| {
        spoil(path, FEEDS, |rows| drop(rows.insert(&feeds[1].id().0, b"x".as_slice()).unwrap()));
    });
}

#[test]
fn a_lost_or_changed_piece_of_a_block_is_named() {
    // The directory and the bytes of the block at event 4.
    let directory: [u8; 10] = key(&[0, 0, 0, 0, 0, 0, 0, 4, 0], 0);
    let data: [u8; 10] = key(&[0, 0, 0, 0, 0, 0, 0, 4, 0x80], 0);
    named(&["block-directory"], |path, _, _| {
        spoil(path, BLOCKS, |rows| drop(rows.remove(&directory).unwrap()));
    });
    named(&["block-directory"], |path, _, _| {
        spoil(path, BLOCKS, |rows| {
            let mut piece = rows.get(&directory).unwrap().unwrap().value().to_vec();
            piece[60] ^= 1;
            rows.insert(&directory, piece.as_slice()).unwrap();
        });
    });
    named(&["block-data"], |path, _, _| {
        spoil(path, BLOCKS, |rows| drop(rows.remove(&data).unwrap()));
    });
    named(&["block-order"], |path, _, _| {
        spoil(path, BLOCKS, |rows| {
            rows.remove(&directory).unwrap();
            for part in 0..4 {
                rows.remove(&key(&[0, 0, 0, 0, 0, 0, 0, 4, 0x80], part)).unwrap();
            }
        });
    });
}

#[test]
fn a_flipped_bit_is_named_or_changes_nothing() {
    let (_folder, path, feeds, events) = ledger();
    let sound = std::fs::read(&path).unwrap();
    let places: Vec<usize> = (0..320).step_by(2).chain((320..sound.len()).step_by(397)).collect();
    let mut named = 0;
    for place in places {
        let mut bytes = sound.clone();
        bytes[place] ^= 1 << (place % 8);
        std::fs::write(&path, bytes).unwrap();
        let backend = match RedbBackend::open(&path, RedbOptions::default()) {
            Ok(backend) => backend,
            Err(error) => {
                let expected =
                    [ErrorKind::Corrupt, ErrorKind::Invalid, ErrorKind::Unsupported, ErrorKind::Unavailable];
                assert!(expected.contains(&error.kind()), "byte {place}: {error}");
                named += 1;
                continue;
            }
        };
        let ledger = Ledger::new(backend);
        let heads: Vec<_> = feeds.iter().map(|feed| *feed.heads.last().unwrap()).collect();
        let mut findings = 0;
        let verified = verify(&ledger, &heads, &mut |finding| {
            findings += usize::from(finding.severity == Severity::Damage);
        });
        if verified.is_err() || findings > 0 {
            named += 1;
            continue;
        }
        assert_feed(ledger.backend(), &feeds[0], &events);
        assert_feed(ledger.backend(), &feeds[1], &events[2..7]);
    }
    assert!(named > 50, "only {named} flipped bits were noticed");
}

#[test]
fn a_file_cut_short_is_refused() {
    let (_folder, path, ..) = ledger();
    let sound = std::fs::read(&path).unwrap();
    for length in [100, 4096, sound.len() / 2, sound.len() - 1] {
        std::fs::write(&path, &sound[..length]).unwrap();
        let error = RedbBackend::open(&path, RedbOptions::default()).expect_err("must be refused");
        let kinds = [ErrorKind::Corrupt, ErrorKind::Invalid, ErrorKind::Unavailable];
        assert!(kinds.contains(&error.kind()), "{length} bytes: {error}");
    }
}
