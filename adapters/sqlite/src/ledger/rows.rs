//! The rows of the tables, each under a CRC32 of its own, because pages of SQLite have none. A row whose checksum does
//! not fit is damage, never a value.

use super::fault::Fail;
use burnlog_log::{Address, BatchHead, Root, Signature, Timestamp, WriterId};
use crc32fast::Hasher;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Sums up fields in a fixed form: numbers as 8 bytes, little-endian; lists after their length.
struct Sum(Hasher);

impl Sum {
    fn new(table: &[u8]) -> Self {
        let mut sum = Self(Hasher::new());
        sum.0.update(table);
        sum
    }

    fn number(mut self, number: u64) -> Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let mut sum = self.number(bytes.len() as u64);
        sum.0.update(bytes);
        sum
    }

    fn head(self, head: &BatchHead) -> Self {
        let micros = head.recorded_at.as_micros() as u64;
        self.number(head.size).bytes(&head.root.0).number(micros).bytes(&head.signature.0)
    }

    /// Signed, because SQLite then keeps it in four bytes.
    fn end(self) -> i32 {
        self.0.finalize() as i32
    }
}

/// Passes a row on if its checksum fits.
fn checked<T>(row: T, stored: i32, actual: i32, what: impl FnOnce() -> String) -> Result<T, Fail> {
    if stored == actual {
        return Ok(row);
    }
    Err(Fail::damaged(format!("the checksum of {} does not fit", what())))
}

/// The row of `ledger_state`: counters that every append brings forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State {
    /// Batches appended so far; a feed remembers at which it moved last.
    pub(crate) clock: u64,
    /// Events stored, which is the number of the next one.
    pub(crate) events: u64,
    /// Blocks written so far, which is the id of the next one.
    pub(crate) blocks: u64,
    /// Bytes of payloads that are not erased.
    pub(crate) payload_bytes: u64,
}

impl State {
    fn sum(&self) -> i32 {
        let sum = Sum::new(b"state").number(self.clock).number(self.events);
        sum.number(self.blocks).number(self.payload_bytes).end()
    }

    pub(crate) fn read(connection: &Connection) -> Result<Self, Fail> {
        let sql = "SELECT clock, events, blocks, payload_bytes, crc FROM ledger_state WHERE id = 1";
        let (state, crc) = connection.prepare_cached(sql)?.query_row([], |row| {
            let state = Self {
                clock: row.get(0)?,
                events: row.get(1)?,
                blocks: row.get(2)?,
                payload_bytes: row.get(3)?,
            };
            Ok((state, row.get(4)?))
        })?;
        checked(state, crc, state.sum(), || "the counters".to_owned())
    }

    pub(crate) fn write(&self, connection: &Connection) -> Result<(), Fail> {
        let sql = "INSERT INTO ledger_state VALUES (1, ?1, ?2, ?3, ?4, ?5) ON CONFLICT (id) DO UPDATE SET \
                   clock = ?1, events = ?2, blocks = ?3, payload_bytes = ?4, crc = ?5";
        let values = params![self.clock, self.events, self.blocks, self.payload_bytes, self.sum()];
        connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

/// A row of `ledger_events`: an event with its place in its block. The block is the last one that begins at or
/// before the event's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EventRow {
    /// Events are numbered as they arrive; a number never changes.
    pub(crate) number: u64,
    pub(crate) address: Address,
    /// The first byte of the skeleton in the decoded block; the payload follows it.
    pub(crate) start: u64,
    pub(crate) skeleton_bytes: u64,
    /// `None` for an erased payload.
    pub(crate) payload_bytes: Option<u64>,
    /// The number of the feed that brought it, and the index there.
    pub(crate) feed: u64,
    pub(crate) entry: u64,
}

impl EventRow {
    pub(crate) const COLUMNS: &'static str =
        "number, address, start, skeleton_bytes, payload_bytes, feed, entry, crc";

    fn sum(&self) -> i32 {
        let sum = Sum::new(b"event").number(self.number).bytes(&self.address.0).number(self.start);
        let sum = sum.number(self.skeleton_bytes).number(self.payload_bytes.unwrap_or(u64::MAX));
        sum.number(self.feed).number(self.entry).end()
    }

