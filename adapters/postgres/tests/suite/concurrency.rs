//! Several writers at once, and readers beside a transaction that is held open.

use crate::{database, open};
use burnlog_log::conformance::build::{Event, Prepared, TestFeed, assert_feed};
use burnlog_log::{Address, Backend, ErrorKind, Limit, Presence, WriterId, push_hex};
use burnlog_postgres::{Database, PostgresBackend, PostgresOptions};
use std::sync::Barrier;
use std::time::Duration;

/// The order in which writer `number` brings `count` events: another one for each.
fn shuffled(number: u64, count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) + 1;
    for at in (1..count).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        order.swap(at, (state % (at as u64 + 1)) as usize);
    }
    order
}

/// How many events four writers bring at once.
const SHARED: u64 = 20_000;

#[test]
fn four_writers_bring_the_same_events_at_once() {
    let database = database();
    let events = Event::lines("shared", SHARED);
    let backends: Vec<PostgresBackend> = (0..4).map(|_| open(&database)).collect();
    let start = Barrier::new(backends.len());
    let feeds: Vec<(TestFeed, Vec<Event>)> = std::thread::scope(|scope| {
        let writers = backends.iter().zip(1..).map(|(backend, number)| {
            let (events, start) = (&events, &start);
            scope.spawn(move || {
                let mut feed = TestFeed::new(number);
                let order = shuffled(u64::from(number), events.len());
                let own: Vec<Event> = order.into_iter().map(|at| events[at].clone()).collect();
                start.wait();
                // Every batch sends all of its events, known or not, so that they meet in the table.
                own.chunks(SHARED as usize / 20).for_each(|chunk| feed.append(backend, chunk).unwrap());
                (feed, own)
            })
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    for (feed, own) in &feeds {
        assert_feed(&backends[0], feed, own);
    }
    let stat = backends[0].stat().unwrap();
    let bytes: usize = events.iter().map(|event| event.payload.len()).sum();
    assert_eq!((stat.events, stat.payload_bytes), (SHARED, bytes as u64));
    backends[0].check(&mut |damage| panic!("{damage:?}")).unwrap();
    assert_eq!(
        database.rows("select deadlocks from pg_stat_database where datname = current_database()").unwrap(),
        [["0"]]
    );
}

#[test]
fn the_same_key_used_twice_at_once_is_a_conflict_and_doubles_nothing() {
    let database = database();
    let backends = [open(&database), open(&database)];
    let mut feed = TestFeed::new(1);
    let mut all = Vec::new();
    for round in 0..15 {
        let batches: Vec<(Vec<Event>, Prepared)> = ["a", "b"]
            .iter()
            .map(|side| {
                let events = Event::lines(&format!("{side}{round}"), 5);
                let prepared = feed.prepare(&events);
                (events, prepared)
            })
            .collect();
        let start = Barrier::new(2);
        let results: Vec<_> = std::thread::scope(|scope| {
            let sides = backends.iter().zip(&batches).map(|(backend, (_, prepared))| {
                let start = &start;
                scope.spawn(move || {
                    start.wait();
                    prepared.apply(backend)
                })
            });
            let sides: Vec<_> = sides.collect();
            sides.into_iter().map(|side| side.join().unwrap()).collect()
        });
        let won = results.iter().position(Result::is_ok).expect("one of the two is first");
        assert_eq!(results[1 - won].as_ref().unwrap_err().kind(), ErrorKind::Conflict);
        let (events, prepared) = batches.into_iter().nth(won).unwrap();
        all.extend(events);
        feed.frontier = prepared.frontier;
        feed.heads.push(prepared.head);
    }
    assert_feed(&backends[0], &feed, &all);
    assert_eq!(backends[0].stat().unwrap().events, 75);
    backends[0].check(&mut |damage| panic!("{damage:?}")).unwrap();
}

/// Makes appends of `feed` wait in the middle, as long as somebody holds the advisory lock 42.
fn stop_in_the_middle(database: &Database, feed: &WriterId) {
    let mut hex = Vec::new();
    push_hex(&mut hex, &feed.0);
    let hex = String::from_utf8(hex).unwrap();
    database
        .run(&format!(
            "create function burnlog.wait() returns trigger language plpgsql as \
             $$ begin perform pg_advisory_xact_lock(42); return new; end $$; \
             create trigger wait before insert on burnlog.entries for each row \
             when (new.writer = '\\x{hex}') execute function burnlog.wait()"
        ))
        .unwrap();
}

fn wait_until_somebody_waits(database: &Database) {
    let waiting = "select 1 from pg_locks l join pg_stat_activity a using (pid) \
                   where not l.granted and a.datname = current_database()";
    while database.rows(waiting).unwrap().is_empty() {}
}

#[test]
fn a_transaction_held_open_while_others_commit_is_missed_by_nobody() {
    let database = database();
    let backend = open(&database);
    let (mut slow, mut fast) = (TestFeed::new(1), TestFeed::new(2));
    slow.append(&backend, &Event::lines("slow", 3)).unwrap();
    fast.append(&backend, &Event::lines("fast", 3)).unwrap();
    stop_in_the_middle(&database, &slow.id());
    let holder = database.connect().unwrap();
    holder.run("select pg_advisory_lock(42)").unwrap();
    let before = backend.feeds(None, None, 10).unwrap().token;
    let late = Event::lines("late", 4);
    let token = std::thread::scope(|scope| {
        let (slow, other) = (&mut slow, open(&database));
        let (late, backend, holder) = (&late, &backend, &holder);
        let appending = scope.spawn(move || slow.append(&other, late));
        wait_until_somebody_waits(&database);
        // The other writer comes later and is done earlier; a reader goes past both.
        fast.append(backend, &Event::lines("fast", 5)[3..]).unwrap();
        let moved = backend.feeds(None, Some(&before), 10).unwrap();
        assert!(moved.heads.contains(fast.heads.last().unwrap()));
        let id = *late.iter().map(|event| &event.address).next().unwrap();
        assert_eq!(backend.find(&fast.id(), &[id]).unwrap()[0].presence, Presence::Absent);
        holder.run("select pg_advisory_unlock(42)").unwrap();
        appending.join().unwrap().unwrap();
        moved.token
    });
    let moved = backend.feeds(None, Some(&token), 10).unwrap();
    assert!(moved.heads.contains(slow.heads.last().unwrap()), "what committed late is listed");
    let entries = backend.read(&slow.id(), 3, Limit::default()).unwrap().entries;
    let addresses: Vec<Address> = entries.iter().map(|entry| entry.address).collect();
    assert_eq!(addresses, late.iter().map(|event| event.address).collect::<Vec<_>>());
}

#[test]
fn a_token_of_another_run_of_the_server_is_answered_with_everything() {
    let database = database();
    let backend = open(&database);
    let (mut first, mut second) = (TestFeed::new(1), TestFeed::new(2));
    first.append(&backend, &Event::lines("a", 1)).unwrap();
    second.append(&backend, &Event::lines("a", 1)).unwrap();
    // Transactions that are over do not show as moved once the token is past them.
    let token = backend.feeds(None, None, 5).unwrap().token;
    second.append(&backend, &Event::lines("b", 1)).unwrap();
    // A crash resets the statistics, and may give out transaction numbers again.
    let run = |database: &Database| {
        let connection = database.connect().unwrap();
        let reset = connection.rows("select stats_reset from pg_stat_bgwriter").unwrap();
        connection.run("select pg_stat_reset_shared('bgwriter')").unwrap();
        while connection.rows("select stats_reset from pg_stat_bgwriter").unwrap() == reset {}
    };
    run(&database);
    let heads = backend.feeds(None, Some(&token), 5).unwrap().heads;
    assert_eq!(heads.len(), 2, "{heads:?}");
}

/// Why there is no sequence: numbers are given out in one order and become visible in another.
#[test]
fn a_sequence_would_have_missed_it() {
    let database = database();
    database.run("create table log (position bigserial, feed text)").unwrap();
    let (slow, fast, reader) =
        (database.connect().unwrap(), database.connect().unwrap(), database.connect().unwrap());
    slow.run("begin; insert into log (feed) values ('slow')").unwrap();
    fast.run("insert into log (feed) values ('fast')").unwrap();
    let seen = reader.rows("select max(position) from log").unwrap().remove(0).remove(0);
    slow.run("commit").unwrap();
    let after = reader.rows(&format!("select feed from log where position > {seen}")).unwrap();
    assert!(after.is_empty(), "the reader that remembers the largest number never sees the slow one");
    assert_eq!(reader.rows("select count(*) from log").unwrap(), [["2"]]);
}

#[test]
fn reads_go_on_beside_an_append_and_other_feeds_grow() {
    let database = database();
    let backend = open(&database);
    let (mut slow, mut fast) = (TestFeed::new(1), TestFeed::new(2));
    slow.append(&backend, &Event::lines("slow", 2)).unwrap();
    stop_in_the_middle(&database, &slow.id());
    let holder = database.connect().unwrap();
    holder.run("select pg_advisory_lock(42)").unwrap();
    std::thread::scope(|scope| {
        let (slow_id, backend, feed) = (slow.id(), &backend, &mut slow);
        let appending = scope.spawn(move || feed.append(backend, &Event::lines("late", 2)));
        wait_until_somebody_waits(&database);
        assert_eq!(backend.read(&slow_id, 0, Limit::default()).unwrap().entries.len(), 2);
        fast.append(backend, &Event::lines("fast", 9)).unwrap();
        assert_eq!(backend.stat().unwrap().events, 11);
        holder.run("select pg_advisory_unlock(42)").unwrap();
        appending.join().unwrap().unwrap();
    });
    assert_eq!(backend.read(&slow.id(), 0, Limit::default()).unwrap().entries.len(), 4);
}

#[test]
fn waiting_for_a_lock_ends_and_leaves_a_backend_that_works() {
    let database = database();
    let options = PostgresOptions { lock_timeout: Duration::from_millis(50), ..PostgresOptions::default() };
    let backend = PostgresBackend::open(database.url(), &options).unwrap();
    let mut feed = TestFeed::new(1);
    feed.append(&backend, &Event::lines("a", 2)).unwrap();
    let holder = database.connect().unwrap();
    holder.run("begin; select * from burnlog.feeds for update").unwrap();
    let error = feed.append(&backend, &Event::lines("b", 2)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    holder.run("rollback").unwrap();
    feed.append(&backend, &Event::lines("b", 2)).unwrap();
    assert_eq!(backend.read(&feed.id(), 0, Limit::default()).unwrap().entries.len(), 4);
}

#[test]
fn one_connection_is_enough_for_many_threads() {
    let database = database();
    let options = PostgresOptions { connections: 1, ..PostgresOptions::default() };
    let backend = PostgresBackend::open(database.url(), &options).unwrap();
    std::thread::scope(|scope| {
        for number in 1..=8 {
            let backend = &backend;
            scope.spawn(move || {
                let mut feed = TestFeed::new(number);
                let events = Event::lines(&number.to_string(), 10);
                events.chunks(2).for_each(|chunk| feed.append(backend, chunk).unwrap());
                assert_feed(backend, &feed, &events);
            });
        }
    });
    assert_eq!(backend.stat().unwrap().events, 80);
}

#[test]
fn a_call_from_inside_another_runtime_works_and_so_does_the_end() {
    let database = database();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let backend = open(&database);
        let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 3));
        feed.append(&backend, &events).unwrap();
        assert_feed(&backend, &feed, &events);
        drop(backend);
    });
}
