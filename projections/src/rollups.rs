//! Sums over facts, kept up with every change of one: by session, and by day, source, model, session and branch.
//! Every call is in the sums once, in its home.

use crate::table::{ColumnKind, ColumnType, Rollup, Value, row};
use crate::text::Name;
use burnlog_log::Timestamp;
use std::borrow::Cow;

const MICROS_A_DAY: i64 = 86_400_000_000;
const EPOCH: jiff::civil::Date = jiff::civil::date(1970, 1, 1);

/// A day in UTC, or none where a record has no timestamp. Text form `2026-02-12`, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Day(Option<i64>);

impl Day {
    /// Returns the day of an instant.
    pub fn of(instant: Option<Timestamp>) -> Self {
        Self(instant.map(|instant| instant.as_micros().div_euclid(MICROS_A_DAY)))
    }

    /// Parses the text form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(None));
        }
        let date: jiff::civil::Date = text.parse().ok()?;
        Some(Self(Some(date.duration_since(EPOCH).as_hours() / 24)))
    }

    /// Returns the ISO 8601 week of the day, `2026-W07`, or nothing.
    pub fn week(self) -> String {
        self.date().map_or_else(String::new, |date| {
            let week = date.iso_week_date();
            format!("{:04}-W{:02}", week.year(), week.week())
        })
    }

    /// Returns the month of the day, `2026-02`, or nothing.
    pub fn month(self) -> String {
        self.date().map_or_else(String::new, |date| format!("{:04}-{:02}", date.year(), date.month()))
    }

    fn date(self) -> Option<jiff::civil::Date> {
        let date = |days: i64| EPOCH.checked_add(jiff::SignedDuration::from_hours(days.saturating_mul(24)));
        self.0.map(|days| date(days).expect("instants are clamped to years that have dates"))
    }

    /// Returns the first instant of the day.
    pub fn start(self) -> Option<Timestamp> {
        self.0.map(|days| Timestamp::from_micros(days.saturating_mul(MICROS_A_DAY)))
    }
}

impl std::fmt::Display for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.date().map_or(Ok(()), |date| write!(f, "{date}"))
    }
}

impl ColumnType for Day {
    const KIND: ColumnKind = ColumnKind::Text;

    fn to_value(&self) -> Value<'_> {
        Value::Text(Cow::Owned(self.to_string()))
    }

    fn of_value(value: Value<'static>) -> Option<Self> {
        match value {
            Value::Text(text) => Self::parse(&text),
            _ => None,
        }
    }
}

/// What calls add up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) calls: i64,
    pub(crate) incomplete_calls: i64,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
    pub(crate) cache_read_tokens: i64,
    pub(crate) cache_write_5m_tokens: i64,
    pub(crate) cache_write_1h_tokens: i64,
    pub(crate) reasoning_tokens: i64,
}

impl Counts {
    /// Returns the counts times 1 or -1.
    pub(crate) fn times(&self, sign: i64) -> Self {
        Self {
            calls: self.calls * sign,
            incomplete_calls: self.incomplete_calls * sign,
            input_tokens: self.input_tokens * sign,
            output_tokens: self.output_tokens * sign,
            cache_read_tokens: self.cache_read_tokens * sign,
            cache_write_5m_tokens: self.cache_write_5m_tokens * sign,
            cache_write_1h_tokens: self.cache_write_1h_tokens * sign,
            reasoning_tokens: self.reasoning_tokens * sign,
        }
    }
}

macro_rules! counted {
    ($row:ident) => {
        impl $row {
            /// Returns the counts of calls in it.
            pub(crate) fn counts(&self) -> Counts {
                Counts {
                    calls: self.calls,
                    incomplete_calls: self.incomplete_calls,
                    input_tokens: self.input_tokens,
                    output_tokens: self.output_tokens,
                    cache_read_tokens: self.cache_read_tokens,
                    cache_write_5m_tokens: self.cache_write_5m_tokens,
                    cache_write_1h_tokens: self.cache_write_1h_tokens,
                    reasoning_tokens: self.reasoning_tokens,
                }
            }

            /// Adds counts of calls to it. Sums saturate, which only hostile records reach.
            pub(crate) fn add_counts(&mut self, counts: &Counts) {
                let add = |sum: &mut i64, delta: i64| *sum = sum.saturating_add(delta);
                add(&mut self.calls, counts.calls);
                add(&mut self.incomplete_calls, counts.incomplete_calls);
                add(&mut self.input_tokens, counts.input_tokens);
                add(&mut self.output_tokens, counts.output_tokens);
                add(&mut self.cache_read_tokens, counts.cache_read_tokens);
                add(&mut self.cache_write_5m_tokens, counts.cache_write_5m_tokens);
                add(&mut self.cache_write_1h_tokens, counts.cache_write_1h_tokens);
                add(&mut self.reasoning_tokens, counts.reasoning_tokens);
            }
        }
    };
}

