//! Which rows of a table an export writes: those of the calls or sessions that the filters let through.

use super::conflicts;
use crate::filter::{self, ChosenSessions};
use burnlog_log::{Error, ErrorKind, Result};
use burnlog_projections::{
    Conflict, Diagnostic, Feed, Filter, HostLabels, Name, Queries, Row, STAMP_CALL, STAMP_SESSION, Stamp,
    Stream, StreamFeed, Table, UsageBy, UsageGroup, Value, Values, call_sessions, live,
};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};

/// The columns that name a session.
const SESSIONS: [&str; 4] = ["session", "from_session", "to_session", "result_session"];

/// Chooses rows of one table.
#[derive(Debug)]
pub(super) struct ChosenRows {
    /// Which column names the source, and the source asked for.
    source: Option<usize>,
    asked: Option<String>,
    by: By,
}

/// What a row is chosen by, and where in the row that stands.
#[derive(Debug)]
enum By {
    /// Nothing but the source, if that.
    Source,
    /// The source and these columns together are one of these.
    Names { columns: Vec<usize>, chosen: HashSet<Vec<String>> },
    /// One of these columns names a chosen session.
    Sessions { columns: Vec<usize>, chosen: ChosenSessions },
    /// This column is the key of one of these writers.
    Feeds { column: usize, chosen: HashSet<Vec<u8>> },
}

impl ChosenRows {
    /// Asks for what the filter lets through. `Invalid` for a table whose rows cannot tell it.
    pub(super) fn of(table: &Table, filter: &Filter, store: &dyn Queries) -> anyhow::Result<Self> {
        let source = table.position("source");
        let asked = filter.source.clone();
        if *filter == Filter::default() {
            return Ok(Self { source, asked, by: By::Source });
        }
        // A stamp may name no source and reach sessions of each; a feed has records of several.
        if table.name == Stamp::TABLE.name {
            let columns = table.key_columns().iter().filter(|column| column.name != "source");
            let columns = columns.filter_map(|column| table.position(column.name)).collect();
            return Ok(Self {
                source,
                asked: None,
                by: By::Names { columns, chosen: stamps(filter, store)? },
            });
        }
        if table.name == Feed::TABLE.name {
            let column = table.position("feed").unwrap_or_default();
            return Ok(Self { source, asked: None, by: By::Feeds { column, chosen: feeds(filter, store)? } });
        }
        let is_by_source = *filter == Filter { source: asked.clone(), ..Filter::default() };
        let by = if is_by_source && source.is_some() { By::Source } else { Self::by(table, filter, store)? };
        Ok(Self { source, asked, by })
    }

    fn by(table: &Table, filter: &Filter, store: &dyn Queries) -> anyhow::Result<By> {
        let names = |names: &[&str]| names.iter().filter_map(|name| table.position(name)).collect::<Vec<_>>();
        if table.key_columns().iter().any(|column| column.name == "call") {
            return Ok(By::Names { columns: names(&["call"]), chosen: calls(filter, store)? });
        }
        let columns = names(&SESSIONS);
        let stream = table.position("stream");
        if columns.is_empty() && stream.is_none() && table.name != Conflict::TABLE.name {
            return Err(untold(table, filter).into());
        }
        let chosen = ChosenSessions::of(filter, store)?;
        if table.name == Conflict::TABLE.name {
            let chosen = conflicts::chosen(&chosen, store)?;
            return Ok(By::Names { columns: names(&["kind", "identity"]), chosen });
        }
        match stream {
            Some(stream) if columns.is_empty() => {
                Ok(By::Names { columns: vec![stream], chosen: streams(&chosen, store)? })
            }
            _ => Ok(By::Sessions { columns, chosen }),
        }
    }

    /// Whether a row is let through.
    pub(super) fn have(&self, row: &[Value<'_>]) -> bool {
        let text = |at: usize| row.get(at).and_then(text).unwrap_or_default();
        let source = self.source.map(text).unwrap_or_default();
        if self.asked.as_ref().is_some_and(|asked| *asked != source) {
            return false;
        }
        match &self.by {
            By::Source => true,
            By::Names { columns, chosen } => {
                let name = std::iter::once(source).chain(columns.iter().map(|at| text(*at)));
                chosen.contains(&name.map(str::to_owned).collect::<Vec<_>>())
            }
            By::Sessions { columns, chosen } => columns.iter().any(|at| chosen.have(source, text(*at))),
            By::Feeds { column, chosen } => {
                matches!(row.get(*column), Some(Value::Blob(key)) if chosen.contains(&**key))
            }
        }
    }
}

/// Of a table of pieces that other rows are made of; names what was asked for.
fn untold(table: &Table, filter: &Filter) -> Error {
    let Filter { since, until, project, session, source: _, model, host, tags } = filter;
    let flags = [
        ("--since", since.is_some()),
        ("--until", until.is_some()),
        ("--project", project.is_some()),
        ("--session", session.is_some()),
        ("--model", model.is_some()),
        ("--host", host.is_some()),
        ("--tag", !tags.is_empty()),
    ];
    let given: Vec<&str> =
        flags.into_iter().filter(|(_, is_given)| *is_given).map(|(flag, _)| flag).collect();
    let message = format!(
        "the rows of {} are what other rows are made of and tell nothing that {} could choose by; leave it out, or export the \
         rows made of them: calls, user_turns, tool_uses, compactions, notices",
        table.name,
        given.join(", ")
    );
    Error::new(ErrorKind::Invalid, "read arguments", message)
}

/// The sums of `usage_daily` over the calls that a filter chooses, in the order of their keys.
pub(super) fn sums(filter: &Filter, store: &dyn Queries) -> Result<Vec<Values>> {
    let key = [
        UsageBy::Day,
        UsageBy::Source,
        UsageBy::Model,
        UsageBy::Session,
        UsageBy::PriceClass,
        UsageBy::Branch,
    ];
    let row = |UsageGroup { key, usage }: UsageGroup| {
        let texts = key.into_iter().map(|text| Value::Text(Cow::Owned(text)));
        texts.chain(usage.to_columns().map(Value::Integer)).collect()
    };
    Ok(store.usage(filter, &key)?.into_iter().map(row).collect())
}

/// The counts of `diagnostics` as rows of the table.
pub(super) fn counts(rows: &[Diagnostic]) -> Vec<Values> {
    let values = |row: &Diagnostic| {
        let mut values = Vec::with_capacity(Diagnostic::TABLE.columns.len());
        row.write(&mut values);
        values.into_iter().map(Value::into_owned).collect()
    };
    rows.iter().map(values).collect()
}

fn text<'a>(value: &'a Value<'_>) -> Option<&'a str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Name(name) => Some(name),
        _ => None,
    }
}

