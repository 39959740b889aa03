//! Claims about the lease: one folds at a time, and whoever lost the lease cannot write.
//!
//! A lease of no time is over as soon as it is granted: a holder that slept, without the sleep.

#![allow(missing_docs)] // the names of the cases are the claims

use super::build::{append, catch_up, dumped, expected_dump, feed, ledger, made_up, small_limits};
use super::{Fixture, LONG, Store, leased};
use crate::{
    CursorMove, FoldLimits, FoldStore, Generation, Lease, LeaseTerms, Leasing, Projector, Promotion,
};
use burnlog_log::{ErrorKind, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

fn granted(leasing: Leasing) -> Lease {
    match leasing {
        Leasing::Granted(lease) => lease,
        held @ Leasing::Held { .. } => panic!("{held:?}"),
    }
}

/// Takes a lease that is over at once.
fn past(store: &mut dyn FoldStore) -> Lease {
    granted(store.lease("sleeper", Duration::ZERO, None).unwrap())
}

fn advance(store: &mut dyn Store, lease: &Lease, generation: Generation) -> Result<u64> {
    let moves = [CursorMove { feed: feed(1), from: 0, to: 5 }];
    store.commit(lease, generation, 0, &mut |write| write.advance(&moves))
}

pub fn a_lease_is_granted_to_one_at_a_time(fixture: &impl Fixture) {
    let (mut one, mut two) = (fixture.open(), fixture.open());
    let lease = granted(one.lease("one", LONG, None).unwrap());
    assert_eq!(lease.time_to_live, LONG);
    for holder in ["two", "one"] {
        match two.lease(holder, LONG, None).unwrap() {
            Leasing::Held { holder, token, remaining } => {
                assert_eq!((holder.as_str(), token), ("one", lease.token));
                assert!(remaining <= LONG && remaining > LONG / 2, "{remaining:?}");
            }
            granted @ Leasing::Granted(_) => panic!("{granted:?}"),
        }
    }
}

pub fn a_lease_given_back_is_free(fixture: &impl Fixture) {
    let (mut one, mut two) = (fixture.open(), fixture.open());
    let lease = leased(one.folds());
    one.release(&lease).unwrap();
    assert_eq!(one.renew(&lease).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(one.create(&lease, 1).unwrap_err().kind(), ErrorKind::Conflict);
    let next = leased(two.folds());
    // Giving back again is not giving back somebody else's.
    one.release(&lease).unwrap();
    two.create(&next, 1).unwrap();
}

pub fn tokens_grow_with_each_grant(fixture: &impl Fixture) {
    let mut last = 0;
    for _ in 0..3 {
        let mut store = fixture.open();
        for _ in 0..2 {
            let lease = leased(store.folds());
            assert!(lease.token > last);
            last = lease.token;
            store.release(&lease).unwrap();
        }
    }
}

pub fn a_holder_past_its_time_cannot_write(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let lease = leased(store.folds());
    let live = store.create(&lease, 1).unwrap();
    let building = store.create(&lease, 2).unwrap();
    store.release(&lease).unwrap();
    let before = store.state().unwrap();
    let late = past(store.folds());
    let refused = [
        advance(&mut *store, &late, live).unwrap_err().kind(),
        store.create(&late, 3).unwrap_err().kind(),
        store.promote(&late, building, Promotion::Replacing).unwrap_err().kind(),
        store.settle(&late, live).unwrap_err().kind(),
    ];
    assert_eq!(refused, [ErrorKind::Conflict; 4]);
    assert_eq!(store.state().unwrap(), before);
    assert_eq!(store.cursor(live, &feed(1)).unwrap(), 0);
}

pub fn a_holder_that_another_followed_cannot_write(fixture: &impl Fixture) {
    let (mut one, mut two) = (fixture.open(), fixture.open());
    let first = leased(one.folds());
    let generation = one.create(&first, 1).unwrap();
    one.release(&first).unwrap();
    let late = past(one.folds());
    let next = leased(two.folds());
    assert!(next.token > late.token);
    assert_eq!(advance(&mut *one, &late, generation).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(one.renew(&late).unwrap_err().kind(), ErrorKind::Conflict);
    one.release(&late).unwrap();
    // A program that believes in its old token for as long as it likes is refused as well.
    let believing = Lease { time_to_live: LONG, ..late };
    assert_eq!(advance(&mut *one, &believing, generation).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(advance(&mut *two, &next, generation).unwrap(), 1);
}

pub fn a_lease_is_renewed_where_nobody_else_came(fixture: &impl Fixture) {
    let mut store = fixture.open();
    let late = past(store.folds());
    assert_eq!(store.create(&late, 1).unwrap_err().kind(), ErrorKind::Conflict);
    let lease = Lease { time_to_live: LONG, ..late };
    store.renew(&lease).unwrap();
    store.create(&lease, 1).unwrap();
}

pub fn a_holder_that_is_gone_is_followed_at_once(fixture: &impl Fixture) {
    let (mut one, mut two) = (fixture.open(), fixture.open());
    let dead = leased(one.folds());
    let generation = one.create(&dead, 1).unwrap();
    assert!(matches!(two.lease("two", LONG, Some(dead.token + 1)).unwrap(), Leasing::Held { .. }));
    let next = granted(two.lease("two", LONG, Some(dead.token)).unwrap());
    assert!(matches!(one.lease("three", LONG, Some(dead.token)).unwrap(), Leasing::Held { .. }));
    assert_eq!(advance(&mut *one, &dead, generation).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(advance(&mut *two, &next, generation).unwrap(), 1);
}

pub fn a_commit_begins_the_time_anew(fixture: &impl Fixture) {
    let (mut one, mut two) = (fixture.open(), fixture.open());
    let lease = leased(one.folds());
    let generation = one.create(&lease, 1).unwrap();
    // The time that this commit begins is none, so another may follow.
    let last = Lease { time_to_live: Duration::ZERO, ..lease };
    assert!(matches!(two.lease("two", LONG, None).unwrap(), Leasing::Held { .. }));
    advance(&mut *one, &last, generation).unwrap();
    granted(two.lease("two", LONG, None).unwrap());
}

pub fn a_projector_gives_the_lease_back(fixture: &impl Fixture) {
    let (ledger, mut one, mut two) = (ledger(), fixture.open(), fixture.open());
    let records = made_up(31, 150);
    append(&ledger, 1, &records[..100]);
    let mut projector = Projector::new(one.folds(), &ledger, small_limits()).unwrap();
    leased_and_released(two.folds());
    projector.catch_up(&ledger).unwrap();
    leased_and_released(two.folds());
    append(&ledger, 1, &records[100..]);
    let lease = leased(two.folds());
    assert_eq!(projector.catch_up(&ledger).unwrap_err().kind(), ErrorKind::InUse);
    two.release(&lease).unwrap();
    projector.catch_up(&ledger).unwrap();
    leased_and_released(two.folds());
    assert_eq!(dumped(&*two), expected_dump(&records));
}

fn leased_and_released(store: &mut dyn FoldStore) {
    let lease = leased(store);
    store.release(&lease).unwrap();
}

pub fn a_projector_says_who_is_folding(fixture: &impl Fixture) {
    let (ledger, mut one, mut two) = (ledger(), fixture.open(), fixture.open());
    append(&ledger, 1, &made_up(32, 50));
    catch_up(one.folds(), &ledger);
    append(&ledger, 2, &made_up(33, 50));
    granted(two.lease("host seven", LONG, None).unwrap());
    let pauses = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&pauses);
    let pause = Arc::new(move |number| assert_eq!(counted.fetch_add(1, Ordering::Relaxed), number));
    let lease = LeaseTerms { attempts_max: 4, pause, ..LeaseTerms::default() };
    let limits = FoldLimits { lease, ..FoldLimits::default() };
    let error = Projector::new(one.folds(), &ledger, limits).unwrap().catch_up(&ledger).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.message().contains("host seven"), "{error}");
    assert_eq!(pauses.load(Ordering::Relaxed), 3);
    // Whoever has nothing to fold needs no lease.
    let idle = super::build::ledger();
    assert_eq!(
        Projector::new(one.folds(), &idle, FoldLimits::default()).unwrap().catch_up(&idle).unwrap().entries,
        0
    );
}

pub fn a_projector_follows_one_that_is_gone(fixture: &impl Fixture) {
    let (ledger, mut one, mut two) = (ledger(), fixture.open(), fixture.open());
    let records = made_up(34, 100);
    append(&ledger, 1, &records);
    granted(two.lease("process 7", LONG, None).unwrap());
    let is_gone = Arc::new(|holder: &str| holder == "process 7");
    let limits =
        FoldLimits { lease: LeaseTerms { is_gone, ..LeaseTerms::default() }, ..FoldLimits::default() };
    Projector::new(one.folds(), &ledger, limits).unwrap().catch_up(&ledger).unwrap();
    assert_eq!(dumped(&*one), expected_dump(&records));
}
