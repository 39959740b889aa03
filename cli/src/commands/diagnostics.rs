//! `burnlog diagnostics`: what was understood and what was not, by type and version.

use super::Context;
use crate::args;
use crate::filter::check_source;
use crate::output::{Column, Cut, Printer, count};
use burnlog_log::{Error, ErrorKind, Result};
use burnlog_projections::{Diagnostic, diagnostics};
use std::process::ExitCode;

/// The fields of `diagnostics --json`.
#[derive(serde::Serialize)]
struct Line {
    source: String,
    version: String,
    record_type: String,
    understood: i64,
    unknown: i64,
    unreadable: i64,
    superseded: i64,
    oversized: i64,
    erased: i64,
    other_kinds: i64,
}

const COLUMNS: &[Column<Line>] = &[
    Column::text("source", |line| line.source.clone()),
    Column::shrinking("type", Cut::End, |line| line.record_type.clone()),
    Column::text("version", |line| line.version.clone()),
    Column::number("understood", |line| count(line.understood as u64)),
    Column::number("unknown", |line| count(line.unknown as u64)),
    Column::number("unreadable", |line| count(line.unreadable as u64)),
    Column::number("other", |line| {
        count((line.superseded + line.oversized + line.erased + line.other_kinds) as u64)
    }),
];

pub(super) fn run(context: &Context, filter: &args::Filter) -> anyhow::Result<ExitCode> {
    refuse_what_is_not_counted(filter)?;
    let store = context.queries()?;
    if let Some(source) = &filter.source {
        check_source(source, &*store)?;
    }
    let is_asked_for = |row: &&Diagnostic| filter.source.as_ref().is_none_or(|source| *source == *row.source);
    let mut lines: Vec<Line> = diagnostics(&*store)?.iter().filter(is_asked_for).map(line).collect();
    lines.sort_by(|one, two| {
        (&one.source, &one.record_type, &one.version).cmp(&(&two.source, &two.record_type, &two.version))
    });
    let mut printer = Printer::new(&context.global, COLUMNS);
    let limit = filter.limit.unwrap_or(usize::MAX);
    lines.iter().take(limit).try_for_each(|line| printer.row(line))?;
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// A count knows its source, version and type, and neither time nor session: a filter by those would show what it does not
/// say.
fn refuse_what_is_not_counted(filter: &args::Filter) -> Result<()> {
    let flags = [
        ("--since", filter.since.is_some()),
        ("--until", filter.until.is_some()),
        ("--project", filter.project.is_some()),
        ("--session", filter.session.is_some()),
        ("--model", filter.model.is_some()),
        ("--host", filter.host.is_some()),
        ("--tag", !filter.tag.is_empty()),
    ];
    match flags.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((flag, _)) => {
            let message = format!(
                "records are counted by source, version and type, of all sessions together; leave {flag} out; \
                 `export --table records` tells what each record is"
            );
            Err(Error::new(ErrorKind::Invalid, "read arguments", message))
        }
    }
}

fn line(row: &Diagnostic) -> Line {
    Line {
        source: row.source.to_string(),
        version: row.version.to_string(),
        record_type: row.record_type.to_string(),
        understood: row.understood,
        unknown: row.unknown,
        unreadable: row.unreadable,
        superseded: row.superseded,
        oversized: row.oversized,
        erased: row.erased,
        other_kinds: row.other_kinds,
    }
}
