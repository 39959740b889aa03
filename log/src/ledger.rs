//! What everyone but a storage author holds: a [`Ledger`] encodes, hashes, dedups, batches, signs, checks and
//! retries over any [`Backend`].

use crate::batch::Batch;
use crate::checked::CheckedEvent;
use crate::feed::{BatchHead, Frontier, VerifiedHead, WriterKey, leaf};
use crate::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, Limit};
use crate::{
    Address, Ahead, Append, Backend, Compacted, Error, ErrorKind, FeedState, Found, Location, NewEvent, Page,
    PayloadHash, Presence, Result, SkeletonFrozen, Stat, Timestamp, Token, WriterId,
};
use hashbrown::HashSet;
use std::sync::Arc;

/// How often an append is tried when others move the feed or the outcome is unknown.
const ATTEMPTS_MAX: u32 = 10;
/// How often a question is asked when no answer comes. Less often than an append, because nothing is lost by giving up.
const QUESTIONS_MAX: u32 = 7;
const APPEND_SIGNED: &str = "append signed batch";

/// A ledger behind any backend. Cheap to clone; clones share the backend.
#[derive(Clone)]
pub struct Ledger {
    backend: Arc<dyn Backend>,
    pause: Arc<dyn Fn(u32) + Send + Sync>,
}

impl Ledger {
    /// Wraps a backend. Retries follow each other at once; see [`Ledger::with_pause`].
    pub fn new(backend: impl Backend + 'static) -> Self {
        Self::from_arc(Arc::new(backend))
    }

    /// Wraps a shared backend.
    pub fn from_arc(backend: Arc<dyn Backend>) -> Self {
        Self { backend, pause: Arc::new(|_| {}) }
    }

    /// Sets what is called before retry 1, 2, … of an append or a question: the place for a sleep with jitter, which this crate has no clock for.
    #[must_use]
    pub fn with_pause(mut self, pause: impl Fn(u32) + Send + Sync + 'static) -> Self {
        self.pause = Arc::new(pause);
        self
    }

    /// Returns where this ledger is. No I/O.
    pub fn location(&self) -> Location {
        self.backend.location()
    }

    /// Counts what is stored.
    pub fn stat(&self) -> Result<Stat> {
        self.ask(|| self.backend.stat())
    }

    /// Returns the backend, for what only it can do.
    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Gives back space; see [`Backend::compact`].
    pub fn compact(&self) -> Result<Compacted> {
        self.backend.compact()
    }

    /// Calls `each` with the newest head of every feed (or of those that moved since the token), by ascending
    /// id, and returns the token for the next time.
    pub fn for_each_feed(
        &self,
        changed_since: Option<&Token>,
        mut each: impl FnMut(&BatchHead) -> Result<()>,
    ) -> Result<Token> {
        let mut first_token = None;
        let mut after: Option<WriterId> = None;
        loop {
            let page = self.ask(|| self.backend.feeds(after.as_ref(), changed_since, 1000))?;
            for head in &page.heads {
                each(head)?;
            }
            let token = first_token.get_or_insert(page.token);
            match page.heads.last() {
                Some(last) if page.more => after = Some(last.feed),
                _ => return Ok(token.clone()),
            }
        }
    }

    /// Returns the newest head of every feed, by ascending id.
    pub fn feeds(&self) -> Result<Vec<BatchHead>> {
        let mut heads = Vec::new();
        self.for_each_feed(None, |head| {
            heads.push(*head);
            Ok(())
        })?;
        Ok(heads)
    }

    /// Returns the newest state of a feed, or `None` for an unknown one. Trusts the store; see [`Ledger::checked_state`].
    pub fn state(&self, feed: &WriterId) -> Result<Option<FeedState>> {
        Ok(self.read(feed, u64::MAX, Limit { entries: 1, bytes: 1 })?.state)
    }

    /// Returns the head and frontier of a feed after checking that the stored frontier has the root of the signed
    /// head; an unknown feed is at size 0. Where the frontier does not fit, it is computed again from the entries.
    ///
    /// `Corrupt` when the entries do not have the root of the head either.
    pub fn checked_state(&self, feed: &WriterId) -> Result<(Option<BatchHead>, Frontier)> {
        self.state_where(feed, BatchHead::verify)
    }

