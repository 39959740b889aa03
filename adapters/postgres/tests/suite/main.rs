//! The tests of this crate, all through a real server: the conformance suite, then what only Postgres can get wrong.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod access;
mod concurrency;
mod damage;
mod full;
mod kill;
mod many;
mod network;
mod pooler;
mod projections;
mod proxy;
mod restarts;
mod tls;

use burnlog_log::Backend;
use burnlog_log::conformance::Fixture;
use burnlog_postgres::{Cluster, Database, PostgresBackend, PostgresOptions};
use std::sync::Arc;

struct Postgres(Database);

impl Fixture for Postgres {
    fn create() -> Self {
        Self(database())
    }

    fn open(&self) -> Arc<dyn Backend> {
        Arc::new(open(&self.0))
    }
}

burnlog_log::conformance!(Postgres);

/// Makes an empty database in the cluster of this process.
fn database() -> Database {
    Cluster::shared().and_then(Cluster::database).unwrap_or_else(|error| panic!("{error}"))
}

/// Opens the ledger of a database.
fn open(database: &Database) -> PostgresBackend {
    PostgresBackend::open(database.url(), &PostgresOptions::default()).unwrap()
}
