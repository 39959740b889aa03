//! `burnlog ingest`: session files -> events -> this host's feed -> rows.

use super::watching::{self, Following};
use super::{Context, FOUND_WANTING};
use crate::args::Ingest;
use crate::environment::{Environment, now};
use crate::feed::open_feed;
use crate::folding;
use crate::open::{self, Access, StoreUrl};
use crate::output::{bytes, count, counted, print_one, say};
use crate::progress;
use crate::watch::Signals;
use burnlog_host::{Config, IngestLock};
use burnlog_log::{Batch, Error, ErrorKind, Ledger, Result, Root, WriterId};
use burnlog_projections::{Projector, Queries, diagnostics};
use burnlog_sources::{
    Acknowledged, CursorFile, FeedPoint, Filter, Notice, Observer, Options, Places, Plan, Progress, Report,
};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The fields of `ingest --json`.
#[derive(serde::Serialize)]
struct Ingested {
    files: u64,
    unchanged: u64,
    excluded: u64,
    records: u64,
    new: u64,
    known: u64,
    present: u64,
    pending: u64,
    pending_bytes: u64,
    unreadable: u64,
    rewritten: u64,
    closed: u64,
    bytes_in: u64,
    bytes_on_disk: u64,
    elapsed_ms: u64,
    feed: Option<WriterId>,
    head: Option<Head>,
    failed: Vec<Failed>,
}

#[derive(serde::Serialize)]
struct Head {
    size: u64,
    root: Root,
}

#[derive(serde::Serialize)]
struct Failed {
    path: PathBuf,
    error: String,
}

pub(super) fn run(context: &Context, arguments: &Ingest) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let Context { global, environment } = context;
    let config = Config::load(&environment.home.config())?;
    let options = options(arguments, &config);
    let places = places(arguments, environment);
    let plan = discover(&places, arguments)?;
    if plan.files().len() == 0 && plan.failed.is_empty() && arguments.root.is_empty() {
        say(global, &nothing_found(&plan));
    }
    for place in &plan.without_sessions {
        let why = "neither a home, nor a folder of sessions, nor a session file; --root takes one of them";
        say(global, &format!("burnlog: no sessions in {}: it is {why}", place.display()));
    }
    let url = StoreUrl::choose(global, environment)?;
    let ingested = if arguments.dry_run {
        dry_run(context, &url, plan, &options)?
    } else {
        let work = if arguments.watch {
            Work::Follow(Following { signals: Signals::new(), since: None, tell: &mut watching::print_pass })
        } else {
            Work::Once(plan)
        };
        ingest(context, arguments, &config, &url, work, &options)?
    };
    let Done { report, unreadable, feed, head } = ingested;
    // A large ingest seals its segment when the ledger is let go, so its size is asked for afterwards.
    let ledger = open::ledger(&url, Access::Read, global);
    let ledger = ledger.map(Some).or_else(|error| match error.kind() {
        ErrorKind::NotFound if arguments.dry_run => Ok(None),
        _ => Err(error),
    })?;
    let total = report.total();
    let summary = Ingested {
        files: total.files,
        unchanged: total.unchanged,
        excluded: total.excluded,
        records: total.records,
        new: total.new,
        known: total.known,
        present: total.present,
        pending: total.pending_records,
        pending_bytes: total.pending_bytes,
        unreadable,
        rewritten: total.rewritten,
        closed: total.closed,
        bytes_in: total.bytes_in,
        bytes_on_disk: ledger
            .as_ref()
            .map_or(Ok(0), |ledger| ledger.stat().map(|stat| stat.bytes_on_disk))?,
        elapsed_ms: start.elapsed().as_millis() as u64,
        feed,
        head,
        failed: report
            .failed
            .iter()
            .map(|it| Failed { path: it.path.clone(), error: it.error.to_string() })
            .collect(),
    };
    print_one(global, &summary, || text(&summary, ledger.as_ref(), arguments.dry_run))?;
    Ok(if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FOUND_WANTING) })
}

/// Reads what `arguments` say once, or follows it, and says nothing but by `work`.
pub(super) fn ingest_quietly(
    context: &Context,
    arguments: &Ingest,
    follow: Option<Following<'_>>,
) -> anyhow::Result<Report> {
    let config = Config::load(&context.environment.home.config())?;
    let url = StoreUrl::choose(&context.global, &context.environment)?;
    let work = match follow {
        Some(following) => Work::Follow(following),
        None => Work::Once(discover(&places(arguments, &context.environment), arguments)?),
    };
    let options = options(arguments, &config);
    Ok(ingest(context, arguments, &config, &url, work, &options)?.report)
}

/// What is to be done with an open feed.
enum Work<'a> {
    /// Reads these files.
    Once(Plan),
    /// Reads everything, and then what changes.
    Follow(Following<'a>),
}

