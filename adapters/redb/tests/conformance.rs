//! The backend from outside: the conformance suite of the seam.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use burnlog_log::Backend;
use burnlog_log::conformance::Fixture;
use burnlog_redb::{RedbBackend, RedbOptions};
use std::sync::Arc;

struct Redb(tempfile::TempDir);

impl Fixture for Redb {
    fn create() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Arc<dyn Backend> {
        let options = RedbOptions { create: true, ..RedbOptions::default() };
        Arc::new(RedbBackend::open(self.0.path().join("ledger.redb"), options).unwrap())
    }
}

burnlog_log::conformance!(Redb);
