//! Rows in memory between two commits: one for each key, joined or summed as they come, written out in key order and
//! in slices, so that a store at a distance is spoken to a few times and not once a row.

use crate::Derived;
use crate::slice;
use crate::store::FoldTransaction;
use crate::table::{Merge, Rollup, Row, Values};
use burnlog_log::{Error, ErrorKind, Result};
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::{BuildHasher, Hasher};
use std::vec::IntoIter;

/// Rows by key. Cheap to grow: the index moves, the rows do not.
#[derive(Debug)]
pub(crate) struct Rows<R> {
    list: Vec<R>,
    /// Hashes of keys and where their rows are: with the hash beside it the index grows without hashing keys again.
    index: HashTable<(u64, u32)>,
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
        let is_same =
            |(known, at): &(u64, u32)| *known == hash && list[*at as usize].compare_key(&row).is_eq();
        if let Some((_, at)) = index.find(hash, is_same) {
            return (*at as usize, Some(row));
        }
        index.insert_unique(hash, (hash, list.len() as u32), |(hash, _)| *hash);
        list.push(row);
        (list.len() - 1, None)
    }

    /// Takes all rows out, ordered by key. Keeps the memory of the index.
    pub(crate) fn take_sorted(&mut self) -> Vec<R> {
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
        let mut rows = self.take_sorted().into_iter();
        while !rows.as_slice().is_empty() {
            write_slice(&mut rows, to, derived)?;
        }
        Ok(())
    }
}

/// Inserts the first rows, as many as a slice takes, and joins those whose keys the store has.
fn write_slice<R: Merge>(
    rows: &mut IntoIter<R>,
    to: &mut dyn FoldTransaction,
    derived: &mut Derived,
) -> Result<()> {
    let (inserted, mut stored) = insert_slice(rows, to)?;
    let mut joined = Vec::new();
    // The answers first: they end where the slice does, and no row beyond is taken.
    for (inserted, row) in inserted.into_iter().zip(rows) {
        if inserted {
            R::changed(None, &row, derived);
            continue;
        }
        let old = R::read(stored.next().flatten().ok_or_else(|| vanished(R::TABLE.name))?)?;
        let mut new = old.clone();
        new.merge(row);
        if new != old {
            R::changed(Some(&old), &new, derived);
            joined.push(new);
        }
    }
    replace_rows(&joined, to)
}

/// Inserts the first rows, as many as a slice takes, which stay where they are. Returns of each whether it was inserted,
/// and the stored rows of those that were not.
fn insert_slice<R: Row>(
    rows: &IntoIter<R>,
    to: &mut dyn FoldTransaction,
) -> Result<(Vec<bool>, IntoIter<Option<Values>>)> {
    let (values, count) = slice::rows_of(rows.as_slice().iter());
    let inserted = to.insert_new(R::TABLE, &values)?;
    if inserted.len() != count {
        return Err(vanished(R::TABLE.name));
    }
    let mut keys = Vec::new();
    for (row, inserted) in values.chunks_exact(R::TABLE.columns.len()).zip(&inserted) {
        if !inserted {
            keys.extend_from_slice(&row[..R::TABLE.key]);
        }
    }
    let stored = if keys.is_empty() { Vec::new() } else { to.get(R::TABLE, &keys)? };
    Ok((inserted, stored.into_iter()))
}

/// Overwrites rows, in slices.
pub(crate) fn replace_rows<R: Row>(rows: &[R], to: &mut dyn FoldTransaction) -> Result<()> {
    let mut rest = rows;
    while !rest.is_empty() {
        let (values, count) = slice::rows_of(rest.iter());
        to.replace(R::TABLE, &values)?;
        rest = &rest[count..];
    }
    Ok(())
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
        let mut deltas = self.take_sorted();
        deltas.retain(|delta| !delta.is_empty());
        let mut deltas = deltas.into_iter();
        while !deltas.as_slice().is_empty() {
            write_sums_slice(&mut deltas, to)?;
        }
        Ok(())
    }
}

/// Inserts the first deltas, as many as a slice takes, and adds those whose keys the store has.
fn write_sums_slice<R: Rollup>(deltas: &mut IntoIter<R>, to: &mut dyn FoldTransaction) -> Result<()> {
    let (inserted, mut stored) = insert_slice(deltas, to)?;
    let (mut sums, mut empty) = (Vec::new(), Vec::new());
    for (_, delta) in inserted.into_iter().zip(deltas).filter(|(inserted, _)| !inserted) {
        let mut sum = R::read(stored.next().flatten().ok_or_else(|| vanished(R::TABLE.name))?)?;
        sum.apply(&delta);
        if sum.is_empty() { empty.push(sum) } else { sums.push(sum) }
    }
    replace_rows(&sums, to)?;
    delete_rows(&empty, to).map(drop)
}

/// Deletes the rows with the keys of these, in slices; tells of each whether it was there.
pub(crate) fn delete_rows<R: Row>(rows: &[R], to: &mut dyn FoldTransaction) -> Result<Vec<bool>> {
    let mut were_there = Vec::with_capacity(rows.len());
    for rows in rows.chunks(slice::SLICE_VALUES / R::TABLE.columns.len()) {
        let mut keys = Vec::with_capacity(rows.len() * R::TABLE.key);
        for row in rows {
            slice::push_key(row, &mut keys);
        }
        were_there.extend(to.delete(R::TABLE, &keys)?);
    }
    Ok(were_there)
}

/// Inserts rows, in slices; tells of each whether it was inserted.
pub(crate) fn insert_rows<R: Row>(rows: &[R], to: &mut dyn FoldTransaction) -> Result<Vec<bool>> {
    let mut inserted = Vec::with_capacity(rows.len());
    while inserted.len() < rows.len() {
        let (values, _) = slice::rows_of(rows[inserted.len()..].iter());
        let before = inserted.len();
        inserted.extend(to.insert_new(R::TABLE, &values)?);
        if inserted.len() == before {
            return Err(vanished(R::TABLE.name));
        }
    }
    Ok(inserted)
}

fn vanished(table: &'static str) -> Error {
    let message =
        "the store refused a row as known and does not have it; rebuild the projections from the log";
    Error::new(ErrorKind::Corrupt, "write projection row", message).at(table)
}
