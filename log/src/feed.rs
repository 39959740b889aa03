//! Feeds: the RFC 6962 tree over a writer's entries, its frontier, and signed batch heads
//! (`docs/format.md`, sections 2 and 3). Pure arithmetic and signatures; no storage.

use crate::{Error, ErrorKind, Result, Root, Signature, Timestamp, WriterId};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Computes the leaf of an entry: SHA-256 of `0x00` and the skeleton (RFC 6962, section 2.1).
pub fn leaf(skeleton: &[u8]) -> Root {
    let mut hasher = Sha256::new();
    hasher.update([0]);
    hasher.update(skeleton);
    Root(hasher.finalize().into())
}

/// Computes an inner node: SHA-256 of `0x01` and both children.
pub fn node(left: &Root, right: &Root) -> Root {
    let mut hasher = Sha256::new();
    let mut bytes = [1u8; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    hasher.update(bytes);
    Root(hasher.finalize().into())
}

/// The state from which a tree can grow: its size and the roots of its perfect subtrees, largest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    size: u64,
    peaks: Vec<Root>,
}

impl Frontier {
    /// Restores a frontier from stored parts; `None` unless there is one peak for each set bit of `size`.
    ///
    /// The parts come from a store that hashes nothing: compare [`Frontier::root`] with a signed head.
    pub fn from_parts(size: u64, peaks: Vec<Root>) -> Option<Self> {
        (peaks.len() == size.count_ones() as usize).then_some(Self { size, peaks })
    }

    /// Returns the number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the roots of the perfect subtrees, largest first.
    pub fn peaks(&self) -> &[Root] {
        &self.peaks
    }

    /// Adds one leaf.
    pub fn push(&mut self, leaf: Root) {
        let mut carried = leaf;
        for _ in 0..self.size.trailing_ones() {
            let left = self.peaks.pop().expect("one peak for each set bit of the size");
            carried = node(&left, &carried);
        }
        self.peaks.push(carried);
        self.size += 1;
    }

    /// Computes the root at this size; of the empty tree, SHA-256 of nothing.
    pub fn root(&self) -> Root {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return Root(Sha256::digest([]).into());
        };
        peaks.fold(*last, |right, left| node(left, &right))
    }
}

impl Extend<Root> for Frontier {
    fn extend<T: IntoIterator<Item = Root>>(&mut self, leaves: T) {
        for leaf in leaves {
            self.push(leaf);
        }
    }
}

/// A signed statement of a feed's writer: at this size the feed has this root, recorded at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct BatchHead {
    /// The feed, which is its writer's key.
    pub feed: WriterId,
    /// The number of entries.
    pub size: u64,
    /// The RFC 6962 root over the entries' skeletons.
    pub root: Root,
    /// When the batch was recorded, by the writer's clock.
    pub recorded_at: Timestamp,
    /// Ed25519 over [`BatchHead::signed_text`].
    pub signature: Signature,
}

impl BatchHead {
    /// Returns the text that is signed: the body of a C2SP checkpoint with the instant in microseconds as its extension line.
    pub fn signed_text(feed: &WriterId, size: u64, root: &Root, recorded_at: Timestamp) -> String {
        use base64::Engine;
        let root_text = base64::engine::general_purpose::STANDARD.encode(root.0);
        let mut feed_hex = Vec::with_capacity(64);
        crate::address::push_hex(&mut feed_hex, &feed.0);
        let feed_hex = String::from_utf8(feed_hex).expect("hex is ASCII");
        format!("burnlog/feed/{feed_hex}\n{size}\n{root_text}\nrecorded_at {}\n", recorded_at.as_micros())
    }

    /// Checks the signature, strictly (no small-order keys, canonical encodings only). `Denied` when it does not hold.
    pub fn verify(&self) -> Result<()> {
        let denied = |why: &str| {
            Error::new(ErrorKind::Denied, "verify batch head", format!("{why} at size {}", self.size))
                .at(self.feed)
        };
        let text = Self::signed_text(&self.feed, self.size, &self.root, self.recorded_at);
        if self.feed.verifies(text.as_bytes(), &self.signature) {
            Ok(())
        } else {
            Err(denied("the signature does not hold"))
        }
    }

