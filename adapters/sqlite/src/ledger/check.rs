//! Checking what reading does not reach: the pages, each row against its checksum, each table against the others.

use super::fault::{Fail, damage_of};
use super::rows::{BatchRow, BlockRow, EventRow, FeedRow, PlaceRow, State};
use burnlog_log::{Damage, WriterId};
use rusqlite::{Connection, Row};
use std::collections::BTreeMap;

/// Reports every damage of the ledger that `connection` is reading.
pub(crate) fn check(connection: &Connection, report: &mut dyn FnMut(Damage)) -> Result<(), Fail> {
    let mut check = Check { connection, report, feeds: BTreeMap::new() };
    check.pages()?;
    let counted = check.part("ledger_state", Check::state)?;
    let state = counted.unwrap_or(UNKNOWN);
    check.part("ledger_feeds", |check| check.feeds(&state))?;
    check.part("ledger_batches", |check| check.batches(&state))?;
    let found = check.part("ledger_events", Check::events)?;
    check.part("ledger_blocks", |check| check.blocks(&state))?;
    check.part("ledger_places", |check| check.places(&state))?;
    check.totals(counted.and(found), &state);
    Ok(())
}

/// In the place of counters that cannot be read: nothing is beyond them.
const UNKNOWN: State = State { clock: u64::MAX, events: u64::MAX, blocks: u64::MAX, payload_bytes: u64::MAX };

struct Check<'a> {
    connection: &'a Connection,
    report: &'a mut dyn FnMut(Damage),
    feeds: BTreeMap<u64, Feed>,
}

/// What the tables say of a feed.
struct Feed {
    row: FeedRow,
    /// Where its last batch ends.
    end: u64,
    /// Events that say they stand in it.
    places: u64,
}

