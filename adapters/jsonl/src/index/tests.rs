//! The index against a model that is a plain list of rows: whatever is flushed, merged, rolled back or renumbered, the answers
//! are those of the list.

use super::{
    AddressRow, AtIndex, BatchRow, Failure, Index, Place, Run, Seen, Site, SlotRow, Tail, fingerprint,
    from_rows, merge,
};
use crate::files::SystemFiles;
use burnlog_log::{Address, BatchHead, LedgerId, Root, Signature, Timestamp, WriterId};
use proptest::prelude::*;
use std::sync::Arc;

const LEDGER: LedgerId = LedgerId([5; 16]);

fn site() -> Site<'static> {
    Site { files: &SystemFiles, folder: None, ledger: LEDGER }
}

fn run(result: Result<Run, Failure>) -> Run {
    result.unwrap_or_else(|failure| panic!("{failure:?}"))
}

/// A batch: feed, segment, addresses by small number.
#[derive(Debug, Clone)]
struct Batch {
    feed: u8,
    segment: u32,
    addresses: Vec<u8>,
}

fn address(number: u8) -> Address {
    Address::of(&[number])
}

/// Places batches one after the other, as a ledger would.
fn placed(batches: &[Batch]) -> Vec<(BatchRow, Vec<AddressRow>)> {
    let (mut sizes, mut slots) = ([0u64; 256], [0u32; 8]);
    let mut placed = Vec::new();
    for batch in batches {
        let count = batch.addresses.len() as u32;
        let (size, slot) = (&mut sizes[usize::from(batch.feed)], &mut slots[batch.segment as usize]);
        *size += u64::from(count);
        let place = Place {
            segment: batch.segment,
            first_slot: *slot,
            count,
            offset: u64::from(*slot) * 10,
            bytes: 7,
        };
        let head = BatchHead {
            feed: WriterId([batch.feed; 32]),
            size: *size,
            root: Root([batch.feed; 32]),
            recorded_at: Timestamp::from_micros(1),
            signature: Signature([9; 64]),
        };
        let rows = batch.addresses.iter().zip(*slot..).map(|(number, slot)| {
            AddressRow::new(
                fingerprint(&address(*number)),
                batch.segment,
                slot,
                number % 2 == 0,
                number % 3 == 0,
            )
        });
        placed.push((BatchRow::new(&head, place), rows.collect()));
        *slot += count;
    }
    placed
}

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let batch = (0u8..6, 0u32..4, prop::collection::vec(0u8..60, 1..9));
    let batch = batch.prop_map(|(feed, segment, addresses)| Batch { feed, segment, addresses });
    prop::collection::vec(batch, 0..60)
}

fn push(tail: &mut Tail, (batch, rows): &(BatchRow, Vec<AddressRow>)) {
    for row in rows {
        tail.push_row(*row);
    }
    tail.push_batch(*batch);
}

/// Compares every answer of the index with the list.
fn compare(index: &Index, list: &[(BatchRow, Vec<AddressRow>)]) {
    for number in 0..60 {
        let mut found = Vec::new();
        index.addresses(&address(number), Seen::Durable, &mut |row| found.push(row)).unwrap();
        found.sort_unstable();
        let wanted = fingerprint(&address(number));
        let rows = list.iter().flat_map(|(_, rows)| rows).copied();
        let mut expected: Vec<AddressRow> = rows.filter(|row| row.fingerprint == wanted).collect();
        expected.sort_unstable();
        assert_eq!(found, expected, "address {number}");
    }
    for feed in 0..6 {
        let feed = WriterId([feed; 32]);
        let of_feed: Vec<BatchRow> =
            list.iter().map(|(row, _)| *row).filter(|row| row.feed == feed).collect();
        assert_eq!(index.newest(&feed, Seen::Durable).unwrap(), of_feed.last().copied());
        let size = of_feed.last().map_or(0, BatchRow::size);
        for position in 0..size + 2 {
            let holds = |row: &&BatchRow| row.first <= position && position < row.size();
            let expected = of_feed.iter().find(holds).map_or(AtIndex::End, |row| AtIndex::Batch(*row));
            assert_eq!(index.at_index(&feed, position).unwrap(), expected);
        }
    }
    let mut feeds: Vec<WriterId> = list.iter().map(|(row, _)| row.feed).collect();
    feeds.sort_unstable();
    feeds.dedup();
    let (mut found, mut last) = (Vec::new(), None);
    while let Some(feed) = index.next_feed(last.as_ref()).unwrap() {
        found.push(feed);
        last = Some(feed);
    }
    assert_eq!(found, feeds);
    compare_places(index, list);
}

