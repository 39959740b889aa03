//! `cargo xtask totals`: runs the built `burnlog` over the fixtures and over a generated set and compares what it says with the
//! truth, to the token; then again after a rebuild with the session files gone.

use crate::count::{Counts, count_home};
use crate::count_others::COUNTERS;
use crate::generate::{Days, Group, Parameters, Sum, Tokens, list_days, write_set};
use crate::manual;
use crate::output::say;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `fixtures/expected/*.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    files: u64,
    meta_files: u64,
    bytes: u64,
    records: u64,
    blank: u64,
    not_utf8: u64,
    not_objects: u64,
    unreadable: u64,
    pending: u64,
    notices: u64,
    floor_calls: u64,
    progress_only_calls: u64,
    total: Sum,
    models: Vec<Model>,
}

/// The sum of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Model {
    model: String,
    #[serde(flatten)]
    sum: Sum,
}

impl Expected {
    fn of(counts: &Counts) -> Self {
        let models = by_model(counts.days.iter().map(|group| (group.model.clone(), group.sum)));
        let Counts { files, meta_files, bytes, records, blank, pending, notices, .. } = *counts;
        let Counts { not_utf8, not_objects, unreadable, floor_calls, progress_only_calls, total, .. } =
            *counts;
        let models = models.into_iter().map(|(model, sum)| Model { model, sum }).collect();
        Self {
            files,
            meta_files,
            bytes,
            records,
            blank,
            not_utf8,
            not_objects,
            unreadable,
            pending,
            notices,
            floor_calls,
            progress_only_calls,
            total,
            models,
        }
    }
}

fn by_model(sums: impl Iterator<Item = (String, Sum)>) -> BTreeMap<String, Sum> {
    let mut models = BTreeMap::<String, Sum>::new();
    for (model, sum) in sums {
        let entry = models.entry(model).or_default();
        entry.calls += sum.calls;
        entry.tokens.add(&sum.tokens);
    }
    models
}

/// Arguments of `totals`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// The program to check, instead of the one that this workspace builds.
    #[arg(long)]
    program: Option<PathBuf>,
    /// A HOME folder whose sessions are counted straight from the files and compared with `usage`, instead of fixtures and a
    /// generated set. Further ones are earlier states of the same sessions, each of a host of its own: the sums must stay.
    #[arg(long, value_name = "DIR")]
    home: Vec<PathBuf>,
}

/// Compares `burnlog` with the truth.
pub(crate) fn run(options: &Options) -> Result<()> {
    let workspace = Workspace::find()?;
    let program = match &options.program {
        Some(program) => program.canonicalize().with_context(|| format!("{}", program.display()))?,
        None => build(&workspace)?,
    };
    let scratch = workspace.scratch("totals")?;
    if !options.home.is_empty() {
        return check_homes(&program, scratch.path(), &options.home);
    }
    let readme = fs::read_to_string(workspace.root.join("README.md")).context("read README.md")?;
    let help = Archive::new(&program, scratch.path().join("no-home")).output(&["--help"])?;
    manual::check(&readme, &help)?;

    let home = workspace.root.join("fixtures/sessions/claude-code");
    let counted = count_home(&home)?;
    let path = workspace.root.join("fixtures/expected/claude-code.json");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let expected: Expected = serde_json::from_str(&text).with_context(|| format!("{}", path.display()))?;
    ensure!(Expected::of(&counted) == expected, "{} differs from a count of the files", path.display());
    let archive = Archive::new(&program, scratch.path().join("fixtures-home"));
    archive.check(&home, &counted, false)?;
    say(format!("   fixtures: {} calls in {} files, as expected", counted.total.calls, counted.files))?;

    check_others(&workspace, &program, scratch.path())?;

    let home = scratch.path().join("generated");
    let parameters = Parameters {
        sessions: 24,
        turns: 50,
        content: 60,
        seed: 11,
        projects: 3,
        fork_every: 5,
        odd_every: 100,
    };
    let truth = write_set(&home, &parameters)?;
    let counted = count_home(&home)?;
    ensure!(counted.total == truth.total && counted.days == truth.days, "the truth differs from a count");
    let archive = Archive::new(&program, scratch.path().join("generated-home"));
    archive.check(&home, &counted, true)?;
    say(format!("   generated: {} calls in {} files, as made", counted.total.calls, counted.files))
}

/// What `fixtures/expected/*.json` says of the other harnesses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedOther {
    files: u64,
    records: u64,
    pending: u64,
    unreadable: u64,
    total: Sum,
    days: Vec<Group>,
}

impl ExpectedOther {
    fn of(counts: &Counts) -> Self {
        let Counts { files, records, pending, unreadable, total, .. } = *counts;
        Self { files, records, pending, unreadable, total, days: counts.days.clone() }
    }

    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{}", path.display()))
    }
}

/// The fixtures of the other harnesses: as expected, as counted, and as burnlog says.
fn check_others(workspace: &Workspace, program: &Path, scratch: &Path) -> Result<()> {
    for (name, count) in COUNTERS {
        let home = workspace.root.join("fixtures/sessions").join(name);
        let counted = count(std::slice::from_ref(&home))?;
        let path = workspace.root.join("fixtures/expected").join(format!("{name}.json"));
        let expected = ExpectedOther::read(&path)?;
        ensure!(
            ExpectedOther::of(&counted) == expected,
            "{} differs from a count of the files",
            path.display()
        );
        let archive = Archive::new(program, scratch.join(format!("{name}-home")));
        archive.check(&home, &counted, false).with_context(|| name.to_owned())?;
        say(format!("   {name}: {} calls in {} files, as expected", counted.total.calls, counted.files))?;
    }
    Ok(())
}

/// Builds `burnlog` with the very build of the tests: cargo would choose other features for the program alone and compile half
/// of it again.
fn build(workspace: &Workspace) -> Result<PathBuf> {
    let built = workspace.cargo("test --quiet --workspace --all-features --no-run").status()?;
    let program = workspace.built("debug", "burnlog");
    ensure!(built.success() && program.exists(), "burnlog does not build");
    Ok(program)
}

/// A burnlog with a state folder of its own and nothing else from the environment.
pub(crate) struct Archive {
    program: PathBuf,
    home: PathBuf,
}

impl Archive {
    pub(crate) fn new(program: &Path, home: PathBuf) -> Self {
        Self { program: program.to_path_buf(), home }
    }

    /// A call of burnlog with these arguments.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear();
        for (name, value) in self.environment() {
            command.env(name, value);
        }
        command
    }

    /// The whole environment that burnlog is given.
    pub(crate) fn environment(&self) -> [(&'static str, std::ffi::OsString); 4] {
        [
            ("HOME", self.home.clone().into()),
            ("RELAYBURN_HOME", self.state().into()),
            ("RELAYBURN_HOST_NAME", "xtask".into()),
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
        ]
    }

    /// Where burnlog keeps its state.
    pub(crate) fn state(&self) -> PathBuf {
        self.home.join("relayburn")
    }

    /// Runs burnlog with these arguments and returns what it prints. An error when it fails.
    pub(crate) fn output(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments).output().context("start burnlog")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("burnlog {}: {}: {}", arguments.join(" "), output.status, errors.trim());
        }
        String::from_utf8(output.stdout).context("burnlog printed what is not UTF-8")
    }

    /// Ingests `source`, twice, compares with `counted`, rebuilds, compares again.
    fn check(&self, source: &Path, counted: &Counts, remove_source: bool) -> Result<()> {
        let root = source.to_str().context("the path is UTF-8")?;
        let ingest = ["ingest", "--json", "--root", root];
        let report: Ingested = serde_json::from_str(&self.output(&ingest)?).context("ingest --json")?;
        let seen = (report.files, report.records, report.pending);
        let Counts { files, meta_files, records, pending, .. } = *counted;
        let expected = (files + meta_files, records + meta_files, pending);
        ensure!(seen == expected, "ingest: files, records, pending are {seen:?}, expected {expected:?}");
        // What is not quite JSON may be mended or not; what is not JSON at all is unreadable, and nothing else is.
        let most = counted.unreadable + counted.not_utf8 + counted.not_objects + counted.blank;
        ensure!(
            (counted.unreadable..=most).contains(&report.unreadable),
            "ingest: {} records are unreadable, expected {} to {most}",
            report.unreadable,
            counted.unreadable
        );
        ensure!(report.new > 0, "ingest: nothing is new in an empty ledger");
        self.check_turns(&counted.days).context("after ingest")?;
        let again: Ingested = serde_json::from_str(&self.output(&ingest)?).context("ingest --json, again")?;
        ensure!(again.new == 0, "ingest again: {} new records, expected none", again.new);
        self.output(&["verify"])?;
        if remove_source {
            fs::remove_dir_all(source).with_context(|| format!("remove {}", source.display()))?;
        }
        let before = self.output(&["project", "dump"])?;
        self.output(&["project", "rebuild"])?;
        ensure!(self.output(&["project", "dump"])? == before, "project dump: other bytes after a rebuild");
        self.check_turns(&counted.days).context("after rebuild")
    }

    /// Adds up `turns --json` by day and model and compares with the truth; and with what `usage` says of the same.
    pub(crate) fn check_turns(&self, expected: &[Group]) -> Result<()> {
        compare(&sum_turns(&self.output(&["turns", "--json"])?)?, expected)?;
        let all = expected.iter().map(|group| (String::new(), group));
        compare_usage(&self.usage(&[])?, all)
    }

    /// Reads `usage --json` by day and model; with `source`, of one source alone.
    fn usage(&self, more: &[&str]) -> Result<UsageSums> {
        let arguments = [&["usage", "--json", "--by", "day,model"], more].concat();
        let mut sums = UsageSums::new();
        for line in self.output(&arguments)?.lines() {
            let line: UsageLine = serde_json::from_str(line).context("usage --json")?;
            let Some(calls) = line.calls else { continue };
            let day = line.day.unwrap_or_else(|| "unknown".to_owned());
            let tokens =
                [line.input_tokens, line.output_tokens, line.cache_read_tokens, line.cache_write_tokens];
            sums.insert((String::new(), day, line.model.unwrap_or_default()), (calls, tokens));
        }
        Ok(sums)
    }
}

/// Calls and tokens (input, output, cache read, cache write) by source, day and model.
type UsageSums = BTreeMap<(String, String, String), (u64, [u64; 4])>;

/// The fields of `usage --json` that are compared. The last line has none of them.
#[derive(Debug, Deserialize)]
struct UsageLine {
    day: Option<String>,
    model: Option<String>,
    calls: Option<u64>,
    #[serde(default)]
    input_tokens: u64,
    #[serde(default)]
    output_tokens: u64,
    #[serde(default)]
    cache_read_tokens: u64,
    #[serde(default)]
    cache_write_tokens: u64,
}

fn compare_usage<'a>(found: &UsageSums, expected: impl Iterator<Item = (String, &'a Group)>) -> Result<()> {
    let sum = |(source, group): (String, &Group)| {
        let Tokens { input, output, cache_read, cache_write_5m, cache_write_1h } = group.sum.tokens;
        let tokens = [input, output, cache_read, cache_write_5m + cache_write_1h];
        ((source, group.day.clone(), group.model.clone()), (group.sum.calls, tokens))
    };
    let expected: UsageSums = expected.map(sum).collect();
    for (key, sums) in &expected {
        ensure!(found.get(key) == Some(sums), "usage of {key:?}: {:?}, expected {sums:?}", found.get(key));
    }
    let surplus = found.iter().find(|(key, _)| !expected.contains_key(*key));
    ensure!(surplus.is_none(), "usage has what the files do not: {surplus:?}");
    Ok(())
}

/// Ingests the first HOME and compares with a count of its files, by source, day and model; then brings in the others as hosts of
/// their own, and compares again.
fn check_homes(program: &Path, scratch: &Path, homes: &[PathBuf]) -> Result<()> {
    let first = homes.first().context("there is a first")?;
    let mut expected: Vec<(&str, Vec<Group>)> = vec![("claude-code", count_home(first)?.days)];
    for (name, count) in COUNTERS {
        expected.push((name, count(std::slice::from_ref(first))?.days));
    }
    let archive = |number: usize| Archive::new(program, scratch.join(format!("host-{number}")));
    let ledger = |number: usize| format!("file:{}", archive(number).state().join("ledger").display());
    for (number, home) in homes.iter().enumerate() {
        fs::create_dir_all(scratch.join(format!("host-{number}")))?;
        let home = home.to_str().context("the path is UTF-8")?;
        archive(number).output(&["ingest", "--quiet", "--root", home])?;
        if number > 0 {
            archive(0).output(&["replay", "--from", &ledger(number), "--to", &ledger(0)])?;
            archive(0).output(&["project", "update"])?;
        }
        for (source, groups) in &expected {
            let found = archive(0).usage(&["--source", source])?;
            compare_usage(&found, groups.iter().map(|group| (String::new(), group)))
                .with_context(|| format!("{source}, {} of {} homes", number + 1, homes.len()))?;
            let calls: u64 = groups.iter().map(|group| group.sum.calls).sum();
            say(format!(
                "{source}: {calls} calls in {} groups of day and model, equal to the token; {} of {} homes",
                groups.len(),
                number + 1,
                homes.len()
            ))?;
        }
    }
    Ok(())
}

fn compare(found: &[Group], expected: &[Group]) -> Result<()> {
    if found != expected {
        let only = |one: &[Group], other: &[Group]| {
            let lines = one.iter().filter(|group| !other.contains(group)).map(serde_json::to_string);
            lines.collect::<Result<Vec<_>, _>>().map(|lines| lines.join("\n"))
        };
        bail!(
            "the sums of turns are wrong. Found:\n{}\nExpected:\n{}",
            only(found, expected)?,
            only(expected, found)?
        );
    }
    Ok(())
}

fn sum_turns(lines: &str) -> Result<Vec<Group>> {
    let mut days = Days::new();
    for line in lines.lines() {
        let turn: Turn = serde_json::from_str(line).context("turns --json")?;
        let tokens = Tokens {
            input: turn.input_tokens.unwrap_or(0),
            output: turn.output_tokens.unwrap_or(0),
            cache_read: turn.cache_read_tokens.unwrap_or(0),
            cache_write_5m: turn.cache_write_5m_tokens.unwrap_or(0),
            cache_write_1h: turn.cache_write_1h_tokens.unwrap_or(0),
        };
        let day = turn.timestamp.as_deref().and_then(|text| text.get(..10)).unwrap_or("unknown").to_owned();
        days.entry((day, turn.model.unwrap_or_default())).or_default().add_call(&tokens);
    }
    Ok(list_days(days))
}

/// The fields of `ingest --json` that are compared.
#[derive(Debug, Deserialize)]
struct Ingested {
    files: u64,
    records: u64,
    new: u64,
    pending: u64,
    unreadable: u64,
}

/// The fields of a line of `turns --json` that are added up.
#[derive(Debug, Deserialize)]
struct Turn {
    timestamp: Option<String>,
    model: Option<String>,
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_read_tokens: Option<u64>,
    cache_write_5m_tokens: Option<u64>,
    cache_write_1h_tokens: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expected_counts_are_those_of_the_files() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
        let text = fs::read_to_string(fixtures.join("expected/claude-code.json")).unwrap();
        let expected: Expected = serde_json::from_str(&text).unwrap();
        let counted = count_home(&fixtures.join("sessions/claude-code")).unwrap();
        assert_eq!(Expected::of(&counted), expected);
    }

    #[test]
    fn the_expected_counts_of_the_others_are_those_of_the_files() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
        for (name, count) in COUNTERS {
            let expected = ExpectedOther::read(&fixtures.join(format!("expected/{name}.json"))).unwrap();
            let counted = count(&[fixtures.join("sessions").join(name)]).unwrap();
            assert_eq!(ExpectedOther::of(&counted), expected, "{name}");
        }
    }

    #[test]
    fn a_total_that_is_one_token_off_is_refused() {
        let line = |output: u64| {
            format!(
                "{{\"timestamp\":\"2026-03-02T06:00:00Z\",\"model\":\"m\",\"output_tokens\":{output},\"cache_read_tokens\":null}}\n"
            )
        };
        let right = sum_turns(&(line(5) + &line(6))).unwrap();
        assert_eq!((right.len(), right[0].day.as_str(), right[0].sum.calls), (1, "2026-03-02", 2));
        assert_eq!(right[0].sum.tokens.output, 11);
        compare(&right, &right).unwrap();
        let wrong = sum_turns(&(line(5) + &line(7))).unwrap();
        assert!(compare(&wrong, &right).unwrap_err().to_string().contains("\"output_tokens\":12"));
        assert!(sum_turns("not json\n").is_err());
    }
}
