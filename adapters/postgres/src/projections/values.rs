//! Values on their way between the seam and the server: one array for each column of a slice, and rows back.

use super::tables::column_type;
use crate::session::Session;
use burnlog_log::{Error, ErrorKind, Result};
use burnlog_projections::{Column, ColumnKind, Name, Table, Value, Values};
use std::borrow::Cow;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

/// The values of one column of a slice.
pub(super) enum Array<'v> {
    Integers(Vec<Option<i64>>),
    Flags(Vec<Option<bool>>),
    Texts(Vec<Option<&'v str>>),
    Blobs(Vec<Option<&'v [u8]>>),
}

impl<'v> Array<'v> {
    fn new(kind: ColumnKind, rows: usize) -> Self {
        match kind {
            ColumnKind::Integer | ColumnKind::Instant => Self::Integers(Vec::with_capacity(rows)),
            ColumnKind::Flag => Self::Flags(Vec::with_capacity(rows)),
            ColumnKind::Text | ColumnKind::Name => Self::Texts(Vec::with_capacity(rows)),
            ColumnKind::Blob | ColumnKind::Address => Self::Blobs(Vec::with_capacity(rows)),
        }
    }

    /// Appends a value; returns whether it is of the column's kind.
    fn push(&mut self, value: &'v Value<'_>) -> bool {
        match (self, value) {
            (Self::Integers(list), Value::Integer(number)) => list.push(Some(*number)),
            (Self::Flags(list), Value::Integer(number)) => list.push(Some(*number != 0)),
            (Self::Texts(list), Value::Text(text)) => list.push(Some(text)),
            (Self::Texts(list), Value::Name(name)) => list.push(Some(name)),
            (Self::Blobs(list), Value::Blob(bytes)) => list.push(Some(bytes)),
            (Self::Integers(list), Value::Null) => list.push(None),
            (Self::Flags(list), Value::Null) => list.push(None),
            (Self::Texts(list), Value::Null) => list.push(None),
            (Self::Blobs(list), Value::Null) => list.push(None),
            _ => return false,
        }
        true
    }

    /// Returns the array as a parameter.
    pub(super) fn parameter(&self) -> (&(dyn ToSql + Sync), Type) {
        match self {
            Self::Integers(list) => (list, Type::INT8_ARRAY),
            Self::Flags(list) => (list, Type::BOOL_ARRAY),
            Self::Texts(list) => (list, Type::TEXT_ARRAY),
            Self::Blobs(list) => (list, Type::BYTEA_ARRAY),
        }
    }
}

/// Makes the arrays of a slice: of whole rows, or of keys alone. `Invalid` for a value that is not of its column's kind.
pub(super) fn arrays<'v>(
    table: &'static Table,
    columns: &[Column],
    values: &'v [Value<'_>],
) -> Result<Vec<Array<'v>>> {
    let rows = values.len() / columns.len();
    let mut arrays: Vec<Array<'v>> = columns.iter().map(|column| Array::new(column.kind, rows)).collect();
    for row in values.chunks_exact(columns.len()) {
        for ((array, value), column) in arrays.iter_mut().zip(row).zip(columns) {
            if !array.push(value) {
                let message = format!("{} is no {}: {value:?}", column.name, column_type(column.kind));
                return Err(Error::new(ErrorKind::Invalid, "write projection rows", message).at(table.name));
            }
        }
    }
    Ok(arrays)
}

/// One value as a parameter.
pub(super) fn parameter<'v>(value: &'v Value<'v>) -> (Box<dyn ToSql + Sync + 'v>, Type) {
    match value {
        Value::Null => (Box::new(None::<i64>), Type::INT8),
        Value::Integer(number) => (Box::new(*number), Type::INT8),
        Value::Text(text) => (Box::new(&**text), Type::TEXT),
        Value::Name(name) => (Box::new(&**name), Type::TEXT),
        Value::Blob(bytes) => (Box::new(&**bytes), Type::BYTEA),
    }
}

/// Takes the values of a row that begins with the columns of a table.
pub(super) fn row_values(session: &Session<'_>, row: &Row, table: &Table) -> Result<Values> {
    take(session, row, table.columns, table.key)
}

/// Takes the values of a row that is a key.
pub(super) fn key_values(session: &Session<'_>, row: &Row, table: &Table) -> Result<Values> {
    take(session, row, table.key_columns(), table.key)
}

/// Whether two keys are one.
pub(super) fn same(one: &[Value<'_>], two: &[Value<'_>]) -> bool {
    one.len() == two.len()
        && one.iter().zip(two).all(|(one, two)| match (text(one), text(two)) {
            (Some(one), Some(two)) => one == two,
            _ => one == two,
        })
}

fn text<'v>(value: &'v Value<'_>) -> Option<&'v str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Name(name) => Some(name),
        _ => None,
    }
}

/// Takes values; a name of the key, of which there are many, comes as a text.
fn take(session: &Session<'_>, row: &Row, columns: &[Column], key: usize) -> Result<Values> {
    let value = |(at, column): (usize, &Column)| {
        Ok(match column.kind {
            ColumnKind::Integer | ColumnKind::Instant => {
                session.get::<Option<i64>>(row, at)?.map_or(Value::Null, Value::Integer)
            }
            ColumnKind::Flag => session
                .get::<Option<bool>>(row, at)?
                .map_or(Value::Null, |flag| Value::Integer(i64::from(flag))),
            ColumnKind::Name if at >= key => session
                .get::<Option<&str>>(row, at)?
                .map_or(Value::Null, |text| Value::Name(Name::from(text))),
            ColumnKind::Text | ColumnKind::Name => session
                .get::<Option<String>>(row, at)?
                .map_or(Value::Null, |text| Value::Text(Cow::Owned(text))),
            ColumnKind::Blob | ColumnKind::Address => session
                .get::<Option<Vec<u8>>>(row, at)?
                .map_or(Value::Null, |bytes| Value::Blob(Cow::Owned(bytes))),
        })
    };
    columns.iter().enumerate().map(value).collect()
}
