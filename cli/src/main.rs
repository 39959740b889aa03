//! The `burnlog` program: parses the command line, runs one command, reports how it ended.

mod agent;
mod args;
mod commands;
mod environment;
mod failure;
mod feed;
mod filter;
mod folding;
mod graph;
mod open;
mod output;
mod pager;
#[cfg(feature = "parquet")]
mod parquet;
mod progress;
mod rebuild;
mod settings;
mod sheet;
mod table;
mod transcript;
mod watch;
mod zone;

use args::Arguments;
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    if let Some(point) = environment::failpoint() {
        burnlog_log::arm_failpoint(&point);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return failure::usage(&error),
    };
    let json = arguments.global.json;
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => failure::report(&error, json),
    }
}
