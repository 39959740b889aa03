//! `cargo xtask bench`: builds the release program, lets it work on a generated set or on a folder that the user names, and prints each cost
//! beside the raw loops over the same bytes in the same run. Asserts totals, never times.

mod bare;
mod databases;
pub(crate) mod measure;
mod promises;
mod questions;
pub(crate) mod raw;
mod relay;
mod rows;
mod served;
mod server;
mod serving;
mod set;
mod table;
mod watching;

use crate::generate::{Days, Group, Parameters, list_days};
use crate::output::say;
use crate::totals::Archive;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use measure::{Cost, Scale, median, middle};
use raw::{Limits, Loop};
use set::Set;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use table::{Case, Report, Sizes};
use watching::Watched;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often everything is run; medians are printed.
    #[arg(short = 'n', long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
    /// Measures this HOME folder instead of a generated set. Nothing in it is changed, so no turn is added; its totals are
    /// not known, so they are not checked. The raw loops read its Claude Code sessions alone.
    #[arg(long = "corpus", value_name = "DIR")]
    folder: Option<PathBuf>,
    /// How often the files of the generated set grow while `ingest --watch` runs; 0 leaves that out.
    #[arg(long, default_value_t = 12_000)]
    changes: u64,
    #[command(flatten)]
    instead: Instead,
    #[command(flatten)]
    parameters: Parameters,
}

/// What is measured in place of the commands, if anything.
#[derive(Debug, clap::Args)]
struct Instead {
    /// Measures replay into SQLite and Postgres instead, beside bare inserts and `COPY` of the same bytes.
    #[arg(long, conflicts_with = "folder")]
    databases: bool,
    /// Measures `serve` and its clients instead, beside the same work without a server.
    #[arg(long, conflicts_with_all = ["folder", "databases"])]
    server: bool,
    /// Measures `ingest --watch` alone.
    #[arg(long, conflicts_with_all = ["folder", "databases", "server"])]
    watching: bool,
}

/// What is measured: the name, the command as it is shown, the raw loops that it cannot do without.
struct Plan {
    name: &'static str,
    command: &'static str,
    limit: &'static [&'static str],
}

const START: Plan = Plan { name: "start", command: "--version", limit: &[] };
const COLD: Plan = Plan {
    name: "cold ingest",
    command: "ingest",
    limit: &[
        "walk",
        "read",
        "split",
        "blake3 payload",
        "blake3 skeleton",
        "sha-256 frontier",
        "crc-32",
        "zstd-3",
        "write and fsync",
        "parse",
        "sqlite upserts",
    ],
};
const NO_OP: Plan = Plan { name: "no-op ingest", command: "ingest, nothing new", limit: &["walk"] };
const ONE_TURN: Plan = Plan { name: "one more turn", command: "ingest, one file longer", limit: &["walk"] };
/// One file alone, so that no walk is measured, on the ledger and on one that is a tenth as large: neither memory nor cost may
/// follow the size of the ledger.
const ONE_FILE: Plan = Plan { name: "one file", command: "ingest --root FILE, one turn longer", limit: &[] };
const ONE_FILE_TENTH: Plan =
    Plan { name: "one file, 1/10", command: "the same on a tenth of the ledger", limit: &[] };
const COLD_TENTH: Plan = Plan { name: "cold, 1/10", command: "ingest, a tenth of the sessions", limit: &[] };
/// Without the blocks of content, which the program always folds as well.
const COLD_TURNS: Plan =
    Plan { name: "cold, turns", command: "ingest that folds no content (example)", limit: COLD.limit };
const REBUILD_TURNS: Plan =
    Plan { name: "rebuild, turns", command: "rebuild that folds no content (example)", limit: REBUILD.limit };
const REBUILD: Plan = Plan {
    name: "rebuild",
    command: "project rebuild",
    limit: &["zstd decode", "split", "parse", "sqlite upserts"],
};
const VERIFY: Plan = Plan {
    name: "verify",
    command: "verify",
    limit: &["zstd decode", "blake3 payload", "blake3 skeleton", "sha-256 frontier", "crc-32"],
};
const REPLAY: Plan = Plan {
    name: "replay",
    command: "replay file: to a new file:",
    limit: &[
        "zstd decode",
        "blake3 payload",
        "blake3 skeleton",
        "sha-256 frontier",
        "crc-32",
        "zstd-3",
        "write and fsync",
    ],
};

