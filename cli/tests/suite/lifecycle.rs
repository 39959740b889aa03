//! A ledger's life on real commands: ingest, grow, restore, replay, rebuild, compact, verify.

use crate::{Machine, assistant, claude_fixtures, copy_folder, files_below, text};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

#[test]
fn ingesting_the_fixtures_twice_stores_everything_once() {
    let machine = Machine::new("one");
    let first = machine.json(&["ingest", "--root", &claude_fixtures()]);
    assert!(first["new"].as_u64().unwrap() > 100, "{first}");
    assert_eq!(first["failed"], serde_json::json!([]));
    let dump = machine.dump();
    let again = machine.json(&["ingest", "--root", &claude_fixtures()]);
    assert_eq!((again["new"].as_u64(), again["records"].as_u64()), (Some(0), Some(0)));
    assert_eq!(again["unchanged"], first["files"]);
    let rechecked = machine.json(&["ingest", "--recheck", "--root", &claude_fixtures()]);
    assert_eq!(rechecked["new"], 0);
    assert_eq!(again["head"], first["head"]);
    assert_eq!(machine.dump(), dump);
    machine.ok(&["verify"]);
}

#[test]
fn a_second_host_adds_its_testimony_and_nothing_else() {
    let (one, two) = (Machine::new("one"), Machine::new("two"));
    one.ok(&["ingest", "--root", &claude_fixtures()]);
    let dump = one.dump();
    let store = format!("file:{}", text(one.ledger()));
    let second = two.json(&["ingest", "--store", &store, "--root", &claude_fixtures()]);
    assert_eq!((second["new"].as_u64(), second["present"].as_u64()), (Some(0), Some(0)));
    assert!(second["known"].as_u64().unwrap() > 100);
    assert_eq!(two.ok(&["project", "dump", "--store", &store]), dump);
    one.ok(&["project", "update"]);
    assert_eq!(one.dump(), dump);
    let status = one.json(&["status"]);
    let hosts: Vec<&str> =
        status["feeds"].as_array().unwrap().iter().map(|f| f["host"].as_str().unwrap()).collect();
    assert!(hosts.contains(&"one") && hosts.contains(&"two"), "{hosts:?}");
}

#[test]
fn a_growing_file_is_read_from_where_it_was() {
    let machine = Machine::new("one");
    let path = machine.session("s", assistant("s", "m1", 2, None));
    assert_eq!(machine.json(&["ingest"])["new"], 1);
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(assistant("s", "m1", 40, Some("end_turn")).as_bytes()).unwrap();
    file.write_all(b"{\"type\":\"user\",\"cut\":").unwrap();
    let grown = machine.json(&["ingest"]);
    assert_eq!((grown["new"].as_u64(), grown["pending"].as_u64()), (Some(1), Some(1)));
    let turns = machine.rows(&["turns"]);
    assert_eq!(turns.len(), 1);
    assert_eq!((turns[0]["output_tokens"].as_u64(), turns[0]["complete"].as_bool()), (Some(40), Some(true)));
}

#[test]
fn every_file_is_restored_byte_for_byte_after_it_is_gone() {
    let machine = Machine::new("one");
    copy_folder(std::path::Path::new(&claude_fixtures()), &machine.path("home"));
    machine.ok(&["ingest", "--final"]);
    let dump = machine.dump();
    let originals = machine.path("originals");
    fs::rename(machine.path("home/.claude"), &originals).unwrap();
    machine.ok(&["project", "rebuild"]);
    assert_eq!(machine.dump(), dump);
    let mut restored = 0;
    for session in machine.rows(&["sessions"]) {
        let id = session["session"].as_str().unwrap();
        let to = machine.path(&format!("restored-{restored}"));
        machine.ok(&["restore", id, "--to", &text(&to)]);
        restored += files_below(&to).len();
    }
    let contents = |folder: &str| {
        let mut contents: Vec<Vec<u8>> = Vec::new();
        for entry in fs::read_dir(machine.path("")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with(folder) {
                contents.extend(files_below(&path).iter().map(|file| fs::read(file).unwrap()));
            }
        }
        contents.retain(|bytes| !bytes.is_empty());
        contents.sort();
        contents
    };
    assert!(restored > 10);
    assert_eq!(contents("restored-"), contents("originals"));
}

