//! Laws 1 to 6 of the design as properties, on every backend, from session files to dump.
//! (Law 7 is in `crash`, `failpoints` and `storm`, law 8 in `flips` and `cuts`.)

use crate::postgres::empty_ledger;
use crate::{Machine, files_below};
use burnlog_jsonl::{JsonlBackend, JsonlOptions};
use burnlog_log::{Batch, Ledger, LedgerId, MemoryBackend, Timestamp, WriterKey, replay};
use burnlog_postgres::{PostgresBackend, PostgresOptions};
use burnlog_projections::{DumpOptions, FoldLimits, MemoryProjections, Projector, Queries, dump};
use burnlog_redb::{RedbBackend, RedbOptions};
use burnlog_sources::{Acknowledged, CursorFile, FeedPoint, Options, Places, discover};
use burnlog_sqlite::{SqliteBackend, SqliteLedgerOptions};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use tempfile::TempDir;

/// Which backend a law is tried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Memory,
    Jsonl,
    Redb,
    Sqlite,
    Postgres,
}

/// A new ledger, and the URL that the program opens it by; none for that in memory.
pub(crate) struct Opened {
    pub(crate) ledger: Ledger,
    pub(crate) url: Option<String>,
}

impl On {
    /// Those that outlive a process.
    pub(crate) const KEPT: [Self; 4] = [Self::Jsonl, Self::Redb, Self::Sqlite, Self::Postgres];

    /// Makes a ledger: in a file of `folder`, or in a schema of its own in the database of this test.
    pub(crate) fn open(self, folder: &Path, number: u8) -> Opened {
        let path = |name: &str| folder.join(name);
        let url = |scheme: &str, path: &Path| Some(format!("{scheme}:{}", crate::text(path)));
        let (ledger, url) = match self {
            Self::Memory => (Ledger::new(MemoryBackend::new(LedgerId([number; 16]))), None),
            Self::Jsonl => {
                // Some batches in packs, some in lines.
                let options = JsonlOptions { create: true, pack_bytes_min: 700, ..JsonlOptions::default() };
                let path = path("ledger");
                (Ledger::new(JsonlBackend::open(&path, options).unwrap()), url("file", &path))
            }
            Self::Redb => {
                let options = RedbOptions { create: true, ..RedbOptions::default() };
                let path = path("ledger.redb");
                (Ledger::new(RedbBackend::open(path.clone(), options).unwrap()), url("redb", &path))
            }
            Self::Sqlite => {
                let options = SqliteLedgerOptions { create: true, ..SqliteLedgerOptions::default() };
                let path = path("ledger.sqlite");
                (Ledger::new(SqliteBackend::open(&path, options).unwrap()), url("sqlite", &path))
            }
            Self::Postgres => {
                let url = empty_ledger();
                let backend = PostgresBackend::open(&url, &PostgresOptions::default()).unwrap();
                (Ledger::new(backend), Some(url))
            }
        };
        Opened { ledger, url }
    }
}

/// One host: its files, its key, its cursors, its ledger.
struct Host {
    folder: TempDir,
    number: u8,
    ledger: Ledger,
    url: Option<String>,
}

impl Host {
    fn new(on: On, number: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let Opened { ledger, url } = on.open(folder.path(), number);
        Self { folder, number, ledger, url }
    }

    fn write(&self, session: u8, bytes: &[u8]) {
        let project = self.folder.path().join("home/.claude/projects/-p");
        fs::create_dir_all(&project).unwrap();
        fs::write(project.join(format!("s{session}.jsonl")), bytes).unwrap();
    }

