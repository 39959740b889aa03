//! The file that keeps the cursors of one feed: records appended, the newest for a path counts, rewritten when most
//! of it is out of date. Host-local and expendable: without it files are read again, and dedup makes that safe.

use crate::cursor::{self, Cursor, FeedPoint, StoredCursor, StoredHead};
use crate::cursor_disk::{CursorBytes, CursorDisk, SystemDisk};
use crate::cursor_image::{CursorImage, CursorText};
use crate::files::io_error;
use burnlog_log::{Result, WriterId, failpoint};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Name and version of the format. Another version starts empty.
const MAGIC: &[u8; 16] = b"burnlog cursors3";
const HEADER_BYTES: usize = MAGIC.len() + 32;
/// Length and CRC32 of what follows.
const FRAME_BYTES: usize = 8;
/// Below this the file is never worth rewriting, unless somebody says so.
const GARBAGE_BYTES_MIN: usize = 64 << 10;

/// The cursors of one (ledger, feed), kept at one path.
#[derive(Debug)]
pub struct CursorFile {
    disk: Box<dyn CursorDisk>,
    path: PathBuf,
    feed: WriterId,
    /// Opened at the first save.
    file: Option<Box<dyn CursorBytes>>,
    /// What the file holds up to where it is good; what it has behind that is cut off before the next save.
    text: CursorText,
    /// The newest frame of each path.
    frames: HashTable<Frame>,
    hashing: DefaultHashBuilder,
    newest: Option<FeedPoint>,
    live_bytes: usize,
    garbage_bytes_min: usize,
    damage: Option<String>,
}

/// Where a frame is in `CursorFile::text`.
#[derive(Debug, Clone, Copy)]
struct Frame {
    start: usize,
    bytes: usize,
}

impl Frame {
    fn whole(self, text: &CursorText) -> &[u8] {
        &text.from(self.start)[..self.bytes]
    }

    fn body(self, text: &CursorText) -> &[u8] {
        &self.whole(text)[FRAME_BYTES..]
    }

    /// Returns the path and the front of the cursor, which were looked at when the frame came in.
    fn head(self, text: &CursorText) -> (&Path, StoredHead<'_>) {
        read_head(self.body(text)).expect("only frames whose front reads are kept")
    }

    /// Returns the cursor. `None` where its checksum fits and it does not read: the file is read again.
    fn cursor(self, text: &CursorText) -> Option<StoredCursor<'_>> {
        StoredCursor::read(split_body(self.body(text))?.1)
    }

    fn path(self, text: &CursorText) -> &Path {
        split_body(self.body(text)).expect("only frames whose front reads are kept").0
    }
}

/// What the cursors say about one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SourceState {
    /// Files with a cursor.
    pub files: u64,
    /// Files whose stream is closed.
    pub closed: u64,
    /// Bytes of unterminated last records.
    pub pending_bytes: u64,
}

impl CursorFile {
    /// Opens the cursors of `feed` at `path` for whoever holds the lock of their folder, so that nobody else saves; a file that is not
    /// there is empty and made at the first save.
    ///
    /// A torn last record is ignored. A file that is damaged otherwise, of another feed or version, counts as empty,
    /// and [`CursorFile::damage`] says so. Errors are those of the system; the folder must exist.
    pub fn open(path: impl Into<PathBuf>, feed: WriterId) -> Result<Self> {
        Self::open_on(Box::new(SystemDisk { is_alone: true }), path, feed)
    }

    /// As [`CursorFile::open`], for looking at them while others may save.
    pub fn open_to_look(path: impl Into<PathBuf>, feed: WriterId) -> Result<Self> {
        Self::open_on(Box::new(SystemDisk { is_alone: false }), path, feed)
    }

