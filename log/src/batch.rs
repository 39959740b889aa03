//! A batch under construction: events encoded and hashed once, side by side in one buffer. Addresses are computed when they are first
//! asked for, all at once.

use crate::hashing::hash_each;
use crate::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, PAYLOAD_BYTES_MAX, SKELETON_BYTES_MAX};
use crate::{Address, Error, ErrorKind, PayloadHash, Position, Result, Skeleton};
use std::ops::Range;
use std::sync::OnceLock;

/// Events to be appended together. Reusable: [`Batch::clear`] keeps the memory.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone)]
struct Item {
    /// Empty until somebody asks.
    address: OnceLock<Address>,
    payload_hash: PayloadHash,
    skeleton: Range<usize>,
    payload: Range<usize>,
}

/// One event of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchEvent<'a> {
    /// BLAKE3 of the skeleton.
    pub address: Address,
    /// BLAKE3 of the payload.
    pub payload_hash: PayloadHash,
    /// The canonical bytes.
    pub skeleton: &'a [u8],
    /// The record.
    pub payload: &'a [u8],
}

impl Batch {
    /// Adds an event: hashes the payload, encodes the skeleton, computes the address.
    ///
    /// `Invalid` when the payload or the skeleton is too long; the batch is then unchanged.
    pub fn push(&mut self, position: Position<'_>, payload: &[u8]) -> Result<BatchEvent<'_>> {
        self.push_hashed(position, payload, PayloadHash::of(payload))?;
        Ok(self.event(self.items.len() - 1))
    }

    /// Adds an event whose payload was hashed before, by [`PayloadHash::of_each`]: encodes the skeleton.
    ///
    /// Errors as [`Batch::push`].
    pub fn push_hashed(
        &mut self,
        position: Position<'_>,
        payload: &[u8],
        payload_hash: PayloadHash,
    ) -> Result<()> {
        debug_assert_eq!(payload_hash, PayloadHash::of(payload), "a hash belongs to its own payload");
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, "encode event", message));
        if payload.len() > PAYLOAD_BYTES_MAX {
            return invalid(format!(
                "payload of {} bytes, at most {PAYLOAD_BYTES_MAX} are allowed",
                payload.len()
            ));
        }
        let start = self.bytes.len();
        Skeleton { position, payload: payload_hash, bytes: payload.len() as u64 }.encode(&mut self.bytes);
        let middle = self.bytes.len();
        if middle - start > SKELETON_BYTES_MAX {
            self.bytes.truncate(start);
            return invalid(format!(
                "skeleton of {} bytes, at most {SKELETON_BYTES_MAX} are allowed",
                middle - start
            ));
        }
        self.bytes.extend_from_slice(payload);
        self.items.push(Item {
            address: OnceLock::new(),
            payload_hash,
            skeleton: start..middle,
            payload: middle..self.bytes.len(),
        });
        Ok(())
    }

    /// Returns the event at `position`, in the order of pushing.
    pub fn event(&self, position: usize) -> BatchEvent<'_> {
        let item = &self.items[position];
        let skeleton = &self.bytes[item.skeleton.clone()];
        BatchEvent {
            address: *item.address.get_or_init(|| Address::of(skeleton)),
            payload_hash: item.payload_hash,
            skeleton,
            payload: &self.bytes[item.payload.clone()],
        }
    }

    /// Returns the events in the order of pushing.
    pub fn events(&self) -> impl ExactSizeIterator<Item = BatchEvent<'_>> {
        self.compute_addresses();
        (0..self.items.len()).map(|position| self.event(position))
    }

    fn compute_addresses(&self) {
        let unknown = self.items.iter().filter(|item| item.address.get().is_none());
        let (items, skeletons): (Vec<&Item>, Vec<&[u8]>) =
            unknown.map(|item| (item, &self.bytes[item.skeleton.clone()])).unzip();
        for (item, address) in items.into_iter().zip(hash_each(&skeletons)) {
            // Somebody else may have been faster; the address is the same.
            let _ = item.address.set(Address(address));
        }
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Returns the bytes of skeletons and payloads, summed.
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Returns whether an event with a payload of `payload_bytes` may still go in.
    pub fn has_room_for(&self, payload_bytes: usize) -> bool {
        let bytes = self.bytes.len() + payload_bytes + SKELETON_BYTES_MAX;
        self.items.len() < BATCH_ENTRIES_MAX && bytes as u64 <= BATCH_BYTES_MAX
    }

    /// Empties the batch and keeps up to 4 MiB of its memory.
    pub fn clear(&mut self) {
        self.items.clear();
        self.bytes.clear();
        self.bytes.shrink_to(4 << 20);
    }
}
