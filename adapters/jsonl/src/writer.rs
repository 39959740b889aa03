//! The one segment that this process appends to: taking it up (a new one, or one that another process left behind), writing,
//! syncing, publishing, and cutting back what did not become durable. Knows bytes and lengths, not batches.

use crate::commit::{ACTIVE_FORMAT, HEADER_BYTES, parse_header, push_header};
use crate::files::{Access, File, io_error, read_range};
use crate::index::{Failure, SLOTS_MAX, Seen};
use crate::options::{Durability, JsonlOptions};
use crate::published::{Length, Published};
use crate::recover::{BLANK, ScannedBatch, Start, Verdict, Walk, without_room};
use crate::segment::{Extent, Form, Part, Segment, new_name};
use crate::store::{State, Store};
use crate::turn::Waiting;
use burnlog_log::{Error, ErrorKind, Result, failpoint};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// From so many batches of one process on more are expected, and room is written ahead for them.
const BATCHES_BEFORE_ROOM: u32 = 4;

/// The segment that this process appends to.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) name: Arc<str>,
    /// Open and locked.
    pub(crate) file: Arc<dyn File>,
    published: Published,
    /// What readers see.
    pub(crate) durable: Extent,
    /// What is in the file.
    pub(crate) written: Extent,
    /// Set when something failed after which the file may hold more than `durable` says: nothing is written until
    /// that is cut back.
    pub(crate) is_poisoned: bool,
    /// Whether the header says that there may be packs.
    pub(crate) takes_packs: bool,
    /// The size from which sealing is tried; raised when it failed.
    pub(crate) seal_at: u64,
    room: Room,
}

/// Blanks written ahead after the last batch, so that the syncs of the batches to come find the length of the file and its blocks as
/// they are and have only bytes to write.
#[derive(Debug, Clone, Copy)]
struct Room {
    /// Where it ends; what is written where there is none.
    end: u64,
    /// How much is written at once at most. 0 for none.
    bytes: usize,
    /// How many batches this process wrote to the segment.
    batches: u32,
}

impl Room {
    fn new(options: &JsonlOptions) -> Self {
        let is_synced = options.durability == Durability::Batch;
        Self { end: 0, bytes: if is_synced { options.room_bytes } else { 0 }, batches: 0 }
    }

    /// Returns how many blanks to write behind a batch: as many as there are bytes before, so that a small segment stays small and few
    /// appends of many have room to write.
    fn blanks_behind(&self, end: u64, batch_bytes: usize) -> usize {
        let is_due = self.batches >= BATCHES_BEFORE_ROOM && end > self.end;
        if is_due && batch_bytes <= self.bytes / 4 { self.bytes.min(end as usize) } else { 0 }
    }
}

/// Appends of this process that are under way.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// How many batches were written.
    pub(crate) written: u64,
    /// How many of them are settled: durable or failed.
    pub(crate) settled: u64,
    /// Whether a thread is syncing, or is told to.
    pub(crate) is_syncing: bool,
    /// Whether that thread waits for others first.
    pub(crate) is_gathering: bool,
    /// Those who wait for it, by the number of their batch.
    pub(crate) waiting: VecDeque<Waiting>,
    /// How many batches the next sync waits for: as many as lately were under way at once.
    pub(crate) company: u64,
    /// Whether new appends wait until all are settled, so that the segment can be sealed.
    pub(crate) is_draining: bool,
    /// The last failures: batches after the first number up to the second, and why.
    failures: Vec<(u64, u64, String)>,
}

impl Group {
    /// Whether appends are under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.is_syncing || self.settled != self.written
    }

    /// Returns why a batch failed, if it did.
    pub(crate) fn failure(&self, ticket: u64) -> Option<&str> {
        let found = self.failures.iter().find(|(after, to, _)| *after < ticket && ticket <= *to);
        found.map(|(_, _, why)| why.as_str())
    }

    /// Declares everything that is under way failed.
    pub(crate) fn fail(&mut self, why: String) {
        self.failures.push((self.settled, self.written, why));
        if self.failures.len() > 64 {
            self.failures.remove(0);
        }
        self.settled = self.written;
    }
}

