//! The disk of the tablespace is full: the append is refused whole, what was acknowledged stays, and when there is room it goes on.

use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Backend, ErrorKind};
use burnlog_postgres::{Cluster, Database, PostgresBackend, PostgresOptions, SMALL_DISK};

/// Bytes that do not compress, so that they need their room.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..bytes).map(next).collect()
}

/// Appends until the disk is full, makes room, goes on.
fn fill(database: &Database, make_room: &dyn Fn()) {
    let backend = PostgresBackend::open(database.url(), &PostgresOptions::default()).unwrap();
    let (mut feed, mut events) = (TestFeed::new(1), Vec::new());
    let error = loop {
        let number = events.len() as u64;
        let batch: Vec<Event> =
            (number..number + 4).map(|seq| Event::line("a", seq, &noise(seq + 1, 50_000))).collect();
        match feed.append(&backend, &batch) {
            Ok(()) => events.extend(batch),
            Err(error) => {
                let prepared = feed.prepare(&batch);
                assert_eq!(prepared.refused(&backend).kind(), ErrorKind::Unavailable);
                break error;
            }
        }
        assert!(events.len() < 400, "20 MB of noise went onto a disk of 12");
    };
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(error.message().contains("make room on the server's disk"), "{error}");
    assert!(events.len() >= 8, "it was full at once");
    assert_feed(&backend, &feed, &events);
    assert_eq!(backend.stat().unwrap().events, events.len() as u64);
    make_room();
    let more = Event::lines("b", 20);
    feed.append(&backend, &more).unwrap();
    events.extend(more);
    assert_feed(&backend, &feed, &events);
    backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
}

#[test]
fn a_full_disk_refuses_a_batch_whole_and_is_got_over() {
    let cluster = match Cluster::start_with_small_disk(24 << 20) {
        Ok(cluster) => cluster,
        // Without the right to mount, the server is made to say what it says when its disk is full.
        Err(error) => return full_by_decree(&error.to_string()),
    };
    cluster.run(&format!("create tablespace small location '{SMALL_DISK}'")).unwrap();
    let database = cluster.database().unwrap();
    let name = database.rows("select current_database()").unwrap().remove(0).remove(0);
    let all = format!(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = '{name}'; \
         alter database {name} set default_tablespace = small"
    );
    cluster.run(&all).unwrap();
    let on = database.connect().unwrap();
    on.run("create table ballast as select n, repeat('x', 1000) from generate_series(1, 12000) n").unwrap();
    fill(&database, &|| on.run("drop table ballast; checkpoint").unwrap());
    let on_small = database
        .rows(
            "select count(*) from pg_class c join pg_tablespace t on t.oid = c.reltablespace \
             where t.spcname = 'small' and c.relname in ('events', 'blocks', 'entries')",
        )
        .unwrap();
    assert_eq!(on_small, [["3"]], "the tables are on the small disk");
}

/// The same with a server that says of itself, from so many blocks on, that its disk is full.
fn full_by_decree(why: &str) {
    let database = Cluster::shared().unwrap().database().unwrap();
    drop(PostgresBackend::open(database.url(), &PostgresOptions::default()).unwrap());
    database
        .run(
            "create function burnlog.\"full\"() returns trigger language plpgsql as \
             $$ begin if (select sum(length(bytes)) from burnlog.blocks) > 4000000 then \
             raise 'no space left on device' using errcode = 'disk_full'; end if; return null; end $$; \
             create trigger \"full\" after insert on burnlog.blocks for each statement execute function burnlog.\"full\"()",
        )
        .unwrap_or_else(|error| panic!("{error}; and no small disk: {why}"));
    fill(&database, &|| database.run("drop trigger \"full\" on burnlog.blocks").unwrap());
}

#[test]
fn a_server_that_says_its_disk_is_full_is_understood() {
    full_by_decree("not asked for");
}
