//! Ledgers with fixed id, keys, clock and names, so that making them twice gives the same bytes.

use burnlog_jsonl::{Files, FilesThrough, JsonlBackend, JsonlOptions, SystemFiles};
use burnlog_log::conformance::build::{Event, TestFeed};
use burnlog_log::{Backend, Batch, BatchHead, Kind, Position, Timestamp};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// The system's files, with a clock that stands and random bytes that count.
#[derive(Debug, Default)]
struct FixedFiles(AtomicU8);

impl FilesThrough for FixedFiles {
    fn inner(&self) -> &dyn Files {
        &SystemFiles
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_700_000_000_000_000)
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        out.fill(self.0.fetch_add(1, Ordering::Relaxed).wrapping_add(1));
        Ok(())
    }
}

/// A RELAYBURN_HOME while it is made.
pub(super) struct Home {
    pub(super) folder: PathBuf,
    files: Arc<FixedFiles>,
}

impl Home {
    pub(super) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), files: Arc::default() }
    }

    pub(super) fn ledger(&self) -> PathBuf {
        self.folder.join("ledger")
    }

    /// Opens the ledger, making it where there is none.
    pub(super) fn open(&self) -> JsonlBackend {
        let options = JsonlOptions { create: true, files: self.files.clone(), ..JsonlOptions::default() };
        JsonlBackend::open(&self.ledger(), options).unwrap()
    }

    /// Writes down what this host remembers of the feeds.
    pub(super) fn remember(&self, heads: &[BatchHead]) {
        let host = self.folder.join("host").join(self.open().location().id.to_string());
        fs::create_dir_all(&host).unwrap();
        let lines: Vec<String> =
            heads.iter().map(|head| serde_json::to_string(head).unwrap() + "\n").collect();
        fs::write(host.join("heads.jsonl"), lines.concat()).unwrap();
    }

    /// The one file of the ledger whose name ends so.
    pub(super) fn file(&self, ending: &str) -> PathBuf {
        let files = crate::files_below(&self.ledger());
        let mut found = files.into_iter().filter(|path| path.to_str().unwrap().ends_with(ending));
        let path = found.next().unwrap_or_else(|| panic!("no file ends in {ending}"));
        assert!(found.next().is_none(), "more than one file ends in {ending}");
        path
    }

    /// Changes the bytes of that file.
    pub(super) fn spoil(&self, ending: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = self.file(ending);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    }
}

/// Makes an event.
pub(super) fn event(kind: Kind, source: &str, stream: &str, seq: u64, payload: &[u8]) -> Event {
    let mut batch = Batch::default();
    let position = Position { kind, source: source.into(), stream: stream.into(), seq, part: None };
    let event = batch.push(position, payload).unwrap();
    Event { address: event.address, skeleton: event.skeleton.to_vec(), payload: event.payload.to_vec() }
}

/// The first event of a feed.
pub(super) fn writer(feed: &TestFeed, host: &str) -> Event {
    let payload = format!(r#"{{"host":"{host}","os":"linux","arch":"x86_64","version":"0.1.0"}}"#);
    event(Kind::Writer, "burnlog", &feed.id().to_string(), 0, payload.as_bytes())
}

/// Record `seq` of a session of Claude Code.
pub(super) fn line(session: &str, seq: u64) -> Event {
    let payload = match seq % 4 {
        0 => format!(
            r#"{{"type":"user","uuid":"{session}-{seq}","sessionId":"{session}","timestamp":"2026-03-01T10:00:00.000Z","cwd":"/work/demo","version":"2.1.0","message":{{"role":"user","content":"Say hi."}}}}"#
        )
        .into_bytes(),
        1 => crate::assistant(session, &format!("{session}-m{seq}"), 7, Some("end_turn")).trim_end().into(),
        2 => b"this is not JSON".to_vec(),
        _ => b"{\"type\":\"user\",\"text\":\"\xe9\"}".to_vec(),
    };
    event(Kind::Line, "claude-code", session, seq, &payload)
}

/// A sound ledger: two batches of one feed and one of another that saw a record of the first; active lines only.
pub(super) fn sound(home: &Home) -> (TestFeed, TestFeed) {
    let (mut one, mut two) = (TestFeed::new(1), TestFeed::new(2));
    let backend = home.open();
    let first = writer(&one, "one");
    one.append(&backend, &[first, line("s", 0)]).unwrap();
    one.append(&backend, &[line("s", 1), line("s", 2)]).unwrap();
    let first = writer(&two, "two");
    two.append(&backend, &[first, line("s", 1), line("t", 1)]).unwrap();
    drop(backend);
    home.remember(&[newest(&one), newest(&two)]);
    (one, two)
}

/// A ledger that has one of everything: a sealed segment, an erased payload, an index, an active segment, two feeds.
pub(super) fn golden(home: &Home) {
    let (mut one, mut two) = (TestFeed::new(1), TestFeed::new(2));
    let backend = home.open();
    let first = writer(&one, "one");
    one.append(&backend, &[first, line("s", 0), line("s", 1)]).unwrap();
    one.append(&backend, &[line("s", 2), line("s", 3), line("gone", 0)]).unwrap();
    assert!(backend.seal().unwrap());
    backend.erase(&[line("gone", 0).address]).unwrap();
    drop(backend);
    let backend = home.open();
    let first = writer(&two, "two");
    two.append(&backend, &[first, line("s", 1), line("t", 0), line("t", 1)]).unwrap();
    drop(backend);
    home.remember(&[newest(&one), newest(&two)]);
}

pub(super) fn newest(feed: &TestFeed) -> BatchHead {
    *feed.heads.last().unwrap()
}
