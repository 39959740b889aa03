//! Verify: recomputes everything that can be recomputed and names what does not fit. Repairs nothing.
//! Reads in one thread and hashes in another, page by page; memory is a few pages.

use crate::backend::{Damage, Entry, Page};
use crate::event::{Body, Kind, Skeleton};
use crate::feed::{BatchHead, Frontier, leaf};
use crate::limits::Limit;
use crate::{Address, ErrorKind, Ledger, Presence, Result, SKELETON_VERSION, SkeletonFrozen, WriterId};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

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
/// Errors only when the store does not answer at all; damage is never an error.
pub fn verify(
    ledger: &Ledger,
    remembered: &[BatchHead],
    report: &mut dyn FnMut(Finding),
) -> Result<Verified> {
    let mut checker = Checker { ledger, report, verified: Verified::default() };
    checker.store()?;
    let (send, receive) = sync_channel(4);
    let mut heads = ledger.feeds()?;
    for head in remembered {
        if heads.binary_search_by_key(&head.feed, |known| known.feed).is_err() {
            checker.lost_feed(head);
        }
    }
    heads.dedup_by_key(|head| head.feed);
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read_feeds(ledger, &heads, &send));
        checker.feeds(&receive, remembered)?;
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(checker.verified)
}

/// What the reading thread hands over.
enum Read {
    Feed(BatchHead),
    Page(u64, Page),
}

fn read_feeds(ledger: &Ledger, heads: &[BatchHead], send: &SyncSender<Read>) -> Result<()> {
    for head in heads {
        if send.send(Read::Feed(*head)).is_err() {
            return Ok(());
        }
        let mut from = 0;
        loop {
            let page = ledger.read(&head.feed, from, Limit::default())?;
            let count = page.entries.len() as u64;
            // What was appended after the listing is left for the next time.
            if count == 0 || send.send(Read::Page(from, page)).is_err() {
                break;
            }
            from += count;
        }
    }
    Ok(())
}

struct Checker<'a> {
    ledger: &'a Ledger,
    report: &'a mut dyn FnMut(Finding),
    verified: Verified,
}

/// One feed while its pages arrive.
struct Feed {
    head: BatchHead,
    /// `None` once an entry could not be read: no later root can be recomputed.
    frontier: Option<Frontier>,
    /// The next index.
    next: u64,
    last_head: u64,
    newest: Option<crate::FeedState>,
    remembered: Vec<BatchHead>,
}