    fn grow(&self, session: u8, bytes: &[u8]) {
        let path = self.folder.path().join(format!("home/.claude/projects/-p/s{session}.jsonl"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::OpenOptions::new().create(true).append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    /// Ingests what is there into `ledger`; returns how many events were new to it.
    fn ingest_into(&self, ledger: &Ledger) -> u64 {
        self.ingest_with(ledger, &Options::default())
    }

    fn ingest_with(&self, ledger: &Ledger, options: &Options) -> u64 {
        let mut writer = ledger.writer(WriterKey::from_secret([self.number; 32])).unwrap();
        let mut cursors = CursorFile::open(self.folder.path().join("cursors"), writer.feed()).unwrap();
        let plan = discover(&Places::Roots(vec![self.folder.path().join("home")]));
        let mut sink = |batch: &Batch| {
            let outcomes = writer.append(batch, Timestamp::from_micros(7))?;
            let head = writer.head().expect("appended");
            Ok(Acknowledged { outcomes, point: FeedPoint { size: head.size, root: head.root } })
        };
        let report = burnlog_sources::ingest(plan, &mut cursors, options, &mut sink, &mut ()).unwrap();
        report.total().new
    }

    fn ingest(&self) -> u64 {
        self.ingest_into(&self.ledger)
    }
}

pub(crate) fn dump_of(ledger: &Ledger) -> String {
    let mut store = MemoryProjections::default();
    Projector::new(&mut store, ledger, FoldLimits::default()).unwrap().catch_up(ledger).unwrap();
    dump_text(&store)
}

pub(crate) fn dump_text(store: &dyn Queries) -> String {
    let mut text = String::new();
    dump(store, &DumpOptions::default(), &mut |line| {
        text.push_str(line);
        text.push('\n');
        Ok(())
    })
    .unwrap();
    text
}

/// Lines that share calls, repeat, contradict each other, and are sometimes nothing at all.
fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        8 => (0u8..6, 0u8..3, 1u64..40, any::<bool>(), 0u8..4).prop_map(|(message, session, output, stop, minute)| {
            let stop = if stop { "\"end_turn\"" } else { "null" };
            format!(
                "{{\"type\":\"assistant\",\"uuid\":\"u{message}{output}\",\"sessionId\":\"s{session}\",\
                 \"timestamp\":\"2026-03-01T10:0{minute}:00.000Z\",\"cwd\":\"/p{session}\",\"version\":\"2.1.{minute}\",\
                 \"message\":{{\"id\":\"m{message}\",\"role\":\"assistant\",\"model\":\"model-{session}\",\
                 \"content\":[{{\"type\":\"tool_use\",\"id\":\"t{message}\",\"name\":\"Read\",\"input\":{{\"file_path\":\"/f\"}}}}],\
                 \"stop_reason\":{stop},\"usage\":{{\"input_tokens\":5,\"output_tokens\":{output}}}}}}}\n"
            ).into_bytes()
        }),
        3 => (0u8..6, any::<bool>()).prop_map(|(tool, error)| format!(
            "{{\"type\":\"user\",\"uuid\":\"r{tool}\",\"timestamp\":\"2026-03-01T10:05:00.000Z\",\"message\":{{\"role\":\"user\",\
             \"content\":[{{\"type\":\"tool_result\",\"tool_use_id\":\"t{tool}\",\"is_error\":{error},\"content\":\"x\"}}]}}}}\n"
        ).into_bytes()),
        1 => Just(b"\n".to_vec()),
        1 => Just(b"\xff\x00 odd\n".to_vec()),
        1 => (0u8..3).prop_map(|n| format!("{{\"type\":\"new-type-{n}\"}}\n").into_bytes()),
    ]
}

fn session() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec(line(), 0..12)
}

