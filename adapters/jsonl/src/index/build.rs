//! Making runs: from sorted rows or by merging two, page by page, into a file or into memory. Nothing is synced; a torn page
//! is found by its checksum and the index made again.

use super::filter::{FilterBlock, FilterWriter, block_count};
use super::rows::{AddressRow, BatchRow, Row, SlotRow};
use super::run::{Fault, PAGE_BYTES, Run, Section, finish_page, header_page, rows_per_page};
use crate::files::{Access, File, Files, io_error};
use crate::map::Mapped;
use burnlog_log::{Error, ErrorKind, LedgerId, Result};
use std::io;
use std::iter::Peekable;
use std::path::Path;
use std::sync::Arc;

const WRITE_BYTES: usize = 256 << 10;

/// Where runs are made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) files: &'a dyn Files,
    /// The folder of the index; absent where runs are kept in memory because nothing may be written.
    pub(crate) folder: Option<&'a Path>,
    pub(crate) ledger: LedgerId,
}

/// A run was not made.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A row that was to be copied cannot be read.
    Fault(Fault),
    /// Writing failed.
    Error(Error),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// Makes a run of sorted rows.
pub(crate) fn from_rows(
    site: Site<'_>,
    rows: &(Vec<AddressRow>, Vec<BatchRow>, Vec<SlotRow>),
) -> std::result::Result<Run, Failure> {
    let (addresses, batches, slots) = rows;
    build(
        site,
        addresses.len() as u64,
        addresses.iter().copied().map(Ok),
        batches.iter().copied().map(Ok),
        slots.iter().copied().map(Ok),
    )
}

/// Merges two runs.
pub(crate) fn merge(site: Site<'_>, one: &Run, two: &Run) -> std::result::Result<Run, Failure> {
    build(
        site,
        one.rows::<AddressRow>() + two.rows::<AddressRow>(),
        Merge::new(one.iterate::<AddressRow>(0), two.iterate(0)),
        Merge::new(one.iterate::<BatchRow>(0), two.iterate(0)),
        Merge::new(one.iterate::<SlotRow>(0), two.iterate(0)),
    )
}

/// Copies a run that is only in memory into a file.
pub(crate) fn persist(site: Site<'_>, run: &Run) -> Result<Run> {
    let mut sink = Sink::new(site)?;
    sink.write(run.bytes())?;
    sink.finish(site)
}

fn build(
    site: Site<'_>,
    address_count: u64,
    addresses: impl Iterator<Item = std::result::Result<AddressRow, Fault>>,
    batches: impl Iterator<Item = std::result::Result<BatchRow, Fault>>,
    slots: impl Iterator<Item = std::result::Result<SlotRow, Fault>>,
) -> std::result::Result<Run, Failure> {
    let mut first_page = 1;
    let mut section = |rows: u64, per_page: u64| {
        let section = Section { first_page, rows };
        first_page += rows.div_ceil(per_page);
        section
    };
    let filter = section(block_count(address_count), rows_per_page::<FilterBlock>());
    let mut sink = Sink::new(site)?;
    // The filter stands first but is made along with the addresses.
    let address_pages = section(address_count, rows_per_page::<AddressRow>());
    sink.skip(address_pages.first_page * PAGE_BYTES as u64);
    sink.addresses(addresses, address_count)?;
    let batches = section(sink.rows(batches)?, rows_per_page::<BatchRow>());
    let slots = section(sink.rows(slots)?, rows_per_page::<SlotRow>());
    sink.put(&header_page(site.ledger, [address_pages, batches, slots, filter]), 0)?;
    Ok(sink.finish(site)?)
}

/// Two sorted sequences as one.
struct Merge<R, I: Iterator<Item = std::result::Result<R, Fault>>> {
    one: Peekable<I>,
    two: Peekable<I>,
}

impl<R: Row, I: Iterator<Item = std::result::Result<R, Fault>>> Merge<R, I> {
    fn new(one: I, two: I) -> Self {
        Self { one: one.peekable(), two: two.peekable() }
    }
}

impl<R: Row, I: Iterator<Item = std::result::Result<R, Fault>>> Iterator for Merge<R, I> {
    type Item = std::result::Result<R, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        match (self.one.peek(), self.two.peek()) {
            (Some(Ok(one)), Some(Ok(two))) if two < one => self.two.next(),
            (Some(_), _) => self.one.next(),
            (None, _) => self.two.next(),
        }
    }
}

