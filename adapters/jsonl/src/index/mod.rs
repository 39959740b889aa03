//! The index: runs on disk and the tail in memory as one. Derived from the segments and made again from them when
//! anything in it does not fit. Knows rows, not files of segments.

mod build;
mod filter;
mod manifest;
mod rows;
mod run;
mod tail;
#[cfg(test)]
mod tests;

pub(crate) use build::{Failure, Site, from_rows, merge, persist};
pub(crate) use manifest::{
    Covered, FILE_NAME as MANIFEST_NAME, Manifest, Read as ManifestRead, read as read_manifest,
};
pub(crate) use rows::{AddressRow, BatchRow, Fingerprint, Place, SLOTS_MAX, SlotRow, fingerprint};
pub(crate) use run::{Fault, Run};
pub(crate) use tail::{Counts, Seen, Tail};

use burnlog_log::{Address, WriterId};
use std::sync::Arc;

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Oldest first; together with the tail they hold each row once.
    pub(crate) runs: Vec<Arc<Run>>,
    pub(crate) tail: Tail,
}

/// What stands at an index of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AtIndex {
    /// A batch.
    Batch(BatchRow),
    /// No batch that is known, although a later one is: up to this index.
    Gap(u64),
    /// Nothing from there on.
    End,
}

impl Index {
    /// Calls `each` with the entries of an address.
    pub(crate) fn addresses(
        &self,
        address: &Address,
        seen: Seen,
        each: &mut dyn FnMut(AddressRow),
    ) -> Result<(), Fault> {
        let fingerprint = fingerprint(address);
        self.tail.addresses(&fingerprint, seen, each);
        self.runs.iter().try_for_each(|run| run.addresses(&fingerprint, each))
    }

    /// Calls `each` with the entries of every address, and the number that stands beside it in `wanted`, which is in ascending order: then
    /// neighbours lie close by in each run.
    pub(crate) fn addresses_of(
        &self,
        wanted: &[(Fingerprint, u32)],
        seen: Seen,
        each: &mut dyn FnMut(u32, AddressRow),
    ) -> Result<(), Fault> {
        for (fingerprint, number) in wanted {
            self.tail.addresses(fingerprint, seen, &mut |row| each(*number, row));
        }
        self.runs.iter().try_for_each(|run| run.addresses_of(wanted, each))
    }

    /// Returns the batch that holds a slot.
    pub(crate) fn at_slot(&self, segment: u32, slot: u32, seen: Seen) -> Result<Option<SlotRow>, Fault> {
        if let Some(row) = self.tail.at_slot(segment, slot, seen) {
            return Ok(Some(row));
        }
        for run in &self.runs {
            let at = |row: &SlotRow| (row.place.segment, row.place.first_slot) <= (segment, slot);
            let row = run.predecessor(at)?;
            if let Some(row) = row.filter(|row| row.place.segment == segment && row.place.holds(slot)) {
                return Ok(Some(row));
            }
        }
        Ok(None)
    }

    /// Calls `each` with the durable batches of a segment that end after a slot, in no order.
    pub(crate) fn batches_after(
        &self,
        segment: u32,
        slot: u32,
        each: &mut dyn FnMut(SlotRow),
    ) -> Result<(), Fault> {
        self.tail.batches_after(segment, slot, each);
        for run in &self.runs {
            let before = |row: &SlotRow| (row.place.segment, row.place.end_slot()) <= (segment, slot);
            let start = run.lower_bound(run.rows::<SlotRow>() / 2, before)?;
            for row in run.iterate::<SlotRow>(start) {
                let row = row?;
                if row.place.segment != segment {
                    break;
                }
                each(row);
            }
        }
        Ok(())
    }

    /// Returns the newest batch of a feed.
    pub(crate) fn newest(&self, feed: &WriterId, seen: Seen) -> Result<Option<BatchRow>, Fault> {
        let mut newest = self.tail.up_to(feed, u64::MAX, seen);
        for run in &self.runs {
            let row = run.predecessor(|row: &BatchRow| row.feed <= *feed)?.filter(|row| row.feed == *feed);
            if row.is_some_and(|row| newest.is_none_or(|newest| row.size() > newest.size())) {
                newest = row;
            }
        }
        Ok(newest)
    }

    /// Returns what stands durably at an index of a feed.
    pub(crate) fn at_index(&self, feed: &WriterId, index: u64) -> Result<AtIndex, Fault> {
        let holds = |row: &BatchRow| row.feed == *feed && row.first <= index && index < row.size();
        if let Some(row) = self.tail.up_to(feed, index, Seen::Durable).filter(holds) {
            return Ok(AtIndex::Batch(row));
        }
        for run in &self.runs {
            let row = run.predecessor(|row: &BatchRow| (row.feed, row.first) <= (*feed, index))?;
            if let Some(row) = row.filter(holds) {
                return Ok(AtIndex::Batch(row));
            }
        }
        let mut next = self.tail.after(feed, index).map(|row| row.first);
        for run in &self.runs {
            let row = run.successor(|row: &BatchRow| (row.feed, row.first) <= (*feed, index))?;
            let first = row.filter(|row| row.feed == *feed).map(|row| row.first);
            next = next.into_iter().chain(first).min();
        }
        Ok(next.map_or(AtIndex::End, AtIndex::Gap))
    }

    /// Returns the first feed after `after`.
    pub(crate) fn next_feed(&self, after: Option<&WriterId>) -> Result<Option<WriterId>, Fault> {
        let mut next = self.tail.next_feed(after);
        for run in &self.runs {
            let row = run.successor(|row: &BatchRow| after.is_some_and(|after| row.feed <= *after))?;
            next = next.into_iter().chain(row.map(|row| row.feed)).min();
        }
        Ok(next)
    }
}
