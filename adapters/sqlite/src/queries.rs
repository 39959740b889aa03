//! The queries as SQL over the live generation. Sums come from the rollups wherever the time asked for ends at
//! midnight; lists come in the order of an index, so that a page costs what it returns.

use crate::convert::{Bound, Located, value_of};
use crate::names::NameIds;
use crate::schema::{select_list, table_name};
use crate::store::SqliteProjections;
use crate::transaction::row_values;
use burnlog_log::{Result, Timestamp};
use burnlog_projections::{
    Call, CallSession, Day, Filter, Generation, Name, Page, PageRequest, Queries, ResumeKey, Row, Session,
    Stream, Table, Tokens, Turn, Usage, UsageBy, UsageDay, UsageGroup, Value, key_text, live,
};
use std::borrow::Cow;

/// The condition of a query: parts that must all hold, and their parameters.
#[derive(Debug, Default)]
struct Condition {
    parts: Vec<String>,
    values: Vec<Value<'static>>,
}

impl Condition {
    /// Adds a parameter and returns how SQL names it.
    fn value(&mut self, value: Value<'static>) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    fn text(&mut self, text: &str) -> String {
        self.value(Value::Text(Cow::Owned(key_text(text).into_owned())))
    }

    fn integer(&mut self, number: i64) -> String {
        self.value(Value::Integer(number))
    }

    fn and(&mut self, part: String) {
        self.parts.push(part);
    }

    fn sql(&self) -> String {
        if self.parts.is_empty() { String::new() } else { format!("WHERE {}", self.parts.join(" AND ")) }
    }
}

/// What may be asked of a store's own numbers: a name that it does not have matches nothing.
const NO_NAME: i64 = -1;
/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

impl SqliteProjections {
    fn name(&self, name: &str) -> rusqlite::Result<i64> {
        Ok(NameIds::known(&self.connection, &key_text(name))?.unwrap_or(NO_NAME))
    }

