//! A batch before its transaction: its shape checked, and its events compressed on the guess that all of them are
//! new. Knows nothing of the store.

use super::block::{Encoder, cut};
use super::fault::Fail;
use burnlog_log::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, PAYLOAD_BYTES_MAX, SKELETON_BYTES_MAX};
use burnlog_log::{Address, Append, Error, ErrorKind, NewEvent, Result};
use std::collections::HashMap;
use std::ops::Range;

/// How blocks are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Packing {
    pub(crate) block_bytes: usize,
    pub(crate) level: i32,
}

/// A batch whose shape is right.
pub(crate) struct Plan<'a> {
    pub(crate) append: &'a Append<'a>,
    /// Events sent along, by entry; `None` where the entry has none with it.
    pub(crate) sent: Vec<Option<&'a NewEvent<'a>>>,
    packing: Packing,
}

/// New events, compressed.
pub(crate) struct Packed {
    /// The entries whose events are new, ascending.
    pub(crate) new: Vec<usize>,
    pub(crate) blocks: Vec<Block>,
}

/// A block on its way into its table.
pub(crate) struct Block {
    /// The range in [`Packed::new`].
    pub(crate) events: Range<usize>,
    pub(crate) raw_bytes: u64,
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn refused(kind: ErrorKind, message: impl Into<String>, append: &Append<'_>) -> Error {
    Error::new(kind, "append", message).at(append.head.feed)
}

impl<'a> Plan<'a> {
    /// Checks what can be said of a batch without looking at the ledger, and pairs entries with events.
    pub(crate) fn new(append: &'a Append<'a>, packing: Packing) -> Result<Self> {
        check_sizes(append)?;
        let invalid = |message: String| Err(refused(ErrorKind::Invalid, message, append));
        let mut positions: HashMap<&Address, usize> = HashMap::with_capacity(append.entries.len());
        for (position, address) in append.entries.iter().enumerate() {
            if positions.insert(address, position).is_some() {
                return invalid(format!("{address} occurs twice in the batch"));
            }
        }
        let mut sent = vec![None; append.entries.len()];
        for event in append.events {
            match positions.get(&event.address) {
                Some(position) => sent[*position] = Some(event),
                None => return invalid(format!("no entry names the event {}", event.address)),
            }
        }
        Ok(Self { append, sent, packing })
    }

    /// Packs all events that were sent, as if the ledger had none of them.
    pub(crate) fn pack_all(&self) -> Result<Packed, Fail> {
        self.pack((0..self.sent.len()).filter(|position| self.sent[*position].is_some()).collect())
    }

    /// Packs the events of these entries, in their order.
    pub(crate) fn pack(&self, new: Vec<usize>) -> Result<Packed, Fail> {
        let sizes: Vec<usize> = new.iter().map(|position| event_bytes(self.event(*position))).collect();
        let mut encoder = Encoder::new(self.packing.level)?;
        let mut blocks = Vec::new();
        for events in cut(&sizes, self.packing.block_bytes) {
            let mut raw = Vec::with_capacity(sizes[events.clone()].iter().sum());
            for position in &new[events.clone()] {
                let event = self.event(*position);
                raw.extend_from_slice(event.skeleton);
                raw.extend_from_slice(event.payload.unwrap_or_default());
            }
            blocks.push(Block { events, raw_bytes: raw.len() as u64, bytes: encoder.encode(&raw)? });
        }
        Ok(Packed { new, blocks })
    }

    /// Returns the event sent with an entry that has one.
    pub(crate) fn event(&self, position: usize) -> &'a NewEvent<'a> {
        self.sent[position].expect("only sent events are packed")
    }
}

fn event_bytes(event: &NewEvent<'_>) -> usize {
    event.skeleton.len() + event.payload.map_or(0, <[u8]>::len)
}

fn check_sizes(append: &Append<'_>) -> Result<()> {
    let invalid = |message: String| Err(refused(ErrorKind::Invalid, message, append));
    let Append { expected_size, entries, events, head, frontier, .. } = append;
    if entries.is_empty() {
        return invalid("an empty batch".to_owned());
    }
    if entries.len() > BATCH_ENTRIES_MAX {
        return invalid(format!("{} entries, at most {BATCH_ENTRIES_MAX} are allowed", entries.len()));
    }
    let size = expected_size.checked_add(entries.len() as u64);
    if size != Some(head.size) || i64::try_from(head.size).is_err() {
        return invalid("the head's size is not the expected size and the entries".to_owned());
    }
    if frontier.len() != head.size.count_ones() as usize {
        return invalid("the frontier does not belong to the size".to_owned());
    }
    let mut bytes = 0;
    for event in *events {
        if event.skeleton.len() > SKELETON_BYTES_MAX
            || event.payload.map_or(0, <[u8]>::len) > PAYLOAD_BYTES_MAX
        {
            return invalid(format!("the event {} is too large", event.address));
        }
        bytes += event_bytes(event) as u64;
    }
    if bytes > BATCH_BYTES_MAX {
        return invalid(format!("{bytes} bytes, at most {BATCH_BYTES_MAX} are allowed"));
    }
    Ok(())
}
