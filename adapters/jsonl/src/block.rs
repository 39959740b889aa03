//! A piece of a segment in memory, cut into lines by slot: some lines of an active segment, or one frame of a sealed one.
//! What is handed out are slices of it. Knows nothing of files.

use crate::commit::{Commit, is_commit};
use crate::line::{
    CRC_PREFIX_BYTES, Parsed, Rest, SkeletonText, parse_active, parse_sealed, restore_skeleton, sound_lines,
};
use burnlog_log::{Address, Completed, Incomplete};
use bytes::Bytes;
use memchr::memchr_iter;

/// Lines in memory.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Bytes,
    is_sealed: bool,
    /// Whether it goes on behind the last line here.
    is_cut_short: bool,
    /// Entry lines by ascending slot; only those that are sound.
    entries: Vec<Line>,
    /// Commit lines, each with the slot after its batch.
    commits: Vec<Line>,
}

#[derive(Debug, Clone, Copy)]
struct Line {
    slot: u32,
    start: u32,
    end: u32,
}

/// An event read from a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) skeleton: Skeleton,
    /// Absent where it was erased.
    pub(crate) payload: Option<Bytes>,
}

/// The skeleton of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Skeleton {
    /// As it stands in the line, which tells its address.
    Stored(Address, Bytes),
    /// In the buffer that was given for it, without the hash of the payload.
    Cut(Incomplete),
    /// Put together again in that buffer.
    Restored(Completed),
}

/// What an entry line says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// The event stands here.
    Event(Event),
    /// The event stands elsewhere.
    Reference(Address),
}

impl Event {
    /// Returns the address; computes it where the line does not tell it. `skeletons` is the buffer that was given for this event.
    pub(crate) fn address(&mut self, skeletons: &mut [u8]) -> Address {
        if let (Skeleton::Cut(incomplete), Some(payload)) = (&self.skeleton, &self.payload) {
            let completed = Incomplete::complete(skeletons, &[(incomplete.clone(), payload)]);
            self.skeleton = Skeleton::Restored(completed.into_iter().next().expect("one was given"));
        }
        match &self.skeleton {
            Skeleton::Stored(address, _) => *address,
            Skeleton::Restored(completed) => completed.address(),
            Skeleton::Cut(_) => unreachable!("a skeleton is cut only where there is a payload"),
        }
    }
}

impl Block {
    /// Cuts active lines, checking each checksum. `first_slot` is that of the batch's first entry, `count` their number.
    pub(crate) fn of_active(bytes: Bytes, first_slot: u32, count: u32) -> Self {
        let (mut entries, mut commits) = (Vec::new(), Vec::new());
        for (start, end) in lines(&bytes) {
            for (range, covered) in sound_lines(&bytes[start as usize..end as usize]) {
                let line =
                    |slot| Line { slot, start: start + range.start as u32, end: start + range.end as u32 };
                if is_commit(covered) {
                    commits.push(line(first_slot + count));
                    continue;
                }
                let mut rest = Rest(covered);
                let ordinal = rest.literal(b"\"entry\":").and_then(|()| rest.number());
                if let Some(ordinal) = ordinal.filter(|ordinal| *ordinal < u64::from(count)) {
                    entries.push(line(first_slot + ordinal as u32));
                }
            }
        }
        Self { bytes, is_sealed: false, is_cut_short: false, entries, commits }
    }

    /// Cuts the lines of a frame that begins with `first_slot`. The frame has a checksum, so the lines need none.
    pub(crate) fn of_sealed(bytes: Bytes, first_slot: u32) -> Self {
        let mut lines = SealedLines::new(first_slot, bytes.len());
        lines.cut(&bytes);
        lines.into_block(bytes, false)
    }

    /// Whether a slot may stand behind the last line here.
    pub(crate) fn ends_before(&self, slot: u32) -> bool {
        self.is_cut_short && self.last_slot().is_none_or(|last| last < slot)
    }