    /// Runs a query and hands out the values of its rows: those of `table`, or all of the statement's.
    fn rows<T>(
        &self,
        sql: &str,
        values: &[Value<'static>],
        take: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>> {
        let read = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement
                .query_map(rusqlite::params_from_iter(values.iter().map(Bound)), take)?
                .collect::<rusqlite::Result<Vec<T>>>()
        };
        read().located("query projections", &self.place)
    }

    fn typed<R: Row>(&self, sql: &str, values: &[Value<'static>]) -> Result<Vec<R>> {
        let rows = self.rows(sql, values, |row| row_values(row, R::TABLE))?;
        rows.into_iter().map(R::read).collect()
    }

    /// Conditions on a call `t` that do not depend on which session contains it.
    fn call_condition(&self, generation: Generation, filter: &Filter) -> rusqlite::Result<Condition> {
        let mut condition = Condition::default();
        if let Some(source) = &filter.source {
            let source = condition.text(source);
            condition.and(format!("t.source = {source}"));
        }
        if let Some(model) = &filter.model {
            let model = condition.integer(self.name(model)?);
            condition.and(format!("t.model = {model}"));
        }
        if let Some(project) = &filter.project {
            let sessions = table_name(Session::TABLE, generation);
            let project = condition.integer(self.name(project)?);
            condition.and(format!(
                "EXISTS (SELECT 1 FROM {sessions} s WHERE s.source = t.source AND s.project = {project} AND s.session = {})",
                name_of(Call::TABLE, "session")
            ));
        }
        for (instant, comparison) in [(filter.since, ">="), (filter.until, "<")] {
            if let Some(instant) = instant {
                let instant = condition.integer(instant.as_micros());
                condition.and(format!("t.timestamp {comparison} {instant}"));
            }
        }
        Ok(condition)
    }

    /// Sums kept by day: everything but instants that are no midnight.
    fn daily_sums(
        &self,
        generation: Generation,
        filter: &Filter,
        by: &[UsageBy],
    ) -> rusqlite::Result<(String, Condition)> {
        let sessions = table_name(Session::TABLE, generation);
        let project = format!(
            "(SELECT s.project FROM {sessions} s WHERE s.source = t.source AND s.session = t.session)"
        );
        let mut condition = Condition::default();
        for (column, wanted) in
            [("source", &filter.source), ("model", &filter.model), ("session", &filter.session)]
        {
            if let Some(wanted) = wanted {
                let wanted = condition.text(wanted);
                condition.and(format!("t.{column} = {wanted}"));
            }
        }
        if filter.model.as_deref() == Some("") {
            // A call without a model is in the sums under the empty name, and no call with the model "".
            condition.and("0".to_owned());
        }
        if let Some(wanted) = &filter.project {
            let wanted = condition.integer(self.name(wanted)?);
            condition.and(format!("{project} = {wanted}"));
        }
        for (instant, comparison) in [(filter.since, ">="), (filter.until, "<")] {
            if let Some(instant) = instant {
                let day = condition.text(&Day::of(Some(instant)).to_string());
                condition.and(format!("t.day {comparison} {day} AND t.day <> ''"));
            }
        }
        let dimension = |by: &UsageBy| match by {
            UsageBy::Day => "t.day".to_owned(),
            UsageBy::Source => "t.source".to_owned(),
            UsageBy::Model => "t.model".to_owned(),
            UsageBy::Session => "t.session".to_owned(),
            UsageBy::Project => format!("coalesce((SELECT name FROM names WHERE id = {project}), '')"),
        };
        let dimensions: Vec<String> = by.iter().map(dimension).collect();
        let sums = SUMMED.iter().map(|column| format!("coalesce(sum(t.{column}), 0)")).collect::<Vec<_>>();
        Ok((grouped(&dimensions, &sums, &table_name(UsageDay::TABLE, generation), &condition), condition))
    }

    /// Sums over the calls themselves: any instants.
    fn exact_sums(
        &self,
        generation: Generation,
        filter: &Filter,
        by: &[UsageBy],
    ) -> rusqlite::Result<(String, Condition)> {
        let sessions = table_name(Session::TABLE, generation);
        let mut condition = self.call_condition(generation, filter)?;
        if let Some(session) = &filter.session {
            let session = condition.integer(self.name(session)?);
            condition.and(format!("t.session = {session}"));
        }
        let session = name_of(Call::TABLE, "session");
        let dimension = |by: &UsageBy| match by {
            UsageBy::Day => format!("(t.timestamp - ((t.timestamp % {DAY}) + {DAY}) % {DAY}) / {DAY}"),
            UsageBy::Source => "t.source".to_owned(),
            UsageBy::Model => format!("coalesce({}, '')", name_of(Call::TABLE, "model")),
            UsageBy::Session => session.clone(),
            UsageBy::Project => format!(
                "coalesce((SELECT name FROM names WHERE id = (SELECT s.project FROM {sessions} s
                 WHERE s.source = t.source AND s.session = {session})), '')"
            ),
        };
        let dimensions: Vec<String> = by.iter().map(dimension).collect();
        let mut sums = vec!["count(*)".to_owned(), "coalesce(sum(NOT t.complete), 0)".to_owned()];
        sums.extend(SUMMED[2..].iter().map(|column| format!("coalesce(sum(t.{column}), 0)")));
        Ok((grouped(&dimensions, &sums, &table_name(Call::TABLE, generation), &condition), condition))
    }
}

/// The columns that add up, in the order of [`usage_of`].
const SUMMED: [&str; 8] = [
    "calls",
    "incomplete_calls",
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "reasoning_tokens",
];

/// The text of an interned column of `t`.
fn name_of(table: &Table, column: &str) -> String {
    debug_assert!(table.position(column).is_some_and(|position| crate::schema::is_interned(table, position)));
    format!("(SELECT name FROM names WHERE id = t.{column})")
}

