//! Appending: compare-and-append, all or nothing, once per feed, nothing missing.

use super::Fixture;
use super::build::{Event, Prepared, TestFeed, assert_feed};
use crate::limits::BATCH_ENTRIES_MAX;
use crate::{
    Address, Ahead, Backend, Batch, ErrorKind, Kind, Ledger, Limit, Position, Root, Timestamp, WriterKey,
};

/// What is appended comes back: addresses, bytes, head.
pub fn a_first_batch_is_read_back_as_written(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 3));
    feed.append(&*backend, &events).unwrap();
    assert_feed(&*backend, &feed, &events);
}

/// Several batches form one feed, also over reopening.
pub fn batches_extend_a_feed_and_survive_reopening(fixture: &impl Fixture) {
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 10));
    for chunk in events.chunks(3) {
        let backend = fixture.open();
        feed.append(&*backend, chunk).unwrap();
    }
    assert_feed(&*fixture.open(), &feed, &events);
}

/// What is done ahead of an append needs no look at the ledger, and is not taken for that of another.
pub fn what_is_done_ahead_is_of_one_append(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (feed, events) = (TestFeed::new(1), Event::lines("a", 6));
    let behind = |batch: &Prepared| {
        let mut feed = TestFeed::new(1);
        feed.frontier = batch.frontier.clone();
        feed
    };
    let first = feed.prepare(&events[..2]);
    let second = behind(&first).prepare(&events[2..4]);
    let third = behind(&second).prepare(&events[4..]);
    let ahead = |batch: &Prepared| batch.lend(|append| backend.ahead(append)).unwrap();
    let append = |batch: &Prepared, ahead: Option<Ahead>| match ahead {
        Some(ahead) => batch.lend(|append| backend.append_ahead(append, ahead)).unwrap(),
        None => batch.apply(&*backend).unwrap(),
    };
    let (of_first, of_second, of_third) = (ahead(&first), ahead(&second), ahead(&third));
    assert_feed(&*backend, &feed, &[]);
    append(&first, of_third);
    append(&second, of_second);
    append(&third, of_first);
    let mut all = behind(&third);
    all.heads = vec![first.head, second.head, third.head];
    assert_feed(&*backend, &all, &events);
}

/// An append that expects an older size is a conflict and leaves no trace.
pub fn a_stale_size_is_refused_whole(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 2));
    let stale = feed.prepare(&Event::lines("b", 2));
    feed.append(&*backend, &events).unwrap();
    assert_eq!(stale.refused(&*backend).kind(), ErrorKind::Conflict);
    assert_absent(&*backend, &stale.events);
    drop(backend);
    let backend = fixture.open();
    assert_feed(&*backend, &feed, &events);
    assert_absent(&*backend, &stale.events);
}

/// An append that expects more than is there is a conflict.
pub fn a_size_beyond_the_end_is_refused_whole(fixture: &impl Fixture) {
    let backend = fixture.open();
    let feed = TestFeed::new(1);
    let mut ahead = feed.prepare(&Event::lines("a", 1));
    ahead.expected_size = 5;
    ahead.head.size = 6;
    ahead.frontier = (0..6).fold(crate::Frontier::default(), |mut frontier, _| {
        frontier.push(Root([0; 32]));
        frontier
    });
    assert_eq!(ahead.refused(&*backend).kind(), ErrorKind::Conflict);
    assert_absent(&*backend, &ahead.events);
    assert_feed(&*backend, &feed, &[]);
}

/// The right size with another root is a fork, not a conflict.
pub fn another_root_at_the_same_size_is_a_fork(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 2));
    feed.append(&*backend, &events).unwrap();
    let mut fork = feed.prepare(&Event::lines("b", 1));
    fork.expected_root = Root([9; 32]);
    assert_eq!(fork.refused(&*backend).kind(), ErrorKind::Forked);
    assert_absent(&*backend, &fork.events);
    assert_feed(&*backend, &feed, &events);
}

/// An address occurs at most once in a feed.
pub fn an_address_already_in_the_feed_is_refused_whole(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 2));
    feed.append(&*backend, &events).unwrap();
    let again = feed.prepare(&[Event::line("b", 0, b"1"), events[1].clone()]);
    assert_eq!(again.refused(&*backend).kind(), ErrorKind::Invalid);
    assert_absent(&*backend, &again.events[..1]);
    assert_feed(&*backend, &feed, &events);
}

