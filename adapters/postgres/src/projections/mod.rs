//! Projections in the schema of a ledger: a table for each declared one and each generation, typed and indexed, with views over
//! the live generation for people and dashboards. Generic over tables; knows no projection and merges nothing.

mod condition;
mod generations;
mod lease;
mod queries;
mod statements;
mod store;
mod sums;
mod tables;
mod transaction;
mod values;

use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::schema::{self, Half};
use crate::session::{Session, Statement};
use crate::sql::Sql;
use crate::target::Target;
use burnlog_log::{Error, ErrorKind, Result};
use burnlog_projections::{Generation, Table};
use tokio_postgres::Row;

/// The projections of a ledger in Postgres, in its schema. Any number of processes may have them open; one folds.
pub struct PostgresProjections {
    pool: Pool,
    /// The schema, quoted.
    schema: String,
}

impl PostgresProjections {
    /// Opens the projections of the ledger at `postgres://…[?ledger=NAME]`; with `create` their tables are made where they are new,
    /// otherwise they are only read and missing ones are `NotFound`.
    ///
    /// Other errors are those of [`PostgresBackend::open`](crate::PostgresBackend::open).
    pub fn open(url: &str, options: &PostgresOptions) -> Result<Self> {
        let target = Target::parse(url)?;
        let ledger = target.ledger.clone();
        let sql = Sql::new(&ledger);
        let pool = Pool::new(target, options)?;
        schema::open(&pool, &sql, &ledger, options, Half::Projections)?;
        Ok(Self { pool, schema: sql.schema })
    }

    /// Returns how often the server was spoken to and waited for: what takes time when it is far away.
    pub fn conversations(&self) -> u64 {
        self.pool.conversations()
    }

    /// The name of one of the store's own tables, with its schema.
    fn own(&self, name: &str) -> String {
        format!("{}.{name}", self.schema)
    }

    fn table(&self, table: &Table, generation: Generation) -> String {
        tables::table_name(&self.schema, table, generation)
    }

    /// Reads rows by their keys or in their order, with one statement.
    fn look_up<T>(
        &self,
        statement: Statement<'_>,
        take: impl Fn(&Session<'_>, &Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        let read = self.pool.read("read projection rows", statement, async |session, rows| {
            rows.iter().map(|row| take(session, row)).collect::<Result<Vec<T>>>()
        });
        read.map_err(replaced)
    }
}

/// A table that is gone was dropped with its generation.
fn replaced(error: Error) -> Error {
    if !(error.kind() == ErrorKind::NotFound && error.message().contains("SQLSTATE 42P01")) {
        return error;
    }
    let message = "the tables were replaced meanwhile; read the state of the store again";
    Error::new(ErrorKind::Conflict, error.operation(), message).at(error.location())
}

impl std::fmt::Debug for PostgresProjections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgresProjections({})", self.pool.url())
    }
}
