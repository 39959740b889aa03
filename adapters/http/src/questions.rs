//! The messages of the projections: the questions of [`RowReader`](burnlog_projections::RowReader) and
//! [`Queries`](burnlog_projections::Queries), and the forms of their answers. A row travels as the values of its columns.

use crate::codec::{Decoder, Encoder};
use burnlog_log::{Error, ErrorKind, Result, Timestamp, Token, WriterId};
use burnlog_projections::{
    FeedCursor, Filter, Generation, GenerationState, PageRequest, Resume, Row, StoreState, TABLES, Table,
    Tokens, Usage, UsageBy, UsageGroup, Value, Values,
};
use bytes::Bytes;
use std::borrow::Cow;

/// The most rows of one answer. Whoever wants more asks again from where it ended.
pub const ROWS_MAX: usize = 4096;

/// A question to the projections.
#[derive(Debug, Clone, PartialEq)]
pub enum Question {
    /// Which generations there are; `fresh` waits for the folds to reach what the ledger holds now.
    State {
        /// Whether to wait.
        fresh: bool,
    },
    /// Rows by their keys: the values of one behind those of the one before.
    Get(Generation, TableName, Values),
    /// Rows in the order of their keys, from the first key greater than the one given.
    Scan(Generation, TableName, Option<Values>, usize),
    /// How far each feed was folded.
    Cursors(Generation),
    /// How far one feed was folded.
    Cursor(Generation, WriterId),
    /// Sessions.
    Sessions(Filter, PageRequest),
    /// Calls.
    Turns(Filter, PageRequest),
    /// What belongs to a source and one more name.
    Of(Belonging, String, String),
    /// Sums.
    Usage(Filter, Vec<UsageBy>),
}

/// Rows that belong to a source and a session (or a first record).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Belonging {
    /// The streams of a session.
    Streams,
    /// The stated relationships to and from a session.
    Edges,
    /// The streams that begin with a record.
    StreamsBeginningWith,
    /// The turns of users at home in a session.
    UserTurns,
    /// The tool uses at home in a session.
    ToolUses,
}

const BELONGINGS: [Belonging; 5] = [
    Belonging::Streams,
    Belonging::Edges,
    Belonging::StreamsBeginningWith,
    Belonging::UserTurns,
    Belonging::ToolUses,
];

const DIMENSIONS: [UsageBy; 10] = [
    UsageBy::Day,
    UsageBy::Source,
    UsageBy::Model,
    UsageBy::Session,
    UsageBy::Project,
    UsageBy::Week,
    UsageBy::Month,
    UsageBy::Host,
    UsageBy::Branch,
    UsageBy::PriceClass,
];

/// A table of the projections.
#[derive(Debug, Clone, Copy)]
pub struct TableName(pub &'static Table);

impl PartialEq for TableName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

fn put_value(out: &mut Encoder, value: &Value<'_>) {
    match value {
        Value::Null => out.byte(0),
        Value::Integer(number) => {
            out.byte(1);
            out.signed(*number);
        }
        Value::Text(text) => {
            out.byte(2);
            out.text(text);
        }
        Value::Name(name) => {
            out.byte(2);
            out.text(name);
        }
        Value::Blob(bytes) => {
            out.byte(3);
            out.bytes(bytes);
        }
    }
}

fn take_value(from: &mut Decoder) -> Result<Value<'static>> {
    Ok(match from.byte()? {
        0 => Value::Null,
        1 => Value::Integer(from.signed()?),
        2 => Value::Text(Cow::Owned(from.text()?)),
        3 => Value::Blob(Cow::Owned(from.bytes()?.to_vec())),
        tag => return Err(from.unknown("kind of value", tag)),
    })
}

