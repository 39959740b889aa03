//! Questions to the projections that a store answers with its own means (an index, a sum kept ready). What follows
//! from reading rows in key order alone is in `lookup`, once for all stores.

use crate::calls::Call;
use crate::relationships::Relationship;
use crate::rollups::{Day, Session};
use crate::store::{FoldStore, RowReader};
use crate::streams::Stream;
use crate::text::{Name, Tokens};
use crate::tool_uses::ToolUse;
use crate::user_turns::UserTurn;
use burnlog_log::{Error, ErrorKind, Result, Timestamp};

/// Which sessions, calls or sums are asked for. Everything set must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    /// From this instant on.
    pub since: Option<Timestamp>,
    /// Before this instant.
    pub until: Option<Timestamp>,
    /// Of sessions in this folder.
    pub project: Option<String>,
    /// Of this session.
    pub session: Option<String>,
    /// Of this source.
    pub source: Option<String>,
    /// With this model.
    pub model: Option<String>,
    /// Recorded by this host, as [`HostLabels`](crate::HostLabels) shows it: sessions with a stream, calls with a home line.
    pub host: Option<String>,
    /// Stamped with all of these keys and values. A call has what is stamped on itself, else on its stream, else on its
    /// home session; a session what is stamped on it.
    pub tags: Vec<(String, String)>,
}

impl Filter {
    /// Whether the sums kept by day answer this: the time asked for ends at midnight, and neither a host nor a tag is asked
    /// for. Those by host they answer for the sessions that each host has wholly, if it has any of them.
    pub fn is_answered_by_days(&self) -> bool {
        let is_midnight = |instant: &Timestamp| Day::of(Some(*instant)).start() == Some(*instant);
        let whole_days = [self.since, self.until].iter().flatten().all(is_midnight);
        whole_days && self.tags.is_empty() && self.host.is_none()
    }
}

/// Where a listing goes on: opaque text, meaningful to the same query alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Resume(pub String);

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// From where the page before ended.
    pub after: Option<Resume>,
    /// The most items.
    pub limit: usize,
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page starts; `None` when this was the last one.
    pub next: Option<Resume>,
}

impl<T> Page<T> {
    /// Makes a page of up to `limit` items of a list of which one more was read, if there is one more.
    pub fn of(mut items: Vec<T>, limit: usize, key: impl Fn(&T) -> ResumeKey) -> Self {
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|item| key(item).resume());
        Self { items, next }
    }
}

/// A call, with what its session says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The call.
    pub call: Call,
    /// The project of its home session.
    pub project: Option<Name>,
}

/// What sums are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UsageBy {
    /// The day in UTC on which the call began.
    Day,
    /// The source.
    Source,
    /// The model.
    Model,
    /// The home session.
    Session,
    /// The project of the home session; empty where none is known.
    Project,
    /// The ISO week of the day, `2026-W07`; empty where there is no day.
    Week,
    /// The month of the day, `2026-02`; empty where there is no day.
    Month,
    /// The writers that recorded the home line of the call: a call may be in several groups, and the groups add up to
    /// more than the total. The label of the host, with `#` and four digits of the key where several have it.
    Host,
    /// The git branch at the home line; empty where none is known.
    Branch,
    /// What else decides the price of a call; see [`PriceClass`](crate::PriceClass).
    PriceClass,
}

/// Sums over calls. Each call is in them once, whatever the grouping but [`UsageBy::Host`]; sums without any grouping
/// are the total without repetition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Usage {
    /// Calls.
    pub calls: i64,
    /// Those of them that have no final line, so that their output is a floor.
    pub incomplete_calls: i64,
    /// Input tokens.
    pub input_tokens: Tokens,
    /// Output tokens.
    pub output_tokens: Tokens,
    /// Tokens read from a cache.
    pub cache_read_tokens: Tokens,
    /// Tokens written to a cache for five minutes.
    pub cache_write_5m_tokens: Tokens,
    /// Tokens written to a cache for an hour.
    pub cache_write_1h_tokens: Tokens,
    /// Reasoning tokens.
    pub reasoning_tokens: Tokens,
}

impl Usage {
    /// The columns that add up, in the order of the fields: all of them of `usage_daily`, and from the third on also of `calls`.
    pub const COLUMNS: [&'static str; 8] = [
        "calls",
        "incomplete_calls",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "reasoning_tokens",
    ];

    /// Makes sums of numbers in the order of [`Usage::COLUMNS`].
    pub fn of_columns(numbers: [i64; 8]) -> Self {
        let [calls, incomplete_calls, input, output, read, write_5m, write_1h, reasoning] = numbers;
        Self {
            calls,
            incomplete_calls,
            input_tokens: Tokens(input),
            output_tokens: Tokens(output),
            cache_read_tokens: Tokens(read),
            cache_write_5m_tokens: Tokens(write_5m),
            cache_write_1h_tokens: Tokens(write_1h),
            reasoning_tokens: Tokens(reasoning),
        }
    }

    /// Returns the numbers in the order of [`Usage::COLUMNS`].
    pub fn to_columns(self) -> [i64; 8] {
        [
            self.calls,
            self.incomplete_calls,
            self.input_tokens.0,
            self.output_tokens.0,
            self.cache_read_tokens.0,
            self.cache_write_5m_tokens.0,
            self.cache_write_1h_tokens.0,
            self.reasoning_tokens.0,
        ]
    }

