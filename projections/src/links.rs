//! How sessions hang together: what records state outright, history that was copied from one file to another, and
//! which record of another file a file goes on from. Copies are found by the first record that both files begin with.

use crate::forks::{fork_of, forks};
use crate::lookup::{CHUNK_PAGE_ROWS, for_each_within, for_each_within_pages, live, records, stream_feeds};
use crate::queries::Queries;
use crate::records::{Chunk, RecordPlace, fingerprint};
use crate::relationships::{KIND_CONTINUATION, KIND_FORK, KIND_SUBAGENT, Relationship};
use crate::rollups::Session;
use crate::store::RowReader;
use crate::streams::Stream;
use crate::table::{Row, Value};
use crate::text::Name;
use crate::{StreamFeed, order};
use burnlog_log::{Address, Result, Timestamp};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

/// A file that begins with the history of another, though no record says so.
pub const KIND_COPY: &str = "copy";
/// A file whose first record follows one of another file.
pub const KIND_PARENT: &str = "parent";
/// How many files with one beginning are compared with each other.
const FAMILY_MAX: usize = 64;
/// How many records that only one file has may stand between two that both have.
const OTHERS_MAX: usize = 256;
/// How far a root is looked for.
const CHAIN_MAX: usize = 1024;

/// Where copied history ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopiedHistory {
    /// The records that both files have.
    pub records: u64,
    /// The last of them in the file that was copied to.
    pub end: RecordPlace,
}

/// How two sessions hang together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The source.
    pub source: Name,
    /// `continuation`, `fork`, `copy`, `parent`, `subagent`, `resumed-agent` or `spawn-env`.
    pub kind: Name,
    /// The session that was there before; absent when the record that is followed was never recorded.
    pub from_session: Option<Name>,
    /// Its stream, where it is known.
    pub from_stream: Option<Name>,
    /// The session that came out of it.
    pub to_session: Name,
    /// Its stream, where it is known.
    pub to_stream: Option<Name>,
    /// The subagent, if it is one's.
    pub agent: Option<Name>,
    /// When, where a record states it.
    pub at: Option<Timestamp>,
    /// The tool use that started it.
    pub tool_use: Option<String>,
    /// The id of the record from which it came out.
    pub record: Option<String>,
    /// The address of the record that states it.
    pub place: Option<Address>,
    /// The history that both files have, if any.
    pub copied: Option<CopiedHistory>,
}

/// A stream of a session, and who has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionStream {
    /// The stream.
    pub stream: Stream,
    /// The feeds that have records of it.
    pub feeds: Vec<StreamFeed>,
}

/// All that a session hangs together with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionLinks {
    /// The session at the beginning of the chain; the session itself when it came out of no other. Of sessions that
    /// name each other in a circle the smallest.
    pub root: Name,
    /// The links to and from the session.
    pub links: Vec<Link>,
    /// Its streams, in the order of their names.
    pub streams: Vec<SessionStream>,
}

/// Returns the links of a session without those to the records that its files follow, which cost a look at every
/// record of the ledger. Errors as [`live`].
pub fn origins(queries: &dyn Queries, source: &str, session: &str) -> Result<Vec<Link>> {
    origins_of(queries, source, session, &queries.streams(source, session)?)
}

fn origins_of(queries: &dyn Queries, source: &str, session: &str, streams: &[Stream]) -> Result<Vec<Link>> {
    let mut links = stated(queries, source, session, streams)?;
    for stream in streams {
        add_copies(queries, stream, Some(session), &mut links)?;
    }
    links.extend(forks(queries, source, session)?);
    Ok(links)
}

/// Returns what a session hangs together with. Errors as [`live`].
pub fn relationships(queries: &dyn Queries, source: &str, session: &str) -> Result<SessionLinks> {
    let streams = queries.streams(source, session)?;
    let mut links = origins_of(queries, source, session, &streams)?;
    add_parents(queries, &streams, &mut links)?;
    links.sort_by_cached_key(sort_key);
    links.dedup();
    let mut listed = Vec::with_capacity(streams.len());
    for stream in streams {
        let feeds = stream_feeds(queries, source, &stream.stream)?;
        listed.push(SessionStream { stream, feeds });
    }
    let root = root(queries, source, session, &links)?;
    Ok(SessionLinks { root, links, streams: listed })
}