/// Nor does an address occur twice in one batch.
pub fn an_address_twice_in_one_batch_is_refused_whole(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (feed, event) = (TestFeed::new(1), Event::line("a", 0, b"1"));
    let twice = feed.prepare(&[event.clone(), event.clone()]);
    assert_eq!(twice.refused(&*backend).kind(), ErrorKind::Invalid);
    assert_absent(&*backend, &[event]);
    assert_feed(&*backend, &feed, &[]);
}

/// An entry whose event nobody sent is refused.
pub fn an_entry_without_its_event_is_missing(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (feed, events) = (TestFeed::new(1), Event::lines("a", 3));
    let mut prepared = feed.prepare(&events);
    let unsent = prepared.events.remove(1);
    let error = prepared.refused(&*backend);
    assert_eq!(error.kind(), ErrorKind::Missing);
    assert_eq!(error.missing_addresses(), &[unsent.address]);
    assert_absent(&*backend, &events);
    assert_feed(&*backend, &feed, &[]);
}

/// All of them are named at once, so that one more call is enough.
pub fn all_missing_addresses_are_named(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (feed, events) = (TestFeed::new(1), Event::lines("a", 5));
    let mut prepared = feed.prepare(&events);
    prepared.events.retain(|event| event.address == events[2].address);
    let expected: Vec<Address> = [0, 1, 3, 4].map(|i| events[i].address).to_vec();
    assert_eq!(prepared.refused(&*backend).missing_addresses(), expected);
}

/// A second feed refers to what the first brought: one event, two entries.
pub fn a_known_event_needs_no_second_payload(fixture: &impl Fixture) {
    let events = Event::lines("a", 4);
    let (mut first, mut second) = (TestFeed::new(1), TestFeed::new(2));
    {
        let backend = fixture.open();
        first.append(&*backend, &events[..3]).unwrap();
        let mut known = second.prepare(&events);
        known.events.retain(|event| event.address == events[3].address);
        known.apply(&*backend).unwrap();
        second.frontier = known.frontier;
        second.heads.push(known.head);
    }
    let backend = fixture.open();
    assert_feed(&*backend, &first, &events[..3]);
    assert_feed(&*backend, &second, &events);
    assert_eq!(backend.stat().unwrap().events, 4);
}

/// Sending the event although it is there is allowed and stores nothing twice.
pub fn a_known_event_sent_again_changes_nothing(fixture: &impl Fixture) {
    let backend = fixture.open();
    let events = Event::lines("a", 4);
    let (mut first, mut second) = (TestFeed::new(1), TestFeed::new(2));
    first.append(&*backend, &events).unwrap();
    second.append(&*backend, &events).unwrap();
    assert_feed(&*backend, &first, &events);
    assert_feed(&*backend, &second, &events);
    let stat = backend.stat().unwrap();
    assert_eq!(stat.events, 4);
    assert_eq!(stat.payload_bytes, events.iter().map(|event| event.payload.len() as u64).sum::<u64>());
}

/// A batch has at least one entry.
pub fn an_empty_batch_is_refused(fixture: &impl Fixture) {
    let backend = fixture.open();
    let error = TestFeed::new(1).prepare(&[]).refused(&*backend);
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(backend.feeds(None, None, 10).unwrap().heads.is_empty());
}

/// A head that counts other entries than the batch brings is refused.
pub fn a_head_of_another_size_is_refused(fixture: &impl Fixture) {
    let backend = fixture.open();
    let mut wrong = TestFeed::new(1).prepare(&Event::lines("a", 2));
    wrong.head.size += 1;
    assert_eq!(wrong.refused(&*backend).kind(), ErrorKind::Invalid);
    assert_absent(&*backend, &wrong.events);
}

/// The limit of entries holds at the seam, and at the limit all is well.
pub fn a_batch_over_the_limits_is_refused_whole(fixture: &impl Fixture) {
    let backend = fixture.open();
    let mut feed = TestFeed::new(1);
    let events = Event::lines("a", BATCH_ENTRIES_MAX as u64 + 1);
    let over = feed.prepare(&events);
    assert_eq!(over.refused(&*backend).kind(), ErrorKind::Invalid);
    assert_absent(&*backend, &events);
    feed.append(&*backend, &events[..BATCH_ENTRIES_MAX]).unwrap();
    assert_feed(&*backend, &feed, &events[..BATCH_ENTRIES_MAX]);
}

