//! From found blocks to hits that can be shown: the text is read from the log, copies of one block in several sessions
//! are one hit, and what was erased is none.

use crate::blocks::{BlockAt, blocks_of_chunk};
use crate::bodies::for_each_body;
use crate::lookup::{live, text};
use crate::records::{CHUNK_RECORDS, Chunk, RecordPlace};
use crate::rollups::Session;
use crate::search::{FoundBlock, SearchIndex, SearchKind, SearchRequest};
use crate::search_indexer::short;
use crate::search_query::SearchQuery;
use crate::search_snippet::{Snippet, snippet};
use crate::search_text::block_text;
use crate::store::{Generation, RowReader};
use crate::table::{Row, Value};
use crate::text::Name;
use burnlog_log::{Address, Body, Error, ErrorKind, Ledger, Limit, Result, Timestamp};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long a snippet is, in characters.
pub const SNIPPET_CHARACTERS: usize = 160;
/// The most blocks whose text is looked at for the hits of one search.
const LOOKED_AT_MAX: usize = 4096;
/// So many blocks at least are read at once, beyond the first: some for each of the threads that read.
const PIECE_BLOCKS: usize = 4;
/// So many records of a stream are read together: they lie in one frame mostly, which two threads would decompress twice.
const NEAR_RECORDS: u64 = 1024;

/// A hit.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchHit {
    /// The block. Of copies of one record that of the session that began first.
    pub block: FoundBlock,
    /// The event.
    pub address: Address,
    /// The project of the session.
    pub project: Option<Name>,
    /// A piece of the text.
    pub snippet: Snippet,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SearchHits {
    /// The hits, in the order asked for.
    pub hits: Vec<SearchHit>,
    /// See [`FoundBlocks::capped`](crate::FoundBlocks::capped).
    pub capped: bool,
    /// Blocks that match in the index and whose text is no longer there or cannot be read: none of them is a hit.
    pub unreadable: u64,
    /// The records among them that were erased, as [`SearchIndex::forget`] takes them.
    pub erased: Vec<(String, String, u64, [u8; 6])>,
}

/// Finds what is asked for and reads the text of it.
///
/// Errors as [`live`]; and whatever index and ledger say.
pub fn search(
    index: &dyn SearchIndex,
    rows: &dyn RowReader,
    ledger: &Ledger,
    query: &SearchQuery,
    request: &SearchRequest,
) -> Result<SearchHits> {
    let generation = live(rows)?;
    let mut looked_at = request.limit.min(LOOKED_AT_MAX);
    let (sessions, bodies) = (HashMap::new(), HashMap::new());
    let mut reading = Reading { rows, generation, ledger, sessions, bodies };
    loop {
        let found = index.find(query, &SearchRequest { limit: looked_at, ..request.clone() })?;
        let exhausted = found.blocks.len() < looked_at || looked_at >= LOOKED_AT_MAX;
        let mut shown = SearchHits { capped: found.capped, ..SearchHits::default() };
        let mut candidates = reading.first_candidates(&found.blocks, request.limit, &mut shown)?;
        // Copies and what was erased leave gaps: look at more where there may be more.
        if candidates.len() < request.limit && !exhausted {
            looked_at = (looked_at * 2).clamp(64, LOOKED_AT_MAX);
            continue;
        }
        candidates.truncate(request.limit);
        let texts: Vec<String> =
            candidates.iter_mut().map(|candidate| std::mem::take(&mut candidate.text)).collect();
        let matches = index.matches(query, &texts)?;
        for ((candidate, text), matches) in candidates.into_iter().zip(&texts).zip(&matches) {
            let Candidate { block, address, .. } = candidate;
            let project = reading.session(&block).project;
            let snippet = snippet(text, matches, SNIPPET_CHARACTERS);
            shown.hits.push(SearchHit { block, address, project, snippet });
        }
        return Ok(shown);
    }
}

/// A block with its text.
struct Candidate {
    block: FoundBlock,
    address: Address,
    /// What copies of the record have in common.
    identity: Identity,
    text: String,
}

/// What copies of a record have in common beside their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Identity {
    /// The fingerprint of the record's own id.
    Id([u8; 4]),
    /// The instant, where that says nothing.
    At(Timestamp),
    /// Nothing: it is a copy of no other.
    None,
}

/// What is known of a session.
#[derive(Debug, Clone, Default)]
struct SessionFacts {
    project: Option<Name>,
    first_at: Option<Timestamp>,
}

struct Reading<'a> {
    rows: &'a dyn RowReader,
    generation: Generation,
    ledger: &'a Ledger,
    sessions: HashMap<(String, String), SessionFacts>,
    /// What was read before, when more was looked at.
    bodies: HashMap<Address, Body>,
}

/// The source, the stream and the number of a chunk.
type ChunkKey = (String, String, i64);