    /// Adds sums.
    pub fn add(&mut self, other: &Self) {
        let add = |sum: &mut Tokens, more: Tokens| sum.0 = sum.0.saturating_add(more.0);
        self.calls += other.calls;
        self.incomplete_calls += other.incomplete_calls;
        add(&mut self.input_tokens, other.input_tokens);
        add(&mut self.output_tokens, other.output_tokens);
        add(&mut self.cache_read_tokens, other.cache_read_tokens);
        add(&mut self.cache_write_5m_tokens, other.cache_write_5m_tokens);
        add(&mut self.cache_write_1h_tokens, other.cache_write_1h_tokens);
        add(&mut self.reasoning_tokens, other.reasoning_tokens);
    }

    /// Returns what one call adds.
    pub fn of_call(call: &Call) -> Self {
        Self {
            calls: 1,
            incomplete_calls: i64::from(!call.complete),
            input_tokens: call.input_tokens.unwrap_or_default(),
            output_tokens: call.output_tokens.unwrap_or_default(),
            cache_read_tokens: call.cache_read_tokens.unwrap_or_default(),
            cache_write_5m_tokens: call.cache_write_5m_tokens.unwrap_or_default(),
            cache_write_1h_tokens: call.cache_write_1h_tokens.unwrap_or_default(),
            reasoning_tokens: call.reasoning_tokens.unwrap_or_default(),
        }
    }
}

/// Sums of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageGroup {
    /// The values of the dimensions asked for, in that order.
    pub key: Vec<String>,
    /// The sums.
    pub usage: Usage,
}

/// What a store answers with its own means. All read the live generation.
///
/// `NotFound` when nothing was folded yet, or only by an older program; `Unsupported` when by a newer one;
/// `Invalid` for a [`Resume`] of another query.
pub trait Queries: RowReader {
    /// Lists sessions, the latest first; those without any timestamp last; then by source and session.
    ///
    /// `since` and `until` ask for sessions that span some of that time, `model` for those that used it.
    fn sessions(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Session>>;

    /// Lists calls by time, those without a timestamp first; then by source and call.
    ///
    /// `session` asks for all calls that the session contains, wherever they are at home; `project` goes by the home.
    fn turns(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Turn>>;

    /// Lists the streams of a session in the order of their names.
    fn streams(&self, source: &str, session: &str) -> Result<Vec<Stream>>;

    /// Lists the stated relationships to and from a session, also those that name no source, in the order of their keys.
    fn edges(&self, source: &str, session: &str) -> Result<Vec<Relationship>>;

    /// Lists the streams whose first record with an id has this one, in the order of their names.
    fn streams_beginning_with(&self, source: &str, record: &str) -> Result<Vec<Stream>>;

    /// Lists the turns at home in a session: by time, those without one first, then by id.
    fn user_turns(&self, source: &str, session: &str) -> Result<Vec<UserTurn>>;

    /// Lists the tool uses at home in a session: by time, those without one first, then by id.
    fn tool_uses(&self, source: &str, session: &str) -> Result<Vec<ToolUse>>;

    /// Sums the calls by the dimensions of `by`, in the order of their values; without dimensions one total, also
    /// when there is no call. `session` and `project` go by the home.
    fn usage(&self, filter: &Filter, by: &[UsageBy]) -> Result<Vec<UsageGroup>>;
}

/// A store that keeps the rows and answers queries about them: what a program opens that does both.
pub trait Projections: FoldStore + Queries {}

impl<S: FoldStore + Queries> Projections for S {}

/// The place in an order by an instant and a key, as a [`Resume`] holds it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ResumeKey {
    /// Which listing this belongs to.
    pub listing: String,
    /// The instant in microseconds.
    pub instant: Option<i64>,
    /// The source.
    pub source: String,
    /// The session or call.
    pub name: String,
}

impl ResumeKey {
    /// The place of a session in the list of sessions.
    pub fn of_session(row: &Session) -> Self {
        Self {
            listing: "sessions".to_owned(),
            instant: row.last_at.map(Timestamp::as_micros),
            source: row.source.to_string(),
            name: row.session.to_string(),
        }
    }

    /// The place of a call in the list of calls.
    pub fn of_turn(turn: &Turn) -> Self {
        Self {
            listing: "turns".to_owned(),
            instant: turn.call.timestamp.map(Timestamp::as_micros),
            source: turn.call.source.to_string(),
            name: turn.call.call.clone(),
        }
    }

    /// Makes the opaque text.
    pub fn resume(&self) -> Resume {
        Resume(serde_json::to_string(self).expect("strings and numbers are JSON"))
    }

    /// Takes the opaque text apart. `Invalid` when it is not of this `listing`.
    pub fn of(resume: &Resume, listing: &str) -> Result<Self> {
        serde_json::from_str::<Self>(&resume.0).ok().filter(|key| key.listing == listing).ok_or_else(|| {
            Error::new(
                ErrorKind::Invalid,
                "list",
                format!("this does not tell where a list of {listing} goes on"),
            )
        })
    }
}
