//! One command a file; each reads like prose. Every command gets its arguments and the environment, prints data on
//! standard output, and returns an exit code.

mod compact;
mod conflicts;
mod content;
mod diagnostics;
mod erase;
mod export;
mod export_rows;
mod hook;
mod hook_event;
mod ingest;
mod lists;
mod project;
mod push;
mod relationships;
mod replay;
mod restore;
mod run_agent;
mod search;
mod serve;
mod sessions;
mod show;
mod stamp;
mod status;
mod token;
mod turns;
mod usage;
mod verify;
mod watching;

pub(crate) use relationships::LinkLine;
pub(crate) use sessions::SessionLine;

use crate::args::{Arguments, Command, Global, Hook};
use crate::environment::Environment;
use crate::folding;
use crate::open::{self, Access, StoreUrl};
use burnlog_log::{Ledger, Result};
use burnlog_projections::Queries;
use clap::CommandFactory;
use std::process::ExitCode;

/// A true negative: the check ran and found something.
const FOUND_WANTING: u8 = 1;

/// What every command works with.
#[derive(Clone)]
struct Context {
    global: Global,
    environment: Environment,
}

impl Context {
    /// Opens the projections of the chosen ledger for a list; says so where they are behind it.
    fn queries(&self) -> Result<Box<dyn Queries + Send>> {
        self.ledger_and_queries().map(|(_, store)| store)
    }

    /// Opens the chosen ledger for reading, and its projections for a list; says so where they are behind it.
    fn ledger_and_queries(&self) -> Result<(Ledger, Box<dyn Queries + Send>)> {
        let url = StoreUrl::choose(&self.global, &self.environment)?;
        let ledger = open::ledger(&url, Access::Read, &self.global)?;
        let store = open::queries(&ledger, &self.environment, &self.global)?;
        folding::tell_behind(&ledger, &*store, &self.global, self.global.store.is_some());
        Ok((ledger, store))
    }
}

/// Runs the command of the command line.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // Whoever wants a completion script may have no home.
    let global = arguments.global;
    if let Some(zone) = &global.tz {
        crate::zone::choose(zone)?;
    }
    let json = global.json;
    let context = || Ok::<_, burnlog_log::Error>(Context { global, environment: Environment::read()? });
    match arguments.command {
        Command::Ingest(ingest) => ingest::run(&context()?, &ingest),
        Command::Status => status::run(&context()?),
        Command::Sessions(filter) => sessions::run(&context()?, &filter),
        Command::Turns(filter) => turns::run(&context()?, &filter),
        Command::Usage(usage) => usage::run(&context()?, &usage),
        Command::Search(search) => search::run(&context()?, &search),
        Command::Diagnostics(arguments) => diagnostics::run(&context()?, &arguments),
        Command::Project(project) => project::run(&context()?, &project),
        Command::Replay(replay) => replay::run(&context()?, &replay),
        Command::Push(push) => push::run(&context()?, &push),
        // Nothing may fail here: an exit code of 2 would keep the agent from stopping.
        Command::Hook(Hook::Event { agent }) => Ok(hook_event::run(context().ok(), agent)),
        Command::Hook(Hook::Install(settings)) => hook::install(&context()?, &settings),
        Command::Hook(Hook::Uninstall(settings)) => hook::uninstall(&context()?, &settings),
        // The agent runs whatever is wrong with us.
        Command::Run(run) => Ok(run_agent::run(context(), json, &run)),
        Command::Verify => verify::run(&context()?),
        Command::Restore(restore) => restore::run(&context()?, &restore),
        Command::Content(content) => content::run(&context()?, &content),
        Command::Relationships(relationships) => relationships::run(&context()?, &relationships),
        Command::Conflicts(conflicts) => conflicts::run(&context()?, &conflicts),
        Command::Stamp(stamp) => stamp::run(&context()?, &stamp),
        Command::Export(export) => export::run(&context()?, &export),
        Command::Show(show) => show::run(&context()?, &show),
        Command::Serve(serve) => serve::run(&context()?, &serve),
        Command::Token(token) => token::run(&context()?, &token),
        Command::Erase(erase) => erase::run(&context()?, &erase),
        Command::Compact => compact::run(&context()?),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "burnlog", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    }
}
