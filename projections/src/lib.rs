//! What the events mean: pure folds from events to rows, the seam behind which stores keep rows, and the queries
//! over them. No driver, no clock, no randomness, no environment; rows can be thrown away and folded again.

mod beginnings;
mod blocks;
mod bodies;
mod calls;
mod claude_code;
mod codex;
mod compactions;
mod conflicts;
#[cfg(feature = "conformance")]
pub mod conformance;
mod content;
mod copies;
mod derived;
mod diagnostics;
mod dump;
mod erasures;
mod extents;
mod feeds;
mod fold;
mod forks;
mod gemini;
mod groups;
mod imported_blocks;
mod json;
mod lease;
mod links;
mod lookup;
#[cfg(feature = "conformance")]
mod memory;
mod notices;
mod opencode;
mod order;
mod previews;
mod prices;
mod projector;
mod queries;
#[cfg(feature = "conformance")]
mod queries_scan;
mod records;
mod recount;
mod relationships;
mod relayburn;
mod resolved;
mod rollups;
mod rows;
mod search;
mod search_hits;
mod search_indexer;
mod search_query;
mod search_run;
mod search_snippet;
mod search_text;
mod slice;
mod sources;
mod stamps;
mod store;
mod streams;
mod table;
mod text;
mod tool_calls;
mod tool_uses;
mod user_turns;

pub use beginnings::Beginning;
pub use blocks::{BlockFilter, BlockPlace, blocks};
pub use calls::{Call, CallSession};
pub use compactions::Compaction;
pub use conflicts::{CONFLICT_CALL, CONFLICT_TOOL_RESULT, CONFLICT_TOOL_USE, CONFLICT_USER_TURN, Conflict};
pub use content::Content;
pub use derived::Derived;
pub use diagnostics::Diagnostic;
pub use dump::{DumpOptions, dump};
pub use erasures::{ErasureReceipt, RECEIPT_ADDRESSES_MAX};
pub use extents::Extent;
pub use feeds::{Feed, StreamFeed};
pub use fold::FoldInput;
pub use groups::{FactSet, Family, Group};
pub use lease::{Lease, LeaseTerms, Leasing};
pub use links::{
    CopiedHistory, KIND_COPY, KIND_PARENT, Link, SessionLinks, SessionStream, for_each_link, origins,
    relationships,
};
pub use lookup::{
    HostLabels, NumberedTurn, ProjectionStatus, call_sessions, conflicts, diagnostics, extents, feeds, live,
    numbered_turns, records, resolve_session, session_hosts, sessions_with_prefix, stamps, status,
    stream_feeds, tag,
};
#[cfg(feature = "conformance")]
pub use memory::MemoryProjections;
pub use notices::Notice;
pub use previews::{PREVIEW_CHARACTERS, Preview};
pub use prices::{LENGTHS, NanoUsd, PriceClass, PriceTable};
pub use projector::{CaughtUp, FoldLimits, PROJECTIONS_VERSION, Projector};
pub use queries::{
    Filter, Page, PageRequest, Projections, Queries, Resume, ResumeKey, Turn, Usage, UsageBy, UsageGroup,
};
pub use records::{CHUNK_RECORDS, Chunk, RecordClass, RecordPlace, fingerprint};
pub use recount::{Recount, Recounted};
pub use relationships::{
    KIND_CONTINUATION, KIND_FORK, KIND_RESUMED_AGENT, KIND_SPAWN_ENV, KIND_SUBAGENT, Relationship,
};
pub use relayburn::is_imported;
pub use rollups::{Day, Session, UsageDay};
pub use search::{
    FoundBlock, FoundBlocks, RANKED_BLOCKS_MAX, SEARCH_VERSION, SearchBatch, SearchIdentity, SearchIndex,
    SearchKind, SearchOrder, SearchRequest, SearchState,
};
pub use search_hits::{SNIPPET_CHARACTERS, SearchHit, SearchHits, search};
pub use search_indexer::{SearchCaughtUp, SearchIndexer, SearchProgress};
pub use search_query::{SearchQuery, SearchTerm};
pub use search_run::{RunBlock, RunRecord, SearchRun};
pub use search_snippet::{Snippet, snippet};
pub use search_text::SEARCH_TEXT_BYTES_MAX;
pub use slice::{SLICE_VALUES, check_keys, check_rows};
pub use stamps::{KEY_PARENT_AGENT, STAMP_CALL, STAMP_SESSION, STAMP_STREAM, Stamp};
pub use store::{
    CursorMove, FeedCursor, FoldStore, FoldTransaction, Generation, GenerationState, Promotion, RowReader,
    StoreState,
};
pub use streams::Stream;
pub use table::{Column, ColumnKind, ColumnType, Merge, Rollup, Row, Table, Value, Values};
pub use text::{KEY_BYTES_MAX, Name, Tokens, key_text};
pub use tool_uses::ToolUse;
pub use user_turns::{CLASS_IMPORTED, CLASS_PROMPT, UserTurn};

/// Every table, by name, but for [`Preview`]'s, which only a store that [keeps previews](FoldStore::keeps_previews) has.
pub const TABLES: &[&Table] = &[
    CallSession::TABLE,
    Call::TABLE,
    Compaction::TABLE,
    Conflict::TABLE,
    Content::TABLE,
    Diagnostic::TABLE,
    Extent::TABLE,
    Family::TABLE,
    Feed::TABLE,
    Group::TABLE,
    Notice::TABLE,
    Chunk::TABLE,
    Relationship::TABLE,
    Session::TABLE,
    Stamp::TABLE,
    StreamFeed::TABLE,
    Stream::TABLE,
    ToolUse::TABLE,
    UsageDay::TABLE,
    UserTurn::TABLE,
];
