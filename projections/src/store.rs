//! The seam of the folds: a [`FoldStore`] keeps rows, cursors and generations. It compares and swaps; it merges
//! nothing, parses nothing and has no code for any one table.
//!
//! The conformance suite (`crate::conformance`, feature `conformance`) is the contract in executable form.

use crate::lease::{Lease, Leasing};
use crate::table::{Table, Value, Values};
use burnlog_log::{LedgerId, Result, Token, WriterId};
use std::time::Duration;

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
    /// The ledger's mark up to which every feed was folded, if the folds have caught up once; empty while there are rows
    /// beyond it.
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

/// A step of a cursor: the entries `from .. to` of a feed were folded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorMove {
    /// The feed.
    pub feed: WriterId,
    /// Where the cursor has to stand.
    pub from: u64,
    /// Where it stands then.
    pub to: u64,
}

/// Reads rows of a store. Each call sees one moment; several calls may see several.
pub trait RowReader {
    /// Returns where this store is, without secrets. No I/O.
    fn location(&self) -> String;

    /// Whether what is under this name by now is something else, made anew by somebody: whoever keeps a reader opens another.
    fn is_replaced(&self) -> bool {
        false
    }

    /// Returns the generations. `Unsupported` when a newer program made one of them or the store itself.
    fn state(&self) -> Result<StoreState>;

    /// Returns the row with this key; the values of the key in the order of its columns.
    fn get(&self, generation: Generation, table: &'static Table, key: &[Value<'_>])
    -> Result<Option<Values>>;

    /// Returns, for each key of a slice (see [`FoldTransaction`]), the row that has it. All of one moment.
    fn get_many(
        &self,
        generation: Generation,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<Option<Values>>>;

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
/// Whoever changes generations or rows holds the [`Lease`], by the store's own clock. A call under a lease whose time is over,
/// or after which another was granted, is a `Conflict` and changes nothing: the lease is looked at in the transaction that
/// writes, so a holder that slept past its time cannot write. What makes double work harmless is the comparison of
/// revision and cursors in [`FoldStore::commit`] alone; the lease saves the work.
pub trait FoldStore: RowReader {
    /// Whether the rows of [`Preview`](crate::Preview) are kept: only where the texts of the ledger lie in the same file.
    fn keeps_previews(&self) -> bool;

    /// Binds the store to a ledger, once and for ever. `Invalid` when it belongs to another.
    fn bind(&mut self, ledger: LedgerId) -> Result<()>;

    /// Grants the lease to `holder` (a text for people and for [`LeaseTerms::is_gone`](crate::LeaseTerms)) where nobody has it, its time
    /// is over, or its holder is the one with the token `gone`. Tokens grow with each grant, for ever.
    fn lease(&mut self, holder: &str, time_to_live: Duration, gone: Option<u64>) -> Result<Leasing>;

    /// Begins the lease's time anew. `Conflict` when another was granted since, or it was given back.
    fn renew(&mut self, lease: &Lease) -> Result<()>;

    /// Gives the lease back. Does nothing where it is somebody else's by now.
    fn release(&mut self, lease: &Lease) -> Result<()>;

    /// Makes an empty generation for folds of `version`, in place of one that is being built.
    /// It becomes the live one at once if there is none.
    fn create(&mut self, lease: &Lease, version: u32) -> Result<Generation>;

    /// Makes the generation that is being built the live one and drops the one before, in one step.
    ///
    /// `Conflict`, and nothing changes, when it is not the one that is being built or `when` does not hold: catch up first.
    fn promote(&mut self, lease: &Lease, generation: Generation, when: Promotion) -> Result<()>;

    /// Tells that the folds have caught up: the place for work that pays only then, such as secondary indexes.
    /// May be called again and is then cheap.
    fn settle(&mut self, lease: &Lease, generation: Generation) -> Result<()>;

    /// Runs `work` in one transaction, begins the lease's time anew and returns the next revision.
    ///
    /// `Conflict`, and nothing is written, when the generation is gone or has another revision than `expected`: somebody
    /// else folded; read again and decide anew. After any error, of the store or of `work`, nothing of it is there.
    fn commit(
        &mut self,
        lease: &Lease,
        generation: Generation,
        expected: u64,
        work: &mut dyn FnMut(&mut dyn FoldTransaction) -> Result<()>,
    ) -> Result<u64>;
}

/// What a fold can do inside a transaction. It sees its own writes.
///
/// Rows and keys come in slices, because a store may be a network away: the values of one row (in the order of the columns) or
/// key behind those of the one before. A slice in which a key comes twice, or that ends within a row, is `Invalid`; an empty
/// one does nothing. Answers are in the order of the slice. After any error the transaction is of no use any more.
/// Slices are bounded by whoever makes them; see [`SLICE_VALUES`](crate::SLICE_VALUES).
pub trait FoldTransaction {
    /// Inserts the rows whose keys are not there; tells of each whether it was inserted.
    fn insert_new(&mut self, table: &'static Table, rows: &[Value<'_>]) -> Result<Vec<bool>>;

    /// Returns the rows with these keys.
    fn get(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<Vec<Option<Values>>>;

    /// Overwrites the rows that have the keys of these. `NotFound` when one is not there.
    fn replace(&mut self, table: &'static Table, rows: &[Value<'_>]) -> Result<()>;

    /// Deletes the rows with these keys; tells of each whether it was there.
    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<Vec<bool>>;

    /// Moves cursors of feeds, each once. `Conflict` when one does not stand where its move begins.
    fn advance(&mut self, moves: &[CursorMove]) -> Result<()>;

    /// Keeps the ledger's mark up to which every feed was folded.
    fn set_token(&mut self, token: &Token) -> Result<()>;
}
