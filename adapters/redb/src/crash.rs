//! Crash tests: a small run on a disk on which something goes wrong, at every place where it can.

use crate::backend::RedbBackend;
use crate::disk::{Disk, Trouble};
use burnlog_log::conformance::build::{Event, TestFeed, read_all};
use burnlog_log::{Backend, BatchHead, Body, Error, ErrorKind, Ledger, Limit, Presence, Severity, verify};

/// A small run: two feeds, shared events, an erased payload, a compaction.
struct Run {
    feeds: [TestFeed; 2],
    /// Heads acknowledged, and of the batch that was under way when it failed.
    acknowledged: Vec<BatchHead>,
    under_way: Option<BatchHead>,
    erased: Option<Event>,
}

impl Run {
    fn new() -> Self {
        let feeds = [TestFeed::new(1), TestFeed::new(2)];
        Self { feeds, acknowledged: Vec::new(), under_way: None, erased: None }
    }

    fn append(&mut self, backend: &dyn Backend, feed: usize, events: &[Event]) -> Result<(), Error> {
        let prepared = self.feeds[feed].prepare(events);
        self.under_way = Some(prepared.head);
        prepared.apply(backend)?;
        self.acknowledged.push(prepared.head);
        self.under_way = None;
        self.feeds[feed].frontier = prepared.frontier;
        self.feeds[feed].heads.push(prepared.head);
        Ok(())
    }

    fn all(&mut self, backend: &dyn Backend) -> Result<(), Error> {
        let events = lines();
        self.append(backend, 0, &events[..4])?;
        self.append(backend, 1, &events[2..6])?;
        self.append(backend, 0, &events[6..])?;
        backend.erase(&[events[3].address])?;
        self.erased = Some(events[3].clone());
        backend.compact()?;
        self.append(backend, 1, &events[6..8])
    }

    /// What a ledger found after a crash must be.
    fn assert_survived(&self, disk: &Disk, when: &str) {
        let backend = disk.open().unwrap_or_else(|error| panic!("{when}: {error}"));
        backend.check(&mut |damage| panic!("{when}: {damage:?}")).unwrap();
        let ledger = Ledger::new(backend);
        for head in &self.acknowledged {
            let kept = ledger.head_at(&head.feed, head.size).unwrap();
            assert_eq!(kept.as_ref(), Some(head), "{when}: an acknowledged batch is lost");
        }
        for head in ledger.feeds().unwrap() {
            let known = self.acknowledged.iter().chain(&self.under_way).any(|known| *known == head);
            assert!(known, "{when}: a head that nobody appended");
        }
        let verified = verify(&ledger, &self.acknowledged, &mut |finding| {
            let is_expected = finding.severity == Severity::Note || finding.code == "writer-missing";
            assert!(is_expected, "{when}: {finding:?}");
        });
        assert_eq!(verified.unwrap().damages, 0, "{when}");
        if let Some(event) = &self.erased {
            let found = ledger.find(&self.feeds[0].id(), &[event.address]).unwrap();
            assert_eq!(found[0].presence, Presence::Erased, "{when}: an erased payload is back");
        }
    }
}

/// Events of several sizes, so that blocks have one and many pieces.
fn lines() -> Vec<Event> {
    (0..10u64)
        .map(|seq| {
            let text = format!("{{\"n\":{seq},\"text\":\"{}\"}}", "ab ".repeat(seq as usize * 40));
            Event::line("stream", seq, text.as_bytes())
        })
        .chain([Event::line("stream", 10, &noise(9000))])
        .collect()
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as u8
    };
    (0..bytes).map(next).collect()
}

/// How many operations, writes and syncs the run takes when nothing goes wrong.
fn count(start: &Disk) -> (usize, usize, usize) {
    let disk = start.after_crash(0);
    let backend = disk.open().unwrap();
    disk.trouble(Trouble::Nothing);
    Run::new().all(&backend).unwrap();
    drop(backend);
    disk.counts()
}

