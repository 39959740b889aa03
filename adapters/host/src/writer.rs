//! The feed of this host in one ledger: its key, its first event, and what to do when the ledger does not
//! continue what this host remembers.

use crate::files::{read, replace};
use crate::{LedgerState, RememberedHeads, load_or_create_key, rotate_key};
use burnlog_log::{
    Batch, BatchHead, Error, ErrorKind, Kind, Ledger, Outcome, Position, Result, Root, Timestamp, Writer,
    WriterId, WriterKey,
};

/// What a `writer` event says of this host.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Identity {
    /// The label; identity is the key, this is for people.
    pub host: String,
    /// The operating system.
    pub os: &'static str,
    /// The processor.
    pub arch: &'static str,
    /// The version of the program.
    pub version: &'static str,
}

/// The end of the feed that this one continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Previous {
    feed: WriterId,
    size: u64,
    root: Root,
}

/// A point at which something of this host knows the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownPoint {
    /// How many entries.
    pub size: u64,
    /// The root over them, where it was kept: rows that were folded know a size alone.
    pub root: Option<Root>,
}

#[derive(serde::Serialize)]
struct Payload<'a> {
    #[serde(flatten)]
    identity: &'a Identity,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<Previous>,
}

/// What happened to this host's feed when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedStart {
    /// The feed goes on, or is new.
    Continued,
    /// The ledger does not contain what this host remembers of its feed (it was restored from a backup, or somebody used a
    /// copy of the key): a new key and feed were started, which name the old one.
    Restarted {
        /// The feed that ended.
        feed: WriterId,
        /// The size at which this host remembers it.
        size: u64,
        /// The size at which the ledger has the old feed.
        found_size: u64,
    },
}

/// Hears of a batch that was written: the feed, its events, what became of each.
pub type Appended<'a> = dyn FnMut(&WriterId, &Batch, &[Outcome]) -> Result<()> + 'a;

/// Writes this host's feed.
#[derive(Debug)]
pub struct HostWriter {
    state: LedgerState,
    heads: RememberedHeads,
    writer: Writer,
    start: FeedStart,
    payload: Vec<u8>,
    introduced: bool,
}

impl HostWriter {
    /// Opens the feed of this host; the folder of `state` must exist. `given` is a key from the environment, used
    /// instead of the key file and never rotated.
    ///
    /// `saved` returns the newest points at which anything else of this host, such as its cursors and rows, knows the feed.
    /// `Forked` when the feed of a given key does not continue what is remembered.
    pub fn open(
        ledger: &Ledger,
        state: LedgerState,
        given: Option<WriterKey>,
        identity: &Identity,
        saved: impl FnOnce(WriterId) -> Result<Vec<KnownPoint>>,
    ) -> Result<Self> {
        let heads = RememberedHeads::load(&state.heads())?;
        let is_given = given.is_some();
        let key = given.map_or_else(|| load_or_create_key(&state.key()), Ok)?;
        let mut writer = ledger.writer(key)?;
        let feed = writer.feed();
        let remembered = heads.get(&feed).copied();
        let remembered_point = remembered.map(|head| KnownPoint { size: head.size, root: Some(head.root) });
        let mut start = FeedStart::Continued;
        for point in remembered_point.into_iter().chain(saved(feed)?) {
            if continues(ledger, &writer, point)? {
                continue;
            }
            let found = writer.head().copied();
            if let Some(ours) = remembered.filter(|ours| found.is_some_and(|found| found.size >= ours.size)) {
                state.keep_evidence(&ours, found.as_ref())?;
            }
            if is_given {
                let message = "the ledger does not continue what this host remembers of its feed; \
                               give this process a new key";
                return Err(Error::new(ErrorKind::Forked, "open feed", message).at(feed));
            }
            // Where nobody kept the root, the end that the ledger shows is named.
            let ended = match point.root {
                Some(root) => Some(Previous { feed, size: point.size, root }),
                None => found.map(|found| Previous { feed, size: found.size, root: found.root }),
            };
            if let Some(previous) = ended {
                state.keep_previous(&previous)?;
            }
            writer = ledger.writer(rotate_key(&state.key())?)?;
            let found_size = found.map_or(0, |found| found.size);
            start = FeedStart::Restarted { feed, size: point.size, found_size };
            break;
        }
        let previous = state.previous()?;
        let payload = serde_json::to_vec(&Payload { identity, previous }).expect("plain data");
        let mut this = Self { state, heads, writer, start, payload, introduced: false };
        this.introduced =
            this.writer.size() > 0 && read(&this.introduction())?.is_some_and(|text| text == this.card());
        Ok(this)
    }

    /// Returns the feed.
    pub fn feed(&self) -> WriterId {
        self.writer.feed()
    }