fn on() -> impl Strategy<Value = On> {
    prop_oneof![Just(On::Memory), Just(On::Jsonl), Just(On::Redb), Just(On::Sqlite), Just(On::Postgres)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Law 1: the same files again, on the same host or another, store nothing twice.
    #[test]
    fn ingesting_is_idempotent(on in on(), sessions in prop::collection::vec(session(), 1..4)) {
        let (one, two) = (Host::new(on, 1), Host::new(On::Memory, 2));
        for (number, lines) in sessions.iter().enumerate() {
            one.write(number as u8, &lines.concat());
            two.write(number as u8, &lines.concat());
        }
        one.ingest();
        let (stat, before) = (one.ledger.stat().unwrap(), dump_of(&one.ledger));
        prop_assert_eq!(one.ingest(), 0);
        fs::remove_file(one.folder.path().join("cursors")).ok();
        prop_assert_eq!(one.ingest(), 0);
        prop_assert_eq!(two.ingest_into(&one.ledger), 0);
        prop_assert_eq!(one.ledger.stat().unwrap().events, stat.events);
        prop_assert_eq!(dump_of(&one.ledger), before);
    }

    /// Law 2: a growing file, cut anywhere any number of times, gives what the whole file gives at once.
    #[test]
    fn cuts_change_nothing(on in on(), lines in session(), cuts in prop::collection::vec(0usize..4000, 0..6)) {
        let bytes = lines.concat();
        let (cut, whole) = (Host::new(on, 1), Host::new(on, 1));
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let mut from = 0;
        for to in cuts {
            cut.grow(0, &bytes[from..to]);
            cut.ingest();
            from = to;
        }
        whole.write(0, &bytes);
        whole.ingest();
        prop_assert_eq!(dump_of(&cut.ledger), dump_of(&whole.ledger));
        prop_assert_eq!(cut.ledger.stat().unwrap().events, whole.ledger.stat().unwrap().events);
    }

    /// Laws 3 and 5: any split over hosts, replayed in any order, twice over, into any backend.
    #[test]
    fn hosts_converge(on in on(), sessions in prop::collection::vec(session(), 1..4), owners: u64, order in Just([0usize, 1, 2]).prop_shuffle()) {
        let alone = Host::new(On::Memory, 9);
        let hosts = [Host::new(on, 1), Host::new(On::Memory, 2), Host::new(on, 3)];
        for (number, lines) in sessions.iter().enumerate() {
            alone.write(number as u8, &lines.concat());
            // Bits say which hosts see the session; somebody always does.
            let mask = (owners >> (number * 3)) & 7;
            for (at, host) in hosts.iter().enumerate() {
                if mask & (1 << at) != 0 || (mask == 0 && at == 0) {
                    host.write(number as u8, &lines.concat());
                }
            }
        }
        alone.ingest();
        for host in &hosts {
            host.ingest();
        }
        let merging = Host::new(on, 4);
        let merged = &merging.ledger;
        for at in order.iter().chain(&[0, 1, 2]) {
            let report = replay(&hosts[*at].ledger, merged, &mut |_| {}).unwrap();
            prop_assert_eq!(report.divergences, []);
        }
        prop_assert_eq!(dump_of(merged), dump_of(&alone.ledger));
        prop_assert_eq!(merged.stat().unwrap().events, alone.ledger.stat().unwrap().events);
        for host in &hosts {
            for head in host.ledger.feeds().unwrap() {
                prop_assert_eq!(merged.state(&head.feed).unwrap(), host.ledger.state(&head.feed).unwrap());
            }
        }
    }

    /// Law 4: rows kept up batch by batch are the rows folded at once after the files are gone.
    #[test]
    fn incremental_is_rebuilt(on in on(), sessions in prop::collection::vec(session(), 1..4)) {
        let host = Host::new(on, 1);
        let mut store = MemoryProjections::default();
        for (number, lines) in sessions.iter().enumerate() {
            for line in lines {
                host.grow(number as u8, line);
            }
            host.ingest();
            Projector::new(&mut store, &host.ledger, FoldLimits::default()).unwrap().catch_up(&host.ledger).unwrap();
        }
        fs::remove_dir_all(host.folder.path().join("home")).ok();
        let kept_up = if sessions.iter().all(Vec::is_empty) { dump_of(&host.ledger) } else { dump_text(&store) };
        prop_assert_eq!(kept_up, dump_of(&host.ledger));
        Projector::rebuild(&mut store, &host.ledger, FoldLimits::default()).unwrap().catch_up(&host.ledger).unwrap();
        prop_assert_eq!(dump_text(&store), dump_of(&host.ledger));
    }
}

/// What one session file was, one version after the other: it grows, is rewritten, and may end in the middle of a line.
fn versions() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let version = (session(), 0usize..40, any::<bool>());
    prop::collection::vec(version, 1..4).prop_map(|versions| {
        let mut all: Vec<Vec<u8>> = Vec::new();
        for (lines, cut, grows) in versions {
            let mut bytes = all.last().filter(|_| grows).cloned().unwrap_or_default();
            bytes.extend(lines.concat());
            bytes.truncate(bytes.len() - cut.min(bytes.len()));
            all.push(bytes);
        }
        all
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 25, ..ProptestConfig::default() })]

    /// Law 6: every extent that was written down is restored to its bytes by the program, after the file is gone.
    #[test]
    fn every_extent_is_restored_to_its_bytes(on in on(), versions in versions()) {
        let machine = Machine::new("one");
        let host = Host::new(on, 1);
        let mut written: BTreeSet<Vec<u8>> = BTreeSet::new();
        for bytes in versions {
            host.write(0, &bytes);
            host.ingest_with(&host.ledger, &Options { close: true, ..Options::default() });
            // Of an empty file there is nothing to say.
            if !bytes.is_empty() {
                written.insert(bytes);
            }
        }
        fs::remove_dir_all(host.folder.path().join("home")).unwrap();
        let Host { folder, ledger, url, .. } = host;
        let copy = tempfile::tempdir().unwrap();
        // The program cannot open what is in memory: it gets a replay of it, which law 5 says is the same.
        let store = url.unwrap_or_else(|| {
            let copied = On::Jsonl.open(copy.path(), 2);
            replay(&ledger, &copied.ledger, &mut |_| {}).unwrap();
            copied.url.unwrap()
        });
        drop(ledger);
        machine.ok(&["project", "update", "--store", &store]);
        let mut restored = BTreeSet::new();
        if !written.is_empty() {
            let out = machine.path("out");
            machine.ok(&["restore", "s0", "--all", "--store", &store, "--to", &crate::text(&out)]);
            restored = files_below(&out).iter().map(|path| fs::read(path).unwrap()).collect();
            restored.remove(&Vec::new());
        }
        drop(folder);
        prop_assert_eq!(restored, written);
    }
}
