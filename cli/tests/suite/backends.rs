//! The other backends through the whole program: same commands, same rows, same feeds.

use crate::{Machine, claude_fixtures, text};

#[test]
fn a_redb_ledger_is_ingested_replayed_verified_and_restored_like_any_other() {
    let machine = Machine::new("one");
    machine.ok(&["ingest", "--root", &claude_fixtures()]);
    let dump = machine.dump();
    let redb = format!("redb:{}", text(machine.path("other/ledger.redb")));
    let jsonl = format!("file:{}", text(machine.ledger()));
    let replayed = machine.json(&["replay", "--from", &jsonl, "--to", &redb]);
    assert_eq!(replayed["divergences"], serde_json::json!([]));
    machine.ok(&["verify", "--store", &redb]);
    machine.ok(&["project", "update", "--store", &redb]);
    assert_eq!(machine.ok(&["project", "dump", "--store", &redb]), dump);

    let direct = Machine::new("two");
    let store = format!("redb:{}", text(direct.path("direct.redb")));
    let first = direct.json(&["ingest", "--final", "--store", &store, "--root", &claude_fixtures()]);
    let again = direct.json(&["ingest", "--store", &store, "--root", &claude_fixtures()]);
    assert_eq!(again["unchanged"], first["files"]);
    direct.ok(&["compact", "--store", &store]);
    direct.ok(&["verify", "--store", &store]);
    let session = "11111111-1111-4111-8111-111111111111";
    let out = text(direct.path("out"));
    direct.ok(&["restore", session, "--store", &store, "--to", &out]);
    let name = format!("{session}.jsonl");
    let original = std::path::Path::new(&claude_fixtures()).join(".claude/projects/-work-demo").join(&name);
    assert_eq!(std::fs::read(direct.path("out").join(&name)).unwrap(), std::fs::read(original).unwrap());
}

#[test]
fn the_backend_may_be_chosen_by_the_environment() {
    let machine = Machine::new("one");
    let mut command = machine.command(&["ingest", "--json", "--root", &claude_fixtures()]);
    let output = command.env("RELAYBURN_STORAGE", "redb").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(machine.path("burn/ledger.redb").is_file());
    assert!(!machine.ledger().exists());
}

#[test]
fn a_password_is_never_printed() {
    let machine = Machine::new("one");
    let url = "postgres://burn:hunter2@127.0.0.1:1/none";
    for command in
        [&["status", "--store", url][..], &["ingest", "--json", "--store", url], &["verify", "--store", url]]
    {
        let ended = machine.run(command);
        assert_eq!(ended.code, 2, "{}", ended.stderr);
        assert!(!ended.stderr.contains("hunter2") && !ended.stdout.contains("hunter2"), "{}", ended.stderr);
        assert!(ended.stderr.contains("127.0.0.1"), "{}", ended.stderr);
    }
}
