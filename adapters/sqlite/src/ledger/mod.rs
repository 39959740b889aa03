//! The ledger in SQLite: a [`Backend`](burnlog_log::Backend) in one file, beside the projections that are folded from it.
//! Knows no projection; what the two share is the file alone.

mod append;
mod backend;
mod block;
mod check;
mod compact;
mod erase;
mod fault;
mod feeds;
mod groups;
mod options;
mod place;
mod plan;
mod read;
mod rows;
mod schema;

pub use backend::SqliteBackend;
pub use options::{Durability, SqliteLedgerOptions};
