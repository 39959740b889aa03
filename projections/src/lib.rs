//! What the events mean: pure folds from events to rows, the seam behind which stores keep rows, and the queries
//! over them. No driver, no clock, no randomness, no environment; rows can be thrown away and folded again.

mod calls;
mod claude_code;
mod compactions;
#[cfg(feature = "conformance")]
pub mod conformance;
mod derived;
mod diagnostics;
mod dump;
mod extents;
mod feeds;
mod fold;
mod json;
mod lookup;
#[cfg(feature = "conformance")]
mod memory;
mod notices;
mod order;
mod prices;
mod projector;
mod queries;
#[cfg(feature = "conformance")]
mod queries_scan;
mod records;
mod rollups;
mod rows;
mod scan;
mod sources;
mod store;
mod streams;
mod table;
mod text;
mod tool_uses;
mod user_turns;

pub use calls::{Call, CallSession};
pub use compactions::Compaction;
pub use derived::Derived;
pub use diagnostics::Diagnostic;
pub use dump::{DumpOptions, dump};
pub use extents::Extent;
pub use feeds::{Feed, StreamFeed};
pub use fold::FoldInput;
pub use lookup::{
    ProjectionStatus, diagnostics, extents, feeds, live, records, resolve_session, sessions_with_prefix,
    status, stream_feeds,
};
#[cfg(feature = "conformance")]
pub use memory::MemoryProjections;
pub use notices::Notice;
pub use prices::{LENGTHS, NanoUsd, PriceClass, PriceTable};
pub use projector::{CaughtUp, FoldLimits, PROJECTIONS_VERSION, Projector};
pub use queries::{Filter, Page, PageRequest, Queries, Resume, ResumeKey, Turn, Usage, UsageBy, UsageGroup};
pub use records::{Chunk, RecordClass, RecordPlace, fingerprint};
pub use rollups::{Day, Session, UsageDay};
pub use store::{
    FeedCursor, FoldStore, FoldTransaction, Generation, GenerationState, Promotion, RowReader, StoreState,
};
pub use streams::Stream;
pub use table::{Column, ColumnKind, ColumnType, Merge, Rollup, Row, Table, Value, Values};
pub use text::{KEY_BYTES_MAX, Name, Tokens, key_text};
pub use tool_uses::ToolUse;
pub use user_turns::{CLASS_PROMPT, UserTurn};

/// Every table, by name.
pub const TABLES: &[&Table] = &[
    CallSession::TABLE,
    Call::TABLE,
    Compaction::TABLE,
    Diagnostic::TABLE,
    Extent::TABLE,
    Feed::TABLE,
    Notice::TABLE,
    Chunk::TABLE,
    Session::TABLE,
    StreamFeed::TABLE,
    Stream::TABLE,
    ToolUse::TABLE,
    UsageDay::TABLE,
    UserTurn::TABLE,
];