/// Where the bytes of a run go.
struct Sink {
    name: String,
    file: Option<Arc<dyn File>>,
    /// What is not in the file yet; everything where there is none.
    buffer: Vec<u8>,
    written: u64,
}

impl Sink {
    fn new(site: Site<'_>) -> Result<Self> {
        let mut random = [0; 8];
        site.files.random(&mut random).map_err(|error| io_error("write index", "random bytes", error))?;
        let name = format!("{:016x}.run", u64::from_le_bytes(random));
        let file = match site.folder {
            None => None,
            Some(folder) => {
                let path = folder.join(&name);
                let open = || {
                    site.files.create_folder(folder)?;
                    site.files.open(&path, Access::CreateNew)
                };
                Some(open().map_err(|error| io_error("write index", path.display(), error))?)
            }
        };
        Ok(Self { name, file, buffer: Vec::new(), written: 0 })
    }

    /// Writes the addresses, and the filter into the pages that were left out for it.
    fn addresses(
        &mut self,
        rows: impl Iterator<Item = std::result::Result<AddressRow, Fault>>,
        count: u64,
    ) -> std::result::Result<(), Failure> {
        let mut filter = FilterWriter::new(count);
        let mut offset = PAGE_BYTES as u64;
        let (mut page, mut in_page) = (Vec::with_capacity(PAGE_BYTES), 0);
        for row in rows {
            let row = row?;
            filter.add(&row.fingerprint);
            row.push(&mut page);
            in_page += 1;
            if in_page == rows_per_page::<AddressRow>() {
                self.page(&mut page)?;
                in_page = 0;
            }
            if filter.ready.len() >= WRITE_BYTES {
                self.put(&filter.ready, offset)?;
                offset += filter.ready.len() as u64;
                filter.ready.clear();
            }
        }
        if in_page > 0 {
            self.page(&mut page)?;
        }
        filter.finish();
        Ok(self.put(&filter.ready, offset)?)
    }

    fn rows<R: Row>(
        &mut self,
        rows: impl Iterator<Item = std::result::Result<R, Fault>>,
    ) -> std::result::Result<u64, Failure> {
        let (mut page, mut count, mut in_page) = (Vec::with_capacity(PAGE_BYTES), 0, 0);
        for row in rows {
            row?.push(&mut page);
            (count, in_page) = (count + 1, in_page + 1);
            if in_page == rows_per_page::<R>() {
                self.page(&mut page)?;
                in_page = 0;
            }
        }
        if in_page > 0 {
            self.page(&mut page)?;
        }
        Ok(count)
    }

    /// Writes a page of rows and empties it.
    fn page(&mut self, page: &mut Vec<u8>) -> Result<()> {
        finish_page(page);
        self.write(page)?;
        page.clear();
        Ok(())
    }

    /// Leaves out bytes at the start, to be put there later.
    fn skip(&mut self, bytes: u64) {
        if self.file.is_some() {
            self.written = bytes;
        } else {
            self.buffer.resize(bytes as usize, 0);
        }
    }

    /// Writes into what was left out.
    fn put(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        if let Some(file) = &self.file {
            return file.write_at(bytes, offset).map_err(|error| self.failed(error));
        }
        self.buffer[offset as usize..offset as usize + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.file.is_some() && self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        file.write_at(&self.buffer, self.written).map_err(|error| self.failed(error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self, site: Site<'_>) -> Result<Run> {
        self.flush()?;
        let (is_file, bytes) = match site.folder {
            Some(folder) => {
                let mapped = site.files.map(&folder.join(&self.name));
                (true, mapped.map_err(|error| self.failed(error))?)
            }
            None => (false, Mapped::of_bytes(self.buffer)),
        };
        Run::open(self.name.clone(), is_file, bytes, site.ledger).ok_or_else(|| {
            let message = "a run of the index is not what was just written";
            Error::new(ErrorKind::Corrupt, "write index", message).at(&self.name)
        })
    }

    fn failed(&self, error: io::Error) -> Error {
        io_error("write index", format_args!("index/{}", self.name), error)
    }
}
