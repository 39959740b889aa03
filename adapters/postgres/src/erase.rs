//! Erasing payloads: the event's row forgets that there is one, and the block loses its bytes, in one transaction.
//! Offsets in the block stay, so nobody else has to know.

use crate::backend::PostgresBackend;
use crate::block::{self, Encoder};
use crate::session::{Parameters, Session};
use burnlog_log::{Address, Error, ErrorKind, Result};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// How many blocks are in memory at a time.
const BLOCKS_AT_ONCE: usize = 64;

impl PostgresBackend {
    pub(crate) fn erase_payloads(&self, addresses: &[Address]) -> Result<()> {
        let distinct: HashSet<Address> = addresses.iter().copied().collect();
        let wanted: Vec<&[u8]> = distinct.iter().map(|address| address.0.as_slice()).collect();
        let parameters: &Parameters<'_> = &[(&wanted, Type::BYTEA_ARRAY)];
        self.pool.write("erase", (&self.sql.lock_events, parameters), async |session, rows| {
            if rows.len() < distinct.len() {
                let mut there = HashSet::with_capacity(rows.len());
                for row in &rows {
                    there.insert(session.get::<&[u8]>(row, 0)?);
                }
                let absent = addresses.iter().find(|address| !there.contains(address.0.as_slice()));
                let absent = absent.map_or_else(String::new, ToString::to_string);
                return Err(Error::new(ErrorKind::NotFound, "erase", "no such event").at(absent));
            }
            let (ranges, bytes) = ranges(session, &rows)?;
            let ids: Vec<i64> = ranges.keys().copied().collect();
            for ids in ids.chunks(BLOCKS_AT_ONCE) {
                self.blank_blocks(session, ids, &ranges).await?;
            }
            session.execute(&self.sql.erase_events, parameters).await?;
            let counters: &Parameters<'_> =
                &[(&0i16, Type::INT2), (&0i64, Type::INT8), (&-bytes, Type::INT8)];
            session.execute(&self.sql.update_counters, counters).await?;
            session.run("COMMIT").await
        })
    }

    async fn blank_blocks(&self, session: &Session<'_>, ids: &[i64], ranges: &Ranges) -> Result<()> {
        let failed = |error: std::io::Error| session.corrupt(format!("cannot compress: {error}"));
        let mut encoder = Encoder::new().map_err(failed)?;
        for row in session.query(&self.sql.lock_blocks, &[(&ids, Type::INT8_ARRAY)]).await? {
            let id: i64 = session.get(&row, 0)?;
            // A block that cannot be read has nothing to hide any more; replacing it would hide the damage.
            let Ok(mut raw) = block::decode(session.get(&row, 2)?, session.get(&row, 1)?) else { continue };
            block::blank(&mut raw, ranges.get(&id).into_iter().flatten().cloned());
            let bytes = encoder.encode(&raw).map_err(failed)?;
            session.execute(&self.sql.update_block, &[(&id, Type::INT8), (&bytes, Type::BYTEA)]).await?;
        }
        Ok(())
    }
}

/// Ranges of bytes by block.
type Ranges = BTreeMap<i64, Vec<Range<usize>>>;

/// Returns where the payloads are, by block, and how many bytes they have; erased ones are nowhere.
fn ranges(session: &Session<'_>, rows: &[Row]) -> Result<(Ranges, i64)> {
    let (mut ranges, mut bytes) = (Ranges::new(), 0);
    for row in rows {
        let Some(length) = session.get::<Option<i32>>(row, 3)? else { continue };
        let start = session.get::<i32>(row, 2)?.max(0) as usize;
        bytes += i64::from(length);
        ranges.entry(session.get(row, 1)?).or_default().push(start..start + length.max(0) as usize);
    }
    Ok((ranges, bytes))
}
