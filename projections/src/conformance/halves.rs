//! A store put together from two: one that is folded into and one that is asked, with a say in every commit.

use crate::{
    FeedCursor, Filter, FoldStore, FoldTransaction, Generation, Lease, Leasing, Page, PageRequest, Promotion,
    Queries, Relationship, RowReader, Session, StoreState, Stream, Table, ToolUse, Turn, UsageBy, UsageGroup,
    UserTurn, Value, Values,
};
use burnlog_log::{LedgerId, Result, WriterId};
use std::time::Duration;

/// Makes the commits of [`Halves`].
pub type OnCommit<F> = Box<dyn FnMut(&mut F, Commit<'_>) -> Result<u64>>;

/// A store that asks one half and folds into the other.
pub struct Halves<R, F> {
    asked: R,
    folds: F,
    on_commit: OnCommit<F>,
}

/// The arguments of [`FoldStore::commit`].
pub struct Commit<'c> {
    /// The lease under which it is made.
    pub lease: &'c Lease,
    /// The generation.
    pub generation: Generation,
    /// The revision that it expects.
    pub expected: u64,
    /// What it writes.
    pub work: &'c mut dyn FnMut(&mut dyn FoldTransaction) -> Result<()>,
}

impl Commit<'_> {
    /// Makes this commit in `store`.
    pub fn make(self, store: &mut impl FoldStore) -> Result<u64> {
        store.commit(self.lease, self.generation, self.expected, self.work)
    }
}

impl<R: RowReader, F: FoldStore> Halves<R, F> {
    /// Puts the halves together.
    pub fn new(asked: R, folds: F) -> Self {
        Self::with_commits(asked, folds, Box::new(|folds, commit| commit.make(folds)))
    }

    /// Puts the halves together and gives every commit to `on_commit`.
    pub fn with_commits(asked: R, folds: F, on_commit: OnCommit<F>) -> Self {
        Self { asked, folds, on_commit }
    }
}

impl<R: RowReader, F> RowReader for Halves<R, F> {
    fn location(&self) -> String {
        self.asked.location()
    }

    fn state(&self) -> Result<StoreState> {
        self.asked.state()
    }

    fn get(
        &self,
        generation: Generation,
        table: &'static Table,
        key: &[Value<'_>],
    ) -> Result<Option<Values>> {
        self.asked.get(generation, table, key)
    }

    fn get_many(
        &self,
        generation: Generation,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<Option<Values>>> {
        self.asked.get_many(generation, table, keys)
    }

    fn scan(
        &self,
        generation: Generation,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: usize,
    ) -> Result<Vec<Values>> {
        self.asked.scan(generation, table, after, limit)
    }

    fn cursors(&self, generation: Generation) -> Result<Vec<FeedCursor>> {
        self.asked.cursors(generation)
    }

    fn cursor(&self, generation: Generation, feed: &WriterId) -> Result<u64> {
        self.asked.cursor(generation, feed)
    }
}

impl<R: RowReader, F: FoldStore> FoldStore for Halves<R, F> {
    fn keeps_previews(&self) -> bool {
        self.folds.keeps_previews()
    }

    fn bind(&mut self, ledger: LedgerId) -> Result<()> {
        self.folds.bind(ledger)
    }

    fn lease(&mut self, holder: &str, time_to_live: Duration, gone: Option<u64>) -> Result<Leasing> {
        self.folds.lease(holder, time_to_live, gone)
    }

    fn renew(&mut self, lease: &Lease) -> Result<()> {
        self.folds.renew(lease)
    }

    fn release(&mut self, lease: &Lease) -> Result<()> {
        self.folds.release(lease)
    }

    fn create(&mut self, lease: &Lease, version: u32) -> Result<Generation> {
        self.folds.create(lease, version)
    }

    fn promote(&mut self, lease: &Lease, generation: Generation, when: Promotion) -> Result<()> {
        self.folds.promote(lease, generation, when)
    }

    fn settle(&mut self, lease: &Lease, generation: Generation) -> Result<()> {
        self.folds.settle(lease, generation)
    }

    fn commit(
        &mut self,
        lease: &Lease,
        generation: Generation,
        expected: u64,
        work: &mut dyn FnMut(&mut dyn FoldTransaction) -> Result<()>,
    ) -> Result<u64> {
        (self.on_commit)(&mut self.folds, Commit { lease, generation, expected, work })
    }
}

impl<R: Queries, F> Queries for Halves<R, F> {
    fn sessions(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Session>> {
        self.asked.sessions(filter, page)
    }

    fn turns(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Turn>> {
        self.asked.turns(filter, page)
    }

    fn streams(&self, source: &str, session: &str) -> Result<Vec<Stream>> {
        self.asked.streams(source, session)
    }

    fn edges(&self, source: &str, session: &str) -> Result<Vec<Relationship>> {
        self.asked.edges(source, session)
    }

    fn streams_beginning_with(&self, source: &str, record: &str) -> Result<Vec<Stream>> {
        self.asked.streams_beginning_with(source, record)
    }

    fn user_turns(&self, source: &str, session: &str) -> Result<Vec<UserTurn>> {
        self.asked.user_turns(source, session)
    }

    fn tool_uses(&self, source: &str, session: &str) -> Result<Vec<ToolUse>> {
        self.asked.tool_uses(source, session)
    }

    fn usage(&self, filter: &Filter, by: &[UsageBy]) -> Result<Vec<UsageGroup>> {
        self.asked.usage(filter, by)
    }
}
