//! Reading: pages of feeds, events by address, presence. Everything of one call comes from one snapshot. Damage is
//! a body, never an error of a whole page.

use super::block::{Cache, decode};
use super::fault::{Fail, damage_of};
use super::rows::{BatchRow, BlockRow, EventRow, FeedRow, Run, block_of, locate, place_in};
use burnlog_log::{Address, Body, Entry, FeedState, Found, Limit, Page, Presence, WriterId};
use bytes::Bytes;
use rusqlite::Connection;
use std::sync::{Mutex, PoisonError};

/// How many rows of events are read at a time.
const ROWS_AT_ONCE: u64 = 1024;

/// What reading needs.
pub(crate) struct Reading<'a> {
    /// A connection in a transaction.
    pub(crate) connection: &'a Connection,
    /// What damaged entries call the store.
    pub(crate) name: &'a str,
    pub(crate) cache: &'a Mutex<Cache>,
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
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries == 1 || (self.entries <= self.limit.entries && self.bytes <= self.limit.bytes)
    }
}

/// The block of the event that was read last.
type Current = Option<(BlockRow, Result<Bytes, String>)>;

impl Reading<'_> {
    /// Reads a page of a feed.
    pub(crate) fn page(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page, Fail> {
        let page = Page { state: None, entries: Vec::new(), heads: Vec::new() };
        let Some(row) = FeedRow::find(self.connection, feed)? else { return Ok(page) };
        let size = row.head.size;
        let state = Some(FeedState { head: row.head, frontier: row.frontier });
        let mut builder = Builder {
            reading: self,
            page: Page { state, ..page },
            budget: Budget::new(limit),
            next: from,
            current: None,
        };
        if from < size {
            builder.fill(row.number, *feed, size)?;
        }
        Ok(builder.page)
    }

    /// Gets events by address, for a prefix of `addresses`.
    pub(crate) fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>, Fail> {
        let (mut budget, mut got, mut current) = (Budget::new(limit), Vec::new(), None);
        for address in addresses {
            let located = locate(self.connection, address);
            let bytes = located.as_ref().ok().and_then(Option::as_ref).map_or(0, EventRow::bytes);
            if !budget.admits(bytes) {
                break;
            }
            got.push(match located {
                Ok(None) => None,
                // Copied, because one event of a block would keep the whole block in memory.
                Ok(Some(event)) => Some(copied(self.body(&event, &mut current)?)),
                Err(fail) => {
                    let place = format!("{}: event {address}", self.name);
                    Some(Body::Damaged { place, reason: damage_of(fail)? })
                }
            });
        }
        Ok(got)
    }

    /// Tells what the ledger has of `addresses`, and where they stand in `feed`.
    pub(crate) fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>, Fail> {
        let number = FeedRow::find(self.connection, feed)?.map(|row| row.number);
        let found = |address: &Address| {
            let Some(event) = locate(self.connection, address)? else {
                return Ok(Found { presence: Presence::Absent, index: None });
            };
            let presence = if event.payload_bytes.is_some() { Presence::Present } else { Presence::Erased };
            let index = match number {
                Some(number) => place_in(self.connection, number, &event)?,
                None => None,
            };
            Ok(Found { presence, index })
        };
        addresses.iter().map(found).collect()
    }

    /// Reads the body of an event; best in the order of numbers, because then each block is decoded once.
    fn body(&self, event: &EventRow, current: &mut Current) -> Result<Body, Fail> {
        let covers = |row: &BlockRow| row.first <= event.number && event.number < row.end();
        if !current.as_ref().is_some_and(|(row, _)| covers(row)) {
            match block_of(self.connection, event.number) {
                Ok(row) => *current = Some((row, self.block(&row)?)),
                Err(fail) => return Ok(self.damaged(event.number, damage_of(fail)?)),
            }
        }
        let (_, raw) = current.as_ref().expect("set above");
        Ok(match raw {
            Ok(raw) => cut(raw, event)
                .unwrap_or_else(|| self.damaged(event.number, "the event lies beyond its block".to_owned())),
            Err(reason) => self.damaged(event.number, reason.clone()),
        })
    }

    /// Decodes a block, or says what is wrong with it.
    fn block(&self, row: &BlockRow) -> Result<Result<Bytes, String>, Fail> {
        let cache = || self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(raw) = cache().get(row.id).filter(|raw| raw.len() as u64 == row.raw_bytes) {
            return Ok(Ok(raw));
        }
        match read_block(self.connection, row) {
            Ok(raw) => {
                let raw = Bytes::from(raw);
                cache().put(row.id, &raw);
                Ok(Ok(raw))
            }
            Err(fail) => Ok(Err(damage_of(fail)?)),
        }
    }

    fn damaged(&self, number: u64, reason: String) -> Body {
        Body::Damaged { place: format!("{}: table ledger_events, number {number}", self.name), reason }
    }

    /// Reads rows of consecutive events; each that cannot be read is the body that says so.
    fn rows(&self, run: Run) -> Result<Vec<Result<EventRow, Body>>, Fail> {
        let mut rows = Vec::with_capacity(run.count as usize);
        match self.rows_in_order(run, &mut rows) {
            Ok(()) => {}
            Err(fail) => drop(damage_of(fail)?),
        }
        // From the first that is not as it should be, one by one.
        for number in run.first + rows.len() as u64..run.first + run.count {
            let sql = format!("SELECT {} FROM ledger_events WHERE number = ?1", EventRow::COLUMNS);
            let read = || {
                let mut statement = self.connection.prepare_cached(&sql)?;
                let mut rows = statement.query([number])?;
                match rows.next()? {
                    Some(row) => EventRow::take(row),
                    None => Err(Fail::damaged("the row of the event is not there")),
                }
            };
            rows.push(match read() {
                Ok(row) => Ok(row),
                Err(fail) => Err(self.damaged(number, damage_of(fail)?)),
            });
        }
        Ok(rows)
    }

    fn rows_in_order(&self, run: Run, rows: &mut Vec<Result<EventRow, Body>>) -> Result<(), Fail> {
        let sql = format!(
            "SELECT {} FROM ledger_events WHERE number >= ?1 AND number < ?2 ORDER BY number",
            EventRow::COLUMNS
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = statement.query((run.first, run.first + run.count))?;
        while let Some(row) = found.next()? {
            let event = EventRow::take(row)?;
            if event.number != run.first + rows.len() as u64 {
                return Ok(());
            }
            rows.push(Ok(event));
        }
        Ok(())
    }
}

/// Reads and decodes the bytes of a block.
pub(crate) fn read_block(connection: &Connection, row: &BlockRow) -> Result<Vec<u8>, Fail> {
    let mut statement = connection.prepare_cached("SELECT bytes FROM ledger_blocks WHERE first = ?1")?;
    let mut rows = statement.query([row.first])?;
    let Some(found) = rows.next()? else { return Err(Fail::damaged("the block is not there")) };
    let bytes = found.get_ref(0)?.as_blob().map_err(rusqlite::Error::from)?;
    row.check(bytes)?;
    decode(bytes, row.raw_bytes)
}

fn cut(raw: &Bytes, event: &EventRow) -> Option<Body> {
    let start = usize::try_from(event.start).ok()?;
    let middle = start.checked_add(usize::try_from(event.skeleton_bytes).ok()?)?;
    let end = middle.checked_add(usize::try_from(event.payload_bytes.unwrap_or(0)).ok()?)?;
    if end > raw.len() {
        return None;
    }
    let skeleton = raw.slice(start..middle);
    Some(match event.payload_bytes {
        Some(_) => Body::Present { skeleton, payload: raw.slice(middle..end) },
        None => Body::Erased { skeleton },
    })
}

fn copied(body: Body) -> Body {
    match body {
        Body::Present { skeleton, payload } => {
            let copy = Bytes::from([skeleton.as_ref(), payload.as_ref()].concat());
            Body::Present { skeleton: copy.slice(..skeleton.len()), payload: copy.slice(skeleton.len()..) }
        }
        Body::Erased { skeleton } => Body::Erased { skeleton: Bytes::copy_from_slice(&skeleton) },
        damaged @ Body::Damaged { .. } => damaged,
    }
}

/// A page while it grows.
struct Builder<'a> {
    reading: &'a Reading<'a>,
    page: Page,
    budget: Budget,
    /// The index of the next entry.
    next: u64,
    current: Current,
}

