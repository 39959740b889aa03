//! What groups of facts mean, as rows, and how those rows are kept right while facts come in any order: what is only
//! new is joined; what changed its meaning is joined anew from every group that tells of it.

use crate::Derived;
use crate::calls::{Call, CallSession};
use crate::compactions::Compaction;
use crate::copies::{self, Instance};
use crate::groups::{FactSet, Family, Group};
use crate::notices::Notice;
use crate::relationships::Relationship;
use crate::rows::{self, Rows};
use crate::slice;
use crate::sources::{SOURCES, SourceFold};
use crate::store::FoldTransaction;
use crate::table::{Merge, Row, Value};
use crate::text::Name;
use crate::tool_calls::{self, ToolCall};
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
    /// Calls that other groups may have copies of, in place of rows.
    pub(crate) instances: Vec<Instance>,
    /// Which calls asked for tools whose rows do not say it, in the order of the tool uses.
    pub(crate) tool_calls: Vec<ToolCall>,
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
    pub(crate) source: Name,
    pub(crate) group: Name,
    pub(crate) before: Resolved,
    pub(crate) after: Resolved,
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
pub(crate) fn resolve(group: &Group) -> Resolved {
    let Some(fold) = fold_of(&group.source) else { return Resolved::default() };
    let mut resolved = (fold.resolve)(group);
    settle(&mut resolved.calls);
    settle(&mut resolved.user_turns);
    settle(&mut resolved.compactions);
    settle(&mut resolved.tool_uses);
    settle(&mut resolved.notices);
    settle(&mut resolved.relationships);
    resolved.instances.sort_by(|one, two| one.call.compare_key(&two.call));
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
    copies::write(changes, &mut groups, to, derived)?;
    write_rows::<UserTurn>(changes, &mut groups, to, derived)?;
    write_rows::<Compaction>(changes, &mut groups, to, derived)?;
    write_rows::<ToolUse>(changes, &mut groups, to, derived)?;
    tool_calls::write(changes, to)?;
    write_rows::<Notice>(changes, &mut groups, to, derived)?;
    write_rows::<Relationship>(changes, &mut groups, to, derived)
}

/// Counts unknown records where their version is known by now.
pub(crate) fn count_unknown(change: &Change, derived: &mut Derived) {
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
    let known: BTreeSet<_> = change.before.instances.iter().filter_map(|it| it.identity.as_deref()).collect();
    let identities = after.instances.iter().filter_map(|it| it.identity.as_deref());
    let identities = identities.filter(|identity| !known.contains(identity));
    let names = after.calls.iter().map(|row| &row.call);
    let names = names.chain(after.user_turns.iter().map(|row| &row.turn));
    let names = names.chain(after.compactions.iter().map(|row| &row.compaction));
    let names = names.chain(after.notices.iter().map(|row| &row.notice));
    let names = names.filter_map(|name| family_of(name)).chain(identities);
    let names: BTreeSet<&str> = names.collect();
    for family in names {
        let groups = FactSet::of(change.group.as_bytes().to_vec(), Vec::new());
        families.merge(Family { source: change.source.clone(), family: Name::from(family), groups });
    }
}

/// Groups as they are in the store by now, resolved once.
#[derive(Default)]
pub(crate) struct Groups {
    resolved: BTreeMap<(Name, Name), Resolved>,
    families: BTreeMap<(Name, Name), Vec<Name>>,
}

impl Groups {
    /// Returns, for each row that a change took back, what all groups together say of its thing by now.
    fn join_all<R: Resolvable>(
        &mut self,
        to: &mut dyn FoldTransaction,
        taken_back: &[(&Change, &R)],
    ) -> Result<Vec<Option<R>>> {
        let families = taken_back.iter().filter_map(|(change, row)| family_of(change, *row));
        self.read_families(to, families.collect())?;
        let groups = taken_back.iter().flat_map(|(change, row)| self.groups_of(change, *row));
        let groups = groups.collect();
        self.read_groups(to, groups)?;
        Ok(taken_back.iter().map(|(change, row)| self.joined(change, *row)).collect())
    }

    /// Returns what all groups together say of one thing.
    fn joined<R: Resolvable>(&self, change: &Change, row: &R) -> Option<R> {
        let mut joined: Option<R> = None;
        for name in self.groups_of(change, row) {
            let rows = self.resolved.get(&name).map_or(&[][..], |group| R::of(group));
            let Ok(at) = rows.binary_search_by(|other| other.compare_key(row)) else { continue };
            match &mut joined {
                Some(joined) => joined.merge(rows[at].clone()),
                None => joined = Some(rows[at].clone()),
            }
        }
        joined
    }

    /// Returns the sources and names of the groups that may tell of the thing of a row. Its family was read before.
    fn groups_of<R: Resolvable>(&self, change: &Change, row: &R) -> Vec<(Name, Name)> {
        let family = family_of(change, row).and_then(|family| self.families.get(&family));
        let mut names = family.cloned().unwrap_or_default();
        if !names.contains(&change.group) {
            names.push(change.group.clone());
        }
        names.into_iter().map(|name| (change.source.clone(), name)).collect()
    }

