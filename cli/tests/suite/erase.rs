//! Erasing: what goes, what stays, and that the rows are those of a rebuild.

use super::{Machine, claude_fixtures, copy_folder, fixtures, text};

const SESSION: &str = "11111111";

fn machine() -> Machine {
    let machine = Machine::new("laptop");
    copy_folder(std::path::Path::new(&claude_fixtures()), &machine.path("home"));
    machine.ok(&["ingest"]);
    machine
}

#[track_caller]
fn rebuilds_to_the_same(machine: &Machine) {
    let dump = machine.dump();
    machine.ok(&["project", "rebuild"]);
    assert_eq!(machine.dump(), dump);
}

#[test]
fn an_erased_session_is_gone_from_rows_and_search_and_the_ledger_is_sound() {
    let machine = machine();
    let hits = || {
        let hits = machine.rows(&["search", "\"last column of the table\""]);
        let of_it = hits.iter().filter(|hit| hit["session"].as_str().unwrap().starts_with(SESSION)).count();
        (of_it, hits.len() - of_it)
    };
    let before = hits();
    let calls = machine.rows(&["turns", "--session", SESSION, "--limit", "1000"]).len();
    assert!(calls > 0);
    let refused = machine.run(&["erase", SESSION]);
    assert_eq!(refused.code, 2);
    assert!(
        refused.stderr.contains("nothing was erased")
            && refused.stderr.contains("would leave the totals")
            && refused.stderr.contains("--yes"),
        "{}",
        refused.stderr
    );
    let dump = machine.dump();
    let counted = || machine.rows(&["turns", "--limit", "10000"]).len() as u64;
    let before_erasing = counted();
    let done = machine.json(&["erase", SESSION, "--yes", "--reason", "a name"]);
    // What forks copied is told by them as well, and counts on.
    let left = done["calls"].as_u64().unwrap();
    assert_eq!(before_erasing - counted(), left);
    assert!(left > 0 && left < calls as u64, "{left} of {calls}");
    assert!(done["erased"].as_u64() > Some(5) && done["receipts"].as_array().unwrap().len() == 1, "{done}");
    assert_ne!(machine.dump(), dump);
    rebuilds_to_the_same(&machine);
    assert_eq!(
        machine.rows(&["turns", "--session", SESSION, "--limit", "1000"]),
        Vec::<serde_json::Value>::new()
    );
    // Forks that copied lines have them still, and are named: what was shown at its home is now shown there.
    let copies = done["copies"].as_array().unwrap();
    assert!(
        copies.len() == 2 && !copies.iter().any(|copy| copy.as_str().unwrap().starts_with(SESSION)),
        "{done}"
    );
    assert_eq!((before, hits()), ((1, 0), (0, 1)));
    for copy in copies {
        machine.ok(&["erase", copy.as_str().unwrap(), "--yes"]);
    }
    assert_eq!(hits(), (0, 0));
    assert!(machine.rows(&["content", "--session", SESSION]).is_empty());
    assert!(machine.ok(&["verify"]).contains("sound"));
    let receipt = done["receipts"][0].as_str().unwrap();
    assert_eq!(machine.run(&["erase", "--event", receipt, "--yes"]).code, 2);
    let again = machine.json(&["erase", SESSION, "--yes"]);
    assert_eq!(
        (again["erased"].as_u64(), again["erased_before"].as_u64()),
        (Some(0), done["erased"].as_u64())
    );
}

#[test]
fn reading_the_files_again_brings_nothing_back() {
    let machine = machine();
    machine.ok(&["erase", SESSION, "--yes"]);
    let dump = machine.dump();
    machine.ok(&["ingest", "--recheck"]);
    assert_eq!(machine.dump(), dump);
    machine.ok(&["compact"]);
    assert_eq!(machine.dump(), dump);
    rebuilds_to_the_same(&machine);
}

