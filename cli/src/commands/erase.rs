//! `burnlog erase`: makes payloads unreadable, leaves a receipt in this host's feed, and folds the rows without them.

use super::Context;
use crate::args::Erase;
use crate::environment::now;
use crate::feed::open_feed;
use crate::filter;
use crate::folding;
use crate::open::{self, Access, StoreUrl};
use crate::output::{bytes, counted, print_one, printable};
use burnlog_host::{Config, IngestLock};
use burnlog_log::{
    Address, Batch, Body, Error, ErrorKind, Kind, Ledger, Limit, Result, Skeleton, SkeletonFrozen, WriterId,
};
use burnlog_projections::{
    CallSession, ErasureReceipt, Filter, Projector, Queries, RECEIPT_ADDRESSES_MAX, RecordClass, Row, Value,
    live, records, resolve_session,
};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

/// How many payloads are made unreadable at once.
const STEP_ADDRESSES: usize = 1000;

/// How many sessions that share one call are looked for.
const COPIES_MAX: usize = 100;

/// The fields of `erase --json`.
#[derive(serde::Serialize)]
struct Outcome {
    /// Records that were erased now.
    erased: u64,
    /// Their payloads.
    payload_bytes: u64,
    /// Records of the selection that had been erased before.
    erased_before: u64,
    feed: WriterId,
    /// The events that say so.
    receipts: Vec<Address>,
    /// API calls of the session that no other session tells of: they are in no total any more.
    calls: u64,
    /// The sessions that share calls with the erased one: they have a copy of its history, or it of theirs.
    copies: Vec<String>,
}

/// What the selection holds.
#[derive(Default)]
struct Selected {
    /// What is to be done, ascending.
    addresses: Vec<Address>,
    payload_bytes: u64,
    erased_before: u64,
    calls: u64,
    copies: Vec<String>,
}

pub(super) fn run(context: &Context, arguments: &Erase) -> anyhow::Result<ExitCode> {
    let Context { global, environment } = context;
    let config = Config::load(&environment.home.config())?;
    let ledger = open::ledger(&StoreUrl::choose(global, environment)?, Access::Write, global)?;
    let state = environment.home.ledger_state(ledger.location().id);
    state.create()?;
    let _lock = IngestLock::acquire(&state.lock(), Duration::from_secs(arguments.wait))?;
    let mut store = open::folds(&ledger, environment, global)?;
    let limits = folding::limits(environment, Duration::from_secs(arguments.wait));
    let selected = match &mut store {
        Some(store) => {
            let mut projector = Projector::new(&mut **store, &ledger, limits.clone())?;
            folding::catch_up_or_anew(&mut projector, &ledger, global)?;
            drop(projector);
            select(&**store, &ledger, arguments)?
        }
        // The server folds, before and after.
        None => select(&*open::queries(&ledger, environment, global)?, &ledger, arguments)?,
    };
    if !arguments.yes && !selected.addresses.is_empty() {
        let message = format!(
            "nothing was erased: this would make {} ({}) unreadable for ever{}; --yes does it{}",
            counted(selected.addresses.len() as u64, "record"),
            bytes(selected.payload_bytes),
            calls_text(selected.calls, "would leave"),
            copies_text(&selected.copies)
        );
        return Err(Error::new(ErrorKind::Invalid, "erase", message).into());
    }
    let mut projector = match &mut store {
        Some(store) => Some(Projector::new(&mut **store, &ledger, limits)?),
        None => None,
    };
    let (mut writer, _) = open_feed(environment, global, &config, (&ledger, &state), projector.as_mut())?;
    // First the deed, then the receipt: whoever reads one can rely on it. A crash between the two is made up for by the
    // same command, which finds rows of what is erased.
    for step in selected.addresses.chunks(STEP_ADDRESSES) {
        ledger.erase(step)?;
    }
    let mut receipts = Vec::new();
    for erased in selected.addresses.chunks(RECEIPT_ADDRESSES_MAX) {
        let receipt = ErasureReceipt { erased: erased.to_vec(), at: now(), reason: arguments.reason.clone() };
        let mut batch = Batch::default();
        receipts.push(batch.push(ErasureReceipt::position(), &serde_json::to_vec(&receipt)?)?.address);
        let appended = writer.append(&batch, now(), &mut |_, _, _| Ok(()));
        // Also after a failure: what was acknowledged is there to be remembered.
        let remembered = writer.remember();
        appended?;
        remembered?;
    }
    if let Some(projector) = &mut projector {
        folding::catch_up_or_anew(projector, &ledger, global)?;
        super::search::add_new(context, &ledger);
    }
    let outcome = Outcome {
        erased: selected.addresses.len() as u64,
        payload_bytes: selected.payload_bytes,
        erased_before: selected.erased_before,
        feed: writer.feed(),
        receipts,
        calls: selected.calls,
        copies: selected.copies,
    };
    print_one(global, &outcome, || text(&outcome))?;
    Ok(ExitCode::SUCCESS)
}

