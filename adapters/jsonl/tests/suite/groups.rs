//! Group commit: threads that append at once share their syncs. A gate in the file seam holds each sync until every client
//! has written, so that groups are as large as they can be and every run has the same ones; no clock is involved. Without the gate
//! those who lately appended together wait for each other; the longest wait is then longer than any pause of a machine.

use burnlog_jsonl::{
    Access, Fault, File, FileThrough, Files, FilesThrough, JsonlBackend, JsonlOptions, Simulated,
};
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed, read_all};
use burnlog_log::{Backend, BatchHead, ErrorKind, Limit};
use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::ThreadId;
use std::time::Duration;

const FOLDER: &str = "/ledger";

/// Who is at what.
#[derive(Debug, Default)]
struct Clients {
    /// Clients that have something left to append. Without any the gate is open.
    living: usize,
    /// Those among them that have written and wait to be told that it is durable, with the end of what they wrote.
    written: HashMap<ThreadId, u64>,
    /// Syncs of segments.
    syncs: usize,
    /// Whether a write that fails opens the gate for good: after it others wait for the group, and the group not for them.
    opens_on_failure: bool,
    is_open: bool,
    /// After so many syncs the gate stays open.
    opens_after: Option<usize>,
    /// Batches that were waiting at each sync.
    groups: Vec<usize>,
}

#[derive(Debug, Default)]
struct Gate {
    clients: Mutex<Clients>,
    changed: Condvar,
}

