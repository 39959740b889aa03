//! `burnlog relationships`: how sessions and subagents hang together, as rows, as a tree, or for a drawing program.

use super::Context;
use crate::args::Relationships;
use crate::filter::{self, ChosenSessions};
use crate::graph::Graph;
use crate::output::{Column, Cut, Printer, minute, say};
use burnlog_log::{Address, Error, ErrorKind, Result, Timestamp};
use burnlog_projections::{Link, Name, for_each_link, relationships, resolve_session};
use std::io::Write;
use std::process::ExitCode;

/// The fields of `relationships --json`.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct LinkLine {
    pub(crate) source: String,
    pub(crate) kind: String,
    pub(crate) from_session: Option<String>,
    pub(crate) from_stream: Option<String>,
    pub(crate) to_session: String,
    pub(crate) to_stream: Option<String>,
    pub(crate) agent: Option<String>,
    pub(crate) tool_use: Option<String>,
    /// The id of the record from which it came out.
    pub(crate) record: Option<String>,
    pub(crate) at: Option<Timestamp>,
    /// The record that states it.
    pub(crate) address: Option<Address>,
    /// How many records both files have.
    pub(crate) copied_records: Option<u64>,
    /// The number of the last of them in `to_stream`.
    pub(crate) copied_to_seq: Option<u64>,
}

const COLUMNS: &[Column<LinkLine>] = &[
    Column::text("kind", |line| line.kind.clone()),
    Column::shrinking("from", Cut::End, |line| line.from_session.clone().unwrap_or_default()),
    Column::shrinking("to", Cut::End, |line| line.to_session.clone()),
    Column::shrinking("agent", Cut::End, |line| line.agent.clone().unwrap_or_default()),
    Column::text("at", |line| minute(line.at)),
    Column::number("copied", |line| line.copied_records.map(|it| it.to_string()).unwrap_or_default()),
    Column::shrinking("stream", Cut::Start, |line| line.to_stream.clone().unwrap_or_default()),
];

pub(super) fn run(context: &Context, arguments: &Relationships) -> anyhow::Result<ExitCode> {
    let global = &context.global;
    let drawing = arguments.tree || arguments.dot || arguments.mermaid;
    if drawing && (global.json || global.csv) {
        let message = "a drawing is no list; leave --json and --csv, or --tree, --dot and --mermaid";
        return Err(Error::new(ErrorKind::Invalid, "read arguments", message).into());
    }
    let store = context.queries()?;
    let filter = filter::of_arguments(&arguments.filter, &*store)?;
    let chosen = ChosenSessions::of(&filter, &*store)?;
    let mut left = arguments.filter.limit.unwrap_or(usize::MAX);
    let session = arguments.around.as_deref().map(|name| resolve_session(&*store, name)).transpose()?;
    if drawing {
        let mut graph = Graph::default();
        for_each_link(&*store, &mut |link| {
            let line = line(link);
            if left > 0 && is_chosen(&line, &chosen) {
                left -= 1;
                graph.add(line);
            }
            Ok(())
        })?;
        if let Some((source, session)) = &session {
            graph.keep_around(source, session);
        }
        let mut out = std::io::BufWriter::new(std::io::stdout().lock());
        match (arguments.dot, arguments.mermaid) {
            (true, _) => graph.write_dot(&mut out)?,
            (_, true) => graph.write_mermaid(&mut out)?,
            _ => graph.write_tree(&mut out)?,
        }
        out.flush()?;
        return Ok(ExitCode::SUCCESS);
    }
    let word = "nothing hangs together with another session or a subagent";
    let mut printer = Printer::new(global, COLUMNS).with_word(word);
    let mut row = |line: LinkLine| {
        if left == 0 || !is_chosen(&line, &chosen) {
            return Ok(());
        }
        left -= 1;
        printer.row(&line)
    };
    match &session {
        None => for_each_line(&*store, &mut row)?,
        Some((source, session)) => {
            let known = relationships(&*store, source, session)?;
            if known.root != *session {
                say(global, &format!("burnlog: the chain of this session begins with {}", known.root));
            }
            known.links.into_iter().try_for_each(|link| row(line(link)))?;
        }
    }
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Whether one of its ends is in a chosen session.
pub(super) fn is_chosen(line: &LinkLine, chosen: &ChosenSessions) -> bool {
    let ends = [Some(&line.to_session), line.from_session.as_ref()];
    ends.into_iter().flatten().any(|session| chosen.have(&line.source, session))
}

/// Calls `each` with every relationship of the ledger.
pub(super) fn for_each_line(
    store: &dyn burnlog_projections::Queries,
    each: &mut dyn FnMut(LinkLine) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut failed = Ok(());
    for_each_link(store, &mut |link| {
        if failed.is_ok() {
            failed = each(line(link));
        }
        Result::Ok(())
    })?;
    failed
}

/// Makes the line of a relationship.
pub(super) fn line(link: Link) -> LinkLine {
    let name = |name: Option<Name>| name.map(|name| name.to_string());
    LinkLine {
        source: link.source.to_string(),
        kind: link.kind.to_string(),
        from_session: name(link.from_session),
        from_stream: name(link.from_stream),
        to_session: link.to_session.to_string(),
        to_stream: name(link.to_stream),
        agent: name(link.agent),
        tool_use: link.tool_use,
        record: link.record,
        at: link.at,
        address: link.place,
        copied_records: link.copied.map(|copied| copied.records),
        copied_to_seq: link.copied.map(|copied| copied.end.seq),
    }
}
