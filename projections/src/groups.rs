//! Groups: facts of a source whose meaning depends on other records of the same file or object. All facts of a group stand in
//! one row, a union that knows no order; what they mean is resolved from them as a whole, anew whenever one comes.
//! Knows no source: each says in its own file what its facts mean.

use crate::table::{ColumnKind, ColumnType, Merge, Value, row};
use crate::text::Name;
use crate::{Derived, resolved::Change};
use std::borrow::Cow;
use std::collections::BTreeMap;

row! {
    /// The facts that several records tell of one thing: a session file or a message with its parts.
    ///
    /// Not shown by `project dump`: what they mean is in the rows that are made of them.
    pub struct Group in "fact_groups" dumped false
    key {
        /// The source.
        source: Name,
        /// The name of the group; each source has its own kind.
        name: Name,
    }
    /// The facts.
    facts: FactSet,
}

row! {
    /// The groups that tell of things with the same beginning of their keys: a session and its forks.
    pub struct Family in "fact_families" short true dumped false
    key {
        /// The source.
        source: Name,
        /// The beginning of the keys.
        family: Name,
    }
    /// The names of the groups, as the keys of facts that say nothing.
    groups: FactSet,
}

/// Facts by key, in the bytewise order of the keys. Of two facts with one key the bytewise greater stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FactSet(BTreeMap<Vec<u8>, Vec<u8>>);

impl FactSet {
    /// Makes a set of one fact.
    pub(crate) fn of(key: Vec<u8>, fact: Vec<u8>) -> Self {
        Self(BTreeMap::from([(key, fact)]))
    }

    /// Returns the facts in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(key, fact)| (&key[..], &fact[..]))
    }

    fn join(&mut self, other: Self) {
        for (key, fact) in other.0 {
            match self.0.entry(key) {
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(fact);
                }
                std::collections::btree_map::Entry::Occupied(mut entry) => {
                    if fact > *entry.get() {
                        entry.insert(fact);
                    }
                }
            }
        }
    }
}

/// From so many bytes on a set is compressed: the names and counters in it are much alike.
const COMPRESSED_BYTES_MIN: usize = 1024;
/// The level of zstd. A set is compressed whenever a fact comes to it.
const LEVEL: i32 = 1;
/// What a frame of zstd begins with. As the length of a key it would be four billion.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// A frame that claims more is taken for damaged before memory is taken for it: no store kept as much of one set before sets were compressed.
const PLAIN_BYTES_MAX: u64 = 1 << 30;

/// Returns what a frame holds; `None` where it is damaged.
fn decompressed(frame: &[u8]) -> Option<Vec<u8>> {
    let bytes = zstd::zstd_safe::get_frame_content_size(frame).ok()??;
    let plain =
        zstd::bulk::decompress(frame, usize::try_from(bytes).ok().filter(|_| bytes <= PLAIN_BYTES_MAX)?)
            .ok()?;
    (plain.len() as u64 == bytes).then_some(plain)
}

/// Lengths as four bytes each, then the bytes: key, fact, key, fact …; where that is long, in one frame of zstd.
impl ColumnType for FactSet {
    const KIND: ColumnKind = ColumnKind::Blob;

    fn to_value(&self) -> Value<'_> {
        let bytes = self.0.iter().map(|(key, fact)| key.len() + fact.len() + 8).sum();
        let mut packed = Vec::with_capacity(bytes);
        for piece in self.0.iter().flat_map(|(key, fact)| [key, fact]) {
            let length = u32::try_from(piece.len()).expect("facts are cut when they are made");
            packed.extend_from_slice(&length.to_le_bytes());
            packed.extend_from_slice(piece);
        }
        if packed.len() >= COMPRESSED_BYTES_MIN {
            packed = zstd::bulk::compress(&packed, LEVEL).expect("memory is compressed into memory");
        }
        Value::Blob(Cow::Owned(packed))
    }

    fn of_value(value: Value<'static>) -> Option<Self> {
        let Value::Blob(packed) = value else { return None };
        let plain = if packed.starts_with(&ZSTD_MAGIC) { Cow::Owned(decompressed(&packed)?) } else { packed };
        let mut rest = &plain[..];
        let mut take = || {
            let (length, behind) = rest.split_first_chunk::<4>()?;
            let (piece, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            rest = behind;
            Some(piece.to_vec())
        };
        let mut facts = BTreeMap::new();
        while let Some(key) = take() {
            facts.insert(key, take()?);
        }
        rest.is_empty().then_some(Self(facts))
    }
}

impl Group {
    /// Makes a group of one fact.
    pub(crate) fn of(source: Name, group: Name, key: Vec<u8>, fact: Vec<u8>) -> Self {
        Self { source, name: group, facts: FactSet::of(key, fact) }
    }
}

impl Family {
    /// Returns the names of the groups.
    pub(crate) fn names(&self) -> impl Iterator<Item = Name> {
        self.groups.iter().map(|(name, _)| Name::from(&*String::from_utf8_lossy(name)))
    }
}

impl Merge for Group {
    fn merge(&mut self, other: Self) {
        self.facts.join(other.facts);
    }

    fn changed(old: Option<&Self>, new: &Self, derived: &mut Derived) {
        derived.changes.push(Change::of(old, new));
    }
}

impl Merge for Family {
    fn merge(&mut self, other: Self) {
        self.groups.join(other.groups);
    }

    fn changed(_: Option<&Self>, _: &Self, _: &mut Derived) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stored(set: &FactSet) -> Vec<u8> {
        match set.to_value().into_owned() {
            Value::Blob(bytes) => bytes.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn read(bytes: Vec<u8>) -> Option<FactSet> {
        FactSet::of_value(Value::Blob(Cow::Owned(bytes)))
    }

    #[test]
    fn long_sets_are_compressed_and_damage_to_them_is_told() {
        let set = FactSet((0..100u8).map(|at| (vec![at; 40], vec![7; 60])).collect());
        let bytes = stored(&set);
        assert!(bytes.starts_with(&ZSTD_MAGIC) && bytes.len() < 4000, "{} bytes", bytes.len());
        assert_eq!(read(bytes.clone()), Some(set));
        assert_eq!(read(bytes[..bytes.len() - 1].to_vec()), None);
        // A frame that says that it holds eight exabytes.
        let mut claims = ZSTD_MAGIC.to_vec();
        claims.extend([0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
        assert_eq!(read(claims), None);
    }

    /// Few keys and facts, so that sets have keys in common.
    fn facts() -> impl Strategy<Value = FactSet> {
        proptest::collection::btree_map(
            proptest::collection::vec(0u8..2, 0..2),
            proptest::collection::vec(0u8..3, 0..2),
            0..4,
        )
        .prop_map(FactSet)
    }

    proptest! {
        #[test]
        fn a_set_is_read_as_it_was_stored(facts: BTreeMap<Vec<u8>, Vec<u8>>, more in 0usize..60) {
            let mut set = FactSet(facts);
            set.join(FactSet((0..more).map(|at| (vec![at as u8; 20], vec![1; at])).collect()));
            prop_assert_eq!(read(stored(&set)), Some(set));
        }

        #[test]
        fn sets_are_joined(one in facts(), two in facts(), three in facts()) {
            let joined = |one: &FactSet, two: &FactSet| {
                let mut both = one.clone();
                both.join(two.clone());
                both
            };
            prop_assert_eq!(joined(&one, &two), joined(&two, &one));
            prop_assert_eq!(joined(&joined(&one, &two), &three), joined(&one, &joined(&two, &three)));
            prop_assert_eq!(joined(&one, &one), one);
        }
    }
}
