//! `lock`: who may append at this moment (an exclusive file lock), and how often the ledger has changed (a counter in the
//! file), so that readers see with one small read that nothing moved.

use crate::files::{Access, File, Files, io_error, read_range};
use burnlog_log::{Error, ErrorKind, Result};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const RECORD_BYTES: usize = 16;

/// The lock file, open.
#[derive(Debug)]
pub(crate) struct LedgerLock {
    path: PathBuf,
    /// Absent where the file does not exist and nothing may be written.
    file: Option<Arc<dyn File>>,
}

impl LedgerLock {
    /// Opens the file, making it where that is allowed.
    pub(crate) fn open(files: &dyn Files, folder: &Path, read_only: bool) -> Result<Self> {
        let path = folder.join("lock");
        let access = if read_only { Access::Read } else { Access::WriteOrCreate };
        match files.open(&path, access) {
            Ok(file) => Ok(Self { path, file: Some(file) }),
            Err(error) if read_only && error.kind() == io::ErrorKind::NotFound => {
                Ok(Self { path, file: None })
            }
            Err(error) => Err(io_error("open ledger", path.display(), error)),
        }
    }

    /// Returns the counter; `None` where it cannot be read, which means: look at everything.
    pub(crate) fn changes(&self) -> Option<u64> {
        let bytes = read_range(&**self.file.as_ref()?, 0, RECORD_BYTES).ok()?;
        let record: &[u8; RECORD_BYTES] = bytes.first_chunk()?;
        let crc = crc32fast::hash(&record[..12]).to_le_bytes();
        (record[12..] == crc).then(|| u64::from_le_bytes(record[..8].try_into().expect("eight bytes")))
    }

    /// Takes the lock if nobody else has it.
    pub(crate) fn try_take(&self) -> Result<bool> {
        let file = self.file.as_ref().ok_or_else(|| self.failed(io::ErrorKind::NotFound.into()))?;
        file.try_lock(true).map_err(|error| self.failed(error))
    }

    /// Gives the lock back.
    pub(crate) fn give_back(&self) {
        if let Some(file) = &self.file {
            // A lock that cannot be given back ends with the handle; until then others wait and say for whom.
            let _ = file.unlock();
        }
    }

    /// Counts a change and notes this process. The caller holds the lock. Returns the new counter.
    pub(crate) fn count(&self) -> Result<u64> {
        let changes = self.changes().unwrap_or_default().wrapping_add(1);
        let mut record = [0; RECORD_BYTES];
        record[..8].copy_from_slice(&changes.to_le_bytes());
        record[8..12].copy_from_slice(&std::process::id().to_le_bytes());
        let crc = crc32fast::hash(&record[..12]);
        record[12..].copy_from_slice(&crc.to_le_bytes());
        let file = self.file.as_ref().ok_or_else(|| self.failed(io::ErrorKind::NotFound.into()))?;
        file.write_at(&record, 0).map_err(|error| self.failed(error))?;
        Ok(changes)
    }

    /// Makes the error for a lock that another process kept all the time.
    pub(crate) fn in_use(&self, waited: Duration) -> Error {
        let record = self.file.as_ref().and_then(|file| read_range(&**file, 0, RECORD_BYTES).ok());
        let last = record.and_then(|record| Some(u32::from_le_bytes(*record.get(8..12)?.first_chunk()?)));
        let message = format!(
            "another process is writing (the last one to write was {}); waited {} s, try again later",
            last.unwrap_or_default(),
            waited.as_secs()
        );
        Error::new(ErrorKind::InUse, "append", message).at(self.path.display())
    }

    fn failed(&self, error: io::Error) -> Error {
        io_error("lock ledger", self.path.display(), error)
    }
}