    /// Takes a row of [`EventRow::COLUMNS`].
    pub(crate) fn take(row: &Row<'_>) -> Result<Self, Fail> {
        let event = Self {
            number: row.get(0)?,
            address: Address(row.get(1)?),
            start: row.get(2)?,
            skeleton_bytes: row.get(3)?,
            payload_bytes: row.get(4)?,
            feed: row.get(5)?,
            entry: row.get(6)?,
        };
        checked(event, row.get(7)?, event.sum(), || format!("the row of event {}", event.number))
    }

    pub(crate) fn insert(&self, connection: &Connection) -> Result<(), Fail> {
        let sql = "INSERT INTO ledger_events VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        let place = (self.number, self.address.0, self.start, self.skeleton_bytes);
        connection.prepare_cached(sql)?.execute(params![
            place.0,
            place.1,
            place.2,
            place.3,
            self.payload_bytes,
            self.feed,
            self.entry,
            self.sum()
        ])?;
        Ok(())
    }

    /// Writes where the event now is, and whether it has a payload.
    pub(crate) fn update(&self, connection: &Connection) -> Result<(), Fail> {
        let sql = "UPDATE ledger_events SET start = ?2, payload_bytes = ?3, crc = ?4 WHERE number = ?1";
        let values = params![self.number, self.start, self.payload_bytes, self.sum()];
        connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }

    /// The bytes that the event takes in a page.
    pub(crate) fn bytes(&self) -> u64 {
        self.skeleton_bytes.saturating_add(self.payload_bytes.unwrap_or(0))
    }
}

/// A row of `ledger_blocks` without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockRow {
    /// The number of the first event in it.
    pub(crate) first: u64,
    /// Names these bytes and never others.
    pub(crate) id: u64,
    /// How many events are in it.
    pub(crate) events: u64,
    /// The bytes when decoded.
    pub(crate) raw_bytes: u64,
    crc: i32,
}

impl BlockRow {
    pub(crate) const COLUMNS: &'static str = "first, id, events, raw_bytes, crc";

    /// Makes the row for `bytes`.
    pub(crate) fn new(first: u64, id: u64, events: u64, raw_bytes: u64, bytes: &[u8]) -> Self {
        let row = Self { first, id, events, raw_bytes, crc: 0 };
        Self { crc: row.sum(bytes), ..row }
    }

    fn sum(&self, bytes: &[u8]) -> i32 {
        let sum = Sum::new(b"block").number(self.first).number(self.id).number(self.events);
        sum.number(self.raw_bytes).bytes(bytes).end()
    }

    /// Takes a row of [`BlockRow::COLUMNS`]; what it says holds once [`BlockRow::check`] did.
    pub(crate) fn take(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            first: row.get(0)?,
            id: row.get(1)?,
            events: row.get(2)?,
            raw_bytes: row.get(3)?,
            crc: row.get(4)?,
        })
    }

    /// Checks the row against its bytes.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), Fail> {
        checked((), self.crc, self.sum(bytes), || format!("the block at event {}", self.first))
    }

    pub(crate) fn end(&self) -> u64 {
        self.first.saturating_add(self.events)
    }

    pub(crate) fn insert(&self, connection: &Connection, bytes: &[u8]) -> Result<(), Fail> {
        let sql = "INSERT OR REPLACE INTO ledger_blocks VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
        let values = params![self.first, self.id, self.events, self.raw_bytes, self.crc, bytes];
        connection.prepare_cached(sql)?.execute(values)?;
        Ok(())
    }
}

fn roots(bytes: &[u8]) -> Vec<Root> {
    bytes.as_chunks::<32>().0.iter().map(|root| Root(*root)).collect()
}

/// A row of `ledger_feeds`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FeedRow {
    /// Stands for the feed in other tables.
    pub(crate) number: u64,
    /// The newest head.
    pub(crate) head: BatchHead,
    /// The peaks at that head.
    pub(crate) frontier: Vec<Root>,
    /// The clock when it moved last.
    pub(crate) moved: u64,
}

impl FeedRow {
    pub(crate) const COLUMNS: &'static str =
        "number, writer, size, root, recorded_at, signature, frontier, moved, crc";

