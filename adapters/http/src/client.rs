//! The client's half: a [`Backend`] whose every method is one request.
//!
//! An append is sent once: whether to send it again is decided above, where the head can be asked. What only asks is
//! asked again a bounded number of times.

use crate::call::{Answer, Call, Transport, unpack};
use crate::frame::FrameKind;
use crate::messages;
use crate::rights::{Rights, Scope};
use crate::routes::Operation;
use crate::sent::encode_append;
use burnlog_log::{
    Address, Ahead, Append, Backend, BatchHead, Body, Compacted, Damage, Error, ErrorKind, FeedsPage, Found,
    LedgerId, Limit, Location, Page, Result, Stat, Token, WriterId, push_hex,
};
use bytes::Bytes;
use std::sync::Arc;

/// How what only asks is asked again.
#[derive(Clone)]
pub struct Retries {
    /// How often at most, the first time included.
    pub attempts: u32,
    /// Called before retry 1, 2, …, with the seconds that the server asked for, if it did: the place for a sleep.
    pub pause: Arc<dyn Fn(u32, Option<u64>) + Send + Sync>,
}

impl std::fmt::Debug for Retries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Retries({})", self.attempts)
    }
}

/// A ledger on a server: whom to ask, and which ledger must answer.
pub struct Link {
    transport: Box<dyn Transport>,
    /// The URL of the ledger, without secrets.
    url: String,
    id: LedgerId,
    rights: Rights,
    retries: Retries,
}

impl Link {
    /// Asks the server which ledger it has there.
    pub fn open(transport: Box<dyn Transport>, url: String, retries: Retries) -> Result<Self> {
        let mut link = Self { transport, url, id: LedgerId([0; 16]), rights: Rights::default(), retries };
        let (operation, call) = ("open ledger", Call::new(Operation::Stat));
        (link.id, link.rights) = link.attempt(operation, &call, |answer| {
            let rights = answer.scopes.as_deref().map_or(Rights::ALL, Rights::parse);
            let (id, _) = answer.accept(operation, &link.url, &call)?;
            Ok((id, rights))
        })?;
        Ok(link)
    }

    /// Returns what this client might do when the link was opened; a server that does not tell may refuse all the same.
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// `Denied`, with the scope to ask for, where this client has it not.
    pub fn require(&self, operation: &'static str, scope: Scope) -> Result<()> {
        if self.rights.allow(scope) {
            return Ok(());
        }
        let (scope, has) = (scope.name(), self.rights.text());
        let message = format!("this takes a token with the scope {scope}; this one has {has}");
        Err(Error::new(ErrorKind::Denied, operation, message).at(&self.url))
    }

    /// Returns the URL of the ledger, without secrets.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the id of the ledger.
    pub fn id(&self) -> LedgerId {
        self.id
    }

    /// Sends a request and returns the body of the answer.
    pub fn ask(&self, operation: &'static str, mut call: Call) -> Result<Vec<u8>> {
        call.ledger = Some(self.id);
        let accept = |answer: Answer| answer.accept(operation, &self.url, &call);
        self.attempt(operation, &call, accept).map(|(_, body)| body)
    }

    /// Sends a request and decodes the message of the answer; what came garbled is asked again like what did not come.
    pub fn ask_for<T>(
        &self,
        operation: &'static str,
        kind: FrameKind,
        mut call: Call,
        decode: impl Fn(Bytes) -> Result<T>,
    ) -> Result<T> {
        call.ledger = Some(self.id);
        self.attempt(operation, &call, |answer| {
            let (_, body) = answer.accept(operation, &self.url, &call)?;
            unpack(kind, &body, operation, &self.url, &decode)
        })
    }