fn put_values(out: &mut Encoder, values: &[Value<'_>]) {
    out.list(values.iter(), put_value);
}

fn take_values(from: &mut Decoder) -> Result<Values> {
    from.list(1, take_value)
}

fn put_row<R: Row>(out: &mut Encoder, row: &R) {
    let mut values = Vec::new();
    row.write(&mut values);
    put_values(out, &values);
}

fn take_row<R: Row>(from: &mut Decoder) -> Result<R> {
    R::read(take_values(from)?)
}

fn put_table(out: &mut Encoder, TableName(table): TableName) {
    out.text(table.name);
}

fn take_table(from: &mut Decoder) -> Result<TableName> {
    let name = from.text()?;
    TABLES.iter().find(|table| table.name == name).map(|table| TableName(table)).ok_or_else(|| {
        let message = format!("this program has no table {name:?}; upgrade the older of client and server");
        Error::new(ErrorKind::Unsupported, "read question", message)
    })
}

fn put_instant(out: &mut Encoder, instant: Timestamp) {
    out.signed(instant.as_micros());
}

fn put_filter(out: &mut Encoder, filter: &Filter) {
    let Filter { since, until, project, session, source, model, host, tags } = filter;
    out.option(*since, put_instant);
    out.option(*until, put_instant);
    for text in [project, session, source, model, host] {
        out.option(text.as_deref(), Encoder::text);
    }
    out.list(tags.iter(), |out, (key, value)| {
        out.text(key);
        out.text(value);
    });
}

fn take_filter(from: &mut Decoder) -> Result<Filter> {
    let instant = |from: &mut Decoder| Ok(Timestamp::from_micros(from.signed()?));
    Ok(Filter {
        since: from.option(instant)?,
        until: from.option(instant)?,
        project: from.option(Decoder::text)?,
        session: from.option(Decoder::text)?,
        source: from.option(Decoder::text)?,
        model: from.option(Decoder::text)?,
        host: from.option(Decoder::text)?,
        tags: from.list(8, |from| Ok((from.text()?, from.text()?)))?,
    })
}

fn put_page(out: &mut Encoder, page: &PageRequest) {
    out.option(page.after.as_ref(), |out, after| out.text(&after.0));
    out.number(page.limit as u64);
}

fn take_limit(from: &mut Decoder) -> Result<usize> {
    Ok(usize::try_from(from.number()?).unwrap_or(usize::MAX))
}

fn take_page(from: &mut Decoder) -> Result<PageRequest> {
    Ok(PageRequest { after: from.option(Decoder::text)?.map(Resume), limit: take_limit(from)? })
}

fn put_generation(out: &mut Encoder, generation: Generation) {
    out.number(u64::from(generation.0));
}

fn take_generation(from: &mut Decoder) -> Result<Generation> {
    let number = from.number()?;
    u32::try_from(number).map(Generation).map_err(|_| from.unknown("generation", u8::MAX))
}

fn take_of<T: Copy>(from: &mut Decoder, all: &[T], what: &str) -> Result<T> {
    let tag = from.byte()?;
    all.get(usize::from(tag)).copied().ok_or_else(|| from.unknown(what, tag))
}

fn tag_of<T: PartialEq>(all: &[T], value: &T) -> u8 {
    all.iter().position(|one| one == value).expect("every value is in the list") as u8
}

impl Question {
    /// Encodes the question.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Encoder::default();
        match self {
            Self::State { fresh } => {
                out.byte(0);
                out.byte(u8::from(*fresh));
            }
            Self::Get(generation, table, keys) => {
                out.byte(1);
                put_generation(&mut out, *generation);
                put_table(&mut out, *table);
                put_values(&mut out, keys);
            }
            Self::Scan(generation, table, after, limit) => {
                out.byte(2);
                put_generation(&mut out, *generation);
                put_table(&mut out, *table);
                out.option(after.as_deref(), put_values);
                out.number(*limit as u64);
            }
            Self::Cursors(generation) => {
                out.byte(3);
                put_generation(&mut out, *generation);
            }
            Self::Cursor(generation, feed) => {
                out.byte(4);
                put_generation(&mut out, *generation);
                out.array(&feed.0);
            }
            Self::Sessions(filter, page) | Self::Turns(filter, page) => {
                out.byte(if matches!(self, Self::Sessions(..)) { 5 } else { 6 });
                put_filter(&mut out, filter);
                put_page(&mut out, page);
            }
            Self::Of(belonging, source, name) => {
                out.byte(7);
                out.byte(tag_of(&BELONGINGS, belonging));
                out.text(source);
                out.text(name);
            }
            Self::Usage(filter, by) => {
                out.byte(8);
                put_filter(&mut out, filter);
                out.list(by.iter(), |out, by| out.byte(tag_of(&DIMENSIONS, by)));
            }
        }
        out.0
    }

    /// Decodes a question.
    pub fn decode(message: Bytes) -> Result<Self> {
        let mut from = Decoder::new(message);
        let question = match from.byte()? {
            0 => Self::State { fresh: from.flag()? },
            1 => Self::Get(take_generation(&mut from)?, take_table(&mut from)?, take_values(&mut from)?),
            2 => Self::Scan(
                take_generation(&mut from)?,
                take_table(&mut from)?,
                from.option(take_values)?,
                take_limit(&mut from)?,
            ),
            3 => Self::Cursors(take_generation(&mut from)?),
            4 => Self::Cursor(take_generation(&mut from)?, WriterId(from.array()?)),
            5 => Self::Sessions(take_filter(&mut from)?, take_page(&mut from)?),
            6 => Self::Turns(take_filter(&mut from)?, take_page(&mut from)?),
            7 => Self::Of(take_of(&mut from, &BELONGINGS, "list")?, from.text()?, from.text()?),
            8 => {
                let filter = take_filter(&mut from)?;
                Self::Usage(filter, from.list(1, |from| take_of(from, &DIMENSIONS, "dimension"))?)
            }
            tag => return Err(from.unknown("question", tag)),
        };
        from.end()?;
        question.checked()
    }

    /// Refuses keys that do not belong to their table: a store builds its statement from their number.
    fn checked(self) -> Result<Self> {
        let fits = match &self {
            Self::Get(_, TableName(table), keys) => {
                keys.len().is_multiple_of(table.key) && keys.len() <= ROWS_MAX * table.key
            }
            Self::Scan(_, TableName(table), Some(after), _) => after.len() <= table.key && !after.is_empty(),
            _ => true,
        };
        if fits {
            return Ok(self);
        }
        Err(Error::new(
            ErrorKind::Invalid,
            "read question",
            "the key does not have the columns of the table's",
        ))
    }
}

