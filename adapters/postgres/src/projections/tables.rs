//! Tables, indexes and views as SQL, made from the declared tables alone. Every name is qualified and quoted.

use burnlog_projections::{Column, ColumnKind, Generation, Row, TABLES, Table, UsageDay};
use std::fmt::Write;

/// Instants that a `timestamptz` can hold, in microseconds since 1970: from 4713 before Christ to the year 9999.
const INSTANTS: (i64, i64) = (-210_866_803_200_000_000, 253_402_300_799_999_999);

/// How many characters of a text that is no key an index has: an entry of an index holds some 2,700 bytes.
pub(super) const INDEXED_CHARACTERS: usize = 250;

/// Views over the views of the tables, under the names that people look for.
const VIEWS: [(&str, &str); 3] = [
    (
        "turns",
        "select c.*, (select s.project from {s}.sessions s where s.source = c.source and s.session = c.session) as project \
         from {s}.calls c",
    ),
    (
        "tool_results",
        "select source, tool_use, tool, call, session as use_session, result_session as session, result_at, is_error, \
         result_bytes from {s}.tool_uses where result_copied is not null",
    ),
    (
        "content",
        "select c.source, c.stream, (r ->> 0)::int8 as seq, r ->> 1 as address_begins_with, \
         b.nth - 3 - (json_typeof(r -> 2) = 'string')::int as ordinal, \
         b.block ->> 0 as kind, (b.block ->> 1)::int8 as start, (b.block ->> 2)::int8 as bytes, b.block ->> 3 as tool_use \
         from {s}.content_chunks c, json_array_elements(c.blocks::json) as r, \
         json_array_elements(r) with ordinality as b(block, nth) where json_typeof(b.block) = 'array'",
    ),
];

/// A name, quoted. Those of tables and columns are lower case with underscores.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{name}\"")
}

/// The name of a table of one generation, with its schema.
pub(super) fn table_name(schema: &str, table: &Table, generation: Generation) -> String {
    format!("{schema}.\"{}_g{}\"", table.name, generation.0)
}

/// The name of a table's view: its own, but for the one that a table of the ledger half has, and for the one whose name
/// people look for with a row for each block.
fn view_name(table: &Table) -> &'static str {
    match table.name {
        "feeds" => "hosts",
        "content" => "content_chunks",
        name => name,
    }
}

/// The type of a column.
pub(super) fn column_type(kind: ColumnKind) -> &'static str {
    match kind {
        // A `timestamptz` has not the range of our instants; the views have it.
        ColumnKind::Integer | ColumnKind::Instant => "int8",
        ColumnKind::Flag => "boolean",
        ColumnKind::Text | ColumnKind::Name => "text",
        ColumnKind::Blob | ColumnKind::Address => "bytea",
    }
}

/// The statement that makes a table.
pub(super) fn create_table(schema: &str, table: &Table, generation: Generation) -> String {
    let mut sql = format!("create table {} (\n", table_name(schema, table, generation));
    for Column { name, kind, nullable } in table.columns {
        let collation = if column_type(*kind) == "text" { " collate \"C\"" } else { "" };
        let null = if *nullable { "" } else { " not null" };
        let _ = writeln!(sql, "    \"{name}\" {}{collation}{null},", column_type(*kind));
    }
    let _ = write!(sql, "    primary key ({})\n)", key_list(table, ""));
    sql
}

/// The statements that make the further indexes of a table. Absent values come first, as in every list of ours.
pub(super) fn create_indexes(schema: &str, table: &Table, generation: Generation) -> Vec<String> {
    let index = |(number, columns): (usize, &&[&str])| {
        let columns: Vec<String> = columns.iter().map(|name| indexed(table, name)).collect();
        format!(
            "create index if not exists \"{}_g{}_i{number}\" on {} ({})",
            table.name,
            generation.0,
            table_name(schema, table, generation),
            columns.join(", ")
        )
    };
    table.indexes.iter().enumerate().map(index).collect()
}

fn indexed(table: &Table, name: &str) -> String {
    let position = table.position(name).unwrap_or_default();
    match table.columns[position].kind {
        ColumnKind::Text if position >= table.key => beginning(&quoted(name)),
        _ => format!("{} nulls first", quoted(name)),
    }
}

/// The beginning of a text that may be long, as the indexes have it.
pub(super) fn beginning(text: &str) -> String {
    format!("left({text}, {INDEXED_CHARACTERS})")
}

/// The statements that make the views show a generation.
pub(super) fn create_views(schema: &str, generation: Generation) -> String {
    // What was called so before stands on views that are dropped below.
    let mut sql = format!("drop view if exists {schema}.\"content_blocks\";\n");
    for (name, _) in VIEWS.iter().rev() {
        let _ = writeln!(sql, "drop view if exists {schema}.\"{name}\";");
    }
    for table in TABLES {
        let columns: Vec<String> =
            table.columns.iter().filter_map(|column| for_people(table, column)).collect();
        let (name, columns) = (view_name(table), columns.join(", "));
        let from = table_name(schema, table, generation);
        let _ = writeln!(sql, "drop view if exists {schema}.\"{name}\";");
        let _ = writeln!(sql, "create view {schema}.\"{name}\" as select {columns} from {from};");
    }
    for (name, select) in VIEWS {
        let _ = writeln!(sql, "create view {schema}.\"{name}\" as {};", select.replace("{s}", schema));
    }
    sql
}

/// The names of the views, with their schema.
pub(super) fn view_names(schema: &str) -> Vec<String> {
    let names = TABLES.iter().map(|table| view_name(table)).chain(VIEWS.iter().map(|(name, _)| *name));
    names.map(|name| format!("{schema}.{}", quoted(name))).collect()
}

/// A column as people want to see it, if they do: instants and days as such, where there is a date for them.
fn for_people(table: &Table, column: &Column) -> Option<String> {
    let shown = quoted(column.view_name()?);
    let name = quoted(column.name);
    if table.name == UsageDay::TABLE.name && column.name == "day" {
        // Calls without a time have the empty day, and years of more than four digits are longer.
        return Some(format!(
            "case when length({name}) = 10 and {name} >= '0001' then {name}::date end as {shown}"
        ));
    }
    if column.kind != ColumnKind::Instant {
        return Some(format!("{name} as {shown}"));
    }
    let (first, last) = INSTANTS;
    Some(format!(
        "case when {name} between {first} and {last} \
         then timestamptz '1970-01-01 00:00:00+00' + {name} * interval '1 microsecond' end as {shown}"
    ))
}

/// The statements that drop the tables of a generation.
pub(super) fn drop_tables(schema: &str, generation: Generation) -> String {
    let drop =
        |table: &&Table| format!("drop table if exists {} cascade;", table_name(schema, table, generation));
    TABLES.iter().map(drop).collect::<Vec<_>>().join("\n")
}

/// The columns of the key; `alias` (with its dot) names the table.
pub(super) fn key_list(table: &Table, alias: &str) -> String {
    list(table.key_columns(), alias)
}

/// The columns of a table in order; `alias` (with its dot) names the table.
pub(super) fn select_list(table: &Table, alias: &str) -> String {
    list(table.columns, alias)
}

fn list(columns: &[Column], alias: &str) -> String {
    let names: Vec<String> = columns.iter().map(|column| format!("{alias}\"{}\"", column.name)).collect();
    names.join(", ")
}
