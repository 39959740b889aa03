//! Stamps: what people and programs attach to sessions, streams and calls. Of several for one key the latest counts,
//! by the time that the stamp itself names.

use crate::Derived;
use crate::json::{self, Taken, Text, lenient};
use crate::relationships::{KIND_SPAWN_ENV, Relationship};
use crate::table::{Merge, row};
use crate::text::{Name, instant_of, plain_text};
use burnlog_log::scan::{Scanner, Step};
use burnlog_log::{Address, PayloadHash, Timestamp};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The key that names who started a session.
pub const KEY_PARENT_AGENT: &str = "parentAgentId";
/// A stamp on a session.
pub const STAMP_SESSION: &str = "session";
/// A stamp on a stream.
pub const STAMP_STREAM: &str = "stream";
/// A stamp on a call.
pub const STAMP_CALL: &str = "call";

row! {
    /// The value of one key of one selected thing: the latest `at`, then the smaller payload hash.
    pub struct Stamp in "stamps" indexes [["stamp_key", "value"]] dumped true
    key {
        /// What is selected: `session`, `stream` or `call`.
        selects: Name,
        /// The source; empty for any.
        source: Name,
        /// The id of the session, stream or call.
        target: Name,
        /// The key.
        stamp_key: Name,
    }
    /// The value; absent when the stamp takes it away.
    value: Option<String>,
    /// When the stamp says that it was made.
    at: Option<Timestamp>,
    /// The first eight bytes of the payload hash.
    payload_prefix: i64,
    /// The address of the stamp.
    place: Address,
}

impl Stamp {
    /// Returns the relationship that the stamp states, if it does.
    fn relationship(&self) -> Option<Relationship> {
        let is_parent = &*self.stamp_key == KEY_PARENT_AGENT && &*self.selects == STAMP_SESSION;
        let parent = self.value.as_deref().filter(|value| is_parent && !value.is_empty())?;
        Some(Relationship {
            source: self.source.clone(),
            from_session: parent.into(),
            to_session: self.target.clone(),
            kind: KIND_SPAWN_ENV.into(),
            agent: Name::default(),
            stream: None,
            at: self.at,
            tool_use: None,
            record: None,
            place: self.place,
        })
    }
}

impl Merge for Stamp {
    fn merge(&mut self, other: Self) {
        let first = |row: &Self| (row.at, Reverse((row.payload_prefix as u64, row.place)));
        // Equal places are one stamp, unless someone merges rows of other folds.
        if first(&other).cmp(&first(self)).then_with(|| other.value.cmp(&self.value)).is_gt() {
            *self = other;
        }
    }

    fn changed(old: Option<&Self>, new: &Self, derived: &mut Derived) {
        derived.unlinks.extend(old.and_then(Self::relationship));
        derived.links.extend(new.relationship());
    }
}

/// What a stamp sets; of a key that comes twice the last value.
#[derive(Debug, Default)]
pub(crate) struct Settings(BTreeMap<String, Option<String>>);

impl<'a> Taken<'a> for Settings {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'{' {
            return from.skip();
        }
        from.advance();
        let mut is_first = true;
        while let Step::Name(name) = from.next_name(&mut is_first)? {
            let key = name.text().into_owned();
            let is_text = from.peek()? == b'"';
            let is_null = from.peek()? == b'n';
            let mut value = Text::default();
            value.take(from)?;
            if is_text || is_null {
                self.0.insert(key, value.as_deref().map(|value| plain_text(value).into_owned()));
            } else {
                self.0.remove(&key);
            }
        }
        Some(())
    }
}

lenient! {
    /// What it selects.
    struct Selector<'a> {
        session: Text<'a> = b"session",
        stream: Text<'a> = b"stream",
        call: Text<'a> = b"call",
        source: Text<'a> = b"source",
    }
}

lenient! {
    /// A stamp.
    struct Payload<'a> {
        selector: Selector<'a> = b"selector",
        set: Settings = b"set",
        at: Text<'a> = b"at",
    }
}

/// Reads the payload of a `stamp` event: a row for each thing that it selects and each key that it sets.
/// `None` when it is not one.
pub(crate) fn of_payload(place: Address, hash: PayloadHash, payload: &[u8]) -> Option<Vec<Stamp>> {
    let text = json::text_of(payload);
    let fields: Payload<'_> = json::read(&text)?;
    let selector = &fields.selector;
    let at = fields.at.as_deref().and_then(instant_of);
    let payload_prefix = i64::from_be_bytes(*hash.0.first_chunk().expect("a hash has 32 bytes"));
    let selected =
        [(STAMP_SESSION, &selector.session), (STAMP_STREAM, &selector.stream), (STAMP_CALL, &selector.call)];
    let mut stamps = Vec::new();
    for (selects, target) in selected {
        let Some(target) = target.as_deref() else { continue };
        for (key, value) in &fields.set.0 {
            stamps.push(Stamp {
                selects: selects.into(),
                source: selector.source.as_deref().unwrap_or_default().into(),
                target: target.into(),
                stamp_key: key.as_str().into(),
                value: value.clone(),
                at,
                payload_prefix,
                place,
            });
        }
    }
    (!stamps.is_empty()).then_some(stamps)
}
