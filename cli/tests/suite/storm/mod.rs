//! Law 7 over a whole ingest: session files, cursors, ledger on a simulated disk, folds. The machine is switched off at every
//! write and sync, the disk fails at every sync and is full at every write, with another process's unsynced segment beside.

use crate::laws::{dump_of, dump_text};
use burnlog_jsonl::{Durability, Fault, JsonlBackend, JsonlOptions, Simulated};
use burnlog_log::{
    Batch, BatchHead, Body, Error, Kind, Ledger, Limit, Position, Result, Severity, Timestamp, WriterKey,
    check_payload, verify,
};
use burnlog_projections::{FoldLimits, MemoryProjections, Projector};
use burnlog_sources::{Acknowledged, CursorFile, FeedPoint, Options, Places, discover};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const FOLDER: &str = "/ledger";

/// What another process has written into a segment of its own, of the same records, when the ingest begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// It died between its write and its sync.
    Dead,
    /// It lives and acknowledges without syncs.
    Living,
}

/// A machine: session files and host state on the real disk, the ledger on the simulated one.
struct Storm {
    folder: TempDir,
    system: Simulated,
    store: MemoryProjections,
    acknowledged: Vec<BatchHead>,
    /// Whoever lives beside.
    _beside: Option<Ledger>,
}

fn line(session: usize, number: usize) -> Vec<u8> {
    let id = format!("s{session}");
    let padding = "x".repeat(number * 90);
    crate::assistant(&id, &format!("m{session}-{number}"), 3, Some("end_turn"))
        .replace("hi", &padding)
        .into_bytes()
}

fn open(system: &Simulated, durability: Durability) -> Result<Ledger> {
    let options = JsonlOptions {
        create: true,
        durability,
        // Small enough that segments are sealed and frames cut in the middle of things.
        segment_bytes_max: 6000,
        seal_bytes_min: 2000,
        frame_bytes: 1500,
        files: Arc::new(system.clone()),
        ..JsonlOptions::default()
    };
    JsonlBackend::open(Path::new(FOLDER), options).map(Ledger::new)
}

impl Storm {
    fn new(beside: Beside) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let project = folder.path().join("home/.claude/projects/-p");
        fs::create_dir_all(&project).unwrap();
        for session in 0..2 {
            let lines: Vec<u8> = (0..6).flat_map(|number| line(session, number)).collect();
            fs::write(project.join(format!("s{session}.jsonl")), lines).unwrap();
        }
        let system = Simulated::new(1);
        let living = Self::write_beside(&system, beside);
        Self {
            folder,
            system,
            store: MemoryProjections::default(),
            acknowledged: Vec::new(),
            _beside: living,
        }
    }

    fn write_beside(system: &Simulated, beside: Beside) -> Option<Ledger> {
        if beside == Beside::Nothing {
            return None;
        }
        let durability = if beside == Beside::Living { Durability::Os } else { Durability::Batch };
        let ledger = open(system, durability).unwrap();
        let mut writer = ledger.writer(WriterKey::from_secret([9; 32])).unwrap();
        let mut append = |records: &[(u64, Vec<u8>)]| {
            let mut batch = Batch::default();
            for (seq, record) in records {
                let position = Position {
                    kind: Kind::Line,
                    source: "claude-code".into(),
                    stream: "s0".into(),
                    seq: *seq,
                    part: None,
                };
                batch.push(position, record.strip_suffix(b"\n").unwrap()).unwrap();
            }
            writer.append(&batch, Timestamp::from_micros(3)).map(drop)
        };
        append(&[(0, line(0, 0))]).unwrap();
        if beside == Beside::Dead {
            // Its write arrives, its sync does not.
            system.set_fault(Some(Fault::Crash(system.counts().0 + 2)));
            append(&[(1, line(0, 1)), (2, line(0, 2))]).unwrap_err();
            system.set_fault(None);
            std::mem::forget(ledger);
            system.release_all_locks();
            return None;
        }
        append(&[(1, line(0, 1)), (2, line(0, 2))]).unwrap();
        Some(ledger)
    }

    /// One ingest, as the program does it.
    fn ingest(&mut self) -> Result<()> {
        let ledger = open(&self.system, Durability::Batch)?;
        let mut writer = ledger.writer(WriterKey::from_secret([1; 32]))?;
        let mut cursors = CursorFile::open(self.folder.path().join("cursors"), writer.feed())?;
        if let Some(point) = cursors.newest() {
            let head = ledger.head_at(&writer.feed(), point.size)?;
            assert_eq!(head.map(|head| head.root), Some(point.root), "a cursor is ahead of the ledger");
        }
        let plan = discover(&Places::Roots(vec![self.folder.path().join("home")]));
        let Self { store, acknowledged, .. } = self;
        let mut projector = Projector::new(store, &ledger, FoldLimits::default())?;
        let mut sink = |batch: &Batch| {
            let outcomes = writer.append(batch, Timestamp::from_micros(7))?;
            let head = *writer.head().expect("appended");
            acknowledged.push(head);
            projector.fold_appended(&writer.feed(), batch, &outcomes)?;
            Ok(Acknowledged { outcomes, point: FeedPoint { size: head.size, root: head.root } })
        };
        let options = Options { batch_bytes: 900, ..Options::default() };
        burnlog_sources::ingest(plan, &mut cursors, &options, &mut sink, &mut ())?;
        projector.catch_up(&ledger).map(drop)
    }

    /// Everything acknowledged is there, whole, and nothing else of this feed is.
    fn examine(&self, ledger: &Ledger, what: &str) {
        for head in &self.acknowledged {
            let kept = ledger.head_at(&head.feed, head.size).unwrap();
            assert_eq!(kept.as_ref(), Some(head), "{what}: an acknowledged batch is lost");
        }
        for head in ledger.feeds().unwrap() {
            let page = ledger.read(&head.feed, 0, Limit::default()).unwrap();
            assert_eq!(page.entries.len() as u64, head.size, "{what}: half a batch");
            for entry in page.entries {
                let Body::Present { skeleton, payload } = &entry.body else {
                    panic!("{what}: {:?}", entry.body);
                };
                check_payload(skeleton, payload).unwrap_or_else(|error| panic!("{what}: {error}"));
            }
        }
        verify(ledger, &self.acknowledged, &mut |finding| {
            assert!(finding.severity < Severity::Damage, "{what}: {finding:?}");
        })
        .unwrap();
    }

    /// The next ingest completes, and both ways to fold give the undisturbed dump.
    fn completes(&mut self, expected: &str, what: &str) {
        self.ingest().unwrap_or_else(|error| panic!("{what}: the next ingest: {error}"));
        let ledger = open(&self.system, Durability::Batch).unwrap();
        self.examine(&ledger, &format!("{what}, next ingest"));
        assert_eq!(dump_text(&self.store), expected, "{what}: kept up");
        assert_eq!(dump_of(&ledger), expected, "{what}: folded anew");
    }

    /// The machine goes off and on. Of the host's own files, which nobody syncs, any earlier state may be found.
    fn after_crash(&mut self, seed: u64) {
        self.system = (0..seed).fold(self.system.after_crash(), |_, _| self.system.after_crash());
        if seed % 2 == 1 {
            fs::remove_file(self.folder.path().join("cursors")).ok();
        }
        if seed % 3 == 1 {
            self.store = MemoryProjections::default();
        }
    }
}

