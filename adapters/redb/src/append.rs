//! Appending one batch inside a write transaction that may hold others. Everything that can be refused is refused
//! before the first write, so that a refusal leaves the transaction as it was.

use crate::block::{Codecs, write_block};
use crate::codec::{BatchRow, FeedRow, State};
use crate::directory::{Directory, Lengths};
use crate::fault::Fail;
use crate::locate::{Directories, locate, prefix};
use crate::read::{place_in, read_feed, read_state};
use crate::tables::{BATCHES, BLOCKS, EVENTS, FEEDS, META, MOVED, PLACES, TWINS, feed_key};
use burnlog_log::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, PAYLOAD_BYTES_MAX, SKELETON_BYTES_MAX};
use burnlog_log::{Address, Append, Error, ErrorKind, NewEvent};
use redb::WriteTransaction;
use std::collections::{HashMap, HashSet};

/// A batch that has been looked at outside the transaction: its shape is right, and the events that are probably
/// new are compressed.
pub(crate) struct Prepared<'a> {
    append: &'a Append<'a>,
    /// Events sent along, by entry; `None` where the entry has none with it.
    sent: Vec<Option<&'a NewEvent<'a>>>,
    /// The clock at which `blocks` held all events that are new and no other.
    clock: u64,
    /// The entries whose events are new, ascending.
    new: Vec<usize>,
    blocks: Vec<RawBlock>,
}

/// New events, compressed.
struct RawBlock {
    /// The range in [`Prepared::new`].
    events: std::ops::Range<usize>,
    data: Vec<u8>,
}

/// How blocks are made.
#[derive(Clone, Copy)]
pub(crate) struct Packing<'a> {
    pub(crate) codecs: &'a Codecs,
    /// The size before compression at which blocks are cut.
    pub(crate) block_bytes: usize,
}

fn refused(kind: ErrorKind, message: impl Into<String>, append: &Append<'_>) -> Error {
    Error::new(kind, "append", message).at(append.head.feed)
}

/// Checks what can be said of a batch without looking at the ledger, and pairs entries with events.
fn check_shape<'a>(append: &'a Append<'a>) -> Result<Vec<Option<&'a NewEvent<'a>>>, Error> {
    let Append { expected_size, entries, events, head, frontier, .. } = append;
    let invalid = |message: String| Err(refused(ErrorKind::Invalid, message, append));
    if entries.is_empty() {
        return invalid("an empty batch".to_owned());
    }
    if entries.len() > BATCH_ENTRIES_MAX {
        return invalid(format!("{} entries, at most {BATCH_ENTRIES_MAX} are allowed", entries.len()));
    }
    if expected_size.checked_add(entries.len() as u64) != Some(head.size) {
        return invalid("the head's size is not the expected size and the entries".to_owned());
    }
    if frontier.len() != head.size.count_ones() as usize {
        return invalid("the frontier does not belong to the size".to_owned());
    }
    let mut bytes = 0;
    for event in *events {
        let payload = event.payload.map_or(0, <[u8]>::len);
        if event.skeleton.len() > SKELETON_BYTES_MAX || payload > PAYLOAD_BYTES_MAX {
            return invalid(format!("the event {} is too large", event.address));
        }
        bytes += (event.skeleton.len() + payload) as u64;
    }
    if bytes > BATCH_BYTES_MAX {
        return invalid(format!("{bytes} bytes, at most {BATCH_BYTES_MAX} are allowed"));
    }
    let mut positions: HashMap<&Address, usize> = HashMap::with_capacity(entries.len());
    for (position, address) in entries.iter().enumerate() {
        if positions.insert(address, position).is_some() {
            return invalid(format!("{address} occurs twice"));
        }
    }
    let mut sent = vec![None; entries.len()];
    for event in *events {
        match positions.get(&event.address) {
            Some(position) => sent[*position] = Some(event),
            None => return invalid(format!("no entry names the event {}", event.address)),
        }
    }
    Ok(sent)
}

