//! Sealed segments: independent zstd frames of lines, then three frames that decompressors skip: the batches, the frames, and a
//! trailer of fixed length that says where these two are. Reads them; `seal` writes them.

use crate::block::{Block, SealedLines, lines};
use crate::codec;
use crate::commit::parse_sealed_header;
use crate::decompress::Bench;
use crate::files::{File, read_range};
use crate::index::SLOTS_MAX;
use bincode::{Decode, Encode};
use burnlog_log::limits::BATCH_ENTRIES_MAX;
use burnlog_log::{BatchHead, LedgerId, Root, Signature, Timestamp, WriterId};
use bytes::Bytes;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zstd::zstd_safe;

/// The last two characters are the format.
const TRAILER_MAGIC: &[u8; 8] = b"BLseal01";
const TRAILER_FAMILY: &[u8] = b"BLseal";
const SKIPPABLE_MAGIC: u32 = 0x184D_2A5B;
const SKIPPABLE_HEADER_BYTES: usize = 8;
const TRAILER_BYTES: usize = SKIPPABLE_HEADER_BYTES + 36;
/// No frame is larger: one line of the largest payload in base64.
pub(crate) const FRAME_BYTES_MAX: u64 = 128 << 20;

/// Where a frame lies and what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Frame {
    pub(crate) offset: u64,
    pub(crate) compressed_bytes: u32,
    pub(crate) plain_bytes: u32,
    pub(crate) compressed_crc: u32,
    pub(crate) first_slot: u32,
    pub(crate) slots: u32,
}

/// The table of frames.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct FrameTable {
    pub(crate) ledger: [u8; 16],
    pub(crate) slots: u32,
    pub(crate) events: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) frames: Vec<Frame>,
}

/// The table of batches: the heads once more, so that a damaged frame does not take them along.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct BatchTable {
    feeds: Vec<[u8; 32]>,
    batches: Vec<SealedBatch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
struct SealedBatch {
    feed: u32,
    size: u64,
    count: u32,
    first_slot: u32,
    recorded_at: i64,
    root: [u8; 32],
    signature: [u8; 64],
}

impl BatchTable {
    /// Adds a batch. `numbers` are those of the feeds added so far.
    pub(crate) fn push(
        &mut self,
        numbers: &mut HashMap<WriterId, u32>,
        head: &BatchHead,
        first_slot: u32,
        count: u32,
    ) {
        let feed = *numbers.entry(head.feed).or_insert_with(|| {
            self.feeds.push(head.feed.0);
            self.feeds.len() as u32 - 1
        });
        self.batches.push(SealedBatch {
            feed,
            size: head.size,
            count,
            first_slot,
            recorded_at: head.recorded_at.as_micros(),
            root: head.root.0,
            signature: head.signature.0,
        });
    }

    /// Returns each batch's head, first slot and count, in order. A row that cannot be is left out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (BatchHead, u32, u32)> {
        self.batches.iter().filter_map(|batch| {
            let head = BatchHead {
                feed: WriterId(*self.feeds.get(batch.feed as usize)?),
                size: batch.size,
                root: Root(batch.root),
                recorded_at: Timestamp::from_micros(batch.recorded_at),
                signature: Signature(batch.signature),
            };
            let is_possible = batch.count > 0
                && u64::from(batch.count) <= batch.size
                && batch.count as usize <= BATCH_ENTRIES_MAX
                && batch.first_slot < SLOTS_MAX;
            is_possible.then_some((head, batch.first_slot, batch.count))
        })
    }
}

/// Wraps bytes as a frame that decompressors skip.
fn skippable(content: &[u8]) -> Vec<u8> {
    let mut frame = SKIPPABLE_MAGIC.to_le_bytes().to_vec();
    frame.extend_from_slice(&(content.len() as u32).to_le_bytes());
    frame.extend_from_slice(content);
    frame
}

/// Encodes everything that follows the frames of lines, which end at `offset`.
pub(crate) fn encode_end(offset: u64, frames: &FrameTable, batches: &BatchTable) -> Vec<u8> {
    let (batches, frames) = (codec::encode(batches), codec::encode(frames));
    let mut end = skippable(&batches);
    let frames_offset = offset + end.len() as u64;
    end.extend(skippable(&frames));
    let mut trailer = TRAILER_MAGIC.to_vec();
    trailer.extend_from_slice(&(offset + SKIPPABLE_HEADER_BYTES as u64).to_le_bytes());
    trailer.extend_from_slice(&(batches.len() as u32).to_le_bytes());
    trailer.extend_from_slice(&(frames_offset + SKIPPABLE_HEADER_BYTES as u64).to_le_bytes());
    trailer.extend_from_slice(&(frames.len() as u32).to_le_bytes());
    trailer.extend_from_slice(&crc32fast::hash(&trailer).to_le_bytes());
    end.extend(skippable(&trailer));
    end
}