    /// Returns the sources and names of the groups of a family that was read before.
    pub(crate) fn groups_of_family(&self, family: &(Name, Name)) -> Vec<(Name, Name)> {
        let names = self.families.get(family).into_iter().flatten();
        names.map(|name| (family.0.clone(), name.clone())).collect()
    }

    /// Returns what a group that was read before means.
    pub(crate) fn resolved_group(&self, group: &(Name, Name)) -> Option<&Resolved> {
        self.resolved.get(group)
    }

    /// Reads families that were not read before.
    pub(crate) fn read_families(
        &mut self,
        to: &mut dyn FoldTransaction,
        wanted: BTreeSet<(Name, Name)>,
    ) -> Result<()> {
        let wanted: Vec<_> = wanted.into_iter().filter(|key| !self.families.contains_key(key)).collect();
        read_all(to, &wanted, |key, row: Option<Family>| {
            self.families.insert(key, row.iter().flat_map(Family::names).collect());
        })
    }

    /// Reads groups that were not read before, as they are by now.
    pub(crate) fn read_groups(
        &mut self,
        to: &mut dyn FoldTransaction,
        wanted: BTreeSet<(Name, Name)>,
    ) -> Result<()> {
        let wanted: Vec<_> = wanted.into_iter().filter(|key| !self.resolved.contains_key(key)).collect();
        read_all(to, &wanted, |key, row: Option<Group>| {
            self.resolved.insert(key, row.as_ref().map(resolve).unwrap_or_default());
        })
    }
}

/// How many rows of groups are read at once: one may be as large as a session.
const GROUPS_AT_ONCE: usize = 64;

/// Reads the rows with these keys, a few at a time, and hands out each with its key.
fn read_all<R: Row>(
    to: &mut dyn FoldTransaction,
    wanted: &[(Name, Name)],
    mut take: impl FnMut((Name, Name), Option<R>),
) -> Result<()> {
    for some in wanted.chunks(GROUPS_AT_ONCE) {
        let keys: Vec<Value<'_>> =
            some.iter().flat_map(|(source, name)| [text(source), text(name)]).collect();
        for (key, row) in some.iter().zip(to.get(R::TABLE, &keys)?) {
            take(key.clone(), row.map(R::read).transpose()?);
        }
    }
    Ok(())
}

fn text(name: &Name) -> Value<'_> {
    Value::Text(Cow::Borrowed(name))
}

/// Returns the source and name of the family that the thing of a row belongs to.
fn family_of<R: Resolvable>(change: &Change, row: &R) -> Option<(Name, Name)> {
    let family = fold_of(&change.source).and_then(|fold| (fold.family)(row.name()))?;
    Some((change.source.clone(), Name::from(family)))
}

/// Writes one table: joins what only came, and makes anew what changed or went.
fn write_rows<R: Resolvable>(
    changes: &[Change],
    groups: &mut Groups,
    to: &mut dyn FoldTransaction,
    derived: &mut Derived,
) -> Result<()> {
    let mut came = Rows::<R>::default();
    let mut taken_back = Vec::new();
    for change in changes {
        let (before, after) = (R::of(&change.before), R::of(&change.after));
        let mut after = after.iter().peekable();
        for old in before {
            while let Some(new) = after.next_if(|new| new.compare_key(old) == Ordering::Less) {
                came.merge(new.clone());
            }
            if after.next_if(|new| new.compare_key(old).is_eq()) != Some(old) {
                taken_back.push((change, old));
            }
        }
        after.for_each(|new| came.merge(new.clone()));
    }
    let anew = groups.join_all(to, &taken_back)?;
    let mut anew: Vec<(&R, Option<R>)> = taken_back.iter().map(|(_, old)| *old).zip(anew).collect();
    for (old, now) in &anew {
        R::left(old, now.as_ref(), derived);
    }
    // Whatever group a row was taken back by, what all say now is the same.
    anew.sort_by(|(one, _), (two, _)| one.compare_key(two));
    anew.dedup_by(|(one, _), (two, _)| one.compare_key(two).is_eq());
    for rows in anew.chunks(slice::SLICE_VALUES / R::TABLE.columns.len()) {
        replace(rows, to, derived)?;
    }
    came.write(to, derived)
}

/// Puts rows in the places of those that have their keys, or nothing.
pub(crate) fn replace<R: Resolvable>(
    anew: &[(&R, Option<R>)],
    to: &mut dyn FoldTransaction,
    derived: &mut Derived,
) -> Result<()> {
    let mut keys = Vec::new();
    for (key_row, _) in anew {
        slice::push_key(*key_row, &mut keys);
    }
    let stored = to.get(R::TABLE, &keys)?;
    let (mut gone, mut changed, mut new) = (Vec::new(), Vec::new(), Vec::new());
    for ((_, now), stored) in anew.iter().zip(stored) {
        match (stored.map(R::read).transpose()?, now) {
            (None, None) => {}
            (Some(stored), None) => {
                R::removed(&stored, derived);
                gone.push(stored);
            }
            (stored, Some(now)) => {
                R::changed(stored.as_ref(), now, derived);
                let list = if stored.is_some() { &mut changed } else { &mut new };
                list.push(now.clone());
            }
        }
    }
    rows::delete_rows(&gone, to)?;
    rows::replace_rows(&changed, to)?;
    rows::insert_rows(&new, to).map(drop)
}
