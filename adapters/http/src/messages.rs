//! The messages of the ledger: how each argument and answer of the seam stands in a body (`docs/protocol.md`).

use crate::codec::{Decoder, Encoder};
use burnlog_log::{
    Address, BatchHead, Body, Compacted, Damage, Entry, FeedState, FeedsPage, Found, Limit, Page, Presence,
    Result, Root, Signature, Stat, Timestamp, Token, WriterId,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The bytes of an encoded head.
const HEAD_BYTES: usize = 32 + 8 + 32 + 8 + 64;

/// Appends a signed head.
pub(crate) fn put_head(out: &mut Encoder, head: &BatchHead) {
    out.array(&head.feed.0);
    out.number(head.size);
    out.array(&head.root.0);
    out.signed(head.recorded_at.as_micros());
    out.array(&head.signature.0);
}

/// Reads a signed head. Its signature is not checked here.
pub(crate) fn take_head(from: &mut Decoder) -> Result<BatchHead> {
    Ok(BatchHead {
        feed: WriterId(from.array()?),
        size: from.number()?,
        root: Root(from.array()?),
        recorded_at: Timestamp::from_micros(from.signed()?),
        signature: Signature(from.array()?),
    })
}

fn take_address(from: &mut Decoder) -> Result<Address> {
    Ok(Address(from.array()?))
}

/// Encodes a page of feeds.
pub(crate) fn encode_feeds(page: &FeedsPage) -> Vec<u8> {
    let mut out = Encoder::default();
    out.bytes(&page.token.0);
    out.byte(u8::from(page.more));
    out.list(page.heads.iter(), put_head);
    out.0
}

/// Decodes a page of feeds.
pub(crate) fn decode_feeds(message: Bytes) -> Result<FeedsPage> {
    let mut from = Decoder::new(message);
    let token = Token(from.bytes()?.to_vec());
    let more = from.flag()?;
    let heads = from.list(HEAD_BYTES, take_head)?;
    from.end()?;
    Ok(FeedsPage { heads, token, more })
}

/// An event in an answer: a body, or none because the asker may not read.
enum Sent<'a> {
    Body(&'a Body),
    Withheld,
}

/// Returns a place within a store without the path to the store, which is the server's alone.
fn place_within(place: &str) -> &str {
    match place.find('/') {
        Some(at) if !place[..at].ends_with(|before: char| before.is_alphanumeric()) => {
            place.rsplit('/').next().unwrap_or_default()
        }
        _ => place,
    }
}

fn put_body(out: &mut Encoder, body: &Sent<'_>) {
    match body {
        Sent::Body(Body::Present { skeleton, payload }) => {
            out.byte(0);
            out.bytes(skeleton);
            out.bytes(payload);
        }
        Sent::Body(Body::Erased { skeleton }) => {
            out.byte(1);
            out.bytes(skeleton);
        }
        Sent::Body(Body::Damaged { place, reason }) => {
            out.byte(2);
            out.text(place_within(place));
            out.text(reason);
        }
        Sent::Withheld => out.byte(3),
    }
}

fn take_body(from: &mut Decoder) -> Result<Body> {
    Ok(match from.byte()? {
        0 => Body::Present { skeleton: from.bytes()?, payload: from.bytes()? },
        1 => Body::Erased { skeleton: from.bytes()? },
        2 => Body::Damaged { place: from.text()?, reason: from.text()? },
        // Never as erased: a copy made of that would lose what is there.
        3 => Body::Damaged {
            place: "withheld by the server".to_owned(),
            reason: "this token may append and not read; use one with the scope read".to_owned(),
        },
        tag => return Err(from.unknown("form of an event", tag)),
    })
}

fn put_state(out: &mut Encoder, state: &FeedState) {
    put_head(out, &state.head);
    out.list(state.frontier.iter(), |out, peak| out.array(&peak.0));
}

/// Encodes a page of entries; without `may_read` the events are left out and only addresses and heads are told.
pub(crate) fn encode_entries(page: &Page, may_read: bool) -> Vec<u8> {
    let mut out = Encoder::default();
    out.option(page.state.as_ref(), put_state);
    out.list(page.entries.iter(), |out, entry| {
        out.array(&entry.address.0);
        put_body(out, &if may_read { Sent::Body(&entry.body) } else { Sent::Withheld });
    });
    out.list(page.heads.iter(), put_head);
    out.0
}

/// Decodes a page of entries.
pub(crate) fn decode_entries(message: Bytes) -> Result<Page> {
    let mut from = Decoder::new(message);
    let state = from.option(|from| {
        Ok(FeedState { head: take_head(from)?, frontier: from.list(32, |from| Ok(Root(from.array()?)))? })
    })?;
    let entries = from.list(33, |from| Ok(Entry::new(take_address(from)?, take_body(from)?)))?;
    let heads = from.list(HEAD_BYTES, take_head)?;
    from.end()?;
    Ok(Page { state, entries, heads })
}

/// Encodes addresses to be looked for in a feed.
pub(crate) fn encode_find(feed: &WriterId, addresses: &[Address]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.array(&feed.0);
    out.list(addresses.iter(), |out, address| out.array(&address.0));
    out.0
}

/// Decodes addresses to be looked for in a feed.
pub(crate) fn decode_find(message: Bytes) -> Result<(WriterId, Vec<Address>)> {
    let mut from = Decoder::new(message);
    let asked = (WriterId(from.array()?), from.list(32, take_address)?);
    from.end()?;
    Ok(asked)
}

/// Encodes what was found.
pub(crate) fn encode_found(found: &[Found]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.list(found.iter(), |out, found| {
        out.byte(match found.presence {
            Presence::Absent => 0,
            Presence::Present => 1,
            Presence::Erased => 2,
        });
        out.option(found.index, Encoder::number);
    });
    out.0
}

/// Decodes what was found.
pub(crate) fn decode_found(message: Bytes) -> Result<Vec<Found>> {
    let mut from = Decoder::new(message);
    let found = from.list(2, |from| {
        let presence = match from.byte()? {
            0 => Presence::Absent,
            1 => Presence::Present,
            2 => Presence::Erased,
            tag => return Err(from.unknown("presence", tag)),
        };
        Ok(Found { presence, index: from.option(Decoder::number)? })
    })?;
    from.end()?;
    Ok(found)
}

/// Encodes addresses of events to get.
pub(crate) fn encode_get(addresses: &[Address], limit: Limit) -> Vec<u8> {
    let mut out = Encoder::default();
    out.number(limit.entries as u64);
    out.number(limit.bytes);
    out.list(addresses.iter(), |out, address| out.array(&address.0));
    out.0
}

/// Decodes addresses of events to get.
pub(crate) fn decode_get(message: Bytes) -> Result<(Vec<Address>, Limit)> {
    let mut from = Decoder::new(message);
    let limit =
        Limit { entries: usize::try_from(from.number()?).unwrap_or(usize::MAX), bytes: from.number()? };
    let addresses = from.list(32, take_address)?;
    from.end()?;
    Ok((addresses, limit))
}

/// Encodes events.
pub(crate) fn encode_bodies(bodies: &[Option<Body>]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.list(bodies.iter(), |out, body| {
        out.option(body.as_ref(), |out, body| put_body(out, &Sent::Body(body)));
    });
    out.0
}

/// Decodes events.
pub(crate) fn decode_bodies(message: Bytes) -> Result<Vec<Option<Body>>> {
    let mut from = Decoder::new(message);
    let bodies = from.list(1, |from| from.option(take_body))?;
    from.end()?;
    Ok(bodies)
}

/// Encodes addresses of payloads to erase.
pub(crate) fn encode_erase(addresses: &[Address]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.list(addresses.iter(), |out, address| out.array(&address.0));
    out.0
}

/// Decodes addresses of payloads to erase.
pub(crate) fn decode_erase(message: Bytes) -> Result<Vec<Address>> {
    let mut from = Decoder::new(message);
    let addresses = from.list(32, take_address)?;
    from.end()?;
    Ok(addresses)
}

/// Encodes what compacting did.
pub(crate) fn encode_compacted(compacted: Compacted) -> Vec<u8> {
    let mut out = Encoder::default();
    out.number(compacted.bytes_before);
    out.number(compacted.bytes_after);
    out.0
}

/// Decodes what compacting did.
pub(crate) fn decode_compacted(message: Bytes) -> Result<Compacted> {
    let mut from = Decoder::new(message);
    let compacted = Compacted { bytes_before: from.number()?, bytes_after: from.number()? };
    from.end()?;
    Ok(compacted)
}

/// Encodes what a ledger holds.
pub(crate) fn encode_stat(stat: &Stat) -> Vec<u8> {
    let mut out = Encoder::default();
    out.number(stat.events);
    out.number(stat.payload_bytes);
    out.number(stat.bytes_on_disk);
    out.0
}

/// Decodes what a ledger holds.
pub(crate) fn decode_stat(message: Bytes) -> Result<Stat> {
    let mut from = Decoder::new(message);
    let stat = Stat { events: from.number()?, payload_bytes: from.number()?, bytes_on_disk: from.number()? };
    from.end()?;
    Ok(stat)
}

/// Encodes damages.
pub(crate) fn encode_damages(damages: &[Damage]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.list(damages.iter(), |out, damage| {
        out.text(damage.code);
        out.text(place_within(&damage.place));
        out.text(&damage.message);
        out.byte(u8::from(damage.rebuildable));
    });
    out.0
}

/// Decodes damages.
pub(crate) fn decode_damages(message: Bytes) -> Result<Vec<Damage>> {
    let mut from = Decoder::new(message);
    let damages = from.list(13, |from| {
        Ok(Damage {
            code: code(&from.text()?),
            place: from.text()?,
            message: from.text()?,
            rebuildable: from.flag()?,
        })
    })?;
    from.end()?;
    Ok(damages)
}

/// The most codes of damages that are remembered for the life of the process.
const CODES_MAX: usize = 256;

/// Returns a code as the text without end that [`Damage`] wants: codes are few, and each is kept once.
fn code(text: &str) -> &'static str {
    static CODES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut codes = CODES.lock().unwrap_or_else(PoisonError::into_inner);
    match codes.get(text) {
        Some(known) => known,
        None if codes.len() >= CODES_MAX || text.len() > 64 => "store-damage",
        None => {
            let kept: &'static str = Box::leak(text.to_owned().into_boxed_str());
            codes.insert(kept);
            kept
        }
    }
}
