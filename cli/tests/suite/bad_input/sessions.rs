//! Session files that nobody expects: names, bytes, links, clocks, and files that change between two ingests.

use super::{ends, error_object, good};
use crate::{Ended, Machine, assistant, text};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

#[test]
fn session_ids_with_a_slash_or_without_a_letter_stop_nothing() {
    let machine = Machine::new("one");
    let long = "y".repeat(300);
    for (number, id) in ["a b", "../../etc/passwd", "", long.as_str(), "\u{0}"].into_iter().enumerate() {
        let line = assistant("@", &format!("m{number}"), 2, Some("end_turn"));
        let id = serde_json::to_string(id).unwrap();
        machine.session(&format!("file-{number}"), line.replacen("\"@\"", &id, 1));
    }
    assert_eq!(machine.json(&["ingest"])["new"], 5);
    assert_eq!(machine.rows(&["turns"]).len(), 5);
    machine.ok(&["ingest", "--final"]);
    machine.ok(&["verify"]);
    let out = text(machine.path("out"));
    for number in 0..5 {
        machine.ok(&["restore", &format!("file-{number}"), "--to", &out]);
    }
    assert!(!machine.path("etc").exists() && machine.path("out/file-1.jsonl").exists());
}

#[test]
fn a_file_rewritten_in_place_to_a_larger_one_is_read_again_and_keeps_both() {
    let machine = Machine::new("one");
    let old = assistant("s", "m1", 2, Some("end_turn"));
    machine.session("s", &old);
    machine.ok(&["ingest", "--final"]);
    let new = assistant("s", "m2", 3, Some("end_turn")) + &assistant("s", "m3", 4, Some("end_turn"));
    let path = machine.session("s", &new);
    let ended = machine.run(&["ingest", "--final"]);
    ends(&ended, 0, &[&format!("burnlog: {} was rewritten", path.display()), "read again"]);
    assert_eq!(machine.rows(&["turns"]).len(), 3);
    let out = text(machine.path("out"));
    machine.ok(&["restore", "s", "--to", &out, "--all"]);
    let mut restored: Vec<String> = crate::files_below(&machine.path("out"))
        .into_iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    restored.sort_unstable();
    assert_eq!(restored, [old, new]);
}

#[test]
fn a_last_line_without_newline_is_pending_and_counted_once_when_it_is_complete() {
    let machine = Machine::new("one");
    let (first, second) =
        (assistant("s", "m1", 2, Some("end_turn")), assistant("s", "m2", 3, Some("end_turn")));
    let half = second.len() / 2;
    machine.session("s", first.clone() + &second[..half]);
    let done = machine.json(&["ingest"]);
    assert_eq!((done["new"].as_u64(), done["pending"].as_u64()), (Some(1), Some(1)));
    assert_eq!(done["pending_bytes"], half);
    // Complete, and still without its newline.
    machine.session("s", first.clone() + second.trim_end());
    assert_eq!(machine.json(&["ingest"])["new"], 1);
    machine.session("s", first + &second);
    let done = machine.json(&["ingest"]);
    assert_eq!((done["new"].as_u64(), done["pending"].as_u64()), (Some(0), Some(0)));
    assert_eq!(machine.rows(&["turns"]).len(), 2);
}

#[test]
fn records_that_no_database_takes_are_stored_and_restored() {
    let machine = Machine::new("one");
    let call = assistant("s", "m1", 2, Some("end_turn"));
    let mut bytes = call.replacen("\"hi\"", "\"\\ud800 \\u0000\"", 1).into_bytes();
    for (number, tokens) in
        ["9007199254740993", "18446744073709551616", "1e400", "-5", "1.5"].iter().enumerate()
    {
        let call = assistant("s", &format!("n{number}"), 2, Some("end_turn"));
        bytes.extend(call.replacen("\"output_tokens\":2", &format!("\"output_tokens\":{tokens}"), 1).bytes());
    }
    bytes.extend_from_slice(b"{\"type\":\"user\",\"type\":\"assistant\",\"uuid\":\"u\",\"uuid\":\"v\"}\n");
    bytes.extend_from_slice(&[0; 5000]);
    bytes.push(b'\n');
    machine.session("s", &bytes);
    let done = machine.json(&["ingest", "--final"]);
    assert_eq!((done["records"].as_u64(), done["new"].as_u64()), (Some(8), Some(8)));
    machine.ok(&["verify"]);
    let dump = machine.dump();
    machine.ok(&["project", "rebuild"]);
    assert_eq!(machine.dump(), dump);
    let first = machine.rows(&["turns", "--limit", "9"]);
    assert!(first.iter().any(|call| call["output_tokens"] == 9_007_199_254_740_993_u64), "{first:?}");
    machine.ok(&["restore", "s", "--to", &text(machine.path("out"))]);
    assert_eq!(fs::read(machine.path("out/s.jsonl")).unwrap(), bytes);
}