impl<'a> Prepared<'a> {
    /// Checks the shape and compresses the events that `is_new` names, as of `clock`.
    pub(crate) fn new(
        append: &'a Append<'a>,
        packing: Packing<'_>,
        clock: u64,
        mut is_new: impl FnMut(&Address) -> Result<bool, Fail>,
    ) -> Result<Self, Fail> {
        let sent = check_shape(append)?;
        let mut new = Vec::with_capacity(append.events.len());
        for (position, event) in sent.iter().enumerate() {
            if let Some(event) = event
                && is_new(&event.address)?
            {
                new.push(position);
            }
        }
        let mut prepared = Self { append, sent, clock, new, blocks: Vec::new() };
        prepared.blocks = prepared.pack(packing)?;
        Ok(prepared)
    }

    /// The bytes that the batch will write, roughly.
    pub(crate) fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.data.len() as u64).sum::<u64>() + 128 * self.sent.len() as u64
    }

    fn event(&self, position: usize) -> &'a NewEvent<'a> {
        self.sent[position].expect("only sent events are new")
    }

    /// Compresses the new events in the order of their entries.
    fn pack(&self, packing: Packing<'_>) -> Result<Vec<RawBlock>, Fail> {
        let bytes_of = |position: &usize| {
            let event = self.event(*position);
            event.skeleton.len() + event.payload.map_or(0, <[u8]>::len)
        };
        let total: usize = self.new.iter().map(bytes_of).sum();
        // Even blocks: a small one at the end would compress badly.
        let count = (total * 4).div_ceil(packing.block_bytes * 5).max(1);
        let target = total.div_ceil(count);
        let mut blocks = Vec::with_capacity(count);
        let (mut raw, mut start) = (Vec::new(), 0);
        for (index, position) in self.new.iter().enumerate() {
            let event = self.event(*position);
            let bytes = bytes_of(position);
            if !raw.is_empty() && raw.len() + bytes > packing.block_bytes * 5 / 4 {
                blocks.push(RawBlock { events: start..index, data: packing.codecs.compress(&raw)? });
                raw.clear();
                start = index;
            }
            raw.extend_from_slice(event.skeleton);
            raw.extend_from_slice(event.payload.unwrap_or_default());
            if raw.len() >= target || index + 1 == self.new.len() {
                blocks.push(RawBlock { events: start..index + 1, data: packing.codecs.compress(&raw)? });
                raw.clear();
                start = index + 1;
            }
        }
        Ok(blocks)
    }

    /// Appends the batch in the transaction. `Refused` wrote nothing; any other failure may have written a part,
    /// and the transaction must then be given up.
    pub(crate) fn apply(mut self, txn: &WriteTransaction, packing: Packing<'_>) -> Result<(), Fail> {
        let append = self.append;
        let mut state = read_state(&txn.open_table(META)?)?;
        let feed = read_feed(&txn.open_table(FEEDS)?, &append.head.feed)?;
        self.check_head(feed.as_ref())?;
        let number = feed.as_ref().map_or(state.feeds, |row| row.number);
        let known = self.settle(txn, state.clock, number)?;
        if self.blocks.is_empty() && !self.new.is_empty() {
            self.blocks = self.pack(packing)?;
        }
        let numbers = self.number_entries(&state, &known);
        self.write_events(txn, &mut state, number)?;
        let mut places = txn.open_table(PLACES)?;
        for (position, event) in known {
            let index = append.expected_size + position as u64;
            places.insert(&feed_key(number, event), index)?;
        }
        let batch = BatchRow::encode(append.head, &numbers);
        txn.open_table(BATCHES)?.insert(&feed_key(number, append.head.size), batch.as_slice())?;
        self.write_heads(txn, &mut state, feed.as_ref(), number)?;
        txn.open_table(META)?.insert("state", state.encode().as_slice())?;
        Ok(())
    }

    fn check_head(&self, feed: Option<&FeedRow>) -> Result<(), Error> {
        let append = self.append;
        let size = feed.map_or(0, |row| row.head.size);
        if size != append.expected_size {
            let message = format!("the feed has {size} entries, {} were expected", append.expected_size);
            return Err(refused(ErrorKind::Conflict, message, append));
        }
        if let Some(row) = feed.filter(|row| row.head.root != append.expected_root) {
            let message = format!(
                "at size {size} the feed has root {}, {} was expected",
                row.head.root, append.expected_root
            );
            return Err(refused(ErrorKind::Forked, message, append));
        }
        Ok(())
    }

    /// Tells new from known events for good, and returns the entries of known ones with their numbers. Refuses
    /// what is in the feed already and what is missing.
    fn settle(&mut self, txn: &WriteTransaction, clock: u64, feed: u32) -> Result<Vec<(usize, u64)>, Fail> {
        let (events, twins) = (txn.open_table(EVENTS)?, txn.open_table(TWINS)?);
        let (blocks, places) = (txn.open_table(BLOCKS)?, txn.open_table(PLACES)?);
        let mut directories = Directories::default();
        // Nothing was appended since they were looked up.
        let trusted: HashSet<usize> =
            if clock == self.clock { self.new.iter().copied().collect() } else { HashSet::new() };
        let (mut known, mut new, mut missing) = (Vec::new(), Vec::with_capacity(self.new.len()), Vec::new());
        for (position, address) in self.append.entries.iter().enumerate() {
            if trusted.contains(&position) {
                new.push(position);
                continue;
            }
            match locate(&events, &twins, &blocks, &mut directories, address)? {
                Some(located) => {
                    if place_in(&places, feed, &located)?.is_some() {
                        let message = format!("{address} is in the feed already");
                        return Err(refused(ErrorKind::Invalid, message, self.append).into());
                    }
                    known.push((position, located.number));
                }
                None if self.sent[position].is_some() => new.push(position),
                None => missing.push(*address),
            }
        }
        if !missing.is_empty() {
            return Err(Error::missing("append", missing).at(self.append.head.feed).into());
        }
        if new != self.new {
            self.new = new;
            self.blocks.clear();
        }
        Ok(known)
    }

    /// Returns the number of the event of each entry.
    fn number_entries(&self, state: &State, known: &[(usize, u64)]) -> Vec<u64> {
        let mut numbers = vec![0; self.append.entries.len()];
        for (number, position) in (state.events..).zip(&self.new) {
            numbers[*position] = number;
        }
        for (position, number) in known {
            numbers[*position] = *number;
        }
        numbers
    }

    fn write_events(&self, txn: &WriteTransaction, state: &mut State, feed: u32) -> Result<(), Fail> {
        let mut keys: Vec<(u64, u64, usize)> = (state.events..)
            .zip(&self.new)
            .map(|(number, position)| (prefix(&self.append.entries[*position]), number, *position))
            .collect();
        keys.sort_unstable();
        {
            let mut events = txn.open_table(EVENTS)?;
            for (prefix, number, position) in keys {
                let taken = events.insert(prefix, number)?.map(|row| row.value());
                if let Some(other) = taken {
                    events.insert(prefix, other)?;
                    txn.open_table(TWINS)?.insert(&self.append.entries[position].0, number)?;
                }
            }
        }
        let mut blocks = txn.open_table(BLOCKS)?;
        for block in &self.blocks {
            let mut directory = Directory { id: state.blocks, ..Directory::default() };
            for position in &self.new[block.events.clone()] {
                let event = self.event(*position);
                let payload = event.payload.map_or(0, <[u8]>::len);
                let lengths = Lengths { skeleton: event.skeleton.len() as u16, payload: payload as u32 };
                let origin = (feed, self.append.expected_size + *position as u64);
                directory.push(event.address, lengths, origin, event.payload.is_none());
                state.payload_bytes += payload as u64;
            }
            state.written_bytes += write_block(&mut blocks, state.events, &directory, &block.data)?;
            state.blocks += 1;
            state.events += directory.len() as u64;
        }
        Ok(())
    }

    fn write_heads(
        &self,
        txn: &WriteTransaction,
        state: &mut State,
        feed: Option<&FeedRow>,
        number: u32,
    ) -> Result<(), Fail> {
        let Append { head, frontier, .. } = self.append;
        state.clock += 1;
        let mut moved = txn.open_table(MOVED)?;
        match feed {
            Some(row) => drop(moved.remove(row.moved)?),
            None => state.feeds += 1,
        }
        moved.insert(state.clock, &head.feed.0)?;
        let row = FeedRow::encode(number, state.clock, head, frontier);
        txn.open_table(FEEDS)?.insert(&head.feed.0, row.as_slice())?;
        Ok(())
    }
}
