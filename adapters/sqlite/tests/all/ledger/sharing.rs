//! Several processes and threads with one file: waiting is bounded, nothing is lost, nothing is half there.

use super::{append, create, damages, folder, noisy, open, reader};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed, read_all};
use burnlog_log::{Backend, BatchHead, ErrorKind, Limit};
use burnlog_sqlite::{SqliteBackend, SqliteLedgerOptions};
use rusqlite::Connection;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What tells [`a_process_that_appends`] where the ledger is, who it is and how many batches it appends.
const LEDGER: &str = "BURNLOG_TEST_LEDGER";

/// The batches that writer `number` appends, one after the other; every second event is everybody's.
fn batch(number: u8, round: u64) -> Vec<Event> {
    let own = noisy(&format!("{number}-{round}"), 20, 700);
    let shared = Event::lines(&format!("shared-{round}"), 20);
    own.into_iter().zip(shared).flat_map(|(own, shared)| [own, shared]).collect()
}

/// The other process of the tests below; started by nobody else, it has nothing to do.
#[test]
fn a_process_that_appends() {
    let Ok(told) = std::env::var(LEDGER) else { return };
    let mut words = told.splitn(3, ' ');
    let number: u8 = words.next().unwrap().parse().unwrap();
    let rounds: u64 = words.next().unwrap().parse().unwrap();
    let backend = open(Path::new(words.next().unwrap()));
    let mut feed = TestFeed::new(number);
    for round in 0..rounds {
        feed.append(&backend, &batch(number, round)).unwrap();
        println!("\nappended {}", round + 1);
    }
}

