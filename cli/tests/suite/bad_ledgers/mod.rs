//! `fixtures/bad` and `fixtures/ledgers`: damaged ledgers with what `verify` must say about each, and golden ledgers that are
//! read for ever. `UPDATE_FIXTURES=1` writes what is compared here.

mod build;
mod cases;

use crate::{Machine, copy_folder, files_below, fixtures};
use build::Home;
use burnlog_jsonl::JsonlBackend;
use burnlog_log::{Ledger, Severity, verify};
use cases::{CASES, Case};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What `verify` says, beside each damaged ledger.
const FINDINGS: &str = "findings.jsonl";
/// Codes whose severity is not damage.
const LESS_THAN_DAMAGE: [(&str, &str); 11] = [
    ("erased-unknown", "warning"),
    ("frontier-mismatch", "warning"),
    ("index-incomplete", "warning"),
    ("index-manifest", "warning"),
    ("index-page", "warning"),
    ("newer-skeleton", "note"),
    ("published-length", "warning"),
    ("sealed-table", "warning"),
    ("stray-file", "warning"),
    ("unanchored", "note"),
    ("writer-missing", "warning"),
];
/// Codes that no folder can have, and the test that reaches each: file and name.
const ELSEWHERE: [(&str, &str, &str); 4] = [
    // A row that is missing in a database; here a batch counts with its head or not at all.
    (
        "head-missing",
        "cli/tests/suite/bad_ledgers/mod.rs",
        "entries_whose_last_batch_is_missing_in_a_database_have_no_head",
    ),
    // Only a store that lies, such as a server, gives out heads that are not in order.
    ("head-order", "log/tests/suite/verify.rs", "entries_without_a_head_and_heads_of_another_feed_are_named"),
    // A ledger with a damaged `ledger.json` does not open: it has to be open before.
    (
        "ledger-file",
        "cli/tests/suite/bad_ledgers/mod.rs",
        "a_ledger_file_spoiled_while_the_ledger_is_open_is_named",
    ),
    // Not damage, but rights.
    (
        "store-unchecked",
        "cli/tests/suite/remote.rs",
        "with_a_token_that_may_only_append_status_shows_a_part_and_verify_says_what_it_takes",
    ),
];

fn is_update() -> bool {
    std::env::var_os("UPDATE_FIXTURES").is_some()
}

fn golden_home() -> PathBuf {
    fixtures().join("ledgers/v1")
}

/// The bytes of the files below a folder, by relative path, without what differs from run to run.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let of = |path: PathBuf| (path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
    let mut files: BTreeMap<_, _> = files_below(folder).into_iter().map(of).collect();
    // The process that appended last.
    files.remove(Path::new("ledger/lock"));
    files.remove(Path::new(FINDINGS));
    files
}

/// Makes a case in an empty folder.
fn make(case: &Case, folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    if case.from_golden {
        for part in ["ledger", "host"] {
            copy_folder(&golden_home().join(part), &folder.join(part));
        }
        let says_index = case.name.starts_with("index") || case.name.starts_with("segment-missing");
        if !says_index {
            fs::remove_dir_all(folder.join("ledger/index")).unwrap();
        }
    }
    (case.make)(&Home::new(folder));
    contents(folder)
}

/// Runs `verify --json` on a home and returns exit code and lines.
fn findings(home: &Path) -> (i32, Vec<String>) {
    let machine = Machine::new("reader");
    copy_folder(home, &machine.path("burn"));
    let ended = machine.run(&["verify", "--json", "--quiet"]);
    assert_eq!(ended.stderr, "", "{}", home.display());
    (ended.code, ended.stdout.lines().map(str::to_owned).collect())
}

