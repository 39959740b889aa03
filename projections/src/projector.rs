//! The one who folds: reads what feeds have grown by since last time, keeps the rows in memory up to a limit,
//! commits them together with the cursors. Whoever loses a race writes nothing and starts again.

use crate::erasures;
use crate::fold::{FoldInput, Pending, StoredChunks};
use crate::records::RecordClass;
use crate::store::{FoldStore, Generation, GenerationState, Promotion};
use burnlog_log::{Address, Batch, Body, Error, ErrorKind, Ledger, Limit, Outcome, Result, Token, WriterId};
use std::collections::BTreeMap;

/// The version of all folds and tables together. A change of any row that a fold makes raises it.
pub const PROJECTIONS_VERSION: u32 = 4;
/// How often a lost race is run again.
const ATTEMPTS_MAX: u32 = 8;

/// How much a fold keeps in memory before it commits.
#[derive(Debug, Clone, Copy)]
pub struct FoldLimits {
    /// Rows in memory, in bytes, about.
    pub pending_bytes_max: usize,
    /// How much is read from the ledger at once.
    pub page: Limit,
}

impl Default for FoldLimits {
    /// 18 MiB of rows; pages of 4 MiB.
    fn default() -> Self {
        Self { pending_bytes_max: 18 << 20, page: Limit::default() }
    }
}

/// What [`Projector::catch_up`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaughtUp {
    /// Feeds that had moved.
    pub feeds: u64,
    /// Entries folded, those of known events included.
    pub entries: u64,
    /// Entries passed over because the store cannot read their events: a finding for `verify`.
    pub damaged: u64,
    /// Entries passed over because their skeletons are of a newer version.
    pub unsupported: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// Where the store has it.
    committed: u64,
    /// Where it is with what is in memory.
    next: u64,
}

/// Folds the feeds of a ledger into a store. What is in memory only is lost when it is dropped, never half written.
pub struct Projector<'s> {
    store: &'s mut dyn FoldStore,
    limits: FoldLimits,
    generation: Generation,
    revision: u64,
    token: Option<Token>,
    is_live: bool,
    pending: Pending,
    cursors: BTreeMap<WriterId, Cursor>,
    damaged: u64,
    unsupported: u64,
    /// Whether rows tell of what was erased after it was folded.
    is_outdated: bool,
}

impl<'s> Projector<'s> {
    /// Opens the projections of `ledger` for folding, making them if need be.
    ///
    /// `Invalid` when the store belongs to another ledger, `Unsupported` when a newer program made its tables.
    pub fn new(store: &'s mut dyn FoldStore, ledger: &Ledger, limits: FoldLimits) -> Result<Self> {
        store.bind(ledger.location().id)?;
        let state = store.state()?;
        let known = |state: &Option<GenerationState>| {
            state.clone().filter(|state| state.version == PROJECTIONS_VERSION)
        };
        let newer =
            [&state.live, &state.building].into_iter().flatten().find(|g| g.version > PROJECTIONS_VERSION);
        if let Some(newer) = newer {
            return Err(unsupported(&store.location(), newer.version));
        }
        let chosen = match known(&state.live).or_else(|| known(&state.building)) {
            Some(chosen) => chosen.generation,
            None => store.create(PROJECTIONS_VERSION)?,
        };
        Self::into_generation(store, chosen, limits)
    }

    /// Starts all over in new tables beside the live ones, which queries go on reading until this one has caught up.
    pub fn rebuild(store: &'s mut dyn FoldStore, ledger: &Ledger, limits: FoldLimits) -> Result<Self> {
        store.bind(ledger.location().id)?;
        store.state()?;
        let generation = store.create(PROJECTIONS_VERSION)?;
        Self::into_generation(store, generation, limits)
    }

    fn into_generation(
        store: &'s mut dyn FoldStore,
        generation: Generation,
        limits: FoldLimits,
    ) -> Result<Self> {
        let mut projector = Self {
            store,
            limits,
            generation,
            revision: 0,
            token: None,
            is_live: false,
            pending: Pending::default(),
            cursors: BTreeMap::new(),
            damaged: 0,
            unsupported: 0,
            is_outdated: false,
        };
        projector.reread()?;
        Ok(projector)
    }

    /// Forgets what is in memory and takes up where the store is.
    fn reread(&mut self) -> Result<()> {
        self.pending = Pending::default();
        self.cursors.clear();
        self.is_outdated = false;
        let state = self.store.state()?;
        self.is_live = state.live.as_ref().is_some_and(|live| live.generation == self.generation);
        let own =
            [state.live, state.building].into_iter().flatten().find(|g| g.generation == self.generation);
        let Some(own) = own else {
            let message = "somebody else replaced the projections meanwhile; start again";
            return Err(Error::new(ErrorKind::Conflict, "fold", message).at(self.store.location()));
        };
        self.revision = own.revision;
        self.token = own.token;
        Ok(())
    }

