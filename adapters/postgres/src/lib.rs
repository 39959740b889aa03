//! Keeps a ledger in PostgreSQL: events in compressed blocks with one row each, feeds as runs of addresses with their
//! signed heads. Speaks to the server and stores bytes; never hashes or parses them. Beside it, in the same schema, the
//! projections of the ledger in typed tables. The two halves know nothing of each other.

mod append;
mod backend;
mod block;
mod check;
#[cfg(feature = "cluster")]
mod cluster;
mod driver;
mod erase;
mod errors;
mod feeds;
mod options;
mod plan;
mod pool;
mod projections;
mod read;
mod schema;
mod session;
mod sql;
mod target;
mod tls;

pub use backend::PostgresBackend;
#[cfg(feature = "cluster")]
pub use cluster::{Cluster, Connection, Database, SMALL_DISK};
pub use options::PostgresOptions;
pub use projections::PostgresProjections;
