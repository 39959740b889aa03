//! Claims about generations, cursors and commits.

#![allow(missing_docs)] // the names of the cases are the claims

use super::build::{LEDGER, feed, ledger};
use super::{Fixture, Store, leased};
use crate::{CursorMove, FoldLimits, Generation, Lease, PROJECTIONS_VERSION, Projector, Promotion};
use burnlog_log::{Error, ErrorKind, LedgerId, Result, Token};

fn version_one(store: &mut dyn Store) -> (Lease, Generation) {
    let lease = leased(store.folds());
    (lease, store.create(&lease, 1).unwrap())
}

fn step(number: u8, from: u64, to: u64) -> CursorMove {
    CursorMove { feed: feed(number), from, to }
}

fn advance(
    store: &mut dyn Store,
    (lease, generation): (Lease, Generation),
    expected: u64,
    from: u64,
    to: u64,
) -> Result<u64> {
    store.commit(&lease, generation, expected, &mut |write| write.advance(&[step(1, from, to)]))
}

pub fn a_new_store_has_no_generation(fixture: &impl Fixture) {
    let state = fixture.open().state().unwrap();
    assert_eq!((state.live, state.building), (None, None));
}

pub fn the_first_generation_is_live_at_once(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (_, generation) = version_one(&mut *store);
    let live = store.state().unwrap().live.unwrap();
    assert_eq!((live.generation, live.version, live.revision), (generation, 1, 0));
    assert_eq!((live.token, live.settled), (None, false));
}

pub fn a_stale_revision_is_a_conflict_and_writes_nothing(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, generation) = version_one(&mut *store);
    assert_eq!(advance(&mut *store, (lease, generation), 0, 0, 5).unwrap(), 1);
    for stale in [0, 2] {
        assert_eq!(
            advance(&mut *store, (lease, generation), stale, 5, 9).unwrap_err().kind(),
            ErrorKind::Conflict
        );
    }
    assert_eq!(store.cursor(generation, &feed(1)).unwrap(), 5);
    assert_eq!(store.state().unwrap().live.unwrap().revision, 1);
}

pub fn failed_work_writes_nothing(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, generation) = version_one(&mut *store);
    let error = store
        .commit(&lease, generation, 0, &mut |write| {
            write.advance(&[step(1, 0, 5)])?;
            write.set_token(&Token(vec![1]))?;
            Err(Error::new(ErrorKind::Denied, "test", "no"))
        })
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(store.cursor(generation, &feed(1)).unwrap(), 0);
    assert_eq!(store.state().unwrap().live.unwrap().token, None);
    assert_eq!(advance(&mut *store, (lease, generation), 0, 0, 5).unwrap(), 1);
}

pub fn a_cursor_moves_only_from_where_it_stands(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, generation) = version_one(&mut *store);
    assert_eq!(advance(&mut *store, (lease, generation), 0, 1, 5).unwrap_err().kind(), ErrorKind::Conflict);
    advance(&mut *store, (lease, generation), 0, 0, 5).unwrap();
    assert_eq!(advance(&mut *store, (lease, generation), 1, 4, 9).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(store.cursor(generation, &feed(1)).unwrap(), 5);
}

pub fn what_was_committed_survives_reopening(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, generation) = version_one(&mut *store);
    store.bind(LEDGER).unwrap();
    let work = &mut |write: &mut dyn crate::FoldTransaction| {
        write.advance(&[step(1, 0, 5), step(2, 0, 6)])?;
        write.set_token(&Token(vec![1, 0, 255]))
    };
    store.commit(&lease, generation, 0, work).unwrap();
    store.settle(&lease, generation).unwrap();
    drop(store);
    let mut store = fixture.open();
    let live = store.state().unwrap().live.unwrap();
    assert_eq!((live.generation, live.revision, live.settled), (generation, 1, true));
    assert_eq!(live.token, Some(Token(vec![1, 0, 255])));
    let mut cursors: Vec<_> = store.cursors(generation).unwrap().iter().map(|c| (c.feed, c.next)).collect();
    let mut expected = vec![(feed(1), 5), (feed(2), 6)];
    expected.sort_unstable();
    assert!(cursors.is_sorted());
    cursors.sort_unstable();
    assert_eq!(cursors, expected);
    store.bind(LEDGER).unwrap();
}

