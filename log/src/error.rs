//! The one error type of this crate. The kind tells the caller what to do next; the rest tells a person
//! where and why. Knows nothing of any driver: adapters box their own errors as the source.

use std::error::Error as StdError;
use std::fmt;

/// A `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller can do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// What was asked for is not there: create it, or ask for something else.
    NotFound,
    /// The feed is not at the expected size: read its head again and decide anew.
    Conflict,
    /// The feed has another root at the expected size: stop and show both heads.
    Forked,
    /// Stored bytes are damaged: stop, run `verify`.
    Corrupt,
    /// The store did not answer: retry later. The outcome of a write is unknown.
    Unavailable,
    /// Entries name events that are neither in the batch nor in the ledger: send these events.
    Missing,
    /// The credentials do not allow this: fix them.
    Denied,
    /// The call itself is wrong: fix it.
    Invalid,
    /// Another process holds the store: wait, or end that process.
    InUse,
    /// The store or record is of a newer version: upgrade burnlog.
    Unsupported,
}

impl ErrorKind {
    /// Returns the stable name that JSON output uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotFound => "NotFound",
            Self::Conflict => "Conflict",
            Self::Forked => "Forked",
            Self::Corrupt => "Corrupt",
            Self::Unavailable => "Unavailable",
            Self::Missing => "Missing",
            Self::Denied => "Denied",
            Self::Invalid => "Invalid",
            Self::InUse => "InUse",
            Self::Unsupported => "Unsupported",
        }
    }
}

/// An error: its kind, the operation that failed, the place, and a sentence for a person.
#[derive(Debug)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    location: String,
    message: String,
    missing: Vec<crate::Address>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    /// Makes an error of `kind` for `operation` (a verb in the infinitive: `append`, `open segment`).
    pub fn new(kind: ErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                operation,
                location: String::new(),
                message: message.into(),
                missing: Vec::new(),
                source: None,
            }),
        }
    }

    /// Makes the error for entries whose events nobody has.
    pub fn missing(operation: &'static str, addresses: Vec<crate::Address>) -> Self {
        let mut error = Self::new(
            ErrorKind::Missing,
            operation,
            format!("{} entries name events that are not in the ledger", addresses.len()),
        );
        error.inner.missing = addresses;
        error
    }

    /// Adds where it happened: a path with an offset, a URL without secrets, a feed with an index.
    #[must_use]
    pub fn at(mut self, location: impl fmt::Display) -> Self {
        self.inner.location = location.to_string();
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner.source = Some(source.into());
        self
    }

    /// Returns what kind of error this is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// Returns the operation that failed.
    pub fn operation(&self) -> &'static str {
        self.inner.operation
    }

    /// Returns the place, or an empty string where there is none.
    pub fn location(&self) -> &str {
        &self.inner.location
    }

    /// Returns the sentence without operation and place.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// Returns the addresses of a [`ErrorKind::Missing`] error, in the order of the entries.
    pub fn missing_addresses(&self) -> &[crate::Address] {
        &self.inner.missing
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { operation, location, message, source, .. } = &*self.inner;
        write!(f, "{operation}: {message}")?;
        if !location.is_empty() {
            write!(f, " ({location})")?;
        }
        if let Some(source) = source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.source.as_deref().map(|s| s as &(dyn StdError + 'static))
    }
}
