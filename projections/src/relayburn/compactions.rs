//! Imported compactions: they name no record, so which of them a raw record tells as well is found by session and instant.

use super::STREAM_PREFIX;
use crate::compactions::Compaction;
use crate::groups::Group;
use crate::resolved::Resolved;
use crate::sources::{Facts, SourceRecord};
use crate::streams::Stream;
use crate::text::{Name, Tokens, key_text};
use burnlog_log::{Address, Timestamp};
use std::collections::BTreeSet;

/// What stands before the session in the name of the group.
const GROUP_PREFIX: &str = "compactions/";
/// The first byte of a fact.
const RAW: u8 = 0;
const IMPORTED: u8 = 1;

/// Notes a compaction that a raw record of the stream's session tells.
pub(crate) fn note_raw(at: Option<Timestamp>, place: Address, stream: &Stream, facts: &mut Facts) {
    if let Some(at) = at {
        note(RAW, at, None, place, stream, facts);
    }
}

/// Notes one that was imported.
pub(super) fn note_imported(
    at: Timestamp,
    tokens: Option<i64>,
    record: &SourceRecord<'_>,
    stream: &Stream,
    facts: &mut Facts,
) {
    note(IMPORTED, at, tokens, record.address, stream, facts);
}

fn note(origin: u8, at: Timestamp, tokens: Option<i64>, place: Address, stream: &Stream, facts: &mut Facts) {
    let group = facts.names.get(&key_text(&format!("{GROUP_PREFIX}{}", stream.session)));
    let mut fact = vec![origin];
    fact.extend_from_slice(&at.as_micros().to_be_bytes());
    fact.push(u8::from(tokens.is_some()));
    fact.extend_from_slice(&tokens.unwrap_or(0).to_be_bytes());
    fact.extend_from_slice(stream.session.as_bytes());
    facts.note(&stream.source, &group, place.0.to_vec(), fact);
}

/// A fact, taken apart.
struct Fact<'f> {
    origin: u8,
    place: Address,
    at: i64,
    tokens: Option<i64>,
    session: &'f str,
}

fn parse<'f>((key, fact): (&'f [u8], &'f [u8])) -> Option<Fact<'f>> {
    let (origin, rest) = fact.split_first()?;
    let (at, rest) = rest.split_first_chunk::<8>()?;
    let (is_told, rest) = rest.split_first()?;
    let (tokens, session) = rest.split_first_chunk::<8>()?;
    Some(Fact {
        origin: *origin,
        place: Address(key.try_into().ok()?),
        at: i64::from_be_bytes(*at),
        tokens: (*is_told == 1).then_some(i64::from_be_bytes(*tokens)),
        session: std::str::from_utf8(session).ok()?,
    })
}

/// Tells which imported compactions no raw record tells.
pub(crate) fn resolve(group: &Group) -> Resolved {
    let mut resolved = Resolved::default();
    let facts = || group.facts.iter().filter_map(parse);
    let raw: BTreeSet<i64> = facts().filter(|fact| fact.origin == RAW).map(|fact| fact.at).collect();
    for fact in facts().filter(|fact| fact.origin == IMPORTED && !raw.contains(&fact.at)) {
        let (session, at) = (fact.session, fact.at);
        resolved.compactions.push(Compaction {
            source: group.source.clone(),
            compaction: key_text(&format!("{STREAM_PREFIX}{session}/{at}")).into_owned(),
            copied: false,
            timestamp: Some(Timestamp::from_micros(at)),
            session: Name::from(session),
            stream: Name::from(&*format!("{STREAM_PREFIX}{session}")),
            trigger: None,
            tokens_before: fact.tokens.map(Tokens),
            place: fact.place,
        });
    }
    resolved
}
