//! The store: reading rows, and the calls of whoever folds, each in a transaction that begins with the lock of the lease.

use super::lease::numbers;
use super::transaction::PostgresTransaction;
use super::{PostgresProjections, generations, statements, tables, values};
use crate::pool::Open;
use crate::session::Parameters;
use burnlog_log::{Error, ErrorKind, LedgerId, Result, WriterId};
use burnlog_projections::{
    FeedCursor, FoldStore, FoldTransaction, Generation, Lease, Leasing, Promotion, RowReader, StoreState,
    TABLES, Table, Value, Values, check_keys,
};
use std::time::Duration;
use tokio_postgres::types::Type;

fn conflict(operation: &'static str, message: impl Into<String>, generation: Generation) -> Error {
    Error::new(ErrorKind::Conflict, operation, message).at(format_args!("generation {}", generation.0))
}

impl RowReader for PostgresProjections {
    fn location(&self) -> String {
        self.pool.url().to_owned()
    }

    fn state(&self) -> Result<StoreState> {
        self.pool.read("read projections", (&self.select_states(), &[]), async |session, rows| {
            generations::states(session, &rows)
        })
    }

    fn get(
        &self,
        generation: Generation,
        table: &'static Table,
        key: &[Value<'_>],
    ) -> Result<Option<Values>> {
        Ok(self.get_many(generation, table, key)?.pop().flatten())
    }

    fn get_many(
        &self,
        generation: Generation,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<Option<Values>>> {
        check_keys(table, keys)?;
        let mut found = vec![None; keys.len() / table.key];
        if keys.is_empty() {
            return Ok(found);
        }
        let sql = statements::get(&self.schema, table, generation);
        let arrays = values::arrays(table, table.key_columns(), keys)?;
        let parameters: Vec<_> = arrays.iter().map(values::Array::parameter).collect();
        let length = found.len();
        let rows = self.look_up((&sql, &parameters), |session, row| {
            let at = session.position(row, table.columns.len(), length)?;
            Ok((at, values::row_values(session, row, table)?))
        })?;
        for (at, row) in rows {
            found[at] = Some(row);
        }
        Ok(found)
    }

    fn scan(
        &self,
        generation: Generation,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: usize,
    ) -> Result<Vec<Values>> {
        let after = after.unwrap_or_default();
        let sql = statements::scan(&self.schema, table, generation, after.len());
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let keys: Vec<_> = after.iter().map(values::parameter).collect();
        let mut parameters: Vec<(&(dyn tokio_postgres::types::ToSql + Sync), Type)> =
            vec![(&limit, Type::INT8)];
        parameters.extend(keys.iter().map(|(value, kind)| (&**value, kind.clone())));
        self.look_up((&sql, &parameters), |session, row| values::row_values(session, row, table))
    }

    fn cursors(&self, generation: Generation) -> Result<Vec<FeedCursor>> {
        let table = self.own("projection_cursors");
        let sql = format!("select feed, next from {table} where generation = $1 order by feed");
        self.look_up((&sql, &[(&i64::from(generation.0), Type::INT8)]), |session, row| {
            let feed: &[u8] = session.get(row, 0)?;
            let feed = feed.try_into().map_err(|_| session.corrupt("a writer's key is not 32 bytes"))?;
            Ok(FeedCursor { feed: WriterId(feed), next: session.get::<i64>(row, 1)? as u64 })
        })
    }

    fn cursor(&self, generation: Generation, feed: &WriterId) -> Result<u64> {
        let table = self.own("projection_cursors");
        let sql = format!("select next from {table} where generation = $1 and feed = $2");
        let parameters: &Parameters<'_> =
            &[(&i64::from(generation.0), Type::INT8), (&feed.0.as_slice(), Type::BYTEA)];
        let next = self.look_up((&sql, parameters), |session, row| session.get::<i64>(row, 0))?;
        Ok(next.first().map_or(0, |next| *next as u64))
    }
}

impl PostgresProjections {
    /// Begins a transaction that makes or drops tables, under the lease.
    fn build(&self, operation: &'static str, lease: &Lease) -> Result<Open<'_>> {
        let parameters: &Parameters<'_> = &[(&(lease.token as i64), Type::INT8)];
        let (open, rows) = self.pool.begin_build(operation, (&self.lock_lease(), parameters))?;
        self.check_lease(operation, &rows)?;
        Ok(open)
    }

    /// Tells whether a cursor of the live generation is ahead of the same feed's in the next one.
    fn is_behind(&self, open: &mut Open<'_>, live: Generation, next: Generation) -> Result<bool> {
        let cursors = self.own("projection_cursors");
        let sql = format!(
            "select 1 from {cursors} l where l.generation = $1 and l.next > coalesce( \
             (select n.next from {cursors} n where n.generation = $2 and n.feed = l.feed), 0) limit 1"
        );
        let (live, next) = (i64::from(live.0), i64::from(next.0));
        let parameters: &Parameters<'_> = &[(&live, Type::INT8), (&next, Type::INT8)];
        open.run(async |session| Ok(!session.query(&sql, parameters).await?.is_empty()))
    }
}

impl FoldStore for PostgresProjections {
    fn keeps_previews(&self) -> bool {
        false
    }

    fn bind(&mut self, ledger: LedgerId) -> Result<()> {
        let table = self.own("projections");
        let look = format!("select ledger from {table}");
        let rows = self.look_up((&look, &[]), |session, row| session.get::<Option<Vec<u8>>>(row, 0))?;
        let mut bound = rows.into_iter().next().flatten();
        if bound.is_none() {
            let bind = format!("update {table} set ledger = coalesce(ledger, $1) returning ledger");
            let parameters: &Parameters<'_> = &[(&ledger.0.as_slice(), Type::BYTEA)];
            let (mut open, rows) = self.pool.begin_fold("bind projections", (&bind, parameters))?;
            bound = open.run(async |session| {
                rows.first().map_or(Ok(None), |row| session.get::<Option<Vec<u8>>>(row, 0))
            })?;
            open.commit()?;
        }
        if bound.is_some_and(|bound| bound == ledger.0) {
            return Ok(());
        }
        let message =
            format!("the projections belong to another ledger than {ledger}; drop the schema's projections");
        Err(Error::new(ErrorKind::Invalid, "bind projections", message).at(self.pool.url()))
    }

    fn lease(&mut self, holder: &str, time_to_live: Duration, gone: Option<u64>) -> Result<Leasing> {
        self.grant(holder, time_to_live, gone)
    }

    fn renew(&mut self, lease: &Lease) -> Result<()> {
        self.renew_lease(lease)
    }

    fn release(&mut self, lease: &Lease) -> Result<()> {
        self.give_back(lease)
    }

    fn create(&mut self, lease: &Lease, version: u32) -> Result<Generation> {
        let mut open = self.build("create projections", lease)?;
        let generation = open.run(async |session| self.make_generation(session, version).await)?;
        open.commit()?;
        Ok(generation)
    }

    fn promote(&mut self, lease: &Lease, generation: Generation, when: Promotion) -> Result<()> {
        let operation = "promote projections";
        let mut open = self.build(operation, lease)?;
        let state = open.run(async |session| self.states(session).await)?;
        if state.building.is_none_or(|building| building.generation != generation) {
            return Err(conflict(operation, "this generation is not being built", generation));
        }
        let live = state.live.map(|live| live.generation);
        if let Some(live) = live.filter(|_| when == Promotion::CaughtUp)
            && self.is_behind(&mut open, live, generation)?
        {
            return Err(conflict(operation, "the live generation is ahead; catch up first", generation));
        }
        open.run(async |session| {
            // The views first: the tables that they showed can go then.
            self.show(session, generation).await?;
            if let Some(live) = live {
                self.drop_generation(session, live).await?;
            }
            Ok(())
        })?;
        open.commit()
    }

    fn settle(&mut self, lease: &Lease, generation: Generation) -> Result<()> {
        let mut open = self.build("settle projections", lease)?;
        let settled =
            format!("update {} set settled = true where generation = $1", self.own("projection_generations"));
        let indexes = TABLES.iter().flat_map(|table| tables::create_indexes(&self.schema, table, generation));
        let analyze = TABLES.iter().map(|table| format!("analyze {}", self.table(table, generation)));
        let sql: Vec<String> = indexes.chain(analyze).collect();
        open.run(async |session| {
            session.run(&sql.join(";\n")).await?;
            session.execute(&settled, &[(&i64::from(generation.0), Type::INT8)]).await
        })?;
        open.commit()
    }

    fn commit(
        &mut self,
        lease: &Lease,
        generation: Generation,
        expected: u64,
        work: &mut dyn FnMut(&mut dyn FoldTransaction) -> Result<()>,
    ) -> Result<u64> {
        let operation = "commit projections";
        let (token, time_to_live) = numbers(lease);
        let number = i64::from(generation.0);
        let (mut open, rows) =
            self.pool.begin_fold(operation, (&self.lock_lease(), &[(&token, Type::INT8)]))?;
        self.check_lease(operation, &rows)?;
        // After the lock, not with it: a statement that waited sees other tables as they were before.
        let look =
            format!("select revision from {} where generation = $1", self.own("projection_generations"));
        let revision = open.run(async |session| {
            let rows = session.query(&look, &[(&number, Type::INT8)]).await?;
            rows.first().map(|row| session.get::<i64>(row, 0)).transpose()
        })?;
        if revision != Some(expected as i64) {
            let message = format!("revision {revision:?} instead of {expected}: somebody else folded");
            return Err(conflict(operation, message, generation));
        }
        work(&mut PostgresTransaction::new(self, &mut open, generation))?;
        burnlog_log::failpoint("projections-uncommitted");
        let count =
            format!("update {} set revision = $2 where generation = $1", self.own("projection_generations"));
        let next = expected as i64 + 1;
        open.commit_with(
            (&count, &[(&number, Type::INT8), (&next, Type::INT8)]),
            (&self.begin_anew(), &[(&token, Type::INT8), (&time_to_live, Type::INT8)]),
        )?;
        burnlog_log::failpoint("projections-committed");
        Ok(expected + 1)
    }
}
