//! Runs one program and says what it cost. The work is done by a small process of its own (`xtask measure`), so that the
//! system's account of "all children" is that of exactly one, and its peak memory is not hidden by a larger parent.

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What one run cost.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// From start to end, in seconds.
    pub(crate) wall_s: f64,
    /// Processor time in the program, all threads, in seconds.
    pub(crate) user_s: f64,
    /// Processor time in the system on its behalf, in seconds.
    pub(crate) system_s: f64,
    /// The most memory resident at once, mapped files included: the system's own high-water mark.
    pub(crate) peak_bytes: u64,
    /// The most anonymous memory (heap and stacks, no mapped files) seen at once, by sampling. `None` where the system
    /// does not tell, or the run was over before a sample was taken.
    pub(crate) anonymous_bytes: Option<u64>,
}

impl Cost {
    pub(crate) fn cpu_s(&self) -> f64 {
        self.user_s + self.system_s
    }
}

/// Arguments of the hidden command `measure`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Where the cost goes, as JSON.
    #[arg(long)]
    report: PathBuf,
    /// Where the program's standard output goes.
    #[arg(long)]
    stdout: PathBuf,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    program: Vec<OsString>,
}

/// Runs the program of `options` in this process's environment and writes its cost.
pub(crate) fn run(options: &Options) -> Result<()> {
    let stdout = File::create(&options.stdout).with_context(|| format!("{}", options.stdout.display()))?;
    let (program, arguments) = options.program.split_first().context("no program")?;
    let begun = Instant::now();
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(stdout)
        .spawn()
        .with_context(|| format!("start {}", program.display()))?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let done = AtomicBool::new(false);
    let (exit, wall, anonymous_bytes) = std::thread::scope(|scope| {
        let sampler = scope.spawn(|| sample(&status, &done));
        let exit = child.wait();
        let wall = begun.elapsed();
        done.store(true, Ordering::Relaxed);
        (exit, wall, sampler.join().unwrap_or(None))
    });
    let exit = exit.context("wait for the program")?;
    if !exit.success() {
        bail!("{} ended with {exit}", program.display());
    }
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("getrusage")?;
    let seconds = |time: nix::sys::time::TimeVal| time.num_microseconds() as f64 / 1e6;
    // The unit is kibibytes, except on Apple's systems.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    let cost = Cost {
        wall_s: wall.as_secs_f64(),
        user_s: seconds(usage.user_time()),
        system_s: seconds(usage.system_time()),
        peak_bytes: usage.max_rss() as u64 * unit,
        anonymous_bytes,
    };
    fs::write(&options.report, serde_json::to_vec(&cost)?).context("write the report")
}

/// Follows a process's anonymous memory until `done`: closely at first, then every few milliseconds. The file stays open, because
/// opening it takes longer than reading it, and whoever is measured has only the processors that this leaves.
fn sample(status: &Path, done: &AtomicBool) -> Option<u64> {
    let file = File::open(status).ok()?;
    let (mut most, mut samples, mut text) = (None, 0, [0; 4096]);
    while !done.load(Ordering::Relaxed) {
        let read = file.read_at(&mut text, 0).ok()?;
        // A process that has ended but was not waited for has no such line any more.
        most = most.max(std::str::from_utf8(&text[..read]).ok().and_then(anonymous_of));
        samples += 1;
        std::thread::sleep(Duration::from_micros(if samples < 100 { 1000 } else { 3000 }));
    }
    most
}

pub(crate) fn anonymous_of(status: &str) -> Option<u64> {
    bytes_of(status, "RssAnon:")
}

/// A figure of `/proc/PID/status`, in bytes.
pub(crate) fn bytes_of(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
}

/// Measures programs through the program `xtask`.
pub(crate) struct Scale {
    /// The `xtask` of the same build profile as what is measured.
    pub(crate) xtask: PathBuf,
    /// For reports and outputs.
    pub(crate) folder: PathBuf,
}

impl Scale {
    /// Runs a command that is `program arguments` with exactly this environment; returns the cost and the standard output.
    pub(crate) fn weigh(
        &self,
        program: &Path,
        arguments: &[&str],
        environment: &[(&'static str, OsString)],
    ) -> Result<(Cost, PathBuf)> {
        let (report, stdout) = (self.folder.join("cost.json"), self.folder.join("stdout"));
        let mut command = Command::new(&self.xtask);
        command.arg("measure").arg("--report").arg(&report).arg("--stdout").arg(&stdout).arg("--");
        command.arg(program).args(arguments).env_clear();
        for (name, value) in environment {
            command.env(name, value);
        }
        let output = command.output().with_context(|| format!("start {}", self.xtask.display()))?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("{} {}: {}", program.display(), arguments.join(" "), errors.trim());
        }
        let cost = serde_json::from_slice(&fs::read(&report)?).context("read the cost")?;
        Ok((cost, stdout))
    }
}

/// The middle of several runs, of each figure by itself.
pub(crate) fn median(costs: &[Cost]) -> Option<Cost> {
    let of = |figure: fn(&Cost) -> f64| middle(costs.iter().map(figure).collect());
    let anonymous = costs.iter().filter_map(|cost| cost.anonymous_bytes.map(|bytes| bytes as f64)).collect();
    Some(Cost {
        wall_s: of(|cost| cost.wall_s)?,
        user_s: of(|cost| cost.user_s)?,
        system_s: of(|cost| cost.system_s)?,
        peak_bytes: of(|cost| cost.peak_bytes as f64)? as u64,
        anonymous_bytes: middle(anonymous).map(|bytes| bytes as u64),
    })
}

/// The middle value; of an even number the mean of the middle two.
pub(crate) fn middle(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    match values.len() {
        0 => None,
        length if length % 2 == 1 => Some(values[half]),
        _ => Some(f64::midpoint(values[half - 1], values[half])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_middle() {
        assert_eq!(middle(vec![]), None);
        assert_eq!(middle(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(middle(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn anonymous_memory_is_read_in_bytes() {
        assert_eq!(anonymous_of("VmRSS:\t  10 kB\nRssAnon:\t     128 kB\n"), Some(131_072));
        assert_eq!(anonymous_of("Name:\tzombie\n"), None);
    }
}
