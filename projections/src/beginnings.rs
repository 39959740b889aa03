//! How a session file begins. A copied history is told by it where the copy rewrites the session id: the agent first
//! writes when the file began, then the copied records, which are older (`docs/decisions/0025`).

use crate::table::{ColumnKind, ColumnType, Value};
use burnlog_log::Timestamp;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// How many records are the beginning of a file. In files of Claude Code 2.1.205 to 2.1.219 the marks of a copy are among the
/// first five.
pub(crate) const BEGINNING_RECORDS: u64 = 8;
/// How much older than a mark before it a record may be that is no copy, in microseconds. In 111 files with marks up to 2.4 s;
/// in the ten of them with copied history the youngest copied record was 101 s older.
const OLDER_MAX_MICROS: i64 = 10_000_000;

/// What is known of the first records of a file: a union that only ever says of more records that they are no copies.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Beginning {
    /// A bit for each record of which a form is known that is no mark.
    plain: u8,
    /// The marks, records that say when they were written and are in no chain, by number; of two the earlier.
    marks: BTreeMap<u8, Timestamp>,
}

impl Beginning {
    /// Takes a record, with its timestamp if it is a mark.
    pub(crate) fn note(&mut self, seq: u64, mark: Option<Timestamp>) {
        let Some(number) = u8::try_from(seq).ok().filter(|_| seq < BEGINNING_RECORDS) else { return };
        match mark {
            None => self.plain |= 1 << number,
            Some(at) => self.note_mark(number, at),
        }
    }

    fn note_mark(&mut self, number: u8, at: Timestamp) {
        let known = self.marks.entry(number).or_insert(at);
        *known = at.min(*known);
    }

    /// Joins what another knows of the same file.
    pub(crate) fn join(&mut self, other: &Self) {
        self.plain |= other.plain;
        for (number, at) in &other.marks {
            self.note_mark(*number, *at);
        }
    }

    /// Returns whether a record is no copy as far as its file tells: a mark before it is no younger, or no record before it
    /// need be a mark. False also while what stands before it is unknown.
    pub(crate) fn shows_own(&self, seq: u64, at: Timestamp) -> bool {
        let before = seq.min(BEGINNING_RECORDS) as u32;
        let all = ((1u16 << before) - 1) as u8;
        let latest = at.as_micros().saturating_add(OLDER_MAX_MICROS);
        let is_older =
            |(number, mark): (&u8, &Timestamp)| u32::from(*number) < before && mark.as_micros() <= latest;
        self.plain & all == all || self.marks.iter().any(is_older)
    }
}

/// A byte of bits, then for each mark a byte with its number and its microseconds in eight, little-endian.
impl ColumnType for Beginning {
    const KIND: ColumnKind = ColumnKind::Blob;

    fn to_value(&self) -> Value<'_> {
        let mut packed = vec![self.plain];
        for (number, at) in &self.marks {
            packed.push(*number);
            packed.extend_from_slice(&at.as_micros().to_le_bytes());
        }
        Value::Blob(Cow::Owned(packed))
    }

    fn of_value(value: Value<'static>) -> Option<Self> {
        let Value::Blob(packed) = value else { return None };
        let (plain, marks) = packed.split_first()?;
        let (marks, rest) = marks.as_chunks::<9>();
        let mark = |[number, micros @ ..]: &[u8; 9]| {
            (u64::from(*number) < BEGINNING_RECORDS)
                .then(|| (*number, Timestamp::from_micros(i64::from_le_bytes(*micros))))
        };
        let marks = marks.iter().map(mark).collect::<Option<_>>()?;
        rest.is_empty().then_some(Self { plain: *plain, marks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_micros(second * 1_000_000)
    }

    fn of(records: &[(u64, Option<i64>)]) -> Beginning {
        let mut beginning = Beginning::default();
        for (seq, mark) in records {
            beginning.note(*seq, mark.map(second));
        }
        beginning
    }

    #[test]
    fn what_is_older_than_the_mark_before_it_is_a_copy() {
        let beginning = of(&[(0, None), (1, Some(100)), (2, Some(101)), (3, None)]);
        let own = |seq, at| beginning.shows_own(seq, second(at));
        assert!(own(1, 5), "what stands before the mark");
        assert!(own(3, 90) && own(500, 90), "a little older");
        assert!(!own(2, 89) && !own(3, 89) && !own(500, 89));
        assert!(own(3, 1000));
    }

    #[test]
    fn a_file_without_marks_has_no_copies_once_its_beginning_is_known() {
        let records: Vec<_> = (0..BEGINNING_RECORDS).map(|seq| (seq, None)).collect();
        assert!(of(&records).shows_own(99, second(0)));
        assert!(!of(&records[1..]).shows_own(99, second(0)), "the first record may be a mark");
        assert!(of(&records[..3]).shows_own(3, second(0)) && !of(&records[..3]).shows_own(4, second(0)));
    }

    proptest! {
        #[test]
        fn more_records_never_make_a_copy_of_what_is_none(
            records in prop::collection::vec((0u64..10, prop::option::of(0i64..60)), 0..12),
            split in 0usize..12, seq in 0u64..12, at in 0i64..60,
        ) {
            let (one, two) = records.split_at(split.min(records.len()));
            let (one, two) = (of(one), of(two));
            let mut joined = one.clone();
            joined.join(&two);
            let mut turned = two.clone();
            turned.join(&one);
            prop_assert_eq!(&joined, &turned);
            prop_assert_eq!(&joined, &of(&records));
            let shows = |beginning: &Beginning| beginning.shows_own(seq, second(at));
            prop_assert!(shows(&joined) || !shows(&one) && !shows(&two));
            let stored = Beginning::of_value(joined.to_value().into_owned());
            prop_assert_eq!(stored, Some(joined));
        }
    }
}
