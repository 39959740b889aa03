//! Conditions of queries: parts that must all hold, and their parameters.

use super::{PostgresProjections, values};
use crate::session::Session;
use burnlog_log::{Result, Timestamp};
use burnlog_projections::{
    Filter, Generation, HostLabels, Row as _, STAMP_CALL, STAMP_SESSION, STAMP_STREAM, Session as SessionRow,
    Stamp, StreamFeed, Value, key_text,
};
use std::borrow::Cow;
use std::fmt::Write;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

/// The condition of a query.
#[derive(Debug, Default)]
pub(super) struct Condition {
    parts: Vec<String>,
    values: Vec<Value<'static>>,
}

impl Condition {
    /// Adds a parameter and returns how SQL names it.
    pub(super) fn value(&mut self, value: Value<'static>) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// Adds a key as a parameter.
    pub(super) fn text(&mut self, text: &str) -> String {
        self.value(Value::Text(Cow::Owned(key_text(text).into_owned())))
    }

    /// Adds a number as a parameter.
    pub(super) fn integer(&mut self, number: i64) -> String {
        self.value(Value::Integer(number))
    }

    /// Adds a part.
    pub(super) fn and(&mut self, part: String) {
        self.parts.push(part);
    }

    /// Asks that a column has a value, if one is wanted.
    pub(super) fn equal(&mut self, column: &str, wanted: Option<&String>) {
        if let Some(wanted) = wanted {
            let wanted = self.text(wanted);
            self.and(format!("{column} = {wanted}"));
        }
    }

    /// Asks that an instant in a column is within a time.
    pub(super) fn instant(&mut self, column: &str, comparison: &str, instant: Option<Timestamp>) {
        if let Some(instant) = instant {
            let instant = self.integer(instant.as_micros());
            self.and(format!("{column} {comparison} {instant}"));
        }
    }

    /// Asks for all tags of a filter; `levels` are what is selected and the SQL of its source and id.
    pub(super) fn tags(&mut self, stamps: &str, filter: &Filter, levels: &[(&str, &str, &str)]) {
        for (key, value) in &filter.tags {
            // A tag with a NUL is nobody's: folds take it out.
            let value = value.replace('\0', "\u{fffd}");
            let (key, value) = (self.text(key), self.value(Value::Text(Cow::Owned(value))));
            let mut looks = Vec::new();
            for (selects, source, target) in levels {
                for source in [*source, "''"] {
                    looks.push(format!(
                        "(select value from {stamps} where selects = '{selects}' and source = {source} \
                         and target = {target} and stamp_key = {key})"
                    ));
                }
            }
            self.and(format!("coalesce({}) = {value}", looks.join(", ")));
        }
    }

    /// Returns the condition as SQL.
    pub(super) fn sql(&self) -> String {
        if self.parts.is_empty() { String::new() } else { format!("where {}", self.parts.join(" and ")) }
    }
}

impl PostgresProjections {
    /// Runs a query and takes its rows.
    pub(super) fn ask<T>(
        &self,
        sql: &str,
        condition: &Condition,
        take: impl Fn(&Session<'_>, &Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        let values: Vec<_> = condition.values.iter().map(values::parameter).collect();
        let parameters: Vec<(&(dyn ToSql + Sync), Type)> =
            values.iter().map(|(value, kind)| (&**value, kind.clone())).collect();
        self.pool.query("query projections", (sql, &parameters), take).map_err(super::replaced)
    }

    /// Returns the feeds of a host as SQL: there may be more of them than a statement has parameters.
    pub(super) fn feeds_of(&self, generation: Generation, host: &str) -> Result<String> {
        let labels = HostLabels::read(self)?;
        let sql = format!("select distinct feed from {}", self.table(StreamFeed::TABLE, generation));
        let feeds = self.ask(&sql, &Condition::default(), |session, row| session.get::<Vec<u8>>(row, 0))?;
        let of_host = feeds.iter().filter(|feed| labels.of(feed) == host);
        let literals: Vec<String> = of_host.map(|feed| format!("'\\x{}'", hex(feed))).collect();
        Ok(format!("any(array[{}]::bytea[])", literals.join(", ")))
    }

    /// Conditions on a call `t` that do not depend on which session contains it.
    pub(super) fn call_condition(&self, generation: Generation, filter: &Filter) -> Result<Condition> {
        let mut condition = Condition::default();
        condition.equal("t.source", filter.source.as_ref());
        condition.equal("t.model", filter.model.as_ref());
        if let Some(project) = &filter.project {
            let project = condition.text(project);
            condition.and(format!(
                "exists (select 1 from {} s where s.source = t.source and s.session = t.session \
                 and s.project = {project})",
                self.table(SessionRow::TABLE, generation)
            ));
        }
        condition.instant("t.timestamp", ">=", filter.since);
        condition.instant("t.timestamp", "<", filter.until);
        if let Some(host) = &filter.host {
            let feeds = self.feeds_of(generation, host)?;
            condition.and(format!(
                "exists (select 1 from {} f where f.source = t.source and f.stream = t.stream \
                 and f.records > t.seq and f.feed = {feeds})",
                self.table(StreamFeed::TABLE, generation)
            ));
        }
        let levels = [
            (STAMP_CALL, "t.source", "t.call"),
            (STAMP_STREAM, "t.source", "t.stream"),
            (STAMP_SESSION, "t.source", "t.session"),
        ];
        condition.tags(&self.table(Stamp::TABLE, generation), filter, &levels);
        Ok(condition)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
