//! Ledgers of relayburn: imported where somebody names them, the same events from lines and from rows, and nothing written there.

use crate::support::{Event, Host};
use burnlog_sources::{Environment, Filter, Places, discover};
use proptest::prelude::*;
use rusqlite::Connection;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const SESSION: &str = "abababab-0000-4000-8000-000000000001";

fn fixture(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/sessions/relayburn");
    fs::read(folder.join(name)).unwrap()
}

fn folder(host: &Host) -> PathBuf {
    host.home().join(".relayburn")
}

/// A ledger of 1.x.
fn lines(host: &Host) -> PathBuf {
    let folder = folder(host);
    host.write_at(&folder.join("ledger.jsonl"), &fixture("v1/ledger.jsonl"));
    let content = format!("content/{SESSION}.jsonl");
    host.write_at(&folder.join(&content), &fixture(&format!("v1/{content}")));
    folder
}

/// A ledger of 2.x.
fn rows(host: &Host) -> PathBuf {
    let folder = folder(host);
    for name in ["burn", "content"] {
        let path = folder.join(format!("{name}.sqlite"));
        host.write_at(&path, b"");
        let sql = String::from_utf8(fixture(&format!("v2/{name}.sql"))).unwrap();
        Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
        host.touch(&path);
    }
    folder
}

fn events(host: &Host) -> BTreeSet<Event> {
    host.events().into_iter().filter(|event| event.kind != "writer").collect()
}

/// Every file below a folder with its bytes.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

#[test]
fn a_ledger_is_imported_where_it_is_named_and_nowhere_else() {
    let mut host = Host::new();
    let folder = lines(&host);
    rows(&host);
    host.write("s.jsonl", "{}\n");
    assert_eq!(host.ingest().total().files, 1);
    let variables = vec![("RELAYBURN_HOME".to_owned(), folder.clone().into_os_string())];
    let plan = discover(&Places::Environment(Environment { home: Some(host.home()), variables }));
    assert_eq!(plan.files().map(|file| file.0).collect::<Vec<_>>(), ["claude-code"]);
    assert!(!plan.roots().any(|root| root.starts_with(&folder)));
    let before = files(&folder);
    assert_eq!(host.ingest_from(std::slice::from_ref(&folder)).total().files, 4);
    assert_eq!(files(&folder), before);
    for name in ["ledger.jsonl", "burn.sqlite", "content.sqlite", &format!("content/{SESSION}.jsonl")] {
        let mut fresh = Host::new();
        let report = fresh.ingest_from(&[folder.join(name)]);
        assert_eq!((report.total().files, report.failed.len()), (1, 0), "{name}");
        assert!(fresh.feed_size() > 1, "{name}");
    }
}

#[test]
fn lines_become_records_stamps_and_what_is_counted() {
    let mut host = Host::new();
    let folder = lines(&host);
    let report = host.ingest_from(std::slice::from_ref(&folder));
    let counts = report.total();
    // 20 lines and a blank one, a broken one, four of content; the last line is still being written.
    assert_eq!((counts.records, counts.unreadable), (26, 1));
    assert_eq!((counts.pending_records, counts.pending_bytes), (1, 37));
    let kinds = |kind: &str| events(&host).iter().filter(|event| event.kind == kind).count();
    assert_eq!((kinds("record"), kinds("stamp"), kinds("extent")), (23, 2, 0));
    let stamps: Vec<String> = host
        .of_kind("stamp")
        .into_iter()
        .map(|event| format!("{} {} {}", event.source, event.stream, String::from_utf8_lossy(&event.payload)))
        .collect();
    assert_eq!(
        stamps,
        [
            format!(
                r#"burnlog stamps {{"selector":{{"session":"{SESSION}"}},"set":{{"role":"fix","task":"demo"}},"at":"2026-02-01T10:02:00.000Z"}}"#
            ),
            r#"burnlog stamps {"selector":{"call":"msg_01gone02"},"set":{"task":"other"},"at":"2026-02-01T10:03:00.000Z"}"#
                .to_owned(),
        ]
    );
    let text = String::from_utf8(fixture("v1/ledger.jsonl")).unwrap();
    for event in host.of_kind("record") {
        assert_eq!(event.seq, 0);
        let payload = String::from_utf8(event.payload).unwrap();
        let is_content = !payload.contains("\"record\":{");
        assert!(is_content || text.lines().any(|line| line == payload), "{payload}");
    }
    let unplaced: BTreeSet<Event> =
        events(&host).into_iter().filter(|event| event.source == "relayburn").collect();
    assert_eq!(unplaced.len(), 3);
    assert!(unplaced.iter().all(|event| event.stream == "ledger.jsonl"));
    assert_eq!(host.ingest_from(&[folder.join("content")]).total().unchanged, 1);
}

