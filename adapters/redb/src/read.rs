//! Reading: pages of feeds, events by address, presence, heads. Everything of one call comes from one snapshot.

use crate::block::{Codecs, read_pieces};
use crate::cache::BlockCache;
use crate::codec::{BatchRow, FeedRow, State};
use crate::fault::Fail;
use crate::locate::{Directories, Located, locate};
use crate::tables::{
    BATCHES, BLOCKS, BlockKey, DATA_PART, EVENTS, FEEDS, FeedKey, META, MOVED, PLACES, TWINS, feed_key,
    split_feed_key,
};
use burnlog_log::{
    Address, BatchHead, Body, Entry, FeedState, FeedsPage, Found, LedgerId, Limit, Page, Presence, Token,
    WriterId,
};
use bytes::Bytes;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTable};
use std::collections::BTreeSet;
use std::ops::Bound;

/// What reading needs besides the tables.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'a> {
    /// What errors and damaged entries call the store.
    pub(crate) name: &'a str,
    /// Decompression.
    pub(crate) codecs: &'a Codecs,
    /// Blocks decompressed before.
    pub(crate) cache: &'a BlockCache,
}

/// Reads the counters.
pub(crate) fn read_state(meta: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<State, Fail> {
    let row = meta.get("state")?;
    row.and_then(|row| State::decode(row.value()))
        .ok_or_else(|| Fail::damaged("the counters of the ledger do not decode"))
}

/// Reads the row of a feed; `None` for an unknown one.
pub(crate) fn read_feed(
    feeds: &impl ReadableTable<&'static [u8; 32], &'static [u8]>,
    feed: &WriterId,
) -> Result<Option<FeedRow>, Fail> {
    let Some(row) = feeds.get(&feed.0)? else { return Ok(None) };
    let row = FeedRow::decode(*feed, row.value());
    row.map(Some).ok_or_else(|| Fail::damaged(format!("the row of feed {feed} does not decode")))
}

/// The text of damage, or the failure where it is something else.
fn damage_of(fail: Fail) -> Result<String, Fail> {
    match fail {
        Fail::Damaged(what) => Ok(what),
        Fail::Redb(error) if matches!(*error, redb::Error::Corrupted(_)) => Ok(error.to_string()),
        other => Err(other),
    }
}

/// Reads a page of a feed.
pub(crate) fn read_page(
    txn: &ReadTransaction,
    reading: Reading<'_>,
    feed: &WriterId,
    from: u64,
    limit: Limit,
) -> Result<Page, Fail> {
    let page = Page { state: None, entries: Vec::new(), heads: Vec::new() };
    let Some(row) = read_feed(&txn.open_table(FEEDS)?, feed)? else { return Ok(page) };
    let size = row.head.size;
    let (first, last) = (feed_key(row.number, from.saturating_add(1)), feed_key(row.number, size));
    let state = FeedState { head: row.head, frontier: row.frontier };
    let mut builder = PageBuilder {
        page: Page { state: Some(state), ..page },
        budget: Budget::new(limit),
        next: from,
        bodies: Bodies::new(txn.open_table(BLOCKS)?, reading),
    };
    if from >= size {
        return Ok(builder.page);
    }
    for row in txn.open_table(BATCHES)?.range::<&FeedKey>(&first..=&last)? {
        let (key, value) = match row.map_err(Fail::from) {
            Ok(row) => row,
            Err(fail) => {
                damage_of(fail)?;
                break;
            }
        };
        let end = split_feed_key(key.value()).1;
        let batch = BatchRow::decode(*feed, value.value()).filter(|batch| batch.head.size == end);
        // The entries of a row that does not decode are those up to the next one that does.
        let Some(batch) = batch else { continue };
        if !builder.lost(end - batch.count) || !builder.batch(&batch)? {
            return Ok(builder.page);
        }
    }
    builder.lost(size);
    Ok(builder.page)
}

/// A page while it grows.
struct PageBuilder<'a> {
    page: Page,
    budget: Budget,
    /// The index of the next entry.
    next: u64,
    bodies: Bodies<'a>,
}

