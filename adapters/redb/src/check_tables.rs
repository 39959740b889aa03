//! Checking the tables against each other: what each row says must be what the others make of it.

use crate::block::{Codecs, next_block, read_directory, read_pieces};
use crate::codec::{BatchRow, FeedRow, State};
use crate::directory::Directory;
use crate::fault::{Fail, caught};
use crate::locate::{Directories, prefix};
use crate::read::{place_in, read_state};
use crate::tables::{
    BATCHES, BLOCKS, BlockKey, DATA_PART, EVENTS, FEEDS, FeedKey, META, MOVED, PLACES, TWINS, feed_key,
    split_feed_key,
};
use burnlog_log::WriterId;
use redb::{ReadOnlyTable, ReadTransaction, ReadableTableMetadata};
use std::collections::HashSet;

/// Reports one damage: code, place, message.
pub(crate) type Find<'a> = dyn FnMut(&'static str, &str, String) + 'a;

/// Checks every row of every table. Damage that one part stumbles over does not hide what the others find.
pub(crate) fn check_tables(txn: &ReadTransaction, codecs: &Codecs, find: &mut Find<'_>) -> Result<(), Fail> {
    let state = part(find, "meta", &mut |_| read_state(&txn.open_table(META)?))?;
    let Some(state) = state else { return Ok(()) };
    let sums = part(find, "blocks", &mut |find| check_blocks(txn, codecs, &state, find))?;
    // What is missing because a block is damaged is told by the block.
    if let Some(sums) = sums.filter(|sums| sums.is_whole) {
        compare(find, "events", state.events, sums.events, "events in blocks");
        compare(
            find,
            "payload bytes",
            state.payload_bytes,
            sums.payload_bytes,
            "bytes of payloads in blocks",
        );
        compare(
            find,
            "erased bytes",
            state.erased_bytes,
            sums.erased_bytes,
            "bytes of erased payloads in blocks",
        );
    }
    part(find, "events", &mut |find| {
        let rows = txn.open_table(EVENTS)?.len()? + txn.open_table(TWINS)?.len()?;
        compare(find, "events", state.events, rows, "rows by address");
        Ok(())
    })?;
    part(find, "feeds", &mut |find| check_feeds(txn, &state, find))?;
    Ok(())
}

/// Calls `work`; damage that ends it is a finding, and the answer is then `None`.
fn part<T>(
    find: &mut Find<'_>,
    table: &str,
    work: &mut dyn FnMut(&mut Find<'_>) -> Result<T, Fail>,
) -> Result<Option<T>, Fail> {
    match caught(|| work(find)) {
        Ok(done) => Ok(Some(done)),
        Err(Fail::Damaged(what)) => {
            find("table-unreadable", &format!("table {table}"), what);
            Ok(None)
        }
        Err(Fail::Redb(error)) if !matches!(*error, redb::Error::Io(_)) => {
            find("table-unreadable", &format!("table {table}"), error.to_string());
            Ok(None)
        }
        Err(fail) => Err(fail),
    }
}

fn compare(find: &mut Find<'_>, counter: &str, said: u64, found: u64, what: &str) {
    if said != found {
        find(
            "counter",
            &format!("table meta, {counter}"),
            format!("the counter says {said}, there are {found} {what}"),
        );
    }
}

struct Sums {
    /// Whether every event was looked at.
    is_whole: bool,
    events: u64,
    payload_bytes: u64,
    erased_bytes: u64,
}

fn check_blocks(
    txn: &ReadTransaction,
    codecs: &Codecs,
    state: &State,
    find: &mut Find<'_>,
) -> Result<Sums, Fail> {
    let blocks = txn.open_table(BLOCKS)?;
    let (events, twins) = (txn.open_table(EVENTS)?, txn.open_table(TWINS)?);
    let mut sums = Sums { is_whole: true, events: 0, payload_bytes: 0, erased_bytes: 0 };
    let (mut next, mut from) = (0, 0);
    while let Some(first) = next_block(&blocks, from)? {
        from = first + 1;
        let place = format!("table blocks, block at event {first}");
        if first != next {
            find("block-order", &place, format!("a block at event {next} was expected"));
            sums.is_whole = false;
        }
        let directory = match read_directory(&blocks, first) {
            Ok(directory) => directory,
            Err(Fail::Damaged(what)) => {
                find("block-directory", &place, what);
                sums.is_whole = false;
                // How many events it had is told by the next block.
                next = next_block(&blocks, first + 1)?.unwrap_or(state.events);
                continue;
            }
            Err(fail) => return Err(fail),
        };
        next = first + directory.len() as u64;
        sums.events += directory.len() as u64;
        sum_payloads(&directory, &mut sums);
        if directory.id >= state.blocks || directory.origins.iter().any(|origin| origin.feed >= state.feeds) {
            find("block-directory", &place, "it names a block or feed that was not made yet".to_owned());
        }
        let data = read_pieces(&blocks, first, DATA_PART)?;
        if let Err(what) = codecs.decompress(&data, directory.raw_bytes()) {
            find("block-data", &place, format!("the block does not decompress: {what}"));
        }
        for (number, address) in (first..).zip(&directory.addresses) {
            let mut found = events.get(prefix(address))?.map(|row| row.value());
            if found != Some(number) {
                found = twins.get(&address.0)?.map(|row| row.value());
            }
            if found != Some(number) {
                find(
                    "event-index",
                    &format!("table events, {address}"),
                    format!("event {number} is not found by its address"),
                );
            }
        }
    }
    Ok(sums)
}

fn sum_payloads(directory: &Directory, sums: &mut Sums) {
    for (slot, lengths) in directory.lengths.iter().enumerate() {
        let sum = if directory.is_erased(slot) { &mut sums.erased_bytes } else { &mut sums.payload_bytes };
        *sum += u64::from(lengths.payload);
    }
}

fn check_feeds(txn: &ReadTransaction, state: &State, find: &mut Find<'_>) -> Result<(), Fail> {
    let (feeds, moved) = (txn.open_table(FEEDS)?, txn.open_table(MOVED)?);
    let mut checker = Feeds {
        batches: txn.open_table(BATCHES)?,
        blocks: txn.open_table(BLOCKS)?,
        places: txn.open_table(PLACES)?,
        directories: Directories::default(),
        state,
        rows: 0,
        later: 0,
        is_whole: true,
    };
    let mut numbers = HashSet::new();
    for row in feeds.range::<&[u8; 32]>(..)? {
        let (key, value) = row?;
        let feed = WriterId(*key.value());
        let Some(row) = FeedRow::decode(feed, value.value()) else {
            find("feed-row", &format!("table feeds, {feed}"), "the row does not decode".to_owned());
            checker.is_whole = false;
            continue;
        };
        if row.number >= state.feeds || !numbers.insert(row.number) {
            find(
                "feed-row",
                &format!("table feeds, {feed}"),
                format!("number {} is not its own", row.number),
            );
        }
        let moved = moved.get(row.moved)?.map(|id| WriterId(*id.value()));
        if row.moved > state.clock || moved != Some(feed) {
            find("feed-moved", &format!("table moved, {}", row.moved), format!("it does not name {feed}"));
        }
        checker.feed(&row, find)?;
    }
    compare(find, "feeds", u64::from(state.feeds), feeds.len()?, "rows of feeds");
    compare(find, "feeds", u64::from(state.feeds), moved.len()?, "rows of feeds that moved");
    let batches = checker.batches.len()?;
    if checker.is_whole && batches != checker.rows {
        find("batch-order", "table batches", format!("{batches} rows, {} belong to a feed", checker.rows));
    }
    let places = checker.places.len()?;
    if checker.is_whole && places != checker.later {
        find("place-index", "table places", format!("{places} rows, {} entries need one", checker.later));
    }
    Ok(())
}

/// Walks the batches of feeds.
struct Feeds<'a> {
    batches: ReadOnlyTable<&'static FeedKey, &'static [u8]>,
    blocks: ReadOnlyTable<&'static BlockKey, &'static [u8]>,
    places: ReadOnlyTable<&'static FeedKey, u64>,
    directories: Directories,
    state: &'a State,
    /// Rows seen.
    rows: u64,
    /// Entries of events that another entry brought.
    later: u64,
    /// Whether every entry was looked at.
    is_whole: bool,
}

