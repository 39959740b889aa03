//! `burnlog push`: brings what the ledger has, and another one lacks, to that other one, and remembers how far it came.

use super::replay::Replayed;
use super::{Context, FOUND_WANTING};
use crate::args::{Durability, Push};
use crate::environment::{Environment, now};
use crate::open::{self, Access, StoreUrl};
use crate::output::{counted, print_one};
use crate::progress::Progress;
use burnlog_host::{Config, IngestLock, PushMark, Pushed};
use burnlog_log::{
    BatchHead, Error, ErrorKind, Ledger, Limit, ReplayProgress, Result, Timestamp, replay_since,
};
use std::process::ExitCode;
use std::time::{Duration, Instant};

pub(super) fn run(context: &Context, arguments: &Push) -> anyhow::Result<ExitCode> {
    let config = Config::load(&context.environment.home.config())?;
    let to = destination(arguments.to.as_deref(), &context.environment, &config).ok_or_else(|| {
        let message =
            "nothing says where to: pass --to URL, set RELAYBURN_PUSH_URL, or push_to in host/config.json";
        Error::new(ErrorKind::Invalid, "push", message)
    })?;
    let pushed = push(context, &to, Duration::from_secs(arguments.wait), arguments.recheck)?;
    print_one(&context.global, &pushed, || {
        if pushed.feeds == 0 { nothing_new(&pushed) } else { pushed.text() }
    })?;
    Ok(if pushed.divergences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND_WANTING) })
}

fn nothing_new(pushed: &Replayed) -> String {
    let Replayed { from, to, .. } = pushed;
    format!("{from} -> {to}\nnothing new since the last push; --recheck compares everything\n")
}

/// Chooses the destination: the command line, the environment, the configuration. It may hold secrets.
pub(super) fn destination(given: Option<&str>, environment: &Environment, config: &Config) -> Option<String> {
    given.map(str::to_owned).or_else(|| environment.push_url.clone()).or_else(|| config.push_to.clone())
}

/// Pushes the chosen ledger to `to`.
///
/// Looks only at feeds that moved since the last push to the same ledger, unless that one has lost what it acknowledged then
/// (it was restored from a backup) or `recheck` is set. Stopping at any moment is safe.
pub(super) fn push(context: &Context, to: &str, wait: Duration, recheck: bool) -> anyhow::Result<Replayed> {
    let Context { global, environment } = context;
    let start = Instant::now();
    let url = StoreUrl::parse(to)?;
    let from = open::ledger(&StoreUrl::choose(global, environment)?, Access::Read, global)?;
    let state = environment.home.ledger_state(from.location().id);
    state.create()?;
    let _lock = IngestLock::acquire_to_push(&state.push_lock(), wait)?;
    let there = open::ledger(&url, Access::Create(Durability::Batch), global)?;
    let location = there.location();
    if location.id == from.location().id {
        let message = "this is the ledger that is pushed from; name another one";
        return Err(Error::new(ErrorKind::Invalid, "push", message).at(location.url).into());
    }
    let mut pushed = Pushed::load(&state, location.id)?;
    if !is_as_left(&there, pushed.mark())? {
        // What it acknowledged before counts for nothing any more, also in what `status` says.
        pushed.forget()?;
    }
    let since = pushed.token().filter(|_| !recheck);
    let total = from.stat()?.payload_bytes;
    let mut progress = Progress::start("pushing", global.quiet);
    let mut show = |done: ReplayProgress| progress.show(done.bytes_sent, total, done.entries, "entries");
    let result = replay_since(
        &from,
        &there,
        since.as_ref(),
        &mut |head, is_sent| pushed.reached(head, is_sent),
        &mut show,
    );
    progress.finish();
    // Also after a failure: what was acknowledged before it is there.
    let settled = result.as_ref().ok().filter(|(report, _)| report.divergences.is_empty());
    let token = settled.map(|(_, token)| token).or(since.as_ref());
    let saved = pushed.save(&location.url, &asked(to), now(), token);
    let (report, _) = result?;
    saved?;
    Ok(Replayed::of(report, from.location().url, location.url, start.elapsed()))
}

/// Whether the destination still has what it acknowledged last.
fn is_as_left(there: &Ledger, mark: Option<&PushMark>) -> Result<bool> {
    let Some(last) = mark.and_then(|mark| mark.last) else { return Ok(false) };
    Ok(there.head_at(&last.feed, last.size)?.is_some_and(|kept| kept.root == last.root))
}

/// What a destination is recognised by without asking it; the URL may hold secrets, its hash does not.
fn asked(to: &str) -> String {
    format!("b3:{}", blake3::hash(to.as_bytes()).to_hex())
}

/// What waits to be pushed.
#[derive(serde::Serialize)]
pub(super) struct Unpushed {
    /// Entries that the destination is not known to have.
    pub(super) records: u64,
    /// When the first of them was recorded.
    pub(super) oldest: Option<Timestamp>,
    /// The destination; null before the first push to it.
    pub(super) to: Option<String>,
    /// When it was last pushed to.
    pub(super) pushed_at: Option<Timestamp>,
}

impl Unpushed {
    /// Says it for people.
    pub(super) fn text(&self) -> String {
        let to = self.to.as_deref().map_or_else(String::new, |to| format!(" to {to}"));
        match (self.oldest, self.pushed_at) {
            (Some(oldest), _) => {
                format!("not pushed{to}: {}, the oldest of {oldest}\n", counted(self.records, "record"))
            }
            (None, Some(at)) => format!("pushed{to}: everything, last at {at}\n"),
            (None, None) => "nothing to push\n".to_owned(),
        }
    }
}

/// Tells what waits to be pushed, without asking the destination; `None` for a ledger that was never pushed and is not to be.
pub(super) fn unpushed(context: &Context, ledger: &Ledger, heads: &[BatchHead]) -> Result<Option<Unpushed>> {
    let environment = &context.environment;
    let config = Config::load(&environment.home.config())?;
    let state = environment.home.ledger_state(ledger.location().id);
    let mut marks = state.push_marks()?;
    let wanted = destination(None, environment, &config).map(|to| asked(&to));
    if let Some(wanted) = &wanted {
        marks.retain(|mark| mark.asked == *wanted);
    }
    let mark = marks.pop();
    if mark.is_none() && wanted.is_none() {
        return Ok(None);
    }
    let there = mark.as_ref().map(|mark| state.pushed_heads(mark)).transpose()?.unwrap_or_default();
    let mut unpushed = Unpushed {
        records: 0,
        oldest: None,
        pushed_at: mark.as_ref().map(|mark| mark.at),
        to: mark.map(|mark| mark.url),
    };
    for head in heads {
        let size = there.get(&head.feed).map_or(0, |there| there.size);
        if size < head.size {
            unpushed.records += head.size - size;
            let page = ledger.read(&head.feed, size, Limit { entries: 1, bytes: 1 })?;
            let first = page.heads.first().map(|head| head.recorded_at);
            unpushed.oldest = unpushed.oldest.into_iter().chain(first).min();
        }
    }
    Ok(Some(unpushed))
}