    /// As [`BatchHead::verify`], and returns the proof of it.
    pub fn verified(self) -> Result<VerifiedHead> {
        self.verify().map(|()| VerifiedHead(self))
    }
}

/// A batch head whose signature holds: it was checked where this was made, and need not be again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifiedHead(BatchHead);

impl std::ops::Deref for VerifiedHead {
    type Target = BatchHead;

    fn deref(&self) -> &BatchHead {
        &self.0
    }
}

impl WriterId {
    /// Tells whether `signature` over `message` is by this key, strictly: canonical encodings only, no key of small order.
    pub fn verifies(&self, message: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

/// A writer's secret key. Whoever holds it can grow the feed; keep it in host-local state.
pub struct WriterKey(SigningKey);

impl WriterKey {
    /// Makes the key from its 32 secret bytes, which must come from a secure random source.
    pub fn from_secret(secret: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&secret))
    }

    /// Returns the secret bytes, for keeping.
    pub fn secret(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Returns the writer id: the public half.
    pub fn writer(&self) -> WriterId {
        WriterId(self.0.verifying_key().to_bytes())
    }

    /// Signs the head of a feed at a frontier.
    pub fn sign_head(&self, frontier: &Frontier, recorded_at: Timestamp) -> BatchHead {
        let (feed, size, root) = (self.writer(), frontier.size(), frontier.root());
        let text = BatchHead::signed_text(&feed, size, &root, recorded_at);
        let signature = Signature(self.0.sign(text.as_bytes()).to_bytes());
        BatchHead { feed, size, root, recorded_at, signature }
    }
}

impl std::fmt::Debug for WriterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WriterKey({})", self.writer())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 6962, section 2.1, written as the definition is: split at the largest power of two below n.
    fn root_by_definition(leaves: &[Root]) -> Root {
        match leaves.len() {
            0 => Root(Sha256::digest([]).into()),
            1 => leaves[0],
            n => {
                let split = 1 << (usize::BITS - 1 - (n - 1).leading_zeros());
                node(&root_by_definition(&leaves[..split]), &root_by_definition(&leaves[split..]))
            }
        }
    }

    proptest! {
        #[test]
        fn the_frontier_has_the_root_of_the_definition(n in 0usize..200) {
            let leaves: Vec<Root> = (0..n).map(|i| leaf(&i.to_le_bytes())).collect();
            let mut frontier = Frontier::default();
            for (i, l) in leaves.iter().enumerate() {
                prop_assert_eq!(frontier.root(), root_by_definition(&leaves[..i]));
                frontier.push(*l);
                let stored = Frontier::from_parts(frontier.size(), frontier.peaks().to_vec());
                prop_assert_eq!(stored.as_ref(), Some(&frontier));
            }
            prop_assert_eq!(frontier.root(), root_by_definition(&leaves));
        }
    }

    #[test]
    fn a_head_verifies_only_as_signed() {
        let key = WriterKey::from_secret([7; 32]);
        let mut frontier = Frontier::default();
        frontier.push(leaf(b"x"));
        let head = key.sign_head(&frontier, Timestamp::from_micros(1));
        head.verify().unwrap();
        let other = WriterKey::from_secret([8; 32]).writer();
        let forged = [
            BatchHead { size: 2, ..head },
            BatchHead { root: leaf(b"y"), ..head },
            BatchHead { recorded_at: Timestamp::from_micros(2), ..head },
            BatchHead { feed: other, ..head },
            BatchHead { signature: Signature([0; 64]), ..head },
        ];
        for head in forged {
            assert_eq!(head.verify().unwrap_err().kind(), ErrorKind::Denied);
            assert_eq!(head.verified().unwrap_err().kind(), ErrorKind::Denied);
        }
    }
}
