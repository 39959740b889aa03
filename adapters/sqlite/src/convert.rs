//! Values and errors on their way between SQLite and the seam. Driver types end here.

use burnlog_log::{Error, ErrorKind, Result};
use burnlog_projections::Value;
use rusqlite::types::{ToSqlOutput, ValueRef};
use std::borrow::Cow;

/// A value as SQLite binds it, without copying.
pub(crate) struct Bound<'a>(pub(crate) &'a Value<'a>);

impl rusqlite::ToSql for Bound<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Value::Null => ValueRef::Null,
            Value::Integer(number) => ValueRef::Integer(*number),
            Value::Text(text) => ValueRef::Text(text.as_bytes()),
            Value::Name(name) => ValueRef::Text(name.as_bytes()),
            Value::Blob(bytes) => ValueRef::Blob(bytes),
        }))
    }
}

/// Takes a value that SQLite hands out. A double is of no column of ours; text that is not UTF-8 neither.
pub(crate) fn value_of(value: ValueRef<'_>) -> Value<'static> {
    match value {
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => Value::Text(Cow::Owned(text.to_owned())),
            Err(_) => Value::Null,
        },
        ValueRef::Blob(bytes) => Value::Blob(Cow::Owned(bytes.to_vec())),
        ValueRef::Null | ValueRef::Real(_) => Value::Null,
    }
}

/// Makes an error of SQLite one that tells the caller what to do.
pub(crate) fn failed(operation: &'static str, place: &str, error: rusqlite::Error) -> Error {
    use rusqlite::ffi::ErrorCode;
    let code = error.sqlite_error_code();
    let is_about_tables = error.to_string().contains("no such table");
    let (kind, message) = match code {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            ErrorKind::Corrupt,
            "the file is damaged or no database; if no ledger is in it (sqlite:), delete it and run project rebuild: the ledger has all that was in it",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            (ErrorKind::InUse, "another process is writing the projections")
        }
        Some(
            ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied,
        ) => (ErrorKind::Denied, "the file or its folder cannot be written; check owner, mode and mount"),
        Some(ErrorCode::CannotOpen) => (
            ErrorKind::Denied,
            "the file, or one beside it, cannot be opened or made; check that the folder is there and may be written",
        ),
        Some(ErrorCode::DiskFull) => (ErrorKind::Unavailable, "the disk is full; free space and try again"),
        Some(ErrorCode::SystemIoFailure) => {
            (ErrorKind::Unavailable, "reading or writing the file failed; check the disk and try again")
        }
        _ if is_about_tables => {
            (ErrorKind::Conflict, "the tables were replaced meanwhile; read the state of the store again")
        }
        _ => (ErrorKind::Corrupt, "SQLite refused what should be fine; run project rebuild"),
    };
    Error::new(kind, operation, message).at(place).caused_by(error)
}

/// Names operation and place of a failed call.
pub(crate) trait Located<T> {
    fn located(self, operation: &'static str, place: &str) -> Result<T>;
}

impl<T> Located<T> for rusqlite::Result<T> {
    fn located(self, operation: &'static str, place: &str) -> Result<T> {
        self.map_err(|error| failed(operation, place, error))
    }
}
