//! Tool uses and their results: one row for each tool use id. The two halves come from different records,
//! perhaps days apart and through different feeds, and find each other by the id.

use crate::conflicts::{CONFLICT_TOOL_RESULT, CONFLICT_TOOL_USE, Conflict, join_forms};
use crate::sources::rewrites_in_place;
use crate::table::{Merge, row};
use crate::text::{Name, key_text};
use crate::{Derived, order};
use burnlog_log::{Address, Timestamp};
use std::cmp::Ordering;

row! {
    /// A tool use, its result, or both. Absent columns belong to the half that has not been seen.
    pub struct ToolUse in "tool_uses" indexes [["session"]] dumped true
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
    /// Whether the use was seen only in a copy from another session; absent when it was not seen, or
    /// only in an imported record.
    use_copied: Option<bool>,
    /// The address of the record that asks for it; there whenever `use_copied` is.
    place: Option<Address>,
    /// Whether uses contradict each other; their forms are in `conflicts`.
    use_contested: bool,
    /// Whether a result is an error: true where any record says so.
    is_error: Option<bool>,
    /// The text of the result, in bytes.
    result_bytes: Option<i64>,
    /// The session of the result.
    result_session: Option<Name>,
    /// When the result came.
    result_at: Option<Timestamp>,
    /// Whether the result was seen only in a copy from another session; absent when it was not seen, or
    /// only in an imported record.
    result_copied: Option<bool>,
    /// The address of the record with the result; there whenever `result_copied` is.
    result_place: Option<Address>,
    /// Whether results contradict each other; their forms are in `conflicts`.
    result_contested: bool,
    @transient {
        /// The forms that contradict each other, as far as they came up since the row was read; of a stored row none.
        forms: Vec<Conflict>,
    }
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
            place: None,
            use_contested: false,
            is_error: None,
            result_bytes: None,
            result_session: None,
            result_at: None,
            result_copied: None,
            result_place: None,
            result_contested: false,
            forms: Vec::new(),
        }
    }

    /// Orders by which use is kept: the smaller one.
    fn compare_use(&self, other: &Self) -> Ordering {
        let seen = |row: &Self| (row.use_copied.is_none(), row.use_copied, row.place.is_none());
        let key = |row: &Self| (seen(row), order::absent_last(row.used_at));
        key(self)
            .cmp(&key(other))
            .then_with(|| self.session.cmp(&other.session))
            .then_with(|| (&self.tool, &self.target).cmp(&(&other.tool, &other.target)))
            .then_with(|| (self.place, &self.call).cmp(&(other.place, &other.call)))
    }

    /// Orders by which result is kept: the smaller one.
    fn compare_result(&self, other: &Self) -> Ordering {
        let seen = |row: &Self| (row.result_copied.is_none(), row.result_copied, row.result_place.is_none());
        let key = |row: &Self| (seen(row), order::absent_last(row.result_at));
        key(self)
            .cmp(&key(other))
            .then_with(|| self.result_session.cmp(&other.result_session))
            .then_with(|| self.result_bytes.cmp(&other.result_bytes))
            .then_with(|| self.result_place.cmp(&other.result_place))
    }

    fn uses_differ(&self, other: &Self) -> bool {
        let are_seen = self.use_copied.is_some() && other.use_copied.is_some();
        are_seen && (&self.tool, &self.target) != (&other.tool, &other.target)
    }

    fn results_differ(&self, other: &Self) -> bool {
        let are_seen = self.result_copied.is_some() && other.result_copied.is_some();
        are_seen && self.result_bytes != other.result_bytes
    }

    fn form_of_use(&self) -> Option<Conflict> {
        let copied = self.use_copied?;
        let (tool, target) = (self.tool.as_deref().unwrap_or("-"), self.target.as_deref().unwrap_or("-"));
        Some(Conflict {
            source: self.source.clone(),
            kind: CONFLICT_TOOL_USE.into(),
            identity: self.tool_use.clone(),
            form: key_text(&format!("{tool} {target}")).into_owned(),
            copied,
            timestamp: self.used_at,
            session: self.session.clone().unwrap_or_default(),
            stream: Name::default(),
            payload_prefix: 0,
            place: self.place?,
        })
    }

    fn form_of_result(&self) -> Option<Conflict> {
        let copied = self.result_copied?;
        let bytes = self.result_bytes.map_or("-".to_owned(), |bytes| bytes.to_string());
        Some(Conflict {
            source: self.source.clone(),
            kind: CONFLICT_TOOL_RESULT.into(),
            identity: self.tool_use.clone(),
            form: format!("{bytes} bytes"),
            copied,
            timestamp: self.result_at,
            session: self.result_session.clone().unwrap_or_default(),
            stream: Name::default(),
            payload_prefix: 0,
            place: self.result_place?,
        })
    }

    /// Takes what contradicts itself into `self`, before either half is chosen.
    fn take_forms(&mut self, other: &mut Self) {
        let rewrites = || rewrites_in_place(&self.source);
        let uses = self.use_contested || other.use_contested || self.uses_differ(other) && !rewrites();
        let results =
            self.result_contested || other.result_contested || self.results_differ(other) && !rewrites();
        if !uses && !results {
            return;
        }
        let mut forms = std::mem::take(&mut self.forms);
        join_forms(&mut forms, std::mem::take(&mut other.forms));
        if uses {
            join_forms(&mut forms, self.form_of_use().into_iter().chain(other.form_of_use()));
        }
        if results {
            join_forms(&mut forms, self.form_of_result().into_iter().chain(other.form_of_result()));
        }
        (self.use_contested, self.result_contested, self.forms) = (uses, results, forms);
    }

    pub(crate) fn count(&self, sign: i64, derived: &mut Derived) {
        if let (Some(_), Some(session)) = (self.place, &self.session) {
            derived.session(&self.source, session).tool_uses += sign;
        }
        let session = self.result_session.as_ref().or(self.session.as_ref());
        if let (Some(true), Some(session)) = (self.is_error, session) {
            derived.session(&self.source, session).tool_errors += sign;
        }
    }
}

impl Merge for ToolUse {
    fn merge(&mut self, mut other: Self) {
        self.take_forms(&mut other);
        if other.compare_use(self) == Ordering::Less {
            self.call.clone_from(&other.call);
            self.tool.clone_from(&other.tool);
            self.target.clone_from(&other.target);
            self.session.clone_from(&other.session);
            self.used_at = other.used_at;
            self.use_copied = other.use_copied;
            self.place = other.place;
        }
        // Some sources tell of the error in a record of its own.
        self.is_error = self.is_error.max(other.is_error);
        if other.compare_result(self) == Ordering::Less {
            self.result_bytes = other.result_bytes;
            self.result_session = other.result_session;
            self.result_at = other.result_at;
            self.result_copied = other.result_copied;
            self.result_place = other.result_place;
        }
    }

    fn changed(old: Option<&Self>, new: &Self, derived: &mut Derived) {
        if let Some(old) = old {
            old.count(-1, derived);
        }
        new.count(1, derived);
        derived.conflicts(&new.forms);
    }
}