/// Calls `each` with every link of the ledger: those that records state in the order of their keys, then those that were
/// found in the order of the streams they lead to, then forks that copied calls under new names, then links to a record of
/// another stream.
pub fn for_each_link(queries: &dyn Queries, each: &mut dyn FnMut(Link) -> Result<()>) -> Result<()> {
    let generation = live(queries)?;
    for_each_within::<Relationship>(queries, generation, &[], None, &mut |row| {
        let mut link = link_of(queries, row)?;
        if let (Some(agent), KIND_SUBAGENT) = (&link.agent, &*link.kind) {
            let streams = queries.streams(&link.source, &link.to_session)?;
            let own = streams.into_iter().find(|stream| is_agent(stream, agent));
            link.to_stream = own.map(|stream| stream.stream);
        }
        each(link)?;
        Ok(true)
    })?;
    let mut followers = Vec::new();
    for_each_within::<Stream>(queries, generation, &[], None, &mut |stream| {
        let mut links = Vec::new();
        if let Some(agent) = &stream.agent {
            let edges = queries.edges(&stream.source, &stream.session)?;
            let states = |edge: &Relationship| edge.agent == *agent && &*edge.kind == KIND_SUBAGENT;
            if !edges.iter().any(states) {
                add_agents(std::slice::from_ref(&stream), &mut links);
            }
        }
        add_copies(queries, &stream, None, &mut links)?;
        links.into_iter().try_for_each(&mut *each)?;
        if stream.first_parent.is_some() {
            followers.push(stream);
        }
        Ok(true)
    })?;
    for_each_within::<Session>(queries, generation, &[], None, &mut |row| {
        fork_of(queries, &row.source, &row.session)?.into_iter().try_for_each(&mut *each)?;
        Ok(true)
    })?;
    let mut links = Vec::new();
    add_parents(queries, &followers, &mut links)?;
    links.sort_by_cached_key(sort_key);
    links.into_iter().try_for_each(each)
}

fn sort_key(link: &Link) -> impl Ord + use<> {
    let ends = (link.source.clone(), link.to_session.clone(), link.to_stream.clone());
    (
        ends,
        rank(link),
        link.from_session.clone(),
        link.from_stream.clone(),
        link.kind.clone(),
        link.agent.clone(),
    )
}

/// Which link tells best where a session came from: the smaller one.
fn rank(link: &Link) -> usize {
    let kinds = [KIND_CONTINUATION, KIND_FORK, KIND_COPY, KIND_SUBAGENT];
    kinds.iter().position(|kind| *kind == &*link.kind).unwrap_or(kinds.len())
}

/// What records state of a session, and its subagents.
fn stated(queries: &dyn Queries, source: &str, session: &str, streams: &[Stream]) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for row in queries.edges(source, session)? {
        links.push(link_of(queries, row)?);
    }
    add_agents(streams, &mut links);
    Ok(links)
}

/// Takes a stated relationship, with the history that both files have.
fn link_of(queries: &dyn Queries, row: Relationship) -> Result<Link> {
    let is_agent = !row.agent.is_empty();
    let mut link = Link {
        from_stream: None,
        to_stream: row.stream.filter(|_| !is_agent),
        agent: is_agent.then_some(row.agent),
        source: row.source,
        kind: row.kind,
        from_session: Some(row.from_session),
        to_session: row.to_session,
        at: row.at,
        tool_use: row.tool_use,
        record: row.record,
        place: Some(row.place),
        copied: None,
    };
    let is_copy = matches!(&*link.kind, KIND_FORK | KIND_CONTINUATION);
    if let (true, Some(from), Some(to)) = (is_copy, &link.from_session, &link.to_stream) {
        let own = Places::of(queries, &link.source, to)?;
        // Not every source names the file of a session by the session.
        for stream in queries.streams(&link.source, from)?.into_iter().filter(|row| row.agent.is_none()) {
            let copied = Places::of(queries, &link.source, &stream.stream)?.copied_to(&own);
            if copied.map(|copied| copied.records) > link.copied.map(|copied| copied.records) {
                (link.from_stream, link.copied) = (Some(stream.stream), copied);
            }
        }
    }
    Ok(link)
}

