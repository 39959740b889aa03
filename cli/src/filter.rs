//! From the flags of a list to the filter of a query.

use crate::args;
use burnlog_log::{Error, ErrorKind, Result, Timestamp};
use burnlog_projections::{Filter, HostLabels, PageRequest, Queries, Resume, diagnostics, resolve_session};
use std::collections::HashSet;

/// Rows asked for at once.
const PAGE_ROWS: usize = 512;
/// How many hosts a message names.
const HOSTS_TOLD: usize = 20;
const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// Makes the filter; `session` may be a unique prefix.
pub(crate) fn of_arguments(arguments: &args::Filter, queries: &dyn Queries) -> Result<Filter> {
    let now = crate::environment::now();
    if let Some(host) = &arguments.host {
        check_host(host, queries)?;
    }
    if let Some(source) = &arguments.source {
        check_source(source, queries)?;
    }
    let session = match &arguments.session {
        None => None,
        Some(name) => Some(resolve_session(queries, name)?),
    };
    Ok(Filter {
        since: arguments.since.as_deref().map(|text| instant("--since", text, now)).transpose()?,
        until: arguments.until.as_deref().map(|text| instant("--until", text, now)).transpose()?,
        project: arguments.project.clone(),
        source: match &session {
            Some((source, _)) => Some(source.to_string()),
            None => arguments.source.clone(),
        },
        session: session.map(|(_, session)| session.to_string()),
        model: arguments.model.clone(),
        host: arguments.host.clone(),
        tags: arguments.tag.iter().map(|text| tag(text)).collect::<Result<_>>()?,
    })
}

/// `NotFound` for a source that this program does not read and of which nothing is recorded, with those that it reads.
fn check_source(source: &str, queries: &dyn Queries) -> Result<()> {
    let is_read = burnlog_sources::names().any(|name| name == source);
    if is_read || diagnostics(queries)?.iter().any(|row| &*row.source == source) {
        return Ok(());
    }
    let known = burnlog_sources::names().collect::<Vec<_>>().join(", ");
    Err(Error::new(
        ErrorKind::NotFound,
        "find source",
        format!("there is no source {source:?}; known: {known}"),
    ))
}

/// `NotFound` for a host that recorded nothing here, with those that did.
fn check_host(host: &str, queries: &dyn Queries) -> Result<()> {
    let labels = HostLabels::read(queries)?;
    let known = labels.all();
    if known.contains(host) {
        return Ok(());
    }
    let told = known.iter().take(HOSTS_TOLD).copied().collect::<Vec<_>>().join(", ");
    let known = match known.len() {
        0 => "none is known".to_owned(),
        hosts if hosts > HOSTS_TOLD => format!("{told} and {} others are known", hosts - HOSTS_TOLD),
        _ => format!("known: {told}"),
    };
    Err(Error::new(ErrorKind::NotFound, "find host", format!("there is no host {host:?}; {known}")))
}

/// `KEY=VALUE`.
fn tag(text: &str) -> Result<(String, String)> {
    let parts = text.split_once('=').filter(|(key, _)| !key.is_empty());
    parts.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| {
        let message = format!("--tag {text:?} is not KEY=VALUE");
        Error::new(ErrorKind::Invalid, "read arguments", message)
    })
}

/// An instant (RFC 3339), a day, `today`, `yesterday`, or so long before `now`: `90m`, `24h`, `7d`, `2w`.
fn instant(flag: &str, text: &str, now: Timestamp) -> Result<Timestamp> {
    let day = |days: i64| Timestamp::from_micros((now.as_micros().div_euclid(DAY) - days) * DAY);
    let known = match text {
        "today" => Some(day(0)),
        "yesterday" => Some(day(1)),
        _ => ago(text, now),
    };
    let written = || Timestamp::parse(text).or_else(|| Timestamp::parse(&format!("{text}T00:00:00Z")));
    known.or_else(written).ok_or_else(|| {
        let message = format!(
            "{flag} {text:?} is none of: RFC 3339 (2026-03-01T10:00:00Z), a day (2026-03-01), today, yesterday, or so \
             long ago (90m, 24h, 7d, 2w)"
        );
        Error::new(ErrorKind::Invalid, "read arguments", message)
    })
}

