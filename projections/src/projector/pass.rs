//! A pass over the feeds of a ledger: folds what each has grown by, and runs again what was lost, to a race or to a store that
//! did not answer.

use super::{CaughtUp, Projector};
use crate::bodies::for_each_body;
use crate::erasures;
use crate::fold::{FoldInput, StoredChunks};
use crate::store::Promotion;
use burnlog_log::{Body, Error, ErrorKind, Ledger, Result, WriterId};

/// How often a lost race is run again.
const ATTEMPTS_MAX: u32 = 8;
/// How often a pass is run again after a store that did not answer. Backends ask again by themselves before they say so.
const UNAVAILABLE_MAX: u32 = 2;

impl Projector<'_> {
    /// Folds all that the ledger has and the store has not, commits it, and makes a generation that was being built
    /// the live one.
    ///
    /// Where a receipt says that records were erased that were folded before, everything is folded anew: rows cannot be
    /// taken apart again (`docs/decisions/0013`).
    ///
    /// `Forked` when a feed is shorter than what was folded of it (the ledger was restored from a backup): rebuild.
    /// `InUse` when another is folding all the while; what is there by then can be read. After an error nothing is in memory,
    /// and the next call takes up where the store is.
    pub fn catch_up(&mut self, ledger: &Ledger) -> Result<CaughtUp> {
        self.committed = CaughtUp::default();
        let (mut attempt, mut unanswered) = (0, 0);
        let mut pass = self.try_catch_up(ledger);
        loop {
            self.let_go();
            match pass {
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS_MAX => attempt += 1,
                Err(error) if error.kind() == ErrorKind::Unavailable && unanswered < UNAVAILABLE_MAX => {
                    (self.limits.lease.pause)(unanswered);
                    unanswered += 1;
                }
                Ok(()) if self.is_outdated => {
                    if attempt == ATTEMPTS_MAX {
                        self.forget();
                        let message = "records are being erased faster than they are folded; try again";
                        return Err(Error::new(ErrorKind::Conflict, "fold", message));
                    }
                    attempt += 1;
                    pass = self.start_over().and_then(|()| self.try_catch_up(ledger));
                    continue;
                }
                Ok(()) => return Ok(std::mem::take(&mut self.committed)),
                Err(error) => {
                    self.forget();
                    return Err(error);
                }
            }
            pass = self.reread().and_then(|()| self.try_catch_up(ledger));
        }
    }

    /// As [`Projector::catch_up`]. Where the ledger went back (a copy from a backup was put in its place, or a crash took what was
    /// acknowledged without a sync), tells `went_back` why and folds everything anew.
    pub fn catch_up_or_anew(
        &mut self,
        ledger: &Ledger,
        went_back: &mut dyn FnMut(&Error),
    ) -> Result<CaughtUp> {
        match self.catch_up(ledger) {
            Err(error) if error.kind() == ErrorKind::Forked => {
                went_back(&error);
                self.start_over()?;
                self.catch_up(ledger)
            }
            result => result,
        }
    }

    fn try_catch_up(&mut self, ledger: &Ledger) -> Result<()> {
        let since = self.mark.token.clone();
        let mut listed = false;
        let token = ledger.for_each_feed(since.as_ref(), |head| {
            listed = true;
            let cursor = self.cursor(&head.feed)?;
            if cursor.next > head.size {
                return Err(shrunk(&head.feed, cursor.next, head.size));
            }
            if self.is_outdated || cursor.next == head.size {
                return Ok(());
            }
            self.fold_feed(ledger, &head.feed, head.size)
        })?;
        if self.is_outdated {
            return Ok(());
        }
        // A newer mark after which as many feeds have moved, none, is not worth a transaction.
        let token = if listed || since.is_none() { token } else { since.unwrap_or(token) };
        self.commit(Some(&token), self.limits.lease.attempts_max)?;
        if !self.is_live {
            self.promote(ledger)?;
        }
        if !self.is_settled {
            let lease = self.hold(self.limits.lease.attempts_max)?;
            self.store.settle(&lease, self.generation)?;
            self.is_settled = true;
        }
        Ok(())
    }

    /// Makes the generation the live one, also in place of one that has folded what the ledger no longer has.
    fn promote(&mut self, ledger: &Ledger) -> Result<()> {
        let lease = self.hold(self.limits.lease.attempts_max)?;
        match self.store.promote(&lease, self.generation, Promotion::CaughtUp) {
            Err(error) if error.kind() == ErrorKind::Conflict && self.has_all_of(ledger)? => {
                self.store.promote(&lease, self.generation, Promotion::Replacing)?;
            }
            result => result?,
        }
        self.is_live = true;
        Ok(())
    }

    /// Whether wherever the live generation is ahead of this one, the ledger is not.
    fn has_all_of(&mut self, ledger: &Ledger) -> Result<bool> {
        let Some(live) = self.store.state()?.live else { return Ok(true) };
        for ahead in self.store.cursors(live.generation)? {
            let next = self.cursor(&ahead.feed)?.next;
            let size = ledger.state(&ahead.feed)?.map_or(0, |state| state.head.size);
            if ahead.next > next && size > next {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn fold_feed(&mut self, ledger: &Ledger, feed: &WriterId, size: u64) -> Result<()> {
        let mut next = self.cursor(feed)?.next;
        while next < size {
            let is_held = self.lease.is_some();
            let lease = self.hold(self.limits.lease.attempts_max)?;
            if is_held {
                // Reading and folding a page takes a while, and many pages go into one commit.
                self.store.renew(&lease)?;
            }
            let page = ledger.read(feed, next, self.limits.page)?;
            if page.entries.is_empty() {
                return Err(shrunk(feed, size, next));
            }
            let first = next;
            let mut inputs = Vec::with_capacity(page.entries.len());
            for (index, entry) in (first..).zip(&page.entries) {
                let address = entry.address;
                match &entry.body {
                    Body::Present { skeleton, payload } => {
                        if erasures::is_receipt(skeleton) {
                            // It may name what stands before it on this page.
                            self.fold_page(ledger, &std::mem::take(&mut inputs))?;
                            self.is_outdated = self.is_outdated_by(ledger, payload)?;
                            if self.is_outdated {
                                return Ok(());
                            }
                        }
                        inputs.push(FoldInput {
                            feed,
                            index,
                            address,
                            skeleton,
                            payload: Some(&payload[..]),
                        });
                    }
                    Body::Erased { skeleton } => {
                        inputs.push(FoldInput { feed, index, address, skeleton, payload: None });
                    }
                    Body::Damaged { .. } => self.uncommitted.damaged += 1,
                }
            }
            self.fold_page(ledger, &inputs)?;
            // A lost race ends the pass: feeds before this one may have lost what was in memory.
            next = first + page.entries.len() as u64;
            self.uncommitted.entries += page.entries.len() as u64;
            self.uncommitted.feeds += u64::from(next >= size);
            self.moved(feed, next, self.limits.lease.attempts_max)?;
        }
        Ok(())
    }
}

impl Projector<'_> {
    /// Folds entries, and again those before them that they say something of.
    fn fold_page(&mut self, ledger: &Ledger, inputs: &[FoldInput<'_>]) -> Result<()> {
        self.fold(inputs)?;
        if !self.pending.is_late() {
            return Ok(());
        }
        let stored = StoredChunks { store: self.store, generation: self.generation };
        let late = self.pending.take_late(stored)?;
        for_each_body(ledger, &late, self.limits.page, &mut |address, body| {
            if let Some(Body::Present { skeleton, payload }) = body {
                self.pending.fold_again(address, &skeleton, &payload);
            }
            Ok(true)
        })?;
        Ok(())
    }
}

fn shrunk(feed: &WriterId, folded: u64, size: u64) -> Error {
    let message = format!(
        "{folded} entries were folded and the feed has {size}: the ledger went back; rebuild the projections"
    );
    Error::new(ErrorKind::Forked, "catch up", message).at(feed)
}
