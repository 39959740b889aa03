//! What stands in the place of the user: prompts, and all that only looks like one.

use crate::table::{Merge, row};
use crate::text::Name;
use crate::{Derived, order};
use burnlog_log::{Address, Timestamp};

/// The class of a turn that a person typed.
pub const CLASS_PROMPT: &str = "prompt";

row! {
    /// One message in the place of the user that is not the result of a tool.
    ///
    /// Of several records the kept one is not copied, then the earliest, then the smallest.
    pub struct UserTurn in "user_turns" dumped true
    key {
        /// The source.
        source: Name,
        /// The record's own id, or its address where it has none.
        turn: String,
    }
    /// Whether the record is known to be a copy from another session.
    copied: bool,
    /// When.
    timestamp: Option<Timestamp>,
    /// The session.
    session: Name,
    /// The stream.
    stream: Name,
    /// `prompt`, `delegated`, `meta`, `command`, `command_output`, `notification`, `compact_summary` or `interruption`.
    class: Name,
    /// The text, in characters.
    characters: i64,
    /// Images in it.
    images: i64,
    /// The address of the record.
    place: Address,
}

impl Merge for UserTurn {
    fn merge(&mut self, other: Self) {
        let key = |row: &Self| (row.copied, order::absent_last(row.timestamp), row.session.clone());
        let tie = |row: &Self| (row.stream.clone(), row.place, row.class.clone(), row.characters, row.images);
        if key(&other).cmp(&key(self)).then_with(|| tie(&other).cmp(&tie(self))).is_lt() {
            *self = other;
        }
    }

    fn changed(old: Option<&Self>, new: &Self, derived: &mut Derived) {
        let mut count = |row: &Self, sign| {
            if &*row.class == CLASS_PROMPT {
                derived.session(&row.source, &row.session).prompts += sign;
            }
        };
        if let Some(old) = old {
            count(old, -1);
        }
        count(new, 1);
    }
}
