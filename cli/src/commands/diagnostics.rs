//! `burnlog diagnostics`: what was understood and what was not, by type and version.

use super::Context;
use crate::output::{Column, Cut, Printer, count};
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

pub(super) fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let store = context.queries()?;
    let mut lines: Vec<Line> = diagnostics(&*store)?.iter().map(line).collect();
    lines.sort_by(|one, two| {
        (&one.source, &one.record_type, &one.version).cmp(&(&two.source, &two.record_type, &two.version))
    });
    let mut printer = Printer::new(&context.global, COLUMNS);
    lines.iter().try_for_each(|line| printer.row(line))?;
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
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
