//! `burnlog conflicts`: what contradicts itself under one identity, every form of it.

use super::Context;
use crate::output::{Column, Cut, Printer, minute, say};
use burnlog_log::{Address, Timestamp};
use burnlog_projections::{Conflict, conflicts};
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

pub(super) fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let mut printer = Printer::new(&context.global, COLUMNS);
    for conflict in conflicts(&*context.queries()?)? {
        printer.row(&line(conflict))?;
    }
    if printer.finish()? == 0 {
        say(&context.global, "burnlog: nothing contradicts itself");
    }
    Ok(ExitCode::SUCCESS)
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
