//! One transaction of a fold: prepared statements for the tables that it touches, and the interning of names.

use crate::convert::{Bound, Located, value_of};
use crate::names::{NameIds, NameTexts};
use crate::schema::is_interned;
use crate::statements;
use burnlog_log::{Error, ErrorKind, Result, Token, WriterId};
use burnlog_projections::{
    CursorMove, FoldTransaction, Generation, Table, Value, Values, check_keys, check_rows,
};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

/// The statements of one table, prepared when first needed.
struct Prepared<'c> {
    table: &'static Table,
    /// What the parameters of `insert` were bound to last; those of rows in key order often stay.
    bound: Vec<Last>,
    insert: Option<CachedStatement<'c>>,
    replace: Option<CachedStatement<'c>>,
    delete: Option<CachedStatement<'c>>,
    get: Option<CachedStatement<'c>>,
}

/// What a parameter was bound to last.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Last {
    Unknown,
    Null,
    Integer(i64),
    Text(Box<str>),
}

/// The longest text that is worth remembering.
const REMEMBERED_TEXT_BYTES: usize = 24;

/// A transaction that has begun.
pub(crate) struct SqliteTransaction<'c> {
    connection: &'c Connection,
    place: &'c str,
    generation: Generation,
    names: &'c mut NameIds,
    texts: &'c NameTexts,
    prepared: Vec<Prepared<'c>>,
}

impl<'c> SqliteTransaction<'c> {
    pub(crate) fn new(
        connection: &'c Connection,
        place: &'c str,
        generation: Generation,
        names: &'c mut NameIds,
        texts: &'c NameTexts,
    ) -> Self {
        Self { connection, place, generation, names, texts, prepared: Vec::new() }
    }

    fn position(&mut self, table: &'static Table) -> usize {
        let known = self.prepared.iter().rposition(|prepared| prepared.table.name == table.name);
        known.unwrap_or_else(|| {
            self.prepared.push(Prepared {
                table,
                bound: Vec::new(),
                insert: None,
                replace: None,
                delete: None,
                get: None,
            });
            self.prepared.len() - 1
        })
    }

    /// Binds a row to the insert statement of a table, leaving out what is bound already.
    fn bind_new(&mut self, at: usize, row: &[Value<'_>]) -> rusqlite::Result<usize> {
        let Prepared { table, bound, insert, .. } = &mut self.prepared[at];
        let statement = insert.as_mut().expect("it was just prepared");
        bound.resize(row.len(), Last::Unknown);
        for (position, (value, last)) in row.iter().zip(bound).enumerate() {
            let now = match value {
                Value::Null => Last::Null,
                Value::Integer(number) => Last::Integer(*number),
                Value::Text(name) if is_interned(table, position) => {
                    Last::Integer(self.names.id(self.connection, name)?)
                }
                Value::Text(text) if text.len() <= REMEMBERED_TEXT_BYTES => {
                    if matches!(last, Last::Text(same) if **same == **text) {
                        continue;
                    }
                    Last::Text((&**text).into())
                }
                Value::Name(name) if is_interned(table, position) => {
                    Last::Integer(self.names.id(self.connection, name)?)
                }
                Value::Text(_) | Value::Name(_) | Value::Blob(_) => Last::Unknown,
            };
            match now {
                Last::Unknown | Last::Text(_) => statement.raw_bind_parameter(position + 1, Bound(value))?,
                _ if now == *last => continue,
                Last::Integer(number) => statement.raw_bind_parameter(position + 1, number)?,
                Last::Null => statement.raw_bind_parameter(position + 1, rusqlite::types::Null)?,
            }
            *last = now;
        }
        statement.raw_execute()
    }

    fn bind(
        statement: &mut CachedStatement<'_>,
        connection: &Connection,
        names: &mut NameIds,
        table: &Table,
        row: &[Value<'_>],
    ) -> rusqlite::Result<()> {
        for (position, value) in row.iter().enumerate() {
            match value {
                Value::Text(name) if is_interned(table, position) => {
                    statement.raw_bind_parameter(position + 1, names.id(connection, name)?)?;
                }
                Value::Name(name) if is_interned(table, position) => {
                    statement.raw_bind_parameter(position + 1, names.id(connection, name)?)?;
                }
                value => statement.raw_bind_parameter(position + 1, Bound(value))?,
            }
        }
        Ok(())
    }
}

/// Prepares the statement in a slot unless it is, and returns it.
macro_rules! prepared {
    ($self:ident, $table:ident, $which:ident, $sql:path) => {{
        let at = $self.position($table);
        let slot = &mut $self.prepared[at].$which;
        if slot.is_none() {
            let sql = $sql($table, $self.generation);
            *slot = Some($self.connection.prepare_cached(&sql).located("prepare projections", $self.place)?);
        }
        slot.as_mut().expect("it was just prepared")
    }};
}

impl FoldTransaction for SqliteTransaction<'_> {
    fn insert_new(&mut self, table: &'static Table, rows: &[Value<'_>]) -> Result<Vec<bool>> {
        check_rows(table, rows)?;
        prepared!(self, table, insert, statements::insert);
        let at = self.position(table);
        let mut inserted = Vec::with_capacity(rows.len() / table.columns.len());
        for row in rows.chunks_exact(table.columns.len()) {
            let changed = self.bind_new(at, row).located("insert projection row", self.place)?;
            inserted.push(changed > 0);
        }
        Ok(inserted)
    }

