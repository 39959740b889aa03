//! The server's half of the ledger: what a decoded request does to a [`Ledger`], and the answer. No sockets, no tokens:
//! whoever calls has found out which ledger and which rights.
//!
//! Nothing that a client says of an event is taken: addresses, payload hashes, the root and the signature are computed
//! and checked here and by [`Ledger::append_signed`], against the frontier that is stored.

use crate::call::{Answer, other_ledger};
use crate::frame::{FrameKind, frame, too_long};
use crate::messages;
use crate::refusal::{Refusal, status_of};
use crate::rights::{Rights, Scope};
use crate::routes::{Operation, PROTOCOL};
use crate::sent::{CheckedEntry, SentBatch, decode_append, decode_feed};
use burnlog_log::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use burnlog_log::{
    Address, Body, Error, ErrorKind, Frontier, Ledger, LedgerId, Limit, Presence, Result, SignedEntry, Token,
    WriterId, parse_hex,
};
use bytes::Bytes;
use std::collections::HashSet;

/// The most entries and bytes of one page.
pub const PAGE_MAX: Limit = Limit { entries: BATCH_ENTRIES_MAX, bytes: 8 << 20 };
/// The most feeds of one page.
const FEEDS_MAX: usize = 10_000;
/// The most damages that one check reports.
const DAMAGES_MAX: usize = 10_000;
const APPEND: &str = "append";

/// A request, decoded as far as HTTP goes.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What is asked.
    pub operation: Operation,
    /// The writer in the path.
    pub writer: Option<String>,
    /// The query.
    pub parameters: Vec<(String, String)>,
    /// The message of the body's frame; empty without one.
    pub message: Bytes,
    /// The ledger that the client means, where it knows its id.
    pub ledger: Option<LedgerId>,
}

impl Asked {
    /// Returns the first parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str, default: u64) -> Result<u64> {
        let Some(text) = self.parameter(name) else { return Ok(default) };
        text.parse().map_err(|_| invalid(format!("the parameter {name} is not a number: {text:?}")))
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, "read request", message)
}

/// Checks that the client means this ledger and that the rights reach for the operation.
pub fn admit(ledger: &Ledger, rights: Rights, asked: &Asked) -> Result<()> {
    let id = ledger.location().id;
    if asked.ledger.is_some_and(|expected| expected != id) {
        return Err(other_ledger(asked.operation.name(), id));
    }
    let route = asked.operation.route();
    if route.scopes.iter().any(|scope| rights.allow(*scope)) {
        return Ok(());
    }
    let scopes: Vec<&str> = route.scopes.iter().map(|scope| scope.name()).collect();
    let message = format!("this token has not the scope {}", scopes.join(" or "));
    Err(Error::new(ErrorKind::Denied, asked.operation.name(), message))
}

/// Does what is asked of a ledger and makes the answer.
pub fn serve(ledger: &Ledger, rights: Rights, asked: &Asked) -> Answer {
    let answer = match perform(ledger, rights, asked) {
        Ok(body) => success(ledger.location().id, body),
        Err(error) => refuse_asked(ledger, asked, &error),
    };
    Answer { scopes: Some(rights.text()), ..answer }
}

/// Does what is asked of a ledger and returns the body of the answer. Operations of the projections are not among these.
pub fn perform(ledger: &Ledger, rights: Rights, asked: &Asked) -> Result<Vec<u8>> {
    admit(ledger, rights, asked).and_then(|()| performed(ledger, rights, asked))
}

/// Makes the answer of a success.
pub fn success(id: LedgerId, body: Vec<u8>) -> Answer {
    Answer {
        status: 200,
        protocol: Some(PROTOCOL.to_owned()),
        ledger: Some(id.to_string()),
        scopes: None,
        retry_after: None,
        body,
    }
}

/// Makes the answer of an error.
pub fn refuse(id: Option<LedgerId>, error: &Error) -> Answer {
    answer_of(id, status_of(error), &Refusal::of(error))
}

/// Makes the answer of a refusal.
pub fn answer_of(id: Option<LedgerId>, status: u16, refusal: &Refusal) -> Answer {
    Answer {
        status,
        protocol: Some(PROTOCOL.to_owned()),
        ledger: id.map(|id| id.to_string()),
        scopes: None,
        retry_after: matches!(status, 429 | 503).then_some(1),
        body: refusal.to_json(),
    }
}

