//! Questions that rows in key order answer: the same code for every store.

use crate::calls::{Call, CallSession};
use crate::conflicts::Conflict;
use crate::diagnostics::Diagnostic;
use crate::extents::Extent;
use crate::feeds::{Feed, StreamFeed};
use crate::projector::PROJECTIONS_VERSION;
use crate::queries::Queries;
use crate::records::{CHUNK_RECORDS, Chunk, RecordPlace};
use crate::rollups::Session;
use crate::stamps::Stamp;
use crate::store::{FeedCursor, Generation, RowReader};
use crate::streams::Stream;
use crate::table::{Row, Value};
use crate::text::{Name, key_text};
use crate::user_turns::{CLASS_PROMPT, UserTurn};
use burnlog_log::{Error, ErrorKind, Result};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How many rows are read at once.
const PAGE_ROWS: usize = 1024;
/// How many rows are read first where only a part of a table is wanted.
const FIRST_PAGE_ROWS: usize = 16;
/// How many rows are read at once where one has 200 records.
pub(crate) const CHUNK_PAGE_ROWS: usize = 128;
/// Sorts after every text that is a key.
const AFTER_ALL: &str = "\u{10ffff}\u{10ffff}";
/// How many candidates an ambiguous prefix names.
const CANDIDATES_MAX: usize = 10;

/// Returns the generation that queries read.
///
/// `NotFound` when nothing was folded yet, or only by an older program; `Unsupported` when by a newer one.
pub fn live(reader: &(impl RowReader + ?Sized)) -> Result<Generation> {
    let refused = |kind, message: String| Err(Error::new(kind, "query", message).at(reader.location()));
    match reader.state()?.live {
        None => {
            refused(ErrorKind::NotFound, "nothing was folded yet; run ingest or project rebuild".to_owned())
        }
        Some(live) if live.version < PROJECTIONS_VERSION => refused(
            ErrorKind::NotFound,
            format!("the projections have version {}; run project rebuild", live.version),
        ),
        Some(live) if live.version > PROJECTIONS_VERSION => refused(
            ErrorKind::Unsupported,
            format!(
                "the projections have version {}, this program reads {PROJECTIONS_VERSION}; upgrade burnlog",
                live.version
            ),
        ),
        Some(live) => Ok(live.generation),
    }
}

/// Reads all rows of a table.
pub(crate) fn rows_of<R: Row>(reader: &(impl RowReader + ?Sized), generation: Generation) -> Result<Vec<R>> {
    rows_within(reader, generation, &[])
}

