//! SQLite, twice: projections in typed columns, readable with any SQL tool through views of the live generation, while
//! another process folds; and a backend that keeps a ledger, in the same file if so wished. The two know nothing of
//! each other. Generic over tables; knows no projection and merges nothing.

mod building;
mod convert;
mod generations;
mod lease;
mod ledger;
mod names;
mod numbered;
mod opening;
mod queries;
mod schema;
mod search;
mod search_find;
mod statements;
mod store;
mod sums;
mod transaction;

pub use ledger::{Durability, SqliteBackend, SqliteLedgerOptions};
pub use opening::{SqliteOptions, SqliteProjections};
pub use search::SqliteSearch;
