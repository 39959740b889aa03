//! A host with a home folder, a feed in a ledger in memory, and cursors; and `restore` as an outsider would write it.

use burnlog_log::{
    Batch, Body, Error, ErrorKind, Frontier, Ledger, LedgerId, Limit, MemoryBackend, PayloadHash, Skeleton,
    Timestamp, Writer, WriterKey, leaf,
};
use burnlog_sources::{
    Acknowledged, CursorFile, Extent, FeedPoint, Options, Places, Report, discover, ingest,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// An entry of a feed, taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) stream: String,
    pub(crate) seq: u64,
    /// Number, and whether more follow.
    pub(crate) part: Option<(u32, bool)>,
    pub(crate) payload: Vec<u8>,
    pub(crate) source: String,
}

pub(crate) struct Host {
    folder: tempfile::TempDir,
    writer: Writer,
    ledger: Ledger,
    /// Grows with every write, so that no two states of a file look alike.
    clock: std::cell::Cell<u64>,
    pub(crate) options: Options,
    /// Whether the next ingest finds its cursors damaged, and has to go on without them.
    pub(crate) has_damaged_cursors: bool,
    /// How many bytes of cursors may lie behind their base, where not as many as always.
    pub(crate) loose_bytes_min: Option<usize>,
    /// Fail at the n-th next batch.
    pub(crate) crash_after: Option<usize>,
    /// Whether that batch is stored all the same, and only the answer lost.
    pub(crate) crash_stores: bool,
    /// Cursors or answers were lost: an extent may need its root to be told from another.
    pub(crate) has_lost_knowledge: bool,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::in_ledger(Ledger::new(MemoryBackend::new(LedgerId([0; 16]))), 1)
    }

    pub(crate) fn in_ledger(ledger: Ledger, key: u8) -> Self {
        let writer = ledger.writer(WriterKey::from_secret([key; 32])).unwrap();
        let options = Options { batch_bytes: 200, ..Options::default() };
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            writer,
            ledger,
            clock: std::cell::Cell::new(0),
            options,
            has_damaged_cursors: false,
            loose_bytes_min: None,
            crash_after: None,
            crash_stores: true,
            has_lost_knowledge: false,
        }
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("home")
    }

    /// A path in the folder of the one project.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home().join(".claude/projects/-work").join(name)
    }

    pub(crate) fn cursor_path(&self) -> PathBuf {
        self.folder.path().join("cursors")
    }

    pub(crate) fn open_cursors(&self) -> CursorFile {
        let cursors = CursorFile::open(self.cursor_path(), self.writer.feed()).unwrap();
        match self.loose_bytes_min {
            Some(bytes) => cursors.with_loose_bytes_min(bytes),
            None => cursors,
        }
    }

    /// Makes the content of a file, in place.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write_at(&self.path(name), content.as_ref());
    }

    pub(crate) fn write_at(&self, path: &Path, content: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self.touch(path);
    }

    pub(crate) fn append(&self, name: &str, more: impl AsRef<[u8]>) {
        let path = self.path(name);
        let content = [fs::read(&path).unwrap_or_default(), more.as_ref().to_vec()].concat();
        self.write_at(&path, &content);
    }

    pub(crate) fn touch(&self, path: &Path) {
        self.clock.set(self.clock.get() + 1);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.clock.get());
        File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap();
    }

    pub(crate) fn ingest(&mut self) -> Report {
        self.ingest_from(&[self.home()])
    }

    pub(crate) fn close(&mut self) -> Report {
        self.options.close = true;
        let report = self.ingest();
        self.options.close = false;
        report
    }

    pub(crate) fn ingest_from(&mut self, roots: &[PathBuf]) -> Report {
        self.try_ingest_from(roots).unwrap()
    }

    pub(crate) fn try_ingest_from(&mut self, roots: &[PathBuf]) -> burnlog_log::Result<Report> {
        let mut cursors = self.open_cursors();
        assert_eq!(cursors.damage().is_some(), self.has_damaged_cursors, "{:?}", cursors.damage());
        let plan = discover(&Places::Roots(roots.to_vec()));
        let Self { writer, crash_after, crash_stores, .. } = self;
        let mut sink = |batch: &Batch| {
            if *crash_after == Some(0) {
                *crash_after = None;
                if *crash_stores {
                    writer.append(batch, Timestamp::from_micros(1))?;
                }
                return Err(Error::new(ErrorKind::Unavailable, "append", "the answer was lost"));
            }
            *crash_after = crash_after.map(|left| left - 1);
            let outcomes = writer.append(batch, Timestamp::from_micros(1))?;
            let head = writer.head().expect("something was appended");
            Ok(Acknowledged { outcomes, point: FeedPoint { size: head.size, root: head.root } })
        };
        ingest(plan, &mut cursors, &self.options, &mut sink, &mut ())
    }

    pub(crate) fn feed_size(&self) -> u64 {
        self.writer.size()
    }

    /// The feed, in order.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        loop {
            let page = self.ledger.read(&self.writer.feed(), events.len() as u64, Limit::default()).unwrap();
            if page.entries.is_empty() {
                return events;
            }
            for entry in page.entries {
                let Body::Present { skeleton, payload } = entry.body else { panic!("not readable") };
                let Skeleton { position, .. } = Skeleton::parse(&skeleton).unwrap();
                events.push(Event {
                    kind: position.kind.name().to_owned(),
                    stream: position.stream.into_owned(),
                    seq: position.seq,
                    part: position.part.map(|part| (part.number, part.more)),
                    payload: payload.to_vec(),
                    source: position.source.into_owned(),
                });
            }
        }
    }

    /// The `line` events, sorted.
    pub(crate) fn lines(&self) -> BTreeSet<Event> {
        self.events().into_iter().filter(|event| event.kind == "line").collect()
    }

    pub(crate) fn of_kind(&self, kind: &str) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.kind == kind).collect()
    }

    /// Restores every extent of the feed and checks it: stream and content, in the order of the feed.
    pub(crate) fn restored(&self) -> Vec<(String, Vec<u8>)> {
        let (events, is_sure) = (self.events(), !self.has_lost_knowledge);
        let extents = events.iter().enumerate().filter(|(_, event)| event.kind == "extent");
        extents
            .map(|(at, event)| {
                let extent = Extent::parse(&event.payload).unwrap();
                let content = restore(&events[..at], &extent, is_sure).expect("every extent restores");
                (extent.stream, content)
            })
            .collect()
    }

    /// The restored contents of one stream.
    pub(crate) fn contents(&self, stream: &str) -> Vec<String> {
        let of_stream = self.restored().into_iter().filter(|(name, _)| name == stream);
        of_stream.map(|(_, content)| String::from_utf8_lossy(&content).into_owned()).collect()
    }
}

