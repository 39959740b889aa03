//! `push`: what the other ledger lacks and nothing else, remembered without asking it again.

use crate::{Machine, assistant, claude_fixtures, copy_folder, text};
use serde_json::{Value, json};
use std::fs::{self, OpenOptions};
use std::io::Write;

fn unpushed(machine: &Machine) -> Value {
    machine.json(&["status"])["unpushed"].clone()
}

fn grow(machine: &Machine, message: &str) {
    let path = machine.project().join("s.jsonl");
    let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(assistant("s", message, 2, Some("end_turn")).as_bytes()).unwrap();
    machine.ok(&["ingest"]);
}

#[test]
fn a_second_push_looks_only_at_what_moved() {
    let machine = Machine::new("one");
    machine.ok(&["ingest", "--root", &claude_fixtures()]);
    assert_eq!(unpushed(&machine), Value::Null, "nobody asked for a push");
    for scheme in ["file", "sqlite", "redb"] {
        let to = format!("{scheme}:{}", text(machine.path(scheme)));
        let first = machine.json(&["push", "--to", &to]);
        assert!(first["events_sent"].as_u64().unwrap() > 100, "{first}");
        assert_eq!(unpushed(&machine)["records"], 0);
        let second = machine.json(&["push", "--to", &to]);
        let sums = ["feeds", "batches", "entries", "bytes_sent"].map(|field| second[field].clone());
        assert_eq!(sums, [json!(0), json!(0), json!(0), json!(0)]);
        let compared = machine.json(&["push", "--to", &to, "--recheck"]);
        assert_eq!((&compared["feeds"], &compared["feeds_equal"]), (&json!(1), &json!(1)));
        machine.ok(&["project", "update", "--store", &to]);
        assert_eq!(machine.ok(&["project", "dump", "--store", &to]), machine.dump());
        machine.ok(&["verify", "--store", &to]);
    }
}

#[test]
fn status_tells_what_waits_without_asking_the_destination() {
    let machine = Machine::new("one");
    let to = format!("file:{}", text(machine.path("central")));
    grow(&machine, "m1");
    fs::write(machine.path("burn/host/config.json"), json!({ "push_to": to }).to_string()).unwrap();
    let before = unpushed(&machine);
    assert_eq!((&before["records"], &before["to"]), (&json!(2), &Value::Null), "the writer and a line");
    let oldest = machine.json(&["status"])["feeds"][0]["recorded_at"].clone();
    assert!(before["oldest"].as_str().unwrap() <= oldest.as_str().unwrap());
    machine.ok(&["push"]);
    assert_eq!(unpushed(&machine)["to"], json!(to));
    assert_eq!((&unpushed(&machine)["records"], &unpushed(&machine)["oldest"]), (&json!(0), &Value::Null));
    fs::rename(machine.path("central"), machine.path("away")).unwrap();
    grow(&machine, "m2");
    assert_eq!(unpushed(&machine)["records"], 1);
    let shown = machine.ok(&["status"]);
    assert!(shown.contains("not pushed to file:"), "{shown}");
    fs::rename(machine.path("away"), machine.path("central")).unwrap();
    assert_eq!(machine.json(&["push"])["entries"], 1);
    assert_eq!(unpushed(&machine)["records"], 0);
    // Another destination has nothing yet, whatever this one has.
    fs::write(machine.path("burn/host/config.json"), json!({ "push_to": "file:/elsewhere" }).to_string())
        .unwrap();
    assert_eq!(unpushed(&machine)["records"], 3);
}

#[test]
fn a_destination_restored_from_a_backup_gets_what_it_lost() {
    let machine = Machine::new("one");
    let to = format!("file:{}", text(machine.path("central")));
    grow(&machine, "m1");
    machine.ok(&["push", "--to", &to]);
    copy_folder(&machine.path("central"), &machine.path("backup"));
    grow(&machine, "m2");
    machine.ok(&["push", "--to", &to]);
    fs::remove_dir_all(machine.path("central")).unwrap();
    fs::rename(machine.path("backup"), machine.path("central")).unwrap();
    assert_eq!(machine.json(&["push", "--to", &to])["entries"], 1);
    // One made anew at the same place is another ledger.
    fs::remove_dir_all(machine.path("central")).unwrap();
    assert_eq!(machine.json(&["push", "--to", &to])["entries"], 3);
}

#[test]
fn the_destination_is_that_of_the_command_line_the_environment_the_configuration() {
    let machine = Machine::new("one");
    grow(&machine, "m1");
    let nowhere = machine.run(&["push"]);
    assert_eq!(nowhere.code, 2);
    assert!(nowhere.stderr.contains("RELAYBURN_PUSH_URL"), "{}", nowhere.stderr);
    let [a, b, c] = ["a", "b", "c"].map(|name| format!("file:{}", text(machine.path(name))));
    fs::write(machine.path("burn/host/config.json"), json!({ "push_to": a }).to_string()).unwrap();
    let mut command = machine.command(&["push", "--json"]);
    let output = command.env("RELAYBURN_PUSH_URL", &b).output().unwrap();
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["to"], json!(b));
    let mut command = machine.command(&["push", "--json", "--to", &c]);
    let output = command.env("RELAYBURN_PUSH_URL", &b).output().unwrap();
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["to"], json!(c));
    assert!(!machine.path("a").exists());
}

#[test]
fn a_push_to_itself_or_to_nothing_sensible_is_refused() {
    let machine = Machine::new("one");
    grow(&machine, "m1");
    let itself = machine.run(&["push", "--to", &format!("file:{}", text(machine.ledger()))]);
    assert!(itself.code == 2 && itself.stderr.contains("name another one"), "{}", itself.stderr);
    let secret = machine.run(&["push", "--to", "ftp://user:secret@host/"]);
    assert!(secret.code == 2 && !secret.stderr.contains("secret"), "{}", secret.stderr);
    let nothing = Machine::new("two").run(&["push", "--to", "file:/tmp/never-made"]);
    assert!(nothing.code == 2 && !std::path::Path::new("/tmp/never-made").exists(), "{}", nothing.stderr);
}
