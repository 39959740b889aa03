//! Claims about folding over a wire: few conversations, nothing granted while somebody writes, the server's clock.

use super::{Projections, open};
use burnlog_log::{ErrorKind, Timestamp, WriterKey};
use burnlog_postgres::PostgresProjections;
use burnlog_projections::conformance::build::{
    append, batch, dumped, expected_dump, feed, ledger, line, made_up, prompt, small_limits, stamp,
};
use burnlog_projections::conformance::{Fixture, LONG, leased};
use burnlog_projections::{
    CursorMove, FoldLimits, FoldStore, LeaseTerms, Leasing, Projector, RowReader, TABLES,
};
use std::sync::Arc;
use std::time::Duration;

/// Folds records into a new store; returns the rows that it has then, and how often the server was spoken to.
fn folded(lines: u32) -> (u64, u64) {
    let place = Projections::create();
    let (ledger, mut store) = (ledger(), open(&place.0));
    let records = made_up(41, lines);
    append(&ledger, 1, &records);
    let mut projector = Projector::new(&mut store, &ledger, FoldLimits::default()).unwrap();
    projector.catch_up(&ledger).unwrap();
    let conversations = store.conversations();
    assert_eq!(dumped(&store), expected_dump(&records));
    (rows_of(&store), conversations)
}

fn rows_of(store: &PostgresProjections) -> u64 {
    let generation = store.state().unwrap().live.unwrap().generation;
    let rows = |table| store.scan(generation, table, None, usize::MAX).unwrap().len() as u64;
    TABLES.iter().map(|table| rows(table)).sum()
}

#[test]
fn a_fold_speaks_to_the_server_once_a_slice() {
    let ((few, conversations_few), (many, conversations_many)) = (folded(200), folded(4000));
    assert!(many > few * 3, "{few} and {many} rows");
    // Opening, making the tables and the lease are some twenty, each table has one or a few.
    assert!(conversations_few < 80, "{conversations_few} conversations for {few} rows");
    assert!(conversations_many < conversations_few + 30, "{conversations_many} for {many} rows");
}

#[test]
fn a_batch_in_memory_is_folded_with_few_conversations() {
    let place = Projections::create();
    let (ledger, mut store) = (ledger(), open(&place.0));
    let records: Vec<_> =
        (0..500).map(|number| line(&format!("s{number}"), 0, prompt("s", number, "hi"))).collect();
    let batch = batch(&records);
    let mut writer = ledger.writer(WriterKey::from_secret([1; 32])).unwrap();
    let outcomes = writer.append(&batch, Timestamp::from_micros(0)).unwrap();
    let mut projector = Projector::new(&mut store, &ledger, FoldLimits::default()).unwrap();
    projector.fold_appended(&feed(1), &batch, &outcomes).unwrap();
    projector.catch_up(&ledger).unwrap();
    // 500 streams with a chunk each, looked up in one go.
    assert!(store.conversations() < 80, "{} conversations", store.conversations());
    assert_eq!(dumped(&store), expected_dump(&records));
}

#[test]
fn nothing_is_granted_while_somebody_writes() {
    let place = Projections::create();
    let (mut one, mut two) = (open(&place.0), open(&place.0));
    let lease = leased(&mut one);
    let generation = one.create(&lease, 1).unwrap();
    let moves = [CursorMove { feed: feed(1), from: 0, to: 5 }];
    one.commit(&lease, generation, 0, &mut |to| {
        to.advance(&moves)?;
        // The time is over in the midst of the transaction, or the holder is taken for dead: its commit goes first.
        let leasing = two.lease("two", LONG, Some(lease.token)).unwrap();
        assert!(matches!(leasing, Leasing::Held { .. }), "{leasing:?}");
        Ok(())
    })
    .unwrap();
    assert!(matches!(two.lease("two", LONG, Some(lease.token)).unwrap(), Leasing::Granted(_)));
    assert_eq!(two.cursor(generation, &feed(1)).unwrap(), 5);
}

