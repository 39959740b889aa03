//! `burnlog conflicts`: what contradicts itself under one identity, every form of it.

use super::Context;
use crate::args::Conflicts;
use crate::filter::{self, ChosenSessions};
use crate::output::{Column, Cut, Printer, minute};
use burnlog_log::{Address, Result, Timestamp};
use burnlog_projections::{Call, Conflict, Queries, Row, Value, conflicts, live};
use std::borrow::Cow;
use std::collections::HashSet;
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
    let word =
        if chosen.are_all() { "nothing contradicts itself" } else { "nothing there contradicts itself" };
    let mut printer = Printer::new(&context.global, COLUMNS).with_word(word);
    let mut left = arguments.filter.limit.unwrap_or(usize::MAX);
    let all = conflicts(&*store)?;
    for forms in all.chunk_by(are_of_one) {
        if !is_chosen(forms, &chosen, &*store)? {
            continue;
        }
        for form in forms.iter().take(left) {
            printer.row(&line(form.clone()))?;
        }
        left = left.saturating_sub(forms.len());
    }
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// Whether these are forms of one thing; all forms of it stand together.
fn are_of_one(one: &Conflict, other: &Conflict) -> bool {
    (&one.source, &one.kind, &one.identity) == (&other.source, &other.kind, &other.identity)
}

/// Returns source, kind and identity of what contradicts itself in a chosen session.
pub(super) fn chosen(sessions: &ChosenSessions, store: &dyn Queries) -> Result<HashSet<Vec<String>>> {
    let mut chosen = HashSet::new();
    for forms in conflicts(store)?.chunk_by(are_of_one) {
        if let (Some(form), true) = (forms.first(), is_chosen(forms, sessions, store)?) {
            chosen.insert(vec![form.source.to_string(), form.kind.to_string(), form.identity.clone()]);
        }
    }
    Ok(chosen)
}

/// Whether a chosen session has one of the forms of a thing, or is the home of the call that they are forms of.
fn is_chosen(forms: &[Conflict], chosen: &ChosenSessions, store: &dyn Queries) -> Result<bool> {
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
