//! The bytes of a cursor file as they were when it was opened: mapped by the operating system, or held in memory. The only place
//! of this crate with unsafe code.
#![allow(unsafe_code)] // a memory map cannot be had without; see `CursorImage::map` for why it is sound here

use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::ops::Deref;

/// What a cursor file holds.
#[derive(Debug)]
pub struct CursorImage(Inner);

#[derive(Debug)]
enum Inner {
    Map(Mmap),
    Memory(Vec<u8>),
}

impl CursorImage {
    /// Maps a file that only this process changes, so that the memory of a program does not grow with the files that it has seen.
    pub(crate) fn map(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if metadata.len() == 0 {
            return Ok(Vec::new().into());
        }
        // SAFETY: whoever opens a cursor file for saving holds the lock of the ledger's state, so nobody else changes it. This
        // process writes behind the bytes that count, cuts off nothing but what does not, and otherwise puts
        // another file in its place, which leaves the mapping intact. Each record has a checksum.
        unsafe { Mmap::map(file) }.map(|map| Self(Inner::Map(map)))
    }
}

impl From<Vec<u8>> for CursorImage {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Inner::Memory(bytes))
    }
}

impl Deref for CursorImage {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Map(map) => map,
            Inner::Memory(bytes) => bytes,
        }
    }
}

/// The bytes of a cursor file that count: those found when it was opened, and what was saved since.
#[derive(Debug)]
pub(crate) struct CursorText {
    found: CursorImage,
    /// How many of those found count.
    found_bytes: usize,
    saved: Vec<u8>,
}

impl CursorText {
    /// Takes up a whole file.
    pub(crate) fn new(found: CursorImage) -> Self {
        let found_bytes = found.len();
        Self { found, found_bytes, saved: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.found_bytes + self.saved.len()
    }

    /// Leaves the first `bytes` of what was found when the file was opened. Nothing was saved yet.
    pub(crate) fn truncate_found(&mut self, bytes: usize) {
        debug_assert!(self.saved.is_empty());
        self.found_bytes = self.found_bytes.min(bytes);
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.saved.extend_from_slice(bytes);
    }

    /// Returns what begins at an offset, up to the end of what was found or of what was saved. No record lies in both.
    pub(crate) fn from(&self, start: usize) -> &[u8] {
        match start.checked_sub(self.found_bytes) {
            Some(start) => &self.saved[start..],
            None => &self.found[start..self.found_bytes],
        }
    }
}

impl Default for CursorText {
    fn default() -> Self {
        Self::new(Vec::new().into())
    }
}
