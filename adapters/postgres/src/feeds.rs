//! Listing feeds and finding addresses. What moved is told by transaction numbers: a token is the oldest number
//! still running when the listing was taken, so a transaction held open while others commit is never missed.

use crate::backend::PostgresBackend;
use crate::read::head;
use crate::session::Parameters;
use burnlog_log::{Address, BatchHead, FeedsPage, Found, Presence, Result, Token, WriterId};
use tokio_postgres::types::Type;

/// Up to here the feeds that moved are fetched by the index on their transaction numbers and then sorted; beyond,
/// the table is walked in its order and the others are left out.
const MOVED_FEW: i64 = 10_000;
/// The most feeds of one page, whatever the caller allows.
const PAGE_FEEDS: usize = 10_000;

impl PostgresBackend {
    pub(crate) fn list_feeds(
        &self,
        after: Option<&WriterId>,
        changed_since: Option<&Token>,
        limit: usize,
    ) -> Result<FeedsPage> {
        let limit = limit.clamp(1, PAGE_FEEDS);
        let since = changed_since.and_then(Mark::parse);
        let oldest = since.as_ref().map_or_else(|| "0".to_owned(), |mark| mark.oldest.to_string());
        let count_max = if since.is_some() { MOVED_FEW + 1 } else { 0 };
        let first: &Parameters<'_> = &[(&oldest, Type::TEXT), (&count_max, Type::INT8)];
        self.pool.read("list feeds", (&self.sql.moved_count, first), async |session, rows| {
            let row = rows.first().ok_or_else(|| session.corrupt("no snapshot"))?;
            let now: String = session.get(row, 0)?;
            let run: String = session.get(row, 1)?;
            let moved: i64 = session.get(row, 2)?;
            let after: &[u8] = after.map_or(&[], |after| &after.0);
            let more = limit as i64 + 1;
            let all: &Parameters<'_> = &[(&after, Type::BYTEA), (&more, Type::INT8), (&oldest, Type::TEXT)];
            // A mark of another run of the server says nothing about this one's transactions.
            let rows = match since.filter(|mark| mark.run == run) {
                None => session.query(&self.sql.feeds, &all[..2]).await?,
                Some(_) if moved <= MOVED_FEW => session.query(&self.sql.feeds_moved_few, all).await?,
                Some(_) => session.query(&self.sql.feeds_moved_many, all).await?,
            };
            let mut heads: Vec<BatchHead> = Vec::with_capacity(rows.len());
            for row in rows.iter().take(limit) {
                let writer: &[u8] = session.get(row, 0)?;
                let writer =
                    writer.try_into().map_err(|_| session.corrupt("a writer's key is not 32 bytes"))?;
                heads.push(head(session, WriterId(writer), row, 1)?);
            }
            let token = Token(format!("{now} {run}").into_bytes());
            Ok(FeedsPage { heads, token, more: rows.len() > limit })
        })
    }

    pub(crate) fn find_addresses(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        if addresses.is_empty() {
            return Ok(Vec::new());
        }
        let (id, wanted) = (feed.0.as_slice(), addresses.iter().map(|a| a.0.as_slice()).collect::<Vec<_>>());
        let first: &Parameters<'_> = &[(&id, Type::BYTEA), (&wanted, Type::BYTEA_ARRAY)];
        self.pool.read("find", (&self.sql.find, first), async |session, rows| {
            let mut found = vec![Found { presence: Presence::Absent, index: None }; addresses.len()];
            for row in rows {
                let home = session.get::<Option<bool>>(&row, 1)? == Some(true);
                let index: Option<i64> =
                    if home { Some(session.get(&row, 2)?) } else { session.get(&row, 3)? };
                let erased: bool = session.get(&row, 4)?;
                let position = session.position(&row, 0, found.len())?;
                found[position] = Found {
                    presence: if erased { Presence::Erased } else { Presence::Present },
                    index: index.map(|index| index as u64),
                };
            }
            Ok(found)
        })
    }
}

/// A token, parsed.
struct Mark {
    /// Transactions before this one were all over, and seen, when the listing was taken.
    oldest: u64,
    /// The run of the server whose transactions these are.
    run: String,
}

impl Mark {
    fn parse(token: &Token) -> Option<Self> {
        let (oldest, run) = std::str::from_utf8(&token.0).ok()?.split_once(' ')?;
        Some(Self { oldest: oldest.parse().ok()?, run: run.to_owned() })
    }
}
