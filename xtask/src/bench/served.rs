//! A `burnlog serve` under measurement: started on a free port of this machine, weighed while it runs, stopped. The example
//! `serve_slowly` of the program stands in for it where syncs are counted, and slowed down as on another disk; the example
//! `serve_bare` of the server is what it is compared with.

use super::measure::bytes_of;
use crate::totals::Archive;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Units of processor time in `/proc/PID/stat`, the same on every Linux that Rust runs on.
const TICKS_PER_S: f64 = 100.0;

/// A running server. It is killed when this is dropped without a stop.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    child: Child,
    log: PathBuf,
}

impl Served {
    /// Starts a server over a new jsonl ledger below `folder`.
    pub(super) fn start(program: &Path, folder: &Path) -> Result<Self> {
        let store = format!("file:{}", folder.join("ledger").display());
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--store", &store]);
        Self::start_as(command, program, folder)
    }

    /// Starts the example `serve_slowly` over a new jsonl ledger below `folder`: each sync takes so many milliseconds longer.
    pub(super) fn start_slow(example: &Path, folder: &Path, delay_ms: u32) -> Result<Self> {
        let mut command = Command::new(example);
        command.arg(folder).arg(delay_ms.to_string());
        Self::start_as(command, example, folder)
    }

    /// Starts the example `serve_bare`, which keeps what it is sent in one file below `folder`.
    pub(super) fn start_bare(example: &Path, folder: &Path) -> Result<Self> {
        let mut command = Command::new(example);
        command.arg(folder.join("bare"));
        Self::start_as(command, example, folder)
    }

    fn start_as(mut command: Command, program: &Path, folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let archive = Archive::new(program, folder.to_path_buf());
        command.env_clear().envs(archive.environment());
        let log = folder.join("log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        let mut child = command.spawn().context("start burnlog serve")?;
        let address = loop {
            if let Some(address) = address_in(&fs::read_to_string(&log)?) {
                break address;
            }
            if let Some(ended) = child.try_wait()? {
                bail!("burnlog serve {ended}: {}", fs::read_to_string(&log)?);
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        Ok(Self { address, child, log })
    }

    /// The URL of its ledger.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Processor time of all its threads so far, in seconds.
    pub(super) fn cpu_s(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name of the program, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat has a name")?;
        let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<f64>);
        match (ticks.next(), ticks.next()) {
            (Some(Ok(user)), Some(Ok(system))) => Ok((user + system) / TICKS_PER_S),
            _ => bail!("/proc/PID/stat has no processor time"),
        }
    }

    /// The most memory that was resident at once, in bytes: the system's own high-water mark.
    pub(super) fn peak_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        bytes_of(&status, "VmHWM:").context("/proc/PID/status has VmHWM")
    }

    /// Stops it as a service manager would, and waits.
    pub(super) fn stop(mut self) -> Result<()> {
        signal("-TERM", self.child.id())?;
        let ended = self.child.wait()?;
        ensure!(ended.success(), "burnlog serve {ended}");
        Ok(())
    }

    /// Stops the example, and returns how often segments were synced.
    pub(super) fn stop_and_count(self) -> Result<u64> {
        let log = self.log.clone();
        self.stop()?;
        let said = fs::read_to_string(&log).with_context(|| format!("read {}", log.display()))?;
        syncs_in(&said).with_context(|| format!("the example says how often it synced: {said}"))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // One that was stopped has been waited for, and its number may be another's.
        if matches!(self.child.try_wait(), Ok(None)) && signal("-KILL", self.child.id()).is_ok() {
            let _ = self.child.wait();
        }
    }
}

fn signal(signal: &str, pid: u32) -> Result<()> {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status().context("start kill")?;
    ensure!(sent.success(), "the process {pid} could not be signalled");
    Ok(())
}

/// The address in what the server says when it listens; `None` before it has said all of it.
fn address_in(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on http://")?;
    rest.split_once('\n')?.0.parse().ok()
}

/// The count at the end of what the example says.
fn syncs_in(log: &str) -> Option<u64> {
    log.lines().find_map(|line| line.strip_prefix("syncs "))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_taken_when_its_line_is_whole() {
        assert_eq!(address_in("burnlog: serving\nburnlog: listening on http://127.0.0.1:80"), None);
        let address = address_in("burnlog: listening on http://127.0.0.1:80\nmore").unwrap();
        assert_eq!(address.port(), 80);
    }

    #[test]
    fn the_count_of_syncs_is_found_in_what_was_said() {
        assert_eq!(syncs_in("listening on http://127.0.0.1:80\nsyncs 17\n"), Some(17));
        assert_eq!(syncs_in("listening on http://127.0.0.1:80\n"), None);
    }
}