    /// Returns the newest head; `None` before the first batch.
    pub fn head(&self) -> Option<&BatchHead> {
        self.writer.head()
    }

    /// Returns what happened when the feed was opened.
    pub fn start(&self) -> &FeedStart {
        &self.start
    }

    /// Appends a batch and returns what became of its events. The first append of a feed, and the first after this
    /// host's label, system or version changed, is preceded by a batch with the `writer` event. `appended` is told of
    /// every batch that was written, in order.
    pub fn append(
        &mut self,
        batch: &Batch,
        now: Timestamp,
        appended: &mut Appended<'_>,
    ) -> Result<Vec<Outcome>> {
        let feed = self.feed();
        if !self.introduced {
            let mut card = Batch::default();
            let seq = self.writer.size();
            let stream = feed.to_string().into();
            let position = Position { kind: Kind::Writer, source: "burnlog".into(), stream, seq, part: None };
            card.push(position, &self.payload)?;
            let outcomes = self.writer.append(&card, now).map_err(|error| self.keep_fork(error))?;
            appended(&feed, &card, &outcomes)?;
            replace(&self.introduction(), &self.card(), false)?;
            self.introduced = true;
        }
        let outcomes = self.writer.append(batch, now).map_err(|error| self.keep_fork(error))?;
        appended(&feed, batch, &outcomes)?;
        Ok(outcomes)
    }

    /// Remembers the newest head for the next time.
    pub fn remember(&mut self) -> Result<()> {
        if let Some(head) = self.writer.head() {
            self.heads.remember(head);
        }
        self.heads.save()
    }

    fn introduction(&self) -> std::path::PathBuf {
        self.state.folder().join("writer.json")
    }

    /// The feed and what it was told about this host.
    fn card(&self) -> Vec<u8> {
        [self.feed().to_string().as_bytes(), b"\n", &self.payload].concat()
    }

    /// Somebody else grew this feed with the same key: keeps both heads. The next open starts a new feed.
    fn keep_fork(&self, error: Error) -> Error {
        let Some(ours) = self.writer.head().filter(|_| error.kind() == ErrorKind::Forked) else {
            return error;
        };
        match self.state.keep_evidence(ours, None) {
            Ok(_) => error,
            Err(failed) => error.caused_by(failed),
        }
    }
}

impl LedgerState {
    fn keep_previous(&self, previous: &Previous) -> Result<()> {
        replace(
            &self.folder().join("previous.json"),
            &serde_json::to_vec(previous).expect("plain data"),
            true,
        )
    }

    fn previous(&self) -> Result<Option<Previous>> {
        Ok(read(&self.folder().join("previous.json"))?.and_then(|text| serde_json::from_slice(&text).ok()))
    }
}

