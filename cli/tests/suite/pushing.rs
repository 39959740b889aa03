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

#[test]
fn a_database_takes_what_two_hosts_push_and_its_password_is_nowhere() {
    let database = crate::postgres::database();
    let (one, two) = (Machine::new("one"), Machine::new("two"));
    for machine in [&one, &two] {
        machine.ok(&["ingest", "--root", &claude_fixtures()]);
        let pushed = machine.json(&["push", "--to", database.url()]);
        assert_eq!(pushed["divergences"], json!([]));
        assert_eq!(machine.json(&["push", "--to", database.url()])["feeds"], 0);
        for file in crate::files_below(&machine.path("burn/host")) {
            assert!(!String::from_utf8_lossy(&fs::read(file).unwrap()).contains(database.url()));
        }
    }
    one.ok(&["project", "update", "--store", database.url()]);
    assert_eq!(one.ok(&["project", "dump", "--store", database.url()]), one.dump());
    assert_eq!(one.json(&["status", "--store", database.url()])["feeds"].as_array().unwrap().len(), 2);
}

#[test]
fn a_feed_that_diverged_is_told_each_time_and_the_others_arrive() {
    let key = "0202020202020202020202020202020202020202020202020202020202020202";
    let (one, two) = (Machine::new("one"), Machine::new("two"));
    let to = format!("file:{}", text(one.path("central")));
    for (machine, message) in [(&one, "m1"), (&two, "m2")] {
        machine.session("s", assistant("s", message, 2, Some("end_turn")));
        let mut ingest = machine.command(&["ingest", "--quiet"]);
        assert!(ingest.env("RELAYBURN_WRITER_KEY", key).status().unwrap().success());
    }
    grow(&two, "m3");
    one.ok(&["push", "--to", &to]);
    for entries in [3, 0] {
        let ended = two.run(&["push", "--json", "--to", &to]);
        let pushed: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!((ended.code, &pushed["divergences"][0]["code"]), (1, &json!("forked")));
        assert_eq!(pushed["entries"], entries, "the feed of the host's own key");
    }
    assert_eq!(unpushed(&two)["records"], 2, "what diverged waits, and is not taken for pushed");
}
