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
fn a_sqlite_ledger_has_its_projections_in_its_own_file_and_is_like_any_other() {
    let machine = Machine::new("one");
    machine.ok(&["ingest", "--root", &claude_fixtures()]);
    let dump = machine.dump();
    let file = machine.path("other/ledger.sqlite");
    let sqlite = format!("sqlite:{}", text(&file));
    let jsonl = format!("file:{}", text(machine.ledger()));
    let replayed = machine.json(&["replay", "--from", &jsonl, "--to", &sqlite]);
    assert_eq!(replayed["divergences"], serde_json::json!([]));
    machine.ok(&["verify", "--store", &sqlite]);
    machine.ok(&["project", "update", "--store", &sqlite]);
    assert_eq!(machine.ok(&["project", "dump", "--store", &sqlite]), dump);
    let own = machine.path("burn/projections");
    let projections = || {
        std::fs::read_dir(&own)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|is| is == "sqlite"))
            .count()
    };
    assert_eq!(projections(), 1, "those of the first ledger alone");

    let back = format!("file:{}", text(machine.path("back")));
    let again = machine.json(&["replay", "--from", &sqlite, "--to", &back]);
    assert_eq!(again["divergences"], serde_json::json!([]));
    machine.ok(&["project", "update", "--store", &back]);
    assert_eq!(machine.ok(&["project", "dump", "--store", &back]), dump);
    let feeds = |store: &str| {
        let status = machine.json(&["status", "--store", store]);
        let feeds = status["feeds"].as_array().unwrap().clone();
        feeds.into_iter().map(|feed| (feed["writer"].clone(), feed["root"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(feeds(&sqlite), feeds(&jsonl));
    assert_eq!(feeds(&back), feeds(&jsonl));

    let direct = Machine::new("two");
    let store = format!("sqlite:{}", text(direct.path("direct.sqlite")));
    let first = direct.json(&["ingest", "--final", "--store", &store, "--root", &claude_fixtures()]);
    let again = direct.json(&["ingest", "--store", &store, "--root", &claude_fixtures()]);
    assert_eq!(again["unchanged"], first["files"]);
    assert_eq!(machine.ok(&["usage", "--store", &sqlite]), direct.ok(&["usage", "--store", &store]));
    direct.ok(&["compact", "--store", &store]);
    direct.ok(&["verify", "--store", &store]);
    direct.ok(&["project", "rebuild", "--store", &store]);
    let session = "11111111-1111-4111-8111-111111111111";
    direct.ok(&["restore", session, "--store", &store, "--to", &text(direct.path("out"))]);
}

/// A database of its own in a private cluster.
fn database() -> burnlog_postgres::Database {
    let made = burnlog_postgres::Cluster::shared().and_then(burnlog_postgres::Cluster::database);
    made.unwrap_or_else(|error| panic!("{error}"))
}

/// The HOMEs of all fixtures, as arguments.
fn all_fixtures() -> Vec<String> {
    let folders = std::fs::read_dir(crate::fixtures().join("sessions")).unwrap();
    let folders = folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    folders.flat_map(|path| ["--root".to_owned(), text(path.canonicalize().unwrap())]).collect()
}

#[test]
fn a_postgres_ledger_has_its_projections_in_its_own_schema_and_is_like_any_other() {
    let database = database();
    let store = database.url();
    let roots = all_fixtures();
    let ingest: Vec<&str> = std::iter::once("ingest").chain(roots.iter().map(String::as_str)).collect();
    let (local, one, two) = (Machine::new("one"), Machine::new("one"), Machine::new("two"));
    local.ok(&ingest);
    one.ok(&[&ingest[..], &["--store", store]].concat());
    assert_eq!(one.ok(&["project", "dump", "--store", store]), local.dump());
    for command in [
        &["sessions"][..],
        &["usage", "--by", "day,model"],
        &["turns"],
        &["diagnostics"],
        &["diagnostics", "--host", "one"],
        &["diagnostics", "--since", "2026-03-02", "--source", "claude-code"],
    ] {
        assert_eq!(one.rows(&[command, &["--store", store]].concat()), local.rows(command), "{command:?}");
    }
    for filter in [["--host", "one"], ["--until", "2026-03-02T12:00:00Z"]] {
        for table in ["usage_daily", "diagnostics"] {
            let export = [&["export", "--table", table], &filter[..]].concat();
            assert_eq!(one.ok(&[&export[..], &["--store", store]].concat()), local.ok(&export), "{export:?}");
        }
    }
    let projections = std::fs::read_dir(one.path("burn/projections")).map_or(0, Iterator::count);
    assert_eq!(projections, 0, "nothing of it is kept on the host");
    // What one host folded another reads; what that records both have, and counts once.
    let session = "11111111-1111-4111-8111-111111111111";
    assert_eq!(two.ok(&["show", session, "--store", store]), local.ok(&["show", session]));
    two.ok(&[&ingest[..], &["--store", store]].concat());
    assert_eq!(one.ok(&["project", "dump", "--store", store]), local.dump());
    let hosts = one.rows(&["sessions", "--store", store]);
    assert_eq!(hosts[0]["hosts"], "one,two");
    two.ok(&["project", "rebuild", "--store", store]);
    assert_eq!(one.ok(&["project", "dump", "--store", store]), local.dump());
    let behind = one.rows(&["project", "status", "--store", store]);
    assert!(behind.iter().all(|line| line["behind"] == 0), "{behind:?}");
    let found = |machine: &Machine, more: &[&str]| machine.rows(&[&["search", "tests"], more].concat()).len();
    assert_eq!(found(&two, &["--store", store]), found(&local, &[]));
}

#[test]
fn what_another_host_is_folding_is_recorded_and_left_to_it() {
    let database = database();
    let store = database.url();
    let machine = Machine::new("one");
    machine.ok(&["ingest", "--store", store, "--root", &claude_fixtures()]);
    let dump = machine.ok(&["project", "dump", "--store", store]);
    let hold = "update burnlog.projections set lease_token = lease_token + 1, lease_holder = 'pod seven', \
                lease_until = clock_timestamp() + interval '1 hour'";
    database.run(hold).unwrap();
    machine.session("late", crate::assistant("late", "m-late", 5, Some("end_turn")));
    let ingested = machine.run(&["ingest", "--wait", "0", "--store", store]);
    assert_eq!(ingested.code, 0, "{}", ingested.stderr);
    assert!(ingested.stderr.contains("pod seven is folding"), "{}", ingested.stderr);
    assert_eq!(machine.ok(&["project", "dump", "--store", store]), dump);
    database.run("update burnlog.projections set lease_until = clock_timestamp()").unwrap();
    machine.ok(&["project", "update", "--store", store]);
    assert!(machine.ok(&["project", "dump", "--store", store]).contains("m-late"));
}

#[test]
fn a_damaged_file_with_the_ledger_in_it_is_never_put_aside() {
    let machine = Machine::new("one");
    let file = machine.path("ledger.sqlite");
    let store = format!("sqlite:{}", text(&file));
    machine.ok(&["ingest", "--store", &store, "--root", &claude_fixtures()]);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[..4096].fill(0x55);
    std::fs::write(&file, &bytes).unwrap();
    for command in
        [&["ingest", "--store", &store, "--root", &claude_fixtures()][..], &["usage", "--store", &store]]
    {
        assert_eq!(machine.run(command).code, 2);
    }
    assert_eq!(std::fs::read(&file).unwrap(), bytes);
}

#[test]
fn the_backend_may_be_chosen_by_the_environment() {
    let machine = Machine::new("one");
    let elsewhere = text(machine.path("elsewhere.sqlite"));
    for (storage, path) in
        [("redb", "burn/ledger.redb"), ("sqlite", "burn/ledger.sqlite"), ("sqlite", "elsewhere.sqlite")]
    {
        let mut command = machine.command(&["ingest", "--json", "--root", &claude_fixtures()]);
        if path.starts_with("elsewhere") {
            command.env("RELAYBURN_SQLITE_PATH", &elsewhere);
        }
        let output = command.env("RELAYBURN_STORAGE", storage).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(machine.path(path).is_file(), "{path}");
    }
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
