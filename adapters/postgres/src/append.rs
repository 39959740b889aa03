//! Appending one batch in one transaction. The README tells it as a story ("Life of an append").

use crate::backend::PostgresBackend;
use crate::plan::{Block, Plan};
use crate::session::{Parameters, Session};
use crate::sql::{COUNTER_SHARDS, Sql};
use burnlog_log::{Address, Append, Error, ErrorKind, Result};
use futures_util::future::{join, join5};
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// How much goes into one statement when the blocks are written.
const STATEMENT_BYTES: usize = 8 << 20;

impl PostgresBackend {
    pub(crate) fn append_batch(&self, append: &Append<'_>) -> Result<()> {
        let plan = Plan::new(append)?;
        let feed = append.head.feed.0.as_slice();
        let first: &Parameters<'_> = &[(&feed, Type::BYTEA)];
        self.pool.write("append", (&self.sql.lock_feed, first), async |session, rows| {
            Transaction { session, sql: &self.sql, plan: &plan }.run(rows).await
        })
    }
}

/// A batch on its way, between `BEGIN` and `COMMIT`.
struct Transaction<'t> {
    session: &'t Session<'t>,
    sql: &'t Sql,
    plan: &'t Plan<'t>,
}

impl Transaction<'_> {
    async fn run(&self, locked: Vec<Row>) -> Result<()> {
        let number = self.feed(locked).await?;
        let block_ids = self.block_ids()?;
        // The server inserts while this side compresses.
        let (inserted, blocks) =
            join(self.insert_events(number, &block_ids), async { self.plan.encode(&block_ids, |_| false) })
                .await;
        let (inserted, mut blocks) = (inserted?, blocks?);
        let mut places = Vec::new();
        let mut lost = vec![false; self.plan.events.len()];
        if inserted < self.plan.entries.len() as u64 {
            places = self.known(number, &mut lost).await?;
            if lost.contains(&true) {
                blocks = self.plan.encode(&block_ids, |position| lost[position])?;
            }
        }
        self.finish(number, &places, &lost, &blocks).await
    }

    /// Compares the locked head with what is expected, makes the feed where it is new, and returns its number.
    async fn feed(&self, mut rows: Vec<Row>) -> Result<i64> {
        let append = self.plan.append;
        let feed = append.head.feed.0.as_slice();
        if rows.is_empty() && append.expected_size == 0 {
            let number = random_i64()?;
            self.session
                .execute(&self.sql.create_feed, &[(&feed, Type::BYTEA), (&number, Type::INT8)])
                .await?;
            // Somebody else may have made it meanwhile; then this waited for them, and sees what they made.
            rows = self.session.query(&self.sql.lock_feed, &[(&feed, Type::BYTEA)]).await?;
        }
        let (number, size, root) = match rows.first() {
            Some(row) => {
                let size = self.session.get::<i64>(row, 1)? as u64;
                (self.session.get(row, 0)?, size, self.session.get(row, 2)?)
            }
            None => (0, 0, [].as_slice()),
        };
        if size != append.expected_size {
            let message = format!("the feed has {size} entries, {} were expected", append.expected_size);
            return Err(Error::new(ErrorKind::Conflict, "append", message).at(append.head.feed));
        }
        if size > 0 && root != append.expected_root.0 {
            let message = format!(
                "at size {size} the feed has another root than {}: somebody else wrote with this key",
                append.expected_root
            );
            return Err(Error::new(ErrorKind::Forked, "append", message).at(append.head.feed));
        }
        Ok(number)
    }

    /// Names the blocks. Random, because a counter would make writers wait for each other.
    fn block_ids(&self) -> Result<Vec<i64>> {
        (0..self.plan.block_count()).map(|_| random_i64()).collect()
    }

    /// Inserts the rows of the events and returns how many were new.
    async fn insert_events(&self, number: i64, block_ids: &[i64]) -> Result<u64> {
        let events = &self.plan.events;
        if events.is_empty() {
            return Ok(0);
        }
        let index: Vec<i64> = events.iter().map(|planned| planned.index).collect();
        let block: Vec<i64> = events.iter().map(|planned| block_ids[planned.place.block]).collect();
        let start: Vec<i32> = events.iter().map(|planned| planned.place.start as i32).collect();
        let skeleton: Vec<i32> = events.iter().map(|planned| planned.event.skeleton.len() as i32).collect();
        let payload: Vec<Option<i32>> =
            events.iter().map(|planned| planned.event.payload.map(|payload| payload.len() as i32)).collect();
        let address: Vec<&[u8]> = events.iter().map(|planned| planned.event.address.0.as_slice()).collect();
        let parameters: &Parameters<'_> = &[
            (&number, Type::INT8),
            (&index, Type::INT8_ARRAY),
            (&block, Type::INT8_ARRAY),
            (&start, Type::INT4_ARRAY),
            (&skeleton, Type::INT4_ARRAY),
            (&payload, Type::INT4_ARRAY),
            (&address, Type::BYTEA_ARRAY),
        ];
        self.session.execute(&self.sql.insert_events, parameters).await
    }

    /// Looks at the entries whose event was not inserted just now: returns those that the ledger has from another
    /// feed, and marks in `lost` the events that were sent for nothing.
    async fn known(&self, number: i64, lost: &mut [bool]) -> Result<Vec<(i64, Address)>> {
        let Plan { append, events, entries, .. } = self.plan;
        let addresses: Vec<&[u8]> = entries.iter().map(|(address, _)| address.0.as_slice()).collect();
        let parameters: &Parameters<'_> = &[(&number, Type::INT8), (&addresses, Type::BYTEA_ARRAY)];
        let rows = self.session.query(&self.sql.known, parameters).await?;
        let (mut places, mut missing) = (Vec::new(), Vec::new());
        for row in rows {
            let (address, index) = entries[self.session.position(&row, 0, entries.len())?];
            let home = self.session.get::<Option<i64>>(&row, 1)?.zip(self.session.get(&row, 2)?);
            let place: Option<i64> = self.session.get(&row, 3)?;
            match home {
                // Inserted by this transaction: an index from the expected size on is nobody else's.
                Some(home) if home == (number, index) => continue,
                Some((feed, _)) if feed == number || place.is_some() => {
                    let message = format!("{address} is in the feed already");
                    return Err(Error::new(ErrorKind::Invalid, "append", message).at(append.head.feed));
                }
                Some(_) => places.push((index, address)),
                None => missing.push((index, address)),
            }
            if let Ok(sent) = events.binary_search_by_key(&address, |planned| planned.event.address) {
                lost[sent] = true;
            }
        }
        if missing.is_empty() {
            return Ok(places);
        }
        missing.sort_unstable();
        let missing = missing.into_iter().map(|(_, address)| address).collect();
        Err(Error::missing("append", missing).at(append.head.feed))
    }

    /// Writes everything that needs no more answers, and commits: one conversation, unless the blocks are large.
    async fn finish(
        &self,
        number: i64,
        places: &[(i64, Address)],
        lost: &[bool],
        blocks: &[Block],
    ) -> Result<()> {
        let (mut from, mut bytes) = (0, 0);
        for (position, block) in blocks.iter().enumerate() {
            if bytes > 0 && bytes + block.bytes.len() > STATEMENT_BYTES {
                self.insert_blocks(&blocks[from..position]).await?;
                (from, bytes) = (position, 0);
            }
            bytes += block.bytes.len();
        }
        // The counters come last: other writers wait for their row from there to the end of the commit. After an
        // error the server refuses all that follows, the commit included, so the first error is the one to tell.
        let (blocks, places, entries, feed, (counters, commit)) = join5(
            self.insert_blocks(&blocks[from..]),
            self.insert_places(number, places),
            self.insert_entries(),
            self.update_feed(),
            join(self.update_counters(lost), self.session.run("COMMIT")),
        )
        .await;
        blocks.and(places).and(entries).and(feed).and(counters).and(commit)
    }

    async fn insert_blocks(&self, blocks: &[Block]) -> Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        let id: Vec<i64> = blocks.iter().map(|block| block.id).collect();
        let raw_bytes: Vec<i32> = blocks.iter().map(|block| block.raw_bytes).collect();
        let bytes: Vec<&[u8]> = blocks.iter().map(|block| block.bytes.as_slice()).collect();
        let parameters: &Parameters<'_> =
            &[(&id, Type::INT8_ARRAY), (&raw_bytes, Type::INT4_ARRAY), (&bytes, Type::BYTEA_ARRAY)];
        self.session.execute(&self.sql.insert_blocks, parameters).await.map(drop)
    }

    async fn insert_places(&self, number: i64, places: &[(i64, Address)]) -> Result<()> {
        if places.is_empty() {
            return Ok(());
        }
        let index: Vec<i64> = places.iter().map(|(index, _)| *index).collect();
        let address: Vec<&[u8]> = places.iter().map(|(_, address)| address.0.as_slice()).collect();
        let parameters: &Parameters<'_> =
            &[(&number, Type::INT8), (&index, Type::INT8_ARRAY), (&address, Type::BYTEA_ARRAY)];
        self.session.execute(&self.sql.insert_places, parameters).await.map(drop)
    }

    /// One row for the run of entries, with the head that signs it.
    async fn insert_entries(&self) -> Result<()> {
        let append = self.plan.append;
        let head = append.head;
        let addresses: Vec<u8> = append.entries.iter().flat_map(|address| address.0).collect();
        let parameters: &Parameters<'_> = &[
            (&head.feed.0.as_slice(), Type::BYTEA),
            (&(append.expected_size as i64), Type::INT8),
            (&(head.size as i64), Type::INT8),
            (&head.root.0.as_slice(), Type::BYTEA),
            (&head.recorded_at.as_micros(), Type::INT8),
            (&head.signature.0.as_slice(), Type::BYTEA),
            (&addresses, Type::BYTEA),
        ];
        self.session.execute(&self.sql.insert_entries, parameters).await.map(drop)
    }

    async fn update_feed(&self) -> Result<()> {
        let head = self.plan.append.head;
        let frontier: Vec<u8> = self.plan.append.frontier.iter().flat_map(|peak| peak.0).collect();
        let parameters: &Parameters<'_> = &[
            (&head.feed.0.as_slice(), Type::BYTEA),
            (&(head.size as i64), Type::INT8),
            (&head.root.0.as_slice(), Type::BYTEA),
            (&head.recorded_at.as_micros(), Type::INT8),
            (&head.signature.0.as_slice(), Type::BYTEA),
            (&frontier, Type::BYTEA),
        ];
        self.session.execute(&self.sql.update_feed, parameters).await.map(drop)
    }

    /// Adds the new events to the counters. Spread over rows by feed, so that few writers share one.
    async fn update_counters(&self, lost: &[bool]) -> Result<()> {
        let kept = || self.plan.events.iter().zip(lost).filter(|(_, lost)| !**lost).map(|(kept, _)| kept);
        let events = kept().count() as i64;
        let payload_bytes: i64 = kept().filter_map(|kept| kept.event.payload).map(|p| p.len() as i64).sum();
        if events == 0 {
            return Ok(());
        }
        let shard = i16::from(self.plan.append.head.feed.0[0] % COUNTER_SHARDS);
        let parameters: &Parameters<'_> =
            &[(&shard, Type::INT2), (&events, Type::INT8), (&payload_bytes, Type::INT8)];
        self.session.execute(&self.sql.update_counters, parameters).await.map(drop)
    }
}

/// Returns a number that no other writer has.
fn random_i64() -> Result<i64> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "append", format!("no random numbers: {error}"))
    })?;
    Ok(i64::from_le_bytes(bytes))
}
