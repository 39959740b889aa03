//! A batch under construction: events encoded and hashed once, side by side in one buffer.

use crate::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, PAYLOAD_BYTES_MAX, SKELETON_BYTES_MAX};
use crate::{Address, Error, ErrorKind, PayloadHash, Position, Result, Skeleton};
use std::ops::Range;

/// Events to be appended together. Reusable: [`Batch::clear`] keeps the memory.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone)]
struct Item {
    address: Address,
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
        let invalid = |message: String| Err(Error::new(ErrorKind::Invalid, "encode event", message));
        if payload.len() > PAYLOAD_BYTES_MAX {
            return invalid(format!(
                "payload of {} bytes, at most {PAYLOAD_BYTES_MAX} are allowed",
                payload.len()
            ));
        }
        let payload_hash = PayloadHash::of(payload);
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
        let address = Address::of(&self.bytes[start..middle]);
        self.bytes.extend_from_slice(payload);
        self.items.push(Item {
            address,
            payload_hash,
            skeleton: start..middle,
            payload: middle..self.bytes.len(),
        });
        Ok(self.event(self.items.len() - 1))
    }

    /// Returns the event at `position`, in the order of pushing.
    pub fn event(&self, position: usize) -> BatchEvent<'_> {
        let item = &self.items[position];
        BatchEvent {
            address: item.address,
            payload_hash: item.payload_hash,
            skeleton: &self.bytes[item.skeleton.clone()],
            payload: &self.bytes[item.payload.clone()],
        }
    }

    /// Returns the events in the order of pushing.
    pub fn events(&self) -> impl ExactSizeIterator<Item = BatchEvent<'_>> {
        (0..self.items.len()).map(|position| self.event(position))
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
