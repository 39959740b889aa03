//! Replay between ledgers: whole, resumed, partial, forked, damaged.

use crate::{append, ledger};
use burnlog_log::conformance::build::{Event, TestFeed};
use burnlog_log::{Ledger, ReplayReport, replay};

fn copy(from: &Ledger, to: &Ledger) -> ReplayReport {
    replay(from, to, &mut |_| {}).unwrap()
}

#[test]
fn a_second_replay_sends_nothing() {
    let (from, to) = (ledger(1), ledger(2));
    append(&from, 1, "a", 0..5);
    append(&from, 1, "a", 5..9);
    append(&from, 2, "a", 0..9);
    let report = copy(&from, &to);
    assert_eq!((report.feeds, report.batches, report.entries), (2, 3, 20));
    assert_eq!(report.events_sent, 11, "nine lines and two writers, each once");
    assert_eq!(from.feeds().unwrap(), to.feeds().unwrap());
    let again = copy(&from, &to);
    assert_eq!((again.feeds_equal, again.batches, again.bytes_sent), (2, 0, 0));
    assert_eq!(again.divergences, []);
}

#[test]
fn only_the_tail_is_sent() {
    let (from, to) = (ledger(1), ledger(2));
    append(&from, 1, "a", 0..50);
    copy(&from, &to);
    append(&from, 1, "b", 0..2);
    let report = copy(&from, &to);
    assert_eq!((report.batches, report.entries, report.events_sent), (1, 2, 2));
    assert_eq!(from.feeds().unwrap(), to.feeds().unwrap());
}

#[test]
fn payloads_that_the_destination_has_are_not_sent() {
    let (from, to) = (ledger(1), ledger(2));
    append(&from, 1, "a", 0..50);
    append(&to, 2, "a", 0..49);
    let report = copy(&from, &to);
    assert_eq!((report.entries, report.events_sent), (51, 2), "one line and the writer");
    assert_eq!(to.stat().unwrap().events, 52);
}

/// Of a long batch a part is asked for first: a run that the destination has is found, a single event is sent in vain, and neither
/// changes what is there.
#[test]
fn of_a_long_batch_what_comes_in_runs_is_not_sent() {
    let (from, to, single) = (ledger(1), ledger(2), ledger(3));
    append(&from, 1, "a", 0..2000);
    append(&to, 2, "a", 700..1100);
    let report = copy(&from, &to);
    assert_eq!((report.entries, report.events_sent), (2001, 1601), "1600 lines and the writer");
    append(&single, 2, "a", 701..702);
    let report = copy(&from, &single);
    assert_eq!((report.entries, report.events_sent), (2001, 2001));
    for there in [to, single] {
        assert_eq!(there.stat().unwrap().events, 2002);
        assert!(there.feeds().unwrap().contains(&from.feeds().unwrap()[0]));
    }
}

#[test]
fn a_destination_that_is_ahead_is_left_alone() {
    let (from, to) = (ledger(1), ledger(2));
    append(&from, 1, "a", 0..5);
    copy(&from, &to);
    append(&to, 1, "a", 5..9);
    let report = copy(&from, &to);
    assert_eq!((report.feeds_equal, report.batches), (1, 0));
    assert_eq!(report.divergences, []);
}

#[test]
fn a_fork_is_named_with_both_heads_and_the_other_feeds_go_on() {
    let (from, to) = (ledger(1), ledger(2));
    append(&from, 1, "a", 0..5);
    append(&to, 1, "b", 0..5);
    append(&from, 2, "c", 0..3);
    let report = copy(&from, &to);
    assert_eq!(report.divergences.len(), 1);
    let divergence = &report.divergences[0];
    assert_eq!(divergence.code, "forked");
    assert_eq!(
        divergence.from,
        from.feeds().unwrap().into_iter().find(|h| h.feed == divergence.from.feed).unwrap()
    );
    assert_ne!(divergence.to.unwrap().root, divergence.from.root);
    assert_eq!(to.feeds().unwrap().len(), 2, "the sound feed arrived");
}

#[test]
fn a_fork_below_a_shorter_head_is_found() {
    let (from, to) = (ledger(1), ledger(2));
    append(&from, 1, "a", 0..5);
    append(&from, 1, "a", 5..9);
    append(&to, 1, "b", 0..5);
    assert_eq!(copy(&from, &to).divergences[0].code, "forked");
    assert_eq!(copy(&to, &from).divergences[0].code, "forked");
}

#[test]
fn batches_that_do_not_fit_their_head_are_refused() {
    let events = Event::lines("a", 4);
    let (from, to) = (ledger(1), ledger(2));
    let mut prepared = TestFeed::new(1).prepare(&events);
    prepared.entries.swap(0, 1);
    prepared.apply(from.backend()).unwrap();
    assert_eq!(copy(&from, &to).divergences[0].code, "refused");
    let mut forged = TestFeed::new(2).prepare(&events);
    forged.head.signature.0[5] ^= 1;
    let from = ledger(3);
    forged.apply(from.backend()).unwrap();
    let report = replay(&from, &to, &mut |_| {}).unwrap();
    assert_eq!(report.divergences[0].code, "refused");
    assert_eq!(to.feeds().unwrap(), []);
    assert_eq!(to.stat().unwrap().events, 0);
}

/// A long tail is prepared ahead of what is appended: it arrives in order, and as far as it is sound.
#[test]
fn a_long_tail_arrives_up_to_the_batch_that_does_not_fit() {
    let (from, to) = (ledger(1), ledger(2));
    for batch in 0..6 {
        append(&from, 1, "a", batch * 500..(batch + 1) * 500);
    }
    let report = copy(&from, &to);
    assert_eq!((report.batches, report.entries, report.divergences.len()), (6, 3001, 0));
    assert_eq!(from.feeds().unwrap(), to.feeds().unwrap());
    let feed = from.feeds().unwrap()[0].feed;
    let all = burnlog_log::Limit { entries: 16_384, bytes: u64::MAX };
    assert_eq!(from.read(&feed, 0, all).unwrap(), to.read(&feed, 0, all).unwrap());

    let (from, to) = (ledger(3), ledger(4));
    let (mut feed, events) = (TestFeed::new(2), Event::lines("b", 2500));
    feed.append(from.backend(), &events[..900]).unwrap();
    feed.append(from.backend(), &events[900..1800]).unwrap();
    let mut forged = feed.prepare(&events[1800..]);
    forged.head.signature.0[5] ^= 1;
    forged.apply(from.backend()).unwrap();
    let report = copy(&from, &to);
    assert_eq!((report.batches, report.divergences[0].code), (2, "refused"));
    assert_eq!(to.feeds().unwrap()[0].size, 1800);
}

#[test]
fn erased_events_arrive_erased() {
    let (from, to) = (ledger(1), ledger(2));
    append(&from, 1, "a", 0..5);
    let feed = from.feeds().unwrap()[0].feed;
    let address = from.read(&feed, 2, burnlog_log::Limit::default()).unwrap().entries[0].address;
    from.erase(&[address]).unwrap();
    assert_eq!(copy(&from, &to).divergences, []);
    assert_eq!(from.feeds().unwrap(), to.feeds().unwrap());
    let all = |ledger: &Ledger| ledger.read(&feed, 0, burnlog_log::Limit::default()).unwrap();
    assert_eq!(all(&from), all(&to));
}
