//! The developer commands of this repository: `cargo xtask test|bench|tidy|gen`. Not part of the product.

mod count;
mod generate;
mod output;
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
    /// Runs everything that must hold before a change lands: format, tidy, clippy, tests, totals, docs, licences.
    Test,
    /// Writes a deterministic set of made-up sessions and prints the exact truth about it as JSON.
    Gen(generate::Options),
    /// Counts a HOME folder of Claude Code sessions straight from its files: a second opinion on every total.
    Count {
        /// The folder that holds `.claude/projects`.
        home: std::path::PathBuf,
    },
    /// Checks rules about the tree: imports, sizes, headers, names, paths.
    Tidy,
    /// Runs the built burnlog over fixtures and a generated set and compares its totals with the truth.
    Totals,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Test => steps::run(),
        Command::Gen(options) => generate::run(&options),
        Command::Count { home } => count::run(&home),
        Command::Tidy => tidy::run(),
        Command::Totals => totals::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
