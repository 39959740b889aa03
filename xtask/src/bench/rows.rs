//! The database half of the raw limits: records parsed into typed, borrowed fields, and kept in three tables by prepared upserts in one
//! transaction. Only as much as a fold cannot do without.

use anyhow::{Context, Result};
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::path::Path;

/// A string, borrowed where it has no escapes.
#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The fields of a line that folds need; everything else is skipped.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(borrow)]
    uuid: Option<Text<'a>>,
    #[serde(borrow)]
    parent_uuid: Option<Text<'a>>,
    #[serde(borrow)]
    session_id: Option<Text<'a>>,
    #[serde(borrow)]
    timestamp: Option<Text<'a>>,
    #[serde(borrow)]
    cwd: Option<Text<'a>>,
    #[serde(borrow)]
    git_branch: Option<Text<'a>>,
    #[serde(borrow)]
    message: Option<Message<'a>>,
}

#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    model: Option<Text<'a>>,
    #[serde(borrow)]
    stop_reason: Option<Text<'a>>,
    usage: Option<Usage>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Usage {
    #[serde(rename = "input_tokens")]
    input: Option<u64>,
    #[serde(rename = "output_tokens")]
    output: Option<u64>,
    #[serde(rename = "cache_read_input_tokens")]
    cache_read: Option<u64>,
    #[serde(rename = "cache_creation_input_tokens")]
    cache_write: Option<u64>,
}

fn text<'a>(field: Option<&'a Text<'_>>) -> Option<&'a str> {
    field.map(|Text(text)| &**text)
}

/// The tables, with one transaction open until [`Rows::commit`].
pub(super) struct Rows {
    connection: Connection,
}

impl Rows {
    pub(super) fn create(path: &Path) -> Result<Self> {
        let connection = Connection::open(path).with_context(|| format!("create {}", path.display()))?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32768;
             CREATE TABLE records (stream INTEGER, seq INTEGER, address BLOB, kind TEXT, uuid TEXT,
                                   PRIMARY KEY (stream, seq)) WITHOUT ROWID;
             CREATE TABLE calls (id TEXT PRIMARY KEY, session TEXT, at TEXT, model TEXT, stop TEXT, cwd TEXT, branch TEXT,
                                 input INTEGER, output INTEGER, cache_read INTEGER, cache_write INTEGER);
             CREATE TABLE prompts (uuid TEXT PRIMARY KEY, session TEXT, at TEXT, parent TEXT, bytes INTEGER);
             BEGIN;",
        )?;
        connection.set_prepared_statement_cache_capacity(8);
        Ok(Self { connection })
    }

    /// Keeps what a line says; of an unreadable one its place alone.
    pub(super) fn store(
        &mut self,
        stream: i64,
        seq: i64,
        address: &[u8; 32],
        line: Option<&Line<'_>>,
    ) -> Result<()> {
        let kind = line.and_then(|line| text(line.kind.as_ref()));
        let uuid = line.and_then(|line| text(line.uuid.as_ref()));
        self.connection
            .prepare_cached("INSERT INTO records VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![stream, seq, address, kind, uuid])?;
        let Some((line, message)) = line.and_then(|line| Some((line, line.message.as_ref()?))) else {
            return Ok(());
        };
        let session = text(line.session_id.as_ref());
        let at = text(line.timestamp.as_ref());
        if let (Some(Text(id)), Some(usage)) = (&message.id, &message.usage) {
            self.connection
                .prepare_cached(
                    "INSERT INTO calls VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
                     ON CONFLICT (id) DO UPDATE SET stop = excluded.stop, output = excluded.output, at = excluded.at
                     WHERE (excluded.stop IS NOT NULL, excluded.output) > (stop IS NOT NULL, output)",
                )?
                .execute(params![
                    id,
                    session,
                    at,
                    text(message.model.as_ref()),
                    text(message.stop_reason.as_ref()),
                    text(line.cwd.as_ref()),
                    text(line.git_branch.as_ref()),
                    usage.input,
                    usage.output,
                    usage.cache_read,
                    usage.cache_write,
                ])?;
        } else {
            let bytes = message.content.map(|content| content.get().len() as i64);
            self.connection
                .prepare_cached("INSERT OR IGNORE INTO prompts VALUES (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![uuid, session, at, text(line.parent_uuid.as_ref()), bytes])?;
        }
        Ok(())
    }

    pub(super) fn commit(self) -> Result<Self> {
        self.connection.execute_batch("COMMIT")?;
        Ok(self)
    }

    /// Reads every call in the order of time and returns their number.
    pub(super) fn read_back(&mut self) -> Result<u64> {
        let mut statement = self.connection.prepare(
            "SELECT id, session, at, model, stop, cwd, branch, input, output, cache_read, cache_write FROM calls ORDER BY at",
        )?;
        let mut rows = statement.query([])?;
        let mut calls = 0;
        while let Some(row) = rows.next()? {
            for column in 0..11 {
                std::hint::black_box(row.get_ref(column)?);
            }
            calls += 1;
        }
        Ok(calls)
    }
}
