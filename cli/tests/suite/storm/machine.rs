//! A machine that can be switched off: session files and the small files of the host on the real disk, ledger and cursors on a simulated one, rows in a
//! store that remembers what it held before each change.

use super::disk::CursorsOn;
use crate::laws::{dump_of, dump_text};
use burnlog_host::{FeedStart, Home, HostWriter, Identity, KnownPoint};
use burnlog_jsonl::{Durability, Fault, Files, JsonlBackend, JsonlOptions, Simulated};
use burnlog_log::{
    Batch, BatchHead, Body, Kind, Ledger, Limit, Position, Result, Severity, Timestamp, WriterKey,
    check_payload, verify,
};
use burnlog_projections::{FoldLimits, FoldStore, LeaseTerms, MemoryProjections, Projector};
use burnlog_sources::{Acknowledged, CursorFile, FeedPoint, Options, Places, discover};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use tempfile::TempDir;

const LEDGER: &str = "/ledger";
const HOST: &str = "/host";
/// Written whole and renamed, and not waited for: a crash may bring back what they were. The others are durable at once.
const OLD_OR_NEW: [&str; 2] = ["heads.jsonl", "writer.json"];
const IDENTITY: Identity = Identity { host: String::new(), os: "linux", arch: "x86_64", version: "0.0.0" };

/// What another process has written into a segment of its own, of the same records, when the ingest begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beside {
    Nothing,
    /// It died between its write and its sync.
    Dead,
    /// It lives and acknowledges without syncs.
    Living,
}

/// How an ingest went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ended {
    /// The ledger lacked what this host knew of its feed: a new feed was begun.
    pub(super) restarted: bool,
    /// The ledger lacked what had been folded: all was folded anew.
    pub(super) anew: bool,
}

