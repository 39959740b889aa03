//! The lease on folding, in three of the store's own records. Looked at and changed inside transactions that have the
//! file's write lock, so that nothing is granted between the look and the write. The clock is SQLite's.

use crate::convert::Located;
use burnlog_log::{Error, ErrorKind, Result};
use burnlog_projections::{Lease, Leasing};
use rusqlite::{Connection, params};
use std::time::Duration;

/// The store's time in milliseconds since 1970.
const NOW: &str = "CAST(unixepoch('subsec') * 1000 AS INTEGER)";

/// The last grant.
#[derive(Debug, Default)]
struct Grant {
    token: u64,
    holder: String,
    /// Milliseconds that are left; 0 or less when it is over, nothing once it was given back.
    remaining: Option<i64>,
}

fn read(connection: &Connection) -> rusqlite::Result<Grant> {
    let sql = format!(
        "SELECT name, CASE name WHEN 'lease_until' THEN value - {NOW} ELSE value END
         FROM projections_meta WHERE name IN ('lease_token', 'lease_holder', 'lease_until')"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([])?;
    let mut grant = Grant::default();
    while let Some(row) = rows.next()? {
        match row.get_ref(0)?.as_str()? {
            "lease_token" => grant.token = row.get(1)?,
            "lease_holder" => grant.holder = row.get(1)?,
            _ => grant.remaining = row.get(1)?,
        }
    }
    Ok(grant)
}

fn begin(connection: &Connection, time_to_live: Duration) -> rusqlite::Result<()> {
    let sql =
        format!("INSERT OR REPLACE INTO projections_meta (name, value) VALUES ('lease_until', {NOW} + ?1)");
    let milliseconds = i64::try_from(time_to_live.as_millis()).unwrap_or(i64::MAX / 2).min(i64::MAX / 2);
    connection.prepare_cached(&sql)?.execute([milliseconds]).map(drop)
}

/// Grants the lease where nobody has it, its time is over, or its holder is gone.
pub(crate) fn grant(
    connection: &Connection,
    holder: &str,
    time_to_live: Duration,
    gone: Option<u64>,
) -> rusqlite::Result<Leasing> {
    let last = read(connection)?;
    let remaining = last.remaining.and_then(|left| u64::try_from(left).ok()).filter(|left| *left > 0);
    if let Some(remaining) = remaining.filter(|_| gone != Some(last.token)) {
        let remaining = Duration::from_millis(remaining);
        return Ok(Leasing::Held { holder: last.holder, token: last.token, remaining });
    }
    let token = last.token + 1;
    connection
        .prepare_cached(
            "INSERT OR REPLACE INTO projections_meta (name, value) VALUES ('lease_token', ?1), ('lease_holder', ?2)",
        )?
        .execute(params![token, holder])?;
    begin(connection, time_to_live)?;
    Ok(Leasing::Granted(Lease { token, time_to_live }))
}

/// Begins the lease's time anew. `Conflict` when it is not the last grant, or was given back.
pub(crate) fn renew(connection: &Connection, place: &str, lease: &Lease) -> Result<()> {
    let last = read(connection).located("renew lease", place)?;
    if last.token != lease.token || last.remaining.is_none() {
        return Err(lost("renew lease", place));
    }
    begin(connection, lease.time_to_live).located("renew lease", place)
}

/// Gives the lease back if it is the last grant.
pub(crate) fn release(connection: &Connection, lease: &Lease) -> rusqlite::Result<()> {
    if read(connection)?.token == lease.token {
        connection.prepare_cached("DELETE FROM projections_meta WHERE name = 'lease_until'")?.execute([])?;
    }
    Ok(())
}

/// Refuses a lease that is over, or that is not the last.
pub(crate) fn check(connection: &Connection, place: &str, lease: &Lease) -> Result<()> {
    let last = read(connection).located("look at lease", place)?;
    if last.token == lease.token && last.remaining.is_some_and(|left| left > 0) {
        return Ok(());
    }
    Err(lost("write projections", place))
}

fn lost(operation: &'static str, place: &str) -> Error {
    let message = "the lease is over, or another was granted; ask for it again";
    Error::new(ErrorKind::Conflict, operation, message).at(place)
}
