//! Sums over calls: from the rollup by day wherever the time asked for ends at midnight, else from the calls.

use crate::convert::{Located, value_of};
use crate::queries::{Condition, name_of};
use crate::schema::table_name;
use crate::store::SqliteProjections;
use burnlog_log::{Result, Timestamp};
use burnlog_projections::{
    Call, Day, Filter, Generation, Row, Session, Tokens, Usage, UsageBy, UsageDay, UsageGroup, Value,
};

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

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

impl SqliteProjections {
    /// Sums the calls by the dimensions of `by`, in the order of their values.
    pub(crate) fn sums(
        &self,
        generation: Generation,
        filter: &Filter,
        by: &[UsageBy],
    ) -> Result<Vec<UsageGroup>> {
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