/// Adds the subagents that have a stream; where a record states one, its stream is named.
fn add_agents(streams: &[Stream], links: &mut Vec<Link>) {
    for stream in streams {
        let Some(agent) = stream.agent.as_ref().filter(|agent| is_agent(stream, agent)) else { continue };
        let is_this = |link: &&mut Link| {
            link.agent.as_ref() == Some(agent)
                && link.to_session == stream.session
                && link.source == stream.source
                && &*link.kind == KIND_SUBAGENT
        };
        if let Some(link) = links.iter_mut().find(is_this) {
            link.to_stream = Some(stream.stream.clone());
            continue;
        }
        links.push(Link {
            agent: Some(agent.clone()),
            at: stream.first_at,
            ..found(KIND_SUBAGENT, Some(&stream.session), None, stream)
        });
    }
}

/// Whether a stream is that of an agent, and not of the companion file, whose name ends like this.
fn is_agent(stream: &Stream, agent: &Name) -> bool {
    stream.agent.as_ref() == Some(agent) && !stream.stream.ends_with(".meta")
}

/// A link that no record states.
fn found(kind: &str, from_session: Option<&Name>, from_stream: Option<&Name>, to: &Stream) -> Link {
    Link {
        source: to.source.clone(),
        kind: kind.into(),
        from_session: from_session.cloned(),
        from_stream: from_stream.cloned(),
        to_session: to.session.clone(),
        to_stream: Some(to.stream.clone()),
        agent: None,
        at: None,
        tool_use: None,
        record: None,
        place: None,
        copied: None,
    }
}

/// Adds the links of files that begin as `stream` does. With a session those to or from it, else those to `stream`.
///
/// Of two files the one that began first is taken for the one that was copied from, and where the files do not tell when they
/// began, the one that ended first: that is the usual thing, and no record says more. A file is linked with the one of which
/// it has most, unless a record names another.
fn add_copies(
    queries: &dyn Queries,
    stream: &Stream,
    session: Option<&str>,
    links: &mut Vec<Link>,
) -> Result<()> {
    let Some(first) = &stream.first_record else { return Ok(()) };
    let mut family = queries.streams_beginning_with(&stream.source, first)?;
    if family.len() < 2 {
        return Ok(());
    }
    family.sort_by_cached_key(|row| {
        let [first_at, last_at] = [row.first_at, row.last_at].map(order::absent_last);
        (first_at, last_at, row.session.clone(), row.stream.clone())
    });
    family.truncate(FAMILY_MAX);
    let mut known: Vec<Option<Places>> = std::iter::repeat_with(|| None).take(family.len()).collect();
    for (at, to) in family.iter().enumerate() {
        let is_asked_for = session.is_some() || to.stream == stream.stream;
        if !is_asked_for || states_origin(queries, to)? {
            continue;
        }
        for (places, member) in known.iter_mut().zip(&family[..=at]) {
            if places.is_none() {
                *places = Some(Places::of(queries, &member.source, &member.stream)?);
            }
        }
        let Some((from, copied)) = nearest(&family[..at], to, &known) else { continue };
        if session.is_some_and(|session| *from.session != *session && *to.session != *session) {
            continue;
        }
        let copied = Some(copied);
        links.push(Link { copied, ..found(KIND_COPY, Some(&from.session), Some(&from.stream), to) });
    }
    Ok(())
}

/// Whether a record states where the session of a stream came from.
fn states_origin(queries: &dyn Queries, stream: &Stream) -> Result<bool> {
    let edges = queries.edges(&stream.source, &stream.session)?;
    Ok(edges.iter().any(|edge| {
        edge.to_session == stream.session && matches!(&*edge.kind, KIND_FORK | KIND_CONTINUATION)
    }))
}

/// Returns which of the files that ended before `to` has most of it, of equals the first; `places` has theirs and, next, its.
fn nearest<'f>(
    before: &'f [Stream],
    to: &Stream,
    places: &[Option<Places>],
) -> Option<(&'f Stream, CopiedHistory)> {
    let own = places.get(before.len())?.as_ref()?;
    let mut best: Option<(&Stream, CopiedHistory)> = None;
    for (from, its) in before.iter().zip(places).filter(|(from, _)| from.session != to.session) {
        let copied = its.as_ref().and_then(|its| its.copied_to(own));
        if let Some(copied) = copied.filter(|new| best.is_none_or(|(_, known)| new.records > known.records)) {
            best = Some((from, copied));
        }
    }
    best
}

