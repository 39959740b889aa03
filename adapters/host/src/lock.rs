//! One ingest and one push at a time per ledger and host: a lock on a file that names its holder.

use crate::files::io_error;
use burnlog_log::{Error, ErrorKind, Result};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Held while an ingest or a push runs; let go when dropped or when the process ends.
#[derive(Debug)]
pub struct IngestLock {
    _file: File,
}

impl IngestLock {
    /// Takes the lock, waiting up to `wait`. `InUse`, with the process id of the holder, when that was not enough.
    pub fn acquire(path: &Path, wait: Duration) -> Result<Self> {
        Self::acquire_for(path, wait, "ingest", "is ingesting into this ledger")
    }

    /// As [`IngestLock::acquire`], for a push from this ledger.
    pub fn acquire_to_push(path: &Path, wait: Duration) -> Result<Self> {
        Self::acquire_for(path, wait, "push", "is pushing from this ledger")
    }

    fn acquire_for(path: &Path, wait: Duration, operation: &'static str, doing: &str) -> Result<Self> {
        let failed = |error| io_error("lock", path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
                Err(TryLockError::WouldBlock) if start.elapsed() < wait => {
                    std::thread::sleep(Duration::from_millis(20).min(wait));
                }
                Err(TryLockError::WouldBlock) => return Err(in_use(&mut file, path, wait, operation, doing)),
            }
        }
        let name_holder = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            write!(file, "{}", std::process::id())
        };
        name_holder(&mut file).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn in_use(file: &mut File, path: &Path, wait: Duration, operation: &'static str, doing: &str) -> Error {
    let mut holder = String::new();
    // A holder that cannot be read is still a holder.
    let _ = file.rewind().and_then(|()| file.read_to_string(&mut holder));
    let holder = if holder.is_empty() { "another process".to_owned() } else { format!("process {holder}") };
    let message = format!("{holder} {doing}; waited {} s, --wait SECONDS waits longer", wait.as_secs());
    Error::new(ErrorKind::InUse, operation, message).at(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ingest.lock");
        let held = IngestLock::acquire(&path, Duration::ZERO).unwrap();
        let error = IngestLock::acquire(&path, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(error.message().contains(&format!("process {}", std::process::id())), "{error}");
        drop(held);
        IngestLock::acquire(&path, Duration::ZERO).unwrap();
    }
}