/// Where a table lies.
#[derive(Debug, Clone, Copy)]
struct Extent {
    offset: u64,
    bytes: u32,
}

/// A sealed segment, open for reading.
#[derive(Debug)]
pub(crate) struct SealedFile {
    file: Arc<dyn File>,
    pub(crate) table: FrameTable,
    batches: Option<Extent>,
    /// What is wrong with the tables, where they had to be made again from the frames.
    pub(crate) table_damage: Option<String>,
    /// Of each frame, whether it was decoded and its lines are as many and of the kinds that the table says.
    whole: Vec<AtomicBool>,
}

impl SealedFile {
    fn new(
        file: Arc<dyn File>,
        table: FrameTable,
        batches: Option<Extent>,
        table_damage: Option<String>,
    ) -> Self {
        let whole = table.frames.iter().map(|_| AtomicBool::new(false)).collect();
        Self { file, table, batches, table_damage, whole }
    }

    /// Opens a sealed segment. Tables that cannot be read are made again from the frames.
    pub(crate) fn open(file: Arc<dyn File>, ledger: LedgerId) -> io::Result<Self> {
        let end = file.bytes()?;
        match read_tables(&*file, end, ledger) {
            Ok((table, batches)) => Ok(Self::new(file, table, Some(batches), None)),
            Err(Problem::Damaged(reason)) => Self::salvage(file, end, ledger, reason),
            Err(Problem::Foreign(error)) => Err(error),
        }
    }

    /// Opens a sealed segment whose tables are sound; `Err` tells what is wrong.
    pub(crate) fn open_sound(file: Arc<dyn File>, ledger: LedgerId) -> Result<Self, String> {
        let end = file.bytes().map_err(|error| error.to_string())?;
        match read_tables(&*file, end, ledger) {
            Ok((table, batches)) => Ok(Self::new(file, table, Some(batches), None)),
            Err(Problem::Damaged(reason)) => Err(reason),
            Err(Problem::Foreign(error)) => Err(error.to_string()),
        }
    }

    /// Returns the number of the frame that holds a slot.
    pub(crate) fn frame_of(&self, slot: u32) -> Option<usize> {
        let next = self.table.frames.partition_point(|frame| frame.first_slot <= slot);
        let found =
            self.table.frames[..next].iter().rposition(|frame| slot - frame.first_slot < frame.slots)?;
        Some(found)
    }

    /// Reads and decompresses a frame; `Err` tells what is wrong with it.
    pub(crate) fn read_frame(&self, number: usize) -> Result<Bytes, String> {
        let (frame, compressed) = self.compressed(number)?;
        let plain = decompress(&compressed, frame.plain_bytes as usize)?;
        if plain.len() != frame.plain_bytes as usize {
            return Err(format!("the frame has {} bytes instead of {}", plain.len(), frame.plain_bytes));
        }
        Ok(plain.into())
    }

    /// Reads a frame as it is; `Err` tells what is wrong with it.
    pub(crate) fn compressed(&self, number: usize) -> Result<(Frame, Vec<u8>), String> {
        let frame = self.frame(number)?;
        let compressed = read_range(&*self.file, frame.offset, frame.compressed_bytes as usize)
            .map_err(|error| error.to_string())?;
        check_frame(&frame, &compressed)?;
        Ok((frame, compressed))
    }

    fn frame(&self, number: usize) -> Result<Frame, String> {
        self.table.frames.get(number).copied().ok_or_else(|| "there is no such frame".to_owned())
    }

    /// Reads of a frame the lines of some slots, ascending, and nothing behind the last of them: less work and far less memory
    /// where a few events are wanted.
    pub(crate) fn block_of(&self, number: usize, slots: &[u32]) -> Result<Block, String> {
        let frame = self.frame(number)?;
        let (length, plain_bytes) = (frame.compressed_bytes as usize, frame.plain_bytes as usize);
        let last = slots.last().copied().unwrap_or(frame.first_slot);
        Bench::with(|bench| {
            let compressed =
                bench.read(&*self.file, frame.offset, length).map_err(|error| error.to_string())?;
            let there = compressed.len();
            check_frame(&frame, compressed)?;
            let mut lines = SealedLines::new(frame.first_slot, plain_bytes);
            let plain = bench.decompress_while(there, plain_bytes, |plain| lines.cut(plain) <= last)?;
            Ok(lines.into_part(plain, plain.len() < plain_bytes, slots))
        })
    }

