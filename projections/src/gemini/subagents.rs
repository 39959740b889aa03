//! Which session began a subagent. No record of its file says it: the file is in a folder with the full id of the session that
//! began it, and that session's file is named by a part of its id, which its first record has in full.
//!
//! Format facts: `ChatRecordingService` in the public source of Gemini CLI (github.com/google-gemini/gemini-cli).

use super::MessageFold;
use crate::groups::Group;
use crate::relationships::{KIND_SUBAGENT, Relationship};
use crate::resolved::Resolved;
use crate::text::{Name, key_text};
use burnlog_log::{Address, Timestamp};

const BEGAN: &str = "began/";
const IS_OF: &str = "is of/";

impl MessageFold<'_> {
    /// Notes under the id of a session which file is its own, or that of a subagent of it.
    pub(super) fn note_origin(&mut self, id: &str) {
        let stream = self.record.session;
        let (session, role) = match stream.split_once('/') {
            Some((parent, _)) => (parent, IS_OF),
            None => (id, BEGAN),
        };
        if session.is_empty() {
            return;
        }
        let key = format!("{role}{}", key_text(stream)).into_bytes();
        // Of several versions of a file the later tells.
        let updated = self.updated.map_or(0, Timestamp::as_micros).max(0).to_be_bytes();
        let fact = [&updated[..], &self.record.address.0].concat();
        let group = self.facts.names.get(session);
        self.facts.note(&self.stream.source, &group, key, fact);
    }
}

/// Tells which session began which subagents. Of several files of one session it is the one with the smallest name.
pub(super) fn resolve(group: &Group) -> Resolved {
    let mut resolved = Resolved::default();
    let named: Vec<(&str, Address)> = group.facts.iter().filter_map(read).collect();
    let streams = |role: &'static str| {
        named.iter().filter_map(move |(key, place)| Some((key.strip_prefix(role)?, *place)))
    };
    let Some((parent, _)) = streams(BEGAN).min() else { return resolved };
    resolved.relationships = streams(IS_OF)
        .map(|(stream, place)| Relationship {
            source: group.source.clone(),
            from_session: Name::from(parent),
            to_session: Name::from(stream),
            kind: Name::from(KIND_SUBAGENT),
            agent: Name::from(stream.split_once('/').map_or(stream, |(_, agent)| agent)),
            stream: Some(Name::from(stream)),
            at: None,
            tool_use: None,
            record: None,
            place,
        })
        .collect();
    resolved
}

fn read<'g>((key, fact): (&'g [u8], &[u8])) -> Option<(&'g str, Address)> {
    let place = fact.last_chunk::<32>()?;
    Some((std::str::from_utf8(key).ok()?, Address(*place)))
}
