//! What the bytes of an active segment say: pure functions from bytes to batches, committed length and verdict.
//! No files in here, so that every offset and every flipped bit can be tested.

use crate::commit::{Commit, is_commit, parse_header};
use crate::index::SLOTS_MAX;
use crate::line::{PayloadText, checked, parse_active, sound_lines};
use crate::pack::Pack;
use burnlog_log::Address;
use burnlog_log::limits::BATCH_ENTRIES_MAX;
use memchr::memchr;
use std::ops::Range;

/// What room after the last batch is filled with: white space to every tool that reads JSON.
pub(crate) const BLANK: u8 = b' ';

/// Returns the bytes up to the room at their end: blanks that were written ahead, or the zeros that a crash leaves of a length of
/// which not all pages were written. No line ends with either.
pub(crate) fn without_room(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|byte| *byte != BLANK && *byte != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

/// An entry line that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScannedEntry {
    /// The position in the batch.
    pub(crate) ordinal: u32,
    pub(crate) address: Address,
    /// Whether the event stands here, and not only the entry.
    pub(crate) has_event: bool,
    pub(crate) is_erased: bool,
    pub(crate) payload_bytes: u32,
}

/// A batch that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ScannedBatch {
    /// Where its first entry line begins.
    pub(crate) offset: u64,
    /// The bytes of its entry lines; the commit line follows.
    pub(crate) bytes: u64,
    /// Where its commit line ends.
    pub(crate) end: u64,
    pub(crate) first_slot: u32,
    pub(crate) count: u32,
    /// Absent for entries whose commit line is lost: they are readable by address only.
    pub(crate) commit: Option<Commit>,
    /// The entries that could be read; fewer than `count` where lines are damaged.
    pub(crate) entries: Vec<ScannedEntry>,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The bytes end with a commit line, or there are none.
    Clean,
    /// What follows the committed bytes was never acknowledged and can be cut: the start of a batch, or room for one.
    Torn,
    /// Bytes that were acknowledged are damaged. Nothing may be cut below the committed length.
    Damaged,
}

/// Bytes that should be there and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRange {
    /// Where they begin.
    pub offset: u64,
    /// How many.
    pub bytes: u64,
    /// What is wrong with them.
    pub reason: String,
}

/// The answer of [`recover`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The bytes up to the end of the last batch that counts.
    pub committed_bytes: u64,
    /// The number of entry slots in them.
    pub slots: u32,
    /// The number of batches that were read whole or in part.
    pub batches: u64,
    /// What became of the segment.
    pub verdict: Verdict,
    /// What cannot be read, in order.
    pub damage: Vec<DamagedRange>,
}

/// Tells what the bytes of an active segment hold, given the durable length that was published, if that is known.
///
/// Beyond the durable length whole batches count and the rest is torn. Below it everything was acknowledged: what does
/// not fit is damage, and reading goes on at the next line that does. With an unknown length only what
/// follows the last commit line is torn.
pub fn recover(bytes: &[u8], durable: Option<u64>) -> Recovered {
    let mut batches = 0;
    let start = Start { offset: 0, slot: 0 };
    Walk { bytes, start, durable }
        .run(&mut |batch: ScannedBatch| batches += u64::from(batch.commit.is_some()))
        .finish(batches)
}

/// Where reading begins: the end of a batch that is known, or the start of the segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Start {
    /// The offset of the bytes in the segment.
    pub(crate) offset: u64,
    /// The next slot.
    pub(crate) slot: u32,
}

/// A walk over the bytes of a segment from a known place to the end.
pub(crate) struct Walk<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) start: Start,
    pub(crate) durable: Option<u64>,
}

/// What a walk found beside the batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walked {
    pub(crate) committed: Start,
    pub(crate) verdict: Verdict,
    pub(crate) damage: Vec<DamagedRange>,
}

impl Walked {
    fn finish(self, batches: u64) -> Recovered {
        Recovered {
            committed_bytes: self.committed.offset,
            slots: self.committed.slot,
            batches,
            verdict: self.verdict,
            damage: self.damage,
        }
    }
}

