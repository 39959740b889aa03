//! Bringing a search index up to date: reads what feeds have grown by, takes the text of each block out of its record,
//! adds it in batches. An event that is in the index is passed over, whatever feeds it stands in.

use crate::blocks::{BlockAt, blocks_of_chunk};
use crate::lookup::{live, records, text};
use crate::projector::PROJECTIONS_VERSION;
use crate::records::CHUNK_RECORDS;
use crate::search::{SEARCH_VERSION, SearchBatch, SearchIdentity, SearchIndex, SearchKind};
use crate::search_run::{RunBlock, RunRecord, SearchRun};
use crate::search_text::{block_text, instant_of_record};
use crate::store::{Generation, RowReader};
use crate::streams::Stream;
use crate::table::Row;
use burnlog_log::{
    Address, Body, Error, ErrorKind, Kind, Ledger, Limit, Presence, Result, Skeleton, WriterId,
};
use hashbrown::{HashMap, HashSet};
use std::collections::BTreeMap;

/// How often a lost race is run again.
const ATTEMPTS_MAX: u32 = 8;
/// How much text is kept in memory before it is added, in bytes.
const BATCH_TEXT_BYTES: usize = 24 << 20;

/// How far the work is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SearchProgress {
    /// Entries looked at.
    pub entries: u64,
    /// Entries to look at.
    pub entries_total: u64,
    /// Blocks added so far.
    pub blocks: u64,
}

/// What [`SearchIndexer::catch_up`] did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SearchCaughtUp {
    /// Entries looked at.
    pub entries: u64,
    /// Blocks added.
    pub blocks: u64,
    /// Bytes of text indexed.
    pub text_bytes: u64,
    /// Blocks that are longer than what is indexed of one.
    pub cut: u64,
    /// Entries passed over because the store cannot read their events: a finding for `verify`.
    pub damaged: u64,
    /// Blocks dropped because their events were erased.
    pub forgotten: u64,
    /// Why the index was begun anew, if it was and had something in it.
    pub restarted: Option<String>,
}

/// Adds to an index what the projections know and it does not.
pub struct SearchIndexer<'s> {
    index: &'s mut dyn SearchIndex,
    rows: &'s dyn RowReader,
    ledger: &'s Ledger,
    generation: Generation,
    open: BTreeMap<(String, String, i64), OpenRun>,
    cursors: BTreeMap<WriterId, (u64, u64)>,
    text_bytes: usize,
    /// Whether a receipt of an erasure was read.
    erasures: bool,
    done: SearchCaughtUp,
}

/// A chunk whose records are being added.
struct OpenRun {
    blocks: Vec<BlockAt>,
    known: HashSet<(u64, [u8; 6])>,
    run: SearchRun,
}

impl<'s> SearchIndexer<'s> {
    /// Takes an index, the projections that tell where blocks are, and the ledger that has their text.
    ///
    /// Errors as [`live`]; `Unsupported` when a newer program built the index.
    pub fn new(index: &'s mut dyn SearchIndex, rows: &'s dyn RowReader, ledger: &'s Ledger) -> Result<Self> {
        let generation = live(rows)?;
        let mut indexer = Self {
            index,
            rows,
            ledger,
            generation,
            open: BTreeMap::new(),
            cursors: BTreeMap::new(),
            text_bytes: 0,
            erasures: false,
            done: SearchCaughtUp::default(),
        };
        let ours = indexer.identity();
        let built = indexer.index.state()?.identity;
        match built {
            Some(built) if built == ours => {}
            Some(built) if built.ledger == ours.ledger && built.version > ours.version => {
                let message = format!(
                    "the search index has version {}, this program reads {SEARCH_VERSION}; upgrade burnlog",
                    built.version
                );
                return Err(Error::new(ErrorKind::Unsupported, "open search index", message)
                    .at(indexer.index.location()));
            }
            Some(_) => indexer.restart("the search index is of another version or ledger")?,
            None => indexer.index.clear(ours)?,
        }
        Ok(indexer)
    }

    fn identity(&self) -> SearchIdentity {
        let ledger = self.ledger.location().id;
        SearchIdentity { ledger, version: SEARCH_VERSION, folds: PROJECTIONS_VERSION }
    }

    fn restart(&mut self, why: &str) -> Result<()> {
        self.done.restarted = Some(why.to_owned());
        self.drop_batch();
        self.index.clear(self.identity())
    }

