//! The facts that an object tells, and their stored form. Of several versions of an object the stored form that is
//! greater is the version that counts: the later one by its own clock, then the complete one, then the smaller hash.

use crate::relayburn::ImportedTurn;
use bincode::config::{Configuration, Limit};
use burnlog_log::{Address, PayloadHash};

/// What one object tells.
#[derive(Debug, Clone, PartialEq, Eq, bincode::Encode, bincode::Decode)]
pub(crate) enum Fact {
    /// A session.
    Session { parent: Option<String>, version: Option<String> },
    /// A message.
    Message(Box<Message>),
    /// Text of a message.
    Text { message: String, characters: i64, synthetic: bool },
    /// A file given with a message.
    File { message: String, is_image: bool },
    /// The mark of a compaction.
    Compaction { message: String, auto: Option<bool> },
    /// What one step of a message used.
    Step { message: String, tokens: Tokens },
    /// A tool use.
    Tool(Box<Tool>),
    /// A record of an unknown type.
    Unknown { record_type: String },
    /// A message of which another program tells.
    Imported(Box<ImportedTurn>),
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub(crate) struct Message {
    pub(crate) id: String,
    pub(crate) is_user: bool,
    pub(crate) created: Option<i64>,
    pub(crate) completed: Option<i64>,
    pub(crate) model: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) finish: Option<String>,
    pub(crate) tokens: Option<Tokens>,
    pub(crate) cwd: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) status: Option<i64>,
}

/// Tokens of a message or step. Reasoning stands outside output for most providers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub(crate) struct Tokens {
    pub(crate) input: Option<i64>,
    pub(crate) output: Option<i64>,
    pub(crate) reasoning: Option<i64>,
    pub(crate) cache_read: Option<i64>,
    pub(crate) cache_write: Option<i64>,
    pub(crate) clamped: bool,
}

impl Tokens {
    fn parts(&self) -> [Option<i64>; 5] {
        [self.input, self.output, self.reasoning, self.cache_read, self.cache_write]
    }

    /// Whether nothing was used, which a message says until its first step has ended.
    pub(crate) fn is_nothing(&self) -> bool {
        self.parts().iter().all(|part| part.unwrap_or(0) == 0)
    }

    /// Adds what another step used.
    pub(crate) fn add(&mut self, other: &Self) {
        let add = |sum: &mut Option<i64>, more: Option<i64>| {
            *sum = match (*sum, more) {
                (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
                (sum, more) => sum.or(more),
            };
        };
        add(&mut self.input, other.input);
        add(&mut self.output, other.output);
        add(&mut self.reasoning, other.reasoning);
        add(&mut self.cache_read, other.cache_read);
        add(&mut self.cache_write, other.cache_write);
        self.clamped |= other.clamped;
    }
}

/// A tool use.
#[derive(Debug, Clone, PartialEq, Eq, Default, bincode::Encode, bincode::Decode)]
pub(crate) struct Tool {
    pub(crate) id: String,
    pub(crate) message: String,
    pub(crate) name: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) start: Option<i64>,
    pub(crate) end: Option<i64>,
    /// `None` while it runs.
    pub(crate) is_error: Option<bool>,
    pub(crate) bytes: Option<i64>,
}

/// The version of an object that a fact is of, as far as versions are told apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Version {
    /// Milliseconds since 1970 by the object's own clock.
    pub(crate) clock: Option<i64>,
    pub(crate) is_complete: bool,
    pub(crate) payload: PayloadHash,
    pub(crate) place: Address,
}

/// Clock, completeness, and the complement of eight bytes of the hash, so that the greater one counts.
const RANK_BYTES: usize = 8 + 1 + 8;

/// The limit keeps a wrong length from claiming memory.
fn codec() -> Configuration<bincode::config::LittleEndian, bincode::config::Varint, Limit<{ 1 << 20 }>> {
    bincode::config::standard().with_limit::<{ 1 << 20 }>()
}

impl Version {
    /// Returns what of the version that counts is bytewise greater than of any other of the object.
    pub(crate) fn rank(&self) -> [u8; RANK_BYTES] {
        let mut rank = [0; RANK_BYTES];
        rank[..8].copy_from_slice(&self.clock.unwrap_or(0).max(0).to_be_bytes());
        rank[8] = u8::from(self.is_complete);
        for (byte, of_hash) in rank[9..].iter_mut().zip(self.payload.0) {
            *byte = !of_hash;
        }
        rank
    }
}

/// Returns the stored form of a fact.
pub(crate) fn encode(version: &Version, fact: &Fact) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.extend_from_slice(&version.rank());
    bytes.extend_from_slice(&version.place.0);
    bincode::encode_into_std_write(fact, &mut bytes, codec()).expect("writing to memory cannot fail");
    bytes
}

/// A fact, and the event that tells it.
pub(crate) struct Placed {
    pub(crate) place: Address,
    pub(crate) payload_prefix: i64,
    pub(crate) fact: Fact,
}

/// Reads the stored form; `None` for anything else.
pub(crate) fn decode(bytes: &[u8]) -> Option<Placed> {
    let (rank, rest) = bytes.split_at_checked(RANK_BYTES)?;
    let (place, rest) = rest.split_first_chunk::<32>()?;
    let (fact, used) = bincode::decode_from_slice(rest, codec()).ok()?;
    let prefix = rank.last_chunk::<8>()?.map(|byte| !byte);
    (used == rest.len()).then_some(Placed {
        place: Address(*place),
        payload_prefix: i64::from_be_bytes(prefix),
        fact,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(clock: i64, is_complete: bool, hash: u8) -> Version {
        Version { clock: Some(clock), is_complete, payload: PayloadHash([hash; 32]), place: Address([1; 32]) }
    }

    /// Stored facts are read by later programs of the same projections version.
    #[test]
    fn the_stored_form_is_fixed() {
        let fact = Fact::Text { message: "m".to_owned(), characters: 3, synthetic: false };
        let bytes = encode(&version(258, true, 0xf0), &fact);
        assert_eq!(bytes[..17], [0, 0, 0, 0, 0, 0, 1, 2, 1, 15, 15, 15, 15, 15, 15, 15, 15]);
        assert_eq!(bytes[49..], [2, 1, b'm', 6, 0]);
        let read = decode(&bytes).unwrap();
        assert_eq!((read.fact, read.place), (fact, Address([1; 32])));
        assert_eq!(read.payload_prefix as u64, 0xf0f0_f0f0_f0f0_f0f0);
        assert!(decode(&bytes[1..]).is_none());
    }

    #[test]
    fn the_later_the_complete_and_the_smaller_hash_counts() {
        let fact = Fact::Unknown { record_type: "z".to_owned() };
        let ranked = [version(1, true, 0), version(2, false, 9), version(2, true, 9), version(2, true, 8)];
        let forms: Vec<_> = ranked.iter().map(|version| encode(version, &fact)).collect();
        assert!(forms.is_sorted());
    }
}
