//! The message of an append. Only what the other side cannot compute travels: of an event that is sent neither its address nor
//! the hash of its payload, and of a record that follows the one before it in its stream not even the skeleton. What is
//! alike stands together, so that it compresses.

use crate::codec::{Decoder, Encoder};
use crate::frame::too_long;
use crate::messages::{put_head, take_head};
use burnlog_log::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX};
use burnlog_log::{
    Address, Append, BatchHead, CheckedEvent, Error, ErrorKind, EventChecker, HashedPayload, NewEvent,
    Result, Root, push_number,
};
use bytes::Bytes;
use memchr::memmem::Finder;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The longest skeleton that the next one may be told by. It bounds what a short message can grow to.
const FOLLOWED_BYTES_MAX: usize = 256;
/// What stands before the digits of a payload's hash in a skeleton.
const HASH_FIELD: &[u8] = b"\"payload\":\"b3:";
/// Finds [`HASH_FIELD`], which cannot overlap itself.
static HASH_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(HASH_FIELD));
/// What stands before the number of a record in a skeleton.
const SEQ_FIELD: &[u8] = b",\"seq\":";
/// Finds [`SEQ_FIELD`], which cannot overlap itself.
static SEQ_FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(SEQ_FIELD));
const HASH_DIGITS: usize = 64;
const TAKE: &str = "take batch";

/// How an entry of a batch stands in the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Form {
    /// Its address: the ledger has the event.
    Kept = 0,
    /// Its payload; its skeleton follows from the one that was sent before it.
    Next = 1,
    /// Its skeleton without the digits of the hash, and its payload.
    Cut = 2,
    /// Its skeleton as it is, and its payload.
    Whole = 3,
    /// Its skeleton as it is; the payload was erased where it comes from.
    Erased = 4,
}

impl Form {
    const ALL: [Self; 5] = [Self::Kept, Self::Next, Self::Cut, Self::Whole, Self::Erased];

    fn has_text(self) -> bool {
        matches!(self, Self::Cut | Self::Whole | Self::Erased)
    }

    fn has_payload(self) -> bool {
        matches!(self, Self::Next | Self::Cut | Self::Whole)
    }
}

/// A batch as it came over the wire. Nothing of it has been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentBatch {
    /// The size that the feed must have.
    pub expected_size: u64,
    /// The root that the feed must have at that size; of no meaning at size 0.
    pub expected_root: Root,
    /// The head after the batch.
    pub head: BatchHead,
    entries: Vec<SentEntry>,
}

/// An entry as it came over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
struct SentEntry {
    form: Form,
    address: Option<Address>,
    /// The first bytes of the address, so that a record that came otherwise than it was sent can be named.
    mark: [u8; 2],
    text: Bytes,
    payload: Option<Bytes>,
}

/// An entry of which everything that came was checked.
pub(crate) enum CheckedEntry {
    Kept(Address),
    Sent(CheckedEvent),
}

impl CheckedEntry {
    pub(crate) fn address(&self) -> Address {
        match self {
            Self::Kept(address) => *address,
            Self::Sent(event) => event.address(),
        }
    }
}

