//! What lies in the way of our own files: full and read-only disks, damaged and newer files, two at once.

use super::{ends, error_object, good, host_state};
use crate::{Ended, Machine, assistant, copy_folder, files_below, text};
use std::fs;
use std::process::Command;

/// Runs a command in mounts of its own: `setup` is a line of shell that makes them.
fn mounted(machine: &Machine, setup: &str, arguments: &[&str]) -> Ended {
    let plain = machine.command(arguments);
    let mut command = Command::new("unshare");
    command.args(["-rm", "sh", "-ec", &format!("{setup}\nexec \"$0\" \"$@\"")]);
    command.arg(plain.get_program()).args(plain.get_args()).env_clear().current_dir(machine.folder.path());
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    Ended::of(command.output().unwrap())
}

/// Makes the home of burnlog read-only.
const READ_ONLY: &str = "mount --bind burn burn; mount -o remount,ro,bind burn";

/// Lines that take about this many bytes and do not compress.
fn large(bytes: usize) -> String {
    let mut state = 88_172_645_463_325_252_u64;
    let mut text = String::new();
    for number in 0..bytes / 1000 {
        let mut noise = String::new();
        for _ in 0..50 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            noise.push_str(&format!("{state:016x}"));
        }
        text += &assistant("large", &format!("l{number}"), 2, Some("end_turn")).replacen("hi", &noise, 1);
    }
    text
}

#[test]
fn a_full_disk_is_named_and_what_was_acknowledged_stays() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    machine.session("large", large(2_000_000));
    // The home is copied onto a disk of 900 KB, and what is left there is copied back.
    fs::rename(machine.path("burn"), machine.path("before")).unwrap();
    fs::create_dir(machine.path("burn")).unwrap();
    let setup = "mount -t tmpfs -o size=900k none burn; cp -a before/. burn; \"$0\" \"$@\" 2>&1 || code=$?; \
                 cp -a burn after; cp -a burn again; exit $code; ";
    let ended = mounted(&machine, setup, &["ingest", "--json"]);
    let printed = ended.stdout.lines().last().unwrap_or_default();
    let object: serde_json::Value = serde_json::from_str(printed).unwrap();
    let error = &object["error"];
    assert_eq!((ended.code, &error["kind"]), (2, &"Unavailable".into()), "{error}");
    assert!(error["message"].as_str().unwrap().contains("the disk is full; free space"), "{error}");
    let place = error["location"].as_str().unwrap();
    assert!(place.starts_with(&text(machine.path("burn"))), "{place} is a place that can be looked at");
    assert!(error["hint"].as_str().unwrap().contains("what was acknowledged is stored"), "{error}");
    fs::remove_dir(machine.path("burn")).unwrap();
    fs::rename(machine.path("after"), machine.path("burn")).unwrap();
    machine.ok(&["verify"]);
    assert_eq!(machine.rows(&["turns", "--session", "good"]).len(), 1);
    // With space again the next run completes it.
    machine.ok(&["ingest"]);
    machine.ok(&["verify"]);
    assert_eq!(machine.rows(&["turns"]).len(), 2001);
}

#[test]
fn cursors_that_cannot_be_made_smaller_fail_nothing() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    // Its cursor is long enough for a new base, beside which a folder stands.
    machine.session("half", format!("{{\"half\":\"{}", "x".repeat(70 << 10)));
    let mut cursors = files_below(&machine.path("burn/host"));
    cursors.retain(|path| path.ends_with("cursors"));
    fs::create_dir(cursors[0].with_extension("new")).unwrap();
    let ended = machine.run(&["ingest"]);
    ends(&ended, 0, &[]);
    assert!(
        ended.stderr.contains("all is recorded; the file of cursors could not be made smaller"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("cursors.new") || ended.stderr.contains("/cursors"), "{}", ended.stderr);
    fs::remove_dir(cursors[0].with_extension("new")).unwrap();
    assert_eq!(machine.json(&["ingest"])["unchanged"], 2);
    ends(&machine.run(&["verify"]), 0, &[]);
}

#[test]
fn a_read_only_home_can_be_queried_and_not_ingested_into() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    let (turns, dump) = (machine.ok(&["turns"]), machine.dump());
    let before: Vec<_> = files_below(&machine.path("burn"));
    for arguments in [&["ingest"][..], &["compact"]] {
        let ended = mounted(&machine, READ_ONLY, arguments);
        ends(&ended, 2, &["the file system is read-only", "/burn/ledger/lock"]);
        let ended = mounted(&machine, READ_ONLY, &[arguments, &["--json"]].concat());
        error_object(&ended, "Denied");
    }
    let ended = mounted(&machine, READ_ONLY, &["project", "rebuild"]);
    ends(&ended, 2, &["projections", ".sqlite", "written", "check "]);
    for arguments in [&["status"][..], &["sessions"], &["diagnostics"], &["verify"], &["ingest", "--dry-run"]]
    {
        ends(&mounted(&machine, READ_ONLY, arguments), 0, &[]);
    }
    assert_eq!(mounted(&machine, READ_ONLY, &["turns"]).stdout, turns);
    assert_eq!(mounted(&machine, READ_ONLY, &["project", "dump"]).stdout, dump);
    let out = text(machine.path("out"));
    ends(&mounted(&machine, READ_ONLY, &["restore", "good", "--to", &out]), 0, &[]);
    assert_eq!(files_below(&machine.path("burn")), before);
    machine.ok(&["ingest"]);
}

