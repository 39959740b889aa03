//! What groups of facts mean, as rows, and how those rows are kept right while facts come in any order: what is only
//! new is joined; what changed its meaning is joined anew from every group that tells of it.

use crate::Derived;
use crate::calls::{Call, CallSession};
use crate::compactions::Compaction;
use crate::groups::{FactSet, Family, Group};
use crate::notices::Notice;
use crate::relationships::Relationship;
use crate::rows::Rows;
use crate::sources::{SOURCES, SourceFold};
use crate::store::FoldTransaction;
use crate::table::{Merge, Row, Value};
use crate::text::Name;
use crate::tool_uses::ToolUse;
use crate::user_turns::UserTurn;
use burnlog_log::Result;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// The rows that the facts of one group make.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved {
    pub(crate) calls: Vec<Call>,
    pub(crate) user_turns: Vec<UserTurn>,
    pub(crate) compactions: Vec<Compaction>,
    pub(crate) tool_uses: Vec<ToolUse>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) relationships: Vec<Relationship>,
    /// Unknown records by version and type, which were counted without their version.
    pub(crate) unknown: BTreeMap<(Name, Name), i64>,
}

/// A row that groups make, and that can lose its meaning again.
pub(crate) trait Resolvable: Merge {
    /// The rows of this table among those of a group.
    fn of(resolved: &Resolved) -> &Vec<Self>;
    /// The key but for the source.
    fn name(&self) -> &str;
    /// Takes back what [`Merge::changed`] derived from a row that is no more.
    fn removed(old: &Self, derived: &mut Derived);
    /// Takes back what was derived from what one group said, now that all say `now`.
    fn left(before: &Self, now: Option<&Self>, derived: &mut Derived);
}

macro_rules! resolvable {
    ($row:ident, $list:ident, $name:ident, |$old:ident, $derived:ident| $removed:expr) => {
        impl Resolvable for $row {
            fn of(resolved: &Resolved) -> &Vec<Self> {
                &resolved.$list
            }

            fn name(&self) -> &str {
                &self.$name
            }

            fn removed($old: &Self, $derived: &mut Derived) {
                $removed
            }

            fn left(_: &Self, _: Option<&Self>, _: &mut Derived) {}
        }
    };
}

resolvable!(UserTurn, user_turns, turn, |old, derived| old.count(-1, derived));
resolvable!(Compaction, compactions, compaction, |old, derived| {
    derived.session(&old.source, &old.session).compactions -= 1;
});
resolvable!(ToolUse, tool_uses, tool_use, |old, derived| old.count(-1, derived));
resolvable!(Notice, notices, notice, |old, derived| {
    derived.session(&old.source, &old.session).notices -= 1;
});

resolvable!(Relationship, relationships, to_session, |_old, _derived| {});

impl Resolvable for Call {
    fn of(resolved: &Resolved) -> &Vec<Self> {
        &resolved.calls
    }

    fn name(&self) -> &str {
        &self.call
    }

    fn removed(old: &Self, derived: &mut Derived) {
        old.count(-1, derived);
    }

    fn left(before: &Self, now: Option<&Self>, derived: &mut Derived) {
        let is_member = now.is_some_and(|now| now.elsewhere.contains(&before.session));
        if !is_member {
            let (source, call) = (before.source.clone(), before.call.clone());
            derived.leaves.push(CallSession { source, call, session: before.session.clone() });
        }
    }
}

/// How the meaning of one group changed.
#[derive(Debug)]
pub(crate) struct Change {
    source: Name,
    group: Name,
    before: Resolved,
    after: Resolved,
}

impl Change {
    pub(crate) fn of(old: Option<&Group>, new: &Group) -> Self {
        let (source, group) = (new.source.clone(), new.name.clone());
        let before = old.map(resolve).unwrap_or_default();
        Self { source, group, before, after: resolve(new) }
    }
}

fn fold_of(source: &str) -> Option<&'static SourceFold> {
    SOURCES.iter().find(|fold| fold.name == source)
}

/// Tells what a group means; its rows are sorted, one for each key.
fn resolve(group: &Group) -> Resolved {
    let Some(fold) = fold_of(&group.source) else { return Resolved::default() };
    let mut resolved = (fold.resolve)(group);
    settle(&mut resolved.calls);
    settle(&mut resolved.user_turns);
    settle(&mut resolved.compactions);
    settle(&mut resolved.tool_uses);
    settle(&mut resolved.notices);
    settle(&mut resolved.relationships);
    resolved
}

/// Sorts rows by key and joins those with one key.
fn settle<R: Merge>(rows: &mut Vec<R>) {
    rows.sort_by(R::compare_key);
    let mut settled: Vec<R> = Vec::with_capacity(rows.len());
    for row in rows.drain(..) {
        match settled.last_mut() {
            Some(last) if last.compare_key(&row).is_eq() => last.merge(row),
            _ => settled.push(row),
        }
    }
    *rows = settled;
}

/// Writes what the changes entail. All changed groups are written already.
pub(crate) fn write(changes: &[Change], to: &mut dyn FoldTransaction, derived: &mut Derived) -> Result<()> {
    let mut families = Rows::<Family>::default();
    for change in changes {
        count_unknown(change, derived);
        note_families(change, &mut families);
    }
    families.write(to, derived)?;
    let mut groups = Groups::default();
    write_rows::<Call>(changes, &mut groups, to, derived)?;
    write_rows::<UserTurn>(changes, &mut groups, to, derived)?;
    write_rows::<Compaction>(changes, &mut groups, to, derived)?;
    write_rows::<ToolUse>(changes, &mut groups, to, derived)?;
    write_rows::<Notice>(changes, &mut groups, to, derived)?;
    write_rows::<Relationship>(changes, &mut groups, to, derived)
}