impl Check<'_> {
    fn damage(&mut self, code: &'static str, place: impl Into<String>, message: impl Into<String>) {
        let rebuildable = matches!(code, "sqlite-index" | "counter");
        (self.report)(Damage { code, place: place.into(), message: message.into(), rebuildable });
    }

    /// Runs one part; a table that cannot be read to its end is a damage, and the other parts go on.
    fn part<T>(
        &mut self,
        table: &'static str,
        work: impl FnOnce(&mut Self) -> Result<T, Fail>,
    ) -> Result<Option<T>, Fail> {
        match work(self) {
            Ok(done) => Ok(Some(done)),
            Err(fail) => {
                let message = damage_of(fail)?;
                self.damage("table-unreadable", format!("table {table}"), message);
                Ok(None)
            }
        }
    }

    /// Lets SQLite check trees, free pages and indexes of the whole file.
    fn pages(&mut self) -> Result<(), Fail> {
        let read = || -> Result<Vec<String>, Fail> {
            let mut statement = self.connection.prepare("PRAGMA integrity_check(1000)")?;
            let rows = statement.query_map([], |row| row.get(0))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        };
        let lines = match read() {
            Ok(lines) => lines,
            Err(fail) => vec![damage_of(fail)?],
        };
        for line in lines.into_iter().filter(|line| line != "ok") {
            let is_index = line.contains("missing from index") || line.contains("entries in index");
            self.damage(if is_index { "sqlite-index" } else { "sqlite-page" }, "integrity_check", line);
        }
        Ok(())
    }

    /// Passes each row to `take`; one that does not fit its checksum is a damage and the rest goes on.
    fn each<T>(
        &mut self,
        (code, table): (&'static str, &'static str),
        sql: &str,
        mut take: impl FnMut(&Row<'_>) -> Result<T, Fail>,
        mut with: impl FnMut(&mut Self, T),
    ) -> Result<(), Fail> {
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            match take(row) {
                Ok(row) => with(self, row),
                Err(fail) => {
                    let message = damage_of(fail)?;
                    self.damage(code, format!("table {table}"), message);
                }
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<State, Fail> {
        State::read(self.connection)
    }

    fn feeds(&mut self, state: &State) -> Result<(), Fail> {
        let sql = format!("SELECT {} FROM ledger_feeds ORDER BY number", FeedRow::COLUMNS);
        self.each(("feed-row", "ledger_feeds"), &sql, FeedRow::take, |check, row| {
            if row.moved > state.clock || row.frontier.len() != row.head.size.count_ones() as usize {
                let place = format!("table ledger_feeds, number {}", row.number);
                check.damage("feed-row", place, "clock or frontier do not belong to this ledger");
            }
            check.feeds.insert(row.number, Feed { row, end: 0, places: 0 });
        })
    }

    fn batches(&mut self, state: &State) -> Result<(), Fail> {
        let sql = format!("SELECT {} FROM ledger_batches ORDER BY feed, size", BatchRow::COLUMNS);
        let take = |row: &Row<'_>| BatchRow::take(row, WriterId([0; 32]));
        self.each(("batch-row", "ledger_batches"), &sql, take, |check, batch| {
            let place = || format!("table ledger_batches, feed {}, size {}", batch.feed, batch.head.size);
            if batch.runs.iter().any(|run| run.first.saturating_add(run.count) > state.events) {
                check.damage("batch-row", place(), "the batch names an event that was never stored");
            }
            let Some(feed) = check.feeds.get_mut(&batch.feed) else {
                return check.damage("batch-order", place(), "the batch is of an unknown feed");
            };
            let (begins, before) = (batch.head.size - batch.entries, feed.end);
            feed.end = batch.head.size;
            let newest = feed.row.head;
            if begins != before {
                let message = format!("the batch begins at {begins}, the one before ends at {before}");
                check.damage("batch-order", place(), message);
            }
            if batch.head.size == newest.size
                && (burnlog_log::BatchHead { feed: newest.feed, ..batch.head }) != newest
            {
                check.damage(
                    "feed-row",
                    place(),
                    "the newest head of the feed is not that of its last batch",
                );
            }
        })?;
        let short: Vec<_> = (self.feeds.values())
            .filter(|feed| feed.end != feed.row.head.size)
            .map(|feed| (feed.row.number, feed.end, feed.row.head.size))
            .collect();
        for (number, end, size) in short {
            let message = format!("the batches end at {end}, the feed has {size} entries");
            self.damage("batch-order", format!("table ledger_feeds, number {number}"), message);
        }
        Ok(())
    }

    /// Returns how many events there are, and the bytes of their payloads.
    fn events(&mut self) -> Result<(u64, u64), Fail> {
        let sql = format!("SELECT {} FROM ledger_events ORDER BY number", EventRow::COLUMNS);
        let (mut next, mut payload_bytes) = (0, 0u64);
        self.each(("event-row", "ledger_events"), &sql, EventRow::take, |check, event| {
            if event.number != next {
                let place = format!("table ledger_events, number {next}");
                check.damage(
                    "event-row",
                    place,
                    format!("the rows before number {} are not there", event.number),
                );
            }
            next = event.number.saturating_add(1);
            payload_bytes = payload_bytes.saturating_add(event.payload_bytes.unwrap_or(0));
            if let Some(feed) = check.feeds.get_mut(&event.feed) {
                feed.places += 1;
            }
        })?;
        Ok((next, payload_bytes))
    }

    fn blocks(&mut self, state: &State) -> Result<(), Fail> {
        let sql = format!(
            "SELECT {}, bytes, (SELECT max(start + skeleton_bytes + coalesce(payload_bytes, 0)) FROM ledger_events \
             WHERE number >= first AND number < first + events) FROM ledger_blocks ORDER BY first",
            BlockRow::COLUMNS
        );
        let take = |row: &Row<'_>| {
            let block = BlockRow::take(row)?;
            let sound = block.check(row.get_ref(5)?.as_blob().map_err(rusqlite::Error::from)?);
            Ok((block, sound.is_ok(), row.get::<_, Option<u64>>(6)?))
        };
        let mut next = 0;
        self.each(("block-row", "ledger_blocks"), &sql, take, |check, (block, is_sound, end)| {
            let place = || format!("table ledger_blocks, first {}", block.first);
            if !is_sound {
                check.damage("block-row", place(), "the checksum of the block does not fit");
            }
            if block.first != next {
                check.damage("block-order", place(), format!("the block before ends at event {next}"));
            }
            next = block.end();
            if block.id >= state.blocks || end.is_none_or(|end| end > block.raw_bytes) {
                check.damage("block-order", place(), "id or events do not belong to the block");
            }
        })?;
        if next != state.events && *state != UNKNOWN {
            let message = format!("the blocks end at event {next}, {} were stored", state.events);
            self.damage("block-order", "table ledger_blocks", message);
        }
        Ok(())
    }

    fn places(&mut self, state: &State) -> Result<(), Fail> {
        let sql = "SELECT feed, event, entry, crc FROM ledger_places ORDER BY feed, event";
        self.each(("place-row", "ledger_places"), sql, PlaceRow::take, |check, place| {
            match check.feeds.get_mut(&place.feed) {
                Some(feed) if place.event < state.events => feed.places += 1,
                _ => {
                    let at = format!("table ledger_places, feed {}, event {}", place.feed, place.event);
                    check.damage("place-row", at, "there is no such feed or event");
                }
            }
        })
    }

    /// Compares what was counted with what the ledger says of itself.
    fn totals(&mut self, found: Option<(u64, u64)>, state: &State) {
        if let Some((events, bytes)) = found
            && (events, bytes) != (state.events, state.payload_bytes)
        {
            let message = format!(
                "it says {} events and {} bytes of payloads, there are {events} and {bytes}",
                state.events, state.payload_bytes
            );
            self.damage("counter", "table ledger_state", message);
        }
        let wrong: Vec<_> = (self.feeds.values())
            .filter(|feed| feed.places != feed.row.head.size)
            .map(|feed| (feed.row.number, feed.places, feed.row.head.size))
            .collect();
        for (number, places, size) in wrong {
            let message = format!("{places} events say that they stand in this feed, it has {size} entries");
            self.damage("place-count", format!("table ledger_feeds, number {number}"), message);
        }
    }
}