impl PageBuilder<'_> {
    /// Adds damaged entries up to index `end`, whose batch cannot be read; false once the page is full.
    fn lost(&mut self, end: u64) -> bool {
        while self.next < end {
            if !self.budget.admits(0) {
                return false;
            }
            let place = format!("{}: table batches, entry {}", self.bodies.reading.name, self.next);
            let reason = "the batch of this entry cannot be read".to_owned();
            self.page
                .entries
                .push(Entry { address: Address([0; 32]), body: Body::Damaged { place, reason } });
            self.next += 1;
        }
        true
    }

    /// Adds the entries of a batch from the next one on; false once the page is full.
    fn batch(&mut self, batch: &BatchRow) -> Result<bool, Fail> {
        let mut skip = self.next - (batch.head.size - batch.count).min(self.next);
        let mut is_first = true;
        for run in &batch.runs {
            let skipped = skip.min(u64::from(run.count));
            skip -= skipped;
            for number in run.first + skipped..run.first + u64::from(run.count) {
                let found = self.bodies.find(number)?;
                if !self.budget.admits(found.as_ref().map_or(0, body_bytes)) {
                    return Ok(false);
                }
                let entry = match found {
                    Ok(located) => Entry { address: located.address(), body: self.bodies.body(&located)? },
                    Err(body) => Entry { address: Address([0; 32]), body },
                };
                if std::mem::take(&mut is_first) {
                    self.page.heads.push(batch.head);
                }
                self.page.entries.push(entry);
                self.next += 1;
            }
        }
        Ok(true)
    }
}

/// The bytes that an event will take in a page.
fn body_bytes(located: &Located) -> u64 {
    let lengths = located.directory.lengths[located.slot()];
    let payload = if located.is_erased() { 0 } else { lengths.payload };
    u64::from(lengths.skeleton) + u64::from(payload)
}

/// Gets events by address, for a prefix of `addresses`.
pub(crate) fn get(
    txn: &ReadTransaction,
    reading: Reading<'_>,
    addresses: &[Address],
    limit: Limit,
) -> Result<Vec<Option<Body>>, Fail> {
    let (events, twins) = (txn.open_table(EVENTS)?, txn.open_table(TWINS)?);
    let mut bodies = Bodies::new(txn.open_table(BLOCKS)?, reading);
    let mut budget = Budget::new(limit);
    let mut got = Vec::new();
    for address in addresses {
        let located = locate(&events, &twins, &bodies.blocks, &mut bodies.directories, address);
        let bytes = located.as_ref().ok().and_then(Option::as_ref).map_or(0, body_bytes);
        if !budget.admits(bytes) {
            break;
        }
        got.push(match located {
            Ok(None) => None,
            Ok(Some(located)) => Some(bodies.body(&located)?),
            Err(fail) => {
                let place = format!("{}: event {address}", bodies.reading.name);
                Some(Body::Damaged { place, reason: damage_of(fail)? })
            }
        });
    }
    Ok(got)
}

/// Tells what the ledger has of `addresses`, and where they stand in `feed`.
pub(crate) fn find(
    txn: &ReadTransaction,
    feed: &WriterId,
    addresses: &[Address],
) -> Result<Vec<Found>, Fail> {
    let (events, twins) = (txn.open_table(EVENTS)?, txn.open_table(TWINS)?);
    let (blocks, places) = (txn.open_table(BLOCKS)?, txn.open_table(PLACES)?);
    let number = read_feed(&txn.open_table(FEEDS)?, feed)?.map(|row| row.number);
    let mut directories = Directories::default();
    let mut answers = Vec::with_capacity(addresses.len());
    for address in addresses {
        let located = locate(&events, &twins, &blocks, &mut directories, address)?;
        let Some(located) = located else {
            answers.push(Found { presence: Presence::Absent, index: None });
            continue;
        };
        let presence = if located.is_erased() { Presence::Erased } else { Presence::Present };
        let index = match number {
            Some(number) => place_in(&places, number, &located)?,
            None => None,
        };
        answers.push(Found { presence, index });
    }
    Ok(answers)
}

/// Returns the index of an event in the feed of that number.
pub(crate) fn place_in(
    places: &impl ReadableTable<&'static FeedKey, u64>,
    feed: u32,
    located: &Located,
) -> Result<Option<u64>, Fail> {
    match located.origin() {
        (origin, index) if origin == feed => Ok(Some(index)),
        _ => Ok(places.get(&feed_key(feed, located.number))?.map(|row| row.value())),
    }
}

/// Lists heads of feeds by ascending id.
pub(crate) fn list_feeds(
    txn: &ReadTransaction,
    ledger: LedgerId,
    after: Option<&WriterId>,
    changed_since: Option<&Token>,
    limit: usize,
) -> Result<FeedsPage, Fail> {
    let limit = limit.max(1);
    let clock = read_state(&txn.open_table(META)?)?.clock;
    let feeds = txn.open_table(FEEDS)?;
    let since = changed_since.and_then(|token| understand(token, ledger)).filter(|since| *since <= clock);
    let mut heads: Vec<BatchHead> = match since {
        None => {
            let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(&after.0));
            let rows = feeds.range::<&[u8; 32]>((start, Bound::Unbounded))?.take(limit.saturating_add(1));
            rows.map(|row| {
                let (key, value) = row?;
                head_of(WriterId(*key.value()), value.value())
            })
            .collect::<Result<_, Fail>>()?
        }
        Some(since) => {
            // The smallest ids so far, one more than asked for, whatever number of feeds moved.
            let mut ids = BTreeSet::new();
            for row in txn.open_table(MOVED)?.range(since.saturating_add(1)..)? {
                let id = WriterId(*row?.1.value());
                if after.is_none_or(|after| id > *after) {
                    ids.insert(id);
                }
                if ids.len() > limit.saturating_add(1) {
                    ids.pop_last();
                }
            }
            ids.iter()
                .map(|id| {
                    let row = feeds.get(&id.0)?;
                    let row = row.ok_or_else(|| Fail::damaged(format!("feed {id} moved and has no row")))?;
                    head_of(*id, row.value())
                })
                .collect::<Result<_, Fail>>()?
        }
    };
    let more = heads.len() > limit;
    heads.truncate(limit);
    Ok(FeedsPage { heads, token: token(ledger, clock), more })
}