    /// Reads a frame and cuts it into lines.
    pub(crate) fn block(&self, number: usize) -> Result<Block, String> {
        let bytes = self.read_frame(number)?;
        let block = Block::of_sealed(bytes, self.table.frames[number].first_slot);
        if self.frame_fault(number, &block).is_none() {
            self.whole[number].store(true, Ordering::Relaxed);
        }
        Ok(block)
    }

    /// Whether a frame was decoded before and found whole.
    pub(crate) fn is_whole(&self, number: usize) -> bool {
        self.whole[number].load(Ordering::Relaxed)
    }

    /// Returns what is wrong with a frame as a whole: the number of its lines, the header line, a commit line.
    pub(crate) fn frame_fault(&self, number: usize, block: &Block) -> Option<String> {
        let frame = self.table.frames[number];
        if block.entry_count() != frame.slots as usize {
            return Some(format!("{} entries instead of {}", block.entry_count(), frame.slots));
        }
        if number == 0 {
            let (start, end) = lines(block.bytes()).next().unwrap_or_default();
            let header = parse_sealed_header(&block.bytes()[start as usize..end as usize]);
            if header.is_none_or(|header| header.ledger.0 != self.table.ledger) {
                return Some("the header line is damaged".to_owned());
            }
        }
        block.commits().any(|(_, commit)| commit.is_none()).then(|| "a commit line cannot be read".to_owned())
    }

    /// Reads the heads of all batches: from their table, or where that is damaged from the commit lines.
    pub(crate) fn batches(&self) -> io::Result<Vec<(BatchHead, u32, u32)>> {
        if let Some(extent) = self.batches {
            let bytes = read_range(&*self.file, extent.offset, extent.bytes as usize)?;
            if let Some(table) = codec::decode::<BatchTable>(&bytes) {
                return Ok(table.iter().collect());
            }
        }
        let mut batches = Vec::new();
        for number in 0..self.table.frames.len() {
            let Ok(block) = self.block(number) else { continue };
            let commits = block.commits().filter_map(|(_, commit)| commit);
            batches.extend(commits.map(|commit| (commit.head, commit.first_slot, commit.entries)));
        }
        Ok(batches)
    }

    /// Whether everything after the frames of lines is byte for byte what was written.
    pub(crate) fn end_is_sound(&self) -> bool {
        let Some(last) = self.table.frames.last() else { return false };
        let offset = last.offset + u64::from(last.compressed_bytes);
        let Some(extent) = self.batches else { return false };
        let read = || -> io::Result<Option<bool>> {
            let batches = read_range(&*self.file, extent.offset, extent.bytes as usize)?;
            let Some(batches) = codec::decode::<BatchTable>(&batches) else { return Ok(None) };
            let expected = encode_end(offset, &self.table, &batches);
            let bytes = self.file.bytes()?.saturating_sub(offset);
            Ok(Some(read_range(&*self.file, offset, bytes as usize)? == expected))
        };
        matches!(read(), Ok(Some(true)))
    }

    /// Finds the frames without the table. The slots of a frame after a damaged one follow from its first commit line.
    fn salvage(file: Arc<dyn File>, end: u64, ledger: LedgerId, reason: String) -> io::Result<Self> {
        let bytes = read_range(&*file, 0, end as usize)?;
        let mut table =
            FrameTable { ledger: ledger.0, slots: 0, events: 0, payload_bytes: 0, frames: Vec::new() };
        let mut offset = 0;
        while offset < bytes.len() {
            let Some((compressed_bytes, plain)) = whole_frame(&bytes[offset..]) else {
                let next = memchr::memmem::find(&bytes[offset + 1..], &zstd_safe::MAGICNUMBER.to_le_bytes());
                offset = next.map_or(bytes.len(), |next| offset + 1 + next);
                continue;
            };
            if let Some(plain) = plain {
                let frame = salvaged_frame(
                    offset as u64,
                    &bytes[offset..offset + compressed_bytes],
                    &plain.into(),
                    table.slots,
                );
                table.slots = frame.first_slot.saturating_add(frame.slots);
                table.frames.push(frame);
            }
            offset += compressed_bytes;
        }
        Ok(Self::new(file, table, None, Some(reason)))
    }
}

fn check_frame(frame: &Frame, compressed: &[u8]) -> Result<(), String> {
    let fits = crc32fast::hash(compressed) == frame.compressed_crc;
    if fits { Ok(()) } else { Err("the frame's checksum does not fit".to_owned()) }
}

