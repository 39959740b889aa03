//! What a person sees who opens the file with any tool: views of the ledger's projections, texts as far as they may be seen.

use super::{folder, open};
use burnlog_log::{Ledger, Limit};
use burnlog_projections::conformance::build::{append, catch_up, line, made_up};
use burnlog_projections::{FoldLimits, Projector};
use burnlog_sqlite::{SqliteOptions, SqliteProjections};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;

#[test]
fn people_can_query_the_file_with_sql() {
    let (_folder, path) = folder();
    let ledger = Ledger::new(open(&path));
    append(&ledger, 1, &made_up(21, 200));
    catch_up(&mut SqliteProjections::open(&path, &SqliteOptions::default()).unwrap(), &ledger);
    let connection = Connection::open(&path).unwrap();
    let count = |from: &str| -> u64 {
        connection.query_row(&format!("SELECT count(*) FROM {from}"), [], |row| row.get(0)).unwrap()
    };
    for view in ["turns", "calls", "tool_results", "content", "content_chunks", "sessions", "usage_daily"] {
        assert!(count(view) > 0, "{view}");
    }
    count("relationships");
    assert_eq!(count("turns"), count("calls"));
    assert_eq!(count("tool_results WHERE result_bytes IS NULL AND is_error IS NULL"), 0);
    let kinds = "content WHERE kind IN ('text', 'thinking', 'tool_use', 'tool_result') AND bytes > 0";
    assert!(count(kinds) > 0);
    // Each record with content is an event of the ledger, found by how its address begins.
    let joined =
        "content b JOIN ledger_events e ON hex(substr(e.address, 1, 6)) = upper(b.address_begins_with)";
    assert_eq!(count(joined), count("content"));
}

