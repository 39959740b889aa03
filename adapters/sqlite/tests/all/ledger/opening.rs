//! Opening: what is refused and why, who may open beside whom.

use super::{append, create, damages, folder, open, reader};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Backend, Error, ErrorKind};
use burnlog_sqlite::{Durability, SqliteBackend, SqliteLedgerOptions};
use rusqlite::Connection;
use std::fs;
use std::path::Path;

#[track_caller]
fn refused(path: &Path, options: SqliteLedgerOptions) -> Error {
    let error = SqliteBackend::open(path, options).expect_err("must be refused");
    assert!(error.location().contains(path.to_str().unwrap()), "{error} does not say where");
    assert!(!error.message().is_empty());
    error
}

#[test]
fn without_create_an_absent_file_is_not_found_and_stays_absent() {
    let (folder, path) = folder();
    for options in
        [SqliteLedgerOptions::default(), reader(), SqliteLedgerOptions { create: true, ..reader() }]
    {
        assert_eq!(refused(&path, options).kind(), ErrorKind::NotFound);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn creating_leaves_one_file_and_one_id() {
    let (folder, path) = folder();
    let id = open(&path).location().id;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let location = open(&path).location();
    assert_eq!(location.id, id);
    assert_eq!((location.backend, location.url), ("sqlite", format!("sqlite:{}", path.display())));
}

#[test]
fn handles_that_create_at_once_get_the_same_ledger() {
    let (folder, path) = folder();
    let start = std::sync::Barrier::new(4);
    let ids: Vec<_> = std::thread::scope(|scope| {
        let open_at_once = || {
            start.wait();
            open(&path).location().id
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(open_at_once)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_is_no_ledger_is_invalid_and_left_alone() {
    let (folder, path) = folder();
    let missing = folder.path().join("no/such/folder/ledger.sqlite");
    assert_eq!(refused(&missing, create()).kind(), ErrorKind::NotFound);
    for options in [SqliteLedgerOptions::default(), create(), reader()] {
        assert_eq!(refused(folder.path(), options).kind(), ErrorKind::Invalid);
    }
    for content in [b"".as_slice(), b"sqlite", &[0; 5000], &[0x72; 5000]] {
        fs::write(&path, content).unwrap();
        for options in [SqliteLedgerOptions::default(), create(), reader()] {
            assert_eq!(refused(&path, options).kind(), ErrorKind::Invalid, "{} bytes", content.len());
        }
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let below = path.join("ledger.sqlite");
    assert_eq!(refused(&below, create()).kind(), ErrorKind::Invalid);
}

#[test]
fn a_dangling_link_is_refused_and_stays() {
    let (folder, path) = folder();
    std::os::unix::fs::symlink(folder.path().join("gone/ledger.sqlite"), &path).unwrap();
    assert_eq!(refused(&path, SqliteLedgerOptions::default()).kind(), ErrorKind::NotFound);
    assert_eq!(refused(&path, create()).kind(), ErrorKind::Denied);
    assert!(path.symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
}

#[test]
fn a_log_of_changes_without_its_file_is_not_taken_over() {
    let (_folder, path) = folder();
    let log = format!("{}-wal", path.display());
    fs::write(&log, [1; 100]).unwrap();
    let error = refused(&path, create());
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.message().contains("-wal"), "{error}");
    assert_eq!(fs::read(&log).unwrap(), [1; 100]);
}

#[test]
fn the_database_of_another_program_is_invalid() {
    let (_folder, path) = folder();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE events (a)").unwrap();
    let before = fs::read(&path).unwrap();
    for options in [create(), reader()] {
        let error = refused(&path, options);
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.message().contains("name another"), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_newer_format_is_unsupported_and_an_unknown_one_damage() {
    let (_folder, path) = folder();
    drop(open(&path));
    let set = |sql: &str| Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    set("UPDATE ledger_meta SET value = 2 WHERE name = 'format'");
    for options in [create(), reader()] {
        let error = refused(&path, options);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("format 2") && error.message().contains("upgrade"), "{error}");
    }
    for spoilt in ["UPDATE ledger_meta SET value = 0 WHERE name = 'format'", "DELETE FROM ledger_meta"] {
        set(spoilt);
        assert_eq!(refused(&path, create()).kind(), ErrorKind::Corrupt, "{spoilt}");
    }
}

#[test]
fn a_reader_sees_batches_as_they_come_and_may_change_nothing() {
    let (_folder, path) = folder();
    let writer = open(&path);
    let events = Event::lines("a", 6);
    let mut feed = append(&writer, 1, &events[..2], 2);
    let reader = SqliteBackend::open(&path, reader()).unwrap();
    for range in [2..4, 4..6] {
        feed.append(&writer, &events[range.clone()]).unwrap();
        assert_feed(&reader, &feed, &events[..range.end]);
    }
    assert_eq!(damages(&reader), []);
    for error in [
        TestFeed::new(2).append(&reader, &events).unwrap_err(),
        reader.erase(&[events[0].address]).unwrap_err(),
        reader.compact().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
    drop(writer);
    assert_feed(&reader, &feed, &events);
}

#[test]
fn batches_without_a_sync_are_there_for_others_and_after_closing() {
    let (_folder, path) = folder();
    let options = SqliteLedgerOptions { durability: Durability::Os, ..create() };
    let events = Event::lines("a", 20);
    let writer = SqliteBackend::open(&path, options).unwrap();
    let feed = append(&writer, 1, &events, 3);
    assert_feed(&open(&path), &feed, &events);
    drop(writer);
    assert_feed(&open(&path), &feed, &events);
}

/// What a machine that was switched off comes back with: the file and its log of changes as they are now.
#[test]
fn a_file_that_was_not_closed_is_recovered() {
    let (folder, path) = folder();
    let writer = open(&path);
    let events = Event::lines("a", 9);
    let feed = append(&writer, 1, &events, 3);
    let copy = folder.path().join("copy.sqlite");
    let log = |path: &Path| format!("{}-wal", path.display());
    fs::copy(&path, &copy).unwrap();
    fs::copy(log(&path), log(&copy)).unwrap();
    let reader = SqliteBackend::open(&copy, reader()).unwrap();
    assert_feed(&reader, &feed, &events);
    let recovered = open(&copy);
    assert_feed(&recovered, &feed, &events);
    assert_eq!(damages(&recovered), []);
}

/// Cuts the log of changes at many places: what is left is always the first batches, whole.
#[test]
fn a_log_of_changes_that_was_cut_holds_whole_batches() {
    let (folder, path) = folder();
    let writer = open(&path);
    let events = Event::lines("a", 12);
    let mut feed = append(&writer, 1, &events, 3);
    let log = |path: &Path| format!("{}-wal", path.display());
    let (file, changes) = (fs::read(&path).unwrap(), fs::read(log(&path)).unwrap());
    let mut sizes = Vec::new();
    for (round, length) in (0..=changes.len()).rev().step_by(changes.len() / 40).enumerate() {
        let copy = folder.path().join(format!("{round}.sqlite"));
        fs::write(&copy, &file).unwrap();
        fs::write(log(&copy), &changes[..length]).unwrap();
        let backend = open(&copy);
        let state = backend.feeds(None, None, 1).unwrap().heads;
        let size = state.first().map_or(0, |head| head.size);
        assert_eq!(size % 3, 0);
        feed.heads.retain(|head| head.size <= size);
        assert_feed(&backend, &feed, &events[..size as usize]);
        assert_eq!(damages(&backend), []);
        sizes.push(size);
    }
    assert!(sizes[0] == 12 && sizes.contains(&3), "{sizes:?}");
}
