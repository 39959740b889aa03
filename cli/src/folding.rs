//! How this program folds beside others: who it says it is, how long it waits for whoever is folding, and what it
//! makes of a store that stays with somebody else.

use crate::args::Global;
use crate::environment::Environment;
use crate::open::{is_remote, pause};
use crate::output::{count, say};
use burnlog_host::Config;
use burnlog_log::{ErrorKind, Ledger, Result};
use burnlog_projections::{CaughtUp, FeedCursor, FoldLimits, LeaseTerms, Projector, Queries, status};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// How long another who folds is waited for where nobody says.
pub(crate) const WAIT: Duration = Duration::from_secs(10);

/// How this process folds: it waits for another for about `wait`.
pub(crate) fn limits(environment: &Environment, wait: Duration) -> FoldLimits {
    let config = Config::load(&environment.home.config()).unwrap_or_default();
    let host = environment.host_name(&config);
    let machine = machine();
    let holder = match &machine {
        Some(machine) => format!("{host} ({machine}, process {})", std::process::id()),
        None => format!("{host} (process {})", std::process::id()),
    };
    let is_gone =
        Arc::new(move |holder: &str| machine.as_ref().is_some_and(|machine| is_gone(holder, machine)));
    let lease = LeaseTerms {
        holder,
        attempts_max: attempts_max(wait),
        pause: Arc::new(pause),
        is_gone,
        ..LeaseTerms::default()
    };
    FoldLimits { lease, ..FoldLimits::default() }
}

/// How often the lease is asked for. The pauses grow to some two seconds within the first seven.
fn attempts_max(wait: Duration) -> u32 {
    let pauses = if wait.is_zero() { 0 } else { 6 + wait.as_secs() / 2 };
    u32::try_from(pauses).unwrap_or(u32::MAX).saturating_add(1)
}

/// What tells the processes that this one could see from those of other machines and containers, where the system says so:
/// its boot and the namespace of its processes.
fn machine() -> Option<String> {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = std::fs::read_link("/proc/self/ns/pid").ok()?;
    let hash = blake3::hash(format!("{} {}", boot.trim(), namespace.display()).as_bytes()).to_hex();
    Some(hash[..8].to_owned())
}

/// Whether a holder is a process of this machine that has ended without giving the lease back.
fn is_gone(holder: &str, machine: &str) -> bool {
    let process =
        holder.rsplit_once(&format!("({machine}, process ")).and_then(|(_, rest)| rest.strip_suffix(')'));
    let process = process.and_then(|number| number.parse::<u32>().ok());
    process.is_some_and(|number| !Path::new("/proc").join(number.to_string()).exists())
}

/// Folds what the ledger has beyond the store; says so where it went back and everything is folded anew.
pub(crate) fn catch_up_or_anew(
    projector: &mut Projector<'_>,
    ledger: &Ledger,
    global: &Global,
) -> Result<CaughtUp> {
    projector.catch_up_or_anew(ledger, &mut |_| {
        let place = ledger.location().url;
        say(global, &format!("burnlog: {place} went back behind what was folded of it (restored from a backup?); lists are made anew"));
    })
}

/// Folds what the ledger has beyond the store. Where somebody else is folding all the while, says how far behind the
/// lists are and leaves it to them: what was recorded is safe, and theirs to fold.
pub(crate) fn catch_up(
    projector: &mut Projector<'_>,
    ledger: &Ledger,
    queries: impl FnOnce() -> Result<Box<dyn Queries + Send>>,
    global: &Global,
) -> Result<()> {
    let error = match catch_up_or_anew(projector, ledger, global) {
        Err(error) if error.kind() == ErrorKind::InUse => error,
        result => return result.map(drop),
    };
    let behind = queries().and_then(|store| behind(ledger, &status(&*store)?.cursors))?;
    let message = error.message();
    say(global, &format!("burnlog: recorded; lists are {} entries behind: {message}", count(behind)));
    Ok(())
}

/// Says how far lists are behind their ledger, and what folds the rest; nothing where they are not. With `with_url` the command
/// names the ledger. Asks for the heads of feeds that moved since all was folded, which mostly are none. A list goes on where
/// this cannot be told.
pub(crate) fn tell_behind(ledger: &Ledger, store: &dyn Queries, global: &Global, with_url: bool) {
    if global.quiet {
        return;
    }
    let behind = match behind_mark(ledger, store) {
        Ok(0) => return,
        Ok(1) => "1 entry".to_owned(),
        Ok(behind) => format!("{} entries", count(behind)),
        Err(error) => {
            say(global, &format!("burnlog: how far lists are behind cannot be told: {error}"));
            return;
        }
    };
    let url = ledger.location().url;
    let next = match (is_remote(ledger), with_url) {
        (true, _) => "the server folds them; its log says why it has not".to_owned(),
        (false, false) => "to fold them: burnlog project update".to_owned(),
        (false, true) => format!("to fold them: burnlog project update --store {url}"),
    };
    say(global, &format!("burnlog: lists are {behind} behind; {next}"));
}

/// Counts the entries that were not folded, beginning at the mark up to which all was. 0 where nothing was ever folded, which
/// every list says by itself.
fn behind_mark(ledger: &Ledger, store: &dyn Queries) -> Result<u64> {
    let Some(live) = store.state()?.live else { return Ok(0) };
    let mut heads = Vec::new();
    ledger.for_each_feed(live.token.as_ref(), |head| {
        heads.push((head.feed, head.size));
        Ok(())
    })?;
    if heads.is_empty() {
        return Ok(0);
    }
    let cursors = store.cursors(live.generation)?;
    let next =
        |feed| cursors.binary_search_by_key(&feed, |cursor| cursor.feed).map_or(0, |at| cursors[at].next);
    Ok(heads.into_iter().map(|(feed, size)| size.saturating_sub(next(feed))).sum())
}

/// Counts the entries of a ledger that were not folded; `cursors` in the order of the feeds.
pub(crate) fn behind(ledger: &Ledger, cursors: &[FeedCursor]) -> Result<u64> {
    let mut behind = 0;
    ledger.for_each_feed(None, |head| {
        let at = cursors.binary_search_by_key(&head.feed, |cursor| cursor.feed);
        let next = at.map_or(0, |at| cursors[at].next);
        behind += head.size.saturating_sub(next);
        Ok(())
    })?;
    Ok(behind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_ended_process_of_this_machine_is_gone() {
        let own = std::process::id();
        assert!(!is_gone(&format!("laptop (1234abcd, process {own})"), "1234abcd"));
        // Linux gives out no number above four million.
        assert!(!is_gone("laptop (1234abcd, process 4194999)", "ffffffff"));
        assert!(is_gone("laptop (1234abcd, process 4194999)", "1234abcd"));
        for odd in ["", "laptop", "laptop (1234abcd, process )", "laptop (1234abcd, process -1)", "burnlog"] {
            assert!(!is_gone(odd, "1234abcd"), "{odd}");
        }
    }
}
