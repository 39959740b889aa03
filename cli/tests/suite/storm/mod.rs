//! Law 7 over a whole ingest: session files, cursors and ledger on a simulated disk, folds. The machine is switched off at every write and sync, the disk
//! fails at every sync and is full at every write, with another process's unsynced segment beside; and all that a crash can leave of ledger, cursors, rows
//! and the host's files is put together.

mod disk;
mod machine;
mod rows;

use burnlog_jsonl::{Durability, Fault, Simulated};
use burnlog_log::Error;
use machine::{Beside, Ended, Storm, draw, open};
use std::fs;

type Counts = (u64, u64, u64);

/// The counts of operations before and after an ingest that nothing disturbs, and its dump.
fn undisturbed(mut storm: Storm) -> (Simulated, Counts, String) {
    let before = storm.system.counts();
    let batches = storm.acknowledged.len();
    let (ended, dump) = storm.completes("undisturbed");
    assert_eq!(ended, Ended::default());
    assert!(storm.acknowledged.len() > batches + 4, "{} batches", storm.acknowledged.len());
    (storm.system, before, dump)
}

/// The counts of operations after an ingest, what is opened to look at it left out.
fn after_ingest(mut storm: Storm) -> Counts {
    storm.ingest().unwrap();
    storm.system.counts()
}

fn is_off(error: &Error) -> bool {
    error.kind() == burnlog_log::ErrorKind::Unavailable
}

#[test]
fn the_storm_has_enough_to_break() {
    let (system, ..) = undisturbed(Storm::new(Beside::Nothing));
    let endings = |ending: &str| {
        let paths = system.paths();
        paths.iter().filter(|path| path.to_str().unwrap().ends_with(ending)).count()
    };
    assert!(endings(".zst") > 0 && endings("/cursors") == 1);
    let dumps =
        [Beside::Nothing, Beside::Dead, Beside::Living].map(|beside| undisturbed(Storm::new(beside)).2);
    assert!(dumps[0].lines().count() > 12 && dumps.iter().all(|dump| *dump == dumps[0]));
    let grown = Storm::grown(Durability::Batch);
    let rows = grown.copy().store.earlier().len();
    let mut whole = grown.copy();
    whole.ingest().unwrap();
    assert!(rows == 1 && whole.store.earlier().len() > 5, "{} commits", whole.store.earlier().len());
}

/// Switches the machine off at one operation of an ingest and requires that nothing acknowledged is lost.
fn crash(mut storm: Storm, at: u64, seed: u64, expected: &str, what: &str) {
    storm.system.set_fault(Some(Fault::Crash(at)));
    if let Err(error) = storm.ingest() {
        assert!(is_off(&error), "{what}: {error}");
    }
    storm.after_crash(seed);
    if let Ok(ledger) = open(&storm.system, Durability::Batch) {
        storm.examine(&ledger, what);
    }
    let (ended, dump) = storm.completes(what);
    assert_eq!(ended, Ended::default(), "{what}: cursors or rows were ahead of a ledger that syncs");
    assert_eq!(dump, expected, "{what}");
}

#[test]
fn an_ingest_survives_a_crash_at_any_operation() {
    let grown = Storm::grown(Durability::Batch);
    let (_, before, expected) = undisturbed(grown.copy());
    for at in before.0 + 1..=after_ingest(grown.copy()).0 {
        for seed in [at * 2, at * 2 + 1] {
            crash(grown.copy(), at, seed, &expected, &format!("crash at operation {at}, seed {seed}"));
        }
    }
}

fn first_crashes(beside: Beside) {
    let (_, before, expected) = undisturbed(Storm::new(beside));
    for at in before.0 + 1..=after_ingest(Storm::new(beside)).0 {
        crash(Storm::new(beside), at, at, &expected, &format!("{beside:?} beside, crash at operation {at}"));
    }
}

#[test]
fn a_first_ingest_survives_a_crash_at_any_operation() {
    first_crashes(Beside::Nothing);
}

#[test]
fn an_ingest_survives_a_crash_beside_what_a_dead_process_left() {
    first_crashes(Beside::Dead);
}

#[test]
fn an_ingest_survives_a_crash_beside_a_process_that_does_not_sync() {
    first_crashes(Beside::Living);
}

/// Fails an operation, of the ledger or of the cursors, and requires that the next ingest makes up for it.
fn fault(mut storm: Storm, fault: Fault, expected: &str, what: &str) {
    storm.system.set_fault(Some(fault));
    if let Err(error) = storm.ingest() {
        assert!(is_off(&error), "{what}: {error}");
    }
    storm.system.set_fault(None);
    assert_eq!(storm.completes(what).1, expected, "{what}");
    // A sync that failed has lost pages for good; only a crash shows that.
    storm.after_crash(0);
    let what = format!("{what}, then a crash");
    assert_eq!(storm.completes(&what), (Ended::default(), expected.to_owned()), "{what}");
}

fn faults(before: Counts, after: Counts) -> impl Iterator<Item = Fault> {
    let syncs = (before.1 + 1..=after.1).map(Fault::FailedSync);
    syncs.chain((before.2 + 1..=after.2).map(Fault::FullDisk))
}

#[test]
fn an_ingest_survives_every_failed_sync_and_every_full_disk() {
    let grown = Storm::grown(Durability::Batch);
    let (_, before, expected) = undisturbed(grown.copy());
    for it in faults(before, after_ingest(grown.copy())) {
        fault(grown.copy(), it, &expected, &format!("{it:?}"));
    }
    let (_, before, expected) = undisturbed(Storm::new(Beside::Dead));
    for it in faults(before, after_ingest(Storm::new(Beside::Dead))) {
        fault(Storm::new(Beside::Dead), it, &expected, &format!("Dead beside, {it:?}"));
    }
}

/// What becomes of the session files while the machine is off.
fn disturb_sessions(storm: &Storm, seed: u64) -> bool {
    match draw(seed, 9) % 3 {
        0 => return false,
        1 => fs::remove_file(storm.session(0)).unwrap(),
        _ => {
            let lines = fs::read_to_string(storm.session(1)).unwrap();
            fs::write(storm.session(1), lines.replace("m1-", "n1-")).unwrap();
        }
    }
    true
}

#[test]
fn what_is_ahead_of_a_ledger_that_fell_back_is_not_believed() {
    let grown = Storm::grown(Durability::Os);
    let (_, before, expected) = undisturbed(grown.copy());
    let mut seen = (0, 0, 0);
    for at in before.0 + 1..=after_ingest(grown.copy()).0 {
        for seed in [at * 2, at * 2 + 1] {
            let what = format!("without syncs, crash at operation {at}, seed {seed}");
            let mut storm = grown.copy();
            storm.system.set_fault(Some(Fault::Crash(at)));
            if let Err(error) = storm.ingest() {
                assert!(is_off(&error), "{what}: {error}");
            }
            storm.after_crash(seed);
            // Without syncs nothing was promised.
            storm.acknowledged.clear();
            let disturbed = disturb_sessions(&storm, seed);
            let (ended, dump) = storm.completes(&what);
            assert!(disturbed || dump == expected, "{what}: another dump");
            seen = (seen.0 + u64::from(ended.restarted), seen.1 + u64::from(ended.anew), seen.2 + 1);
            storm.after_crash(seed + 1);
            storm.acknowledged.clear();
            let what = format!("{what}, then another");
            assert_eq!(storm.completes(&what).1, dump, "{what}");
            storm.write_grown();
        }
    }
    let (restarted, anew, all) = seen;
    assert!(restarted > 5 && anew > 5 && anew < all, "{restarted} new feeds, {anew} times anew of {all}");
}