/// Encodes a batch. `Invalid` for events that no entry names and for one that is given twice.
pub fn encode_append(append: &Append<'_>) -> Result<Vec<u8>> {
    let invalid = |message: String| Error::new(ErrorKind::Invalid, TAKE, message).at(append.head.feed);
    let mut event_of: HashMap<&Address, &NewEvent<'_>> = HashMap::with_capacity(append.events.len());
    for event in append.events {
        if event_of.insert(&event.address, event).is_some() {
            return Err(invalid(format!("the event {} is given twice", event.address)));
        }
    }
    let payloads: usize = append.events.iter().map(|event| event.payload.map_or(0, <[u8]>::len)).sum();
    let mut out = Encoder(Vec::with_capacity(512 + 48 * append.entries.len() + payloads));
    out.number(append.expected_size);
    out.array(&append.expected_root.0);
    put_head(&mut out, append.head);

    // An address that stands twice is sent once, and refused by the other side.
    let entries: Vec<(&Address, Option<&NewEvent<'_>>)> =
        append.entries.iter().map(|address| (address, event_of.remove(address))).collect();
    if let Some(address) = event_of.keys().next() {
        return Err(invalid(format!("no entry names the event {address}")));
    }
    let forms = forms(&entries);
    out.bytes(&forms.iter().map(|form| *form as u8).collect::<Vec<u8>>());
    for (address, _) in entries.iter().filter(|(_, event)| event.is_none()) {
        out.array(&address.0);
    }
    let events: Vec<(Form, &NewEvent<'_>)> =
        forms.iter().zip(&entries).filter_map(|(form, (_, event))| Some((*form, (*event)?))).collect();
    for (_, event) in &events {
        out.array(&event.address.0[..2]);
    }
    for (form, event) in &events {
        match form {
            Form::Cut => {
                let at = hash_place(event.skeleton).expect("this form has a place of the hash");
                out.count(event.skeleton.len() - HASH_DIGITS);
                out.array(&event.skeleton[..at]);
                out.array(&event.skeleton[at + HASH_DIGITS..]);
            }
            Form::Whole | Form::Erased => out.bytes(event.skeleton),
            Form::Kept | Form::Next => {}
        }
    }
    for payload in events.iter().filter_map(|(_, event)| event.payload) {
        out.count(payload.len());
    }
    for payload in events.iter().filter_map(|(_, event)| event.payload) {
        out.array(payload);
    }
    Ok(out.0)
}

/// Chooses how each entry is told.
fn forms(entries: &[(&Address, Option<&NewEvent<'_>>)]) -> Vec<Form> {
    let (mut previous, mut scratch): (Option<&[u8]>, _) = (None, Vec::new());
    let mut forms = Vec::with_capacity(entries.len());
    for (_, event) in entries {
        let Some(event) = event else {
            forms.push(Form::Kept);
            continue;
        };
        let before = previous.replace(event.skeleton);
        forms.push(match event.payload {
            None => Form::Erased,
            Some(payload)
                if before
                    .is_some_and(|before| follows(before, event.skeleton, payload.len(), &mut scratch)) =>
            {
                Form::Next
            }
            Some(_) if hash_place(event.skeleton).is_some() => Form::Cut,
            Some(_) => Form::Whole,
        });
    }
    forms
}

/// Returns where the digits of the payload's hash begin, if that place is found again once they are gone.
fn hash_place(skeleton: &[u8]) -> Option<usize> {
    let place = HASH_FINDER.find_iter(skeleton).last()? + HASH_FIELD.len();
    let digits = skeleton.get(place..place + HASH_DIGITS)?;
    let is_hash = digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    (is_hash && skeleton.get(place + HASH_DIGITS) == Some(&b'"')).then_some(place)
}

/// Whether a skeleton is what [`push_next`] makes of the one before it, whatever its hash.
fn follows(before: &[u8], skeleton: &[u8], payload_bytes: usize, scratch: &mut Vec<u8>) -> bool {
    scratch.clear();
    let Some(place) = push_next(scratch, before, payload_bytes) else { return false };
    hash_place(skeleton) == Some(place)
        && skeleton.len() == scratch.len() + HASH_DIGITS
        && skeleton[..place] == scratch[..place]
        && skeleton[place + HASH_DIGITS..] == scratch[place..]
}

/// Appends the skeleton of the record behind `before` in the same stream without the digits of its hash, and returns where these
/// belong; `None` where `before` is too long or its number cannot be found.
fn push_next(out: &mut Vec<u8>, before: &[u8], payload_bytes: usize) -> Option<usize> {
    if before.len() > FOLLOWED_BYTES_MAX {
        return None;
    }
    let start = SEQ_FINDER.find_iter(before).last()? + SEQ_FIELD.len();
    let digits = before[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let seq: u64 = std::str::from_utf8(&before[start..start + digits]).ok()?.parse().ok()?;
    out.extend_from_slice(&before[..start]);
    push_number(out, seq.checked_add(1)?);
    out.push(b',');
    out.extend_from_slice(HASH_FIELD);
    let place = out.len();
    out.extend_from_slice(b"\",\"bytes\":");
    push_number(out, payload_bytes as u64);
    out.push(b'}');
    Some(place)
}

/// Decodes the feed of a batch, which is all that a refusal wants to know.
pub(crate) fn decode_feed(message: Bytes) -> Result<burnlog_log::WriterId> {
    let mut from = Decoder::new(message);
    let (_, _) = (from.number()?, from.array::<32>()?);
    Ok(take_head(&mut from)?.feed)
}

/// Decodes a batch. `Invalid` for what is none and for more entries than a batch may have.
pub fn decode_append(message: Bytes) -> Result<SentBatch> {
    let mut from = Decoder::new(message);
    let (expected_size, expected_root) = (from.number()?, Root(from.array()?));
    let head = take_head(&mut from)?;
    let forms = from.bytes()?;
    if forms.len() > BATCH_ENTRIES_MAX {
        return Err(too_long(forms.len() as u64 * 32, BATCH_ENTRIES_MAX as u64 * 32).at(head.feed));
    }
    let mut entries = Vec::with_capacity(forms.len());
    for byte in &forms {
        let form = Form::ALL.get(usize::from(*byte)).copied();
        let form = form.ok_or_else(|| from.unknown("form of an entry", *byte))?;
        entries.push(SentEntry { form, address: None, mark: [0; 2], text: Bytes::new(), payload: None });
    }
    for entry in entries.iter_mut().filter(|entry| entry.form == Form::Kept) {
        entry.address = Some(Address(from.array()?));
    }
    for entry in entries.iter_mut().filter(|entry| entry.form != Form::Kept) {
        entry.mark = from.array()?;
    }
    for entry in entries.iter_mut().filter(|entry| entry.form.has_text()) {
        entry.text = from.bytes()?;
    }
    let with_payload = || forms.iter().filter(|form| Form::ALL[usize::from(**form)].has_payload());
    let lengths: Vec<usize> = with_payload().map(|_| from.count(1)).collect::<Result<_>>()?;
    let holders = entries.iter_mut().filter(|entry| entry.form.has_payload());
    for (entry, length) in holders.zip(lengths) {
        entry.payload = Some(from.slice(length)?);
    }
    from.end()?;
    Ok(SentBatch { expected_size, expected_root, head, entries })
}

impl SentBatch {
    /// Returns the number of entries.
    pub fn count(&self) -> usize {
        self.entries.len()
    }

    /// Whether an event of it comes without its payload.
    pub fn has_erased(&self) -> bool {
        self.entries.iter().any(|entry| entry.form == Form::Erased)
    }

    /// Computes address and payload hash of every event that was sent, and checks that they fit.
    ///
    /// `Invalid`, with the number of the entry as the place, for one that is not what its sender says.
    pub(crate) fn check(mut self) -> Result<Vec<CheckedEntry>> {
        let payloads = self.entries.iter_mut().filter_map(|entry| entry.payload.take()).collect();
        let mut payloads = HashedPayload::of_each(payloads).into_iter();
        let mut checker = EventChecker::default();
        // Of each event its number in the batch, and the first bytes of the address that its sender says.
        let mut marks = Vec::with_capacity(self.entries.len());
        let mut kept = Vec::with_capacity(self.entries.len());
        let mut scratch = Vec::new();
        let mut bytes = 0;
        for (number, entry) in self.entries.into_iter().enumerate() {
            kept.push(entry.address);
            if entry.form == Form::Kept {
                continue;
            }
            let payload = if entry.form.has_payload() { payloads.next() } else { None };
            bytes += payload.as_ref().map_or(0, |payload| payload.bytes().len() as u64);
            marks.push((number, entry.mark));
            entry.push(payload, &mut checker, &mut scratch).map_err(|error| of_entry(number, error))?;
            if checker.skeleton_bytes() + bytes > BATCH_BYTES_MAX {
                return Err(too_long(checker.skeleton_bytes() + bytes, BATCH_BYTES_MAX));
            }
        }
        let events = checker.finish();
        for (event, (number, mark)) in events.iter().zip(marks) {
            if event.address().0[..2] != mark {
                let message = format!("it hashes to {}, which is not what its sender says", event.address());
                return Err(of_entry(number, Error::new(ErrorKind::Invalid, TAKE, message)));
            }
        }
        let mut events = events.into_iter();
        let entry = |address: Option<Address>| match address {
            Some(address) => CheckedEntry::Kept(address),
            None => CheckedEntry::Sent(events.next().expect("each entry that is not kept was checked")),
        };
        Ok(kept.into_iter().map(entry).collect())
    }
}

fn of_entry(number: usize, error: Error) -> Error {
    error.at(format_args!("entry {number} of the batch"))
}

impl SentEntry {
    fn push(
        self,
        payload: Option<HashedPayload>,
        checker: &mut EventChecker,
        scratch: &mut Vec<u8>,
    ) -> Result<()> {
        let invalid = |message: &str| Error::new(ErrorKind::Invalid, TAKE, message);
        scratch.clear();
        match (self.form, payload) {
            (Form::Next, Some(payload)) => {
                let place = checker
                    .last_skeleton()
                    .and_then(|before| push_next(scratch, before, payload.bytes().len()))
                    .ok_or_else(|| invalid("nothing was sent before it that it could follow"))?;
                checker.push_cut(&scratch[..place], &scratch[place..], payload)
            }
            (Form::Cut, Some(payload)) => {
                let place = HASH_FINDER.find_iter(&self.text).last().map(|at| at + HASH_FIELD.len());
                let place = place.ok_or_else(|| invalid("its skeleton has no place for a hash"))?;
                checker.push_cut(&self.text[..place], &self.text[place..], payload)
            }
            (_, payload) => checker.push_whole(&self.text, payload),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burnlog_log::{Kind, Part, PayloadHash, Position, Skeleton};

    fn skeleton(stream: &str, seq: u64, part: Option<Part>, payload: &[u8]) -> Vec<u8> {
        let position = Position { kind: Kind::Line, source: "s".into(), stream: stream.into(), seq, part };
        let mut text = Vec::new();
        Skeleton { position, payload: PayloadHash::of(payload), bytes: payload.len() as u64 }
            .encode(&mut text);
        text
    }

    #[test]
    fn a_record_behind_another_of_its_stream_follows_and_no_other_does() {
        let mut scratch = Vec::new();
        let mut follows = |before: &[u8], skeleton: &[u8]| follows(before, skeleton, 2, &mut scratch);
        let first = skeleton("a", 9, None, b"[]");
        assert!(follows(&first, &skeleton("a", 10, None, b"{}")));
        assert!(!follows(&first, &skeleton("a", 11, None, b"{}")), "one is left out");
        assert!(!follows(&first, &skeleton("b", 10, None, b"{}")), "another stream");
        assert!(!follows(&first, &skeleton("a", 10, None, b"{} ")), "another length");
        assert!(!follows(&first, &skeleton("a", 10, Some(Part { number: 0, more: true }), b"{}")));
        // Names that look like fields.
        let quoted = ",\"seq\":7,\"payload\":\"b3:";
        assert!(follows(&skeleton(quoted, 0, None, b""), &skeleton(quoted, 1, None, b"{}")));
        assert!(!follows(&skeleton("a", u64::MAX, None, b""), &skeleton("a", 0, None, b"{}")));
        let long = "x".repeat(FOLLOWED_BYTES_MAX);
        assert!(!follows(&skeleton(&long, 0, None, b""), &skeleton(&long, 1, None, b"{}")));
    }
}