fn grouped(dimensions: &[String], sums: &[String], table: &str, condition: &Condition) -> String {
    let columns = [dimensions, sums].concat().join(", ");
    let mut sql = format!("SELECT {columns} FROM {table} t {}", condition.sql());
    if !dimensions.is_empty() {
        let numbers: Vec<String> = (1..=dimensions.len()).map(|number| number.to_string()).collect();
        let numbers = numbers.join(", ");
        sql = format!("{sql} GROUP BY {numbers}");
    }
    sql
}

/// The text of a dimension; days of calls come as numbers.
fn group_text(value: rusqlite::types::ValueRef<'_>) -> String {
    match value_of(value) {
        Value::Integer(day) => Day::of(Some(Timestamp::from_micros(day.saturating_mul(DAY)))).to_string(),
        Value::Text(text) => text.into_owned(),
        _ => String::new(),
    }
}

fn usage_of(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<Usage> {
    let tokens = |column: usize| row.get(from + column).map(Tokens);
    Ok(Usage {
        calls: row.get(from)?,
        incomplete_calls: row.get(from + 1)?,
        input_tokens: tokens(2)?,
        output_tokens: tokens(3)?,
        cache_read_tokens: tokens(4)?,
        cache_write_5m_tokens: tokens(5)?,
        cache_write_1h_tokens: tokens(6)?,
        reasoning_tokens: tokens(7)?,
    })
}

fn page_of<T>(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> ResumeKey) -> Page<T> {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|item| key(item).resume());
    Page { items, next }
}

/// One more than asked for, to know whether there are more.
fn limit_of(page: &PageRequest) -> i64 {
    i64::try_from(page.limit.saturating_add(1)).unwrap_or(i64::MAX)
}