    /// As [`Ledger::checked_state`], without checking the signature of the stored head. Enough for whoever has a later head of
    /// this feed whose signature holds: a root over more entries that grows from this frontier vouches for all before.
    pub fn fitting_state(&self, feed: &WriterId) -> Result<(Option<BatchHead>, Frontier)> {
        self.state_where(feed, |_| Ok(()))
    }

    fn state_where(
        &self,
        feed: &WriterId,
        check: impl Fn(&BatchHead) -> Result<()>,
    ) -> Result<(Option<BatchHead>, Frontier)> {
        let Some(state) = self.state(feed)? else { return Ok((None, Frontier::default())) };
        check(&state.head)?;
        let stored = Frontier::from_parts(state.head.size, state.frontier);
        if let Some(frontier) = stored.filter(|frontier| frontier.root() == state.head.root) {
            return Ok((Some(state.head), frontier));
        }
        let frontier = self.frontier_at(feed, state.head.size)?;
        if frontier.root() == state.head.root {
            return Ok((Some(state.head), frontier));
        }
        let message =
            format!("the entries have root {}, the signed head {}", frontier.root(), state.head.root);
        Err(Error::new(ErrorKind::Corrupt, "read feed head", message)
            .at(format_args!("{feed} at {}", state.head.size)))
    }

    /// Computes the frontier of the first `size` entries from their skeletons: reads the whole feed up to there.
    pub fn frontier_at(&self, feed: &WriterId, size: u64) -> Result<Frontier> {
        let mut frontier = Frontier::default();
        while frontier.size() < size {
            let page = self.read(feed, frontier.size(), Limit::default())?;
            if page.entries.is_empty() {
                let message = format!("the feed ends at {}", frontier.size());
                return Err(Error::new(ErrorKind::NotFound, "read feed", message)
                    .at(format_args!("{feed} at {size}")));
            }
            for entry in page.entries.iter().take((size - frontier.size()) as usize) {
                let skeleton = entry.body.skeleton().map_err(|error| {
                    error.at(format_args!("{feed} at {}, ledger {}", frontier.size(), self.location().url))
                })?;
                frontier.push(leaf(skeleton));
            }
        }
        Ok(frontier)
    }

    /// Returns the batch head of a feed at exactly `size`, if one was kept there.
    pub fn head_at(&self, feed: &WriterId, size: u64) -> Result<Option<BatchHead>> {
        self.ask(|| self.head_at_once(feed, size))
    }

    fn head_at_once(&self, feed: &WriterId, size: u64) -> Result<Option<BatchHead>> {
        if size == 0 {
            return Ok(None);
        }
        let page = self.backend.read(feed, size - 1, Limit { entries: 1, bytes: 1 })?;
        Ok(page.heads.into_iter().find(|head| head.size == size))
    }

