//! The one who folds: reads what feeds have grown by since last time, keeps the rows in memory up to a limit,
//! commits them together with the cursors. Whoever loses a race writes nothing and starts again; the store's lease sees
//! to it that there is seldom a race. It is held only inside a call, and never while a caller thinks.

use crate::bodies::for_each_body;
use crate::erasures;
use crate::fold::{Breadth, FoldInput, Pending, StoredChunks};
use crate::lease::{Lease, LeaseTerms};
use crate::records::RecordClass;
use crate::store::{CursorMove, FoldStore, Generation};
use burnlog_log::{Address, Batch, Body, Error, ErrorKind, Ledger, Limit, Outcome, Result, Token, WriterId};
use std::collections::BTreeMap;

mod pass;

/// The version of all folds and tables together. A change of any row that a fold makes raises it.
pub const PROJECTIONS_VERSION: u32 = 10;
/// How many cursors are moved at once.
const MOVES_AT_ONCE: usize = 1000;

/// How much a fold keeps in memory before it commits, and how it shares the store with others who fold.
#[derive(Debug, Clone)]
pub struct FoldLimits {
    /// Rows in memory, in bytes, about.
    pub pending_bytes_max: usize,
    /// How much is read from the ledger at once.
    pub page: Limit,
    /// The lease under which it writes.
    pub lease: LeaseTerms,
}

