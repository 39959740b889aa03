//! The statements that every table needs, as SQL.

use crate::schema::{key_list, select_list, table_name};
use burnlog_projections::{Generation, Table};

/// `?1, ?2, …`, from `first` on.
fn parameters(first: usize, count: usize) -> String {
    let each: Vec<String> = (first..first + count).map(|number| format!("?{number}")).collect();
    each.join(", ")
}

fn key_condition(table: &Table) -> String {
    let each: Vec<String> = table
        .key_columns()
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{} = ?{}", column.name, at + 1))
        .collect();
    each.join(" AND ")
}

/// Inserts a row unless its key is there.
pub(crate) fn insert(table: &Table, generation: Generation) -> String {
    let columns: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
    format!(
        "INSERT INTO {} ({}) VALUES ({}) ON CONFLICT ({}) DO NOTHING",
        table_name(table, generation),
        columns.join(", "),
        parameters(1, columns.len()),
        key_list(table)
    )
}

/// Overwrites the row with a key; the parameters are the row's values.
pub(crate) fn replace(table: &Table, generation: Generation) -> String {
    // A row that is all key is overwritten by itself.
    let columns = if table.key == table.columns.len() { 0.. } else { table.key.. };
    let set: Vec<String> = table.columns[columns.clone()]
        .iter()
        .enumerate()
        .map(|(at, column)| format!("{} = ?{}", column.name, columns.start + at + 1))
        .collect();
    format!("UPDATE {} SET {} WHERE {}", table_name(table, generation), set.join(", "), key_condition(table))
}

/// Deletes the row with a key.
pub(crate) fn delete(table: &Table, generation: Generation) -> String {
    format!("DELETE FROM {} WHERE {}", table_name(table, generation), key_condition(table))
}

/// Reads the row with a key.
pub(crate) fn get(table: &Table, generation: Generation) -> String {
    let columns = select_list(table, "t");
    format!("SELECT {columns} FROM {} t WHERE {}", table_name(table, generation), key_condition(table))
}

/// Reads rows in the order of keys: the first parameter is the limit, then, if any, the key to start after.
///
/// The key may be shorter than the table's: then it starts after all that begins with it.
pub(crate) fn scan(table: &Table, generation: Generation, after: usize) -> String {
    let columns = select_list(table, "t");
    let keys: Vec<&str> = table.key_columns().iter().take(after).map(|column| column.name).collect();
    let condition = match keys.len() {
        0 => String::new(),
        count => format!("WHERE ({}) > ({})", keys.join(", "), parameters(2, count)),
    };
    let order = key_list(table);
    format!("SELECT {columns} FROM {} t {condition} ORDER BY {order} LIMIT ?1", table_name(table, generation))
}
