//! Law 7 on the real program: it ends at a named point of an ingest, a compaction or a rebuild; the next one completes, nothing
//! acknowledged is lost and nothing is there twice. Ending a process tells nothing of syncs; `storm` does.

use crate::{Machine, assistant};
use std::os::unix::process::ExitStatusExt;

/// The points that an ingest of a new ledger passes, and how often at least.
const INGEST: &[(&str, u32)] = &[
    ("jsonl-ledger-written", 1),
    ("jsonl-ledger-renamed", 1),
    ("key-drawn", 1),
    ("key-kept", 1),
    ("jsonl-segment-published", 1),
    ("jsonl-segment-made", 1),
    // Two batches: the card of the writer, and the records.
    ("jsonl-append-unwritten", 2),
    ("jsonl-append-written", 2),
    ("jsonl-append-synced", 2),
    ("jsonl-append-published", 2),
    ("jsonl-append-accepted", 2),
    ("ingest-acknowledged", 1),
    ("cursors-made", 1),
    ("cursors-unsaved", 1),
    ("cursors-saved", 1),
    ("cursors-rewritten", 1),
    // The key, the card, the remembered heads.
    ("host-file-written", 3),
    ("host-file-renamed", 3),
    // Binding, making, rows and cursors, indexes.
    ("projections-uncommitted", 4),
    ("projections-committed", 4),
    ("projections-built", 1),
    ("projections-shown", 1),
];

/// The points that a compaction passes.
const COMPACT: &[(&str, u32)] = &[
    ("jsonl-seal-written", 1),
    ("jsonl-seal-renamed", 1),
    ("jsonl-seal-removed", 2),
    ("jsonl-index-written", 1),
    ("jsonl-manifest-written", 1),
    ("jsonl-manifest-renamed", 1),
];

/// The points that a rebuild of the projections passes.
const REBUILD: &[(&str, u32)] = &[
    ("projections-uncommitted", 4),
    ("projections-committed", 4),
    ("projections-built", 1),
    ("projections-shown", 1),
];

fn machine() -> Machine {
    let machine = Machine::new("one");
    for session in 0..3 {
        let id = format!("session-{session}");
        let mut lines: String = (0..40)
            .map(|number| {
                let message = format!("m{}-{number}", session % 2);
                assistant(&id, &message, number, Some("end_turn"))
                    .replace("hi", &"0123456789abcdef".repeat(80))
            })
            .collect();
        if session == 2 {
            // Its cursor is long enough for a new base.
            lines.push_str(&format!("{{\"half\":\"{}", "x".repeat(70 << 10)));
        }
        machine.session(&id, lines);
    }
    machine
}

/// Runs a command that ends at a point.
#[track_caller]
fn ends_at(machine: &Machine, command: &[&str], point: &str) {
    let output = machine.command(command).env("BURNLOG_FAILPOINT", point).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(6), "{command:?} does not pass {point}: {text}");
}

fn events(machine: &Machine) -> u64 {
    machine.json(&["status"])["ledger"]["events"].as_u64().unwrap()
}

/// What the next ingest must bring about, whatever happened before.
fn completes(machine: &Machine, reference: &(String, u64), point: &str) {
    machine.ok(&["ingest"]);
    assert_eq!(machine.dump(), reference.0, "{point}: kept up");
    let again = machine.json(&["ingest", "--recheck"]);
    assert_eq!(again["new"], 0, "{point}: something is ingested twice");
    let verified = machine.run(&["verify", "--json"]);
    assert_eq!(
        (verified.code, verified.stdout.matches("\"warning\"").count()),
        (0, 0),
        "{point}: {}",
        verified.stdout
    );
    // A host that could not note that it has introduced itself does so once more.
    let found = events(machine);
    assert!(
        (reference.1..=reference.1 + 1).contains(&found),
        "{point}: {found} events instead of {}",
        reference.1
    );
    machine.ok(&["project", "rebuild"]);
    assert_eq!(machine.dump(), reference.0, "{point}: rebuilt");
}

fn reference() -> (String, u64) {
    let machine = machine();
    machine.ok(&["ingest"]);
    (machine.dump(), events(&machine))
}

#[test]
fn an_ingest_that_ends_at_any_point_is_completed_by_the_next() {
    let reference = reference();
    for (name, passings) in INGEST {
        for passing in 1..=*passings {
            let point = format!("{name}:{passing}");
            let machine = machine();
            ends_at(&machine, &["ingest"], &point);
            completes(&machine, &reference, &point);
        }
    }
}

#[test]
fn a_compaction_that_ends_at_any_point_costs_nothing() {
    let reference = reference();
    for (name, passings) in COMPACT {
        for passing in 1..=*passings {
            let point = format!("{name}:{passing}");
            let machine = machine();
            machine.ok(&["ingest"]);
            ends_at(&machine, &["compact"], &point);
            assert_eq!(machine.dump(), reference.0, "{point}: before anything else");
            completes(&machine, &reference, &point);
            machine.ok(&["compact"]);
            completes(&machine, &reference, &point);
        }
    }
}

#[test]
fn a_rebuild_that_ends_at_any_point_leaves_the_rows_as_they_were() {
    let reference = reference();
    for (name, passings) in REBUILD {
        for passing in 1..=*passings {
            let point = format!("{name}:{passing}");
            let machine = machine();
            machine.ok(&["ingest"]);
            ends_at(&machine, &["project", "rebuild"], &point);
            assert_eq!(machine.dump(), reference.0, "{point}: before anything else");
            completes(&machine, &reference, &point);
        }
    }
}

#[test]
fn without_the_variable_nothing_ends() {
    let machine = machine();
    let output = machine.command(&["ingest"]).env("BURNLOG_FAILPOINT", "no-such-point").output().unwrap();
    assert!(output.status.success());
}
