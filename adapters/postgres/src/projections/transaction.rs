//! One transaction of a fold: a slice of rows is one statement and one conversation.

use super::{PostgresProjections, statements, values};
use crate::pool::Open;
use crate::session::Parameters;
use burnlog_log::{Error, ErrorKind, Result, Token, WriterId};
use burnlog_projections::{
    CursorMove, FoldTransaction, Generation, Table, Value, Values, check_keys, check_rows,
};
use std::collections::HashMap;
use tokio_postgres::types::Type;

/// A transaction that has begun, under the lease.
pub(super) struct PostgresTransaction<'t, 'p> {
    store: &'p PostgresProjections,
    open: &'t mut Open<'p>,
    generation: Generation,
}

impl<'t, 'p> PostgresTransaction<'t, 'p> {
    pub(super) fn new(
        store: &'p PostgresProjections,
        open: &'t mut Open<'p>,
        generation: Generation,
    ) -> Self {
        Self { store, open, generation }
    }
}

impl FoldTransaction for PostgresTransaction<'_, '_> {
    fn insert_new(&mut self, table: &'static Table, rows: &[Value<'_>]) -> Result<Vec<bool>> {
        check_rows(table, rows)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let sql = statements::insert(&self.store.schema, table, self.generation);
        let arrays = values::arrays(table, table.columns, rows)?;
        let parameters: Vec<_> = arrays.iter().map(values::Array::parameter).collect();
        let keys = self.open.run(async |session| {
            let rows = session.query(&sql, &parameters).await?;
            rows.iter().map(|row| values::key_values(session, row, table)).collect::<Result<Vec<_>>>()
        })?;
        // The keys that went in come in the order of the slice, with those left out that did not.
        let mut keys = keys.into_iter().peekable();
        let is_next = |row: &[Value<'_>]| keys.next_if(|key| values::same(key, &row[..table.key])).is_some();
        let inserted: Vec<bool> = rows.chunks_exact(table.columns.len()).map(is_next).collect();
        if keys.next().is_some() {
            let message = "the server returned keys in another order than it was given them";
            return Err(Error::new(ErrorKind::Corrupt, "insert projection rows", message).at(table.name));
        }
        Ok(inserted)
    }

    fn get(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<Vec<Option<Values>>> {
        check_keys(table, keys)?;
        let mut found = vec![None; keys.len() / table.key];
        if keys.is_empty() {
            return Ok(found);
        }
        let sql = statements::get(&self.store.schema, table, self.generation);
        let arrays = values::arrays(table, table.key_columns(), keys)?;
        let parameters: Vec<_> = arrays.iter().map(values::Array::parameter).collect();
        self.open.run(async |session| {
            for row in session.query(&sql, &parameters).await? {
                let at = session.position(&row, table.columns.len(), found.len())?;
                found[at] = Some(values::row_values(session, &row, table)?);
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn replace(&mut self, table: &'static Table, rows: &[Value<'_>]) -> Result<()> {
        check_rows(table, rows)?;
        if rows.is_empty() {
            return Ok(());
        }
        let sql = statements::replace(&self.store.schema, table, self.generation);
        let arrays = values::arrays(table, table.columns, rows)?;
        let parameters: Vec<_> = arrays.iter().map(values::Array::parameter).collect();
        let replaced = self.open.run(async |session| session.execute(&sql, &parameters).await)?;
        if replaced == (rows.len() / table.columns.len()) as u64 {
            return Ok(());
        }
        let message = "some of these keys have no row";
        Err(Error::new(ErrorKind::NotFound, "replace projection rows", message).at(table.name))
    }

    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<Vec<bool>> {
        check_keys(table, keys)?;
        let mut deleted = vec![false; keys.len() / table.key];
        if keys.is_empty() {
            return Ok(deleted);
        }
        let sql = statements::delete(&self.store.schema, table, self.generation);
        let arrays = values::arrays(table, table.key_columns(), keys)?;
        let parameters: Vec<_> = arrays.iter().map(values::Array::parameter).collect();
        self.open.run(async |session| {
            for row in session.query(&sql, &parameters).await? {
                let at = session.position(&row, 0, deleted.len())?;
                deleted[at] = true;
            }
            Ok(())
        })?;
        Ok(deleted)
    }

    fn advance(&mut self, moves: &[CursorMove]) -> Result<()> {
        if moves.is_empty() {
            return Ok(());
        }
        let cursors = self.store.own("projection_cursors");
        let look = format!("select feed, next from {cursors} where generation = $1 and feed = any($2)");
        let set = format!(
            "insert into {cursors} (generation, feed, next) \
             select $1, u.feed, u.next from unnest($2::bytea[], $3::int8[]) as u(feed, next) \
             on conflict (generation, feed) do update set next = excluded.next"
        );
        let feeds: Vec<&[u8]> = moves.iter().map(|step| step.feed.0.as_slice()).collect();
        let next: Vec<i64> = moves.iter().map(|step| step.to as i64).collect();
        let generation = i64::from(self.generation.0);
        let parameters: &Parameters<'_> =
            &[(&generation, Type::INT8), (&feeds, Type::BYTEA_ARRAY), (&next, Type::INT8_ARRAY)];
        // Whoever else moves cursors waits for the lease's row, which this transaction has locked.
        self.open.run(async |session| {
            let mut stand: HashMap<Vec<u8>, i64> = HashMap::new();
            for row in session.query(&look, &parameters[..2]).await? {
                stand.insert(session.get(&row, 0)?, session.get(&row, 1)?);
            }
            for CursorMove { feed, from, .. } in moves {
                let at = stand.get(feed.0.as_slice()).copied().unwrap_or(0) as u64;
                if at != *from {
                    return Err(astray(feed, at, *from));
                }
            }
            session.execute(&set, parameters).await.map(drop)
        })
    }

    fn set_token(&mut self, token: &Token) -> Result<()> {
        let sql = format!(
            "update {} set token = $2 where generation = $1",
            self.store.own("projection_generations")
        );
        let generation = i64::from(self.generation.0);
        let parameters: &Parameters<'_> = &[(&generation, Type::INT8), (&token.0.as_slice(), Type::BYTEA)];
        self.open.run(async |session| session.execute(&sql, parameters).await.map(drop))
    }
}

fn astray(feed: &WriterId, at: u64, from: u64) -> Error {
    let message = format!("the cursor stands at {at}, not at {from}: somebody else folded");
    Error::new(ErrorKind::Conflict, "advance cursor", message).at(feed)
}
