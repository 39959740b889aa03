//! The server ends as in a power failure and starts again, in the middle of things.

use crate::kill::{assert_same, source};
use burnlog_log::{
    Batch, BatchHead, ErrorKind, Kind, Ledger, Position, Severity, Timestamp, WriterKey, replay, verify,
};
use burnlog_postgres::{Cluster, Database, PostgresBackend, PostgresOptions};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A cluster that loses what it acknowledged unless a transaction asks for more: what ours do.
fn careless() -> &'static Cluster {
    Cluster::start_for_ever(&[
        "-c",
        "fsync=off",
        "-c",
        "synchronous_commit=off",
        "-c",
        "wal_writer_delay=10s",
    ])
    .unwrap()
}

fn open(database: &Database) -> Ledger {
    Ledger::new(PostgresBackend::open(database.url(), &PostgresOptions::default()).unwrap())
}

/// Says that it is over when it is dropped, also by a panic.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// Waits, without a clock, until `count` has grown past `until`, or the other side is done.
fn wait_for(count: &AtomicU64, until: u64, running: &AtomicBool) -> bool {
    while running.load(Ordering::Relaxed) {
        if count.load(Ordering::Relaxed) >= until {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

#[test]
fn a_replay_goes_on_after_restarts_and_doubles_nothing() {
    let (source, cluster) = (source(), careless());
    let database = cluster.database().unwrap();
    let there = open(&database);
    let (sent, running) = (AtomicU64::new(0), AtomicBool::new(true));
    let restarts = std::thread::scope(|scope| {
        let replaying = scope.spawn(|| {
            let _until = Until(&running);
            while let Err(error) =
                replay(&source, &there, &mut |at| sent.store(at.entries, Ordering::Relaxed))
            {
                assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
            }
        });
        let mut restarts = 0;
        for until in [1, 150, 40, 300, 7] {
            sent.store(0, Ordering::Relaxed);
            if wait_for(&sent, until, &running) {
                cluster.restart_immediately().unwrap();
                restarts += 1;
            }
        }
        replaying.join().unwrap();
        restarts
    });
    assert!(restarts >= 2, "{restarts} restarts fell into the replay");
    assert_same(&source, &there);
}

#[test]
fn what_was_acknowledged_outlives_any_restart() {
    let cluster = careless();
    let database = cluster.database().unwrap();
    let ledger = open(&database);
    let (acknowledged, running) = (AtomicU64::new(0), AtomicBool::new(true));
    let heads = std::thread::scope(|scope| {
        let appending = scope.spawn(|| {
            let _until = Until(&running);
            let mut heads: Vec<BatchHead> = Vec::new();
            let mut seq = 0;
            while running.load(Ordering::Relaxed) {
                // A process that comes again and again, as after its own end.
                let mut writer = match ledger.writer(WriterKey::from_secret([1; 32])) {
                    Ok(writer) => writer,
                    Err(error) if error.kind() == ErrorKind::Unavailable => continue,
                    Err(error) => panic!("{error}"),
                };
                for _ in 0..20 {
                    let mut batch = Batch::default();
                    let (source, stream) = ("test".into(), "a".into());
                    let position = Position { kind: Kind::Line, source, stream, seq, part: None };
                    batch.push(position, &seq.to_le_bytes().repeat(40)).unwrap();
                    if writer.append(&batch, Timestamp::from_micros(seq as i64)).is_err() {
                        break;
                    }
                    heads.push(*writer.head().unwrap());
                    seq += 1;
                    acknowledged.store(seq, Ordering::Relaxed);
                }
            }
            heads
        });
        for until in [3, 8, 40, 41, 90] {
            assert!(wait_for(&acknowledged, until, &running));
            cluster.restart_immediately().unwrap();
        }
        running.store(false, Ordering::Relaxed);
        appending.join().unwrap()
    });
    for head in &heads {
        let kept = ledger.head_at(&head.feed, head.size).unwrap();
        assert_eq!(kept.as_ref(), Some(head), "an acknowledged batch is lost");
    }
    let size = ledger.feeds().unwrap()[0].size;
    assert_eq!(ledger.stat().unwrap().events, size, "one event an entry");
    verify(&ledger, &heads, &mut |finding| assert!(finding.severity < Severity::Damage, "{finding:?}"))
        .unwrap();
}
