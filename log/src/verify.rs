//! Verify: recomputes everything that can be recomputed and names what does not fit. Repairs nothing.
//! Stretches of feeds are read and hashed in threads of their own (`stretches`); here their leaves become roots again,
//! in order. Memory is a few pages.

mod stretches;

use crate::backend::{Damage, FeedState};
use crate::feed::{BatchHead, Frontier};
use crate::{ErrorKind, Ledger, Result, WriterId};
use std::sync::mpsc::{Receiver, sync_channel};
use stretches::{Piece, THREADS, read_stretches, stretches};

/// How many pieces each thread may be ahead.
const PIECES_AHEAD: usize = 8;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nothing is wrong; something could not be said.
    Note,
    /// Wrong, but everything can be made again from the rest.
    Warning,
    /// Stored bytes are not what was recorded.
    Damage,
}

/// One thing that verify found.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// A stable code in lower case with hyphens; `docs/format.md` lists them.
    pub code: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// The feed, where it concerns one.
    pub feed: Option<WriterId>,
    /// The index in that feed.
    pub index: Option<u64>,
    /// Where the bytes are, in the store's own terms; may be empty.
    pub place: String,
    /// A sentence for a person.
    pub message: String,
}

/// What verify looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verified {
    /// Feeds read.
    pub feeds: u64,
    /// Entries read.
    pub entries: u64,
    /// Batch heads whose root and signature were checked.
    pub heads: u64,
    /// Bytes of payloads hashed.
    pub payload_bytes: u64,
    /// Entries whose payload was erased: skeleton checked, payload gone.
    pub erased: u64,
    /// Findings of severity damage.
    pub damages: u64,
    /// Findings of severity warning.
    pub warnings: u64,
}

/// Checks a whole ledger against itself and against `remembered` heads of earlier times; see [`Finding`].
///
/// Errors only when the store does not answer at all; damage is never an error. A store that lets this caller read and not
/// check what it keeps for itself is a warning.
pub fn verify(
    ledger: &Ledger,
    remembered: &[BatchHead],
    report: &mut dyn FnMut(Finding),
) -> Result<Verified> {
    let mut checker = Checker { report, verified: Verified::default() };
    let mut heads = ledger.feeds()?;
    heads.dedup_by_key(|head| head.feed);
    let heads = &heads;
    std::thread::scope(|scope| {
        let receivers: Vec<Receiver<Result<Piece>>> = (0..THREADS)
            .map(|thread| {
                let (send, receive) = sync_channel(PIECES_AHEAD);
                scope.spawn(move || read_stretches(ledger, heads, thread, &send));
                receive
            })
            .collect();
        for head in remembered {
            if heads.binary_search_by_key(&head.feed, |known| known.feed).is_err() {
                checker.lost_feed(head);
            }
        }
        checker.feeds(heads, &receivers, remembered)
    })?;
    // Afterwards, so that a store need not look again at what it found whole while it was read.
    match ledger.backend().check(&mut |damage| checker.store(damage)) {
        // Whoever may only read can still recompute everything that is signed.
        Err(error) if error.kind() == ErrorKind::Denied => checker.report(Finding {
            code: "store-unchecked",
            severity: Severity::Warning,
            feed: None,
            index: None,
            place: ledger.location().url,
            message: format!("what the store keeps for itself was not checked: {}", error.message()),
        }),
        checked => checked?,
    }
    Ok(checker.verified)
}

struct Checker<'a> {
    report: &'a mut dyn FnMut(Finding),
    verified: Verified,
}

/// One feed while its pieces arrive.
struct Feed {
    head: BatchHead,
    /// `None` once an entry could not be read: no later root can be recomputed.
    frontier: Option<Frontier>,
    /// The next index.
    next: u64,
    last_head: u64,
    newest: Option<FeedState>,
    remembered: Vec<BatchHead>,
}