    fn attempt<T>(
        &self,
        operation: &'static str,
        call: &Call,
        accept: impl Fn(Answer) -> Result<T>,
    ) -> Result<T> {
        let attempts = if call.route().repeatable { self.retries.attempts } else { 1 };
        let mut attempt = 1;
        loop {
            let (result, wait) = match self.transport.send(call) {
                Ok(answer) => {
                    let wait = answer.retry_after;
                    (accept(answer), wait)
                }
                Err(broken) => (Err(broken.into_error(operation, &self.url)), None),
            };
            match result {
                Err(error) if error.kind() == ErrorKind::Unavailable && attempt < attempts => {
                    (self.retries.pause)(attempt, wait);
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Link({})", self.url)
    }
}

/// A ledger behind a server.
#[derive(Debug, Clone)]
pub struct HttpBackend {
    link: Arc<Link>,
}

impl HttpBackend {
    /// Takes an opened link.
    pub fn new(link: Arc<Link>) -> Self {
        Self { link }
    }
}

impl Backend for HttpBackend {
    fn location(&self) -> Location {
        Location { url: self.link.url().to_owned(), backend: "http", id: self.link.id() }
    }

    fn stat(&self) -> Result<Stat> {
        self.link.ask_for("stat", FrameKind::Stat, Call::new(Operation::Stat), messages::decode_stat)
    }

    fn feeds(
        &self,
        after: Option<&WriterId>,
        changed_since: Option<&Token>,
        limit: usize,
    ) -> Result<FeedsPage> {
        let mut call = Call::new(Operation::Feeds).with("limit", &limit);
        if let Some(after) = after {
            call = call.with("after", &after);
        }
        if let Some(token) = changed_since {
            let mut hex = Vec::with_capacity(2 * token.0.len());
            push_hex(&mut hex, &token.0);
            call = call.with("since", &String::from_utf8(hex).expect("hex is ASCII"));
        }
        self.link.ask_for("list feeds", FrameKind::Feeds, call, messages::decode_feeds)
    }

    fn append(&self, append: &Append<'_>) -> Result<()> {
        self.encoded(append).and_then(|encoded| self.send(encoded))
    }

    fn ahead(&self, append: &Append<'_>) -> Result<Option<Ahead>> {
        self.encoded(append).map(Ahead::new).map(Some)
    }

    fn append_ahead(&self, append: &Append<'_>, ahead: Ahead) -> Result<()> {
        match ahead.take::<Encoded>() {
            Some(encoded) if encoded.head == *append.head => self.send(encoded),
            _ => self.append(append),
        }
    }

    fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        let mut call = Call::new(Operation::Entries)
            .with("from", &from)
            .with("entries", &limit.entries)
            .with("bytes", &limit.bytes);
        call.writer = Some(feed.to_string());
        self.link.ask_for("read feed", FrameKind::Entries, call, messages::decode_entries)
    }

    fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        let call =
            Call::new(Operation::Find).framed(FrameKind::Find, &messages::encode_find(feed, addresses));
        let found: Vec<Found> = self.link.ask_for("find", FrameKind::Found, call, messages::decode_found)?;
        self.expect(found.len() == addresses.len(), "find", "one answer for each address")?;
        Ok(found)
    }

    fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>> {
        let call = Call::new(Operation::Get).framed(FrameKind::Get, &messages::encode_get(addresses, limit));
        let bodies: Vec<Option<Body>> =
            self.link.ask_for("get events", FrameKind::Bodies, call, messages::decode_bodies)?;
        let fits = bodies.len() <= addresses.len() && (addresses.is_empty() || !bodies.is_empty());
        self.expect(fits, "get events", "a prefix of the events")?;
        Ok(bodies)
    }

    fn erase(&self, addresses: &[Address]) -> Result<()> {
        let call = Call::new(Operation::Erase).framed(FrameKind::Erase, &messages::encode_erase(addresses));
        self.link.ask("erase", call).map(drop)
    }

    fn compact(&self) -> Result<Compacted> {
        let call = Call::new(Operation::Compact);
        self.link.ask_for("compact", FrameKind::Compacted, call, messages::decode_compacted)
    }

    fn check(&self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        let call = Call::new(Operation::Check);
        let damages = self.link.ask_for("check", FrameKind::Damages, call, messages::decode_damages)?;
        damages.into_iter().for_each(report);
        Ok(())
    }
}

/// An append that was encoded and compressed.
struct Encoded {
    head: BatchHead,
    call: Call,
}

impl HttpBackend {
    fn encoded(&self, append: &Append<'_>) -> Result<Encoded> {
        let message = encode_append(append).map_err(|error| error.at(self.link.url()))?;
        let call = Call::new(Operation::Append).framed(FrameKind::Append, &message);
        Ok(Encoded { head: *append.head, call })
    }

    fn send(&self, encoded: Encoded) -> Result<()> {
        self.link.ask("append", encoded.call).map(drop)
    }

    /// Refuses an answer that is not to the question.
    fn expect(&self, holds: bool, operation: &'static str, what: &str) -> Result<()> {
        if holds {
            return Ok(());
        }
        let message = format!("the server did not answer with {what}");
        Err(Error::new(ErrorKind::Corrupt, operation, message).at(self.link.url()))
    }
}