/// Measures and prints.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let built = workspace.cargo("build --release -p burnlog-cli -p xtask").status().context("start cargo")?;
    ensure!(built.success(), "the release build failed");
    if options.instead.databases {
        return run_databases(&workspace, options);
    }
    if options.instead.server {
        return run_serving(&workspace, options);
    }
    if options.instead.watching {
        return watching::run(&workspace, options);
    }
    let example = workspace.cargo("build --release -p burnlog-cli --example measure_turns").status();
    ensure!(example.context("start cargo")?.success(), "the release build of measure_turns failed");
    let set = match &options.folder {
        Some(folder) => Set::named(folder)?,
        None => Set::generated(&workspace, &options.parameters)?,
    };
    let tenth = match &options.folder {
        Some(_) => None,
        None => Some(Set::generated(&workspace, &tenth_of(&options.parameters))?),
    };
    let scratch = workspace.scratch("bench")?;
    let mut bench = Bench {
        program: workspace.built("release", "burnlog"),
        turns: workspace.built("release/examples", "measure_turns"),
        scale: Scale { xtask: workspace.built("release", "xtask"), folder: scratch.path().to_path_buf() },
        set: Rc::new(set),
        tenth: tenth.map(Rc::new),
        changes: options.changes,
        watched: None,
        costs: Vec::new(),
        passes: Vec::new(),
        sizes: Sizes::default(),
    };
    for number in 0..options.runs {
        let folder = scratch.path().join(format!("run-{number}"));
        bench.run(&folder, number)?;
        fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
        say_progress(number + 1, options.runs)?;
    }
    let report = bench.report(if options.folder.is_some() {
        "Claude Code sessions of the folder named"
    } else {
        "generated"
    });
    if options.json { say(serde_json::to_string_pretty(&report)?) } else { say(report.table()) }
}

fn run_databases(workspace: &Workspace, options: &Options) -> Result<()> {
    let scratch = workspace.scratch("bench")?;
    let databases = databases::Databases {
        workspace,
        program: workspace.built("release", "burnlog"),
        scale: Scale { xtask: workspace.built("release", "xtask"), folder: scratch.path().to_path_buf() },
        parameters: &options.parameters,
    };
    databases.run(scratch.path(), options.runs, options.json)
}

fn run_serving(workspace: &Workspace, options: &Options) -> Result<()> {
    for example in [
        "-p burnlog-http --example measure_http",
        "-p burnlog-server --example serve_bare",
        "-p burnlog-cli --example serve_slowly",
    ] {
        let built = workspace.cargo(&format!("build --release {example}")).status();
        ensure!(built.context("start cargo")?.success(), "the release build of {example} failed");
    }
    let scratch = workspace.scratch("bench")?;
    let serving = serving::Serving {
        workspace,
        program: workspace.built("release", "burnlog"),
        driver: workspace.built("release/examples", "measure_http"),
        bare: workspace.built("release/examples", "serve_bare"),
        slowed: workspace.built("release/examples", "serve_slowly"),
        scale: Scale { xtask: workspace.built("release", "xtask"), folder: scratch.path().to_path_buf() },
        parameters: &options.parameters,
    };
    serving.run(scratch.path(), options.runs, options.json)
}

/// The same sessions, a tenth of them.
fn tenth_of(parameters: &Parameters) -> Parameters {
    Parameters { sessions: parameters.sessions.div_ceil(10), ..parameters.clone() }
}

fn say_progress(done: u32, runs: u32) -> Result<()> {
    use std::io::Write;
    Ok(writeln!(std::io::stderr(), "run {done} of {runs}")?)
}

/// The program under measurement and what was found so far.
struct Bench {
    program: PathBuf,
    /// The example that folds turns alone.
    turns: PathBuf,
    scale: Scale,
    set: Rc<Set>,
    tenth: Option<Rc<Set>>,
    changes: u64,
    watched: Option<Watched>,
    costs: Vec<(Plan, Vec<Cost>)>,
    passes: Vec<Limits>,
    sizes: Sizes,
}

