//! A batch before its transaction: its shape checked, its events laid out in blocks, its rows in the order of
//! addresses. Knows nothing of the store.

use crate::block::{Encoder, Place, lay_out};
use burnlog_log::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, PAYLOAD_BYTES_MAX, SKELETON_BYTES_MAX};
use burnlog_log::{Address, Append, Error, ErrorKind, NewEvent, Result};

/// A batch whose shape is right, with everything that does not depend on the store.
pub(crate) struct Plan<'a> {
    pub(crate) append: &'a Append<'a>,
    /// The new events by ascending address, each address once.
    pub(crate) events: Vec<Planned<'a>>,
    /// The decoded sizes of the blocks.
    block_bytes: Vec<usize>,
    /// The entries as (address, index), by ascending address.
    pub(crate) entries: Vec<(Address, i64)>,
}

/// A new event with its index in the feed and its place in the blocks.
pub(crate) struct Planned<'a> {
    pub(crate) event: &'a NewEvent<'a>,
    pub(crate) index: i64,
    pub(crate) place: Place,
}

impl<'a> Plan<'a> {
    /// Checks the shape of a batch: everything that can be said without the store.
    pub(crate) fn new(append: &'a Append<'a>) -> Result<Self> {
        let refuse =
            |message: String| Err(Error::new(ErrorKind::Invalid, "append", message).at(append.head.feed));
        let Append { expected_size, entries, events, head, frontier, .. } = append;
        if entries.is_empty() {
            return refuse("an empty batch".to_owned());
        }
        if entries.len() > BATCH_ENTRIES_MAX {
            return refuse(format!("{} entries, at most {BATCH_ENTRIES_MAX} are allowed", entries.len()));
        }
        let size = expected_size.checked_add(entries.len() as u64);
        if size != Some(head.size) || i64::try_from(head.size).is_err() {
            return refuse("the head's size is not the expected size and the entries".to_owned());
        }
        if frontier.len() != head.size.count_ones() as usize {
            return refuse("the frontier does not belong to the size".to_owned());
        }
        let mut bytes = 0;
        for event in *events {
            let payload_bytes = event.payload.map_or(0, <[u8]>::len);
            if event.skeleton.len() > SKELETON_BYTES_MAX || payload_bytes > PAYLOAD_BYTES_MAX {
                return refuse(format!("the event {} is too large", event.address));
            }
            bytes += (event.skeleton.len() + payload_bytes) as u64;
        }
        if bytes > BATCH_BYTES_MAX {
            return refuse(format!("{bytes} bytes, at most {BATCH_BYTES_MAX} are allowed"));
        }
        let first = *expected_size as i64;
        let mut sorted: Vec<(Address, i64)> = entries.iter().copied().zip(first..).collect();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return refuse(format!("{} occurs twice in the batch", twice[0].0));
        }
        let mut planned = Vec::with_capacity(events.len());
        for event in *events {
            match sorted.binary_search_by_key(&event.address, |(address, _)| *address) {
                Ok(at) => {
                    planned.push(Planned { event, index: sorted[at].1, place: Place { block: 0, start: 0 } });
                }
                Err(_) => return refuse(format!("no entry names the event {}", event.address)),
            }
        }
        // Blocks in the order of the feed, which is the order of reading; rows in the order of addresses.
        planned.sort_by_key(|planned| planned.index);
        planned.dedup_by_key(|planned| planned.index);
        let (places, block_bytes) = lay_out(planned.iter().map(|planned| planned.event));
        for (planned, place) in planned.iter_mut().zip(places) {
            planned.place = place;
        }
        planned.sort_unstable_by_key(|planned| planned.event.address);
        Ok(Self { append, events: planned, block_bytes, entries: sorted })
    }

    /// Returns how many blocks the events take.
    pub(crate) fn block_count(&self) -> usize {
        self.block_bytes.len()
    }

    /// Fills and compresses the blocks and names them by `ids`. `lost` tells of an event, by its position, that
    /// somebody else brought first: its bytes are in another block, and here there are zeros, so that erasing it
    /// there erases it. A block of lost events only is left out.
    pub(crate) fn encode(&self, ids: &[i64], lost: impl Fn(usize) -> bool) -> Result<Vec<Block>> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Invalid, "append", format!("cannot compress: {error}"))
        };
        let mut raw: Vec<Vec<u8>> = self.block_bytes.iter().map(|size| vec![0; *size]).collect();
        let mut used = vec![false; raw.len()];
        for (position, planned) in self.events.iter().enumerate() {
            if lost(position) {
                continue;
            }
            let NewEvent { skeleton, payload, .. } = planned.event;
            let Place { block, start } = planned.place;
            used[block] = true;
            let (head, tail) = raw[block][start..].split_at_mut(skeleton.len());
            head.copy_from_slice(skeleton);
            if let Some(payload) = payload {
                tail[..payload.len()].copy_from_slice(payload);
            }
        }
        let mut encoder = Encoder::new().map_err(failed)?;
        let mut blocks = Vec::with_capacity(raw.len());
        for ((id, raw), _) in ids.iter().zip(raw).zip(used).filter(|(_, used)| *used) {
            let bytes = encoder.encode(&raw).map_err(failed)?;
            blocks.push(Block { id: *id, raw_bytes: raw.len() as i32, bytes });
        }
        Ok(blocks)
    }
}

/// A compressed block on its way into its table.
pub(crate) struct Block {
    pub(crate) id: i64,
    pub(crate) raw_bytes: i32,
    pub(crate) bytes: Vec<u8>,
}