impl Checker<'_> {
    fn report(&mut self, finding: Finding) {
        match finding.severity {
            Severity::Damage => self.verified.damages += 1,
            Severity::Warning => self.verified.warnings += 1,
            Severity::Note => {}
        }
        (self.report)(finding);
    }

    fn find(
        &mut self,
        code: &'static str,
        severity: Severity,
        feed: WriterId,
        index: Option<u64>,
        message: String,
    ) {
        self.report(Finding { code, severity, feed: Some(feed), index, place: String::new(), message });
    }

    fn store(&mut self, damage: Damage) {
        let Damage { code, place, message, rebuildable } = damage;
        let severity = if rebuildable { Severity::Warning } else { Severity::Damage };
        self.report(Finding { code, severity, feed: None, index: None, place, message });
    }

    fn lost_feed(&mut self, head: &BatchHead) {
        let message =
            format!("this host remembers the feed at size {}; the ledger does not have it", head.size);
        self.find("feed-lost", Severity::Damage, head.feed, None, message);
    }

    /// Takes the pieces of all feeds in order. Each thread sends those of every `THREADS`-th stretch.
    fn feeds(
        &mut self,
        heads: &[BatchHead],
        receivers: &[Receiver<Result<Piece>>],
        remembered: &[BatchHead],
    ) -> Result<()> {
        let mut stretch = stretches(heads).enumerate().peekable();
        for (number, head) in heads.iter().enumerate() {
            self.verified.feeds += 1;
            let remembered: Vec<BatchHead> =
                remembered.iter().filter(|known| known.feed == head.feed).copied().collect();
            if remembered.is_empty() {
                let message = "no remembered head: a cut at a batch boundary would not show";
                self.find("unanchored", Severity::Note, head.feed, None, message.to_owned());
            }
            let mut feed = Feed {
                head: *head,
                frontier: Some(Frontier::default()),
                next: 0,
                last_head: 0,
                newest: None,
                remembered,
            };
            while let Some((turn, _)) = stretch.next_if(|(_, stretch)| stretch.feed == number) {
                let pieces = &receivers[turn % THREADS];
                loop {
                    // A thread ends early only after it sent an error, or by a panic that the scope passes on.
                    let Ok(piece) = pieces.recv() else { return Ok(()) };
                    let piece = piece?;
                    let is_last = piece.is_last;
                    self.piece(&mut feed, piece);
                    if is_last {
                        break;
                    }
                }
            }
            self.end(&feed);
        }
        Ok(())
    }

    fn piece(&mut self, feed: &mut Feed, piece: Piece) {
        let counts = piece.counts;
        self.verified.entries += counts.entries;
        self.verified.payload_bytes += counts.payload_bytes;
        self.verified.erased += counts.erased;
        if piece.leaves.is_empty() {
            return;
        }
        if piece.from > feed.next {
            feed.frontier = None;
            let message = format!("the entries up to {} are not there", piece.from);
            self.find("feed-cut", Severity::Damage, feed.head.feed, Some(feed.next), message);
        }
        let mut findings = piece.findings.into_iter().peekable();
        let seen = feed.last_head;
        let mut heads = piece.heads.iter().skip_while(|head| head.size <= seen).peekable();
        for (index, leaf) in (piece.from..).zip(piece.leaves) {
            while let Some(finding) = findings.next_if(|finding| finding.index <= Some(index)) {
                self.report(finding);
            }
            match (&mut feed.frontier, leaf) {
                (Some(frontier), Some(leaf)) => frontier.push(leaf),
                _ => feed.frontier = None,
            }
            feed.next = index + 1;
            while let Some(head) = heads.next_if(|head| head.size <= index + 1) {
                self.head(feed, head);
            }
        }
        feed.newest = piece.state;
    }

    fn head(&mut self, feed: &mut Feed, head: &BatchHead) {
        let id = feed.head.feed;
        self.verified.heads += 1;
        let at = Some(head.size - 1);
        if head.feed != id || head.size <= feed.last_head || head.size != feed.next {
            let message = format!("a batch head at size {} after one at {}", head.size, feed.last_head);
            self.find("head-order", Severity::Damage, id, at, message);
        }
        feed.last_head = head.size;
        if let Err(error) = head.verify() {
            self.find("signature-invalid", Severity::Damage, id, at, error.message().to_owned());
        }
        if let Some(frontier) = feed.frontier.as_ref().filter(|frontier| frontier.size() == head.size) {
            let root = frontier.root();
            if root != head.root {
                let message = format!(
                    "the entries up to size {} have root {root}, the head says {}",
                    head.size, head.root
                );
                self.find("root-mismatch", Severity::Damage, id, at, message);
            }
        }
        for known in feed.remembered.extract_if(.., |known| known.size <= head.size) {
            if known.size < head.size || known.root != head.root {
                let message = format!(
                    "this host remembers root {} at size {}; the ledger has no such head",
                    known.root, known.size
                );
                let at = Some(known.size.saturating_sub(1));
                self.find("head-changed", Severity::Damage, id, at, message);
            }
        }
    }

    fn end(&mut self, feed: &Feed) {
        let id = feed.head.feed;
        let (size, last_head) = (feed.head.size, feed.last_head);
        if feed.next < size || last_head < size {
            let message = if feed.next < size {
                format!("the feed is listed with {size} entries and reads {}", feed.next)
            } else {
                format!("the feed is listed with {size} entries, and its last head is one of {last_head}")
            };
            self.find("feed-cut", Severity::Damage, id, Some(feed.next), message);
        }
        if feed.next > feed.last_head {
            let message = format!("{} entries have no signed head over them", feed.next - feed.last_head);
            self.find("head-missing", Severity::Damage, id, Some(feed.last_head), message);
        }
        for known in &feed.remembered {
            let message =
                format!("this host remembers size {}; the ledger ends at {}", known.size, feed.next);
            self.find("feed-cut", Severity::Damage, id, Some(feed.next), message);
        }
        let stale = |newest: &FeedState, frontier: &Frontier| {
            newest.head.size == frontier.size() && newest.frontier != frontier.peaks()
        };
        if feed
            .newest
            .as_ref()
            .zip(feed.frontier.as_ref())
            .is_some_and(|(newest, frontier)| stale(newest, frontier))
        {
            let message = "the stored frontier is not that of the entries; it is computed again when needed";
            self.find("frontier-mismatch", Severity::Warning, id, None, message.to_owned());
        }
    }
}
