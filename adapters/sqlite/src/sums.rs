//! Sums over calls: from the rollup by day wherever it answers (the time asked for ends at midnight, no host or
//! tag is asked for), else from the calls. Sums by host come from the rollup for the sessions that every host which has any of
//! them has wholly, and from the calls of the others.

use crate::convert::{Located, value_of};
use crate::opening::SqliteProjections;
use crate::queries::{Condition, name_of};
use crate::schema::table_name;
use burnlog_log::{Error, Result, Timestamp};
use burnlog_projections::{
    Call, Day, Filter, Generation, HostLabels, LENGTHS, Row, Session, Stream, StreamFeed, Usage, UsageBy,
    UsageDay, UsageGroup, Value,
};
use std::collections::BTreeMap;

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

impl SqliteProjections {
    /// Sums the calls by the dimensions of `by`, in the order of their values.
    pub(crate) fn sums(
        &self,
        generation: Generation,
        filter: &Filter,
        by: &[UsageBy],
    ) -> Result<Vec<UsageGroup>> {
        let hosted = by.contains(&UsageBy::Host);
        let labels = if hosted { HostLabels::read(self)? } else { HostLabels::default() };
        let over: &[Over] = match (filter.is_answered_by_days(), hosted) {
            (true, false) => &[Over::Days],
            (true, true) => &[Over::Days, Over::OtherCalls],
            (false, _) => &[Over::Calls],
        };
        let mut groups: BTreeMap<Vec<String>, Usage> = BTreeMap::new();
        let find = |over, adding| {
            let (sql, condition) = match over {
                Over::Days => self
                    .daily_sums(generation, filter, by, adding)
                    .located("query projections", &self.place)?,
                Over::Calls | Over::OtherCalls => self.exact_sums(generation, filter, by, (over, adding))?,
            };
            self.rows(&sql, &condition.values, |row| {
                let key =
                    by.iter().enumerate().map(|(at, by)| Ok(group_text(row.get_ref(at)?, *by, &labels)));
                Ok((key.collect::<rusqlite::Result<Vec<String>>>()?, usage_of(row, by.len())?))
            })
        };
        for over in over {
            let found = match find(*over, Adding::Plain) {
                Err(error) if is_overflow(&error) => find(*over, Adding::Saturating),
                found => found,
            }?;
            // Several days are one week, several writers may be nameless.
            for (key, usage) in found {
                groups.entry(key).or_default().add(&usage);
            }
        }
        Ok(groups.into_iter().map(|(key, usage)| UsageGroup { key, usage }).collect())
    }

