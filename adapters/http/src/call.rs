//! A request and an answer before any transport, and what the client makes of an answer. No sockets, no clock: a test
//! can deliver, lose, repeat and cut what goes between the two halves.

use crate::frame::{FrameKind, MESSAGE_BYTES_MAX, frame, unframe};
use crate::refusal::Refusal;
use crate::routes::{Operation, PROTOCOL, Route};
use burnlog_log::{Error, ErrorKind, LedgerId, Result};
use bytes::Bytes;

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// What is asked.
    pub operation: Operation,
    /// The writer in the path, where the route has one.
    pub writer: Option<String>,
    /// The query, decoded.
    pub parameters: Vec<(String, String)>,
    /// The body as it is sent.
    pub body: Vec<u8>,
    /// The ledger that must answer, once its id is known.
    pub ledger: Option<LedgerId>,
}

impl Call {
    /// Makes a request without a body.
    pub fn new(operation: Operation) -> Self {
        Self { operation, writer: None, parameters: Vec::new(), body: Vec::new(), ledger: None }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &dyn ToString) -> Self {
        self.parameters.push((name.to_owned(), value.to_string()));
        self
    }

    /// Sets the body to the frame of a message.
    #[must_use]
    pub fn framed(mut self, kind: FrameKind, message: &[u8]) -> Self {
        self.body = frame(kind, message);
        self
    }

    /// Returns the route.
    pub fn route(&self) -> &'static Route {
        self.operation.route()
    }

    /// Returns path and query for a ledger of this name.
    pub fn path(&self, ledger: &str) -> String {
        let writer = self.writer.as_deref().unwrap_or_default();
        let mut path = self.route().path.replace("{ledger}", ledger).replace("{writer}", &escaped(writer));
        for (index, (name, value)) in self.parameters.iter().enumerate() {
            path.push(if index == 0 { '?' } else { '&' });
            path.extend([&escaped(name), "=", &escaped(value)]);
        }
        path
    }
}

/// Percent-encodes what has a meaning in a path or query.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' | b'-' | b'_' | b'.' | b'~' | b':' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// An answer, as far as this protocol is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The header that names the protocol.
    pub protocol: Option<String>,
    /// The header that names the ledger.
    pub ledger: Option<String>,
    /// The header that names the scopes of whoever asked.
    pub scopes: Option<String>,
    /// After how many seconds a retry makes sense.
    pub retry_after: Option<u64>,
    /// The body.
    pub body: Vec<u8>,
}

/// A request that got no answer.
#[derive(Debug)]
pub struct Broken {
    /// Why.
    pub why: BrokenBy,
    /// A sentence for a person.
    pub message: String,
}

/// Why a request got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenBy {
    /// The server could not be reached, or the connection ended: what became of the request is unknown.
    Link,
    /// The two do not trust each other: nothing was sent.
    Tls,
}

impl Broken {
    /// Makes the error for `operation` at `place`.
    pub fn into_error(self, operation: &'static str, place: &str) -> Error {
        let kind = match self.why {
            BrokenBy::Link => ErrorKind::Unavailable,
            BrokenBy::Tls => ErrorKind::Denied,
        };
        Error::new(kind, operation, self.message).at(place)
    }
}

/// Carries requests. Knows the server and the token; every call is one attempt.
pub trait Transport: Send + Sync {
    /// Sends a request and returns the answer, whatever its status.
    fn send(&self, call: &Call) -> std::result::Result<Answer, Broken>;
}

impl Answer {
    /// Takes the answer to `call` apart: the body of a success, else the error that it tells of.
    ///
    /// `Invalid` when what answered is no burnlog server or keeps another ledger than `call` names, `Unsupported` for
    /// another protocol, `Unavailable` for what something between says, and whatever the server says.
    pub fn accept(self, operation: &'static str, place: &str, call: &Call) -> Result<(LedgerId, Vec<u8>)> {
        let error = |kind, message: String| Err(Error::new(kind, operation, message).at(place));
        match self.protocol.as_deref() {
            Some(PROTOCOL) => {}
            Some(other) => {
                let newer = other.parse::<u64>().ok() > PROTOCOL.parse().ok();
                let older_side = if newer { "this program" } else { "the server" };
                let message = format!(
                    "the server speaks protocol {other:?}, this program {PROTOCOL}; upgrade {older_side}"
                );
                return error(ErrorKind::Unsupported, message);
            }
            None => return error(self.foreign_kind(), self.foreign_message()),
        }
        let ledger = self.ledger.as_deref().and_then(|text| LedgerId::parse(text.as_bytes()));
        if !(200..300).contains(&self.status) {
            if let Some(refusal) = Refusal::of_json(&self.body) {
                return Err(refusal.into_error(operation, place));
            }
            return error(
                ErrorKind::Unavailable,
                format!("the server answered {} without a reason", self.status),
            );
        }
        let Some(ledger) = ledger else {
            return error(ErrorKind::Unavailable, "the server did not say which ledger answered".to_owned());
        };
        if call.ledger.is_some_and(|expected| expected != ledger) {
            return Err(other_ledger(operation, ledger).at(place));
        }
        Ok((ledger, self.body))
    }

    /// What an answer without our header means: a gateway that has no server behind it, or something else entirely.
    fn foreign_kind(&self) -> ErrorKind {
        match self.status {
            401 | 403 | 407 => ErrorKind::Denied,
            408 | 429 | 500..=599 => ErrorKind::Unavailable,
            _ => ErrorKind::Invalid,
        }
    }

    fn foreign_message(&self) -> String {
        let status = self.status;
        match self.foreign_kind() {
            ErrorKind::Denied => {
                format!(
                    "something before the server answered {status}; what guards it must let this program through"
                )
            }
            ErrorKind::Unavailable => {
                format!("something before the server answered {status}; try again later")
            }
            _ => format!("what answered ({status}) is not a burnlog server; check the URL"),
        }
    }
}

/// The error for a ledger that was made anew where another one was.
pub fn other_ledger(operation: &'static str, found: LedgerId) -> Error {
    let message =
        format!("another ledger is there now, with the id {found}: it was made anew; run the command again");
    Error::new(ErrorKind::Invalid, operation, message)
}

/// Unpacks the frame of an answer. A frame that is cut or garbled on the way is `Unavailable`: asking again helps.
pub fn unpack<T>(
    kind: FrameKind,
    body: &[u8],
    operation: &'static str,
    place: &str,
    decode: impl FnOnce(Bytes) -> Result<T>,
) -> Result<T> {
    unframe(kind, 4 * MESSAGE_BYTES_MAX, body).and_then(decode).map_err(|error| match error.kind() {
        ErrorKind::Invalid => {
            let message = "the answer came garbled";
            Error::new(ErrorKind::Unavailable, operation, message).at(place).caused_by(error)
        }
        _ => error,
    })
}
