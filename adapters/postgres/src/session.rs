//! A connection inside a transaction: statements without names, their rows, and errors translated. Knows nothing
//! of where the connection comes from or what becomes of it.

use crate::errors;
use burnlog_log::{Error, Result};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Row, RowStream};

/// Values of parameters with their types, as unnamed statements want them.
pub(crate) type Parameters<'a> = [(&'a (dyn ToSql + Sync), Type)];

/// A statement with its parameters.
pub(crate) type Statement<'a> = (&'a str, &'a Parameters<'a>);

/// A connection as the body of a transaction sees it: statements without names, errors translated.
pub(crate) struct Session<'a> {
    client: &'a Client,
    operation: &'static str,
    url: &'a str,
}

impl<'a> Session<'a> {
    pub(crate) fn new(client: &'a Client, operation: &'static str, url: &'a str) -> Self {
        Self { client, operation, url }
    }

    /// Returns what is being done, for errors.
    pub(crate) fn operation(&self) -> &'static str {
        self.operation
    }

    /// Returns the rows of a query.
    pub(crate) async fn query(&self, sql: &str, parameters: &Parameters<'_>) -> Result<Vec<Row>> {
        self.client.query_typed(sql, parameters).await.map_err(|error| self.error(&error))
    }

    /// Returns the rows of a query one by one, as they arrive.
    pub(crate) async fn stream(&self, sql: &str, parameters: &Parameters<'_>) -> Result<RowStream> {
        let parameters = parameters.iter().map(|(value, kind)| (*value, kind.clone()));
        self.client.query_typed_raw(sql, parameters).await.map_err(|error| self.error(&error))
    }

    /// Runs a statement and returns how many rows it touched.
    pub(crate) async fn execute(&self, sql: &str, parameters: &Parameters<'_>) -> Result<u64> {
        self.client.execute_typed(sql, parameters).await.map_err(|error| self.error(&error))
    }

    /// Runs statements without parameters.
    pub(crate) async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(|error| self.error(&error))
    }

    /// Runs one statement without parameters and returns its rows as text.
    #[cfg(feature = "cluster")]
    pub(crate) async fn rows_as_text(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let messages = self.client.simple_query(sql).await.map_err(|error| self.error(&error))?;
        let text = |message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|column| row.get(column).unwrap_or_default().to_owned()).collect())
            }
            _ => None,
        };
        Ok(messages.into_iter().filter_map(text).collect())
    }

    /// Sends a statement whose answer nobody needs: what follows on this connection comes after it.
    pub(crate) fn send_only(&self, sql: &str) {
        let sending = pin!(self.client.batch_execute(sql));
        let _ = sending.poll(&mut Context::from_waker(Waker::noop()));
    }

    /// Reads a column. `Corrupt` where it has another type than this program's schema gives it, or is null.
    pub(crate) fn get<'r, T: FromSql<'r>>(&self, row: &'r Row, column: usize) -> Result<T> {
        row.try_get(column).map_err(|error| self.error(&error))
    }

    /// Reads a position, counted from 1, in something of `length`. `Corrupt` where it is outside.
    pub(crate) fn position(&self, row: &Row, column: usize, length: usize) -> Result<usize> {
        let position = usize::try_from(self.get::<i64>(row, column)?).ok().and_then(|n| n.checked_sub(1));
        position.filter(|at| *at < length).ok_or_else(|| self.corrupt("a row nobody asked for"))
    }

    /// Translates an error of the driver.
    pub(crate) fn error(&self, error: &tokio_postgres::Error) -> Error {
        errors::of_driver(self.operation, self.url, error)
    }

    /// Says that stored rows are not what this program wrote.
    pub(crate) fn corrupt(&self, message: impl Into<String>) -> Error {
        errors::corrupt(self.operation, self.url, message)
    }
}