impl Walk<'_> {
    /// Walks and hands over every batch that counts, in order.
    pub(crate) fn run(&self, each: &mut dyn FnMut(ScannedBatch)) -> Walked {
        let mut damage = Vec::new();
        let mut at = self.start;
        let mut reason = self.header(&mut at);
        loop {
            while reason.is_none() && self.at(at) < self.bytes.len() {
                match next_batch(&self.bytes[self.at(at)..], at) {
                    Ok(Some((batch, taken))) => {
                        at = Start { offset: at.offset + taken as u64, slot: at.slot + batch.count };
                        each(batch);
                    }
                    Ok(None) => reason = Some("the batch has no commit line".to_owned()),
                    Err(why) => reason = Some(why),
                }
            }
            let Some(reason) = reason.take() else { break };
            let known = damage.len();
            let next = self.resynchronise(at, reason, each, &mut damage);
            if damage.len() == known {
                let verdict = if damage.is_empty() { Verdict::Torn } else { Verdict::Damaged };
                return Walked { committed: at, verdict, damage };
            }
            at = next;
        }
        let end = self.start.offset + self.bytes.len() as u64;
        match self.durable.filter(|durable| *durable > end) {
            Some(durable) => {
                let reason = "the file ends before the published length".to_owned();
                damage.push(DamagedRange { offset: end, bytes: durable - end, reason });
                Walked { committed: at, verdict: Verdict::Damaged, damage }
            }
            None if damage.is_empty() => Walked { committed: at, verdict: Verdict::Clean, damage },
            None => Walked { committed: at, verdict: Verdict::Damaged, damage },
        }
    }

    fn at(&self, start: Start) -> usize {
        (start.offset - self.start.offset) as usize
    }

    /// Steps over the header where the walk begins at the start of the segment; returns what is wrong with it.
    fn header(&self, at: &mut Start) -> Option<String> {
        if at.offset > 0 || self.bytes.is_empty() {
            return None;
        }
        let Some(end) = memchr(b'\n', self.bytes) else {
            return Some("the header line has no end".to_owned());
        };
        if parse_header(&self.bytes[..end]).is_none() {
            return Some("the header line is damaged".to_owned());
        }
        at.offset = end as u64 + 1;
        None
    }

    /// Finds the next place from which reading can go on after something that does not fit at `bad`. Leaves `damage`
    /// empty where everything from there on is torn.
    fn resynchronise(
        &self,
        bad: Start,
        reason: String,
        each: &mut dyn FnMut(ScannedBatch),
        damage: &mut Vec<DamagedRange>,
    ) -> Start {
        let end = self.start.offset + self.bytes.len() as u64;
        let owed = self.durable.map_or(end, |durable| durable.min(end));
        if self.durable.is_some_and(|durable| bad.offset >= durable) {
            return bad;
        }
        let rest = &self.bytes[self.at(bad)..];
        // With an unknown length a commit line counts when its newline was written, or when another one follows.
        let counts = |found: &FoundCommit| {
            self.durable.is_some() || found.has_newline || has_whole_commit(&rest[found.line_end..])
        };
        let found =
            next_commit(rest).filter(|found| bad.offset + found.line_start as u64 <= owed).filter(counts);
        let Some(found) = found else {
            // Nothing more can be read. With an unknown length that is a torn end; otherwise it was acknowledged.
            let Some(durable) = self.durable else { return bad };
            let slot = salvage(rest, bad, None, each);
            damage.push(DamagedRange { offset: bad.offset, bytes: durable - bad.offset, reason });
            return Start { offset: owed.max(bad.offset), slot };
        };
        let (commit_bytes, _) = found.commit.extent.unwrap_or_default();
        let begin = (found.line_start as u64).saturating_sub(commit_bytes) as usize;
        // Lines before the batch belong to batches whose commit lines are lost.
        let slot = salvage(&rest[..begin], bad, Some(found.commit.first_slot), each).max(bad.slot);
        let first_slot = found.commit.first_slot.max(slot);
        let at = Start { offset: bad.offset + begin as u64, slot: first_slot };
        let entries = sound_entries(&rest[begin..found.line_start], found.commit.entries);
        let count = found.commit.entries;
        each(ScannedBatch {
            offset: at.offset,
            bytes: (found.line_start - begin) as u64,
            end: bad.offset + found.line_end as u64,
            first_slot,
            count,
            commit: Some(found.commit),
            entries,
        });
        damage.push(DamagedRange { offset: bad.offset, bytes: found.line_start as u64, reason });
        Start { offset: bad.offset + found.line_end as u64, slot: first_slot + count }
    }
}

