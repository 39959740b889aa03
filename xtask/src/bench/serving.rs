//! `cargo xtask bench --server`: `burnlog serve` over a jsonl ledger on this machine, beside what stands in its place without a
//! server: the same replay into the same backend, and a bare handler that writes and syncs (the example `serve_bare` of
//! `burnlog-server`). The clients of the appends are the example `measure_http` of `burnlog-http`, a process of their own.

use super::measure::{Cost, Scale, middle};
use super::promises;
use super::relay::Relay;
use super::served::Served;
use super::set::Set;
use crate::count::list_session_files;
use crate::generate::Parameters;
use crate::output::say;
use crate::totals::Archive;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How many append at once.
const CLIENTS: u64 = 50;
/// How many records a small batch has.
const SMALL: u64 = 4;
/// What a slower disk takes longer for a sync.
const SLOW_SYNC_MS: u32 = 10;

/// Figures of all runs by name.
type Figures = BTreeMap<&'static str, Vec<f64>>;

/// What is measured with what.
pub(super) struct Serving<'a> {
    pub(super) workspace: &'a Workspace,
    pub(super) program: PathBuf,
    pub(super) driver: PathBuf,
    /// The handler that only writes and syncs.
    pub(super) bare: PathBuf,
    /// The server whose syncs are counted and slowed.
    pub(super) slowed: PathBuf,
    pub(super) scale: Scale,
    pub(super) parameters: &'a Parameters,
}

/// What the driver prints.
#[derive(Debug, serde::Deserialize)]
struct Driven {
    p50_ms: f64,
    p99_ms: f64,
    #[serde(default)]
    request_bytes: u64,
    #[serde(default)]
    appends: u64,
    #[serde(default)]
    appends_per_s: f64,
}