    fn sum(&self, frontier: &[u8]) -> i32 {
        let sum = Sum::new(b"feed").number(self.number).bytes(&self.head.feed.0).head(&self.head);
        sum.bytes(frontier).number(self.moved).end()
    }

    /// Takes a row of [`FeedRow::COLUMNS`].
    pub(crate) fn take(row: &Row<'_>) -> Result<Self, Fail> {
        let frontier: Vec<u8> = row.get(6)?;
        let head = BatchHead {
            feed: WriterId(row.get(1)?),
            size: row.get(2)?,
            root: Root(row.get(3)?),
            recorded_at: Timestamp::from_micros(row.get(4)?),
            signature: Signature(row.get(5)?),
        };
        let feed = Self { number: row.get(0)?, head, frontier: roots(&frontier), moved: row.get(7)? };
        let sum = feed.sum(&frontier);
        let number = feed.number;
        checked(feed, row.get(8)?, sum, || format!("the row of feed {number}"))
    }

    pub(crate) fn find(connection: &Connection, feed: &WriterId) -> Result<Option<Self>, Fail> {
        let sql = format!("SELECT {} FROM ledger_feeds WHERE writer = ?1", Self::COLUMNS);
        let mut statement = connection.prepare_cached(&sql)?;
        let mut rows = statement.query([feed.0])?;
        rows.next()?.map(Self::take).transpose()
    }

    pub(crate) fn write(&self, connection: &Connection) -> Result<(), Fail> {
        let frontier: Vec<u8> = self.frontier.iter().flat_map(|root| root.0).collect();
        let sql = "INSERT INTO ledger_feeds VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
                   ON CONFLICT (number) DO UPDATE SET size = ?3, root = ?4, recorded_at = ?5, signature = ?6, \
                   frontier = ?7, moved = ?8, crc = ?9";
        let head = &self.head;
        connection.prepare_cached(sql)?.execute(params![
            self.number,
            head.feed.0,
            head.size,
            head.root.0,
            head.recorded_at.as_micros(),
            head.signature.0.as_slice(),
            frontier,
            self.moved,
            self.sum(&frontier)
        ])?;
        Ok(())
    }
}

/// Consecutive entries whose events have consecutive numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The number of the first event.
    pub(crate) first: u64,
    /// How many entries.
    pub(crate) count: u64,
}

impl Run {
    /// 12 bytes: the first number and the count.
    const BYTES: usize = 12;

    fn encode(numbers: &[u64]) -> Vec<u8> {
        let mut runs: Vec<Self> = Vec::new();
        for number in numbers {
            match runs.last_mut() {
                Some(run) if run.first + run.count == *number => run.count += 1,
                _ => runs.push(Self { first: *number, count: 1 }),
            }
        }
        let bytes = |run: Self| (run.first.to_le_bytes().into_iter()).chain((run.count as u32).to_le_bytes());
        runs.into_iter().flat_map(bytes).collect()
    }

    fn decode(bytes: &[u8]) -> Vec<Self> {
        let run = |bytes: &[u8; Self::BYTES]| {
            let (first, count) = bytes.split_at(8);
            Self {
                first: u64::from_le_bytes(first.try_into().expect("eight of twelve bytes")),
                count: u32::from_le_bytes(count.try_into().expect("the other four")).into(),
            }
        };
        bytes.as_chunks().0.iter().map(run).collect()
    }
}

/// A row of `ledger_batches`: a head and the entries that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchRow {
    /// The number of the feed.
    pub(crate) feed: u64,
    /// The head after the batch.
    pub(crate) head: BatchHead,
    /// How many entries.
    pub(crate) entries: u64,
    /// The entries, as runs of event numbers.
    pub(crate) runs: Vec<Run>,
}

impl BatchRow {
    pub(crate) const COLUMNS: &'static str = "feed, size, entries, root, recorded_at, signature, crc, runs";

    fn sum(feed: u64, head: &BatchHead, entries: u64, runs: &[u8]) -> i32 {
        Sum::new(b"batch").number(feed).head(head).number(entries).bytes(runs).end()
    }

