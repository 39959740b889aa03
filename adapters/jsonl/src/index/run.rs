//! A run: sections of sorted rows and a filter in front of them, in pages of 4,096 bytes, each page with a checksum that is looked at when the page is
//! first touched. Read-only; knows nothing of segments or of other runs.

use super::filter::{FilterBlock, block_count, block_of};
use super::rows::{AddressRow, BatchRow, Fingerprint, Row, SlotRow};
use crate::codec;
use crate::map::Mapped;
use bincode::{Decode, Encode};
use burnlog_log::LedgerId;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) const PAGE_BYTES: usize = 4096;
const PAGE_ROOM: usize = PAGE_BYTES - 4;
const RUN_FORMAT: u32 = 1;
/// So many pages are let go of at a time when a run is read through.
const RELEASED_PAGES: u64 = 256;
/// The first step away from a guess that is a few rows off.
const NEAR_ROWS: u64 = 8;
/// Addresses, batches by feed, batches by place, the filter; in the file the filter comes first.
pub(crate) const SECTIONS: usize = 4;

/// A page of the index that is not what was written, or rows that cannot be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The file of the run.
    pub(crate) run: String,
    /// The number of the page; 0 is the header.
    pub(crate) page: u64,
}

/// Where a section lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct Section {
    pub(crate) first_page: u64,
    pub(crate) rows: u64,
}

#[derive(Debug, Encode, Decode)]
struct Header {
    magic: [u8; 8],
    format: u32,
    ledger: [u8; 16],
    sections: [Section; SECTIONS],
}

/// Sorted rows, read-only.
#[derive(Debug)]
pub(crate) struct Run {
    name: String,
    is_file: bool,
    bytes: Mapped,
    sections: [Section; SECTIONS],
    /// One bit a page: its checksum was looked at and fits.
    checked: Vec<AtomicU64>,
}

/// Returns how many rows fit a page.
pub(crate) const fn rows_per_page<R: Row>() -> u64 {
    (PAGE_ROOM / R::BYTES) as u64
}

/// The leading bits of a fingerprint.
fn leading(fingerprint: &Fingerprint) -> u64 {
    u64::from_be_bytes(*fingerprint.first_chunk().expect("16 bytes"))
}

/// How many of `rows` evenly spread rows a distance between leading bits spans.
fn place(distance: u64, rows: u64) -> u64 {
    ((u128::from(distance) * u128::from(rows)) >> 64) as u64
}

/// Encodes the header page.
pub(crate) fn header_page(ledger: LedgerId, sections: [Section; SECTIONS]) -> Vec<u8> {
    let header = Header { magic: *b"BLindex1", format: RUN_FORMAT, ledger: ledger.0, sections };
    let encoded = codec::encode(&header);
    let mut page = (encoded.len() as u32).to_le_bytes().to_vec();
    page.extend(encoded);
    finish_page(&mut page);
    page
}

/// Ends a page of rows: pads it and puts the checksum at its end.
pub(crate) fn finish_page(page: &mut Vec<u8>) {
    page.resize(PAGE_ROOM, 0);
    let crc = crc32fast::hash(page);
    page.extend_from_slice(&crc.to_le_bytes());
}

/// Whether the checksum of a whole page fits.
fn page_is_sound(page: &[u8]) -> bool {
    page.len() == PAGE_BYTES && crc32fast::hash(&page[..PAGE_ROOM]).to_le_bytes() == page[PAGE_ROOM..]
}

