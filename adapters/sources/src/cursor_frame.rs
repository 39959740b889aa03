//! A cursor with the path of its file, as it lies in a cursor file. Behind the base each is in a frame with a checksum of its own.

use crate::cursor::{self, Cursor, StoredCursor, StoredHead};
use crate::cursor_image::CursorText;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Length and CRC32 of what follows.
const FRAME_BYTES: usize = 8;

/// A cursor and its path: the length of the path (u32), path, cursor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) path: &'a Path,
    cursor: &'a [u8],
    /// Both, as they are stored.
    pub(crate) whole: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Takes the bytes of one entry apart; `None` for anything that is too short to be one.
    pub(crate) fn read(whole: &'a [u8]) -> Option<Self> {
        let (length, rest) = whole.split_first_chunk()?;
        let (path, cursor) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        Some(Self { path: Path::new(OsStr::from_bytes(path)), cursor, whole })
    }

    /// Returns the front of the cursor; `None` where it does not read.
    pub(crate) fn head(&self) -> Option<StoredHead<'a>> {
        StoredHead::read(self.cursor)
    }

    /// Returns the cursor. `None` where its checksum fits and it does not read: the file is read again.
    pub(crate) fn cursor(&self) -> Option<StoredCursor<'a>> {
        StoredCursor::read(self.cursor)
    }

    /// Returns the path by which entries are sorted and found. Not as a path, which is taken apart to be compared.
    pub(crate) fn key(&self) -> &'a [u8] {
        self.path.as_os_str().as_bytes()
    }
}

/// Where a frame is in a [`CursorText`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame {
    pub(crate) start: usize,
    pub(crate) bytes: usize,
}

impl Frame {
    /// Returns what the frame holds. Its front reads: it was looked at when the frame came in.
    pub(crate) fn entry(self, text: &CursorText) -> Entry<'_> {
        let body = &text.from(self.start)[FRAME_BYTES..self.bytes];
        Entry::read(body).expect("only frames whose front reads are kept")
    }
}

/// Appends a frame to `out`: length of the entry (u32), its CRC32, the entry.
pub(crate) fn push_frame(out: &mut Vec<u8>, path: &OsStr, cursor: &Cursor) {
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

/// Returns the entry of the first frame (`None` where it is torn or damaged) and the length that the frame claims;
/// `None` at the end.
pub(crate) fn take_frame(bytes: &[u8]) -> Option<(Option<&[u8]>, usize)> {
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
