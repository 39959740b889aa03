//! The projections of a ledger on a server: rows and queries, each one request.

use crate::call::Call;
use crate::client::Link;
use crate::frame::FrameKind;
use crate::questions::{self, Belonging, Question, ROWS_MAX, TableName};
use crate::routes::Operation;
use burnlog_log::{Result, WriterId};
use burnlog_projections::{
    Call as ApiCall, FeedCursor, Filter, Generation, Name, Page, PageRequest, Queries, Relationship, Row,
    RowReader, Session, StoreState, Stream, Table, ToolUse, Turn, UsageBy, UsageGroup, UserTurn, Value,
    Values,
};
use bytes::Bytes;
use std::sync::Arc;

/// Answers queries from the projections that a server keeps.
#[derive(Debug, Clone)]
pub struct HttpQueries {
    link: Arc<Link>,
}

impl HttpQueries {
    /// Waits until the server has folded what its ledger holds now, or gives up waiting after some seconds, and answers
    /// from there on without waiting.
    pub fn open(link: Arc<Link>) -> Result<Self> {
        let queries = Self { link };
        queries.ask(&Question::State { fresh: true }, questions::decode_store_state)?;
        Ok(queries)
    }

    fn ask<T>(&self, question: &Question, decode: impl Fn(Bytes) -> Result<T>) -> Result<T> {
        let call = Call::new(Operation::Ask).framed(FrameKind::Question, &question.encode());
        self.link.ask_for("ask projections", FrameKind::Reply, call, decode)
    }

    /// Asks for a list page by page until there are as many as were asked for.
    fn page<T>(
        &self,
        filter: &Filter,
        page: &PageRequest,
        question: impl Fn(Filter, PageRequest) -> Question,
        decode: impl Fn(Bytes) -> Result<Page<T>>,
    ) -> Result<Page<T>> {
        let (mut items, mut after) = (Vec::new(), page.after.clone());
        loop {
            let limit = (page.limit - items.len()).min(ROWS_MAX);
            let more = self.ask(&question(filter.clone(), PageRequest { after, limit }), &decode)?;
            let is_empty = more.items.is_empty();
            items.extend(more.items);
            after = more.next;
            if after.is_none() || is_empty || items.len() >= page.limit {
                return Ok(Page { items, next: after });
            }
        }
    }

    fn rows_of<R: Row>(&self, belonging: Belonging, source: &str, name: &str) -> Result<Vec<R>> {
        let question = Question::Of(belonging, source.to_owned(), name.to_owned());
        self.ask(&question, questions::decode_rows).map(|(rows, _)| rows)
    }
}

fn owned(values: &[Value<'_>]) -> Values {
    values.iter().cloned().map(Value::into_owned).collect()
}

impl RowReader for HttpQueries {
    fn location(&self) -> String {
        self.link.url().to_owned()
    }

    fn state(&self) -> Result<StoreState> {
        self.ask(&Question::State { fresh: false }, questions::decode_store_state)
    }

    fn get(
        &self,
        generation: Generation,
        table: &'static Table,
        key: &[Value<'_>],
    ) -> Result<Option<Values>> {
        self.get_many(generation, table, key).map(|mut rows| rows.pop().flatten())
    }

    fn get_many(
        &self,
        generation: Generation,
        table: &'static Table,
        keys: &[Value<'_>],
    ) -> Result<Vec<Option<Values>>> {
        let mut rows = Vec::with_capacity(keys.len() / table.key);
        for keys in keys.chunks(ROWS_MAX * table.key) {
            let question = Question::Get(generation, TableName(table), owned(keys));
            rows.extend(self.ask(&question, questions::decode_some)?);
        }
        Ok(rows)
    }

    fn scan(
        &self,
        generation: Generation,
        table: &'static Table,
        after: Option<&[Value<'_>]>,
        limit: usize,
    ) -> Result<Vec<Values>> {
        let mut rows: Vec<Values> = Vec::new();
        let mut after = after.map(owned);
        while rows.len() < limit {
            let asked = (limit - rows.len()).min(ROWS_MAX);
            let question = Question::Scan(generation, TableName(table), after.take(), asked);
            let more = self.ask(&question, questions::decode_values)?;
            let is_end = more.len() < asked;
            rows.extend(more);
            if is_end {
                break;
            }
            after = rows.last().map(|row| row[..table.key].to_vec());
        }
        Ok(rows)
    }

    fn cursors(&self, generation: Generation) -> Result<Vec<FeedCursor>> {
        self.ask(&Question::Cursors(generation), questions::decode_cursors)
    }

    fn cursor(&self, generation: Generation, feed: &WriterId) -> Result<u64> {
        let cursors = self.ask(&Question::Cursor(generation, *feed), questions::decode_cursors)?;
        Ok(cursors.first().map_or(0, |cursor| cursor.next))
    }
}

fn decode_sessions(message: Bytes) -> Result<Page<Session>> {
    let (items, next) = questions::decode_rows(message)?;
    Ok(Page { items, next })
}

fn decode_turns(message: Bytes) -> Result<Page<Turn>> {
    let (rows, projects) = questions::decode_beside(message)?;
    let (calls, next) = questions::decode_rows::<ApiCall>(rows)?;
    let turn = |(call, project): (ApiCall, Option<String>)| Turn {
        call,
        project: project.as_deref().map(Name::from),
    };
    Ok(Page { items: calls.into_iter().zip(projects).map(turn).collect(), next })
}

impl Queries for HttpQueries {
    fn sessions(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Session>> {
        self.page(filter, page, Question::Sessions, decode_sessions)
    }

    fn turns(&self, filter: &Filter, page: &PageRequest) -> Result<Page<Turn>> {
        self.page(filter, page, Question::Turns, decode_turns)
    }

    fn streams(&self, source: &str, session: &str) -> Result<Vec<Stream>> {
        self.rows_of(Belonging::Streams, source, session)
    }

    fn edges(&self, source: &str, session: &str) -> Result<Vec<Relationship>> {
        self.rows_of(Belonging::Edges, source, session)
    }

    fn streams_beginning_with(&self, source: &str, record: &str) -> Result<Vec<Stream>> {
        self.rows_of(Belonging::StreamsBeginningWith, source, record)
    }

    fn user_turns(&self, source: &str, session: &str) -> Result<Vec<UserTurn>> {
        self.rows_of(Belonging::UserTurns, source, session)
    }

    fn tool_uses(&self, source: &str, session: &str) -> Result<Vec<ToolUse>> {
        self.rows_of(Belonging::ToolUses, source, session)
    }

    fn usage(&self, filter: &Filter, by: &[UsageBy]) -> Result<Vec<UsageGroup>> {
        self.ask(&Question::Usage(filter.clone(), by.to_vec()), questions::decode_usage)
    }
}
