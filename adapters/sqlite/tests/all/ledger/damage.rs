//! Damage: every flipped bit that changes what is read is named, and everything else stays readable.

use super::{append, create, folder, noisy, open};
use burnlog_log::conformance::build::{Event, TestFeed, read_all};
use burnlog_log::{Backend, Body, Damage, Entry, ErrorKind, Limit, Result};
use burnlog_sqlite::SqliteBackend;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::path::Path;

fn codes(backend: &dyn Backend) -> BTreeSet<&'static str> {
    let mut codes = BTreeSet::new();
    let mut report = |damage: Damage| {
        assert!(!damage.place.is_empty() && !damage.message.is_empty());
        codes.insert(damage.code);
    };
    backend.check(&mut report).unwrap();
    codes
}

/// A ledger of two feeds, the second with events of the first; closed, so that all is in the file.
fn filled(path: &Path, events: &[Event]) -> [TestFeed; 2] {
    let backend = open(path);
    [append(&backend, 1, events, 5), append(&backend, 2, &events[3..], 4)]
}

fn spoil(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    assert!(connection.execute(sql, []).unwrap() > 0, "{sql}");
}

#[test]
fn every_table_that_was_changed_is_named() {
    let (folder, path) = folder();
    let events = Event::lines("a", 20);
    filled(&path, &events);
    for (number, (sql, code)) in [
        ("UPDATE ledger_events SET entry = entry + 1 WHERE number = 7", "event-row"),
        ("UPDATE ledger_events SET address = zeroblob(32) WHERE number = 7", "event-row"),
        ("UPDATE ledger_events SET payload_bytes = NULL WHERE number = 7", "event-row"),
        ("DELETE FROM ledger_events WHERE number = 7", "event-row"),
        ("DELETE FROM ledger_events WHERE number = 19", "counter"),
        ("UPDATE ledger_blocks SET raw_bytes = raw_bytes + 1 WHERE first = 5", "block-row"),
        ("UPDATE ledger_blocks SET bytes = substr(bytes, 1, 50) WHERE first = 5", "block-row"),
        ("DELETE FROM ledger_blocks WHERE first = 5", "block-order"),
        ("DELETE FROM ledger_blocks WHERE first = 15", "block-order"),
        ("UPDATE ledger_feeds SET moved = 1 WHERE number = 2", "feed-row"),
        ("UPDATE ledger_feeds SET frontier = zeroblob(32) WHERE number = 1", "feed-row"),
        ("DELETE FROM ledger_feeds WHERE number = 2", "batch-order"),
        ("UPDATE ledger_batches SET signature = zeroblob(64) WHERE feed = 1 AND size = 5", "batch-row"),
        ("UPDATE ledger_batches SET runs = x'' WHERE feed = 1 AND size = 5", "batch-row"),
        ("DELETE FROM ledger_batches WHERE feed = 1 AND size = 5", "batch-order"),
        ("DELETE FROM ledger_batches WHERE feed = 1 AND size = 20", "batch-order"),
        ("UPDATE ledger_places SET entry = 9 WHERE event = 7", "place-row"),
        ("DELETE FROM ledger_places WHERE event = 7", "place-count"),
        ("UPDATE ledger_state SET events = 21", "table-unreadable"),
        ("DELETE FROM ledger_state", "table-unreadable"),
    ]
    .into_iter()
    .enumerate()
    {
        let copy = folder.path().join(format!("{number}.sqlite"));
        std::fs::copy(&path, &copy).unwrap();
        spoil(&copy, sql);
        let codes = codes(&open(&copy));
        assert!(codes.contains(code), "{sql}: {codes:?}");
    }
    assert_eq!(codes(&open(&path)), BTreeSet::new());
    spoil(&path, "UPDATE ledger_state SET clock = 0");
    assert_eq!(codes(&open(&path)), BTreeSet::from(["table-unreadable"]), "one damage is not told as many");
}

fn is_damaged(entry: &Entry) -> bool {
    matches!(entry.body, Body::Damaged { .. })
}

