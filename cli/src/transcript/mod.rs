//! A session as a person reads it: rows say what stands where, the ledger has the text, a renderer writes it. Knows no
//! source and no terminal. What cannot be read is an item in its place.

mod html;
mod json;
mod markdown;
mod plan;
mod read;
mod rows;
mod terminal;
mod text;

pub(crate) use html::Html;
pub(crate) use json::Json;
pub(crate) use markdown::Markdown;
pub(crate) use plan::{Plan, plan};
pub(crate) use read::{Fetched, PayloadReader, write};
pub(crate) use terminal::Terminal;
pub(crate) use text::{block_text, one_line};

use burnlog_log::{Address, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;
use std::io;

/// Where an item stands in the log.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Place {
    /// The stream.
    pub(crate) stream: String,
    /// The record number in it.
    pub(crate) seq: u64,
    /// The event.
    pub(crate) address: Address,
    /// Where in the payload.
    pub(crate) start: u64,
    /// Its length there.
    pub(crate) bytes: u64,
}

/// One thing of a transcript. The field names are those of `show --format json`.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Item {
    /// Somebody in the place of the user begins to speak; what is said follows.
    Turn { ordinal: Option<u64>, class: String, timestamp: Option<Timestamp> },
    /// Somebody begins to speak of whom no row tells, such as in history copied from a session that is not there.
    Speaker { role: &'static str },
    /// A model begins to answer; what it says follows.
    Call {
        call: String,
        model: Option<String>,
        timestamp: Option<Timestamp>,
        input_tokens: Option<i64>,
        output_tokens: Option<i64>,
        cache_read_tokens: Option<i64>,
        cache_write_tokens: Option<i64>,
        reasoning_tokens: Option<i64>,
        stop_reason: Option<String>,
        complete: bool,
        sidechain: bool,
    },
    /// Text. The role is that of the record: `assistant`, `user`, `system`, `title` ….
    Text {
        role: &'static str,
        text: String,
        #[serde(flatten)]
        place: Place,
    },
    /// What a model thought.
    Thinking {
        text: String,
        #[serde(flatten)]
        place: Place,
    },
    /// A tool is asked for.
    ToolUse {
        tool_use: Option<String>,
        tool: Option<String>,
        timestamp: Option<Timestamp>,
        summary: String,
        input: Option<Box<RawValue>>,
        #[serde(flatten)]
        place: Place,
    },
    /// What it gave back.
    ToolResult {
        tool_use: Option<String>,
        tool: Option<String>,
        timestamp: Option<Timestamp>,
        error: Option<bool>,
        /// Whether it stands right behind its use here.
        #[serde(skip)]
        follows: bool,
        text: String,
        #[serde(flatten)]
        place: Place,
    },
    /// An image, by reference.
    Image {
        media_type: Option<String>,
        image_bytes: Option<u64>,
        tool_use: Option<String>,
        #[serde(flatten)]
        place: Place,
    },
    /// A block of any other kind.
    Block {
        kind: String,
        text: String,
        #[serde(flatten)]
        place: Place,
    },
    /// The context was replaced by a summary.
    Compaction { trigger: Option<String>, tokens_before: Option<i64>, timestamp: Option<Timestamp> },
    /// The agent says something that no model gave: an error of the API, a limit. Its text follows.
    Notice { error: Option<String>, status: Option<i64>, timestamp: Option<Timestamp> },
    /// A record that cannot be shown.
    Lost { reason: &'static str, message: String, stream: String, seq: u64, address: Address },
    /// History that was copied from another session begins.
    Copied { from_session: Option<String>, records: u64, shown: bool },
    /// It ends.
    CopiedEnd { from_session: Option<String> },
}

/// A subagent whose transcript is folded in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Agent {
    /// Its id.
    pub(crate) agent: Option<String>,
    /// The tool use that started it.
    pub(crate) tool_use: Option<String>,
    /// Its stream; of one whose records stand in its parent's stream absent.
    pub(crate) stream: Option<String>,
}

/// What was left out, by count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct LeftOut {
    /// Records that say again what was shown.
    pub(crate) repeated_records: u64,
    /// Older versions of records that were rewritten in place.
    pub(crate) older_versions: u64,
}

/// Writes a transcript in one form.
pub(crate) trait Renderer {
    /// The session: its fields are those of `sessions --json`.
    fn begin(&mut self, session: &crate::commands::SessionLine) -> io::Result<()>;
    /// The next item.
    fn item(&mut self, item: &Item) -> io::Result<()>;
    /// A subagent begins; its items follow.
    fn begin_agent(&mut self, agent: &Agent) -> io::Result<()>;
    /// It ends.
    fn end_agent(&mut self) -> io::Result<()>;
    /// Nothing follows.
    fn end(&mut self, left_out: &LeftOut) -> io::Result<()>;
}