fn undisturbed(beside: Beside) -> (Simulated, (u64, u64, u64), String) {
    let mut storm = Storm::new(beside);
    let before = storm.system.counts();
    storm.ingest().unwrap();
    assert!(storm.acknowledged.len() > 4, "{} batches", storm.acknowledged.len());
    (storm.system.clone(), before, dump_text(&storm.store))
}

fn is_off(error: &Error) -> bool {
    error.kind() == burnlog_log::ErrorKind::Unavailable
}

#[test]
fn the_storm_has_enough_to_break() {
    let (system, ..) = undisturbed(Beside::Nothing);
    assert!(system.paths().iter().any(|path| path.extension().is_some_and(|ending| ending == "zst")));
    let dumps = [Beside::Nothing, Beside::Dead, Beside::Living].map(|beside| undisturbed(beside).2);
    assert!(dumps[0].lines().count() > 12 && dumps.iter().all(|dump| *dump == dumps[0]));
}

fn crashes(beside: Beside, seeds: u64) {
    let (system, before, expected) = undisturbed(beside);
    for at in before.0 + 1..=system.counts().0 {
        for seed in 0..seeds {
            let what = format!("{beside:?} beside, crash at operation {at}, seed {seed}");
            let mut storm = Storm::new(beside);
            storm.system.set_fault(Some(Fault::Crash(at)));
            if let Err(error) = storm.ingest() {
                assert!(is_off(&error), "{what}: {error}");
            }
            storm.after_crash(seed + at % 3);
            if let Ok(ledger) = open(&storm.system, Durability::Batch) {
                storm.examine(&ledger, &what);
            }
            storm.completes(&expected, &what);
        }
    }
}

#[test]
fn an_ingest_survives_a_crash_at_any_operation() {
    crashes(Beside::Nothing, 2);
}

#[test]
fn an_ingest_survives_a_crash_beside_what_a_dead_process_left() {
    crashes(Beside::Dead, 1);
}

#[test]
fn an_ingest_survives_a_crash_beside_a_process_that_does_not_sync() {
    crashes(Beside::Living, 1);
}

#[test]
fn an_ingest_survives_every_failed_sync_and_every_full_disk() {
    for beside in [Beside::Nothing, Beside::Dead] {
        let (system, before, expected) = undisturbed(beside);
        let after = system.counts();
        let syncs = (before.1 + 1..=after.1).map(Fault::FailedSync);
        let writes = (before.2 + 1..=after.2).map(Fault::FullDisk);
        for fault in syncs.chain(writes) {
            let what = format!("{beside:?} beside, {fault:?}");
            let mut storm = Storm::new(beside);
            storm.system.set_fault(Some(fault));
            if let Err(error) = storm.ingest() {
                assert!(is_off(&error), "{what}: {error}");
            }
            storm.system.set_fault(None);
            storm.completes(&expected, &what);
            // A sync that failed has lost pages for good; only a crash shows that.
            storm.after_crash(0);
            storm.completes(&expected, &format!("{what}, then a crash"));
        }
    }
}
