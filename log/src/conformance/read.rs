//! Reading: pages, heads, presence, events by address.

use super::Fixture;
use super::build::{Event, TestFeed, read_all};
use crate::Presence::{self, Absent, Erased, Present};
use crate::{Address, Frontier, Limit, leaf};

/// Whatever the limits, the pages put together are the feed.
pub fn pages_are_contiguous_and_within_limits(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 50));
    events.chunks(7).for_each(|chunk| feed.append(&*backend, chunk).unwrap());
    let one = (events[0].skeleton.len() + events[0].payload.len()) as u64;
    for limit in [
        Limit { entries: 1, bytes: u64::MAX },
        Limit { entries: 8, bytes: u64::MAX },
        Limit { entries: 50, bytes: one * 3 + 10 },
        Limit::default(),
    ] {
        let page = backend.read(&feed.id(), 5, limit).unwrap();
        assert!(!page.entries.is_empty() && page.entries.len() <= limit.entries);
        if limit.bytes < u64::MAX && limit.bytes < one * 50 {
            assert!(page.entries.len() <= 3, "{} entries within {} bytes", page.entries.len(), limit.bytes);
        }
        assert_eq!(page.entries[0].address, events[5].address);
        let all = read_all(&*backend, &feed.id(), limit);
        let addresses: Vec<Address> = all.entries.iter().map(|entry| entry.address).collect();
        assert_eq!(addresses, events.iter().map(|event| event.address).collect::<Vec<_>>());
        assert_eq!(all.heads, feed.heads);
    }
}

/// A page is never empty because an entry is larger than the limit.
pub fn one_entry_is_returned_however_large(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (mut feed, events) =
        (TestFeed::new(1), vec![Event::line("a", 0, &[b'1'; 4000]), Event::line("a", 1, b"2")]);
    feed.append(&*backend, &events).unwrap();
    let limit = Limit { entries: 0, bytes: 0 };
    assert_eq!(backend.read(&feed.id(), 0, limit).unwrap().entries.len(), 1);
    assert_eq!(
        backend.get(&[events[0].address, events[1].address], limit).unwrap(),
        [Some(events[0].body())]
    );
}

/// A page brings the head of each batch that it touches, also of the one that it cuts.
pub fn heads_cover_the_entries_of_a_page(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 12));
    events.chunks(3).for_each(|chunk| feed.append(&*backend, chunk).unwrap());
    let heads =
        |from, entries| backend.read(&feed.id(), from, Limit { entries, bytes: u64::MAX }).unwrap().heads;
    assert_eq!(heads(0, 1), feed.heads[..1]);
    assert_eq!(heads(0, 3), feed.heads[..1]);
    assert_eq!(heads(0, 4), feed.heads[..2]);
    assert_eq!(heads(2, 5), feed.heads[..3]);
    assert_eq!(heads(3, 3), feed.heads[1..2]);
    assert_eq!(heads(11, 9), feed.heads[3..]);
    assert_eq!(heads(0, 12), feed.heads);
}

/// At the end and beyond it a page has no entries and no heads, but tells the state.
pub fn beyond_the_end_there_is_only_the_state(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 3));
    feed.append(&*backend, &events).unwrap();
    for from in [3, 4, u64::MAX] {
        let page = backend.read(&feed.id(), from, Limit::default()).unwrap();
        assert!(page.entries.is_empty() && page.heads.is_empty(), "from {from}");
        assert_eq!(page.state.unwrap().head, feed.heads[0]);
    }
}

/// An unknown feed is not an error.
pub fn an_unknown_feed_has_no_state(fixture: &impl Fixture) {
    let backend = fixture.open();
    let page = backend.read(&TestFeed::new(1).id(), 0, Limit::default()).unwrap();
    assert!(page.state.is_none() && page.entries.is_empty() && page.heads.is_empty());
    assert!(backend.feeds(None, None, 10).unwrap().heads.is_empty());
}

/// The frontier comes back with the newest head, after each batch and after reopening.
pub fn the_frontier_is_that_of_the_newest_head(fixture: &impl Fixture) {
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 13));
    let mut expected = Frontier::default();
    for chunk in events.chunks(2) {
        let backend = fixture.open();
        feed.append(&*backend, chunk).unwrap();
        expected.extend(chunk.iter().map(|event| leaf(&event.skeleton)));
        let state = backend.read(&feed.id(), u64::MAX, Limit::default()).unwrap().state.unwrap();
        assert_eq!(state.frontier, expected.peaks());
    }
    let backend = fixture.open();
    backend.compact().unwrap();
    let state = backend.read(&feed.id(), u64::MAX, Limit::default()).unwrap().state.unwrap();
    assert_eq!(state.frontier, expected.peaks());
}

/// Presence is of the ledger, the index is of the feed asked about.
pub fn find_tells_presence_and_index(fixture: &impl Fixture) {
    let events = Event::lines("a", 6);
    let (mut first, mut second) = (TestFeed::new(1), TestFeed::new(2));
    {
        let backend = fixture.open();
        first.append(&*backend, &events[..4]).unwrap();
        second.append(&*backend, &events[3..5]).unwrap();
        backend.erase(&[events[0].address]).unwrap();
    }
    let backend = fixture.open();
    let addresses: Vec<Address> = events.iter().rev().map(|event| event.address).collect();
    let find = |feed: &TestFeed| -> Vec<(Presence, Option<u64>)> {
        let found = backend.find(&feed.id(), &addresses).unwrap();
        found.iter().rev().map(|found| (found.presence, found.index)).collect()
    };
    assert_eq!(
        find(&first),
        [
            (Erased, Some(0)),
            (Present, Some(1)),
            (Present, Some(2)),
            (Present, Some(3)),
            (Present, None),
            (Absent, None)
        ]
    );
    assert_eq!(
        find(&second),
        [
            (Erased, None),
            (Present, None),
            (Present, None),
            (Present, Some(0)),
            (Present, Some(1)),
            (Absent, None)
        ]
    );
    assert_eq!(backend.find(&first.id(), &[]).unwrap(), []);
}

/// Events come back in the order asked for, absent ones as such, the same one as often as asked.
pub fn get_returns_a_prefix_in_order(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 4));
    feed.append(&*backend, &events).unwrap();
    let absent = Event::line("b", 0, b"");
    let asked = [&events[2], &absent, &events[0], &events[2]].map(|event| event.address);
    let expected = [Some(events[2].body()), None, Some(events[0].body()), Some(events[2].body())];
    let mut got = Vec::new();
    while got.len() < asked.len() {
        let more = backend.get(&asked[got.len()..], Limit { entries: 3, bytes: u64::MAX }).unwrap();
        assert!(!more.is_empty() && more.len() <= 3);
        got.extend(more);
    }
    assert_eq!(got, expected);
}

/// Statistics count each event once.
pub fn stat_counts_distinct_events(fixture: &impl Fixture) {
    let events = Event::lines("a", 6);
    let (mut first, mut second) = (TestFeed::new(1), TestFeed::new(2));
    {
        let backend = fixture.open();
        assert_eq!(backend.stat().unwrap().events, 0);
        first.append(&*backend, &events[..4]).unwrap();
        second.append(&*backend, &events[2..]).unwrap();
        backend.erase(&[events[1].address]).unwrap();
    }
    let stat = fixture.open().stat().unwrap();
    assert_eq!(stat.events, 6);
    let bytes: usize = events.iter().map(|event| event.payload.len()).sum();
    assert_eq!(stat.payload_bytes, (bytes - events[1].payload.len()) as u64);
}
