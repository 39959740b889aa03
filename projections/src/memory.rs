//! A fold store in memory, for tests: as strict as the contract allows, and nothing shared with real ones.

use crate::lease::{Lease, Leasing};
use crate::queries_scan::ScanQueries;
use crate::slice::{check_keys, check_rows};
use crate::store::{
    CursorMove, FeedCursor, FoldStore, FoldTransaction, Generation, GenerationState, Promotion, RowReader,
    StoreState,
};
use crate::table::{ColumnKind, Table, Value, Values};
use burnlog_log::{Error, ErrorKind, LedgerId, Result, Token, WriterId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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

#[derive(Debug, Default, Clone)]
struct Kept {
    ledger: Option<LedgerId>,
    last_generation: u32,
    live: Option<Generation>,
    generations: BTreeMap<Generation, Tables>,
    lease: Grant,
    /// The store's clock, which stands still unless a test moves it.
    now: Duration,
    /// What it held before each change, where that is kept.
    past: Option<Vec<Kept>>,
}

/// The last grant of the lease.
#[derive(Debug, Default, Clone)]
struct Grant {
    token: u64,
    holder: String,
    /// Until when; nothing once it was given back.
    until: Option<Duration>,
}

impl MemoryProjections {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps what the store holds before each change from now on, for [`MemoryProjections::earlier`].
    pub fn keep_past(&self) {
        self.lock().past = Some(Vec::new());
    }

    /// Returns what the store held before each change since [`MemoryProjections::keep_past`], oldest first, and holds now: each a store of its
    /// own. A crash leaves one of them.
    pub fn earlier(&self) -> Vec<Self> {
        let mut now = self.lock().clone();
        let past = now.past.take().unwrap_or_default();
        past.into_iter().chain([now]).map(|kept| Self(Arc::new(Mutex::new(kept)))).collect()
    }

    /// Lets time pass on the store's clock.
    pub fn pass(&self, time: Duration) {
        self.lock().now += time;
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// To be called before each change that a crash can undo.
    fn keep(&mut self) {
        if let Some(mut past) = self.past.take() {
            past.push(self.clone());
            self.past = Some(past);
        }
    }

    fn tables(&self, generation: Generation) -> Result<&Tables> {
        self.generations.get(&generation).ok_or_else(|| gone(generation))
    }

    /// Refuses a lease whose time is over, or that is not the last.
    fn check(&self, lease: &Lease) -> Result<()> {
        if self.lease.token == lease.token && self.lease.until.is_some_and(|until| until > self.now) {
            return Ok(());
        }
        let message = "the lease is over, or another was granted; ask for it again";
        Err(Error::new(ErrorKind::Conflict, "write projections", message))
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

    fn get_many(
        &self,
        generation: Generation,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<Option<Values>>> {
        check_keys(table, keys)?;
        let kept = self.lock();
        let rows = kept.tables(generation)?.rows.get(table.name);
        let get = |key| rows.and_then(|rows| rows.get(&owned(key))).cloned();
        Ok(keys.chunks(table.key).map(get).collect())
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
    fn keeps_previews(&self) -> bool {
        false
    }

    fn bind(&mut self, ledger: LedgerId) -> Result<()> {
        let mut kept = self.lock();
        kept.keep();
        if *kept.ledger.get_or_insert(ledger) == ledger {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Invalid, "bind projections", "they belong to another ledger"))
    }

    fn lease(&mut self, holder: &str, time_to_live: Duration, gone: Option<u64>) -> Result<Leasing> {
        let mut kept = self.lock();
        let now = kept.now;
        let grant = &mut kept.lease;
        if let Some(until) = grant.until.filter(|until| *until > now && gone != Some(grant.token)) {
            let (holder, token) = (grant.holder.clone(), grant.token);
            return Ok(Leasing::Held { holder, token, remaining: until.saturating_sub(now) });
        }
        *grant = Grant { token: grant.token + 1, holder: holder.to_owned(), until: Some(now + time_to_live) };
        Ok(Leasing::Granted(Lease { token: grant.token, time_to_live }))
    }

    fn renew(&mut self, lease: &Lease) -> Result<()> {
        let mut kept = self.lock();
        if kept.lease.token != lease.token || kept.lease.until.is_none() {
            let message = "another lease was granted; ask for it again";
            return Err(Error::new(ErrorKind::Conflict, "renew lease", message));
        }
        kept.lease.until = Some(kept.now + lease.time_to_live);
        Ok(())
    }

    fn release(&mut self, lease: &Lease) -> Result<()> {
        let mut kept = self.lock();
        if kept.lease.token == lease.token {
            kept.lease.until = None;
        }
        Ok(())
    }

    fn create(&mut self, lease: &Lease, version: u32) -> Result<Generation> {
        let mut kept = self.lock();
        kept.check(lease)?;
        kept.keep();
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

    fn promote(&mut self, lease: &Lease, generation: Generation, when: Promotion) -> Result<()> {
        let mut kept = self.lock();
        kept.check(lease)?;
        kept.keep();
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

    fn settle(&mut self, lease: &Lease, generation: Generation) -> Result<()> {
        let mut kept = self.lock();
        kept.check(lease)?;
        kept.keep();
        let tables = kept.generations.get_mut(&generation).ok_or_else(|| gone(generation))?;
        tables.state.settled = true;
        Ok(())
    }

    fn commit(
        &mut self,
        lease: &Lease,
        generation: Generation,
        expected: u64,
        work: &mut dyn FnMut(&mut dyn FoldTransaction) -> Result<()>,
    ) -> Result<u64> {
        let mut kept = self.lock();
        kept.check(lease)?;
        kept.keep();
        let until = kept.now + lease.time_to_live;
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
        kept.lease.until = Some(until);
        Ok(revision)
    }
}

impl FoldTransaction for Tables {
    fn insert_new(&mut self, table: &'static Table, rows: &[Value<'_>]) -> Result<Vec<bool>> {
        check_rows(table, rows)?;
        let kept = self.rows.entry(table.name).or_default();
        let mut insert = |row: &[Value<'_>]| {
            check(table, row)?;
            let key = owned(&row[..table.key]);
            if kept.contains_key(&key) {
                return Ok(false);
            }
            kept.insert(key, owned(row));
            Ok(true)
        };
        rows.chunks(table.columns.len()).map(&mut insert).collect()
    }

    fn get(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<Vec<Option<Values>>> {
        check_keys(table, keys)?;
        let kept = self.rows.get(table.name);
        let get = |key| kept.and_then(|rows| rows.get(&owned(key))).cloned();
        Ok(keys.chunks(table.key).map(get).collect())
    }

    fn replace(&mut self, table: &'static Table, rows: &[Value<'_>]) -> Result<()> {
        check_rows(table, rows)?;
        for row in rows.chunks(table.columns.len()) {
            check(table, row)?;
            let kept = self.rows.get_mut(table.name).and_then(|rows| rows.get_mut(&owned(&row[..table.key])));
            let Some(kept) = kept else {
                let message = "no row has this key";
                return Err(
                    Error::new(ErrorKind::NotFound, "replace projection rows", message).at(table.name)
                );
            };
            *kept = owned(row);
        }
        Ok(())
    }

    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<Vec<bool>> {
        check_keys(table, keys)?;
        let mut kept = self.rows.get_mut(table.name);
        let delete = |key| kept.as_mut().is_some_and(|rows| rows.remove(&owned(key)).is_some());
        Ok(keys.chunks(table.key).map(delete).collect())
    }

    fn advance(&mut self, moves: &[CursorMove]) -> Result<()> {
        for CursorMove { feed, from, to } in moves {
            let at = self.cursors.entry(*feed).or_insert(0);
            if at != from {
                let message = format!("the cursor stands at {at}, not at {from}");
                return Err(Error::new(ErrorKind::Conflict, "advance cursor", message).at(feed));
            }
            *at = *to;
        }
        Ok(())
    }

    fn set_token(&mut self, token: &Token) -> Result<()> {
        self.state.token = Some(token.clone());
        Ok(())
    }
}

impl ScanQueries for MemoryProjections {}
