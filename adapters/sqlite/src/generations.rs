//! Generations as tables: which there are, dropping one, and pointing the views at one.

use crate::schema;
use burnlog_log::Token;
use burnlog_projections::{Generation, GenerationState, Preview, Row, StoreState, TABLES, Table};
use rusqlite::Connection;

fn generation_state(row: &rusqlite::Row<'_>) -> rusqlite::Result<(GenerationState, bool)> {
    let state = GenerationState {
        generation: Generation(row.get(0)?),
        version: row.get(1)?,
        revision: row.get(2)?,
        token: row.get::<_, Option<Vec<u8>>>(3)?.map(Token),
        settled: row.get(4)?,
    };
    Ok((state, row.get(5)?))
}

/// Reads which generations there are.
pub(crate) fn states(connection: &Connection) -> rusqlite::Result<StoreState> {
    let mut statement = connection.prepare_cached(
        "SELECT generation, version, revision, token, settled, live FROM generations ORDER BY generation",
    )?;
    let mut state = StoreState::default();
    for row in statement.query_map([], generation_state)? {
        let (generation, live) = row?;
        *(if live { &mut state.live } else { &mut state.building }) = Some(generation);
    }
    Ok(state)
}

/// Drops the tables and records of a generation.
pub(crate) fn drop_generation(connection: &Connection, generation: Generation) -> rusqlite::Result<()> {
    let pattern = format!("*_g{}", generation.0);
    let names: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB ?1")?
        .query_map([pattern], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for name in names {
        connection.execute_batch(&format!("DROP TABLE \"{name}\""))?;
    }
    connection.execute("DELETE FROM cursors WHERE generation = ?1", [generation.0])?;
    connection.execute("DELETE FROM generations WHERE generation = ?1", [generation.0])?;
    Ok(())
}

/// The tables of a store.
pub(crate) fn tables(keeps_previews: bool) -> impl Iterator<Item = &'static Table> {
    TABLES.iter().copied().chain(keeps_previews.then_some(Preview::TABLE))
}

/// Makes the views show this generation.
pub(crate) fn show(
    connection: &Connection,
    generation: Generation,
    keeps_previews: bool,
) -> rusqlite::Result<()> {
    let views: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'view' AND name NOT GLOB 'ledger_*'")?
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for name in views {
        connection.execute_batch(&format!("DROP VIEW \"{name}\""))?;
    }
    for table in tables(keeps_previews) {
        connection.execute_batch(&schema::create_view(table, generation))?;
    }
    connection.execute_batch(&schema::views(keeps_previews))?;
    connection.execute("UPDATE generations SET live = 1 WHERE generation = ?1", [generation.0])?;
    Ok(())
}
