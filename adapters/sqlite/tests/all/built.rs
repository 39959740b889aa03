//! Claims about files that are built beside their name: who sees what while one is built, who takes its place when, and what is
//! left of one that was not finished.

use burnlog_log::{ErrorKind, Ledger};
use burnlog_projections::conformance::build::{
    Record, append, catch_up, dumped, expected_dump, ledger, made_up, small_limits,
};
use burnlog_projections::conformance::leased;
use burnlog_projections::{FoldStore, Projector, RowReader};
use burnlog_sqlite::{SqliteOptions, SqliteProjections};
use rusqlite::Connection;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("projections.sqlite");
    (folder, path)
}

fn linked() -> SqliteOptions {
    SqliteOptions { linked: true, ..SqliteOptions::default() }
}

fn open(path: &Path) -> SqliteProjections {
    SqliteProjections::open(path, &linked()).unwrap()
}

fn open_to_read(path: &Path) -> burnlog_log::Result<SqliteProjections> {
    SqliteProjections::open(path, &SqliteOptions { read_only: true, ..SqliteOptions::default() })
}

fn logged(records: &[Record]) -> Ledger {
    let ledger = ledger();
    append(&ledger, 1, records);
    ledger
}

/// A file with a made-up log folded into it.
fn filled() -> (TempDir, PathBuf, Ledger, Vec<Record>) {
    let (folder, path) = place();
    let records = made_up(31, 200);
    let ledger = logged(&records);
    catch_up(&mut open(&path), &ledger);
    (folder, path, ledger, records)
}

/// The files of a folder but the link, without what SQLite keeps beside them.
fn numbered(folder: &TempDir) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let is_one = |path: &PathBuf| {
        let last = path.extension().unwrap().to_str().unwrap();
        last.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut files: Vec<PathBuf> = entries.filter(is_one).collect();
    files.sort();
    files
}

