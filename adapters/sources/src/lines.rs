//! Reads a file from its start in large pieces, tells its lines apart, hashes them many at a time, and hashes what it passes. Holds one buffer that
//! grows to the longest line below the limit. Knows bytes, not records.

use crate::files::OpenFile;
use burnlog_log::PayloadHash;
use std::collections::VecDeque;
use std::io::{self, Read, SeekFrom};
use std::ops::Range;

/// How much of a file is looked at where its path does not say everything.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
/// How much one read asks for: what a file that grew by a little costs in fresh memory.
const READ_BYTES: usize = 256 << 10;
/// How many lines are hashed at once, at most.
const LINES_AHEAD: usize = 512;

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A line, in the buffer, and its hash; its newline is passed as well.
    Line(Range<usize>, PayloadHash),
    /// What is behind the last newline, up to the end of the file; not passed.
    Rest(Range<usize>),
    /// A line, or rest, longer than the limit; not passed.
    Long,
    /// The end of the file.
    End,
}

/// Where a line ends that is too long to hold.
pub(crate) struct LongEnd {
    /// Its length without a newline.
    pub(crate) bytes: u64,
    /// Whether a newline ends it.
    pub(crate) terminated: bool,
    /// Its last byte.
    pub(crate) last: u8,
}

pub(crate) struct Lines<'b> {
    file: Box<dyn OpenFile>,
    buffer: &'b mut Vec<u8>,
    /// The place in the file of `buffer[0]`.
    base: u64,
    /// What of the buffer is passed; searched for a newline without finding one; filled.
    start: usize,
    searched: usize,
    end: usize,
    /// The next lines, from `start` on, as far as they are hashed.
    ahead: VecDeque<(Range<usize>, PayloadHash)>,
    /// Over everything before `base + hashed`.
    hasher: blake3::Hasher,
    hashed: usize,
}

impl<'b> Lines<'b> {
    /// Reads `file`, which stands at its start. The buffer's content is of no meaning, its memory is used.
    pub(crate) fn new(file: Box<dyn OpenFile>, buffer: &'b mut Vec<u8>) -> Self {
        if buffer.len() > 4 * CHUNK_BYTES {
            buffer.truncate(2 * CHUNK_BYTES);
            buffer.shrink_to_fit();
        }
        let hasher = blake3::Hasher::new();
        let ahead = VecDeque::new();
        Self { file, buffer, base: 0, start: 0, searched: 0, end: 0, ahead, hasher, hashed: 0 }
    }

