//! Compactions: where an agent replaced its context by a summary.

use crate::table::{Merge, row};
use crate::text::{Name, Tokens};
use crate::{Derived, order};
use burnlog_log::{Address, Timestamp};

row! {
    /// One compaction. Of several records the kept one is not copied, then the earliest, then the smallest.
    pub struct Compaction in "compactions" dumped true
    key {
        /// The source.
        source: Name,
        /// The record's own id, or its address where it has none.
        compaction: String,
    }
    /// Whether the record is known to be a copy from another session.
    copied: bool,
    /// When.
    timestamp: Option<Timestamp>,
    /// The session.
    session: Name,
    /// The stream.
    stream: Name,
    /// What caused it: `auto` or `manual`.
    trigger: Option<Name>,
    /// The tokens of the context before it.
    tokens_before: Option<Tokens>,
    /// The address of the record.
    place: Address,
}

impl Merge for Compaction {
    fn merge(&mut self, other: Self) {
        let key = |row: &Self| (row.copied, order::absent_last(row.timestamp), row.session.clone());
        let tie = |row: &Self| (row.stream.clone(), row.place, row.trigger.clone(), row.tokens_before);
        if key(&other).cmp(&key(self)).then_with(|| tie(&other).cmp(&tie(self))).is_lt() {
            *self = other;
        }
    }

    fn changed(old: Option<&Self>, new: &Self, derived: &mut Derived) {
        if let Some(old) = old {
            derived.session(&old.source, &old.session).compactions -= 1;
        }
        derived.session(&new.source, &new.session).compactions += 1;
    }
}