#[test]
fn links_in_circles_pipes_and_folders_are_counted_by_name_and_the_rest_is_stored() {
    let machine = Machine::new("one");
    good(&machine);
    let project = machine.project();
    symlink("..", project.join("circle")).unwrap();
    symlink("self.jsonl", project.join("self.jsonl")).unwrap();
    fs::create_dir(project.join("folder.jsonl")).unwrap();
    assert!(Command::new("mkfifo").arg(project.join("pipe.jsonl")).status().unwrap().success());
    let ended = machine.run(&["ingest", "--json"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let done: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    let failed: Vec<(String, String)> = done["failed"]
        .as_array()
        .unwrap()
        .iter()
        .map(|failed| (failed["path"].as_str().unwrap().into(), failed["error"].as_str().unwrap().into()))
        .collect();
    let expected = [
        ("folder.jsonl", "a folder stands where a file is expected; move it away"),
        ("pipe.jsonl", "a pipe, a socket or a device; move it away"),
        ("self.jsonl", "the system refused; the next ingest tries again"),
    ];
    assert_eq!(failed.len(), expected.len(), "{failed:?}");
    for ((path, error), (name, says)) in failed.iter().zip(expected) {
        assert!(path.ends_with(name) && error.contains(says), "{path}: {error}");
        assert!(ended.stderr.contains(path), "{}", ended.stderr);
    }
    assert_eq!(done["new"], 1);
    for (name, _) in expected {
        let path = project.join(name);
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).unwrap();
    }
    machine.ok(&["ingest"]);
}

#[test]
fn a_folder_that_cannot_be_read_is_counted_and_the_rest_is_stored() {
    let machine = Machine::new("one");
    good(&machine);
    let locked = machine.path("home/.claude/projects/-unreadable");
    fs::create_dir(&locked).unwrap();
    fs::write(locked.join("s.jsonl"), assistant("s", "m2", 2, Some("end_turn"))).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    let plain = machine.command(&["ingest"]);
    let mut command = if chown(&locked, Some(12_345), Some(12_345)).is_ok() {
        // Root reads everything, but not what belongs to somebody whom its namespace does not know.
        let mut command = Command::new("unshare");
        command.arg("-r").arg(plain.get_program()).args(plain.get_args()).env_clear();
        command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.env("PATH", "/usr/bin:/bin");
        command
    } else {
        fs::set_permissions(&locked, fs::Permissions::from_mode(0o0)).unwrap();
        plain
    };
    let ended = Ended::of(command.output().unwrap());
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o700)).unwrap();
    ends(
        &ended,
        1,
        &["-unreadable", "not allowed to; check its owner and mode", "failed: 1 file; the rest is stored"],
    );
    assert_eq!(machine.rows(&["turns"]).len(), 1);
}

#[test]
fn clocks_that_are_wrong_by_centuries_are_kept_and_shown() {
    let machine = Machine::new("one");
    let instants = [
        "1901-02-03T04:05:06Z",
        "1969-12-31T23:59:59.999Z",
        "2999-01-01T00:00:00Z",
        "99999-01-01T00:00:00Z",
        "x",
    ];
    let lines: String = instants
        .iter()
        .enumerate()
        .map(|(number, instant)| {
            let line = assistant("s", &format!("m{number}"), 2, Some("end_turn"));
            line.replacen("2026-03-01T10:00:00.000Z", instant, 1)
        })
        .collect();
    machine.session("s", lines);
    assert_eq!(machine.json(&["ingest"])["new"], 5);
    let mut shown: Vec<String> = machine
        .rows(&["turns"])
        .iter()
        .map(|call| call["timestamp"].as_str().unwrap_or("none").to_owned())
        .collect();
    shown.sort_unstable();
    assert_eq!(
        shown,
        ["1901-02-03T04:05:06Z", "1969-12-31T23:59:59.999Z", "2999-01-01T00:00:00Z", "none", "none"]
    );
    machine.ok(&["sessions"]);
    assert_eq!(machine.rows(&["turns", "--until", "1950-01-01"]).len(), 1);
    let ended = machine.run(&["turns", "--since", "last year", "--json"]);
    let error = error_object(&ended, "Invalid");
    assert!(error["message"].as_str().unwrap().contains("\"last year\" is none of: RFC 3339"), "{error}");
}