pub(super) struct Storm {
    folder: Rc<TempDir>,
    pub(super) durability: Durability,
    pub(super) system: Simulated,
    pub(super) store: MemoryProjections,
    pub(super) acknowledged: Vec<BatchHead>,
    /// The host's files when the ingest began that may be interrupted.
    host_before: BTreeMap<PathBuf, Vec<u8>>,
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

pub(super) fn open(system: &Simulated, durability: Durability) -> Result<Ledger> {
    let options = JsonlOptions {
        create: true,
        durability,
        // Small enough that segments are sealed and frames cut in the middle of things.
        segment_bytes_max: 6000,
        seal_bytes_min: 2000,
        frame_bytes: 1500,
        // Batches of 900 bytes go into packs, the last of a run does not.
        pack_bytes_min: 800,
        files: Arc::new(system.clone()),
        ..JsonlOptions::default()
    };
    JsonlBackend::open(Path::new(LEDGER), options).map(Ledger::new)
}

/// Commits after every batch. Whoever held the lease has died with the machine.
fn limits() -> FoldLimits {
    let lease = LeaseTerms { is_gone: Arc::new(|_| true), ..LeaseTerms::default() };
    FoldLimits { pending_bytes_max: 1, lease, ..FoldLimits::default() }
}

/// Folds all that a ledger has.
pub(super) fn caught_up(store: &mut dyn FoldStore, ledger: &Ledger) {
    Projector::new(store, ledger, limits()).unwrap().catch_up(ledger).unwrap();
}

/// A number drawn from a seed and a purpose.
pub(super) fn draw(seed: u64, purpose: u64) -> u64 {
    let mut number = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(purpose);
    for _ in 0..2 {
        number = (number ^ (number >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    }
    number ^ (number >> 29)
}

impl Storm {
    /// A machine with two sessions and an empty ledger, beside whoever is there.
    pub(super) fn new(beside: Beside) -> Self {
        let (folder, system) = (Rc::new(tempfile::tempdir().unwrap()), Simulated::new(1));
        system.create_folder(Path::new(HOST)).unwrap();
        let living = write_beside(&system, beside);
        let storm = Self {
            folder,
            durability: Durability::Batch,
            system,
            store: MemoryProjections::default(),
            acknowledged: Vec::new(),
            host_before: BTreeMap::new(),
            _beside: living,
        };
        fs::create_dir_all(storm.session(0).parent().unwrap()).unwrap();
        (0..2).for_each(|session| storm.write_session(session, 6));
        storm
    }

    /// A machine that has ingested once, and whose sessions have grown since. To be copied.
    pub(super) fn grown(durability: Durability) -> Self {
        let mut storm = Self { durability, ..Self::new(Beside::Nothing) };
        (0..2).for_each(|session| storm.write_session(session, 3));
        storm.ingest().unwrap();
        storm.write_grown();
        storm.host_before = storm.host_files();
        storm
    }

    /// Writes the sessions as they are when the ingest begins that may be interrupted.
    pub(super) fn write_grown(&self) {
        for (session, lines) in [(0, 6), (1, 5), (2, 3)] {
            self.write_session(session, lines);
        }
    }

    /// The machine as it is. Copies share the real disk, so that files have the names that the cursors know: only the newest is of use.
    pub(super) fn copy(&self) -> Self {
        fs::remove_dir_all(self.burn()).ok();
        for (path, bytes) in &self.host_before {
            write_private(path, bytes);
        }
        Self {
            folder: self.folder.clone(),
            durability: self.durability,
            system: self.system.copy(),
            store: self.store.earlier().pop().unwrap(),
            acknowledged: self.acknowledged.clone(),
            host_before: self.host_before.clone(),
            _beside: None,
        }
    }

    pub(super) fn session(&self, session: usize) -> PathBuf {
        self.folder.path().join(format!("home/.claude/projects/-p/s{session}.jsonl"))
    }

    fn write_session(&self, session: usize, lines: usize) {
        let lines: Vec<u8> = (0..lines).flat_map(|number| line(session, number)).collect();
        fs::write(self.session(session), lines).unwrap();
    }

    fn burn(&self) -> PathBuf {
        self.folder.path().join("burn")
    }

    fn host_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let files = if self.burn().exists() { crate::files_below(&self.burn()) } else { Vec::new() };
        files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }

    /// One ingest, as the program does it.
    pub(super) fn ingest(&mut self) -> Result<Ended> {
        self.store.keep_past();
        let mut store = self.store.clone();
        self.ingest_into(&mut store, &mut || ())
    }

    /// The same with another store; `committed` is called when the rows of a batch are in it.
    pub(super) fn ingest_into(
        &mut self,
        store: &mut dyn FoldStore,
        committed: &mut dyn FnMut(),
    ) -> Result<Ended> {
        let ledger = open(&self.system, self.durability)?;
        let state = Home::new(self.burn()).ledger_state(ledger.location().id);
        state.create()?;
        if self.acknowledged.is_empty() && !state.key().exists() {
            write_private(&state.key(), "01".repeat(32).as_bytes());
        }
        let mut projector = Projector::new(store, &ledger, limits())?;
        let cursors = |feed| {
            let cursors = CursorFile::open_on(
                Box::new(CursorsOn(self.system.clone())),
                Path::new(HOST).join("cursors"),
                feed,
            );
            cursors.map(|cursors| cursors.with_loose_bytes_min(700))
        };
        let saved = |feed| {
            let saved =
                cursors(feed)?.newest().map(|point| KnownPoint { size: point.size, root: Some(point.root) });
            let folded = KnownPoint { size: projector.folded(&feed)?, root: None };
            Ok(saved.into_iter().chain([folded]).collect())
        };
        let mut writer = HostWriter::open(&ledger, state, None, &IDENTITY, saved)?;
        let restarted = *writer.start() != FeedStart::Continued;
        let mut cursors = cursors(writer.feed())?;
        let plan = discover(&Places::Roots(vec![self.folder.path().join("home")]));
        let acknowledged = &mut self.acknowledged;
        let mut sink = |batch: &Batch| {
            let appended = writer.append(batch, Timestamp::from_micros(7), &mut |feed, batch, outcomes| {
                projector.fold_appended(feed, batch, outcomes).map(drop)
            });
            acknowledged.extend(writer.head());
            let outcomes = appended?;
            committed();
            let head = writer.head().expect("appended");
            Ok(Acknowledged { outcomes, point: FeedPoint { size: head.size, root: head.root } })
        };
        let options = Options { batch_bytes: 900, ..Options::default() };
        burnlog_sources::ingest(plan, &mut cursors, &options, &mut sink, &mut ())?;
        writer.remember()?;
        let mut anew = false;
        projector.catch_up_or_anew(&ledger, &mut |_| anew = true)?;
        committed();
        Ok(Ended { restarted, anew })
    }

    /// Everything acknowledged is there, whole, and nothing else of this feed is.
    pub(super) fn examine(&self, ledger: &Ledger, what: &str) {
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

    /// The next ingest completes, and both ways to fold give the same dump, which is returned.
    pub(super) fn completes(&mut self, what: &str) -> (Ended, String) {
        let ended = self.ingest().unwrap_or_else(|error| panic!("{what}: the next ingest: {error}"));
        let ledger = open(&self.system, Durability::Batch).unwrap();
        self.examine(&ledger, &format!("{what}, next ingest"));
        let dump = dump_text(&self.store);
        assert_eq!(dump, dump_of(&ledger), "{what}: kept up, and folded anew");
        (ended, dump)
    }

    /// The machine goes off and on. What was not synced of ledger and cursors is there page by page or not; the rows are those of any
    /// commit of the last ingest, or were damaged and thrown away; files that are renamed and not waited for are old or new.
    pub(super) fn after_crash(&mut self, seed: u64) {
        self.system =
            (0..draw(seed, 1) % 4).fold(self.system.after_crash(), |_, _| self.system.after_crash());
        let mut past = self.store.earlier();
        past.push(MemoryProjections::default());
        self.store = past.swap_remove((draw(seed, 2) % past.len() as u64) as usize);
        for (number, name) in (3..).zip(OLD_OR_NEW) {
            let files = self.host_files();
            let Some(path) = files.keys().find(|path| path.ends_with(name)) else { continue };
            match self.host_before.get(path) {
                _ if draw(seed, number).is_multiple_of(2) => {}
                Some(before) => write_private(path, before),
                None => fs::remove_file(path).unwrap(),
            }
        }
    }
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.unwrap().write_all(bytes).unwrap();
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
