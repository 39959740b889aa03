//! `burnlog sessions`: what there is, newest first.

use super::Context;
use crate::args;
use crate::filter;
use crate::output::{Column, Cut, Printer, count, minute};
use burnlog_log::{Timestamp, WriterId};
use burnlog_projections::{Queries, RowReader, Session, feeds, stream_feeds};
use std::collections::BTreeMap;
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
    Column::text("source", |line| line.source.clone()),
    Column::shrinking("session", Cut::End, |line| line.session.clone()),
    Column::shrinking("project", Cut::Start, |line| line.project.clone().unwrap_or_default()),
    Column::number("calls", |line| count(line.calls as u64)),
    Column::number("prompts", |line| count(line.prompts as u64)),
    Column::number("errors", |line| count(line.tool_errors as u64)),
    Column::number("input", |line| {
        count((line.input_tokens + line.cache_read_tokens + line.cache_write_tokens) as u64)
    }),
    Column::number("output", |line| count(line.output_tokens as u64)),
    Column::shrinking("title", Cut::End, |line| line.title.clone().unwrap_or_default()),
];

pub(super) fn run(context: &Context, arguments: &args::Filter) -> anyhow::Result<ExitCode> {
    let store = context.queries()?;
    let filter = filter::of_arguments(arguments, &store)?;
    let hosts = HostLabels::read(&store)?;
    let mut printer = Printer::new(&context.global, COLUMNS);
    filter::for_each(
        arguments.limit,
        |page| store.sessions(&filter, page),
        |session| printer.row(&line(session, &hosts, &store)?),
    )?;
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the line of a session.
pub(super) fn line(
    row: Session,
    labels: &HostLabels,
    store: &impl Queries,
) -> burnlog_log::Result<SessionLine> {
    Ok(SessionLine {
        hosts: Hosts(labels.of_session(store, &row)?),
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

/// What each writer calls itself. Equal labels of two writers are told apart by the first digits of their keys.
pub(super) struct HostLabels(BTreeMap<Vec<u8>, String>);

impl HostLabels {
    pub(super) fn read(store: &impl RowReader) -> burnlog_log::Result<Self> {
        let feeds = feeds(store)?;
        let mut writers: BTreeMap<&str, u32> = BTreeMap::new();
        for feed in &feeds {
            *writers.entry(feed.host.as_deref().unwrap_or_default()).or_default() += 1;
        }
        let label = |feed: &burnlog_projections::Feed| {
            let host = feed.host.as_deref().unwrap_or_default();
            let key = u16::from_be_bytes([0, 1].map(|at| feed.feed.get(at).copied().unwrap_or_default()));
            if writers[host] > 1 { format!("{host}#{key:04x}") } else { host.to_owned() }
        };
        Ok(Self(feeds.iter().map(|feed| (feed.feed.clone(), label(feed))).collect()))
    }

    pub(super) fn of_writer(&self, writer: &WriterId) -> Option<String> {
        self.0.get(&writer.0[..]).cloned()
    }

    fn of_session(&self, store: &impl Queries, session: &Session) -> burnlog_log::Result<Vec<String>> {
        let mut labels = Vec::new();
        for stream in store.streams(&session.source, &session.session)? {
            for seen in stream_feeds(store, &stream.source, &stream.stream)? {
                labels.extend(self.0.get(&seen.feed).cloned());
            }
        }
        labels.sort();
        labels.dedup();
        Ok(labels)
    }
}