    /// Whether it goes on behind the last line here.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.is_cut_short
    }

    /// Returns the memory that it takes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes.len() + (self.entries.len() + self.commits.len()) * size_of::<Line>()
    }

    /// Returns the bytes.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Returns the greatest slot, if there is an entry.
    pub(crate) fn last_slot(&self) -> Option<u32> {
        self.entries.last().map(|line| line.slot)
    }

    /// Returns the number of entries.
    pub(crate) fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// Returns the entry line of a slot, taken apart; `None` where it is missing or broken.
    pub(crate) fn parsed(&self, slot: u32) -> Option<Parsed<'_>> {
        let line = self.find(slot)?;
        let text = &self.bytes[line.start as usize..line.end as usize];
        if self.is_sealed { parse_sealed(text) } else { parse_active(&text[CRC_PREFIX_BYTES..]) }
    }

    fn find(&self, slot: u32) -> Option<&Line> {
        let first = self.entries.first()?.slot;
        let guess = slot.checked_sub(first)? as usize;
        if let Some(line) = self.entries.get(guess).filter(|line| line.slot == slot) {
            return Some(line);
        }
        self.entries.binary_search_by_key(&slot, |line| line.slot).ok().map(|at| &self.entries[at])
    }

    /// Reads the entry of a slot; `None` where it is missing or broken. A skeleton that must be put together
    /// again goes to the end of `skeletons`; nothing is hashed.
    pub(crate) fn content(&self, slot: u32, skeletons: &mut Vec<u8>) -> Option<Content> {
        let parsed = self.parsed(slot)?;
        let Some(stored) = parsed.event else { return parsed.address.map(Content::Reference) };
        let payload = stored.payload.decode(&self.bytes).ok()?;
        let skeleton = match (stored.skeleton, &payload) {
            (SkeletonText::Cut(cut), Some(_)) => Skeleton::Cut(restore_skeleton(skeletons, cut)?),
            (text, _) => Skeleton::Stored(parsed.address?, text.decode(&self.bytes)?),
        };
        Some(Content::Event(Event { skeleton, payload }))
    }

    /// Returns the commit line that follows a slot, in whichever form.
    pub(crate) fn commit_after(&self, slot: u32) -> Option<Commit> {
        let line = self.commits.iter().find(|line| line.slot > slot)?;
        Commit::parse(&self.bytes[line.start as usize..line.end as usize])
    }

    /// Returns every commit line with the slot after its batch.
    pub(crate) fn commits(&self) -> impl Iterator<Item = (u32, Option<Commit>)> {
        self.commits
            .iter()
            .map(|line| (line.slot, Commit::parse(&self.bytes[line.start as usize..line.end as usize])))
    }
}

/// The lines of a frame, cut as its bytes come.
#[derive(Debug)]
pub(crate) struct SealedLines {
    slot: u32,
    /// Where the first line begins that is not cut yet, and how far a newline was looked for.
    start: usize,
    searched: usize,
    entries: Vec<Line>,
    commits: Vec<Line>,
}

impl SealedLines {
    /// Begins before the first line. `bytes` is how long the frame is, about.
    pub(crate) fn new(first_slot: u32, bytes: usize) -> Self {
        let entries = Vec::with_capacity(bytes / 512);
        Self { slot: first_slot, start: 0, searched: 0, entries, commits: Vec::new() }
    }

    /// Cuts the lines that end in `bytes`, which begin with those of the last call. Returns the slot of the next line.
    pub(crate) fn cut(&mut self, bytes: &[u8]) -> u32 {
        for end in memchr_iter(b'\n', &bytes[self.searched..]) {
            self.line(bytes, self.searched + end);
        }
        self.searched = bytes.len();
        self.slot
    }

    fn line(&mut self, bytes: &[u8], end: usize) {
        let (start, slot) = (self.start, self.slot);
        self.start = end + 1;
        let line = Line { slot, start: start as u32, end: end as u32 };
        match &bytes[start..end] {
            [] => {}
            text if text.starts_with(b"{\"commit\":") => self.commits.push(line),
            text if text.starts_with(b"{\"segment\":") => {}
            _ => {
                self.entries.push(line);
                self.slot = slot.saturating_add(1);
            }
        }
    }

    /// Makes the block of `bytes`, all of which went through [`SealedLines::cut`].
    pub(crate) fn into_block(mut self, bytes: Bytes, is_cut_short: bool) -> Block {
        if self.start < bytes.len() && !is_cut_short {
            // The last line lacks its newline.
            self.line(&bytes, bytes.len());
        }
        Block { bytes, is_sealed: true, is_cut_short, entries: self.entries, commits: self.commits }
    }
}

/// Returns start and end of each line; the last may lack its newline.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = (u32, u32)> {
    let mut start = 0;
    let ends = memchr_iter(b'\n', bytes).chain((bytes.last() != Some(&b'\n')).then_some(bytes.len()));
    ends.filter_map(move |end| {
        let line = (start as u32, end as u32);
        start = end + 1;
        (line.0 < line.1).then_some(line)
    })
}
