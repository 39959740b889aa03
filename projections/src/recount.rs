//! What `diagnostics` says of some sessions alone. The counts in a store are of all records together, so the records of these
//! sessions are folded again, into counts and nothing else; no store is written to.

use crate::diagnostics::Diagnostic;
use crate::fold::{Breadth, FoldInput, Pending};
use crate::lookup::records;
use crate::queries::Queries;
use crate::records::{RecordClass, RecordPlace};
use crate::table::Rollup;
use crate::text::Name;
use burnlog_log::{Address, Body, Ledger, Limit, Result, WriterId};
use std::collections::BTreeMap;

/// Who is said to have recorded what is counted: hosts are counted by nobody.
const NOBODY: WriterId = WriterId([0; 32]);

/// Counts the records of sessions, one session after the other. Memory holds a page of the ledger, and of one session what its
/// facts say of versions.
pub struct Recount<'a> {
    queries: &'a dyn Queries,
    ledger: &'a Ledger,
    page: Limit,
    counts: BTreeMap<(Name, Name, Name), Diagnostic>,
    unread: u64,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recounted {
    /// The counts, in the order of source, version and type. They add up to the records.
    pub rows: Vec<Diagnostic>,
    /// Records that the store cannot read by now. They are among the counts as what they were when they were folded, without
    /// version and type.
    pub unread: u64,
}

impl<'a> Recount<'a> {
    /// Begins with nothing; `page` is how much is read from the ledger at once.
    pub fn new(queries: &'a dyn Queries, ledger: &'a Ledger, page: Limit) -> Self {
        Self { queries, ledger, page, counts: BTreeMap::new(), unread: 0 }
    }

    /// Adds all records of the streams of a session. A session that is added twice counts twice; an unknown one has none.
    pub fn add(&mut self, source: &str, session: &str) -> Result<()> {
        let source = Name::from(source);
        let mut pending = Pending::new(false, Breadth::WithoutContent);
        let mut places = Vec::new();
        for stream in self.queries.streams(&source, session)? {
            places.extend(records(self.queries, &source, &stream.stream, 0..u64::MAX)?);
            // Where a stream has one record, as those of OpenCode, many of them are read at once.
            if places.len() >= self.page.entries {
                self.fold(&mut pending, &source, &std::mem::take(&mut places))?;
            }
        }
        self.fold(&mut pending, &source, &places)?;
        pending.into_diagnostics().iter().for_each(|row| self.count(row));
        Ok(())
    }

    /// Returns what was counted.
    pub fn finish(self) -> Recounted {
        let rows = self.counts.into_values().filter(|row| !row.is_empty()).collect();
        Recounted { rows, unread: self.unread }
    }

    fn fold(&mut self, pending: &mut Pending, source: &Name, places: &[RecordPlace]) -> Result<()> {
        let mut rest = places;
        while !rest.is_empty() {
            let addresses: Vec<Address> =
                rest.iter().take(self.page.entries.max(1)).map(|place| place.address).collect();
            let mut bodies = self.ledger.get(&addresses, self.page)?;
            if bodies.is_empty() {
                bodies.push(None);
            }
            let (asked, behind) = rest.split_at(bodies.len().min(rest.len()));
            rest = behind;
            let mut inputs = Vec::with_capacity(asked.len());
            for (place, body) in asked.iter().zip(&bodies) {
                let (skeleton, payload) = match body {
                    Some(Body::Present { skeleton, payload }) => (skeleton, Some(&payload[..])),
                    Some(Body::Erased { skeleton }) => (skeleton, None),
                    Some(Body::Damaged { .. }) | None => {
                        self.count_unread(source, place.class);
                        continue;
                    }
                };
                inputs.push(FoldInput { feed: &NOBODY, index: 0, address: place.address, skeleton, payload });
            }
            pending.fold(None, &inputs)?;
            pending.keep_groups();
        }
        Ok(())
    }

    fn count_unread(&mut self, source: &Name, class: RecordClass) {
        self.unread += 1;
        let mut row = Diagnostic { source: source.clone(), ..Diagnostic::default() };
        *row.count_of(class, false) += 1;
        self.count(&row);
    }

    fn count(&mut self, row: &Diagnostic) {
        let key = (row.source.clone(), row.version.clone(), row.record_type.clone());
        let empty = || Diagnostic {
            source: row.source.clone(),
            version: row.version.clone(),
            record_type: row.record_type.clone(),
            ..Diagnostic::default()
        };
        self.counts.entry(key).or_insert_with(empty).apply(row);
    }
}
