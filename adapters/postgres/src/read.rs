//! Reading events back: pages of a feed, and events by address. What cannot be read is one damaged entry, and
//! everything around it is returned.

use crate::backend::PostgresBackend;
use crate::block;
use crate::session::{Parameters, Session};
use burnlog_log::{
    Address, BatchHead, Body, Entry, Error, ErrorKind, FeedState, Limit, Page, Result, Root, Signature,
    Timestamp, WriterId,
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use std::collections::HashMap;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

/// The most entries and bytes of one page, whatever the caller allows.
const PAGE: Limit = Limit { entries: 16_384, bytes: 64 << 20 };
/// How many addresses are looked up at a time, until the page is full.
const LOCATE_AT_ONCE: usize = 1024;
/// An index that no feed reaches, and that two of can be added.
const INDEX_MAX: u64 = 1 << 62;

impl PostgresBackend {
    pub(crate) fn read_page(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        let mut limit = within(limit);
        loop {
            match self.try_page(feed, from, limit) {
                // The server cannot read a row of its own: a shorter page, down to the one entry that is damaged.
                Err(error) if error.kind() == ErrorKind::Corrupt && limit.entries > 1 => limit.entries /= 2,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    return self.damaged_page(feed, from, error);
                }
                result => return result,
            }
        }
    }

    fn try_page(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        let (id, from, count) = (feed.0.as_slice(), from.min(INDEX_MAX) as i64, limit.entries as i64);
        let first: &Parameters<'_> = &[(&id, Type::BYTEA), (&from, Type::INT8), (&count, Type::INT8)];
        self.pool.read("read", (&self.sql.read_feed, first), async |session, rows| {
            let Some(row) = rows.first() else {
                return Ok(Page { state: None, entries: Vec::new(), heads: Vec::new() });
            };
            let frontier = roots(session.get(row, 4)?);
            let state = FeedState { head: head(session, *feed, row, 0)?, frontier };
            let count = state.head.size.saturating_sub(from as u64).min(limit.entries as u64) as usize;
            let runs = Runs::new(session, *feed, &rows, from as u64, count)?;
            let bodies = self.bodies(session, &runs.addresses, limit, None).await?;
            let end = from as u64 + bodies.len() as u64;
            let entries: Vec<Entry> = (from as u64..)
                .zip(runs.addresses.iter().zip(bodies))
                .map(|(index, (address, body))| {
                    Entry::new(*address, body.unwrap_or_else(|| runs.absent(feed, index, address)))
                })
                .collect();
            let mut heads = runs.heads;
            let covering = heads.partition_point(|head| head.size < end);
            heads.truncate(if entries.is_empty() { 0 } else { covering + 1 });
            Ok(Page { state: Some(state), entries, heads })
        })
    }

    /// A page of the one entry that the server cannot read.
    fn damaged_page(&self, feed: &WriterId, from: u64, error: Error) -> Result<Page> {
        let mut page = self.try_page(feed, u64::MAX, Limit { entries: 1, bytes: 1 })?;
        match &page.state {
            Some(state) if from < state.head.size => {}
            _ => return Err(error),
        }
        let body = Body::Damaged { place: place(feed, from), reason: error.message().to_owned() };
        page.entries.push(Entry::new(Address([0; 32]), body));
        Ok(page)
    }

    pub(crate) fn get_events(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>> {
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        let mut limit = within(limit);
        loop {
            let asked = &addresses[..addresses.len().min(limit.entries)];
            let chunk: Vec<&[u8]> =
                asked.iter().take(LOCATE_AT_ONCE).map(|address| address.0.as_slice()).collect();
            let first: &Parameters<'_> = &[(&chunk, Type::BYTEA_ARRAY)];
            let result = self.pool.read("get", (&self.sql.locate, first), async |session, rows| {
                self.bodies(session, asked, limit, Some(rows)).await
            });
            match result {
                Err(error) if error.kind() == ErrorKind::Corrupt && limit.entries > 1 => limit.entries /= 2,
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    let place = format!("event {}", addresses[0]);
                    return Ok(vec![Some(Body::Damaged { place, reason: error.message().to_owned() })]);
                }
                result => return result,
            }
        }
    }

    /// Reads the events of a prefix of `addresses` within `limit`, one at least; `None` for an absent one. `first`
    /// are the places of the first [`LOCATE_AT_ONCE`] where they were asked for already.
    async fn bodies(
        &self,
        session: &Session<'_>,
        addresses: &[Address],
        limit: Limit,
        mut first: Option<Vec<Row>>,
    ) -> Result<Vec<Option<Body>>> {
        let mut located: Vec<Option<Locator>> = Vec::new();
        let mut bytes = 0;
        'full: for chunk in addresses.chunks(LOCATE_AT_ONCE) {
            let rows = if let Some(rows) = first.take() {
                rows
            } else {
                let chunk: Vec<&[u8]> = chunk.iter().map(|address| address.0.as_slice()).collect();
                session.query(&self.sql.locate, &[(&chunk, Type::BYTEA_ARRAY)]).await?
            };
            for locator in locators(session, &rows, chunk.len())? {
                bytes += locator.as_ref().map_or(0, Locator::bytes);
                if !located.is_empty() && (bytes > limit.bytes || located.len() >= limit.entries) {
                    break 'full;
                }
                located.push(locator);
            }
        }
        self.fetch(session, &located).await
    }

    /// Reads the blocks of located events, each once, and cuts the events out of them.
    async fn fetch(&self, session: &Session<'_>, located: &[Option<Locator>]) -> Result<Vec<Option<Body>>> {
        let mut bodies: Vec<Option<Body>> = vec![None; located.len()];
        let mut wanted: HashMap<i64, Vec<usize>> = HashMap::new();
        for (position, locator) in located.iter().enumerate() {
            if let Some(locator) = locator {
                wanted.entry(locator.block).or_default().push(position);
            }
        }
        let fill = |bodies: &mut [Option<Body>], id: i64, positions: &[usize], block: &Bytes| {
            let used: u64 = positions.iter().filter_map(|at| located[*at].as_ref()).map(Locator::bytes).sum();
            // A slice keeps its whole block in memory, which is a waste where little of the block is wanted.
            let copy = used * 2 < block.len() as u64;
            for at in positions {
                bodies[*at] = located[*at].as_ref().map(|locator| locator.body(id, block, copy));
            }
        };
        wanted.retain(|id, positions| match self.cached(*id) {
            Some(block) => {
                fill(&mut bodies, *id, positions, &block);
                false
            }
            None => true,
        });
        if wanted.is_empty() {
            return Ok(bodies);
        }
        let ids: Vec<i64> = wanted.keys().copied().collect();
        let rows = session.stream(&self.sql.blocks, &[(&ids, Type::INT8_ARRAY)]).await?;
        let mut rows = std::pin::pin!(rows);
        while let Some(row) = rows.try_next().await.map_err(|error| session.error(&error))? {
            let id: i64 = session.get(&row, 0)?;
            let Some(positions) = wanted.remove(&id) else { continue };
            match block::decode(session.get(&row, 2)?, session.get(&row, 1)?) {
                Ok(raw) => {
                    let raw = Bytes::from(raw);
                    fill(&mut bodies, id, &positions, &raw);
                    self.cache(id, &raw);
                }
                Err(reason) => positions.iter().for_each(|at| bodies[*at] = Some(damaged_block(id, &reason))),
            }
        }
        for (id, positions) in wanted {
            for at in positions {
                bodies[at] = Some(damaged_block(id, "the block is not there"));
            }
        }
        Ok(bodies)
    }
}