fn ago(text: &str, now: Timestamp) -> Option<Timestamp> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let micros = match unit {
        "m" => 60 * SECOND,
        "h" => 3600 * SECOND,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return None,
    };
    let count: i64 = digits.parse().ok().filter(|count| *count >= 0)?;
    Some(Timestamp::from_micros(now.as_micros().saturating_sub(count.saturating_mul(micros))))
}

/// The sessions that a filter lets through, for lists whose rows only name sessions.
#[derive(Debug)]
pub(crate) struct ChosenSessions {
    /// By source and session; `None` where the filter lets everything through.
    chosen: Option<HashSet<(String, String)>>,
}

impl ChosenSessions {
    /// Asks which sessions these are.
    pub(crate) fn of(filter: &Filter, queries: &dyn Queries) -> anyhow::Result<Self> {
        if *filter == Filter::default() {
            return Ok(Self { chosen: None });
        }
        let mut chosen = HashSet::new();
        for_each(
            None,
            |page| queries.sessions(filter, page),
            |session| {
                chosen.insert((session.source.to_string(), session.session.to_string()));
                Ok(())
            },
        )?;
        Ok(Self { chosen: Some(chosen) })
    }

    /// Whether everything is let through.
    pub(crate) fn are_all(&self) -> bool {
        self.chosen.is_none()
    }

    /// Each of them, by source and session; none where all are let through.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        self.chosen.iter().flatten().map(|(source, session)| (source.as_str(), session.as_str()))
    }

    /// Whether a session is let through.
    pub(crate) fn have(&self, source: &str, session: &str) -> bool {
        let Some(chosen) = &self.chosen else { return true };
        chosen.contains(&(source.to_owned(), session.to_owned()))
    }
}

/// Calls `each` with every item of a listing, page by page, up to `limit`.
pub(crate) fn for_each<T>(
    limit: Option<usize>,
    mut page: impl FnMut(&PageRequest) -> Result<burnlog_projections::Page<T>>,
    mut each: impl FnMut(T) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut left = limit.unwrap_or(usize::MAX);
    let mut after: Option<Resume> = None;
    while left > 0 {
        let answer = page(&PageRequest { after: after.take(), limit: left.min(PAGE_ROWS) })?;
        for item in answer.items.into_iter().take(left) {
            left -= 1;
            each(item)?;
        }
        match answer.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_instants_and_times_ago_are_read_and_nothing_else() {
        let now = Timestamp::parse("2026-03-10T12:30:00Z").unwrap();
        for (text, expected) in [
            ("2026-03-01", "2026-03-01T00:00:00Z"),
            ("2026-03-01T01:00:00+01:00", "2026-03-01T00:00:00Z"),
            ("today", "2026-03-10T00:00:00Z"),
            ("yesterday", "2026-03-09T00:00:00Z"),
            ("90m", "2026-03-10T11:00:00Z"),
            ("24h", "2026-03-09T12:30:00Z"),
            ("7d", "2026-03-03T12:30:00Z"),
            ("2w", "2026-02-24T12:30:00Z"),
        ] {
            let read = instant("--since", text, now).unwrap();
            assert_eq!(Some(read), Timestamp::parse(expected), "{text}");
        }
        for wrong in ["yesterdy", "", "d", "-3d", "3y", "2026-13-01", "\u{e9}"] {
            assert!(instant("--since", wrong, now).unwrap_err().message().contains("--since"), "{wrong}");
        }
    }

    #[test]
    fn tags_are_a_key_and_a_value() {
        assert_eq!(tag("team=a=b").unwrap(), ("team".to_owned(), "a=b".to_owned()));
        assert!(tag("team").is_err() && tag("=a").is_err());
    }
}
