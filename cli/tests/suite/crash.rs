//! Kill, reopen: an ingest that is killed at some moment loses nothing that the next one does not bring back.

use crate::{Machine, assistant, files_below};
use std::process::Stdio;

fn machine_with_sessions() -> Machine {
    let machine = Machine::new("one");
    for session in 0..12 {
        let id = format!("session-{session:02}");
        let lines: String = (0..400)
            .map(|n| {
                let padding = "0123456789abcdef".repeat(n % 40);
                assistant(&id, &format!("m{session}-{n}"), 3, Some("end_turn"))
                    .replace("\"hi\"", &format!("{padding:?}"))
            })
            .collect();
        machine.session(&id, lines);
    }
    machine
}

fn ledger_bytes(machine: &Machine) -> u64 {
    let segments = machine.ledger().join("segments");
    if !segments.is_dir() {
        return 0;
    }
    files_below(&segments).iter().filter_map(|path| path.metadata().ok()).map(|metadata| metadata.len()).sum()
}

#[test]
fn a_killed_ingest_is_completed_by_the_next() {
    let reference = machine_with_sessions();
    reference.ok(&["ingest"]);
    let (dump, whole) = (reference.dump(), ledger_bytes(&reference));
    let mut killed = 0;
    for part in 1..=6 {
        let machine = machine_with_sessions();
        let mut child =
            machine.command(&["ingest"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        loop {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            if ledger_bytes(&machine) > whole * part / 8 {
                child.kill().unwrap();
                child.wait().unwrap();
                killed += 1;
                break;
            }
            std::thread::yield_now();
        }
        machine.ok(&["ingest"]);
        machine.ok(&["verify"]);
        assert_eq!(machine.dump(), dump, "killed at {part}/8");
        machine.ok(&["project", "rebuild"]);
        assert_eq!(machine.dump(), dump, "rebuilt after a kill at {part}/8");
    }
    assert!(killed > 0, "no ingest ran long enough to be killed");
}