/// What an ingest leaves to report.
struct Done {
    report: Report,
    /// Of the new records; what `diagnostics` counts.
    unreadable: u64,
    feed: Option<WriterId>,
    head: Option<Head>,
}

fn ingest(
    context: &Context,
    arguments: &Ingest,
    config: &Config,
    url: &StoreUrl,
    work: Work<'_>,
    options: &Options,
) -> anyhow::Result<Done> {
    let Context { global, environment } = context;
    let ledger = open::ledger(url, Access::Create(arguments.durability), global)?;
    let state = environment.home.ledger_state(ledger.location().id);
    state.create()?;
    let _lock = IngestLock::acquire(&state.lock(), Duration::from_secs(arguments.wait))?;
    let mut store = open::folds(&ledger, environment, global)?;
    let unreadable_before = store.as_deref().map_or(Ok(0), |store| unreadable(store))?;
    // The folds tell what is unreadable; where a server folds, the records are looked at here.
    let check_records = store.is_none();
    let limits = folding::limits(environment, Duration::from_secs(arguments.wait));
    let mut projector = match &mut store {
        Some(store) => Some(Projector::new(&mut **store, &ledger, limits)?),
        None => None,
    };
    let (mut writer, mut cursors) =
        open_feed(environment, global, config, (&ledger, &state), projector.as_mut())?;
    let feed = writer.feed();
    let mut unreadable_seen = 0;
    let mut pass = |plan: Plan, options: &Options| -> anyhow::Result<Report> {
        let options = &Options { check_records, ..options.clone() };
        let mut watch = Watch { bar: progress::Progress::start("reading", global.quiet), context };
        let report = burnlog_sources::ingest(
            plan,
            &mut cursors,
            options,
            &mut |batch: &Batch| {
                let outcomes =
                    writer.append(batch, now(), &mut |feed, batch, outcomes| match &mut projector {
                        Some(projector) => projector.fold_appended(feed, batch, outcomes).map(drop),
                        None => Ok(()),
                    })?;
                let head = writer.head().expect("an append that returned has a head");
                Ok(Acknowledged { outcomes, point: FeedPoint { size: head.size, root: head.root } })
            },
            &mut watch,
        );
        watch.bar.finish();
        // Also after a failure: what was acknowledged is there to be folded and remembered.
        let remembered = writer.remember();
        let report = report?;
        remembered?;
        unreadable_seen += report.total().unreadable;
        if let Some(projector) = &mut projector {
            folding::catch_up(projector, &ledger, || open::queries(&ledger, environment, global), global)?;
            super::search::add_new(context, &ledger);
        }
        Ok(report)
    };
    let report = match work {
        Work::Once(plan) => pass(plan, options)?,
        Work::Follow(following) => following.run(context, arguments, options, &mut pass)?,
    };
    let unreadable = match &store {
        Some(store) => unreadable(&**store)?.saturating_sub(unreadable_before),
        None => unreadable_seen,
    };
    if arguments.durability == crate::args::Durability::Os {
        say(global, "burnlog: stored with --durability os: synced once, at the end");
    }
    let head = writer.head().map(|head| Head { size: head.size, root: head.root });
    Ok(Done { report, unreadable, feed: Some(feed), head })
}