/// The records of a stream that have an id of their own.
struct Places(Vec<RecordPlace>);

impl Places {
    fn of(queries: &dyn Queries, source: &str, stream: &str) -> Result<Self> {
        let mut places = records(queries, source, stream, 0..u64::MAX)?;
        places.retain(|place| place.fingerprint != [0; 4]);
        Ok(Self(places))
    }

    /// Returns what of this stream's records `other` has.
    fn copied_to(&self, other: &Self) -> Option<CopiedHistory> {
        let known: HashSet<[u8; 4]> = self.0.iter().map(|place| place.fingerprint).collect();
        let mut copied = HashSet::new();
        let (mut end, mut others) = (None, 0);
        for place in &other.0 {
            if known.contains(&place.fingerprint) {
                copied.insert(place.fingerprint);
                (end, others) = (Some(*place), 0);
            } else if end.is_some() {
                others += 1;
                // Two ids may have one fingerprint by chance: one far behind the copy is not part of it.
                if others > OTHERS_MAX {
                    break;
                }
            }
        }
        end.map(|end| CopiedHistory { records: copied.len() as u64, end })
    }
}

/// Adds links to the records that the first records of `streams` follow, all found in one pass.
fn add_parents(queries: &dyn Queries, streams: &[Stream], links: &mut Vec<Link>) -> Result<()> {
    let mut wanted: BTreeMap<[u8; 4], Vec<&Stream>> = BTreeMap::new();
    for stream in streams {
        if let Some(parent) = &stream.first_parent {
            wanted.entry(fingerprint(parent)).or_default().push(stream);
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let mut parents: BTreeMap<(&Name, &Name), (Name, RecordPlace)> = BTreeMap::new();
    let mut look = |chunk: Chunk| {
        for place in chunk.places() {
            for stream in wanted.get(&place.fingerprint).into_iter().flatten() {
                let is_other = chunk.stream != stream.stream && chunk.source == stream.source;
                // Of several copies the one in the stream with the smallest name.
                if is_other {
                    let key = (&stream.source, &stream.stream);
                    parents.entry(key).or_insert_with(|| (chunk.stream.clone(), place));
                }
            }
        }
        Ok(true)
    };
    for_each_within_pages::<Chunk>(queries, live(queries)?, &[], None, CHUNK_PAGE_ROWS, &mut look)?;
    for stream in wanted.values().flatten() {
        let parent = parents.get(&(&stream.source, &stream.stream));
        let from = parent.map(|(from, _)| session_of(queries, &stream.source, from)).transpose()?.flatten();
        links.push(Link {
            record: stream.first_parent.clone(),
            place: parent.map(|(_, place)| place.address),
            ..found(KIND_PARENT, from.as_ref(), parent.map(|(from, _)| from), stream)
        });
    }
    Ok(())
}

fn session_of(reader: &(impl RowReader + ?Sized), source: &str, stream: &str) -> Result<Option<Name>> {
    let key = [Value::Text(Cow::Borrowed(source)), Value::Text(Cow::Borrowed(stream))];
    let row = reader.get(live(reader)?, Stream::TABLE, &key)?.map(Stream::read).transpose()?;
    Ok(row.map(|row| row.session))
}

/// Follows the links that say where a session came from, up to the first.
fn root(queries: &dyn Queries, source: &str, session: &str, links: &[Link]) -> Result<Name> {
    let mut chain: Vec<Name> = vec![session.into()];
    let mut next = origin(session, links);
    while let Some(from) = next {
        if let Some(at) = chain.iter().position(|known| *known == from) {
            return Ok(chain[at..].iter().min().cloned().unwrap_or(from));
        }
        if chain.len() == CHAIN_MAX {
            return Ok(from);
        }
        next = origin(&from, &origins(queries, source, &from)?);
        chain.push(from);
    }
    Ok(chain.pop().unwrap_or_default())
}

/// The session that another came out of, by the link that tells best.
fn origin(session: &str, links: &[Link]) -> Option<Name> {
    let into = links.iter().filter(|link| *link.to_session == *session);
    let others = into.filter_map(|link| {
        let from = link.from_session.clone().filter(|from| **from != *session)?;
        Some((rank(link), order::absent_last(link.at), from))
    });
    others.min().map(|(_, _, from)| from)
}
