//! The other harnesses: where their files are, objects that are rewritten in place, and a database that is in use.

use crate::support::Host;
use burnlog_sources::{Environment, Filter, Places, discover};
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

const LINE: &str = "{\"type\":\"session_meta\",\"payload\":{\"cwd\":\"/work\"}}\n";

fn storage(host: &Host, name: &str) -> PathBuf {
    host.home().join(".local/share/opencode/storage").join(name)
}

fn codex(host: &Host, name: &str) -> PathBuf {
    host.home().join(".codex").join(name)
}

/// Streams with the number of their events.
fn streams(host: &Host) -> BTreeMap<String, usize> {
    let mut streams = BTreeMap::new();
    for event in host.events().into_iter().filter(|event| event.kind == "line") {
        *streams.entry(event.stream).or_default() += 1;
    }
    streams
}

#[test]
fn rollouts_are_found_by_home_by_folder_and_by_file() {
    let host = Host::new();
    host.write_at(&codex(&host, "sessions/2026/01/02/rollout-a.jsonl"), LINE.as_bytes());
    host.write_at(&codex(&host, "archived_sessions/rollout-b.jsonl"), LINE.as_bytes());
    host.write_at(&codex(&host, "history.jsonl"), LINE.as_bytes());
    let roots = [
        ("", 2),
        (".codex", 2),
        (".codex/sessions", 1),
        (".codex/sessions/2026/01", 1),
        (".codex/archived_sessions", 1),
        (".codex/sessions/2026/01/02/rollout-a.jsonl", 1),
    ];
    for (root, files) in roots {
        let mut fresh = Host::new();
        let report = fresh.ingest_from(&[host.home().join(root)]);
        assert_eq!((report.total().files, report.failed.len()), (files, 0), "{root:?}");
        assert!(streams(&fresh).keys().all(|stream| stream.starts_with("rollout-")));
    }
}

/// A session that was archived is the same stream: nothing is stored twice.
#[test]
fn an_archived_rollout_is_the_same_stream() {
    let mut host = Host::new();
    let (from, to) =
        (codex(&host, "sessions/2026/rollout-a.jsonl"), codex(&host, "archived_sessions/rollout-a.jsonl"));
    host.write_at(&from, LINE.as_bytes());
    host.ingest();
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::rename(&from, &to).unwrap();
    host.ingest();
    assert_eq!(streams(&host), BTreeMap::from([("rollout-a".to_owned(), 1)]));
}

#[test]
fn the_environment_says_where_the_files_are() {
    let host = Host::new();
    host.write_at(&host.home().join("c/sessions/rollout-a.jsonl"), LINE.as_bytes());
    host.write_at(&host.home().join("x/opencode/storage/message/ses_1/msg_1.json"), b"{}");
    host.write_at(&host.home().join("other.db"), b"");
    let set = |name: &str, value: &str| (name.to_owned(), host.home().join(value).into_os_string());
    let variables = vec![set("CODEX_HOME", "c"), set("XDG_DATA_HOME", "x"), set("OPENCODE_DB", "other.db")];
    let plan = discover(&Places::Environment(Environment { home: Some(host.home()), variables }));
    let found: Vec<_> =
        plan.files().map(|(source, path, _)| (source, path.file_name().unwrap().to_owned())).collect();
    assert_eq!(
        found,
        [
            ("codex", "rollout-a.jsonl".into()),
            ("opencode", "msg_1.json".into()),
            ("opencode", "other.db".into())
        ]
    );
}

/// A rollout that the agent compressed is the same stream, with the same records at the same numbers.
#[test]
fn a_compressed_rollout_is_the_same_stream() {
    let lines = format!("{LINE}\n{{\"type\":\"compacted\"}}\n{{\"type\":\"world_state\"}}");
    let packed = zstd::encode_all(lines.as_bytes(), 3).unwrap();
    let (mut plain, mut compressed) = (Host::new(), Host::new());
    let (path, packed_path) = (
        codex(&plain, "sessions/2026/rollout-a.jsonl"),
        codex(&plain, "archived_sessions/rollout-a.jsonl.zst"),
    );
    plain.write_at(&path, lines.as_bytes());
    plain.ingest();
    compressed.write_at(&codex(&compressed, "archived_sessions/rollout-a.jsonl.zst"), &packed);
    let report = compressed.ingest();
    assert_eq!((report.total().new, report.failed.len()), (4, 0));
    let records = |host: &Host| {
        let events = host.events().into_iter().filter(|event| event.kind == "line");
        events.map(|event| (event.stream, event.seq, event.payload)).collect::<Vec<_>>()
    };
    assert_eq!(records(&compressed), records(&plain));
    assert_eq!(compressed.ingest().total().unchanged, 1);
    // The agent compresses a file that was read: nothing is new.
    plain.write_at(&packed_path, &packed);
    fs::remove_file(&path).unwrap();
    let counts = plain.ingest().total();
    assert_eq!((counts.new, counts.present), (0, 4));
    // One that is cut short is a failure that says so, and goes through when it is whole.
    let cut = codex(&compressed, "sessions/2026/rollout-b.jsonl.zst");
    compressed.write_at(&cut, &packed[..packed.len() - 4]);
    assert_eq!(compressed.ingest().failed.len(), 1);
    compressed.write_at(&cut, &packed);
    assert_eq!(compressed.ingest().total().new, 4);
}

