//! Claims about folding into the store: the laws of order, repetition and rebuilding, and what is counted how.

#![allow(missing_docs)] // the names of the cases are the claims

use super::Fixture;
use super::build::{
    Random, Record, answer, append, batch, catch_up, dump_of, dumped, expected_dump, feed, ledger, line,
    made_up, prompt, receipt, small_limits,
};
use crate::{Diagnostic, DumpOptions, FoldLimits, Projector, diagnostics, dump};
use burnlog_log::{ErrorKind, Kind, Part, Timestamp, WriterKey};

fn only(counts: &[Diagnostic], record_type: &str) -> Diagnostic {
    counts.iter().find(|row| &*row.record_type == record_type).unwrap().clone()
}

pub fn the_dump_is_that_of_any_other_store(fixture: &impl Fixture) {
    let records = made_up(1, 400);
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &records);
    catch_up(store.folds(), &ledger);
    let dump = dumped(&*store);
    assert_eq!(dump, expected_dump(&records));
    assert!(dump.lines().count() > 100, "the made-up sessions make rows");
}

pub fn a_log_folded_twice_is_folded_once(fixture: &impl Fixture) {
    let records = made_up(2, 300);
    let (ledger, mut store) = (ledger(), fixture.open());
    for number in 1..4 {
        append(&ledger, number, &records);
        catch_up(store.folds(), &ledger);
        assert_eq!(catch_up(store.folds(), &ledger).entries, 0);
    }
    assert_eq!(dumped(&*store), expected_dump(&records));
}

pub fn a_log_in_pieces_gives_the_same_dump(fixture: &impl Fixture) {
    let records = made_up(3, 300);
    let (ledger, mut store) = (ledger(), fixture.open());
    for piece in records.chunks(37) {
        append(&ledger, 1, piece);
        catch_up(store.folds(), &ledger);
    }
    assert_eq!(dumped(&*store), expected_dump(&records));
}

pub fn feeds_in_any_order_give_the_same_dump(fixture: &impl Fixture) {
    let records = made_up(4, 300);
    let (ledger, mut store) = (ledger(), fixture.open());
    let mut random = Random(9);
    for number in 1..4 {
        let mut some: Vec<Record> = records.iter().filter(|_| random.below(3) > 0).cloned().collect();
        random.shuffle(&mut some);
        append(&ledger, number, &some);
        catch_up(store.folds(), &ledger);
    }
    append(&ledger, 4, &records);
    catch_up(store.folds(), &ledger);
    assert_eq!(dumped(&*store), expected_dump(&records));
}

pub fn a_rebuild_gives_the_same_dump(fixture: &impl Fixture) {
    let records = made_up(5, 300);
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &records[..100]);
    catch_up(store.folds(), &ledger);
    append(&ledger, 2, &records[50..]);
    catch_up(store.folds(), &ledger);
    let before = dumped(&*store);
    let old = store.state().unwrap().live.unwrap().generation;
    let mut projector = Projector::rebuild(store.folds(), &ledger, small_limits()).unwrap();
    projector.catch_up(&ledger).unwrap();
    drop(projector);
    let state = store.state().unwrap();
    assert_ne!(state.live.unwrap().generation, old);
    assert_eq!(state.building, None);
    assert_eq!(dumped(&*store), before);
    assert_eq!(before, expected_dump(&records));
}

pub fn two_projectors_fold_everything_once(fixture: &impl Fixture) {
    let records = made_up(6, 200);
    let ledger = ledger();
    append(&ledger, 1, &records);
    let (mut one, mut two) = (fixture.open(), fixture.open());
    let limits = FoldLimits::default();
    let mut first = Projector::new(one.folds(), &ledger, limits.clone()).unwrap();
    let mut second = Projector::new(two.folds(), &ledger, limits).unwrap();
    let mut new = made_up(7, 50);
    new.sort_by_key(|record| record.seq);
    let batch_of_new = batch(&new);
    let mut writer = ledger.writer(WriterKey::from_secret([2; 32])).unwrap();
    let outcomes = writer.append(&batch_of_new, Timestamp::from_micros(0)).unwrap();
    // Both take the batch into memory; the one that commits later must notice.
    assert!(first.fold_appended(&feed(2), &batch_of_new, &outcomes).unwrap());
    assert!(second.fold_appended(&feed(2), &batch_of_new, &outcomes).unwrap());
    first.flush().unwrap();
    assert_eq!(second.flush().unwrap_err().kind(), ErrorKind::Conflict);
    second.catch_up(&ledger).unwrap();
    first.catch_up(&ledger).unwrap();
    drop((first, second));
    let mut all = records;
    all.extend(made_up(7, 50));
    assert_eq!(dumped(&*fixture.open()), expected_dump(&all));
}

