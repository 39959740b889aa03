//! Ledgers of relayburn through the whole program: beside the raw sessions and where those are gone, from lines and from rows.

use crate::{Machine, claude_fixtures, fixtures, text};
use rusqlite::Connection;
use std::path::Path;

const RAW: &str = "11111111-1111-4111-8111-111111111111";
const GONE: &str = "abababab-0000-4000-8000-000000000001";

fn lines() -> String {
    text(fixtures().join("sessions/relayburn/v1"))
}

/// Makes the databases of 2.x in a folder of the machine.
fn rows(machine: &Machine) -> String {
    let folder = machine.path("home/.relayburn");
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["burn", "content"] {
        let sql =
            std::fs::read_to_string(fixtures().join(format!("sessions/relayburn/v2/{name}.sql"))).unwrap();
        Connection::open(folder.join(format!("{name}.sqlite"))).unwrap().execute_batch(&sql).unwrap();
    }
    text(folder)
}

/// The totals of usage, of all and of one source.
fn usage(machine: &Machine) -> Vec<serde_json::Value> {
    machine.rows(&["usage", "--by", "source"])
}

#[test]
fn an_import_beside_the_sessions_adds_what_is_gone_and_nothing_twice() {
    let (alone, both, reversed) = (Machine::new("one"), Machine::new("one"), Machine::new("one"));
    alone.ok(&["ingest", "--root", &claude_fixtures()]);
    for root in [claude_fixtures(), lines(), rows(&both)] {
        both.ok(&["ingest", "--root", &root]);
    }
    for root in [rows(&reversed), lines(), claude_fixtures()] {
        reversed.ok(&["ingest", "--root", &root]);
    }
    assert_eq!(both.dump(), reversed.dump());
    let calls = |machine: &Machine, source: &str| {
        let groups = usage(machine);
        let group = groups.iter().find(|group| group["source"] == source);
        group.map_or(0, |group| group["calls"].as_i64().unwrap())
    };
    // Two calls of the session that is gone; the five of the other are there already.
    assert_eq!(calls(&both, "claude-code"), calls(&alone, "claude-code") + 2);
    assert_eq!((calls(&both, "opencode"), calls(&both, "codex")), (1, 1));
    let turns = |machine: &Machine, session: &str| machine.rows(&["turns", "--session", session]);
    assert_eq!(turns(&both, RAW), turns(&alone, RAW));
    assert_eq!(turns(&both, GONE).len(), 2);
    // The same again, line by line and row by row, stores nothing.
    for root in [lines(), rows_again(&both)] {
        let report = both.json(&["ingest", "--recheck", "--root", &root]);
        assert_eq!(report["new"], 0, "{report}");
    }
    assert_eq!(both.ok(&["project", "dump"]), reversed.dump());
    both.ok(&["project", "rebuild"]);
    assert_eq!(both.dump(), reversed.dump());
    both.ok(&["verify"]);
}

fn rows_again(machine: &Machine) -> String {
    text(machine.path("home/.relayburn"))
}

/// A record is no file: what another program made of a session is not given out as the session.
#[test]
fn a_session_of_which_only_records_are_there_is_not_restored() {
    let machine = Machine::new("one");
    machine.ok(&["ingest", "--root", &lines()]);
    let out = text(machine.path("out"));
    let ended = machine.run(&["restore", GONE, "--to", &out]);
    assert!(ended.stderr.contains("no session file"), "{}{}", ended.stdout, ended.stderr);
    assert!(!Path::new(&out).join("relayburn").exists());
}
