//! Every case of the projections' suite: folded into a store in memory, and asked through client and server.

use crate::link::{Direct, once};
use burnlog_http::{HttpQueries, Link, Rights};
use burnlog_log::{Ledger, LedgerId, MemoryBackend, Result, WriterId};
use burnlog_projections::conformance::{Fixture, Store};
use burnlog_projections::{
    FeedCursor, Filter, FoldStore, FoldTransaction, Generation, Lease, Leasing, MemoryProjections, Page,
    PageRequest, Promotion, Queries, Relationship, RowReader, Session, StoreState, Stream, Table, ToolUse,
    Turn, UsageBy, UsageGroup, UserTurn, Value, Values,
};
use std::sync::Arc;
use std::time::Duration;

struct Http(MemoryProjections);

impl Fixture for Http {
    fn create() -> Self {
        Self(MemoryProjections::new())
    }

    fn open(&self) -> Box<dyn Store> {
        let ledger = Ledger::new(MemoryBackend::new(LedgerId([7; 16])));
        let direct = Direct { ledger, rights: Rights::ALL, rows: self.0.clone() };
        let link = Link::open(Box::new(direct), "http://test".to_owned(), once()).unwrap();
        Box::new(Both { folds: self.0.clone(), asked: HttpQueries::open(Arc::new(link)).unwrap() })
    }
}

burnlog_projections::fold_store_conformance!(Http);

/// Folds go to the store, questions go around.
struct Both {
    folds: MemoryProjections,
    asked: HttpQueries,
}

impl RowReader for Both {
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

impl FoldStore for Both {
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
        self.folds.commit(lease, generation, expected, work)
    }
}

impl Queries for Both {
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