/// Reads the rows whose key begins with these values.
pub(crate) fn rows_within<R: Row>(
    reader: &(impl RowReader + ?Sized),
    generation: Generation,
    prefix: &[Value<'_>],
) -> Result<Vec<R>> {
    let mut rows = Vec::new();
    for_each_within::<R>(reader, generation, prefix, None, &mut |row| {
        rows.push(row);
        Ok(true)
    })?;
    Ok(rows)
}

/// Calls `each` with the rows whose key begins with these values, from the first key greater than `after` on,
/// until it returns false.
pub(crate) fn for_each_within<R: Row>(
    reader: &(impl RowReader + ?Sized),
    generation: Generation,
    prefix: &[Value<'_>],
    after: Option<Vec<Value<'static>>>,
    each: &mut dyn FnMut(R) -> Result<bool>,
) -> Result<()> {
    for_each_within_pages(reader, generation, prefix, after, PAGE_ROWS, each)
}

/// As [`for_each_within`], reading up to `page_rows` rows at once.
pub(crate) fn for_each_within_pages<R: Row>(
    reader: &(impl RowReader + ?Sized),
    generation: Generation,
    prefix: &[Value<'_>],
    after: Option<Vec<Value<'static>>>,
    page_rows: usize,
    each: &mut dyn FnMut(R) -> Result<bool>,
) -> Result<()> {
    let mut after = after.or_else(|| (!prefix.is_empty()).then(|| least_key::<R>(prefix)));
    // Most prefixes have a few rows: a store must not read a thousand to find that out.
    let mut rows_at_once = if prefix.is_empty() { page_rows } else { page_rows.min(FIRST_PAGE_ROWS) };
    loop {
        let page = reader.scan(generation, R::TABLE, after.as_deref(), rows_at_once)?;
        let full = page.len() == rows_at_once;
        rows_at_once = page_rows.min(rows_at_once * 4);
        for values in page {
            let key: Vec<Value<'static>> = values[..R::TABLE.key].to_vec();
            if !key.starts_with(&prefix.iter().cloned().map(Value::into_owned).collect::<Vec<_>>()) {
                return Ok(());
            }
            if !each(R::read(values)?)? {
                return Ok(());
            }
            after = Some(key);
        }
        if !full {
            return Ok(());
        }
    }
}

/// Returns a key that is no greater than any that begins with `prefix`, and smaller than all that hold anything.
fn least_key<R: Row>(prefix: &[Value<'_>]) -> Vec<Value<'static>> {
    use crate::table::ColumnKind;
    let mut key: Vec<Value<'static>> = prefix.iter().cloned().map(Value::into_owned).collect();
    for column in &R::TABLE.columns[key.len()..R::TABLE.key] {
        key.push(match column.kind {
            ColumnKind::Text | ColumnKind::Name => Value::Text(Cow::Borrowed("")),
            ColumnKind::Blob | ColumnKind::Address => Value::Blob(Cow::Borrowed(&[])),
            _ => Value::Integer(i64::MIN),
        });
    }
    key
}

pub(crate) fn text(text: &str) -> Value<'static> {
    Value::Text(Cow::Owned(key_text(text).into_owned()))
}

/// Lists sessions whose id begins with `prefix`, of all sources, in the order of their keys.
pub fn sessions_with_prefix(
    reader: &(impl RowReader + ?Sized),
    prefix: &str,
    limit: usize,
) -> Result<Vec<(Name, Name)>> {
    let generation = live(reader)?;
    let prefix = key_text(prefix);
    let mut found = Vec::new();
    let mut after: Option<Vec<Value<'static>>> = None;
    // One look for each source: the first session behind all of the source before.
    while found.len() < limit {
        let next = reader.scan(generation, Session::TABLE, after.as_deref(), 1)?.pop();
        let Some(first) = next.map(Session::read).transpose()? else { break };
        let source = [text(&first.source)];
        let mut take = |row: Session| {
            let fits = row.session.starts_with(&*prefix);
            if fits {
                found.push((row.source, row.session));
            }
            Ok(fits && found.len() < limit)
        };
        let exact = [text(&first.source), text(&prefix)];
        if let Some(values) = reader.get(generation, Session::TABLE, &exact)? {
            take(Session::read(values)?)?;
        }
        for_each_within::<Session>(reader, generation, &source, Some(exact.to_vec()), &mut take)?;
        after = Some(vec![text(&first.source), text(AFTER_ALL)]);
    }
    found.truncate(limit);
    Ok(found)
}

/// Returns the one session (source and id) whose id is `name` or begins with it.
///
/// `NotFound` when there is none, `Invalid` when there are several; the message names them. An empty name is `Invalid` too: it
/// begins every id, and would be the only session of a small ledger by accident.
pub fn resolve_session(reader: &(impl RowReader + ?Sized), name: &str) -> Result<(Name, Name)> {
    if name.is_empty() {
        let message = "the session's id is empty; burnlog sessions lists the ids";
        return Err(Error::new(ErrorKind::Invalid, "find session", message));
    }
    let found = sessions_with_prefix(reader, name, CANDIDATES_MAX + 1)?;
    let exact: Vec<_> = found.iter().filter(|(_, session)| **session == *key_text(name)).cloned().collect();
    match (exact.as_slice(), found.as_slice()) {
        ([one], _) | ([], [one]) => Ok(one.clone()),
        ([], []) => {
            Err(Error::new(ErrorKind::NotFound, "find session", format!("no session begins with {name:?}")))
        }
        _ => {
            let mut names: Vec<String> = found
                .iter()
                .take(CANDIDATES_MAX)
                .map(|(source, session)| format!("{session} ({source})"))
                .collect();
            if found.len() > CANDIDATES_MAX {
                names.push("…".to_owned());
            }
            let message = format!("{name:?} fits several sessions: {}", names.join(", "));
            Err(Error::new(ErrorKind::Invalid, "find session", message))
        }
    }
}

/// Returns every event at the record numbers `seqs` of a stream, by number and address.
pub fn records(
    reader: &(impl RowReader + ?Sized),
    source: &str,
    stream: &str,
    seqs: Range<u64>,
) -> Result<Vec<RecordPlace>> {
    let mut places = Vec::new();
    let prefix = [text(source), text(stream)];
    let first = (seqs.start / CHUNK_RECORDS) as i64;
    let after = vec![text(source), text(stream), Value::Integer(first - 1)];
    for_each_within::<Chunk>(reader, live(reader)?, &prefix, Some(after), &mut |chunk| {
        places.extend(chunk.places().filter(|place| seqs.contains(&place.seq)));
        Ok((chunk.chunk as u64 + 1).saturating_mul(CHUNK_RECORDS) < seqs.end)
    })?;
    Ok(places)
}

/// Returns the extents of a stream, the longest first, then the one with more bytes.
pub fn extents(reader: &(impl RowReader + ?Sized), source: &str, stream: &str) -> Result<Vec<Extent>> {
    let mut extents: Vec<Extent> = rows_within(reader, live(reader)?, &[text(source), text(stream)])?;
    extents.sort_by_key(|extent| std::cmp::Reverse((extent.records, extent.bytes, extent.place)));
    Ok(extents)
}

/// Returns the counts of understood and other records.
pub fn diagnostics(reader: &(impl RowReader + ?Sized)) -> Result<Vec<Diagnostic>> {
    rows_of(reader, live(reader)?)
}

/// Returns what the feeds say of their writers.
pub fn feeds(reader: &(impl RowReader + ?Sized)) -> Result<Vec<Feed>> {
    rows_of(reader, live(reader)?)
}

/// How the hosts of feeds are shown: by the label, and where several have one, or none is known, with the first digits
/// of the key behind it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostLabels(BTreeMap<Vec<u8>, String>);

impl HostLabels {
    /// Reads what the feeds say of their writers.
    pub fn read(reader: &(impl RowReader + ?Sized)) -> Result<Self> {
        let feeds = feeds(reader)?;
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        for feed in &feeds {
            *known.entry(feed.host.as_deref().unwrap_or_default().to_owned()).or_default() += 1;
        }
        let label = |feed: Feed| {
            let mut label = feed.host.as_deref().unwrap_or_default().to_owned();
            if label.is_empty() || known.get(&label).is_some_and(|feeds| *feeds > 1) {
                push_digits(&mut label, &feed.feed);
            }
            (feed.feed, label)
        };
        Ok(Self(feeds.into_iter().map(label).collect()))
    }

    /// Returns how the hosts of all feeds are shown, in the order of their names.
    pub fn all(&self) -> BTreeSet<&str> {
        self.0.values().map(String::as_str).collect()
    }

    /// Returns how the host of a feed is shown; the feed by its 32 bytes.
    pub fn of(&self, feed: &[u8]) -> String {
        self.0.get(feed).cloned().unwrap_or_else(|| {
            let mut label = String::new();
            push_digits(&mut label, feed);
            label
        })
    }
}

fn push_digits(label: &mut String, feed: &[u8]) {
    label.push('#');
    label.extend(feed.iter().take(2).map(|byte| format!("{byte:02x}")));
}

/// Returns which feeds have records of a stream.
pub fn stream_feeds(
    reader: &(impl RowReader + ?Sized),
    source: &str,
    stream: &str,
) -> Result<Vec<StreamFeed>> {
    rows_within(reader, live(reader)?, &[text(source), text(stream)])
}

/// The hosts that have records of each session, by source and session: all of them in two passes over the streams.
pub fn session_hosts(reader: &(impl RowReader + ?Sized)) -> Result<BTreeMap<(Name, Name), BTreeSet<String>>> {
    let (generation, labels) = (live(reader)?, HostLabels::read(reader)?);
    let mut sessions = BTreeMap::new();
    for_each_within::<Stream>(reader, generation, &[], None, &mut |row| {
        sessions.insert((row.source, row.stream), row.session);
        Ok(true)
    })?;
    let mut hosts: BTreeMap<(Name, Name), BTreeSet<String>> = BTreeMap::new();
    for_each_within::<StreamFeed>(reader, generation, &[], None, &mut |row| {
        let key = (row.source, row.stream);
        if let Some(session) = sessions.get(&key) {
            hosts.entry((key.0, session.clone())).or_default().insert(labels.of(&row.feed));
        }
        Ok(true)
    })?;
    Ok(hosts)
}

/// Returns all forms that contradict each other, in the order of their identities.
pub fn conflicts(reader: &(impl RowReader + ?Sized)) -> Result<Vec<Conflict>> {
    rows_of(reader, live(reader)?)
}

/// Returns the sessions that contain a call, its home first; none where the call is not known.
pub fn call_sessions(reader: &(impl RowReader + ?Sized), source: &str, call: &str) -> Result<Vec<Name>> {
    let generation = live(reader)?;
    let key = [text(source), text(call)];
    let Some(row) = reader.get(generation, Call::TABLE, &key)? else { return Ok(Vec::new()) };
    let mut sessions = vec![Call::read(row)?.session];
    let others: Vec<CallSession> = rows_within(reader, generation, &key)?;
    sessions.extend(others.into_iter().map(|row| row.session));
    Ok(sessions)
}

/// Returns the stamps on a session, stream or call (`selects`), by key; of one key first that for this source alone,
/// which counts before that for any source.
pub fn stamps(
    reader: &(impl RowReader + ?Sized),
    selects: &str,
    source: &str,
    target: &str,
) -> Result<Vec<Stamp>> {
    let generation = live(reader)?;
    let mut stamps = Vec::new();
    for source in [source, ""] {
        let prefix = [text(selects), text(source), text(target)];
        stamps.extend(rows_within::<Stamp>(reader, generation, &prefix)?);
    }
    stamps.sort_by(|one, two| one.stamp_key.cmp(&two.stamp_key));
    stamps.dedup();
    Ok(stamps)
}

/// Returns the value that a key has on the first of these levels on which it has any; each is what is selected, the
/// source and the id. The stamp for the source alone counts before that for any.
pub fn tag(
    reader: &(impl RowReader + ?Sized),
    levels: &[(&str, &str, &str)],
    key: &str,
) -> Result<Option<String>> {
    let generation = live(reader)?;
    for (selects, source, target) in levels {
        for source in [*source, ""] {
            let key = [text(selects), text(source), text(target), text(key)];
            let stamp = reader.get(generation, Stamp::TABLE, &key)?.map(Stamp::read).transpose()?;
            if let Some(value) = stamp.and_then(|stamp| stamp.value) {
                return Ok(Some(value));
            }
        }
    }
    Ok(None)
}

/// A turn and its number among the session's prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedTurn {
    /// From 1, for a prompt; absent for all that only looks like one.
    pub ordinal: Option<u64>,
    /// The turn.
    pub turn: UserTurn,
}

/// Returns the turns at home in a session by time, numbered as they now stand: one that turns up late moves the rest.
pub fn numbered_turns(queries: &dyn Queries, source: &str, session: &str) -> Result<Vec<NumberedTurn>> {
    let mut prompts = 0;
    let number = |turn: UserTurn| {
        let is_prompt = &*turn.class == CLASS_PROMPT;
        prompts += u64::from(is_prompt);
        NumberedTurn { ordinal: is_prompt.then_some(prompts), turn }
    };
    Ok(queries.user_turns(source, session)?.into_iter().map(number).collect())
}

/// What a store has of the projections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionStatus {
    /// The version of the live tables.
    pub version: u32,
    /// How far each feed was folded, in the order of the ids.
    pub cursors: Vec<FeedCursor>,
}

/// Returns the state of the live projections. Errors as [`live`].
pub fn status(reader: &(impl RowReader + ?Sized)) -> Result<ProjectionStatus> {
    let cursors = reader.cursors(live(reader)?)?;
    Ok(ProjectionStatus { version: PROJECTIONS_VERSION, cursors })
}