    /// Takes a row of [`BatchRow::COLUMNS`] of the feed that `writer` names.
    pub(crate) fn take(row: &Row<'_>, writer: WriterId) -> Result<Self, Fail> {
        let head = BatchHead {
            feed: writer,
            size: row.get(1)?,
            root: Root(row.get(3)?),
            recorded_at: Timestamp::from_micros(row.get(4)?),
            signature: Signature(row.get(5)?),
        };
        let bytes: Vec<u8> = row.get(7)?;
        let batch = Self { feed: row.get(0)?, head, entries: row.get(2)?, runs: Run::decode(&bytes) };
        let sum = Self::sum(batch.feed, &head, batch.entries, &bytes);
        let (feed, size) = (batch.feed, head.size);
        let batch = checked(batch, row.get(6)?, sum, || format!("the batch up to {size} of feed {feed}"))?;
        if batch.runs.iter().map(|run| run.count).sum::<u64>() == batch.entries && batch.entries <= size {
            return Ok(batch);
        }
        Err(Fail::damaged(format!("the batch up to {size} of feed {feed} has another number of entries")))
    }

    /// Inserts the batch whose entries have these numbers.
    pub(crate) fn insert(
        connection: &Connection,
        feed: u64,
        head: &BatchHead,
        numbers: &[u64],
    ) -> Result<(), Fail> {
        let runs = Run::encode(numbers);
        let entries = numbers.len() as u64;
        let sql = "INSERT INTO ledger_batches VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
        connection.prepare_cached(sql)?.execute(params![
            feed,
            head.size,
            entries,
            head.root.0,
            head.recorded_at.as_micros(),
            head.signature.0.as_slice(),
            Self::sum(feed, head, entries, &runs),
            runs
        ])?;
        Ok(())
    }
}

/// A row of `ledger_places`: where an event stands in a feed that did not bring it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlaceRow {
    pub(crate) feed: u64,
    /// The number of the event.
    pub(crate) event: u64,
    pub(crate) entry: u64,
}

impl PlaceRow {
    fn sum(self) -> i32 {
        Sum::new(b"place").number(self.feed).number(self.event).number(self.entry).end()
    }

    /// Takes a row of all columns.
    pub(crate) fn take(row: &Row<'_>) -> Result<Self, Fail> {
        let place = Self { feed: row.get(0)?, event: row.get(1)?, entry: row.get(2)? };
        let what = || format!("the place of event {} in feed {}", place.event, place.feed);
        checked(place, row.get(3)?, place.sum(), what)
    }

    pub(crate) fn insert(self, connection: &Connection) -> Result<(), Fail> {
        let sql = "INSERT INTO ledger_places VALUES (?1, ?2, ?3, ?4)";
        connection.prepare_cached(sql)?.execute((self.feed, self.event, self.entry, self.sum()))?;
        Ok(())
    }
}

/// Finds an event by its address.
pub(crate) fn locate(connection: &Connection, address: &Address) -> Result<Option<EventRow>, Fail> {
    let sql = format!("SELECT {} FROM ledger_events WHERE substr(address, 1, 8) = ?1", EventRow::COLUMNS);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([&address.0[..8]])?;
    while let Some(row) = rows.next()? {
        if row.get_ref(1)?.as_blob().is_ok_and(|stored| stored == address.0) {
            return EventRow::take(row).map(Some);
        }
    }
    Ok(None)
}

/// Returns the index of an event in the feed of that number.
pub(crate) fn place_in(connection: &Connection, feed: u64, event: &EventRow) -> Result<Option<u64>, Fail> {
    if event.feed == feed {
        return Ok(Some(event.entry));
    }
    let sql = "SELECT feed, event, entry, crc FROM ledger_places WHERE feed = ?1 AND event = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((feed, event.number))?;
    let place = rows.next()?.map(PlaceRow::take).transpose()?;
    Ok(place.map(|place| place.entry))
}

/// Returns the block that an event of that number is in.
pub(crate) fn block_of(connection: &Connection, number: u64) -> Result<BlockRow, Fail> {
    let sql = format!(
        "SELECT {} FROM ledger_blocks WHERE first <= ?1 ORDER BY first DESC LIMIT 1",
        BlockRow::COLUMNS
    );
    let block = connection.prepare_cached(&sql)?.query_row([number], BlockRow::take).optional()?;
    let block = block.filter(|block| number < block.end());
    block.ok_or_else(|| Fail::damaged(format!("the block of event {number} is not there")))
}
