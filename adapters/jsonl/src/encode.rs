//! A batch on its way into a segment: what can be said and done about it without looking at the ledger. Checks its shape
//! and writes its lines; which events are new is told from outside.

use crate::files::io_error;
use crate::line::push_entry;
use crate::pack::Packer;
use crate::recover::ScannedEntry;
use burnlog_log::limits::{BATCH_BYTES_MAX, BATCH_ENTRIES_MAX, PAYLOAD_BYTES_MAX, SKELETON_BYTES_MAX};
use burnlog_log::{Append, Error, ErrorKind, NewEvent, Result};
use hashbrown::{HashMap, HashSet};

/// How lines are written.
pub(crate) enum Written<'a> {
    /// Each entry for itself.
    Plain,
    /// Compressed together, about so many bytes of lines in a pack.
    Packed(&'a mut Packer, usize),
}

/// The entry lines of a batch and what they hold.
pub(crate) struct Encoded {
    pub(crate) lines: Vec<u8>,
    pub(crate) crc: u32,
    pub(crate) is_packed: bool,
    pub(crate) entries: Vec<ScannedEntry>,
    /// For each entry the position of its event in the batch, if it was sent.
    events: Vec<Option<u32>>,
}

impl Encoded {
    /// Checks the shape of a batch; [`Encoded::write`] writes its lines.
    ///
    /// `Invalid` when the batch breaks a limit or does not fit together.
    pub(crate) fn new(append: &Append<'_>) -> Result<Self> {
        check_shape(append)?;
        let events = assign_events(append)?;
        Ok(Self { lines: Vec::new(), crc: 0, is_packed: false, entries: Vec::new(), events })
    }

    /// Whether the event of an entry was sent.
    pub(crate) fn has_event(&self, ordinal: usize) -> bool {
        self.events[ordinal].is_some()
    }

    /// Returns the bytes of the events sent that are new.
    pub(crate) fn new_bytes(&self, append: &Append<'_>, is_new: &dyn Fn(usize) -> bool) -> usize {
        let new = self.events.iter().enumerate().filter(|(ordinal, _)| is_new(*ordinal));
        new.filter_map(|(_, sent)| sent.map(|position| event_bytes(&append.events[position as usize]))).sum()
    }

    /// Writes the lines; an event that is not new is written as an entry only.
    pub(crate) fn write(
        &mut self,
        append: &Append<'_>,
        mut how: Written<'_>,
        is_new: &dyn Fn(usize) -> bool,
    ) -> Result<()> {
        self.lines.clear();
        self.entries.clear();
        self.is_packed = matches!(how, Written::Packed(..));
        let bytes = self.new_bytes(append, is_new);
        let (mut packs, mut pack_bytes) = (0, 0);
        match &how {
            Written::Plain => self.lines.reserve(bytes + append.entries.len() * 192 + 1024),
            // Of like size, none of them small.
            Written::Packed(_, bytes_wanted) => {
                packs = (bytes / bytes_wanted).max(1);
                pack_bytes = bytes / packs;
            }
        }
        let mut is_begun = false;
        for (ordinal, address) in append.entries.iter().enumerate() {
            let sent = self.events[ordinal].filter(|_| is_new(ordinal));
            let event = sent.map(|position| &append.events[position as usize]);
            let parts = event.map(|event| (event.skeleton, event.payload));
            match &mut how {
                Written::Plain => push_entry(&mut self.lines, ordinal as u32, address, parts),
                Written::Packed(packer, _) => {
                    if !is_begun {
                        packer.begin(ordinal as u32);
                    }
                    packer.push(address, parts);
                    let plain_bytes = packer.plain_bytes();
                    let is_last = ordinal + 1 == append.entries.len();
                    // The last takes the rest, unless escapes make it far longer than what was sent.
                    let is_full = plain_bytes >= if packs > 1 { pack_bytes } else { 2 * pack_bytes };
                    is_begun = !is_last && !is_full;
                    if !is_begun {
                        packs -= usize::from(packs > 1);
                        let failed = |error| io_error("append", "zstd", error);
                        packer.finish(&mut self.lines).map_err(failed)?;
                    }
                }
            }
            self.entries.push(ScannedEntry {
                ordinal: ordinal as u32,
                address: *address,
                has_event: event.is_some(),
                is_erased: event.is_some_and(|event| event.payload.is_none()),
                payload_bytes: event.and_then(|event| event.payload).map_or(0, <[u8]>::len) as u32,
            });
        }
        self.crc = crc32fast::hash(&self.lines);
        Ok(())
    }
}

fn event_bytes(event: &NewEvent<'_>) -> usize {
    event.skeleton.len() + event.payload.map_or(0, <[u8]>::len)
}

fn invalid(append: &Append<'_>, message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, "append", message).at(append.head.feed)
}

fn check_shape(append: &Append<'_>) -> Result<()> {
    let Append { expected_size, entries, events, head, frontier, .. } = append;
    if entries.is_empty() {
        return Err(invalid(append, "a batch has at least one entry"));
    }
    if expected_size.checked_add(entries.len() as u64) != Some(head.size) {
        return Err(invalid(append, "the size of the head is not the expected size and the entries"));
    }
    if frontier.len() != head.size.count_ones() as usize {
        return Err(invalid(append, "the frontier does not belong to the size of the head"));
    }
    let bytes: u64 = events.iter().map(|event| event_bytes(event) as u64).sum();
    if entries.len() > BATCH_ENTRIES_MAX || bytes > BATCH_BYTES_MAX {
        let message = format!(
            "{} entries and {bytes} bytes; a batch has at most {BATCH_ENTRIES_MAX} and {BATCH_BYTES_MAX}",
            entries.len()
        );
        return Err(invalid(append, message));
    }
    for event in *events {
        let payload_bytes = event.payload.map_or(0, <[u8]>::len);
        if event.skeleton.len() > SKELETON_BYTES_MAX || payload_bytes > PAYLOAD_BYTES_MAX {
            let message = format!(
                "event {} has {} and {payload_bytes} bytes; at most {SKELETON_BYTES_MAX} and {PAYLOAD_BYTES_MAX} are allowed",
                event.address,
                event.skeleton.len()
            );
            return Err(invalid(append, message));
        }
    }
    Ok(())
}

/// Finds the event of each entry.
fn assign_events(append: &Append<'_>) -> Result<Vec<Option<u32>>> {
    let mut seen = HashSet::with_capacity(append.entries.len());
    if let Some(twice) = append.entries.iter().find(|address| !seen.insert(**address)) {
        return Err(invalid(append, format!("{twice} occurs twice in the batch")));
    }
    let is_aligned = append.events.len() == append.entries.len()
        && append.events.iter().zip(append.entries).all(|(event, address)| event.address == *address);
    if is_aligned {
        return Ok((0..append.entries.len() as u32).map(Some).collect());
    }
    if let Some(event) = append.events.iter().find(|event| !seen.contains(&event.address)) {
        return Err(invalid(append, format!("event {} is named by no entry", event.address)));
    }
    let by_address: HashMap<_, u32> =
        append.events.iter().zip(0..).map(|(event, position)| (event.address, position)).collect();
    Ok(append.entries.iter().map(|address| by_address.get(address).copied()).collect())
}
