//! Relationships that records state outright: which session or subagent came out of which. Copied history, which no
//! record needs to state, is found by `links` when it is asked for.

use crate::relayburn::is_imported;
use crate::table::{Merge, row};
use crate::text::Name;
use crate::{Derived, order};
use burnlog_log::{Address, Timestamp};

/// A session whose history begins as a copy of another's.
pub const KIND_FORK: &str = "fork";
/// A session that goes on where another ended.
pub const KIND_CONTINUATION: &str = "continuation";
/// A subagent of a session, or a session that is one.
pub const KIND_SUBAGENT: &str = "subagent";
/// A subagent that was taken up again.
pub const KIND_RESUMED_AGENT: &str = "resumed-agent";
/// A session that an agent started as a process of its own, told by a stamp with the key `parentAgentId`.
pub const KIND_SPAWN_ENV: &str = "spawn-env";

row! {
    /// One stated relationship. Of several records that state it the kept one is the earliest, then the smallest.
    pub struct Relationship in "relationships" indexes [["to_session"]] dumped true
    key {
        /// The source; empty where a stamp names none.
        source: Name,
        /// The session that was there before, as it is named; perhaps it was never recorded.
        from_session: Name,
        /// The session that came out of it; of a subagent without a session of its own the same.
        to_session: Name,
        /// What it is: `fork`, `continuation`, `subagent`, `resumed-agent` or `spawn-env`.
        kind: Name,
        /// The subagent; empty where a whole session is meant.
        agent: Name,
    }
    /// The stream that says so; absent where a stamp does.
    stream: Option<Name>,
    /// When.
    at: Option<Timestamp>,
    /// The tool use that started it, where one is named.
    tool_use: Option<String>,
    /// The id of the record from which it came out, where one is named.
    record: Option<String>,
    /// The address of the record that says so.
    place: Address,
}

impl Merge for Relationship {
    fn merge(&mut self, other: Self) {
        let is_imported = |row: &Self| row.stream.as_deref().is_some_and(is_imported);
        let first =
            |row: &Self| (is_imported(row), order::absent_last(row.at), row.stream.clone(), row.place);
        let rest = |row: &Self| (row.tool_use.is_none(), row.tool_use.clone(), row.record.clone());
        if first(&other).cmp(&first(self)).then_with(|| rest(&other).cmp(&rest(self))).is_lt() {
            *self = other;
        }
    }

    fn changed(_: Option<&Self>, _: &Self, _: &mut Derived) {}
}
