//! One step of the fold: events become rows in memory; many steps become one transaction. Order and
//! repetition change nothing: an event that stands in its chunk already was folded and is passed over.

use crate::Derived;
use crate::beginnings::BEGINNING_RECORDS;
use crate::content::{Content, OpenContent};
use crate::diagnostics::Diagnostic;
use crate::extents::Extent;
use crate::feeds::{Feed, StreamFeed};
use crate::previews::Preview;
use crate::records::{CHUNK_RECORDS, Chunk, OpenChunk, RecordClass, RecordPlace};
use crate::relayburn::{self, is_imported};
use crate::resolved::{self, Change};
use crate::rows::{self, Rows};
use crate::sources::{Copies, Facts, Reading, SOURCES, SourceFold, SourceRecord};
use crate::stamps;
use crate::store::{FoldTransaction, Generation, RowReader};
use crate::streams::Stream;
use crate::table::{Row, Value};
use crate::text::{Name, key_text};
use burnlog_log::{Address, Kind, Position, Result, Skeleton, WriterId};
use hashbrown::{DefaultHashBuilder, HashMap};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// An entry of a feed with its event, as a fold takes it.
#[derive(Debug, Clone, Copy)]
pub struct FoldInput<'a> {
    /// The feed.
    pub feed: &'a WriterId,
    /// The index of the entry.
    pub index: u64,
    /// The address of the event.
    pub address: Address,
    /// The canonical bytes.
    pub skeleton: &'a [u8],
    /// The payload; `None` when it was erased.
    pub payload: Option<&'a [u8]>,
}

/// What one commit will write.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    facts: Facts,
    derived: Derived,
    streams: Vec<OpenStream>,
    stream_index: HashMap<(String, String), u32, DefaultHashBuilder>,
    current_stream: usize,
    chunks: HashMap<(u32, u64), (OpenChunk, OpenContent), DefaultHashBuilder>,
    chunk_bytes: usize,
    /// Streams whose stored rows are to be read before records are folded.
    unread: Vec<u32>,
    /// Streams of which records came late that say what of the others is a copy, and the first record to fold again.
    late: BTreeMap<u32, u64>,
    feeds: Rows<Feed>,
    extents: Rows<Extent>,
    /// The beginnings of texts, where the store keeps them.
    previews: Option<Rows<Preview>>,
}

/// A stream that the events in memory speak of.
#[derive(Debug)]
struct OpenStream {
    source: String,
    stream: String,
    session_bytes: usize,
    fold: Option<&'static SourceFold>,
    row: Stream,
    changed: bool,
    /// The records that the store knows of.
    records_stored: i64,
    feeds: Vec<(WriterId, i64)>,
}

impl std::fmt::Debug for SourceFold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Where chunks of earlier folds are read.
#[derive(Clone, Copy)]
pub(crate) struct StoredChunks<'s> {
    pub(crate) store: &'s dyn RowReader,
    pub(crate) generation: Generation,
}

impl StoredChunks<'_> {
    fn open(&self, source: &str, stream: &str, chunk: u64) -> Result<OpenChunk> {
        let key = [
            Value::Text(Cow::Borrowed(source)),
            Value::Text(Cow::Borrowed(stream)),
            Value::Integer(chunk as i64),
        ];
        let stored = self.store.get(self.generation, Chunk::TABLE, &key)?;
        Ok(OpenChunk::of_stored(stored.map(Chunk::read).transpose()?.map(|chunk| chunk.entries)))
    }
}

/// How much is folded. The blocks of content are left out to measure the rest, and where nothing but counts is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breadth {
    All,
    WithoutContent,
}

/// How many chunks are read at once.
const CHUNKS_AT_ONCE: usize = 512;

/// An event that was parsed and is to be folded: where its stream is in memory, if it belongs to one.
pub(crate) type Parsed<'i> = (&'i FoldInput<'i>, Skeleton<'i>, Option<usize>);

impl Pending {
    /// Begins with nothing, for a store that does or does not keep previews.
    pub(crate) fn new(keeps_previews: bool, breadth: Breadth) -> Self {
        let mut pending = Self { previews: keeps_previews.then(Rows::default), ..Self::default() };
        pending.facts.blocks.is_off = breadth == Breadth::WithoutContent;
        pending
    }

