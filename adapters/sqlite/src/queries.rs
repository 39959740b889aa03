//! The queries as SQL over the live generation. Lists come in the order of an index, so that a page costs what it
//! returns.

use crate::convert::{Bound, Located};
use crate::names::NameIds;
use crate::opening::SqliteProjections;
use crate::schema::{select_list, table_name};
use burnlog_log::Result;
use burnlog_projections::{
    Call, CallSession, Filter, Generation, HostLabels, Page, PageRequest, Queries, Relationship, ResumeKey,
    Row, STAMP_CALL, STAMP_SESSION, STAMP_STREAM, Session, Stamp, Stream, StreamFeed, Table, ToolUse, Turn,
    UsageBy, UsageDay, UsageGroup, UserTurn, Value, key_text, live,
};
use std::borrow::Cow;

/// The condition of a query: parts that must all hold, and their parameters.
#[derive(Debug, Default)]
pub(crate) struct Condition {
    parts: Vec<String>,
    pub(crate) values: Vec<Value<'static>>,
}

impl Condition {
    /// Adds a parameter and returns how SQL names it.
    pub(crate) fn value(&mut self, value: Value<'static>) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    pub(crate) fn text(&mut self, text: &str) -> String {
        self.value(owned_key(text))
    }

    pub(crate) fn integer(&mut self, number: i64) -> String {
        self.value(Value::Integer(number))
    }

    /// Adds the feeds of a host as parameters and returns the list of them.
    fn feeds_of(&mut self, store: &SqliteProjections, generation: Generation, host: &str) -> Result<String> {
        let labels = HostLabels::read(store)?;
        let sql = format!("SELECT DISTINCT feed FROM {}", table_name(StreamFeed::TABLE, generation));
        let feeds = store.rows(&sql, &[], |row| row.get::<_, Vec<u8>>(0))?;
        let of_host = feeds.into_iter().filter(|feed| labels.of(feed) == host);
        let parameters = of_host.map(|feed| self.value(Value::Blob(Cow::Owned(feed))));
        Ok(format!("({})", parameters.collect::<Vec<_>>().join(", ")))
    }

    /// Asks for all tags of a filter; `levels` are what is selected and the SQL of its source and id.
    pub(crate) fn tags(&mut self, generation: Generation, filter: &Filter, levels: &[(&str, &str, &str)]) {
        let stamps = table_name(Stamp::TABLE, generation);
        for (key, value) in &filter.tags {
            let (key, value) = (self.text(key), self.value(Value::Text(Cow::Owned(value.clone()))));
            let mut looks = Vec::new();
            for (selects, source, target) in levels {
                for source in [*source, "''"] {
                    looks.push(format!(
                        "(SELECT value FROM {stamps} WHERE selects = '{selects}' AND source = {source} AND target = {target} AND stamp_key = {key})"
                    ));
                }
            }
            self.and(format!("coalesce({}) = {value}", looks.join(", ")));
        }
    }

    pub(crate) fn and(&mut self, part: String) {
        self.parts.push(part);
    }

    pub(crate) fn sql(&self) -> String {
        if self.parts.is_empty() { String::new() } else { format!("WHERE {}", self.parts.join(" AND ")) }
    }
}

/// What may be asked of a store's own numbers: a name that it does not have matches nothing.
const NO_NAME: i64 = -1;

impl SqliteProjections {
    pub(crate) fn name(&self, name: &str) -> rusqlite::Result<i64> {
        Ok(NameIds::known(&self.connection, &key_text(name))?.unwrap_or(NO_NAME))
    }

    /// Runs a query and hands out the values of its rows: those of `table`, or all of the statement's.
    pub(crate) fn rows<T>(
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
        let rows = self.rows(sql, values, |row| self.reading().row_values(row, R::TABLE))?;
        rows.into_iter().map(R::read).collect()
    }

    /// Rows at home in a session, by the index of sessions.
    fn of_session<R: Row>(&self, source: &str, session: &str, order: &str) -> Result<Vec<R>> {
        let generation = live(self)?;
        let id = self.name(session).located("query projections", &self.place)?;
        let sql = format!(
            "SELECT {} FROM {} t WHERE t.session = ?1 AND +t.source = ?2 ORDER BY {order}",
            select_list(R::TABLE, "t"),
            table_name(R::TABLE, generation)
        );
        self.typed(&sql, &[Value::Integer(id), owned_key(source)])
    }