/// Where an event's bytes are.
#[derive(Debug, Clone)]
struct Locator {
    block: i64,
    start: i32,
    skeleton_bytes: i32,
    /// `None` once the payload is erased.
    payload_bytes: Option<i32>,
}

/// Reads the places of `count` addresses; `None` for those that no row is about.
fn locators(session: &Session<'_>, rows: &[Row], count: usize) -> Result<Vec<Option<Locator>>> {
    let mut located = vec![None; count];
    for row in rows {
        let position = session.position(row, 0, count)?;
        located[position] = Some(Locator {
            block: session.get(row, 1)?,
            start: session.get(row, 2)?,
            skeleton_bytes: session.get(row, 3)?,
            payload_bytes: session.get(row, 4)?,
        });
    }
    Ok(located)
}

impl Locator {
    fn bytes(&self) -> u64 {
        self.skeleton_bytes.max(0) as u64 + self.payload_bytes.unwrap_or(0).max(0) as u64
    }

    fn body(&self, id: i64, block: &Bytes, copy: bool) -> Body {
        let slice = |start: i64, length: i32| {
            let range = usize::try_from(start).ok()?..usize::try_from(start + i64::from(length)).ok()?;
            let bytes = block.get(range.clone())?;
            Some(if copy { Bytes::copy_from_slice(bytes) } else { block.slice(range) })
        };
        let start = i64::from(self.start);
        let skeleton = slice(start, self.skeleton_bytes);
        let payload = self.payload_bytes.map(|length| slice(start + i64::from(self.skeleton_bytes), length));
        match (skeleton, payload) {
            (Some(skeleton), None) => Body::Erased { skeleton },
            (Some(skeleton), Some(Some(payload))) => Body::Present { skeleton, payload },
            _ => damaged_block(id, "the event's place is outside the block"),
        }
    }
}

