//! Events from somebody whose word is not taken. Each is hashed once, from its own bytes, and what comes of it is a type
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

/// Checks events one after the other; their skeletons stand side by side in one buffer.
#[derive(Debug, Default)]
pub struct EventChecker {
    skeletons: Vec<u8>,
    checked: Vec<(Address, Range<usize>, Option<Bytes>)>,
}

impl EventChecker {
    /// Adds an event whose skeleton came without the 64 digits of its payload's hash, which stand between `before` and `after`.
    ///
    /// `Invalid`, with nothing added, when the whole is no skeleton of this payload.
    pub fn push_cut(&mut self, before: &[u8], after: &[u8], payload: Bytes) -> Result<Address> {
        let start = self.skeletons.len();
        let digits = PayloadHash::of(&payload);
        self.skeletons.extend_from_slice(before);
        push_hex(&mut self.skeletons, &digits.0);
        self.skeletons.extend_from_slice(after);
        // The digits are those of the payload: that they stand where the hash belongs is what has to be seen.
        let whole = &self.skeletons[start..];
        let checked = SkeletonFrozen::parse(whole).and_then(|frozen| frozen.check_payload(&payload, digits));
        if let Err(error) = checked {
            self.skeletons.truncate(start);
            return Err(error);
        }
        let (address, end) = (Address::of(whole), self.skeletons.len());
        self.checked.push((address, start..end, Some(payload)));
        Ok(address)
    }

    /// Adds an event whose skeleton came whole; `payload` is absent where it was erased.
    ///
    /// `Invalid`, with nothing added, when the skeleton is none or says another payload.
    pub fn push_whole(&mut self, skeleton: &[u8], payload: Option<Bytes>) -> Result<Address> {
        match &payload {
            Some(payload) => crate::check_payload(skeleton, payload)?,
            None => drop(SkeletonFrozen::parse(skeleton)?),
        }
        let (address, start) = (Address::of(skeleton), self.skeletons.len());
        self.skeletons.extend_from_slice(skeleton);
        self.checked.push((address, start..self.skeletons.len(), payload));
        Ok(address)
    }

    /// Returns the skeleton that was added last.
    pub fn last_skeleton(&self) -> Option<&[u8]> {
        self.checked.last().map(|(_, range, _)| &self.skeletons[range.clone()])
    }

    /// Returns the bytes of all skeletons.
    pub fn skeleton_bytes(&self) -> u64 {
        self.skeletons.len() as u64
    }

    /// Returns the events in the order in which they were added.
    pub fn finish(self) -> Vec<CheckedEvent> {
        let skeletons = Bytes::from(self.skeletons);
        let events = self.checked.into_iter();
        events
            .map(|(address, range, payload)| CheckedEvent {
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

    #[test]
    fn a_cut_skeleton_is_the_whole_one_again() {
        let whole = skeleton("a", b"{}");
        let at = whole.windows(3).rposition(|window| window == b"b3:").unwrap() + 3;
        let (before, after) = (&whole[..at], &whole[at + 64..]);
        let mut checker = EventChecker::default();
        let address = checker.push_cut(before, after, Bytes::from_static(b"{}")).unwrap();
        assert_eq!((address, checker.last_skeleton()), (Address::of(&whole), Some(&whole[..])));
        checker.push_cut(before, after, Bytes::from_static(b"{} ")).unwrap_err();
        checker.push_cut(after, before, Bytes::from_static(b"{}")).unwrap_err();
        assert_eq!(checker.skeleton_bytes(), whole.len() as u64, "nothing stays of what was refused");
        let events = checker.finish();
        assert_eq!((events.len(), events[0].skeleton()), (1, &whole[..]));
    }

    /// The digits may be put where a name stands, beside a hash of something else: that is another payload's skeleton.
    #[test]
    fn digits_in_another_place_are_no_hash_of_the_payload() {
        let digits = PayloadHash::of(b"{}").to_string().split_off(3);
        let whole = skeleton(&digits, b"[]");
        let at = whole.windows(64).position(|window| window == digits.as_bytes()).unwrap();
        let mut checker = EventChecker::default();
        let pushed = checker.push_cut(&whole[..at], &whole[at + 64..], Bytes::from_static(b"{}"));
        assert_eq!(pushed.unwrap_err().kind(), ErrorKind::Invalid);
    }
}
