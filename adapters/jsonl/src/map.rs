//! Whole files as bytes: mapped by the operating system, or held in memory. The only place of this crate with unsafe code.
#![allow(unsafe_code)] // a memory map cannot be had without; see `Mapped::of_file` for why it is sound here

use bytes::Bytes;
use memmap2::{Mmap, UncheckedAdvice};
use std::fs::File;
use std::io;
use std::ops::Deref;

/// The bytes of a file that nobody changes any more.
#[derive(Debug)]
pub struct Mapped(Inner);

#[derive(Debug)]
enum Inner {
    Map(Mmap),
    Memory(Bytes),
}

impl Mapped {
    /// Holds bytes in memory.
    pub fn of_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(Inner::Memory(bytes.into()))
    }

    /// Maps a file.
    pub(crate) fn of_file(file: &File) -> io::Result<Self> {
        if file.metadata()?.len() == 0 {
            return Ok(Self::of_bytes(Bytes::new()));
        }
        // SAFETY: only runs of the index are mapped. They are written under a name nobody knows yet, never changed and
        // never cut afterwards, only unlinked, which leaves the mapping intact. Every page is checked
        // by its CRC before it is used, so bytes that somebody else changed are found, not trusted.
        unsafe { Mmap::map(file) }.map(|map| Self(Inner::Map(map)))
    }

    /// Tells that a part was read and is not needed soon, so that it no longer counts as memory of this process.
    pub(crate) fn release(&self, offset: usize, bytes: usize) {
        if let Inner::Map(map) = &self.0 {
            // SAFETY: the map is of a file and only read; a page that was released is read from the file again.
            // That the system may refuse the advice changes nothing.
            let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, offset, bytes) };
        }
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Inner::Map(map) => map,
            Inner::Memory(bytes) => bytes,
        }
    }
}
