//! `burnlog verify`: recomputes everything and names what does not fit.

use super::{Context, FOUND_WANTING};
use crate::open::{self, Access, StoreUrl};
use crate::output::{Column, Cut, Printer, bytes, counted};
use crate::progress::Waiting;
use burnlog_host::RememberedHeads;
use burnlog_log::{Finding, Severity, verify};
use std::process::ExitCode;

const COLUMNS: &[Column<Finding>] = &[
    Column::text("severity", |finding| format!("{:?}", finding.severity).to_lowercase()),
    Column::text("code", |finding| finding.code.to_owned()),
    Column::shrinking("place", Cut::Start, place),
    Column::shrinking("finding", Cut::End, |finding| finding.message.clone()),
];

pub(super) fn run(context: &Context) -> anyhow::Result<ExitCode> {
    let Context { global, environment } = context;
    let url = StoreUrl::choose(global, environment)?;
    let ledger = open::ledger(&url, Access::Read, global)?;
    // What is withheld cannot be told from damage afterwards.
    open::require_reading(&ledger, "verify")?;
    let state = environment.home.ledger_state(ledger.location().id);
    let mut remembered = RememberedHeads::load(&state.heads())?;
    let mut printer = Printer::new(global, COLUMNS).without_word();
    let mut failed = None;
    let waiting = Waiting::start("verifying", global.quiet);
    let verified = verify(&ledger, &remembered.all(), &mut |finding| {
        // Notes are for those who ask for JSON; a table shows what is wrong.
        if failed.is_none() && (global.json || finding.severity > Severity::Note) {
            failed = printer.row(&finding).err();
        }
    })?;
    drop(waiting);
    if let Some(error) = failed {
        return Err(error);
    }
    printer.finish()?;
    let summary = format!(
        "{}: {} in {}, {} signed heads, {} of payloads: {}",
        ledger.location().url,
        counted(verified.entries, "entry").replace("entrys", "entries"),
        counted(verified.feeds, "feed"),
        verified.heads,
        bytes(verified.payload_bytes),
        match (verified.damages, verified.warnings) {
            (0, 0) => "sound".to_owned(),
            (0, warnings) => format!("sound, {}", counted(warnings, "warning")),
            (damages, _) => format!("{} found", counted(damages, "damage")),
        }
    );
    if global.json {
        let line = serde_json::json!({ "verified": verified });
        crate::output::print_line(&line.to_string())?;
    } else {
        crate::output::print_line(&summary)?;
    }
    if verified.damages > 0 {
        return Ok(ExitCode::from(FOUND_WANTING));
    }
    // What was sound once is what later states are held against.
    for head in ledger.feeds()? {
        remembered.remember(&head);
    }
    if state.folder().is_dir() {
        remembered.save()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn place(finding: &Finding) -> String {
    let feed = finding.feed.map(|feed| feed.to_string()[..24].to_owned());
    let place = match (feed, finding.index) {
        (Some(feed), Some(index)) => format!("{feed}… at {index}"),
        (Some(feed), None) => format!("{feed}…"),
        _ => String::new(),
    };
    [place, finding.place.clone()].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}
