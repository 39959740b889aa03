//! One file's part in an ingest: its cursor as the records go out, and what their outcomes mean for it.

use crate::cursor::Cursor;
use crate::report::Counts;
use burnlog_log::{Outcome, PayloadHash};
use std::path::PathBuf;

/// Why a file is read from where it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// From its start, with nothing known of it.
    Fresh,
    /// From the cursor.
    Continued,
    /// From its start, because its recorded part changed.
    Rewritten,
    /// From its start, so that every record is named in its extents.
    ChooseAll,
    /// Not at all: its stream is closed.
    Closing,
}

/// What an event is to its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A record.
    Record,
    /// One of several parts of a record; extents always name them all.
    Part,
    /// The last record of a file that is closed or was rewritten.
    Tail,
    /// A row of a database: a stream of its own, of which the cursor knows nothing.
    Row,
    /// The extent of what a file is, or another file with the same stream was.
    Extent,
    /// The extent of what the file was before it was rewritten.
    ExtentBefore,
}

#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) source: &'static str,
    pub(crate) path: PathBuf,
    /// The file's place in the plan, if it is in there.
    pub(crate) index: Option<usize>,
    pub(crate) start: Start,
    /// True to the last event that went out.
    pub(crate) cursor: Cursor,
    /// The feed may have held every `seq` below this before the run.
    pub(crate) seen_before: u64,
    pub(crate) counts: Counts,
    /// What an earlier attempt of the same ingest stored.
    pub(crate) carried: Counts,
    /// The feed holds more of this stream than was known: read again, with every record named.
    pub(crate) doomed: bool,
    pub(crate) finished: bool,
}

impl Run {
    pub(crate) fn new(source: &'static str, path: PathBuf, start: Start, cursor: Cursor) -> Self {
        let seen_before = cursor.seen;
        Self {
            source,
            path,
            index: None,
            start,
            cursor,
            seen_before,
            counts: Counts::default(),
            carried: Counts::default(),
            doomed: false,
            finished: false,
        }
    }

    /// Takes up what became of one event.
    pub(crate) fn acknowledge(&mut self, role: Role, seq: u64, payload: PayloadHash, outcome: Outcome) {
        let present = outcome == Outcome::Present;
        if matches!(role, Role::Extent | Role::ExtentBefore) {
            self.counts.extents += u64::from(!present);
            // This state was recorded before, and so may be some of the next: which `seq`s have a second version cannot
            // be told from what is new any more.
            self.doomed |= role == Role::ExtentBefore && present && !self.cursor.choose_all;
            return;
        }
        match outcome {
            Outcome::New(_) => self.counts.new += 1,
            Outcome::Known(_) => self.counts.known += 1,
            Outcome::Present => self.counts.present += 1,
        }
        if matches!(role, Role::Tail | Role::Row) {
            return;
        }
        if !present && seq < self.seen_before {
            self.cursor.add_ambiguous(seq);
        }
        if self.cursor.choose_all {
            return;
        }
        if role == Role::Record && self.cursor.is_ambiguous(seq) {
            self.cursor.chosen.push((seq, payload));
        }
        // The feed holds more of this stream than the cursor knew: it was lost, or an answer was. What else is there, and
        // whether this is the newest version, cannot be told.
        self.doomed |= present && seq >= self.seen_before;
    }

    /// Returns the counts of all attempts: an event that an earlier one stored is not present but new.
    pub(crate) fn final_counts(&self) -> Counts {
        let Counts { new, known, extents, rewritten, .. } = self.carried;
        let mut counts = self.counts;
        counts.present = counts.present.saturating_sub(new + known);
        counts.new += new;
        counts.known += known;
        counts.extents += extents;
        counts.rewritten += rewritten;
        counts
    }
}
