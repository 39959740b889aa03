//! Bad input: a clear message with the place and the next step, the right exit code, everything else stored.

mod sessions;
mod state;

use crate::{Ended, Machine, assistant, text};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

fn good(machine: &Machine) {
    machine.session("good", assistant("good", "m1", 2, Some("end_turn")));
}

#[track_caller]
fn ends(ended: &Ended, code: i32, says: &[&str]) {
    assert_eq!(ended.code, code, "{}{}", ended.stdout, ended.stderr);
    for part in says {
        assert!(
            ended.stderr.contains(part) || ended.stdout.contains(part),
            "no {part:?} in\n{}{}",
            ended.stdout,
            ended.stderr
        );
    }
}

/// The object that a command with `--json` printed as it failed with exit code 2.
#[track_caller]
fn error_object(ended: &Ended, kind: &str) -> serde_json::Value {
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{}", ended.stderr);
    let last = ended.stderr.lines().last().unwrap_or_default();
    let mut object: serde_json::Value = serde_json::from_str(last).expect("an object on standard error");
    let error = object["error"].take();
    assert_eq!(error["kind"], kind, "{error}");
    for field in ["operation", "location", "message"] {
        assert!(error[field].is_string(), "{error}");
    }
    error
}

/// Where this host keeps what it knows of the one ledger.
fn host_state(machine: &Machine) -> std::path::PathBuf {
    let host = fs::read_dir(machine.path("burn/host")).unwrap();
    host.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap()
}

#[test]
fn no_sessions_says_where_it_looked_and_what_to_try() {
    let machine = Machine::new("one");
    let ended = machine.run(&["ingest"]);
    ends(&ended, 0, &["no sessions found", ".claude", "--root fixtures/sessions/claude-code"]);
}

#[test]
fn a_dangling_link_is_counted_and_the_rest_is_stored() {
    let machine = Machine::new("one");
    good(&machine);
    symlink("/nowhere/at/all.jsonl", machine.project().join("gone.jsonl")).unwrap();
    let ended = machine.run(&["ingest"]);
    ends(&ended, 1, &["gone.jsonl", "failed: 1 file"]);
    assert_eq!(machine.rows(&["turns"]).len(), 1);
}

#[test]
fn a_folder_instead_of_a_session_file_is_counted_or_walked() {
    let machine = Machine::new("one");
    good(&machine);
    fs::create_dir(machine.project().join("folder.jsonl")).unwrap();
    let ended = machine.run(&["ingest"]);
    ends(&ended, 1, &["folder.jsonl"]);
    assert_eq!(machine.rows(&["turns"]).len(), 1);
}

#[test]
fn unreadable_bytes_are_stored_and_counted() {
    let machine = Machine::new("one");
    let long = format!("{{\"type\":\"user\",\"text\":\"{}\"}}\n", "x".repeat(2 << 20));
    let mut bytes = assistant("s", "m1", 2, Some("end_turn")).into_bytes();
    for line in [b"\0\0\0\0\n".as_slice(), b"\xff\xfe{}\n", b"{\"cut\":\n", b"\n", long.as_bytes()] {
        bytes.extend_from_slice(line);
    }
    machine.session("s", &bytes);
    let done = machine.json(&["ingest"]);
    assert_eq!(
        (done["records"].as_u64(), done["new"].as_u64(), done["unreadable"].as_u64()),
        (Some(6), Some(6), Some(3))
    );
    machine.ok(&["verify"]);
    machine.ok(&["ingest", "--final"]);
    machine.ok(&["restore", "s", "--to", &text(machine.path("out"))]);
    assert_eq!(fs::read(machine.path("out/s.jsonl")).unwrap(), bytes);
}

#[test]
fn odd_session_ids_stop_nothing() {
    let machine = Machine::new("one");
    let long = "x".repeat(240);
    for (number, id) in
        [" ", "a b", "é\u{202e}", "-rf", "%2F", long.as_str(), "'; drop table"].into_iter().enumerate()
    {
        machine.session(id, assistant(id, &format!("m{number}"), 2, Some("end_turn")));
    }
    assert_eq!(machine.json(&["ingest"])["new"], 7);
    assert_eq!(machine.rows(&["sessions"]).len(), 7);
    assert_eq!(machine.rows(&["turns"]).len(), 7);
    machine.ok(&["sessions"]);
}

#[test]
fn a_second_ingest_waits_and_then_names_the_first() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    let host = machine.path("burn/host");
    let state =
        fs::read_dir(host).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let lock = fs::OpenOptions::new().read(true).write(true).open(state.join("ingest.lock")).unwrap();
    fs::write(state.join("ingest.lock"), "4242").unwrap();
    lock.lock().unwrap();
    let ended = machine.run(&["ingest", "--wait", "0"]);
    ends(&ended, 2, &["process 4242 is ingesting", "--wait"]);
    let ended = machine.run(&["ingest", "--wait", "0", "--json"]);
    let error: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(error["error"]["kind"], "InUse");
    lock.unlock().unwrap();
    machine.ok(&["ingest", "--wait", "0"]);
}

