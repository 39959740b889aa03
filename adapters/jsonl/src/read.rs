//! Reading: pages of a feed, and events by address. The state is looked at in short moments; files are read between them.

use crate::block::{Block, Content, Event};
use crate::blocks::Unreadable;
use crate::bodies::Bodies;
use crate::index::{AtIndex, BatchRow, Failure, Place, Seen};
use crate::segment::SegmentRef;
use crate::store::{State, Store};
use burnlog_log::{Address, Body, FeedState, Limit, Page, Result, Root, WriterId};
use std::sync::Arc;

/// How many batches are looked up at a time.
const BATCHES_AT_A_TIME: usize = 64;

/// What stands at some indexes of a feed.
enum Piece {
    Batch(BatchRow, SegmentRef),
    /// Nothing that can be read, up to this index.
    Gap(u64),
}

/// What one page may still take.
struct Budget {
    limit: Limit,
    bytes: u64,
}

impl Budget {
    fn new(limit: Limit) -> Self {
        Self { limit, bytes: 0 }
    }

    /// Whether the last body may stay. The first always may.
    fn admits_last(&mut self, bodies: &mut Bodies) -> bool {
        self.bytes = self.bytes.saturating_add(bodies.last_bytes());
        let fits = bodies.len() <= self.limit.entries && self.bytes <= self.limit.bytes;
        if !fits && bodies.len() > 1 {
            bodies.pop();
            return false;
        }
        true
    }

    fn is_full(&self, bodies: &Bodies) -> bool {
        bodies.len() >= self.limit.entries.max(1) || (self.bytes >= self.limit.bytes && bodies.len() > 0)
    }
}

/// The block that was read last, so that neighbours need not look for it again.
#[derive(Default)]
struct Current {
    block: Option<(u64, Arc<Block>)>,
    /// What is wanted of segments, where that is known: segment and slot, ascending. Nothing else need be read.
    wanted: Option<Vec<(u64, u32)>>,
}

