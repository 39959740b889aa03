//! What the index alone answers: presence, feeds, what moved, statistics. Reads no segment.

use crate::append::feed_index;
use crate::index::{AtIndex, Failure, Fingerprint, Seen, fingerprint};
use crate::store::{State, Store};
use burnlog_log::{Address, BatchHead, FeedsPage, Found, Presence, Result, Stat, Token, WriterId};
use std::collections::BTreeSet;

type Outcome<T> = std::result::Result<T, Failure>;

const TOKEN_MAGIC: &[u8; 4] = b"BLt2";
/// Of each segment: a hash of its name, its slots, and the beginning of the root after them.
const TOKEN_ROW_BYTES: usize = 20;
/// When more feeds than this moved, all are listed: that can be paged without counting them again.
const MOVED_MAX: usize = 64 << 10;

impl Store {
    /// Tells what of the addresses is there; see [`burnlog_log::Backend::find`].
    pub(crate) fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        self.with_state(|state| {
            // In the order of addresses neighbours lie on one page of the index; in the order asked for, in one batch.
            let mut wanted: Vec<(Fingerprint, u32)> = addresses.iter().map(fingerprint).zip(0..).collect();
            wanted.sort_unstable_by_key(|(fingerprint, at)| (u128::from_be_bytes(*fingerprint), *at));
            let mut rows = Vec::with_capacity(addresses.len());
            state.index.addresses_of(&wanted, Seen::Durable, &mut |at, row| rows.push((at as usize, row)))?;
            rows.sort_by_key(|(at, _)| *at);
            let mut found = vec![Found { presence: Presence::Absent, index: None }; addresses.len()];
            let mut batch = None;
            for (at, row) in rows {
                let found = &mut found[at];
                if row.is_erased() || state.erased.contains(&addresses[at]) {
                    found.presence = Presence::Erased;
                } else if found.presence == Presence::Absent {
                    found.presence = Presence::Present;
                }
                found.index = found.index.or(feed_index(state, &row, feed, Seen::Durable, &mut batch)?);
            }
            let is_absent = |found: &Found| found.presence == Presence::Absent;
            let absent = addresses.iter().zip(&found).filter(|(_, found)| is_absent(found));
            let absent = absent.map(|(address, _)| *address).collect();
            if !state.group.is_busy() {
                state.last_absent = (state.version, absent);
            }
            Ok(found)
        })
    }

    /// Lists feeds; see [`burnlog_log::Backend::feeds`].
    pub(crate) fn feeds(
        &self,
        after: Option<&WriterId>,
        changed_since: Option<&Token>,
        limit: usize,
    ) -> Result<FeedsPage> {
        let limit = limit.max(1);
        self.with_state(|state| {
            let token = token(state)?;
            let moved = match changed_since {
                Some(since) => moved_since(state, since)?,
                None => None,
            };
            let mut heads: Vec<BatchHead> = Vec::new();
            let mut last = after.copied();
            let mut moved = moved.map(BTreeSet::into_iter);
            loop {
                let next = match &mut moved {
                    Some(moved) => moved.find(|feed| after.is_none_or(|after| feed > after)),
                    None => state.index.next_feed(last.as_ref())?,
                };
                let Some(feed) = next else { return Ok(FeedsPage { heads, token, more: false }) };
                if heads.len() == limit {
                    return Ok(FeedsPage { heads, token, more: true });
                }
                heads.extend(state.index.newest(&feed, Seen::Durable)?.map(|row| row.head()));
                last = Some(feed);
            }
        })
    }

    /// Counts; see [`burnlog_log::Backend::stat`].
    pub(crate) fn stat(&self) -> Result<Stat> {
        let (events, payload_bytes) = self.with_state(|state| {
            let events = state.segments.iter().map(|segment| segment.known.events).sum();
            let mut payload_bytes: u64 =
                state.segments.iter().map(|segment| segment.known.payload_bytes).sum();
            for (address, bytes) in state.erased.iter() {
                // A segment that was compacted since has not counted it.
                let mut is_counted = false;
                let each =
                    &mut |row: crate::index::AddressRow| is_counted |= row.has_event() && !row.is_erased();
                state.index.addresses(address, Seen::Durable, each)?;
                payload_bytes = payload_bytes.saturating_sub(if is_counted { bytes } else { 0 });
            }
            Ok((events, payload_bytes))
        })?;
        Ok(Stat { events, payload_bytes, bytes_on_disk: self.bytes_on_disk()? })
    }
}

fn name_hash(name: &str) -> [u8; 8] {
    *blake3::hash(name.as_bytes()).as_bytes().first_chunk().expect("32 bytes")
}

/// Makes the mark of how far each segment is known. Names, slots and roots survive sealing and compacting.
fn token(state: &State) -> Outcome<Token> {
    let mut bytes = TOKEN_MAGIC.to_vec();
    for (segment, number) in state.segments.iter().zip(0..).filter(|(segment, _)| segment.known.slots > 0) {
        bytes.extend_from_slice(&name_hash(&segment.name));
        bytes.extend_from_slice(&segment.known.slots.to_le_bytes());
        bytes.extend_from_slice(&root_at(state, number, segment.known.slots)?);
    }
    Ok(Token(bytes))
}

/// Returns the beginning of the root after the first `slots` slots of a segment; zeros where no batch that is known ends there. A segment
/// that went back and grew again has as many slots, and another root at that place.
fn root_at(state: &State, segment: u32, slots: u32) -> Outcome<[u8; 8]> {
    let last = state.index.at_slot(segment, slots - 1, Seen::Durable)?;
    let Some((feed, index)) = last.and_then(|row| row.feed) else { return Ok([0; 8]) };
    Ok(match state.index.at_index(&feed, index)? {
        AtIndex::Batch(batch) => *batch.root.0.first_chunk().expect("32 bytes"),
        AtIndex::Gap(_) | AtIndex::End => [0; 8],
    })
}

/// Returns the feeds that have batches beyond a token; `None` where all should be listed instead.
fn moved_since(state: &State, since: &Token) -> Outcome<Option<BTreeSet<WriterId>>> {
    let Some(rows) = since.0.strip_prefix(TOKEN_MAGIC) else { return Ok(None) };
    if rows.len() % TOKEN_ROW_BYTES != 0 {
        return Ok(None);
    }
    let mut marks = std::collections::HashMap::with_capacity(rows.len() / TOKEN_ROW_BYTES);
    for row in rows.chunks_exact(TOKEN_ROW_BYTES) {
        let (name, mark) = row.split_at(8);
        let (slots, root) = mark.split_at(4);
        marks.insert(name, (u32::from_le_bytes(slots.try_into().expect("four bytes")), root));
    }
    let mut moved = BTreeSet::new();
    for (segment, number) in state.segments.iter().zip(0..) {
        let mark = marks.remove(name_hash(&segment.name).as_slice());
        let from = mark.map_or(0, |(slots, _)| slots);
        // Fewer than the token says, or others, means that this is not the ledger it was.
        if from > segment.known.slots {
            return Ok(None);
        }
        if let Some((slots, root)) = mark
            && (slots == 0 || root_at(state, number, slots)? != root)
        {
            return Ok(None);
        }
        if from < segment.known.slots {
            let each = &mut |row: crate::index::SlotRow| moved.extend(row.feed.map(|(feed, _)| feed));
            state.index.batches_after(number, from, each)?;
        }
        if moved.len() > MOVED_MAX {
            return Ok(None);
        }
    }
    Ok(marks.is_empty().then_some(moved))
}
