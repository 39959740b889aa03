//! Notices: lines in the shape of an answer that no model gave, such as "session limit reached".
//! They are not calls and never merged with one another because they look alike.

use crate::table::{Merge, row};
use crate::text::Name;
use crate::{Derived, order};
use burnlog_log::{Address, Timestamp};

row! {
    /// One notice. Of several copies the kept one is not copied, then the earliest, then the smallest.
    pub struct Notice in "notices" dumped true
    key {
        /// The source.
        source: Name,
        /// The record's own id, or its address where it has none.
        notice: String,
    }
    /// Whether the record is known to be a copy from another session.
    copied: bool,
    /// When.
    timestamp: Option<Timestamp>,
    /// The session.
    session: Name,
    /// The stream.
    stream: Name,
    /// The class of error, where the source names one.
    error: Option<Name>,
    /// The HTTP status of the API.
    status: Option<i64>,
    /// The address of the record.
    place: Address,
}

impl Merge for Notice {
    fn merge(&mut self, other: Self) {
        let key = |row: &Self| (row.copied, order::absent_last(row.timestamp), row.session.clone());
        let tie = |row: &Self| (row.stream.clone(), row.place, row.error.clone(), row.status);
        if key(&other).cmp(&key(self)).then_with(|| tie(&other).cmp(&tie(self))).is_lt() {
            *self = other;
        }
    }

    fn changed(old: Option<&Self>, new: &Self, derived: &mut Derived) {
        if let Some(old) = old {
            derived.session(&old.source, &old.session).notices -= 1;
        }
        derived.session(&new.source, &new.session).notices += 1;
    }
}