/// Bytes are bytes: what a database or a text format would rewrite comes back as it was.
pub fn every_payload_comes_back_byte_for_byte(fixture: &impl Fixture) {
    let payloads: Vec<Vec<u8>> = [
        b"".as_slice(),
        b"{}",
        b"{\"a\":1}",
        b" {\"a\":1}",
        b"{\"a\":1} ",
        b"{\"a\":1}\r",
        b"{\"a\":\n1}",
        b"null",
        b"\"text\"",
        b"12345678901234567890.000",
        b"{\"a\":1,\"a\":2}",
        b"{\"a\":\"\\ud800\"}",
        b"{\"a\":\"\\u0000\"}",
        b"{\"a\":\"\x00\"}",
        b"\x00\x00\x00\x00",
        b"\xff\xfe\xc3\x28",
        b"{\"a\":\"\xff\"}",
        b"not json",
        b"\"",
        b"\\",
        b"{\"cut\":\"of",
        "{\"a\":\"\u{2028}\u{2029}\u{feff}\"}".as_bytes(),
        "\u{feff}{}".as_bytes(),
    ]
    .iter()
    .map(|payload| payload.to_vec())
    .chain([
        [b"[".repeat(1000), b"]".repeat(1000)].concat(),
        (0..=255).collect(),
        format!("{{\"big\":\"{}\"}}", "x".repeat(2 << 20)).into_bytes(),
    ])
    .collect();
    let events: Vec<Event> = payloads
        .iter()
        .enumerate()
        .map(|(seq, payload)| Event::line("odd \"\\\u{7f}é", seq as u64, payload))
        .collect();
    let mut feed = TestFeed::new(1);
    feed.append(&*fixture.open(), &events).unwrap();
    assert_feed(&*fixture.open(), &feed, &events);
    let backend = fixture.open();
    backend.compact().unwrap();
    assert_feed(&*backend, &feed, &events);
}

/// Records of 20 MB and skeletons of 64 KB are within the limits.
pub fn large_payloads_and_skeletons_come_back(fixture: &impl Fixture) {
    let long_name = "s".repeat(65_535 - 200);
    let events = vec![
        Event::line("large", 0, &vec![b'7'; 20 << 20]),
        Event::line(&long_name, 1, b"{}"),
        Event::line("large", 2, &[0xf5; 3 << 20]),
    ];
    let mut feed = TestFeed::new(1);
    feed.append(&*fixture.open(), &events).unwrap();
    assert_feed(&*fixture.open(), &feed, &events);
}

/// Calls may come from several threads; each feed gets all of its batches.
pub fn two_threads_on_two_feeds_lose_nothing(fixture: &impl Fixture) {
    let events: Vec<Vec<Event>> = ["a", "b"].map(|stream| Event::lines(stream, 60)).to_vec();
    let mut feeds = [TestFeed::new(1), TestFeed::new(2)];
    let backend = fixture.open();
    std::thread::scope(|scope| {
        for (feed, events) in feeds.iter_mut().zip(&events) {
            let backend = &*backend;
            scope.spawn(move || events.chunks(2).for_each(|chunk| feed.append(backend, chunk).unwrap()));
        }
    });
    drop(backend);
    let backend = fixture.open();
    for (feed, events) in feeds.iter().zip(&events) {
        assert_feed(&*backend, feed, events);
    }
}

/// The same key used twice at once: conflicts are met by reading the head again; nothing is doubled or lost.
pub fn two_threads_on_one_feed_take_turns(fixture: &impl Fixture) {
    let ledger = Ledger::from_arc(fixture.open());
    let append_all = |stream: &str| {
        let mut writer = ledger.writer(WriterKey::from_secret([5; 32])).unwrap();
        for seq in 0..20 {
            let mut batch = Batch::default();
            let position =
                Position { kind: Kind::Line, source: "test".into(), stream: stream.into(), seq, part: None };
            batch.push(position, b"{}").unwrap();
            // A writer gives up after some conflicts; a caller that lost that often tries again.
            while let Err(error) = writer.append(&batch, Timestamp::from_micros(1)) {
                assert_eq!(error.kind(), ErrorKind::Conflict);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| append_all("a"));
        scope.spawn(|| append_all("b"));
    });
    let feed = WriterKey::from_secret([5; 32]).writer();
    let page = super::build::read_all(ledger.backend(), &feed, Limit::default());
    assert_eq!(page.entries.len(), 40);
    let (head, frontier) = ledger.checked_state(&feed).unwrap();
    assert_eq!(ledger.frontier_at(&feed, 40).unwrap(), frontier);
    assert_eq!(head.unwrap().root, frontier.root());
}

#[track_caller]
fn assert_absent(backend: &dyn Backend, events: &[Event]) {
    let addresses: Vec<Address> = events.iter().map(|event| event.address).collect();
    for found in backend.find(&TestFeed::new(200).id(), &addresses).unwrap() {
        assert_eq!(found.presence, crate::Presence::Absent, "a refused batch left an event behind");
    }
}
