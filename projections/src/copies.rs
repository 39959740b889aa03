//! Calls that a source copies under new names, as a fork in OpenCode does: which of them are one, and which of them is the
//! call itself. Of each call a group tells an instance; what the instances with one identity mean is told from all groups
//! that have some, anew whenever one of them changes. Knows no source: each says what identifies its calls.

use crate::Derived;
use crate::calls::{Call, CallSession};
use crate::resolved::{Change, Groups, replace};
use crate::slice;
use crate::store::FoldTransaction;
use crate::table::{Merge, Row};
use crate::text::Name;
use burnlog_log::Result;
use std::collections::{BTreeMap, BTreeSet};

/// A call as one group tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    /// What a call and its copies have in common, and no other call; absent where nothing tells the call from others.
    pub(crate) identity: Option<Name>,
    /// How long after the end of the call the copy was made, in milliseconds; absent where it is no copy.
    pub(crate) copied_after: Option<u64>,
    /// The call under its own name, at home in the session of the group.
    pub(crate) call: Call,
}

impl Instance {
    /// Orders by which instance is the call, or stands in for one that was never seen: the smaller one.
    fn rank(&self) -> impl Ord + use<'_> {
        (self.copied_after, &self.call.call, &self.call.session)
    }
}

/// Returns the instance that a copy among these is a copy of: the first call, or the first copy if the call is not there.
pub(crate) fn original<'i>(instances: impl IntoIterator<Item = &'i Instance>) -> Option<&'i Instance> {
    instances.into_iter().min_by(|one, two| one.rank().cmp(&two.rank()))
}

/// Rows by source and name.
type Calls = BTreeMap<(Name, String), Call>;

/// Writes the rows of calls whose instances changed. All changed groups and families are written already.
pub(crate) fn write(
    changes: &[Change],
    groups: &mut Groups,
    to: &mut dyn FoldTransaction,
    derived: &mut Derived,
) -> Result<()> {
    let (mut before, mut after) = (Calls::new(), Calls::new());
    let mut identities = BTreeSet::new();
    for change in changes {
        let (gone, new) = differences(&change.before.instances, &change.after.instances);
        for (instances, rows) in [(gone, &mut before), (new, &mut after)] {
            for instance in instances {
                match &instance.identity {
                    Some(identity) => drop(identities.insert((change.source.clone(), identity.clone()))),
                    None => add(rows, instance.call.clone()),
                }
            }
        }
    }
    groups.read_families(to, identities.clone())?;
    let changed: BTreeMap<_, _> =
        changes.iter().map(|it| ((it.source.clone(), it.group.clone()), it)).collect();
    let members = identities.iter().flat_map(|identity| groups.groups_of_family(identity));
    let others = members.filter(|group| !changed.contains_key(group)).collect();
    groups.read_groups(to, others)?;
    for identity in &identities {
        let (mut was, mut is) = (Vec::new(), Vec::new());
        for group in groups.groups_of_family(identity) {
            if let Some(change) = changed.get(&group) {
                was.extend(with_identity(&change.before.instances, &identity.1));
                is.extend(with_identity(&change.after.instances, &identity.1));
            } else if let Some(resolved) = groups.resolved_group(&group) {
                was.extend(with_identity(&resolved.instances, &identity.1));
                is.extend(with_identity(&resolved.instances, &identity.1));
            }
        }
        rows_of(&was).for_each(|row| add(&mut before, row));
        rows_of(&is).for_each(|row| add(&mut after, row));
    }
    write_rows(before, after, to, derived)
}

/// Returns the instances of two sorted lists that only the one, and only the other has.
fn differences<'i>(before: &'i [Instance], after: &'i [Instance]) -> (Vec<&'i Instance>, Vec<&'i Instance>) {
    let only = |these: &'i [Instance], those: &'i [Instance]| {
        let is_there = |instance: &&Instance| {
            let at = those.binary_search_by(|other| other.call.compare_key(&instance.call));
            at.is_ok_and(|at| those[at] == **instance)
        };
        these.iter().filter(|instance| !is_there(instance)).collect()
    };
    (only(before, after), only(after, before))
}

fn with_identity<'i>(instances: &'i [Instance], identity: &'i Name) -> impl Iterator<Item = &'i Instance> {
    instances.iter().filter(move |instance| instance.identity.as_ref() == Some(identity))
}

/// Returns the rows that instances with one identity are: each that is no copy is a call of its own, however alike they
/// are; the copies are places of the first of them.
fn rows_of<'i>(instances: &[&'i Instance]) -> impl Iterator<Item = Call> + use<'i> {
    let original = original(instances.iter().copied());
    let is_call = |instance: &&&Instance| instance.copied_after.is_none();
    let others: Vec<_> = instances
        .iter()
        .filter(is_call)
        .filter(|instance| original.is_none_or(|original| original.call.call != instance.call.call))
        .map(|instance| instance.call.clone())
        .collect();
    let joined = original.map(|original| {
        let mut call = original.call.clone();
        let copies = instances.iter().filter(|instance| instance.copied_after.is_some());
        let sessions: BTreeSet<_> = copies.map(|copy| copy.call.session.clone()).collect();
        call.elsewhere = sessions.into_iter().filter(|session| *session != call.session).collect();
        call
    });
    joined.into_iter().chain(others)
}

/// Adds a row; of two with one name, which are versions of an object that names two sessions, they are joined.
fn add(rows: &mut Calls, row: Call) {
    use std::collections::btree_map::Entry;
    match rows.entry((row.source.clone(), row.call.clone())) {
        Entry::Vacant(entry) => drop(entry.insert(row)),
        Entry::Occupied(mut entry) => entry.get_mut().merge(row),
    }
}

/// Puts the rows that are in the places of those that were.
fn write_rows(
    before: Calls,
    mut after: Calls,
    to: &mut dyn FoldTransaction,
    derived: &mut Derived,
) -> Result<()> {
    let mut anew = Vec::with_capacity(after.len());
    for (key, was) in before {
        let is = after.remove(&key);
        let stays = |session: &Name| is.as_ref().is_some_and(|is| is.elsewhere.contains(session));
        for session in was.elsewhere.iter().chain([&was.session]).filter(|session| !stays(session)) {
            let (source, call) = key.clone();
            derived.leaves.push(CallSession { source, call, session: session.clone() });
        }
        if is.as_ref() != Some(&was) {
            anew.push((was, is));
        }
    }
    anew.extend(after.into_values().map(|row| (row.clone(), Some(row))));
    anew.sort_by(|(one, _), (two, _)| one.compare_key(two));
    for rows in anew.chunks(slice::SLICE_VALUES / Call::TABLE.columns.len()) {
        let rows: Vec<_> = rows.iter().map(|(key_row, now)| (key_row, now.clone())).collect();
        replace(&rows, to, derived)?;
    }
    Ok(())
}
