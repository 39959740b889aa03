//! Tool uses and their results: one row for each tool use id. The two halves come from different records,
//! perhaps days apart and through different feeds, and find each other by the id.

use crate::table::{Merge, row};
use crate::text::Name;
use crate::{Derived, order};
use burnlog_log::Timestamp;
use std::cmp::Ordering;

row! {
    /// A tool use, its result, or both. Absent columns belong to the half that has not been seen.
    pub struct ToolUse in "tool_uses" dumped true
    key {
        /// The source.
        source: Name,
        /// The tool use id.
        tool_use: String,
    }
    /// The call that asked for it.
    call: Option<String>,
    /// The tool.
    tool: Option<Name>,
    /// The file that it names, if any.
    target: Option<Name>,
    /// The session of the use.
    session: Option<Name>,
    /// When it was asked for.
    used_at: Option<Timestamp>,
    /// Whether the use was seen only in a copy from another session; absent when it was not seen.
    use_copied: Option<bool>,
    /// Whether the result is an error.
    is_error: Option<bool>,
    /// The text of the result, in bytes.
    result_bytes: Option<i64>,
    /// The session of the result.
    result_session: Option<Name>,
    /// When the result came.
    result_at: Option<Timestamp>,
    /// Whether the result was seen only in a copy from another session; absent when it was not seen.
    result_copied: Option<bool>,
}

impl ToolUse {
    /// Makes a row of which neither half is known.
    pub fn unseen(source: Name, tool_use: String) -> Self {
        Self {
            source,
            tool_use,
            call: None,
            tool: None,
            target: None,
            session: None,
            used_at: None,
            use_copied: None,
            is_error: None,
            result_bytes: None,
            result_session: None,
            result_at: None,
            result_copied: None,
        }
    }

    /// Orders by which use is kept: the smaller one.
    fn compare_use(&self, other: &Self) -> Ordering {
        let key = |row: &Self| (row.use_copied.is_none(), row.use_copied, order::absent_last(row.used_at));
        key(self)
            .cmp(&key(other))
            .then_with(|| self.session.cmp(&other.session))
            .then_with(|| self.call.cmp(&other.call))
            .then_with(|| (&self.tool, &self.target).cmp(&(&other.tool, &other.target)))
    }

    /// Orders by which result is kept: the smaller one.
    fn compare_result(&self, other: &Self) -> Ordering {
        let key =
            |row: &Self| (row.result_copied.is_none(), row.result_copied, order::absent_last(row.result_at));
        key(self)
            .cmp(&key(other))
            .then_with(|| self.result_session.cmp(&other.result_session))
            .then_with(|| (self.is_error, self.result_bytes).cmp(&(other.is_error, other.result_bytes)))
    }

    fn count(&self, sign: i64, derived: &mut Derived) {
        if let (Some(_), Some(session)) = (self.use_copied, &self.session) {
            derived.session(&self.source, session).tool_uses += sign;
        }
        if let (Some(true), Some(session)) = (self.is_error, &self.result_session) {
            derived.session(&self.source, session).tool_errors += sign;
        }
    }
}

impl Merge for ToolUse {
    fn merge(&mut self, other: Self) {
        if other.compare_use(self) == Ordering::Less {
            self.call.clone_from(&other.call);
            self.tool.clone_from(&other.tool);
            self.target.clone_from(&other.target);
            self.session.clone_from(&other.session);
            self.used_at = other.used_at;
            self.use_copied = other.use_copied;
        }
        if other.compare_result(self) == Ordering::Less {
            self.is_error = other.is_error;
            self.result_bytes = other.result_bytes;
            self.result_session = other.result_session;
            self.result_at = other.result_at;
            self.result_copied = other.result_copied;
        }
    }

    fn changed(old: Option<&Self>, new: &Self, derived: &mut Derived) {
        if let Some(old) = old {
            old.count(-1, derived);
        }
        new.count(1, derived);
    }
}
