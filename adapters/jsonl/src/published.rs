//! The published length of an active segment: how much of it readers may see and how much is synced. A small file beside
//! the segment with two records that are written in turn, so that a torn write leaves the older one.

use crate::files::{Access, File, Files, read_range};
use std::io;
use std::path::Path;
use std::sync::Arc;

const MAGIC: &[u8; 4] = b"BLp1";
const RECORD_BYTES: usize = 32;
/// Two records, a disk sector apart.
const PLACES: [u64; 2] = [0, 512];

/// What is published about an active segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Length {
    /// The length that readers may see.
    pub(crate) visible: u64,
    /// The length that is synced; less than `visible` only without syncs.
    pub(crate) synced: u64,
}

/// The file, open for writing.
#[derive(Debug)]
pub(crate) struct Published {
    file: Arc<dyn File>,
    sequence: u64,
    length: Option<Length>,
    is_sound: bool,
}

impl Published {
    /// Opens or makes the file.
    pub(crate) fn open(files: &dyn Files, path: &Path) -> io::Result<Self> {
        let file = files.open(path, Access::WriteOrCreate)?;
        let newest = newest(&*file)?;
        let sequence = newest.map_or(0, |(sequence, _)| sequence);
        let is_sound = is_sound(&*file)?;
        Ok(Self { file, sequence, length: newest.map(|(_, length)| length), is_sound })
    }

    /// Whether no record was torn when the file was opened.
    pub(crate) fn is_sound(&self) -> bool {
        self.is_sound
    }

    /// Returns what was published last; `None` where that cannot be read.
    pub(crate) fn length(&self) -> Option<Length> {
        self.length
    }

    /// Publishes a length.
    pub(crate) fn publish(&mut self, length: Length) -> io::Result<()> {
        self.sequence += 1;
        let place = PLACES[(self.sequence % 2) as usize];
        self.file.write_at(&encode(self.sequence, length), place)?;
        self.length = Some(length);
        Ok(())
    }

    /// Makes what was published durable, so that a lower bound is known whatever happens.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// Reads what is published; `None` where the file is missing or holds no sound record.
pub(crate) fn read_length(files: &dyn Files, path: &Path) -> io::Result<Option<Length>> {
    match files.open(path, Access::Read) {
        Ok(file) => Ok(newest(&*file)?.map(|(_, length)| length)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether the file holds the last two records that were written (or the first alone), each in its place, and nothing else.
pub(crate) fn is_sound(file: &dyn File) -> io::Result<bool> {
    let end = PLACES[1] as usize + RECORD_BYTES;
    let bytes = read_range(file, 0, end + 1)?;
    let between = bytes.iter().take(PLACES[1] as usize).skip(RECORD_BYTES);
    if bytes.len() > end || between.into_iter().any(|byte| *byte != 0) {
        return Ok(false);
    }
    let [one, two] = PLACES.map(|place| bytes.get(place as usize..).unwrap_or_default());
    let is_blank = |record: &[u8]| record.iter().take(RECORD_BYTES).all(|byte| *byte == 0);
    Ok(match (decode(one), decode(two)) {
        (Some((one, _)), Some((two, _))) => one % 2 == 0 && one.abs_diff(two) == 1,
        (None, Some((two, _))) => two == 1 && is_blank(one),
        (_, None) => false,
    })
}

/// Reads the newest sound record: its number and the length.
pub(crate) fn newest(file: &dyn File) -> io::Result<Option<(u64, Length)>> {
    let bytes = read_range(file, 0, PLACES[1] as usize + RECORD_BYTES)?;
    let records = PLACES.iter().filter_map(|place| decode(bytes.get(*place as usize..)?));
    Ok(records.max_by_key(|(sequence, _)| *sequence))
}

fn encode(sequence: u64, length: Length) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..4].copy_from_slice(MAGIC);
    record[4..12].copy_from_slice(&sequence.to_le_bytes());
    record[12..20].copy_from_slice(&length.visible.to_le_bytes());
    record[20..28].copy_from_slice(&length.synced.to_le_bytes());
    let crc = crc32fast::hash(&record[..28]);
    record[28..].copy_from_slice(&crc.to_le_bytes());
    record
}

fn decode(bytes: &[u8]) -> Option<(u64, Length)> {
    let record: &[u8; RECORD_BYTES] = bytes.first_chunk()?;
    let number = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("eight bytes"));
    let crc = crc32fast::hash(&record[..28]).to_le_bytes();
    (record[..4] == *MAGIC && record[28..] == crc)
        .then(|| (number(4), Length { visible: number(12), synced: number(20) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::SystemFiles;

    #[test]
    fn a_torn_record_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.durable");
        let mut published = Published::open(&SystemFiles, &path).unwrap();
        let lengths = [10, 20, 30].map(|bytes| Length { visible: bytes, synced: bytes });
        for length in lengths {
            published.publish(length).unwrap();
        }
        assert_eq!(read_length(&SystemFiles, &path).unwrap(), Some(lengths[2]));
        let whole = std::fs::read(&path).unwrap();
        for (at, before) in [(512usize, lengths[1]), (543, lengths[1]), (0, lengths[2])] {
            let mut torn = whole.clone();
            torn[at] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(read_length(&SystemFiles, &path).unwrap(), Some(before), "byte {at}");
        }
        std::fs::write(&path, [0; 544]).unwrap();
        assert_eq!(read_length(&SystemFiles, &path).unwrap(), None);
    }
}