/// Opens the file as any tool does, and returns the previews of the blocks of a kind in order.
fn previews(path: &Path, kind: &str) -> Vec<Option<String>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let sql = "SELECT preview FROM content WHERE kind = ?1 ORDER BY stream, seq, ordinal";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([kind], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn the_view_of_content_shows_how_texts_begin() {
    let (_folder, path) = folder();
    let ledger = Ledger::new(open(&path));
    let long = "\u{1f525}".repeat(300);
    let escaped = r"\ud83d\udd25".repeat(300);
    let said = |seq: u64, content: &str| {
        let message = format!(r#"{{"type":"user","message":{{"role":"user","content":{content}}}}}"#);
        line("s", seq, message)
    };
    let records = [
        said(0, r#""say \"hello\"\n\u0000 or not""#),
        said(1, &format!(r#"[{{"type":"text","text":"{long}"}},{{"type":"text","text":"{escaped}"}}]"#)),
        said(2, r#"[{"type":"image","source":{"data":"AAAA"}},{"type":"text","text":"behind an image"}]"#),
        said(
            3,
            r#"[{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"four"},{"type":"text","text":"five"}]}]"#,
        ),
    ];
    append(&ledger, 1, &records);
    catch_up(&mut SqliteProjections::open(&path, &SqliteOptions::default()).unwrap(), &ledger);
    let fires = "\u{1f525}".repeat(200);
    let expected = ["say \"hello\"\n\u{fffd} or not", &fires, &fires, "behind an image"];
    assert_eq!(previews(&path, "text"), expected.map(|text| Some(text.to_owned())));
    assert_eq!(previews(&path, "tool_result"), [Some("four\nfive".to_owned())]);
    assert_eq!(previews(&path, "image"), [None]);
}

#[test]
fn previews_go_with_what_is_erased() {
    let (_folder, path) = folder();
    let ledger = Ledger::new(open(&path));
    let secret = "the password is swordfish";
    let said = |seq: u64, text: &str| {
        let message = format!(r#"{{"type":"user","message":{{"role":"user","content":"{text}"}}}}"#);
        line("s", seq, message)
    };
    // Pages of them: a page or two could be overwritten by chance.
    let mut records: Vec<_> = (0..600).map(|seq| said(seq, secret)).collect();
    records.push(said(600, "anything else"));
    append(&ledger, 1, &records);
    catch_up(&mut SqliteProjections::open(&path, &SqliteOptions::default()).unwrap(), &ledger);
    assert_eq!(previews(&path, "text")[0].as_deref(), Some(secret));
    let feed = ledger.feeds().unwrap()[0].feed;
    let page = ledger.read(&feed, 0, Limit::default()).unwrap();
    let erased: Vec<_> = page.entries[..600].iter().map(|entry| entry.address).collect();
    ledger.backend().erase(&erased).unwrap();
    let mut store = SqliteProjections::open(&path, &SqliteOptions::default()).unwrap();
    Projector::rebuild(&mut store, &ledger, FoldLimits::default()).unwrap().catch_up(&ledger).unwrap();
    drop(store);
    assert_eq!(previews(&path, "text"), [Some("anything else".to_owned())]);
    // Not only given back: what the pages held is overwritten, as soon as the log of changes is in the file.
    let emptied = "PRAGMA wal_checkpoint(TRUNCATE)";
    let is_busy: bool = Connection::open(&path).unwrap().query_row(emptied, [], |row| row.get(0)).unwrap();
    assert!(!is_busy);
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
}

#[test]
fn projections_in_a_file_of_their_own_hold_no_text() {
    let (folder, path) = folder();
    let ledger = Ledger::new(open(&path));
    let message = r#"{"type":"user","message":{"role":"user","content":"not to be seen"}}"#;
    append(&ledger, 1, &[line("s", 0, message)]);
    let apart = folder.path().join("projections.sqlite");
    catch_up(&mut SqliteProjections::open(&apart, &SqliteOptions::default()).unwrap(), &ledger);
    assert_eq!(previews(&apart, "text"), [None]);
    let tables = "SELECT count(*) FROM sqlite_schema WHERE name GLOB 'previews*'";
    let tables: u32 = Connection::open(&apart).unwrap().query_row(tables, [], |row| row.get(0)).unwrap();
    assert_eq!(tables, 0);
}

#[test]
fn every_query_of_the_readme_runs_and_finds_something() {
    let (_folder, path) = folder();
    let ledger = Ledger::new(open(&path));
    append(&ledger, 1, &made_up(21, 200));
    catch_up(&mut SqliteProjections::open(&path, &SqliteOptions::default()).unwrap(), &ledger);
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let readme = include_str!("../../../README.md");
    let queries: Vec<&str> =
        readme.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(queries.len() >= 6, "{}", queries.len());
    for query in queries {
        let mut statement = connection.prepare(query).unwrap_or_else(|error| panic!("{error}: {query}"));
        let rows = statement.query_map([], |_| Ok(())).unwrap();
        let rows: Vec<()> = rows.map(|row| row.unwrap_or_else(|error| panic!("{error}: {query}"))).collect();
        assert!(!rows.is_empty(), "{query}");
    }
}

#[test]
fn previews_are_the_same_however_they_were_folded() {
    let records = made_up(3, 400);
    let folded = |records_at_once: usize, is_rebuilt: bool| {
        let (_folder, path) = folder();
        let ledger = Ledger::new(open(&path));
        let mut store = SqliteProjections::open(&path, &SqliteOptions::default()).unwrap();
        for records in records.chunks(records_at_once) {
            append(&ledger, 1, records);
            catch_up(&mut store, &ledger);
        }
        if is_rebuilt {
            Projector::rebuild(&mut store, &ledger, FoldLimits::default())
                .unwrap()
                .catch_up(&ledger)
                .unwrap();
        }
        previews(&path, "text")
    };
    let whole = folded(400, false);
    assert!(whole.len() > 20 && whole.iter().all(Option::is_some), "{}", whole.len());
    assert_eq!(folded(7, false), whole);
    assert_eq!(folded(7, true), whole);
}
