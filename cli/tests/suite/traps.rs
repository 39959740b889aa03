//! The traps that do not depend on what a record says, for every source: `docs/traps.md` says which number is which.

use super::{Machine, copy_folder, files_below, fixtures, text};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// A machine with the fixtures of a source in its home folder, or in another one below it.
fn machine(label: &'static str, source: &str, home: &str) -> Machine {
    let machine = Machine::new(label);
    copy_folder(&fixtures().join("sessions").join(source), &machine.path(home));
    machine
}

/// Every folder below one, itself included.
fn folders_below(folder: &PathBuf) -> Vec<PathBuf> {
    let below = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut folders: Vec<PathBuf> = below.flat_map(|path| folders_below(&path)).collect();
    folders.push(folder.clone());
    folders
}

fn trap_01_rows_outlive_the_session_files(source: &str) {
    let machine = machine("laptop", source, "home");
    machine.ok(&["ingest", "--final"]);
    let (dump, turns) = (machine.dump(), machine.rows(&["turns"]));
    assert!(!turns.is_empty());
    fs::remove_dir_all(machine.path("home")).unwrap();
    fs::remove_dir_all(machine.path("burn/projections")).unwrap();
    machine.ok(&["project", "rebuild"]);
    assert_eq!(machine.dump(), dump);
    assert_eq!(machine.rows(&["turns"]), turns);
}

fn trap_25_cursors_of_another_store_do_not_count(source: &str) {
    let machine = machine("laptop", source, "home");
    machine.ok(&["ingest"]);
    let dump = machine.dump();
    let other = format!("redb:{}", text(machine.path("other.redb")));
    let first = machine.json(&["ingest", "--store", &other]);
    assert_eq!((first["new"].as_u64() > Some(0), first["present"].as_u64()), (true, Some(0)));
    assert_eq!(machine.ok(&["project", "dump", "--store", &other]), dump);
    // A ledger that was made anew at the same place is another one.
    fs::remove_file(machine.path("other.redb")).unwrap();
    let again = machine.json(&["ingest", "--store", &other]);
    assert_eq!(again["new"], first["new"]);
    assert_eq!(machine.ok(&["project", "dump", "--store", &other]), dump);
}

fn trap_27_links_in_circles_and_unreadable_folders_stop_nothing(source: &str) {
    let machine = machine("laptop", source, "home");
    let plain = machine.json(&["ingest"])["records"].clone();
    let dump = machine.dump();
    let odd = self::machine("laptop", source, "home");
    for folder in folders_below(&odd.path("home")) {
        symlink(odd.path("home"), folder.join("circle")).unwrap();
        // What cannot be opened by anybody, also not by root.
        symlink(folder.join("gone"), folder.join("dangling")).unwrap();
    }
    let ended = odd.run(&["ingest", "--json"]);
    assert!(matches!(ended.code, 0 | 1), "{}", ended.stderr);
    let report: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(report["records"], plain);
    assert_eq!(odd.dump(), dump);
}

fn trap_29_two_home_folders_are_one_truth(source: &str) {
    let (laptop, pod) = (machine("laptop", source, "home"), machine("pod", source, "elsewhere/user"));
    laptop.ok(&["ingest"]);
    let (dump, turns) = (laptop.dump(), laptop.rows(&["turns"]).len());
    let ledger = format!("file:{}", text(laptop.ledger()));
    let report = pod.json(&["ingest", "--store", &ledger, "--root", &text(pod.path("elsewhere/user"))]);
    // What is new is the record of who this host is.
    assert!(report["new"].as_u64() <= Some(1), "{report}");
    laptop.ok(&["project", "update"]);
    assert_eq!(laptop.dump(), dump);
    assert_eq!(laptop.rows(&["turns"]).len(), turns);
    assert_eq!(laptop.json(&["status"])["feeds"].as_array().unwrap().len(), 2);
}

/// Files of lines: each is cut somewhere in its last line, read, and completed.
fn trap_24_a_last_line_that_is_completed_later_is_one_record(source: &str) {
    let whole = machine("laptop", source, "home");
    whole.ok(&["ingest"]);
    let cut = machine("laptop", source, "home");
    let files = files_below(&cut.path("home"));
    let files: Vec<_> = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .filter(|path| fs::metadata(path).unwrap().len() > 40)
        .map(|path| (fs::read(&path).unwrap(), path))
        .collect();
    assert!(!files.is_empty());
    for (bytes, path) in &files {
        fs::write(path, &bytes[..bytes.len() - 20]).unwrap();
    }
    cut.ok(&["ingest"]);
    for (bytes, path) in &files {
        fs::write(path, bytes).unwrap();
    }
    cut.ok(&["ingest"]);
    assert_eq!(cut.dump(), whole.dump());
}

macro_rules! for_sources {
    ($($case:ident: $($source:ident)+;)+) => {$(
        mod $case {
            $(#[test] fn $source() { super::super::traps::$case(&stringify!($source).replace('_', "-")); })+
        }
    )+};
}

for_sources! {
    trap_01_rows_outlive_the_session_files: claude_code codex opencode gemini_cli;
    trap_24_a_last_line_that_is_completed_later_is_one_record: claude_code codex gemini_cli;
    trap_25_cursors_of_another_store_do_not_count: claude_code codex opencode gemini_cli;
    trap_27_links_in_circles_and_unreadable_folders_stop_nothing: claude_code codex opencode gemini_cli;
    trap_29_two_home_folders_are_one_truth: claude_code codex opencode gemini_cli;
}
