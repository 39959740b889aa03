//! Sums over calls: from the rollup by day wherever it answers (the time asked for ends at midnight, no host or
//! tag is asked for), else from the calls. Sums by host come from the rollup for the sessions that every host which has any of
//! them has wholly, and from the calls of the others.

use super::PostgresProjections;
use super::condition::Condition;
use crate::session::Session as Connection;
use burnlog_log::{Result, Timestamp};
use burnlog_projections::{
    Call, Day, Filter, Generation, HostLabels, LENGTHS, Row as _, Session, Stream, StreamFeed, Usage,
    UsageBy, UsageDay, UsageGroup,
};
use std::collections::BTreeMap;
use tokio_postgres::Row;

/// A day in microseconds.
const DAY: i64 = 86_400_000_000;

/// Sums as SQL: which columns there are to group by, what is added up, and over what.
struct Sums {
    with: String,
    dimensions: Vec<String>,
    totals: Vec<String>,
    from: String,
    condition: Condition,
}

impl PostgresProjections {
    /// Sums the calls by the dimensions of `by`, in the order of their values.
    pub(super) fn sums(
        &self,
        generation: Generation,
        filter: &Filter,
        by: &[UsageBy],
    ) -> Result<Vec<UsageGroup>> {
        let hosted = by.contains(&UsageBy::Host);
        let sums = match (filter.is_answered_by_days(), hosted) {
            (true, false) => vec![self.daily_sums(generation, filter, by)],
            (true, true) => {
                vec![self.daily_sums(generation, filter, by), self.exact_sums(generation, filter, by, true)?]
            }
            (false, _) => vec![self.exact_sums(generation, filter, by, false)?],
        };
        let labels = if hosted { HostLabels::read(self)? } else { HostLabels::default() };
        let mut groups: BTreeMap<Vec<String>, Usage> = BTreeMap::new();
        for sums in sums {
            let found = self.ask(&sums.sql(), &sums.condition, |connection, row| {
                let key = by.iter().enumerate().map(|(at, by)| group_text(connection, row, at, *by, &labels));
                Ok((key.collect::<Result<Vec<String>>>()?, usage_of(connection, row, by.len())?))
            })?;
            // Several days are one week, several writers may be nameless.
            for (key, usage) in found {
                groups.entry(key).or_default().add(&usage);
            }
        }
        Ok(groups.into_iter().map(|(key, usage)| UsageGroup { key, usage }).collect())
    }

    /// Sums kept by day: everything but instants that are no midnight.
    fn daily_sums(&self, generation: Generation, filter: &Filter, by: &[UsageBy]) -> Sums {
        let mut condition = Condition::default();
        condition.equal("t.source", filter.source.as_ref());
        condition.equal("t.model", filter.model.as_ref());
        condition.equal("t.session", filter.session.as_ref());
        if filter.model.as_deref() == Some("") {
            // A call without a model is in the sums under the empty name, and no call with the model "".
            condition.and("false".to_owned());
        }
        condition.equal("s.project", filter.project.as_ref());
        for (instant, comparison) in [(filter.since, ">="), (filter.until, "<")] {
            if let Some(instant) = instant {
                let day = condition.text(&Day::of(Some(instant)).to_string());
                condition.and(format!("t.day {comparison} {day} and t.day <> ''"));
            }
        }
        let dimension = |by: &UsageBy| match by {
            UsageBy::Day | UsageBy::Week | UsageBy::Month => "t.day",
            UsageBy::Source => "t.source",
            UsageBy::Model => "t.model",
            UsageBy::Session => "t.session",
            UsageBy::PriceClass => "t.price_class",
            UsageBy::Branch => "t.branch",
            UsageBy::Host => "f.feed",
            UsageBy::Project => "coalesce(s.project, '')",
        };
        let totals = Usage::COLUMNS.iter().map(|column| sum(&format!("t.{column}"))).collect();
        let mut from = format!("{} t", self.table(UsageDay::TABLE, generation));
        if filter.project.is_some() || by.contains(&UsageBy::Project) {
            from = self.with_sessions(&from, generation);
        }
        let mut with = String::new();
        if by.contains(&UsageBy::Host) {
            with = self.with_holders(generation);
            from = format!(
                "{from} join whole w on w.source = t.source and w.session = t.session \
                 join held f on f.source = t.source and f.session = t.session"
            );
        }
        let dimensions = by.iter().map(|by| dimension(by).to_owned()).collect();
        Sums { with, dimensions, totals, from, condition }
    }

    /// Tables for a query: `held`, which feeds have streams of a session; `whole`, the sessions of which each feed that has any
    /// stream has all of them to the end; `others`, those that are not. A call is in its stream's session.
    fn with_holders(&self, generation: Generation) -> String {
        let streams = self.table(Stream::TABLE, generation);
        let feeds = self.table(StreamFeed::TABLE, generation);
        format!(
            "with held as (select s.source, s.session, f.feed, count(*) as streams, \
             bool_and(f.records >= s.records) as to_the_end from {streams} s \
             join {feeds} f on f.source = s.source and f.stream = s.stream group by 1, 2, 3), \
             counted as (select source, session, count(*) as streams from {streams} group by 1, 2), \
             whole as (select h.source, h.session from held h join counted c using (source, session) \
             group by 1, 2 having bool_and(h.to_the_end and h.streams = c.streams)), \
             others as (select source, session from counted except select source, session from whole) "
        )
    }