#[test]
fn each_damaged_ledger_is_what_its_recipe_makes() {
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        let made = make(case, folder.path());
        let committed = fixtures().join("bad").join(case.name);
        if is_update() {
            fs::remove_dir_all(&committed).ok();
            for (path, bytes) in &made {
                let path = committed.join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            let said = findings(&committed).1.join("\n") + "\n";
            fs::write(committed.join(FINDINGS), said).unwrap();
        }
        assert!(contents(&committed) == made, "{} is not what its recipe makes", case.name);
    }
    let mut names: Vec<String> = fs::read_dir(fixtures().join("bad"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort_unstable();
    let mut expected: Vec<&str> = CASES.iter().map(|case| case.name).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn verify_says_of_each_damaged_ledger_exactly_what_is_wrong() {
    for case in CASES {
        let committed = fixtures().join("bad").join(case.name);
        let (code, lines) = findings(&committed);
        assert_eq!(
            lines.join("\n") + "\n",
            fs::read_to_string(committed.join(FINDINGS)).unwrap(),
            "{}",
            case.name
        );
        let said: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let (summary, found) = said.split_last().unwrap();
        let main = case.name.split_once('_').unwrap().0;
        assert!(found.iter().any(|finding| finding["code"] == main), "{}: {lines:?}", case.name);
        for finding in found {
            let code = finding["code"].as_str().unwrap();
            let less = LESS_THAN_DAMAGE.iter().find(|(known, _)| *known == code);
            assert_eq!(finding["severity"], less.map_or("damage", |(_, severity)| severity), "{code}");
        }
        let damages = found.iter().filter(|finding| finding["severity"] == "damage").count();
        assert_eq!(summary["verified"]["damages"], damages, "{}", case.name);
        assert_eq!(code, i32::from(damages > 0), "{}", case.name);
    }
}

#[test]
fn every_code_in_the_format_has_a_damaged_ledger_and_the_other_way_round() {
    let format = fs::read_to_string(fixtures().join("../docs/format.md")).unwrap();
    let table = format.split("## 5. Findings").nth(1).unwrap();
    let mut documented: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|cell| cell.0)
        .collect();
    let mut made: Vec<&str> = CASES.iter().map(|case| case.name.split_once('_').unwrap().0).collect();
    made.extend(ELSEWHERE.map(|(code, ..)| code));
    for list in [&mut documented, &mut made] {
        list.sort_unstable();
        list.dedup();
    }
    assert_eq!(documented, made);
}

#[test]
fn each_code_without_a_folder_has_the_test_that_is_named() {
    for (code, file, test) in ELSEWHERE {
        let text = fs::read_to_string(fixtures().join("..").join(file)).unwrap();
        let body = text.split(&format!("fn {test}() {{")).nth(1).unwrap_or_else(|| panic!("no {test}"));
        let body = body.split("\n}\n").next().unwrap();
        assert!(body.contains(code), "{test} says nothing of {code}");
    }
}

#[test]
fn entries_whose_last_batch_is_missing_in_a_database_have_no_head() {
    let machine = Machine::new("one");
    machine.session("s", crate::assistant("s", "m1", 2, Some("end_turn")));
    machine.ok(&["ingest", "--store", "sqlite:burn/ledger.sqlite"]);
    machine.ok(&["verify", "--store", "sqlite:burn/ledger.sqlite"]);
    let database = rusqlite::Connection::open(machine.path("burn/ledger.sqlite")).unwrap();
    let newest = "DELETE FROM ledger_batches WHERE size = (SELECT max(size) FROM ledger_batches)";
    assert_eq!(database.execute(newest, []).unwrap(), 1);
    drop(database);
    let ended = machine.run(&["verify", "--json", "--store", "sqlite:burn/ledger.sqlite"]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    let found = |code: &str| {
        let lines = ended.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["code"] == code).collect::<Vec<_>>()
    };
    let missing = found("head-missing");
    assert_eq!((missing.len(), &missing[0]["severity"]), (1, &"damage".into()), "{}", ended.stdout);
    assert_eq!(missing[0]["message"], "1 entries have no signed head over them");
    assert_eq!(
        found("feed-cut")[0]["message"],
        "the feed is listed with 2 entries, and its last head is one of 1"
    );
}

#[test]
fn a_ledger_file_spoiled_while_the_ledger_is_open_is_named() {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&golden_home(), folder.path());
    let path = folder.path().join("ledger/ledger.json");
    let ledger = Ledger::new(JsonlBackend::open_read_only(&folder.path().join("ledger")).unwrap());
    let text = fs::read_to_string(&path).unwrap();
    for spoiled in ["", "{}", &text.replacen("\"id\":\"0", "\"id\":\"f", 1)] {
        assert_ne!(spoiled, text);
        fs::write(&path, spoiled).unwrap();
        let mut codes = Vec::new();
        verify(&ledger, &[], &mut |finding| {
            if finding.severity > Severity::Note {
                codes.push(finding.code);
            }
        })
        .unwrap();
        assert_eq!(codes, ["ledger-file"], "{spoiled}");
    }
}

#[test]
fn a_golden_ledger_of_version_1_is_read_for_ever() {
    let golden = golden_home();
    if is_update() && !golden.exists() {
        build::golden(&Home::new(&golden));
        fs::remove_file(golden.join("ledger/lock")).unwrap();
    }
    let machine = Machine::new("reader");
    copy_folder(&golden, &machine.path("burn"));
    assert_eq!(machine.rows(&["verify"]).len(), 1, "a sound ledger gets no finding");
    machine.ok(&["project", "rebuild"]);
    let dump = machine.ok(&["project", "dump", "--hosts"]);
    let expected = golden.join("dump.jsonl");
    // Another version of the projections makes other rows of the same bytes.
    if is_update() {
        fs::write(&expected, &dump).unwrap();
    }
    assert_eq!(dump, fs::read_to_string(&expected).unwrap());
    let status = machine.json(&["status"]);
    let size = |feed: usize| status["feeds"][feed]["size"].as_u64();
    assert_eq!((status["ledger"]["events"].as_u64(), size(0), size(1)), (Some(9), Some(4), Some(6)));
    // It goes on: what a program of today appends stands beside what was there.
    machine.session("new", crate::assistant("new", "m1", 2, Some("end_turn")));
    machine.ok(&["ingest"]);
    machine.ok(&["verify"]);
    machine.ok(&["compact"]);
    machine.ok(&["verify"]);
    let after: Vec<String> = machine.dump().lines().map(str::to_owned).collect();
    let before: Vec<&str> = expected_rows(&dump);
    assert!(before.iter().all(|row| after.iter().any(|line| line == row)), "a row went missing");
}

/// The rows of sessions and calls, which a new session changes nothing of.
fn expected_rows(dump: &str) -> Vec<&str> {
    let is_kept = |row: &&str| {
        ["calls", "sessions"].iter().any(|name| row.starts_with(&format!("{{\"projection\":\"{name}\"")))
    };
    let rows: Vec<&str> = dump.lines().filter(is_kept).collect();
    assert!(rows.len() > 2);
    rows
}
