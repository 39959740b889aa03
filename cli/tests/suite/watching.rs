//! `ingest --watch`: each change is in the queries by the time that its line is printed, whatever kind of change it is, and
//! killing the program loses nothing.

use crate::{Machine, assistant};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

/// The program while it watches; killed when dropped.
struct Watching {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Watching {
    fn start(machine: &Machine) -> Self {
        let mut command = machine.command(&["ingest", "--watch", "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// Waits for lines until so many records were read, and returns how many of them were new.
    fn records(&mut self, wanted: u64) -> u64 {
        let (mut records, mut new) = (0, 0);
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the program ended");
            let pass: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(pass["failed"], 0, "{line}");
            records += pass["records"].as_u64().unwrap();
            new += pass["new"].as_u64().unwrap();
            if records >= wanted {
                return new;
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn calls(machine: &Machine) -> u64 {
    machine.rows(&["usage"]).last().unwrap()["total"]["calls"].as_u64().unwrap()
}

#[test]
fn files_that_grow_appear_and_are_rewritten_are_in_the_queries() {
    let machine = Machine::new("one");
    let path = machine.session("a", assistant("a", "m1", 1, Some("end_turn")));
    let mut watching = Watching::start(&machine);
    assert_eq!(watching.records(1), 1);
    assert_eq!(calls(&machine), 1);

    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(assistant("a", "m2", 2, Some("end_turn")).as_bytes()).unwrap();
    assert_eq!(watching.records(1), 1);
    assert_eq!(calls(&machine), 2);

    // Half a line, and then the rest of it.
    let line = assistant("a", "m3", 3, Some("end_turn"));
    let (half, rest) = line.split_at(40);
    file.write_all(half.as_bytes()).unwrap();
    file.write_all(rest.as_bytes()).unwrap();
    assert_eq!(watching.records(1), 1);

    let folder = machine.path("home/.claude/projects/-work-new");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("b.jsonl"), assistant("b", "m4", 4, Some("end_turn"))).unwrap();
    assert_eq!(watching.records(1), 1);
    assert_eq!(calls(&machine), 4);

    let two = [assistant("a", "m5", 5, Some("end_turn")), assistant("a", "m6", 6, Some("end_turn"))].concat();
    fs::write(&path, two).unwrap();
    watching.records(2);
    assert_eq!(calls(&machine), 6);
}

#[test]
fn a_watch_that_is_killed_leaves_nothing_half_done() {
    let machine = Machine::new("one");
    let path = machine.session("a", assistant("a", "m1", 1, Some("end_turn")));
    let mut watching = Watching::start(&machine);
    watching.records(1);
    let other = machine.run(&["ingest", "--wait", "0"]);
    assert_eq!(other.code, 2, "{}", other.stderr);
    drop(watching);
    let line = assistant("a", "m2", 2, Some("end_turn"));
    OpenOptions::new().append(true).open(&path).unwrap().write_all(line.as_bytes()).unwrap();
    assert_eq!(machine.json(&["ingest"])["new"], 1);
    assert_eq!(calls(&machine), 2);
    machine.ok(&["verify"]);
}
