//! Rows one behind another, as they go to a store: how many at once, and what makes a slice of them valid.

use crate::table::{Row, Table, Value};
use burnlog_log::{Error, ErrorKind, Result};
use std::collections::BTreeSet;

/// The most values of a slice that the folds make: some hundreds of rows, which fit into a processor's cache.
pub const SLICE_VALUES: usize = 8192;
/// From so many bytes of text and blobs on a slice takes no further row.
const SLICE_BYTES: usize = 1 << 20;

/// Returns the values of the first rows, as many as a slice takes, and how many rows these are.
pub(crate) fn rows_of<'r, R: Row>(rows: impl Iterator<Item = &'r R>) -> (Vec<Value<'r>>, usize) {
    let width = R::TABLE.columns.len();
    let mut values = Vec::with_capacity(width * rows.size_hint().0.min(SLICE_VALUES / width));
    let (mut count, mut bytes) = (0, 0);
    for row in rows {
        let from = values.len();
        row.write(&mut values);
        count += 1;
        bytes += values[from..].iter().map(bytes_of).sum::<usize>();
        if values.len() + width > SLICE_VALUES || bytes >= SLICE_BYTES {
            break;
        }
    }
    (values, count)
}

/// Appends the values of a row's key.
pub(crate) fn push_key<'r, R: Row>(row: &'r R, keys: &mut Vec<Value<'r>>) {
    let from = keys.len();
    row.write(keys);
    keys.truncate(from + R::TABLE.key);
}

fn bytes_of(value: &Value<'_>) -> usize {
    match value {
        Value::Null | Value::Integer(_) => 0,
        Value::Text(text) => text.len(),
        Value::Name(name) => name.len(),
        Value::Blob(bytes) => bytes.len(),
    }
}

/// Checks a slice of rows: whole ones, no key twice. For stores, before they write anything.
pub fn check_rows(table: &'static Table, rows: &[Value<'_>]) -> Result<()> {
    check(table, rows, table.columns.len())
}

/// Checks a slice of keys: whole ones, none twice. For stores, before they do anything.
pub fn check_keys(table: &'static Table, keys: &[Value<'_>]) -> Result<()> {
    check(table, keys, table.key)
}

fn check(table: &'static Table, values: &[Value<'_>], width: usize) -> Result<()> {
    let invalid =
        |message| Err(Error::new(ErrorKind::Invalid, "write projection rows", message).at(table.name));
    if !values.len().is_multiple_of(width) {
        return invalid("the slice ends within a row");
    }
    let keys = || values.chunks_exact(width).map(|row| &row[..table.key]);
    // Slices come in the order of their keys nearly always; that alone shows that none comes twice.
    if keys().is_sorted_by(|one, two| one < two) {
        return Ok(());
    }
    let mut known = BTreeSet::new();
    if keys().all(|key| known.insert(key)) { Ok(()) } else { invalid("a key comes twice in one slice") }
}