/// The calls that `turns` lists.
fn calls(filter: &Filter, store: &dyn Queries) -> anyhow::Result<HashSet<Vec<String>>> {
    let mut chosen = HashSet::new();
    filter::for_each(
        None,
        |page| store.turns(filter, page),
        |turn| {
            chosen.insert(vec![turn.call.source.to_string(), turn.call.call]);
            Ok(())
        },
    )?;
    Ok(chosen)
}

/// The streams of the chosen sessions.
fn streams(sessions: &ChosenSessions, store: &dyn Queries) -> Result<HashSet<Vec<String>>> {
    let mut chosen = HashSet::new();
    for (source, session) in sessions.each() {
        let streams = store.streams(source, session)?.into_iter();
        chosen.extend(streams.map(|row| vec![row.source.to_string(), row.stream.to_string()]));
    }
    Ok(chosen)
}

/// The stamps that reach a chosen session: on itself, one of its streams or a call in it. Where nothing but a source is asked for,
/// also those that name it.
fn stamps(filter: &Filter, store: &dyn Queries) -> anyhow::Result<HashSet<Vec<String>>> {
    let sessions = ChosenSessions::of(filter, store)?;
    let sources: BTreeSet<&str> = sessions.each().map(|(source, _)| source).collect();
    let by_source = filter
        .source
        .as_deref()
        .filter(|source| *filter == Filter { source: Some((*source).to_owned()), ..Filter::default() });
    let mut chosen = HashSet::new();
    super::export::for_each_row(store, Stamp::TABLE, &mut |values| {
        let stamp = Stamp::read(values)?;
        let mut reaches = by_source == Some(&*stamp.source);
        for source in &sources {
            if !reaches && (stamp.source.is_empty() || *stamp.source == **source) {
                let reached = reached(&stamp, source, store)?;
                reaches = reached.iter().any(|session| sessions.have(source, session));
            }
        }
        if reaches {
            let key = [&stamp.source, &stamp.selects, &stamp.target, &stamp.stamp_key];
            chosen.insert(key.map(ToString::to_string).to_vec());
        }
        Ok(true)
    })?;
    Ok(chosen)
}

/// The sessions of a source that a stamp is on, has a stream of, or a call.
fn reached(stamp: &Stamp, source: &str, store: &dyn Queries) -> Result<Vec<Name>> {
    match &*stamp.selects {
        STAMP_SESSION => Ok(vec![stamp.target.clone()]),
        STAMP_CALL => call_sessions(store, source, &stamp.target),
        _ => {
            let key = [Value::Text(Cow::Borrowed(source)), Value::Text(Cow::Borrowed(&*stamp.target))];
            let stream = store.get(live(store)?, Stream::TABLE, &key)?.map(Stream::read).transpose()?;
            Ok(stream.into_iter().map(|stream| stream.session).collect())
        }
    }
}

/// The keys of the writers that recorded a stream of a chosen session; where a host is asked for, of those its own alone, and
/// where nothing else is, all that are its own.
fn feeds(filter: &Filter, store: &dyn Queries) -> anyhow::Result<HashSet<Vec<u8>>> {
    let labels = HostLabels::read(store)?;
    let is_of_host = |feed: &[u8]| filter.host.as_ref().is_none_or(|host| *host == labels.of(feed));
    if *filter == (Filter { host: filter.host.clone(), ..Filter::default() }) {
        let all = burnlog_projections::feeds(store)?.into_iter().map(|row| row.feed);
        return Ok(all.filter(|feed| is_of_host(feed)).collect());
    }
    let streams = streams(&ChosenSessions::of(filter, store)?, store)?;
    let mut chosen = HashSet::new();
    super::export::for_each_row(store, StreamFeed::TABLE, &mut |values| {
        let row = StreamFeed::read(values)?;
        if is_of_host(&row.feed) && streams.contains(&vec![row.source.to_string(), row.stream.to_string()]) {
            chosen.insert(row.feed);
        }
        Ok(true)
    })?;
    Ok(chosen)
}
