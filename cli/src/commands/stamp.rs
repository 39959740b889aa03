//! `burnlog stamp`: attaches keys and values to a session, stream or call, as an event in this host's feed.

use super::Context;
use crate::args::Stamp;
use crate::environment::now;
use crate::feed::open_feed;
use crate::folding;
use crate::open::{self, Access, StoreUrl};
use crate::output::{print_one, printable, say};
use burnlog_host::{Config, IngestLock};
use burnlog_log::{Address, Batch, Error, ErrorKind, Kind, Ledger, Position, Result, Timestamp, WriterId};
use burnlog_projections::{Projector, resolve_session};
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

/// What is stamped; fields in the order of docs/format.md.
#[derive(Debug, Clone, Default, serde::Serialize)]
struct Selector {
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

/// The payload of the event.
#[derive(Debug, Clone, serde::Serialize)]
struct Payload {
    selector: Selector,
    set: BTreeMap<String, Option<String>>,
    at: Timestamp,
}

/// The fields of `stamp --json`.
#[derive(serde::Serialize)]
struct Stamped {
    address: Address,
    feed: WriterId,
    #[serde(flatten)]
    payload: Payload,
}

pub(super) fn run(context: &Context, arguments: &Stamp) -> anyhow::Result<ExitCode> {
    let Context { global, environment } = context;
    let set = settings(&arguments.settings)?;
    let config = Config::load(&environment.home.config())?;
    let ledger = open::ledger(&StoreUrl::choose(global, environment)?, Access::Write, global)?;
    let selector = selector(context, arguments, &ledger)?;
    let state = environment.home.ledger_state(ledger.location().id);
    state.create()?;
    let _lock = IngestLock::acquire(&state.lock(), Duration::from_secs(arguments.wait))?;
    let mut store = open::folds(&ledger, environment, global)?;
    let limits = folding::limits(environment, Duration::from_secs(arguments.wait));
    let mut projector = match &mut store {
        Some(store) => Some(Projector::new(&mut **store, &ledger, limits)?),
        None => None,
    };
    let (mut writer, _) = open_feed(environment, global, &config, (&ledger, &state), projector.as_mut())?;
    let payload = Payload { selector, set, at: now() };
    let mut batch = Batch::default();
    let position =
        Position { kind: Kind::Stamp, source: "burnlog".into(), stream: "stamps".into(), seq: 0, part: None };
    let address = batch.push(position, &serde_json::to_vec(&payload)?)?.address;
    let appended = writer.append(&batch, now(), &mut |feed, batch, outcomes| match &mut projector {
        Some(projector) => projector.fold_appended(feed, batch, outcomes).map(drop),
        None => Ok(()),
    });
    // Also after a failure: what was acknowledged is there to be remembered.
    let remembered = writer.remember();
    appended?;
    remembered?;
    if let Some(projector) = &mut projector {
        folding::catch_up(projector, &ledger, || open::queries(&ledger, environment, global), global)?;
    }
    let stamped = Stamped { address, feed: writer.feed(), payload };
    print_one(global, &stamped, || text(&stamped))?;
    Ok(ExitCode::SUCCESS)
}

/// What is meant. A session may be named by a unique prefix; one that is not recorded yet is taken as it is named.
fn selector(context: &Context, arguments: &Stamp, ledger: &Ledger) -> Result<Selector> {
    let mut selector = Selector {
        session: arguments.session.clone(),
        stream: arguments.stream.clone(),
        call: arguments.call.clone(),
        source: arguments.source.clone(),
    };
    let Some(name) = &arguments.session else { return Ok(selector) };
    let store = open::queries(ledger, &context.environment, &context.global);
    match store.and_then(|store| resolve_session(&*store, name)) {
        Ok((_, session)) => selector.session = Some(session.to_string()),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            say(
                &context.global,
                &format!("burnlog: no session {name:?} yet; the stamp holds once it is there"),
            );
        }
        Err(error) => return Err(error),
    }
    Ok(selector)
}

/// `KEY=VALUE` sets, `KEY=` takes away.
fn settings(texts: &[String]) -> Result<BTreeMap<String, Option<String>>> {
    let mut set = BTreeMap::new();
    for text in texts {
        let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
        let (key, value) = parts.ok_or_else(|| {
            let message = format!("{text:?} is neither KEY=VALUE nor KEY=, which takes the key away");
            Error::new(ErrorKind::Invalid, "read arguments", message)
        })?;
        let value = Some(value).filter(|value| !value.is_empty()).map(str::to_owned);
        if set.insert(key.to_owned(), value).is_some() {
            let message = format!("the key {key:?} is given twice; a stamp has one value for each");
            return Err(Error::new(ErrorKind::Invalid, "read arguments", message));
        }
    }
    Ok(set)
}

fn text(stamped: &Stamped) -> String {
    let Selector { session, stream, call, source } = &stamped.payload.selector;
    let named = [("session", session), ("stream", stream), ("call", call)];
    let named = named.into_iter().find_map(|(what, name)| Some(format!("{what} {}", name.as_ref()?)));
    let source = source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
    let mut text = format!("stamped {}{source}\n", named.unwrap_or_default());
    for (key, value) in &stamped.payload.set {
        text.push_str(&match value {
            Some(value) => format!("  {key} = {value}\n"),
            None => format!("  {key} taken away\n"),
        });
    }
    text.push_str(&format!("event {} at {}\n", stamped.address, stamped.payload.at));
    printable(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_keys_with_values_or_nothing() {
        let set = settings(&["team=a=b".to_owned(), "old=".to_owned()]).unwrap();
        assert_eq!(set["team"].as_deref(), Some("a=b"));
        assert_eq!(set["old"], None);
        for wrong in [&["team"][..], &["=a"], &["a=1", "a=2"]] {
            let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
            assert_eq!(settings(&wrong).unwrap_err().kind(), ErrorKind::Invalid, "{wrong:?}");
        }
    }
}