impl Writer {
    /// Whether nothing may be written to the segment any more before it is taken up again, or another one is.
    pub(crate) fn is_to_go(&self) -> bool {
        self.is_poisoned || self.written.slots >= SLOTS_MAX / 2
    }

    /// Writes the lines of a batch after what is written, and takes them back where that fails.
    pub(crate) fn write(&mut self, lines: &mut Vec<u8>) -> Result<()> {
        let bytes = lines.len();
        let end = self.written.bytes + bytes as u64;
        let mut blanks = self.room.blanks_behind(end, bytes);
        lines.resize(bytes + blanks, BLANK);
        let mut outcome = self.write_or_cut(lines);
        lines.truncate(bytes);
        if outcome.is_err() && blanks > 0 && !self.is_poisoned {
            // A disk that has no room to spare may still have enough for the batch.
            (self.room.bytes, blanks) = (0, 0);
            outcome = self.write_or_cut(lines);
        }
        outcome.map_err(|error| io_error("append", format_args!("segments/{}.jsonl", self.name), error))?;
        self.room.end = self.room.end.max(end + blanks as u64);
        self.room.batches = self.room.batches.saturating_add(1);
        Ok(())
    }

    fn write_or_cut(&mut self, bytes: &[u8]) -> io::Result<()> {
        let outcome = self.file.write_at(bytes, self.written.bytes);
        if outcome.is_err() {
            self.room.end = 0;
            // Whatever part of it arrived must go, or the next commit line would adopt it.
            self.is_poisoned |= self.file.set_bytes(self.written.bytes).is_err();
        }
        outcome
    }

    /// Cuts off the room after the last batch, so that the file ends with a line as any tool expects it.
    pub(crate) fn give_back_room(&mut self) -> io::Result<()> {
        let has_room = self.room.end > self.written.bytes && !self.is_poisoned;
        self.room.end = 0;
        if has_room { self.file.set_bytes(self.written.bytes) } else { Ok(()) }
    }

    /// Shows readers what is durable.
    pub(crate) fn publish(&mut self, extent: Extent, is_synced: bool) -> io::Result<()> {
        let synced = if is_synced { extent.bytes } else { self.synced() };
        self.published.publish(Length { visible: extent.bytes, synced })?;
        self.durable = extent;
        Ok(())
    }

    fn synced(&self) -> u64 {
        self.published.length().map_or(0, |length| length.synced)
    }

    /// Cuts the file back to what readers see, durably.
    pub(crate) fn cut_back(&mut self) -> io::Result<()> {
        self.is_poisoned = true;
        let synced = self.synced().min(self.durable.bytes);
        self.published.publish(Length { visible: self.durable.bytes, synced })?;
        self.file.set_bytes(self.durable.bytes)?;
        self.room.end = 0;
        self.file.sync()?;
        self.written = self.durable;
        self.is_poisoned = false;
        Ok(())
    }
}

impl Store {
    /// Takes up a segment to append to, if there is one. The caller holds the ledger's lock.
    pub(crate) fn adopt_segment(&self, state: &mut State) -> std::result::Result<(), Failure> {
        if let Some(writer) = state.writer.as_mut() {
            if !writer.is_to_go() {
                return Ok(());
            }
            if writer.is_poisoned {
                writer.cut_back().map_err(|error| {
                    io_error("append", format_args!("segments/{}.jsonl", writer.name), error)
                })?;
            }
            // Reopened from the start: what the failed handle believes is not trusted.
            state.writer = None;
        }
        let mut candidates: Vec<u32> = (0..state.segments.len() as u32).collect();
        candidates.retain(|number| self.may_adopt(state, *number));
        candidates.sort_unstable_by(|one, two| {
            state.segments[*two as usize].name.cmp(&state.segments[*one as usize].name)
        });
        for number in candidates {
            if let Some(writer) = self.adopt(state, number)? {
                state.writer = Some(writer);
                return Ok(());
            }
        }
        Ok(())
    }

