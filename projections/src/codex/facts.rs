//! The facts that a rollout's lines tell, and their stored form. What they mean together is in `resolve`.

use crate::relayburn::ImportedTurn;
use bincode::config::{Configuration, Limit};
use burnlog_log::Address;

/// A fact and when its line was written, in microseconds.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct Dated {
    pub(crate) at: Option<i64>,
    pub(crate) fact: Fact,
}

/// What one line tells.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) enum Fact {
    /// A `session_meta`: the session's own, or a copied one.
    Meta(Meta),
    /// A turn begins, or goes on with another model or folder.
    Turn { turn: Option<String>, model: Option<String>, cwd: Option<String> },
    /// A snapshot of the counters.
    Usage(Usage),
    /// A message in the place of the user: its class, length in characters, and images.
    User { class: String, said: Said, characters: i64, images: i64 },
    /// The context was replaced.
    Compaction,
    /// A record of an unknown type.
    Unknown { record_type: String },
    /// A failure that the program reports.
    Notice { error: Option<String> },
    /// A turn of which another program tells.
    Imported(Box<ImportedTurn>),
    /// A tool is asked for.
    Tool { id: String },
}

/// In which of its two forms a message was seen. A prompt has both, in older files one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) enum Said {
    /// As an event: what a person sent, as it was sent.
    Event,
    /// As an item of the conversation: also what the program adds in the user's place.
    Item,
}

/// What a `session_meta` says.
#[derive(Debug, Clone, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub(crate) struct Meta {
    pub(crate) id: Option<String>,
    pub(crate) parent: Option<String>,
    /// When the session was made, in microseconds.
    pub(crate) created: Option<i64>,
    pub(crate) version: Option<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) branch: Option<String>,
    pub(crate) is_subagent: bool,
    pub(crate) agent: Option<String>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) struct Usage {
    pub(crate) total: Counters,
    pub(crate) last: Option<Counters>,
    pub(crate) clamped: bool,
    pub(crate) payload_prefix: i64,
}

/// The counters of a snapshot. Cached input is a part of input, reasoning a part of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub(crate) struct Counters {
    pub(crate) input: Option<i64>,
    pub(crate) cached: Option<i64>,
    pub(crate) output: Option<i64>,
    pub(crate) reasoning: Option<i64>,
    pub(crate) total: Option<i64>,
}

/// The limit keeps a wrong length from claiming memory.
fn codec() -> Configuration<bincode::config::LittleEndian, bincode::config::Varint, Limit<{ 1 << 20 }>> {
    bincode::config::standard().with_limit::<{ 1 << 20 }>()
}

/// The longest text that a fact keeps of a field, in bytes; names are not longer.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;

/// Returns the key of a fact: the record number and the event.
pub(crate) fn key_of(seq: u64, address: &Address) -> Vec<u8> {
    [&seq.to_be_bytes()[..], &address.0[..]].concat()
}

/// Takes a key apart.
pub(crate) fn parse_key(key: &[u8]) -> Option<(u64, Address)> {
    let (seq, address) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*seq), Address(address.try_into().ok()?)))
}

/// Returns the stored form of a fact.
pub(crate) fn encode(fact: &Dated) -> Vec<u8> {
    bincode::encode_to_vec(fact, codec()).expect("writing to memory cannot fail")
}

/// Reads the stored form; `None` for anything else.
pub(crate) fn decode(bytes: &[u8]) -> Option<Dated> {
    let (fact, used) = bincode::decode_from_slice(bytes, codec()).ok()?;
    (used == bytes.len()).then_some(fact)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored facts are read by later programs of the same projections version.
    #[test]
    fn the_stored_form_is_fixed() {
        let usage = Usage {
            total: Counters {
                input: Some(300),
                cached: None,
                output: Some(1),
                reasoning: Some(0),
                total: None,
            },
            last: None,
            clamped: false,
            payload_prefix: -1,
        };
        let fact = Dated { at: Some(1_000_000), fact: Fact::Usage(usage) };
        let bytes = encode(&fact);
        assert_eq!(bytes, [1, 252, 128, 132, 30, 0, 2, 1, 251, 88, 2, 0, 1, 2, 1, 0, 0, 0, 0, 1]);
        assert_eq!(decode(&bytes), Some(fact));
        assert_eq!(decode(&bytes[1..]), None);
        let address = Address([7; 32]);
        assert_eq!(parse_key(&key_of(9, &address)), Some((9, address)));
    }
}
