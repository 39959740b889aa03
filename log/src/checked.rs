//! Events from somebody whose word is not taken. Each is hashed once, from its own bytes, many side by side, and what comes of it is a type
//! that says so: nobody has to hash it again, and nobody can leave it out.

use crate::{Address, NewEvent, PayloadHash, Result, SkeletonFrozen, push_hex};
use bytes::Bytes;
use std::ops::Range;

/// An event whose address and payload hash were computed from its bytes, and fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedEvent {
    address: Address,
    skeleton: Bytes,
    payload: Option<Bytes>,
}

impl CheckedEvent {
    /// Returns the address.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Returns the canonical bytes.
    pub fn skeleton(&self) -> &[u8] {
        &self.skeleton
    }

    /// Returns the payload; `None` for one that was erased where it comes from.
    pub fn payload(&self) -> Option<&[u8]> {
        self.payload.as_deref()
    }

    /// Returns it as the seam takes it.
    pub(crate) fn new_event(&self) -> NewEvent<'_> {
        NewEvent { address: self.address, skeleton: &self.skeleton, payload: self.payload() }
    }
}

/// A payload whose hash was computed from its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashedPayload {
    hash: PayloadHash,
    bytes: Bytes,
}

impl HashedPayload {
    /// Hashes payloads side by side, which is several times faster than one by one where they are short.
    pub fn of_each(payloads: Vec<Bytes>) -> Vec<Self> {
        let hashes = PayloadHash::of_each(&payloads.iter().map(|payload| &payload[..]).collect::<Vec<_>>());
        hashes.into_iter().zip(payloads).map(|(hash, bytes)| Self { hash, bytes }).collect()
    }

    /// Returns the payload.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Checks the events of a batch; their skeletons stand side by side in one buffer, and are hashed side by side.
#[derive(Debug, Default)]
pub struct EventChecker {
    skeletons: Vec<u8>,
    checked: Vec<(Range<usize>, Option<Bytes>)>,
}

impl EventChecker {
    /// Adds an event whose skeleton came without the 64 digits of its payload's hash, which stand between `before` and `after`.
    ///
    /// `Invalid`, with nothing added, when the whole is no skeleton of this payload.
    pub fn push_cut(&mut self, before: &[u8], after: &[u8], payload: HashedPayload) -> Result<()> {
        let start = self.skeletons.len();
        self.skeletons.extend_from_slice(before);
        push_hex(&mut self.skeletons, &payload.hash.0);
        self.skeletons.extend_from_slice(after);
        // The digits are those of the payload: that they stand where the hash belongs is what has to be seen.
        self.check_last(start, Some(payload))
    }

    /// Adds an event whose skeleton came whole; `payload` is absent where it was erased.
    ///
    /// `Invalid`, with nothing added, when the skeleton is none or says another payload.
    pub fn push_whole(&mut self, skeleton: &[u8], payload: Option<HashedPayload>) -> Result<()> {
        let start = self.skeletons.len();
        self.skeletons.extend_from_slice(skeleton);
        self.check_last(start, payload)
    }

    fn check_last(&mut self, start: usize, payload: Option<HashedPayload>) -> Result<()> {
        let checked = SkeletonFrozen::parse(&self.skeletons[start..]).and_then(|frozen| {
            payload.as_ref().map_or(Ok(()), |payload| frozen.check_payload(&payload.bytes, payload.hash))
        });
        match checked {
            Ok(()) => {
                self.checked.push((start..self.skeletons.len(), payload.map(|payload| payload.bytes)));
            }
            Err(_) => self.skeletons.truncate(start),
        }
        checked
    }

    /// Returns the skeleton that was added last.
    pub fn last_skeleton(&self) -> Option<&[u8]> {
        self.checked.last().map(|(range, _)| &self.skeletons[range.clone()])
    }

    /// Returns the bytes of all skeletons.
    pub fn skeleton_bytes(&self) -> u64 {
        self.skeletons.len() as u64
    }

    /// Computes the addresses and returns the events in the order in which they were added.
    pub fn finish(self) -> Vec<CheckedEvent> {
        let each: Vec<&[u8]> = self.checked.iter().map(|(range, _)| &self.skeletons[range.clone()]).collect();
        let addresses = Address::of_each(&each);
        let skeletons = Bytes::from(self.skeletons);
        let events = addresses.into_iter().zip(self.checked);
        events
            .map(|(address, (range, payload))| CheckedEvent {
                address,
                skeleton: skeletons.slice(range),
                payload,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Kind, Position, Skeleton};

    fn skeleton(stream: &str, payload: &[u8]) -> Vec<u8> {
        let position =
            Position { kind: Kind::Line, source: "s".into(), stream: stream.into(), seq: 1, part: None };
        let mut text = Vec::new();
        Skeleton { position, payload: PayloadHash::of(payload), bytes: payload.len() as u64 }
            .encode(&mut text);
        text
    }

    fn hashed(payload: &'static [u8]) -> HashedPayload {
        HashedPayload::of_each(vec![Bytes::from_static(payload)]).remove(0)
    }

    #[test]
    fn a_cut_skeleton_is_the_whole_one_again() {
        let whole = skeleton("a", b"{}");
        let at = whole.windows(3).rposition(|window| window == b"b3:").unwrap() + 3;
        let (before, after) = (&whole[..at], &whole[at + 64..]);
        let mut checker = EventChecker::default();
        checker.push_cut(before, after, hashed(b"{}")).unwrap();
        assert_eq!(checker.last_skeleton(), Some(&whole[..]));
        checker.push_cut(before, after, hashed(b"{} ")).unwrap_err();
        checker.push_cut(after, before, hashed(b"{}")).unwrap_err();
        checker.push_whole(&whole, Some(hashed(b"[]"))).unwrap_err();
        assert_eq!(checker.skeleton_bytes(), whole.len() as u64, "nothing stays of what was refused");
        let other = skeleton("b", b"{}");
        checker.push_whole(&other, None).unwrap();
        let events = checker.finish();
        let found: Vec<_> =
            events.iter().map(|event| (event.address(), event.skeleton(), event.payload())).collect();
        let expected =
            [(Address::of(&whole), &whole[..], Some(&b"{}"[..])), (Address::of(&other), &other[..], None)];
        assert_eq!(found, expected);
    }

    /// The digits may be put where a name stands, beside a hash of something else: that is another payload's skeleton.
    #[test]
    fn digits_in_another_place_are_no_hash_of_the_payload() {
        let digits = PayloadHash::of(b"{}").to_string().split_off(3);
        let whole = skeleton(&digits, b"[]");
        let at = whole.windows(64).position(|window| window == digits.as_bytes()).unwrap();
        let mut checker = EventChecker::default();
        let pushed = checker.push_cut(&whole[..at], &whole[at + 64..], hashed(b"{}"));
        assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Invalid);
    }
}
