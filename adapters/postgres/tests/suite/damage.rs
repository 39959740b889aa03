//! Rows that somebody changed or lost behind our back: named one by one, everything around them readable.

use crate::{database, open};
use burnlog_log::conformance::build::{Event, TestFeed, read_all};
use burnlog_log::{Address, Backend, Body, Damage, Ledger, Limit, Presence, Severity, push_hex, verify};
use burnlog_postgres::{Database, PostgresBackend};

/// Two batches of events of two blocks' size, so that there are several blocks; and a second feed that shares some.
fn filled(database: &Database) -> (PostgresBackend, TestFeed, Vec<Event>) {
    let backend = open(database);
    let events: Vec<Event> = (0..40).map(|seq| Event::line("noise", seq, &noise(seq, 20_000))).collect();
    let mut feed = TestFeed::new(1);
    feed.append(&backend, &events[..25]).unwrap();
    feed.append(&backend, &events[25..]).unwrap();
    TestFeed::new(2).append(&backend, &events[10..12]).unwrap();
    (backend, feed, events)
}

/// Bytes that do not compress, so that they stand in a block as they are.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let byte = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(byte).take(length).collect()
}

fn damaged(entries: &[burnlog_log::Entry]) -> Vec<usize> {
    let is = |body: &Body| matches!(body, Body::Damaged { .. });
    (0..entries.len()).filter(|at| is(&entries[*at].body)).collect()
}

fn checked(backend: &PostgresBackend) -> Vec<&'static str> {
    let mut codes = Vec::new();
    backend.check(&mut |Damage { code, .. }| codes.push(code)).unwrap();
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Opened anew, because a backend remembers the blocks it read last.
fn entries(database: &Database, feed: &TestFeed) -> Vec<burnlog_log::Entry> {
    read_all(&open(database), &feed.id(), Limit::default()).entries
}

#[test]
fn a_flipped_byte_damages_the_events_of_its_block_and_no_others() {
    let database = database();
    let (backend, feed, events) = filled(&database);
    drop(backend);
    database
        .run(
            "update burnlog.blocks set bytes = set_byte(bytes, length(bytes) / 2, get_byte(bytes, length(bytes) / 2) # 1) \
             where id = (select block from burnlog.events order by index limit 1)",
        )
        .unwrap();
    let entries = entries(&database, &feed);
    assert_eq!(entries.len(), 40);
    let bad = damaged(&entries);
    assert!(bad.contains(&0) && bad.len() < 25, "{bad:?}");
    for (at, (entry, event)) in entries.iter().zip(&events).enumerate() {
        assert_eq!(entry.address, event.address);
        assert!(bad.contains(&at) || entry.body == event.body());
    }
    let mut found = Vec::new();
    verify(&Ledger::new(open(&database)), &[], &mut |finding| {
        if finding.severity == Severity::Damage && finding.feed == Some(feed.id()) {
            found.push((finding.code, finding.index));
        }
    })
    .unwrap();
    let expected: Vec<_> = bad.iter().map(|at| ("unreadable-event", Some(*at as u64))).collect();
    assert_eq!(found, expected);
}

#[test]
fn rows_that_are_gone_are_damaged_entries() {
    let database = database();
    let (backend, feed, events) = filled(&database);
    drop(backend);
    database
        .run(
            "delete from burnlog.events where index = 3; \
             delete from burnlog.blocks where id = (select block from burnlog.events where index = 39)",
        )
        .unwrap();
    let all = entries(&database, &feed);
    let bad = damaged(&all);
    assert!(bad.contains(&3) && bad.contains(&39) && !bad.contains(&2) && !bad.contains(&20), "{bad:?}");
    assert_eq!(all[3].address, events[3].address);
    let backend = open(&database);
    let asked = [events[2].address, events[3].address, events[39].address];
    let got = backend.get(&asked, Limit::default()).unwrap();
    assert_eq!((&got[0], &got[1]), (&Some(events[2].body()), &None));
    assert!(matches!(got[2], Some(Body::Damaged { .. })));
    assert_eq!(checked(&backend), ["blocks-missing", "counters", "places-count"]);
    database.run("delete from burnlog.entries where index = 0").unwrap();
    let all = entries(&database, &feed);
    assert_eq!(damaged(&all)[..25], (0..25).collect::<Vec<_>>());
    assert_eq!(all[0].address, Address([0; 32]));
    assert_eq!(all[30].body, events[30].body());
}

