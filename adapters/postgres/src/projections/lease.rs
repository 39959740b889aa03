//! The lease on folding: the one row of `projections`, by the server's clock. Whoever writes locks that row first, so
//! nothing is granted between the look and the commit.

use super::PostgresProjections;
use crate::session::{Parameters, Session};
use burnlog_log::{Error, ErrorKind, Result};
use burnlog_projections::{Lease, Leasing};
use std::time::Duration;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// The longest time of a lease that is told to the server, in microseconds: a hundred years.
const LONGEST: i64 = 100 * 366 * 86_400_000_000;

fn microseconds(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(LONGEST).min(LONGEST)
}

impl PostgresProjections {
    /// Grants the lease where nobody has it, its time is over, or its holder is gone.
    pub(super) fn grant(&self, holder: &str, time: Duration, gone: Option<u64>) -> Result<Leasing> {
        let table = self.own("projections");
        // A row that is locked is one under which somebody writes at this moment: the lease is held.
        let take = format!(
            "update {table} set lease_token = lease_token + 1, lease_holder = $1, \
             lease_until = clock_timestamp() + $2 * interval '1 microsecond' \
             where one = (select one from {table} where lease_until is null or lease_until <= clock_timestamp() \
             or lease_token = $3 for update skip locked) returning lease_token"
        );
        let look = format!(
            "select lease_holder, lease_token, \
             coalesce(greatest(extract(epoch from lease_until - clock_timestamp()) * 1e6, 0), 0)::int8 from {table}"
        );
        // A holder may put into its name whatever it likes; a server takes no NUL.
        let (holder, gone) = (holder.replace('\0', "\u{fffd}"), gone.map_or(-1, |token| token as i64));
        let time_to_live = microseconds(time);
        let parameters: &Parameters<'_> =
            &[(&holder, Type::TEXT), (&time_to_live, Type::INT8), (&gone, Type::INT8)];
        let (mut open, granted) = self.pool.begin_fold("take lease", (&take, parameters))?;
        if let Some(row) = granted.first() {
            let token = open.run(async |session| session.get::<i64>(row, 0))?;
            open.commit()?;
            return Ok(Leasing::Granted(Lease { token: token as u64, time_to_live: time }));
        }
        open.run(async |session| {
            let rows = session.query(&look, &[]).await?;
            let row = one_row(session, &rows)?;
            let (holder, token, left): (_, i64, i64) =
                (session.get(row, 0)?, session.get(row, 1)?, session.get(row, 2)?);
            Ok(Leasing::Held { holder, token: token as u64, remaining: Duration::from_micros(left as u64) })
        })
    }

    /// Begins the lease's time anew. `Conflict` when it is not the last grant, or was given back.
    pub(super) fn renew_lease(&self, lease: &Lease) -> Result<()> {
        let sql = format!("{} and lease_until is not null returning 1", self.begin_anew());
        let parameters: &Parameters<'_> =
            &[(&(lease.token as i64), Type::INT8), (&microseconds(lease.time_to_live), Type::INT8)];
        let (open, rows) = self.pool.begin_fold("renew lease", (&sql, parameters))?;
        if rows.is_empty() {
            return Err(lost("renew lease", self.pool.url()));
        }
        open.commit()
    }

    /// Gives the lease back if it is the last grant.
    pub(super) fn give_back(&self, lease: &Lease) -> Result<()> {
        let table = self.own("projections");
        let sql = format!("update {table} set lease_until = null where lease_token = $1");
        let parameters: &Parameters<'_> = &[(&(lease.token as i64), Type::INT8)];
        let (open, _) = self.pool.begin_fold("give lease back", (&sql, parameters))?;
        open.commit()
    }

    /// The statement that begins the time of the lease `$1` anew, for `$2` microseconds.
    pub(super) fn begin_anew(&self) -> String {
        let table = self.own("projections");
        format!(
            "update {table} set lease_until = clock_timestamp() + $2 * interval '1 microsecond' where lease_token = $1"
        )
    }

    /// The statement that locks the lease's row and tells whether the lease `$1` may write.
    pub(super) fn lock_lease(&self) -> String {
        let table = self.own("projections");
        format!("select lease_token = $1 and lease_until > clock_timestamp() from {table} for update")
    }

    /// Refuses a lease that is over, or that is not the last: `rows` are the answer to [`Self::lock_lease`].
    pub(super) fn check_lease(&self, operation: &'static str, rows: &[Row]) -> Result<()> {
        let is_held = rows.first().and_then(|row| row.try_get::<_, Option<bool>>(0).ok().flatten());
        if is_held == Some(true) { Ok(()) } else { Err(lost(operation, self.pool.url())) }
    }
}

/// The parameters of [`PostgresProjections::begin_anew`].
pub(super) fn numbers(lease: &Lease) -> (i64, i64) {
    (lease.token as i64, microseconds(lease.time_to_live))
}

/// Returns the one row of an answer.
pub(super) fn one_row<'r>(session: &Session<'_>, rows: &'r [Row]) -> Result<&'r Row> {
    rows.first().ok_or_else(|| session.corrupt("the table `projections` has no row"))
}

fn lost(operation: &'static str, url: &str) -> Error {
    let message = "the lease is over, or another was granted; ask for it again";
    Error::new(ErrorKind::Conflict, operation, message).at(url)
}
