//! `burnlog status`: the ledger, its feeds, its projections, and what waits to be ingested.

use super::Context;
use super::project::{ProjectionLine, projection_lines};
use super::push::{Unpushed, unpushed};
use crate::open::{self, Access, StoreUrl};
use crate::output::{bytes, count, counted, print_one};
use burnlog_log::{BatchHead, ErrorKind, Ledger, Root, Timestamp, WriterId};
use burnlog_projections::HostLabels;
use burnlog_sources::CursorFile;
use std::path::PathBuf;
use std::process::ExitCode;

/// The fields of `status --json`.
#[derive(serde::Serialize)]
struct Status {
    version: &'static str,
    ledger: LedgerLine,
    feeds: Vec<FeedLine>,
    projections: Vec<ProjectionLine>,
    sources: Vec<SourceLine>,
    /// Of a ledger that was pushed to another or is to be; null for others.
    unpushed: Option<Unpushed>,
    /// What went wrong in hooks, which tell nobody else; null where nothing did.
    hook_errors: Option<HookErrorsLine>,
    /// What this token may not see, and which scope shows it; null where it may see everything.
    withheld: Option<String>,
}

#[derive(serde::Serialize)]
struct LedgerLine {
    url: String,
    id: String,
    backend: &'static str,
    events: u64,
    payload_bytes: u64,
    bytes_on_disk: u64,
}

#[derive(serde::Serialize)]
struct FeedLine {
    writer: WriterId,
    host: Option<String>,
    size: u64,
    root: Root,
    recorded_at: Timestamp,
}

#[derive(serde::Serialize)]
struct SourceLine {
    source: &'static str,
    files: u64,
    pending_bytes: u64,
}

#[derive(serde::Serialize)]
struct HookErrorsLine {
    path: PathBuf,
    count: u64,
    last: String,
}

pub(super) fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let Context { global, environment } = context;
    let ledger = open::ledger(&StoreUrl::choose(global, environment)?, Access::Read, global)?;
    let (location, stat) = (ledger.location(), ledger.stat()?);
    let withheld = match open::require_reading(&ledger, "status") {
        Err(error) if error.kind() == ErrorKind::Denied => Some(error.message().to_owned()),
        read => read.map(|()| None)?,
    };
    let labels = match context.queries() {
        Ok(store) => HostLabels::read(&*store).ok(),
        Err(_) => None,
    };
    let heads = ledger.feeds()?;
    let feed_line = |head: &BatchHead| FeedLine {
        writer: head.feed,
        host: labels.as_ref().map(|labels| labels.of(&head.feed.0)),
        size: head.size,
        root: head.root,
        recorded_at: head.recorded_at,
    };
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        ledger: LedgerLine {
            url: location.url,
            id: location.id.to_string(),
            backend: location.backend,
            events: stat.events,
            payload_bytes: stat.payload_bytes,
            bytes_on_disk: stat.bytes_on_disk,
        },
        feeds: heads.iter().map(feed_line).collect(),
        projections: match &withheld {
            Some(_) => Vec::new(),
            None => projection_lines(context, &ledger)?,
        },
        sources: sources(context, &ledger)?,
        unpushed: unpushed(context, &ledger, &heads)?,
        withheld: withheld.map(|why| format!("hosts and projections: {why}")),
        hook_errors: environment.home.hook_errors()?.map(|errors| HookErrorsLine {
            path: errors.path,
            count: errors.count,
            last: errors.last,
        }),
    };
    print_one(global, &status, || text(&status))?;
    Ok(ExitCode::SUCCESS)
}

/// What this host's cursors say; nothing where this host never ingested into the ledger.
fn sources(context: &Context, ledger: &Ledger) -> anyhow::Result<Vec<SourceLine>> {
    let state = context.environment.home.ledger_state(ledger.location().id);
    let key = match context.environment.given_key()? {
        None if state.key().exists() => Some(burnlog_host::load_or_create_key(&state.key())?),
        given => given,
    };
    let Some(key) = key else { return Ok(Vec::new()) };
    let cursors = CursorFile::open_to_look(state.cursors(), key.writer())?;
    let line = |source| {
        let state = cursors.source_state(source);
        SourceLine { source, files: state.files, pending_bytes: state.pending_bytes }
    };
    Ok(burnlog_sources::names().map(line).collect())
}

fn text(status: &Status) -> String {
    let Status { ledger, feeds, projections, sources, unpushed, .. } = status;
    let mut text = format!(
        "burnlog {}\n{} ({}, id {})\n  {}, {} of payloads, {} on disk\n",
        status.version,
        ledger.url,
        ledger.backend,
        ledger.id,
        counted(ledger.events, "event"),
        bytes(ledger.payload_bytes),
        bytes(ledger.bytes_on_disk)
    );
    for feed in feeds {
        text.push_str(&format!(
            "  feed {} of {}: {} entries, last {}\n",
            &feed.writer.to_string()[..24],
            feed.host.as_deref().unwrap_or("an unknown host"),
            count(feed.size),
            feed.recorded_at
        ));
    }
    let behind = projections.first().map_or(0, |line| line.behind);
    text.push_str(&match behind {
        _ if status.withheld.is_some() => String::new(),
        0 => "projections: up to date\n".to_owned(),
        _ => format!("projections: {} entries behind; run burnlog project update\n", count(behind)),
    });
    for line in sources {
        text.push_str(&format!(
            "{}: {} known to this host, {} pending\n",
            line.source,
            counted(line.files, "file"),
            bytes(line.pending_bytes)
        ));
    }
    if let Some(withheld) = &status.withheld {
        text.push_str(&format!("not shown: {withheld}\n"));
    }
    if let Some(unpushed) = unpushed {
        text.push_str(&unpushed.text());
    }
    if let Some(errors) = &status.hook_errors {
        text.push_str(&format!(
            "hooks: {}, the last: {}\n  ({}; delete it when it is of no use any more)\n",
            counted(errors.count, "error"),
            errors.last,
            errors.path.display()
        ));
    }
    text
}
