//! Which rows of a table an export writes: those of the calls or sessions that the filters let through.

use super::conflicts;
use crate::filter::{self, ChosenSessions};
use burnlog_log::{Error, ErrorKind, Result, Timestamp};
use burnlog_projections::{Conflict, Day, Filter, Queries, Row, Table, UsageDay, Value};
use std::collections::HashSet;

/// The columns that name a session.
const SESSIONS: [&str; 4] = ["session", "from_session", "to_session", "result_session"];

/// Chooses rows of one table.
#[derive(Debug)]
pub(super) struct ChosenRows {
    filter: Filter,
    source: Option<usize>,
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
    /// Sums of a session, a day and a model.
    Sums { session: usize, day: usize, model: usize, chosen: ChosenSessions },
}

impl ChosenRows {
    /// Asks for what the filter lets through. `Invalid` for a table whose rows do not tell it.
    pub(super) fn of(table: &Table, filter: &Filter, store: &dyn Queries) -> anyhow::Result<Self> {
        let source = table.position("source");
        let is_by_source = *filter == Filter { source: filter.source.clone(), ..Filter::default() };
        let by = match is_by_source {
            true if filter.source.is_none() || source.is_some() => By::Source,
            true => return Err(untold(table, "--source").into()),
            false => Self::by(table, filter, store)?,
        };
        Ok(Self { filter: filter.clone(), source, by })
    }

    fn by(table: &Table, filter: &Filter, store: &dyn Queries) -> anyhow::Result<By> {
        let names = |names: &[&str]| names.iter().filter_map(|name| table.position(name)).collect::<Vec<_>>();
        if table.name == UsageDay::TABLE.name {
            return sums(table, filter, store);
        }
        if table.position("call").is_some() && table.key_columns().iter().any(|column| column.name == "call")
        {
            return Ok(By::Names { columns: names(&["call"]), chosen: calls(filter, store)? });
        }
        let chosen = ChosenSessions::of(filter, store)?;
        if table.name == Conflict::TABLE.name {
            let chosen = conflicts::chosen(&chosen, store)?;
            return Ok(By::Names { columns: names(&["kind", "identity"]), chosen });
        }
        let columns = names(&SESSIONS);
        match (columns.is_empty(), table.position("stream")) {
            (false, _) => Ok(By::Sessions { columns, chosen }),
            (true, Some(stream)) => Ok(By::Names { columns: vec![stream], chosen: streams(&chosen, store)? }),
            (true, None) => Err(untold(table, "filters but --limit and --source").into()),
        }
    }

    /// Whether a row is let through.
    pub(super) fn have(&self, row: &[Value<'_>]) -> bool {
        let text = |at: usize| row.get(at).and_then(text).unwrap_or_default();
        let source = self.source.map(text).unwrap_or_default();
        if self.filter.source.as_ref().is_some_and(|asked| *asked != source) {
            return false;
        }
        match &self.by {
            By::Source => true,
            By::Names { columns, chosen } => {
                let name = std::iter::once(source).chain(columns.iter().map(|at| text(*at)));
                chosen.contains(&name.map(str::to_owned).collect::<Vec<_>>())
            }
            By::Sessions { columns, chosen } => columns.iter().any(|at| chosen.have(source, text(*at))),
            By::Sums { session, day, model, chosen } => {
                let start = Day::parse(text(*day)).and_then(Day::start);
                let is_of_model = self.filter.model.as_ref().is_none_or(|asked| *asked == text(*model));
                is_of_model && self.is_within(start) && chosen.have(source, text(*session))
            }
        }
    }

    /// Whether a day is in the time asked for; what has no day is in none.
    fn is_within(&self, start: Option<Timestamp>) -> bool {
        let Filter { since, until, .. } = &self.filter;
        match start {
            Some(start) => {
                since.is_none_or(|since| start >= since) && until.is_none_or(|until| start < until)
            }
            None => since.is_none() && until.is_none(),
        }
    }
}

fn untold(table: &Table, flags: &str) -> Error {
    let message = format!("the rows of {} name no session; leave {flags}", table.name);
    Error::new(ErrorKind::Invalid, "read arguments", message)
}

fn text<'a>(value: &'a Value<'_>) -> Option<&'a str> {
    match value {
        Value::Text(text) => Some(text),
        Value::Name(name) => Some(name),
        _ => None,
    }
}

/// The days of the sessions at home in a project, with a model. `Invalid` where other filters are set: these sums are
/// of whole days and of all hosts.
fn sums(table: &Table, filter: &Filter, store: &dyn Queries) -> anyhow::Result<By> {
    let position = |name: &str| table.position(name).ok_or_else(|| untold(table, name));
    if !filter.is_answered_by_days() {
        let message = format!(
            "the rows of {} are sums of whole days, of all hosts; leave --host, --tag and the time of the day, or ask \
             `usage`, or export calls",
            table.name
        );
        return Err(Error::new(ErrorKind::Invalid, "read arguments", message).into());
    }
    // A session may use a model on other days than those asked for: that is for the rows to say.
    let homes = Filter { since: None, until: None, model: None, ..filter.clone() };
    let chosen = ChosenSessions::of(&homes, store)?;
    Ok(By::Sums { session: position("session")?, day: position("day")?, model: position("model")?, chosen })
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