impl Queries for SqliteProjections {
    fn sessions(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Session>> {
        let generation = live(self)?;
        let mut condition = Condition::default();
        for (column, wanted) in [("source", &filter.source), ("session", &filter.session)] {
            if let Some(wanted) = wanted {
                let wanted = condition.text(wanted);
                condition.and(format!("t.{column} = {wanted}"));
            }
        }
        if let Some(project) = &filter.project {
            let project = self.name(project).located("query projections", &self.place)?;
            let project = condition.integer(project);
            condition.and(format!("t.project = {project}"));
        }
        if let Some(model) = &filter.model {
            let days = table_name(UsageDay::TABLE, generation);
            let model = condition.text(model);
            condition.and(format!(
                "EXISTS (SELECT 1 FROM {days} d WHERE d.session = t.session AND d.source = t.source AND d.model = {model})"
            ));
        }
        for (instant, column) in [(filter.since, "last_at >="), (filter.until, "first_at <")] {
            if let Some(instant) = instant {
                let instant = condition.integer(instant.as_micros());
                condition.and(format!("t.{column} {instant}"));
            }
        }
        if let Some(resume) = &page.after {
            let after = ResumeKey::of(resume, "sessions")?;
            let (source, name) = (condition.text(&after.source), condition.text(&after.name));
            let beyond = format!("(t.source, t.session) > ({source}, {name})");
            let part = if let Some(instant) = after.instant {
                let at = condition.integer(instant);
                format!("(t.last_at < {at} OR t.last_at = {at} AND {beyond} OR t.last_at IS NULL)")
            } else {
                format!("t.last_at IS NULL AND {beyond}")
            };
            condition.and(part);
        }
        let limit = condition.integer(limit_of(page));
        let sql = format!(
            "SELECT {} FROM {} t {} ORDER BY t.last_at DESC, t.source, t.session LIMIT {limit}",
            select_list(Session::TABLE, "t", false),
            table_name(Session::TABLE, generation),
            condition.sql()
        );
        Ok(page_of(self.typed(&sql, &condition.values)?, page.limit, |row: &Session| ResumeKey {
            listing: "sessions".to_owned(),
            instant: row.last_at.map(Timestamp::as_micros),
            source: row.source.to_string(),
            name: row.session.to_string(),
        }))
    }

    fn turns(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Turn>> {
        let generation = live(self)?;
        let condition = self.call_condition(generation, filter);
        let mut condition = condition.located("query projections", &self.place)?;
        if let Some(session) = &filter.session {
            let members = table_name(CallSession::TABLE, generation);
            let id = self.name(session).located("query projections", &self.place)?;
            let (id, name) = (condition.integer(id), condition.text(session));
            condition.and(format!(
                "(t.session = {id} OR (t.source, t.call) IN (SELECT m.source, m.call FROM {members} m WHERE m.session = {name}))"
            ));
        }
        if let Some(resume) = &page.after {
            let after = ResumeKey::of(resume, "turns")?;
            let (source, name) = (condition.text(&after.source), condition.text(&after.name));
            let beyond = format!("(t.source, t.call) > ({source}, {name})");
            let part = if let Some(instant) = after.instant {
                let at = condition.integer(instant);
                format!("t.timestamp >= {at} AND (t.timestamp > {at} OR {beyond})")
            } else {
                format!("(t.timestamp IS NOT NULL OR {beyond})")
            };
            condition.and(part);
        }
        let limit = condition.integer(limit_of(page));
        let sql = format!(
            "SELECT {}, (SELECT name FROM names WHERE id = (SELECT s.project FROM {} s WHERE s.source = t.source AND s.session = {}))
             FROM {} t {} ORDER BY t.timestamp, t.source, t.call LIMIT {limit}",
            select_list(Call::TABLE, "t", false),
            table_name(Session::TABLE, generation),
            name_of(Call::TABLE, "session"),
            table_name(Call::TABLE, generation),
            condition.sql()
        );
        let project_column = Call::TABLE.columns.len();
        let rows = self.rows(&sql, &condition.values, |row| {
            Ok((row_values(row, Call::TABLE)?, row.get::<_, Option<String>>(project_column)?))
        })?;
        let turn = |(values, project): (_, Option<String>)| {
            Ok(Turn { call: Call::read(values)?, project: project.as_deref().map(Name::from) })
        };
        let turns = rows.into_iter().map(turn).collect::<Result<Vec<Turn>>>()?;
        Ok(page_of(turns, page.limit, |turn| ResumeKey {
            listing: "turns".to_owned(),
            instant: turn.call.timestamp.map(Timestamp::as_micros),
            source: turn.call.source.to_string(),
            name: turn.call.call.clone(),
        }))
    }

    fn streams(&self, source: &str, session: &str) -> Result<Vec<Stream>> {
        let generation = live(self)?;
        let id = self.name(session).located("query projections", &self.place)?;
        let sql = format!(
            "SELECT {} FROM {} t WHERE t.session = ?1 AND t.source = ?2 ORDER BY t.stream",
            select_list(Stream::TABLE, "t", false),
            table_name(Stream::TABLE, generation)
        );
        let source = Value::Text(Cow::Owned(key_text(source).into_owned()));
        self.typed(&sql, &[Value::Integer(id), source])
    }

    fn usage(&self, filter: &Filter, by: &[UsageBy]) -> Result<Vec<UsageGroup>> {
        let generation = live(self)?;
        let is_midnight = |instant: &Timestamp| Day::of(Some(*instant)).start() == Some(*instant);
        let whole_days = [filter.since, filter.until].iter().flatten().all(is_midnight);
        let sums = if whole_days {
            self.daily_sums(generation, filter, by)
        } else {
            self.exact_sums(generation, filter, by)
        };
        let (sql, condition) = sums.located("query projections", &self.place)?;
        let mut groups = self.rows(&sql, &condition.values, |row| {
            let key = (0..by.len()).map(|column| row.get_ref(column).map(group_text));
            Ok(UsageGroup { key: key.collect::<rusqlite::Result<_>>()?, usage: usage_of(row, by.len())? })
        })?;
        groups.sort_by(|one, two| one.key.cmp(&two.key));
        Ok(groups)
    }
}