#[test]
fn a_read_only_place_for_a_first_ledger_is_named() {
    let machine = Machine::new("one");
    good(&machine);
    fs::create_dir(machine.path("burn")).unwrap();
    let ended = mounted(&machine, READ_ONLY, &["ingest"]);
    ends(&ended, 2, &["create ledger", "the file system is read-only", "/burn/ledger"]);
    machine.ok(&["ingest"]);
    assert_eq!(machine.rows(&["turns"]).len(), 1);
}

#[test]
fn cursors_of_another_writer_or_store_and_broken_ones_are_dropped_and_said_so() {
    let (one, two) = (Machine::new("one"), Machine::new("two"));
    for machine in [&one, &two] {
        good(machine);
        machine.ok(&["ingest"]);
    }
    let cursors = host_state(&one).join("cursors");
    let sound = fs::read(&cursors).unwrap();
    let mut flipped = sound.clone();
    flipped[60] ^= 1;
    let foreign = fs::read(host_state(&two).join("cursors")).unwrap();
    for (bytes, why) in [
        (foreign, "the cursors of another feed"),
        (b"junk".to_vec(), "not a cursor file"),
        (vec![b'x'; 300], "not a cursor file of this version"),
        (flipped, ""),
    ] {
        fs::write(&cursors, bytes).unwrap();
        let ended = one.run(&["ingest"]);
        ends(&ended, 0, &["(0 new, 1 already there)"]);
        if !why.is_empty() {
            ends(&ended, 0, &["cursors dropped", why, "nothing is stored twice"]);
        }
        ends(&one.run(&["ingest"]), 0, &["1 unchanged"]);
    }
    // Another ledger at the same place: cursors of the old one do not count.
    fs::rename(one.ledger(), one.path("old")).unwrap();
    assert_eq!(one.json(&["ingest"])["new"], 1);
    fs::remove_file(&cursors).unwrap();
    fs::create_dir(&cursors).unwrap();
    fs::remove_dir_all(one.ledger()).unwrap();
    fs::rename(one.path("old"), one.ledger()).unwrap();
    ends(&one.run(&["ingest"]), 2, &["cursors", "a folder stands where a file is expected; move it away"]);
    fs::remove_dir(&cursors).unwrap();
    one.ok(&["ingest"]);
    one.ok(&["verify"]);
}

#[test]
fn a_ledger_restored_from_a_backup_is_noticed_and_read_into_again() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    copy_folder(&machine.ledger(), &machine.path("backup"));
    machine.session("late", assistant("late", "m2", 3, Some("end_turn")));
    machine.ok(&["ingest"]);
    fs::remove_dir_all(machine.ledger()).unwrap();
    fs::rename(machine.path("backup"), machine.ledger()).unwrap();
    ends(&machine.run(&["verify"]), 1, &["feed-cut", "this host remembers size"]);
    ends(&machine.run(&["ingest"]), 0, &["restored from a backup?", "started a new feed"]);
    assert_eq!(machine.rows(&["turns"]).len(), 2);
}

#[test]
fn keys_that_are_none_are_refused_with_what_to_do() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    let key = host_state(&machine).join("writer.key");
    let sound = fs::read(&key).unwrap();
    for garbage in [&b""[..], b"garbage", &[0xff; 64], &sound[..40]] {
        fs::write(&key, garbage).unwrap();
        let ended = machine.run(&["ingest"]);
        ends(
            &ended,
            2,
            &["writer.key", "not a writer key (64 hex digits)", "move it away to start a new feed"],
        );
        assert!(!ended.stderr.contains("hint:"), "verify knows nothing of keys: {}", ended.stderr);
    }
    let error = error_object(&machine.run(&["ingest", "--json"]), "Corrupt");
    assert_eq!(error["location"], text(&key));
    fs::write(&key, sound).unwrap();
    machine.ok(&["ingest"]);
    let mut command = machine.command(&["ingest"]);
    let ended = Ended::of(command.env("RELAYBURN_WRITER_KEY", "zz").output().unwrap());
    ends(&ended, 2, &["RELAYBURN_WRITER_KEY is not 64 hex digits; set it"]);
}

#[test]
fn state_of_this_host_that_is_damaged_is_named_with_its_line() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    let heads = host_state(&machine).join("heads.jsonl");
    fs::write(&heads, "\n{\"feed\":1}\n").unwrap();
    for command in ["verify", "ingest"] {
        ends(&machine.run(&[command]), 2, &["heads.jsonl:2", "not a batch head; move the file away"]);
    }
    fs::remove_file(&heads).unwrap();
    let config = machine.path("burn/host/config.json");
    fs::write(&config, "{\n  \"exlude\": []\n}").unwrap();
    ends(&machine.run(&["ingest"]), 2, &["config.json:2:", "fix or remove it", "exlude"]);
    let error = error_object(&machine.run(&["ingest", "--json"]), "Invalid");
    assert_eq!(error["operation"], "read configuration");
    fs::remove_file(&config).unwrap();
    machine.ok(&["ingest"]);
}

