//! The statements that every table needs: each works on a slice of rows, which come as one array for each column.

use super::tables::{column_type, key_list, quoted, select_list, table_name};
use burnlog_projections::{Column, Generation, Table};

/// The arrays of a slice as rows `u`, with their position from 1 in the column `nth`.
fn unnest(columns: &[Column]) -> String {
    let array = |(at, column): (usize, &Column)| format!("${}::{}[]", at + 1, column_type(column.kind));
    let arrays: Vec<String> = columns.iter().enumerate().map(array).collect();
    let names: Vec<String> = columns.iter().map(|column| quoted(column.name)).collect();
    format!("unnest({}) with ordinality as u({}, nth)", arrays.join(", "), names.join(", "))
}

fn same_key(table: &Table) -> String {
    let same = |column: &Column| format!("t.{0} = u.{0}", quoted(column.name));
    table.key_columns().iter().map(same).collect::<Vec<_>>().join(" and ")
}

/// Inserts rows whose keys are not there; returns their keys, in the order of the slice.
pub(super) fn insert(schema: &str, table: &Table, generation: Generation) -> String {
    format!(
        "insert into {} ({}) select {} from {} order by u.nth on conflict ({}) do nothing returning {}",
        table_name(schema, table, generation),
        select_list(table, ""),
        select_list(table, "u."),
        unnest(table.columns),
        key_list(table, ""),
        key_list(table, "")
    )
}

/// Overwrites rows; touches as many as are there.
pub(super) fn replace(schema: &str, table: &Table, generation: Generation) -> String {
    // A row that is all key is overwritten by itself.
    let columns = if table.key == table.columns.len() { table.columns } else { &table.columns[table.key..] };
    let set: Vec<String> = columns.iter().map(|column| format!("{0} = u.{0}", quoted(column.name))).collect();
    format!(
        "update {} t set {} from {} where {}",
        table_name(schema, table, generation),
        set.join(", "),
        unnest(table.columns),
        same_key(table)
    )
}

/// Deletes rows by their keys; returns the positions of those that were there.
pub(super) fn delete(schema: &str, table: &Table, generation: Generation) -> String {
    format!(
        "delete from {} t using {} where {} returning u.nth",
        table_name(schema, table, generation),
        unnest(table.key_columns()),
        same_key(table)
    )
}

/// Reads rows by their keys; each with the position of its key behind it.
pub(super) fn get(schema: &str, table: &Table, generation: Generation) -> String {
    format!(
        "select {}, u.nth from {} join {} t on {}",
        select_list(table, "t."),
        unnest(table.key_columns()),
        table_name(schema, table, generation),
        same_key(table)
    )
}

/// Reads up to `$1` rows in the order of keys, from the first key greater than that in `$2` and on, if `after` values are.
///
/// The key may be shorter than the table's: then it starts after all that begins with it.
pub(super) fn scan(schema: &str, table: &Table, generation: Generation, after: usize) -> String {
    let keys: Vec<String> = table.key_columns()[..after].iter().map(|column| quoted(column.name)).collect();
    let values: Vec<String> = (0..after).map(|at| format!("${}", at + 2)).collect();
    let condition = match after {
        0 => String::new(),
        _ => format!("where ({}) > ({})", keys.join(", "), values.join(", ")),
    };
    format!(
        "select {} from {} {condition} order by {} limit $1",
        select_list(table, ""),
        table_name(schema, table, generation),
        key_list(table, "")
    )
}