/// Counts unknown records where their version is known by now.
fn count_unknown(change: &Change, derived: &mut Derived) {
    for (counts, sign) in [(&change.before.unknown, -1), (&change.after.unknown, 1)] {
        for ((version, record_type), count) in counts {
            derived.diagnostic(&change.source, version, record_type).unknown += sign * count;
            derived.diagnostic(&change.source, &Name::default(), record_type).unknown -= sign * count;
        }
    }
}

/// Notes which families a group tells of.
fn note_families(change: &Change, families: &mut Rows<Family>) {
    let Some(family_of) = fold_of(&change.source).map(|fold| fold.family) else { return };
    let after = &change.after;
    let names = after.calls.iter().map(|row| &row.call);
    let names = names.chain(after.user_turns.iter().map(|row| &row.turn));
    let names = names.chain(after.compactions.iter().map(|row| &row.compaction));
    let names = names.chain(after.notices.iter().map(|row| &row.notice));
    let names: BTreeSet<&str> = names.filter_map(|name| family_of(name)).collect();
    for family in names {
        let groups = FactSet::of(change.group.as_bytes().to_vec(), Vec::new());
        families.merge(Family { source: change.source.clone(), family: Name::from(family), groups });
    }
}

/// Groups as they are in the store by now, resolved once.
#[derive(Default)]
struct Groups {
    resolved: BTreeMap<(Name, Name), Resolved>,
    families: BTreeMap<(Name, Name), Vec<Name>>,
}

impl Groups {
    /// Returns what all groups together say of one thing.
    fn joined<R: Resolvable>(
        &mut self,
        to: &mut dyn FoldTransaction,
        change: &Change,
        row: &R,
    ) -> Result<Option<R>> {
        let source = &change.source;
        let family = fold_of(source).and_then(|fold| (fold.family)(row.name())).map(Name::from);
        let mut names = match family {
            Some(family) => self.family(to, source, &family)?,
            None => Vec::new(),
        };
        if !names.contains(&change.group) {
            names.push(change.group.clone());
        }
        let mut joined: Option<R> = None;
        for name in names {
            let rows = R::of(self.group(to, source, &name)?);
            let Ok(at) = rows.binary_search_by(|other| other.compare_key(row)) else { continue };
            match &mut joined {
                Some(joined) => joined.merge(rows[at].clone()),
                None => joined = Some(rows[at].clone()),
            }
        }
        Ok(joined)
    }

    fn family(&mut self, to: &mut dyn FoldTransaction, source: &Name, family: &Name) -> Result<Vec<Name>> {
        let key = (source.clone(), family.clone());
        if let Some(names) = self.families.get(&key) {
            return Ok(names.clone());
        }
        let row = to.get(Family::TABLE, &[text(source), text(family)])?.map(Family::read).transpose()?;
        let names = row.iter().flat_map(|row| row.groups.iter());
        let names: Vec<Name> = names.map(|(name, _)| Name::from(&*String::from_utf8_lossy(name))).collect();
        Ok(self.families.entry(key).or_insert(names).clone())
    }

    fn group(&mut self, to: &mut dyn FoldTransaction, source: &Name, group: &Name) -> Result<&Resolved> {
        let key = (source.clone(), group.clone());
        if !self.resolved.contains_key(&key) {
            let row = to.get(Group::TABLE, &[text(source), text(group)])?.map(Group::read).transpose()?;
            self.resolved.insert(key.clone(), row.as_ref().map(resolve).unwrap_or_default());
        }
        Ok(&self.resolved[&key])
    }
}

fn text(name: &Name) -> Value<'_> {
    Value::Text(Cow::Borrowed(name))
}

/// Writes one table: joins what only came, and makes anew what changed or went.
fn write_rows<R: Resolvable>(
    changes: &[Change],
    groups: &mut Groups,
    to: &mut dyn FoldTransaction,
    derived: &mut Derived,
) -> Result<()> {
    let mut came = Rows::<R>::default();
    for change in changes {
        let (before, after) = (R::of(&change.before), R::of(&change.after));
        let mut after = after.iter().peekable();
        for old in before {
            while let Some(new) = after.next_if(|new| new.compare_key(old) == Ordering::Less) {
                came.merge(new.clone());
            }
            if after.next_if(|new| new.compare_key(old).is_eq()) != Some(old) {
                let now = groups.joined(to, change, old)?;
                R::left(old, now.as_ref(), derived);
                replace(now, old, to, derived)?;
            }
        }
        after.for_each(|new| came.merge(new.clone()));
    }
    came.write(to, derived)
}

/// Puts a row in the place of the one that has its key.
fn replace<R: Resolvable>(
    now: Option<R>,
    key_row: &R,
    to: &mut dyn FoldTransaction,
    derived: &mut Derived,
) -> Result<()> {
    let mut key = Vec::with_capacity(R::TABLE.columns.len());
    key_row.write(&mut key);
    key.truncate(R::TABLE.key);
    let stored = to.get(R::TABLE, &key)?.map(R::read).transpose()?;
    match (stored, now) {
        (None, None) => {}
        (Some(stored), None) => {
            to.delete(R::TABLE, &key)?;
            R::removed(&stored, derived);
        }
        (stored, Some(now)) => {
            let mut values = Vec::with_capacity(R::TABLE.columns.len());
            now.write(&mut values);
            match &stored {
                Some(_) => to.replace(R::TABLE, &values)?,
                None => drop(to.insert_new(R::TABLE, &values)?),
            }
            R::changed(stored.as_ref(), &now, derived);
        }
    }
    Ok(())
}
