//! `cargo xtask test`: everything that must hold before a change lands, step by step. Knows the order and the commands;
//! what a step checks is the business of cargo, `tidy` and `totals`.

use crate::output::say;
use crate::workspace::Workspace;
use crate::{postgres, tidy, totals};
use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};
use std::time::Instant;

/// How a step ended.
enum Outcome {
    Passed,
    Failed,
    /// A component is not installed; the sentence says which and how to get it.
    Missing(String),
}

/// One step: its name, the command that runs it alone, and what it does.
struct Step {
    name: &'static str,
    alone: &'static str,
    run: fn(&Workspace, &'static str) -> Result<Outcome>,
}

const STEPS: [Step; 10] = [
    Step { name: "format", alone: "cargo fmt --all --check", run: format },
    Step { name: "tidy", alone: "cargo xtask tidy", run: |_, _| Ok(outcome(tidy::run().map(|()| true)?)) },
    Step {
        name: "clippy",
        alone: "cargo clippy --workspace --all-targets --all-features -- -D warnings",
        run: clippy,
    },
    // As people build it: what only tests need is not there.
    Step { name: "program", alone: "cargo check -p burnlog-cli", run: cargo },
    Step {
        name: "postgres",
        alone: "apt-get install postgresql pgbouncer",
        run: |_, _| Ok(outcome(postgres::provide()?)),
    },
    Step {
        name: "tests",
        alone: "cargo test --workspace --all-features --lib --bins --tests --quiet --no-fail-fast",
        run: cargo,
    },
    Step { name: "doc tests", alone: "cargo test --workspace --all-features --doc --quiet", run: cargo },
    Step {
        name: "totals",
        alone: "cargo xtask totals",
        run: |_, _| Ok(outcome(totals::run(&totals::Options::default()).map(|()| true)?)),
    },
    Step { name: "docs", alone: "cargo doc --workspace --all-features --no-deps", run: docs },
    Step { name: "deny", alone: "cargo deny check", run: deny },
];

/// Runs all steps, whatever fails on the way, and ends with a summary.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    let begun = Instant::now();
    let (mut passed, mut failed, mut missing) = (0, Vec::new(), Vec::new());
    for step in &STEPS {
        say(format!("== {}: {}", step.name, step.alone))?;
        let step_begun = Instant::now();
        let done = (step.run)(&workspace, step.alone);
        let seconds = step_begun.elapsed().as_secs_f64();
        match done {
            Ok(Outcome::Passed) => {
                passed += 1;
                say(format!("   {} passed in {seconds:.1} s", step.name))?;
            }
            Ok(Outcome::Missing(what)) => {
                missing.push(step.name);
                say(format!("   {} skipped: {what}", step.name))?;
            }
            Ok(Outcome::Failed) => failed.push(step.name),
            Err(error) => {
                failed.push(step.name);
                say(format!("   {error:#}"))?;
            }
        }
        if failed.last() == Some(&step.name) {
            say(format!("   {} FAILED in {seconds:.1} s; alone: {}", step.name, step.alone))?;
        }
    }
    summary(passed, &failed, &missing, begun.elapsed().as_secs_f64())
}

/// Prints the summary. Its last line has the plain form that programs which watch a run look for.
fn summary(passed: usize, failed: &[&str], missing: &[&str], seconds: f64) -> Result<()> {
    say(format!("== {} steps in {seconds:.0} s", STEPS.len()))?;
    for (what, names) in [("failed", failed), ("skipped", missing)] {
        if !names.is_empty() {
            say(format!("   {what}: {}", names.join(", ")))?;
        }
    }
    let skipped = if missing.is_empty() { String::new() } else { format!(", {} skipped", missing.len()) };
    say(format!("steps: {passed} passed, {} failed{skipped}", failed.len()))?;
    if !failed.is_empty() {
        bail!("cargo xtask test: {} of {} steps failed", failed.len(), STEPS.len());
    }
    Ok(())
}

fn outcome(passed: bool) -> Outcome {
    if passed { Outcome::Passed } else { Outcome::Failed }
}

fn status(command: &mut Command) -> Result<Outcome> {
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    Ok(outcome(status.success()))
}

/// Runs the command of a step as it stands.
fn cargo(workspace: &Workspace, alone: &'static str) -> Result<Outcome> {
    status(&mut workspace.cargo(arguments(alone)))
}

fn arguments(alone: &str) -> &str {
    alone.strip_prefix("cargo ").unwrap_or(alone)
}

/// Whether cargo knows a subcommand.
fn installed(workspace: &Workspace, subcommand: &str) -> bool {
    let mut command = workspace.cargo(subcommand);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn format(workspace: &Workspace, alone: &'static str) -> Result<Outcome> {
    if !installed(workspace, "fmt") {
        return Ok(Outcome::Missing("rustfmt is not installed (rustup component add rustfmt)".to_owned()));
    }
    cargo(workspace, alone)
}

fn clippy(workspace: &Workspace, alone: &'static str) -> Result<Outcome> {
    if !installed(workspace, "clippy") {
        return Ok(Outcome::Missing("clippy is not installed (rustup component add clippy)".to_owned()));
    }
    cargo(workspace, alone)
}

fn docs(workspace: &Workspace, alone: &'static str) -> Result<Outcome> {
    status(workspace.cargo(arguments(alone)).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Licences, sources and doubled versions always; advisories where their database can be reached.
fn deny(workspace: &Workspace, _: &'static str) -> Result<Outcome> {
    if !installed(workspace, "deny") {
        return Ok(Outcome::Missing("cargo-deny is not installed (cargo install cargo-deny)".to_owned()));
    }
    // Doubled versions are warnings, and many; `cargo deny check` shows them.
    let quiet = "deny --log-level error check --hide-inclusion-graph bans licenses sources";
    let Outcome::Passed = status(&mut workspace.cargo(quiet))? else {
        return Ok(Outcome::Failed);
    };
    let advisories = workspace.cargo("deny check advisories").output().context("start cargo deny")?;
    if advisories.status.success() {
        return Ok(Outcome::Passed);
    }
    let report = String::from_utf8_lossy(&advisories.stderr);
    if report.contains("advisory database") {
        say(
            "   the advisory database is out of reach: licences, bans and sources were checked, advisories were not",
        )?;
        return Ok(Outcome::Passed);
    }
    say(report.trim_end())?;
    Ok(Outcome::Failed)
}