/// Hands over the whole, sound batches at the start of `bytes` and returns where they end. What follows may be the start of a
/// batch or anything else.
pub(crate) fn sound_batches(bytes: &[u8], start: Start, each: &mut dyn FnMut(ScannedBatch)) -> Start {
    let walk = Walk { bytes, start, durable: None };
    let mut at = start;
    if walk.header(&mut at).is_some() {
        return start;
    }
    while let Ok(Some((batch, taken))) = next_batch(&bytes[walk.at(at)..], at) {
        at = Start { offset: at.offset + taken as u64, slot: at.slot + batch.count };
        each(batch);
    }
    at
}

/// Reads the batch at the start of `bytes`, strictly: every checksum, every number. Returns it with the bytes that
/// it takes; `None` where all is sound but the commit line has not come yet; `Err` tells what is wrong.
fn next_batch(bytes: &[u8], at: Start) -> Result<Option<(ScannedBatch, usize)>, String> {
    let mut entries: Vec<ScannedEntry> = Vec::new();
    let (mut place, mut has_packs) = (0, false);
    while let Some(length) = memchr(b'\n', &bytes[place..]) {
        let line = &bytes[place..place + length];
        let bad = |what: &str| Err(format!("{what} at byte {}", at.offset + place as u64));
        let Some(covered) = checked(line) else { return bad("a line's checksum does not fit") };
        if is_commit(covered) {
            let Some(commit) = Commit::parse_active(line) else { return bad("a commit line cannot be read") };
            let extent = (place as u64, crc32fast::hash(&bytes[..place]));
            if commit.extent != Some(extent)
                || commit.entries as usize != entries.len()
                || commit.first_slot != at.slot
            {
                return bad("a commit line does not fit its batch");
            }
            let batch = ScannedBatch {
                offset: at.offset,
                bytes: place as u64,
                end: at.offset + (place + length + 1) as u64,
                first_slot: at.slot,
                count: commit.entries,
                commit: Some(commit),
                entries,
            };
            return Ok(Some((batch, place + length + 1)));
        }
        // Either all entries of a batch are in packs or none.
        let before = entries.len();
        if is_pack(covered) && (before == 0 || has_packs) {
            match Pack::parse(covered).and_then(|pack| pack.scan()) {
                Some(found) if found[0].ordinal as usize == before => entries.extend(found),
                _ => return bad("a pack cannot be read"),
            }
            has_packs = true;
        } else {
            match scan_entry(covered) {
                Some(entry) if entry.ordinal as usize == before && !has_packs => entries.push(entry),
                _ => return bad("an entry line cannot be read"),
            }
        }
        place += length + 1;
    }
    Ok(None)
}

/// Whether what a checksum covers is a pack.
fn is_pack(covered: &[u8]) -> bool {
    covered.starts_with(b"\"pack\":")
}

fn scan_entry(covered: &[u8]) -> Option<ScannedEntry> {
    let parsed = parse_active(covered)?;
    let payload = parsed.event.map(|event| event.payload);
    Some(ScannedEntry {
        ordinal: parsed.ordinal.filter(|ordinal| (*ordinal as usize) < BATCH_ENTRIES_MAX)?,
        address: parsed.address?,
        has_event: parsed.event.is_some(),
        is_erased: payload == Some(PayloadText::Erased),
        payload_bytes: payload.map_or(Some(0), |payload| payload.payload_bytes())?,
    })
}

