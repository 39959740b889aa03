//! The rows of an open file: generations, commits. One connection each; several processes may hold the file, one writes.

use crate::convert::{Bound, Located};
use crate::generations::{drop_generation, show, states, tables};
use crate::lease;
use crate::names::{NameIds, NameTexts};
use crate::opening::SqliteProjections;
use crate::schema;
use crate::statements;
use crate::transaction::{Reading, SqliteTransaction, cursor};
use burnlog_log::{Error, ErrorKind, LedgerId, Result, WriterId, failpoint};
use burnlog_projections::{
    FeedCursor, FoldStore, FoldTransaction, Generation, Lease, Leasing, Promotion, RowReader, StoreState,
    Table, Value, Values, check_keys,
};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};
use std::time::Duration;

impl SqliteProjections {
    /// Returns the number of the last generation that was made.
    pub(crate) fn last_generation(&self) -> Result<Option<u32>> {
        last_generation(&self.connection).located("read projections", &self.place)
    }

    pub(crate) fn reading(&self) -> Reading<'_> {
        Reading { connection: &self.connection, texts: &self.texts }
    }

    /// Runs `work` in a transaction that has the write lock from its beginning; the program may be made to end at its end.
    fn write<T>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&Connection, &str, &mut NameIds, &NameTexts) -> Result<T>,
    ) -> Result<T> {
        let done = self.transact(operation, |connection, place, names, texts| {
            let done = work(connection, place, names, texts)?;
            failpoint("projections-uncommitted");
            Ok(done)
        })?;
        failpoint("projections-committed");
        Ok(done)
    }

    fn transact<T>(
        &mut self,
        operation: &'static str,
        work: impl FnOnce(&Connection, &str, &mut NameIds, &NameTexts) -> Result<T>,
    ) -> Result<T> {
        self.follow()?;
        let Self { connection, place, names, texts, building, .. } = self;
        if let Some(building) = building {
            building.check(operation, place)?;
        }
        let changes_before = connection.total_changes();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).located(operation, place)?;
        let done = work(&transaction, place, names, texts).and_then(|done| {
            transaction.commit().located(operation, place)?;
            Ok(done)
        });
        if let Err(error) = &done {
            // Numbers of names that were given in it are void.
            names.clear();
            texts.clear();
            if let Some(building) = building {
                building.failed(error, connection.total_changes() != changes_before);
            }
        }
        done
    }
}

/// Returns the number of the last generation that was made.
fn last_generation(connection: &Connection) -> rusqlite::Result<Option<u32>> {
    let sql = "SELECT value FROM projections_meta WHERE name = 'generation'";
    connection.query_row(sql, [], |row| row.get(0)).optional()
}

fn conflict(operation: &'static str, message: String, generation: Generation) -> Error {
    Error::new(ErrorKind::Conflict, operation, message).at(format_args!("generation {}", generation.0))
}

impl RowReader for SqliteProjections {
    fn location(&self) -> String {
        self.place.clone()
    }

    fn is_replaced(&self) -> bool {
        self.has_lost_its_name()
    }

    fn state(&self) -> Result<StoreState> {
        if let Some(building) = &self.building {
            building.check("read projections", &self.place)?;
        }
        states(&self.connection).located("read projections", &self.place)
    }

