//! Following session files: everything once, then whatever changes, until somebody says stop. What `ingest --watch` and
//! `run` have in common.

use super::Context;
use super::ingest::{discover, places};
use crate::args::{Global, Ingest};
use crate::environment::now;
use crate::output::{count, counted, print_one, say};
use crate::watch::{Changed, Signals, Watch};
use crate::zone;
use burnlog_log::Timestamp;
use burnlog_sources::{Options, Plan, Report};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The times of files are those of the last tick of the system's clock, which may lie before the beginning.
const CLOCK_TICK: Duration = Duration::from_millis(20);

/// The fields of a line of `ingest --watch --json`.
#[derive(serde::Serialize)]
pub(super) struct Pass {
    at: Timestamp,
    files: u64,
    records: u64,
    new: u64,
    failed: u64,
    elapsed_ms: u64,
    #[serde(skip)]
    is_first: bool,
}

/// How session files are followed.
pub(super) struct Following<'a> {
    /// Where changes are heard of.
    pub(super) signals: Signals,
    /// Closes, at the end, the streams of the files that changed since then: nobody writes to them any more.
    pub(super) since: Option<SystemTime>,
    /// Hears of each pass that found something, and of the first.
    pub(super) tell: &'a mut dyn FnMut(&Global, &Pass) -> anyhow::Result<()>,
}

/// Reads the files of a plan.
pub(super) type ReadPlan<'a> = dyn FnMut(Plan, &Options) -> anyhow::Result<Report> + 'a;

impl Following<'_> {
    /// Reads, and again whenever something changes, until it is stopped or fails; then everything once more. Returns the
    /// last report.
    pub(super) fn run(
        self,
        context: &Context,
        arguments: &Ingest,
        options: &Options,
        read: &mut ReadPlan<'_>,
    ) -> anyhow::Result<Report> {
        let places = &places(arguments, &context.environment);
        // Watching begins before the first walk, so that nothing falls between the two.
        let mut watch = Watch::start(discover(places, arguments)?.roots(), self.signals);
        let mut plan = discover(places, arguments)?;
        let mut known = plan.known();
        if let Some(why) = watch.trouble() {
            let what = "looking at everything twice a second instead of being told of changes";
            say(&context.global, &format!("burnlog: {what}: {why}"));
        }
        let mut is_first = true;
        loop {
            let start = Instant::now();
            let report = read(plan, options)?;
            let total = report.total();
            if is_first || total.records > 0 || !report.failed.is_empty() {
                let pass = Pass {
                    at: now(),
                    files: total.files - total.unchanged,
                    records: total.records,
                    new: total.new,
                    failed: report.failed.len() as u64,
                    elapsed_ms: start.elapsed().as_millis() as u64,
                    is_first,
                };
                (self.tell)(&context.global, &pass)?;
            }
            is_first = false;
            plan = match watch.next() {
                Changed::Paths(paths) => known.plan(&paths),
                Changed::Anything => None,
                Changed::Stop => break,
            }
            .map_or_else(|| discover(places, arguments).inspect(|plan| known = plan.known()), Ok)?;
        }
        let plan = discover(places, arguments)?;
        let known = plan.known();
        let touched = self.since.map(|since| touched(&plan, since)).unwrap_or_default();
        let report = read(plan, options)?;
        if let Some(plan) = known.plan(&touched).filter(|_| !touched.is_empty()) {
            read(plan, &Options { close: true, ..options.clone() })?;
        }
        Ok(report)
    }
}

/// The files that changed since an instant.
fn touched(plan: &Plan, since: SystemTime) -> BTreeSet<PathBuf> {
    let since = since.checked_sub(CLOCK_TICK).unwrap_or(since);
    let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified());
    let is_touched = |path: &Path| {
        let log = PathBuf::from(format!("{}-wal", path.display()));
        [path, &log].into_iter().any(|path| modified(path).is_ok_and(|at| at >= since))
    };
    plan.files().map(|(_, path, _)| path).filter(|path| is_touched(path)).map(Path::to_path_buf).collect()
}

/// Prints a pass as `ingest --watch` does.
pub(super) fn print_pass(global: &Global, pass: &Pass) -> anyhow::Result<()> {
    print_one(global, pass, || pass.text())?;
    Ok(())
}

impl Pass {
    fn text(&self) -> String {
        let time: String = zone::shown(self.at).chars().skip(11).collect();
        let zone = zone::name();
        let mut line = format!("{time} {zone}  {}, {} new", counted(self.records, "record"), count(self.new));
        if self.files > 0 {
            line.push_str(&format!("  ({})", counted(self.files, "file")));
        }
        if self.failed > 0 {
            line.push_str(&format!("  failed: {}", counted(self.failed, "file")));
        }
        if self.is_first {
            line.push_str("  watching; Ctrl-C ends it");
        }
        line + "\n"
    }
}
