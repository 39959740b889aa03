//! Laws that need a whole ledger: idempotence, convergence by replay, going on after reopening.

use super::Fixture;
use super::build::{TestFeed, read_all};
use crate::{
    Address, Batch, Body, Entry, Kind, Ledger, LedgerId, Limit, MemoryBackend, Outcome, Position, Timestamp,
    WriterKey, replay,
};

fn batch(stream: &str, seqs: std::ops::Range<u64>) -> Batch {
    let mut batch = Batch::default();
    for seq in seqs {
        let position =
            Position { kind: Kind::Line, source: "test".into(), stream: stream.into(), seq, part: None };
        batch.push(position, format!("{{\"seq\":{seq}}}").as_bytes()).expect("within the limits");
    }
    batch
}

fn key(number: u8) -> WriterKey {
    WriterKey::from_secret([number; 32])
}

/// Law 1: what is there is not stored again, by the same writer or another.
pub fn the_same_batch_twice_stores_once(fixture: &impl Fixture) {
    let ledger = Ledger::from_arc(fixture.open());
    let now = Timestamp::from_micros(1);
    let mut first = ledger.writer(key(1)).unwrap();
    let outcomes = first.append(&batch("a", 0..5), now).unwrap();
    assert_eq!(outcomes, (0..5).map(Outcome::New).collect::<Vec<_>>());
    let stat = ledger.stat().unwrap();
    assert_eq!(first.append(&batch("a", 0..5), now).unwrap(), [Outcome::Present; 5]);
    assert_eq!(first.size(), 5);
    let mut second = ledger.writer(key(2)).unwrap();
    let outcomes = second.append(&batch("a", 3..7), now).unwrap();
    assert_eq!(outcomes, [Outcome::Known(0), Outcome::Known(1), Outcome::New(2), Outcome::New(3)]);
    assert_eq!(ledger.stat().unwrap().events, stat.events + 2);
}

/// Laws 3 and 5: ledgers of several hosts replayed into this one, in two orders, give the same feeds.
pub fn interleaved_writers_converge_by_replay(fixture: &impl Fixture) {
    let now = Timestamp::from_micros(1);
    let hosts: Vec<Ledger> = (1..=3)
        .map(|number| {
            let ledger = Ledger::new(MemoryBackend::new(LedgerId([number; 16])));
            let mut writer = ledger.writer(key(number)).unwrap();
            for start in 0..4 {
                writer.append(&batch("shared", start * 3..start * 3 + 5), now).unwrap();
                writer.append(&batch(&format!("own-{number}"), start..start + 2), now).unwrap();
            }
            ledger
        })
        .collect();
    let here = Ledger::from_arc(fixture.open());
    for host in hosts.iter().chain(hosts.iter().rev()) {
        replay(host, &here, &mut |_| {}).unwrap();
    }
    let other = Ledger::new(MemoryBackend::new(LedgerId([9; 16])));
    for host in hosts.iter().rev() {
        replay(host, &other, &mut |_| {}).unwrap();
    }
    assert_eq!(here.feeds().unwrap(), other.feeds().unwrap());
    assert_eq!(here.stat().unwrap().events, other.stat().unwrap().events);
    for head in here.feeds().unwrap() {
        let ours = read_all(here.backend(), &head.feed, Limit::default());
        let theirs = read_all(other.backend(), &head.feed, Limit::default());
        assert_eq!((ours.state, ours.heads), (theirs.state, theirs.heads));
        // Whether a backend had to compute an address is its own affair.
        let bodies = |entries: Vec<Entry>| -> Vec<(Address, Body)> {
            entries.into_iter().map(|entry| (entry.address, entry.body)).collect()
        };
        assert_eq!(bodies(ours.entries), bodies(theirs.entries));
        assert_eq!(here.frontier_at(&head.feed, head.size).unwrap().root(), head.root);
    }
}

/// A writer reopened in another process goes on where the feed stands.
pub fn a_writer_goes_on_after_reopening(fixture: &impl Fixture) {
    for start in 0..6 {
        let ledger = Ledger::from_arc(fixture.open());
        let mut writer = ledger.writer(key(1)).unwrap();
        assert_eq!(writer.size(), start * 2);
        writer.append(&batch("a", start * 2..start * 2 + 2), Timestamp::from_micros(start as i64)).unwrap();
    }
    let feed = key(1).writer();
    let backend = fixture.open();
    let addresses: Vec<Address> = batch("a", 0..12).events().map(|event| event.address).collect();
    let page = read_all(&*backend, &feed, Limit::default());
    assert_eq!(page.entries.iter().map(|entry| entry.address).collect::<Vec<_>>(), addresses);
    assert_eq!(page.heads.len(), 6);
    assert_eq!(TestFeed::new(1).id(), feed);
}
