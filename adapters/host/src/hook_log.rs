//! `host/hook.log`: what went wrong in hooks, which may tell nobody else: an agent must not stumble over its archive.

use crate::Home;
use crate::files::{create_folder, io_error, read};
use burnlog_log::{Result, Timestamp};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// From this size the log is put aside as `hook.log.1`, whatever was there.
const LOG_BYTES_MAX: u64 = 64 << 10;

/// What the log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookErrors {
    /// Where.
    pub path: PathBuf,
    /// How many since the log was begun.
    pub count: u64,
    /// The last line: when and what.
    pub last: String,
}

impl Home {
    fn hook_log(&self) -> PathBuf {
        self.folder().join("host").join("hook.log")
    }

    /// Adds a line.
    pub fn log_hook_error(&self, at: Timestamp, what: &str) -> Result<()> {
        let path = self.hook_log();
        create_folder(&self.folder().join("host"))?;
        let is_full = fs::metadata(&path).is_ok_and(|metadata| metadata.len() >= LOG_BYTES_MAX);
        let write = || {
            if is_full {
                fs::rename(&path, path.with_extension("log.1"))?;
            }
            let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
            file.write_all(format!("{at} {}\n", what.replace('\n', " ")).as_bytes())
        };
        write().map_err(|error| io_error("write hook log", &path, error))
    }

    /// Returns what the log holds; `None` where there is none or it is empty.
    pub fn hook_errors(&self) -> Result<Option<HookErrors>> {
        let path = self.hook_log();
        let text = read(&path)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let last = text.lines().last().map(str::to_owned);
        Ok(last.map(|last| HookErrors { path, count: text.lines().count() as u64, last }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_there_and_the_log_stays_small() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::new(folder.path());
        assert_eq!(home.hook_errors().unwrap(), None);
        for number in 0..3000 {
            home.log_hook_error(Timestamp::from_micros(0), &format!("Stop: it\nfailed {number}")).unwrap();
        }
        let errors = home.hook_errors().unwrap().unwrap();
        assert!(errors.last.ends_with("Stop: it failed 2999") && errors.count < 3000, "{errors:?}");
        let bytes: u64 = fs::read_dir(folder.path().join("host"))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert!(bytes < 2 * LOG_BYTES_MAX + 100);
    }
}