#[test]
fn one_record_is_erased_by_its_address() {
    let machine = machine();
    let blocks = machine.rows(&["content", "--session", SESSION, "--kind", "text"]);
    let address = blocks[0]["address"].as_str().unwrap();
    let done = machine.json(&["erase", "--event", address, "--yes"]);
    assert_eq!(done["erased"], 1);
    let left = machine.rows(&["content", "--session", SESSION, "--kind", "text"]);
    assert!(left.iter().all(|block| block["address"] != address) && left.len() < blocks.len());
    rebuilds_to_the_same(&machine);
}

/// An unset variable in a script is an empty argument, and every id begins with that.
#[test]
fn an_empty_id_erases_nothing_even_where_one_session_is_all_there_is() {
    let machine = Machine::new("laptop");
    let one = ".claude/projects/-work-demo/33333333-3333-4333-8333-333333333333.jsonl";
    machine.ok(&["ingest", "--root", &text(std::path::Path::new(&claude_fixtures()).join(one))]);
    assert_eq!(machine.rows(&["sessions"]).len(), 1);
    let dump = machine.dump();
    for command in [&["erase", "", "--yes"][..], &["show", ""]] {
        let refused = machine.run(command);
        assert_eq!(refused.code, 2, "{command:?}");
        assert!(refused.stderr.contains("the session's id is empty"), "{}", refused.stderr);
    }
    assert_eq!(machine.dump(), dump);
}

/// A crash after the deed and before its receipt: the same command makes up for it.
#[test]
fn an_erasure_without_its_receipt_is_completed() {
    let machine = machine();
    let blocks = machine.rows(&["content", "--session", SESSION, "--kind", "text"]);
    let address = blocks[0]["address"].as_str().unwrap();
    let backend =
        burnlog_jsonl::JsonlBackend::open(&machine.ledger(), burnlog_jsonl::JsonlOptions::default()).unwrap();
    burnlog_log::Ledger::new(backend).erase(&[address.parse().unwrap()]).unwrap();
    let done = machine.json(&["erase", "--event", address, "--yes"]);
    assert_eq!((done["erased"].as_u64(), done["erased_before"].as_u64()), (Some(1), Some(0)));
    rebuilds_to_the_same(&machine);
}

/// A receipt that comes with a replay erases nothing where the payloads are.
#[test]
fn a_receipt_from_elsewhere_is_a_proposal() {
    let (one, two) = (machine(), Machine::new("two"));
    let [a, b] = [&one, &two].map(|machine| format!("file:{}", text(machine.ledger())));
    two.ok(&["replay", "--from", &a, "--to", &b]);
    two.ok(&["project", "update"]);
    let whole = two.dump();
    one.ok(&["erase", SESSION, "--yes"]);
    two.ok(&["replay", "--from", &a, "--to", &b]);
    two.ok(&["project", "update"]);
    assert_eq!(two.dump(), whole);
    two.ok(&["erase", SESSION, "--yes"]);
    assert_eq!(two.dump(), one.dump());
}

#[test]
fn every_source_can_be_erased() {
    for (source, session) in
        [("codex", "019bb000"), ("opencode", "ses_demo1"), ("gemini-cli", "session-2026-03-01")]
    {
        let machine = Machine::new("laptop");
        machine.ok(&["ingest", "--root", &text(fixtures().join("sessions").join(source))]);
        machine.ok(&["erase", session, "--yes"]);
        rebuilds_to_the_same(&machine);
        let sessions = machine.rows(&["sessions"]);
        let name = |row: &serde_json::Value| row["session"].as_str().unwrap().to_owned();
        assert!(sessions.iter().all(|row| !name(row).starts_with("message/")), "{source}: {sessions:?}");
        let of_it = sessions.iter().filter(|row| name(row).starts_with(session));
        assert!(of_it.clone().all(|row| row["prompts"] == 0 && row["title"].is_null()), "{source}");
    }
}
