//! Conflicts: what contradicts itself under one identity. Every form is kept and shown; which one counts is decided
//! by the row's own rule on content, and never by arrival.
//!
//! What contradicts: two final lines of one call that differ in model, stop reason or tokens; two uses of one tool
//! use id that differ in tool or file; two results of one that differ in length; two turns with one id that differ in
//! text or images. What does not: lines of a call that is still being written, the same in copies,
//! and versions of an object that its source rewrites in place (`SourceFold::rewrites`). In real files none was found.

use crate::table::{Merge, row};
use crate::text::Name;
use crate::{Derived, order};
use burnlog_log::{Address, Timestamp};
use std::cmp::{Ordering, Reverse};

/// A call with two different ends.
pub const CONFLICT_CALL: &str = "call";
/// A tool use id that stands for two uses.
pub const CONFLICT_TOOL_USE: &str = "tool_use";
/// A tool use id with two results.
pub const CONFLICT_TOOL_RESULT: &str = "tool_result";
/// A record id that stands for two turns.
pub const CONFLICT_USER_TURN: &str = "user_turn";

row! {
    /// One of the forms that contradict each other; an identity with any has at least two.
    ///
    /// Of several records of one form the kept one is chosen as the row chooses among its own.
    pub struct Conflict in "conflicts" dumped true
    key {
        /// The source.
        source: Name,
        /// What it is about: `call`, `tool_use`, `tool_result` or `user_turn`.
        kind: Name,
        /// The identity: a message id, tool use id or record id.
        identity: String,
        /// What this form says, for people.
        form: String,
    }
    /// Whether the record is known to be a copy from another session.
    copied: bool,
    /// When.
    timestamp: Option<Timestamp>,
    /// The session; of a call empty, which may be at home elsewhere.
    session: Name,
    /// The stream; empty as the session.
    stream: Name,
    /// The first eight bytes of the payload hash of a call's line; else 0.
    payload_prefix: i64,
    /// The address of the record.
    place: Address,
}

impl Conflict {
    /// Orders by which record of a form is kept: the smaller one. As the rows do that the forms are of.
    fn compare(&self, other: &Self) -> Ordering {
        let later_first = &*self.kind == CONFLICT_CALL;
        let instants = if later_first {
            Reverse(self.timestamp).cmp(&Reverse(other.timestamp))
        } else {
            order::absent_last(self.timestamp).cmp(&order::absent_last(other.timestamp))
        };
        let rest =
            |row: &Self| (row.session.clone(), row.stream.clone(), row.payload_prefix as u64, row.place);
        self.copied.cmp(&other.copied).then(instants).then_with(|| rest(self).cmp(&rest(other)))
    }
}

impl Merge for Conflict {
    fn merge(&mut self, other: Self) {
        if other.compare(self).is_lt() {
            *self = other;
        }
    }

    fn changed(_: Option<&Self>, _: &Self, _: &mut Derived) {}
}

/// Joins forms into a list that is ordered and has one of each.
pub(crate) fn join_forms(forms: &mut Vec<Conflict>, more: impl IntoIterator<Item = Conflict>) {
    use crate::table::Row;
    for form in more {
        match forms.binary_search_by(|known| known.compare_key(&form)) {
            Ok(at) => forms[at].merge(form),
            Err(at) => forms.insert(at, form),
        }
    }
}
