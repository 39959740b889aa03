//! `burnlog project`: the rows that are folded from the ledger.

use super::Context;
use crate::args::{Global, Project};
use crate::environment::Environment;
use crate::folding;
use crate::open::{self, Access, StoreUrl};
use crate::output::{Column, Printer, count, counted, print_one};
use crate::progress::Waiting;
use anyhow::Context as _;
use burnlog_log::{Error, ErrorKind, Ledger};
use burnlog_projections::{
    CaughtUp, DumpOptions, FoldLimits, FoldStore, Projections, Projector, TABLES, dump, status,
};
use std::io::{BufWriter, Write};
use std::process::ExitCode;
use std::time::Instant;

pub(super) fn run(context: &Context, project: &Project) -> anyhow::Result<ExitCode> {
    match project {
        Project::Status => show_status(context),
        Project::Update => fold(context, "updated", open::folds, |store, ledger, limits| {
            Projector::new(store, ledger, limits)
        }),
        Project::Rebuild => fold(context, "rebuilt", open::folds_anew, |store, ledger, limits| {
            Projector::rebuild(store, ledger, limits)
        }),
        Project::Dump { projection, hosts } => {
            let options = DumpOptions { projection: projection.clone(), hosts: *hosts };
            print_dump(context, &options)
        }
    }
}

/// The fields of `project update --json` and `project rebuild --json`.
#[derive(serde::Serialize)]
struct Folded {
    feeds: u64,
    entries: u64,
    damaged: u64,
    unsupported: u64,
    elapsed_ms: u64,
}

fn fold(
    context: &Context,
    verb: &str,
    open_store: impl Fn(&Ledger, &Environment, &Global) -> burnlog_log::Result<Option<Box<dyn Projections>>>,
    open_projector: impl for<'s> Fn(
        &'s mut dyn FoldStore,
        &Ledger,
        FoldLimits,
    ) -> burnlog_log::Result<Projector<'s>>,
) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    let Context { global, environment } = context;
    let ledger = open::ledger(&StoreUrl::choose(global, environment)?, Access::Read, global)?;
    let Some(mut store) = open_store(&ledger, environment, global)? else {
        let message = "the server folds this ledger by itself; run this where the server's store is";
        return Err(Error::new(ErrorKind::Invalid, "fold", message).at(ledger.location().url).into());
    };
    let waiting = Waiting::start("folding", global.quiet);
    let mut projector = open_projector(&mut *store, &ledger, folding::limits(environment, folding::WAIT))?;
    let CaughtUp { feeds, entries, damaged, unsupported } =
        folding::catch_up_or_anew(&mut projector, &ledger, global)?;
    drop(waiting);
    let elapsed_ms = start.elapsed().as_millis() as u64;
    let folded = Folded { feeds, entries, damaged, unsupported, elapsed_ms };
    print_one(global, &folded, || {
        let mut text = format!(
            "{verb}: {} entries of {} in {:.2} s\n",
            count(entries),
            counted(feeds, "feed"),
            elapsed_ms as f64 / 1000.0
        );
        if damaged > 0 {
            text.push_str(&format!(
                "{} could not be read and were passed over; run burnlog verify\n",
                count(damaged)
            ));
        }
        if unsupported > 0 {
            text.push_str(&format!(
                "{} are of a newer program and were passed over; upgrade burnlog\n",
                count(unsupported)
            ));
        }
        text
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The fields of `project status --json`.
#[derive(serde::Serialize)]
pub(super) struct ProjectionLine {
    pub(super) name: &'static str,
    pub(super) version: u32,
    pub(super) behind: u64,
}

const COLUMNS: &[Column<ProjectionLine>] = &[
    Column::text("projection", |line| line.name.to_owned()),
    Column::number("version", |line| line.version.to_string()),
    Column::number("behind", |line| count(line.behind)),
];

fn show_status(context: &Context) -> anyhow::Result<ExitCode> {
    let Context { global, environment } = context;
    let ledger = open::ledger(&StoreUrl::choose(global, environment)?, Access::Read, global)?;
    let lines = projection_lines(context, &ledger)?;
    let mut printer = Printer::new(global, COLUMNS);
    lines.iter().try_for_each(|line| printer.row(line))?;
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

/// One line for each projection: how many entries of the ledger it lacks.
pub(super) fn projection_lines(context: &Context, ledger: &Ledger) -> anyhow::Result<Vec<ProjectionLine>> {
    let store = open::queries(ledger, &context.environment, &context.global);
    let folded = match store.and_then(|store| status(&*store)) {
        Ok(status) => Some(status),
        Err(error) if error.kind() == burnlog_log::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let (version, cursors) = folded.map_or((0, Vec::new()), |status| (status.version, status.cursors));
    let behind = folding::behind(ledger, &cursors)?;
    Ok(TABLES.iter().map(|table| ProjectionLine { name: table.name, version, behind }).collect())
}

fn print_dump(context: &Context, options: &DumpOptions) -> anyhow::Result<ExitCode> {
    let store = context.queries()?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut failed = None;
    let result = dump(&*store, options, &mut |line| {
        writeln!(out, "{line}").map_err(|error| {
            let kind = burnlog_log::ErrorKind::Unavailable;
            let ours = burnlog_log::Error::new(kind, "dump", "standard output failed");
            failed = Some(error);
            ours
        })
    });
    if let Some(error) = failed {
        return Err(error).context("dump");
    }
    result?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