#[test]
fn a_damaged_block_costs_its_own_events_and_no_others() {
    let (_folder, path) = folder();
    let events = noisy("a", 20, 500);
    let [feed, second] = filled(&path, &events);
    spoil(&path, "UPDATE ledger_blocks SET bytes = zeroblob(length(bytes)) WHERE first = 5");
    let backend = open(&path);
    let page = read_all(&backend, &feed.id(), Limit::default());
    let got = backend.get(&events.iter().map(|event| event.address).collect::<Vec<_>>(), Limit::default());
    for (at, ((entry, event), body)) in page.entries.iter().zip(&events).zip(got.unwrap()).enumerate() {
        assert_eq!(entry.address, event.address);
        assert_eq!(body.as_ref(), Some(&entry.body));
        if (5..10).contains(&at) {
            assert!(is_damaged(entry), "{at}");
        } else {
            assert_eq!(entry.body, event.body(), "{at}");
        }
    }
    assert_eq!(page.heads, feed.heads);
    assert_eq!(read_all(&backend, &second.id(), Limit::default()).entries.len(), 17);
    backend.erase(&[events[6].address, events[12].address]).unwrap();
    backend.compact().unwrap();
    assert_eq!(codes(&backend), BTreeSet::from(["block-row"]), "the damage is not covered up");
    // Writing goes on.
    let mut third = TestFeed::new(3);
    third.append(&backend, &Event::lines("c", 3)).unwrap();
    third.append(&backend, &events[15..]).unwrap();
}

#[test]
fn a_damaged_row_is_one_damaged_entry_and_a_damaged_batch_those_of_the_batch() {
    let (_folder, path) = folder();
    let events = Event::lines("a", 20);
    let [feed, _] = filled(&path, &events);
    spoil(&path, "UPDATE ledger_events SET start = start + 1 WHERE number = 2");
    spoil(&path, "DELETE FROM ledger_events WHERE number = 3");
    spoil(&path, "UPDATE ledger_batches SET entries = 4 WHERE feed = 1 AND size = 10");
    spoil(&path, "DELETE FROM ledger_batches WHERE feed = 1 AND size = 20");
    let backend = open(&path);
    for limit in [Limit::default(), Limit { entries: 3, bytes: 1 << 20 }] {
        let page = read_all(&backend, &feed.id(), limit);
        assert_eq!(page.entries.len(), 20);
        for (at, (entry, event)) in page.entries.iter().zip(&events).enumerate() {
            let lost = [2, 3].contains(&at) || (5..10).contains(&at) || at >= 15;
            assert_eq!(is_damaged(entry), lost, "{at}");
            assert!(lost || entry.body == event.body(), "{at}");
        }
        let sizes: Vec<u64> = page.heads.iter().map(|head| head.size).collect();
        assert_eq!(sizes, [5, 15]);
    }
}

/// Everything that can be read: of each feed the head and the entries, and what is damaged.
type Content = Vec<(burnlog_log::BatchHead, Vec<Entry>)>;

fn content(path: &Path) -> Result<(Content, bool)> {
    let backend = SqliteBackend::open(path, create())?;
    let mut is_named = false;
    backend.check(&mut |_| is_named = true)?;
    let mut content = Vec::new();
    for head in backend.feeds(None, None, 10)?.heads {
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let page = backend.read(&head.feed, entries.len() as u64, Limit::default())?;
            if page.entries.is_empty() {
                break;
            }
            is_named |= page.entries.iter().any(is_damaged);
            entries.extend(page.entries);
        }
        content.push((head, entries));
    }
    Ok((content, is_named))
}

/// Flips bits all over the file: either it is said, or nothing that is read has changed.
#[test]
fn no_flipped_bit_changes_what_is_read_without_being_named() {
    let (folder, path) = folder();
    let mut events = noisy("a", 12, 300);
    events.extend(Event::lines("b", 30));
    filled(&path, &events);
    let (sound, is_named) = content(&path).unwrap();
    assert!(!is_named);
    let bytes = std::fs::read(&path).unwrap();
    let copy = folder.path().join("flipped.sqlite");
    let (mut named, mut refused) = (0, 0);
    for at in (0..bytes.len()).step_by(307) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        std::fs::write(&copy, &flipped).unwrap();
        match content(&copy) {
            Ok((read, is_named)) => {
                assert!(is_named || read == sound, "byte {at} changed what is read and nobody says so");
                named += u32::from(is_named);
            }
            Err(error) => {
                let is_of_damage = matches!(
                    error.kind(),
                    ErrorKind::Corrupt | ErrorKind::Invalid | ErrorKind::Unsupported | ErrorKind::Unavailable
                );
                assert!(is_of_damage, "byte {at}: {error}");
                refused += 1;
            }
        }
        for suffix in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(format!("{}{suffix}", copy.display()));
        }
    }
    assert!(named > 30, "{named} named, {refused} refused");
}