    /// Conditions on a call `t` that do not depend on which session contains it.
    pub(crate) fn call_condition(&self, generation: Generation, filter: &Filter) -> Result<Condition> {
        let name = |name: &str| self.name(name).located("query projections", &self.place);
        let mut condition = Condition::default();
        if let Some(source) = &filter.source {
            let source = condition.text(source);
            // The plus keeps the index of keys, which has the source first and every row in it, from being used.
            condition.and(format!("+t.source = {source}"));
        }
        if let Some(model) = &filter.model {
            let model = condition.integer(name(model)?);
            condition.and(format!("t.model = {model}"));
        }
        if let Some(project) = &filter.project {
            let sessions = table_name(Session::TABLE, generation);
            let project = condition.integer(name(project)?);
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
        let (stream, session) = (name_of(Call::TABLE, "stream"), name_of(Call::TABLE, "session"));
        if let Some(host) = &filter.host {
            let feeds = condition.feeds_of(self, generation, host)?;
            condition.and(format!(
                "EXISTS (SELECT 1 FROM {} f WHERE f.source = t.source AND f.stream = {stream} AND f.records > t.seq AND f.feed IN {feeds})",
                table_name(StreamFeed::TABLE, generation)
            ));
        }
        let levels = [
            (STAMP_CALL, "t.source", "t.call"),
            (STAMP_STREAM, "t.source", &*stream),
            (STAMP_SESSION, "t.source", &*session),
        ];
        condition.tags(generation, filter, &levels);
        Ok(condition)
    }

    /// Lists calls without a timestamp, or with one from an instant on, in order; those behind `after` alone.
    fn turns_of(
        &self,
        generation: Generation,
        filter: &Filter,
        from: Option<i64>,
        after: Option<&ResumeKey>,
        limit: usize,
    ) -> Result<Vec<Turn>> {
        let mut condition = self.call_condition(generation, filter)?;
        if let Some(session) = &filter.session {
            let members = table_name(CallSession::TABLE, generation);
            let id = self.name(session).located("query projections", &self.place)?;
            let (id, name) = (condition.integer(id), condition.text(session));
            condition.and(format!(
                "(t.session = {id} OR (t.source, t.call) IN (SELECT m.source, m.call FROM {members} m WHERE m.session = {name}))"
            ));
        }
        // A plus keeps an index from being used: a session's calls are found by the session.
        let plus = if filter.session.is_some() { "+" } else { "" };
        let beyond = after.map(|after| {
            let (source, name) = (condition.text(&after.source), condition.text(&after.name));
            format!("(t.source, t.call) > ({source}, {name})")
        });
        if let Some(from) = from {
            let from = condition.integer(from);
            condition.and(format!("{plus}t.timestamp >= {from}"));
            if let Some(beyond) = beyond {
                condition.and(format!("(t.timestamp > {from} OR {beyond})"));
            }
        } else {
            condition.and(format!("{plus}t.timestamp IS NULL"));
            condition.parts.extend(beyond);
        }
        let limit = condition.integer(i64::try_from(limit).unwrap_or(i64::MAX));
        let sql = format!(
            "SELECT {}, (SELECT s.project FROM {} s WHERE s.source = t.source AND s.session = {})
             FROM {} t {} ORDER BY t.timestamp, t.source, t.call LIMIT {limit}",
            select_list(Call::TABLE, "t"),
            table_name(Session::TABLE, generation),
            name_of(Call::TABLE, "session"),
            table_name(Call::TABLE, generation),
            condition.sql()
        );
        let project_column = Call::TABLE.columns.len();
        let rows = self.rows(&sql, &condition.values, |row| {
            let project: Option<i64> = row.get(project_column)?;
            let project = project.map(|id| self.reading().texts.name(&self.connection, id)).transpose()?;
            Ok((self.reading().row_values(row, Call::TABLE)?, project.flatten()))
        })?;
        rows.into_iter().map(|(values, project)| Ok(Turn { call: Call::read(values)?, project })).collect()
    }
}

fn owned_key(text: &str) -> Value<'static> {
    Value::Text(Cow::Owned(key_text(text).into_owned()))
}

