//! A race that is lost in the midst of a pass over many feeds.

use burnlog_log::{LedgerId, Result, WriterId};
use burnlog_projections::conformance::build::{
    append, catch_up, dumped, expected_dump, ledger, made_up, small_limits,
};
use burnlog_projections::{
    FeedCursor, FoldStore, FoldTransaction, Generation, Lease, Leasing, MemoryProjections, Projector,
    Promotion, RowReader, StoreState, Table, Value, Values,
};
use std::time::Duration;

/// A store into which somebody else commits just before the commits of these numbers.
struct Raced {
    store: MemoryProjections,
    lost: Vec<u32>,
    commits: u32,
}

impl RowReader for Raced {
    fn location(&self) -> String {
        self.store.location()
    }

    fn state(&self) -> Result<StoreState> {
        self.store.state()
    }

    fn get(
        &self,
        generation: Generation,
        table: &'static Table,
        key: &[Value<'_>],
    ) -> Result<Option<Values>> {
        self.store.get(generation, table, key)
    }

    fn get_many(
        &self,
        generation: Generation,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<Option<Values>>> {
        self.store.get_many(generation, table, keys)
    }

    fn scan(
        &self,
        generation: Generation,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: usize,
    ) -> Result<Vec<Values>> {
        self.store.scan(generation, table, after, limit)
    }

    fn cursors(&self, generation: Generation) -> Result<Vec<FeedCursor>> {
        self.store.cursors(generation)
    }

    fn cursor(&self, generation: Generation, feed: &WriterId) -> Result<u64> {
        self.store.cursor(generation, feed)
    }
}

impl FoldStore for Raced {
    fn bind(&mut self, ledger: LedgerId) -> Result<()> {
        self.store.bind(ledger)
    }

    fn lease(&mut self, holder: &str, time_to_live: Duration, gone: Option<u64>) -> Result<Leasing> {
        self.store.lease(holder, time_to_live, gone)
    }

    fn renew(&mut self, lease: &Lease) -> Result<()> {
        self.store.renew(lease)
    }

    fn release(&mut self, lease: &Lease) -> Result<()> {
        self.store.release(lease)
    }

    fn create(&mut self, lease: &Lease, version: u32) -> Result<Generation> {
        self.store.create(lease, version)
    }

    fn promote(&mut self, lease: &Lease, generation: Generation, when: Promotion) -> Result<()> {
        self.store.promote(lease, generation, when)
    }

    fn settle(&mut self, lease: &Lease, generation: Generation) -> Result<()> {
        self.store.settle(lease, generation)
    }

    fn commit(
        &mut self,
        lease: &Lease,
        generation: Generation,
        expected: u64,
        work: &mut dyn FnMut(&mut dyn FoldTransaction) -> Result<()>,
    ) -> Result<u64> {
        self.commits += 1;
        if self.lost.contains(&self.commits) {
            self.store.commit(lease, generation, expected, &mut |_| Ok(()))?;
        }
        self.store.commit(lease, generation, expected, work)
    }
}

/// Whichever commits are lost, no feed that was in memory at that moment is forgotten.
#[test]
fn a_race_lost_in_the_midst_of_a_pass_forgets_no_feed() {
    let ledger = ledger();
    let records = made_up(51, 240);
    for (number, piece) in (1..).zip(records.chunks(20)) {
        append(&ledger, number, piece);
    }
    let mut all = Raced { store: MemoryProjections::new(), lost: Vec::new(), commits: 0 };
    catch_up(&mut all, &ledger);
    assert!(all.commits > 4, "{} commits", all.commits);
    let expected = expected_dump(&records);
    for lost in 1..all.commits {
        let store = MemoryProjections::new();
        let mut raced = Raced { store: store.clone(), lost: vec![lost, lost + 2], commits: 0 };
        Projector::new(&mut raced, &ledger, small_limits()).unwrap().catch_up(&ledger).unwrap();
        assert_eq!(dumped(&store), expected, "commit {lost} was lost");
    }
}
