//! The seam of full-text search: a [`SearchIndex`] keeps which words stand in which block of a conversation, and where
//! that block is in the log. It keeps no text, reads no ledger and parses no record.
//!
//! One row of the index is one block (text, thinking, the input of a tool use, a tool result, a summary, a system
//! notice) of one event. Blocks are indexed in runs: those of records of one chunk (see [`Content`](crate::Content)).

use crate::search_query::SearchQuery;
use crate::search_run::SearchRun;
use crate::store::FeedCursor;
use burnlog_log::{LedgerId, Result, Timestamp, WriterId};
use std::collections::HashSet;
use std::ops::Range;

/// The version of what is indexed and how. An index of another version is dropped and built again.
pub const SEARCH_VERSION: u32 = 2;
/// How many blocks of a query are ranked: of more, those indexed last.
pub const RANKED_BLOCKS_MAX: usize = 5_000;

/// What kind of block it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SearchKind {
    /// What a user or a model said.
    Text = 0,
    /// What a model thought.
    Thinking = 1,
    /// The input of a tool.
    ToolUse = 2,
    /// What a tool gave back.
    ToolResult = 3,
    /// A summary of a session.
    Summary = 4,
    /// What the agent says of itself.
    System = 5,
}

impl SearchKind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 6] =
        [Self::Text, Self::Thinking, Self::ToolUse, Self::ToolResult, Self::Summary, Self::System];

    /// Returns the stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Thinking => "thinking",
            Self::ToolUse => "tool_use",
            Self::ToolResult => "tool_result",
            Self::Summary => "summary",
            Self::System => "system",
        }
    }

    /// Returns the kind that blocks of this name are indexed as; `None` where they have no text (`image` …).
    pub(crate) fn of_block(name: &str) -> Option<Self> {
        if name == "server_tool_use" {
            return Some(Self::ToolUse);
        }
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What an index was built of and by. One that differs in any of it is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SearchIdentity {
    /// The ledger.
    pub ledger: LedgerId,
    /// [`SEARCH_VERSION`] of the program that built it.
    pub version: u32,
    /// The version of the folds whose blocks were indexed.
    pub folds: u32,
}

/// What an index holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SearchState {
    /// What it was built of; `None` of an empty one.
    pub identity: Option<SearchIdentity>,
    /// How many changes were committed: what [`SearchIndex::append`] compares.
    pub revision: u64,
    /// Blocks.
    pub blocks: u64,
    /// Those of them that are longer than what is indexed of a block.
    pub cut: u64,
}

/// What one commit adds.
#[derive(Debug, Clone, Default)]
pub struct SearchBatch {
    /// Blocks, chunk by chunk.
    pub runs: Vec<SearchRun>,
    /// For each feed that was read the cursor as it stands and as it shall stand.
    pub cursors: Vec<(WriterId, u64, u64)>,
}

/// In which order hits come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SearchOrder {
    /// The best match first, by BM25; of equals the latest.
    #[default]
    Score,
    /// The latest first.
    Time,
}

/// Which hits are asked for. Everything set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchRequest {
    /// Of these sessions: source and id, as keys.
    pub sessions: Option<HashSet<(String, String)>>,
    /// From this instant on.
    pub since: Option<Timestamp>,
    /// Before this instant.
    pub until: Option<Timestamp>,
    /// Of these kinds; of all when empty.
    pub kinds: Vec<SearchKind>,
    /// The order.
    pub order: SearchOrder,
    /// The most hits.
    pub limit: usize,
}

/// A block that matches.
#[derive(Debug, Clone, PartialEq)]
pub struct FoundBlock {
    /// The source.
    pub source: String,
    /// The stream.
    pub stream: String,
    /// The session that the stream belongs to.
    pub session: String,
    /// The record number in the stream.
    pub seq: u64,
    /// The first bytes of the address of the event.
    pub address: [u8; 6],
    /// The number of the block in its record.
    pub ordinal: u32,
    /// Its kind.
    pub kind: SearchKind,
    /// Where in the payload the JSON value stands that holds the content, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub bytes: u64,
    /// When the record was written.
    pub timestamp: Option<Timestamp>,
    /// How well it matches; more is better. 0 where hits are ordered by time.
    pub score: f64,
}

/// What a query found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FoundBlocks {
    /// The blocks, in the order asked for.
    pub blocks: Vec<FoundBlock>,
    /// Whether there were more than [`RANKED_BLOCKS_MAX`], so that blocks indexed earlier were not looked at.
    pub capped: bool,
}

/// Keeps the words of blocks, beside the projections and apart from them: it may be deleted at any time.
pub trait SearchIndex {
    /// Returns where this index is, without secrets. No I/O.
    fn location(&self) -> String;

    /// Returns what it holds.
    fn state(&self) -> Result<SearchState>;

    /// Returns how far each feed was indexed, in the order of the ids.
    fn cursors(&self) -> Result<Vec<FeedCursor>>;

    /// Returns the runs of one chunk of a stream, without texts.
    fn runs(&self, source: &str, stream: &str, chunk: i64) -> Result<Vec<SearchRun>>;

    /// Calls `each` with the source, stream and chunk of every run, in no particular order.
    fn for_each_run(&self, each: &mut dyn FnMut(&str, &str, i64) -> Result<()>) -> Result<()>;

    /// Drops everything and starts anew.
    fn clear(&mut self, identity: SearchIdentity) -> Result<()>;

    /// Adds blocks and moves cursors in one transaction, and returns the next revision.
    ///
    /// `Conflict`, and nothing is written, when the index has another revision than `expected` or a cursor stands
    /// elsewhere: somebody else added; read again and decide anew.
    fn append(&mut self, expected: u64, batch: &SearchBatch) -> Result<u64>;

    /// Makes the blocks of these records (source, stream, record number, first bytes of the address) unfindable, and
    /// their words unreadable in the store; returns how many blocks that were. What is not there is passed over.
    fn forget(&mut self, records: &[(String, String, u64, [u8; 6])]) -> Result<u64>;

    /// Finds blocks. Never fails because of what is asked, whatever the query.
    fn find(&self, query: &SearchQuery, request: &SearchRequest) -> Result<FoundBlocks>;

    /// Returns for each text where the words of the query stand in it, in bytes, ascending and apart; by the very rules
    /// by which texts are indexed.
    fn matches(&self, query: &SearchQuery, texts: &[String]) -> Result<Vec<Vec<Range<usize>>>>;
}