/// The text of an interned column of `t`.
pub(crate) fn name_of(table: &Table, column: &str) -> String {
    debug_assert!(table.position(column).is_some_and(|position| crate::schema::is_interned(table, position)));
    format!("(SELECT name FROM names WHERE id = t.{column})")
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
        if let Some(host) = &filter.host {
            let feeds = condition.feeds_of(self, generation, host)?;
            condition.and(format!(
                "EXISTS (SELECT 1 FROM {} r JOIN {} f ON f.source = r.source AND f.stream = r.stream
                 WHERE r.source = t.source AND r.session = (SELECT id FROM names WHERE name = t.session) AND f.feed IN {feeds})",
                table_name(Stream::TABLE, generation),
                table_name(StreamFeed::TABLE, generation)
            ));
        }
        condition.tags(generation, filter, &[(STAMP_SESSION, "t.source", "t.session")]);
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
            select_list(Session::TABLE, "t"),
            table_name(Session::TABLE, generation),
            condition.sql()
        );
        Ok(Page::of(self.typed(&sql, &condition.values)?, page.limit, ResumeKey::of_session))
    }

    fn turns(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Turn>> {
        let generation = live(self)?;
        let after = page.after.as_ref().map(|resume| ResumeKey::of(resume, "turns")).transpose()?;
        let limit = page.limit.saturating_add(1);
        let mut turns = Vec::new();
        // Calls without a timestamp come first. Asked for apart, both kinds come in the order of the index.
        if after.as_ref().is_none_or(|after| after.instant.is_none()) {
            turns = self.turns_of(generation, filter, None, after.as_ref(), limit)?;
        }
        if turns.len() < limit {
            let after = after.as_ref().filter(|after| after.instant.is_some());
            let from = after.and_then(|after| after.instant).unwrap_or(i64::MIN);
            turns.extend(self.turns_of(generation, filter, Some(from), after, limit - turns.len())?);
        }
        Ok(Page::of(turns, page.limit, ResumeKey::of_turn))
    }

    fn streams(&self, source: &str, session: &str) -> Result<Vec<Stream>> {
        let generation = live(self)?;
        let id = self.name(session).located("query projections", &self.place)?;
        let sql = format!(
            "SELECT {} FROM {} t WHERE t.session = ?1 AND t.source = ?2 ORDER BY t.stream",
            select_list(Stream::TABLE, "t"),
            table_name(Stream::TABLE, generation)
        );
        self.typed(&sql, &[Value::Integer(id), owned_key(source)])
    }

    fn edges(&self, source: &str, session: &str) -> Result<Vec<Relationship>> {
        let generation = live(self)?;
        let (columns, table) =
            (select_list(Relationship::TABLE, "t"), table_name(Relationship::TABLE, generation));
        // Each half has an access path of its own; a session is in both when a subagent is in it.
        let sql = format!(
            "SELECT {columns} FROM {table} t WHERE t.source IN (?1, '') AND t.from_session = ?2
             UNION SELECT {columns} FROM {table} t WHERE +t.source IN (?1, '') AND t.to_session = ?2
             ORDER BY 1, 2, 3, 4, 5"
        );
        self.typed(&sql, &[owned_key(source), owned_key(session)])
    }

    fn streams_beginning_with(&self, source: &str, record: &str) -> Result<Vec<Stream>> {
        let sql = format!(
            "SELECT {} FROM {} t WHERE t.first_record = ?2 AND t.source = ?1 ORDER BY t.stream",
            select_list(Stream::TABLE, "t"),
            table_name(Stream::TABLE, live(self)?)
        );
        self.typed(&sql, &[owned_key(source), owned_key(record)])
    }

    fn user_turns(&self, source: &str, session: &str) -> Result<Vec<UserTurn>> {
        self.of_session(source, session, "t.timestamp, t.turn")
    }

    fn tool_uses(&self, source: &str, session: &str) -> Result<Vec<ToolUse>> {
        self.of_session(source, session, "t.used_at, t.tool_use")
    }

    fn usage(&self, filter: &Filter, by: &[UsageBy]) -> Result<Vec<UsageGroup>> {
        self.sums(live(self)?, filter, by)
    }
}
