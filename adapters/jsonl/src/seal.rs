//! Writing sealed segments: from an active one, or from a sealed one from which erased payloads are to vanish. Written beside,
//! synced, read back and compared before the caller puts it in place.

use crate::block::{Block, Content, Skeleton, lines};
use crate::commit::{Commit, is_commit, parse_header, push_sealed_header};
use crate::files::{File, io_error, read_range};
use crate::line::{Parsed, PayloadText, SkeletonText, Stored, checked, parse_active, push_sealed};
use crate::pack::{Numbers, Pack, compressor};
use crate::sealed::{BatchTable, Frame, FrameTable, SealedFile, encode_end};
use burnlog_log::{Address, Error, ErrorKind, LedgerId, Result, WriterId};
use bytes::Bytes;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use zstd::bulk::Compressor;

const WINDOW_BYTES: usize = 1 << 20;
const OPERATION: &str = "seal segment";

/// What is the same for all segments of a ledger.
pub(crate) struct SealSettings<'a> {
    pub(crate) ledger: LedgerId,
    pub(crate) frame_bytes: usize,
    pub(crate) compression_level: i32,
    /// Whether hashes are computed again before they are left out.
    pub(crate) recomputes_hashes: bool,
    /// Tells whether the payload of an address is to vanish.
    pub(crate) is_erased: &'a dyn Fn(&Address) -> bool,
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) slots: u32,
}

/// Writes the sealed form of the first `bytes` of an active segment into `target` and checks what was written.
///
/// `newest` is the size of each feed after its last batch in the segment. `Corrupt` when a line is damaged: nothing is left out silently.
pub(crate) fn seal_active(
    settings: &SealSettings<'_>,
    active: &dyn File,
    bytes: u64,
    newest: &HashMap<WriterId, u64>,
    target: Arc<dyn File>,
) -> Result<Sealed> {
    let mut writer = SealedWriter::new(settings, target)?;
    let mut offset = 0;
    let mut window = WINDOW_BYTES;
    while offset < bytes {
        let length = (bytes - offset).min(window as u64) as usize;
        let chunk = Bytes::from(
            read_range(active, offset, length)
                .map_err(|error| io_error(OPERATION, "active segment", error))?,
        );
        let whole = memchr::memrchr(b'\n', &chunk).map_or(0, |end| end + 1);
        if whole == 0 {
            if length < window {
                return Err(corrupt(format!("the last line has no end, at byte {offset}")));
            }
            // A line longer than the window.
            window *= 2;
            continue;
        }
        let chunk = chunk.slice(..whole);
        for (start, end) in lines(&chunk) {
            let line = &chunk[start as usize..end as usize];
            writer.active_line(line, &chunk, newest).ok_or_else(|| {
                corrupt(format!("a line is damaged, at byte {}", offset + u64::from(start)))
            })??;
        }
        offset += whole as u64;
        window = WINDOW_BYTES;
    }
    writer.finish()
}

/// Writes a sealed segment again without the payloads that were erased since.
pub(crate) fn rewrite_sealed(
    settings: &SealSettings<'_>,
    sealed: &SealedFile,
    target: Arc<dyn File>,
) -> Result<Sealed> {
    let mut writer = SealedWriter::new(settings, target)?;
    for number in 0..sealed.table.frames.len() {
        let block = sealed.block(number).map_err(|reason| corrupt(format!("frame {number}: {reason}")))?;
        let mut slot = sealed.table.frames[number].first_slot;
        for (start, end) in lines(block.bytes()) {
            let line = &block.bytes()[start as usize..end as usize];
            if line.starts_with(b"{\"commit\":") {
                let commit =
                    Commit::parse(line).ok_or_else(|| corrupt(format!("frame {number}: a commit line")))?;
                writer.commit(&commit, !commit.frontier.is_empty());
            } else if !line.starts_with(b"{\"segment\":") {
                writer
                    .sealed_line(line, &block, slot)
                    .ok_or_else(|| corrupt(format!("frame {number}: an entry line")))??;
                slot += 1;
            }
        }
    }
    writer.finish()
}