#[test]
fn a_replayed_ledger_is_the_same_and_a_second_replay_sends_nothing() {
    let (one, two) = (Machine::new("one"), Machine::new("two"));
    one.ok(&["ingest", "--root", &claude_fixtures()]);
    let from = format!("file:{}", text(one.ledger()));
    let to = format!("file:{}", text(two.ledger()));
    let first = two.json(&["replay", "--from", &from, "--to", &to]);
    assert!(first["events_sent"].as_u64().unwrap() > 100);
    let second = two.json(&["replay", "--from", &from, "--to", &to]);
    assert_eq!((second["batches"].as_u64(), second["bytes_sent"].as_u64()), (Some(0), Some(0)));
    two.ok(&["verify"]);
    two.ok(&["project", "update"]);
    assert_eq!(one.dump(), two.dump());
    let feeds = |machine: &Machine| {
        let feeds = machine.json(&["status"])["feeds"].clone();
        feeds
            .as_array()
            .unwrap()
            .iter()
            .map(|f| (f["writer"].clone(), f["size"].clone(), f["root"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(feeds(&one), feeds(&two));
}

#[test]
fn two_hosts_merged_either_way_give_one_truth() {
    let (one, two) = (Machine::new("one"), Machine::new("two"));
    let shared = assistant("s", "m1", 2, None) + &assistant("s", "m1", 30, Some("end_turn"));
    one.session("s", &shared);
    two.session("s", shared.clone() + &assistant("s", "m2", 7, Some("end_turn")));
    two.session("t", assistant("t", "m3", 5, Some("end_turn")));
    one.ok(&["ingest"]);
    two.ok(&["ingest"]);
    let [a, b] = [&one, &two].map(|machine| format!("file:{}", text(machine.ledger())));
    one.ok(&["replay", "--from", &b, "--to", &a]);
    two.ok(&["replay", "--from", &a, "--to", &b]);
    one.ok(&["project", "update"]);
    two.ok(&["project", "update"]);
    assert_eq!(one.dump(), two.dump());
    assert_eq!(one.rows(&["turns"]).len(), 3);
}

#[test]
fn compacting_changes_nothing_that_is_printed() {
    let machine = Machine::new("one");
    machine.ok(&["ingest", "--root", &claude_fixtures()]);
    let (dump, status) = (machine.dump(), machine.json(&["status"]));
    machine.ok(&["compact"]);
    machine.ok(&["verify"]);
    machine.ok(&["project", "rebuild"]);
    assert_eq!(machine.dump(), dump);
    assert_eq!(machine.json(&["status"])["feeds"], status["feeds"]);
    assert_eq!(machine.json(&["ingest", "--root", &claude_fixtures()])["new"], 0);
}

#[test]
fn every_segment_can_be_read_with_standard_tools() {
    let machine = Machine::new("one");
    machine.ok(&["ingest", "--root", &claude_fixtures()]);
    let check = || {
        let mut lines = 0;
        for path in files_below(&machine.ledger().join("segments")) {
            let bytes = match path.extension().and_then(|e| e.to_str()) {
                Some("jsonl") => fs::read(&path).unwrap(),
                Some("zst") => zstd::decode_all(fs::File::open(&path).unwrap()).unwrap(),
                _ => continue,
            };
            for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                // A lone surrogate is JSON by its grammar, whatever it means; `Value` would refuse it.
                serde_json::from_slice::<serde::de::IgnoredAny>(line).unwrap();
                lines += 1;
            }
        }
        assert!(lines > 100);
    };
    check();
    machine.ok(&["compact"]);
    check();
}

#[test]
fn a_ledger_restored_from_a_backup_gets_what_it_lacks_again() {
    let machine = Machine::new("one");
    let path = machine.session("s", assistant("s", "m1", 2, Some("end_turn")));
    machine.ok(&["ingest"]);
    copy_folder(&machine.ledger(), &machine.path("backup"));
    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(assistant("s", "m2", 3, Some("end_turn")).as_bytes()).unwrap();
    machine.ok(&["ingest"]);
    let dump = machine.dump();
    fs::remove_dir_all(machine.ledger()).unwrap();
    copy_folder(&machine.path("backup"), &machine.ledger());
    let ended = machine.run(&["ingest"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("started a new feed"), "{}", ended.stderr);
    assert_eq!(machine.rows(&["turns"]).len(), 2);
    machine.ok(&["project", "rebuild"]);
    assert_eq!(machine.dump(), dump);
    machine.ok(&["ingest"]);
}

#[test]
fn rows_of_what_a_restored_ledger_no_longer_has_are_gone() {
    for (store, forgets) in
        [("file:burn/ledger", false), ("file:burn/ledger", true), ("redb:burn/ledger", true)]
    {
        let machine = Machine::new("one");
        let run = |arguments: &[&str]| machine.run(&[arguments, &["--store", store]].concat());
        let ok = |arguments: &[&str]| {
            let ended = run(arguments);
            assert_eq!(ended.code, 0, "{store}: {arguments:?}: {}", ended.stderr);
            ended
        };
        let copy = |from: &Path, to: &Path| {
            if from.is_dir() { copy_folder(from, to) } else { fs::copy(from, to).map(drop).unwrap() }
        };
        machine.session("s", assistant("s", "m1", 2, Some("end_turn")));
        ok(&["ingest"]);
        copy(&machine.ledger(), &machine.path("backup"));
        let lost = machine.session("t", assistant("t", "m2", 3, Some("end_turn")));
        ok(&["ingest"]);
        // The session is gone, the ledger goes back, and this host may not know any more how far it was.
        fs::remove_file(lost).unwrap();
        if machine.ledger().is_dir() {
            fs::remove_dir_all(machine.ledger()).unwrap();
        }
        copy(&machine.path("backup"), &machine.ledger());
        if forgets {
            for path in files_below(&machine.path("burn/host")) {
                if path.ends_with("heads.jsonl") || path.ends_with("cursors") {
                    fs::remove_file(path).unwrap();
                }
            }
        }
        machine.session("u", assistant("u", "m3", 4, Some("end_turn")));
        let ended = ok(&["ingest"]);
        assert!(ended.stderr.contains("started a new feed"), "{store}: {}", ended.stderr);
        assert!(ended.stderr.contains("lists are made anew"), "{store}: {}", ended.stderr);
        let kept_up = ok(&["project", "dump"]).stdout;
        assert!(!kept_up.contains("m2") && kept_up.contains("m3"), "{store}");
        ok(&["project", "rebuild"]);
        assert_eq!(ok(&["project", "dump"]).stdout, kept_up, "{store}");
        assert_eq!(ok(&["ingest"]).stderr, "", "{store}");
        // Where the old feed is remembered, what it lacks is named.
        assert_eq!(run(&["verify"]).code, i32::from(!forgets), "{store}");
    }
}

#[test]
fn include_and_exclude_decide_what_reaches_a_ledger() {
    let machine = Machine::new("one");
    machine.session("s", assistant("s", "m1", 2, Some("end_turn")));
    machine.session("t", assistant("t", "m2", 2, Some("end_turn")).replace("/work/demo", "/secret/plan"));
    let done = machine.json(&["ingest", "--exclude", "/secret/*"]);
    assert_eq!((done["excluded"].as_u64(), done["new"].as_u64()), (Some(1), Some(1)));
    assert!(!machine.dump().contains("secret"));
    let done = machine.json(&["ingest", "--include", "/secret/*"]);
    assert_eq!(done["new"], 1);
}

#[test]
fn a_dry_run_stores_nothing() {
    let machine = Machine::new("one");
    machine.session("s", assistant("s", "m1", 2, Some("end_turn")));
    let done = machine.json(&["ingest", "--dry-run"]);
    assert_eq!((done["records"].as_u64(), done["files"].as_u64()), (Some(1), Some(1)));
    assert!(!machine.ledger().exists());
    machine.ok(&["ingest"]);
    let done = machine.json(&["ingest", "--dry-run"]);
    assert_eq!(done["unchanged"], 1);
}

#[test]
fn a_rewritten_file_is_restored_in_both_of_its_forms() {
    let machine = Machine::new("one");
    let old = assistant("s", "m1", 2, Some("end_turn")) + &assistant("s", "m2", 3, Some("end_turn"));
    let new = assistant("s", "m1", 2, Some("end_turn"))
        + &assistant("s", "m9", 4, Some("end_turn"))
        + "{\"type\":\"user\"}\n";
    machine.session("s", &old);
    machine.ok(&["ingest"]);
    machine.session("s", &new);
    let again = machine.run(&["ingest", "--final"]);
    assert!(again.stderr.contains("was rewritten"), "{}", again.stderr);
    let out = machine.path("out");
    let lines = machine.rows(&["restore", "s", "--all", "--to", &text(&out)]);
    assert_eq!(lines.len(), 2);
    let mut contents: Vec<String> =
        files_below(&out).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    contents.sort_by_key(String::len);
    assert_eq!(contents, [old, new]);
}

#[test]
fn one_source_is_read_and_the_others_are_left_as_they_are() {
    let machine = Machine::new("one");
    machine.session("s", assistant("s", "m1", 1, Some("end_turn")));
    let codex = machine.path("home/.codex/sessions/2026/03/01");
    std::fs::create_dir_all(&codex).unwrap();
    let name = "rollout-2026-03-01T10-00-00-01999999-0000-7000-8000-000000000001.jsonl";
    std::fs::write(codex.join(name), "{\"type\":\"world_state\",\"payload\":{}}\n").unwrap();
    assert_eq!(machine.json(&["ingest", "--source", "claude-code"])["files"], 1);
    assert_eq!(machine.json(&["ingest", "--source", "codex"])["new"], 1);
    // What is not asked for is not taken for gone, even when it is.
    std::fs::remove_file(codex.join(name)).unwrap();
    assert_eq!(machine.json(&["ingest", "--source", "claude-code"])["closed"], 0);
    assert_eq!(machine.json(&["ingest"])["closed"], 1);
    let wrong = machine.run(&["ingest", "--source", "cursor"]);
    assert_eq!(wrong.code, 2);
    assert!(wrong.stderr.contains("claude-code, codex"), "{}", wrong.stderr);
}

/// A replay folds nothing; who asks the lists afterwards is to know it.
#[test]
fn a_replay_says_how_far_lists_are_behind() {
    let (one, two) = (Machine::new("one"), Machine::new("two"));
    one.session("a", assistant("a", "m1", 1, Some("end_turn")));
    two.session("b", assistant("b", "m2", 2, Some("end_turn")));
    for machine in [&one, &two] {
        machine.ok(&["ingest"]);
    }
    let [from, to] = [&one, &two].map(|machine| format!("file:{}", text(machine.ledger())));
    let replay = ["replay", "--from", &from, "--to", &to];
    let told = two.run(&replay).stderr;
    let update = format!("to fold them: burnlog project update --store {to}");
    assert!(told.contains("burnlog: lists are ") && told.contains(&update), "{told}");
    assert_eq!(two.rows(&["turns"]).len(), 1);
    let commands: [&[&str]; 11] = [
        &["turns"],
        &["sessions"],
        &["usage", "--by", "day"],
        &["content"],
        &["relationships"],
        &["conflicts"],
        &["diagnostics"],
        &["search", "hi"],
        &["show", "b"],
        &["export", "--table", "turns"],
        &["project", "dump"],
    ];
    let notice = "burnlog: lists are 2 entries behind; to fold them: burnlog project update\n";
    for command in commands {
        let told = two.run(command);
        assert_eq!(told.code, 0, "{command:?}");
        assert!(told.stderr.contains(notice), "{command:?}: {}", told.stderr);
        assert_eq!(two.run(&[command, &["--quiet"]].concat()).stderr, "", "{command:?}");
    }
    // Scripts are told as well, and read the same.
    let told = two.run(&["turns", "--json"]);
    assert_eq!((told.stdout.lines().count(), told.stderr.as_str()), (1, notice));
    let named = two.run(&["turns", "--csv", "--store", &to]);
    assert_eq!(named.stderr, notice.replace("update\n", &format!("update --store {to}\n")));
    two.ok(&["project", "update", "--store", &to]);
    for command in commands {
        let told = two.run(command).stderr;
        assert!(!told.contains("behind"), "{command:?}: {told}");
    }
    assert_eq!(two.rows(&["turns"]).len(), 2);
    assert_eq!(two.run(&replay).stderr, "");
    // Where nothing was ever folded, every list says that.
    let fresh = format!("file:{}", text(two.path("fresh")));
    assert_eq!(two.run(&["replay", "--from", &from, "--to", &fresh]).stderr, "");
    assert!(two.run(&["turns", "--store", &fresh]).stderr.contains("nothing was folded yet"));
}

#[test]
fn a_source_that_is_not_known_is_said_with_those_that_are() {
    let machine = Machine::new("one");
    machine.session("a", assistant("a", "m1", 1, Some("end_turn")));
    machine.ok(&["ingest"]);
    for command in ["turns", "sessions", "usage", "diagnostics", "relationships"] {
        let ended = machine.run(&[command, "--source", "claud"]);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{command}");
        assert!(
            ended.stderr.contains("there is no source \"claud\"; known: claude-code, "),
            "{}",
            ended.stderr
        );
        // One that is read, and of which nothing was recorded, has an empty list.
        assert_eq!(machine.run(&[command, "--source", "codex"]).code, 0, "{command}");
    }
}
