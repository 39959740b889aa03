//! What goes wrong in redb, told in the kinds of this project. The only place that knows redb's error types.

use burnlog_log::{Error, ErrorKind};
use std::io;

/// Makes an error of a failed operation on the file at `place`.
pub(crate) fn fault(operation: &'static str, place: &str, error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let (kind, message) = explain(&error);
    Error::new(kind, operation, message).at(place).caused_by(error)
}

/// Why something inside a transaction did not work; becomes an [`Error`] where operation and place are known.
#[derive(Debug)]
pub(crate) enum Fail {
    /// redb said so.
    Redb(Box<redb::Error>),
    /// A row does not decode or does not fit another.
    Damaged(String),
    /// The call was refused, and nothing was written.
    Refused(Error),
}

impl Fail {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }

    /// Makes the error for the caller.
    pub(crate) fn told(self, operation: &'static str, place: &str) -> Error {
        match self {
            Self::Redb(error) => fault(operation, place, *error),
            Self::Damaged(what) => {
                let message = format!("{what}; run verify to see what else is damaged");
                Error::new(ErrorKind::Corrupt, operation, message).at(place)
            }
            Self::Refused(error) => error,
        }
    }
}

impl From<Error> for Fail {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

/// Calls `work` and takes a panic for damage: redb reads what a file says without checking all of it, and may
/// panic where somebody else has written into the file.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Fail>) -> Result<T, Fail> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied().map(str::to_owned);
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(Fail::Damaged(format!("redb gave up on the pages of the file ({text})")))
    })
}

macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for Fail {
            fn from(error: $error) -> Self {
                Self::Redb(Box::new(error.into()))
            }
        })*
    };
}

from_redb!(
    redb::Error,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::CompactionError,
    redb::SetDurabilityError
);

fn explain(error: &redb::Error) -> (ErrorKind, String) {
    use redb::Error as Redb;
    let (kind, message) = match error {
        Redb::DatabaseAlreadyOpen => (
            ErrorKind::InUse,
            "another process has this ledger open for writing: wait until it is done, or open it read-only",
        ),
        Redb::LockProtocolMismatch => (
            ErrorKind::InUse,
            "a process with another version of burnlog has this ledger open: wait until it is done",
        ),
        Redb::TransactionInProgress => {
            (ErrorKind::InUse, "another process is reading this ledger: try again when it is done")
        }
        Redb::RepairAborted => (
            ErrorKind::Unavailable,
            "the last writer did not close this ledger, and a read-only open must not recover it: open it once for writing",
        ),
        Redb::UpgradeRequired(_) => {
            (ErrorKind::Unsupported, "the file has another format of redb than this program reads")
        }
        Redb::Unsupported => (
            ErrorKind::Unsupported,
            "the file system has no byte-range locks: keep the ledger on another one, or use a file: ledger",
        ),
        Redb::Corrupted(_) | Redb::TableTypeMismatch { .. } | Redb::TypeDefinitionChanged { .. } => (
            ErrorKind::Corrupt,
            "the pages of the file are damaged: stop, keep a copy, run verify, restore or replay from another ledger",
        ),
        Redb::TableDoesNotExist(_) | Redb::TableIsMultimap(_) | Redb::TableIsNotMultimap(_) => {
            (ErrorKind::Corrupt, "a table of the ledger is not there")
        }
        Redb::Io(error) => return explain_io(error),
        Redb::PreviousIo | Redb::DatabaseClosed | Redb::LockPoisoned(_) => {
            (ErrorKind::Unavailable, "an earlier write failed; the file is opened anew at the next call")
        }
        Redb::ValueTooLarge(_) => (ErrorKind::Invalid, "the value is too large for redb"),
        _ => (ErrorKind::Unavailable, "redb could not do it"),
    };
    (kind, message.to_owned())
}

fn explain_io(error: &io::Error) -> (ErrorKind, String) {
    use io::ErrorKind as Io;
    let (kind, message) = match error.kind() {
        Io::NotFound => (ErrorKind::NotFound, "there is no such file or folder"),
        Io::PermissionDenied => (ErrorKind::Denied, "the file's permissions do not allow this"),
        Io::ReadOnlyFilesystem => {
            (ErrorKind::Denied, "the file system is read-only: open the ledger read-only")
        }
        Io::IsADirectory | Io::NotADirectory => {
            (ErrorKind::Invalid, "a folder stands where a file is expected")
        }
        // What redb says of a file that does not begin like one of its own.
        Io::InvalidData => {
            (ErrorKind::Invalid, "this is not a redb file, or its first bytes were overwritten")
        }
        Io::StorageFull | Io::QuotaExceeded => {
            (ErrorKind::Unavailable, "no space is left for the ledger: make room and try again")
        }
        _ => (ErrorKind::Unavailable, "the file could not be read or written"),
    };
    (kind, message.to_owned())
}
