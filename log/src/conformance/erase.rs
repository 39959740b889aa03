//! Erasing, compacting, checking.

use super::Fixture;
use super::build::{Event, TestFeed, assert_feed, read_all};
use crate::{Address, Append, Backend, Body, ErrorKind, Limit, NewEvent, Presence, WriterId};

fn assert_erased(backend: &dyn Backend, feed: &WriterId, event: &Event) {
    let erased = Body::Erased { skeleton: event.skeleton.clone().into() };
    assert_eq!(backend.get(&[event.address], Limit::default()).unwrap(), [Some(erased.clone())]);
    let page = read_all(backend, feed, Limit::default());
    let entry = page.entries.iter().find(|entry| entry.address == event.address).expect("the entry stays");
    assert_eq!(entry.body, erased);
    assert_eq!(backend.find(feed, &[event.address]).unwrap()[0].presence, Presence::Erased);
}

/// Erased means erased: at once, after reopening, after compacting.
pub fn an_erased_payload_is_unreadable_and_the_rest_stays(fixture: &impl Fixture) {
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 5));
    {
        let backend = fixture.open();
        feed.append(&*backend, &events).unwrap();
        backend.erase(&[events[1].address, events[3].address]).unwrap();
        backend.erase(&[events[1].address]).unwrap();
        assert_erased(&*backend, &feed.id(), &events[1]);
    }
    for _ in 0..2 {
        let backend = fixture.open();
        assert_erased(&*backend, &feed.id(), &events[1]);
        assert_erased(&*backend, &feed.id(), &events[3]);
        let page = read_all(&*backend, &feed.id(), Limit::default());
        assert_eq!(page.entries[2].body, events[2].body());
        assert_eq!(page.heads, feed.heads);
        backend.compact().unwrap();
    }
}

/// One unknown address and nothing is erased.
pub fn erasing_an_absent_address_erases_nothing(fixture: &impl Fixture) {
    let backend = fixture.open();
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 2));
    feed.append(&*backend, &events).unwrap();
    let absent = Event::line("b", 0, b"").address;
    let error = backend.erase(&[events[0].address, absent]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_feed(&*backend, &feed, &events);
}

/// Another host that still has the record does not bring it back.
pub fn an_erased_event_stays_erased_when_sent_again(fixture: &impl Fixture) {
    let events = Event::lines("a", 3);
    let (mut first, mut second, mut third) = (TestFeed::new(1), TestFeed::new(2), TestFeed::new(3));
    {
        let backend = fixture.open();
        first.append(&*backend, &events).unwrap();
        backend.erase(&[events[1].address]).unwrap();
        second.append(&*backend, &events).unwrap();
        assert_erased(&*backend, &second.id(), &events[1]);
        backend.compact().unwrap();
        third.append(&*backend, &events).unwrap();
    }
    let backend = fixture.open();
    for feed in [&first, &second, &third] {
        assert_erased(&*backend, &feed.id(), &events[1]);
    }
}

/// A replayed ledger brings erased events as skeletons without payload.
pub fn an_event_may_arrive_erased(fixture: &impl Fixture) {
    let (feed, events) = (TestFeed::new(1), Event::lines("a", 2));
    {
        let backend = fixture.open();
        let prepared = feed.prepare(&events);
        let sent = [NewEvent { payload: None, ..events[0].new_event() }, events[1].new_event()];
        backend
            .append(&Append {
                expected_size: 0,
                expected_root: prepared.expected_root,
                entries: &prepared.entries,
                events: &sent,
                head: &prepared.head,
                frontier: prepared.frontier.peaks(),
            })
            .unwrap();
    }
    let backend = fixture.open();
    assert_erased(&*backend, &feed.id(), &events[0]);
    assert_eq!(backend.get(&[events[1].address], Limit::default()).unwrap(), [Some(events[1].body())]);
    backend.compact().unwrap();
    assert_erased(&*backend, &feed.id(), &events[0]);
}

/// Compacting is invisible, may be done at any time, and writing goes on after it.
pub fn compacting_changes_nothing_that_a_reader_sees(fixture: &impl Fixture) {
    let events = Event::lines("a", 40);
    let (mut first, mut second) = (TestFeed::new(1), TestFeed::new(2));
    for (round, chunk) in events.chunks(10).enumerate() {
        let backend = fixture.open();
        first.append(&*backend, chunk).unwrap();
        second.append(&*backend, &chunk[..5]).unwrap();
        if round % 2 == 1 {
            backend.compact().unwrap();
        }
        assert_feed(&*backend, &first, &events[..(round + 1) * 10]);
    }
    let backend = fixture.open();
    backend.compact().unwrap();
    backend.compact().unwrap();
    assert_feed(&*backend, &first, &events);
    let halves: Vec<Event> = events.chunks(10).flat_map(|chunk| chunk[..5].to_vec()).collect();
    assert_feed(&*backend, &second, &halves);
    let addresses: Vec<Address> = halves.iter().map(|event| event.address).collect();
    for (index, found) in backend.find(&second.id(), &addresses).unwrap().into_iter().enumerate() {
        assert_eq!((found.presence, found.index), (Presence::Present, Some(index as u64)));
    }
}

/// A store that nobody harmed has nothing to report, whatever state it is in.
pub fn a_sound_store_reports_no_damage(fixture: &impl Fixture) {
    let check = |backend: &dyn Backend| {
        backend.check(&mut |damage| panic!("a sound store reported {damage:?}")).unwrap();
    };
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 6));
    let backend = fixture.open();
    check(&*backend);
    feed.append(&*backend, &events[..3]).unwrap();
    check(&*backend);
    backend.erase(&[events[0].address]).unwrap();
    backend.compact().unwrap();
    check(&*backend);
    feed.append(&*backend, &events[3..]).unwrap();
    drop(backend);
    check(&*fixture.open());
}
