//! Errors over the wire: a status that any program understands and a JSON object that says the rest.

use burnlog_log::{Address, BatchHead, Error, ErrorKind, WriterId};

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

/// Returns the place of an error as far as a client knows places.
fn known_place(location: &str) -> Option<&str> {
    let place = location.split(',').next().unwrap_or_default();
    let first = place.split(' ').next().unwrap_or_default();
    let is_known = first.parse::<WriterId>().is_ok() || first.parse::<Address>().is_ok() || first == "entry";
    is_known.then_some(place)
}

/// Returns a sentence without paths and hosts of the server. Of what was asked for wrongly the cause is told as well.
fn reason(error: &Error) -> String {
    let is_asked = !is_of_store(error);
    let message = match std::error::Error::source(error) {
        Some(source) if is_asked && error.kind() == ErrorKind::Invalid => {
            format!("{}: {source}", error.message())
        }
        _ => error.message().to_owned(),
    };
    let names_place = message.replace("/v1/", "").contains('/');
    if is_asked && error.kind() == ErrorKind::Invalid || !names_place {
        return if may_be_mistaken(error) {
            format!("the store behind the server: {message}")
        } else {
            message
        };
    }
    let reason = match error.kind() {
        ErrorKind::Corrupt => "the store behind the server is damaged",
        ErrorKind::Denied => "the server itself is denied the store behind it",
        ErrorKind::InUse => "another program holds the store behind the server",
        ErrorKind::NotFound => "something is missing in the store behind the server",
        ErrorKind::Unavailable => "the store behind the server does not answer",
        ErrorKind::Unsupported => "the store behind the server is of a newer program",
        _ => "the store behind the server refuses",
    };
    format!("{reason}; the server's log says more")
}

/// Whether a client would take what the store behind the server says for something about itself: its token, its URL.
fn may_be_mistaken(error: &Error) -> bool {
    is_of_store(error) && matches!(error.kind(), ErrorKind::Denied | ErrorKind::NotFound)
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

/// Whether an error is about a place that is the server's alone: its log has to keep what the answer leaves out.
pub fn is_of_store(error: &Error) -> bool {
    !error.location().is_empty() && known_place(error.location()).is_none()
}

impl Refusal {
    /// Makes the body for an error. Places that the client knows are told (feeds, addresses, entries); where the store behind
    /// the server is, and what it says of that, is for the server's log.
    pub fn of(error: &Error) -> Self {
        let error = Refused {
            kind: error.kind().name().to_owned(),
            operation: error.operation().to_owned(),
            location: known_place(error.location()).unwrap_or_default().to_owned(),
            message: reason(error),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: &Error) -> (String, String) {
        let Refused { location, message, .. } = Refusal::of(error).error;
        (location, message)
    }

    #[test]
    fn where_the_store_is_stays_with_the_server() {
        let feed = WriterId([7; 32]);
        let secret = [
            Error::new(ErrorKind::Unavailable, "append", "no connection")
                .at("postgres://user@host:5432/base")
                .caused_by("connect to host as user"),
            Error::new(ErrorKind::Corrupt, "read", "bad line in /user/segments/a")
                .at("/user/segments/a at 7"),
            Error::new(ErrorKind::InUse, "open", "pid 7 holds it").at("file:/user/ledger").caused_by("user"),
            Error::new(ErrorKind::NotFound, "open", "the folder /user is not there").at(feed),
            Error::new(ErrorKind::Corrupt, "read", "no such size")
                .at(format!("{feed} at 7, ledger file:/user")),
        ];
        for error in &secret {
            let (location, message) = told(error);
            assert!(!format!("{location} {message}").contains("user"), "{location} {message}");
            assert!(!message.is_empty());
        }
        assert_eq!(told(&secret[0]).1, "no connection");
        assert_eq!(told(&secret[4]).0, format!("{feed} at 7"));
    }

    #[test]
    fn what_the_store_denies_or_lacks_is_not_taken_for_the_clients_token_or_url() {
        let kinds =
            [(ErrorKind::Denied, "is denied the store"), (ErrorKind::NotFound, "something is missing")];
        for (kind, said) in kinds {
            let error = Error::new(kind, "append", "check /user").at("/user/segments/a");
            let message = told(&error).1;
            assert!(message.contains(said) && message.contains("behind"), "{message}");
            let error = Error::new(kind, "append", "check the owner").at("/user/segments/a");
            let refused = Refusal::of(&error);
            assert_eq!(refused.error.message, "the store behind the server: check the owner");
            let again = refused.into_error("append", "http://server");
            assert_eq!((again.kind(), again.location()), (kind, "http://server"));
            // What the server itself says of a token or of what was asked for stays as it is.
            let own = Error::new(kind, "authorize", "this token has not the scope append");
            assert_eq!(told(&own).1, own.message());
            let asked = Error::new(kind, "get", "no such event").at(Address([7; 32]));
            assert_eq!(told(&asked).1, asked.message());
        }
    }

    #[test]
    fn what_was_asked_for_wrongly_is_told_with_its_cause() {
        let error = Error::new(ErrorKind::Invalid, "read frame", "no zstd").caused_by("magic");
        assert_eq!(told(&error), (String::new(), "no zstd: magic".to_owned()));
        let error =
            Error::new(ErrorKind::Invalid, "read arguments", "since \"1/2\" is no day; see /v1/openapi.json");
        assert_eq!(told(&error).1, error.message());
        let error = Error::new(ErrorKind::Invalid, "append", "no").at("entry 3 of the batch");
        assert_eq!(told(&error).0, "entry 3 of the batch");
    }
}