impl Gate {
    fn change(&self, change: impl FnOnce(&mut Clients)) {
        change(&mut self.clients.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until every living client has written.
    fn pass(&self) {
        let clients = self.clients.lock().unwrap();
        let is_shut = |clients: &mut Clients| !clients.is_open && clients.written.len() < clients.living;
        let mut clients = self.changed.wait_while(clients, is_shut).unwrap();
        clients.syncs += 1;
        clients.is_open |= clients.opens_after == Some(clients.syncs);
        let group = clients.written.len();
        clients.groups.push(group);
    }
}

/// What the gate watches a file for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    Segment,
    /// A published length: whoever wrote before it is acknowledged from now on, whether or not it has run since.
    Published,
    Nothing,
}

/// A system whose segments are synced when the gate opens.
#[derive(Debug, Clone)]
struct Gated {
    inner: Simulated,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct GatedFile {
    inner: Arc<dyn File>,
    watched: Watched,
    gate: Arc<Gate>,
    /// Whether lines were written and not cut off since: only then a sync is that of a group.
    is_written: AtomicBool,
}

impl FilesThrough for Gated {
    fn inner(&self) -> &dyn Files {
        &self.inner
    }

    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let watched = match path.extension().and_then(|ending| ending.to_str()) {
            Some("jsonl") if path.parent().is_some_and(|folder| folder.ends_with("segments")) => {
                Watched::Segment
            }
            Some("durable") => Watched::Published,
            _ => Watched::Nothing,
        };
        let (inner, gate) = (self.inner.open(path, access)?, Arc::clone(&self.gate));
        Ok(Arc::new(GatedFile { inner, watched, gate, is_written: AtomicBool::new(false) }))
    }
}

impl FileThrough for GatedFile {
    fn inner(&self) -> &dyn File {
        &*self.inner
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.is_written.store(true, Ordering::SeqCst);
        let result = self.inner.write_at(bytes, offset);
        self.gate.change(|clients| match self.watched {
            Watched::Segment if result.is_ok() => {
                clients.written.insert(std::thread::current().id(), offset + bytes.len() as u64);
            }
            Watched::Segment => clients.is_open |= clients.opens_on_failure,
            Watched::Published => {
                let visible =
                    bytes.get(12..20).and_then(|bytes| Some(u64::from_le_bytes(bytes.try_into().ok()?)));
                clients.written.retain(|_, end| *end > visible.unwrap());
            }
            Watched::Nothing => {}
        });
        result
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.is_written.store(false, Ordering::SeqCst);
        self.inner.set_bytes(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        if self.watched == Watched::Segment && self.is_written.load(Ordering::SeqCst) {
            self.gate.pass();
        }
        self.inner.sync()
    }
}

/// What became of one client's batches.
#[derive(Debug)]
struct Client {
    feed: TestFeed,
    /// The batch whose outcome is unknown.
    tried: Option<BatchHead>,
    error: Option<ErrorKind>,
}

fn open(files: Arc<dyn Files>, segment_bytes_max: u64) -> burnlog_log::Result<JsonlBackend> {
    open_to_gather(files, segment_bytes_max, JsonlOptions::default().gather_max)
}

fn open_to_gather(
    files: Arc<dyn Files>,
    segment_bytes_max: u64,
    gather_max: Duration,
) -> burnlog_log::Result<JsonlBackend> {
    let options = JsonlOptions {
        gather_max,
        create: true,
        files,
        segment_bytes_max,
        seal_bytes_min: segment_bytes_max / 2,
        frame_bytes: 2000,
        ..JsonlOptions::default()
    };
    JsonlBackend::open(Path::new(FOLDER), options)
}

/// What client `number` appends as its `round`-th batch: one event that all clients have, one of its own.
fn batch(number: u8, round: u64) -> [Event; 2] {
    let own = Event::line(&format!("own-{number}"), round, b"{\"text\":\"of one client\"}");
    [Event::line("shared", round, b"{\"text\":\"of all clients\"}"), own]
}

/// Appends from `count` threads at once, `rounds` batches each, each until its first error.
fn append_at_once(backend: &JsonlBackend, gate: &Gate, count: u8, rounds: u64) -> Vec<Client> {
    gate.change(|clients| clients.living = usize::from(count));
    std::thread::scope(|scope| {
        let clients: Vec<_> = (1..=count)
            .map(|number| scope.spawn(move || append_rounds(backend, gate, number, rounds)))
            .collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

fn append_rounds(backend: &JsonlBackend, gate: &Gate, number: u8, rounds: u64) -> Client {
    let mut client = Client { feed: TestFeed::new(number), tried: None, error: None };
    for round in 0..rounds {
        let prepared = client.feed.prepare(&batch(number, round));
        let result = prepared.apply(backend);
        gate.change(|clients| {
            clients.written.remove(&std::thread::current().id());
        });
        if let Err(error) = result {
            (client.tried, client.error) = (Some(prepared.head), Some(error.kind()));
            break;
        }
        client.feed.frontier = prepared.frontier;
        client.feed.heads.push(prepared.head);
    }
    gate.change(|clients| clients.living -= 1);
    client
}

/// Everything acknowledged is there and whole, nothing half, nothing damaged.
fn examine(backend: &JsonlBackend, clients: &[Client], what: &str) {
    backend
        .check(&mut |damage| assert!(damage.rebuildable, "{what}: {damage:?}"))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    for (client, number) in clients.iter().zip(1..) {
        let page = read_all(backend, &client.feed.id(), Limit::default());
        let (known, beyond) = page.heads.split_at(client.feed.heads.len().min(page.heads.len()));
        assert_eq!(known, client.feed.heads, "{what}: client {number} lost what was acknowledged");
        assert!(beyond.iter().all(|head| Some(*head) == client.tried), "{what}: a batch that nobody wrote");
        assert_eq!(page.entries.len(), 2 * page.heads.len(), "{what}: half a batch");
        for (entries, round) in page.entries.chunks(2).zip(0..) {
            for (entry, event) in entries.iter().zip(batch(number, round)) {
                assert_eq!(entry.body, event.body(), "{what}: client {number}, round {round}");
            }
        }
    }
}

#[test]
fn fifty_clients_need_one_sync_for_twenty_appends() {
    let system = Gated { inner: Simulated::new(1), gate: Arc::default() };
    let backend = open(Arc::new(system.clone()), 64 << 20).unwrap();
    let (count, rounds) = (50, 16);
    let clients = append_at_once(&backend, &system.gate, count, rounds);
    examine(&backend, &clients, "undisturbed");
    assert!(clients.iter().all(|client| client.error.is_none()));
    let appends = u64::from(count) * rounds;
    let counted = system.gate.clients.lock().unwrap();
    assert!(
        counted.syncs as u64 * 20 <= appends,
        "{} syncs for {appends} appends: {:?}",
        counted.syncs,
        counted.groups
    );
    drop(counted);
    assert_eq!(
        backend.stat().unwrap().events,
        rounds * (u64::from(count) + 1),
        "shared events are stored once"
    );
    examine(&open(Arc::new(system.inner.after_crash()), 64 << 20).unwrap(), &clients, "after a crash");
}

#[test]
fn one_client_syncs_once_an_append_and_waits_for_nobody() {
    let system = Gated { inner: Simulated::new(1), gate: Arc::default() };
    let hours = Duration::from_secs(100 * 3600);
    let backend = open_to_gather(Arc::new(system.clone()), 64 << 20, hours).unwrap();
    append_at_once(&backend, &system.gate, 1, 5);
    assert_eq!(system.gate.clients.lock().unwrap().groups, [1; 5]);
}

#[test]
fn clients_that_come_back_share_their_next_syncs_with_nothing_that_holds_them() {
    let system = Gated { inner: Simulated::new(1), gate: Arc::default() };
    let backend = open_to_gather(Arc::new(system.clone()), 64 << 20, Duration::from_secs(8)).unwrap();
    system.gate.change(|clients| clients.opens_after = Some(2));
    let clients = append_at_once(&backend, &system.gate, 8, 50);
    examine(&backend, &clients, "undisturbed");
    let counted = system.gate.clients.lock().unwrap();
    assert!(counted.syncs * 4 <= 400, "{} syncs for 400 appends: {:?}", counted.syncs, counted.groups);
}

#[test]
fn a_crash_at_any_operation_of_a_group_loses_nothing_that_was_acknowledged() {
    // With segments that are sealed on the way the gate stays open: who waits for the sealing does not write.
    for (is_gated, segment_bytes) in [(true, 64 << 20), (false, 6000)] {
        let (mut at, mut crashed) = (0, true);
        while crashed {
            at += 1;
            let system = Gated { inner: Simulated::new(at), gate: Arc::default() };
            let backend = open(Arc::new(system.clone()), segment_bytes).unwrap();
            let (before, ..) = system.inner.counts();
            system.inner.set_fault(Some(Fault::Crash(before + at)));
            system.gate.change(|clients| clients.opens_on_failure = true);
            let gate = if is_gated { Arc::clone(&system.gate) } else { Arc::default() };
            let clients = append_at_once(&backend, &gate, 6, 4);
            crashed = clients.iter().any(|client| client.error.is_some());
            drop(backend);
            for seed in 0..3 {
                let what = format!("crash at operation {at}, gated {is_gated}, seed {seed}");
                let after = system.inner.after_crash();
                let backend = open(Arc::new(after), segment_bytes).unwrap_or_else(|e| panic!("{what}: {e}"));
                examine(&backend, &clients, &what);
                TestFeed::new(99).append(&backend, &Event::lines("after", 2)).unwrap();
            }
        }
        assert!(at > 30, "only {at} operations were there to crash at");
    }
}

#[test]
fn a_failed_sync_fails_its_whole_group_and_the_same_batches_can_be_sent_again() {
    let system = Gated { inner: Simulated::new(1), gate: Arc::default() };
    let backend = open(Arc::new(system.clone()), 64 << 20).unwrap();
    let mut first = TestFeed::new(9);
    first.append(&backend, &Event::lines("before", 1)).unwrap();
    system.gate.change(|clients| clients.written.clear());
    let (_, syncs, _) = system.inner.counts();
    system.inner.set_fault(Some(Fault::FailedSync(syncs + 1)));
    let failed = append_at_once(&backend, &system.gate, 8, 3);
    for client in &failed {
        assert_eq!((client.error, client.feed.heads.len()), (Some(ErrorKind::Unavailable), 0));
        let page = backend.read(&client.feed.id(), 0, Limit::default()).unwrap();
        assert!(page.state.is_none(), "a batch that failed is visible");
    }
    assert_eq!(backend.stat().unwrap().events, 1);
    let clients = append_at_once(&backend, &system.gate, 8, 3);
    assert!(clients.iter().all(|client| client.error.is_none()));
    examine(&backend, &clients, "sent again");
    let after = open(Arc::new(system.inner.after_crash()), 64 << 20).unwrap();
    examine(&after, &clients, "sent again, then a crash");
    assert_feed(&after, &first, &Event::lines("before", 1));
}

#[test]
fn what_waits_for_its_sync_keeps_its_segment_when_somebody_elses_write_cannot_be_taken_back() {
    for run in 1..=20 {
        let system = Gated { inner: Simulated::new(run), gate: Arc::default() };
        let backend = open(Arc::new(system.clone()), 64 << 20).unwrap();
        TestFeed::new(9).append(&backend, &Event::lines("before", 1)).unwrap();
        // The gate opens when all three have written; the third fails at first.
        system.gate.change(|clients| (clients.living, clients.written) = (3, HashMap::new()));
        let clients: Vec<Client> = std::thread::scope(|scope| {
            let (backend, gate) = (&backend, &*system.gate);
            let early: Vec<_> =
                (1..=2).map(|number| scope.spawn(move || append_rounds(backend, gate, number, 1))).collect();
            let both = gate.clients.lock().unwrap();
            drop(gate.changed.wait_while(both, |clients| clients.written.len() < 2).unwrap());
            let (_, _, writes) = system.inner.counts();
            system.inner.set_fault(Some(Fault::StuckDisk(writes + 1)));
            let mut late = TestFeed::new(3);
            assert_eq!(late.prepare(&batch(3, 0)).refused(backend).kind(), ErrorKind::Unavailable);
            // It comes back at once; those who wait must be served first, and only then the segment be cut.
            let again = scope.spawn(move || {
                late.append(backend, &batch(3, 0)).unwrap();
                Client { feed: late, tried: None, error: None }
            });
            // Nothing tells that it waits, so it is only given every chance to come too early.
            (0..200).for_each(|_| std::thread::yield_now());
            gate.change(|clients| clients.living -= 1);
            early.into_iter().chain([again]).map(|client| client.join().unwrap()).collect()
        });
        assert!(clients.iter().all(|client| client.error.is_none()));
        examine(&backend, &clients, "the same handle");
        let after = open(Arc::new(system.inner.after_crash()), 64 << 20).unwrap();
        examine(&after, &clients, &format!("run {run}, after a crash"));
    }
}