impl Run {
    /// Takes up the bytes of a run; `None` unless the header is sound, of this ledger and version, and the length fits.
    pub(crate) fn open(name: String, is_file: bool, bytes: Mapped, ledger: LedgerId) -> Option<Self> {
        bytes.get(..PAGE_BYTES).filter(|page| page_is_sound(page))?;
        let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
        let header: Header = codec::decode(bytes.get(4..4usize.checked_add(length)?)?)?;
        let mut page = 1;
        let [addresses, batches, slots, filter] = header.sections;
        let in_order = [
            (filter, rows_per_page::<FilterBlock>()),
            (addresses, rows_per_page::<AddressRow>()),
            (batches, rows_per_page::<BatchRow>()),
            (slots, rows_per_page::<SlotRow>()),
        ];
        for (section, per_page) in in_order {
            if section.first_page != page {
                return None;
            }
            page += section.rows.div_ceil(per_page);
        }
        let fits = header.magic == *b"BLindex1"
            && header.format == RUN_FORMAT
            && header.ledger == ledger.0
            && filter.rows == block_count(addresses.rows)
            && page.checked_mul(PAGE_BYTES as u64) == Some(bytes.len() as u64);
        if !fits {
            return None;
        }
        // Only now is the number of pages one that the file accounts for.
        let checked = (0..page.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        Some(Self { name, is_file, bytes, sections: header.sections, checked })
    }

    /// Returns the name of the file.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Whether the run is a file, and not only in memory.
    pub(crate) fn is_file(&self) -> bool {
        self.is_file
    }

    /// Returns all bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the number of rows of a section.
    pub(crate) fn rows<R: Row>(&self) -> u64 {
        self.sections[R::SECTION].rows
    }

    /// Returns row `index`, which must exist.
    pub(crate) fn row<R: Row>(&self, index: u64) -> Result<R, Fault> {
        let page = self.sections[R::SECTION].first_page + index / rows_per_page::<R>();
        let start = page as usize * PAGE_BYTES;
        let bytes = &self.bytes[start..start + PAGE_BYTES];
        self.check_page(page, bytes)?;
        let at = (index % rows_per_page::<R>()) as usize * R::BYTES;
        Ok(R::read(&bytes[at..at + R::BYTES]))
    }

    fn check_page(&self, page: u64, bytes: &[u8]) -> Result<(), Fault> {
        let (word, bit) = (&self.checked[(page / 64) as usize], 1 << (page % 64));
        if word.load(Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        if !page_is_sound(bytes) {
            return Err(Fault { run: self.name.clone(), page });
        }
        word.fetch_or(bit, Ordering::Relaxed);
        Ok(())
    }

    /// Lets go of all pages; those that are touched again are read from the file.
    pub(crate) fn release(&self) {
        self.bytes.release(0, self.bytes.len());
    }

    /// Checks every page anew and returns those that do not fit.
    pub(crate) fn check(&self) -> Vec<Fault> {
        let bad = self.bytes.chunks(PAGE_BYTES).enumerate().filter(|(_, page)| !page_is_sound(page));
        bad.map(|(page, _)| Fault { run: self.name.clone(), page: page as u64 }).collect()
    }

    /// Returns the first row for which `is_before` does not hold; `guess` is where to begin looking.
    pub(crate) fn lower_bound<R: Row>(
        &self,
        guess: u64,
        is_before: impl Fn(&R) -> bool,
    ) -> Result<u64, Fault> {
        self.lower_bound_near(guess, rows_per_page::<R>(), is_before)
    }

    /// As [`Run::lower_bound`], with the width of the first step away from the guess.
    fn lower_bound_near<R: Row>(
        &self,
        guess: u64,
        mut step: u64,
        is_before: impl Fn(&R) -> bool,
    ) -> Result<u64, Fault> {
        let rows = self.rows::<R>();
        if rows == 0 {
            return Ok(0);
        }
        let (mut low, mut high) = (0, rows);
        let mut probe = guess.min(rows - 1);
        // Gallop from the guess until the answer is enclosed.
        if is_before(&self.row(probe)?) {
            low = probe + 1;
            while probe + step < rows {
                probe += step;
                if !is_before(&self.row(probe)?) {
                    high = probe;
                    break;
                }
                (low, step) = (probe + 1, step * 2);
            }
        } else {
            high = probe;
            while probe >= step {
                probe -= step;
                if is_before(&self.row(probe)?) {
                    low = probe + 1;
                    break;
                }
                (high, step) = (probe, step * 2);
            }
        }
        while low < high {
            let middle = low + (high - low) / 2;
            if is_before(&self.row(middle)?) { low = middle + 1 } else { high = middle }
        }
        Ok(low)
    }

    /// Calls `each` with every row of a fingerprint.
    pub(crate) fn addresses(
        &self,
        fingerprint: &Fingerprint,
        each: &mut dyn FnMut(AddressRow),
    ) -> Result<(), Fault> {
        if self.may_hold(fingerprint)? {
            let guess = self.guess(fingerprint, self.rows::<AddressRow>())?;
            self.addresses_near(guess, fingerprint, each)?;
        }
        Ok(())
    }

    /// Calls `each` with every row of the fingerprints, which ascend, and the numbers beside them.
    pub(crate) fn addresses_of(
        &self,
        wanted: &[(Fingerprint, u32)],
        each: &mut dyn FnMut(u32, AddressRow),
    ) -> Result<(), Fault> {
        let rows = self.rows::<AddressRow>();
        let mut last: Option<(u64, u64)> = None;
        for (fingerprint, number) in wanted {
            if !self.may_hold(fingerprint)? {
                continue;
            }
            let here = leading(fingerprint);
            // From a neighbour the distance is a better guess than that from the start, and needs no look at what stands there.
            let guess = match last {
                Some((index, before)) => index + place(here.saturating_sub(before), rows),
                None => self.guess(fingerprint, rows)?,
            };
            let index = self.addresses_near(guess, fingerprint, &mut |row| each(*number, row))?;
            last = Some((index, here));
        }
        Ok(())
    }

    fn may_hold(&self, fingerprint: &Fingerprint) -> Result<bool, Fault> {
        let blocks = self.rows::<FilterBlock>();
        Ok(self.rows::<AddressRow>() > 0
            && self.row::<FilterBlock>(block_of(fingerprint, blocks))?.may_hold(fingerprint))
    }

    /// Calls `each` with every row of a fingerprint, begins to look at `guess`, and returns where they begin.
    fn addresses_near(
        &self,
        guess: u64,
        fingerprint: &Fingerprint,
        each: &mut dyn FnMut(AddressRow),
    ) -> Result<u64, Fault> {
        let near = |row: &AddressRow| row.fingerprint < *fingerprint;
        let first = self.lower_bound_near(guess, NEAR_ROWS, near)?;
        let mut index = first;
        while index < self.rows::<AddressRow>() {
            let row: AddressRow = self.row(index)?;
            if row.fingerprint != *fingerprint {
                break;
            }
            each(row);
            index += 1;
        }
        Ok(first)
    }

    /// Guesses the place of a fingerprint. They are evenly spread, so the first guess is a page or two off; the distance to
    /// what stands there gives a second one that is off by a few rows.
    fn guess(&self, fingerprint: &Fingerprint, rows: u64) -> Result<u64, Fault> {
        let wanted = leading(fingerprint);
        let first = place(wanted, rows).min(rows - 1);
        let there = leading(&self.row::<AddressRow>(first)?.fingerprint);
        Ok(if there > wanted {
            first.saturating_sub(place(there - wanted, rows))
        } else {
            (first + place(wanted - there, rows)).min(rows - 1)
        })
    }

    /// Returns the last row for which `is_before_or_at` holds.
    pub(crate) fn predecessor<R: Row>(
        &self,
        is_before_or_at: impl Fn(&R) -> bool,
    ) -> Result<Option<R>, Fault> {
        let next = self.lower_bound(self.rows::<R>() / 2, is_before_or_at)?;
        next.checked_sub(1).map(|index| self.row(index)).transpose()
    }

    /// Returns the first row for which `is_before` does not hold.
    pub(crate) fn successor<R: Row>(&self, is_before: impl Fn(&R) -> bool) -> Result<Option<R>, Fault> {
        let index = self.lower_bound(self.rows::<R>() / 2, is_before)?;
        if index < self.rows::<R>() { self.row(index).map(Some) } else { Ok(None) }
    }

    /// Reads rows one after the other from `index`, and lets go of the pages behind.
    pub(crate) fn iterate<R: Row>(&self, index: u64) -> impl Iterator<Item = Result<R, Fault>> {
        let stretch = rows_per_page::<R>() * RELEASED_PAGES;
        (index..self.rows::<R>()).map(move |index| {
            if index > 0 && index.is_multiple_of(stretch) {
                let page =
                    self.sections[R::SECTION].first_page + index / rows_per_page::<R>() - RELEASED_PAGES;
                self.bytes.release(page as usize * PAGE_BYTES, RELEASED_PAGES as usize * PAGE_BYTES);
            }
            self.row(index)
        })
    }
}