    /// Reads a page of a feed; see [`Backend::read`].
    pub fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        self.ask(|| self.backend.read(feed, from, limit))
    }

    /// Tells what the ledger has; see [`Backend::find`].
    pub fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        self.ask(|| self.backend.find(feed, addresses))
    }

    /// Gets events by address; see [`Backend::get`].
    pub fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<crate::Body>>> {
        self.ask(|| self.backend.get(addresses, limit))
    }

    /// Erases payloads; see [`Backend::erase`].
    pub fn erase(&self, addresses: &[Address]) -> Result<()> {
        self.backend.erase(addresses)
    }

    /// Opens the feed of `key` for writing, new or where it stands.
    pub fn writer(&self, key: WriterKey) -> Result<Writer> {
        let feed = key.writer();
        let (head, frontier) = self.checked_state(&feed)?;
        Ok(Writer { ledger: self.clone(), key, head, frontier })
    }

    /// Appends a batch of somebody's feed as it was signed: checks that the entries lead from `before` to the signed root.
    /// Returns the frontier after the batch. That the signature holds and that the events are what they say is in their types.
    ///
    /// `Invalid` for entries that lead elsewhere, and whatever the backend says.
    pub fn append_signed(
        &self,
        before: &Frontier,
        head: &VerifiedHead,
        entries: &[SignedEntry<'_>],
    ) -> Result<Frontier> {
        let skeletons: Vec<&[u8]> = entries.iter().map(SignedEntry::skeleton).collect();
        let addresses: Vec<Address> = entries.iter().map(SignedEntry::address).collect();
        let events: Vec<NewEvent<'_>> = entries.iter().filter_map(SignedEntry::new_event).collect();
        self.append_checked(
            before,
            &SignedBatch { head, skeletons: &skeletons, addresses: &addresses, events: &events },
        )
    }

    /// As [`Ledger::append_signed`], for a batch whose addresses and events were checked in another way.
    fn append_checked(&self, before: &Frontier, batch: &SignedBatch<'_>) -> Result<Frontier> {
        let after = batch.frontier_behind(before)?;
        self.append_settled(&batch.append(before, &after), None)?;
        Ok(after)
    }

    /// Does of [`Ledger::append_checked`] what can be done before the batch in front of this one is in the ledger.
    pub(crate) fn make_ready(&self, before: &Frontier, batch: &SignedBatch<'_>) -> Result<Ready> {
        let after = batch.frontier_behind(before)?;
        let ahead = self.backend.ahead(&batch.append(before, &after))?;
        Ok(Ready { after, ahead })
    }

    /// Appends a batch behind `before` that was made ready for it. Whoever tries again sends other events: what was done ahead is of no
    /// use then, and gone.
    pub(crate) fn append_ready(
        &self,
        before: &Frontier,
        batch: &SignedBatch<'_>,
        ready: &mut Ready,
    ) -> Result<()> {
        self.append_settled(&batch.append(before, &ready.after), ready.ahead.take())
    }

    /// Appends; after `Unavailable`, whose outcome is unknown, asks the head and tries again where nothing happened.
    fn append_settled(&self, append: &Append<'_>, mut ahead: Option<Ahead>) -> Result<()> {
        let mut attempt = 0;
        loop {
            let result = match ahead.take() {
                Some(ahead) => self.backend.append_ahead(append, ahead),
                None => self.backend.append(append),
            };
            let error = match result {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Unavailable => error,
                // A retry of an append whose first answer was lost finds its own batch.
                Err(error) if error.kind() == ErrorKind::Conflict && attempt > 0 => {
                    return if self.holds(append.head)? { Ok(()) } else { Err(error) };
                }
                Err(error) => return Err(error),
            };
            attempt += 1;
            if attempt >= ATTEMPTS_MAX {
                return Err(error);
            }
            (self.pause)(attempt);
            if self.holds(append.head).unwrap_or(false) {
                return Ok(());
            }
        }
    }

    /// Asks again where the store does not answer: a connection that ended, a server that starts anew.
    fn ask<T>(&self, question: impl Fn() -> Result<T>) -> Result<T> {
        let mut attempt = 0;
        loop {
            let answer = question();
            attempt += 1;
            match answer {
                Err(error) if error.kind() == ErrorKind::Unavailable && attempt < QUESTIONS_MAX => {
                    (self.pause)(attempt);
                }
                answer => return answer,
            }
        }
    }

    /// Asks once: the append that wants to know is itself tried again.
    fn holds(&self, head: &BatchHead) -> Result<bool> {
        Ok(self.head_at_once(&head.feed, head.size)?.is_some_and(|kept| kept.root == head.root))
    }
}

/// Checks that events are what their addresses and skeletons say; payloads are absent where they were erased.
pub(crate) fn check_events(events: &[NewEvent<'_>]) -> Result<()> {
    let skeletons: Vec<&[u8]> = events.iter().map(|event| event.skeleton).collect();
    let payloads: Vec<&[u8]> = events.iter().map(|event| event.payload.unwrap_or_default()).collect();
    let hashes = Address::of_each(&skeletons).into_iter().zip(PayloadHash::of_each(&payloads));
    for (NewEvent { address, skeleton, payload }, (actual, payload_hash)) in events.iter().zip(hashes) {
        if actual != *address {
            let message = "the skeleton does not hash to the address";
            return Err(Error::new(ErrorKind::Invalid, APPEND_SIGNED, message).at(address));
        }
        SkeletonFrozen::parse(skeleton)
            .and_then(|frozen| payload.map_or(Ok(()), |payload| frozen.check_payload(payload, payload_hash)))
            .map_err(|error| error.at(address))?;
    }
    Ok(())
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({})", self.location().url)
    }
}

