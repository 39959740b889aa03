//! The backend from outside: the conformance suite of the seam, and what is of redb alone.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod suite;

use burnlog_log::Backend;
use burnlog_log::conformance::Fixture;
use std::sync::Arc;

struct Redb(tempfile::TempDir);

impl Fixture for Redb {
    fn create() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Arc<dyn Backend> {
        Arc::new(suite::open(&self.0.path().join("ledger.redb")))
    }
}

burnlog_log::conformance!(Redb);