fn head_of(feed: WriterId, value: &[u8]) -> Result<BatchHead, Fail> {
    let row = FeedRow::decode(feed, value);
    row.map(|row| row.head).ok_or_else(|| Fail::damaged(format!("the row of feed {feed} does not decode")))
}

/// A token is of one ledger: a file put in its place has another clock.
fn token(ledger: LedgerId, clock: u64) -> Token {
    Token([ledger.0.as_slice(), &clock.to_le_bytes()].concat())
}

fn understand(token: &Token, ledger: LedgerId) -> Option<u64> {
    let clock = token.0.strip_prefix(ledger.0.as_slice())?;
    Some(u64::from_le_bytes(clock.try_into().ok()?))
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

/// Reads the bodies of events, best in the order of their numbers: each block is decompressed once.
struct Bodies<'a> {
    blocks: ReadOnlyTable<&'static BlockKey, &'static [u8]>,
    directories: Directories,
    reading: Reading<'a>,
    current: Option<Current>,
}

/// The block of the event that was read last.
struct Current {
    id: u64,
    raw: Result<Bytes, String>,
    /// A slot and where it begins, to go on from.
    slot: usize,
    start: usize,
}

impl<'a> Bodies<'a> {
    fn new(blocks: ReadOnlyTable<&'static BlockKey, &'static [u8]>, reading: Reading<'a>) -> Self {
        Self { blocks, directories: Directories::default(), reading, current: None }
    }

    /// Finds an event by number; where its directory is damaged, the body that says so.
    fn find(&mut self, number: u64) -> Result<Result<Located, Body>, Fail> {
        match self.directories.find(&self.blocks, number) {
            Ok(located) => Ok(Ok(located)),
            Err(fail) => {
                let place = format!("{}: table blocks, event {number}", self.reading.name);
                Ok(Err(Body::Damaged { place, reason: damage_of(fail)? }))
            }
        }
    }

    fn body(&mut self, located: &Located) -> Result<Body, Fail> {
        let directory = &located.directory;
        if self.current.as_ref().is_none_or(|current| current.id != directory.id) {
            let raw = self.block(located)?;
            self.current = Some(Current { id: directory.id, raw, slot: 0, start: 0 });
        }
        let current = self.current.as_mut().expect("set above");
        let slot = located.slot();
        if slot < current.slot {
            (current.slot, current.start) = (0, 0);
        }
        let passed = &directory.lengths[current.slot..slot];
        current.start += passed.iter().map(|lengths| lengths.total()).sum::<usize>();
        current.slot = slot;
        let lengths = directory.lengths[slot];
        let middle = current.start + usize::from(lengths.skeleton);
        let end = current.start + lengths.total();
        Ok(match &current.raw {
            Ok(raw) => {
                let skeleton = raw.slice(current.start..middle);
                if located.is_erased() {
                    Body::Erased { skeleton }
                } else {
                    Body::Present { skeleton, payload: raw.slice(middle..end) }
                }
            }
            Err(reason) => Body::Damaged {
                place: format!(
                    "{}: block at event {}, event {}",
                    self.reading.name, located.first, located.number
                ),
                reason: reason.clone(),
            },
        })
    }

    /// The decompressed bytes, exactly as long as the directory says, or what is wrong with them.
    fn block(&self, located: &Located) -> Result<Result<Bytes, String>, Fail> {
        let directory = &located.directory;
        let raw_bytes = directory.raw_bytes();
        if let Some(raw) = self.reading.cache.get(directory.id).filter(|raw| raw.len() == raw_bytes) {
            return Ok(Ok(raw));
        }
        let data = match read_pieces(&self.blocks, located.first, DATA_PART) {
            Ok(data) => data,
            Err(fail) => return Ok(Err(damage_of(fail)?)),
        };
        let raw = self.reading.codecs.decompress(&data, raw_bytes);
        if let Ok(raw) = &raw {
            self.reading.cache.put(directory.id, raw);
        }
        Ok(raw.map_err(|error| format!("the block does not decompress: {error}")))
    }
}
