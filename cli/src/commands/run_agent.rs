//! `burnlog run`: an agent runs, what it writes is ingested meanwhile, and pushed when it has ended. The agent comes first:
//! nothing here delays it, changes what it prints, or makes it fail.

use super::Context;
use super::ingest::ingest_quietly;
use super::push::{destination, push};
use super::watching::Following;
use crate::agent::Agent;
use crate::args::{Durability, Global, Ingest, Run};
use crate::failure;
use crate::watch::Signals;
use burnlog_host::Config;
use burnlog_log::{Error, ErrorKind};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, SystemTime};

pub(super) fn run(context: burnlog_log::Result<Context>, json: bool, arguments: &Run) -> ExitCode {
    let since = SystemTime::now();
    let agent = match Agent::start(&arguments.command) {
        Ok(agent) => agent,
        Err(failed) => {
            let message = format!("the program cannot be started: {}", failed.error);
            let error = Error::new(ErrorKind::Invalid, "start agent", message);
            let program = arguments.command[0].display();
            failure::tell_failed("nothing is run", &error.at(program).into(), json);
            return ExitCode::from(failed.code);
        }
    };
    let context = match context {
        Ok(context) => context,
        Err(error) => {
            failure::tell_failed("nothing is ingested", &error.into(), json);
            return ExitCode::from(agent.wait());
        }
    };
    // The terminal is the agent's: no bars, no notices.
    let context = Context { global: Global { quiet: true, ..context.global }, ..context };
    let code = accompany(&context, agent, &ingest_arguments(arguments), since);
    if let Err(error) = push_in_time(context, arguments) {
        let what = "not pushed, the local ledger has it for a later burnlog push";
        failure::tell_failed(what, &error, json);
    }
    ExitCode::from(code)
}

/// Ingests until the agent has ended, and what is left then. Returns its exit code.
fn accompany(context: &Context, agent: Agent, ingest: &Ingest, since: SystemTime) -> u8 {
    let signals = Signals::new();
    let stopper = signals.stopper();
    std::thread::scope(|scope| {
        let following = scope.spawn(|| follow(context, ingest, signals, since));
        let code = agent.wait();
        stopper.stop();
        let first = following.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the ingest panicked")));
        if let Err(error) = first.or_else(|error| follow_again(context, ingest, since, &error)) {
            failure::tell_failed("not all was ingested", &error, context.global.json);
        }
        code
    })
}

fn ingest_arguments(arguments: &Run) -> Ingest {
    Ingest {
        root: arguments.root.clone(),
        source: arguments.source.clone(),
        include: arguments.include.clone(),
        exclude: arguments.exclude.clone(),
        dry_run: false,
        close: false,
        watch: true,
        recheck: false,
        wait: arguments.wait,
        durability: Durability::Batch,
    }
}

/// Ingests until it is stopped, and then closes what changed since the agent began.
fn follow(context: &Context, ingest: &Ingest, signals: Signals, since: SystemTime) -> anyhow::Result<()> {
    let following = Following { signals, since: Some(since), tell: &mut |_, _| Ok(()) };
    let report = ingest_quietly(context, ingest, Some(following))?;
    match report.failed.into_iter().next() {
        Some(failed) => Err(failed.error.into()),
        None => Ok(()),
    }
}

/// Reads once what could not be followed. Where another process ingests into the same ledger it is left to that one.
fn follow_again(
    context: &Context,
    ingest: &Ingest,
    since: SystemTime,
    error: &anyhow::Error,
) -> anyhow::Result<()> {
    let is_in_use = error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::InUse);
    let ingest = Ingest { wait: if is_in_use { 0 } else { ingest.wait }, ..ingest.clone() };
    let signals = Signals::new();
    signals.stopper().stop();
    follow(context, &ingest, signals, since)
}

/// Pushes, if there is where to, for so long as may be.
fn push_in_time(context: Context, arguments: &Run) -> anyhow::Result<()> {
    let config = Config::load(&context.environment.home.config())?;
    let Some(to) = destination(arguments.to.as_deref(), &context.environment, &config) else { return Ok(()) };
    let (done, result) = channel();
    let timeout = Duration::from_secs(arguments.push_timeout);
    std::thread::spawn(move || {
        // Nobody listens when it took too long.
        let _ = done.send(push(&context, &to, timeout, false));
    });
    let pushed = match result.recv_timeout(timeout) {
        Ok(pushed) => pushed?,
        Err(RecvTimeoutError::Timeout) => {
            let message =
                format!("the push took longer than {} s; --push-timeout allows more", timeout.as_secs());
            return Err(Error::new(ErrorKind::Unavailable, "push", message).into());
        }
        Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the push panicked"),
    };
    match pushed.divergences.first() {
        Some(diverged) => {
            let kind = match diverged.code {
                "forked" => ErrorKind::Forked,
                "damaged" => ErrorKind::Corrupt,
                _ => ErrorKind::Invalid,
            };
            let message = format!("{}: {}", diverged.code, diverged.message);
            Err(Error::new(kind, "push", message).into())
        }
        None => Ok(()),
    }
}