impl Feeds<'_> {
    fn feed(&mut self, row: &FeedRow, find: &mut Find<'_>) -> Result<(), Fail> {
        let feed = row.head.feed;
        let (from, to) = (feed_key(row.number, 0), feed_key(row.number, u64::MAX));
        let mut size = 0;
        let mut newest = None;
        for batch in self.batches.range::<&FeedKey>(&from..=&to)? {
            let (key, value) = batch?;
            self.rows += 1;
            let end = split_feed_key(key.value()).1;
            let place = format!("table batches, {feed} at {end}");
            let Some(batch) = BatchRow::decode(feed, value.value()).filter(|batch| batch.head.size == end)
            else {
                find("batch-row", &place, "the row does not decode".to_owned());
                self.is_whole = false;
                size = end;
                continue;
            };
            if end - batch.count != size {
                find("batch-order", &place, format!("it begins at {}, not at {size}", end - batch.count));
                self.is_whole = false;
            }
            let mut index = end - batch.count;
            for run in &batch.runs {
                if run.first + u64::from(run.count) > self.state.events {
                    find("batch-row", &place, format!("it names event {}, which is not there", run.first));
                    self.is_whole = false;
                    index += u64::from(run.count);
                    continue;
                }
                for number in run.first..run.first + u64::from(run.count) {
                    self.entry(row.number, index, number, &place, find)?;
                    index += 1;
                }
            }
            size = end;
            newest = Some(batch.head);
        }
        if newest != Some(row.head) {
            let message = format!("the newest batch is not the head at size {}", row.head.size);
            find("feed-row", &format!("table feeds, {feed}"), message);
        }
        Ok(())
    }

    /// Checks that an event is found at its index in the feed.
    fn entry(
        &mut self,
        feed: u32,
        index: u64,
        number: u64,
        place: &str,
        find: &mut Find<'_>,
    ) -> Result<(), Fail> {
        let located = match self.directories.find(&self.blocks, number) {
            Ok(located) => located,
            // Reported with its block.
            Err(Fail::Damaged(_)) => {
                self.is_whole = false;
                return Ok(());
            }
            Err(fail) => return Err(fail),
        };
        self.later += u64::from(located.origin() != (feed, index));
        let found = place_in(&self.places, feed, &located)?;
        if found != Some(index) {
            let message = format!("entry {index} is event {number}, which is found at {found:?}");
            find("place-index", place, message);
        }
        Ok(())
    }
}