    fn may_adopt(&self, state: &State, number: u32) -> bool {
        let Segment { name, form, known, .. } = &state.segments[number as usize];
        *form == Form::Active
            && known.bytes < self.options.segment_bytes_max
            && known.slots < SLOTS_MAX / 2
            && !state.is_damaged(name)
    }

    /// Takes up a segment that no living process has; `None` where it cannot be had or is damaged.
    pub(crate) fn adopt(
        &self,
        state: &mut State,
        number: u32,
    ) -> std::result::Result<Option<Writer>, Failure> {
        let name = Arc::clone(&state.segments[number as usize].name);
        let path = Part::Active.path(&self.folder, &name);
        let failed = |error| io_error("append", path.display(), error);
        let file = match self.files().open(&path, Access::Write) {
            Ok(file) => file,
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(failed(error).into()),
        };
        if !file.try_lock(true).map_err(failed)? {
            return Ok(None);
        }
        let published =
            Published::open(self.files(), &Part::Published.path(&self.folder, &name)).map_err(failed)?;
        self.settle(state, number, file, published)
    }

    /// Settles the end of a segment that this process has locked: whole batches that still fit count, the rest is cut.
    fn settle(
        &self,
        state: &mut State,
        number: u32,
        file: Arc<dyn File>,
        mut published: Published,
    ) -> std::result::Result<Option<Writer>, Failure> {
        let Segment { name, known, .. } = state.segments[number as usize].clone();
        let failed = |error| io_error("recover segment", format_args!("segments/{name}.jsonl"), error);
        let end = file.bytes().map_err(failed)?;
        let length = published.length();
        let visible = length.map_or(known.bytes, |length| length.visible);
        if end != known.bytes || visible != known.bytes || !published.is_sound() {
            let rest = read_range(&*file, known.bytes, (end.max(known.bytes) - known.bytes) as usize)
                .map_err(failed)?;
            let start = Start { offset: known.bytes, slot: known.slots };
            let walk = Walk { bytes: &rest, start, durable: length.map(|length| length.synced) };
            let mut batches = Vec::new();
            let walked = walk.run(&mut |batch| batches.push(batch));
            if walked.verdict == Verdict::Damaged {
                for range in walked.damage {
                    state.damage.insert((Arc::clone(&name), range.offset), range.reason);
                }
                return Ok(None);
            }
            let mut committed = walked.committed.offset;
            for batch in batches {
                if batch.offset >= visible && !fits(state, &batch)? {
                    // Written by a process that ended before it was durable, and overtaken since.
                    committed = batch.offset;
                    break;
                }
                Self::take_up(state, number, &batch);
            }
            state.segments[number as usize].known.bytes = committed;
            self.cut(state, &name, &*file, committed, &rest[(committed - known.bytes) as usize..])?;
            file.sync().map_err(failed)?;
            let length = Length { visible: committed, synced: committed };
            // Twice, so that neither record is a torn one.
            let twice = published.publish(length).and_then(|()| published.publish(length));
            twice.and_then(|()| published.sync()).map_err(failed)?;
            state.changes = Some(self.lock.count()?);
        }
        let extent = state.segments[number as usize].known;
        let takes_packs = extent.bytes == 0 || takes_packs(&*file).map_err(failed)?;
        Ok(Some(Writer {
            name,
            file,
            takes_packs,
            published,
            durable: extent,
            written: extent,
            is_poisoned: false,
            seal_at: self.options.segment_bytes_max,
            room: Room::new(&self.options),
        }))
    }

