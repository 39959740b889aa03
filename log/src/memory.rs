//! A backend in memory, stricter than any real one: it checks what the seam lets a backend assume. For tests;
//! clones share one store, which is what "reopening" means here.

use crate::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, PAYLOAD_BYTES_MAX, SKELETON_BYTES_MAX};
use crate::{
    Address, Append, Backend, BatchHead, Body, Compacted, Damage, Entry, Error, ErrorKind, FeedState,
    FeedsPage, Found, LedgerId, Limit, Location, NewEvent, Page, Presence, Result, Root, Stat, Token,
    WriterId,
};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Keeps a ledger in memory.
#[derive(Debug, Clone)]
pub struct MemoryBackend {
    id: LedgerId,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    events: HashMap<Address, Stored>,
    feeds: BTreeMap<WriterId, Feed>,
    /// Counts appends; a feed remembers at which it last moved.
    clock: u64,
}

#[derive(Debug)]
struct Stored {
    skeleton: Bytes,
    payload: Option<Bytes>,
}

#[derive(Debug, Default)]
struct Feed {
    entries: Vec<Address>,
    index: HashMap<Address, u64>,
    heads: Vec<BatchHead>,
    frontier: Vec<Root>,
    moved_at: u64,
}

impl MemoryBackend {
    /// Makes an empty ledger with the given id.
    pub fn new(id: LedgerId) -> Self {
        Self { id, state: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Backend for MemoryBackend {
    fn location(&self) -> Location {
        Location { url: format!("memory:{}", self.id), backend: "memory", id: self.id }
    }

    fn stat(&self) -> Result<Stat> {
        let state = self.lock();
        let payloads = state.events.values().filter_map(|event| event.payload.as_ref());
        Ok(Stat {
            events: state.events.len() as u64,
            payload_bytes: payloads.map(|payload| payload.len() as u64).sum(),
            bytes_on_disk: 0,
        })
    }

    fn feeds(
        &self,
        after: Option<&WriterId>,
        changed_since: Option<&Token>,
        limit: usize,
    ) -> Result<FeedsPage> {
        let state = self.lock();
        let since =
            changed_since.and_then(|token| Some(u64::from_le_bytes(token.0.as_slice().try_into().ok()?)));
        let mut moved = state
            .feeds
            .iter()
            .filter(|(id, feed)| after.is_none_or(|after| *id > after) && feed.moved_at > since.unwrap_or(0))
            .filter_map(|(_, feed)| feed.heads.last().copied());
        let heads: Vec<BatchHead> = moved.by_ref().take(limit.max(1)).collect();
        Ok(FeedsPage {
            heads,
            token: Token(state.clock.to_le_bytes().to_vec()),
            more: moved.next().is_some(),
        })
    }

    fn append(&self, append: &Append<'_>) -> Result<()> {
        let mut state = self.lock();
        check_shape(append)?;
        check_place(&state, append)?;
        state.clock += 1;
        let moved_at = state.clock;
        for event in append.events {
            state.events.entry(event.address).or_insert_with(|| Stored {
                skeleton: Bytes::copy_from_slice(event.skeleton),
                payload: event.payload.map(Bytes::copy_from_slice),
            });
        }
        let feed = state.feeds.entry(append.head.feed).or_default();
        for address in append.entries {
            feed.index.insert(*address, feed.entries.len() as u64);
            feed.entries.push(*address);
        }
        feed.heads.push(*append.head);
        feed.frontier = append.frontier.to_vec();
        feed.moved_at = moved_at;
        Ok(())
    }

    fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        let state = self.lock();
        let Some(feed) = state.feeds.get(feed) else {
            return Ok(Page { state: None, entries: Vec::new(), heads: Vec::new() });
        };
        let start = usize::try_from(from).map_or(feed.entries.len(), |from| from.min(feed.entries.len()));
        let mut budget = Budget::new(limit);
        let entries: Vec<Entry> = feed.entries[start..]
            .iter()
            .map(|address| Entry::new(*address, state.events[address].body()))
            .take_while(|entry| budget.admits(body_bytes(&entry.body)))
            .collect();
        let end = (start + entries.len()) as u64;
        let first = feed.heads.partition_point(|head| head.size <= start as u64);
        let mut heads = Vec::new();
        for head in feed.heads[first..].iter().take_while(|_| !entries.is_empty()) {
            heads.push(*head);
            if head.size >= end {
                break;
            }
        }
        let newest = feed.heads.last().map(|head| FeedState { head: *head, frontier: feed.frontier.clone() });
        Ok(Page { state: newest, entries, heads })
    }

    fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        let state = self.lock();
        let feed = state.feeds.get(feed);
        let find = |address: &Address| Found {
            presence: match state.events.get(address) {
                None => Presence::Absent,
                Some(Stored { payload: None, .. }) => Presence::Erased,
                Some(_) => Presence::Present,
            },
            index: feed.and_then(|feed| feed.index.get(address).copied()),
        };
        Ok(addresses.iter().map(find).collect())
    }

    fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>> {
        let state = self.lock();
        let mut budget = Budget::new(limit);
        Ok(addresses
            .iter()
            .map(|address| state.events.get(address).map(Stored::body))
            .take_while(|body| budget.admits(body.as_ref().map_or(0, body_bytes)))
            .collect())
    }

    fn erase(&self, addresses: &[Address]) -> Result<()> {
        let mut state = self.lock();
        if let Some(absent) = addresses.iter().find(|address| !state.events.contains_key(*address)) {
            return Err(Error::new(ErrorKind::NotFound, "erase", "no such event").at(absent));
        }
        for address in addresses {
            if let Some(stored) = state.events.get_mut(address) {
                stored.payload = None;
            }
        }
        Ok(())
    }

    fn compact(&self) -> Result<Compacted> {
        Ok(Compacted::default())
    }

    fn check(&self, _report: &mut dyn FnMut(Damage)) -> Result<()> {
        Ok(())
    }
}

impl Stored {
    fn body(&self) -> Body {
        let skeleton = self.skeleton.clone();
        match &self.payload {
            Some(payload) => Body::Present { skeleton, payload: payload.clone() },
            None => Body::Erased { skeleton },
        }
    }
}

/// What a page may still hold.
struct Budget {
    limit: Limit,
    entries: usize,
    bytes: u64,
}

impl Budget {
    fn new(limit: Limit) -> Self {
        Self { limit, entries: 0, bytes: 0 }
    }

