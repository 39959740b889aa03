//! What must not grow with the number of feeds, and many events at once.

use crate::{database, open};
use burnlog_log::Backend;
use burnlog_log::conformance::build::{Event, TestFeed};
use burnlog_postgres::Database;

/// The feeds of dead pods.
const FEEDS: u64 = 1_000_000;

/// Rows of the table of feeds that were read so far, by scans of the table and over indexes.
fn rows_read(database: &Database) -> u64 {
    let sql = "select seq_tup_read + idx_tup_fetch + (select sum(idx_tup_read) from pg_stat_user_indexes \
               where schemaname = 'burnlog' and relname = 'feeds') \
               from pg_stat_user_tables where schemaname = 'burnlog' and relname = 'feeds'";
    database.rows(sql).unwrap()[0][0].parse().unwrap()
}

/// Waits until the connections of backends have ended: they tell what they read when they do.
fn wait_until_told(database: &Database) {
    let ours = "select 1 from pg_stat_activity where datname = current_database() \
                and application_name = 'burnlog' and pid <> pg_backend_pid() and query like '%burnlog%'";
    while !database.rows(ours).unwrap().is_empty() {}
}

#[test]
fn asking_what_moved_reads_what_moved_and_not_a_million_feeds() {
    let database = database();
    drop(open(&database));
    database
        .run(&format!(
            "insert into burnlog.feeds select sha256(n::text::bytea), n, 1, sha256('r'), 0, \
             sha256('s') || sha256('t'), '', pg_current_xact_id() from generate_series(1, {FEEDS}) as n"
        ))
        .unwrap();
    let backend = open(&database);
    let page = backend.feeds(None, None, 1).unwrap();
    assert!(page.more);
    let mut moved: Vec<TestFeed> = (1..=3).map(TestFeed::new).collect();
    for feed in &mut moved {
        feed.append(&backend, &Event::lines("a", 2)).unwrap();
    }
    drop(backend);
    wait_until_told(&database);
    let before = rows_read(&database);
    let backend = open(&database);
    let answer = backend.feeds(None, Some(&page.token), 100).unwrap();
    drop(backend);
    wait_until_told(&database);
    let read = rows_read(&database) - before;
    let mut heads: Vec<_> = moved.iter().map(|feed| *feed.heads.last().unwrap()).collect();
    heads.sort_by_key(|head| head.feed);
    assert_eq!((answer.heads, answer.more), (heads, false));
    assert!((3..60).contains(&read), "{read} rows were read");
}