impl Bench {
    /// Runs everything once, in a new archive below `folder`.
    fn run(&mut self, folder: &Path, number: u32) -> Result<()> {
        let archive = Archive::new(&self.program, folder.join("archive"));
        let other = folder.join("other");
        for folder in [folder.join("archive"), other.clone(), folder.join("raw")] {
            fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let source = self.set.home.to_str().context("the path of the set is UTF-8")?.to_owned();
        let ingest = ["ingest", "--json", "--root", source.as_str()];

        self.weigh(START, &archive, &["--version"])?;
        self.weigh(COLD, &archive, &ingest)?;
        if number == 0 {
            self.check(&archive, None)?;
            self.sizes = disk_sizes(&archive.state())?;
        }
        self.weigh(NO_OP, &archive, &ingest)?;
        if self.set.days.is_some() {
            let grown = self.set.grow(0, u64::from(number))?;
            self.weigh(ONE_TURN, &archive, &ingest)?;
            if number == 0 {
                self.check(&archive, Some(&grown.days))?;
            }
            drop(grown);
            let set = Rc::clone(&self.set);
            self.one_file(ONE_FILE, &set, &archive, number)?;
        }
        self.tenth(&folder.join("tenth"), number)?;
        self.weigh(REBUILD, &archive, &["project", "rebuild"])?;
        self.turns(&source, &folder.join("turns"))?;
        self.weigh(VERIFY, &archive, &["verify"])?;
        self.questions(&archive)?;
        let from = format!("file:{}", archive.state().join("ledger").display());
        let to = format!("file:{}", other.join("ledger").display());
        self.weigh(REPLAY, &archive, &["replay", "--from", &from, "--to", &to])?;
        self.passes.push(self.raw(&folder.join("raw"))?);
        if number == 0 && self.set.days.is_some() && self.changes > 0 {
            self.watched = Some(watching::watch(&archive, &self.set, self.changes)?);
        }
        Ok(())
    }

    /// Weighs the ingest of one file that grew by a turn.
    fn one_file(&mut self, plan: Plan, set: &Set, archive: &Archive, number: u32) -> Result<()> {
        let grown = set.grow(1, u64::from(number))?;
        let path = grown.path.to_str().context("the path of the set is UTF-8")?.to_owned();
        self.weigh(plan, archive, &["ingest", "--json", "--root", &path])
    }

    /// Weighs an ingest and a rebuild that fold no content, in an archive of their own.
    fn turns(&mut self, source: &str, folder: &Path) -> Result<()> {
        let program = self.turns.clone();
        let archive = Archive::new(&program, folder.to_path_buf());
        let home = folder.to_str().context("the path of the scratch folder is UTF-8")?;
        self.weigh_program(COLD_TURNS, &program, &archive, &["ingest", source, home])?;
        self.weigh_program(REBUILD_TURNS, &program, &archive, &["rebuild", source, home])
    }

    /// Weighs what must not depend on the size of the ledger once more, on a smaller one.
    fn tenth(&mut self, folder: &Path, number: u32) -> Result<()> {
        let Some(set) = self.tenth.clone() else { return Ok(()) };
        let archive = Archive::new(&self.program, folder.to_path_buf());
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        let source = set.home.to_str().context("the path of the set is UTF-8")?.to_owned();
        self.weigh(COLD_TENTH, &archive, &["ingest", "--json", "--root", &source])?;
        self.one_file(ONE_FILE_TENTH, &set, &archive, number)
    }

    fn weigh(&mut self, plan: Plan, archive: &Archive, arguments: &[&str]) -> Result<()> {
        let program = self.program.clone();
        self.weigh_program(plan, &program, archive, arguments)
    }

    fn weigh_program(
        &mut self,
        plan: Plan,
        program: &Path,
        archive: &Archive,
        arguments: &[&str],
    ) -> Result<()> {
        let (cost, _) = self.scale.weigh(program, arguments, &archive.environment())?;
        match self.costs.iter_mut().find(|(known, _)| known.name == plan.name) {
            Some((_, costs)) => costs.push(cost),
            None => self.costs.push((plan, vec![cost])),
        }
        Ok(())
    }

    /// Compares the totals with the truth, where it is known.
    fn check(&self, archive: &Archive, added: Option<&[Group]>) -> Result<()> {
        let Some(days) = &self.set.days else { return Ok(()) };
        let mut sums = Days::new();
        for group in days.iter().chain(added.unwrap_or_default()) {
            let sum = sums.entry((group.day.clone(), group.model.clone())).or_default();
            sum.calls += group.sum.calls;
            sum.tokens.add(&group.sum.tokens);
        }
        archive.check_turns(&list_days(sums))
    }

    /// Runs the raw loops in a process of their own.
    fn raw(&self, scratch: &Path) -> Result<Limits> {
        let output = Command::new(&self.scale.xtask).arg("raw").arg(&self.set.home).arg(scratch).output();
        let output = output.context("start xtask raw")?;
        ensure!(output.status.success(), "xtask raw: {}", String::from_utf8_lossy(&output.stderr).trim());
        serde_json::from_slice(&output.stdout).context("read the raw limits")
    }

    fn report(mut self, source: &str) -> Report {
        let loops = median_loops(&self.passes);
        self.sizes.source_bytes = self.set.bytes;
        self.sizes.compressed_bytes = self.passes.first().map_or(0, |pass| pass.compressed_bytes);
        let cases = self.costs.iter().filter_map(|(plan, costs)| {
            let cost = median(costs)?;
            let limit_cpu_s =
                plan.limit.iter().filter_map(|name| loops.get(*name)).map(|cost| cost.cpu_s).sum();
            Some(Case {
                name: plan.name,
                command: plan.command,
                cost,
                cpu_s: cost.cpu_s(),
                limit: plan.limit,
                limit_cpu_s,
                ratio: (limit_cpu_s > 0.0).then(|| cost.cpu_s() / limit_cpu_s),
            })
        });
        Report {
            source: source.to_owned(),
            files: self.set.files,
            runs: self.passes.len(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            totals_checked: self.set.days.is_some(),
            cases: cases.collect(),
            sizes: self.sizes,
            watched: self.watched,
            loops,
        }
    }
}

/// The median of each loop over all passes.
fn median_loops(passes: &[Limits]) -> BTreeMap<String, Loop> {
    let names = passes.first().map(|pass| pass.loops.keys().cloned()).into_iter().flatten();
    names
        .filter_map(|name| {
            let of = |figure: fn(&Loop) -> f64| {
                middle(passes.iter().filter_map(|pass| pass.loops.get(&name)).map(figure).collect())
            };
            let last = *passes.last()?.loops.get(&name)?;
            let cost = Loop { cpu_s: of(|cost| cost.cpu_s)?, wall_s: of(|cost| cost.wall_s)?, ..last };
            Some((name, cost))
        })
        .collect()
}

/// Adds up what lies in an archive's state folder, by purpose.
fn disk_sizes(state: &Path) -> Result<Sizes> {
    let mut sizes = Sizes::default();
    let mut folders = vec![state.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("list {}", folder.display()))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let below = path.strip_prefix(state).unwrap_or(&path);
            let bytes = entry.metadata()?.len();
            if below.starts_with("ledger/segments") {
                sizes.segments_bytes += bytes;
            } else if below.starts_with("ledger") {
                sizes.index_bytes += bytes;
            } else if below.starts_with("projections") {
                sizes.projections_bytes += bytes;
            } else {
                sizes.host_bytes += bytes;
            }
        }
    }
    Ok(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::count::count_home;

    #[test]
    fn bytes_on_disk_are_told_apart_by_folder() {
        let state = tempfile::tempdir().unwrap();
        for (path, bytes) in [
            ("ledger/segments/a.jsonl", 100),
            ("ledger/segments/old/b.jsonl.zst", 20),
            ("ledger/index/run", 7),
            ("ledger/meta", 1),
            ("projections/x.sqlite", 50),
            ("host/keys/k", 3),
        ] {
            let path = state.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; bytes]).unwrap();
        }
        let expected = Sizes {
            segments_bytes: 120,
            index_bytes: 8,
            projections_bytes: 50,
            host_bytes: 3,
            ..Sizes::default()
        };
        assert_eq!(disk_sizes(state.path()).unwrap(), expected);
    }

    #[test]
    fn every_limit_names_a_loop_that_is_run() {
        let home = tempfile::tempdir().unwrap();
        let parameters = Parameters {
            sessions: 3,
            turns: 20,
            content: 40,
            seed: 5,
            projects: 1,
            fork_every: 2,
            odd_every: 30,
        };
        let truth = crate::generate::write_set(home.path(), &parameters).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let limits = raw::limits(home.path(), scratch.path()).unwrap();
        for plan in [
            &START,
            &COLD,
            &NO_OP,
            &ONE_TURN,
            &ONE_FILE,
            &REBUILD,
            &VERIFY,
            &questions::SESSIONS,
            &questions::TURNS,
            &REPLAY,
        ] {
            for name in plan.limit {
                assert!(limits.loops.contains_key(*name), "{name}");
            }
        }
        assert_eq!(limits.source_bytes, truth.bytes);
        assert_eq!(limits.loops["split"].items, truth.records + truth.pending);
        assert!(limits.compressed_bytes > 0 && limits.compressed_bytes < truth.bytes);
    }

    #[test]
    fn a_set_that_grew_is_cut_back() {
        let target = tempfile::tempdir().unwrap();
        let workspace = Workspace { root: target.path().to_path_buf(), target: target.path().to_path_buf() };
        let parameters = Parameters {
            sessions: 2,
            turns: 10,
            content: 40,
            seed: 5,
            projects: 1,
            fork_every: 0,
            odd_every: 0,
        };
        let set = Set::generated(&workspace, &parameters).unwrap();
        let before = count_home(&set.home).unwrap();
        let grown = set.grow(0, 1).unwrap();
        let longer = count_home(&set.home).unwrap();
        assert_eq!(longer.total.calls, before.total.calls + 2);
        assert_eq!(grown.days.iter().map(|group| group.sum.calls).sum::<u64>(), 2);
        drop(grown);
        assert_eq!(count_home(&set.home).unwrap(), before);
        let again = Set::generated(&workspace, &parameters).unwrap();
        assert_eq!((again.bytes, again.days), (set.bytes, set.days));
    }
}