#[test]
fn a_holder_that_slept_past_its_time_is_refused_by_the_servers_clock() {
    let place = Projections::create();
    let (mut one, mut two) = (open(&place.0), open(&place.0));
    let lease = leased(&mut one);
    let generation = one.create(&lease, 1).unwrap();
    place.0.run("update burnlog.projections set lease_until = clock_timestamp() - interval '1 ms'").unwrap();
    let refused = one.commit(&lease, generation, 0, &mut |_| panic!("nothing is folded without the lease"));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Conflict);
    assert!(matches!(two.lease("two", LONG, None).unwrap(), Leasing::Granted(_)));
    assert_eq!(one.renew(&lease).unwrap_err().kind(), ErrorKind::Conflict);
}

#[test]
fn several_who_fold_at_once_wait_for_each_other_and_make_the_same_rows() {
    let place = Projections::create();
    let ledger = ledger();
    let records = made_up(45, 400);
    for number in 1..4 {
        append(&ledger, number, &records);
    }
    // As the program does. Whoever asks without a pause is woken so often that the scheduler of a busy machine leaves the
    // server's process of the one who folds waiting for the processor, for longer than a transaction may be idle.
    let pause = Arc::new(|_| std::thread::sleep(Duration::from_millis(10)));
    let lease = LeaseTerms { attempts_max: u32::MAX, pause, ..LeaseTerms::default() };
    let fold = || {
        let mut store = open(&place.0);
        let limits = FoldLimits { lease: lease.clone(), ..small_limits() };
        let mut projector = Projector::new(&mut store, &ledger, limits).unwrap();
        projector.catch_up(&ledger).unwrap()
    };
    let entries: u64 = std::thread::scope(|scope| {
        let folds: Vec<_> = (0..4).map(|_| scope.spawn(fold)).collect();
        folds.into_iter().map(|fold| fold.join().unwrap().entries).sum()
    });
    let store = open(&place.0);
    assert_eq!(dumped(&store), expected_dump(&records));
    let all: u64 = store
        .cursors(store.state().unwrap().live.unwrap().generation)
        .unwrap()
        .iter()
        .map(|at| at.next)
        .sum();
    assert_eq!(entries, all, "each entry was folded by one of them");
}

#[test]
fn a_connection_that_ends_in_the_midst_leaves_nothing_and_the_next_fold_completes() {
    let place = Projections::create();
    let (ledger, mut store) = (ledger(), open(&place.0));
    let records = made_up(42, 200);
    append(&ledger, 1, &records);
    let lease = leased(&mut store);
    let generation = store.create(&lease, burnlog_projections::PROJECTIONS_VERSION).unwrap();
    let moves = [CursorMove { feed: feed(1), from: 0, to: 5 }];
    let cut = store.commit(&lease, generation, 0, &mut |to| {
        to.advance(&moves)?;
        let end = "select pg_terminate_backend(pid) from pg_stat_activity \
                   where datname = current_database() and pid <> pg_backend_pid()";
        place.0.run(end).unwrap();
        to.advance(&[CursorMove { feed: feed(2), from: 0, to: 5 }])
    });
    assert_eq!(cut.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(store.cursor(generation, &feed(1)).unwrap(), 0);
    store.release(&lease).unwrap();
    Projector::new(&mut store, &ledger, FoldLimits::default()).unwrap().catch_up(&ledger).unwrap();
    assert_eq!(dumped(&store), expected_dump(&records));
}

#[test]
fn a_text_of_any_length_and_odd_characters_is_no_obstacle() {
    let place = Projections::create();
    let (ledger, mut store) = (ledger(), open(&place.0));
    let long = "ä".repeat(200_000);
    let records = [
        stamp(r#"{"session":"s"}"#, &format!(r#"{{"note":"{long}","nul":"a\u0000b","lone":"\ud800"}}"#), 1),
        line("nul\u{0}stream", 0, prompt("s", 1, "x")),
        line("nul\u{fffd}stream", 0, prompt("s", 2, "y")),
        line(&"long".repeat(5000), 0, prompt(&"long".repeat(5000), 3, "z")),
    ];
    append(&ledger, 1, &records);
    Projector::new(&mut store, &ledger, FoldLimits::default()).unwrap().catch_up(&ledger).unwrap();
    let dump = dumped(&store);
    assert_eq!(dump, expected_dump(&records));
    assert!(dump.contains(&long));
    // Two names that a database cannot tell apart are one stream, and neither record is lost.
    let stream = burnlog_projections::records(&store, "claude-code", "nul\u{fffd}stream", 0..9).unwrap();
    assert_eq!(stream.len(), 2);
}