/// Trap 27.
#[test]
fn trap_27_links_in_circles_end() {
    let mut host = Host::new();
    host.write_at(&codex(&host, "sessions/2026/rollout-a.jsonl"), LINE.as_bytes());
    symlink(codex(&host, "sessions"), codex(&host, "sessions/2026/again")).unwrap();
    host.write_at(&storage(&host, "message/ses_1/msg_1.json"), b"{}");
    symlink(storage(&host, "message"), storage(&host, "message/ses_1/again")).unwrap();
    let report = host.ingest();
    assert_eq!((report.total().files, report.failed.len()), (2, 0));
}

/// Traps 23 and 24: a rollout that grows between two readings, in the middle of a line.
#[test]
fn trap_23_and_24_a_rollout_that_grows_is_read_on() {
    let mut host = Host::new();
    let path = codex(&host, "sessions/rollout-a.jsonl");
    host.write_at(&path, format!("{LINE}{{\"type\":\"comp").as_bytes());
    assert_eq!(host.ingest().total().pending_records, 1);
    host.write_at(&path, format!("{LINE}{{\"type\":\"compacted\"}}").as_bytes());
    assert_eq!(host.ingest().total().new, 1);
    host.write_at(&path, format!("{LINE}{{\"type\":\"compacted\"}}\n").as_bytes());
    assert_eq!(host.ingest().total().new, 0);
    assert_eq!(streams(&host), BTreeMap::from([("rollout-a".to_owned(), 2)]));
}

/// Traps 11 and 20: each version of an object is an event of its own; what is half-written waits.
#[test]
fn trap_11_and_20_objects_are_read_again_when_they_change_and_only_then() {
    let mut host = Host::new();
    let path = storage(&host, "message/ses_1/msg_1.json");
    host.write_at(&path, b"{\"id\":\"msg_1\"}");
    host.write_at(&storage(&host, "part/msg_1/prt_1.json"), b"{\"id\":\"prt_1\"}");
    host.write_at(&storage(&host, "session_diff/ses_1.json"), b"[]");
    let first = host.ingest().total();
    assert_eq!((first.files, first.new, first.pending_records), (3, 2, 1));
    let second = host.ingest().total();
    assert_eq!((second.unchanged, second.records), (3, 0));
    host.write_at(&path, b"{\"id\":\"msg_1\",\"ro");
    assert_eq!(host.ingest().total().new, 0);
    host.write_at(&path, b"{\"id\":\"msg_1\",\"role\":\"user\"}");
    assert_eq!(host.ingest().total().new, 1);
    assert_eq!(streams(&host)["message/msg_1"], 2);
    assert!(host.events().iter().all(|event| event.seq == 0));
    host.close();
    assert_eq!(host.contents("message/msg_1").last().unwrap(), "{\"id\":\"msg_1\",\"role\":\"user\"}");
}

/// Trap 29: the same session on two hosts with other home folders.
#[test]
fn trap_29_objects_of_two_hosts_are_the_same_events() {
    let (mut one, mut two) = (Host::new(), Host::new());
    for host in [&mut one, &mut two] {
        host.write_at(&storage(host, "session/p/ses_1.json"), b"{\"id\":\"ses_1\"}");
        host.write_at(&codex(host, "sessions/2026/rollout-a.jsonl"), LINE.as_bytes());
        host.ingest();
    }
    assert_eq!(one.lines(), two.lines());
}