    fn admits(&mut self, bytes: u64) -> bool {
        self.entries += 1;
        self.bytes += bytes;
        self.entries == 1 || (self.entries <= self.limit.entries && self.bytes <= self.limit.bytes)
    }
}

fn body_bytes(body: &Body) -> u64 {
    match body {
        Body::Present { skeleton, payload } => (skeleton.len() + payload.len()) as u64,
        Body::Erased { skeleton } => skeleton.len() as u64,
        Body::Damaged { .. } => 0,
    }
}

fn invalid(message: impl Into<String>, append: &Append<'_>) -> Error {
    Error::new(ErrorKind::Invalid, "append", message).at(append.head.feed)
}

/// Checks what can be said of a batch without looking at the ledger.
fn check_shape(append: &Append<'_>) -> Result<()> {
    let Append { expected_size, entries, events, head, frontier, .. } = append;
    if entries.is_empty() {
        return Err(invalid("an empty batch", append));
    }
    if head.size != expected_size + entries.len() as u64 {
        return Err(invalid("the head's size is not the expected size and the entries", append));
    }
    if frontier.len() != head.size.count_ones() as usize {
        return Err(invalid("the frontier does not belong to the size", append));
    }
    let bytes: u64 = events.iter().map(event_bytes).sum();
    if entries.len() > BATCH_ENTRIES_MAX || bytes > BATCH_BYTES_MAX {
        return Err(invalid(
            format!("a batch of {} entries and {bytes} bytes is too large", entries.len()),
            append,
        ));
    }
    for event in *events {
        let payload_bytes = event.payload.map_or(0, <[u8]>::len);
        if event.skeleton.len() > SKELETON_BYTES_MAX || payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(invalid("an event is too large", append));
        }
        if !entries.contains(&event.address) {
            return Err(invalid("an event that no entry names", append));
        }
    }
    Ok(())
}

fn event_bytes(event: &NewEvent<'_>) -> u64 {
    (event.skeleton.len() + event.payload.map_or(0, <[u8]>::len)) as u64
}

/// Checks a batch against the ledger: compare-and-append, once per feed, and nothing missing.
fn check_place(state: &State, append: &Append<'_>) -> Result<()> {
    let feed = state.feeds.get(&append.head.feed);
    let newest = feed.and_then(|feed| feed.heads.last());
    let size = newest.map_or(0, |head| head.size);
    if size != append.expected_size {
        let message = format!("the feed has {size} entries, {} were expected", append.expected_size);
        return Err(Error::new(ErrorKind::Conflict, "append", message).at(append.head.feed));
    }
    if let Some(head) = newest.filter(|head| head.root != append.expected_root) {
        let message =
            format!("at size {size} the feed has root {}, {} was expected", head.root, append.expected_root);
        return Err(Error::new(ErrorKind::Forked, "append", message).at(append.head.feed));
    }
    let mut seen = std::collections::HashSet::new();
    for address in append.entries {
        if !seen.insert(address) || feed.is_some_and(|feed| feed.index.contains_key(address)) {
            return Err(invalid(format!("{address} is in the feed already"), append));
        }
    }
    let sent: std::collections::HashSet<&Address> =
        append.events.iter().map(|event| &event.address).collect();
    let missing = |address: &&Address| !sent.contains(*address) && !state.events.contains_key(*address);
    let missing: Vec<Address> = append.entries.iter().filter(missing).copied().collect();
    if missing.is_empty() { Ok(()) } else { Err(Error::missing("append", missing).at(append.head.feed)) }
}
