//! Listing feeds: all of them, or those that moved since a token.

use crate::codec::{BatchRow, FeedRow};
use crate::fault::Fail;
use crate::read::{read_feed, read_state};
use crate::tables::{BATCHES, FEEDS, META, MOVED, feed_key};
use burnlog_log::{BatchHead, FeedsPage, LedgerId, Token, WriterId};
use redb::{ReadTransaction, ReadableTable};
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
    let since = match changed_since.and_then(|token| Mark::of_token(token, ledger)) {
        Some(mark) if mark.clock <= clock && mark.is_kept(txn)? => Some(mark.clock),
        _ => None,
    };
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
    Ok(FeedsPage { heads, token: Mark::newest(txn, clock)?.token(ledger), more })
}

fn head_of(feed: WriterId, value: &[u8]) -> Result<BatchHead, Fail> {
    let row = FeedRow::decode(feed, value);
    row.map(|row| row.head).ok_or_else(|| Fail::damaged(format!("the row of feed {feed} does not decode")))
}

/// What a token says of a ledger: its clock, and the head that moved it there. A file that fell back and grew again comes to the same
/// clock with another head.
struct Mark {
    clock: u64,
    feed: WriterId,
    size: u64,
    /// The beginning of the root.
    root: [u8; 8],
}

impl Mark {
    fn newest(txn: &ReadTransaction, clock: u64) -> Result<Self, Fail> {
        let none = Self { clock, feed: WriterId([0; 32]), size: 0, root: [0; 8] };
        let moved = txn.open_table(MOVED)?;
        let last = moved.last()?;
        let Some(feed) = last.map(|(_, feed)| WriterId(*feed.value())) else { return Ok(none) };
        let row = read_feed(&txn.open_table(FEEDS)?, &feed)?;
        Ok(row.map_or(none, |row| Self { clock, feed, size: row.head.size, root: beginning(&row.head) }))
    }

    /// Whether the ledger has this head still.
    fn is_kept(&self, txn: &ReadTransaction) -> Result<bool, Fail> {
        if self.clock == 0 {
            return Ok(true);
        }
        let Some(row) = read_feed(&txn.open_table(FEEDS)?, &self.feed)? else { return Ok(false) };
        if row.head.size == self.size {
            return Ok(beginning(&row.head) == self.root);
        }
        let batches = txn.open_table(BATCHES)?;
        let batch = batches.get(&feed_key(row.number, self.size))?;
        let batch = batch.and_then(|batch| BatchRow::decode(self.feed, batch.value()));
        Ok(batch.is_some_and(|batch| beginning(&batch.head) == self.root))
    }

    /// A token is of one ledger: a file put in its place has another clock.
    fn token(&self, ledger: LedgerId) -> Token {
        let (clock, size) = (self.clock.to_le_bytes(), self.size.to_le_bytes());
        Token([ledger.0.as_slice(), &clock, &self.feed.0, &size, &self.root].concat())
    }

    fn of_token(token: &Token, ledger: LedgerId) -> Option<Self> {
        let rest = token.0.strip_prefix(ledger.0.as_slice())?;
        let (clock, rest) = rest.split_first_chunk()?;
        let (feed, rest) = rest.split_first_chunk()?;
        let (size, root) = rest.split_first_chunk()?;
        Some(Self {
            clock: u64::from_le_bytes(*clock),
            feed: WriterId(*feed),
            size: u64::from_le_bytes(*size),
            root: root.try_into().ok()?,
        })
    }
}

fn beginning(head: &BatchHead) -> [u8; 8] {
    *head.root.0.first_chunk().expect("32 bytes")
}
