//! Skeletons that a store kept without the hash of their payload, and the proof that they were completed by hashing it.

use crate::hashing::hash_each;
use crate::{Address, push_hex};
use std::ops::Range;

/// How many digits a payload hash has.
const DIGITS: usize = 64;

/// A skeleton whose payload is not hashed yet: it stands in a buffer, with room for the digits of the hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    range: Range<usize>,
    /// Where the digits go.
    digits: usize,
}

/// A skeleton that a store kept without the hash of its payload, completed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    address: Address,
    range: Range<usize>,
}

impl Completed {
    /// Returns the address, computed from the completed skeleton.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Returns where the skeleton stands in the buffer that it was written to.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

impl Incomplete {
    /// Appends `before`, room for the digits of the payload's hash, and `after` to `skeletons`.
    pub fn push(skeletons: &mut Vec<u8>, before: &[u8], after: &[u8]) -> Self {
        let start = skeletons.len();
        skeletons.extend_from_slice(before);
        let digits = skeletons.len();
        skeletons.resize(digits + DIGITS, b'0');
        skeletons.extend_from_slice(after);
        Self { range: start..skeletons.len(), digits }
    }

    /// Returns where the skeleton stands in the buffer that it was written to.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Hashes each payload, puts its digits into the skeleton before it and hashes that, many side by side; in order. `skeletons` is the
    /// buffer that all of them were pushed to.
    ///
    /// Entries made from the result ([`Entry::of_completed`](crate::Entry::of_completed)) need not be hashed a second time.
    pub fn complete(skeletons: &mut [u8], of: &[(Self, &[u8])]) -> Vec<Completed> {
        let payloads: Vec<&[u8]> = of.iter().map(|(_, payload)| *payload).collect();
        let mut text = Vec::with_capacity(DIGITS);
        for ((incomplete, _), hash) in of.iter().zip(hash_each(&payloads)) {
            text.clear();
            push_hex(&mut text, &hash);
            skeletons[incomplete.digits..incomplete.digits + DIGITS].copy_from_slice(&text);
        }
        let texts: Vec<&[u8]> = of.iter().map(|(incomplete, _)| &skeletons[incomplete.range()]).collect();
        let addresses = hash_each(&texts).into_iter().map(Address);
        of.iter()
            .zip(addresses)
            .map(|((incomplete, _), address)| Completed { address, range: incomplete.range() })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PayloadHash;

    #[test]
    fn what_is_completed_is_what_was_cut() {
        let payloads = ["", "{}", &"x".repeat(70), &"y".repeat(5000), &"z".repeat(70_000)];
        let (mut skeletons, mut whole, mut incomplete) = (b"before".to_vec(), Vec::new(), Vec::new());
        for payload in payloads {
            let hash = PayloadHash::of(payload.as_bytes()).to_string();
            whole.push(format!("<{hash}>"));
            incomplete.push((Incomplete::push(&mut skeletons, b"<b3:", b">"), payload.as_bytes()));
        }
        let completed = Incomplete::complete(&mut skeletons, &incomplete);
        assert_eq!(completed.len(), payloads.len());
        for (completed, whole) in completed.iter().zip(whole) {
            assert_eq!(&skeletons[completed.range()], whole.as_bytes());
            assert_eq!(completed.address(), Address::of(whole.as_bytes()));
        }
    }
}