/// Makes the answer of an error of [`perform`]: of a conflict with the head as it is.
pub fn refuse_asked(ledger: &Ledger, asked: &Asked, error: &Error) -> Answer {
    let compared = matches!(error.kind(), ErrorKind::Conflict | ErrorKind::Forked);
    let feed = match asked.operation {
        Operation::Append if compared => decode_feed(asked.message.clone()).ok(),
        _ => None,
    };
    // Telling the head is a courtesy: without it the client asks.
    let head = feed.and_then(|feed| ledger.state(&feed).ok().flatten()).map(|state| state.head);
    answer_of(Some(ledger.location().id), status_of(error), &Refusal::of(error).with_head(head))
}

fn performed(ledger: &Ledger, rights: Rights, asked: &Asked) -> Result<Vec<u8>> {
    let message = asked.message.clone();
    Ok(match asked.operation {
        Operation::Stat => frame(FrameKind::Stat, &messages::encode_stat(&ledger.stat()?)),
        Operation::Feeds => feeds(ledger, asked)?,
        Operation::Entries => entries(ledger, rights, asked)?,
        Operation::Append => {
            append(ledger, rights, decode_append(message)?)?;
            Vec::new()
        }
        Operation::Find => {
            let (feed, addresses) = messages::decode_find(message)?;
            frame(FrameKind::Found, &messages::encode_found(&ledger.find(&feed, &addresses)?))
        }
        Operation::Get => {
            let (addresses, limit) = messages::decode_get(message)?;
            let bodies = ledger.get(&addresses, bounded(limit))?;
            frame(FrameKind::Bodies, &messages::encode_bodies(&bodies))
        }
        Operation::Erase => {
            ledger.erase(&messages::decode_erase(message)?)?;
            Vec::new()
        }
        Operation::Compact => frame(FrameKind::Compacted, &messages::encode_compacted(ledger.compact()?)),
        Operation::Check => check(ledger)?,
        other => return Err(invalid(format!("{} is not asked of a ledger", other.name()))),
    })
}

fn bounded(limit: Limit) -> Limit {
    Limit { entries: limit.entries.min(PAGE_MAX.entries), bytes: limit.bytes.min(PAGE_MAX.bytes) }
}

fn feeds(ledger: &Ledger, asked: &Asked) -> Result<Vec<u8>> {
    let after = asked.parameter("after").map(str::parse::<WriterId>).transpose()?;
    let since = match asked.parameter("since") {
        None => None,
        Some(text) => {
            let mut bytes = vec![0; text.len() / 2];
            if !parse_hex(text.as_bytes(), &mut bytes) {
                return Err(invalid("the parameter since is not hexadecimal"));
            }
            Some(Token(bytes))
        }
    };
    let limit = asked.number("limit", 1000)?.clamp(1, FEEDS_MAX as u64) as usize;
    let page = ledger.backend().feeds(after.as_ref(), since.as_ref(), limit)?;
    Ok(frame(FrameKind::Feeds, &messages::encode_feeds(&page)))
}

fn entries(ledger: &Ledger, rights: Rights, asked: &Asked) -> Result<Vec<u8>> {
    let feed: WriterId = asked.writer.as_deref().unwrap_or_default().parse()?;
    let default = Limit::default();
    let limit = Limit {
        entries: usize::try_from(asked.number("entries", default.entries as u64)?).unwrap_or(usize::MAX),
        bytes: asked.number("bytes", default.bytes)?,
    };
    let page = ledger.read(&feed, asked.number("from", 0)?, bounded(limit))?;
    Ok(frame(FrameKind::Entries, &messages::encode_entries(&page, rights.allow(Scope::Read))))
}

fn check(ledger: &Ledger) -> Result<Vec<u8>> {
    let mut damages = Vec::new();
    ledger.backend().check(&mut |damage| {
        if damages.len() < DAMAGES_MAX {
            damages.push(damage);
        }
    })?;
    Ok(frame(FrameKind::Damages, &messages::encode_damages(&damages)))
}

