//! Errors over the wire: a status that any program understands and a JSON object that says the rest.

use burnlog_log::{Address, BatchHead, Error, ErrorKind};

/// The body of an answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refusal {
    /// What happened.
    pub error: Refused,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refused {
    /// The name of the [`ErrorKind`].
    pub kind: String,
    /// What was being done.
    pub operation: String,
    /// Where; empty where there is no place.
    pub location: String,
    /// A sentence for a person.
    pub message: String,
    /// Of `Missing`: the addresses of the events to send.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<Address>,
    /// Of `Conflict` and `Forked`: the head of the feed as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<BatchHead>,
}

const KINDS: [ErrorKind; 10] = [
    ErrorKind::NotFound,
    ErrorKind::Conflict,
    ErrorKind::Forked,
    ErrorKind::Corrupt,
    ErrorKind::Unavailable,
    ErrorKind::Missing,
    ErrorKind::Denied,
    ErrorKind::Invalid,
    ErrorKind::InUse,
    ErrorKind::Unsupported,
];

/// Returns the status of an error.
pub fn status_of(error: &Error) -> u16 {
    if crate::frame::is_too_long(error) {
        return 413;
    }
    match error.kind() {
        ErrorKind::NotFound => 404,
        ErrorKind::Conflict | ErrorKind::Forked => 409,
        ErrorKind::Missing => 424,
        ErrorKind::Denied => 403,
        ErrorKind::Invalid => 422,
        ErrorKind::Unavailable | ErrorKind::InUse => 503,
        ErrorKind::Unsupported => 501,
        _ => 500,
    }
}

impl Refusal {
    /// Makes the body for an error. The cause is told as text.
    pub fn of(error: &Error) -> Self {
        let message = match std::error::Error::source(error) {
            Some(source) => format!("{}: {source}", error.message()),
            None => error.message().to_owned(),
        };
        let error = Refused {
            kind: error.kind().name().to_owned(),
            operation: error.operation().to_owned(),
            location: error.location().to_owned(),
            message,
            missing: error.missing_addresses().to_vec(),
            head: None,
        };
        Self { error }
    }

    /// Adds the head of the feed.
    #[must_use]
    pub fn with_head(mut self, head: Option<BatchHead>) -> Self {
        self.error.head = head;
        self
    }

    /// Encodes it.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are JSON")
    }

    /// Reads it; `None` when it is something else.
    pub fn of_json(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    /// Makes the error again, of `operation` here and at `place`.
    pub fn into_error(self, operation: &'static str, place: &str) -> Error {
        let Refused { kind, location, message, missing, .. } = self.error;
        let kind = KINDS.into_iter().find(|known| known.name() == kind).unwrap_or(ErrorKind::Corrupt);
        let place = if location.is_empty() { place.to_owned() } else { format!("{place}, {location}") };
        if kind == ErrorKind::Missing {
            return Error::missing(operation, missing).at(place);
        }
        Error::new(kind, operation, message).at(place)
    }
}