pub fn a_generation_is_built_beside_the_live_one(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, old) = version_one(&mut *store);
    advance(&mut *store, (lease, old), 0, 0, 5).unwrap();
    let new = store.create(&lease, 2).unwrap();
    assert_ne!(old, new);
    let state = store.state().unwrap();
    assert_eq!(state.live.unwrap().generation, old);
    assert_eq!(state.building.unwrap().generation, new);
    assert_eq!(store.cursor(new, &feed(1)).unwrap(), 0);
    advance(&mut *store, (lease, new), 0, 0, 5).unwrap();
    store.promote(&lease, new, Promotion::CaughtUp).unwrap();
    let state = store.state().unwrap();
    assert_eq!(state.live.unwrap().generation, new);
    assert_eq!(state.building, None);
}

pub fn a_generation_behind_the_live_one_is_not_promoted(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, old) = version_one(&mut *store);
    advance(&mut *store, (lease, old), 0, 0, 5).unwrap();
    let new = store.create(&lease, 2).unwrap();
    assert_eq!(store.promote(&lease, new, Promotion::CaughtUp).unwrap_err().kind(), ErrorKind::Conflict);
    advance(&mut *store, (lease, new), 0, 0, 4).unwrap();
    assert_eq!(store.promote(&lease, new, Promotion::CaughtUp).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(store.state().unwrap().live.unwrap().generation, old);
    assert_eq!(store.cursor(old, &feed(1)).unwrap(), 5);
    let mut other = fixture.open();
    assert_eq!(other.state().unwrap().building.unwrap().revision, 1);
    advance(&mut *other, (lease, new), 1, 4, 6).unwrap();
    store.promote(&lease, new, Promotion::CaughtUp).unwrap();
}

pub fn the_live_generation_is_not_promoted_again(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, live) = version_one(&mut *store);
    assert_eq!(store.promote(&lease, live, Promotion::CaughtUp).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(
        store.promote(&lease, Generation(live.0 + 1), Promotion::CaughtUp).unwrap_err().kind(),
        ErrorKind::Conflict
    );
}

pub fn creating_again_replaces_what_is_being_built(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, live) = version_one(&mut *store);
    let first = store.create(&lease, 2).unwrap();
    let second = store.create(&lease, 3).unwrap();
    assert!(live < first && first < second, "the number of a generation is never used again");
    let state = store.state().unwrap();
    assert_eq!(state.live.unwrap().generation, live);
    assert_eq!(state.building.unwrap().generation, second);
}

pub fn a_commit_to_a_dropped_generation_is_a_conflict(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, _) = version_one(&mut *store);
    let dropped = store.create(&lease, 2).unwrap();
    store.create(&lease, 2).unwrap();
    assert_eq!(advance(&mut *store, (lease, dropped), 0, 0, 1).unwrap_err().kind(), ErrorKind::Conflict);
}

pub fn settling_twice_is_fine(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, generation) = version_one(&mut *store);
    store.settle(&lease, generation).unwrap();
    store.settle(&lease, generation).unwrap();
    assert!(store.state().unwrap().live.unwrap().settled);
    advance(&mut *store, (lease, generation), 0, 0, 1).unwrap();
}

pub fn another_ledger_is_refused(fixture: &impl Fixture) {
    let mut store = fixture.open();
    store.bind(LEDGER).unwrap();
    store.bind(LEDGER).unwrap();
    assert_eq!(store.bind(LedgerId([8; 16])).unwrap_err().kind(), ErrorKind::Invalid);
}

pub fn a_newer_version_is_refused(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let lease = leased(store.folds());
    store.create(&lease, PROJECTIONS_VERSION + 1).unwrap();
    store.release(&lease).unwrap();
    let error = Projector::new(store.folds(), &ledger(), FoldLimits::default()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(crate::live(&*store).unwrap_err().kind(), ErrorKind::Unsupported);
}

pub fn a_generation_may_replace_one_that_has_more(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let (lease, old) = version_one(&mut *store);
    advance(&mut *store, (lease, old), 0, 0, 5).unwrap();
    let new = store.create(&lease, 2).unwrap();
    store.promote(&lease, new, Promotion::Replacing).unwrap();
    assert_eq!(store.state().unwrap().live.unwrap().generation, new);
    assert_eq!(store.cursor(new, &feed(1)).unwrap(), 0);
}