impl Serving<'_> {
    /// Measures everything `runs` times below `scratch` and prints medians and what was promised.
    pub(super) fn run(&self, scratch: &Path, runs: u32, json: bool) -> Result<()> {
        let set = Set::generated(self.workspace, self.parameters)?;
        let more = Parameters {
            sessions: self.parameters.sessions.div_ceil(100),
            seed: self.parameters.seed + 1,
            ..self.parameters.clone()
        };
        let more = Set::generated(self.workspace, &more)?;
        let mut figures = Figures::new();
        for number in 0..runs {
            let folder = scratch.join(format!("serving-{number}"));
            self.pushes(&folder.join("push"), &set, &more, &mut figures)?;
            self.one_by_one(&folder.join("one"), &mut figures)?;
            self.at_once(&folder.join("many"), &mut figures)?;
            for delay_ms in [0, SLOW_SYNC_MS] {
                self.at_once_counted(&folder.join(format!("slowed-{delay_ms}")), delay_ms, &mut figures)?;
            }
            self.connections(&folder.join("held"), &mut figures)?;
            fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        }
        let medians: BTreeMap<&str, f64> =
            figures.into_iter().filter_map(|(name, values)| Some((name, middle(values)?))).collect();
        if json {
            return say(serde_json::to_string_pretty(&medians)?);
        }
        let title = format!(
            "generated: {} files, {:.1} MB; medians of {runs} runs",
            set.files,
            set.bytes as f64 / 1e6
        );
        say(promises::table(&title, &medians))
    }

    /// Pushes a ledger to a server, again, and once more when it has grown; and replays it into the inner backend.
    fn pushes(&self, folder: &Path, set: &Set, more: &Set, figures: &mut Figures) -> Result<()> {
        let mut note = |name: &'static str, value: f64| figures.entry(name).or_default().push(value);
        let archive = Archive::new(&self.program, folder.join("archive"));
        fs::create_dir_all(folder.join("archive"))?;
        let ingest = |set: &Set| {
            self.weigh(&archive, &["ingest", "--root", set.home.to_str().context("the path is UTF-8")?])
        };
        ingest(set)?;
        let from = format!("file:{}", archive.state().join("ledger").display());
        let inner = format!("file:{}", folder.join("inner").display());
        let replayed = self.weigh(&archive, &["replay", "--from", &from, "--to", &inner])?;
        note("replay s", replayed.wall_s);
        note("replay CPU s", replayed.cpu_s());

        let server = Served::start(&self.program, &folder.join("server"))?;
        let idle = server.cpu_s()?;
        let pushed = self.weigh(&archive, &["push", "--to", &server.url()])?;
        note("push s", pushed.wall_s);
        note("push CPU s, client", pushed.cpu_s());
        note("push CPU s, server", server.cpu_s()? - idle);
        note("push peak MB, server", server.peak_bytes()? as f64 / 1e6);

        let relay = Relay::start(server.address)?;
        let through = format!("http://{}", relay.address);
        let again = self.weigh(&archive, &["push", "--to", &through])?;
        note("push again s", again.wall_s);
        note("push again bytes", relay.taken() as f64);
        let rechecked = self.weigh(&archive, &["push", "--recheck", "--to", &through])?;
        note("push --recheck s", rechecked.wall_s);
        note("push --recheck bytes", relay.taken() as f64);
        ingest(more)?;
        let grown = self.weigh(&archive, &["push", "--to", &through])?;
        note("push 1 % s", grown.wall_s);
        note("push 1 % bytes", relay.taken() as f64);
        let (bare, with_skeletons) = compressed(&more.home)?;
        note("1 % new, zstd-3 bytes", bare as f64);
        note("1 % new with skeletons, zstd-3 bytes", with_skeletons as f64);
        // All of it is there, or the figures above are of something else.
        let last = archive.output(&["replay", "--json", "--from", &from, "--to", &server.url()])?;
        let last: serde_json::Value = serde_json::from_str(&last).context("replay --json")?;
        ensure!(
            last["entries"] == 0 && last["feeds_equal"] == last["feeds"],
            "the server lacks something: {last}"
        );
        server.stop()
    }

    /// Appends one record after the other to a server and then to the bare handler, in turns. The server of a turn is stopped before the
    /// handler is asked: its folds follow the appends, and would take processor time from the handler.
    fn one_by_one(&self, folder: &Path, figures: &mut Figures) -> Result<()> {
        for turn in 0..3 {
            let folder = folder.join(turn.to_string());
            let server = Served::start(&self.program, &folder)?;
            let appended = self.drive(&["one", &server.url(), "2000"])?;
            server.stop()?;
            let kept = active_bytes(&folder.join("ledger/segments"))? as f64 / appended.appends as f64;

            let bare = Served::start_bare(&self.bare, &folder)?;
            let kept = kept.round();
            let url = format!("{}/?bytes={kept}", bare.url());
            let plain = self.drive(&["bare", &url, "2000", &appended.request_bytes.to_string()])?;
            bare.stop()?;
            let written = fs::metadata(folder.join("bare"))?.len() as f64;
            let lacking = kept * appended.appends as f64 - written;
            ensure!(lacking.abs() < 1.0, "the bare handler kept {written} bytes");
            for (name, value) in [
                ("one append p50 ms", appended.p50_ms),
                ("one append p99 ms", appended.p99_ms),
                ("bare p50 ms", plain.p50_ms),
                ("bare p99 ms", plain.p99_ms),
                ("one append bytes", appended.request_bytes as f64),
                ("one append bytes kept", kept),
            ] {
                figures.entry(name).or_default().push(value);
            }
        }
        Ok(())
    }

    /// Lets one client append small batches, and then many. Each has a server of its own: none of them has so much that a segment is
    /// sealed, which would be in the figure of one and not of the other.
    fn at_once(&self, folder: &Path, figures: &mut Figures) -> Result<()> {
        let mut note = |name: &'static str, value: f64| figures.entry(name).or_default().push(value);
        let server = Served::start(&self.program, &folder.join("one"))?;
        note("1 client/s", self.append_at_once(&server, 1, 2000)?.appends_per_s);
        server.stop()?;
        let server = Served::start(&self.program, &folder.join("many"))?;
        let all = self.append_at_once(&server, CLIENTS, 10_000)?;
        note("50 clients/s", all.appends_per_s);
        note("50 clients p99 ms", all.p99_ms);
        server.stop()
    }

    /// The same through a file seam that counts syncs and makes them slower, with a server for one and another for many.
    fn at_once_counted(&self, folder: &Path, delay_ms: u32, figures: &mut Figures) -> Result<()> {
        let (alone, many) = if delay_ms > 0 { (200, 4000) } else { (2000, 10_000) };
        let server = Served::start_slow(&self.slowed, &folder.join("one"), delay_ms)?;
        let one = self.append_at_once(&server, 1, alone)?;
        server.stop()?;
        let server = Served::start_slow(&self.slowed, &folder.join("many"), delay_ms)?;
        let all = self.append_at_once(&server, CLIENTS, many)?;
        let syncs = server.stop_and_count()?;
        ensure!(syncs > 0, "no sync was counted of {} appends", all.appends);
        let names = if delay_ms > 0 {
            ["1 client/s, 10 ms", "50 clients/s, 10 ms", "50 clients a sync, 10 ms"]
        } else {
            ["1 client/s, counted", "50 clients/s, counted", "50 clients a sync"]
        };
        let values = [one.appends_per_s, all.appends_per_s, all.appends as f64 / syncs as f64];
        for (name, value) in names.into_iter().zip(values) {
            figures.entry(name).or_default().push(value);
        }
        Ok(())
    }

    fn append_at_once(&self, server: &Served, clients: u64, appends: u64) -> Result<Driven> {
        let [clients, appends, records] = [clients, appends, SMALL].map(|number| number.to_string());
        self.drive(&["many", &server.url(), &clients, &appends, &records])
    }

    /// Holds a thousand idle connections while a hundred clients append batches of a megabyte.
    fn connections(&self, folder: &Path, figures: &mut Figures) -> Result<()> {
        let server = Served::start(&self.program, folder)?;
        let mut idle = Command::new(&self.driver);
        idle.args(["idle", &server.address.to_string(), "1000"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut idle = idle.spawn().context("start the driver")?;
        let mut lines = BufReader::new(idle.stdout.take().context("the driver prints")?).lines();
        lines.next().context("the driver holds its connections")??;
        let held = server.peak_bytes()?;
        self.drive(&["many", &server.url(), "100", "300", "1000"])?;
        let peak = server.peak_bytes()?;
        drop(idle.stdin.take());
        let open: serde_json::Value = serde_json::from_str(&lines.next().context("the driver ends")??)?;
        ensure!(idle.wait()?.success(), "the driver failed");
        ensure!(open["open_at_end"] == 1000, "the server closed idle connections: {open}");
        let mut note = |name: &'static str, value: f64| figures.entry(name).or_default().push(value);
        note("1,000 idle peak MB", held as f64 / 1e6);
        note("1,000 idle, 100 busy peak MB", peak as f64 / 1e6);
        server.stop()
    }

    fn drive(&self, arguments: &[&str]) -> Result<Driven> {
        let output = Command::new(&self.driver).args(arguments).output().context("start the driver")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "measure_http {}: {}", arguments.join(" "), errors.trim());
        serde_json::from_slice(&output.stdout).context("read what the driver measured")
    }

    fn weigh(&self, archive: &Archive, arguments: &[&str]) -> Result<Cost> {
        Ok(self.scale.weigh(&self.program, arguments, &archive.environment())?.0)
    }
}

