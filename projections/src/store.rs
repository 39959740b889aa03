//! The seam of the folds: a [`FoldStore`] keeps rows, cursors and generations. It compares and swaps; it merges
//! nothing, parses nothing and has no code for any one table.
//!
//! The conformance suite (`crate::conformance`, feature `conformance`) is the contract in executable form.

use crate::table::{Table, Value, Values};
use burnlog_log::{LedgerId, Result, Token, WriterId};

/// One complete set of projection tables. A store has one that is live and at most one that is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

/// What a store knows of one generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerationState {
    /// The generation.
    pub generation: Generation,
    /// The version of the folds that fill it.
    pub version: u32,
    /// How many transactions have been committed to it: what [`FoldStore::commit`] compares.
    pub revision: u64,
    /// The ledger's mark up to which every feed was folded, if the folds have caught up once.
    pub token: Option<Token>,
    /// Whether [`FoldStore::settle`] has run.
    pub settled: bool,
}

/// Which generations a store has.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoreState {
    /// The generation that queries read.
    pub live: Option<GenerationState>,
    /// The generation that is being built beside it.
    pub building: Option<GenerationState>,
}

/// When a generation may become the live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Promotion {
    /// When no cursor of it is behind the live one's.
    CaughtUp,
    /// In any case: what the live one has beyond it is no longer in the ledger.
    Replacing,
}

/// How far a feed was folded into a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedCursor {
    /// The feed.
    pub feed: WriterId,
    /// The index of the next entry to fold.
    pub next: u64,
}

/// Reads rows of a store. Each call sees one moment; several calls may see several.
pub trait RowReader {
    /// Returns where this store is, without secrets. No I/O.
    fn location(&self) -> String;

    /// Returns the generations. `Unsupported` when a newer program made one of them or the store itself.
    fn state(&self) -> Result<StoreState>;

    /// Returns the row with this key; the values of the key in the order of its columns.
    fn get(&self, generation: Generation, table: &'static Table, key: &[Value<'_>])
    -> Result<Option<Values>>;

    /// Returns up to `limit` rows in the bytewise order of their keys, from the first key greater than `after`.
    fn scan(
        &self,
        generation: Generation,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: usize,
    ) -> Result<Vec<Values>>;

    /// Returns how far each feed was folded, in the order of the ids.
    fn cursors(&self, generation: Generation) -> Result<Vec<FeedCursor>>;

    /// Returns how far one feed was folded; 0 for an unknown one.
    fn cursor(&self, generation: Generation, feed: &WriterId) -> Result<u64>;
}

/// Keeps the rows of the projections of one ledger.
///
/// A lease that saves two processes from doing the same work belongs here when it comes, with the store's own clock
/// and a fencing number; what makes double work harmless is the comparison in [`FoldStore::commit`] alone.
pub trait FoldStore: RowReader {
    /// Binds the store to a ledger, once and for ever. `Invalid` when it belongs to another.
    fn bind(&mut self, ledger: LedgerId) -> Result<()>;

    /// Makes an empty generation for folds of `version`, in place of one that is being built.
    /// It becomes the live one at once if there is none.
    fn create(&mut self, version: u32) -> Result<Generation>;

    /// Makes the generation that is being built the live one and drops the one before, in one step.
    ///
    /// `Conflict`, and nothing changes, when it is not the one that is being built or `when` does not hold: catch up first.
    fn promote(&mut self, generation: Generation, when: Promotion) -> Result<()>;

    /// Tells that the folds have caught up: the place for work that pays only then, such as secondary indexes.
    /// May be called again and is then cheap.
    fn settle(&mut self, generation: Generation) -> Result<()>;

    /// Runs `work` in one transaction and returns the next revision.
    ///
    /// `Conflict`, and nothing is written, when the generation is gone or has another revision than `expected`: somebody
    /// else folded; read again and decide anew. After any error, of the store or of `work`, nothing of it is there.
    fn commit(
        &mut self,
        generation: Generation,
        expected: u64,
        work: &mut dyn FnMut(&mut dyn FoldTransaction) -> Result<()>,
    ) -> Result<u64>;
}

/// What a fold can do inside a transaction. It sees its own writes.
pub trait FoldTransaction {
    /// Inserts a row (values in the order of the columns) unless its key is there; returns whether it was inserted.
    fn insert_new(&mut self, table: &'static Table, row: &[Value<'_>]) -> Result<bool>;

    /// Returns the row with this key.
    fn get(&mut self, table: &'static Table, key: &[Value<'_>]) -> Result<Option<Values>>;

    /// Overwrites the row that has the key of `row`. `NotFound` when there is none.
    fn replace(&mut self, table: &'static Table, row: &[Value<'_>]) -> Result<()>;

    /// Deletes the row with this key; returns whether it was there.
    fn delete(&mut self, table: &'static Table, key: &[Value<'_>]) -> Result<bool>;

    /// Moves the cursor of a feed. `Conflict` when it does not stand at `from`.
    fn advance(&mut self, feed: &WriterId, from: u64, to: u64) -> Result<()>;

    /// Keeps the ledger's mark up to which every feed was folded.
    fn set_token(&mut self, token: &Token) -> Result<()>;
}