    fn drop_batch(&mut self) {
        self.open.clear();
        self.cursors.clear();
        self.text_bytes = 0;
    }

    /// Indexes what was folded and is not in the index yet, and drops what was erased since.
    pub fn catch_up(&mut self, progress: &mut dyn FnMut(SearchProgress)) -> Result<SearchCaughtUp> {
        let mut attempt = 0;
        loop {
            match self.try_catch_up(progress) {
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS_MAX => {
                    attempt += 1;
                    self.drop_batch();
                    self.generation = live(self.rows)?;
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        if std::mem::take(&mut self.erasures) {
            self.done.forgotten += forget_erased(self.index, self.rows, self.ledger)?;
        }
        Ok(std::mem::take(&mut self.done))
    }

    fn try_catch_up(&mut self, progress: &mut dyn FnMut(SearchProgress)) -> Result<()> {
        let mut revision = self.index.state()?.revision;
        let mut ends = self.ends()?;
        if ends.iter().any(|(_, next, end)| next > end) {
            self.restart("the ledger went back behind what was indexed")?;
            revision = self.index.state()?.revision;
            ends = self.ends()?;
        }
        let total = ends.iter().map(|(_, next, end)| end - next).sum();
        let mut so_far = SearchProgress { entries_total: total, ..SearchProgress::default() };
        for (feed, first, end) in ends {
            let mut next = first;
            while next < end {
                let page = self.ledger.read(&feed, next, Limit::default())?;
                if page.entries.is_empty() {
                    break;
                }
                for entry in page.entries.iter().take((end - next) as usize) {
                    self.take(&entry.address, &entry.body)?;
                    next += 1;
                    so_far.entries += 1;
                }
                self.cursors.insert(feed, (self.cursors.get(&feed).map_or(first, |(from, _)| *from), next));
                if self.text_bytes > BATCH_TEXT_BYTES {
                    revision = self.commit(revision)?;
                    // What is committed stands; the next batch of this feed begins there.
                    self.cursors.insert(feed, (next, next));
                }
                progress(SearchProgress { blocks: self.done.blocks, ..so_far });
            }
        }
        self.commit(revision)?;
        Ok(())
    }

    /// For each feed how far it was indexed, and how far it can be: as far as it was folded.
    fn ends(&self) -> Result<Vec<(WriterId, u64, u64)>> {
        let indexed: HashMap<WriterId, u64> =
            self.index.cursors()?.into_iter().map(|cursor| (cursor.feed, cursor.next)).collect();
        let mut ends = Vec::new();
        for folded in self.rows.cursors(self.generation)? {
            let next = indexed.get(&folded.feed).copied().unwrap_or(0);
            if next < folded.next {
                ends.push((folded.feed, next, folded.next));
            } else if next > folded.next {
                // The projections may lag behind; the ledger may not.
                let size = self.ledger.state(&folded.feed)?.map_or(0, |state| state.head.size);
                ends.extend((size < next).then_some((folded.feed, next, size)));
            }
        }
        Ok(ends)
    }

    /// Adds what is in memory.
    fn commit(&mut self, revision: u64) -> Result<u64> {
        let runs: Vec<SearchRun> = std::mem::take(&mut self.open)
            .into_values()
            .map(|open| open.run)
            .filter(|run| run.blocks() > 0)
            .collect();
        let moved = std::mem::take(&mut self.cursors).into_iter().filter(|(_, (from, to))| from != to);
        let cursors: Vec<_> = moved.map(|(feed, (from, to))| (feed, from, to)).collect();
        let bytes = std::mem::take(&mut self.text_bytes);
        if cursors.is_empty() {
            return Ok(revision);
        }
        let batch = SearchBatch { runs, cursors };
        let revision = self.index.append(revision, &batch)?;
        self.done.text_bytes += bytes as u64;
        for run in &batch.runs {
            self.done.blocks += run.blocks();
            self.done.cut += run.cut;
        }
        self.done.entries += batch.cursors.iter().map(|(_, from, to)| to - from).sum::<u64>();
        Ok(revision)
    }

    /// Takes one entry up.
    fn take(&mut self, address: &Address, body: &Body) -> Result<()> {
        let (skeleton, payload) = match body {
            Body::Present { skeleton, payload } => (skeleton, payload),
            Body::Erased { .. } => return Ok(()),
            Body::Damaged { .. } => {
                self.done.damaged += 1;
                return Ok(());
            }
        };
        // Skeletons of a newer version have no blocks that this program knows.
        let Ok(skeleton) = Skeleton::parse(skeleton) else { return Ok(()) };
        let position = &skeleton.position;
        match position.kind {
            Kind::Line if position.part.is_none() => {
                self.take_record(&position.source, &position.stream, position.seq, address, payload)
            }
            Kind::Erase => {
                self.erasures = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn take_record(
        &mut self,
        source: &str,
        stream: &str,
        seq: u64,
        address: &Address,
        payload: &[u8],
    ) -> Result<()> {
        let short = short(address);
        let open = self.open_run(source, stream, (seq / CHUNK_RECORDS) as i64)?;
        let first = open.blocks.partition_point(|block| (block.seq, block.address) < (seq, short));
        if open.known.contains(&(seq, short)) {
            return Ok(());
        }
        let mut found = Vec::new();
        let before = open.run.texts.len();
        for block in
            open.blocks[first..].iter().take_while(|block| (block.seq, block.address) == (seq, short))
        {
            let Some(kind) = SearchKind::of_block(&block.kind) else { continue };
            let place = block.start as usize..(block.start + block.bytes) as usize;
            let Some(value) = payload.get(place) else { continue };
            let text = block_text(kind, value);
            if text.text.is_empty() {
                continue;
            }
            let &BlockAt { ordinal, start, bytes, .. } = block;
            found.push(RunBlock { kind: Some(kind), ordinal, start, bytes });
            open.run.texts.push_str(&text.text);
            open.run.ends.push(open.run.texts.len());
            open.run.cut += u64::from(text.cut);
        }
        if !found.is_empty() {
            open.known.insert((seq, short));
            let timestamp = instant_of_record(payload);
            open.run.records.push(RunRecord { seq, address: short, timestamp, blocks: found });
            self.text_bytes += open.run.texts.len() - before + size_of::<RunRecord>();
        }
        Ok(())
    }

    /// Returns the run of a chunk that is being added to.
    fn open_run(&mut self, source: &str, stream: &str, chunk: i64) -> Result<&mut OpenRun> {
        use std::collections::btree_map::Entry;
        match self.open.entry((source.to_owned(), stream.to_owned(), chunk)) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let blocks = blocks_of_chunk(self.rows, self.generation, source, stream, chunk)?;
                let key = [text(source), text(stream)];
                let row =
                    self.rows.get(self.generation, Stream::TABLE, &key)?.map(Stream::read).transpose()?;
                let session = row.map_or_else(|| stream.to_owned(), |row| row.session.to_string());
                let known = self.index.runs(source, stream, chunk)?.into_iter().flat_map(|run| run.records);
                let known = known.map(|record| (record.seq, record.address)).collect();
                let (source, stream) = (source.to_owned(), stream.to_owned());
                let run = SearchRun { source, stream, session, chunk, ..SearchRun::default() };
                Ok(entry.insert(OpenRun { blocks, known, run }))
            }
        }
    }
}

/// The first bytes of an address, which with the record number name an event of a stream.
pub(crate) fn short(address: &Address) -> [u8; 6] {
    *address.0.first_chunk().expect("an address has 32 bytes")
}

/// Asks the ledger of every event in the index whether it was erased, and drops the blocks of those; returns how many.
pub(crate) fn forget_erased(
    index: &mut dyn SearchIndex,
    rows: &dyn RowReader,
    ledger: &Ledger,
) -> Result<u64> {
    let mut chunks = Vec::new();
    index.for_each_run(&mut |source, stream, chunk| {
        chunks.push((source.to_owned(), stream.to_owned(), chunk));
        Ok(())
    })?;
    chunks.sort_unstable();
    chunks.dedup();
    let Some(feed) = ledger.feeds()?.first().map(|head| head.feed) else { return Ok(0) };
    let mut erased = Vec::new();
    for (source, stream, chunk) in chunks {
        let first = chunk as u64 * CHUNK_RECORDS;
        let places = records(rows, &source, &stream, first..first + CHUNK_RECORDS)?;
        let addresses: Vec<Address> = places.iter().map(|place| place.address).collect();
        for (place, found) in places.iter().zip(ledger.find(&feed, &addresses)?) {
            if found.presence == Presence::Erased {
                erased.push((source.clone(), stream.clone(), place.seq, short(&place.address)));
            }
        }
    }
    if erased.is_empty() { Ok(0) } else { index.forget(&erased) }
}
