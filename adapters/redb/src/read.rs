//! Reading: pages of feeds, events by address, presence, heads. Everything of one call comes from one snapshot.

use crate::bodies::{Bodies, Budget, Reading, body_bytes, damage_of};
use crate::codec::{BatchRow, FeedRow, State};
use crate::fault::Fail;
use crate::locate::{Directories, Located, locate};
use crate::tables::{BATCHES, BLOCKS, EVENTS, FEEDS, FeedKey, PLACES, TWINS, feed_key, split_feed_key};
use burnlog_log::{Address, Body, Entry, FeedState, Found, Limit, Page, Presence, WriterId};
use redb::{ReadTransaction, ReadableTable};

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
            self.page.entries.push(Entry::new(Address([0; 32]), Body::Damaged { place, reason }));
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
                    Ok(located) => Entry::new(located.address(), self.bodies.body(&located)?),
                    Err(body) => Entry::new(Address([0; 32]), body),
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
