//! What was understood and what was not, by source, version of the agent and type of record.
//! The counts of all rows add up to the distinct `line` and `tail` events; `other_kinds` stands apart.

use crate::records::RecordClass;
use crate::table::{Rollup, row};
use crate::text::Name;

row! {
    /// Counts of records of one type.
    #[derive(Default)]
    pub struct Diagnostic in "diagnostics" dumped true
    key {
        /// The source.
        source: Name,
        /// The version of the agent; empty where the record names none.
        version: Name,
        /// The type, with its subtype after a slash; empty where the record names none.
        record_type: Name,
    }
    /// Parsed, and of a type that the folds know.
    understood: i64,
    /// Parsed, and of a type or source that the folds do not know.
    unknown: i64,
    /// Not to be parsed, or an unterminated record that no line completes.
    unreadable: i64,
    /// Unterminated records whose line came as well.
    superseded: i64,
    /// Parts of records too long to be folded.
    oversized: i64,
    /// Records whose payload was erased before they were folded.
    erased: i64,
    /// Events of a kind that the folds do not know.
    other_kinds: i64,
}

impl Diagnostic {
    /// Returns the count that a record of this class belongs to; `is_completed` where a line stands at the number of a tail.
    pub(crate) fn count_of(&mut self, class: RecordClass, is_completed: bool) -> &mut i64 {
        match class {
            RecordClass::Unknown => &mut self.unknown,
            RecordClass::Tail if is_completed => &mut self.superseded,
            RecordClass::Tail | RecordClass::Unreadable => &mut self.unreadable,
            RecordClass::Part => &mut self.oversized,
            RecordClass::Erased => &mut self.erased,
            RecordClass::OtherKind => &mut self.other_kinds,
            _ => &mut self.understood,
        }
    }
}

impl Rollup for Diagnostic {
    fn apply(&mut self, delta: &Self) {
        self.understood += delta.understood;
        self.unknown += delta.unknown;
        self.unreadable += delta.unreadable;
        self.superseded += delta.superseded;
        self.oversized += delta.oversized;
        self.erased += delta.erased;
        self.other_kinds += delta.other_kinds;
    }

    fn is_empty(&self) -> bool {
        *self
            == Self {
                source: self.source.clone(),
                version: self.version.clone(),
                record_type: self.record_type.clone(),
                ..Self::default()
            }
    }
}
