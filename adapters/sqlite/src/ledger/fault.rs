//! What can go wrong inside, and what a caller is told. Driver types end here.

use burnlog_log::{Error, ErrorKind};
use rusqlite::ffi::ErrorCode;

/// A failure inside the ledger.
#[derive(Debug)]
pub(crate) enum Fail {
    /// SQLite could not do it.
    Sqlite(rusqlite::Error),
    /// What is stored contradicts itself; says what.
    Damaged(String),
    /// An answer that is ready for the caller.
    Refused(Error),
}

impl From<rusqlite::Error> for Fail {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl Fail {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    /// Makes the error for the caller.
    pub(crate) fn located(self, operation: &'static str, place: &str) -> Error {
        match self {
            Self::Refused(error) => error,
            Self::Damaged(what) => {
                let message = format!("{what}: stop, keep a copy, run verify");
                Error::new(ErrorKind::Corrupt, operation, message).at(place)
            }
            Self::Sqlite(error) => {
                let (kind, message) = explain(&error);
                Error::new(kind, operation, message).at(place).caused_by(error)
            }
        }
    }

    /// Whether the connection may be at odds with the file after this, and is better made anew.
    pub(crate) fn is_of_disk(&self) -> bool {
        matches!(self, Self::Sqlite(error) if matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::SystemIoFailure | ErrorCode::DiskFull | ErrorCode::DatabaseCorrupt)
        ))
    }
}

/// The text of damage, or the failure where it is something else.
pub(crate) fn damage_of(fail: Fail) -> Result<String, Fail> {
    match fail {
        Fail::Damaged(what) => Ok(what),
        Fail::Sqlite(error) if explain(&error).0 == ErrorKind::Corrupt => Ok(error.to_string()),
        other => Err(other),
    }
}

fn explain(error: &rusqlite::Error) -> (ErrorKind, &'static str) {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => (
            ErrorKind::Corrupt,
            "the pages of the file are damaged: stop, keep a copy, run verify, restore or replay from another ledger",
        ),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => (
            ErrorKind::InUse,
            "another process has been writing to this file all the while: try again when it is done",
        ),
        Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            (ErrorKind::Denied, "the file or its folder cannot be written: check owner, mode and mount")
        }
        Some(ErrorCode::CannotOpen) => (
            ErrorKind::Denied,
            "the file, or one beside it, cannot be opened or made: check that the folder is there and may be written",
        ),
        Some(ErrorCode::DiskFull) => {
            (ErrorKind::Unavailable, "no space is left for the ledger: make room and try again")
        }
        Some(ErrorCode::SystemIoFailure | ErrorCode::OutOfMemory | ErrorCode::FileLockingProtocolFailed) => {
            (ErrorKind::Unavailable, "the file could not be read or written")
        }
        Some(ErrorCode::TooBig) => (ErrorKind::Invalid, "the value is too large for SQLite"),
        // Columns of another type, missing tables and rows: nothing that this program wrote.
        _ => (ErrorKind::Corrupt, "a table of the ledger does not hold what it should: run verify"),
    }
}
