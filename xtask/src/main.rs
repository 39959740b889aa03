//! The developer commands of this repository: `cargo xtask test|bench|tidy|gen`. Not part of the product.

mod bench;
mod count;
mod count_others;
mod generate;
mod manual;
mod output;
mod postgres;
mod steps;
mod tidy;
mod totals;
mod workspace;

use clap::{Parser, Subcommand};
use std::io::Write;
use std::process::ExitCode;

/// Checks, measures and feeds burnlog.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs everything that must hold before a change lands: format, tidy, clippy, the program as people build it, tests, totals, docs, licences.
    Test,
    /// Measures the release program on a generated set, beside raw loops over the same bytes.
    Bench(bench::Options),
    /// Writes a deterministic set of made-up sessions and prints the exact truth about it as JSON.
    Gen(generate::Options),
    /// Counts a HOME folder of Claude Code sessions straight from its files: a second opinion on every total.
    Count {
        /// The folder that holds `.claude/projects`.
        home: std::path::PathBuf,
    },
    /// Counts HOME folders of the other harnesses straight from their files, all folders as one.
    CountOthers {
        /// The folders that hold `.codex`, `.local/share/opencode` or `.gemini`.
        #[arg(required = true)]
        homes: Vec<std::path::PathBuf>,
    },
    /// Checks rules about the tree: imports, sizes, headers, names, paths.
    Tidy,
    /// Runs the built burnlog over fixtures and a generated set and compares its totals with the truth, and its commands with
    /// the README.
    Totals(totals::Options),
    /// Runs one program and writes what it cost.
    #[command(hide = true)]
    Measure(bench::measure::Options),
    /// Runs the raw loops that `bench` compares with.
    #[command(hide = true)]
    Raw(bench::raw::Options),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Test => steps::run(),
        Command::Bench(options) => bench::run(&options),
        Command::Measure(options) => bench::measure::run(&options),
        Command::Raw(options) => bench::raw::run(&options),
        Command::Gen(options) => generate::run(&options),
        Command::Count { home } => count::run(&home),
        Command::CountOthers { homes } => count_others::run(&homes),
        Command::Tidy => tidy::run(),
        Command::Totals(options) => totals::run(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