row! {
    /// What a session adds up to. Calls count where they are at home.
    #[derive(Default)]
    pub struct Session in "sessions" indexes [["last_at"]] dumped true
    key {
        /// The source.
        source: Name,
        /// The session.
        session: Name,
    }
    /// The folder in the first record of the session's own file that names one, else of another of its files.
    project: Option<Name>,
    /// Which record that is; smaller is kept.
    project_place: i64,
    /// The title.
    title: Option<String>,
    /// Which record that is; greater is kept.
    title_place: i64,
    /// The earliest timestamp of its streams.
    first_at: Option<Timestamp>,
    /// The latest timestamp of its streams.
    last_at: Option<Timestamp>,
    /// Its files.
    streams: i64,
    /// Calls at home here.
    calls: i64,
    /// Those of them that have no final line.
    incomplete_calls: i64,
    /// Calls that it contains and that are at home elsewhere.
    copied_calls: i64,
    /// The sum of the calls' input tokens.
    input_tokens: i64,
    /// The sum of the calls' output tokens.
    output_tokens: i64,
    /// The sum of the calls' tokens read from a cache.
    cache_read_tokens: i64,
    /// The sum of the calls' tokens written to a cache for five minutes.
    cache_write_5m_tokens: i64,
    /// The sum of the calls' tokens written to a cache for an hour.
    cache_write_1h_tokens: i64,
    /// The sum of the calls' reasoning tokens.
    reasoning_tokens: i64,
    /// Turns that a person typed.
    prompts: i64,
    /// Tool uses.
    tool_uses: i64,
    /// Results of tools that are errors.
    tool_errors: i64,
    /// Compactions.
    compactions: i64,
    /// Notices.
    notices: i64,
}

counted!(Session);

impl Session {
    pub(crate) fn offer_project(&mut self, project: &Name, place: i64) {
        let kept = (self.project.is_none(), self.project_place, self.project.as_ref());
        if (false, place, Some(project)) < kept {
            self.project = Some(project.clone());
            self.project_place = place;
        }
    }

    pub(crate) fn offer_title(&mut self, title: &str, place: i64) {
        if (true, place, Some(title)) > (self.title.is_some(), self.title_place, self.title.as_deref()) {
            self.title = Some(title.to_owned());
            self.title_place = place;
        }
    }

    pub(crate) fn offer_instant(&mut self, instant: Timestamp) {
        self.first_at = Some(self.first_at.map_or(instant, |first| first.min(instant)));
        self.last_at = self.last_at.max(Some(instant));
    }
}

impl Rollup for Session {
    fn apply(&mut self, delta: &Self) {
        if let Some(project) = &delta.project {
            self.offer_project(project, delta.project_place);
        }
        if let Some(title) = &delta.title {
            self.offer_title(title, delta.title_place);
        }
        for instant in [delta.first_at, delta.last_at].into_iter().flatten() {
            self.offer_instant(instant);
        }
        self.add_counts(&delta.counts());
        self.streams += delta.streams;
        self.copied_calls += delta.copied_calls;
        self.prompts += delta.prompts;
        self.tool_uses += delta.tool_uses;
        self.tool_errors += delta.tool_errors;
        self.compactions += delta.compactions;
        self.notices += delta.notices;
    }

    fn is_empty(&self) -> bool {
        *self == Self { source: self.source.clone(), session: self.session.clone(), ..Self::default() }
    }
}

row! {
    /// What the calls of a session with one model on one branch and day add up to.
    #[derive(Default)]
    pub struct UsageDay in "usage_daily" indexes [["session"]] dumped true
    key {
        /// The day in UTC, `2026-02-12`; empty where a call has no timestamp.
        day: Day,
        /// The source.
        source: Name,
        /// The model; empty where a call names none.
        model: Name,
        /// The home session.
        session: Name,
        /// What else decides the price of the calls; see [`PriceClass`](crate::PriceClass).
        price_class: Name,
        /// The git branch; empty where a call names none.
        branch: Name,
    }
    /// The calls.
    calls: i64,
    /// Those of them that have no final line.
    incomplete_calls: i64,
    /// The sum of input tokens.
    input_tokens: i64,
    /// The sum of output tokens.
    output_tokens: i64,
    /// The sum of tokens read from a cache.
    cache_read_tokens: i64,
    /// The sum of tokens written to a cache for five minutes.
    cache_write_5m_tokens: i64,
    /// The sum of tokens written to a cache for an hour.
    cache_write_1h_tokens: i64,
    /// The sum of reasoning tokens.
    reasoning_tokens: i64,
}

counted!(UsageDay);

impl Rollup for UsageDay {
    fn apply(&mut self, delta: &Self) {
        self.add_counts(&delta.counts());
    }

    fn is_empty(&self) -> bool {
        // A delta may change tokens and no number of calls.
        self.counts() == Counts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_one_text_form() {
        let at = |text: &str| Day::of(Timestamp::parse(text));
        assert_eq!(at("2026-02-12T23:59:59.999999Z").to_string(), "2026-02-12");
        assert_eq!(at("2026-02-12T23:30:00-01:00").to_string(), "2026-02-13");
        assert_eq!(at("1969-12-31T23:59:59Z").to_string(), "1969-12-31");
        assert_eq!(Day::parse("1969-12-31"), Some(at("1969-12-31T00:00:00Z")));
        assert_eq!(Day::default().to_string(), "");
        assert_eq!(Day::parse(""), Some(Day::default()));
        assert_eq!(Day::parse("2026-02-30"), None);
        for micros in [i64::MIN, i64::MAX] {
            let day = Day::of(Some(Timestamp::from_micros(micros)));
            assert_eq!(Day::parse(&day.to_string()), Some(day));
        }
    }
}
