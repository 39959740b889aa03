//! The ledger from outside: the conformance suite of the seam, and what is of SQLite alone.

use burnlog_log::Backend;
use burnlog_log::conformance::Fixture;
use burnlog_sqlite::{SqliteBackend, SqliteLedgerOptions};
use std::path::Path;
use std::sync::Arc;

struct Sqlite(tempfile::TempDir);

impl Fixture for Sqlite {
    fn create() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Arc<dyn Backend> {
        Arc::new(open(&self.0.path().join("ledger.sqlite")))
    }
}

burnlog_log::conformance!(Sqlite);

fn create() -> SqliteLedgerOptions {
    SqliteLedgerOptions { create: true, ..SqliteLedgerOptions::default() }
}

/// Opens the ledger at `path` for writing; makes it where there is none.
fn open(path: &Path) -> SqliteBackend {
    SqliteBackend::open(path, create()).unwrap()
}