    fn get(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<Vec<Option<Values>>> {
        check_keys(table, keys)?;
        let statement = prepared!(self, table, get, statements::get);
        let reading = Reading { connection: self.connection, texts: self.texts };
        reading.get_rows(statement, table, keys).located("read projection rows", self.place)
    }

    fn replace(&mut self, table: &'static Table, rows: &[Value<'_>]) -> Result<()> {
        check_rows(table, rows)?;
        let statement = prepared!(self, table, replace, statements::replace);
        for row in rows.chunks_exact(table.columns.len()) {
            let changed = Self::bind(statement, self.connection, self.names, table, row)
                .and_then(|()| statement.raw_execute())
                .located("replace projection row", self.place)?;
            if changed == 0 {
                return Err(Error::new(ErrorKind::NotFound, "replace projection row", "no row has this key")
                    .at(format_args!("{}, table {}", self.place, table.name)));
            }
        }
        Ok(())
    }

    fn delete(&mut self, table: &'static Table, keys: &[Value<'_>]) -> Result<Vec<bool>> {
        check_keys(table, keys)?;
        let statement = prepared!(self, table, delete, statements::delete);
        let delete = |key: &[Value<'_>]| statement.execute(rusqlite::params_from_iter(key.iter().map(Bound)));
        let deleted = keys.chunks_exact(table.key).map(delete).map(|changed| changed.map(|rows| rows > 0));
        deleted.collect::<rusqlite::Result<_>>().located("delete projection row", self.place)
    }

    fn advance(&mut self, moves: &[CursorMove]) -> Result<()> {
        for CursorMove { feed, from, to } in moves {
            let at = cursor(self.connection, self.generation, feed).located("advance cursor", self.place)?;
            if at != *from {
                let message = format!("the cursor stands at {at}, not at {from}: somebody else folded");
                return Err(Error::new(ErrorKind::Conflict, "advance cursor", message).at(feed));
            }
            self.connection
                .prepare_cached(
                    "INSERT INTO cursors (generation, feed, next) VALUES (?1, ?2, ?3)
                     ON CONFLICT (generation, feed) DO UPDATE SET next = ?3",
                )
                .and_then(|mut statement| statement.execute(params![self.generation.0, feed.0, to]))
                .located("advance cursor", self.place)?;
        }
        Ok(())
    }

    fn set_token(&mut self, token: &Token) -> Result<()> {
        self.connection
            .execute(
                "UPDATE generations SET token = ?2 WHERE generation = ?1",
                params![self.generation.0, token.0],
            )
            .map(drop)
            .located("keep token", self.place)
    }
}

/// Where rows are read, and the names that they point to.
#[derive(Clone, Copy)]
pub(crate) struct Reading<'c> {
    pub(crate) connection: &'c Connection,
    pub(crate) texts: &'c NameTexts,
}

impl Reading<'_> {
    /// Reads the row with a key through a prepared statement.
    pub(crate) fn get_row(
        self,
        statement: &mut CachedStatement<'_>,
        table: &Table,
        key: &[Value<'_>],
    ) -> rusqlite::Result<Option<Values>> {
        let row = |row: &rusqlite::Row<'_>| self.row_values(row, table);
        statement.query_row(rusqlite::params_from_iter(key.iter().map(Bound)), row).optional()
    }

    /// Reads the rows with the keys of a slice through a prepared statement.
    pub(crate) fn get_rows(
        self,
        statement: &mut CachedStatement<'_>,
        table: &Table,
        keys: &[Value<'_>],
    ) -> rusqlite::Result<Vec<Option<Values>>> {
        keys.chunks_exact(table.key).map(|key| self.get_row(statement, table, key)).collect()
    }

    /// Takes the values of a row, names by their texts.
    pub(crate) fn row_values(self, row: &rusqlite::Row<'_>, table: &Table) -> rusqlite::Result<Values> {
        let value = |position: usize| {
            let value = row.get_ref(position)?;
            match value {
                ValueRef::Integer(id) if is_interned(table, position) => {
                    let name = self.texts.name(self.connection, id)?;
                    Ok(name.map_or(Value::Null, Value::Name))
                }
                value => Ok(value_of(value)),
            }
        };
        (0..table.columns.len()).map(value).collect()
    }
}

/// Returns where the cursor of a feed stands.
pub(crate) fn cursor(
    connection: &Connection,
    generation: Generation,
    feed: &WriterId,
) -> rusqlite::Result<u64> {
    connection
        .prepare_cached("SELECT next FROM cursors WHERE generation = ?1 AND feed = ?2")?
        .query_row(params![generation.0, feed.0], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
}
