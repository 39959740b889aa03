//! `burnlog conflicts`: what contradicts itself under one identity, every form of it.

use super::Context;
use crate::args::Conflicts;
use crate::filter::{self, ChosenSessions};
use crate::output::{Column, Cut, Printer, minute, say};
use burnlog_log::{Address, Timestamp};
use burnlog_projections::{Call, Conflict, Queries, Row, Value, conflicts, live};
use std::borrow::Cow;
use std::process::ExitCode;

/// The fields of `conflicts --json`.
#[derive(serde::Serialize)]
struct Line {
    source: String,
    kind: String,
    identity: String,
    form: String,
    copied: bool,
    timestamp: Option<Timestamp>,
    session: Option<String>,
    stream: Option<String>,
    address: Address,
}

const COLUMNS: &[Column<Line>] = &[
    Column::text("kind", |line| line.kind.clone()),
    Column::shrinking("identity", Cut::End, |line| line.identity.clone()),
    Column::shrinking("form", Cut::End, |line| line.form.clone()),
    Column::text("time", |line| minute(line.timestamp)),
    Column::shrinking("session", Cut::End, |line| line.session.clone().unwrap_or_default()),
    Column::text("address", |line| line.address.to_string()[..15].to_owned()),
];

pub(super) fn run(context: &Context, arguments: &Conflicts) -> anyhow::Result<ExitCode> {
    let store = context.queries()?;
    let chosen = ChosenSessions::of(&filter::of_arguments(&arguments.filter, &*store)?, &*store)?;
    let mut printer = Printer::new(&context.global, COLUMNS).without_word();
    let mut left = arguments.filter.limit.unwrap_or(usize::MAX);
    let all = conflicts(&*store)?;
    // All forms of one thing stand together.
    let same = |one: &Conflict, other: &Conflict| {
        (&one.source, &one.kind, &one.identity) == (&other.source, &other.kind, &other.identity)
    };
    for forms in all.chunk_by(same) {
        if !is_chosen(forms, &chosen, &*store)? {
            continue;
        }
        for form in forms.iter().take(left) {
            printer.row(&line(form.clone()))?;
        }
        left = left.saturating_sub(forms.len());
    }
    if printer.finish()? == 0 {
        let what =
            if chosen.are_all() { "nothing contradicts itself" } else { "nothing there contradicts itself" };
        say(&context.global, &format!("burnlog: {what}"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a chosen session has one of the forms of a thing, or is the home of the call that they are forms of.
fn is_chosen(forms: &[Conflict], chosen: &ChosenSessions, store: &dyn Queries) -> burnlog_log::Result<bool> {
    let named = forms.iter().filter(|form| !form.session.is_empty());
    if chosen.are_all() || named.into_iter().any(|form| chosen.have(&form.source, &form.session)) {
        return Ok(true);
    }
    let Some(form) = forms.first() else { return Ok(false) };
    let key = [Value::Text(Cow::Borrowed(&*form.source)), Value::Text(Cow::Borrowed(&form.identity))];
    let call = store.get(live(store)?, Call::TABLE, &key)?.map(Call::read).transpose()?;
    Ok(call.is_some_and(|call| chosen.have(&call.source, &call.session)))
}

fn line(conflict: Conflict) -> Line {
    // A form of a call names neither: the call may be at home elsewhere.
    let named = |name: burnlog_projections::Name| Some(name.to_string()).filter(|name| !name.is_empty());
    Line {
        source: conflict.source.to_string(),
        kind: conflict.kind.to_string(),
        identity: conflict.identity,
        form: conflict.form,
        copied: conflict.copied,
        timestamp: conflict.timestamp,
        session: named(conflict.session),
        stream: named(conflict.stream),
        address: conflict.place,
    }
}