    fn get(
        &self,
        generation: Generation,
        table: &'static Table,
        key: &[Value<'_>],
    ) -> Result<Option<Values>> {
        self.connection
            .prepare_cached(&statements::get(table, generation))
            .and_then(|mut statement| self.reading().get_row(&mut statement, table, key))
            .located("read projection row", &self.place)
    }

    fn get_many(
        &self,
        generation: Generation,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<Option<Values>>> {
        check_keys(table, keys)?;
        let read = || {
            let _moment = self.connection.unchecked_transaction()?;
            let mut statement = self.connection.prepare_cached(&statements::get(table, generation))?;
            self.reading().get_rows(&mut statement, table, keys)
        };
        read().located("read projection rows", &self.place)
    }

    fn scan(
        &self,
        generation: Generation,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: usize,
    ) -> Result<Vec<Values>> {
        let read = || {
            let after = after.unwrap_or_default();
            let mut statement =
                self.connection.prepare_cached(&statements::scan(table, generation, after.len()))?;
            let limit = Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
            let parameters = std::iter::once(&limit).chain(after).map(Bound);
            statement
                .query_map(rusqlite::params_from_iter(parameters), |row| {
                    self.reading().row_values(row, table)
                })?
                .collect::<rusqlite::Result<_>>()
        };
        read().located("read projection rows", &self.place)
    }

    fn cursors(&self, generation: Generation) -> Result<Vec<FeedCursor>> {
        let read = || {
            self.connection
                .prepare_cached("SELECT feed, next FROM cursors WHERE generation = ?1 ORDER BY feed")?
                .query_map([generation.0], |row| {
                    Ok(FeedCursor { feed: WriterId(row.get(0)?), next: row.get(1)? })
                })?
                .collect::<rusqlite::Result<_>>()
        };
        read().located("read cursors", &self.place)
    }

    fn cursor(&self, generation: Generation, feed: &WriterId) -> Result<u64> {
        cursor(&self.connection, generation, feed).located("read cursor", &self.place)
    }
}

impl FoldStore for SqliteProjections {
    fn keeps_previews(&self) -> bool {
        self.keeps_previews
    }

    fn bind(&mut self, ledger: LedgerId) -> Result<()> {
        let known = |connection: &Connection| {
            connection
                .query_row("SELECT value FROM projections_meta WHERE name = 'ledger'", [], |row| {
                    row.get::<_, [u8; 16]>(0)
                })
                .optional()
        };
        let bound = known(&self.connection).located("bind projections", &self.place)?;
        let bound = match bound {
            Some(bound) => bound,
            None => self.write("bind projections", |connection, place, _, _| {
                connection
                    .execute(
                        "INSERT INTO projections_meta (name, value) VALUES ('ledger', ?1) ON CONFLICT (name) DO NOTHING",
                        [ledger.0],
                    )
                    .and_then(|_| known(connection))
                    .located("bind projections", place)
                    .map(|bound| bound.unwrap_or(ledger.0))
            })?,
        };
        if bound == ledger.0 {
            return Ok(());
        }
        let message = format!(
            "the projections belong to ledger {}, not to {ledger}; name another file",
            LedgerId(bound)
        );
        Err(Error::new(ErrorKind::Invalid, "bind projections", message).at(&self.place))
    }

    fn lease(&mut self, holder: &str, time_to_live: Duration, gone: Option<u64>) -> Result<Leasing> {
        self.transact("take lease", |connection, place, _, _| {
            lease::grant(connection, holder, time_to_live, gone).located("take lease", place)
        })
    }

    fn renew(&mut self, lease: &Lease) -> Result<()> {
        self.transact("renew lease", |connection, place, _, _| lease::renew(connection, place, lease))
    }

    fn release(&mut self, lease: &Lease) -> Result<()> {
        self.transact("give lease back", |connection, place, _, _| {
            lease::release(connection, lease).located("give lease back", place)
        })
    }

    fn create(&mut self, lease: &Lease, version: u32) -> Result<Generation> {
        let keeps_previews = self.keeps_previews;
        self.write("create projections", |connection, place, _, _| {
            lease::check(connection, place, lease)?;
            let create = || {
                let state = states(connection)?;
                if let Some(stale) = &state.building {
                    drop_generation(connection, stale.generation)?;
                }
                let generation = Generation(last_generation(connection)?.unwrap_or(0) + 1);
                connection.execute(
                    "INSERT INTO projections_meta (name, value) VALUES ('generation', ?1)
                     ON CONFLICT (name) DO UPDATE SET value = ?1",
                    [generation.0],
                )?;
                connection.execute(
                    "INSERT INTO generations (generation, version, revision, settled, live) VALUES (?1, ?2, 0, 0, 0)",
                    [generation.0, version],
                )?;
                for table in tables(keeps_previews) {
                    connection.execute_batch(&schema::create_table(table, generation))?;
                }
                if state.live.is_none() {
                    show(connection, generation, keeps_previews)?;
                }
                Ok(generation)
            };
            create().located("create projections", place)
        })
    }

    fn promote(&mut self, lease: &Lease, generation: Generation, when: Promotion) -> Result<()> {
        let keeps_previews = self.keeps_previews;
        self.write("promote projections", |connection, place, _, _| {
            lease::check(connection, place, lease)?;
            let state = states(connection).located("promote projections", place)?;
            if state.building.is_none_or(|building| building.generation != generation) {
                let message = "this generation is not being built".to_owned();
                return Err(conflict("promote projections", message, generation));
            }
            let promote = || {
                if let Some(live) = &state.live {
                    let behind: i64 = connection.query_row(
                        "SELECT count(*) FROM cursors l WHERE l.generation = ?1 AND l.next > coalesce(
                         (SELECT n.next FROM cursors n WHERE n.generation = ?2 AND n.feed = l.feed), 0)",
                        [live.generation.0, generation.0],
                        |row| row.get(0),
                    )?;
                    if behind > 0 && when == Promotion::CaughtUp {
                        return Ok(false);
                    }
                    drop_generation(connection, live.generation)?;
                }
                show(connection, generation, keeps_previews)?;
                Ok(true)
            };
            if promote().located("promote projections", place)? {
                return Ok(());
            }
            let message = "the live generation is ahead; catch up first".to_owned();
            Err(conflict("promote projections", message, generation))
        })
    }

    fn settle(&mut self, lease: &Lease, generation: Generation) -> Result<()> {
        let keeps_previews = self.keeps_previews;
        self.write("settle projections", |connection, place, _, _| {
            lease::check(connection, place, lease)?;
            let settle = || {
                for sql in tables(keeps_previews).flat_map(|table| schema::create_indexes(table, generation))
                {
                    connection.execute_batch(&sql)?;
                }
                connection.execute("UPDATE generations SET settled = 1 WHERE generation = ?1", [generation.0])
            };
            settle().map(drop).located("settle projections", place)
        })?;
        self.show_built()
    }

    fn commit(
        &mut self,
        lease: &Lease,
        generation: Generation,
        expected: u64,
        work: &mut dyn FnMut(&mut dyn FoldTransaction) -> Result<()>,
    ) -> Result<u64> {
        let revision = self.write("commit projections", |connection, place, names, texts| {
            lease::check(connection, place, lease)?;
            let revision: Option<u64> = connection
                .prepare_cached("SELECT revision FROM generations WHERE generation = ?1")
                .and_then(|mut statement| statement.query_row([generation.0], |row| row.get(0)).optional())
                .located("commit projections", place)?;
            if revision != Some(expected) {
                let message = format!("revision {revision:?} instead of {expected}: somebody else folded");
                return Err(conflict("commit projections", message, generation));
            }
            work(&mut SqliteTransaction::new(connection, place, generation, names, texts))?;
            connection
                .execute(
                    "UPDATE generations SET revision = ?2 WHERE generation = ?1",
                    params![generation.0, expected + 1],
                )
                .located("commit projections", place)?;
            lease::renew(connection, place, lease)?;
            Ok(expected + 1)
        })?;
        if self.building.as_ref().is_some_and(|building| building.is_due(&self.options)) {
            self.show_built()?;
        }
        Ok(revision)
    }
}
