//! What stands in the place of the user: prompts, and all that only looks like one.

use crate::conflicts::{CONFLICT_USER_TURN, Conflict, join_forms};
use crate::relayburn::is_imported;
use crate::sources::rewrites_in_place;
use crate::table::{Merge, row};
use crate::text::Name;
use crate::{Derived, order};
use burnlog_log::{Address, Timestamp};

/// The class of a turn that a person typed.
pub const CLASS_PROMPT: &str = "prompt";
/// The class of a turn of which only an imported record is there, which does not say what it was.
pub const CLASS_IMPORTED: &str = "imported";

row! {
    /// One message in the place of the user that is not the result of a tool.
    ///
    /// Of several records the kept one is not imported, not copied, then the earliest, then the smallest.
    pub struct UserTurn in "user_turns" indexes [["session"]] dumped true
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
    /// `prompt`, `delegated`, `meta`, `command`, `command_output`, `notification`, `compact_summary` or `interruption`;
    /// `imported` where only a record of another program is there, which does not say.
    class: Name,
    /// The text, in characters; of an imported turn in bytes.
    characters: i64,
    /// Images in it.
    images: i64,
    /// The first eight bytes of the BLAKE3 hash of the text.
    text_prefix: i64,
    /// The address of the record.
    place: Address,
    /// Whether records contradict each other; their forms are in `conflicts`.
    contested: bool,
    @transient {
        /// The forms that contradict each other, as far as they came up since the row was read; of a stored row none.
        forms: Vec<Conflict>,
    }
}

impl UserTurn {
    fn contradicts(&self, other: &Self) -> bool {
        let text = |row: &Self| (row.text_prefix, row.characters, row.images);
        let is_told = !is_imported(&self.stream) && !is_imported(&other.stream);
        is_told && text(self) != text(other) && !rewrites_in_place(&self.source)
    }

    fn form(&self) -> Option<Conflict> {
        let (characters, images, hash) = (self.characters, self.images, self.text_prefix as u64);
        (!is_imported(&self.stream)).then(|| Conflict {
            source: self.source.clone(),
            kind: CONFLICT_USER_TURN.into(),
            identity: self.turn.clone(),
            form: format!("{characters} characters, {images} images, b3:{hash:016x}"),
            copied: self.copied,
            timestamp: self.timestamp,
            session: self.session.clone(),
            stream: self.stream.clone(),
            payload_prefix: 0,
            place: self.place,
        })
    }
}

impl Merge for UserTurn {
    fn merge(&mut self, mut other: Self) {
        let contested = self.contested || other.contested || self.contradicts(&other);
        let mut forms = std::mem::take(&mut self.forms);
        if contested {
            let more = std::mem::take(&mut other.forms);
            join_forms(&mut forms, more.into_iter().chain(self.form()).chain(other.form()));
        }
        let key = |row: &Self| {
            (is_imported(&row.stream), row.copied, order::absent_last(row.timestamp), row.session.clone())
        };
        let tie = |row: &Self| {
            (row.stream.clone(), row.place, row.class.clone(), row.characters, row.images, row.text_prefix)
        };
        if key(&other).cmp(&key(self)).then_with(|| tie(&other).cmp(&tie(self))).is_lt() {
            *self = other;
        }
        (self.contested, self.forms) = (contested, forms);
    }

    fn changed(old: Option<&Self>, new: &Self, derived: &mut Derived) {
        if let Some(old) = old {
            old.count(-1, derived);
        }
        new.count(1, derived);
        derived.conflicts(&new.forms);
    }
}

impl UserTurn {
    pub(crate) fn count(&self, sign: i64, derived: &mut Derived) {
        if &*self.class == CLASS_PROMPT {
            derived.session(&self.source, &self.session).prompts += sign;
        }
    }
}
