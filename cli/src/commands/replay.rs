//! `burnlog replay`: brings one ledger's feeds into another.

use super::{Context, FOUND_WANTING};
use crate::args::{Durability, Replay};
use crate::folding;
use crate::open::{self, Access, StoreUrl};
use crate::output::{bytes, count, counted, print_one};
use crate::progress::Progress;
use burnlog_log::{BatchHead, ErrorKind, Ledger, ReplayReport, Result, replay};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The fields of `replay --json` and `push --json`.
#[derive(serde::Serialize)]
pub(super) struct Replayed {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) feeds: u64,
    feeds_equal: u64,
    batches: u64,
    entries: u64,
    events_sent: u64,
    bytes_sent: u64,
    elapsed_ms: u64,
    pub(super) divergences: Vec<Diverged>,
}

#[derive(serde::Serialize)]
pub(super) struct Diverged {
    pub(super) code: &'static str,
    from: BatchHead,
    to: Option<BatchHead>,
    pub(super) message: String,
}

pub(super) fn run(context: &Context, arguments: &Replay) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let global = &context.global;
    let from = open::ledger(&StoreUrl::parse(&arguments.from)?, Access::Read, global)?;
    let to = open::ledger(&StoreUrl::parse(&arguments.to)?, Access::Create(Durability::Batch), global)?;
    let total = from.stat()?.payload_bytes;
    let mut progress = Progress::start("replaying", global.quiet);
    let report =
        replay(&from, &to, &mut |done| progress.show(done.bytes_sent, total, done.entries, "entries"))?;
    progress.finish();
    let replayed = Replayed::of(report, from.location().url, to.location().url, start.elapsed());
    print_one(global, &replayed, || replayed.text())?;
    tell_behind(context, &to)?;
    Ok(if replayed.divergences.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND_WANTING) })
}

/// Says how far the lists of the destination are behind it, if there are some on this host: a replay folds nothing.
fn tell_behind(context: &Context, to: &Ledger) -> Result<()> {
    let Context { global, environment } = context;
    if open::is_remote(to) {
        return Ok(());
    }
    match open::queries(to, environment, global) {
        Ok(store) => folding::tell_behind(to, &*store, global, true),
        // Nothing was folded yet, which every list says, or the rows lie beside a ledger that is not the chosen one.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Unsupported) => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

impl Replayed {
    /// Makes it from a report.
    pub(super) fn of(report: ReplayReport, from: String, to: String, elapsed: Duration) -> Self {
        let diverged = report.divergences.into_iter();
        Self {
            from,
            to,
            feeds: report.feeds,
            feeds_equal: report.feeds_equal,
            batches: report.batches,
            entries: report.entries,
            events_sent: report.events_sent,
            bytes_sent: report.bytes_sent,
            elapsed_ms: elapsed.as_millis() as u64,
            divergences: diverged
                .map(|it| Diverged { code: it.code, from: it.from, to: it.to, message: it.message })
                .collect(),
        }
    }

    /// Says it for people.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "{} -> {}\n{}, {} of them equal before; {} in {}; {} sent, {}; {} ms\n",
            self.from,
            self.to,
            counted(self.feeds, "feed"),
            count(self.feeds_equal),
            format_args!("{} entries", count(self.entries)),
            counted(self.batches, "batch").replace("batchs", "batches"),
            counted(self.events_sent, "event"),
            bytes(self.bytes_sent),
            count(self.elapsed_ms),
        );
        for it in &self.divergences {
            text.push_str(&format!("{}: {}: {}\n", it.from.feed, it.code, it.message));
        }
        if self.divergences.is_empty() {
            text.push_str("every feed has the same size and root on both sides\n");
        }
        text
    }
}
