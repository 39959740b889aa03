//! Tables, views and the store's own records as SQL, made from the declared tables alone.

use burnlog_projections::{Column, ColumnKind, Generation, Table};
use std::fmt::Write;

/// The version of the store's own records; not that of the folds.
pub(crate) const STORE_VERSION: i64 = 1;

/// The store's own records.
pub(crate) const STORE: &str = "
CREATE TABLE projections_meta (name TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID;
CREATE TABLE generations (
    generation INTEGER PRIMARY KEY, version INTEGER NOT NULL, revision INTEGER NOT NULL,
    token BLOB, settled INTEGER NOT NULL, live INTEGER NOT NULL
);
CREATE TABLE cursors (
    generation INTEGER NOT NULL, feed BLOB NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (generation, feed)
) WITHOUT ROWID;
CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
";

/// Views over the views of the tables, under the names that people look for.
const VIEWS: &str = "
CREATE VIEW turns AS
    SELECT c.*, (SELECT s.project FROM sessions s WHERE s.source = c.source AND s.session = c.session) AS project
    FROM calls c;
CREATE VIEW tool_results AS
    SELECT source, tool_use, tool, call, session AS use_session, result_session AS session, result_at, is_error,
        result_bytes
    FROM tool_uses WHERE result_copied IS NOT NULL;
CREATE VIEW content AS
    SELECT source, stream, seq, address_begins_with, ordinal, block ->> 0 AS kind, block ->> 1 AS start,
        block ->> 2 AS bytes, block ->> 3 AS tool_use, {preview}
    FROM (SELECT c.source, c.stream, r.value ->> 0 AS seq, r.value ->> 1 AS address_begins_with,
            -- The rank of a version may stand between the address and the blocks.
            b.key - 2 - (json_type(r.value, '$[2]') = 'text') AS ordinal, b.value AS block
        FROM content_chunks c, json_each(c.blocks) r, json_each(r.value) b WHERE b.type = 'array') b;
";

/// The views over the views of the tables.
pub(crate) fn views(keeps_previews: bool) -> String {
    let preview = if keeps_previews {
        "(SELECT p.text FROM previews p WHERE p.address_begins_with = b.address_begins_with AND p.seq = b.seq
            AND p.ordinal = b.ordinal) AS preview"
    } else {
        "NULL AS preview"
    };
    VIEWS.replace("{preview}", preview)
}

/// Whether a column holds the number of a name.
pub(crate) fn is_interned(table: &Table, position: usize) -> bool {
    position >= table.key && table.columns[position].kind == ColumnKind::Name
}

/// The name of a table of one generation.
pub(crate) fn table_name(table: &Table, generation: Generation) -> String {
    format!("{}_g{}", table.name, generation.0)
}

fn column_type(column: &Column, interned: bool) -> &'static str {
    match column.kind {
        _ if interned => "INTEGER",
        ColumnKind::Integer | ColumnKind::Instant | ColumnKind::Flag => "INTEGER",
        ColumnKind::Text | ColumnKind::Name => "TEXT",
        ColumnKind::Blob | ColumnKind::Address => "BLOB",
    }
}

/// The statement that makes a table.
pub(crate) fn create_table(table: &Table, generation: Generation) -> String {
    let mut sql = format!("CREATE TABLE {} (\n", table_name(table, generation));
    for (position, column) in table.columns.iter().enumerate() {
        let null = if column.nullable { "" } else { " NOT NULL" };
        let kind = column_type(column, is_interned(table, position));
        let _ = writeln!(sql, "    {} {kind}{null},", column.name);
    }
    // A row that is little more than its key is kept in the index of the key alone; further indexes would hold the key again.
    // So is one that is short.
    let is_number = |(position, column): (usize, &Column)| {
        column_type(column, is_interned(table, position)) == "INTEGER" || position < table.key
    };
    let is_small = table.columns.iter().enumerate().all(is_number);
    let is_in_index = (is_small || table.short) && table.indexes.is_empty();
    let (kind, end) = if is_in_index { ("PRIMARY KEY", " WITHOUT ROWID") } else { ("UNIQUE", "") };
    let _ = write!(sql, "    {kind} ({})\n){end}", key_list(table));
    sql
}

/// The statements that make the further indexes of a table. A text that may be absent is asked for by its value alone, never
/// by its absence or in its order: the index leaves the absent ones out.
pub(crate) fn create_indexes(table: &Table, generation: Generation) -> Vec<String> {
    let name = table_name(table, generation);
    let is_often_absent = |column: &&Column| column.nullable && column.kind == ColumnKind::Text;
    let index = |(number, columns): (usize, &&[&str])| {
        let sql = format!("CREATE INDEX IF NOT EXISTS {name}_i{number} ON {name} ({})", columns.join(", "));
        let only = if let [column] = columns { table.position(column) } else { None };
        match only.map(|position| &table.columns[position]).filter(is_often_absent) {
            Some(column) => format!("{sql} WHERE {} IS NOT NULL", column.name),
            None => sql,
        }
    };
    table.indexes.iter().enumerate().map(index).collect()
}

/// The statement that makes the view of a table for people: with names instead of their numbers.
pub(crate) fn create_view(table: &Table, generation: Generation) -> String {
    let columns = columns(table, "t", true);
    // What people call content has a row for each block.
    let name = if table.name == "content" { "content_chunks" } else { table.name };
    format!("CREATE VIEW {name} AS SELECT {columns} FROM {} t", table_name(table, generation))
}

/// The columns of a table; `alias` names it. Names by their text for people, else by their numbers.
fn columns(table: &Table, alias: &str, for_people: bool) -> String {
    let column = |(position, column): (usize, &Column)| {
        let name = column.name;
        if !for_people {
            return Some(format!("{alias}.{name}"));
        }
        let shown = column.view_name()?;
        if is_interned(table, position) {
            return Some(format!("(SELECT name FROM names WHERE id = {alias}.{name}) AS {shown}"));
        }
        Some(format!("{alias}.{name} AS {shown}"))
    };
    table.columns.iter().enumerate().filter_map(column).collect::<Vec<_>>().join(", ")
}

/// The columns of a table as rows are read: names by their numbers; `alias` names the table.
pub(crate) fn select_list(table: &Table, alias: &str) -> String {
    columns(table, alias, false)
}

/// The columns of the key.
pub(crate) fn key_list(table: &Table) -> String {
    let names: Vec<&str> = table.key_columns().iter().map(|column| column.name).collect();
    names.join(", ")
}