fn journal_mode(path: &Path) -> String {
    Connection::open(path).unwrap().query_row("PRAGMA journal_mode", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_first_file_is_there_for_readers_when_it_has_caught_up() {
    let (folder, path) = place();
    let records = made_up(31, 200);
    let ledger = logged(&records);
    let mut store = open(&path);
    let mut projector = Projector::new(&mut store, &ledger, small_limits()).unwrap();
    assert_eq!(open_to_read(&path).unwrap_err().kind(), ErrorKind::NotFound);
    projector.catch_up(&ledger).unwrap();
    let reader = open_to_read(&path).unwrap();
    assert_eq!(dumped(&reader), expected_dump(&records));
    assert!(!reader.is_replaced() && !store.is_replaced());
    assert_eq!(numbered(&folder), [folder.path().join(fs::read_link(&path).unwrap())]);
    assert_eq!(journal_mode(&path), "wal");
    assert_eq!(reader.location(), path.display().to_string());
    // From here on commits are seen one by one.
    let more = made_up(32, 40);
    append(&ledger, 1, &more);
    catch_up(&mut store, &ledger);
    assert_eq!(dumped(&reader), expected_dump(&[records, more].concat()));
}

#[test]
fn a_first_file_that_takes_long_is_shown_as_far_as_it_is() {
    let (_folder, path) = place();
    let ledger = logged(&made_up(31, 200));
    let options = SqliteOptions { unshown_max: Duration::ZERO, ..linked() };
    let mut store = SqliteProjections::open(&path, &options).unwrap();
    let lease = leased(&mut store);
    store.bind(ledger.location().id).unwrap();
    let generation = store.create(&lease, 1).unwrap();
    assert!(open_to_read(&path).is_err());
    store.commit(&lease, generation, 0, &mut |_| Ok(())).unwrap();
    assert_eq!(open_to_read(&path).unwrap().state().unwrap().live.unwrap().revision, 1);
    store.commit(&lease, generation, 1, &mut |_| Ok(())).unwrap();
    assert_eq!(open_to_read(&path).unwrap().state().unwrap().live.unwrap().revision, 2);
}

#[test]
fn an_ingest_that_fails_leaves_the_rows_of_what_it_stored() {
    let (_folder, path) = place();
    let records = made_up(31, 100);
    let ledger = logged(&records);
    let mut store = open(&path);
    let mut projector = Projector::new(&mut store, &ledger, small_limits()).unwrap();
    projector.flush().unwrap();
    drop(store);
    let reader = open_to_read(&path).unwrap();
    assert!(reader.state().unwrap().live.is_some());
    catch_up(&mut open(&path), &ledger);
    assert_eq!(dumped(&open_to_read(&path).unwrap()), expected_dump(&records));
}

#[test]
fn rows_folded_anew_take_the_place_of_those_before_when_they_have_caught_up() {
    let (folder, path, ledger, records) = filled();
    let before = numbered(&folder);
    let (reader, generation) = {
        let reader = open_to_read(&path).unwrap();
        let generation = reader.state().unwrap().live.unwrap().generation;
        (reader, generation)
    };
    let mut anew = open(&path).anew().unwrap();
    let mut projector = Projector::rebuild(&mut anew, &ledger, small_limits()).unwrap();
    assert_eq!(numbered(&folder).len(), 2);
    assert!(!reader.is_replaced());
    projector.catch_up(&ledger).unwrap();
    let after = anew.state().unwrap().live.unwrap();
    assert!(after.generation > generation && after.settled);
    // Who had the file before open still reads it, and can know.
    assert!(reader.is_replaced());
    assert_eq!(dumped(&reader), expected_dump(&records));
    assert_eq!(dumped(&open_to_read(&path).unwrap()), expected_dump(&records));
    assert!(numbered(&folder).contains(&before[0]), "somebody has it open");
    drop(reader);
    let mut again = anew.anew().unwrap();
    Projector::rebuild(&mut again, &ledger, small_limits()).unwrap().catch_up(&ledger).unwrap();
    assert_eq!(numbered(&folder), [folder.path().join(fs::read_link(&path).unwrap())]);
    assert_eq!(dumped(&again), expected_dump(&records));
}

#[test]
fn a_rebuild_that_is_not_finished_leaves_the_rows_as_they_were() {
    let (folder, path, ledger, records) = filled();
    let before = numbered(&folder);
    let mut anew = open(&path).anew().unwrap();
    let mut projector = Projector::rebuild(&mut anew, &ledger, small_limits()).unwrap();
    projector.flush().unwrap();
    drop(anew);
    assert_eq!(numbered(&folder), before);
    assert_eq!(dumped(&open_to_read(&path).unwrap()), expected_dump(&records));
}

/// As a process that follows sessions meets a rebuild by another one.
#[test]
fn who_folds_into_a_replaced_file_goes_on_in_the_new_one() {
    let (folder, path, ledger, records) = filled();
    let mut follower = open(&path);
    let mut following = Projector::new(&mut follower, &ledger, small_limits()).unwrap();
    following.catch_up(&ledger).unwrap();
    let mut anew = open(&path).anew().unwrap();
    Projector::rebuild(&mut anew, &ledger, small_limits()).unwrap().catch_up(&ledger).unwrap();
    drop(anew);
    let more = made_up(33, 60);
    append(&ledger, 2, &more);
    following.catch_up(&ledger).unwrap();
    let expected = expected_dump(&[records, more].concat());
    assert_eq!(dumped(&open_to_read(&path).unwrap()), expected);
    assert_eq!(dumped(&follower), expected);
    assert_eq!(numbered(&folder).len(), 1, "nobody has the other one open any more");
}

#[test]
fn of_two_that_build_a_first_file_at_once_both_end_in_the_same_one() {
    let (folder, path) = place();
    let records = made_up(31, 120);
    let ledger = logged(&records);
    let (mut first, mut second) = (open(&path), open(&path));
    assert_eq!(numbered(&folder).len(), 2);
    let mut of_first = Projector::new(&mut first, &ledger, small_limits()).unwrap();
    catch_up(&mut second, &ledger);
    of_first.catch_up(&ledger).unwrap();
    let more = made_up(34, 30);
    append(&ledger, 1, &more);
    for store in [&mut second, &mut first] {
        catch_up(store, &ledger);
    }
    let expected = expected_dump(&[records, more].concat());
    assert_eq!([dumped(&first), dumped(&second)], [expected.clone(), expected]);
    assert_eq!(numbered(&folder).len(), 1);
}

#[test]
fn what_fails_in_the_midst_of_a_change_is_thrown_away() {
    let (folder, path) = place();
    let records = made_up(31, 60);
    let ledger = logged(&records);
    let mut store = open(&path);
    let lease = leased(&mut store);
    let generation = store.create(&lease, 1).unwrap();
    let refused = |store: &mut SqliteProjections, from: u64| {
        let feed = burnlog_projections::conformance::build::feed(1);
        store.commit(&lease, generation, 0, &mut |to| {
            to.advance(&[burnlog_projections::CursorMove { feed, from, to: 9 }])?;
            Err(burnlog_log::Error::new(ErrorKind::Unavailable, "test", "a disk that is full"))
        })
    };
    // What is refused before it changes anything does no harm.
    assert_eq!(refused(&mut store, 5).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(refused(&mut store, 0).unwrap_err().message(), "a disk that is full");
    for error in [refused(&mut store, 0).unwrap_err(), store.state().unwrap_err()] {
        assert!(error.message().starts_with("a disk that is full; "), "{error}");
        assert!(error.message().ends_with("run the command again"), "{error}");
    }
    drop(store);
    assert_eq!(numbered(&folder), [] as [PathBuf; 0]);
    assert_eq!(open_to_read(&path).unwrap_err().kind(), ErrorKind::NotFound);
    catch_up(&mut open(&path), &ledger);
    assert_eq!(dumped(&open_to_read(&path).unwrap()), expected_dump(&records));
}

#[test]
fn what_a_killed_process_left_is_removed_and_what_is_being_built_stays() {
    let (folder, path, ledger, records) = filled();
    // What a kill leaves: whole or torn, and with the link that it was about to rename.
    let torn = folder.path().join("projections.sqlite.17");
    fs::write(&torn, "SQLite format 3\0 and not more").unwrap();
    let whole = folder.path().join("projections.sqlite.18");
    fs::copy(&path, &whole).unwrap();
    std::os::unix::fs::symlink("projections.sqlite.18", folder.path().join("projections.sqlite.18-link"))
        .unwrap();
    let foreign = folder.path().join("projections.sqlite.old");
    fs::write(&foreign, "somebody's").unwrap();
    let mut built = open(&path).anew().unwrap();
    let mut projector = Projector::rebuild(&mut built, &ledger, small_limits()).unwrap();
    let mut other = open(&path).anew().unwrap();
    Projector::rebuild(&mut other, &ledger, small_limits()).unwrap().catch_up(&ledger).unwrap();
    assert!(!torn.exists() && !whole.exists() && foreign.exists());
    assert_eq!(numbered(&folder).len(), 2, "one is shown, and one is being built");
    projector.catch_up(&ledger).unwrap();
    assert_eq!(dumped(&open_to_read(&path).unwrap()), expected_dump(&records));
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().ends_with("-link")), "{left:?}");
}

#[test]
fn a_file_under_its_own_name_is_folded_anew_inside_it() {
    let (folder, path) = place();
    let records = made_up(31, 60);
    let ledger = logged(&records);
    catch_up(&mut SqliteProjections::open(&path, &SqliteOptions::default()).unwrap(), &ledger);
    let mut anew = open(&path).anew().unwrap();
    Projector::rebuild(&mut anew, &ledger, small_limits()).unwrap().catch_up(&ledger).unwrap();
    assert_eq!(dumped(&open_to_read(&path).unwrap()), expected_dump(&records));
    assert_eq!(numbered(&folder), [] as [PathBuf; 0]);
    assert!(fs::symlink_metadata(&path).unwrap().is_file());
}
