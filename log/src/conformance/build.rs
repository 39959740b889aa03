//! What the cases are made of: events, batches and heads that are right unless a case makes them wrong.

use crate::event::{Kind, Position};
use crate::feed::{BatchHead, Frontier, WriterKey, leaf};
use crate::{
    Address, Append, Backend, Batch, Body, Error, Limit, NewEvent, Page, Result, Root, Timestamp, WriterId,
};

/// An event with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// BLAKE3 of the skeleton.
    pub address: Address,
    /// The canonical bytes.
    pub skeleton: Vec<u8>,
    /// The record.
    pub payload: Vec<u8>,
}

impl Event {
    /// Makes the `line` event of record `seq` of `stream`.
    pub fn line(stream: &str, seq: u64, payload: &[u8]) -> Self {
        let mut batch = Batch::default();
        let position =
            Position { kind: Kind::Line, source: "test".into(), stream: stream.into(), seq, part: None };
        let event = batch.push(position, payload).expect("within the limits");
        Self { address: event.address, skeleton: event.skeleton.to_vec(), payload: event.payload.to_vec() }
    }

    /// Makes `count` small JSON lines of `stream`.
    pub fn lines(stream: &str, count: u64) -> Vec<Self> {
        (0..count).map(|seq| Self::line(stream, seq, format!("{{\"n\":{seq}}}").as_bytes())).collect()
    }

    /// Returns the event as an append takes it.
    pub fn new_event(&self) -> NewEvent<'_> {
        NewEvent { address: self.address, skeleton: &self.skeleton, payload: Some(&self.payload) }
    }

    /// Returns the body that reading gives back.
    pub fn body(&self) -> Body {
        Body::Present { skeleton: self.skeleton.clone().into(), payload: self.payload.clone().into() }
    }
}

/// A writer that prepares appends by hand, so that a case can spoil them.
#[derive(Debug)]
pub struct TestFeed {
    key: WriterKey,
    /// The state after the last batch that was applied.
    pub frontier: Frontier,
    /// The heads of the batches applied so far.
    pub heads: Vec<BatchHead>,
}

/// A batch that owns its parts.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// As in [`Append`].
    pub expected_size: u64,
    /// As in [`Append`].
    pub expected_root: Root,
    /// As in [`Append`].
    pub entries: Vec<Address>,
    /// The events sent along.
    pub events: Vec<Event>,
    /// As in [`Append`].
    pub head: BatchHead,
    /// As in [`Append`].
    pub frontier: Frontier,
}

impl TestFeed {
    /// Makes the feed of writer `number`.
    pub fn new(number: u8) -> Self {
        Self { key: WriterKey::from_secret([number; 32]), frontier: Frontier::default(), heads: Vec::new() }
    }

    /// Returns the feed's id.
    pub fn id(&self) -> WriterId {
        self.key.writer()
    }

    /// Prepares a batch with an entry for each event and all events sent along.
    pub fn prepare(&self, events: &[Event]) -> Prepared {
        let mut frontier = self.frontier.clone();
        frontier.extend(events.iter().map(|event| leaf(&event.skeleton)));
        let recorded_at = Timestamp::from_micros(1_700_000_000_000_000 + frontier.size() as i64);
        Prepared {
            expected_size: self.frontier.size(),
            expected_root: self.frontier.root(),
            entries: events.iter().map(|event| event.address).collect(),
            events: events.to_vec(),
            head: self.key.sign_head(&frontier, recorded_at),
            frontier,
        }
    }

    /// Prepares and appends, and keeps the new state when that went well.
    pub fn append(&mut self, backend: &dyn Backend, events: &[Event]) -> Result<()> {
        let prepared = self.prepare(events);
        prepared.apply(backend)?;
        self.frontier = prepared.frontier;
        self.heads.push(prepared.head);
        Ok(())
    }
}

impl Prepared {
    /// Lends this batch as the seam takes it.
    pub fn lend<T>(&self, work: impl FnOnce(&Append<'_>) -> T) -> T {
        let events: Vec<NewEvent<'_>> = self.events.iter().map(Event::new_event).collect();
        work(&Append {
            expected_size: self.expected_size,
            expected_root: self.expected_root,
            entries: &self.entries,
            events: &events,
            head: &self.head,
            frontier: self.frontier.peaks(),
        })
    }

    /// Appends this batch.
    pub fn apply(&self, backend: &dyn Backend) -> Result<()> {
        self.lend(|append| backend.append(append))
    }

    /// Appends this batch, which must be refused, and returns the error.
    #[track_caller]
    pub fn refused(&self, backend: &dyn Backend) -> Error {
        self.apply(backend).expect_err("the batch must be refused")
    }
}

/// Reads a whole feed page by page.
pub fn read_all(backend: &dyn Backend, feed: &WriterId, limit: Limit) -> Page {
    let mut all = backend.read(feed, 0, limit).expect("read");
    while !all.entries.is_empty() {
        let page = backend.read(feed, all.entries.len() as u64, limit).expect("read");
        if page.entries.is_empty() {
            break;
        }
        all.entries.extend(page.entries);
        let last = all.heads.last().map_or(0, |head| head.size);
        all.heads.extend(page.heads.into_iter().filter(|head| head.size > last));
        all.state = page.state;
    }
    all
}

/// Asserts that the feed holds exactly these events, with these heads, and nothing else.
#[track_caller]
pub fn assert_feed(backend: &dyn Backend, feed: &TestFeed, events: &[Event]) {
    let page = read_all(backend, &feed.id(), Limit::default());
    let addresses: Vec<Address> = page.entries.iter().map(|entry| entry.address).collect();
    let expected: Vec<Address> = events.iter().map(|event| event.address).collect();
    assert_eq!(addresses, expected, "addresses in order");
    for (entry, event) in page.entries.iter().zip(events) {
        assert_eq!(entry.body, event.body(), "body of {}", event.address);
    }
    assert_eq!(page.heads, feed.heads, "batch heads");
    assert_eq!(page.state.map(|state| state.head), feed.heads.last().copied(), "newest head");
}