/// What became of the record of a block.
enum Place {
    /// It is there.
    Found(RecordPlace),
    /// It is an older version of an object that was rewritten in place.
    Superseded,
    /// The projections do not know it.
    Unknown,
}

/// Candidates of which none is a copy of another.
#[derive(Default)]
struct Distinct {
    list: Vec<Candidate>,
    places: HashMap<(String, Identity, u32, SearchKind, [u8; 32]), usize>,
}

impl Reading<'_> {
    /// Returns candidates for `limit` hits: reads the texts of so many blocks, and then of more for as long as there are copies among
    /// them, or what stands next may be one.
    fn first_candidates(
        &mut self,
        blocks: &[FoundBlock],
        limit: usize,
        shown: &mut SearchHits,
    ) -> Result<Vec<Candidate>> {
        let mut distinct = Distinct::default();
        let (mut read, mut next) = (0, limit.min(blocks.len()));
        while read < next {
            let candidates = self.candidates(&blocks[read..next], shown)?;
            self.add_distinct(candidates, &mut distinct);
            let missing = limit.saturating_sub(distinct.list.len());
            let more = if missing > 0 { missing.max(PIECE_BLOCKS) } else { 0 };
            read = next;
            next = (next + more).min(blocks.len());
            // Copies of a block are as good as it and as old.
            let likeness = |block: &FoundBlock| (block.score.to_bits(), block.timestamp);
            while next > 0 && blocks.get(next).map(likeness) == Some(likeness(&blocks[next - 1])) {
                next += 1;
            }
        }
        Ok(distinct.list)
    }

    /// Reads the texts of blocks, in bulk.
    fn candidates(&mut self, blocks: &[FoundBlock], shown: &mut SearchHits) -> Result<Vec<Candidate>> {
        let mut placed = Vec::with_capacity(blocks.len());
        self.learn_sessions(blocks)?;
        let chunks = self.chunks(blocks)?;
        for block in blocks {
            match self.place(block, chunks.get(&chunk_key(block)))? {
                Place::Found(place) => placed.push((block.clone(), place)),
                Place::Superseded => {}
                Place::Unknown => shown.unreadable += 1,
            }
        }
        self.read_bodies(&placed)?;
        let mut candidates = Vec::with_capacity(placed.len());
        for (block, place) in placed {
            let body = self.bodies.get(&place.address);
            if let Some(Body::Erased { .. }) = body {
                shown.erased.push((block.source.clone(), block.stream.clone(), block.seq, block.address));
            }
            let value = match body {
                Some(Body::Present { payload, .. }) => {
                    payload.get(block.start as usize..(block.start + block.bytes) as usize)
                }
                _ => None,
            };
            let Some(value) = value else {
                shown.unreadable += 1;
                continue;
            };
            let text = block_text(block.kind, value).text;
            let identity = match (place.fingerprint, block.timestamp) {
                ([0, 0, 0, 0], Some(instant)) => Identity::At(instant),
                ([0, 0, 0, 0], None) => Identity::None,
                (fingerprint, _) => Identity::Id(fingerprint),
            };
            candidates.push(Candidate { block, address: place.address, identity, text });
        }
        Ok(candidates)
    }

    /// Asks for the chunks that hold the records of blocks, all at once.
    fn chunks(&self, blocks: &[FoundBlock]) -> Result<HashMap<ChunkKey, Chunk>> {
        let keys: BTreeSet<ChunkKey> = blocks.iter().map(chunk_key).collect();
        let values: Vec<Value<'_>> = keys
            .iter()
            .flat_map(|(source, stream, number)| [text(source), text(stream), Value::Integer(*number)])
            .collect();
        let rows = self.rows.get_many(self.generation, Chunk::TABLE, &values)?;
        let found = keys.into_iter().zip(rows).filter_map(|(key, row)| Some((key, row?)));
        found.map(|(key, row)| Ok((key, Chunk::read(row)?))).collect()
    }

    fn place(&self, block: &FoundBlock, chunk: Option<&Chunk>) -> Result<Place> {
        let versions = || chunk.into_iter().flat_map(Chunk::places).filter(|place| place.seq == block.seq);
        let Some(place) = versions().find(|place| short(&place.address) == block.address) else {
            return Ok(Place::Unknown);
        };
        if versions().nth(1).is_some() {
            // It may have been indexed when it was the version that counted.
            let (source, stream) = (&block.source, &block.stream);
            let (_, _, number) = chunk_key(block);
            let blocks = blocks_of_chunk(self.rows, self.generation, source, stream, number)?;
            let is_meant = |now: &BlockAt| (now.seq, now.address) == (block.seq, block.address);
            if !blocks.iter().any(is_meant) {
                return Ok(Place::Superseded);
            }
        }
        Ok(Place::Found(place))
    }

    /// Gets events: record by record, so that what lies together in a store is read together, and on two threads, because most of
    /// the time goes into decompressing. Neither knows how long a piece takes, so whoever is done takes the next.
    fn read_bodies(&mut self, placed: &[(FoundBlock, RecordPlace)]) -> Result<()> {
        let is_new = |(_, place): &&(FoundBlock, RecordPlace)| !self.bodies.contains_key(&place.address);
        let mut order: Vec<&(FoundBlock, RecordPlace)> = placed.iter().filter(is_new).collect();
        order.sort_by(|(one, _), (two, _)| {
            (&one.source, &one.stream, one.seq).cmp(&(&two.source, &two.stream, two.seq))
        });
        let window = |block: &FoundBlock| block.seq / NEAR_RECORDS;
        let is_near = |(one, _): &&(FoundBlock, RecordPlace), (two, _): &&(FoundBlock, RecordPlace)| {
            (&one.source, &one.stream, window(one)) == (&two.source, &two.stream, window(two))
        };
        let addresses = |near: &[&(FoundBlock, RecordPlace)]| {
            let mut addresses: Vec<Address> = near.iter().map(|(_, place)| place.address).collect();
            addresses.dedup();
            addresses
        };
        let mut pieces: Vec<Vec<Address>> = order.chunk_by(is_near).map(addresses).collect();
        // The longest first, so that neither thread is left with a long one at the end.
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.len()));
        let (ledger, taken) = (self.ledger, AtomicUsize::new(0));
        let read_pieces = || {
            let mut bodies = HashMap::new();
            while let Some(piece) = pieces.get(taken.fetch_add(1, Ordering::Relaxed)) {
                bodies.extend(get_all(ledger, piece)?);
            }
            Ok::<_, Error>(bodies)
        };
        let read = std::thread::scope(|scope| {
            let other = scope.spawn(read_pieces);
            let mut bodies = read_pieces()?;
            let other = other.join().map_err(|_| {
                Error::new(ErrorKind::Unavailable, "search", "a thread that read from the ledger ended early")
            })?;
            bodies.extend(other?);
            Ok::<_, Error>(bodies)
        })?;
        self.bodies.extend(read);
        Ok(())
    }

    /// Adds candidates. Of copies of one block (the same text in the same place of a record with the same id) the one at home in
    /// the session that began first is left; it takes the place of the first of them.
    fn add_distinct(&self, candidates: Vec<Candidate>, to: &mut Distinct) {
        for candidate in candidates {
            if candidate.identity == Identity::None {
                to.list.push(candidate);
                continue;
            }
            let FoundBlock { source, ordinal, kind, .. } = &candidate.block;
            let hash = blake3::hash(candidate.text.as_bytes());
            let key = (source.clone(), candidate.identity, *ordinal, *kind, *hash.as_bytes());
            let at = *to.places.entry(key).or_insert(to.list.len());
            if at == to.list.len() {
                to.list.push(candidate);
            } else if self.home(&candidate) < self.home(&to.list[at]) {
                to.list[at] = candidate;
            }
        }
    }

    fn home(&self, candidate: &Candidate) -> (bool, Option<Timestamp>, String, String, u64) {
        let first_at = self.session(&candidate.block).first_at;
        let FoundBlock { session, stream, seq, .. } = &candidate.block;
        (first_at.is_none(), first_at, session.clone(), stream.clone(), *seq)
    }

    fn session(&self, block: &FoundBlock) -> SessionFacts {
        let key = (block.source.clone(), block.session.clone());
        self.sessions.get(&key).cloned().unwrap_or_default()
    }

    /// Asks for the sessions of blocks, all at once.
    fn learn_sessions(&mut self, blocks: &[FoundBlock]) -> Result<()> {
        let keys = blocks.iter().map(|block| (block.source.clone(), block.session.clone()));
        let keys: BTreeSet<(String, String)> = keys.filter(|key| !self.sessions.contains_key(key)).collect();
        let names: Vec<Value<'_>> =
            keys.iter().flat_map(|(source, session)| [text(source), text(session)]).collect();
        let rows = self.rows.get_many(self.generation, Session::TABLE, &names)?;
        for (key, row) in keys.into_iter().zip(rows) {
            let row = row.map(Session::read).transpose()?;
            let facts = row.map(|row| SessionFacts { project: row.project, first_at: row.first_at });
            self.sessions.insert(key, facts.unwrap_or_default());
        }
        Ok(())
    }
}

/// Returns what the chunk with the record of a block is found by.
fn chunk_key(block: &FoundBlock) -> ChunkKey {
    (block.source.clone(), block.stream.clone(), (block.seq / CHUNK_RECORDS) as i64)
}

/// Gets events; absent ones are left out.
fn get_all(ledger: &Ledger, addresses: &[Address]) -> Result<HashMap<Address, Body>> {
    let mut bodies = HashMap::with_capacity(addresses.len());
    for_each_body(ledger, addresses, Limit::default(), &mut |address, body| {
        bodies.extend(body.map(|body| (address, body)));
        Ok(true)
    })?;
    Ok(bodies)
}
