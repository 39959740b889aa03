//! What lies under the file: a full disk, a limit on its size, a read-only mount, and a file that is taken away.

use super::{append, create, damages, folder, noisy, open, reader};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Backend, ErrorKind};
use burnlog_sqlite::SqliteBackend;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What tells [`a_process_on_a_disk_of_its_own`] what to do and in which folder.
const DISK: &str = "BURNLOG_TEST_DISK";

/// The other process of the tests below; started by nobody else, it has nothing to do.
#[test]
fn a_process_on_a_disk_of_its_own() {
    let Ok(told) = std::env::var(DISK) else { return };
    let (what, folder) = told.split_once(' ').unwrap();
    let path = Path::new(folder).join("ledger.sqlite");
    match what {
        "full" => fill(&path, "make room and try again", &|| {
            fs::remove_file(Path::new(folder).join("ballast")).unwrap();
        }),
        "limited" => fill(&path, "could not be read or written", &|| {}),
        "read-only" => read_only(&path),
        other => panic!("{other}"),
    }
    println!("\ndone: {what}");
}

/// Runs this test binary, after `setup` in a shell that ends with it, as the process above.
fn run(what: &str, folder: &Path, program: &str, arguments: &[&str], setup: &str) {
    let own = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(arguments)
        .args(["sh", "-ec", &format!("{setup}; exec \"$0\" \"$@\"")])
        .arg(own)
        .args(["--exact", "--nocapture", "ledger::disk::a_process_on_a_disk_of_its_own"])
        .env(DISK, format!("{what} {}", folder.display()))
        .env("FOLDER", folder)
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && printed.contains(&format!("done: {what}")), "{printed}{said}");
}

/// Appends until nothing more goes in, makes room, goes on.
fn fill(path: &Path, says: &str, make_room: &dyn Fn()) {
    let backend = open(path);
    let (mut feed, mut events) = (TestFeed::new(1), Vec::new());
    let next = |events: &Vec<Event>| noisy(&format!("a{}", events.len()), 3, 40_000);
    loop {
        let batch = next(&events);
        match feed.append(&backend, &batch) {
            Ok(()) => events.extend(batch),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
                assert!(error.message().contains(says), "{error}");
                break;
            }
        }
        assert!(events.len() < 300, "12 MB went onto a disk of 4");
    }
    assert!(events.len() >= 6, "it was full at once");
    assert_feed(&backend, &feed, &events);
    assert_feed(&SqliteBackend::open(path, reader()).unwrap(), &feed, &events);
    assert_eq!(damages(&backend), []);
    make_room();
    let more = if says.starts_with("make room") { next(&events) } else { Vec::new() };
    if !more.is_empty() {
        feed.append(&backend, &more).unwrap();
        events.extend(more);
    }
    drop(backend);
    let backend = open(path);
    assert_feed(&backend, &feed, &events);
    assert_eq!(damages(&backend), []);
}

#[test]
fn a_full_disk_refuses_a_batch_whole_and_is_got_over() {
    let folder = tempfile::tempdir().unwrap();
    let setup = "mount -t tmpfs -o size=4m none \"$FOLDER\"; head -c 1000000 /dev/zero > \"$FOLDER/ballast\"";
    run("full", folder.path(), "unshare", &["-rm"], setup);
}

#[test]
fn a_file_that_may_not_grow_refuses_a_batch_whole() {
    let (folder, path) = folder();
    // In blocks of 512 bytes; the write then fails with another error than that of a full disk.
    run("limited", folder.path(), "env", &[], "trap '' XFSZ; ulimit -f 4000");
    // Without the limit the same file goes on.
    let backend = open(&path);
    let before = backend.feeds(None, None, 1).unwrap().heads[0].size;
    assert!(before >= 6);
    append(&backend, 2, &Event::lines("more", 5), 5);
    assert_eq!(damages(&backend), []);
}

fn read_only(path: &Path) {
    let events = Event::lines("a", 6);
    let feed = TestFeed::new(1);
    let backend = SqliteBackend::open(path, reader()).unwrap();
    assert_eq!(backend.feeds(None, None, 5).unwrap().heads[0].feed, feed.id());
    assert_eq!(damages(&backend), []);
    for error in [
        SqliteBackend::open(path, create()).and_then(|backend| TestFeed::new(2).append(&backend, &events)),
        SqliteBackend::open(&path.with_file_name("new.sqlite"), create()).map(drop),
    ] {
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
}

#[test]
fn on_a_read_only_disk_a_closed_ledger_is_read_and_nothing_is_written() {
    let (folder, path) = folder();
    append(&open(&path), 1, &Event::lines("a", 6), 3);
    let before = fs::read(&path).unwrap();
    let setup = "mount --bind \"$FOLDER\" \"$FOLDER\"; mount -o remount,ro,bind \"$FOLDER\"";
    run("read-only", folder.path(), "unshare", &["-rm"], setup);
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// Takes the ledger away, with what lies beside it.
fn take_away(path: &Path, to: Option<&Path>) {
    for suffix in ["", "-wal", "-shm"] {
        let file = with_suffix(path, suffix);
        match to {
            Some(to) if file.exists() => fs::rename(file, with_suffix(to, suffix)).unwrap(),
            None if file.exists() => fs::remove_file(file).unwrap(),
            _ => {}
        }
    }
}

#[test]
fn nothing_is_acknowledged_into_a_file_that_was_deleted() {
    let (_folder, path) = folder();
    let backend = open(&path);
    let mut feed = append(&backend, 1, &Event::lines("a", 4), 2);
    take_away(&path, None);
    for _ in 0..2 {
        let error = feed.append(&backend, &Event::lines("b", 2)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
        assert!(error.message().contains("open it again"), "{error}");
    }
    assert_eq!(backend.compact().unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!path.exists(), "no empty file in its place");
    // Whoever opens it anew makes a new ledger, and says so by its id.
    assert_ne!(open(&path).location().id, backend.location().id);
    assert_eq!(feed.append(&backend, &Event::lines("b", 2)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn nothing_is_acknowledged_into_a_file_that_was_moved_or_replaced() {
    let (folder, path) = folder();
    let elsewhere = folder.path().join("elsewhere.sqlite");
    let backend = open(&path);
    let events = Event::lines("a", 4);
    let mut feed = append(&backend, 1, &events, 2);
    take_away(&path, Some(&elsewhere));
    // Another ledger at the same place, as after a restore.
    let other = open(&path);
    let of_other = append(&other, 2, &Event::lines("other", 3), 3);
    let error = feed.append(&backend, &Event::lines("b", 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_feed(&other, &of_other, &Event::lines("other", 3));
    assert_eq!(other.feeds(None, None, 5).unwrap().heads.len(), 1);
    drop(backend);
    let moved = open(&elsewhere);
    assert_feed(&moved, &feed, &events);
    assert_eq!((damages(&moved), damages(&other)), (Vec::new(), Vec::new()));
}