    /// As [`CursorFile::open`], on another disk than that of the system.
    pub fn open_on(disk: Box<dyn CursorDisk>, path: impl Into<PathBuf>, feed: WriterId) -> Result<Self> {
        let mut cursors = Self {
            disk,
            path: path.into(),
            feed,
            file: None,
            text: CursorText::default(),
            frames: HashTable::new(),
            hashing: DefaultHashBuilder::default(),
            newest: None,
            live_bytes: 0,
            garbage_bytes_min: GARBAGE_BYTES_MIN,
            damage: None,
        };
        match cursors.disk.read(&cursors.path) {
            Ok(found) => {
                if let Err(why) = cursors.load(found) {
                    cursors.forget_all();
                    cursors.damage = Some(why);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("read cursors", &cursors.path, error)),
        }
        Ok(cursors)
    }

    /// Sets how many bytes may be out of date before the file is rewritten, beside as many as count; 64 KiB by default.
    #[must_use]
    pub fn with_garbage_bytes_min(self, bytes: usize) -> Self {
        Self { garbage_bytes_min: bytes, ..self }
    }

    /// Returns why the file counted as empty when it was opened, if it was not.
    pub fn damage(&self) -> Option<&str> {
        self.damage.as_deref()
    }

    /// Returns the feed.
    pub fn feed(&self) -> WriterId {
        self.feed
    }

    /// Returns the largest point of the feed at which a cursor was saved. A ledger whose feed does not have this root at
    /// this size is not the one that the cursors are about: [`CursorFile::clear`], or
    /// [`CursorFile::invalidate_after`] where it went back to an earlier size.
    pub fn newest(&self) -> Option<FeedPoint> {
        self.newest
    }

    /// Returns the number of files with a cursor.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Returns what the cursors say about a source.
    pub fn source_state(&self, source: &str) -> SourceState {
        let mut state = SourceState::default();
        for (_, cursor) in self.iter().filter(|(_, cursor)| cursor.head.source == source) {
            state.files += 1;
            state.closed += u64::from(cursor.closed);
            state.pending_bytes += if cursor.closed { 0 } else { cursor.head.pending_bytes };
        }
        state
    }

    /// Drops every cursor that was saved when the feed was larger than `size`; returns how many.
    pub fn invalidate_after(&mut self, size: u64) -> Result<usize> {
        let Self { text, frames, .. } = self;
        let before = frames.len();
        frames.retain(|frame| frame.head(text).1.point().size <= size);
        let dropped = before - frames.len();
        if dropped > 0 {
            self.rewrite()?;
        }
        Ok(dropped)
    }

    /// Drops every cursor.
    pub fn clear(&mut self) -> Result<()> {
        self.forget_all();
        self.rewrite()
    }

    /// Looks at the cursor of a file.
    pub(crate) fn look(&self, path: &Path) -> Option<StoredCursor<'_>> {
        let hash = self.hashing.hash_one(path.as_os_str());
        let is = |frame: &Frame| frame.path(&self.text).as_os_str() == path.as_os_str();
        self.frames.find(hash, is).and_then(|frame| frame.cursor(&self.text))
    }

    /// Returns the cursor of a file, to go on from.
    pub(crate) fn get(&self, path: &Path) -> Option<Cursor> {
        self.look(path)?.to_cursor()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Path, StoredCursor<'_>)> {
        let read = |frame: &Frame| Some((frame.path(&self.text), frame.cursor(&self.text)?));
        self.frames.iter().filter_map(read)
    }