impl Store {
    /// Reads a page of a feed; see [`burnlog_log::Backend::read`].
    pub(crate) fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        let newest = self.with_state(|state| {
            let row = state.index.newest(feed, Seen::Durable)?;
            let found = row.and_then(|row| Some((row, state.reference(row.place.segment)?)));
            Ok(found.map(|(row, segment)| (row, segment, Arc::clone(&state.erased))))
        })?;
        let Some((newest, segment, erased)) = newest else {
            return Ok(Page { state: None, entries: Vec::new(), heads: Vec::new() });
        };
        let frontier = self.frontier(&segment, &newest.place);
        let state = Some(FeedState { head: newest.head(), frontier: frontier.to_vec() });
        let (mut bodies, mut heads) = (Bodies::default(), Vec::new());
        let (mut budget, mut current, mut index) = (Budget::new(limit), Current::default(), from);
        'page: while index < newest.size() && !budget.is_full(&bodies) {
            for piece in self.pieces(feed, index, newest.size(), limit)? {
                let end = match &piece {
                    Piece::Batch(row, _) => row.size(),
                    Piece::Gap(end) => *end,
                }
                .min(newest.size());
                let before = index;
                while index < end {
                    if budget.is_full(&bodies) {
                        break 'page;
                    }
                    self.read_index(&piece, index, &mut current, &mut bodies)?;
                    if !budget.admits_last(&mut bodies) {
                        break 'page;
                    }
                    if let (Piece::Batch(row, _), true) = (&piece, index == before) {
                        heads.push(row.head());
                    }
                    index += 1;
                }
            }
        }
        let entries = bodies.finish(|address| erased.contains(address)).collect();
        Ok(Page { state, entries, heads })
    }

    /// Looks up what stands at the indexes from `from`.
    fn pieces(&self, feed: &WriterId, from: u64, size: u64, limit: Limit) -> Result<Vec<Piece>> {
        self.with_state(|state| {
            let (mut pieces, mut index) = (Vec::new(), from);
            let wanted = from.saturating_add(limit.entries.max(1) as u64).min(size);
            while index < wanted && pieces.len() < BATCHES_AT_A_TIME {
                index = match state.index.at_index(feed, index)? {
                    AtIndex::Batch(row) => {
                        let segment = state.reference(row.place.segment);
                        pieces.push(
                            segment.map_or(Piece::Gap(row.size()), |segment| Piece::Batch(row, segment)),
                        );
                        row.size()
                    }
                    AtIndex::Gap(end) => {
                        pieces.push(Piece::Gap(end));
                        end
                    }
                    // Known to be longer, so this is a gap as well.
                    AtIndex::End => {
                        pieces.push(Piece::Gap(size));
                        size
                    }
                };
            }
            Ok(pieces)
        })
    }

    /// Reads the entry at one index.
    fn read_index(
        &self,
        piece: &Piece,
        index: u64,
        current: &mut Current,
        bodies: &mut Bodies,
    ) -> Result<()> {
        let unknown = Address([0; 32]);
        let (row, segment) = match piece {
            Piece::Batch(row, segment) => (row, segment),
            Piece::Gap(_) => {
                let reason = "the commit line of the batch that held it is lost".to_owned();
                bodies.push_damaged(unknown, Unreadable { place: format!("index {index}"), reason });
                return Ok(());
            }
        };
        let slot = row.place.first_slot + (index - row.first) as u32;
        match self.slot_content(segment, &row.place, slot, current, bodies) {
            Ok(Content::Event(event)) => bodies.push_event(event),
            Ok(Content::Reference(address)) => match self.event_of(&address, current, bodies)? {
                Some(Ok(event)) => bodies.push_event(event),
                Some(Err(unreadable)) => bodies.push_damaged(address, unreadable),
                None => {
                    let place = Self::place_text(segment, &row.place);
                    let reason = "the event that the entry names is lost".to_owned();
                    bodies.push_damaged(address, Unreadable { place, reason });
                }
            },
            Err(unreadable) => bodies.push_damaged(unknown, unreadable),
        }
        Ok(())
    }

    fn slot_content(
        &self,
        segment: &SegmentRef,
        place: &Place,
        slot: u32,
        current: &mut Current,
        bodies: &mut Bodies,
    ) -> std::result::Result<Content, Unreadable> {
        if let Some((id, block)) = &current.block
            && *id == segment.id
            && let Some(content) = bodies.read(block, slot)
        {
            return Ok(content);
        }
        let block = self.block(segment, place, slot, current.wanted.as_deref())?;
        let content = bodies.read(&block, slot);
        current.block = Some((segment.id, block));
        content.ok_or_else(|| Unreadable {
            place: format!("{}, slot {slot}", Self::place_text(segment, place)),
            reason: "the line is damaged".to_owned(),
        })
    }

    /// Reads the event of an address wherever it stands; `None` where it is not in the ledger.
    fn event_of(
        &self,
        address: &Address,
        current: &mut Current,
        bodies: &mut Bodies,
    ) -> Result<Option<std::result::Result<Event, Unreadable>>> {
        let places = self.with_state(|state| event_places(state, address))?;
        Ok(self.event(address, places, current, bodies))
    }

    fn event(
        &self,
        address: &Address,
        places: Option<Places>,
        current: &mut Current,
        bodies: &mut Bodies,
    ) -> Option<std::result::Result<Event, Unreadable>> {
        let places = places?;
        let mut unreadable = Unreadable {
            place: "index".to_owned(),
            reason: "the line that held the event is lost".to_owned(),
        };
        for (segment, place, slot) in places {
            match self.slot_content(&segment, &place, slot, current, bodies) {
                Ok(content) => {
                    if let Content::Event(mut event) = content
                        && bodies.address(&mut event) == *address
                    {
                        return Some(Ok(event));
                    }
                    let reason = "the line holds another event than the index says".to_owned();
                    unreadable = Unreadable { place: format!("{}, slot {slot}", segment.display()), reason };
                }
                Err(why) => unreadable = why,
            }
        }
        Some(Err(unreadable))
    }

    /// Gets events by address; see [`burnlog_log::Backend::get`].
    pub(crate) fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>> {
        let addresses = &addresses[..addresses.len().min(limit.entries.max(1))];
        let (erased, places) = self.with_state(|state| {
            let places = addresses.iter().map(|address| event_places(state, address));
            let places: Vec<Option<Places>> = places.collect::<std::result::Result<_, Failure>>()?;
            Ok((Arc::clone(&state.erased), places))
        })?;
        let all = places.iter().flatten().flatten().map(|(segment, _, slot)| (segment.id, *slot));
        let mut wanted: Vec<(u64, u32)> = all.collect();
        wanted.sort_unstable();
        let mut current = Current { wanted: Some(wanted), ..Current::default() };
        let (mut bodies, mut bytes) = (Bodies::default(), 0u64);
        let mut is_there = Vec::new();
        for (address, places) in addresses.iter().zip(places) {
            match self.event(address, places, &mut current, &mut bodies) {
                None => {
                    is_there.push(false);
                    continue;
                }
                Some(Ok(event)) => bodies.push_event(event),
                Some(Err(unreadable)) => bodies.push_damaged(*address, unreadable),
            }
            bytes = bytes.saturating_add(bodies.last_bytes());
            if bytes > limit.bytes && !is_there.is_empty() {
                bodies.pop();
                break;
            }
            is_there.push(true);
        }
        let mut found = bodies.finish(|address| erased.contains(address));
        let body = |there: bool| there.then(|| found.next()).flatten().map(|entry| entry.body);
        Ok(is_there.into_iter().map(body).collect())
    }

    /// Reads the peaks kept with the newest batch of a feed; none where its commit line is damaged.
    fn frontier(&self, segment: &SegmentRef, place: &Place) -> Arc<Vec<Root>> {
        let key = (segment.id, place.first_slot);
        if let Some(frontier) = self.cache().frontier(key) {
            return frontier;
        }
        let commit = self.commit(segment, place).filter(|commit| commit.first_slot == place.first_slot);
        let Some(commit) = commit else { return Arc::default() };
        let frontier = Arc::new(commit.frontier);
        self.cache().put_frontier(key, Arc::clone(&frontier));
        frontier
    }
}

type Places = Vec<(SegmentRef, Place, u32)>;

/// Returns where the event of an address stands; `None` when the address is nowhere.
fn event_places(state: &State, address: &Address) -> std::result::Result<Option<Places>, Failure> {
    let (mut rows, mut is_there) = (Vec::new(), false);
    state.index.addresses(address, Seen::Durable, &mut |row| {
        is_there = true;
        if row.has_event() {
            rows.push(row);
        }
    })?;
    let mut places = Vec::with_capacity(rows.len());
    for row in rows {
        let batch = state.index.at_slot(row.segment, row.slot(), Seen::Durable)?;
        if let (Some(batch), Some(segment)) = (batch, state.reference(row.segment)) {
            places.push((segment, batch.place, row.slot()));
        }
    }
    Ok(is_there.then_some(places))
}
