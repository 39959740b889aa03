//! The seam. A [`Backend`] keeps the bytes of one ledger: it stores, compares sizes and roots, and reads back.
//! It never hashes, parses, retries or prints; all of that is [`Ledger`](crate::Ledger)'s.
//!
//! Every method is required (but what is done ahead of an append) and every backend holds to the same limits ([`crate::limits`]). The conformance
//! suite ([`crate::conformance`]) is the contract in executable form. Calls may come from several threads at once.

use crate::event::{Body, SkeletonFrozen};
use crate::incomplete::Completed;
use crate::limits::Limit;
use crate::{Address, BatchHead, LedgerId, PayloadHash, Result, Root, WriterId};
use std::any::Any;

/// Keeps the bytes of one ledger.
pub trait Backend: Send + Sync {
    /// Returns where this ledger is, with secrets removed. Does no I/O.
    fn location(&self) -> Location;

    /// Counts what is stored.
    fn stat(&self) -> Result<Stat>;

    /// Lists heads of feeds in the order of their ids, from the first id greater than `after`.
    ///
    /// With `changed_since`, a token of an earlier answer, at least the feeds whose head moved since then; a token
    /// that the backend no longer understands means a full listing. The token of the answer was taken before
    /// its heads were read, so nothing that moves meanwhile is missed.
    fn feeds(
        &self,
        after: Option<&WriterId>,
        changed_since: Option<&Token>,
        limit: usize,
    ) -> Result<FeedsPage>;

    /// Appends one batch, all or nothing, durable before `Ok`.
    ///
    /// Compare-and-append: `Conflict` when the feed has another size than `expected_size`, `Forked` when it
    /// has that size and another root. `Invalid` when an address of `entries` is in the feed already, occurs twice,
    /// or the batch breaks a limit. `Missing`, with all of them, when an entry's event is neither in `events` nor
    /// *durably* in the ledger. Events that are in the ledger already are left as they are; an erased one
    /// stays erased. After any error nothing of the batch is visible, now or after reopening, except that after
    /// `Unavailable` the outcome is unknown.
    fn append(&self, append: &Append<'_>) -> Result<()>;

    /// Does of an append what needs no look at the ledger, such as compressing it for the wire, so that it is done while the batch before
    /// is on its way. What it returns goes to [`Backend::append_ahead`], or nowhere.
    ///
    /// The one thing that a backend may leave as it is here: most have nothing to do ahead.
    fn ahead(&self, append: &Append<'_>) -> Result<Option<Ahead>> {
        let _ = append;
        Ok(None)
    }

    /// As [`Backend::append`], with what [`Backend::ahead`] returned for the same append.
    fn append_ahead(&self, append: &Append<'_>, ahead: Ahead) -> Result<()> {
        drop(ahead);
        self.append(append)
    }

    /// Reads entries `from ..` of a feed, contiguous, with their events, within `limit` (one entry at least).
    ///
    /// At or beyond the end, and for an unknown feed, the page has no entries. Damage is one [`Body::Damaged`]
    /// entry for each entry that cannot be read; the entries around it are returned.
    fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page>;

    /// Tells for each address, in order, whether its event is in the ledger and at which index of `feed` it stands.
    fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>>;

    /// Gets events, for a prefix of `addresses` within `limit` (one at least); `None` for an absent one.
    fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>>;

    /// Makes payloads unreadable through the seam, durably before `Ok`. Skeletons and entries stay.
    /// An absent address is `NotFound` and nothing is erased; erasing twice is fine.
    fn erase(&self, addresses: &[Address]) -> Result<()>;

    /// Gives back space: removes the bytes of erased payloads, merges and compresses. Changes nothing that a reader sees.
    fn compact(&self) -> Result<Compacted>;

    /// Checks what the other methods do not reach: every byte that the store keeps for itself (headers, indexes,
    /// published lengths, checksums). Reports each damage and goes on. `Ok` means the check ran to its end.
    fn check(&self, report: &mut dyn FnMut(Damage)) -> Result<()>;
}

/// Where a ledger is and what keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// The URL, without secrets.
    pub url: String,
    /// The name of the backend: `jsonl`, `redb`, `sqlite`, `postgres`, `http`, `memory`.
    pub backend: &'static str,
    /// The id made when the ledger was created. A store created anew at the same URL has another.
    pub id: LedgerId,
}

/// What a ledger holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// Distinct events.
    pub events: u64,
    /// Bytes of their payloads, erased ones not counted.
    pub payload_bytes: u64,
    /// Bytes that the store takes on disk, indexes included; 0 where it has none.
    pub bytes_on_disk: u64,
}

/// An opaque mark of how far a listing of feeds has seen. Meaningful to the backend that made it alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Token(pub Vec<u8>);