    /// Sums over the calls themselves: any instants. `of_others` leaves out the sessions that the rollup answers for.
    fn exact_sums(
        &self,
        generation: Generation,
        filter: &Filter,
        by: &[UsageBy],
        of_others: bool,
    ) -> Result<Sums> {
        let mut condition = self.call_condition(generation, filter)?;
        condition.equal("t.session", filter.session.as_ref());
        let dimension = |by: &UsageBy| match by {
            UsageBy::Host => "f.feed".to_owned(),
            UsageBy::Branch => "coalesce(t.branch, '')".to_owned(),
            // Rounded down, also before 1970.
            UsageBy::Day | UsageBy::Week | UsageBy::Month => format!(
                "case when t.timestamp < 0 then -((-(t.timestamp + 1)) / {DAY}) - 1 else t.timestamp / {DAY} end"
            ),
            UsageBy::Source => "t.source".to_owned(),
            UsageBy::Model => "coalesce(t.model, '')".to_owned(),
            UsageBy::Session => "t.session".to_owned(),
            UsageBy::PriceClass => price_class(),
            UsageBy::Project => "coalesce(s.project, '')".to_owned(),
        };
        let mut totals = vec!["count(*)".to_owned(), "count(*) filter (where not t.complete)".to_owned()];
        totals.extend(Usage::COLUMNS[2..].iter().map(|column| sum(&format!("t.{column}"))));
        let mut from = format!("{} t", self.table(Call::TABLE, generation));
        if by.contains(&UsageBy::Project) {
            from = self.with_sessions(&from, generation);
        }
        if by.contains(&UsageBy::Host) {
            let feeds = self.table(StreamFeed::TABLE, generation);
            from = format!(
                "{from} join {feeds} f on f.stream = t.stream and f.source = t.source and f.records > t.seq"
            );
        }
        let mut with = String::new();
        if of_others {
            with = self.with_holders(generation);
            from = format!("{from} join others o on o.source = t.source and o.session = t.session");
        }
        Ok(Sums { with, dimensions: by.iter().map(dimension).collect(), totals, from, condition })
    }

    fn with_sessions(&self, from: &str, generation: Generation) -> String {
        let sessions = self.table(Session::TABLE, generation);
        format!("{from} left join {sessions} s on s.source = t.source and s.session = t.session")
    }
}

impl Sums {
    fn sql(&self) -> String {
        let columns = [&self.dimensions[..], &self.totals].concat().join(", ");
        let mut sql = format!("{}select {columns} from {} {}", self.with, self.from, self.condition.sql());
        if !self.dimensions.is_empty() {
            let numbers: Vec<String> = (1..=self.dimensions.len()).map(|number| number.to_string()).collect();
            sql = format!("{sql} group by {}", numbers.join(", "));
        }
        sql
    }
}

/// A sum that ends at the greatest number that there is, as all of ours do.
fn sum(column: &str) -> String {
    format!("least(greatest(coalesce(sum({column}), 0), {}), {})::int8", i64::MIN, i64::MAX)
}

/// The price class of a call `t`, as [`burnlog_projections::PriceClass`] writes it.
fn price_class() -> String {
    let input = ["input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"]
        .map(|column| format!("coalesce(t.{column}, 0)::numeric"))
        .join(" + ");
    let over = LENGTHS.iter().rev().map(|length| format!("when {input} > {length} then 'over {length}'"));
    let over = format!("case {} else '' end", over.collect::<Vec<_>>().join(" "));
    let usual = "('', 'standard', 'default', 'auto')";
    let variant = format!(
        "case when t.speed not in {usual} then t.speed \
         when t.service_tier not in {usual} then t.service_tier else '' end"
    );
    format!("trim({over} || ' ' || {variant})")
}

/// The text of a dimension; days of calls come as numbers, hosts as keys.
fn group_text(
    connection: &Connection<'_>,
    row: &Row,
    at: usize,
    by: UsageBy,
    labels: &HostLabels,
) -> Result<String> {
    let of_day = |day: Day| match by {
        UsageBy::Week => day.week(),
        UsageBy::Month => day.month(),
        _ => day.to_string(),
    };
    match by {
        UsageBy::Host => {
            Ok(connection.get::<Option<&[u8]>>(row, at)?.map_or_else(String::new, |feed| labels.of(feed)))
        }
        UsageBy::Day | UsageBy::Week | UsageBy::Month
            if *row.columns()[at].type_() == tokio_postgres::types::Type::INT8 =>
        {
            let day = connection.get::<Option<i64>>(row, at)?;
            Ok(day.map_or_else(String::new, |day| {
                of_day(Day::of(Some(Timestamp::from_micros(day.saturating_mul(DAY)))))
            }))
        }
        UsageBy::Week | UsageBy::Month => {
            Ok(Day::parse(connection.get(row, at)?).map(of_day).unwrap_or_default())
        }
        _ => connection.get(row, at),
    }
}

fn usage_of(connection: &Connection<'_>, row: &Row, from: usize) -> Result<Usage> {
    let mut numbers = [0; Usage::COLUMNS.len()];
    for (at, number) in numbers.iter_mut().enumerate() {
        *number = connection.get(row, from + at)?;
    }
    Ok(Usage::of_columns(numbers))
}
