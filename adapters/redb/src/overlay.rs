//! A copy-on-write view of a ledger's bytes, for checking: redb's own check repairs as it goes, and a check must
//! not change what it looks at. Writes stay in memory.

use redb::{BackendError, StorageBackend};
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

const PAGE_BYTES: u64 = 4096;

/// Reads from another storage, writes to memory.
#[derive(Debug)]
pub(crate) struct Overlay {
    below: Box<dyn StorageBackend>,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    length: u64,
    /// Up to here `below` is what lies under the pages; beyond, zeros.
    below_length: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(crate) fn new(below: Box<dyn StorageBackend>) -> io::Result<Self> {
        let length = below.len()?;
        let written = Written { length, below_length: length, pages: BTreeMap::new() };
        Ok(Self { below, written: Mutex::new(written) })
    }

    fn lock(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what lies under the pages; zeros beyond its end.
    fn read_below(&self, written: &Written, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let there = written.below_length.saturating_sub(offset).min(out.len() as u64) as usize;
        let (front, back) = out.split_at_mut(there);
        back.fill(0);
        if front.is_empty() { Ok(()) } else { self.below.read(offset, front) }
    }
}

/// Calls `each` with the page number, the offset in the page and the range of the buffer, for each page touched.
fn for_each_page(
    offset: u64,
    length: usize,
    mut each: impl FnMut(u64, usize, std::ops::Range<usize>) -> io::Result<()>,
) -> io::Result<()> {
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let inside = (at % PAGE_BYTES) as usize;
        let count = (PAGE_BYTES as usize - inside).min(length - done);
        each(at / PAGE_BYTES, inside, done..done + count)?;
        done += count;
    }
    Ok(())
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.lock();
        if offset + out.len() as u64 > written.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.read_below(&written, offset, out)?;
        if written.pages.is_empty() {
            return Ok(());
        }
        for_each_page(offset, out.len(), |page, inside, range| {
            if let Some(page) = written.pages.get(&page) {
                out[range.clone()].copy_from_slice(&page[inside..inside + range.len()]);
            }
            Ok(())
        })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        let mut written = self.lock();
        written.length = length;
        written.below_length = written.below_length.min(length);
        written.pages.retain(|page, _| page * PAGE_BYTES < length);
        if let Some(page) = written.pages.get_mut(&(length / PAGE_BYTES)) {
            page[(length % PAGE_BYTES) as usize..].fill(0);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.lock();
        for_each_page(offset, data.len(), |number, inside, range| {
            if !written.pages.contains_key(&number) {
                let mut page = vec![0; PAGE_BYTES as usize].into_boxed_slice();
                self.read_below(&written, number * PAGE_BYTES, &mut page)?;
                written.pages.insert(number, page);
            }
            let page = written.pages.get_mut(&number).expect("put there above");
            page[inside..inside + range.len()].copy_from_slice(&data[range]);
            Ok(())
        })
    }

    // The view is of this process alone: there is nobody to lock out.

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redb::backends::InMemoryBackend;

    #[test]
    fn writes_are_read_back_and_do_not_reach_what_is_below() {
        let below = InMemoryBackend::new();
        below.set_len(10_000).unwrap();
        below.write(4000, &[1; 200]).unwrap();
        let overlay = Overlay::new(Box::new(below)).unwrap();
        let read = |offset, length| {
            let mut out = vec![9; length];
            overlay.read(offset, &mut out).map(|()| out)
        };
        overlay.write(4090, &[2; 20]).unwrap();
        assert_eq!(read(4085, 30).unwrap(), [[1; 5].as_slice(), &[2; 20], &[1; 5]].concat());
        overlay.set_len(4100).unwrap();
        assert!(read(4085, 30).is_err());
        overlay.set_len(9000).unwrap();
        assert_eq!(read(4085, 30).unwrap(), [[1; 5].as_slice(), &[2; 10], &[0; 15]].concat());
        let mut below = [0; 30];
        overlay.below.read(4085, &mut below).unwrap();
        assert_eq!(below, [1; 30]);
    }
}