/// Appends a batch that came over the wire.
///
/// `Denied` for a head that its feed's key did not sign and for erased events without the scope admin; `Invalid` for
/// whatever does not fit together, with the entry as the place; `Missing`, `Conflict` and `Forked` as at the seam.
pub fn append(ledger: &Ledger, rights: Rights, batch: SentBatch) -> Result<()> {
    check_shape(&batch)?;
    if !rights.allow(Scope::Admin) && batch.has_erased() {
        let message = "an event without its payload is taken from the scope admin alone";
        return Err(Error::new(ErrorKind::Denied, APPEND, message).at(batch.head.feed));
    }
    let before = compared(ledger, &batch)?;
    // Before anything is hashed or looked up for it. That it holds vouches for the head before it as well.
    let head = batch.head.verified()?;
    let entries = batch.check().map_err(|error| match error.location() {
        "" => error.at(head.feed),
        _ => error,
    })?;
    check_addresses(&entries).map_err(|error| error.at(head.feed))?;
    let kept = kept_skeletons(ledger, &head.feed, &entries)?;
    let mut kept = kept.iter();
    let entries: Vec<SignedEntry<'_>> = entries
        .iter()
        .map(|entry| match entry {
            CheckedEntry::Sent(event) => SignedEntry::Sent(event),
            CheckedEntry::Kept(_) => {
                SignedEntry::Kept(kept.next().expect("one skeleton was got for each kept entry"))
            }
        })
        .collect();
    let bytes: u64 = entries.iter().map(SignedEntry::bytes).sum();
    if bytes > BATCH_BYTES_MAX {
        return Err(too_long(bytes, BATCH_BYTES_MAX));
    }
    ledger.append_signed(&before, &head, &entries)?;
    Ok(())
}

/// Checks what can be said of a batch without the ledger and without hashing.
fn check_shape(batch: &SentBatch) -> Result<()> {
    let SentBatch { expected_size, head, .. } = batch;
    let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, APPEND, message).at(head.feed));
    if batch.count() == 0 {
        return invalid("a batch without entries".to_owned());
    }
    if expected_size.checked_add(batch.count() as u64) != Some(head.size) {
        let message = format!("{} entries behind {expected_size} do not make {}", batch.count(), head.size);
        return invalid(message);
    }
    Ok(())
}

/// Checks that no address stands twice.
fn check_addresses(entries: &[CheckedEntry]) -> Result<()> {
    let mut named = HashSet::with_capacity(entries.len());
    match entries.iter().map(CheckedEntry::address).find(|address| !named.insert(*address)) {
        None => Ok(()),
        Some(twice) => {
            Err(Error::new(ErrorKind::Invalid, APPEND, format!("{twice} stands twice in the batch")))
        }
    }
}

/// Compares what the client expects of the feed with what is there, and returns the frontier that is there.
fn compared(ledger: &Ledger, batch: &SentBatch) -> Result<Frontier> {
    let feed = batch.head.feed;
    let (_, before) = ledger.fitting_state(&feed)?;
    let (size, expected) = (before.size(), batch.expected_size);
    if size != expected {
        let message = format!("the feed has {size} entries, {expected} were expected");
        return Err(Error::new(ErrorKind::Conflict, APPEND, message).at(feed));
    }
    if size > 0 && before.root() != batch.expected_root {
        let message = format!(
            "at size {size} the feed has root {}, {} was expected",
            before.root(),
            batch.expected_root
        );
        return Err(Error::new(ErrorKind::Forked, APPEND, message).at(feed));
    }
    Ok(before)
}

/// Gets the skeletons of the entries whose events were not sent, because the ledger has them, in their order.
fn kept_skeletons(ledger: &Ledger, feed: &WriterId, entries: &[CheckedEntry]) -> Result<Vec<Bytes>> {
    let address = |entry: &CheckedEntry| match entry {
        CheckedEntry::Kept(address) => Some(*address),
        CheckedEntry::Sent(_) => None,
    };
    let unsent: Vec<Address> = entries.iter().filter_map(address).collect();
    if unsent.is_empty() {
        return Ok(Vec::new());
    }
    let found = ledger.find(feed, &unsent)?;
    let absent = unsent.iter().zip(&found).filter(|(_, found)| found.presence == Presence::Absent);
    let absent: Vec<Address> = absent.map(|(address, _)| *address).collect();
    if !absent.is_empty() {
        return Err(Error::missing(APPEND, absent).at(feed));
    }
    let mut kept = Vec::with_capacity(unsent.len());
    while kept.len() < unsent.len() {
        for body in ledger.get(&unsent[kept.len()..], Limit::default())? {
            let address = unsent[kept.len()];
            match body {
                Some(Body::Present { skeleton, .. } | Body::Erased { skeleton }) => {
                    // The page that it came from would stay as long as the skeleton does.
                    kept.push(Bytes::copy_from_slice(&skeleton));
                }
                Some(Body::Damaged { .. }) => {
                    let message = "the store cannot read an event that an entry names; send it along";
                    return Err(Error::new(ErrorKind::Corrupt, APPEND, message).at(address));
                }
                None => return Err(Error::missing(APPEND, vec![address]).at(feed)),
            }
        }
    }
    Ok(kept)
}
