//! The file that keeps the cursors of one feed: a base, and frames appended to it; the newest for a path counts. A new base is made
//! of both when the frames have become many. Host-local and expendable: without it files are read again, and dedup makes that safe.

use crate::below::{below, is_odd};
use crate::cursor::{Cursor, FeedPoint, StoredCursor, StoredHead};
use crate::cursor_base::{CursorBase, merge};
use crate::cursor_disk::{CursorBytes, CursorDisk, SystemDisk};
use crate::cursor_frame::{Entry, Frame, push_frame, take_frame};
use crate::cursor_image::{CursorImage, CursorText};
use crate::files::io_error;
use burnlog_log::{Result, WriterId, failpoint};
use hashbrown::hash_table::Entry as Place;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::ffi::OsStr;
use std::hash::BuildHasher;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Name and version of the format. Another version starts empty.
const MAGIC: &[u8; 16] = b"burnlog cursors4";
/// Where length (u64) and CRC32 of the base stand, behind name and feed.
const BASE_AT: usize = MAGIC.len() + 32;
const HEADER_BYTES: usize = BASE_AT + 12;
/// As many bytes of frames are never worth rewriting the file, unless somebody says so.
const LOOSE_BYTES_MIN: usize = 64 << 10;

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
    base: CursorBase,
    /// Where the base ends and frames begin.
    base_end: usize,
    /// The newest frame of each path that has one; it stands for the cursor of that path in the base.
    frames: HashTable<Frame>,
    hashing: DefaultHashBuilder,
    newest: Option<FeedPoint>,
    /// How many bytes of frames count.
    live_bytes: usize,
    loose_bytes_min: usize,
    damage: Option<String>,
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
            base: CursorBase::default(),
            base_end: 0,
            frames: HashTable::new(),
            hashing: DefaultHashBuilder::default(),
            newest: None,
            live_bytes: 0,
            loose_bytes_min: LOOSE_BYTES_MIN,
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

    /// Sets how many bytes may lie behind the base before a new one is made, beside a quarter of it, or in the middle of an ingest as many
    /// as count; 64 KiB by default.
    #[must_use]
    pub fn with_loose_bytes_min(self, bytes: usize) -> Self {
        Self { loose_bytes_min: bytes, ..self }
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
        self.entries_beginning_with(b"").count()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.base.is_empty() && self.frames.is_empty()
    }

    /// Returns what the cursors say about a source.
    pub fn source_state(&self, source: &str) -> SourceState {
        let mut state = SourceState::default();
        let is_of_it = |entry: &Entry<'_>| entry.head().is_some_and(|head| head.source == source);
        let entries = self.entries_beginning_with(b"").filter(is_of_it);
        for cursor in entries.filter_map(|entry| entry.cursor()) {
            state.files += 1;
            state.closed += u64::from(cursor.closed);
            state.pending_bytes += if cursor.closed { 0 } else { cursor.head.pending_bytes };
        }
        state
    }

    /// Drops every cursor that was saved when the feed was larger than `size`; returns how many.
    pub fn invalidate_after(&mut self, size: u64) -> Result<usize> {
        if self.newest.is_none_or(|newest| newest.size <= size) {
            return Ok(0);
        }
        let before = self.len();
        self.rewrite(|head| head.point().size <= size)?;
        Ok(before.saturating_sub(self.len()))
    }

    /// Drops every cursor.
    pub fn clear(&mut self) -> Result<()> {
        self.forget_all();
        self.rewrite(|_| true)
    }

    /// Looks at the cursor of a file.
    pub(crate) fn look(&self, path: &Path) -> Option<StoredCursor<'_>> {
        let entry = self.loose(path).or_else(|| self.base.find(&self.text, path))?;
        entry.cursor()
    }

    /// Returns the cursor of a file, to go on from.
    pub(crate) fn get(&self, path: &Path) -> Option<Cursor> {
        self.look(path)?.to_cursor()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Path, StoredCursor<'_>)> {
        self.entries_beginning_with(b"").filter_map(|entry| Some((entry.path, entry.cursor()?)))
    }

    /// The fronts of all cursors, which cost less than the cursors.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (&Path, StoredHead<'_>)> {
        self.entries_beginning_with(b"").filter_map(|entry| Some((entry.path, entry.head()?)))
    }

    /// The paths that have a cursor: of a file, or of all files below a folder.
    pub(crate) fn paths_below<'a>(&'a self, root: &'a Path) -> impl Iterator<Item = &'a Path> {
        // The paths of cursors are as short as can be: the walk resolves its roots and joins names to them.
        let begin = if is_odd(root.as_os_str().as_bytes()) { b"" } else { root.as_os_str().as_bytes() };
        let paths = self.entries_beginning_with(begin).map(|entry| entry.path);
        let is_below = below(root);
        paths.filter(move |path| is_below(path))
    }

    /// Returns whether no other file than `path` has a cursor of this stream, where that can be told without a look at all of them.
    pub(crate) fn is_only_file_of(&self, source: &str, stream: &str, path: &Path) -> bool {
        let is_of =
            |head: &StoredHead<'_>| head.source == source && head.stream == stream && !head.is_blank();
        let is_another = |frame: &Frame| {
            let entry = frame.entry(&self.text);
            entry.head().as_ref().is_some_and(is_of) && entry.path.as_os_str() != path.as_os_str()
        };
        if self.frames.iter().any(is_another) {
            return false;
        }
        let own = self.base.find(&self.text, path).and_then(|entry| entry.head());
        self.base.may_be_of(&self.text, source, stream) <= usize::from(own.as_ref().is_some_and(is_of))
    }

    /// What counts of the cursors whose paths begin with these bytes, and perhaps more.
    fn entries_beginning_with<'a>(&'a self, begin: &'a [u8]) -> impl Iterator<Item = Entry<'a>> {
        let loose = self.frames.iter().map(|frame| frame.entry(&self.text));
        let is_newest = |entry: &Entry<'_>| self.frames.is_empty() || self.loose(entry.path).is_none();
        self.base.beginning_with(&self.text, begin).filter(is_newest).chain(loose)
    }

    /// Returns what was saved for a file since the base was made.
    fn loose(&self, path: &Path) -> Option<Entry<'_>> {
        let hash = self.hashing.hash_one(path.as_os_str());
        let is = |frame: &Frame| frame.entry(&self.text).path.as_os_str() == path.as_os_str();
        self.frames.find(hash, is).map(|frame| frame.entry(&self.text))
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
        if self.text.len() > (self.base_end + self.live_bytes) * 2 + self.loose_bytes_min {
            self.rewrite(|_| true)?;
        }
        Ok(())
    }

    /// Makes a new base where much was saved behind the old one: for the end of an ingest.
    pub(crate) fn settle(&mut self) -> Result<()> {
        if self.text.len() - self.base_end > self.base_end / 4 + self.loose_bytes_min {
            self.rewrite(|_| true)?;
        }
        Ok(())
    }

    /// Takes in the frames from `at` on; returns where they end, and whether by a torn one.
    fn index(&mut self, mut at: usize) -> (usize, bool) {
        let Self { text, frames, hashing, newest, live_bytes, .. } = self;
        while let Some((body, claimed)) = take_frame(text.from(at)) {
            let entry = body.and_then(Entry::read);
            let Some((entry, head)) = entry.and_then(|entry| Some((entry, entry.head()?))) else {
                // The last record can be half written; one in the middle cannot.
                return (at, claimed >= text.len() - at);
            };
            if newest.is_none_or(|newest| newest.size < head.point().size) {
                *newest = Some(head.point());
            }
            let frame = Frame { start: at, bytes: claimed };
            let path = entry.path.as_os_str();
            let hash = |path: &OsStr| hashing.hash_one(path);
            let is = |other: &Frame| other.entry(text).path.as_os_str() == path;
            match frames.entry(hash(path), is, |other| hash(other.entry(text).path.as_os_str())) {
                Place::Occupied(mut known) => {
                    *live_bytes -= known.get().bytes;
                    *known.get_mut() = frame;
                }
                Place::Vacant(vacant) => drop(vacant.insert(frame)),
            }
            *live_bytes += claimed;
            at += claimed;
        }
        (at, true)
    }

    fn forget_all(&mut self) {
        self.frames.clear();
        self.text = CursorText::default();
        (self.base, self.base_end) = (CursorBase::default(), 0);
        (self.newest, self.live_bytes, self.file) = (None, 0, None);
    }

    fn load(&mut self, found: CursorImage) -> Result<(), String> {
        let Some((header, rest)) = found.split_at_checked(HEADER_BYTES) else {
            // Torn while it was made: nothing was kept yet. Anything else is no file of ours, however short.
            let is_torn = self.header(b"").starts_with(&found) || found.iter().all(|byte| *byte == 0);
            return if is_torn { Ok(()) } else { Err("not a cursor file".to_owned()) };
        };
        if &header[..MAGIC.len()] != MAGIC {
            return Err("not a cursor file of this version".to_owned());
        }
        if header[MAGIC.len()..BASE_AT] != self.feed.0 {
            return Err("the cursors of another feed".to_owned());
        }
        let (base_bytes, crc) = header[BASE_AT..].split_at(8);
        let base_bytes = u64::from_le_bytes(base_bytes.try_into().expect("8 bytes"));
        // The checksum of all of it is looked at here, so that no part that is asked for later can be damaged.
        let base = usize::try_from(base_bytes).ok().and_then(|bytes| rest.get(..bytes));
        let Some(base_bytes) =
            base.filter(|base| crc32fast::hash(base).to_le_bytes() == crc).map(<[u8]>::len)
        else {
            return Err(format!("damaged at byte {BASE_AT}"));
        };
        self.take_up(found, base_bytes)?;
        let (end, is_torn) = self.index(self.base_end);
        if !is_torn {
            return Err(format!("damaged at byte {end}"));
        }
        self.text.truncate_found(end);
        Ok(())
    }

    /// Makes the bytes of a whole file those that count, with the base in front of them.
    fn take_up(&mut self, found: CursorImage, base_bytes: usize) -> Result<(), String> {
        self.text = CursorText::new(found);
        self.base = CursorBase::read(&self.text, HEADER_BYTES, base_bytes)
            .ok_or_else(|| format!("damaged at byte {HEADER_BYTES}"))?;
        self.base_end = HEADER_BYTES + base_bytes;
        self.newest = self.base.newest();
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
            let header = self.header(b"");
            file.write_at(&header, 0)?;
            self.text.push(&header);
            self.base_end = header.len();
            failpoint("cursors-made");
        }
        Ok(file)
    }

    fn header(&self, base: &[u8]) -> Vec<u8> {
        let (bytes, crc) = ((base.len() as u64).to_le_bytes(), crc32fast::hash(base).to_le_bytes());
        [MAGIC.as_slice(), &self.feed.0, &bytes, &crc].concat()
    }

    /// Writes what counts and is to be kept into a new file, as its base, and puts it in the place of the old one.
    fn rewrite(&mut self, keeps: impl Fn(&StoredHead<'_>) -> bool) -> Result<()> {
        let failed = |error| io_error("rewrite cursors", &self.path, error);
        let loose = self.frames.iter().map(|frame| frame.entry(&self.text)).collect();
        let base = merge((&self.base, &self.text), loose, keeps).map_err(failed)?;
        let mut bytes = self.header(&base);
        bytes.extend_from_slice(&base);
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
        self.take_up(bytes.into(), base.len()).expect("a base that was just made reads");
        Ok(())
    }
}