impl Default for FoldLimits {
    /// 18 MiB of rows; pages of 4 MiB; the lease as [`LeaseTerms`] has it.
    fn default() -> Self {
        Self { pending_bytes_max: 18 << 20, page: Limit::default(), lease: LeaseTerms::default() }
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

impl CaughtUp {
    fn add(&mut self, other: &Self) {
        self.feeds += other.feeds;
        self.entries += other.entries;
        self.damaged += other.damaged;
        self.unsupported += other.unsupported;
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Cursor {
    /// Where the store has it.
    committed: u64,
    /// Where it is with what is in memory.
    next: u64,
}

/// The ledger's mark up to which every feed was folded.
#[derive(Debug, Default)]
struct Mark {
    token: Option<Token>,
    /// Whether the store has rows beyond it, which it says by an empty mark: a ledger that falls back behind them shows in a
    /// listing of all feeds, and not among those that moved since the mark.
    is_passed: bool,
}

/// Folds the feeds of a ledger into a store. What is in memory only is lost when it is dropped, never half written.
pub struct Projector<'s> {
    store: &'s mut dyn FoldStore,
    limits: FoldLimits,
    generation: Generation,
    revision: u64,
    mark: Mark,
    is_live: bool,
    is_settled: bool,
    /// Held inside a call, from the first thing to fold on.
    lease: Option<Lease>,
    pending: Pending,
    cursors: BTreeMap<WriterId, Cursor>,
    /// What was folded since the last commit, and what this call has committed.
    uncommitted: CaughtUp,
    committed: CaughtUp,
    /// Whether rows tell of what was erased after it was folded.
    is_outdated: bool,
    breadth: Breadth,
}

impl<'s> Projector<'s> {
    /// Opens the projections of `ledger` for folding, making them if need be.
    ///
    /// `Invalid` when the store belongs to another ledger, `Unsupported` when a newer program made its tables, `InUse`
    /// when tables are to be made and another is folding.
    pub fn new(store: &'s mut dyn FoldStore, ledger: &Ledger, limits: FoldLimits) -> Result<Self> {
        store.bind(ledger.location().id)?;
        let chosen = match own_generation(store)? {
            Some(chosen) => chosen,
            // Whoever had the lease until now may have made it.
            None => under_lease(store, &limits, |store, lease| match own_generation(store)? {
                Some(chosen) => Ok(chosen),
                None => store.create(lease, PROJECTIONS_VERSION),
            })?,
        };
        Self::into_generation(store, chosen, limits)
    }

    /// Starts all over in new tables beside the live ones, which queries go on reading until this one has caught up.
    ///
    /// `InUse` when another is folding.
    pub fn rebuild(store: &'s mut dyn FoldStore, ledger: &Ledger, limits: FoldLimits) -> Result<Self> {
        store.bind(ledger.location().id)?;
        store.state()?;
        let generation =
            under_lease(store, &limits, |store, lease| store.create(lease, PROJECTIONS_VERSION))?;
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
            mark: Mark::default(),
            is_live: false,
            is_settled: false,
            lease: None,
            pending: Pending::default(),
            cursors: BTreeMap::new(),
            uncommitted: CaughtUp::default(),
            committed: CaughtUp::default(),
            is_outdated: false,
            breadth: Breadth::All,
        };
        projector.reread()?;
        Ok(projector)
    }

    /// Folds no content from here on, to measure what turns alone take. The rows know no blocks then, so the store is of no other use.
    #[cfg(feature = "conformance")]
    pub fn without_content(mut self) -> Result<Self> {
        self.breadth = Breadth::WithoutContent;
        self.reread()?;
        Ok(self)
    }

    /// Forgets what is in memory: rows, how far they were folded, and what was counted. The lease goes back: what was lost
    /// may be the lease.
    fn forget(&mut self) {
        self.let_go();
        self.pending = Pending::new(self.store.keeps_previews(), self.breadth);
        self.cursors.clear();
        self.uncommitted = CaughtUp::default();
        self.is_outdated = false;
    }

    /// Forgets what is in memory and takes up where the store is.
    fn reread(&mut self) -> Result<()> {
        self.forget();
        let state = self.store.state()?;
        self.is_live = state.live.as_ref().is_some_and(|live| live.generation == self.generation);
        let own =
            [state.live, state.building].into_iter().flatten().find(|g| g.generation == self.generation);
        // Somebody may have folded everything anew meanwhile: what is there then is as good.
        let Some(own) = own else {
            if let Some(other) = own_generation(self.store)?.filter(|other| *other != self.generation) {
                self.generation = other;
                return self.reread();
            }
            let message = "somebody else replaced the projections meanwhile; start again";
            return Err(Error::new(ErrorKind::Conflict, "fold", message).at(self.store.location()));
        };
        self.revision = own.revision;
        self.is_settled = own.settled;
        self.mark = Mark { token: own.token, is_passed: false };
        Ok(())
    }

    /// Takes the lease, asking up to `attempts_max` times, unless it is held already.
    ///
    /// `Conflict` when somebody else folded since the store was read: whoever begins to fold now would fold it twice.
    fn hold(&mut self, attempts_max: u32) -> Result<Lease> {
        if let Some(lease) = self.lease {
            return Ok(lease);
        }
        let lease = self.limits.lease.acquire(self.store, attempts_max)?;
        self.lease = Some(lease);
        let state = self.store.state()?;
        let mut states = [state.live, state.building].into_iter().flatten();
        if states.any(|state| state.generation == self.generation && state.revision == self.revision) {
            return Ok(lease);
        }
        let message = "somebody else folded meanwhile; read again";
        Err(Error::new(ErrorKind::Conflict, "fold", message).at(self.store.location()))
    }

    /// Gives the lease back, if it is held.
    fn let_go(&mut self) {
        if let Some(lease) = self.lease.take() {
            // Where this fails the lease ends by itself, a little later.
            let _ = self.store.release(&lease);
        }
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

    /// Returns how far a feed was folded, into memory or the store.
    pub fn folded(&mut self, feed: &WriterId) -> Result<u64> {
        self.cursor(feed).map(|cursor| cursor.next)
    }

    /// Folds what an append added to `feed`, straight from memory, if the fold stands exactly at its first entry;
    /// else does nothing, and [`Projector::catch_up`] will read it. Returns whether it was folded.
    ///
    /// `outcomes` is what the append returned for the events of `batch`, in order. After an error nothing is in memory, and
    /// what was there will be read from the ledger.
    pub fn fold_appended(&mut self, feed: &WriterId, batch: &Batch, outcomes: &[Outcome]) -> Result<bool> {
        let folded = self.try_fold_appended(feed, batch, outcomes);
        if folded.is_err() {
            self.forget();
        }
        self.let_go();
        folded
    }

    fn try_fold_appended(&mut self, feed: &WriterId, batch: &Batch, outcomes: &[Outcome]) -> Result<bool> {
        let mut indexes = outcomes.iter().filter_map(|outcome| outcome.index());
        let Some(first) = indexes.next() else { return Ok(true) };
        if self.cursor(feed)?.next != first {
            return Ok(false);
        }
        let indexed =
            batch.events().zip(outcomes).filter_map(|(event, outcome)| Some((event, outcome.index()?)));
        let inputs: Vec<FoldInput<'_>> = indexed
            .map(|(event, index)| {
                let (address, skeleton, payload) = (event.address, event.skeleton, Some(event.payload));
                FoldInput { feed, index, address, skeleton, payload }
            })
            .collect();
        // The ledger may have erased what another feed brought: it is asked. A receipt needs it as well.
        if self.needs_ledger(&inputs, outcomes)? {
            return Ok(false);
        }
        self.fold(&inputs)?;
        if self.pending.is_late() {
            // Other records are to be folded again, which the ledger has.
            self.forget();
            return Ok(false);
        }
        let next = inputs.last().map_or(first, |last| last.index + 1);
        // What was in memory is dropped and will be read from the ledger.
        match self.moved(feed, next, 1) {
            Err(error) if matches!(error.kind(), ErrorKind::Conflict | ErrorKind::InUse) => self.reread()?,
            Err(error) if error.kind() == ErrorKind::Unavailable => self.forget(),
            moved => moved?,
        }
        Ok(true)
    }

    /// Whether one of these events, whose outcomes have an index, cannot be folded from memory alone.
    fn needs_ledger(&mut self, inputs: &[FoldInput<'_>], outcomes: &[Outcome]) -> Result<bool> {
        if inputs.iter().any(|input| erasures::is_receipt(input.skeleton)) {
            return Ok(true);
        }
        // Ascending, as the entries of a feed are.
        let known = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Known(_)));
        let known: Vec<u64> = known.filter_map(|outcome| outcome.index()).collect();
        if known.is_empty() {
            return Ok(false);
        }
        let stored = StoredChunks { store: self.store, generation: self.generation };
        for (input, _, stream) in self.pending.open(Some(stored), inputs)? {
            let is_record = stream.is_some() && known.binary_search(&input.index).is_ok();
            if is_record && self.class_of(&input.address, input.skeleton)?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fold(&mut self, inputs: &[FoldInput<'_>]) -> Result<()> {
        let stored = StoredChunks { store: self.store, generation: self.generation };
        self.uncommitted.unsupported += self.pending.fold(Some(stored), inputs)?;
        Ok(())
    }

    fn class_of(&self, address: &Address, skeleton: &[u8]) -> Result<Option<RecordClass>> {
        let stored = StoredChunks { store: self.store, generation: self.generation };
        self.pending.class_of(stored, address, skeleton)
    }

    /// Returns whether rows tell of an event that a receipt names and that the ledger has erased. One that it has not
    /// was erased elsewhere: the receipt came with a replay and is a proposal.
    fn is_outdated_by(&self, ledger: &Ledger, receipt: &[u8]) -> Result<bool> {
        let mut is_outdated = false;
        for_each_body(ledger, &erasures::named(receipt), self.limits.page, &mut |address, body| {
            let Some(Body::Erased { skeleton }) = body else { return Ok(true) };
            // Of tails and parts nothing is known but that they are there.
            let untold = [RecordClass::Erased, RecordClass::Tail, RecordClass::Part, RecordClass::OtherKind];
            is_outdated = self.class_of(&address, &skeleton)?.is_some_and(|class| !untold.contains(&class));
            Ok(!is_outdated)
        })?;
        Ok(is_outdated)
    }

    /// Begins anew in tables beside those that queries read. The cursors of those stay in front of the receipt, so
    /// whoever comes to it begins anew as well until one is done.
    fn start_over(&mut self) -> Result<()> {
        self.is_outdated = false;
        self.committed = CaughtUp::default();
        self.generation =
            under_lease(self.store, &self.limits, |store, lease| store.create(lease, PROJECTIONS_VERSION))?;
        self.reread()
    }

    /// Notes how far a feed is folded; commits when enough is in memory. Never called in the midst of a batch.
    fn moved(&mut self, feed: &WriterId, next: u64, attempts_max: u32) -> Result<()> {
        if let Some(cursor) = self.cursors.get_mut(feed) {
            cursor.next = next;
        }
        if self.pending.bytes() > self.limits.pending_bytes_max {
            self.commit(None, attempts_max)
        } else {
            Ok(())
        }
    }

    /// Commits what is in memory. `Conflict` when somebody else folded meanwhile, `InUse` when another is folding; nothing
    /// is written then. After an error nothing is in memory any more.
    pub fn flush(&mut self) -> Result<()> {
        let committed = self.commit(None, self.limits.lease.attempts_max);
        if committed.is_err() {
            self.forget();
        }
        self.let_go();
        committed
    }

    fn commit(&mut self, token: Option<&Token>, attempts_max: u32) -> Result<()> {
        let moved = self.cursors.iter().filter(|(_, cursor)| cursor.next != cursor.committed);
        let moved: Vec<CursorMove> =
            moved.map(|(feed, at)| CursorMove { feed: *feed, from: at.committed, to: at.next }).collect();
        let is_marked = token == self.mark.token.as_ref() && !self.mark.is_passed;
        if moved.is_empty() && (token.is_none() || is_marked) {
            return Ok(());
        }
        let beyond = Token::default();
        let kept = token.or(self.mark.token.is_some().then_some(&beyond));
        let lease = self.hold(attempts_max)?;
        let empty = Pending::new(self.store.keeps_previews(), self.breadth);
        let mut pending = std::mem::replace(&mut self.pending, empty);
        self.revision = self.store.commit(&lease, self.generation, self.revision, &mut |to| {
            for moves in moved.chunks(MOVES_AT_ONCE) {
                to.advance(moves)?;
            }
            pending.write(to)?;
            kept.map_or(Ok(()), |token| to.set_token(token))
        })?;
        if let Some(token) = token {
            self.mark.token = Some(token.clone());
        }
        self.mark.is_passed = token.is_none() && self.mark.token.is_some();
        for cursor in self.cursors.values_mut() {
            cursor.committed = cursor.next;
        }
        self.committed.add(&std::mem::take(&mut self.uncommitted));
        Ok(())
    }
}

/// Returns the generation of this program's version. `Unsupported` when there is one of a newer program.
fn own_generation(store: &dyn FoldStore) -> Result<Option<Generation>> {
    let state = store.state()?;
    let states = || [&state.live, &state.building].into_iter().flatten();
    if let Some(newer) = states().find(|state| state.version > PROJECTIONS_VERSION) {
        return Err(unsupported(&store.location(), newer.version));
    }
    Ok(states().find(|state| state.version == PROJECTIONS_VERSION).map(|state| state.generation))
}

/// Does something under a lease of its own.
fn under_lease<T>(
    store: &mut dyn FoldStore,
    limits: &FoldLimits,
    work: impl FnOnce(&mut dyn FoldStore, &Lease) -> Result<T>,
) -> Result<T> {
    let lease = limits.lease.acquire(store, limits.lease.attempts_max)?;
    let done = work(store, &lease);
    let released = store.release(&lease);
    done.and_then(|done| released.map(|()| done))
}

fn unsupported(location: &str, version: u32) -> Error {
    let message = format!(
        "the projections have version {version}, this program makes {PROJECTIONS_VERSION}; upgrade burnlog"
    );
    Error::new(ErrorKind::Unsupported, "open projections", message).at(location)
}