impl Checker<'_> {
    fn find(
        &mut self,
        code: &'static str,
        severity: Severity,
        feed: Option<WriterId>,
        index: Option<u64>,
        text: Text,
    ) {
        match severity {
            Severity::Damage => self.verified.damages += 1,
            Severity::Warning => self.verified.warnings += 1,
            Severity::Note => {}
        }
        (self.report)(Finding { code, severity, feed, index, place: text.place, message: text.message });
    }

    /// The bytes that the store keeps for itself.
    fn store(&mut self) -> Result<()> {
        let mut damages: Vec<Damage> = Vec::new();
        self.ledger.backend().check(&mut |damage| damages.push(damage))?;
        for Damage { code, place, message, rebuildable } in damages {
            let severity = if rebuildable { Severity::Warning } else { Severity::Damage };
            self.find(code, severity, None, None, Text { place, message });
        }
        Ok(())
    }

    fn lost_feed(&mut self, head: &BatchHead) {
        let message =
            format!("this host remembers the feed at size {}; the ledger does not have it", head.size);
        self.find("feed-lost", Severity::Damage, Some(head.feed), None, message.into());
    }

    fn feeds(&mut self, receive: &Receiver<Read>, remembered: &[BatchHead]) -> Result<()> {
        let mut current: Option<Feed> = None;
        for read in receive {
            match read {
                Read::Feed(head) => {
                    if let Some(feed) = current.take() {
                        self.end(&feed);
                    }
                    self.verified.feeds += 1;
                    let remembered: Vec<BatchHead> =
                        remembered.iter().filter(|known| known.feed == head.feed).copied().collect();
                    if remembered.is_empty() {
                        let message = "no remembered head: a cut at a batch boundary would not show";
                        self.find("unanchored", Severity::Note, Some(head.feed), None, message.into());
                    }
                    current = Some(Feed {
                        head,
                        frontier: Some(Frontier::default()),
                        next: 0,
                        last_head: 0,
                        newest: None,
                        remembered,
                    });
                }
                Read::Page(from, page) => {
                    let feed = current.as_mut().expect("a feed is announced before its pages");
                    self.page(feed, from, page)?;
                }
            }
        }
        if let Some(feed) = current {
            self.end(&feed);
        }
        Ok(())
    }

    fn page(&mut self, feed: &mut Feed, from: u64, page: Page) -> Result<()> {
        let id = feed.head.feed;
        let addresses: Vec<Address> = page.entries.iter().map(|entry| entry.address).collect();
        let found = self.ledger.find(&id, &addresses)?;
        let seen = feed.last_head;
        let mut heads = page.heads.iter().skip_while(|head| head.size <= seen).peekable();
        for ((index, entry), found) in (from..).zip(&page.entries).zip(found) {
            self.verified.entries += 1;
            let damaged = matches!(entry.body, Body::Damaged { .. });
            if !damaged && (found.index != Some(index) || found.presence == Presence::Absent) {
                let message = match found.index {
                    Some(other) => {
                        format!("{} stands at {index} and the store finds it at {other}", entry.address)
                    }
                    None => {
                        format!("{} stands at {index} and the store does not find it there", entry.address)
                    }
                };
                self.find("index-mismatch", Severity::Damage, Some(id), Some(index), message.into());
            }
            self.entry(feed, index, entry);
            feed.next = index + 1;
            while let Some(head) = heads.next_if(|head| head.size <= index + 1) {
                self.head(feed, head);
            }
        }
        feed.newest = page.state;
        Ok(())
    }

    fn entry(&mut self, feed: &mut Feed, index: u64, entry: &Entry) {
        let id = Some(feed.head.feed);
        let skeleton = match &entry.body {
            Body::Damaged { place, reason } => {
                feed.frontier = None;
                let text = Text { place: place.clone(), message: reason.clone() };
                return self.find("unreadable-event", Severity::Damage, id, Some(index), text);
            }
            Body::Present { skeleton, .. } | Body::Erased { skeleton } => skeleton,
        };
        if let Some(frontier) = &mut feed.frontier {
            frontier.push(leaf(skeleton));
        }
        let actual = Address::of(skeleton);
        if actual != entry.address {
            let message = format!("the skeleton hashes to {actual}, the entry says {}", entry.address);
            self.find("address-mismatch", Severity::Damage, id, Some(index), message.into());
        }
        match &entry.body {
            Body::Present { payload, .. } => {
                self.verified.payload_bytes += payload.len() as u64;
                if let Err(error) = crate::check_payload(skeleton, payload) {
                    self.find("payload-mismatch", Severity::Damage, id, Some(index), error.message().into());
                }
            }
            _ => self.verified.erased += 1,
        }
        self.skeleton(feed, index, skeleton);
    }

    fn skeleton(&mut self, feed: &Feed, index: u64, skeleton: &[u8]) {
        let id = Some(feed.head.feed);
        match Skeleton::parse(skeleton) {
            Ok(parsed) if index == 0 && parsed.position.kind != Kind::Writer => {
                let message = format!("the first event is of kind {}, not writer", parsed.position.kind);
                self.find("writer-missing", Severity::Warning, id, Some(0), message.into());
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let version =
                    SkeletonFrozen::parse(skeleton).map_or(SKELETON_VERSION, |frozen| frozen.version);
                let message =
                    format!("skeleton version {version} of a newer program: only its hashes were checked");
                self.find("newer-skeleton", Severity::Note, id, Some(index), message.into());
            }
            Err(error) => {
                self.find("skeleton-invalid", Severity::Damage, id, Some(index), error.message().into());
            }
        }
    }

    fn head(&mut self, feed: &mut Feed, head: &BatchHead) {
        let id = Some(feed.head.feed);
        self.verified.heads += 1;
        let at = Some(head.size - 1);
        if head.feed != feed.head.feed || head.size <= feed.last_head || head.size != feed.next {
            let message = format!("a batch head at size {} after one at {}", head.size, feed.last_head);
            self.find("head-order", Severity::Damage, id, at, message.into());
        }
        feed.last_head = head.size;
        if let Err(error) = head.verify() {
            self.find("signature-invalid", Severity::Damage, id, at, error.message().into());
        }
        if let Some(frontier) = feed.frontier.as_ref().filter(|frontier| frontier.size() == head.size) {
            let root = frontier.root();
            if root != head.root {
                let message = format!(
                    "the entries up to size {} have root {root}, the head says {}",
                    head.size, head.root
                );
                self.find("root-mismatch", Severity::Damage, id, at, message.into());
            }
        }
        for known in feed.remembered.extract_if(.., |known| known.size <= head.size) {
            if known.size < head.size || known.root != head.root {
                let message = format!(
                    "this host remembers root {} at size {}; the ledger has no such head",
                    known.root, known.size
                );
                self.find(
                    "head-changed",
                    Severity::Damage,
                    id,
                    Some(known.size.saturating_sub(1)),
                    message.into(),
                );
            }
        }
    }

    fn end(&mut self, feed: &Feed) {
        let id = Some(feed.head.feed);
        if feed.next < feed.head.size || feed.last_head < feed.head.size {
            let message =
                format!("the feed is listed with {} entries and reads {}", feed.head.size, feed.next);
            self.find("feed-cut", Severity::Damage, id, Some(feed.next), message.into());
        }
        if feed.next > feed.last_head {
            let message = format!("{} entries have no signed head over them", feed.next - feed.last_head);
            self.find("head-missing", Severity::Damage, id, Some(feed.last_head), message.into());
        }
        for known in &feed.remembered {
            let message =
                format!("this host remembers size {}; the ledger ends at {}", known.size, feed.next);
            self.find("feed-cut", Severity::Damage, id, Some(feed.next), message.into());
        }
        let stale = |newest: &crate::FeedState, frontier: &Frontier| {
            newest.head.size == frontier.size() && newest.frontier != frontier.peaks()
        };
        if feed
            .newest
            .as_ref()
            .zip(feed.frontier.as_ref())
            .is_some_and(|(newest, frontier)| stale(newest, frontier))
        {
            let message = "the stored frontier is not that of the entries; it is computed again when needed";
            self.find("frontier-mismatch", Severity::Warning, id, None, message.into());
        }
    }
}

/// The two texts of a finding.
struct Text {
    place: String,
    message: String,
}

impl<T: Into<String>> From<T> for Text {
    fn from(message: T) -> Self {
        Self { place: String::new(), message: message.into() }
    }
}