/// Objects that do not say where they ran are left out with their session.
#[test]
fn parts_go_with_their_session_through_the_filter() {
    let mut host = Host::new();
    for (number, folder) in [(1, "/work/open"), (2, "/work/secret")] {
        let session = format!("{{\"id\":\"ses_{number}\",\"directory\":\"{folder}\"}}");
        host.write_at(&storage(&host, &format!("session/p/ses_{number}.json")), session.as_bytes());
        host.write_at(&storage(&host, &format!("message/ses_{number}/msg_{number}.json")), b"{\"id\":\"m\"}");
        host.write_at(&storage(&host, &format!("part/msg_{number}/prt_{number}.json")), b"{\"id\":\"p\"}");
    }
    host.options.filter = Filter { include: Vec::new(), exclude: vec!["secret".to_owned()] };
    assert_eq!(host.ingest().total().excluded, 3);
    let known: Vec<String> = streams(&host).into_keys().collect();
    assert_eq!(known, ["message/msg_1", "part/prt_1", "session/ses_1"]);
}

fn database(host: &Host) -> Connection {
    let path = host.home().join(".local/share/opencode/opencode.db");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection
        .execute_batch(
            "CREATE TABLE session (id TEXT PRIMARY KEY, directory TEXT, time_updated INTEGER);
             CREATE TABLE message (id TEXT PRIMARY KEY, session_id TEXT, time_updated INTEGER, data TEXT);
             INSERT INTO session VALUES ('ses_1', '/work/open', 1000), ('ses_2', '/work/secret', 1000);
             INSERT INTO message VALUES ('msg_1', 'ses_1', 1000, '{}'), ('msg_2', 'ses_2', 1000, '{}');",
        )
        .unwrap();
    connection
}

/// Traps 20 and 23 of a database: rows change while its agent runs, in the log alone.
#[test]
fn trap_20_and_23_a_database_in_use_is_read_as_far_as_it_changed() {
    let mut host = Host::new();
    let writer = database(&host);
    let first = host.ingest().total();
    assert_eq!((first.files, first.new, first.records), (1, 4, 4));
    let second = host.ingest().total();
    assert_eq!((second.unchanged, second.records), (1, 0));
    let set = "UPDATE message SET data = '{\"role\":\"user\"}', time_updated = 9000000 WHERE id = 'msg_1'";
    writer.execute_batch(set).unwrap();
    let third = host.ingest().total();
    assert_eq!((third.new, third.present), (1, 3));
    // What changed long before is not read again.
    writer.execute_batch("INSERT INTO message VALUES ('msg_3', 'ses_1', 9000001, '{}')").unwrap();
    let fourth = host.ingest().total();
    assert_eq!((fourth.new, fourth.present), (1, 1));
    assert_eq!(streams(&host)["message/msg_1"], 2);
    host.options.recheck = true;
    assert_eq!((host.ingest().total().new, host.ingest().total().records), (0, 5));
}

/// Trap 25: with cursors lost everything is read again, and nothing is stored twice.
#[test]
fn a_database_read_without_its_cursor_stores_nothing_twice() {
    let mut host = Host::new();
    let _writer = database(&host);
    host.ingest();
    fs::remove_file(host.cursor_path()).unwrap();
    let again = host.ingest().total();
    assert_eq!((again.new, again.present), (0, 4));
    assert_eq!(host.close().total().extents, 0);
}

#[test]
fn rows_go_with_their_session_through_the_filter() {
    let mut host = Host::new();
    let _writer = database(&host);
    host.options.filter = Filter { include: vec!["open".to_owned()], exclude: Vec::new() };
    host.ingest();
    assert_eq!(streams(&host).into_keys().collect::<Vec<_>>(), ["message/msg_1", "session/ses_1"]);
    host.options.filter = Filter::default();
    assert_eq!(host.ingest().total().new, 2);
}

#[test]
fn a_database_that_is_none_fails_alone() {
    let mut host = Host::new();
    host.write_at(
        &host.home().join(".local/share/opencode/opencode.db"),
        "not a database ".repeat(99).as_bytes(),
    );
    host.write_at(&storage(&host, "message/ses_1/msg_1.json"), b"{}");
    let report = host.ingest();
    assert_eq!((report.total().failed, report.total().new), (1, 1));
}

#[test]
fn an_export_that_somebody_names_is_read() {
    let mut host = Host::new();
    let path = host.home().join("out/my export.json");
    host.write_at(&path, b"{\"info\":{\"id\":\"ses_1\"},\"messages\":[]}");
    host.ingest_from(&[path]);
    assert_eq!(streams(&host), BTreeMap::from([("export/ses_1".to_owned(), 1)]));
}
