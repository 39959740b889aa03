//! The queries by reading everything: for the memory store, and the yardstick for stores that know better.

use crate::calls::{Call, CallSession};
use crate::lookup::{HostLabels, live, rows_of, rows_within, stream_feeds, tag};
use crate::queries::{Filter, Page, PageRequest, Queries, ResumeKey, Turn, Usage, UsageBy, UsageGroup};
use crate::relationships::Relationship;
use crate::rollups::{Day, Session, UsageDay};
use crate::stamps::{STAMP_CALL, STAMP_SESSION, STAMP_STREAM};
use crate::store::RowReader;
use crate::streams::Stream;
use crate::table::{Row, Value};
use crate::text::{Name, key_text};
use crate::tool_uses::ToolUse;
use crate::user_turns::UserTurn;
use burnlog_log::Result;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Marks a store whose queries read whole tables.
pub(crate) trait ScanQueries: RowReader {}

impl<T: ScanQueries> Queries for T {
    fn sessions(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Session>> {
        let mut sessions: Vec<Session> = rows_of(self, live(self)?)?;
        let mut with_model = BTreeMap::new();
        for day in rows_of::<UsageDay>(self, live(self)?)? {
            with_model.insert((day.source, day.session, day.model), ());
        }
        sessions.retain(|row| {
            is(filter.source.as_ref(), Some(&row.source))
                && is(filter.session.as_ref(), Some(&row.session))
                && is(filter.project.as_ref(), row.project.as_deref())
                && filter.since.is_none_or(|since| row.last_at.is_some_and(|last| last >= since))
                && filter.until.is_none_or(|until| row.first_at.is_some_and(|first| first < until))
                && filter.model.as_deref().is_none_or(|model| {
                    with_model.contains_key(&(row.source.clone(), row.session.clone(), model.into()))
                })
        });
        let mut tagged = Vec::with_capacity(sessions.len());
        for row in sessions {
            let mut hosts = Vec::new();
            if filter.host.is_some() {
                let labels = HostLabels::read(self)?;
                for stream in self.streams(&row.source, &row.session)? {
                    let feeds = stream_feeds(self, &stream.source, &stream.stream)?;
                    hosts.extend(feeds.iter().map(|feed| labels.of(&feed.feed)));
                }
            }
            if filter.host.as_ref().is_none_or(|host| hosts.contains(host))
                && is_tagged(self, filter, &[(STAMP_SESSION, &row.source, &row.session)])?
            {
                tagged.push(row);
            }
        }
        let mut sessions = tagged;
        let key = |row: &Session| (Reverse(row.last_at), row.source.to_string(), row.session.to_string());
        sessions.sort_by_key(key);
        if let Some(resume) = &page.after {
            let after = ResumeKey::of(resume, "sessions")?;
            let instant = after.instant.map(burnlog_log::Timestamp::from_micros);
            let after = (Reverse(instant), after.source, after.name);
            sessions.retain(|row| key(row) > after);
        }
        Ok(Page::of(sessions, page.limit, ResumeKey::of_session))
    }

    fn turns(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Turn>> {
        let generation = live(self)?;
        let contained: BTreeMap<_, ()> = rows_of::<CallSession>(self, generation)?
            .into_iter()
            .map(|row| ((row.source, row.call, row.session), ()))
            .collect();
        let mut turns = Vec::new();
        for call in rows_of::<Call>(self, generation)? {
            let project = project_of(self, &call)?;
            let in_session = filter.session.as_deref().is_none_or(|session| {
                *call.session == *session
                    || contained.contains_key(&(call.source.clone(), call.call.clone(), session.into()))
            });
            if in_session
                && matches(filter, &call, project.as_deref())
                && is_of_host(self, filter, &call)?
                && has_tags(self, filter, &call)?
            {
                turns.push(Turn { call, project });
            }
        }
        let key = |turn: &Turn| (turn.call.timestamp, turn.call.source.to_string(), turn.call.call.clone());
        turns.sort_by_key(key);
        if let Some(resume) = &page.after {
            let after = ResumeKey::of(resume, "turns")?;
            let after = (after.instant.map(burnlog_log::Timestamp::from_micros), after.source, after.name);
            turns.retain(|turn| key(turn) > after);
        }
        Ok(Page::of(turns, page.limit, ResumeKey::of_turn))
    }

    fn streams(&self, source: &str, session: &str) -> Result<Vec<Stream>> {
        let key = [Value::Text(Cow::Borrowed(source))];
        let mut streams: Vec<Stream> = rows_within(self, live(self)?, &key)?;
        streams.retain(|stream| &*stream.session == session);
        Ok(streams)
    }

    fn edges(&self, source: &str, session: &str) -> Result<Vec<Relationship>> {
        let (source, session) = (Name::from(source), Name::from(session));
        let mut rows: Vec<Relationship> = rows_of(self, live(self)?)?;
        rows.retain(|row| {
            (row.source == source || row.source.is_empty())
                && (row.from_session == session || row.to_session == session)
        });
        Ok(rows)
    }

    fn streams_beginning_with(&self, source: &str, record: &str) -> Result<Vec<Stream>> {
        let mut rows: Vec<Stream> = rows_of(self, live(self)?)?;
        let record = key_text(record);
        rows.retain(|row| &*row.source == source && row.first_record.as_deref() == Some(&*record));
        Ok(rows)
    }

    fn user_turns(&self, source: &str, session: &str) -> Result<Vec<UserTurn>> {
        let (source, session) = (Name::from(source), Name::from(session));
        let mut rows: Vec<UserTurn> = rows_of(self, live(self)?)?;
        rows.retain(|row| row.source == source && row.session == session);
        rows.sort_by(|one, two| (one.timestamp, &one.turn).cmp(&(two.timestamp, &two.turn)));
        Ok(rows)
    }

    fn tool_uses(&self, source: &str, session: &str) -> Result<Vec<ToolUse>> {
        let (source, session) = (Name::from(source), Name::from(session));
        let mut rows: Vec<ToolUse> = rows_of(self, live(self)?)?;
        rows.retain(|row| row.source == source && row.session.as_ref() == Some(&session));
        rows.sort_by(|one, two| (one.used_at, &one.tool_use).cmp(&(two.used_at, &two.tool_use)));
        Ok(rows)
    }

    fn usage(&self, filter: &Filter, by: &[UsageBy]) -> Result<Vec<UsageGroup>> {
        let mut groups: BTreeMap<Vec<String>, Usage> = BTreeMap::new();
        if by.is_empty() {
            groups.insert(Vec::new(), Usage::default());
        }
        for call in rows_of::<Call>(self, live(self)?)? {
            let project = project_of(self, &call)?;
            if !matches(filter, &call, project.as_deref())
                || !is(filter.session.as_ref(), Some(&call.session))
                || !is_of_host(self, filter, &call)?
                || !has_tags(self, filter, &call)?
            {
                continue;
            }
            let hosts =
                if by.contains(&UsageBy::Host) { hosts_of(self, &call)? } else { vec![String::new()] };
            for host in hosts {
                let key = by.iter().map(|dimension| match dimension {
                    UsageBy::Day => Day::of(call.timestamp).to_string(),
                    UsageBy::Week => Day::of(call.timestamp).week(),
                    UsageBy::Month => Day::of(call.timestamp).month(),
                    UsageBy::Source => call.source.to_string(),
                    UsageBy::Model => call.model.as_deref().unwrap_or_default().to_owned(),
                    UsageBy::Session => call.session.to_string(),
                    UsageBy::Project => project.as_deref().unwrap_or_default().to_owned(),
                    UsageBy::PriceClass => call.price_class().to_string(),
                    UsageBy::Branch => call.branch.as_deref().unwrap_or_default().to_owned(),
                    UsageBy::Host => host.clone(),
                });
                groups.entry(key.collect()).or_default().add(&Usage::of_call(&call));
            }
        }
        Ok(groups.into_iter().map(|(key, usage)| UsageGroup { key, usage }).collect())
    }
}

fn is(wanted: Option<&String>, value: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| Some(wanted.as_str()) == value)
}

/// Whether the first of the levels that has each key has the value asked for.
fn is_tagged(reader: &impl RowReader, filter: &Filter, levels: &[(&str, &str, &str)]) -> Result<bool> {
    for (key, wanted) in &filter.tags {
        if tag(reader, levels, key)?.as_ref() != Some(wanted) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn has_tags(reader: &impl RowReader, filter: &Filter, call: &Call) -> Result<bool> {
    let levels = [
        (STAMP_CALL, &*call.source, &*call.call),
        (STAMP_STREAM, &*call.source, &*call.stream),
        (STAMP_SESSION, &*call.source, &*call.session),
    ];
    is_tagged(reader, filter, &levels)
}

fn is_of_host(reader: &impl RowReader, filter: &Filter, call: &Call) -> Result<bool> {
    match &filter.host {
        None => Ok(true),
        Some(host) => Ok(hosts_of(reader, call)?.contains(host)),
    }
}

/// The hosts that recorded the home line of a call.
fn hosts_of(reader: &impl RowReader, call: &Call) -> Result<Vec<String>> {
    let labels = HostLabels::read(reader)?;
    let feeds = stream_feeds(reader, &call.source, &call.stream)?;
    let feeds = feeds.into_iter().filter(|feed| feed.records > call.seq);
    Ok(feeds.map(|feed| labels.of(&feed.feed)).collect())
}

/// Whether a call fits everything but the session.
fn matches(filter: &Filter, call: &Call, project: Option<&str>) -> bool {
    is(filter.source.as_ref(), Some(&call.source))
        && is(filter.model.as_ref(), call.model.as_deref())
        && is(filter.project.as_ref(), project)
        && filter.since.is_none_or(|since| call.timestamp.is_some_and(|at| at >= since))
        && filter.until.is_none_or(|until| call.timestamp.is_some_and(|at| at < until))
}

fn project_of(reader: &impl RowReader, call: &Call) -> Result<Option<crate::Name>> {
    let key = [Value::Text(Cow::Borrowed(&*call.source)), Value::Text(Cow::Borrowed(&*call.session))];
    let session = reader.get(live(reader)?, Session::TABLE, &key)?.map(Session::read).transpose()?;
    Ok(session.and_then(|session| session.project))
}
