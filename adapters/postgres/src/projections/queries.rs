//! The queries as SQL over the live generation. Lists come in the order of an index, so that a page costs what it
//! returns.

use super::condition::Condition;
use super::tables::{INDEXED_CHARACTERS, beginning, select_list};
use super::{PostgresProjections, values};
use burnlog_log::Result;
use burnlog_projections::{
    Call, CallSession, Filter, Generation, Name, Page, PageRequest, Queries, Relationship, ResumeKey, Row,
    STAMP_SESSION, Session, Stamp, Stream, StreamFeed, ToolUse, Turn, UsageBy, UsageDay, UsageGroup,
    UserTurn, live,
};

impl PostgresProjections {
    fn typed<R: Row>(&self, sql: &str, condition: &Condition) -> Result<Vec<R>> {
        let rows = self.ask(sql, condition, |session, row| values::row_values(session, row, R::TABLE))?;
        rows.into_iter().map(R::read).collect()
    }

    /// Rows of a table with these values in two columns.
    fn rows_with<R: Row>(&self, columns: [(&str, &str); 2], order: &str) -> Result<Vec<R>> {
        let mut condition = Condition::default();
        for (column, wanted) in columns {
            let wanted = condition.text(wanted);
            condition.and(format!("t.{column} = {wanted}"));
        }
        let sql = format!(
            "select {} from {} t {} order by {order}",
            select_list(R::TABLE, "t."),
            self.table(R::TABLE, live(self)?),
            condition.sql()
        );
        self.typed(&sql, &condition)
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
            let members = self.table(CallSession::TABLE, generation);
            let session = condition.text(session);
            condition.and(format!(
                "(t.session = {session} or (t.source, t.call) in \
                 (select m.source, m.call from {members} m where m.session = {session}))"
            ));
        }
        let beyond = after.map(|after| {
            let (source, name) = (condition.text(&after.source), condition.text(&after.name));
            format!("(t.source, t.call) > ({source}, {name})")
        });
        if let Some(from) = from {
            let from = condition.integer(from);
            condition.and(format!("t.timestamp >= {from}"));
            if let Some(beyond) = beyond {
                condition.and(format!("(t.timestamp > {from} or {beyond})"));
            }
        } else {
            condition.and("t.timestamp is null".to_owned());
            if let Some(beyond) = beyond {
                condition.and(beyond);
            }
        }
        let limit = condition.integer(i64::try_from(limit).unwrap_or(i64::MAX));
        let sql = format!(
            "select {}, (select s.project from {} s where s.source = t.source and s.session = t.session) \
             from {} t {} order by t.timestamp nulls first, t.source, t.call limit {limit}",
            select_list(Call::TABLE, "t."),
            self.table(Session::TABLE, generation),
            self.table(Call::TABLE, generation),
            condition.sql()
        );
        let rows = self.ask(&sql, &condition, |session, row| {
            let project: Option<&str> = session.get(row, Call::TABLE.columns.len())?;
            Ok((values::row_values(session, row, Call::TABLE)?, project.map(Name::from)))
        })?;
        rows.into_iter().map(|(values, project)| Ok(Turn { call: Call::read(values)?, project })).collect()
    }

    /// Conditions on a session `t`.
    fn session_condition(&self, generation: Generation, filter: &Filter) -> Result<Condition> {
        let mut condition = Condition::default();
        condition.equal("t.source", filter.source.as_ref());
        condition.equal("t.session", filter.session.as_ref());
        condition.equal("t.project", filter.project.as_ref());
        if let Some(model) = &filter.model {
            let model = condition.text(model);
            condition.and(format!(
                "exists (select 1 from {} d where d.session = t.session and d.source = t.source and d.model = {model})",
                self.table(UsageDay::TABLE, generation)
            ));
        }
        condition.instant("t.last_at", ">=", filter.since);
        condition.instant("t.first_at", "<", filter.until);
        if let Some(host) = &filter.host {
            let feeds = self.feeds_of(generation, host)?;
            condition.and(format!(
                "exists (select 1 from {} r join {} f on f.source = r.source and f.stream = r.stream \
                 where r.source = t.source and r.session = t.session and f.feed = {feeds})",
                self.table(Stream::TABLE, generation),
                self.table(StreamFeed::TABLE, generation)
            ));
        }
        let levels = [(STAMP_SESSION, "t.source", "t.session")];
        condition.tags(&self.table(Stamp::TABLE, generation), filter, &levels);
        Ok(condition)
    }
}

impl Queries for PostgresProjections {
    fn sessions(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Session>> {
        let generation = live(self)?;
        let mut condition = self.session_condition(generation, filter)?;
        if let Some(resume) = &page.after {
            let after = ResumeKey::of(resume, "sessions")?;
            let (source, name) = (condition.text(&after.source), condition.text(&after.name));
            let beyond = format!("(t.source, t.session) > ({source}, {name})");
            let part = if let Some(instant) = after.instant {
                let at = condition.integer(instant);
                format!("(t.last_at < {at} or t.last_at = {at} and {beyond} or t.last_at is null)")
            } else {
                format!("t.last_at is null and {beyond}")
            };
            condition.and(part);
        }
        // One more than asked for, to know whether there are more.
        let limit = condition.integer(i64::try_from(page.limit.saturating_add(1)).unwrap_or(i64::MAX));
        let sql = format!(
            "select {} from {} t {} order by t.last_at desc nulls last, t.source, t.session limit {limit}",
            select_list(Session::TABLE, "t."),
            self.table(Session::TABLE, generation),
            condition.sql()
        );
        Ok(Page::of(self.typed(&sql, &condition)?, page.limit, ResumeKey::of_session))
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
        self.rows_with([("session", session), ("source", source)], "t.stream")
    }

    fn edges(&self, source: &str, session: &str) -> Result<Vec<Relationship>> {
        let mut condition = Condition::default();
        let (source, session) = (condition.text(source), condition.text(session));
        condition.and(format!("t.source in ({source}, '')"));
        condition.and(format!("(t.from_session = {session} or t.to_session = {session})"));
        let sql = format!(
            "select {} from {} t {} order by 1, 2, 3, 4, 5",
            select_list(Relationship::TABLE, "t."),
            self.table(Relationship::TABLE, live(self)?),
            condition.sql()
        );
        self.typed(&sql, &condition)
    }

    fn streams_beginning_with(&self, source: &str, record: &str) -> Result<Vec<Stream>> {
        let mut condition = Condition::default();
        let (source, record) = (condition.text(source), condition.text(record));
        // An id is never longer than what the index has of it.
        const { assert!(INDEXED_CHARACTERS >= 250) };
        condition.and(format!("{} = {}", beginning("t.first_record"), beginning(&record)));
        condition.and(format!("t.first_record = {record} and t.source = {source}"));
        let sql = format!(
            "select {} from {} t {} order by t.stream",
            select_list(Stream::TABLE, "t."),
            self.table(Stream::TABLE, live(self)?),
            condition.sql()
        );
        self.typed(&sql, &condition)
    }

    fn user_turns(&self, source: &str, session: &str) -> Result<Vec<UserTurn>> {
        self.rows_with([("session", session), ("source", source)], "t.timestamp nulls first, t.turn")
    }

    fn tool_uses(&self, source: &str, session: &str) -> Result<Vec<ToolUse>> {
        self.rows_with([("session", session), ("source", source)], "t.used_at nulls first, t.tool_use")
    }

    fn usage(&self, filter: &Filter, by: &[UsageBy]) -> Result<Vec<UsageGroup>> {
        self.sums(live(self)?, filter, by)
    }
}
