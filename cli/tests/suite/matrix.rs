//! Law 5 in full: random ledgers, with everything that an event may be, replayed from every backend into every other.

use crate::laws::{On, Opened, dump_of};
use burnlog_log::conformance::build::read_all;
use burnlog_log::{
    Address, Batch, Kind, Ledger, LedgerId, Limit, MemoryBackend, Part, Position, Timestamp, WriterKey,
    replay,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// A record with its place, whatever it is.
#[derive(Debug, Clone)]
struct Record {
    kind: Kind<'static>,
    source: &'static str,
    stream: String,
    seq: u64,
    part: Option<Part>,
    payload: Vec<u8>,
}

fn kind() -> impl Strategy<Value = Kind<'static>> {
    prop_oneof![
        8 => Just(Kind::Line),
        1 => Just(Kind::Tail),
        1 => Just(Kind::Record),
        1 => Just(Kind::Stamp),
        1 => Just(Kind::Seal),
        2 => "[a-z]{1,12}".prop_map(|name| Kind::of_name(format!("new-{name}").into())),
    ]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0u8..9, 1u64..50, any::<bool>()).prop_map(|(message, output, stop)| {
            let stop = stop.then_some("end_turn");
            let line = crate::assistant("s", &format!("m{message}"), output, stop);
            line.trim_end().as_bytes().to_vec()
        }),
        2 => prop::collection::vec(any::<u8>(), 0..400),
        1 => Just(b"{\"a\":\"\\ud800\\u0000\"}".to_vec()),
        1 => Just(vec![0; 70_000]),
        1 => (1usize..60_000, any::<u8>()).prop_map(|(bytes, byte)| (0..bytes).map(|n| (n as u8) ^ byte).collect()),
    ]
}

fn record() -> impl Strategy<Value = Record> {
    let part = prop_oneof![
        9 => Just(None),
        1 => (0u32..3, any::<bool>()).prop_map(|(number, more)| Some(Part { number, more })),
    ];
    let source = prop_oneof![4 => Just("claude-code"), 1 => Just("codex"), 1 => Just("a source to come")];
    let stream = prop_oneof![5 => "s[0-3]", 1 => "[\\PC\u{0}\"]{1,20}"];
    (kind(), source, stream, 0u64..40, part, payload()).prop_map(
        |(kind, source, stream, seq, part, payload)| Record { kind, source, stream, seq, part, payload },
    )
}

/// What some writers record, batch by batch, and which of it is erased: numbers that pick among all addresses.
#[derive(Debug, Clone)]
struct Recorded {
    writers: Vec<Vec<Vec<Record>>>,
    erased: Vec<prop::sample::Index>,
}

fn recorded() -> impl Strategy<Value = Recorded> {
    let batches = prop::collection::vec(prop::collection::vec(record(), 1..25), 1..5);
    let writers = prop::collection::vec(batches, 1..5);
    let erased = prop::collection::vec(any::<prop::sample::Index>(), 0..6);
    (writers, erased).prop_map(|(writers, erased)| Recorded { writers, erased })
}

impl Recorded {
    /// Makes the ledger in memory.
    fn ledger(&self) -> Ledger {
        let ledger = Ledger::new(MemoryBackend::new(LedgerId([1; 16])));
        let mut addresses: BTreeSet<Address> = BTreeSet::new();
        for (number, batches) in (1..).zip(&self.writers) {
            let mut writer = ledger.writer(WriterKey::from_secret([number; 32])).unwrap();
            for (round, records) in batches.iter().enumerate() {
                let mut batch = Batch::default();
                for record in records {
                    let position = Position {
                        kind: record.kind.clone(),
                        source: record.source.into(),
                        stream: record.stream.as_str().into(),
                        seq: record.seq,
                        part: record.part,
                    };
                    addresses.insert(batch.push(position, &record.payload).unwrap().address);
                }
                writer.append(&batch, Timestamp::from_micros(round as i64)).unwrap();
            }
        }
        let addresses: Vec<Address> = addresses.into_iter().collect();
        let erased: BTreeSet<Address> = self.erased.iter().map(|pick| *pick.get(&addresses)).collect();
        ledger.erase(&erased.into_iter().collect::<Vec<_>>()).unwrap();
        ledger
    }
}

/// Everything that a reader can see of a ledger through the seam.
fn assert_same(here: &Ledger, there: &Ledger, what: &str) {
    let feeds = here.feeds().unwrap();
    assert_eq!(feeds, there.feeds().unwrap(), "{what}");
    for head in &feeds {
        let [ours, theirs] = [here, there].map(|it| read_all(it.backend(), &head.feed, Limit::default()));
        // Whether a backend had to compute an address is its own affair.
        let [ours, theirs] = [ours, theirs].map(|page| {
            let bodies = page.entries.into_iter().map(|entry| (entry.address, entry.body));
            (page.state, bodies.collect::<Vec<_>>(), page.heads)
        });
        assert_eq!(ours, theirs, "{what}: state, entries, bodies and batch heads");
        let addresses: Vec<Address> = ours.1.iter().map(|(address, _)| *address).collect();
        let found = [here, there].map(|ledger| ledger.find(&head.feed, &addresses).unwrap());
        assert_eq!(found[0], found[1], "{what}");
    }
    let count = |ledger: &Ledger| ledger.stat().map(|stat| (stat.events, stat.payload_bytes)).unwrap();
    assert_eq!(count(here), count(there), "{what}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn every_backend_replays_into_every_other(recorded in recorded()) {
        let origin = recorded.ledger();
        let dump = dump_of(&origin);
        for from in On::KEPT {
            let folder = tempfile::tempdir().unwrap();
            let Opened { ledger: source, .. } = from.open(folder.path(), 2);
            replay(&origin, &source, &mut |_| {}).unwrap();
            for to in On::KEPT {
                let what = format!("{from:?} into {to:?}");
                let folder = tempfile::tempdir().unwrap();
                let Opened { ledger: copy, .. } = to.open(folder.path(), 3);
                let report = replay(&source, &copy, &mut |_| {}).unwrap();
                prop_assert_eq!(report.divergences, []);
                assert_same(&origin, &copy, &what);
                prop_assert_eq!(&dump_of(&copy), &dump, "{}", &what);
                let again = replay(&source, &copy, &mut |_| {}).unwrap();
                prop_assert_eq!((again.batches, again.events_sent), (0, 0), "{}", what);
            }
        }
    }
}