#[test]
fn a_root_without_sessions_is_named() {
    let machine = Machine::new("one");
    fs::write(machine.path("notes.txt"), "no session").unwrap();
    let ended = machine.run(&["ingest", "--root", &text(machine.path("notes.txt"))]);
    ends(&ended, 0, &["no sessions in", "notes.txt", "--root takes one of them"]);
    ends(&machine.run(&["ingest", "--root", "/not/there"]), 1, &["/not/there", "failed: 1 file"]);
}

#[test]
fn a_file_that_is_gone_after_an_ingest_is_no_error_and_restores() {
    let machine = Machine::new("one");
    let lines = assistant("s", "m1", 2, Some("end_turn"));
    let path = machine.session("s", &lines);
    machine.ok(&["ingest"]);
    fs::remove_file(path).unwrap();
    let ended: Ended = machine.run(&["ingest"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    machine.ok(&["restore", "s", "--to", &text(machine.path("out"))]);
    assert_eq!(fs::read_to_string(machine.path("out/s.jsonl")).unwrap(), lines);
}

/// The agent writes on while burnlog looks and reads: whatever an ingest finds, cut anywhere, is recorded once.
#[test]
fn bytes_appended_while_ingests_read_are_recorded_once() {
    let machine = Machine::new("one");
    let lines: Vec<String> =
        (0..400).map(|number| assistant("s", &format!("m{number}"), 2, Some("end_turn"))).collect();
    let whole = lines.concat();
    let path = machine.session("s", "");
    let mut ingests = 0;
    std::thread::scope(|scope| {
        let agent = scope.spawn(|| {
            let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
            whole.as_bytes().chunks(97).for_each(|piece| file.write_all(piece).unwrap());
        });
        while ingests < 3 || !agent.is_finished() {
            machine.ok(&["ingest", "--json"]);
            ingests += 1;
        }
        agent.join().unwrap();
    });
    let last = machine.json(&["ingest"]);
    assert_eq!((&last["pending"], &last["failed"]), (&0.into(), &serde_json::json!([])), "{last}");
    assert_eq!(machine.rows(&["turns", "--limit", "1000"]).len(), lines.len());
    machine.ok(&["verify"]);
    machine.ok(&["ingest", "--final"]);
    machine.ok(&["restore", "s", "--to", &text(machine.path("out"))]);
    assert_eq!(fs::read_to_string(machine.path("out/s.jsonl")).unwrap(), whole);
}

/// Files that come and go while they are looked for: whichever ingest misses one names it, or never saw it.
#[test]
fn files_that_vanish_while_ingests_read_are_named_and_the_rest_is_stored() {
    let machine = Machine::new("one");
    good(&machine);
    let path = machine.project().join("fleeting.jsonl");
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                fs::write(&path, assistant("fleeting", "f1", 2, Some("end_turn"))).unwrap();
                fs::remove_file(&path).unwrap();
            }
        });
        for _ in 0..10 {
            let ended = machine.run(&["ingest", "--recheck"]);
            match ended.code {
                0 => assert!(!ended.stderr.contains("failed"), "{}", ended.stderr),
                1 => ends(&ended, 1, &["fleeting.jsonl", "failed: 1 file"]),
                code => panic!("{code}: {}", ended.stderr),
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    ends(&machine.run(&["ingest"]), 0, &[]);
    assert_eq!(machine.rows(&["turns", "--session", "good"]).len(), 1);
    assert!(machine.rows(&["turns"]).len() <= 2);
    machine.ok(&["verify"]);
}