impl Builder<'_> {
    /// Adds entries up to `size` until the page is full.
    fn fill(&mut self, number: u64, feed: WriterId, size: u64) -> Result<(), Fail> {
        let sql = format!(
            "SELECT {} FROM ledger_batches WHERE feed = ?1 AND size > ?2 AND size <= ?3 ORDER BY size LIMIT 1",
            BatchRow::COLUMNS
        );
        let mut after = self.next;
        while after < size {
            // One at a time: a row that cannot be read does not hide those behind it from a later page.
            let read = || {
                let mut statement = self.reading.connection.prepare_cached(&sql)?;
                let mut rows = statement.query((number, after, size))?;
                let Some(row) = rows.next()? else { return Ok(None) };
                let end: u64 = row.get(1)?;
                Ok(Some((end, BatchRow::take(row, feed))))
            };
            let (end, batch) = match read() {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(fail) => {
                    damage_of(fail)?;
                    break;
                }
            };
            after = end.max(after + 1);
            match batch {
                Ok(batch) if batch.feed == number && batch.head.size == end => {
                    if !self.lost(end - batch.entries) || !self.batch(&batch)? {
                        return Ok(());
                    }
                }
                Ok(_) => {}
                // The entries of a row that cannot be read are those up to the next one that can.
                Err(fail) => drop(damage_of(fail)?),
            }
        }
        self.lost(size);
        Ok(())
    }

    /// Adds damaged entries up to index `end`, whose batch cannot be read; false once the page is full.
    fn lost(&mut self, end: u64) -> bool {
        while self.next < end {
            if !self.budget.admits(0) {
                return false;
            }
            let place = format!("{}: table ledger_batches, entry {}", self.reading.name, self.next);
            let reason = "the batch of this entry cannot be read".to_owned();
            self.page.entries.push(Entry::new(Address([0; 32]), Body::Damaged { place, reason }));
            self.next += 1;
        }
        true
    }

    /// Adds the entries of a batch from the next one on; false once the page is full.
    fn batch(&mut self, batch: &BatchRow) -> Result<bool, Fail> {
        let mut skip = self.next - (batch.head.size - batch.entries).min(self.next);
        let mut is_first = true;
        for run in &batch.runs {
            let skipped = skip.min(run.count);
            skip -= skipped;
            let (mut first, end) = (run.first + skipped, run.first + run.count);
            while first < end {
                let some = Run { first, count: (end - first).min(ROWS_AT_ONCE) };
                first += some.count;
                for row in self.reading.rows(some)? {
                    if !self.budget.admits(row.as_ref().map_or(0, EventRow::bytes)) {
                        return Ok(false);
                    }
                    let entry = match row {
                        Ok(event) => Entry::new(event.address, self.reading.body(&event, &mut self.current)?),
                        Err(body) => Entry::new(Address([0; 32]), body),
                    };
                    if std::mem::take(&mut is_first) {
                        self.page.heads.push(batch.head);
                    }
                    self.page.entries.push(entry);
                    self.next += 1;
                }
            }
        }
        Ok(true)
    }
}