fn start(path: &Path, number: u8, rounds: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", "ledger::sharing::a_process_that_appends"])
        .env(LEDGER, format!("{number} {rounds} {}", path.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the ledger must hold of writer `number` after that many batches.
fn expected(number: u8, rounds: u64) -> Vec<Event> {
    (0..rounds).flat_map(|round| batch(number, round)).collect()
}

fn assert_whole(backend: &SqliteBackend, number: u8, rounds: u64) {
    let mut feed = TestFeed::new(number);
    let memory = burnlog_log::MemoryBackend::new(burnlog_log::LedgerId([1; 16]));
    for round in 0..rounds {
        feed.append(&memory, &batch(number, round)).unwrap();
    }
    assert_feed(backend, &feed, &expected(number, rounds));
}

#[test]
fn processes_that_write_at_once_lose_nothing() {
    let (_folder, path) = folder();
    let backend = open(&path);
    let mut children: Vec<Child> = (1..=3).map(|number| start(&path, number, 15)).collect();
    // Somebody reads all the while.
    let reader = SqliteBackend::open(&path, reader()).unwrap();
    let mut seen = 0;
    while seen < 3 * 15 * 40 {
        // Asked first: whoever has ended adds nothing after that.
        let ended = children.iter_mut().all(|child| child.try_wait().unwrap().is_some());
        let sizes: u64 = reader.feeds(None, None, 10).unwrap().heads.iter().map(|head| head.size).sum();
        assert!(sizes >= seen && sizes.is_multiple_of(40), "{sizes} after {seen}");
        assert!(!ended || sizes == 3 * 15 * 40, "the processes ended after {sizes} entries");
        seen = sizes;
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    for number in 1..=3 {
        assert_whole(&backend, number, 15);
    }
    assert_eq!(backend.stat().unwrap().events, 3 * 15 * 20 + 15 * 20, "what is everybody's is stored once");
    assert_eq!(damages(&backend), []);
}

#[test]
fn a_process_that_is_killed_leaves_what_it_acknowledged_and_no_half_batch() {
    let (_folder, path) = folder();
    drop(open(&path));
    for (number, until) in [(1, 1), (2, 4), (3, 9)] {
        let mut child = start(&path, number, 1000);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut acknowledged = 0;
        for line in lines {
            if let Some(round) = line.unwrap().strip_prefix("appended ") {
                acknowledged = round.parse().unwrap();
            }
            if acknowledged == until {
                child.kill().unwrap();
                break;
            }
        }
        child.wait().unwrap();
        let backend = open(&path);
        let mut head = BatchHead { size: 0, ..TestFeed::new(number).prepare(&Event::lines("x", 1)).head };
        head.size = read_all(&backend, &head.feed, Limit::default()).state.unwrap().head.size;
        assert!(head.size >= until * 40 && head.size.is_multiple_of(40), "{} entries", head.size);
        assert_whole(&backend, number, head.size / 40);
        assert_eq!(damages(&backend), []);
    }
}

#[test]
fn waiting_for_another_writer_is_bounded_and_leaves_nothing() {
    let (_folder, path) = folder();
    let options = SqliteLedgerOptions { busy_timeout: Duration::from_millis(1), ..create() };
    let backend = SqliteBackend::open(&path, options).unwrap();
    let events = Event::lines("a", 4);
    let mut feed = append(&backend, 1, &events[..2], 2);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    for error in [
        feed.append(&backend, &events[2..]).unwrap_err(),
        backend.erase(&[events[0].address]).unwrap_err(),
        backend.compact().unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
        assert!(error.message().contains("try again"), "{error}");
    }
    assert_feed(&backend, &feed, &events[..2]);
    other.execute_batch("ROLLBACK").unwrap();
    feed.append(&backend, &events[2..]).unwrap();
    assert_feed(&backend, &feed, &events);
}

#[test]
fn the_same_events_brought_by_four_handles_are_stored_once() {
    let (_folder, path) = folder();
    let backend = open(&path);
    let events = Event::lines("a", 120);
    let start = std::sync::Barrier::new(4);
    let feeds = std::thread::scope(|scope| {
        let (path, events, start) = (&path, &events, &start);
        let bring = |number: u8| {
            move || {
                let (handle, mut feed) = (open(path), TestFeed::new(number));
                for chunk in events.chunks(8) {
                    start.wait();
                    feed.append(&handle, chunk).unwrap();
                }
                feed
            }
        };
        let threads: Vec<_> = (1..=4).map(|number| scope.spawn(bring(number))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    for feed in &feeds {
        assert_feed(&backend, feed, &events);
    }
    assert_eq!(backend.stat().unwrap().events, 120);
    assert_eq!(damages(&backend), []);
}

#[test]
fn of_two_handles_with_one_key_one_is_told_of_the_conflict() {
    let (_folder, path) = folder();
    let (here, there) = (open(&path), open(&path));
    let events = Event::lines("a", 6);
    let mut feed = append(&here, 1, &events[..2], 2);
    let (ours, theirs) = (feed.prepare(&events[2..4]), feed.prepare(&events[4..]));
    ours.apply(&here).unwrap();
    assert_eq!(theirs.refused(&there).kind(), ErrorKind::Conflict);
    feed.frontier = ours.frontier;
    feed.heads.push(ours.head);
    assert_feed(&there, &feed, &events[..4]);
}

#[test]
fn only_feeds_that_moved_are_listed_after_a_token() {
    let (folder, path) = folder();
    let backend = open(&path);
    let mut feeds: Vec<TestFeed> = (1..=40).map(TestFeed::new).collect();
    for feed in &mut feeds {
        feed.append(&backend, &Event::lines("a", 2)).unwrap();
    }
    let token = backend.feeds(None, None, 1).unwrap().token;
    let other = open(&path);
    for feed in &mut feeds[10..20] {
        feed.append(&other, &Event::lines("b", 1)).unwrap();
        feed.append(&other, &Event::lines("c", 1)).unwrap();
    }
    let mut expected: Vec<BatchHead> = feeds[10..20].iter().map(|feed| *feed.heads.last().unwrap()).collect();
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
            after = listed.last().map(|head: &BatchHead| head.feed);
        }
        assert_eq!(listed, expected, "pages of {limit}");
    }
    let elsewhere = open(&folder.path().join("other.sqlite"));
    append(&elsewhere, 1, &Event::lines("a", 200), 1);
    let all = elsewhere.feeds(None, Some(&token), 10).unwrap().heads;
    assert_eq!(all.len(), 1, "a token of another ledger is not understood");
}