fn put_generation_state(out: &mut Encoder, state: &GenerationState) {
    put_generation(out, state.generation);
    out.number(u64::from(state.version));
    out.number(state.revision);
    out.option(state.token.as_ref(), |out, token| out.bytes(&token.0));
    out.byte(u8::from(state.settled));
}

fn take_generation_state(from: &mut Decoder) -> Result<GenerationState> {
    Ok(GenerationState {
        generation: take_generation(from)?,
        version: u32::try_from(from.number()?).unwrap_or(u32::MAX),
        revision: from.number()?,
        token: from.option(|from| Ok(Token(from.bytes()?.to_vec())))?,
        settled: from.flag()?,
    })
}

/// Encodes which generations there are.
pub(crate) fn encode_store_state(state: &StoreState) -> Vec<u8> {
    let mut out = Encoder::default();
    out.option(state.live.as_ref(), put_generation_state);
    out.option(state.building.as_ref(), put_generation_state);
    out.0
}

/// Decodes which generations there are.
pub(crate) fn decode_store_state(message: Bytes) -> Result<StoreState> {
    let mut from = Decoder::new(message);
    let state = StoreState {
        live: from.option(take_generation_state)?,
        building: from.option(take_generation_state)?,
    };
    from.end()?;
    Ok(state)
}

/// Encodes rows of any table, of which some are not there.
pub(crate) fn encode_some(rows: &[Option<Values>]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.list(rows.iter(), |out, row| out.option(row.as_deref(), put_values));
    out.0
}

/// Decodes rows of any table, of which some are not there.
pub(crate) fn decode_some(message: Bytes) -> Result<Vec<Option<Values>>> {
    let mut from = Decoder::new(message);
    let rows = from.list(1, |from| from.option(take_values))?;
    from.end()?;
    Ok(rows)
}