    /// Returns about how much memory the rows take, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        let previews = self.previews.as_ref().map_or(0, Rows::bytes);
        self.facts.bytes() + self.chunk_bytes + self.streams.len() * 1024 + previews
    }

    /// Folds events of one feed. Skeletons of a newer version are passed over; returns how many these were.
    pub(crate) fn fold(&mut self, stored: Option<StoredChunks<'_>>, inputs: &[FoldInput<'_>]) -> Result<u64> {
        let parsed = self.open(stored, inputs)?;
        for (input, skeleton, at) in &parsed {
            self.fold_event(input, skeleton, *at);
        }
        Ok((inputs.len() - parsed.len()) as u64)
    }

    /// Parses events of one feed, and reads what the store has of their streams, if there is one: for all of them at once,
    /// because it may be a network away. Those whose skeletons are of a newer version are left out.
    pub(crate) fn open<'i>(
        &mut self,
        stored: Option<StoredChunks<'_>>,
        inputs: &'i [FoldInput<'i>],
    ) -> Result<Vec<Parsed<'i>>> {
        let mut parsed: Vec<Parsed<'_>> = Vec::with_capacity(inputs.len());
        let mut wanted: Vec<(u32, u64)> = Vec::new();
        let mut last = None;
        for input in inputs {
            let Ok(skeleton) = Skeleton::parse(input.skeleton) else { continue };
            let Position { kind, source, stream, seq, .. } = &skeleton.position;
            let mut at = None;
            if matches!(kind, Kind::Line | Kind::Tail | Kind::Record | Kind::Other(_)) {
                let stream = self.open_stream(source, stream);
                at = Some(stream);
                let chunk = (stream as u32, seq / CHUNK_RECORDS);
                if last.replace(chunk) != Some(chunk) && !self.chunks.contains_key(&chunk) {
                    wanted.push(chunk);
                }
            }
            parsed.push((input, skeleton, at));
        }
        self.open_chunks(stored, wanted)?;
        self.read_beginnings(stored)?;
        Ok(parsed)
    }

    /// Reads what the store has of the streams whose beginnings tell what is a copy.
    fn read_beginnings(&mut self, stored: Option<StoredChunks<'_>>) -> Result<()> {
        let unread = std::mem::take(&mut self.unread);
        let Some(stored) = stored else { return Ok(()) };
        for some in unread.chunks(CHUNKS_AT_ONCE) {
            let rows = some.iter().map(|at| &self.streams[*at as usize].row);
            let keys: Vec<Value<'_>> = rows
                .flat_map(|row| [&row.source, &row.stream])
                .map(|name| Value::Text(Cow::Borrowed(name)))
                .collect();
            let found = stored.store.get_many(stored.generation, Stream::TABLE, &keys)?;
            for (at, row) in some.iter().zip(found) {
                let Some(row) = row.map(Stream::read).transpose()? else { continue };
                let open = &mut self.streams[*at as usize];
                open.records_stored = row.records;
                open.row.beginning = row.beginning;
            }
        }
        Ok(())
    }

    /// Reads what the store has of chunks.
    fn open_chunks(&mut self, stored: Option<StoredChunks<'_>>, mut wanted: Vec<(u32, u64)>) -> Result<()> {
        wanted.sort_unstable();
        wanted.dedup();
        let Some(stored) = stored else {
            self.chunks.extend(wanted.into_iter().map(|chunk| (chunk, Default::default())));
            return Ok(());
        };
        for some in wanted.chunks(CHUNKS_AT_ONCE) {
            let mut keys = Vec::with_capacity(some.len() * Chunk::TABLE.key);
            for (at, chunk) in some {
                let stream = &self.streams[*at as usize].row;
                keys.push(Value::Text(Cow::Borrowed(&*stream.source)));
                keys.push(Value::Text(Cow::Borrowed(&*stream.stream)));
                keys.push(Value::Integer(*chunk as i64));
            }
            let found = stored.store.get_many(stored.generation, Chunk::TABLE, &keys)?;
            for (chunk, row) in some.iter().zip(found) {
                let entries = row.map(Chunk::read).transpose()?.map(|chunk| chunk.entries);
                self.chunks.insert(*chunk, (OpenChunk::of_stored(entries), OpenContent::default()));
            }
        }
        Ok(())
    }

    fn fold_event(&mut self, input: &FoldInput<'_>, skeleton: &Skeleton<'_>, stream: Option<usize>) {
        match &skeleton.position.kind {
            Kind::Writer => self.feeds.merge(Feed::of_payload(input.feed, input.index, input.payload)),
            Kind::Extent => {
                let source = self.facts.names.get(&skeleton.position.source);
                let extent =
                    input.payload.and_then(|payload| Extent::of_payload(&source, input.address, payload));
                if let Some(extent) = extent {
                    self.extents.merge(extent);
                }
            }
            Kind::Stamp => {
                let stamps = input
                    .payload
                    .and_then(|payload| stamps::of_payload(input.address, skeleton.payload, payload));
                for stamp in stamps.into_iter().flatten() {
                    self.facts.stamps.merge(stamp);
                }
            }
            // Erasures and seals make no rows; the projector looks at the former.
            _ => {
                if let Some(stream) = stream {
                    self.fold_record(input, skeleton, stream);
                }
            }
        }
    }

    /// Returns what kind of record an event was when it was folded, now or earlier; `None` for one that was not, or is
    /// no record.
    pub(crate) fn class_of(
        &self,
        stored: StoredChunks<'_>,
        address: &Address,
        skeleton: &[u8],
    ) -> Result<Option<RecordClass>> {
        let Ok(skeleton) = Skeleton::parse(skeleton) else { return Ok(None) };
        let Position { source, stream, seq, .. } = &skeleton.position;
        let chunk = seq / CHUNK_RECORDS;
        let (source, stream) = (key_text(source), key_text(stream));
        let open = self.stream_index.get(&(source.to_string(), stream.to_string()));
        if let Some((open, _)) = open.and_then(|at| self.chunks.get(&(*at, chunk))) {
            return Ok(open.class_of(*seq, address));
        }
        Ok(stored.open(&source, &stream, chunk)?.class_of(*seq, address))
    }

    fn fold_record(&mut self, input: &FoldInput<'_>, skeleton: &Skeleton<'_>, at: usize) {
        let Position { kind, source, stream, seq, part } = &skeleton.position;
        let is_import = *kind == Kind::Record && (is_imported(stream) || source == relayburn::SOURCE);
        let is_of_file = matches!(kind, Kind::Line | Kind::Tail) || (is_import && is_imported(stream));
        let open = &mut self.streams[at];
        let records = i64::try_from(seq.saturating_add(1)).unwrap_or(i64::MAX);
        if is_of_file {
            open.seen_by(input.feed, records);
        }
        // Opened before, with those of all events that are folded together with this one.
        let Some((chunk, content)) = self.chunks.get_mut(&(at as u32, seq / CHUNK_RECORDS)) else { return };
        let (before, place) = chunk.look(*seq, &input.address);
        if before.known {
            return;
        }
        let is_told = input.payload.is_some() || open.fold.is_none_or(|fold| !fold.names_session);
        if is_of_file && is_told {
            open.changed = true;
            open.row.records = open.row.records.max(records);
        }
        let facts = &mut self.facts;
        let is_beginning =
            *seq < BEGINNING_RECORDS && open.fold.is_some_and(|fold| fold.copies == Copies::Beginnings);
        let beginning = is_beginning.then(|| open.row.beginning.clone());
        let reading = match (kind, input.payload, open.fold) {
            (Kind::Line, _, _) if part.is_some() => Reading::of_class(RecordClass::Part, "", facts),
            (Kind::Line, None, _) => Reading::of_class(RecordClass::Erased, "", facts),
            (Kind::Line, Some(_), None) => Reading::of_class(RecordClass::Unknown, "", facts),
            (Kind::Line, Some(payload), Some(fold)) => {
                let session = &open.stream[..open.session_bytes];
                let (address, payload_hash) = (input.address, skeleton.payload);
                let record = SourceRecord { seq: *seq, address, payload_hash, payload, session };
                (fold.fold)(&record, &mut open.row, facts)
            }
            (Kind::Tail, ..) => Reading::of_class(RecordClass::Tail, "tail", facts),
            (Kind::Record, Some(payload), _) if is_import && part.is_none() => {
                let (address, payload_hash) = (input.address, skeleton.payload);
                let session = &open.stream;
                let record = SourceRecord { seq: *seq, address, payload_hash, payload, session };
                relayburn::fold(&record, &mut open.row, facts)
            }
            (Kind::Record, ..) if is_import && part.is_some() => {
                Reading::of_class(RecordClass::Part, "", facts)
            }
            (Kind::Record, None, _) if is_import => Reading::of_class(RecordClass::Erased, "", facts),
            (Kind::Record, ..) => Reading::of_class(RecordClass::OtherKind, "record", facts),
            (other, ..) => Reading::of_class(RecordClass::OtherKind, &format!("kind:{other}"), facts),
        };
        if let Some(known) = beginning {
            if *kind == Kind::Line && (part.is_some() || input.payload.is_none()) {
                open.row.offer_beginning(*seq, None);
            }
            // In the order of the file there is none behind it yet.
            if open.row.beginning != known && open.row.records.max(open.records_stored) > records {
                let from = self.late.entry(at as u32).or_insert(*seq);
                *from = (*from).min(*seq);
            }
        }
        let Reading { class, fingerprint, .. } = reading;
        chunk.insert(place, &RecordPlace { seq: *seq, address: input.address, class, fingerprint });
        let added = content.add(*seq, &input.address, &mut facts.blocks);
        self.chunk_bytes += 48 + added;
        if let (Some(previews), Some(payload), true) = (&mut self.previews, input.payload, added > 0) {
            for preview in content.last_blocks().iter().filter_map(|block| Preview::of_block(block, payload))
            {
                // Its text is not in the size of a row.
                self.chunk_bytes += preview.text.len();
                previews.merge(preview);
            }
        }
        let source = open.row.source.clone();
        self.count(&source, &reading, before.line);
        if class.is_line() && !before.line && before.tails > 0 {
            let (version, tail) = (self.facts.names.get(""), self.facts.names.get("tail"));
            let counts = self.derived.diagnostic(&source, &version, &tail);
            counts.unreadable -= before.tails;
            counts.superseded += before.tails;
        }
    }

    /// Whether records came behind others that they say something of; see [`Pending::take_late`].
    pub(crate) fn is_late(&self) -> bool {
        !self.late.is_empty()
    }

    /// Takes the records whose rows are to be made anew, because a record before them in their file came after them: for
    /// [`Pending::fold_again`]. Never any where files are folded in their order.
    pub(crate) fn take_late(&mut self, stored: StoredChunks<'_>) -> Result<Vec<Address>> {
        let mut addresses = Vec::new();
        for (at, from) in std::mem::take(&mut self.late) {
            let stream = &self.streams[at as usize];
            let records = stream.row.records.max(stream.records_stored).max(0) as u64;
            let chunks = from / CHUNK_RECORDS..records.div_ceil(CHUNK_RECORDS);
            let (source, name) = (stream.row.source.clone(), stream.row.stream.clone());
            for number in chunks {
                let mut add = |chunk: &OpenChunk| {
                    let behind =
                        chunk.places(number).filter(|place| place.seq > from && place.class.is_line());
                    addresses.extend(behind.map(|place| place.address));
                };
                match self.chunks.get(&(at, number)) {
                    Some((chunk, _)) => add(chunk),
                    None => add(&stored.open(&source, &name, number)?),
                }
            }
        }
        Ok(addresses)
    }

    /// Joins the rows of a record again, which was folded before; it is counted once.
    pub(crate) fn fold_again(&mut self, address: Address, skeleton: &[u8], payload: &[u8]) {
        let Ok(skeleton) = Skeleton::parse(skeleton) else { return };
        let Position { source, stream, seq, .. } = &skeleton.position;
        let at = self.open_stream(source, stream);
        let open = &mut self.streams[at];
        let (Some(fold), session) = (open.fold, &open.stream[..open.session_bytes]) else { return };
        let record = SourceRecord { seq: *seq, address, payload_hash: skeleton.payload, payload, session };
        (fold.fold)(&record, &mut open.row, &mut self.facts);
        // Its blocks are there: they are not those of the record that comes next.
        self.facts.blocks.begin(&[], true);
        open.changed = true;
    }

    fn count(&mut self, source: &Name, reading: &Reading, line_is_there: bool) {
        let counts = self.derived.diagnostic(source, &reading.version, &reading.record_type);
        *counts.count_of(reading.class, line_is_there) += 1;
    }

    /// Returns where the stream of that name is in memory.
    fn open_stream(&mut self, source: &str, stream: &str) -> usize {
        let is = |open: &OpenStream| open.stream == stream && open.source == source;
        if self.streams.get(self.current_stream).is_some_and(is) {
            return self.current_stream;
        }
        // As their rows name them: two names that a database could not tell apart are one stream.
        let key = (key_text(source).into_owned(), key_text(stream).into_owned());
        let next = self.streams.len() as u32;
        let at = *self.stream_index.entry(key).or_insert(next) as usize;
        if at == self.streams.len() {
            let fold = SOURCES.iter().find(|fold| fold.name == source);
            let located = || fold.map_or((stream, None), |fold| (fold.locate)(stream));
            let (session, agent) =
                relayburn::session_of(stream).map_or_else(located, |session| (session, None));
            let names = &mut self.facts.names;
            let (source_name, stream_name) = (names.get(source), names.get(stream));
            let (session_name, agent_name) = (names.get(session), names.option(agent));
            self.streams.push(OpenStream {
                source: source.to_owned(),
                stream: stream.to_owned(),
                session_bytes: session.len(),
                fold,
                row: Stream::unseen(source_name, stream_name, session_name, agent_name),
                changed: false,
                records_stored: 0,
                feeds: Vec::new(),
            });
            if fold.is_some_and(|fold| fold.copies == Copies::Beginnings) {
                self.unread.push(at as u32);
            }
        }
        self.current_stream = at;
        at
    }

    /// Drops what the records tell but for the groups, which may tell the version of others.
    pub(crate) fn keep_groups(&mut self) {
        self.facts.keep_groups();
    }

    /// Returns what the records count as, in the order of the keys; all else is dropped. Some counts may be 0.
    pub(crate) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        for group in self.facts.take_groups() {
            resolved::count_unknown(&Change::of(None, &group), &mut self.derived);
        }
        self.derived.diagnostics.take_sorted()
    }

    /// Writes everything in one transaction. The caller drops `self` afterwards, whatever came of it.
    pub(crate) fn write(&mut self, to: &mut dyn FoldTransaction) -> Result<()> {
        self.write_chunks(to)?;
        let mut streams = Rows::default();
        let mut stream_feeds = Rows::default();
        for open in self.streams.drain(..) {
            for (feed, records) in open.feeds {
                let (source, stream) = (open.row.source.clone(), open.row.stream.clone());
                stream_feeds.merge(StreamFeed { source, stream, feed: feed.0.to_vec(), records });
            }
            if open.changed {
                streams.merge(open.row);
            }
        }
        let derived = &mut self.derived;
        streams.write(to, derived)?;
        stream_feeds.write(to, derived)?;
        self.feeds.write(to, derived)?;
        self.extents.write(to, derived)?;
        if let Some(previews) = &mut self.previews {
            previews.write(to, derived)?;
        }
        self.facts.write(to, derived)?;
        derived.write(to)
    }

    fn write_chunks(&mut self, to: &mut dyn FoldTransaction) -> Result<()> {
        let mut chunks: Vec<_> = self.chunks.drain().filter(|(_, (chunk, _))| chunk.changed).collect();
        let streams = &self.streams;
        let name = |at: u32| {
            let row = &streams[at as usize].row;
            (&row.source, &row.stream)
        };
        chunks.sort_unstable_by(|((one, first), _), ((two, second), _)| {
            name(*one).cmp(&name(*two)).then(first.cmp(second))
        });
        let mut contents: Rows<Content> = Rows::default();
        let (mut new, mut grown) = (Vec::new(), Vec::new());
        for ((at, chunk), (open, content)) in chunks {
            let (source, stream) = name(at);
            if let Some(content) = content.into_row(source, stream, chunk) {
                contents.merge(content);
            }
            let list = if open.stored { &mut grown } else { &mut new };
            let (source, stream, entries) = (source.clone(), stream.clone(), open.into_packed());
            list.push(Chunk { source, stream, chunk: chunk as i64, entries });
        }
        rows::insert_rows(&new, to)?;
        rows::replace_rows(&grown, to)?;
        contents.write(to, &mut self.derived)
    }
}

impl OpenStream {
    fn seen_by(&mut self, feed: &WriterId, records: i64) {
        match self.feeds.iter_mut().find(|(known, _)| known == feed) {
            Some((_, most)) => *most = (*most).max(records),
            None => self.feeds.push((*feed, records)),
        }
    }
}
