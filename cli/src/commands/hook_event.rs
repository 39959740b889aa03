//! `burnlog hook event`: what an agent runs when it stops and when a session ends. Reads the one session that the event names.
//! Prints nothing, since agents read what hooks print, and always ends with 0: what goes wrong is in the hook log.

use super::Context;
use super::ingest::ingest_quietly;
use crate::args::{Durability, HookedAgent, Ingest};
use crate::environment::now;
use crate::failure::one_line;
use burnlog_log::{Error, ErrorKind};
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

/// The most that is read of an event; what we need is in the first kilobyte, but an event may quote a whole answer.
const EVENT_BYTES_MAX: u64 = 16 << 20;
/// How long another ingest is waited for, in seconds: it reads the session as well, but it does not close it.
const WAIT_STOP: u64 = 1;
const WAIT_END: u64 = 10;

/// What Claude Code tells a hook; other fields are not ours.
#[derive(serde::Deserialize)]
struct Event {
    session_id: Option<String>,
    transcript_path: Option<String>,
    hook_event_name: String,
}

pub(super) fn run(context: Option<Context>, agent: HookedAgent) -> ExitCode {
    // Without a home there is no place even for the log.
    let Some(mut context) = context else { return ExitCode::SUCCESS };
    let HookedAgent::ClaudeCode = agent;
    context.global.quiet = true;
    let mut told = "an event".to_owned();
    let result = catch_unwind(AssertUnwindSafe(|| ingest_session(&context, &mut told)));
    let error = match result {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => one_line(&error),
        Err(_) => "a panic".to_owned(),
    };
    // Nobody is left to tell where the log cannot be written.
    let _ = context.environment.home.log_hook_error(now(), &format!("{told}: {error}"));
    ExitCode::SUCCESS
}

/// Reads the event and the session that it names; `told` becomes what an error is about.
fn ingest_session(context: &Context, told: &mut String) -> anyhow::Result<()> {
    let mut text = Vec::new();
    std::io::stdin().lock().take(EVENT_BYTES_MAX).read_to_end(&mut text)?;
    let event: Event = serde_json::from_slice(&text)?;
    let session = event.session_id.as_deref().unwrap_or("an unnamed session");
    *told = format!("{} of {session}", event.hook_event_name);
    let Some(transcript) = event.transcript_path.filter(|path| !path.is_empty()) else { return Ok(()) };
    let transcript = match (transcript.strip_prefix("~/"), context.environment.sources().home) {
        (Some(below), Some(home)) => home.join(below),
        _ => PathBuf::from(transcript),
    };
    // The subagents of a session lie in a folder with its name.
    let root: Vec<PathBuf> = [transcript.clone(), transcript.with_extension("")]
        .into_iter()
        .filter(|path| path.exists())
        .collect();
    if root.is_empty() {
        // A session without a single record has no file.
        return Ok(());
    }
    let is_end = event.hook_event_name == "SessionEnd";
    let result = ingest_quietly(context, &arguments(root, is_end), None);
    match result {
        Ok(report) => report.failed.into_iter().next().map_or(Ok(()), |failed| Err(failed.error.into())),
        // Somebody ingests anyway; the next event, or they, read what this one is about.
        Err(error) if !is_end && is_in_use(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_in_use(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Error>().is_some_and(|error| error.kind() == ErrorKind::InUse)
}

fn arguments(root: Vec<PathBuf>, is_end: bool) -> Ingest {
    Ingest {
        root,
        source: vec!["claude-code".to_owned()],
        include: Vec::new(),
        exclude: Vec::new(),
        dry_run: false,
        close: is_end,
        watch: false,
        recheck: false,
        wait: if is_end { WAIT_END } else { WAIT_STOP },
        durability: Durability::Batch,
    }
}