    /// The place in the file of the first byte that is not passed.
    pub(crate) fn position(&self) -> u64 {
        self.base + self.start as u64
    }

    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buffer[range]
    }

    /// Computes BLAKE3 of everything before `place`, which is passed; `None` when more than that is hashed already.
    pub(crate) fn prefix_at(&mut self, place: u64) -> Option<[u8; 32]> {
        if place < self.base + self.hashed as u64 {
            return None;
        }
        self.hash_to(place);
        Some(*self.hasher.finalize().as_bytes())
    }

    /// Goes back to the start of the file.
    pub(crate) fn rewind(&mut self) -> io::Result<()> {
        if self.position() == 0 {
            return Ok(());
        }
        self.hasher = blake3::Hasher::new();
        self.reset_to(0)
    }

    /// Returns the next line or what stands in its place, where lines have at most `line_bytes_max`.
    pub(crate) fn next(&mut self, line_bytes_max: usize) -> io::Result<Next> {
        loop {
            if self.ahead.is_empty() {
                self.look_ahead(line_bytes_max);
            }
            if let Some((line, hash)) = self.ahead.pop_front() {
                self.start = line.end + 1;
                self.searched = self.start;
                return Ok(Next::Line(line, hash));
            }
            if memchr::memchr(b'\n', &self.buffer[self.searched..self.end]).is_some() {
                return Ok(Next::Long);
            }
            self.searched = self.end;
            if self.end - self.start > line_bytes_max {
                return Ok(Next::Long);
            }
            if self.fill()? == 0 {
                let rest = self.start..self.end;
                return Ok(if rest.is_empty() { Next::End } else { Next::Rest(rest) });
            }
        }
    }

    /// Hashes the lines that are whole in the buffer, up to one that is too long.
    fn look_ahead(&mut self, line_bytes_max: usize) {
        let mut start = self.start;
        let newlines = memchr::memchr_iter(b'\n', &self.buffer[self.searched..self.end]);
        let lines = newlines.map(|newline| {
            let line = start..self.searched + newline;
            start = line.end + 1;
            line
        });
        let lines: Vec<Range<usize>> =
            lines.take_while(|line| line.len() <= line_bytes_max).take(LINES_AHEAD).collect();
        let texts: Vec<&[u8]> = lines.iter().map(|line| &self.buffer[line.clone()]).collect();
        let hashes = PayloadHash::of_each(&texts);
        self.ahead.extend(lines.into_iter().zip(hashes));
    }

    /// Returns up to `bytes` of what is not passed: fewer only at the end of the file.
    pub(crate) fn peek(&mut self, bytes: usize) -> io::Result<Range<usize>> {
        while self.end - self.start < bytes {
            if self.fill()? == 0 {
                break;
            }
        }
        Ok(self.start..self.end.min(self.start + bytes))
    }

    /// Passes `bytes`; returns false when the file ends before.
    pub(crate) fn pass(&mut self, mut bytes: u64) -> io::Result<bool> {
        self.ahead.clear();
        loop {
            let passed = bytes.min((self.end - self.start) as u64);
            self.start += passed as usize;
            self.searched = self.searched.max(self.start);
            bytes -= passed;
            if bytes == 0 {
                return Ok(true);
            }
            if self.fill()? == 0 {
                return Ok(false);
            }
        }
    }

    /// Finds the end of a [`Next::Long`] line (or of the file, where `to_newline` is false) without holding it, and
    /// passes nothing.
    pub(crate) fn long_end(&mut self, to_newline: bool) -> io::Result<LongEnd> {
        self.settle()?;
        let mut end = LongEnd { bytes: 0, terminated: false, last: 0 };
        loop {
            let read = self.read_at(0)?;
            let piece = &self.buffer[..read];
            let newline = if to_newline { memchr::memchr(b'\n', piece) } else { None };
            let length = newline.unwrap_or(read);
            if let Some(last) = piece[..length].last() {
                end.last = *last;
            }
            end.bytes += length as u64;
            if newline.is_some() || read == 0 {
                end.terminated = newline.is_some();
                self.settle()?;
                return Ok(end);
            }
        }
    }

    /// Lets `look` read the next `bytes`, and passes nothing.
    pub(crate) fn ahead<T>(
        &mut self,
        bytes: u64,
        look: impl FnOnce(&mut dyn Read) -> io::Result<T>,
    ) -> io::Result<T> {
        self.settle()?;
        let seen = look(&mut (&mut self.file).take(bytes))?;
        self.settle()?;
        Ok(seen)
    }

    /// Empties the buffer, so that the file stands where the reader does.
    fn settle(&mut self) -> io::Result<()> {
        let place = self.position();
        self.hash_to(place);
        self.reset_to(place)
    }

    fn reset_to(&mut self, place: u64) -> io::Result<()> {
        self.file.seek(SeekFrom::Start(place))?;
        self.ahead.clear();
        (self.base, self.start, self.searched, self.end, self.hashed) = (place, 0, 0, 0, 0);
        Ok(())
    }

    fn hash_to(&mut self, place: u64) {
        let to = (place - self.base) as usize;
        self.hasher.update(&self.buffer[self.hashed..to]);
        self.hashed = to;
    }

    /// Reads more, behind what is not passed, which moves to the front of the buffer.
    fn fill(&mut self) -> io::Result<usize> {
        self.ahead.clear();
        if self.start > 0 {
            self.hash_to(self.position());
            self.buffer.copy_within(self.start..self.end, 0);
            self.base += self.start as u64;
            self.end -= self.start;
            self.searched -= self.start;
            (self.start, self.hashed) = (0, 0);
        }
        let read = self.read_at(self.end)?;
        self.end += read;
        Ok(read)
    }

    fn read_at(&mut self, at: usize) -> io::Result<usize> {
        let to = at + READ_BYTES;
        if self.buffer.len() < to {
            self.buffer.resize(to, 0);
        }
        loop {
            match self.file.read(&mut self.buffer[at..to]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}