fn corrupt(message: String) -> Error {
    Error::new(ErrorKind::Corrupt, OPERATION, message)
}

struct SealedWriter<'a> {
    settings: &'a SealSettings<'a>,
    target: Arc<dyn File>,
    compressor: Compressor<'static>,
    plain: Vec<u8>,
    compressed: Vec<u8>,
    offset: u64,
    /// The slots of finished frames and of the one at work.
    slots: u32,
    table: FrameTable,
    /// The frames that stood compressed in the active segment.
    taken_over: BTreeSet<usize>,
    batches: BatchTable,
    feeds: HashMap<WriterId, u32>,
}

impl<'a> SealedWriter<'a> {
    fn new(settings: &'a SealSettings<'a>, target: Arc<dyn File>) -> Result<Self> {
        let failed = |error| io_error(OPERATION, "zstd", error);
        let compressor = compressor(settings.compression_level).map_err(failed)?;
        let table = FrameTable {
            ledger: settings.ledger.0,
            slots: 0,
            events: 0,
            payload_bytes: 0,
            frames: Vec::new(),
        };
        let mut plain = Vec::with_capacity(settings.frame_bytes + (64 << 10));
        push_sealed_header(&mut plain, settings.ledger);
        Ok(Self {
            settings,
            target,
            compressor,
            plain,
            compressed: Vec::new(),
            offset: 0,
            slots: 0,
            table,
            taken_over: BTreeSet::new(),
            batches: BatchTable::default(),
            feeds: HashMap::new(),
        })
    }

    /// Takes one line of an active segment; `None` where it is damaged.
    fn active_line(
        &mut self,
        line: &[u8],
        chunk: &Bytes,
        newest: &HashMap<WriterId, u64>,
    ) -> Option<Result<()>> {
        let covered = checked(line)?;
        if is_commit(covered) {
            let commit = Commit::parse(line)?;
            let is_last = newest.get(&commit.head.feed) == Some(&commit.head.size);
            self.commit(&commit, is_last);
            return Some(Ok(()));
        }
        if let Some(pack) = Pack::parse(covered) {
            return Some(self.pack(pack.numbers, &pack.frame()?));
        }
        let Some(parsed) = parse_active(covered) else { return parse_header(line).map(|_| Ok(())) };
        let address = parsed.address?;
        let Some(stored) = parsed.event else { return Some(self.entry(&address, None)) };
        let payload = stored.payload.decode(chunk).ok()?;
        Some(self.event(&address, stored, payload.as_deref()))
    }

    /// Takes one entry line of a sealed segment; `None` where it is damaged.
    fn sealed_line(&mut self, line: &[u8], block: &Block, slot: u32) -> Option<Result<()>> {
        let mut skeletons = Vec::new();
        let Content::Event(mut event) = block.content(slot, &mut skeletons)? else {
            let Some(Parsed { address: Some(address), .. }) = block.parsed(slot) else { return None };
            return Some(self.entry(&address, None));
        };
        let address = event.address(&mut skeletons);
        if event.payload.is_some() && (self.settings.is_erased)(&address) {
            let stored = block.parsed(slot)?.event?.skeleton;
            let restored = match event.skeleton {
                Skeleton::Stored(_, bytes) => bytes,
                Skeleton::Restored(completed) => Bytes::copy_from_slice(&skeletons[completed.range()]),
                Skeleton::Cut(_) => return None,
            };
            let is_text = !matches!(stored, SkeletonText::Base64(_));
            let skeleton = if is_text { SkeletonText::Whole(&restored) } else { stored };
            return Some(self.event(&address, Stored { skeleton, payload: PayloadText::Erased }, None));
        }
        self.table.events += 1;
        self.table.payload_bytes += event.payload.map_or(0, |payload| payload.len() as u64);
        self.plain.extend_from_slice(line);
        self.plain.push(b'\n');
        Some(self.line_done())
    }