pub fn an_append_is_folded_from_memory(fixture: &impl Fixture) {
    let mut records = made_up(8, 200);
    // As files are read: a record that comes behind those that it says something of is left to catching up.
    records.sort_by_key(|record| record.seq);
    let (ledger, mut store) = (ledger(), fixture.open());
    let mut projector = Projector::new(store.folds(), &ledger, small_limits()).unwrap();
    let mut writer = ledger.writer(WriterKey::from_secret([1; 32])).unwrap();
    for (number, piece) in records.chunks(29).enumerate() {
        let batch = batch(piece);
        let outcomes = writer.append(&batch, Timestamp::from_micros(0)).unwrap();
        if number != 3 {
            // Once a batch was missed the cursor stands before it, and the rest is left to catching up.
            assert_eq!(projector.fold_appended(&feed(1), &batch, &outcomes).unwrap(), number < 3);
        }
    }
    projector.flush().unwrap();
    projector.catch_up(&ledger).unwrap();
    drop(projector);
    assert_eq!(dumped(&*store), expected_dump(&records));
}

pub fn a_feed_that_shrank_is_refused_until_rebuilt(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let long = ledger();
    append(&long, 1, &made_up(9, 50));
    catch_up(store.folds(), &long);
    let restored = ledger();
    let records = made_up(9, 10);
    append(&restored, 1, &records[..5]);
    append(&restored, 1, &records[5..]);
    let mut projector = Projector::new(store.folds(), &restored, small_limits()).unwrap();
    assert_eq!(projector.catch_up(&restored).unwrap_err().kind(), ErrorKind::Forked);
    let mut projector = Projector::rebuild(store.folds(), &restored, small_limits()).unwrap();
    projector.catch_up(&restored).unwrap();
    drop(projector);
    assert_eq!(dumped(&*store), expected_dump(&records));
}

pub fn an_erased_record_is_counted(fixture: &impl Fixture) {
    let (ledger, mut store) = (ledger(), fixture.open());
    let records = [line("s", 0, prompt("s", 0, "secret")), line("s", 1, prompt("s", 1, "open"))];
    append(&ledger, 1, &records);
    let address = batch(&records).event(0).address;
    ledger.erase(&[address]).unwrap();
    catch_up(store.folds(), &ledger);
    let counts = diagnostics(&*store).unwrap();
    assert_eq!(only(&counts, "").erased, 1);
    assert_eq!(only(&counts, "user").understood, 1);
}

pub fn what_is_erased_after_it_was_folded_leaves_what_a_rebuild_leaves(fixture: &impl Fixture) {
    let records = made_up(7, 300);
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &records);
    catch_up(store.folds(), &ledger);
    let before = store.state().unwrap().live.unwrap();
    let whole = dumped(&*store);
    let (batch, mut random) = (batch(&records), Random(7));
    let mut erased: Vec<_> = batch
        .events()
        .zip(&records)
        .filter(|(_, record)| record.kind == Kind::Line && random.below(3) == 0)
        .map(|(event, _)| event.address)
        .collect();
    erased.sort_unstable();
    erased.dedup();
    ledger.erase(&erased).unwrap();
    append(&ledger, 2, &[receipt(&erased, 1)]);
    catch_up(store.folds(), &ledger);
    let dump = dumped(&*store);
    assert_ne!(dump, whole);
    assert_eq!(dump, dump_of(&ledger));
    let after = store.state().unwrap().live.unwrap();
    assert!(after.generation > before.generation, "what was folded cannot be taken apart");
    // Once is enough: the receipt has been dealt with.
    append(&ledger, 2, &[receipt(&erased, 2)]);
    catch_up(store.folds(), &ledger);
    assert_eq!(store.state().unwrap().live.unwrap().generation, after.generation);
    assert_eq!(dumped(&*store), dump_of(&ledger));
}

pub fn a_receipt_of_what_is_not_erased_here_changes_nothing(fixture: &impl Fixture) {
    let records = made_up(8, 50);
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &records);
    catch_up(store.folds(), &ledger);
    let (before, dump) = (store.state().unwrap().live.unwrap().generation, dumped(&*store));
    let known = batch(&records).event(0).address;
    let unknown = burnlog_log::Address([9; 32]);
    let unreadable = Record { payload: b"{\"erased\":7}".to_vec(), ..receipt(&[], 1) };
    append(&ledger, 2, &[receipt(&[unknown, known], 1), unreadable]);
    catch_up(store.folds(), &ledger);
    assert_eq!((store.state().unwrap().live.unwrap().generation, dumped(&*store)), (before, dump));
}

/// Another host reports what was erased here before anything was folded: its payload must not come in by the back door.
pub fn what_was_erased_is_not_folded_from_memory(fixture: &impl Fixture) {
    let records = [line("s", 0, prompt("s", 0, "secret")), line("s", 1, prompt("s", 1, "open"))];
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &records);
    ledger.erase(&[batch(&records).event(0).address]).unwrap();
    let mut projector = Projector::new(store.folds(), &ledger, FoldLimits::default()).unwrap();
    let (batch, mut writer) = (batch(&records), ledger.writer(WriterKey::from_secret([2; 32])).unwrap());
    let outcomes = writer.append(&batch, Timestamp::from_micros(0)).unwrap();
    assert!(!projector.fold_appended(&feed(2), &batch, &outcomes).unwrap());
    projector.catch_up(&ledger).unwrap();
    drop(projector);
    assert_eq!(only(&diagnostics(&*store).unwrap(), "").erased, 1);
    assert_eq!(dumped(&*store), dump_of(&ledger));
}