fn salvaged_frame(offset: u64, compressed: &[u8], plain: &Bytes, next_slot: u32) -> Frame {
    let block = Block::of_sealed(plain.clone(), 0);
    // A commit line names the first slot of its batch, so it tells how many slots stand before it in the segment.
    let stated = block.commits().find_map(|(before, commit)| {
        let commit = commit?;
        commit.first_slot.checked_add(commit.entries)?.checked_sub(before)
    });
    Frame {
        offset,
        compressed_bytes: compressed.len() as u32,
        plain_bytes: plain.len() as u32,
        compressed_crc: crc32fast::hash(compressed),
        first_slot: stated.unwrap_or(next_slot).max(next_slot),
        slots: block.entry_count() as u32,
    }
}

/// Returns the length of the frame at the start of `bytes` and its content; no content for one that is skipped.
fn whole_frame(bytes: &[u8]) -> Option<(usize, Option<Vec<u8>>)> {
    let length = zstd_safe::find_frame_compressed_size(bytes).ok()?;
    let frame = bytes.get(..length).filter(|frame| !frame.is_empty())?;
    let magic = u32::from_le_bytes(*frame.first_chunk()?);
    if magic & 0xFFFF_FFF0 == 0x184D_2A50 {
        return Some((length, None));
    }
    let plain_bytes = zstd_safe::get_frame_content_size(frame).ok()??;
    let plain = (plain_bytes <= FRAME_BYTES_MAX).then(|| decompress(frame, plain_bytes as usize))?.ok()?;
    Some((length, Some(plain)))
}

/// Why the tables cannot be used.
enum Problem {
    /// They are not what was written.
    Damaged(String),
    /// They are sound, but not for us.
    Foreign(io::Error),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        Self::Foreign(error)
    }
}

fn read_tables(file: &dyn File, end: u64, ledger: LedgerId) -> Result<(FrameTable, Extent), Problem> {
    let damaged = |reason: &str| Problem::Damaged(reason.to_owned());
    let start = end.checked_sub(TRAILER_BYTES as u64).ok_or_else(|| damaged("the file is too short"))?;
    let bytes = read_range(file, start, TRAILER_BYTES)?;
    let trailer = bytes.get(SKIPPABLE_HEADER_BYTES..).filter(|trailer| trailer.len() == 36);
    let trailer = trailer.ok_or_else(|| damaged("the file is too short"))?;
    if !trailer.starts_with(TRAILER_FAMILY) || crc32fast::hash(&trailer[..32]).to_le_bytes() != trailer[32..]
    {
        return Err(damaged("the trailer is damaged"));
    }
    if !trailer.starts_with(TRAILER_MAGIC) {
        let format = String::from_utf8_lossy(&trailer[6..8]);
        let message = format!("the segment has format {format}, this program reads 01");
        return Err(io::Error::new(io::ErrorKind::Unsupported, message).into());
    }
    let extent = |at: usize| Extent {
        offset: u64::from_le_bytes(trailer[at..at + 8].try_into().expect("eight bytes")),
        bytes: u32::from_le_bytes(trailer[at + 8..at + 12].try_into().expect("four bytes")),
    };
    let (batches, frames) = (extent(8), extent(20));
    let is_inside = |it: &Extent| it.offset.checked_add(it.bytes.into()).is_some_and(|after| after <= end);
    if ![&batches, &frames].into_iter().all(is_inside) {
        return Err(damaged("the trailer names tables outside the file"));
    }
    let bytes = read_range(file, frames.offset, frames.bytes as usize)?;
    let table: FrameTable = codec::decode(&bytes).ok_or_else(|| damaged("the table of frames is damaged"))?;
    if table.ledger != ledger.0 {
        return Err(
            io::Error::new(io::ErrorKind::InvalidData, "the segment belongs to another ledger").into()
        );
    }
    // Numbers that no writer writes are damage, whatever the checksum says.
    let is_possible = |frame: &Frame| {
        frame.first_slot.checked_add(frame.slots).is_some_and(|end| end <= SLOTS_MAX)
            && u64::from(frame.plain_bytes.max(frame.compressed_bytes)) <= FRAME_BYTES_MAX
    };
    let follows = |pair: &[Frame]| pair[0].first_slot + pair[0].slots == pair[1].first_slot;
    let ordered = table.frames.iter().all(is_possible) && table.frames.windows(2).all(follows);
    if ordered { Ok((table, batches)) } else { Err(damaged("the table of frames has gaps")) }
}

/// Decompresses a frame that holds at most so many bytes.
pub(crate) fn decompress(compressed: &[u8], plain_bytes: usize) -> Result<Vec<u8>, String> {
    thread_local! {
        static CONTEXT: std::cell::RefCell<Option<zstd::bulk::Decompressor<'static>>> =
            const { std::cell::RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| {
        let context = match context {
            Some(context) => context,
            None => context.insert(zstd::bulk::Decompressor::new().map_err(|error| error.to_string())?),
        };
        context.decompress(compressed, plain_bytes).map_err(|error| error.to_string())
    })
}
