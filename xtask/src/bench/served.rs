//! A `burnlog serve` under measurement: started on a free port of this machine, weighed while it runs, stopped. Where the tool
//! `strace` is, the server's syncs can be counted, and slowed down as on another disk.

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

/// How the system calls of a server are watched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traced {
    /// How many milliseconds more each sync takes.
    pub(super) delay_ms: u32,
}

/// A running server. It is killed when this is dropped without a stop.
pub(super) struct Served {
    pub(super) address: SocketAddr,
    child: Child,
    /// The server itself, which is the child of `child` when it is traced.
    pid: u32,
    trace: Option<PathBuf>,
}

impl Served {
    /// Starts a server over a new jsonl ledger below `folder`.
    pub(super) fn start(program: &Path, folder: &Path, traced: Option<Traced>) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let archive = Archive::new(program, folder.to_path_buf());
        let store = format!("file:{}", folder.join("ledger").display());
        let arguments = ["serve", "--listen", "127.0.0.1:0", "--store", &store];
        let trace = traced.map(|_| folder.join("trace"));
        let mut command = match (traced, &trace) {
            (Some(traced), Some(trace)) => traced_command(program, traced, trace, &arguments),
            _ => archive.command(&arguments),
        };
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
        let pid = if trace.is_some() { only_child(child.id())? } else { child.id() };
        Ok(Self { address, child, pid, trace })
    }

    /// The URL of its ledger.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Processor time of all its threads so far, in seconds.
    pub(super) fn cpu_s(&self) -> Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
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
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        bytes_of(&status, "VmHWM:").context("/proc/PID/status has VmHWM")
    }

    /// How often its ledger's segments were synced so far. An error when it is not traced.
    pub(super) fn syncs(&self) -> Result<u64> {
        let trace = self.trace.as_ref().context("the server is not traced")?;
        Ok(syncs_in(&fs::read_to_string(trace)?))
    }

    /// Stops it as a service manager would, and waits.
    pub(super) fn stop(mut self) -> Result<()> {
        signal("-TERM", self.pid)?;
        let ended = self.child.wait()?;
        ensure!(ended.success(), "burnlog serve {ended}");
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // One that was stopped has been waited for, and its number may be another's.
        if matches!(self.child.try_wait(), Ok(None)) && signal("-KILL", self.pid).is_ok() {
            let _ = self.child.wait();
        }
    }
}

/// Whether system calls can be traced here.
pub(super) fn can_trace() -> bool {
    let tried =
        Command::new("strace").args(["-f", "--seccomp-bpf", "-e", "trace=fdatasync", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

fn traced_command(program: &Path, traced: Traced, trace: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("strace");
    // With the filter nothing but syncs is stopped for the tracer.
    command.args(["-f", "--seccomp-bpf", "-qq", "-y", "-e", "trace=fsync,fdatasync"]);
    if traced.delay_ms > 0 {
        command.arg("-e").arg(format!("inject=fsync,fdatasync:delay_enter={}ms", traced.delay_ms));
    }
    command.arg("-o").arg(trace).arg(program).args(arguments);
    command
}

fn signal(signal: &str, pid: u32) -> Result<()> {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).status().context("start kill")?;
    ensure!(sent.success(), "the process {pid} could not be signalled");
    Ok(())
}

fn only_child(pid: u32) -> Result<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    children.trim().parse().with_context(|| format!("the one child of {pid}: {children:?}"))
}

/// The address in what the server says when it listens; `None` before it has said all of it.
fn address_in(log: &str) -> Option<SocketAddr> {
    let (_, rest) = log.split_once("listening on http://")?;
    rest.split_once('\n')?.0.parse().ok()
}

/// Counts the syncs of segments: neither those of projections nor the second half of a call that another one interrupted.
fn syncs_in(trace: &str) -> u64 {
    let is_sync = |line: &&str| line.contains("sync(") && line.contains("/ledger/segments/");
    trace.lines().filter(is_sync).count() as u64
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
    fn a_sync_of_a_segment_counts_once() {
        let trace = "7 fdatasync(5</x/ledger/segments/a.jsonl> <unfinished ...>\n\
                     8 fdatasync(9</x/relayburn/projections.sqlite>) = 0\n\
                     7 <... fdatasync resumed>) = 0\n\
                     7 fdatasync(5</x/ledger/segments/a.jsonl>) = 0 (DELAYED)\n";
        assert_eq!(syncs_in(trace), 2);
    }
}