fn compare_places(index: &Index, list: &[(BatchRow, Vec<AddressRow>)]) {
    for segment in 0..5 {
        let of_segment: Vec<SlotRow> =
            list.iter().map(|(row, _)| row.slot_row()).filter(|row| row.place.segment == segment).collect();
        let slots = of_segment.last().map_or(0, |row| row.place.first_slot + row.place.count);
        for slot in 0..slots + 2 {
            let expected = of_segment.iter().find(|row| row.place.holds(slot)).copied();
            assert_eq!(index.at_slot(segment, slot, Seen::Durable).unwrap(), expected);
            let mut found = Vec::new();
            index.batches_after(segment, slot, &mut |row| found.push(row)).unwrap();
            found.sort_unstable();
            let ends_after = |row: &&SlotRow| row.place.first_slot + row.place.count > slot;
            assert_eq!(found, of_segment.iter().filter(ends_after).copied().collect::<Vec<_>>());
        }
    }
}

/// Makes an index of which some part lies in runs, flushed at the given positions.
fn index_of(list: &[(BatchRow, Vec<AddressRow>)], flushes: &[usize], merge_last: bool) -> Index {
    let mut index = Index::default();
    for (position, batch) in list.iter().enumerate() {
        push(&mut index.tail, batch);
        index.tail.set_durable();
        if flushes.contains(&position) {
            index.runs.push(Arc::new(run(from_rows(site(), &index.tail.sorted()))));
            index.tail.forget_durable();
            if let (true, [.., one, two]) = (merge_last, &index.runs[..]) {
                let merged = run(merge(site(), one, two));
                index.runs.truncate(index.runs.len() - 2);
                index.runs.push(Arc::new(merged));
            }
        }
    }
    index
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_answers_are_those_of_the_list(batches in batches(), flushes in prop::collection::vec(0usize..60, 0..4), merge_last: bool) {
        let list = placed(&batches);
        compare(&index_of(&list, &flushes, merge_last), &list);
    }

    #[test]
    fn what_is_rolled_back_was_never_there(batches in batches(), keep in 0usize..60, flush: bool) {
        let list = placed(&batches);
        let (kept, dropped) = list.split_at(keep.min(list.len()));
        let mut index = index_of(kept, &[], false);
        for batch in dropped {
            push(&mut index.tail, batch);
        }
        // Not durable yet: readers do not see it, the next append does.
        compare(&index, kept);
        if let Some((last, _)) = dropped.last() {
            prop_assert_eq!(index.newest(&last.feed, Seen::Written).unwrap(), Some(*last));
        }
        if flush {
            index.runs.push(Arc::new(run(from_rows(site(), &index.tail.sorted()))));
            index.tail.forget_durable();
            compare(&index, kept);
        }
        index.tail.rollback();
        compare(&index, kept);
        for batch in dropped {
            push(&mut index.tail, batch);
        }
        index.tail.set_durable();
        compare(&index, &list);
    }

    #[test]
    fn rows_keep_their_place_in_another_numbering(batches in batches(), gone in 0u32..4) {
        let list = placed(&batches);
        let index = index_of(&list, &[], false);
        let renumber = |segment: u32| (segment != gone).then_some(((segment + 1) % 4, 0));
        let tail = index.tail.retain(renumber);
        let expected: Vec<_> = list.iter().filter_map(|(batch, rows)| {
            let (segment, _) = renumber(batch.place.segment)?;
            let batch = BatchRow { place: Place { segment, ..batch.place }, ..*batch };
            Some((batch, rows.iter().map(|row| row.in_segment(segment)).collect::<Vec<_>>()))
        }).collect();
        for number in 0..60 {
            let mut found = Vec::new();
            tail.addresses(&fingerprint(&address(number)), Seen::Durable, &mut |row| found.push(row));
            let rows = expected.iter().flat_map(|(_, rows)| rows);
            prop_assert_eq!(found.len(), rows.filter(|row| row.fingerprint == fingerprint(&address(number))).count());
        }
        compare_places(&Index { runs: Vec::new(), tail }, &expected);
    }
}

/// Most of a page may be padding; its checksum covers that as well.
#[test]
fn every_flipped_bit_and_every_cut_of_a_run_is_found() {
    let batch = |n: u8| Batch { feed: n % 5, segment: u32::from(n % 4), addresses: vec![n, n + 1] };
    let list = placed(&(0..50).map(batch).collect::<Vec<_>>());
    let index = index_of(&list, &[49], false);
    let bytes = index.runs[0].bytes().to_vec();
    assert!(bytes.len() > 3 * 4096);
    let is_found = |bytes: Vec<u8>| {
        let opened = Run::open("x".to_owned(), true, crate::map::Mapped::of_bytes(bytes), LEDGER);
        opened.is_none_or(|run| !run.check().is_empty())
    };
    assert!(!is_found(bytes.clone()));
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1 << bit;
            assert!(is_found(flipped), "bit {bit} of byte {at}");
        }
        assert!(is_found(bytes[..at].to_vec()), "cut at {at}");
    }
    let other = Run::open("x".to_owned(), true, crate::map::Mapped::of_bytes(bytes), LedgerId([6; 16]));
    assert!(other.is_none(), "a run of another ledger was taken");
}