/// One entry of a batch that somebody signed, for [`Ledger::append_signed`].
#[derive(Debug, Clone, Copy)]
pub enum SignedEntry<'a> {
    /// Its event comes along: the ledger may lack it.
    Sent(&'a CheckedEvent),
    /// The ledger has its event, with this skeleton.
    Kept(&'a [u8]),
}

impl<'a> SignedEntry<'a> {
    /// Returns how many bytes it counts among those of a batch.
    pub fn bytes(&self) -> u64 {
        let payload = self.new_event().and_then(|event| event.payload).map_or(0, <[u8]>::len);
        (self.skeleton().len() + payload) as u64
    }

    fn skeleton(&self) -> &'a [u8] {
        match self {
            Self::Sent(event) => event.skeleton(),
            Self::Kept(skeleton) => skeleton,
        }
    }

    fn address(&self) -> Address {
        match self {
            Self::Sent(event) => event.address(),
            Self::Kept(skeleton) => Address::of(skeleton),
        }
    }

    fn new_event(&self) -> Option<NewEvent<'a>> {
        match self {
            Self::Sent(event) => Some(event.new_event()),
            Self::Kept(_) => None,
        }
    }
}

/// A batch as its writer signed it, each skeleton beside its address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignedBatch<'a> {
    /// The signed head after the batch.
    pub(crate) head: &'a VerifiedHead,
    /// The skeletons of all its entries, in order.
    pub(crate) skeletons: &'a [&'a [u8]],
    /// Their addresses, in order.
    pub(crate) addresses: &'a [Address],
    /// The events among them that the ledger may lack.
    pub(crate) events: &'a [NewEvent<'a>],
}

impl<'a> SignedBatch<'a> {
    /// Returns the frontier after the batch. `Invalid` where the entries lead elsewhere than the signed head.
    fn frontier_behind(&self, before: &Frontier) -> Result<Frontier> {
        let mut frontier = before.clone();
        frontier.extend(self.skeletons.iter().map(|skeleton| leaf(skeleton)));
        if frontier.size() == self.head.size && frontier.root() == self.head.root {
            return Ok(frontier);
        }
        let message = format!(
            "the entries lead to size {} and root {}, the signed head says {} and {}",
            frontier.size(),
            frontier.root(),
            self.head.size,
            self.head.root
        );
        Err(Error::new(ErrorKind::Invalid, APPEND_SIGNED, message).at(self.head.feed))
    }

    /// Returns it as the seam takes it.
    fn append(&self, before: &Frontier, after: &'a Frontier) -> Append<'a> {
        Append {
            expected_size: before.size(),
            expected_root: before.root(),
            entries: self.addresses,
            events: self.events,
            head: self.head,
            frontier: after.peaks(),
        }
    }
}

/// A batch whose entries lead to its signed head, with what its backend did ahead.
#[derive(Debug)]
pub(crate) struct Ready {
    /// The frontier after it.
    pub(crate) after: Frontier,
    ahead: Option<Ahead>,
}

/// The one who grows a feed.
#[derive(Debug)]
pub struct Writer {
    ledger: Ledger,
    key: WriterKey,
    head: Option<BatchHead>,
    frontier: Frontier,
}

/// What became of one event of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The ledger did not have it: stored, at this index of the feed.
    New(u64),
    /// Another feed had it: one more entry, at this index, no second payload.
    Known(u64),
    /// This feed had it already: nothing stored.
    Present,
}

impl Outcome {
    /// Returns the index of the entry that was added, if one was.
    pub fn index(self) -> Option<u64> {
        match self {
            Self::New(index) | Self::Known(index) => Some(index),
            Self::Present => None,
        }
    }
}

impl Writer {
    /// Returns the feed.
    pub fn feed(&self) -> WriterId {
        self.key.writer()
    }

    /// Returns the newest head; `None` before the first batch.
    pub fn head(&self) -> Option<&BatchHead> {
        self.head.as_ref()
    }

