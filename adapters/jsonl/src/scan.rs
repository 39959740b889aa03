//! Reading segments for the index: what was appended to an active one, what a sealed one holds. Fills the tail; decides nothing
//! about files.

use crate::block::Content;
use crate::commit::{ACTIVE_FORMAT, ACTIVE_FORMAT_MIN, HEADER_BYTES, parse_header};
use crate::files::{Access, File, fill_range, io_error, read_range};
use crate::index::{AddressRow, BatchRow, Failure, Place, SlotRow, Tail, fingerprint};
use crate::published::{Length, read_length};
use crate::recover::{ScannedBatch, Start, Walk, sound_batches};
use crate::refresh::TAIL_ROWS_MAX;
use crate::sealed::SealedFile;
use crate::segment::{Extent, Part, Segment};
use crate::store::{State, Store};
use std::io;
use std::sync::Arc;

/// How much of an active segment is read at a time, into the same memory: what a short program reads each time it starts is
/// to stay in the processor's cache. Batches that are larger double it.
const WINDOW_BYTES: usize = 128 << 10;
/// From this size a window that holds no whole batch is taken for damage.
const WINDOW_BYTES_MAX: usize = 256 << 20;

type Outcome<T> = std::result::Result<T, Failure>;

impl Store {
    /// Reads what was appended to an active segment since it was last looked at.
    pub(crate) fn scan_active(&self, state: &mut State, number: u32) -> Outcome<()> {
        let Segment { name, known, accepted_bytes, .. } = state.segments[number as usize].clone();
        let path = Part::Published.path(&self.folder, &name);
        let failed = |error| io_error("read segment", format_args!("segments/{name}.jsonl"), error);
        let own =
            state.writer.as_ref().filter(|writer| writer.name == name).map(|writer| writer.durable.bytes);
        let published = match own {
            Some(bytes) => Some(Length { visible: bytes, synced: bytes }),
            None => read_length(self.files(), &path)
                .map_err(failed)?
                .map(|length| Length { visible: length.visible.max(accepted_bytes), ..length }),
        };
        if published.is_some_and(|length| length.visible == known.bytes) {
            return Ok(());
        }
        let file = match self.open_active(&name) {
            Ok(file) => file,
            // Sealed between listing and opening: the next look finds it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(failed(error).into()),
        };
        if known.bytes == 0 {
            match self.check_header(&*file) {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    state.note_damage(&name, ".jsonl", 0, error.to_string());
                    return Ok(());
                }
                result => result.map_err(failed)?,
            }
        }
        let end = match published {
            Some(length) => length.visible,
            None => file.bytes().map_err(failed)?,
        };
        self.scan_active_to(state, number, &*file, end, published.map(|length| length.synced))
    }

    /// Refuses a segment of another version or ledger. A header that cannot be read is left to recovery.
    fn check_header(&self, file: &dyn File) -> io::Result<()> {
        let bytes = read_range(file, 0, HEADER_BYTES)?;
        let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        match parse_header(line) {
            Some(header) if !(ACTIVE_FORMAT_MIN..=ACTIVE_FORMAT).contains(&header.format) => {
                let message = format!(
                    "the segment has format {}, this program reads {ACTIVE_FORMAT_MIN} to {ACTIVE_FORMAT}",
                    header.format
                );
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
            Some(header) if header.ledger != self.ledger => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "the segment belongs to another ledger"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Reads an active segment from what is known of it to `end`. Up to `durable` everything must be sound.
    pub(crate) fn scan_active_to(
        &self,
        state: &mut State,
        number: u32,
        file: &dyn File,
        end: u64,
        durable: Option<u64>,
    ) -> Outcome<()> {
        let name = Arc::clone(&state.segments[number as usize].name);
        let failed = |error| io_error("read segment", format_args!("segments/{name}.jsonl"), error);
        let mut window = WINDOW_BYTES;
        let mut bytes = Vec::new();
        loop {
            let known = state.segments[number as usize].known;
            let at = Start { offset: known.bytes, slot: known.slots };
            let length = (end.saturating_sub(at.offset)).min(window as u64) as usize;
            bytes.resize(length, 0);
            let filled = fill_range(file, at.offset, &mut bytes).map_err(failed)?;
            let sound = &bytes[..filled];
            let after = sound_batches(sound, at, &mut |batch| Self::take_up(state, number, &batch));
            state.segments[number as usize].known.bytes = after.offset;
            if state.index.tail.counts().rows >= TAIL_ROWS_MAX {
                self.flush(state)?;
            }
            if after.offset >= end {
                return Ok(());
            }
            if after.offset > at.offset {
                continue;
            }
            if length == window && window < WINDOW_BYTES_MAX {
                window *= 2;
                continue;
            }
            break;
        }
        Self::scan_damaged(state, number, file, end, durable)
    }

    /// Reads the rest of an active segment in which something does not fit.
    fn scan_damaged(
        state: &mut State,
        number: u32,
        file: &dyn File,
        end: u64,
        durable: Option<u64>,
    ) -> Outcome<()> {
        let Segment { name, known, .. } = state.segments[number as usize].clone();
        let failed = |error| io_error("read segment", format_args!("segments/{name}.jsonl"), error);
        let bytes =
            read_range(file, known.bytes, end.saturating_sub(known.bytes) as usize).map_err(failed)?;
        let start = Start { offset: known.bytes, slot: known.slots };
        let walk = Walk { bytes: &bytes, start, durable };
        let walked = walk.run(&mut |batch| Self::take_up(state, number, &batch));
        let segment = &mut state.segments[number as usize];
        (segment.known.bytes, segment.known.slots) = (walked.committed.offset, walked.committed.slot);
        for range in walked.damage {
            let message = format!("{} bytes cannot all be read: {}", range.bytes, range.reason);
            state.note_damage(&name, ".jsonl", range.offset, message);
        }
        Ok(())
    }

    /// Adds a batch that was found to the tail, as durable.
    pub(crate) fn take_up(state: &mut State, number: u32, batch: &ScannedBatch) {
        let place = Place {
            segment: number,
            first_slot: batch.first_slot,
            count: batch.count,
            offset: batch.offset,
            bytes: batch.bytes,
        };
        match &batch.commit {
            Some(commit) => state.index.tail.push_batch(BatchRow::new(&commit.head, place)),
            None => state.index.tail.push_orphans(SlotRow { place, feed: None }),
        }
        let known = &mut state.segments[number as usize].known;
        for entry in &batch.entries {
            let slot = batch.first_slot + entry.ordinal;
            let fingerprint = fingerprint(&entry.address);
            let row = AddressRow::new(fingerprint, number, slot, entry.has_event, entry.is_erased);
            state.index.tail.push_row(row);
            known.events += u64::from(entry.has_event);
            known.payload_bytes += u64::from(entry.payload_bytes);
        }
        known.slots = batch.first_slot + batch.count;
        known.bytes = batch.end;
        state.index.tail.set_durable();
        state.version += 1;
    }

    /// Reads the slots of a sealed segment that are not known yet.
    pub(crate) fn scan_sealed(&self, state: &mut State, number: u32) -> Outcome<()> {
        let Segment { name, known, .. } = state.segments[number as usize].clone();
        let failed = |error| io_error("read segment", format_args!("segments/{name}.jsonl.zst"), error);
        let opened = self
            .files()
            .open(&Part::Sealed.path(&self.folder, &name), Access::Read)
            .and_then(|file| SealedFile::open(file, self.ledger));
        let sealed = match opened {
            Ok(sealed) => sealed,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A segment of another ledger is not ours to read; the rest stays readable.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                state.note_damage(&name, ".jsonl.zst", 0, error.to_string());
                return Ok(());
            }
            Err(error) => return Err(failed(error).into()),
        };
        if let Some(reason) = &sealed.table_damage {
            state.note_damage(&name, ".jsonl.zst", sealed.table.frames.len() as u64, reason.clone());
        }
        if sealed.table.slots > known.slots {
            for (head, first_slot, count) in sealed.batches().map_err(failed)? {
                if first_slot >= known.slots {
                    let place = Place { segment: number, first_slot, count, offset: 0, bytes: 0 };
                    state.index.tail.push_batch(BatchRow::new(&head, place));
                }
            }
            let mut seen = Extent { slots: sealed.table.slots, ..known };
            for frame in 0..sealed.table.frames.len() {
                if let Err(reason) =
                    scan_frame(&sealed, frame, number, &mut seen, known.slots, &mut state.index.tail)
                {
                    state.note_damage(&name, ".jsonl.zst", sealed.table.frames[frame].offset, reason);
                }
            }
            state.segments[number as usize].known = seen;
            state.index.tail.set_durable();
            state.version += 1;
        }
        state.segments[number as usize].is_complete = true;
        if state.index.tail.counts().rows >= TAIL_ROWS_MAX {
            self.flush(state)?;
        }
        Ok(())
    }
}

/// Adds the entries of a frame to the tail.
fn scan_frame(
    sealed: &SealedFile,
    number: usize,
    segment: u32,
    seen: &mut Extent,
    from_slot: u32,
    tail: &mut Tail,
) -> std::result::Result<(), String> {
    let frame = sealed.table.frames[number];
    if frame.first_slot + frame.slots <= from_slot {
        return Ok(());
    }
    let block = sealed.block(number)?;
    let mut skeletons = Vec::new();
    let mut broken = None;
    for slot in frame.first_slot.max(from_slot)..frame.first_slot + frame.slots {
        skeletons.clear();
        let (address, event) = match block.content(slot, &mut skeletons) {
            Some(Content::Event(mut event)) => (event.address(&mut skeletons), Some(event)),
            Some(Content::Reference(address)) => (address, None),
            None => {
                broken = broken.or(Some(slot));
                continue;
            }
        };
        let is_erased = event.as_ref().is_some_and(|event| event.payload.is_none());
        tail.push_row(AddressRow::new(fingerprint(&address), segment, slot, event.is_some(), is_erased));
        seen.events += u64::from(event.is_some());
        seen.payload_bytes += event.and_then(|event| event.payload).map_or(0, |payload| payload.len() as u64);
    }
    broken.map_or(Ok(()), |slot| Err(format!("the line of slot {slot} cannot be read")))
}
