//! Getting at the lines of a segment: opening it, finding the block that holds a slot, remembering both. Sealed segments are
//! read by frames, active ones by batches, and large batches piece by piece.

use crate::block::Block;
use crate::cache::{Marks, Source};
use crate::commit::Commit;
use crate::files::{Access, File, read_range};
use crate::index::Place;
use crate::sealed::{Frame, SealedFile};
use crate::segment::{Form, Part, SegmentRef};
use crate::store::Store;
use burnlog_log::Body;
use bytes::Bytes;
use std::io;
use std::sync::Arc;

/// Batches up to this size are read whole.
const REGION_BYTES_MAX: u64 = 2 << 20;
/// Of a larger one so much at a time.
const WINDOW_BYTES: usize = 1 << 20;
/// How much is read to find the end of a commit line.
const COMMIT_BYTES: usize = 8 << 10;

/// Why a slot cannot be read, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    pub(crate) place: String,
    pub(crate) reason: String,
}

impl Unreadable {
    pub(crate) fn body(self) -> Body {
        Body::Damaged { place: self.place, reason: self.reason }
    }
}

impl Store {
    /// Opens a segment, or finds it open.
    pub(crate) fn source(&self, segment: &SegmentRef) -> Result<Source, String> {
        if let Some(source) = self.cache().source(segment.id) {
            return Ok(source);
        }
        let source = self.open_source(segment).map_err(|error| error.to_string())?;
        self.cache().put_source(segment.id, source.clone());
        Ok(source)
    }