/// Sums what the folds could not read so far; 0 where nothing was folded yet.
fn unreadable(store: &dyn Queries) -> Result<u64> {
    match diagnostics(store) {
        Ok(rows) => Ok(rows.iter().map(|row| row.unreadable.max(0) as u64).sum()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Reads and counts; needs no ledger, and looks at the cursors where there is one.
fn dry_run(context: &Context, url: &StoreUrl, plan: Plan, options: &Options) -> anyhow::Result<Done> {
    let Context { global, environment } = context;
    let ledger = match open::ledger(url, Access::Read, global) {
        Ok(ledger) => Some(ledger),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let mut cursors = match &ledger {
        None => CursorFile::open_to_look(PathBuf::new(), WriterId([0; 32]))?,
        Some(ledger) => {
            let state = environment.home.ledger_state(ledger.location().id);
            let key = match environment.given_key()? {
                None if state.key().exists() => Some(burnlog_host::load_or_create_key(&state.key())?),
                given => given,
            };
            let feed = key.map_or(WriterId([0; 32]), |key| key.writer());
            CursorFile::open_to_look(state.cursors(), feed)?
        }
    };
    let mut watch = Watch { bar: progress::Progress::start("reading", global.quiet), context };
    let mut sink = |_: &Batch| -> Result<Acknowledged> {
        Err(Error::new(ErrorKind::Invalid, "ingest", "a dry run sends nothing"))
    };
    let report = burnlog_sources::ingest(plan, &mut cursors, options, &mut sink, &mut watch)?;
    watch.bar.finish();
    Ok(Done { unreadable: report.total().unreadable, report, feed: None, head: None })
}

fn options(arguments: &Ingest, config: &Config) -> Options {
    let joined = |ours: &[String], theirs: &[String]| [ours, theirs].concat();
    let filter = Filter {
        include: joined(&arguments.include, &config.include),
        exclude: joined(&arguments.exclude, &config.exclude),
    };
    let Ingest { recheck, close, dry_run, .. } = *arguments;
    // The folds tell what is unreadable; only a dry run has none.
    Options { recheck, close, dry_run, filter, check_records: dry_run, ..Options::default() }
}

/// Finds the session files, those of `--source` alone where it is given.
pub(super) fn discover(places: &Places, arguments: &Ingest) -> Result<Plan> {
    let known: Vec<&str> = burnlog_sources::names().collect();
    if let Some(unknown) = arguments.source.iter().find(|name| !known.contains(&name.as_str())) {
        let message = format!("--source {unknown:?} is none of: {}", known.join(", "));
        return Err(Error::new(ErrorKind::Invalid, "read arguments", message));
    }
    let mut plan = burnlog_sources::discover(places);
    if !arguments.source.is_empty() {
        plan.keep_sources(&arguments.source);
    }
    Ok(plan)
}

pub(super) fn places(arguments: &Ingest, environment: &Environment) -> Places {
    if arguments.root.is_empty() {
        Places::Environment(environment.sources())
    } else {
        Places::Roots(arguments.root.clone())
    }
}

/// Shows progress, and what a person may want to know while it happens.
struct Watch<'a> {
    bar: progress::Progress,
    context: &'a Context,
}

impl Observer for Watch<'_> {
    fn progress(&mut self, progress: Progress) {
        self.bar.show(progress.bytes_done, progress.bytes_total, progress.files_done, "files");
    }

    fn notice(&mut self, notice: Notice<'_>) {
        let text = match notice {
            Notice::Rewritten { path, .. } => {
                format!(
                    "burnlog: {} was rewritten; what it was is kept, and it was read again",
                    path.display()
                )
            }
            Notice::PendingLost { path, bytes, .. } => {
                format!(
                    "burnlog: {} is gone, and with it {bytes} bytes of an unfinished last record",
                    path.display()
                )
            }
            Notice::Failed(failed) => format!("burnlog: {}", failed.error),
            Notice::NotSettled(error) => {
                format!(
                    "burnlog: all is recorded; the file of cursors could not be made smaller, the next ingest tries again: {error}"
                )
            }
            _ => return,
        };
        say(&self.context.global, &text);
    }
}

fn text(done: &Ingested, ledger: Option<&Ledger>, dry_run: bool) -> String {
    let mut lines = vec![format!(
        "{}: {}, {} unchanged",
        if dry_run { "would read" } else { "read" },
        counted(done.files, "file"),
        count(done.unchanged)
    )];
    if done.excluded > 0 {
        lines.push(format!("left out by include and exclude: {}", counted(done.excluded, "file")));
    }
    lines.push(if dry_run {
        format!("records: {} to look at, {}", count(done.records), bytes(done.bytes_in))
    } else {
        format!(
            "records: {} ({} new, {} already there), {}",
            count(done.records),
            count(done.new),
            count(done.known + done.present),
            bytes(done.bytes_in)
        )
    });
    lines.push(format!(
        "pending: {} ({})   unreadable: {}   rewritten: {}",
        count(done.pending),
        bytes(done.pending_bytes),
        count(done.unreadable),
        count(done.rewritten),
    ));
    if !done.failed.is_empty() {
        lines.push(format!("failed: {}; the rest is stored", counted(done.failed.len() as u64, "file")));
    }
    if let Some(ledger) = ledger {
        lines.push(format!("ledger: {}, {} on disk", ledger.location().url, bytes(done.bytes_on_disk)));
    }
    lines.push(format!("time: {:.2} s", done.elapsed_ms as f64 / 1000.0));
    if !dry_run && done.records > 0 {
        lines.push("next: burnlog sessions, burnlog turns --limit 20, burnlog verify".to_owned());
    }
    lines.join("\n") + "\n"
}

fn nothing_found(plan: &Plan) -> String {
    let mut text = "burnlog: no sessions found; looked in".to_owned();
    let is_inside = |path: &Path| plan.roots().any(|root| path != root && path.starts_with(root));
    for root in plan.roots().filter(|root| !is_inside(root)) {
        text.push_str(&format!("\n  {}", root.display()));
    }
    let variables: Vec<&str> = burnlog_sources::variables().collect();
    text.push_str(&format!(
        "\nIf they are elsewhere, set {} or pass --root DIR.\n\
         To try it on the examples of a checkout: burnlog ingest --root fixtures/sessions/claude-code",
        variables.join(", "),
    ));
    text
}
