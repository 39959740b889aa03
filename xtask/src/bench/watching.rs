//! How soon a change is in the queries while `ingest --watch` runs, and what very many changes do to its memory. Looks into the
//! projections with a SQLite connection of its own, as any reader may.

use super::Options;
use super::measure::{anonymous_of, middle};
use super::set::Set;
use crate::count::list_session_files;
use crate::generate::one_turn;
use crate::output::say;
use crate::totals::Archive;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long a change may take before the measurement is given up.
const GIVE_UP: Duration = Duration::from_secs(60);
/// Changes whose delay is measured, one after the other.
const DELAYED: u64 = 200;
/// After so many changes memory is taken as what it has to be.
const SETTLED: u64 = 10_000;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Watched {
    /// Changes, each one turn more in one of the files.
    pub(crate) changes: u64,
    /// From the end of the write to the row in the projections.
    pub(crate) delay_p50_s: f64,
    pub(crate) delay_p99_s: f64,
    /// Anonymous memory after the first ten thousand changes, and after all.
    pub(crate) settled_bytes: u64,
    pub(crate) last_bytes: u64,
    /// The same after ten thousand changes, after half of them and after all.
    pub(crate) moments: Vec<Moment>,
}

/// What was measured after some changes. The delays are those of the two hundred changes before.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Moment {
    pub(crate) changes: u64,
    pub(crate) delay_p50_s: f64,
    pub(crate) delay_p99_s: f64,
    pub(crate) anonymous_bytes: u64,
}

/// Watches the generated set with a new archive below `scratch` and measures nothing else.
pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let set = Set::generated(workspace, &options.parameters)?;
    let scratch = workspace.scratch("watching")?;
    let archive = Archive::new(&workspace.built("release", "burnlog"), scratch.path().to_path_buf());
    let watched = watch(&archive, &set, options.changes)?;
    if options.json { say(serde_json::to_string_pretty(&watched)?) } else { say(watched.text()) }
}

/// The program while it watches; ended when dropped.
struct Watching(Child);

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Files that grow during the measurement, cut back when dropped.
struct Files(Vec<(PathBuf, u64)>);

impl Drop for Files {
    fn drop(&mut self) {
        for (path, bytes) in &self.0 {
            // The set is generated anew when it is not what it was.
            let _ = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(*bytes));
        }
    }
}

/// Watches the set with the program of `archive`, lets its files grow `changes` times, and measures.
pub(crate) fn watch(archive: &Archive, set: &Set, changes: u64) -> Result<Watched> {
    let files = Files(grown_files(&set.home)?);
    ensure!(!files.0.is_empty(), "the set has no session that ends whole");
    let root = set.home.to_str().context("the path of the set is UTF-8")?;
    let mut child = archive
        .command(&["ingest", "--watch", "--json", "--root", root])
        .stdout(Stdio::piped())
        .spawn()
        .context("start burnlog")?;
    let mut lines = BufReader::new(child.stdout.take().context("the output is piped")?);
    let watching = Watching(child);
    lines.read_line(&mut String::new()).context("the first pass")?;
    // What it prints is taken away, so that it never waits for a reader.
    std::thread::spawn(move || lines.read_to_end(&mut Vec::new()));
    let rows = Rows::open(&archive.state().join("projections"))?;
    let status = PathBuf::from(format!("/proc/{}/status", watching.0.id()));
    let mut moments = Vec::new();
    let mut done = 0;
    for end in [DELAYED, SETTLED, changes / 2, changes] {
        let end = end.min(changes);
        if end <= done {
            continue;
        }
        grow_unmeasured(&files, &rows, done..end.saturating_sub(DELAYED).max(done))?;
        let delays = delays(&files, &rows, end.saturating_sub(DELAYED).max(done)..end)?;
        let anonymous = anonymous_of(&fs::read_to_string(&status).unwrap_or_default()).unwrap_or(0);
        moments.push(moment(end, delays, anonymous)?);
        done = end;
    }
    let (first, last) = moments.first().zip(moments.last()).context("a change was measured")?;
    let settled = moments.iter().find(|moment| moment.changes >= SETTLED).unwrap_or(last);
    Ok(Watched {
        changes,
        delay_p50_s: first.delay_p50_s,
        delay_p99_s: first.delay_p99_s,
        settled_bytes: settled.anonymous_bytes,
        last_bytes: last.anonymous_bytes,
        moments,
    })
}