    /// Returns the number of entries.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Appends a batch and tells for each of its events, in order, what became of it. Durable before `Ok`.
    ///
    /// Events that the feed has are left out; when all are, nothing is written. Another process that writes
    /// with the same key is waited out by reading the head again. `Forked` when the feed went another way.
    pub fn append(&mut self, batch: &Batch, recorded_at: Timestamp) -> Result<Vec<Outcome>> {
        let addresses: Vec<Address> = batch.events().map(|event| event.address).collect();
        let mut resend: HashSet<Address> = HashSet::new();
        let mut attempt = 0;
        loop {
            let found = self.ledger.find(&self.feed(), &addresses)?;
            let (outcomes, prepared) = self.prepare(batch, &found, &resend, recorded_at);
            if prepared.entries.is_empty() {
                return Ok(outcomes);
            }
            let append = Append {
                expected_size: self.size(),
                expected_root: self.frontier.root(),
                entries: &prepared.entries,
                events: &prepared.events,
                head: &prepared.head,
                frontier: prepared.frontier.peaks(),
            };
            let result = self.ledger.append_settled(&append, None);
            let error = match result {
                Ok(()) => {
                    self.head = Some(prepared.head);
                    self.frontier = prepared.frontier;
                    return Ok(outcomes);
                }
                Err(error) => error,
            };
            attempt += 1;
            match error.kind() {
                ErrorKind::Missing if attempt < ATTEMPTS_MAX => resend.extend(error.missing_addresses()),
                ErrorKind::Conflict if attempt < ATTEMPTS_MAX => {
                    (self.ledger.pause)(attempt);
                    self.reread(error)?;
                }
                _ => return Err(error),
            }
        }
    }

    /// Takes up the feed where another process with the same key has brought it.
    fn reread(&mut self, conflict: Error) -> Result<()> {
        let (head, frontier) = self.ledger.checked_state(&self.feed())?;
        if frontier.size() < self.size() {
            // The store went back behind what was acknowledged: growing on would sign two roots for one size.
            return Err(conflict);
        }
        self.head = head;
        self.frontier = frontier;
        Ok(())
    }

    fn prepare<'b>(
        &self,
        batch: &'b Batch,
        found: &[Found],
        resend: &HashSet<Address>,
        recorded_at: Timestamp,
    ) -> (Vec<Outcome>, Prepared<'b>) {
        let mut frontier = self.frontier.clone();
        let mut outcomes = Vec::with_capacity(batch.len());
        let mut entries = Vec::with_capacity(batch.len());
        let mut events = Vec::new();
        let mut seen = HashSet::with_capacity(batch.len());
        let mut bytes = 0;
        for (event, found) in batch.events().zip(found) {
            if found.index.is_some() || !seen.insert(event.address) {
                outcomes.push(Outcome::Present);
                continue;
            }
            let index = frontier.size();
            frontier.push(leaf(event.skeleton));
            entries.push(event.address);
            bytes += event.skeleton.len() as u64;
            if found.presence == Presence::Absent || resend.contains(&event.address) {
                bytes += event.payload.len() as u64;
                events.push(NewEvent {
                    address: event.address,
                    skeleton: event.skeleton,
                    payload: Some(event.payload),
                });
            }
            let outcome = if found.presence == Presence::Absent { Outcome::New } else { Outcome::Known };
            outcomes.push(outcome(index));
        }
        debug_assert!(
            entries.len() <= BATCH_ENTRIES_MAX && bytes <= BATCH_BYTES_MAX,
            "Batch::has_room_for was asked"
        );
        let head = self.key.sign_head(&frontier, recorded_at);
        (outcomes, Prepared { entries, events, head, frontier })
    }
}

struct Prepared<'b> {
    entries: Vec<Address>,
    events: Vec<NewEvent<'b>>,
    head: BatchHead,
    frontier: Frontier,
}

impl crate::Body {
    /// Returns the skeleton; `Corrupt` for a damaged event.
    pub fn skeleton(&self) -> Result<&[u8]> {
        match self {
            Self::Present { skeleton, .. } | Self::Erased { skeleton } => Ok(skeleton),
            Self::Damaged { place, reason } => {
                Err(Error::new(ErrorKind::Corrupt, "read event", reason.clone()).at(place))
            }
        }
    }
}