/// One page of feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedsPage {
    /// The newest batch head of each feed, by ascending id.
    pub heads: Vec<BatchHead>,
    /// Pass it as `changed_since` once all pages of this listing were read; keep that of the *first* page.
    pub token: Token,
    /// Whether more feeds follow the last one here.
    pub more: bool,
}

/// One batch to append. `head.size` is `expected_size + entries.len()`.
#[derive(Debug, Clone, Copy)]
pub struct Append<'a> {
    /// The size that the feed must have; 0 for a new feed.
    pub expected_size: u64,
    /// The root that the feed must have at that size; of no meaning at size 0.
    pub expected_root: Root,
    /// The addresses of the new entries, in order.
    pub entries: &'a [Address],
    /// Events that the ledger may not have yet, in any order; each is named by an entry.
    pub events: &'a [NewEvent<'a>],
    /// The signed head after this batch. It names the feed.
    pub head: &'a BatchHead,
    /// The peaks of the tree after this batch, largest first; kept with the newest head of the feed.
    pub frontier: &'a [Root],
}

/// What a backend did ahead of an append; of a type that it alone knows.
pub struct Ahead(Box<dyn Any + Send>);

impl Ahead {
    /// Wraps it.
    pub fn new(done: impl Any + Send) -> Self {
        Self(Box::new(done))
    }

    /// Returns it; `None` where it is another backend's.
    pub fn take<T: Any>(self) -> Option<T> {
        self.0.downcast().ok().map(|done| *done)
    }
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ahead")
    }
}

/// An event on its way into a ledger.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// BLAKE3 of `skeleton`.
    pub address: Address,
    /// The canonical bytes.
    pub skeleton: &'a [u8],
    /// The payload; `None` for one that was erased where it comes from, and then stored as erased.
    pub payload: Option<&'a [u8]>,
}

/// The newest state of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedState {
    /// The newest batch head.
    pub head: BatchHead,
    /// The peaks at that head, largest first.
    pub frontier: Vec<Root>,
}

/// An address at an index of a feed, with its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The address; of a damaged entry all zeros where the store cannot tell it.
    pub address: Address,
    /// The event.
    pub body: Body,
    recomputed: bool,
}

impl Entry {
    /// Makes an entry from what a store kept. Whoever needs certainty computes both hashes again.
    pub fn new(address: Address, body: Body) -> Self {
        Self { address, body, recomputed: false }
    }

    /// Makes an entry whose hashes were computed on reading; `body` holds the completed skeleton and the payload that
    /// it was completed with, or is erased.
    pub fn of_completed(completed: &Completed, body: Body) -> Self {
        let entry = Self { address: completed.address(), body, recomputed: true };
        debug_assert!(entry.hashes_fit(), "a completed skeleton belongs to its own payload");
        entry
    }

    /// Whether address and payload hash were computed on reading, by [`Incomplete::complete`](crate::Incomplete::complete).
    pub fn is_recomputed(&self) -> bool {
        self.recomputed
    }

    fn hashes_fit(&self) -> bool {
        match &self.body {
            Body::Present { skeleton, payload } => {
                Address::of(skeleton) == self.address
                    && SkeletonFrozen::parse(skeleton)
                        .map_or(true, |frozen| frozen.payload == PayloadHash::of(payload))
            }
            Body::Erased { skeleton } => Address::of(skeleton) == self.address,
            Body::Damaged { .. } => false,
        }
    }
}

/// Contiguous entries of a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The state of the feed at the moment of reading; `None` for an unknown feed.
    pub state: Option<FeedState>,
    /// The entries from the index asked for.
    pub entries: Vec<Entry>,
    /// The head of every batch that has one of these entries in it, ascending; the last may lie beyond the page.
    /// The heads end at the state's head when the page reaches the end.
    pub heads: Vec<BatchHead>,
}

/// Whether a ledger has an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Not there.
    Absent,
    /// There, with its payload.
    Present,
    /// There, payload erased.
    Erased,
}

/// The answer for one address of [`Backend::find`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Whether the ledger has the event.
    pub presence: Presence,
    /// Its index in the feed asked about.
    pub index: Option<u64>,
}

/// What [`Backend::compact`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compacted {
    /// Bytes on disk before.
    pub bytes_before: u64,
    /// Bytes on disk after.
    pub bytes_after: u64,
}

/// Damage in what a store keeps for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// A stable code in lower case with hyphens: `index-page`, `segment-header`, …
    pub code: &'static str,
    /// Where: a file name with an offset, a table with a key.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// Whether the store can make the damaged part again from the rest (an index), so that nothing is lost.
    pub rebuildable: bool,
}