/// Lets the files grow without waiting for each change.
fn grow_unmeasured(files: &Files, rows: &Rows, changes: Range<u64>) -> Result<()> {
    let end = changes.end;
    for change in changes {
        let (call, _) = grow(files, change)?;
        // No further ahead than a few hundred changes: so it is many passes, as in life, and not one.
        if change % 256 == 255 || change + 1 == end {
            rows.wait(&call)?;
        }
    }
    Ok(())
}

/// Lets the files grow, each change when the one before is seen; returns how long each took to be seen, in seconds.
fn delays(files: &Files, rows: &Rows, changes: Range<u64>) -> Result<Vec<f64>> {
    let mut delays = Vec::new();
    for change in changes {
        let (call, start) = grow(files, change)?;
        rows.wait(&call)?;
        delays.push(start.elapsed().as_secs_f64());
    }
    Ok(delays)
}

fn moment(changes: u64, mut delays: Vec<f64>, anonymous_bytes: u64) -> Result<Moment> {
    delays.sort_by(f64::total_cmp);
    let delay_p99_s =
        *delays.get((delays.len() * 99).div_ceil(100).saturating_sub(1)).context("no change")?;
    let delay_p50_s = middle(delays).context("a change was measured")?;
    Ok(Moment { changes, delay_p50_s, delay_p99_s, anonymous_bytes })
}

impl Watched {
    /// The moments as text, a line each.
    fn text(&self) -> String {
        let line = |moment: &Moment| {
            let Moment { changes, delay_p50_s, delay_p99_s, anonymous_bytes } = moment;
            let (half, most) = (delay_p50_s * 1e3, delay_p99_s * 1e3);
            let memory = *anonymous_bytes as f64 / f64::from(1 << 20);
            format!(
                "{changes:>8} changes: in the queries after {half:.1} ms (half of them), {most:.1} ms (99 in 100); anonymous memory {memory:.1} MiB"
            )
        };
        self.moments.iter().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Up to 200 session files that end whole, with their lengths.
fn grown_files(home: &Path) -> Result<Vec<(PathBuf, u64)>> {
    let mut files = Vec::new();
    list_session_files(&home.join(".claude/projects"), &mut files)?;
    files.retain(|path| path.parent().is_some_and(|folder| !folder.ends_with("subagents")));
    let whole = files.into_iter().filter_map(|path| {
        let bytes = fs::read(&path).ok()?;
        bytes.ends_with(b"}\n").then_some((path, bytes.len() as u64))
    });
    Ok(whole.take(200).collect())
}

/// Appends a turn to one of the files; returns its last call and when it was written.
fn grow(files: &Files, change: u64) -> Result<(String, Instant)> {
    let (path, _) = &files.0[(change % files.0.len() as u64) as usize];
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let (lines, _) = one_turn(&stem, 1_000_000 + change);
    let call = last_call(&lines).context("a turn has a call")?;
    let mut file = OpenOptions::new().append(true).open(path)?;
    file.write_all(&lines).with_context(|| format!("append to {}", path.display()))?;
    Ok((call, Instant::now()))
}

/// The message id of the last line that has one.
fn last_call(lines: &[u8]) -> Option<String> {
    let id = |line: &[u8]| {
        let line: serde_json::Value = serde_json::from_slice(line).ok()?;
        line.get("message")?.get("id")?.as_str().map(str::to_owned)
    };
    lines.split(|byte| *byte == b'\n').filter_map(id).next_back()
}

/// The rows that queries read.
struct Rows(Connection);

impl Rows {
    fn open(folder: &Path) -> Result<Self> {
        let is_rows = |path: &PathBuf| {
            path.extension().is_some_and(|extension| extension == "sqlite")
                && !path.to_string_lossy().ends_with(".search.sqlite")
        };
        let mut files = fs::read_dir(folder)?.filter_map(|entry| Some(entry.ok()?.path()));
        let path = files.find(is_rows).context("the projections are there after the first pass")?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Ok(Self(Connection::open_with_flags(path, flags)?))
    }

    /// Waits until a call is there.
    fn wait(&self, call: &str) -> Result<()> {
        let end = Instant::now() + GIVE_UP;
        let sql = "SELECT 1 FROM calls WHERE source = 'claude-code' AND call = ?1";
        while !self.0.prepare_cached(sql)?.exists([call])? {
            if Instant::now() > end {
                bail!("call {call} is not in the projections {GIVE_UP:?} after it was written");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}