    /// Cuts a torn end and keeps it aside.
    fn cut(&self, state: &mut State, name: &str, file: &dyn File, at: u64, torn: &[u8]) -> Result<()> {
        if torn.is_empty() {
            return Ok(());
        }
        let torn = without_room(torn);
        if !torn.is_empty() {
            let mut random = [0; 4];
            let folder = self.folder.join("quarantine");
            let mut keep = || {
                self.files().random(&mut random)?;
                let path = folder.join(format!("{name}-{at}-{:08x}.torn", u32::from_be_bytes(random)));
                self.files().create_folder(&folder)?;
                self.files().open(&path, Access::CreateNew)?.write_at(torn, 0)
            };
            // Never acknowledged: keeping it is a courtesy that a full disk must not turn into an outage.
            let kept = if keep().is_ok() { "kept in quarantine/" } else { "could not be kept" };
            let message = format!("{} bytes of an unfinished append were cut; {kept}", torn.len());
            state.note("torn-tail", format!("segments/{name}.jsonl at {at}"), message);
        }
        file.set_bytes(at)
            .map_err(|error| io_error("recover segment", format_args!("segments/{name}.jsonl"), error))
    }

    /// Makes a segment to append to.
    pub(crate) fn new_segment(&self, state: &mut State) -> Result<Writer> {
        let mut random = [0; 4];
        let failed = |error| io_error("append", self.folder.join("segments").display(), error);
        self.files().random(&mut random).map_err(failed)?;
        let name: Arc<str> = new_name(self.files().now(), random).into();
        let (active, beside) =
            (Part::Active.path(&self.folder, &name), Part::Published.path(&self.folder, &name));
        let make = || {
            // The lower bound is durable before anything that it bounds.
            let mut published = Published::open(self.files(), &beside)?;
            published.publish(Length::default())?;
            published.sync()?;
            failpoint("jsonl-segment-published");
            let file = self.files().open(&active, Access::CreateNew)?;
            failpoint("jsonl-segment-made");
            let is_ours = file.try_lock(true)?;
            self.files().sync_folder(&self.folder.join("segments"))?;
            Ok((file, published, is_ours))
        };
        let (file, published, is_ours) = make().map_err(failed)?;
        if !is_ours {
            let message = "a segment that was just made is locked by somebody else";
            return Err(Error::new(ErrorKind::InUse, "append", message).at(active.display()));
        }
        let number = state.segments.len() as u32;
        state.segments.push(Segment::new(Arc::clone(&name), Form::Active));
        state.numbers.insert(Arc::clone(&name), number);
        Ok(Writer {
            name,
            file,
            published,
            durable: Extent::default(),
            written: Extent::default(),
            is_poisoned: false,
            takes_packs: true,
            seal_at: self.options.segment_bytes_max,
            room: Room::new(&self.options),
        })
    }

    /// Returns the header line where nothing is in the segment yet.
    pub(crate) fn header_for(&self, writer: &Writer) -> Vec<u8> {
        let mut header = Vec::new();
        if writer.written.bytes == 0 {
            push_header(&mut header, self.ledger);
        }
        header
    }
}

/// Whether the header of a segment says that there may be packs.
fn takes_packs(file: &dyn File) -> io::Result<bool> {
    let bytes = read_range(file, 0, HEADER_BYTES)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(parse_header(line).is_some_and(|header| header.format >= ACTIVE_FORMAT))
}

/// Whether a batch that was written but not published may still be taken up: nobody has moved its feed meanwhile.
fn fits(state: &State, batch: &ScannedBatch) -> std::result::Result<bool, Failure> {
    let Some(commit) = &batch.commit else { return Ok(false) };
    let newest = state.index.newest(&commit.head.feed, Seen::Written)?;
    let size = newest.map_or(0, |row| row.size());
    Ok(size + u64::from(commit.entries) == commit.head.size)
}

impl State {
    /// Whether damage was found in a segment.
    pub(crate) fn is_damaged(&self, name: &Arc<str>) -> bool {
        self.damage.range((Arc::clone(name), 0)..).next().is_some_and(|((other, _), _)| other == name)
    }
}
