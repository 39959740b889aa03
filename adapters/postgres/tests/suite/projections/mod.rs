//! The projections: the conformance suite, then what only Postgres can get wrong.

mod access;
mod folding;

use burnlog_postgres::{Database, PostgresOptions, PostgresProjections};
use burnlog_projections::conformance::{Fixture, Store};

struct Projections(Database);

impl Fixture for Projections {
    fn create() -> Self {
        Self(crate::database())
    }

    fn open(&self) -> Box<dyn Store> {
        Box::new(open(&self.0))
    }
}

burnlog_projections::fold_store_conformance!(Projections);

/// Opens the projections of a database.
fn open(database: &Database) -> PostgresProjections {
    PostgresProjections::open(database.url(), &PostgresOptions::default()).unwrap()
}