#[test]
fn every_check_goes_red() {
    for (sql, code) in [
        ("update burnlog.counters set events = events + 1 where shard = 3", "counters"),
        ("update burnlog.counters set payload_bytes = payload_bytes - 1 where shard = 3", "counters"),
        ("delete from burnlog.entries where index = 0", "entries-gap"),
        (
            "update burnlog.entries set addresses = substring(addresses from 33) where index = 25",
            "entries-gap",
        ),
        ("update burnlog.feeds set recorded_at = recorded_at + 1", "head-newest"),
        ("delete from burnlog.entries where index = 25", "head-newest"),
        ("delete from burnlog.feeds where size = 2", "feed-missing"),
        ("delete from burnlog.places where index = 1", "places-count"),
        ("update burnlog.events set feed = 5 where index = 20", "places-count"),
        ("delete from burnlog.blocks where id = (select min(id) from burnlog.blocks)", "blocks-missing"),
        ("update burnlog.events set start = 1 << 20 where index = 7", "blocks-missing"),
        ("update burnlog.events set skeleton_bytes = -1 where index = 7", "blocks-missing"),
    ] {
        let database = database();
        let (backend, feed, _) = filled(&database);
        assert_eq!(checked(&backend), Vec::<&str>::new());
        database.run(sql).unwrap();
        assert!(checked(&backend).contains(&code), "{sql} is not seen as {code}: {:?}", checked(&backend));
        // Whatever is wrong, reading answers.
        entries(&database, &feed);
    }
}

#[test]
fn a_frontier_that_does_not_fit_is_computed_again() {
    let database = database();
    let (backend, feed, _) = filled(&database);
    database.run("update burnlog.feeds set frontier = '\\x00' where size = 40").unwrap();
    let (head, frontier) = Ledger::new(backend).checked_state(&feed.id()).unwrap();
    assert_eq!(head.as_ref(), feed.heads.last());
    assert_eq!(frontier, feed.frontier);
}

#[test]
fn erasing_removes_the_bytes_wherever_they_arrived() {
    let database = database();
    let backend = open(&database);
    let payload = noise(99, 4000);
    let secret = Event::line("secret", 0, &payload);
    let mut hex = Vec::new();
    push_hex(&mut hex, &payload[2000..2032]);
    let part = String::from_utf8(hex).unwrap();
    let kept = |number| Event::line("kept", number, b"kept");
    let (mut first, mut second) = (TestFeed::new(1), TestFeed::new(2));
    first.append(&backend, &[kept(0), secret.clone(), kept(1)]).unwrap();
    // Sent again beside something new: the bytes must not stay in the second feed's block.
    second.append(&backend, &[secret.clone(), kept(2)]).unwrap();
    let holding = || {
        let sql =
            format!("select count(*) from burnlog.blocks where position('\\x{part}'::bytea in bytes) > 0");
        database.rows(&sql).unwrap().remove(0).remove(0)
    };
    assert_eq!(holding(), "1");
    backend.erase(&[secret.address]).unwrap();
    assert_eq!(holding(), "0");
    assert_eq!(backend.find(&second.id(), &[secret.address]).unwrap()[0].presence, Presence::Erased);
    let around = backend.get(&[kept(0).address, kept(1).address, kept(2).address], Limit::default()).unwrap();
    assert_eq!(around, [0, 1, 2].map(|number| Some(kept(number).body())));
}
