//! Listing feeds: all of them, or those that moved since a token.

use super::fault::Fail;
use super::rows::{FeedRow, State};
use burnlog_log::{BatchHead, FeedsPage, LedgerId, Token, WriterId};
use rusqlite::{Connection, params};

/// Lists heads of feeds by ascending id.
///
/// A token is the clock of the snapshot that it was read from. One transaction writes at a time and takes the next
/// clock, so what a snapshot does not show has a later clock: nothing is passed over.
pub(crate) fn list(
    connection: &Connection,
    ledger: LedgerId,
    after: Option<&WriterId>,
    changed_since: Option<&Token>,
    limit: usize,
) -> Result<FeedsPage, Fail> {
    let limit = limit.max(1);
    let clock = State::read(connection)?.clock;
    let since = changed_since.and_then(|token| understand(token, ledger)).filter(|since| *since <= clock);
    let after = after.map_or([].as_slice(), |after| &after.0);
    let rows_max = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let columns = FeedRow::COLUMNS;
    let mut heads: Vec<BatchHead> = Vec::new();
    let mut take = |mut rows: rusqlite::Rows<'_>| -> Result<(), Fail> {
        while let Some(row) = rows.next()? {
            heads.push(FeedRow::take(row)?.head);
        }
        Ok(())
    };
    match since {
        None => {
            let sql =
                format!("SELECT {columns} FROM ledger_feeds WHERE writer > ?1 ORDER BY writer LIMIT ?2");
            take(connection.prepare_cached(&sql)?.query(params![after, rows_max])?)?;
        }
        // By the index of clocks, so that feeds at rest cost nothing.
        Some(since) => {
            let sql = format!(
                "SELECT {columns} FROM ledger_feeds INDEXED BY ledger_feeds_moved \
                 WHERE moved > ?3 AND writer > ?1 ORDER BY writer LIMIT ?2"
            );
            take(connection.prepare_cached(&sql)?.query(params![after, rows_max, since])?)?;
        }
    }
    // A damaged index may answer in any order; whoever goes from page to page must come to an end.
    if heads.windows(2).any(|pair| pair[0].feed >= pair[1].feed) {
        return Err(Fail::damaged("the feeds are not in order"));
    }
    let more = heads.len() > limit;
    heads.truncate(limit);
    Ok(FeedsPage { heads, token: token(ledger, clock), more })
}

/// A token is of one ledger: a file put in its place has another clock.
fn token(ledger: LedgerId, clock: u64) -> Token {
    Token([ledger.0.as_slice(), &clock.to_le_bytes()].concat())
}

fn understand(token: &Token, ledger: LedgerId) -> Option<u64> {
    let clock = token.0.strip_prefix(ledger.0.as_slice())?;
    Some(u64::from_le_bytes(clock.try_into().ok()?))
}