/// A commit line somewhere in bytes.
struct FoundCommit {
    commit: Commit,
    line_start: usize,
    line_end: usize,
    /// Whether its newline is there. One that was spoiled cannot be told from one that was never written.
    has_newline: bool,
}

/// Whether there is a commit line with its newline.
fn has_whole_commit(mut bytes: &[u8]) -> bool {
    while let Some(found) = next_commit(bytes) {
        if found.has_newline {
            return true;
        }
        bytes = &bytes[found.line_end..];
    }
    false
}

/// Finds the first commit line with a checksum that fits.
fn next_commit(bytes: &[u8]) -> Option<FoundCommit> {
    let mut place = 0;
    while let Some(length) = memchr(b'\n', &bytes[place..]) {
        let line = &bytes[place..place + length];
        for (range, covered) in sound_lines(line) {
            let commit = is_commit(covered).then(|| Commit::parse_active(&line[range.clone()])).flatten();
            if let Some(commit) = commit {
                let has_newline = range.end == line.len();
                let line_end = if has_newline { place + length + 1 } else { place + range.end };
                return Some(FoundCommit { commit, line_start: place + range.start, line_end, has_newline });
            }
        }
        place += length + 1;
    }
    None
}

/// Returns the entries of a damaged batch that can be read, each at its own ordinal.
fn sound_entries(bytes: &[u8], count: u32) -> Vec<ScannedEntry> {
    let sound = sound_entry_lines(bytes).flat_map(|line| line.entries);
    let mut entries: Vec<ScannedEntry> = sound.filter(|entry| entry.ordinal < count).collect();
    entries.dedup_by_key(|entry| entry.ordinal);
    entries
}

/// A line of one entry, or of a pack of them.
struct EntryLine {
    entries: Vec<ScannedEntry>,
    is_pack: bool,
    place: Range<usize>,
}

/// Returns every line of entries with a checksum that fits, and where it stands.
fn sound_entry_lines(bytes: &[u8]) -> impl Iterator<Item = EntryLine> {
    let mut start = 0;
    bytes.split(|byte| *byte == b'\n').flat_map(move |line| {
        let base = start;
        start += line.len() + 1;
        let sound = sound_lines(line).into_iter();
        sound.filter_map(move |(range, covered)| {
            let is_pack = is_pack(covered);
            let entries = if is_pack {
                Pack::parse(covered)?.scan()?
            } else {
                scan_entry(covered).into_iter().collect()
            };
            let place = base + range.start..(base + range.end + 1);
            (!entries.is_empty()).then_some(EntryLine { entries, is_pack, place })
        })
    })
}

/// Hands over the entries of batches whose commit lines are lost, so that their events stay readable by address.
/// Returns the slot after them.
fn salvage(bytes: &[u8], at: Start, slot_max: Option<u32>, each: &mut dyn FnMut(ScannedBatch)) -> u32 {
    // Ordinals restart with each batch, so each group gets lines of its own.
    let mut groups: Vec<EntryLine> = Vec::new();
    for line in sound_entry_lines(bytes) {
        let follows = |group: &EntryLine| {
            let last = group.entries.last().map(|entry| entry.ordinal);
            group.is_pack == line.is_pack && last < line.entries.first().map(|entry| entry.ordinal)
        };
        match groups.last_mut().filter(|group| follows(group)) {
            Some(group) => {
                group.place.end = line.place.end;
                group.entries.extend(line.entries);
            }
            None => groups.push(line),
        }
    }
    let mut slot = at.slot;
    for EntryLine { place: lines, entries, .. } in groups {
        let count = entries.last().map_or(0, |last| last.ordinal + 1);
        if slot + count > slot_max.unwrap_or(SLOTS_MAX) {
            break;
        }
        each(ScannedBatch {
            offset: at.offset + lines.start as u64,
            bytes: lines.len() as u64,
            end: at.offset + lines.end as u64,
            first_slot: slot,
            count,
            commit: None,
            entries,
        });
        slot += count;
    }
    slot
}