pub fn a_tail_counts_until_its_line_comes(fixture: &impl Fixture) {
    let tail = Record { kind: Kind::Tail, ..line("s", 3, "{\"type\":\"us") };
    let whole = line("s", 3, prompt("s", 3, "whole"));
    for order in [[&tail, &whole], [&whole, &tail]] {
        let (ledger, mut store) = (ledger(), fixture.open());
        append(&ledger, 1, std::slice::from_ref(&tail));
        append(&ledger, 2, &order.map(Clone::clone));
        let mut projector = Projector::rebuild(store.folds(), &ledger, small_limits()).unwrap();
        projector.catch_up(&ledger).unwrap();
        drop(projector);
        let counts = diagnostics(&*store).unwrap();
        assert_eq!((only(&counts, "tail").unreadable, only(&counts, "tail").superseded), (0, 1));
        assert_eq!(only(&counts, "user").understood, 1);
    }
    let (ledger, mut store) = (ledger(), fixture.open());
    append(&ledger, 1, &[tail]);
    let mut projector = Projector::rebuild(store.folds(), &ledger, small_limits()).unwrap();
    projector.catch_up(&ledger).unwrap();
    drop(projector);
    assert_eq!(only(&diagnostics(&*store).unwrap(), "tail").unreadable, 1);
}

pub fn a_split_record_is_counted_as_oversized(fixture: &impl Fixture) {
    let (ledger, mut store) = (ledger(), fixture.open());
    let part = |number, more, text: &str| Record {
        part: Some(Part { number, more }),
        ..line("s", 5, text.as_bytes().to_vec())
    };
    append(&ledger, 1, &[part(0, true, "{\"type\":"), part(1, false, "\"user\"}")]);
    catch_up(store.folds(), &ledger);
    assert_eq!(only(&diagnostics(&*store).unwrap(), "").oversized, 2);
    assert_eq!(crate::records(&*store, "claude-code", "s", 0..10).unwrap().len(), 2);
}

pub fn unknown_kinds_and_sources_are_counted(fixture: &impl Fixture) {
    let (ledger, mut store) = (ledger(), fixture.open());
    let mut beacon = line("s", 0, "{}");
    beacon.kind = Kind::Other("beacon".into());
    let mut foreign = line("t", 0, "{\"type\":\"user\"}");
    foreign.source = "new-agent";
    append(&ledger, 1, &[beacon, foreign, line("s", 1, "{\"type\":\"invented\",\"version\":\"9\"}")]);
    catch_up(store.folds(), &ledger);
    let counts = diagnostics(&*store).unwrap();
    assert_eq!(only(&counts, "kind:beacon").other_kinds, 1);
    assert_eq!(only(&counts, "invented").unknown, 1);
    assert_eq!(&*only(&counts, "invented").version, "9");
    let foreign = counts.iter().find(|row| &*row.source == "new-agent").unwrap();
    assert_eq!(foreign.unknown, 1);
}

pub fn extents_and_writers_are_outside_the_dump(fixture: &impl Fixture) {
    let (ledger, mut store) = (ledger(), fixture.open());
    let call = line("s", 0, answer("s", 0, "m", 5, Some("end_turn")));
    let mut extent = line(
        "s",
        0,
        format!(
            r#"{{"stream":"s","records":1,"bytes":9,"ends_with_newline":true,"root":"sha256:{}","chosen":[]}}"#,
            "ab".repeat(32)
        ),
    );
    extent.kind = Kind::Extent;
    let mut writer = line("w", 0, r#"{"host":"laptop","os":"linux","arch":"x86_64","version":"0.1.0"}"#);
    (writer.kind, writer.source) = (Kind::Writer, "burnlog");
    append(&ledger, 1, &[writer, call.clone(), extent]);
    catch_up(store.folds(), &ledger);
    assert_eq!(dumped(&*store), expected_dump(&[call]));
    let extents = crate::extents(&*store, "claude-code", "s").unwrap();
    assert_eq!((extents.len(), extents[0].records, extents[0].root.clone()), (1, 1, vec![0xab; 32]));
    let feeds = crate::feeds(&*store).unwrap();
    assert_eq!(feeds[0].host.as_deref(), Some("laptop"));
    assert_eq!(feeds[0].feed, feed(1).0);
    assert_eq!(crate::stream_feeds(&*store, "claude-code", "s").unwrap()[0].records, 1);
    let mut hosts = String::new();
    dump(&*store, &DumpOptions { hosts: true, projection: None }, &mut |line| {
        hosts.push_str(line);
        Ok(())
    })
    .unwrap();
    assert!(hosts.contains("laptop") && hosts.contains("stream_feeds"));
}