    fn event(&mut self, address: &Address, stored: Stored<'_>, payload: Option<&[u8]>) -> Result<()> {
        if payload.is_some() && (self.settings.is_erased)(address) {
            let erased = Stored { payload: PayloadText::Erased, ..stored };
            return self.event(address, erased, None);
        }
        self.table.events += 1;
        self.table.payload_bytes += payload.map_or(0, |payload| payload.len() as u64);
        self.entry(address, Some((stored, payload)))
    }

    fn entry(&mut self, address: &Address, event: Option<(Stored<'_>, Option<&[u8]>)>) -> Result<()> {
        push_sealed(&mut self.plain, address, event, self.settings.recomputes_hashes);
        self.line_done()
    }

    /// Takes over a pack as a frame of its own.
    fn pack(&mut self, numbers: Numbers, frame: &[u8]) -> Result<()> {
        self.frame()?;
        self.table.events += u64::from(numbers.events);
        self.table.payload_bytes += numbers.payload_bytes;
        self.slots += numbers.entries;
        self.taken_over.insert(self.table.frames.len());
        self.write_frame(frame, numbers.plain_bytes)
    }

    fn line_done(&mut self) -> Result<()> {
        self.slots += 1;
        if self.plain.len() >= self.settings.frame_bytes { self.frame() } else { Ok(()) }
    }

    fn commit(&mut self, commit: &Commit, is_last_of_feed: bool) {
        commit.push_sealed(&mut self.plain, is_last_of_feed);
        self.batches.push(&mut self.feeds, &commit.head, commit.first_slot, commit.entries);
    }

    /// Compresses and writes the frame at work.
    fn frame(&mut self) -> Result<()> {
        if self.plain.is_empty() {
            return Ok(());
        }
        self.compressed.clear();
        self.compressed.reserve(zstd::zstd_safe::compress_bound(self.plain.len()));
        let failed = |error| io_error(OPERATION, "sealed segment", error);
        self.compressor.compress_to_buffer(&self.plain, &mut self.compressed).map_err(failed)?;
        let compressed = std::mem::take(&mut self.compressed);
        self.write_frame(&compressed, self.plain.len() as u32)?;
        self.compressed = compressed;
        self.plain.clear();
        Ok(())
    }

    /// Writes a frame that ends with the last slot.
    fn write_frame(&mut self, compressed: &[u8], plain_bytes: u32) -> Result<()> {
        let failed = |error| io_error(OPERATION, "sealed segment", error);
        self.target.write_at(compressed, self.offset).map_err(failed)?;
        let first_slot = self.table.frames.last().map_or(0, |frame| frame.first_slot + frame.slots);
        self.table.frames.push(Frame {
            offset: self.offset,
            compressed_bytes: compressed.len() as u32,
            plain_bytes,
            compressed_crc: crc32fast::hash(compressed),
            first_slot,
            slots: self.slots - first_slot,
        });
        self.offset += compressed.len() as u64;
        Ok(())
    }

    /// Writes the tables, syncs, and reads everything back.
    fn finish(mut self) -> Result<Sealed> {
        self.frame()?;
        self.table.slots = self.slots;
        let failed = |error| io_error(OPERATION, "sealed segment", error);
        let end = encode_end(self.offset, &self.table, &self.batches);
        self.target.write_at(&end, self.offset).map_err(failed)?;
        self.target.sync().map_err(failed)?;
        let written = SealedFile::open_sound(self.target, self.settings.ledger).map_err(corrupt)?;
        if written.table != self.table || !written.end_is_sound() {
            return Err(corrupt("the tables read back are not those that were written".to_owned()));
        }
        for number in 0..self.table.frames.len() {
            // Each frame carries a checksum of what went into it, which decompressing compares. Of one that was taken over
            // there is nothing else to compare with than its bytes.
            let read = if self.taken_over.contains(&number) {
                written.compressed(number).map(drop)
            } else {
                written.read_frame(number).map(drop)
            };
            read.map_err(|reason| corrupt(format!("frame {number} read back: {reason}")))?;
        }
        Ok(Sealed { slots: self.slots })
    }
}
