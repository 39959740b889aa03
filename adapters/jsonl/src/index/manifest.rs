//! `index/manifest`: which runs make up the index, and how far each segment is covered by them. Replaced as a whole;
//! whatever does not fit means that the index is made again.

use crate::codec;
use crate::files::{Access, Files, read_file};
use bincode::{Decode, Encode};
use burnlog_log::{LedgerId, failpoint};
use std::io;
use std::path::Path;

const MANIFEST_FORMAT: u32 = 1;
pub(crate) const FILE_NAME: &str = "manifest";

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(crate) struct Manifest {
    magic: [u8; 8],
    format: u32,
    ledger: [u8; 16],
    /// Drawn anew with each manifest.
    pub(crate) stamp: u64,
    /// By number: rows name segments by their position here.
    pub(crate) segments: Vec<Covered>,
    /// The names of the runs, oldest first.
    pub(crate) runs: Vec<String>,
}

/// How far the runs cover a segment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub(crate) struct Covered {
    /// The name, without ending.
    pub(crate) name: String,
    /// The slots covered.
    pub(crate) slots: u32,
    /// The bytes covered while the segment was active; 0 where it was only ever seen sealed.
    pub(crate) bytes: u64,
    /// The CRCs of the last bytes before that and of those before them, by which the file is recognised. Two, so
    /// that a flipped bit does not make it another file.
    pub(crate) tail_crcs: [u32; 2],
    /// The events among the slots.
    pub(crate) events: u64,
    /// The bytes of their payloads.
    pub(crate) payload_bytes: u64,
    /// Whether the segment is sealed and covered whole.
    pub(crate) is_complete: bool,
}

impl Manifest {
    pub(crate) fn new(ledger: LedgerId, stamp: u64, segments: Vec<Covered>, runs: Vec<String>) -> Self {
        Self { magic: *b"BLmanif1", format: MANIFEST_FORMAT, ledger: ledger.0, stamp, segments, runs }
    }

    /// Writes the manifest over the one before.
    pub(crate) fn write(&self, files: &dyn Files, folder: &Path) -> io::Result<()> {
        let new = folder.join("manifest.new");
        let file = files.open(&new, Access::WriteOrCreate)?;
        file.set_bytes(0)?;
        file.write_at(&codec::encode(self), 0)?;
        failpoint("jsonl-manifest-written");
        files.rename(&new, &folder.join(FILE_NAME))
    }
}

/// What lies where the manifest should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// A manifest of this ledger.
    Sound(Manifest),
    /// Nothing.
    Absent,
    /// Something else.
    Damaged,
}

/// Reads the manifest.
pub(crate) fn read(files: &dyn Files, folder: &Path, ledger: LedgerId) -> Read {
    let bytes = match read_file(files, &folder.join(FILE_NAME)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Read::Absent,
        // The index can be made again; whatever keeps it from being read will show when it is written.
        Err(_) => return Read::Damaged,
    };
    match codec::decode::<Manifest>(&bytes) {
        Some(manifest)
            if manifest.magic == *b"BLmanif1"
                && manifest.format == MANIFEST_FORMAT
                && manifest.ledger == ledger.0 =>
        {
            Read::Sound(manifest)
        }
        _ => Read::Damaged,
    }
}