/// Encodes rows of any table.
pub(crate) fn encode_values(rows: &[Values]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.list(rows.iter(), |out, row| put_values(out, row));
    out.0
}

/// Decodes rows of any table.
pub(crate) fn decode_values(message: Bytes) -> Result<Vec<Values>> {
    let mut from = Decoder::new(message);
    let rows = from.list(4, take_values)?;
    from.end()?;
    Ok(rows)
}

/// Encodes rows of one table, and for each what goes beside it, with where the list goes on.
pub(crate) fn encode_rows<R: Row>(rows: &[R], next: Option<&Resume>) -> Vec<u8> {
    let mut out = Encoder::default();
    out.list(rows.iter(), put_row);
    out.option(next, |out, next| out.text(&next.0));
    out.0
}

/// Decodes rows of one table, with where the list goes on.
pub(crate) fn decode_rows<R: Row>(message: Bytes) -> Result<(Vec<R>, Option<Resume>)> {
    let mut from = Decoder::new(message);
    let rows = from.list(4, take_row)?;
    let next = from.option(Decoder::text)?.map(Resume);
    from.end()?;
    Ok((rows, next))
}

/// Encodes texts of which some are absent: what goes beside the rows of a list.
pub(crate) fn encode_beside(rows: &[u8], beside: &[Option<&str>]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.bytes(rows);
    out.list(beside.iter(), |out, text| out.option(*text, Encoder::text));
    out.0
}

/// Decodes rows and the texts beside them.
pub(crate) fn decode_beside(message: Bytes) -> Result<(Bytes, Vec<Option<String>>)> {
    let mut from = Decoder::new(message);
    let rows = from.bytes()?;
    let beside = from.list(1, |from| from.option(Decoder::text))?;
    from.end()?;
    Ok((rows, beside))
}

/// Encodes how far feeds were folded.
pub(crate) fn encode_cursors(cursors: &[FeedCursor]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.list(cursors.iter(), |out, cursor| {
        out.array(&cursor.feed.0);
        out.number(cursor.next);
    });
    out.0
}

/// Decodes how far feeds were folded.
pub(crate) fn decode_cursors(message: Bytes) -> Result<Vec<FeedCursor>> {
    let mut from = Decoder::new(message);
    let cursors =
        from.list(40, |from| Ok(FeedCursor { feed: WriterId(from.array()?), next: from.number()? }))?;
    from.end()?;
    Ok(cursors)
}

/// Encodes sums.
pub(crate) fn encode_usage(groups: &[UsageGroup]) -> Vec<u8> {
    let mut out = Encoder::default();
    out.list(groups.iter(), |out, UsageGroup { key, usage }| {
        out.list(key.iter(), |out, text| out.text(text));
        for number in [
            usage.calls,
            usage.incomplete_calls,
            usage.input_tokens.0,
            usage.output_tokens.0,
            usage.cache_read_tokens.0,
            usage.cache_write_5m_tokens.0,
            usage.cache_write_1h_tokens.0,
            usage.reasoning_tokens.0,
        ] {
            out.signed(number);
        }
    });
    out.0
}

/// Decodes sums.
pub(crate) fn decode_usage(message: Bytes) -> Result<Vec<UsageGroup>> {
    let mut from = Decoder::new(message);
    let groups = from.list(4 + 8 * 8, |from| {
        let key = from.list(4, Decoder::text)?;
        let usage = Usage {
            calls: from.signed()?,
            incomplete_calls: from.signed()?,
            input_tokens: Tokens(from.signed()?),
            output_tokens: Tokens(from.signed()?),
            cache_read_tokens: Tokens(from.signed()?),
            cache_write_5m_tokens: Tokens(from.signed()?),
            cache_write_1h_tokens: Tokens(from.signed()?),
            reasoning_tokens: Tokens(from.signed()?),
        };
        Ok(UsageGroup { key, usage })
    })?;
    from.end()?;
    Ok(groups)
}
