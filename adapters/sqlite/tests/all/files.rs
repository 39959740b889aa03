//! Claims about the file: what is damaged, foreign or newer is said so; readers need no writer to wait.

use burnlog_log::ErrorKind;
use burnlog_projections::conformance::VIEWS;
use burnlog_projections::conformance::build::{append, catch_up, dumped, expected_dump, ledger, made_up};
use burnlog_projections::conformance::leased;
use burnlog_projections::{
    BlockFilter, CursorMove, FoldStore, PROJECTIONS_VERSION, PageRequest, Queries, RowReader, TABLES,
    UsageBy, blocks,
};
use burnlog_sqlite::{SqliteOptions, SqliteProjections};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("projections.sqlite");
    (folder, path)
}

fn open(path: &Path) -> burnlog_log::Result<SqliteProjections> {
    SqliteProjections::open(path, &SqliteOptions::default())
}

fn open_to_read(path: &Path) -> burnlog_log::Result<SqliteProjections> {
    SqliteProjections::open(path, &SqliteOptions { read_only: true, ..SqliteOptions::default() })
}

/// A file with a made-up log folded into it.
fn filled() -> (TempDir, PathBuf) {
    let (folder, path) = place();
    let ledger = ledger();
    append(&ledger, 1, &made_up(21, 200));
    catch_up(&mut open(&path).unwrap(), &ledger);
    (folder, path)
}

#[test]
fn a_missing_file_is_not_found_by_readers_and_not_made() {
    let (_folder, path) = place();
    assert_eq!(open_to_read(&path).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(!path.exists());
}

#[test]
fn a_folder_in_place_of_the_file_is_an_error() {
    let (_folder, path) = place();
    std::fs::create_dir(&path).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.location().contains("projections.sqlite"));
}

#[test]
fn what_is_no_database_is_corrupt() {
    let (_folder, path) = place();
    std::fs::write(&path, vec![b'x'; 10_000]).unwrap();
    for opened in [open(&path), open_to_read(&path)] {
        let error = opened.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.message().contains("rebuild"), "{error}");
    }
}