/// Tells whether the ledger contains the feed at this point.
fn continues(ledger: &Ledger, writer: &Writer, KnownPoint { size, root }: KnownPoint) -> Result<bool> {
    if size == 0 {
        return Ok(true);
    }
    let Some(root) = root else {
        if writer.size() >= size {
            return Ok(true);
        }
        // Another process with this key may have appended since, and its entries been folded.
        return Ok(ledger.state(&writer.feed())?.is_some_and(|state| state.head.size >= size));
    };
    match writer.head() {
        Some(head) if head.size == size => Ok(head.root == root),
        Some(head) if head.size > size => {
            Ok(ledger.head_at(&head.feed, size)?.is_some_and(|kept| kept.root == root))
        }
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Home;
    use burnlog_log::{LedgerId, Limit, MemoryBackend, parse_hex};

    const IDENTITY: Identity =
        Identity { host: String::new(), os: "linux", arch: "x86_64", version: "0.0.0" };

    struct Host {
        _folder: tempfile::TempDir,
        state: LedgerState,
    }

    impl Host {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let state = Home::new(folder.path()).ledger_state(LedgerId([1; 16]));
            state.create().unwrap();
            Self { _folder: folder, state }
        }

        fn open(&self, ledger: &Ledger) -> HostWriter {
            HostWriter::open(ledger, self.state.clone(), None, &IDENTITY, |_| Ok(Vec::new())).unwrap()
        }

        /// Opens, appends one record, remembers.
        fn append(&self, ledger: &Ledger, seq: u64) -> HostWriter {
            let mut writer = self.open(ledger);
            let mut batch = Batch::default();
            let position =
                Position { kind: Kind::Line, source: "test".into(), stream: "s".into(), seq, part: None };
            batch.push(position, b"{}").unwrap();
            writer.append(&batch, Timestamp::from_micros(1), &mut |_, _, _| Ok(())).unwrap();
            writer.remember().unwrap();
            writer
        }
    }

    fn ledger() -> Ledger {
        Ledger::new(MemoryBackend::new(LedgerId([1; 16])))
    }

    #[test]
    fn a_feed_begins_with_its_writer_and_says_so_once() {
        let (host, ledger) = (Host::new(), ledger());
        host.append(&ledger, 0);
        let writer = host.append(&ledger, 1);
        let page = ledger.read(&writer.feed(), 0, Limit::default()).unwrap();
        let kinds: Vec<bool> = page
            .entries
            .iter()
            .map(|e| e.body.skeleton().unwrap().starts_with(b"{\"v\":1,\"kind\":\"writer\""))
            .collect();
        assert_eq!(kinds, [true, false, false]);
    }

    #[test]
    fn a_new_version_introduces_itself_again() {
        let (host, ledger) = (Host::new(), ledger());
        host.append(&ledger, 0);
        let identity = Identity { version: "0.0.1", ..IDENTITY };
        let mut writer =
            HostWriter::open(&ledger, host.state.clone(), None, &identity, |_| Ok(Vec::new())).unwrap();
        let mut batches = 0;
        let mut batch = Batch::default();
        let position =
            Position { kind: Kind::Line, source: "test".into(), stream: "s".into(), seq: 9, part: None };
        batch.push(position, b"{}").unwrap();
        let mut count = |_: &WriterId, _: &Batch, _: &[Outcome]| {
            batches += 1;
            Ok(())
        };
        writer.append(&batch, Timestamp::from_micros(1), &mut count).unwrap();
        assert_eq!(batches, 2);
    }

    #[test]
    fn a_ledger_that_went_back_gets_a_new_feed_that_names_the_old_one() {
        let (host, whole) = (Host::new(), ledger());
        let old = host.append(&whole, 0);
        let (feed, head) = (old.feed(), *old.head().unwrap());
        let restored = ledger();
        let writer = host.append(&restored, 0);
        assert_eq!(*writer.start(), FeedStart::Restarted { feed, size: head.size, found_size: 0 });
        assert_ne!(writer.feed(), feed);
        let page = restored.read(&writer.feed(), 0, Limit::default()).unwrap();
        let burnlog_log::Body::Present { payload, .. } = &page.entries[0].body else { panic!("present") };
        let text: serde_json::Value = serde_json::from_slice(payload).unwrap();
        assert_eq!(text["previous"]["feed"], feed.to_string());
        assert_eq!(text["previous"]["size"], 2);
        assert_eq!(*host.open(&restored).start(), FeedStart::Continued);
    }

    #[test]
    fn rows_that_know_more_than_the_ledger_has_end_a_feed() {
        let (host, ledger) = (Host::new(), ledger());
        let old = host.append(&ledger, 0);
        let head = *old.head().unwrap();
        std::fs::remove_file(host.state.heads()).unwrap();
        let open = |size| {
            let rows = vec![KnownPoint { size, root: None }];
            HostWriter::open(&ledger, host.state.clone(), None, &IDENTITY, |_| Ok(rows)).unwrap()
        };
        assert_eq!(*open(head.size).start(), FeedStart::Continued);
        let writer = open(head.size + 1);
        assert!(matches!(writer.start(), FeedStart::Restarted { size: 3, found_size: 2, .. }));
        let previous = host.state.previous().unwrap().unwrap();
        assert_eq!(previous, Previous { feed: head.feed, size: head.size, root: head.root });
    }

    #[test]
    fn a_copied_key_leaves_evidence_and_a_new_feed() {
        let (host, ours) = (Host::new(), ledger());
        host.append(&ours, 0);
        let theirs = ledger();
        let mut secret = [0; 32];
        assert!(parse_hex(std::fs::read(host.state.key()).unwrap().trim_ascii(), &mut secret));
        let mut thief = theirs.writer(WriterKey::from_secret(secret)).unwrap();
        let mut batch = Batch::default();
        for seq in 0..3 {
            let position =
                Position { kind: Kind::Line, source: "x".into(), stream: "y".into(), seq, part: None };
            batch.push(position, b"{}").unwrap();
        }
        thief.append(&batch, Timestamp::from_micros(1)).unwrap();
        let writer = host.open(&theirs);
        assert!(matches!(writer.start(), FeedStart::Restarted { found_size: 3, .. }));
        assert_eq!(std::fs::read_dir(host.state.evidence()).unwrap().count(), 1);
    }

    #[test]
    fn a_given_key_is_never_rotated() {
        let (host, whole) = (Host::new(), ledger());
        host.append(&whole, 0);
        let mut secret = [0; 32];
        assert!(parse_hex(std::fs::read(host.state.key()).unwrap().trim_ascii(), &mut secret));
        let given = Some(WriterKey::from_secret(secret));
        let error = HostWriter::open(&ledger(), host.state.clone(), given, &IDENTITY, |_| Ok(Vec::new()))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Forked);
    }
}
