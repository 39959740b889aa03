//! `burnlog diagnostics`: what was understood and what was not, by type and version.

use super::Context;
use crate::args;
use crate::filter::{self, ChosenSessions};
use crate::output::{Column, Cut, Printer, count, counted, say};
use burnlog_log::{Ledger, Limit};
use burnlog_projections::{Diagnostic, Filter, Queries, Recount, Recounted, diagnostics};
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

pub(super) fn run(context: &Context, arguments: &args::Filter) -> anyhow::Result<ExitCode> {
    let (ledger, store) = context.ledger_and_queries()?;
    let filter = filter::of_arguments(arguments, &*store)?;
    let mut rows = rows(context, &ledger, &*store, &filter)?;
    rows.sort_by(|one, two| {
        (&one.source, &one.record_type, &one.version).cmp(&(&two.source, &two.record_type, &two.version))
    });
    let mut printer = Printer::new(&context.global, COLUMNS);
    let limit = arguments.limit.unwrap_or(usize::MAX);
    rows.iter().take(limit).try_for_each(|row| printer.row(&line(row)))?;
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// The counts of the records that a filter chooses, in the order of their keys: by the source of a record alone as they are kept, else
/// counted anew, of all records of the sessions that the filter lets through.
pub(super) fn rows(
    context: &Context,
    ledger: &Ledger,
    store: &dyn Queries,
    filter: &Filter,
) -> anyhow::Result<Vec<Diagnostic>> {
    if *filter == (Filter { source: filter.source.clone(), ..Filter::default() }) {
        let is_asked_for =
            |row: &Diagnostic| filter.source.as_ref().is_none_or(|source| *source == *row.source);
        return Ok(diagnostics(store)?.into_iter().filter(is_asked_for).collect());
    }
    let chosen = ChosenSessions::of(filter, store)?;
    let mut recount = Recount::new(store, ledger, Limit::default());
    chosen.each().try_for_each(|(source, session)| recount.add(source, session))?;
    let Recounted { rows, unread } = recount.finish();
    if unread > 0 {
        let records = counted(unread, "record");
        say(
            &context.global,
            &format!(
                "burnlog: {records} cannot be read any more and count without version and type; run burnlog verify"
            ),
        );
    }
    Ok(rows)
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