    fn cursor(&mut self, feed: &WriterId) -> Result<Cursor> {
        if let Some(cursor) = self.cursors.get(feed) {
            return Ok(*cursor);
        }
        let committed = self.store.cursor(self.generation, feed)?;
        let cursor = Cursor { committed, next: committed };
        self.cursors.insert(*feed, cursor);
        Ok(cursor)
    }

    /// Folds what an append added to `feed`, straight from memory, if the fold stands exactly at its first entry;
    /// else does nothing, and [`Projector::catch_up`] will read it. Returns whether it was folded.
    ///
    /// `outcomes` is what the append returned for the events of `batch`, in order.
    pub fn fold_appended(&mut self, feed: &WriterId, batch: &Batch, outcomes: &[Outcome]) -> Result<bool> {
        let mut indexes = outcomes.iter().filter_map(|outcome| outcome.index());
        let Some(first) = indexes.next() else { return Ok(true) };
        if self.cursor(feed)?.next != first {
            return Ok(false);
        }
        let mut next = first;
        for (event, outcome) in batch.events().zip(outcomes) {
            let Some(index) = outcome.index() else { continue };
            let is_known = matches!(outcome, Outcome::Known(_));
            // The ledger may have erased what another feed brought: it is asked. A receipt needs it as well.
            if is_known && self.class_of(&event.address, event.skeleton)?.is_none()
                || erasures::is_receipt(event.skeleton)
            {
                return Ok(false);
            }
            let (address, skeleton, payload) = (event.address, event.skeleton, Some(event.payload));
            self.fold(&FoldInput { feed, index, address, skeleton, payload })?;
            next = index + 1;
        }
        self.moved(feed, next)?;
        Ok(true)
    }

    fn fold(&mut self, input: &FoldInput<'_>) -> Result<()> {
        let stored = StoredChunks { store: self.store, generation: self.generation };
        if !self.pending.fold(stored, input)? {
            self.unsupported += 1;
        }
        Ok(())
    }

    fn class_of(&self, address: &Address, skeleton: &[u8]) -> Result<Option<RecordClass>> {
        let stored = StoredChunks { store: self.store, generation: self.generation };
        self.pending.class_of(stored, address, skeleton)
    }

