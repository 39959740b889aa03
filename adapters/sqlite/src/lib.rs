//! Projections in one SQLite file: rows in typed columns, readable with any SQL tool through views of the live
//! generation, while another process folds. Generic over tables; knows no projection and merges nothing.

mod convert;
mod names;
mod queries;
mod schema;
mod search;
mod search_find;
mod statements;
mod store;
mod sums;
mod transaction;

pub use search::SqliteSearch;
pub use store::{SqliteOptions, SqliteProjections};