/// How many bytes the active segments in a folder have.
fn active_bytes(segments: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(segments).with_context(|| format!("list {}", segments.display()))? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|ending| ending == "jsonl") {
            bytes += entry.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// How many bytes the lines of a set take in zstd-3, a frame for each MiB: alone, and each with a skeleton before it, which
/// holds the hash of its payload.
fn compressed(home: &Path) -> Result<(u64, u64)> {
    let mut files = Vec::new();
    list_session_files(&home.join(".claude/projects"), &mut files)?;
    let (mut bare, mut with_skeletons) = (Vec::new(), Vec::new());
    for path in files {
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        let stream = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (seq, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let skeleton = format!(
                "{{\"v\":1,\"kind\":\"line\",\"source\":\"claude-code\",\"stream\":\"{stream}\",\"seq\":{seq},\
                 \"payload\":\"b3:{}\",\"bytes\":{}}}",
                blake3::hash(line).to_hex(),
                line.len()
            );
            with_skeletons.extend_from_slice(skeleton.as_bytes());
            for all in [&mut bare, &mut with_skeletons] {
                all.extend_from_slice(line);
                all.push(b'\n');
            }
        }
    }
    let packed = |bytes: &[u8]| -> Result<u64> {
        let frames = bytes.chunks(1 << 20).map(|piece| Ok(zstd::bulk::compress(piece, 3)?.len() as u64));
        frames.sum::<Result<u64>>()
    };
    Ok((packed(&bare)?, packed(&with_skeletons)?))
}