    /// Sums kept by day: everything but instants that are no midnight.
    fn daily_sums(
        &self,
        generation: Generation,
        filter: &Filter,
        by: &[UsageBy],
        adding: Adding,
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
            UsageBy::Day | UsageBy::Week | UsageBy::Month => "t.day".to_owned(),
            UsageBy::Source => "t.source".to_owned(),
            UsageBy::Model => "t.model".to_owned(),
            UsageBy::Session => "t.session".to_owned(),
            UsageBy::PriceClass => "t.price_class".to_owned(),
            UsageBy::Branch => "t.branch".to_owned(),
            UsageBy::Host => "f.feed".to_owned(),
            UsageBy::Project => format!("coalesce((SELECT name FROM names WHERE id = {project}), '')"),
        };
        let dimensions: Vec<String> = by.iter().map(dimension).collect();
        let sums = Usage::COLUMNS.iter().map(|column| adding.sum(column)).collect::<Vec<_>>();
        let mut from = format!("{} t", table_name(UsageDay::TABLE, generation));
        let mut with = String::new();
        if by.contains(&UsageBy::Host) {
            with = with_holders(generation);
            from = format!(
                "{from} JOIN names n ON n.name = t.session
                 JOIN whole w ON w.source = t.source AND w.session = n.id
                 JOIN held f ON f.source = t.source AND f.session = n.id"
            );
        }
        Ok((grouped(&with, &dimensions, &sums, &from, &condition), condition))
    }

    /// Sums over the calls themselves: any instants.
    fn exact_sums(
        &self,
        generation: Generation,
        filter: &Filter,
        by: &[UsageBy],
        (over, adding): (Over, Adding),
    ) -> Result<(String, Condition)> {
        let sessions = table_name(Session::TABLE, generation);
        let mut condition = self.call_condition(generation, filter)?;
        if let Some(session) = &filter.session {
            let session = self.name(session).located("query projections", &self.place)?;
            let session = condition.integer(session);
            condition.and(format!("t.session = {session}"));
        }
        let session = name_of(Call::TABLE, "session");
        let dimension = |by: &UsageBy| match by {
            UsageBy::Host => "f.feed".to_owned(),
            UsageBy::Branch => format!("coalesce({}, '')", name_of(Call::TABLE, "branch")),
            UsageBy::Day | UsageBy::Week | UsageBy::Month => {
                format!("(t.timestamp - ((t.timestamp % {DAY}) + {DAY}) % {DAY}) / {DAY}")
            }
            UsageBy::Source => "t.source".to_owned(),
            UsageBy::Model => format!("coalesce({}, '')", name_of(Call::TABLE, "model")),
            UsageBy::Session => session.clone(),
            UsageBy::PriceClass => price_class(),
            UsageBy::Project => format!(
                "coalesce((SELECT name FROM names WHERE id = (SELECT s.project FROM {sessions} s
                 WHERE s.source = t.source AND s.session = {session})), '')"
            ),
        };
        let dimensions: Vec<String> = by.iter().map(dimension).collect();
        let mut sums = vec!["count(*)".to_owned(), "coalesce(sum(NOT t.complete), 0)".to_owned()];
        sums.extend(Usage::COLUMNS[2..].iter().map(|column| adding.sum(column)));
        let mut from = format!("{} t", table_name(Call::TABLE, generation));
        let mut with = String::new();
        if matches!(over, Over::OtherCalls) {
            with = with_holders(generation);
            // In this order: they are few, and calls have an index of their sessions.
            from = format!("others o CROSS JOIN {from} ON t.source = o.source AND t.session = o.session");
        }
        if by.contains(&UsageBy::Host) {
            let feeds = table_name(StreamFeed::TABLE, generation);
            // By the numbers of the names: SQLite makes an index of this for the query.
            from = format!(
                "{from} JOIN (SELECT n.id AS stream, s.source, s.feed, s.records FROM {feeds} s
                 JOIN names n ON n.name = s.stream) f
                 ON f.stream = t.stream AND f.source = t.source AND f.records > t.seq"
            );
        }
        Ok((grouped(&with, &dimensions, &sums, &from, &condition), condition))
    }
}

/// What is added up.
#[derive(Debug, Clone, Copy)]
enum Over {
    /// The rollup by day; by host, of the sessions that it answers for.
    Days,
    /// All calls.
    Calls,
    /// The calls of the sessions that the rollup does not answer for by host.
    OtherCalls,
}

/// Tables for a query: `held`, which feeds have streams of a session; `whole`, the sessions of which each feed that has any
/// stream has all of them to the end; `others`, those that are not. A call is in its stream's session.
fn with_holders(generation: Generation) -> String {
    let streams = table_name(Stream::TABLE, generation);
    let feeds = table_name(StreamFeed::TABLE, generation);
    format!(
        "WITH held AS (SELECT s.source, s.session, f.feed, count(*) AS streams, min(f.records >= s.records) AS to_the_end
             FROM {streams} s JOIN {feeds} f ON f.source = s.source AND f.stream = s.stream GROUP BY 1, 2, 3),
         counted AS (SELECT source, session, count(*) AS streams FROM {streams} GROUP BY 1, 2),
         whole AS (SELECT h.source, h.session FROM held h JOIN counted c USING (source, session)
             GROUP BY 1, 2 HAVING min(h.to_the_end AND h.streams = c.streams)),
         others AS (SELECT source, session FROM counted EXCEPT SELECT source, session FROM whole) "
    )
}

