//! The tables, in numbered steps. Steps are applied once, under a lock that ends with the transaction; a schema
//! of a newer program is refused.

use crate::options::PostgresOptions;
use crate::pool::Pool;
use crate::session::Session;
use crate::sql::Sql;
use burnlog_log::{Error, ErrorKind, LedgerId, Result};
use tokio_postgres::types::Type;

/// The steps, by number from 1. A released step is never edited; `{s}` stands for the quoted schema.
const STEPS: [&str; 2] =
    [include_str!("schema/0001_ledger.sql"), include_str!("schema/0002_projections.sql")];

/// The number of the newest step of this program.
const NEWEST: i32 = STEPS.len() as i32;

/// What is opened: each needs the steps up to one of its own, and leaves later ones to whoever needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// The events and feeds.
    Ledger,
    /// The rows that are folded from them.
    Projections,
}

impl Half {
    fn step(self) -> i32 {
        match self {
            Self::Ledger => 1,
            Self::Projections => 2,
        }
    }

    fn operation(self) -> &'static str {
        match self {
            Self::Ledger => "open ledger",
            Self::Projections => "open projections",
        }
    }
}

/// The oldest server: `xid8` came with it.
const SERVER_OLDEST: i32 = 130_000;

/// Makes sure that the schema is there and has what one half needs, and returns the ledger's id.
pub(crate) fn open(
    pool: &Pool,
    sql: &Sql,
    ledger: &str,
    options: &PostgresOptions,
    half: Half,
) -> Result<LedgerId> {
    let operation = half.operation();
    let there = pool.read(operation, (SERVER, &[(&ledger, Type::TEXT)]), async |session, rows| {
        let row = rows.first().ok_or_else(|| session.corrupt("no answer"))?;
        let server: i32 = session.get(row, 0)?;
        if server < SERVER_OLDEST {
            let message = format!("the server is PostgreSQL {}, burnlog needs 13 or newer", server / 10_000);
            return Err(Error::new(ErrorKind::Unsupported, operation, message).at(pool.url()));
        }
        let (tables, ours): (i64, bool) = (session.get(row, 1)?, session.get(row, 2)?);
        if tables > 0 && !ours {
            let message =
                format!("the schema \"{ledger}\" holds other tables; name another with ?ledger=NAME");
            return Err(Error::new(ErrorKind::Invalid, operation, message).at(pool.url()));
        }
        if ours { Ok(Some(version(session, sql).await?)) } else { Ok(None) }
    })?;
    match there {
        Some(version) if version >= half.step() => {}
        None if !options.create => {
            let message = format!("no ledger \"{ledger}\" in this database");
            return Err(Error::new(ErrorKind::NotFound, operation, message).at(pool.url()));
        }
        Some(_) if !options.create => {
            let message = "nothing was folded yet; run ingest or project rebuild";
            return Err(Error::new(ErrorKind::NotFound, operation, message).at(pool.url()));
        }
        _ => migrate(pool, sql, ledger)?,
    }
    pool.read(operation, (&format!("select id from {}.ledger", sql.schema), &[]), async |session, rows| {
        let row = rows.first().ok_or_else(|| session.corrupt("the table `ledger` has no row"))?;
        let id: &[u8] = session.get(row, 0)?;
        Ok(LedgerId(id.try_into().map_err(|_| session.corrupt("the ledger's id is not 16 bytes"))?))
    })
}

const SERVER: &str = "select current_setting('server_version_num')::int4, count(c.oid), \
     coalesce(bool_or(c.relname = 'burnlog_schema'), false) \
     from pg_namespace n join pg_class c on c.relnamespace = n.oid and c.relkind in ('r', 'p') \
     where n.nspname = $1";

/// Returns the version of a schema. `Unsupported` when it is of a newer program.
pub(crate) async fn version(session: &Session<'_>, sql: &Sql) -> Result<i32> {
    let rows = session
        .query(&format!("select coalesce(max(number), 0) from {}.burnlog_schema", sql.schema), &[])
        .await?;
    let row = rows.first().ok_or_else(|| session.corrupt("no answer"))?;
    let version: i32 = session.get(row, 0)?;
    if version > NEWEST {
        let message =
            format!("the schema has version {version}, this program knows {NEWEST}: upgrade burnlog");
        return Err(Error::new(ErrorKind::Unsupported, session.operation(), message));
    }
    Ok(version)
}

/// Applies the steps that are not there yet, all in one transaction. Whoever comes second waits and finds them done.
fn migrate(pool: &Pool, sql: &Sql, ledger: &str) -> Result<()> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "create ledger", format!("no random numbers: {error}"))
    })?;
    let lock = "select pg_advisory_xact_lock(hashtextextended('burnlog schema ' || $1, 0))";
    pool.write("create ledger", (lock, &[(&ledger, Type::TEXT)]), async |session, _| {
        let s = &sql.schema;
        let exists = "select 1 from pg_namespace where nspname = $1";
        if session.query(exists, &[(&ledger, Type::TEXT)]).await?.is_empty() {
            session.run(&format!("create schema {s}")).await?;
        }
        session
            .run(&format!(
                "create table if not exists {s}.burnlog_schema \
                 (number int4 primary key, applied_at timestamptz not null default now())"
            ))
            .await?;
        for number in version(session, sql).await? + 1..=NEWEST {
            session.run(&STEPS[number as usize - 1].replace("{s}", s)).await?;
            let insert = format!("insert into {s}.burnlog_schema (number) values ($1)");
            session.execute(&insert, &[(&number, Type::INT4)]).await?;
        }
        let insert = format!("insert into {s}.ledger (id) values ($1) on conflict do nothing");
        session.execute(&insert, &[(&id.as_slice(), Type::BYTEA)]).await?;
        session.run("COMMIT").await
    })
}