/// Finds the records that are meant, and of those the ones of which payload or rows are still there.
fn select(store: &dyn Queries, ledger: &Ledger, arguments: &Erase) -> anyhow::Result<Selected> {
    let mut selected = Selected::default();
    let mut places = Vec::new();
    if let Some(name) = &arguments.session {
        let (source, session) = resolve_session(store, name)?;
        places = of_session(store, &source, &session)?;
        (selected.copies, selected.calls) = shared_calls(store, &source, &session)?;
    }
    for address in &arguments.event {
        places.push(of_event(store, ledger, *address)?);
    }
    places.sort_unstable();
    places.dedup();
    let mut at = 0;
    while at < places.len() {
        let wanted: Vec<Address> = places[at..].iter().map(|(address, _)| *address).collect();
        for body in ledger.get(&wanted, Limit::default())? {
            let (address, class) = places[at];
            at += 1;
            // Tails and parts make no rows but for the place.
            let is_untold = matches!(class, RecordClass::Erased | RecordClass::Tail | RecordClass::Part);
            match body {
                Some(Body::Erased { .. }) if is_untold => selected.erased_before += 1,
                Some(Body::Present { skeleton, .. }) => {
                    selected.payload_bytes += SkeletonFrozen::parse(&skeleton)?.bytes;
                    selected.addresses.push(address);
                }
                Some(Body::Erased { .. } | Body::Damaged { .. }) => selected.addresses.push(address),
                None => {}
            }
        }
    }
    Ok(selected)
}

/// The records of all files of a session, its subagents' and imported ones included.
fn of_session(store: &dyn Queries, source: &str, session: &str) -> Result<Vec<(Address, RecordClass)>> {
    let mut places = Vec::new();
    for stream in store.streams(source, session)? {
        let found = records(store, source, &stream.stream, 0..u64::MAX)?;
        places.extend(found.into_iter().map(|place| (place.address, place.class)));
    }
    Ok(places)
}

/// The sessions that share calls with this one: they have records of their own that say the same. And how many calls it shares with
/// none.
fn shared_calls(store: &dyn Queries, source: &str, session: &str) -> anyhow::Result<(Vec<String>, u64)> {
    let text = |text: &str| Value::Text(Cow::Owned(text.to_owned()));
    let (source, session) = (source.to_owned(), session.to_owned());
    let filter = Filter { source: Some(source.clone()), session: Some(session.clone()), ..Filter::default() };
    let generation = live(store)?;
    let (mut copies, mut own) = (BTreeSet::new(), 0);
    filter::for_each(
        None,
        |page| store.turns(&filter, page),
        |turn| {
            let mut sessions = BTreeSet::from([turn.call.session.to_string()]);
            let first = [text(&source), text(&turn.call.call), text("")];
            let rows = store.scan(generation, CallSession::TABLE, Some(&first), COPIES_MAX)?;
            for row in rows.into_iter().map(CallSession::read) {
                let row = row?;
                if *row.source == *source && row.call == turn.call.call {
                    sessions.insert(row.session.to_string());
                }
            }
            sessions.remove(&session);
            own += u64::from(sessions.is_empty());
            copies.extend(sessions);
            Ok(())
        },
    )?;
    Ok((copies.into_iter().collect(), own))
}

fn calls_text(calls: u64, leave: &str) -> String {
    if calls == 0 { String::new() } else { format!("; {} {leave} the totals", counted(calls, "API call")) }
}

fn copies_text(copies: &[String]) -> String {
    if copies.is_empty() {
        return String::new();
    }
    format!("; the same history stands in records of {}", copies.join(", "))
}

/// One event. Only records of sessions are erased: stamps are taken away, and what says who wrote stays.
fn of_event(store: &dyn Queries, ledger: &Ledger, address: Address) -> Result<(Address, RecordClass)> {
    let body = ledger.get(&[address], Limit { entries: 1, bytes: 1 })?.pop().flatten();
    let invalid = |kind, message: &str| Err(Error::new(kind, "erase", message).at(address));
    let Some(body) = body else {
        return invalid(ErrorKind::NotFound, "the ledger has no such event");
    };
    let skeleton = Skeleton::parse(body.skeleton()?)?;
    let position = &skeleton.position;
    if !matches!(position.kind, Kind::Line | Kind::Tail | Kind::Record | Kind::Other(_)) {
        return invalid(
            ErrorKind::Invalid,
            "only records of sessions are erased; stamp KEY= takes a stamp away",
        );
    }
    let after = position.seq.saturating_add(1);
    let places = records(store, &position.source, &position.stream, position.seq..after)?;
    let class = places.into_iter().find(|place| place.address == address).map(|place| place.class);
    Ok((address, class.unwrap_or(RecordClass::Erased)))
}

fn text(outcome: &Outcome) -> String {
    let mut text = match outcome.erased {
        0 => "nothing to erase".to_owned(),
        records => format!("erased {} ({})", counted(records, "record"), bytes(outcome.payload_bytes)),
    };
    if outcome.erased_before > 0 {
        text.push_str(&format!("; {} had been erased before", counted(outcome.erased_before, "record")));
    }
    if outcome.erased > 0 {
        text.push_str(&calls_text(outcome.calls, "left"));
    }
    text.push_str(&copies_text(&outcome.copies));
    text.push('\n');
    if outcome.erased > 0 {
        text.push_str(
            "burnlog compact removes the bytes from this ledger; copies of it elsewhere have them still\n",
        );
    }
    printable(&text).into_owned()
}
