//! The file that keeps the cursors of one feed: records appended, the newest for a path counts, rewritten when most
//! of it is out of date. Host-local and expendable: without it files are read again, and dedup makes that safe.

use crate::cursor::{self, Cursor, FeedPoint};
use crate::files::io_error;
use burnlog_log::{Result, WriterId, failpoint};
use hashbrown::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Name and version of the format. Another version starts empty.
const MAGIC: &[u8; 16] = b"burnlog cursors1";
const HEADER_BYTES: usize = MAGIC.len() + 32;
/// Length and CRC32 of what follows.
const FRAME_BYTES: usize = 8;
/// Below this the file is never worth rewriting.
const GARBAGE_BYTES_MIN: u64 = 256 << 10;

/// The cursors of one (ledger, feed), kept at one path.
#[derive(Debug)]
pub struct CursorFile {
    path: PathBuf,
    feed: WriterId,
    /// Opened at the first save.
    file: Option<File>,
    /// By path, as the system spells it: hashing a `Path` takes it apart every time.
    cursors: HashMap<OsString, Kept>,
    newest: Option<FeedPoint>,
    /// The length up to which the file is good; what is behind it is cut off before the next save.
    valid_bytes: u64,
    live_bytes: u64,
    damage: Option<String>,
}

#[derive(Debug)]
struct Kept {
    cursor: Box<Cursor>,
    frame_bytes: u64,
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
    /// Opens the cursors of `feed` at `path`; a file that is not there is empty and made at the first save.
    ///
    /// A torn last record is ignored. A file that is damaged otherwise, of another feed or version, counts as empty,
    /// and [`CursorFile::damage`] says so. Errors are those of the system; the folder must exist.
    pub fn open(path: impl Into<PathBuf>, feed: WriterId) -> Result<Self> {
        let mut cursors = Self {
            path: path.into(),
            feed,
            file: None,
            cursors: HashMap::new(),
            newest: None,
            valid_bytes: 0,
            live_bytes: 0,
            damage: None,
        };
        match std::fs::read(&cursors.path) {
            Ok(bytes) => {
                if let Err(why) = cursors.load(&bytes) {
                    cursors.forget_all();
                    cursors.damage = Some(why);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("read cursors", &cursors.path, error)),
        }
        Ok(cursors)
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
        self.cursors.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.cursors.is_empty()
    }

    /// Returns what the cursors say about a source.
    pub fn source_state(&self, source: &str) -> SourceState {
        let mut state = SourceState::default();
        for Kept { cursor, .. } in self.cursors.values().filter(|kept| kept.cursor.source == source) {
            state.files += 1;
            state.closed += u64::from(cursor.closed);
            state.pending_bytes += if cursor.closed { 0 } else { cursor.pending_bytes };
        }
        state
    }

    /// Drops every cursor that was saved when the feed was larger than `size`; returns how many.
    pub fn invalidate_after(&mut self, size: u64) -> Result<usize> {
        let before = self.cursors.len();
        self.cursors.retain(|_, kept| kept.cursor.point.size <= size);
        let dropped = before - self.cursors.len();
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

    pub(crate) fn get(&self, path: &Path) -> Option<&Cursor> {
        self.cursors.get(path.as_os_str()).map(|kept| &*kept.cursor)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Path, &Cursor)> {
        self.cursors.iter().map(|(path, kept)| (Path::new(path), &*kept.cursor))
    }

    /// Keeps these cursors with one write.
    pub(crate) fn save(&mut self, cursors: impl Iterator<Item = (PathBuf, Cursor)>) -> Result<()> {
        let mut bytes = Vec::new();
        for (path, cursor) in cursors {
            let start = bytes.len();
            push_frame(&mut bytes, path.as_os_str(), &cursor);
            self.insert(path.into_os_string(), Box::new(cursor), (bytes.len() - start) as u64);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        failpoint("cursors-unsaved");
        self.append(&bytes).map_err(|error| io_error("save cursors", &self.path, error))?;
        failpoint("cursors-saved");
        if self.valid_bytes > self.live_bytes * 2 + GARBAGE_BYTES_MIN {
            self.rewrite()?;
        }
        Ok(())
    }

    fn insert(&mut self, path: OsString, cursor: Box<Cursor>, frame_bytes: u64) {
        if self.newest.is_none_or(|newest| newest.size < cursor.point.size) {
            self.newest = Some(cursor.point);
        }
        self.live_bytes += frame_bytes;
        if let Some(old) = self.cursors.insert(path, Kept { cursor, frame_bytes }) {
            self.live_bytes -= old.frame_bytes;
        }
    }

    fn forget_all(&mut self) {
        self.cursors.clear();
        (self.newest, self.valid_bytes, self.live_bytes, self.file) = (None, 0, 0, None);
    }

    fn load(&mut self, bytes: &[u8]) -> Result<(), String> {
        let Some((header, mut rest)) = bytes.split_at_checked(HEADER_BYTES) else {
            // Torn while it was made: nothing was kept yet. Anything else is no file of ours, however short.
            let is_torn = self.header().starts_with(bytes) || bytes.iter().all(|byte| *byte == 0);
            return if is_torn { Ok(()) } else { Err("not a cursor file".to_owned()) };
        };
        if &header[..MAGIC.len()] != MAGIC {
            return Err("not a cursor file of this version".to_owned());
        }
        if header[MAGIC.len()..] != self.feed.0 {
            return Err("the cursors of another feed".to_owned());
        }
        self.valid_bytes = HEADER_BYTES as u64;
        // A cursor takes some 300 bytes.
        self.cursors.reserve(rest.len() / 256);
        while let Some((frame, length)) = take_frame(rest) {
            let Some((path, cursor)) = frame.and_then(read_body) else {
                // The last record can be half written; one in the middle cannot.
                if length >= rest.len() {
                    break;
                }
                return Err(format!("damaged at byte {}", self.valid_bytes));
            };
            self.insert(path, cursor, length as u64);
            self.valid_bytes += length as u64;
            rest = &rest[length..];
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open_for_append()?,
        };
        file.write_all(bytes)?;
        self.valid_bytes += bytes.len() as u64;
        // Kept only after a whole write: after a failed one the next save cuts the torn record off.
        self.file = Some(file);
        Ok(())
    }

    fn open_for_append(&mut self) -> io::Result<File> {
        let mut file = File::options().append(true).create(true).open(&self.path)?;
        if file.metadata()?.len() != self.valid_bytes {
            file.set_len(self.valid_bytes)?;
        }
        if self.valid_bytes == 0 {
            file.write_all(&self.header())?;
            failpoint("cursors-made");
            self.valid_bytes = HEADER_BYTES as u64;
        }
        Ok(file)
    }

    fn header(&self) -> Vec<u8> {
        [MAGIC.as_slice(), &self.feed.0].concat()
    }

    /// Writes what counts into a new file and puts it in the place of the old one.
    fn rewrite(&mut self) -> Result<()> {
        let mut bytes = self.header();
        self.newest = None;
        for (path, kept) in &mut self.cursors {
            let start = bytes.len();
            push_frame(&mut bytes, path, &kept.cursor);
            kept.frame_bytes = (bytes.len() - start) as u64;
            if self.newest.is_none_or(|newest| newest.size < kept.cursor.point.size) {
                self.newest = Some(kept.cursor.point);
            }
        }
        self.file = None;
        let beside = self.path.with_extension("new");
        let replace = || {
            let mut file = File::create(&beside)?;
            file.write_all(&bytes)?;
            // Without this a power cut can leave an empty file under the name, and every file is read again.
            file.sync_data()?;
            failpoint("cursors-rewritten");
            std::fs::rename(&beside, &self.path)
        };
        replace().map_err(|error| io_error("rewrite cursors", &self.path, error))?;
        self.valid_bytes = bytes.len() as u64;
        self.live_bytes = self.valid_bytes - HEADER_BYTES as u64;
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

fn read_body(body: &[u8]) -> Option<(OsString, Box<Cursor>)> {
    let (length, rest) = body.split_at_checked(4)?;
    let length = u32::from_le_bytes(length.try_into().ok()?) as usize;
    let (path, cursor) = rest.split_at_checked(length)?;
    Some((OsStr::from_bytes(path).to_owned(), Box::new(cursor::decode(cursor)?)))
}