/// The entries of a page as the runs of a feed give them.
struct Runs {
    from: u64,
    addresses: Vec<Address>,
    heads: Vec<BatchHead>,
    /// Whether a run says what stands at this position; where not, the address is zeros.
    known: Vec<bool>,
}

impl Runs {
    /// Puts the runs together. A run that is not there, or has another length, leaves entries without address.
    fn new(session: &Session<'_>, feed: WriterId, rows: &[Row], from: u64, count: usize) -> Result<Self> {
        let mut runs = Self {
            from,
            addresses: vec![Address([0; 32]); count],
            heads: Vec::new(),
            known: vec![false; count],
        };
        for row in rows {
            let Some(index) = session.get::<Option<i64>>(row, 5)? else { continue };
            let head = head(session, feed, row, 6)?;
            let first = from.max(index as u64);
            // The whole run is checked, not the part: a run of another length has its addresses elsewhere.
            let length = i64::from(session.get::<i32>(row, 10)?);
            if length == 32 * (head.size as i64 - index) {
                let (addresses, _) = session.get::<&[u8]>(row, 11)?.as_chunks::<32>();
                for (at, address) in ((first - from) as usize..count).zip(addresses) {
                    runs.addresses[at] = Address(*address);
                    runs.known[at] = true;
                }
            }
            runs.heads.push(head);
        }
        Ok(runs)
    }

    fn absent(&self, feed: &WriterId, index: u64, address: &Address) -> Body {
        let reason = if self.known[(index - self.from) as usize] {
            format!("the event {address} is not there")
        } else {
            "the entries of this batch are not there, or are not as many as its head says".to_owned()
        };
        Body::Damaged { place: place(feed, index), reason }
    }
}

/// Reads a batch head from four columns.
pub(crate) fn head(session: &Session<'_>, feed: WriterId, row: &Row, column: usize) -> Result<BatchHead> {
    let wrong = || session.corrupt(format!("a head of {feed} has fields of another length; run `verify`"));
    Ok(BatchHead {
        feed,
        size: u64::try_from(session.get::<i64>(row, column)?).map_err(|_| wrong())?,
        root: Root(session.get::<&[u8]>(row, column + 1)?.try_into().map_err(|_| wrong())?),
        recorded_at: Timestamp::from_micros(session.get(row, column + 2)?),
        signature: Signature(session.get::<&[u8]>(row, column + 3)?.try_into().map_err(|_| wrong())?),
    })
}

/// Reads a frontier; an empty one where the bytes are not roots, which makes the reader compute it from the entries.
fn roots(bytes: &[u8]) -> Vec<Root> {
    let (roots, rest) = bytes.as_chunks::<32>();
    if rest.is_empty() { roots.iter().copied().map(Root).collect() } else { Vec::new() }
}

fn within(limit: Limit) -> Limit {
    Limit { entries: limit.entries.clamp(1, PAGE.entries), bytes: limit.bytes.min(PAGE.bytes) }
}

fn place(feed: &WriterId, index: u64) -> String {
    format!("table entries, {feed} at {index}")
}

fn damaged_block(id: i64, reason: &str) -> Body {
    Body::Damaged { place: format!("table blocks, id {id}"), reason: reason.to_owned() }
}