#[test]
fn rows_become_the_events_that_lines_become() {
    let (mut by_lines, mut by_rows) = (Host::new(), Host::new());
    let (one, two) = (lines(&by_lines), rows(&by_rows));
    by_lines.ingest_from(&[one]);
    let report = by_rows.ingest_from(std::slice::from_ref(&two));
    assert_eq!((report.failed.len(), report.total().unreadable), (0, 0));
    let of_sessions = |host: &Host| -> BTreeSet<Event> {
        events(host).into_iter().filter(|event| event.source != "relayburn").collect()
    };
    let mut expected = of_sessions(&by_lines);
    expected.retain(|event| !String::from_utf8_lossy(&event.payload).contains(r#"{"call":"msg_01gone02"}"#));
    assert_eq!(of_sessions(&by_rows), expected);
    let again = by_rows.ingest_from(std::slice::from_ref(&two));
    assert_eq!((again.total().unchanged, again.total().records), (2, 0));
    by_rows.options.recheck = true;
    let again = by_rows.ingest_from(&[two]);
    assert_eq!(again.total().new, 0);
}

/// A ledger that grew brings what is new, and the line that was still being written.
#[test]
fn a_ledger_that_grew_brings_what_is_new() {
    let mut host = Host::new();
    let folder = lines(&host);
    host.ingest_from(std::slice::from_ref(&folder));
    let size = host.feed_size();
    let more = br#""source":"codex","sessionId":"s9","messageId":"t1"}}"#;
    let grown = [fixture("v1/ledger.jsonl"), more.to_vec()].concat();
    host.write_at(&folder.join("ledger.jsonl"), &grown);
    let report = host.ingest_from(std::slice::from_ref(&folder));
    assert_eq!((report.total().new, report.total().pending_records), (1, 0));
    assert_eq!(host.feed_size(), size + 1);
    let last = host.events().pop().unwrap();
    assert_eq!((&*last.kind, &*last.source, &*last.stream), ("record", "codex", "relayburn/s9"));
    host.write_at(&folder.join("ledger.jsonl"), &[grown, b"\n".to_vec()].concat());
    assert_eq!(host.ingest_from(&[folder]).total().new, 0);
}

#[test]
fn an_unfinished_line_is_recorded_when_the_caller_says_that_it_is_final() {
    let mut host = Host::new();
    let folder = lines(&host);
    host.ingest_from(std::slice::from_ref(&folder));
    let size = host.feed_size();
    host.options.close = true;
    let report = host.ingest_from(&[folder]);
    assert_eq!((report.total().new, report.total().pending_records, report.failed.len()), (1, 0, 0));
    let last = host.events().pop().unwrap();
    assert_eq!(
        (&*last.kind, &*last.payload),
        ("record", &b"{\"v\":1,\"kind\":\"turn\",\"record\":{\"v\":1,"[..])
    );
    assert_eq!(host.feed_size(), size + 1);
}

/// A line that is longer than an event may be goes out in parts, as any other.
#[test]
fn a_long_line_becomes_parts() {
    let mut host = Host::new();
    host.options.record_bytes_max = 64;
    let path = folder(&host).join("ledger.jsonl");
    let line = format!("{{\"a\":\"{}\"}}", "x".repeat(150));
    host.write_at(&path, format!("{line}\n{{}}\n").as_bytes());
    host.ingest_from(&[path]);
    let parts: Vec<Event> = host.of_kind("record");
    assert_eq!(
        parts.iter().map(|event| event.part).collect::<Vec<_>>(),
        [Some((0, true)), Some((1, true)), Some((2, false)), None,]
    );
    assert_eq!(
        parts[..3].iter().flat_map(|event| event.payload.clone()).collect::<Vec<u8>>(),
        line.as_bytes()
    );
}

#[test]
fn what_is_no_ledger_is_a_failure_that_says_so() {
    let mut host = Host::new();
    let folder = folder(&host);
    host.write_at(
        &folder.join("burn.sqlite"),
        "no database at all, but long enough to look at".repeat(99).as_bytes(),
    );
    let empty = folder.join("content.sqlite");
    host.write_at(&empty, b"");
    Connection::open(&empty).unwrap().execute_batch("CREATE TABLE other (a)").unwrap();
    fs::create_dir_all(folder.join("ledger.jsonl")).unwrap();
    let report = host.ingest_from(&[folder]);
    let mut failed: Vec<String> = report.failed.iter().map(|failed| failed.error.to_string()).collect();
    failed.sort();
    assert_eq!(failed.len(), 2, "{failed:?}");
    assert!(failed.iter().any(|error| error.contains("no table of a relayburn ledger")), "{failed:?}");
    assert!(events(&host).is_empty());
}

/// Most records do not say where they ran: where folders are asked for, nothing is imported, and that is said.
#[test]
fn a_filter_leaves_imports_out() {
    let mut host = Host::new();
    let folder = lines(&host);
    host.options.filter = Filter { include: vec!["/work".to_owned()], exclude: Vec::new() };
    let report = host.ingest_from(&[folder]);
    assert_eq!((report.total().excluded, host.feed_size()), (2, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Laws 1 to 3: whatever lines of a ledger a host has, in whatever order, read at whatever moments, all hosts together
    /// have the events of the whole ledger, each once.
    #[test]
    fn hosts_with_parts_of_a_ledger_have_the_events_of_all_of_it(
        keys in proptest::collection::vec(any::<u64>(), 23), cut in 0usize..23, again in 0usize..23
    ) {
        let text = String::from_utf8(fixture("v1/ledger.jsonl")).unwrap();
        let all: Vec<&str> = text.lines().collect();
        let whole = {
            let mut host = Host::new();
            let path = folder(&host).join("ledger.jsonl");
            host.write_at(&path, format!("{text}\n").as_bytes());
            host.ingest_from(&[path]);
            events(&host)
        };
        let mut shuffled: Vec<(u64, &str)> = keys.into_iter().zip(all).collect();
        shuffled.sort_unstable();
        let lines: Vec<String> = shuffled.iter().map(|(_, line)| format!("{line}\n")).collect();
        let mut found = BTreeSet::new();
        for part in [&lines[..cut], &lines[cut.saturating_sub(again)..]] {
            let mut host = Host::new();
            let path = folder(&host).join("ledger.jsonl");
            for end in [part.len() / 2, part.len()] {
                host.write_at(&path, part[..end].concat().as_bytes());
                host.ingest_from(std::slice::from_ref(&path));
            }
            found.extend(events(&host));
        }
        prop_assert!(found == whole, "{} of {}", found.len(), whole.len());
    }
}