    fn open_source(&self, segment: &SegmentRef) -> io::Result<Source> {
        if segment.form == Form::Active {
            match self.files().open(&Part::Active.path(&self.folder, &segment.name), Access::Read) {
                Ok(file) => return Ok(Source::Active(file)),
                // Sealed since the state was looked at.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let file = self.files().open(&Part::Sealed.path(&self.folder, &segment.name), Access::Read)?;
        Ok(Source::Sealed(Arc::new(SealedFile::open(file, self.ledger)?)))
    }

    /// Returns the block that holds a slot of a batch; where the line is damaged, the block in which it should be. Where
    /// it is known what is `wanted` (segment and slot, ascending), the block may have only that.
    pub(crate) fn block(
        &self,
        segment: &SegmentRef,
        place: &Place,
        slot: u32,
        wanted: Option<&[(u64, u32)]>,
    ) -> Result<Arc<Block>, Unreadable> {
        let unreadable = |reason: String| Unreadable { place: Self::place_text(segment, place), reason };
        match self.source(segment).map_err(unreadable)? {
            Source::Sealed(sealed) => {
                let frame =
                    sealed.frame_of(slot).ok_or_else(|| unreadable(format!("no frame holds slot {slot}")))?;
                let slots = wanted.map(|wanted| {
                    let Frame { first_slot, slots, .. } = sealed.table.frames[frame];
                    let first = wanted.partition_point(|at| *at < (segment.id, first_slot));
                    let end = (segment.id, first_slot.saturating_add(slots));
                    let mut slots: Vec<u32> =
                        wanted[first..].iter().take_while(|at| **at < end).map(|(_, slot)| *slot).collect();
                    slots.dedup();
                    slots
                });
                self.sealed_block(segment, &sealed, frame, slot, slots.as_deref()).map_err(|reason| {
                    Unreadable {
                        place: format!("{} at {}", segment.display(), sealed.table.frames[frame].offset),
                        reason,
                    }
                })
            }
            Source::Active(file) if place.bytes <= REGION_BYTES_MAX => {
                self.region(segment, place, &*file).map_err(|error| unreadable(error.to_string()))
            }
            Source::Active(file) => {
                self.window(segment, place, &*file, slot).map_err(|error| unreadable(error.to_string()))
            }
        }
    }

    /// Describes where a batch stands.
    pub(crate) fn place_text(segment: &SegmentRef, place: &Place) -> String {
        if place.bytes > 0 {
            format!("{} at {} to {}", segment.display(), place.offset, place.offset + place.bytes)
        } else {
            format!("{} at slot {}", segment.display(), place.first_slot)
        }
    }

    /// Returns the block of a frame with the line of a slot, if the frame has it; where it is known which `slots` are wanted,
    /// the block may have no others.
    fn sealed_block(
        &self,
        segment: &SegmentRef,
        sealed: &SealedFile,
        frame: usize,
        slot: u32,
        slots: Option<&[u32]>,
    ) -> Result<Arc<Block>, String> {
        let key = (segment.id, frame as u64);
        let known = self.cache().block(key);
        let block = match (known, slots) {
            (Some(block), None) if !block.is_part() => return Ok(block),
            (Some(block), Some(_)) if !block.lacks(slot) => return Ok(block),
            // Once more, because two threads may each want some of it. Whoever asks again then goes on asking.
            (known, Some(slots))
                if slots.binary_search(&slot).is_ok()
                    && known.as_ref().is_none_or(|block| !block.is_second_part()) =>
            {
                let block = sealed.block_of(frame, slots)?;
                Arc::new(if known.is_some() { block.into_second_part() } else { block })
            }
            _ => Arc::new(sealed.block(frame)?),
        };
        self.cache().put_block(key, Arc::clone(&block));
        Ok(block)
    }

    fn region(&self, segment: &SegmentRef, place: &Place, file: &dyn File) -> io::Result<Arc<Block>> {
        let key = (segment.id, place.offset);
        if let Some(block) = self.cache().block(key) {
            return Ok(block);
        }
        let bytes = read_range(file, place.offset, place.bytes as usize)?;
        let block = Arc::new(Block::of_active(bytes.into(), place.first_slot, place.count));
        self.cache().put_block(key, Arc::clone(&block));
        Ok(block)
    }

    /// Reads the piece of a large batch that holds a slot, from the nearest place that is known.
    fn window(
        &self,
        segment: &SegmentRef,
        place: &Place,
        file: &dyn File,
        slot: u32,
    ) -> io::Result<Arc<Block>> {
        let region = (segment.id, place.offset);
        let known = self.cache().marks(region);
        let mut marks: Marks =
            known.map_or_else(|| vec![(place.first_slot, place.offset)], |known| known.to_vec());
        let count = marks.len();
        let mut at = marks.partition_point(|(first, _)| *first <= slot).saturating_sub(1);
        loop {
            let (first, offset) = marks[at];
            let (block, end) = self.piece(segment, place, file, offset)?;
            let next = block.last_slot().map_or(first, |last| last + 1);
            if at + 1 == marks.len() && end < place.offset + place.bytes {
                marks.push((next, end));
            }
            if next > slot || end >= place.offset + place.bytes {
                if marks.len() > count {
                    self.cache().put_marks(region, marks);
                }
                return Ok(block);
            }
            at += 1;
        }
    }

    /// Reads whole lines from an offset inside a batch; returns them and where they end.
    fn piece(
        &self,
        segment: &SegmentRef,
        place: &Place,
        file: &dyn File,
        offset: u64,
    ) -> io::Result<(Arc<Block>, u64)> {
        let end = place.offset + place.bytes;
        let key = (segment.id, offset | 1 << 63);
        if let Some(block) = self.cache().block(key) {
            return Ok((Arc::clone(&block), offset + block.file_bytes() as u64));
        }
        let mut length = WINDOW_BYTES;
        loop {
            let bytes = read_range(file, offset, (end - offset).min(length as u64) as usize)?;
            let is_short = bytes.len() < length;
            let whole = memchr::memrchr(b'\n', &bytes).map_or(0, |at| at + 1);
            if whole > 0 || is_short {
                // A last line without its end is damaged; it is left out so that reading comes to the end.
                let bytes = Bytes::from(bytes);
                let taken = if is_short { bytes } else { bytes.slice(..whole) };
                let taken_bytes = if is_short { end - offset } else { whole as u64 };
                let block = Arc::new(Block::of_active(taken, place.first_slot, place.count));
                if !is_short {
                    self.cache().put_block(key, Arc::clone(&block));
                }
                return Ok((block, offset + taken_bytes));
            }
            length *= 2;
        }
    }

    /// Reads the commit line of a batch.
    pub(crate) fn commit(&self, segment: &SegmentRef, place: &Place) -> Option<Commit> {
        match self.source(segment).ok()? {
            Source::Active(file) => {
                let bytes = read_range(&*file, place.offset + place.bytes, COMMIT_BYTES).ok()?;
                let end = memchr::memchr(b'\n', &bytes)?;
                Commit::parse_active(&bytes[..end])
            }
            Source::Sealed(sealed) => {
                let last = place.end_slot().saturating_sub(1);
                let frame = sealed.frame_of(last)?;
                // The frame may end between the last entry and the commit line.
                let mut frames = frame..sealed.table.frames.len().min(frame + 2);
                frames.find_map(|frame| {
                    self.sealed_block(segment, &sealed, frame, last, None).ok()?.commit_after(last)
                })
            }
        }
    }
}