#[test]
fn somebody_elses_database_is_left_alone() {
    let (_folder, path) = place();
    Connection::open(&path).unwrap().execute_batch("CREATE TABLE precious (x)").unwrap();
    assert_eq!(open(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    let tables: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .unwrap();
    assert_eq!(tables, 1);
}

#[test]
fn a_file_of_a_newer_store_is_unsupported() {
    let (_folder, path) = filled();
    let newer = "UPDATE projections_meta SET value = 99 WHERE name = 'store_version'";
    Connection::open(&path).unwrap().execute_batch(newer).unwrap();
    assert_eq!(open(&path).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(open_to_read(&path).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn tables_of_an_older_version_are_replaced_once_the_new_ones_have_caught_up() {
    let (_folder, path) = place();
    let ledger = ledger();
    let records = made_up(22, 150);
    append(&ledger, 1, &records);
    let mut store = open(&path).unwrap();
    let lease = leased(&mut store);
    let old = store.create(&lease, PROJECTIONS_VERSION - 1).unwrap();
    store.release(&lease).unwrap();
    assert_eq!(
        store.usage(&burnlog_projections::Filter::default(), &[]).unwrap_err().kind(),
        ErrorKind::NotFound
    );
    catch_up(&mut store, &ledger);
    assert_ne!(store.state().unwrap().live.unwrap().generation, old);
    assert_eq!(dumped(&store), expected_dump(&records));
}

/// Every byte of the file may be damaged: the store says so or answers, and never panics.
#[test]
fn damage_anywhere_is_an_error_or_no_harm() {
    let (folder, path) = filled();
    Connection::open(&path).unwrap().execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    let sound = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged.sqlite");
    let mut refused = 0;
    for start in (0..sound.len()).step_by(4096) {
        let mut bytes = sound.clone();
        let end = (start + 1024).min(bytes.len());
        bytes[start..end].fill(0xa5);
        std::fs::write(&damaged, &bytes).unwrap();
        let read = || {
            let store = open_to_read(&damaged)?;
            store.usage(&burnlog_projections::Filter::default(), &[UsageBy::Day])?;
            burnlog_projections::dump(&store, &burnlog_projections::DumpOptions::default(), &mut |_| Ok(()))
        };
        if let Err(error) = read() {
            let expected =
                [ErrorKind::Corrupt, ErrorKind::Unsupported, ErrorKind::Conflict, ErrorKind::NotFound];
            assert!(expected.contains(&error.kind()), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 5, "most damage is noticed");
}

#[test]
fn a_reader_goes_on_while_a_fold_is_in_its_transaction() {
    let (_folder, path) = filled();
    let reader = open_to_read(&path).unwrap();
    let before = dumped(&reader);
    let mut store = open(&path).unwrap();
    let lease = leased(&mut store);
    let live = store.state().unwrap().live.unwrap();
    let feed = burnlog_projections::conformance::build::feed(9);
    store
        .commit(&lease, live.generation, live.revision, &mut |write| {
            write.advance(&[CursorMove { feed, from: 0, to: 5 }])?;
            assert_eq!(dumped(&reader), before);
            assert_eq!(dumped(&open_to_read(&path).unwrap()), before);
            Ok(())
        })
        .unwrap();
    assert_eq!(reader.cursor(live.generation, &feed).unwrap(), 5);
}

#[test]
fn a_second_writer_is_told_when_it_waited_in_vain() {
    let (_folder, path) = filled();
    let busy_timeout = std::time::Duration::ZERO;
    let mut second =
        SqliteProjections::open(&path, &SqliteOptions { busy_timeout, ..SqliteOptions::default() }).unwrap();
    let mut first = open(&path).unwrap();
    let lease = leased(&mut first);
    let live = first.state().unwrap().live.unwrap();
    first
        .commit(&lease, live.generation, live.revision, &mut |_| {
            let refused = second.commit(&lease, live.generation, live.revision, &mut |_| Ok(()));
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InUse);
            Ok(())
        })
        .unwrap();
}

/// The statement of the README takes the blocks apart as the lists do.
#[test]
fn blocks_are_read_with_sql_alone() {
    let (_folder, path) = filled();
    let readme = include_str!("../../README.md");
    let statement = readme.split("\n\n").find(|part| part.contains("json_each")).unwrap();
    let plain = Connection::open(&path).unwrap();
    let mut statement = plain.prepare(statement).unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        let text = |at: usize| row.get::<_, String>(at);
        let number = |at: usize| row.get::<_, i64>(at);
        let tool_use = row.get::<_, Option<String>>(6)?;
        Ok((text(0)?, number(1)?, text(2)?, text(3)?, number(4)?, number(5)?, tool_use))
    };
    let mut shown: Vec<_> = statement.query_map([], row).unwrap().map(Result::unwrap).collect();
    shown.sort();
    let store = open_to_read(&path).unwrap();
    let mut listed = Vec::new();
    for session in ["s0", "s1", "s2", "s3"] {
        let filter = BlockFilter {
            source: "claude-code".to_owned(),
            session: session.to_owned(),
            ..BlockFilter::default()
        };
        for block in blocks(&store, &filter, &PageRequest { after: None, limit: 9999 }).unwrap().items {
            let (seq, start, bytes) = (block.seq as i64, block.start as i64, block.bytes as i64);
            let begins_with = block.address.to_string()[3..15].to_owned();
            listed.push((
                block.stream.to_string(),
                seq,
                begins_with,
                block.kind,
                start,
                bytes,
                block.tool_use,
            ));
        }
    }
    listed.sort();
    assert!(listed.len() > 50);
    assert_eq!(shown, listed);
    let view = "SELECT stream, seq, address_begins_with, kind, start, bytes, tool_use FROM content";
    let mut of_view: Vec<_> =
        plain.prepare(view).unwrap().query_map([], row).unwrap().map(Result::unwrap).collect();
    of_view.sort();
    assert_eq!(of_view, listed);
}

#[test]
fn the_views_show_what_the_typed_rows_hold() {
    let (_folder, path) = filled();
    let store = open_to_read(&path).unwrap();
    let generation = store.state().unwrap().live.unwrap().generation;
    let plain = Connection::open(&path).unwrap();
    for table in TABLES {
        let rows = store.scan(generation, table, None, usize::MAX).unwrap();
        let view = if table.name == "content" { "content_chunks" } else { table.name };
        let shown: usize =
            plain.query_row(&format!("SELECT count(*) FROM {view}"), [], |row| row.get(0)).unwrap();
        assert_eq!(shown, rows.len(), "{}", table.name);
    }
    let model: String = plain.query_row("SELECT DISTINCT model FROM calls", [], |row| row.get(0)).unwrap();
    assert_eq!(model, "model-a");
}

#[test]
fn the_views_for_people_show_what_they_always_did() {
    let (_folder, path) = filled();
    let plain = Connection::open(&path).unwrap();
    for (view, expected) in VIEWS {
        let shown = plain.prepare(&format!("SELECT * FROM {view}")).unwrap();
        let preview = if view == "content" { " preview" } else { "" };
        assert_eq!(
            shown.column_names().collect::<Vec<_>>().join(" "),
            format!("{expected}{preview}"),
            "{view}"
        );
    }
    let sql = "SELECT count(*) FROM turns t JOIN sessions s USING (source, session) WHERE t.project IS NOT s.project";
    assert_eq!(plain.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    let sql = "SELECT count(*) FROM turns WHERE project IS NOT NULL";
    assert!(plain.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() > 0);
}
