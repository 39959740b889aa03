//! Counting, giving back space, and checking what reading does not reach: versions, counters, runs of entries
//! against heads, places against feeds.

use crate::backend::PostgresBackend;
use crate::schema;
use crate::session::Session;
use crate::sql::{TABLES, bytes_on_disk};
use burnlog_log::{Compacted, Damage, Result, Stat};
use futures_util::TryStreamExt;

impl PostgresBackend {
    pub(crate) fn count(&self) -> Result<Stat> {
        self.pool.read("count", (&self.sql.stat, &[]), async |session, rows| {
            let row = rows.first().ok_or_else(|| session.corrupt("no counters"))?;
            let count = |column| Ok(session.get::<Option<i64>>(row, column)?.unwrap_or(0).max(0) as u64);
            Ok(Stat { events: count(0)?, payload_bytes: count(1)?, bytes_on_disk: count(2)? })
        })
    }

    /// Erasing and heads that move leave row versions behind; `VACUUM` makes their room free for what comes next.
    pub(crate) fn vacuum(&self) -> Result<Compacted> {
        let tables = TABLES.map(|table| format!("{}.{table}", self.sql.schema)).join(", ");
        let size = format!("select {}", bytes_on_disk(&self.sql.schema));
        self.pool.plain("compact", async |session| {
            let bytes = async || {
                let rows = session.query(&size, &[]).await?;
                let row = rows.first().ok_or_else(|| session.corrupt("no sizes"))?;
                Ok(session.get::<i64>(row, 0)?.max(0) as u64)
            };
            let bytes_before = bytes().await?;
            session.run(&format!("vacuum (analyze) {tables}")).await?;
            Ok(Compacted { bytes_before, bytes_after: bytes().await? })
        })
    }

    pub(crate) fn check_tables(&self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        let s = &self.sql.schema;
        self.pool.read_long("check", ("select 1", &[]), async |session, _| {
            schema::version(session, &self.sql).await?;
            for check in CHECKS {
                self.run_check(session, &check, &check.sql.replace("{s}", s), report).await?;
            }
            Ok(())
        })
    }

    /// Every row of the answer is a damage: its first column the place, its second the message.
    async fn run_check(
        &self,
        session: &Session<'_>,
        check: &Check,
        sql: &str,
        report: &mut dyn FnMut(Damage),
    ) -> Result<()> {
        let rows = session.stream(sql, &[]).await?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(|error| session.error(&error))? {
            report(Damage {
                code: check.code,
                place: session.get(&row, 0)?,
                message: session.get(&row, 1)?,
                rebuildable: check.rebuildable,
            });
        }
        Ok(())
    }
}

struct Check {
    code: &'static str,
    rebuildable: bool,
    sql: &'static str,
}

const CHECKS: [Check; 6] = [
    Check {
        code: "counters",
        rebuildable: true,
        sql: "select 'table counters', format('they say %s events and %s bytes, the events are %s and %s', \
              c.events, c.bytes, e.events, e.bytes) \
              from (select sum(events) as events, sum(payload_bytes) as bytes from {s}.counters) c, \
              (select count(*) as events, coalesce(sum(payload_bytes), 0) as bytes from {s}.events) e \
              where (c.events, c.bytes) is distinct from (e.events::numeric, e.bytes::numeric)",
    },
    Check {
        code: "entries-gap",
        rebuildable: false,
        sql: "select format('table entries, %s at %s', encode(writer, 'hex'), index), \
              format('the batch begins at %s, the one before ends at %s, and it has %s addresses up to %s', \
              index, before, length(addresses) / 32, size) \
              from (select *, coalesce(lag(size) over (partition by writer order by index), 0) as before \
              from {s}.entries) r where index <> before or length(addresses) <> 32 * (size - index)",
    },
    Check {
        code: "head-newest",
        rebuildable: false,
        sql: "select format('table feeds, %s', encode(f.writer, 'hex')), \
              'the newest head is not that of the last batch' \
              from {s}.feeds f left join lateral (select * from {s}.entries e where e.writer = f.writer \
              order by e.index desc limit 1) l on true \
              where (f.size, f.root, f.recorded_at, f.signature) is distinct from \
              (l.size, l.root, l.recorded_at, l.signature)",
    },
    Check {
        code: "feed-missing",
        rebuildable: false,
        sql: "select format('table entries, %s', encode(e.writer, 'hex')), 'there are batches of an unknown feed' \
              from (select distinct writer from {s}.entries) e left join {s}.feeds f on f.writer = e.writer \
              where f.writer is null",
    },
    Check {
        code: "places-count",
        rebuildable: false,
        sql: "select format('table feeds, %s', coalesce(encode(f.writer, 'hex'), 'number ' || p.feed)), \
              format('%s events say that they stand in this feed, it has %s entries', \
              coalesce(p.places, 0), coalesce(f.size, 0)) \
              from {s}.feeds f full join (select feed, count(*) as places from \
              (select feed from {s}.events union all select feed from {s}.places) a group by feed) p \
              on p.feed = f.number where coalesce(f.size, 0) <> coalesce(p.places, 0)",
    },
    Check {
        code: "blocks-missing",
        rebuildable: false,
        sql: "select format('table blocks, id %s', e.block), format('%s events point to this block, \
              which is not there or too short', count(*)) \
              from {s}.events e left join {s}.blocks b on b.id = e.block \
              where b.id is null or e.start < 0 or e.skeleton_bytes < 0 or coalesce(e.payload_bytes, 0) < 0 \
              or e.start::int8 + e.skeleton_bytes + coalesce(e.payload_bytes, 0) > b.raw_bytes group by e.block",
    },
];
