//! The part of the index that no run covers yet, in memory: entries and batches in the order in which they came, of which
//! the last may be written but not durable. Bounded by the flush into a run.

use super::rows::{AddressRow, BatchRow, Fingerprint, SlotRow};
use burnlog_log::WriterId;
use hashbrown::HashTable;
use std::collections::{BTreeMap, HashMap};

/// What of the tail counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    /// What is durable: what readers get.
    Durable,
    /// What is written as well: what the next append is compared with.
    Written,
}

const NONE: u32 = u32::MAX;

/// Rows that no run covers yet.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    rows: Vec<AddressRow>,
    /// For each row the one before it with the same fingerprint.
    before: Vec<u32>,
    /// The newest row of each fingerprint.
    newest: HashTable<u32>,
    batches: Vec<SlotRow>,
    /// The heads of `batches`, where they have one.
    heads: Vec<Option<BatchRow>>,
    /// Numbers of batches by ascending first index.
    by_feed: BTreeMap<WriterId, Vec<u32>>,
    /// Numbers of batches by ascending slot.
    by_segment: HashMap<u32, Vec<u32>>,
    durable: Counts,
}

/// How many rows and batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) rows: usize,
    pub(crate) batches: usize,
}

fn hash(fingerprint: &Fingerprint) -> u64 {
    // A fingerprint is a hash already.
    u64::from_le_bytes(*fingerprint.first_chunk().expect("16 bytes"))
}

impl Tail {
    /// Returns how much there is, the not yet durable included.
    pub(crate) fn counts(&self) -> Counts {
        Counts { rows: self.rows.len(), batches: self.batches.len() }
    }

    /// Returns how much of it is durable.
    pub(crate) fn durable(&self) -> Counts {
        self.durable
    }

    /// Declares everything durable.
    pub(crate) fn set_durable(&mut self) {
        self.durable = self.counts();
    }

    /// Declares what came up to `counts` durable.
    pub(crate) fn set_durable_to(&mut self, counts: Counts) {
        self.durable = counts;
    }

    /// Adds an entry, not yet durable.
    pub(crate) fn push_row(&mut self, row: AddressRow) {
        let number = self.rows.len() as u32;
        let rows = &self.rows;
        let same = |other: &u32| rows[*other as usize].fingerprint == row.fingerprint;
        let mut before = NONE;
        if let Some(newest) = self.newest.find_mut(hash(&row.fingerprint), same) {
            before = std::mem::replace(newest, number);
        } else {
            let rehash = |other: &u32| hash(&rows[*other as usize].fingerprint);
            self.newest.insert_unique(hash(&row.fingerprint), number, rehash);
        }
        self.rows.push(row);
        self.before.push(before);
    }

    /// Adds a batch, not yet durable.
    pub(crate) fn push_batch(&mut self, batch: BatchRow) {
        self.push(batch.slot_row(), Some(batch));
    }

    /// Adds entries whose commit line is lost.
    pub(crate) fn push_orphans(&mut self, row: SlotRow) {
        self.push(row, None);
    }

    fn push(&mut self, row: SlotRow, head: Option<BatchRow>) {
        let number = self.batches.len() as u32;
        let in_segment = self.by_segment.entry(row.place.segment).or_default();
        let batches = &self.batches;
        let at = in_segment.partition_point(|other| batches[*other as usize].place < row.place);
        in_segment.insert(at, number);
        if let Some(head) = &head {
            let of_feed = self.by_feed.entry(head.feed).or_default();
            let heads = &self.heads;
            let first = |other: &u32| heads[*other as usize].as_ref().map_or(0, |other| other.first);
            let at = of_feed.partition_point(|other| first(other) <= head.first);
            of_feed.insert(at, number);
        }
        self.batches.push(row);
        self.heads.push(head);
    }

    /// Takes back everything that is not durable.
    pub(crate) fn rollback(&mut self) {
        while self.rows.len() > self.durable.rows {
            let (Some(row), Some(before)) = (self.rows.pop(), self.before.pop()) else { break };
            let number = self.rows.len() as u32;
            let Ok(mut entry) = self.newest.find_entry(hash(&row.fingerprint), |other| *other == number)
            else {
                continue;
            };
            if before == NONE {
                entry.remove();
            } else {
                *entry.get_mut() = before;
            }
        }
        while self.batches.len() > self.durable.batches {
            let (Some(row), Some(head)) = (self.batches.pop(), self.heads.pop()) else { break };
            let number = self.batches.len() as u32;
            if let Some(in_segment) = self.by_segment.get_mut(&row.place.segment) {
                in_segment.retain(|other| *other != number);
            }
            let Some(feed) = head.map(|head| head.feed) else { continue };
            if let Some(of_feed) = self.by_feed.get_mut(&feed) {
                of_feed.retain(|other| *other != number);
                if of_feed.is_empty() {
                    self.by_feed.remove(&feed);
                }
            }
        }
    }