/// How numbers of a column are added.
#[derive(Debug, Clone, Copy)]
enum Adding {
    /// As SQLite does, which refuses sums that do not fit.
    Plain,
    /// Up to the greatest number that there is, as all of our sums end: in two halves, which takes twice as long. Counts and tokens
    /// are never negative.
    Saturating,
}

impl Adding {
    fn sum(self, column: &str) -> String {
        if matches!(self, Self::Plain) {
            return format!("coalesce(sum(t.{column}), 0)");
        }
        let high = format!("coalesce(sum(t.{column} >> 32), 0)");
        let low = format!("coalesce(sum(t.{column} & 4294967295), 0)");
        let high = format!("({high} + ({low} >> 32))");
        format!(
            "CASE WHEN {high} > 2147483647 THEN {} ELSE ({high} << 32) | ({low} & 4294967295) END",
            i64::MAX
        )
    }
}

/// Whether SQLite refused a query because a sum does not fit.
fn is_overflow(error: &Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    matches!(source, Some(rusqlite::Error::SqliteFailure(_, Some(message))) if message == "integer overflow")
}

/// The price class of a call `t`, as [`burnlog_projections::PriceClass`] writes it.
fn price_class() -> String {
    let input = ["input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"]
        .map(|column| format!("coalesce(t.{column}, 0)"))
        .join(" + ");
    let over = LENGTHS.iter().rev().map(|length| format!("WHEN {input} > {length} THEN 'over {length}'"));
    let over = format!("CASE {} ELSE '' END", over.collect::<Vec<_>>().join(" "));
    let usual = "('', 'standard', 'default', 'auto')";
    let (speed, tier) = (name_of(Call::TABLE, "speed"), name_of(Call::TABLE, "service_tier"));
    let variant = format!(
        "CASE WHEN {speed} NOT IN {usual} THEN {speed} WHEN {tier} NOT IN {usual} THEN {tier} ELSE '' END"
    );
    format!("trim({over} || ' ' || {variant})")
}

fn grouped(with: &str, dimensions: &[String], sums: &[String], from: &str, condition: &Condition) -> String {
    let columns = [dimensions, sums].concat().join(", ");
    let mut sql = format!("{with}SELECT {columns} FROM {from} {}", condition.sql());
    if !dimensions.is_empty() {
        let numbers: Vec<String> = (1..=dimensions.len()).map(|number| number.to_string()).collect();
        let numbers = numbers.join(", ");
        sql = format!("{sql} GROUP BY {numbers}");
    }
    sql
}

/// The text of a dimension; days of calls come as numbers, hosts as keys.
fn group_text(value: rusqlite::types::ValueRef<'_>, by: UsageBy, labels: &HostLabels) -> String {
    let of_day = |day: Day| match by {
        UsageBy::Week => day.week(),
        UsageBy::Month => day.month(),
        _ => day.to_string(),
    };
    match value_of(value) {
        Value::Integer(day) => of_day(Day::of(Some(Timestamp::from_micros(day.saturating_mul(DAY))))),
        Value::Text(text) if matches!(by, UsageBy::Week | UsageBy::Month) => {
            Day::parse(&text).map(of_day).unwrap_or_default()
        }
        Value::Text(text) => text.into_owned(),
        Value::Blob(feed) => labels.of(&feed),
        _ => String::new(),
    }
}

fn usage_of(row: &rusqlite::Row<'_>, from: usize) -> rusqlite::Result<Usage> {
    let mut numbers = [0; Usage::COLUMNS.len()];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = row.get(from + at)?;
    }
    Ok(Usage::of_columns(numbers))
}