    /// The fronts of all cursors, which cost less than the cursors.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (&Path, StoredHead<'_>)> {
        self.frames.iter().map(|frame| frame.head(&self.text))
    }

    /// Keeps these cursors with one write.
    pub(crate) fn save(&mut self, cursors: impl Iterator<Item = (PathBuf, Cursor)>) -> Result<()> {
        let mut frames = Vec::new();
        for (path, cursor) in cursors {
            push_frame(&mut frames, path.as_os_str(), &cursor);
        }
        if frames.is_empty() {
            return Ok(());
        }
        failpoint("cursors-unsaved");
        self.append(&frames).map_err(|error| io_error("save cursors", &self.path, error))?;
        failpoint("cursors-saved");
        if self.text.len() > self.live_bytes * 2 + self.garbage_bytes_min {
            self.rewrite()?;
        }
        Ok(())
    }

    /// Takes in the frames from `at` on; returns where they end, and whether by a torn one.
    fn index(&mut self, mut at: usize) -> (usize, bool) {
        let Self { text, frames, hashing, newest, live_bytes, .. } = self;
        while let Some((body, claimed)) = take_frame(text.from(at)) {
            let Some((path, head)) = body.and_then(read_head) else {
                // The last record can be half written; one in the middle cannot.
                return (at, claimed >= text.len() - at);
            };
            if newest.is_none_or(|newest| newest.size < head.point().size) {
                *newest = Some(head.point());
            }
            let frame = Frame { start: at, bytes: claimed };
            let path = path.as_os_str();
            let hash = |path: &OsStr| hashing.hash_one(path);
            let is = |other: &Frame| other.path(text).as_os_str() == path;
            match frames.entry(hash(path), is, |other| hash(other.path(text).as_os_str())) {
                Entry::Occupied(mut known) => {
                    *live_bytes -= known.get().bytes;
                    *known.get_mut() = frame;
                }
                Entry::Vacant(vacant) => drop(vacant.insert(frame)),
            }
            *live_bytes += claimed;
            at += claimed;
        }
        (at, true)
    }

    fn forget_all(&mut self) {
        self.frames.clear();
        self.text = CursorText::default();
        (self.newest, self.live_bytes, self.file) = (None, 0, None);
    }

    fn load(&mut self, found: CursorImage) -> Result<(), String> {
        let Some((header, rest)) = found.split_at_checked(HEADER_BYTES) else {
            // Torn while it was made: nothing was kept yet. Anything else is no file of ours, however short.
            let is_torn = self.header().starts_with(&found) || found.iter().all(|byte| *byte == 0);
            return if is_torn { Ok(()) } else { Err("not a cursor file".to_owned()) };
        };
        if &header[..MAGIC.len()] != MAGIC {
            return Err("not a cursor file of this version".to_owned());
        }
        if header[MAGIC.len()..] != self.feed.0 {
            return Err("the cursors of another feed".to_owned());
        }
        // A cursor takes some 300 bytes.
        self.frames = HashTable::with_capacity(rest.len() / 256);
        self.text = CursorText::new(found);
        let (end, is_torn) = self.index(HEADER_BYTES);
        if !is_torn {
            return Err(format!("damaged at byte {end}"));
        }
        self.text.truncate_found(end);
        Ok(())
    }

    fn append(&mut self, frames: &[u8]) -> io::Result<()> {
        let file = match self.file.take() {
            Some(file) => file,
            None => self.open_for_append()?,
        };
        let start = self.text.len();
        file.write_at(frames, start as u64)?;
        // Kept only after a whole write: after a failed one the next save cuts the torn record off.
        self.file = Some(file);
        self.text.push(frames);
        self.index(start);
        Ok(())
    }

    fn open_for_append(&mut self) -> io::Result<Box<dyn CursorBytes>> {
        let file = self.disk.open(&self.path)?;
        if file.bytes()? != self.text.len() as u64 {
            file.set_bytes(self.text.len() as u64)?;
        }
        if self.text.len() == 0 {
            let header = self.header();
            file.write_at(&header, 0)?;
            self.text.push(&header);
            failpoint("cursors-made");
        }
        Ok(file)
    }

    fn header(&self) -> Vec<u8> {
        [MAGIC.as_slice(), &self.feed.0].concat()
    }

    /// Writes what counts into a new file and puts it in the place of the old one.
    fn rewrite(&mut self) -> Result<()> {
        let mut bytes = self.header();
        for frame in &self.frames {
            bytes.extend_from_slice(frame.whole(&self.text));
        }
        self.file = None;
        let beside = self.path.with_extension("new");
        let replace = || {
            let file = self.disk.open(&beside)?;
            // What an earlier attempt left.
            file.set_bytes(0)?;
            file.write_at(&bytes, 0)?;
            // Without this a power cut can leave an empty file under the name, and every file is read again.
            file.sync()?;
            failpoint("cursors-rewritten");
            self.disk.rename(&beside, &self.path)
        };
        replace().map_err(|error| io_error("rewrite cursors", &self.path, error))?;
        self.forget_all();
        self.text.push(&bytes);
        self.index(HEADER_BYTES);
        Ok(())
    }
}

/// A frame is length (u32), CRC32 of the body, body; the body is the length of the path (u32), path, cursor.
fn push_frame(out: &mut Vec<u8>, path: &OsStr, cursor: &Cursor) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    let path = path.as_bytes();
    out.extend_from_slice(&(path.len() as u32).to_le_bytes());
    out.extend_from_slice(path);
    cursor::encode(cursor, out);
    let (head, body) = out[start..].split_at_mut(FRAME_BYTES);
    head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    head[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
}

/// Returns the body of the first frame (`None` where it is torn or damaged) and the length that the frame claims;
/// `None` at the end.
fn take_frame(bytes: &[u8]) -> Option<(Option<&[u8]>, usize)> {
    if bytes.is_empty() {
        return None;
    }
    let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let (Some(length), Some(crc)) = (number(0), number(4)) else { return Some((None, bytes.len())) };
    if length == 0 {
        // No cursor is that short: zeros that a power cut left behind, up to the end.
        return Some((None, bytes.len()));
    }
    let claimed = FRAME_BYTES + length as usize;
    let body = bytes.get(FRAME_BYTES..claimed).filter(|body| crc32fast::hash(body) == crc);
    Some((body, claimed))
}

fn split_body(body: &[u8]) -> Option<(&Path, &[u8])> {
    let (length, rest) = body.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let (path, cursor) = rest.split_at_checked(length)?;
    Some((Path::new(OsStr::from_bytes(path)), cursor))
}

fn read_head(body: &[u8]) -> Option<(&Path, StoredHead<'_>)> {
    let (path, cursor) = split_body(body)?;
    Some((path, StoredHead::read(cursor)?))
}
