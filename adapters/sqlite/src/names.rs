//! Names: texts of which there are few, kept once and pointed to by number. The numbers are local to the file.

use burnlog_projections::Name;
use rusqlite::{Connection, OptionalExtension};
use std::cell::RefCell;
use std::collections::HashMap;

/// The most names kept in memory.
const CACHED_MAX: usize = 1 << 15;

/// How many names are found without hashing; a power of two.
const RECENT: usize = 256;

/// The numbers of names, as far as they were asked for. Forget them when a transaction is rolled back.
#[derive(Debug, Default)]
pub(crate) struct NameIds {
    known: HashMap<Box<str>, i64>,
    /// Names that were asked for lately, each at the place that its length and last bytes give it.
    recent: Vec<(Box<str>, i64)>,
}

/// Returns where a name would stand among the recent ones.
fn recent_place(name: &str) -> usize {
    let last = name.as_bytes().last_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let mixed = (last ^ name.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 56) as usize % RECENT
}

impl NameIds {
    /// Returns the number of `name`, which gets one if it has none.
    pub(crate) fn id(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<i64> {
        let place = recent_place(name);
        // Numbers begin at 1: 0 marks a place where no name is yet, and is not the number of the empty one.
        let is_it = |(known, id): &&(Box<str>, i64)| *id != 0 && &**known == name;
        if let Some((_, id)) = self.recent.get(place).filter(is_it) {
            return Ok(*id);
        }
        let id = self.any_id(connection, name)?;
        self.recent.resize_with(RECENT, Default::default);
        self.recent[place] = (name.into(), id);
        Ok(id)
    }

    fn any_id(&mut self, connection: &Connection, name: &str) -> rusqlite::Result<i64> {
        if let Some(id) = self.known.get(name) {
            return Ok(*id);
        }
        let known = Self::known(connection, name)?;
        let id = if let Some(id) = known {
            id
        } else {
            connection.prepare_cached("INSERT INTO names (name) VALUES (?1)")?.execute([name])?;
            connection.last_insert_rowid()
        };
        if self.known.len() >= CACHED_MAX {
            self.known.clear();
        }
        self.known.insert(name.into(), id);
        Ok(id)
    }

    /// Returns the number of `name`, if it has one.
    pub(crate) fn known(connection: &Connection, name: &str) -> rusqlite::Result<Option<i64>> {
        let mut statement = connection.prepare_cached("SELECT id FROM names WHERE name = ?1")?;
        statement.query_row([name], |row| row.get(0)).optional()
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.known.clear();
        self.recent.clear();
    }
}

/// The texts of names by number, as far as they were asked for. Forget them when a transaction is rolled back.
#[derive(Debug, Default)]
pub(crate) struct NameTexts(RefCell<HashMap<i64, Name>>);

impl NameTexts {
    /// Returns the name of a number; `None` when there is none, which only damage brings about.
    pub(crate) fn name(&self, connection: &Connection, id: i64) -> rusqlite::Result<Option<Name>> {
        if let Some(name) = self.0.borrow().get(&id) {
            return Ok(Some(name.clone()));
        }
        let mut statement = connection.prepare_cached("SELECT name FROM names WHERE id = ?1")?;
        let text: Option<String> = statement.query_row([id], |row| row.get(0)).optional()?;
        let Some(name) = text.map(|text| Name::from(text.as_str())) else { return Ok(None) };
        let mut known = self.0.borrow_mut();
        if known.len() >= CACHED_MAX {
            known.clear();
        }
        known.insert(id, name.clone());
        Ok(Some(name))
    }

    /// Forgets everything.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}
