//! Rows in memory between two commits: one for each key, joined or summed as they come, written out in key order.

use crate::Derived;
use crate::store::FoldTransaction;
use crate::table::{Merge, Rollup, Row, Value};
use burnlog_log::{Error, ErrorKind, Result};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::{BuildHasher, Hasher};

/// Rows by key. Cheap to grow: the index moves, the rows do not.
#[derive(Debug)]
pub(crate) struct Rows<R> {
    list: Vec<R>,
    index: HashTable<u32>,
    hashing: DefaultHashBuilder,
}

impl<R> Default for Rows<R> {
    fn default() -> Self {
        Self { list: Vec::new(), index: HashTable::new(), hashing: DefaultHashBuilder::default() }
    }
}

fn hash_of<R: Row>(hashing: &DefaultHashBuilder, row: &R) -> u64 {
    let mut hasher = hashing.build_hasher();
    row.hash_key(&mut hasher);
    hasher.finish()
}

impl<R: Row> Rows<R> {
    /// Returns about how much memory the rows take, in bytes: their own, and some for what they point to.
    pub(crate) fn bytes(&self) -> usize {
        self.list.len() * (size_of::<R>() + 100)
    }

    /// Puts `row` in unless its key is here; returns where that is, and `row` itself if it was not put in.
    fn enter(&mut self, row: R) -> (usize, Option<R>) {
        let Self { list, index, hashing } = self;
        let hash = hash_of(hashing, &row);
        if let Some(at) = index.find(hash, |at| list[*at as usize].compare_key(&row).is_eq()) {
            return (*at as usize, Some(row));
        }
        index.insert_unique(hash, list.len() as u32, |at| hash_of(hashing, &list[*at as usize]));
        list.push(row);
        (list.len() - 1, None)
    }

    /// Takes all rows out, ordered by key. Keeps the memory of the index.
    fn take_sorted(&mut self) -> Vec<R> {
        self.index.clear();
        let mut rows = std::mem::take(&mut self.list);
        rows.sort_unstable_by(R::compare_key);
        rows
    }
}

impl<R: Merge> Rows<R> {
    /// Joins a row into the one with its key.
    pub(crate) fn merge(&mut self, row: R) {
        if let (at, Some(row)) = self.enter(row) {
            self.list[at].merge(row);
        }
    }

    /// Writes all rows, joined with those in the store, and derives what depends on them.
    pub(crate) fn write(&mut self, to: &mut dyn FoldTransaction, derived: &mut Derived) -> Result<()> {
        for row in self.take_sorted() {
            let mut values = Vec::with_capacity(R::TABLE.columns.len());
            row.write(&mut values);
            if to.insert_new(R::TABLE, &values)? {
                R::changed(None, &row, derived);
                continue;
            }
            let stored = to.get(R::TABLE, &values[..R::TABLE.key])?;
            let old = R::read(stored.ok_or_else(|| vanished(R::TABLE.name))?)?;
            drop(values);
            let mut new = old.clone();
            new.merge(row);
            if new != old {
                let mut values = Vec::with_capacity(R::TABLE.columns.len());
                new.write(&mut values);
                to.replace(R::TABLE, &values)?;
                R::changed(Some(&old), &new, derived);
            }
        }
        Ok(())
    }
}

impl<R: Rollup> Rows<R> {
    /// Returns the delta for a key; `delta` is an empty one.
    pub(crate) fn delta(&mut self, delta: R) -> &mut R {
        let at = self.delta_at(delta);
        &mut self.list[at]
    }

    /// Returns where the delta for a key is, until the rows are written.
    pub(crate) fn delta_at(&mut self, delta: R) -> usize {
        self.enter(delta).0
    }

    /// Returns the row at a place, if there is one.
    pub(crate) fn at(&self, at: usize) -> Option<&R> {
        self.list.get(at)
    }

    /// Returns the row at a place that [`Rows::delta_at`] returned.
    pub(crate) fn at_mut(&mut self, at: usize) -> &mut R {
        &mut self.list[at]
    }

    /// Adds all deltas to the sums in the store; sums of nothing go.
    pub(crate) fn write_sums(&mut self, to: &mut dyn FoldTransaction) -> Result<()> {
        for delta in self.take_sorted() {
            if delta.is_empty() {
                continue;
            }
            let mut values = Vec::with_capacity(R::TABLE.columns.len());
            delta.write(&mut values);
            if to.insert_new(R::TABLE, &values)? {
                continue;
            }
            let key = &values[..R::TABLE.key];
            let stored = to.get(R::TABLE, key)?;
            let mut sum = R::read(stored.ok_or_else(|| vanished(R::TABLE.name))?)?;
            sum.apply(&delta);
            if sum.is_empty() {
                to.delete(R::TABLE, key)?;
                continue;
            }
            let mut sums: Vec<Value<'_>> = Vec::with_capacity(R::TABLE.columns.len());
            sum.write(&mut sums);
            to.replace(R::TABLE, &sums)?;
        }
        Ok(())
    }
}

fn vanished(table: &'static str) -> Error {
    let message =
        "the store refused a row as known and does not have it; rebuild the projections from the log";
    Error::new(ErrorKind::Corrupt, "write projection row", message).at(table)
}
