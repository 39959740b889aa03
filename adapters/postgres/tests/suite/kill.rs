//! Connections that end at any moment, and answers that get lost.

use crate::{database, open};
use burnlog_log::conformance::build::{Event, TestFeed, read_all};
use burnlog_log::{
    Backend, Batch, ErrorKind, Kind, Ledger, LedgerId, Limit, MemoryBackend, Position, Timestamp, WriterKey,
    replay, verify,
};
use burnlog_postgres::Database;
use std::sync::atomic::{AtomicBool, Ordering};

/// Three hosts with batches of all sizes, some events shared.
pub(crate) fn source() -> Ledger {
    let ledger = Ledger::new(MemoryBackend::new(LedgerId([1; 16])));
    for number in 1..=3u8 {
        let mut writer = ledger.writer(WriterKey::from_secret([number; 32])).unwrap();
        for round in 0..12u64 {
            let mut batch = Batch::default();
            for seq in 0..5 + round * 15 {
                let stream = if seq % 3 == 0 { "shared".to_owned() } else { format!("host-{number}") };
                let kind = if round == 0 && seq == 0 { Kind::Writer } else { Kind::Line };
                let position = Position {
                    kind,
                    source: "test".into(),
                    stream: stream.into(),
                    seq: round * 1000 + seq,
                    part: None,
                };
                batch.push(position, &seq.to_le_bytes().repeat(1 + seq as usize)).unwrap();
            }
            writer.append(&batch, Timestamp::from_micros(round as i64)).unwrap();
        }
    }
    ledger
}

pub(crate) fn assert_same(here: &Ledger, there: &Ledger) {
    assert_eq!(here.feeds().unwrap(), there.feeds().unwrap());
    let count = |ledger: &Ledger| ledger.stat().map(|stat| (stat.events, stat.payload_bytes)).unwrap();
    assert_eq!(count(here), count(there));
    for head in here.feeds().unwrap() {
        let ours = read_all(here.backend(), &head.feed, Limit::default());
        assert_eq!(ours, read_all(there.backend(), &head.feed, Limit::default()));
    }
    let mut damages = Vec::new();
    verify(there, &[], &mut |finding| {
        if finding.code != "unanchored" {
            damages.push(finding);
        }
    })
    .unwrap();
    assert_eq!(damages, []);
}

#[test]
fn replay_there_and_back_gives_the_same_feeds_heads_and_roots() {
    let (source, database) = (source(), database());
    let there = Ledger::new(open(&database));
    let erased =
        read_all(source.backend(), &source.feeds().unwrap()[0].feed, Limit::default()).entries[5].address;
    source.erase(&[erased]).unwrap();
    let report = replay(&source, &there, &mut |_| {}).unwrap();
    assert_eq!(report.divergences, []);
    assert_same(&source, &there);
    let again = replay(&source, &there, &mut |_| {}).unwrap();
    assert_eq!((again.batches, again.events_sent, again.feeds_equal), (0, 0, 3));
    let back = Ledger::new(MemoryBackend::new(LedgerId([2; 16])));
    replay(&there, &back, &mut |_| {}).unwrap();
    assert_same(&source, &back);
}

const KILL: &str = "select pg_terminate_backend(pid) from pg_stat_activity \
                    where datname = current_database() and pid <> pg_backend_pid() and application_name = 'burnlog'";

/// Ends every connection of the database again and again; between two times it counts to a number of its own.
fn kill_while(database: &Database, running: &AtomicBool, mut seed: u64) -> u64 {
    let killer = database.connect().unwrap();
    killer.run("set application_name = 'killer'").unwrap();
    let mut killed = 0;
    while running.load(Ordering::Relaxed) && killed < 40 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        killer.run(&format!("select count(*) from generate_series(1, {})", seed % 60_000)).unwrap();
        killed += killer.rows(KILL).unwrap().len() as u64;
    }
    killed
}

#[test]
fn a_replay_whose_connections_are_killed_converges_and_doubles_nothing() {
    let (source, database) = (source(), database());
    drop(open(&database));
    let mut killed = 0;
    for seed in [3, 1_000_003, 77_777] {
        let there = Ledger::new(open(&database));
        let running = AtomicBool::new(true);
        std::thread::scope(|scope| {
            let killer = scope.spawn(|| kill_while(&database, &running, seed));
            // The killer gives up after a number of times, so this ends.
            while let Err(error) = replay(&source, &there, &mut |_| {}) {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            }
            running.store(false, Ordering::Relaxed);
            killed += killer.join().unwrap();
        });
        assert_same(&source, &there);
        database.run("drop schema burnlog cascade").unwrap();
        drop(there);
        drop(open(&database));
    }
    assert!(killed > 0, "nothing was killed, so nothing was tested");
}

#[test]
fn after_the_server_ended_all_connections_the_next_calls_work() {
    let database = database();
    let backend = open(&database);
    let mut feed = TestFeed::new(1);
    feed.append(&backend, &Event::lines("a", 3)).unwrap();
    for round in 0..5usize {
        database.connect().unwrap().run(KILL).unwrap();
        // Nothing was under way, so nobody needs to hear of it.
        assert_eq!(backend.read(&feed.id(), 0, Limit::default()).unwrap().entries.len(), 3 + 2 * round);
        database.connect().unwrap().run(KILL).unwrap();
        feed.append(&backend, &Event::lines(&round.to_string(), 2)).unwrap();
    }
    assert_eq!(backend.read(&feed.id(), 0, Limit::default()).unwrap().entries.len(), 13);
}

#[test]
fn a_connection_that_ends_during_the_commit_leaves_nothing_behind() {
    let database = database();
    let backend = open(&database);
    // Deferred to the end of the transaction: the connection ends while `COMMIT` is carried out.
    database
        .run(
            "create function burnlog.die() returns trigger language plpgsql as \
             $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$; \
             create constraint trigger die after insert on burnlog.entries deferrable initially deferred \
             for each row execute function burnlog.die()",
        )
        .unwrap();
    let mut feed = TestFeed::new(1);
    let events = Event::lines("a", 3);
    let prepared = feed.prepare(&events);
    assert_eq!(prepared.refused(&backend).kind(), ErrorKind::Unavailable);
    database.run("drop trigger die on burnlog.entries").unwrap();
    assert!(backend.read(&feed.id(), 0, Limit::default()).unwrap().state.is_none(), "it was rolled back");
    feed.append(&backend, &events).unwrap();
    assert_eq!(backend.stat().unwrap().events, 3);
}
