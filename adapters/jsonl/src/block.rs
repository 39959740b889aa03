//! A piece of a segment in memory, cut into lines by slot: some lines of an active segment, or one frame of a sealed one.
//! What is handed out are slices of it. Knows nothing of files.

use crate::commit::{Commit, is_commit};
use crate::line::{
    CRC_PREFIX_BYTES, Parsed, Rest, SkeletonText, parse_active, parse_sealed, restore_skeleton, sound_lines,
};
use crate::pack::Pack;
use burnlog_log::{Address, Completed, Incomplete};
use bytes::Bytes;
use memchr::memchr_iter;

/// Lines in memory.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Bytes,
    /// How many bytes of the file it was made of.
    file_bytes: usize,
    is_sealed: bool,
    /// Whether it has only some of the lines that stand between its first and its last, or behind that.
    is_part: bool,
    /// Whether it is not the first part of the same frame.
    is_second: bool,
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
        let mut packs = Vec::new();
        for (start, end) in lines(&bytes) {
            for (range, covered) in sound_lines(&bytes[start as usize..end as usize]) {
                if let Some(pack) = Pack::parse(covered) {
                    packs.extend(pack.plain().map(|plain| (pack.numbers.first, plain)));
                    continue;
                }
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
        if !packs.is_empty() {
            return Self::of_packs(packs, bytes.len(), first_slot, count);
        }
        let file_bytes = bytes.len();
        Self { bytes, file_bytes, is_sealed: false, is_part: false, is_second: false, entries, commits }
    }

    /// Puts packs of a batch together, each with the position of its first entry. A batch with packs has no other lines.
    fn of_packs(packs: Vec<(u32, Bytes)>, file_bytes: usize, first_slot: u32, count: u32) -> Self {
        let (mut all, mut entries) = (Vec::new(), Vec::new());
        let only = (packs.len() == 1).then(|| packs[0].1.clone());
        for (first, plain) in packs {
            let mut lines = SealedLines::new(first_slot.saturating_add(first), plain.len());
            lines.cut(&plain);
            let base = all.len() as u32;
            let lines = lines.entries.into_iter().filter(|line| line.slot < first_slot.saturating_add(count));
            entries.extend(lines.map(|line| Line { start: base + line.start, end: base + line.end, ..line }));
            if only.is_none() {
                all.extend_from_slice(&plain);
            }
        }
        let bytes = only.unwrap_or_else(|| all.into());
        Self {
            bytes,
            file_bytes,
            is_sealed: true,
            is_part: false,
            is_second: false,
            entries,
            commits: Vec::new(),
        }
    }

    /// Returns how many bytes of the file it was made of.
    pub(crate) fn file_bytes(&self) -> usize {
        self.file_bytes
    }

    /// Cuts the lines of a frame that begins with `first_slot`. The frame has a checksum, so the lines need none.
    pub(crate) fn of_sealed(bytes: Bytes, first_slot: u32) -> Self {
        let mut lines = SealedLines::new(first_slot, bytes.len());
        lines.cut(&bytes);
        lines.into_block(bytes)
    }

    /// Whether the line of a slot may be in the file although it is not here.
    pub(crate) fn lacks(&self, slot: u32) -> bool {
        self.is_part && self.find(slot).is_none()
    }

    /// Marks a part of a frame of which there was one before.
    pub(crate) fn into_second_part(self) -> Self {
        Self { is_second: true, ..self }
    }

    /// Whether there was a part of the same frame before.
    pub(crate) fn is_second_part(&self) -> bool {
        self.is_second
    }

    /// Whether it has only some lines.
    pub(crate) fn is_part(&self) -> bool {
        self.is_part
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
    pub(crate) fn into_block(mut self, bytes: Bytes) -> Block {
        self.end(&bytes);
        let file_bytes = bytes.len();
        Block {
            bytes,
            file_bytes,
            is_sealed: true,
            is_part: false,
            is_second: false,
            entries: self.entries,
            commits: self.commits,
        }
    }

    /// Makes a block of the lines of some slots, ascending, out of `bytes`, all of which went through [`SealedLines::cut`].
    pub(crate) fn into_part(mut self, bytes: &[u8], is_cut_short: bool, slots: &[u32]) -> Block {
        if !is_cut_short {
            self.end(bytes);
        }
        let (mut part, mut entries) = (Vec::new(), Vec::with_capacity(slots.len()));
        for slot in slots {
            let Ok(at) = self.entries.binary_search_by_key(slot, |line| line.slot) else { continue };
            let Line { start, end, .. } = self.entries[at];
            let first = part.len();
            part.extend_from_slice(&bytes[start as usize..end as usize]);
            entries.push(Line { slot: *slot, start: first as u32, end: part.len() as u32 });
            part.push(b'\n');
        }
        let file_bytes = part.len();
        Block {
            bytes: part.into(),
            file_bytes,
            is_sealed: true,
            is_part: true,
            is_second: false,
            entries,
            commits: Vec::new(),
        }
    }

    /// Takes the last line, where it lacks its newline.
    fn end(&mut self, bytes: &[u8]) {
        if self.start < bytes.len() {
            self.line(bytes, bytes.len());
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_the_wanted_lines_and_says_that_it_lacks_the_others() {
        let text = b"{\"segment\":1}\n{\"a\":0}\n{\"b\":1}\n{\"commit\":7}\n{\"c\":2}\n{\"d\":3}";
        let part = |bytes: &[u8], is_cut_short, slots: &[u32]| {
            let mut lines = SealedLines::new(5, text.len());
            lines.cut(bytes);
            lines.into_part(bytes, is_cut_short, slots)
        };
        let line = |block: &Block, slot| {
            let line = block.find(slot)?;
            Some(block.bytes[line.start as usize..line.end as usize].to_vec())
        };
        let whole = part(text, false, &[5, 7, 8, 9]);
        assert_eq!(line(&whole, 5).as_deref(), Some(b"{\"a\":0}".as_slice()));
        assert_eq!(line(&whole, 7).as_deref(), Some(b"{\"c\":2}".as_slice()));
        assert_eq!(line(&whole, 8).as_deref(), Some(b"{\"d\":3}".as_slice()), "the last line has no newline");
        assert!(whole.is_part() && whole.lacks(6) && whole.lacks(9) && !whole.lacks(7));
        assert!(whole.memory_bytes() < text.len() + 3 * size_of::<Line>());
        // A line that was not decompressed to its end is none.
        let short = part(&text[..text.len() - 2], true, &[7, 8]);
        assert!(!short.lacks(7) && short.lacks(8));
        let all = Block::of_sealed(Bytes::from_static(text), 5);
        assert!(!all.is_part() && !all.lacks(6) && !all.lacks(99));
    }
}
