//! A fold store in memory, for tests: as strict as the contract allows, and nothing shared with real ones.

use crate::queries_scan::ScanQueries;
use crate::store::{
    FeedCursor, FoldStore, FoldTransaction, Generation, GenerationState, Promotion, RowReader, StoreState,
};
use crate::table::{ColumnKind, Table, Value, Values};
use burnlog_log::{Error, ErrorKind, LedgerId, Result, Token, WriterId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

type Rows = BTreeMap<Values, Values>;

#[derive(Debug, Clone)]
struct Tables {
    state: GenerationState,
    rows: BTreeMap<&'static str, Rows>,
    cursors: BTreeMap<WriterId, u64>,
}

/// Keeps projections in memory. Clones share one store, which is what "reopening" means here.
#[derive(Debug, Clone, Default)]
pub struct MemoryProjections(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    ledger: Option<LedgerId>,
    last_generation: u32,
    live: Option<Generation>,
    generations: BTreeMap<Generation, Tables>,
}

impl MemoryProjections {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn tables(&self, generation: Generation) -> Result<&Tables> {
        self.generations.get(&generation).ok_or_else(|| gone(generation))
    }

    fn building(&self) -> Option<Generation> {
        self.generations.keys().copied().find(|generation| Some(*generation) != self.live)
    }
}

fn gone(generation: Generation) -> Error {
    let message = "the generation is gone; read the state of the store again";
    Error::new(ErrorKind::Conflict, "read projections", message)
        .at(format_args!("generation {}", generation.0))
}

fn owned(values: &[Value<'_>]) -> Values {
    values.iter().cloned().map(Value::into_owned).collect()
}

/// Checks what a typed database would check by itself.
fn check(table: &Table, row: &[Value<'_>]) -> Result<()> {
    let fits = row.len() == table.columns.len()
        && row.iter().zip(table.columns).enumerate().all(|(position, (value, column))| match value {
            Value::Null => column.nullable && position >= table.key,
            Value::Integer(_) => {
                matches!(column.kind, ColumnKind::Integer | ColumnKind::Instant | ColumnKind::Flag)
            }
            Value::Text(text) => {
                matches!(column.kind, ColumnKind::Text | ColumnKind::Name) && !text.contains('\0')
            }
            Value::Name(_) => column.kind == ColumnKind::Name,
            Value::Blob(bytes) => match column.kind {
                ColumnKind::Address => bytes.len() == 32,
                kind => kind == ColumnKind::Blob,
            },
        });
    if fits {
        return Ok(());
    }
    let message = format!("the row does not fit the columns: {row:?}");
    Err(Error::new(ErrorKind::Invalid, "write projection row", message).at(table.name))
}

impl RowReader for MemoryProjections {
    fn location(&self) -> String {
        "memory:".to_owned()
    }

    fn state(&self) -> Result<StoreState> {
        let kept = self.lock();
        let state = |generation: Option<Generation>| {
            generation
                .and_then(|generation| kept.generations.get(&generation))
                .map(|tables| tables.state.clone())
        };
        Ok(StoreState { live: state(kept.live), building: state(kept.building()) })
    }

    fn get(
        &self,
        generation: Generation,
        table: &'static Table,
        key: &[Value<'_>],
    ) -> Result<Option<Values>> {
        let kept = self.lock();
        let rows = kept.tables(generation)?.rows.get(table.name);
        Ok(rows.and_then(|rows| rows.get(&owned(key))).cloned())
    }

    fn scan(
        &self,
        generation: Generation,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: usize,
    ) -> Result<Vec<Values>> {
        use std::ops::Bound;
        let kept = self.lock();
        let Some(rows) = kept.tables(generation)?.rows.get(table.name) else { return Ok(Vec::new()) };
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(owned(key)));
        Ok(rows.range((from, Bound::Unbounded)).take(limit).map(|(_, row)| row.clone()).collect())
    }

    fn cursors(&self, generation: Generation) -> Result<Vec<FeedCursor>> {
        let kept = self.lock();
        let cursors = &kept.tables(generation)?.cursors;
        Ok(cursors.iter().map(|(feed, next)| FeedCursor { feed: *feed, next: *next }).collect())
    }

    fn cursor(&self, generation: Generation, feed: &WriterId) -> Result<u64> {
        Ok(self.lock().tables(generation)?.cursors.get(feed).copied().unwrap_or(0))
    }
}

impl FoldStore for MemoryProjections {
    fn bind(&mut self, ledger: LedgerId) -> Result<()> {
        let mut kept = self.lock();
        if *kept.ledger.get_or_insert(ledger) == ledger {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, "bind projections", "they belong to another ledger"))
    }

    fn create(&mut self, version: u32) -> Result<Generation> {
        let mut kept = self.lock();
        if let Some(stale) = kept.building() {
            kept.generations.remove(&stale);
        }
        kept.last_generation += 1;
        let generation = Generation(kept.last_generation);
        let state = GenerationState { generation, version, revision: 0, token: None, settled: false };
        let tables = Tables { state, rows: BTreeMap::new(), cursors: BTreeMap::new() };
        kept.generations.insert(generation, tables);
        kept.live.get_or_insert(generation);
        Ok(generation)
    }

    fn promote(&mut self, generation: Generation, when: Promotion) -> Result<()> {
        let mut kept = self.lock();
        let conflict = |message: &str| {
            Err(Error::new(ErrorKind::Conflict, "promote projections", message)
                .at(format_args!("generation {}", generation.0)))
        };
        if kept.live == Some(generation) || !kept.generations.contains_key(&generation) {
            return conflict("this generation is not being built");
        }
        let next = &kept.generations[&generation].cursors;
        if let Some(live) = kept.live {
            let behind = |(feed, at): (&WriterId, &u64)| next.get(feed).copied().unwrap_or(0) < *at;
            if when == Promotion::CaughtUp && kept.generations[&live].cursors.iter().any(behind) {
                return conflict("the live generation is ahead; catch up first");
            }
            kept.generations.remove(&live);
        }
        kept.live = Some(generation);
        Ok(())
    }

    fn settle(&mut self, generation: Generation) -> Result<()> {
        let mut kept = self.lock();
        let tables = kept.generations.get_mut(&generation).ok_or_else(|| gone(generation))?;
        tables.state.settled = true;
        Ok(())
    }

    fn commit(
        &mut self,
        generation: Generation,
        expected: u64,
        work: &mut dyn FnMut(&mut dyn FoldTransaction) -> Result<()>,
    ) -> Result<u64> {
        let mut kept = self.lock();
        let tables = kept.generations.get_mut(&generation).ok_or_else(|| gone(generation))?;
        if tables.state.revision != expected {
            let message = format!("revision {} instead of {expected}", tables.state.revision);
            return Err(Error::new(ErrorKind::Conflict, "commit projections", message));
        }
        let mut changed = tables.clone();
        work(&mut changed)?;
        changed.state.revision += 1;
        let revision = changed.state.revision;
        *tables = changed;
        Ok(revision)
    }
}

impl FoldTransaction for Tables {
    fn insert_new(&mut self, table: &'static Table, row: &[Value<'_>]) -> Result<bool> {
        check(table, row)?;
        let rows = self.rows.entry(table.name).or_default();
        let key = owned(&row[..table.key]);
        if rows.contains_key(&key) {
            return Ok(false);
        }
        rows.insert(key, owned(row));
        Ok(true)
    }

    fn get(&mut self, table: &'static Table, key: &[Value<'_>]) -> Result<Option<Values>> {
        Ok(self.rows.get(table.name).and_then(|rows| rows.get(&owned(key))).cloned())
    }

    fn replace(&mut self, table: &'static Table, row: &[Value<'_>]) -> Result<()> {
        check(table, row)?;
        let kept = self.rows.get_mut(table.name).and_then(|rows| rows.get_mut(&owned(&row[..table.key])));
        let Some(kept) = kept else {
            return Err(Error::new(ErrorKind::NotFound, "replace projection row", "no row has this key")
                .at(table.name));
        };
        *kept = owned(row);
        Ok(())
    }

    fn delete(&mut self, table: &'static Table, key: &[Value<'_>]) -> Result<bool> {
        Ok(self.rows.get_mut(table.name).is_some_and(|rows| rows.remove(&owned(key)).is_some()))
    }

    fn advance(&mut self, feed: &WriterId, from: u64, to: u64) -> Result<()> {
        let at = self.cursors.entry(*feed).or_insert(0);
        if *at != from {
            let message = format!("the cursor stands at {at}, not at {from}");
            return Err(Error::new(ErrorKind::Conflict, "advance cursor", message).at(feed));
        }
        *at = to;
        Ok(())
    }

    fn set_token(&mut self, token: &Token) -> Result<()> {
        self.state.token = Some(token.clone());
        Ok(())
    }
}

impl ScanQueries for MemoryProjections {}
