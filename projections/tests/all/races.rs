//! Races lost and stores that do not answer in the midst of a pass over many feeds.

use burnlog_log::{Error, ErrorKind, Ledger, Result};
use burnlog_projections::conformance::build::{
    append, batch, catch_up, dumped, expected_dump, ledger, made_up, small_limits,
};
use burnlog_projections::conformance::halves::{Commit, Halves};
use burnlog_projections::{CaughtUp, FoldStore, MemoryProjections, Projector};
use std::cell::Cell;
use std::rc::Rc;

type Watched = Halves<MemoryProjections, MemoryProjections>;

/// A store whose commits are made by `on_commit`, which gets their numbers from 1 on; returns how many there were as well.
fn watched(
    store: &MemoryProjections,
    mut on_commit: impl FnMut(u32, &mut MemoryProjections, Commit<'_>) -> Result<u64> + 'static,
) -> (Watched, Rc<Cell<u32>>) {
    let commits = Rc::new(Cell::new(0));
    let counted = Rc::clone(&commits);
    let on_commit = move |store: &mut MemoryProjections, commit: Commit<'_>| {
        counted.set(counted.get() + 1);
        on_commit(counted.get(), store, commit)
    };
    (Halves::with_commits(store.clone(), store.clone(), Box::new(on_commit)), commits)
}

/// A ledger of many feeds.
struct Filled {
    ledger: Ledger,
    dump: String,
    /// What folding all of it reports.
    all: CaughtUp,
    /// In how many commits.
    commits: u32,
}

fn many_feeds() -> Filled {
    let ledger = ledger();
    let records = made_up(51, 240);
    for (number, piece) in (1..).zip(records.chunks(20)) {
        append(&ledger, number, piece);
    }
    let (mut all, commits) = watched(&MemoryProjections::new(), |_, store, commit| commit.make(store));
    let done = catch_up(&mut all, &ledger);
    let heads = ledger.feeds().unwrap();
    let (feeds, entries) = (heads.len() as u64, heads.iter().map(|head| head.size).sum());
    assert_eq!(done, CaughtUp { feeds, entries, ..CaughtUp::default() });
    assert!(commits.get() > 4, "{} commits", commits.get());
    Filled { ledger, dump: expected_dump(&records), all: done, commits: commits.get() }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Unavailable, "commit", "the connection was lost")
}

/// Whichever commits are lost, no feed that was in memory at that moment is forgotten, and none is counted twice.
#[test]
fn a_race_lost_in_the_midst_of_a_pass_forgets_no_feed() {
    let Filled { ledger, dump: expected, all, commits } = many_feeds();
    for lost in 1..commits {
        let store = MemoryProjections::new();
        let (mut raced, _) = watched(&store, move |number, store, commit| {
            if [lost, lost + 2].contains(&number) {
                // Somebody else commits first.
                store.commit(commit.lease, commit.generation, commit.expected, &mut |_| Ok(()))?;
            }
            commit.make(store)
        });
        let done = Projector::new(&mut raced, &ledger, small_limits()).unwrap().catch_up(&ledger).unwrap();
        assert_eq!(dumped(&store), expected, "commit {lost} was lost");
        assert_eq!(done, all, "commit {lost} was lost");
    }
}

/// Whichever commit is not answered, and whether it was made or not, the pass is run again from where the store is.
#[test]
fn a_commit_without_an_answer_loses_nothing() {
    let Filled { ledger, dump: expected, commits, .. } = many_feeds();
    for (lost, is_made) in (1..=commits).flat_map(|lost| [(lost, false), (lost, true)]) {
        let store = MemoryProjections::new();
        let (mut faulty, _) = watched(&store, move |number, store, commit| {
            if number != lost {
                return commit.make(store);
            }
            if is_made {
                commit.make(store)?;
            }
            Err(unanswered())
        });
        Projector::new(&mut faulty, &ledger, small_limits()).unwrap().catch_up(&ledger).unwrap();
        assert_eq!(dumped(&store), expected, "commit {lost}, made: {is_made}");
    }
}

/// A projector that was told of a failure has forgotten its rows together with how far they were folded.
#[test]
fn a_projector_goes_on_after_a_store_was_away() {
    let Filled { ledger, dump: expected, commits, .. } = many_feeds();
    for first in 1..=commits {
        let store = MemoryProjections::new();
        let is_away = move |number| number >= first && number < first + 5;
        let (mut faulty, _) =
            watched(
                &store,
                move |number, store, commit| {
                    if is_away(number) { Err(unanswered()) } else { commit.make(store) }
                },
            );
        let mut projector = Projector::new(&mut faulty, &ledger, small_limits()).unwrap();
        let refused = projector.catch_up(&ledger).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Unavailable);
        projector.catch_up(&ledger).unwrap();
        assert_eq!(dumped(&store), expected, "from commit {first} on");
    }
}

/// Batches folded straight from memory are read from the ledger when the store did not take them.
#[test]
fn batches_that_a_store_did_not_take_are_read_again() {
    let records = made_up(52, 400);
    let store = MemoryProjections::new();
    let (mut faulty, commits) =
        watched(
            &store,
            |number, store, commit| {
                if number == 2 { Err(unanswered()) } else { commit.make(store) }
            },
        );
    let ledger = ledger();
    let mut projector = Projector::new(&mut faulty, &ledger, small_limits()).unwrap();
    for piece in records.chunks(40) {
        let (batch, outcomes) = (batch(piece), append(&ledger, 1, piece));
        let feed = ledger.feeds().unwrap()[0].feed;
        projector.fold_appended(&feed, &batch, &outcomes).unwrap();
    }
    projector.catch_up(&ledger).unwrap();
    assert!(commits.get() > 2, "{} commits", commits.get());
    assert_eq!(dumped(&store), expected_dump(&records));
}
