//! What changes of facts entail, gathered during one transaction and written at its end.

use crate::calls::CallSession;
use crate::conflicts::Conflict;
use crate::diagnostics::Diagnostic;
use crate::relationships::Relationship;
use crate::resolved::{self, Change};
use crate::rollups::{Session, UsageDay};
use crate::rows::{self, Rows};
use crate::store::FoldTransaction;
use crate::table::Row;
use crate::text::Name;
use burnlog_log::Result;

/// Changes that follow from changes of facts.
#[derive(Debug, Default)]
pub struct Derived {
    pub(crate) sessions: Rows<Session>,
    pub(crate) usage: Rows<UsageDay>,
    pub(crate) diagnostics: Rows<Diagnostic>,
    /// Where the counts that changed lately are.
    recent_diagnostics: [usize; 4],
    /// Groups of facts whose meaning changed.
    pub(crate) changes: Vec<Change>,
    pub(crate) joins: Vec<CallSession>,
    pub(crate) leaves: Vec<CallSession>,
    pub(crate) links: Vec<Relationship>,
    pub(crate) unlinks: Vec<Relationship>,
    conflicts: Vec<Conflict>,
}

impl Derived {
    /// Returns the delta of a session's sums.
    pub(crate) fn session(&mut self, source: &Name, session: &Name) -> &mut Session {
        let empty = Session { source: source.clone(), session: session.clone(), ..Session::default() };
        self.sessions.delta(empty)
    }

    /// Returns the delta of the sums with the key of `key`, an empty row.
    pub(crate) fn usage(&mut self, key: UsageDay) -> &mut UsageDay {
        self.usage.delta(key)
    }

    /// Returns the delta of the counts of a type of record.
    pub(crate) fn diagnostic(
        &mut self,
        source: &Name,
        version: &Name,
        record_type: &Name,
    ) -> &mut Diagnostic {
        let is = |row: &Diagnostic| {
            row.record_type == *record_type && row.version == *version && row.source == *source
        };
        let recent = self.recent_diagnostics.iter().find(|at| self.diagnostics.at(**at).is_some_and(is));
        let at = recent.copied().unwrap_or_else(|| {
            let (source, version, record_type) = (source.clone(), version.clone(), record_type.clone());
            let at = self.diagnostics.delta_at(Diagnostic {
                source,
                version,
                record_type,
                ..Diagnostic::default()
            });
            self.recent_diagnostics.rotate_right(1);
            self.recent_diagnostics[0] = at;
            at
        });
        self.diagnostics.at_mut(at)
    }

    /// Keeps forms that contradict each other.
    pub(crate) fn conflicts(&mut self, forms: &[Conflict]) {
        self.conflicts.extend_from_slice(forms);
    }

    /// Writes what stamps say of relationships, and what contradicts itself.
    fn write_relations(&mut self, to: &mut dyn FoldTransaction) -> Result<()> {
        let unlinks = one_for_each_key(std::mem::take(&mut self.unlinks));
        rows::delete_rows(&unlinks, to)?;
        let links = one_for_each_key(std::mem::take(&mut self.links));
        let inserted = rows::insert_rows(&links, to)?;
        let known = links.into_iter().zip(inserted).filter(|(_, inserted)| !inserted).map(|(row, _)| row);
        rows::replace_rows(&known.collect::<Vec<_>>(), to)?;
        let mut conflicts = Rows::default();
        for conflict in std::mem::take(&mut self.conflicts) {
            conflicts.merge(conflict);
        }
        conflicts.write(to, self)
    }

    /// Writes everything and is empty afterwards.
    pub(crate) fn write(&mut self, to: &mut dyn FoldTransaction) -> Result<()> {
        let changes = std::mem::take(&mut self.changes);
        if !changes.is_empty() {
            resolved::write(&changes, to, self)?;
        }
        let leaves = one_for_each_key(std::mem::take(&mut self.leaves));
        for (left, was_there) in leaves.iter().zip(rows::delete_rows(&leaves, to)?) {
            self.session(&left.source, &left.session).copied_calls -= i64::from(was_there);
        }
        let joins = one_for_each_key(std::mem::take(&mut self.joins));
        for (joined, inserted) in joins.iter().zip(rows::insert_rows(&joins, to)?) {
            self.session(&joined.source, &joined.session).copied_calls += i64::from(inserted);
        }
        self.write_relations(to)?;
        self.sessions.write_sums(to)?;
        self.usage.write_sums(to)?;
        self.diagnostics.write_sums(to)
    }
}

/// Orders rows by key; of those with one key the last stays.
fn one_for_each_key<R: Row>(mut rows: Vec<R>) -> Vec<R> {
    rows.reverse();
    rows.sort_by(R::compare_key);
    rows.dedup_by(|later, kept| later.compare_key(kept).is_eq());
    rows
}
