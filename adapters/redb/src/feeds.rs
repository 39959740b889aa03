//! Listing feeds: all of them, or those that moved since a token.

use crate::codec::FeedRow;
use crate::fault::Fail;
use crate::read::read_state;
use crate::tables::{FEEDS, META, MOVED};
use burnlog_log::{BatchHead, FeedsPage, LedgerId, Token, WriterId};
use redb::ReadTransaction;
use std::collections::BTreeSet;
use std::ops::Bound;

/// Lists heads of feeds by ascending id.
pub(crate) fn list_feeds(
    txn: &ReadTransaction,
    ledger: LedgerId,
    after: Option<&WriterId>,
    changed_since: Option<&Token>,
    limit: usize,
) -> Result<FeedsPage, Fail> {
    let limit = limit.max(1);
    let clock = read_state(&txn.open_table(META)?)?.clock;
    let feeds = txn.open_table(FEEDS)?;
    let since = changed_since.and_then(|token| understand(token, ledger)).filter(|since| *since <= clock);
    let mut heads: Vec<BatchHead> = match since {
        None => {
            let start = after.map_or(Bound::Unbounded, |after| Bound::Excluded(&after.0));
            let rows = feeds.range::<&[u8; 32]>((start, Bound::Unbounded))?.take(limit.saturating_add(1));
            rows.map(|row| {
                let (key, value) = row?;
                head_of(WriterId(*key.value()), value.value())
            })
            .collect::<Result<_, Fail>>()?
        }
        Some(since) => {
            // The smallest ids so far, one more than asked for, whatever number of feeds moved.
            let mut ids = BTreeSet::new();
            for row in txn.open_table(MOVED)?.range(since.saturating_add(1)..)? {
                let id = WriterId(*row?.1.value());
                if after.is_none_or(|after| id > *after) {
                    ids.insert(id);
                }
                if ids.len() > limit.saturating_add(1) {
                    ids.pop_last();
                }
            }
            ids.iter()
                .map(|id| {
                    let row = feeds.get(&id.0)?;
                    let row = row.ok_or_else(|| Fail::damaged(format!("feed {id} moved and has no row")))?;
                    head_of(*id, row.value())
                })
                .collect::<Result<_, Fail>>()?
        }
    };
    // On a damaged page redb may answer anything; whoever goes from page to page must come to an end.
    let mut last = after.copied();
    for head in &heads {
        if last.is_some_and(|last| last >= head.feed) {
            return Err(Fail::damaged("the feeds are not in order"));
        }
        last = Some(head.feed);
    }
    let more = heads.len() > limit;
    heads.truncate(limit);
    Ok(FeedsPage { heads, token: token(ledger, clock), more })
}

fn head_of(feed: WriterId, value: &[u8]) -> Result<BatchHead, Fail> {
    let row = FeedRow::decode(feed, value);
    row.map(|row| row.head).ok_or_else(|| Fail::damaged(format!("the row of feed {feed} does not decode")))
}

/// A token is of one ledger: a file put in its place has another clock.
fn token(ledger: LedgerId, clock: u64) -> Token {
    Token([ledger.0.as_slice(), &clock.to_le_bytes()].concat())
}

fn understand(token: &Token, ledger: LedgerId) -> Option<u64> {
    let clock = token.0.strip_prefix(ledger.0.as_slice())?;
    Some(u64::from_le_bytes(clock.try_into().ok()?))
}