#[test]
fn a_crash_at_any_operation_loses_no_acknowledged_batch() {
    let start = Disk::with_ledger();
    let (operations, ..) = count(&start);
    assert!(operations > 60, "{operations} operations are too few to mean anything");
    for at in 1..=operations {
        let disk = start.after_crash(0);
        let backend = disk.open().unwrap();
        disk.trouble(Trouble::CrashAt(at));
        let mut run = Run::new();
        let outcome = run.all(&backend);
        assert!(outcome.is_err() || at > operations / 2, "a crash at {at} was not noticed");
        drop(backend);
        for seed in 0..4 {
            run.assert_survived(&disk.after_crash(seed), &format!("crash at {at}, seed {seed}"));
        }
    }
}

/// Goes on until everything is appended, the way a caller would; each trouble happens once.
fn insist(run: &mut Run, backend: &RedbBackend) {
    let events = lines();
    for (feed, range) in [(0, 0..4), (1, 2..6), (0, 6..11), (1, 6..8)] {
        let mut attempts = 0;
        while let Err(error) = run.append(backend, feed, &events[range.clone()]) {
            attempts += 1;
            assert!(attempts < 4, "still {error}");
            // After a lost acknowledgement the batch is there already.
            if error.kind() == ErrorKind::Conflict {
                let head = run.under_way.take().unwrap();
                let id = run.feeds[feed].id();
                let page = backend.read(&id, head.size - 1, Limit::default()).unwrap();
                assert_eq!(page.state.unwrap().head, head);
                run.acknowledged.push(head);
                let grown = run.feeds[feed].prepare(&events[range.clone()]);
                run.feeds[feed].frontier = grown.frontier;
                run.feeds[feed].heads.push(head);
                break;
            }
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        }
        if feed == 1 && run.erased.is_none() {
            let mut erased = backend.erase(&[events[3].address]);
            if erased.is_err() {
                erased = backend.erase(&[events[3].address]);
            }
            erased.unwrap();
            run.erased = Some(events[3].clone());
        }
    }
    if backend.compact().is_err() {
        backend.compact().unwrap();
    }
}

fn assert_complete(run: &Run, backend: &RedbBackend) {
    let events = lines();
    let expected: [Vec<&Event>; 2] = [
        events[..4].iter().chain(&events[6..]).collect(),
        events[2..6].iter().chain(&events[6..8]).collect(),
    ];
    for (feed, expected) in run.feeds.iter().zip(expected) {
        let page = read_all(backend, &feed.id(), Limit::default());
        assert_eq!(page.heads, feed.heads);
        let bodies: Vec<Body> = page.entries.into_iter().map(|entry| entry.body).collect();
        let expected: Vec<Body> = expected
            .into_iter()
            .map(|event| match event.body() {
                Body::Present { skeleton, .. } if event.address == events[3].address => {
                    Body::Erased { skeleton }
                }
                body => body,
            })
            .collect();
        assert_eq!(bodies, expected);
    }
}

#[test]
fn a_sync_that_fails_once_loses_nothing_and_the_backend_goes_on() {
    let start = Disk::with_ledger();
    let (_, _, syncs) = count(&start);
    for at in 1..=syncs {
        let disk = start.after_crash(0);
        let backend = disk.open().unwrap();
        disk.trouble(Trouble::SyncFails(at));
        let mut run = Run::new();
        insist(&mut run, &backend);
        assert_complete(&run, &backend);
        // What was acknowledged after the failure must be on the disk, not only in memory.
        run.assert_survived(&disk.after_crash(0), &format!("sync {at} failed"));
    }
}

#[test]
fn a_write_without_space_loses_nothing_and_the_backend_goes_on() {
    let start = Disk::with_ledger();
    let (_, writes, _) = count(&start);
    for at in 1..=writes {
        let disk = start.after_crash(0);
        let backend = disk.open().unwrap();
        disk.trouble(Trouble::WriteFails(at));
        let mut run = Run::new();
        insist(&mut run, &backend);
        assert_complete(&run, &backend);
        run.assert_survived(&disk.after_crash(0), &format!("write {at} failed"));
    }
}