#[test]
fn a_ledger_without_its_ledger_file_is_not_said_to_be_missing() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    let path = machine.ledger().join("ledger.json");
    let sound = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    for command in ["ingest", "status", "verify"] {
        let error = error_object(&machine.run(&[command, "--json"]), "Corrupt");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("segments but no ledger.json; put it back from a backup"), "{message}");
    }
    fs::write(&path, sound).unwrap();
    machine.ok(&["verify"]);
}

#[test]
fn a_newer_ledger_or_projection_says_to_upgrade_once() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    let path = machine.ledger().join("ledger.json");
    let sound = fs::read_to_string(&path).unwrap();
    fs::write(&path, sound.replacen(":1,", ":2,\"new\":[],", 1)).unwrap();
    for command in ["status", "ingest", "verify", "compact"] {
        let ended = machine.run(&[command]);
        ends(&ended, 2, &["the ledger has format 2, this program reads 1; upgrade burnlog", "ledger.json"]);
        assert_eq!(ended.stderr.matches("upgrade").count(), 1, "{}", ended.stderr);
        error_object(&machine.run(&[command, "--json"]), "Unsupported");
    }
    fs::write(&path, sound).unwrap();
    machine.ok(&["ingest"]);
}

#[test]
fn queries_of_damaged_projections_say_how_to_make_them_again() {
    let machine = Machine::new("one");
    good(&machine);
    machine.ok(&["ingest"]);
    let dump = machine.dump();
    let path = files_below(&machine.path("burn/projections")).remove(0);
    fs::write(&path, "not a database at all").unwrap();
    ends(&machine.run(&["turns"]), 2, &[".sqlite", "delete it and run project rebuild"]);
    error_object(&machine.run(&["turns", "--json"]), "Corrupt");
    fs::remove_file(&path).unwrap();
    ends(&machine.run(&["turns"]), 2, &["nothing was folded yet; run ingest or project rebuild"]);
    fs::create_dir(&path).unwrap();
    for command in ["turns", "ingest"] {
        ends(&machine.run(&[command]), 2, &[".sqlite", "a folder stands where", "move it away"]);
    }
    fs::remove_dir(&path).unwrap();
    machine.ok(&["project", "rebuild"]);
    assert_eq!(machine.dump(), dump);
}

#[test]
fn a_command_line_or_environment_that_makes_no_sense_is_an_object_with_json() {
    let machine = Machine::new("one");
    for arguments in [&["ingest", "--nope", "--json"][..], &["frobnicate", "--json"], &["--json"]] {
        let error = error_object(&machine.run(arguments), "Invalid");
        assert_eq!(error["operation"], "read arguments", "{error}");
        assert!(error["message"].as_str().unwrap().ends_with("see burnlog --help"), "{error}");
    }
    for url in ["nonsense", "ftp://x", "file:", "redb:", "", "postgres://", "postgres://user:secret@/x"] {
        let ended = machine.run(&["ingest", "--json", "--store", url]);
        let error = error_object(&ended, "Invalid");
        assert!(error["message"].as_str().unwrap().contains("write "), "{error}");
        assert!(!ended.stderr.contains("secret"), "{error}");
    }
    let mut command = machine.command(&["status", "--json"]);
    let ended = Ended::of(command.env_remove("HOME").env_remove("RELAYBURN_HOME").output().unwrap());
    let error = error_object(&ended, "Invalid");
    assert!(error["message"].as_str().unwrap().contains("set one of them"), "{error}");
    machine.ok(&["completions", "bash"]);
}

#[test]
fn a_store_that_is_something_else_is_left_alone_with_what_to_do() {
    let machine = Machine::new("one");
    good(&machine);
    let file = machine.path("home/.claude/projects/-work-demo/good.jsonl");
    let before = fs::read(&file).unwrap();
    let home = format!("file:{}", text(machine.path("home")));
    let ended = machine.run(&["ingest", "--store", &home]);
    ends(&ended, 2, &["holds \".claude\"; name a new or an empty folder"]);
    let ended = machine.run(&["ingest", "--store", &format!("file:{}", text(&file))]);
    ends(&ended, 2, &["good.jsonl", "a file stands where the ledger's folder belongs; name another folder"]);
    let ended = machine.run(&["ingest", "--store", &format!("redb:{}", text(machine.path("home")))]);
    ends(&ended, 2, &["this is a folder; a redb ledger is a file: name one inside it"]);
    let ended = machine.run(&["ingest", "--store", &format!("redb:{}", text(&file))]);
    ends(&ended, 2, &["this is not a redb file", "good.jsonl"]);
    assert_eq!(fs::read(&file).unwrap(), before);
    machine.ok(&["ingest"]);
}