    /// Returns whether rows tell of an event that a receipt names and that the ledger has erased. One that it has not
    /// was erased elsewhere: the receipt came with a replay and is a proposal.
    fn is_outdated_by(&self, ledger: &Ledger, receipt: &[u8]) -> Result<bool> {
        let named = erasures::named(receipt);
        let mut rest = &named[..];
        while !rest.is_empty() {
            let bodies = ledger.get(rest, self.limits.page)?;
            if bodies.is_empty() {
                break;
            }
            let (asked, behind) = rest.split_at(bodies.len().min(rest.len()));
            rest = behind;
            for (address, body) in asked.iter().zip(&bodies) {
                let Some(Body::Erased { skeleton }) = body else { continue };
                let class = self.class_of(address, skeleton)?;
                // Of tails and parts nothing is known but that they are there.
                let untold =
                    [RecordClass::Erased, RecordClass::Tail, RecordClass::Part, RecordClass::OtherKind];
                if class.is_some_and(|class| !untold.contains(&class)) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Begins anew in tables beside those that queries read. The cursors of those stay in front of the receipt, so
    /// whoever comes to it begins anew as well until one is done.
    fn start_over(&mut self) -> Result<()> {
        self.is_outdated = false;
        self.generation = self.store.create(PROJECTIONS_VERSION)?;
        self.reread()
    }

    /// Notes how far a feed is folded; commits when enough is in memory. Never called in the midst of a batch.
    fn moved(&mut self, feed: &WriterId, next: u64) -> Result<()> {
        if let Some(cursor) = self.cursors.get_mut(feed) {
            cursor.next = next;
        }
        if self.pending.bytes() > self.limits.pending_bytes_max {
            match self.flush() {
                // What was in memory is dropped and will be read from the ledger.
                Err(error) if error.kind() == ErrorKind::Conflict => self.reread()?,
                result => result?,
            }
        }
        Ok(())
    }

    /// Commits what is in memory. `Conflict` when somebody else folded meanwhile; nothing is written then.
    pub fn flush(&mut self) -> Result<()> {
        self.commit(None)
    }

    fn commit(&mut self, token: Option<&Token>) -> Result<()> {
        let moved = self.cursors.iter().filter(|(_, cursor)| cursor.next != cursor.committed);
        let moved: Vec<(WriterId, Cursor)> = moved.map(|(feed, cursor)| (*feed, *cursor)).collect();
        if moved.is_empty() && token == self.token.as_ref() {
            return Ok(());
        }
        let mut pending = std::mem::take(&mut self.pending);
        self.revision = self.store.commit(self.generation, self.revision, &mut |to| {
            for (feed, cursor) in &moved {
                to.advance(feed, cursor.committed, cursor.next)?;
            }
            pending.write(to)?;
            token.map_or(Ok(()), |token| to.set_token(token))
        })?;
        if let Some(token) = token {
            self.token = Some(token.clone());
        }
        for cursor in self.cursors.values_mut() {
            cursor.committed = cursor.next;
        }
        Ok(())
    }

    /// Folds all that the ledger has and the store has not, commits it, and makes a generation that was being built
    /// the live one.
    ///
    /// Where a receipt says that records were erased that were folded before, everything is folded anew: rows cannot be
    /// taken apart again (`docs/decisions/0013`).
    ///
    /// `Forked` when a feed is shorter than what was folded of it (the ledger was restored from a backup): rebuild.
    pub fn catch_up(&mut self, ledger: &Ledger) -> Result<CaughtUp> {
        let mut attempt = 0;
        loop {
            match self.try_catch_up(ledger) {
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                    self.reread()?;
                }
                Ok(_) if self.is_outdated => {
                    if attempt == ATTEMPTS_MAX {
                        let message = "records are being erased faster than they are folded; try again";
                        return Err(Error::new(ErrorKind::Conflict, "fold", message));
                    }
                    attempt += 1;
                    self.start_over()?;
                }
                result => return result,
            }
        }
    }

    fn try_catch_up(&mut self, ledger: &Ledger) -> Result<CaughtUp> {
        let mut done = CaughtUp::default();
        (self.damaged, self.unsupported) = (0, 0);
        let since = self.token.clone();
        let token = ledger.for_each_feed(since.as_ref(), |head| {
            let cursor = self.cursor(&head.feed)?;
            if cursor.next > head.size {
                return Err(shrunk(&head.feed, cursor.next, head.size));
            }
            if self.is_outdated {
                return Ok(());
            }
            done.feeds += u64::from(cursor.next < head.size);
            done.entries += head.size - cursor.next;
            self.fold_feed(ledger, &head.feed, head.size)
        })?;
        if self.is_outdated {
            return Ok(done);
        }
        self.commit(Some(&token))?;
        if !self.is_live {
            self.promote(ledger)?;
        }
        self.store.settle(self.generation)?;
        (done.damaged, done.unsupported) = (self.damaged, self.unsupported);
        Ok(done)
    }

    /// Makes the generation the live one, also in place of one that has folded what the ledger no longer has.
    fn promote(&mut self, ledger: &Ledger) -> Result<()> {
        match self.store.promote(self.generation, Promotion::CaughtUp) {
            Err(error) if error.kind() == ErrorKind::Conflict && self.has_all_of(ledger)? => {
                self.store.promote(self.generation, Promotion::Replacing)?;
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
            let page = ledger.read(feed, next, self.limits.page)?;
            if page.entries.is_empty() {
                return Err(shrunk(feed, size, next));
            }
            for entry in &page.entries {
                let (skeleton, payload) = match &entry.body {
                    Body::Present { skeleton, payload } => (skeleton, Some(&payload[..])),
                    Body::Erased { skeleton } => (skeleton, None),
                    Body::Damaged { .. } => {
                        self.damaged += 1;
                        next += 1;
                        continue;
                    }
                };
                if let Some(receipt) = payload.filter(|_| erasures::is_receipt(skeleton)) {
                    self.is_outdated = self.is_outdated_by(ledger, receipt)?;
                    if self.is_outdated {
                        return Ok(());
                    }
                }
                self.fold(&FoldInput { feed, index: next, address: entry.address, skeleton, payload })?;
                next += 1;
            }
            self.moved(feed, next)?;
            // A lost race put the cursor back to where the store is.
            next = self.cursor(feed)?.next;
        }
        Ok(())
    }
}

fn shrunk(feed: &WriterId, folded: u64, size: u64) -> Error {
    let message = format!(
        "{folded} entries were folded and the feed has {size}: the ledger went back; rebuild the projections"
    );
    Error::new(ErrorKind::Forked, "catch up", message).at(feed)
}

fn unsupported(location: &str, version: u32) -> Error {
    let message = format!(
        "the projections have version {version}, this program makes {PROJECTIONS_VERSION}; upgrade burnlog"
    );
    Error::new(ErrorKind::Unsupported, "open projections", message).at(location)
}
