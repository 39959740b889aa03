//! Names: texts of which there are few, kept once and pointed to by number. The numbers are local to the file.

use rusqlite::{Connection, OptionalExtension};
use std::collections::HashMap;

/// The most names kept in memory.
const CACHED_MAX: usize = 1 << 15;

/// The numbers of names, as far as they were asked for. Forget them when a transaction is rolled back.
#[derive(Debug, Default)]
pub(crate) struct NameIds(HashMap<Box<str>, i64>);

impl NameIds {
    /// Returns the number of `name`, which gets one if it has none.
    pub(crate) fn id(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.0.get(name) {
            return Ok(*id);
        }
        let known = Self::known(connection, name)?;
        let id = if let Some(id) = known {
            id
        } else {
            connection.prepare_cached("INSERT INTO names (name) VALUES (?1)")?.execute([name])?;
            connection.last_insert_rowid()
        };
        if self.0.len() >= CACHED_MAX {
            self.0.clear();
        }
        self.0.insert(name.into(), id);
        Ok(id)
    }

    /// Returns the number of `name`, if it has one.
    pub(crate) fn known(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
        let mut statement = connection.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
        statement.query_row([name], |row| row.get(0)).optional()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}
