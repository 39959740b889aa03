//! Opening: what is refused and why, who may open beside whom.

use super::{append, open, reader};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Backend, Error, ErrorKind, Limit};
use burnlog_redb::{Durability, RedbBackend, RedbOptions};
use redb::{Database, TableDefinition};
use std::fs;
use std::path::{Path, PathBuf};

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.redb");
    (folder, path)
}

#[track_caller]
fn refused(path: &Path, options: RedbOptions) -> Error {
    let error = RedbBackend::open(path, options).expect_err("must be refused");
    assert!(error.location().contains(path.to_str().unwrap()), "{error} does not say where");
    assert!(!error.message().is_empty());
    error
}

fn create() -> RedbOptions {
    RedbOptions { create: true, ..RedbOptions::default() }
}

#[test]
fn without_create_an_absent_file_is_not_found_and_stays_absent() {
    let (folder, path) = folder();
    for options in [RedbOptions::default(), reader(), RedbOptions { create: true, ..reader() }] {
        assert_eq!(refused(&path, options).kind(), ErrorKind::NotFound);
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn creating_leaves_one_file() {
    let (folder, path) = folder();
    let id = open(&path).location().id;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(open(&path).location().id, id);
    let location = open(&path).location();
    assert_eq!((location.backend, location.url), ("redb", format!("redb:{}", path.display())));
}

#[test]
fn what_is_no_ledger_is_invalid_and_left_alone() {
    let (folder, path) = folder();
    let missing = folder.path().join("no/such/folder/ledger.redb");
    assert_eq!(refused(&missing, create()).kind(), ErrorKind::NotFound);
    for options in [RedbOptions::default(), create(), reader()] {
        assert_eq!(refused(folder.path(), options).kind(), ErrorKind::Invalid);
    }
    for content in [b"".as_slice(), b"redb", b"SQLite format 3\0", &[0; 5000], &[0x72; 5000]] {
        fs::write(&path, content).unwrap();
        for options in [RedbOptions::default(), create(), reader()] {
            assert_eq!(refused(&path, options).kind(), ErrorKind::Invalid, "{} bytes", content.len());
        }
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let below = path.join("ledger.redb");
    assert_eq!(refused(&below, create()).kind(), ErrorKind::Invalid);
}

#[test]
fn the_redb_file_of_another_program_is_invalid() {
    let (_folder, path) = folder();
    let database = Database::create(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(TableDefinition::<u64, u64>::new("meta")).unwrap();
    txn.commit().unwrap();
    drop(database);
    assert_eq!(refused(&path, create()).kind(), ErrorKind::Invalid);
    fs::remove_file(&path).unwrap();
    drop(Database::create(&path).unwrap());
    assert_eq!(refused(&path, create()).kind(), ErrorKind::Invalid);
}

#[test]
fn a_newer_format_is_unsupported() {
    let (_folder, path) = folder();
    drop(open(&path));
    let database = Database::open(&path).unwrap();
    let txn = database.begin_write().unwrap();
    txn.open_table(TableDefinition::<&str, &[u8]>::new("meta"))
        .unwrap()
        .insert("format", b"burnlog redb\x02\0\0\0, and more".as_slice())
        .unwrap();
    txn.commit().unwrap();
    drop(database);
    let error = refused(&path, RedbOptions::default());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("format 2"), "{error}");
}

#[test]
fn a_second_writer_is_refused_and_readers_go_on() {
    let (_folder, path) = folder();
    let writer = open(&path);
    let events = Event::lines("a", 6);
    let mut feed = append(&writer, 1, &events[..2], 2);
    assert_eq!(refused(&path, create()).kind(), ErrorKind::InUse);
    let readers = [(); 2].map(|()| RedbBackend::open(&path, reader()).unwrap());
    for range in [2..4, 4..6] {
        feed.append(&writer, &events[range.clone()]).unwrap();
        for reader in &readers {
            assert_feed(reader, &feed, &events[..range.end]);
        }
    }
    assert_eq!(super::damages(&readers[0]), [], "checked beside a writer");
    assert_eq!(super::damages(&writer), []);
    writer.erase(&[events[0].address]).unwrap();
    let page = readers[0].read(&feed.id(), 0, Limit::default()).unwrap();
    assert!(matches!(page.entries[0].body, burnlog_log::Body::Erased { .. }), "erased for readers too");
    drop(writer);
    let writer = open(&path);
    feed.append(&writer, &Event::lines("b", 1)).unwrap();
    assert_eq!(readers[0].stat().unwrap().events, 7);
}

#[test]
fn without_syncs_nobody_else_may_have_the_file() {
    let (_folder, path) = folder();
    let options = RedbOptions { durability: Durability::Os, ..create() };
    let events = Event::lines("a", 20);
    let writer = RedbBackend::open(&path, options.clone()).unwrap();
    let feed = append(&writer, 1, &events, 3);
    assert_feed(&writer, &feed, &events);
    assert_eq!(refused(&path, reader()).kind(), ErrorKind::InUse);
    assert_eq!(refused(&path, create()).kind(), ErrorKind::InUse);
    drop(writer);
    assert_feed(&RedbBackend::open(&path, reader()).unwrap(), &feed, &events);
    assert_feed(&open(&path), &feed, &events);
}

#[test]
fn nothing_is_acknowledged_into_a_file_that_was_moved_or_replaced() {
    let (folder, path) = folder();
    let (away, events) = (folder.path().join("away.redb"), Event::lines("a", 6));
    let writer = open(&path);
    let mut feed = append(&writer, 1, &events[..2], 2);
    fs::rename(&path, &away).unwrap();
    let refused = |feed: &TestFeed| {
        let gone = feed.prepare(&events[2..4]).refused(&writer);
        assert_eq!(gone.kind(), ErrorKind::NotFound, "{gone}");
        assert!(gone.location().contains(path.to_str().unwrap()), "{gone} does not say where");
    };
    refused(&feed);
    assert_eq!(writer.erase(&[events[0].address]).unwrap_err().kind(), ErrorKind::NotFound);
    let sound = fs::read(&away).unwrap();
    let compacted = writer.compact().unwrap_err();
    assert_eq!(compacted.kind(), ErrorKind::NotFound, "{compacted}");
    assert!(compacted.location().contains(path.to_str().unwrap()), "{compacted} does not say where");
    assert!(fs::read(&away).unwrap() == sound, "the file that was moved away was compacted");
    let other = open(&path);
    refused(&feed);
    assert_eq!(writer.compact().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(other.stat().unwrap().events, 0, "nothing went into the file that took its place");
    drop(other);
    // Nothing of what was refused is there, and the file that is put back takes it.
    fs::rename(&away, &path).unwrap();
    assert_feed(&writer, &feed, &events[..2]);
    feed.append(&writer, &events[2..4]).unwrap();
    drop(writer);
    let writer = open(&path);
    feed.append(&writer, &events[4..]).unwrap();
    assert_feed(&writer, &feed, &events);
}

#[test]
fn a_reader_changes_no_byte_and_writes_nothing() {
    let (_folder, path) = folder();
    let events = Event::lines("a", 5);
    let feed = append(&open(&path), 1, &events, 2);
    let before = fs::read(&path).unwrap();
    {
        let reader = RedbBackend::open(&path, reader()).unwrap();
        assert_feed(&reader, &feed, &events);
        assert_eq!(super::damages(&reader), []);
        let denied = TestFeed::new(2).append(&reader, &events).unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::Denied);
        assert_eq!(reader.erase(&[events[0].address]).unwrap_err().kind(), ErrorKind::Denied);
        assert_eq!(reader.compact().unwrap_err().kind(), ErrorKind::Denied);
    }
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_file_that_was_not_closed_is_recovered_by_a_writer_and_refused_to_readers() {
    let (folder, path) = folder();
    let writer = open(&path);
    let events = Event::lines("a", 9);
    let feed = append(&writer, 1, &events, 3);
    // What a machine that was switched off now would come back with.
    let copy = folder.path().join("copy.redb");
    fs::copy(&path, &copy).unwrap();
    drop(writer);
    let error = refused(&copy, reader());
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.message().contains("open it once for writing"), "{error}");
    let recovered = open(&copy);
    assert_feed(&recovered, &feed, &events);
    assert_eq!(super::damages(&recovered), []);
    drop(recovered);
    assert_feed(&RedbBackend::open(&copy, reader()).unwrap(), &feed, &events);
}

#[test]
fn a_token_of_another_ledger_is_not_understood() {
    let (folder, path) = folder();
    let (here, there) = (open(&path), open(&folder.path().join("other.redb")));
    append(&here, 1, &Event::lines("a", 2), 1);
    append(&there, 1, &Event::lines("a", 2), 1);
    append(&there, 2, &Event::lines("a", 9), 1);
    let of_here = here.feeds(None, None, 10).unwrap().token;
    assert_eq!(here.feeds(None, Some(&of_here), 10).unwrap().heads, []);
    assert_eq!(there.feeds(None, Some(&of_here), 10).unwrap().heads.len(), 2);
}

#[test]
fn a_token_of_a_ledger_that_fell_back_and_grew_again_misses_nothing() {
    let (folder, path) = folder();
    let copy = folder.path().join("copy.redb");
    append(&open(&path), 1, &Event::lines("a", 2), 1);
    fs::copy(&path, &copy).unwrap();
    let backend = open(&path);
    append(&backend, 2, &Event::lines("b", 3), 1);
    let token = backend.feeds(None, None, 10).unwrap().token;
    drop(backend);
    // Put back from the copy, it comes to the same clock and beyond with other feeds.
    fs::rename(&copy, &path).unwrap();
    let backend = open(&path);
    append(&backend, 3, &Event::lines("c", 1), 1);
    append(&backend, 4, &Event::lines("d", 5), 1);
    assert_eq!(backend.feeds(None, Some(&token), 10).unwrap().heads.len(), 3);
}

#[test]
fn only_feeds_that_moved_are_listed_after_a_token() {
    let (_folder, path) = folder();
    let backend = open(&path);
    let mut feeds: Vec<TestFeed> = (1..=40).map(TestFeed::new).collect();
    for feed in &mut feeds {
        feed.append(&backend, &Event::lines("a", 2)).unwrap();
    }
    let token = backend.feeds(None, None, 1).unwrap().token;
    for feed in &mut feeds[10..20] {
        feed.append(&backend, &Event::lines("b", 1)).unwrap();
        feed.append(&backend, &Event::lines("c", 1)).unwrap();
    }
    let mut expected: Vec<_> = feeds[10..20].iter().map(|feed| *feed.heads.last().unwrap()).collect();
    expected.sort_by_key(|head| head.feed);
    for limit in [1, 3, 10, 11] {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = backend.feeds(after.as_ref(), Some(&token), limit).unwrap();
            assert!(page.heads.len() <= limit);
            listed.extend(page.heads);
            if !page.more {
                break;
            }
            after = listed.last().map(|head: &burnlog_log::BatchHead| head.feed);
        }
        assert_eq!(listed, expected, "pages of {limit}");
    }
}
