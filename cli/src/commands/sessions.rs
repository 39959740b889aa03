//! `burnlog sessions`: what there is, newest first.

use super::Context;
use crate::args;
use crate::filter;
use crate::output::{Column, Cut, Printer, count, minute};
use burnlog_log::Timestamp;
use burnlog_projections::{HostLabels, Name, Queries, Session, session_hosts, stream_feeds};
use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

/// The fields of `sessions --json`.
#[derive(Debug, serde::Serialize)]
pub(crate) struct SessionLine {
    pub(crate) source: String,
    pub(crate) session: String,
    pub(crate) project: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) first_at: Option<Timestamp>,
    pub(crate) last_at: Option<Timestamp>,
    pub(crate) streams: i64,
    pub(crate) calls: i64,
    pub(crate) incomplete_calls: i64,
    pub(crate) copied_calls: i64,
    pub(crate) prompts: i64,
    pub(crate) tool_uses: i64,
    pub(crate) tool_errors: i64,
    pub(crate) compactions: i64,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
    pub(crate) cache_read_tokens: i64,
    pub(crate) cache_write_tokens: i64,
    pub(crate) reasoning_tokens: i64,
    /// The hosts that have records of the session, joined by commas.
    pub(crate) hosts: Hosts,
}

/// Labels of hosts, joined by commas.
#[derive(Debug)]
pub(crate) struct Hosts(Vec<String>);

impl crate::sheet::IntoCell for Hosts {
    const KIND: crate::sheet::FieldKind = crate::sheet::FieldKind::Text;
    fn cell(&self) -> crate::sheet::Cell {
        crate::sheet::Cell::Text(self.0.join(","))
    }
}

impl serde::Serialize for Hosts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // One text in JSON as well: CSV has no lists, and both name the same fields.
        serializer.collect_str(&self.0.join(","))
    }
}

const COLUMNS: &[Column<SessionLine>] = &[
    Column::text("last", |line| minute(line.last_at)),
    Column::text("source", |line: &SessionLine| line.source.clone()).spare(),
    // A unique prefix names a session everywhere.
    Column::shrinking("session", Cut::End, |line: &SessionLine| line.session.clone()).told_by(9),
    Column::shrinking("project", Cut::Start, |line| line.project.clone().unwrap_or_default()),
    Column::number("calls", |line| count(line.calls as u64)),
    Column::number("prompts", |line: &SessionLine| count(line.prompts as u64)).spare(),
    Column::number("errors", |line: &SessionLine| count(line.tool_errors as u64)).spare(),
    Column::number("input", |line| {
        count((line.input_tokens + line.cache_read_tokens + line.cache_write_tokens) as u64)
    }),
    Column::number("output", |line| count(line.output_tokens as u64)),
    Column::shrinking("title", Cut::End, |line| line.title.clone().unwrap_or_default()),
];

pub(super) fn run(context: &Context, arguments: &args::Filter) -> anyhow::Result<ExitCode> {
    let store = context.queries()?;
    let filter = filter::of_arguments(arguments, &*store)?;
    let mut hosts = SessionHosts::new(&*store)?;
    let mut printer = Printer::new(&context.global, COLUMNS);
    filter::for_each(
        arguments.limit,
        |page| store.sessions(&filter, page),
        |session| printer.row(&line(session, &mut hosts)?),
    )?;
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the line of a session.
pub(super) fn line(row: Session, hosts: &mut SessionHosts<'_>) -> burnlog_log::Result<SessionLine> {
    Ok(SessionLine {
        hosts: Hosts(hosts.of(&row)?),
        source: row.source.to_string(),
        session: row.session.to_string(),
        project: row.project.map(|name| name.to_string()),
        title: row.title,
        first_at: row.first_at,
        last_at: row.last_at,
        streams: row.streams,
        calls: row.calls,
        incomplete_calls: row.incomplete_calls,
        copied_calls: row.copied_calls,
        prompts: row.prompts,
        tool_uses: row.tool_uses,
        tool_errors: row.tool_errors,
        compactions: row.compactions,
        input_tokens: row.input_tokens,
        output_tokens: row.output_tokens,
        cache_read_tokens: row.cache_read_tokens,
        cache_write_tokens: row.cache_write_5m_tokens.saturating_add(row.cache_write_1h_tokens),
        reasoning_tokens: row.reasoning_tokens,
    })
}

/// Tells which hosts have records of a session: of a few sessions by looking at each, of many by looking at all at once.
pub(super) struct SessionHosts<'a> {
    store: &'a dyn Queries,
    labels: HostLabels,
    looked: usize,
    all: Option<BTreeMap<(Name, Name), BTreeSet<String>>>,
}

/// From so many sessions on, reading everything is cheaper.
const LOOKS_MAX: usize = 24;

impl<'a> SessionHosts<'a> {
    pub(super) fn new(store: &'a dyn Queries) -> burnlog_log::Result<Self> {
        Ok(Self { store, labels: HostLabels::read(store)?, looked: 0, all: None })
    }

    fn of(&mut self, session: &Session) -> burnlog_log::Result<Vec<String>> {
        self.looked += 1;
        if self.looked > LOOKS_MAX {
            let all = match &mut self.all {
                Some(all) => all,
                none => none.insert(session_hosts(self.store)?),
            };
            let key = (session.source.clone(), session.session.clone());
            return Ok(all.get(&key).into_iter().flatten().cloned().collect());
        }
        let mut labels = BTreeSet::new();
        for stream in self.store.streams(&session.source, &session.session)? {
            let feeds = stream_feeds(self.store, &stream.source, &stream.stream)?;
            labels.extend(feeds.iter().map(|seen| self.labels.of(&seen.feed)));
        }
        Ok(labels.into_iter().collect())
    }
}
