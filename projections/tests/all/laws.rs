//! The laws: a fold of the same events gives the same dump whatever their order, repetition, feeds and commits.

use burnlog_log::Kind;
use burnlog_projections::conformance::build::{
    Random, Record, append, batch, catch_up, dump_of, dumped, folded, ledger, line, made_up, receipt,
    small_limits,
};
use burnlog_projections::{
    Extent, Group, MemoryProjections, Projector, Row, RowReader, TABLES, Values, live,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// The rows of a table in the order of their keys.
fn table(store: &MemoryProjections, table: &'static burnlog_projections::Table) -> Vec<Values> {
    store.scan(live(store).unwrap(), table, None, usize::MAX).unwrap()
}

/// The rows that `project dump` leaves out, of which the next fold makes those that it shows. Not the families: they may also
/// name groups that told of them before more of their facts came.
fn kept_beside(store: &MemoryProjections) -> [Vec<Values>; 2] {
    [Group::TABLE, Extent::TABLE].map(|kept| table(store, kept))
}

/// Lines and what else is in the feeds of a host: extents of their streams, and what it says of itself.
fn with_extents(seed: u64, lines: u32) -> Vec<Record> {
    let mut random = Random(seed ^ 2);
    let mut records = made_up(seed, lines);
    for number in 0..=lines / 10 {
        let (stream, count) = (format!("s{}", random.below(4)), random.below(300));
        let root = format!("{:02x}", random.below(3)).repeat(32);
        let payload = format!(
            r#"{{"stream":"{stream}","records":{count},"bytes":9,"ends_with_newline":true,"root":"sha256:{root}","chosen":[]}}"#
        );
        records.push(Record { kind: Kind::Extent, ..line(&stream, 0, payload) });
        let payload = format!(r#"{{"host":"h{}","version":"{number}"}}"#, random.below(3));
        records.push(Record { kind: Kind::Writer, source: "burnlog", ..line("w", 0, payload) });
    }
    records
}

/// Folds records split over feeds, shuffled, repeated and cut anywhere, and asks for the dump of one plain fold.
pub(crate) fn converges(records: &[Record], seed: u64, feeds: u8, piece: usize) -> Result<(), TestCaseError> {
    let plain = folded(records);
    let (expected, beside) = (dumped(&plain), kept_beside(&plain));
    let mut random = Random(seed ^ 1);
    let mut parts: Vec<Vec<Record>> = vec![Vec::new(); usize::from(feeds)];
    for record in records {
        let first = random.below(u64::from(feeds)) as usize;
        parts[first].push(record.clone());
        let again = random.below(u64::from(feeds)) as usize;
        if again != first {
            parts[again].push(record.clone());
        }
    }
    let ledger = ledger();
    let mut store = MemoryProjections::new();
    for (number, part) in parts.iter_mut().enumerate() {
        random.shuffle(part);
        for piece in part.chunks(piece) {
            append(&ledger, number as u8 + 1, piece);
            if random.below(2) == 0 {
                catch_up(&mut store, &ledger);
            }
        }
    }
    catch_up(&mut store, &ledger);
    prop_assert_eq!(dumped(&store), expected.clone());
    prop_assert_eq!(kept_beside(&store), beside.clone());
    let mut projector = Projector::rebuild(&mut store, &ledger, small_limits()).unwrap();
    projector.catch_up(&ledger).unwrap();
    drop(projector);
    prop_assert_eq!(dumped(&store), expected);
    prop_assert_eq!(kept_beside(&store), beside);
    Ok(())
}

/// The laws below say something of every row type: what is shuffled makes rows of each.
#[test]
fn what_is_shuffled_makes_rows_of_every_table() {
    let mut made = BTreeSet::new();
    for seed in 0..12 {
        for records in [
            with_extents(seed, 100),
            crate::codex::made_up(seed, 60),
            crate::opencode::made_up(seed, 60),
            crate::gemini::made_up(seed, 40),
            crate::relayburn::mixed(seed, 30),
        ] {
            let store = folded(&records);
            made.extend(TABLES.iter().filter(|rows| !table(&store, rows).is_empty()).map(|rows| rows.name));
        }
    }
    let all: BTreeSet<&str> = TABLES.iter().map(|table| table.name).collect();
    assert_eq!(made, all);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Laws 1 to 4: any split over feeds, any order, any repetition, any cut into commits, and a rebuild.
    #[test]
    fn a_dump_depends_on_the_events_alone(seed: u64, lines in 1u32..120, feeds in 1u8..4, piece in 1usize..60) {
        converges(&with_extents(seed, lines), seed, feeds, piece)?;
    }

    /// Law 4 with erasures between folds, by any host, of what was folded and of what was not: the rows are those of a
    /// rebuild, and none of them was made of what is gone.
    #[test]
    fn an_erasure_leaves_what_a_rebuild_leaves(seed: u64, lines in 1u32..100, piece in 1usize..40) {
        let (ledger, mut store, mut random) = (ledger(), MemoryProjections::new(), Random(seed));
        let records = made_up(seed, lines);
        let mut folded: Vec<Record> = Vec::new();
        for (number, piece) in (1..).zip(records.chunks(piece)) {
            append(&ledger, 1 + random.below(2) as u8, piece);
            folded.extend(piece.iter().filter(|record| record.kind == Kind::Line).cloned());
            if random.below(2) == 0 {
                catch_up(&mut store, &ledger);
            }
            let batch = batch(&folded);
            let mut erased: Vec<_> = batch.events().map(|event| event.address).collect();
            erased.retain(|_| random.below(20) == 0);
            erased.sort_unstable();
            erased.dedup();
            if random.below(2) == 0 && !erased.is_empty() {
                ledger.erase(&erased).unwrap();
                append(&ledger, 3, &[receipt(&erased, number)]);
            }
        }
        catch_up(&mut store, &ledger);
        prop_assert_eq!(dumped(&store), dump_of(&ledger));
    }

    /// What `without_content` leaves out to measure the rest is content alone, in every commit.
    #[test]
    fn without_content_everything_else_is_folded(seed: u64, lines in 1u32..120) {
        let ledger = ledger();
        append(&ledger, 1, &made_up(seed, lines));
        let mut store = MemoryProjections::new();
        let mut projector = Projector::new(&mut store, &ledger, small_limits()).unwrap().without_content().unwrap();
        projector.catch_up(&ledger).unwrap();
        drop(projector);
        let is_content = |line: &&str| line.starts_with("{\"projection\":\"content\"");
        let (all, left) = (dump_of(&ledger), dumped(&store));
        prop_assert!(!left.lines().any(|line| is_content(&line)));
        let others: Vec<&str> = all.lines().filter(|line| !is_content(line)).collect();
        prop_assert_eq!(left.lines().collect::<Vec<_>>(), others);
        prop_assert!(lines < 40 || all.lines().any(|line| is_content(&line)));
    }

    /// No bytes stop a fold, and every record is counted once.
    #[test]
    fn any_bytes_are_counted(payloads in proptest::collection::vec(any::<Vec<u8>>(), 1..20)) {
        let records: Vec<Record> = payloads
            .into_iter()
            .enumerate()
            .map(|(seq, payload)| burnlog_projections::conformance::build::line("s", seq as u64, payload))
            .collect();
        let store = burnlog_projections::conformance::build::folded(&records);
        let counted: i64 = burnlog_projections::diagnostics(&store)
            .unwrap()
            .iter()
            .map(|row| row.understood + row.unknown + row.unreadable)
            .sum();
        prop_assert_eq!(counted, records.len() as i64);
    }
}