    /// Makes a tail of the durable rows, renumbered, for which `keep` returns a segment and that are not before the slot
    /// that it returns.
    pub(crate) fn retain(&self, keep: impl Fn(u32) -> Option<(u32, u32)>) -> Self {
        let mut kept = Self::default();
        for row in &self.rows[..self.durable.rows] {
            if let Some((segment, _)) = keep(row.segment).filter(|(_, from)| row.slot() >= *from) {
                kept.push_row(row.in_segment(segment));
            }
        }
        for (row, head) in self.batches.iter().zip(&self.heads).take(self.durable.batches) {
            let Some((segment, _)) =
                keep(row.place.segment).filter(|(_, from)| row.place.first_slot >= *from)
            else {
                continue;
            };
            let place = super::rows::Place { segment, ..row.place };
            kept.push(SlotRow { place, ..*row }, head.map(|head| BatchRow { place, ..head }));
        }
        kept.set_durable();
        kept
    }

    /// Returns the durable rows, each kind sorted as in a run.
    pub(crate) fn sorted(&self) -> (Vec<AddressRow>, Vec<BatchRow>, Vec<SlotRow>) {
        let mut rows = self.rows[..self.durable.rows].to_vec();
        rows.sort_unstable();
        let mut heads: Vec<BatchRow> = self.heads[..self.durable.batches].iter().flatten().copied().collect();
        heads.sort_unstable();
        let mut batches = self.batches[..self.durable.batches].to_vec();
        batches.sort_unstable();
        (rows, heads, batches)
    }

    /// Forgets the durable part, which a run holds now.
    pub(crate) fn forget_durable(&mut self) {
        let rows = self.rows.split_off(self.durable.rows);
        let batches = self.batches.split_off(self.durable.batches);
        let heads = self.heads.split_off(self.durable.batches);
        *self = Self::default();
        for row in rows {
            self.push_row(row);
        }
        for (row, head) in batches.into_iter().zip(heads) {
            self.push(row, head);
        }
    }

    fn batch_limit(&self, seen: Seen) -> u32 {
        match seen {
            Seen::Durable => self.durable.batches as u32,
            Seen::Written => NONE,
        }
    }

    /// Calls `each` with every row of a fingerprint, newest first.
    pub(crate) fn addresses(&self, fingerprint: &Fingerprint, seen: Seen, each: &mut dyn FnMut(AddressRow)) {
        let same = |other: &u32| self.rows[*other as usize].fingerprint == *fingerprint;
        let limit = match seen {
            Seen::Durable => self.durable.rows,
            Seen::Written => self.rows.len(),
        };
        let mut next = self.newest.find(hash(fingerprint), same).copied().unwrap_or(NONE);
        while next != NONE {
            if (next as usize) < limit {
                each(self.rows[next as usize]);
            }
            next = self.before[next as usize];
        }
    }

    /// Returns the batch that holds a slot.
    pub(crate) fn at_slot(&self, segment: u32, slot: u32, seen: Seen) -> Option<SlotRow> {
        let in_segment = self.by_segment.get(&segment)?;
        let next =
            in_segment.partition_point(|number| self.batches[*number as usize].place.first_slot <= slot);
        let number = *in_segment[..next].last().filter(|number| **number < self.batch_limit(seen))?;
        Some(self.batches[number as usize]).filter(|row| row.place.holds(slot))
    }

    /// Calls `each` with the durable batches of a segment from a slot on.
    pub(crate) fn batches_after(&self, segment: u32, slot: u32, each: &mut dyn FnMut(SlotRow)) {
        let limit = self.batch_limit(Seen::Durable);
        let numbers = self.by_segment.get(&segment).into_iter().flatten().filter(|number| **number < limit);
        let rows = numbers.map(|number| self.batches[*number as usize]);
        rows.filter(|row| row.place.end_slot() > slot).for_each(each);
    }

    /// Returns the batch of a feed with the greatest first index up to `index`.
    pub(crate) fn up_to(&self, feed: &WriterId, index: u64, seen: Seen) -> Option<BatchRow> {
        let limit = self.batch_limit(seen);
        let of_feed = self.by_feed.get(feed)?;
        let next = of_feed.partition_point(|number| self.first(*number) <= index);
        let number = of_feed[..next].iter().rev().find(|number| **number < limit)?;
        self.heads[*number as usize]
    }

    /// Returns the durable batch of a feed with the smallest first index beyond `index`.
    pub(crate) fn after(&self, feed: &WriterId, index: u64) -> Option<BatchRow> {
        let limit = self.batch_limit(Seen::Durable);
        let of_feed = self.by_feed.get(feed)?;
        let next = of_feed.partition_point(|number| self.first(*number) <= index);
        let mut numbers = of_feed[next..].iter().filter(|number| **number < limit);
        numbers.find_map(|number| self.heads[*number as usize])
    }

    fn first(&self, number: u32) -> u64 {
        self.heads[number as usize].as_ref().map_or(0, |head| head.first)
    }

    /// Returns the first feed after `after` that has a durable batch.
    pub(crate) fn next_feed(&self, after: Option<&WriterId>) -> Option<WriterId> {
        use std::ops::Bound::{Excluded, Unbounded};
        let limit = self.batch_limit(Seen::Durable);
        let from = after.map_or(Unbounded, Excluded);
        let mut feeds = self.by_feed.range((from, Unbounded));
        feeds.find(|(_, numbers)| numbers.iter().any(|number| *number < limit)).map(|(feed, _)| *feed)
    }
}
