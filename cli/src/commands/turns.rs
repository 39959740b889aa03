//! `burnlog turns`: API calls in the order of time.

use super::Context;
use crate::args;
use crate::filter;
use crate::output::{Column, Cut, Printer, count, minute};
use burnlog_log::Timestamp;
use burnlog_projections::{Tokens, Turn};
use std::process::ExitCode;

/// The fields of `turns --json`. Absent numbers are null, never 0.
#[derive(serde::Serialize)]
pub(super) struct Line {
    pub(super) source: String,
    pub(super) session: String,
    pub(super) stream: String,
    pub(super) call: String,
    pub(super) request: Option<String>,
    pub(super) model: Option<String>,
    pub(super) timestamp: Option<Timestamp>,
    pub(super) input_tokens: Option<i64>,
    pub(super) output_tokens: Option<i64>,
    pub(super) cache_read_tokens: Option<i64>,
    pub(super) cache_write_5m_tokens: Option<i64>,
    pub(super) cache_write_1h_tokens: Option<i64>,
    pub(super) reasoning_tokens: Option<i64>,
    pub(super) stop_reason: Option<String>,
    pub(super) complete: bool,
    pub(super) project: Option<String>,
    pub(super) cwd: Option<String>,
    pub(super) branch: Option<String>,
    pub(super) sidechain: bool,
}

const COLUMNS: &[Column<Line>] = &[
    Column::text("time", |line| minute(line.timestamp)),
    Column::shrinking("session", Cut::End, |line: &Line| line.session.clone()).told_by(9),
    Column::shrinking("model", Cut::End, |line: &Line| line.model.clone().unwrap_or_default()).told_by(18),
    Column::number("input", |line| number(line.input_tokens)),
    Column::number("cache read", |line| number(line.cache_read_tokens)),
    Column::number("cache write", |line| {
        let parts = [line.cache_write_5m_tokens, line.cache_write_1h_tokens];
        number(parts.iter().any(Option::is_some).then(|| parts.iter().flatten().sum()))
    }),
    // Without a final row the output is a floor.
    Column::number("output", |line| {
        format!("{}{}", if line.complete { "" } else { "≥" }, number(line.output_tokens))
    }),
    Column::text("stop", |line: &Line| line.stop_reason.clone().unwrap_or_default()).spare(),
    Column::shrinking("call", Cut::End, |line: &Line| line.call.clone()).spare(),
];

pub(super) fn run(context: &Context, arguments: &args::Filter) -> anyhow::Result<ExitCode> {
    let store = context.queries()?;
    let filter = filter::of_arguments(arguments, &*store)?;
    let mut printer = Printer::new(&context.global, COLUMNS);
    filter::for_each(arguments.limit, |page| store.turns(&filter, page), |turn| printer.row(&line(turn)))?;
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Makes the line of a call.
pub(super) fn line(turn: Turn) -> Line {
    let Turn { call, project } = turn;
    let tokens = |tokens: Option<Tokens>| tokens.map(|tokens| tokens.0);
    let name = |name: Option<burnlog_projections::Name>| name.map(|name| name.to_string());
    Line {
        source: call.source.to_string(),
        session: call.session.to_string(),
        stream: call.stream.to_string(),
        call: call.call,
        request: call.request,
        model: name(call.model),
        timestamp: call.timestamp,
        input_tokens: tokens(call.input_tokens),
        output_tokens: tokens(call.output_tokens),
        cache_read_tokens: tokens(call.cache_read_tokens),
        cache_write_5m_tokens: tokens(call.cache_write_5m_tokens),
        cache_write_1h_tokens: tokens(call.cache_write_1h_tokens),
        reasoning_tokens: tokens(call.reasoning_tokens),
        stop_reason: name(call.stop_reason),
        complete: call.complete,
        project: name(project),
        cwd: name(call.cwd),
        branch: name(call.branch),
        sidechain: call.sidechain,
    }
}

fn number(number: Option<i64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| count(number.max(0) as u64))
}