#[test]
fn a_store_url_that_makes_no_sense_says_what_would() {
    let machine = Machine::new("one");
    good(&machine);
    for url in ["nonsense", "ftp://x", "file:"] {
        ends(&machine.run(&["ingest", "--store", url]), 2, &["open ledger", "file:DIR"]);
    }
    let mut command = machine.command(&["status"]);
    let ended = Ended::of(command.env("RELAYBURN_STORAGE", "floppy").output().unwrap());
    ends(&ended, 2, &["RELAYBURN_STORAGE", "floppy"]);
}

#[test]
fn reading_a_ledger_that_is_not_there_makes_none() {
    let machine = Machine::new("one");
    for command in [&["status"][..], &["turns"], &["verify"], &["project", "dump"], &["compact"]] {
        let ended = machine.run(command);
        ends(&ended, 2, &["burnlog ingest makes a ledger"]);
    }
    assert!(!machine.ledger().exists());
}

#[test]
fn a_file_where_the_ledger_should_be_is_not_touched() {
    let machine = Machine::new("one");
    good(&machine);
    fs::create_dir_all(machine.path("burn")).unwrap();
    fs::write(machine.ledger(), "mine").unwrap();
    let ended = machine.run(&["ingest"]);
    assert_eq!(ended.code, 2, "{}", ended.stderr);
    assert!(ended.stderr.contains("ledger"), "{}", ended.stderr);
    assert_eq!(fs::read(machine.ledger()).unwrap(), b"mine");
}

#[test]
fn a_ledger_of_a_newer_version_is_refused() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    let path = machine.ledger().join("ledger.json");
    let text = fs::read_to_string(&path).unwrap().replacen('1', "9", 1);
    fs::write(&path, text).unwrap();
    for command in [&["status"][..], &["ingest"], &["verify"]] {
        let ended = machine.run(command);
        assert_eq!(ended.code, 2, "{command:?}: {}", ended.stderr);
        assert!(ended.stderr.contains("upgrade") || ended.stderr.contains("ledger.json"), "{}", ended.stderr);
    }
}

#[test]
fn a_key_that_others_may_read_is_refused() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    let host = machine.path("burn/host");
    let state =
        fs::read_dir(host).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    fs::set_permissions(state.join("writer.key"), fs::Permissions::from_mode(0o644)).unwrap();
    ends(&machine.run(&["ingest"]), 2, &["writer.key", "chmod 600"]);
}

#[test]
fn a_damaged_projection_file_is_folded_anew_and_said_so() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    let dump = machine.dump();
    for path in crate::files_below(&machine.path("burn/projections")) {
        fs::write(path, b"this is not a database, whatever its name says".repeat(100)).unwrap();
    }
    let ended = machine.run(&["ingest"]);
    ends(&ended, 0, &["folded anew"]);
    assert_eq!(machine.dump(), dump);
}

#[test]
fn a_missing_or_damaged_index_is_made_again() {
    let machine = Machine::new("one");
    machine.ok(&["ingest", "--root", &crate::claude_fixtures()]);
    machine.ok(&["compact"]);
    let (dump, status) = (machine.dump(), machine.json(&["status"])["feeds"].clone());
    for path in crate::files_below(&machine.ledger().join("index")) {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 0x55;
        }
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(machine.json(&["ingest", "--recheck", "--root", &crate::claude_fixtures()])["new"], 0);
    fs::remove_dir_all(machine.ledger().join("index")).unwrap();
    assert_eq!(machine.json(&["ingest", "--recheck", "--root", &crate::claude_fixtures()])["new"], 0);
    assert_eq!(machine.json(&["status"])["feeds"], status);
    machine.ok(&["project", "rebuild"]);
    assert_eq!(machine.dump(), dump);
    machine.ok(&["verify"]);
}

#[test]
fn an_ambiguous_or_unknown_session_names_the_candidates() {
    let machine = Machine::new("one");
    for (id, message) in [("abc1", "m1"), ("abc2", "m2")] {
        machine.session(id, assistant(id, message, 2, Some("end_turn")));
    }
    machine.ok(&["ingest"]);
    let to = text(machine.path("out"));
    ends(&machine.run(&["restore", "abc", "--to", &to]), 2, &["abc1", "abc2"]);
    ends(&machine.run(&["restore", "zzz", "--to", &to]), 2, &["zzz"]);
    machine.ok(&["restore", "abc1", "--to", &to]);
    ends(&machine.run(&["restore", "abc1", "--to", &to]), 2, &["--force"]);
    machine.ok(&["restore", "abc1", "--to", &to, "--force"]);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let machine = Machine::new("one");
    let lines: String = (0..5000).map(|n| assistant("s", &format!("m{n}"), 2, Some("end_turn"))).collect();
    machine.session("s", lines);
    machine.ok(&["ingest"]);
    let mut child = machine
        .command(&["turns", "--json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = Ended::of(child.wait_with_output().unwrap());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
}