/// Rebuilds the file that `extent` speaks of from the entries before it, by what [`Extent`] documents. Older candidates
/// are tried only where the newest `is_sure` not to be the wrong one.
fn restore(before: &[Event], extent: &Extent, is_sure: bool) -> Option<Vec<u8>> {
    let mut chosen: BTreeMap<u64, Vec<PayloadHash>> = BTreeMap::new();
    for (seq, hash) in &extent.chosen {
        chosen.entry(*seq).or_default().push(*hash);
    }
    let is_record = |event: &&Event| matches!(event.kind.as_str(), "line" | "tail");
    let of_seq = |seq: u64| {
        before
            .iter()
            .rev()
            .filter(is_record)
            .filter(move |event| event.stream == extent.stream && event.seq == seq)
    };
    // For each record the possible lists of payloads, the likeliest first.
    let mut records: Vec<Vec<Vec<&[u8]>>> = Vec::new();
    for seq in 0..extent.records {
        let by_hash = |hash: &PayloadHash| of_seq(seq).find(|event| PayloadHash::of(&event.payload) == *hash);
        records.push(match chosen.get(&seq) {
            Some(hashes) => {
                vec![hashes.iter().map(|hash| by_hash(hash).unwrap().payload.as_slice()).collect()]
            }
            None => of_seq(seq)
                .filter(|event| event.part.is_none())
                .take(if is_sure { 1 } else { usize::MAX })
                .map(|event| vec![event.payload.as_slice()])
                .collect(),
        });
    }
    let combinations: usize = records.iter().map(Vec::len).product();
    (0..combinations).find_map(|mut number| {
        let mut content = Vec::new();
        let mut frontier = Frontier::default();
        for (seq, candidates) in (0..).zip(&records) {
            for payload in &candidates[number % candidates.len()] {
                frontier.push(leaf(PayloadHash::of(payload).as_bytes()));
                content.extend_from_slice(payload);
            }
            number /= candidates.len();
            if seq + 1 < extent.records || extent.ends_with_newline {
                content.push(b'\n');
            }
        }
        (frontier.root() == extent.root && content.len() as u64 == extent.bytes).then_some(content)
    })
}

/// The events of a file that was never cut.
pub(crate) fn in_one_shot(name: &str, content: &[u8], options: &Options) -> BTreeSet<Event> {
    let mut host = Host::new();
    host.options = options.clone();
    host.write(name, content);
    host.ingest();
    host.lines()
}
