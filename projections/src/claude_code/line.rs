//! The fields of a line that the folds ask for, and nothing else of it.

use super::user_text::Prose;
use crate::json::{Count, Flag, List, Taken, Text, There, lenient};
use serde::de::{MapAccess, SeqAccess};

lenient! {
    /// A line.
    struct Line<'a> {
        kind: Text<'a> = "type",
        subtype: Text<'a> = "subtype",
        uuid: Text<'a> = "uuid",
        session: Text<'a> = "sessionId",
        timestamp: Text<'a> = "timestamp",
        cwd: Text<'a> = "cwd",
        branch: Text<'a> = "gitBranch",
        version: Text<'a> = "version",
        sidechain: Flag = "isSidechain",
        meta: Flag = "isMeta",
        compact_summary: Flag = "isCompactSummary",
        request: Text<'a> = "requestId",
        agent: Text<'a> = "agentId",
        forked_from: There = "forkedFrom",
        origin: Option<Box<Typed<'a>>> = "origin",
        error: Text<'a> = "error",
        error_status: Count = "apiErrorStatus",
        compact: Option<Box<Compact<'a>>> = "compactMetadata",
        message: Option<Box<Message<'a>>> = "message",
        summary: Text<'a> = "summary",
        custom_title: Text<'a> = "customTitle",
        ai_title: Text<'a> = "aiTitle",
        attachment: Option<Box<Typed<'a>>> = "attachment",
        data: Option<Box<Progress<'a>>> = "data",
    }
}

lenient! {
    /// Something with a type or kind.
    struct Typed<'a> {
        kind: Text<'a> = "type",
        origin: Text<'a> = "kind",
    }
}

lenient! {
    /// What a `compact_boundary` says of the compaction.
    struct Compact<'a> {
        trigger: Text<'a> = "trigger",
        tokens_before: Count = "preTokens",
    }
}

lenient! {
    /// The `data` of a `progress` line.
    struct Progress<'a> {
        kind: Text<'a> = "type",
        agent: Text<'a> = "agentId",
        line: Option<Box<ProgressLine<'a>>> = "message",
    }
}

lenient! {
    /// A subagent's line inside a `progress` line.
    struct ProgressLine<'a> {
        kind: Text<'a> = "type",
        timestamp: Text<'a> = "timestamp",
        request: Text<'a> = "requestId",
        message: Option<Box<Message<'a>>> = "message",
    }
}

lenient! {
    /// A message of the API.
    struct Message<'a> {
        id: Text<'a> = "id",
        model: Text<'a> = "model",
        content: Content<'a> = "content",
        stop_reason: Text<'a> = "stop_reason",
        usage: Option<Box<Usage<'a>>> = "usage",
    }
}

lenient! {
    /// What a call used, as far as this line knows.
    struct Usage<'a> {
        input: Count = "input_tokens",
        output: Count = "output_tokens",
        cache_read: Count = "cache_read_input_tokens",
        cache_write: Count = "cache_creation_input_tokens",
        cache_writes: Option<Box<CacheWrites<'a>>> = "cache_creation",
        service_tier: Text<'a> = "service_tier",
        speed: Text<'a> = "speed",
    }
}

lenient! {
    /// Tokens written to caches, by how long they are kept.
    struct CacheWrites<'a> {
        five_minutes: Count = "ephemeral_5m_input_tokens",
        an_hour: Count = "ephemeral_1h_input_tokens",
    }
}

lenient! {
    /// A block of a message.
    struct Block<'a> {
        kind: Text<'a> = "type",
        id: Text<'a> = "id",
        name: Text<'a> = "name",
        input: Option<Box<Input<'a>>> = "input",
        tool_use: Text<'a> = "tool_use_id",
        is_error: Flag = "is_error",
        result: ResultText = "content",
        text: Prose = "text",
    }
}

lenient! {
    /// The fields of a tool's input that name a file.
    struct Input<'a> {
        file_path: Text<'a> = "file_path",
        notebook_path: Text<'a> = "notebook_path",
        path: Text<'a> = "path",
    }
}

/// The content of a message: text alone, or blocks.
#[derive(Debug, Default)]
pub(crate) struct Content<'a> {
    pub(crate) text: Option<Prose>,
    pub(crate) blocks: Vec<Block<'a>>,
}

impl<'de> Taken<'de> for Content<'de> {
    fn of_str(text: &str) -> Self {
        Self { text: Some(Prose::of_str(text)), blocks: Vec::new() }
    }

    fn of_seq<A: SeqAccess<'de>>(seq: A) -> Result<Self, A::Error> {
        List::of_seq(seq).map(|List(blocks)| Self { text: None, blocks })
    }
}

/// The length in bytes of the text that a tool gave back.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ResultText(pub(crate) i64);

impl<'de> Taken<'de> for ResultText {
    fn of_str(text: &str) -> Self {
        Self(text.len() as i64)
    }

    fn of_seq<A: SeqAccess<'de>>(seq: A) -> Result<Self, A::Error> {
        let List(blocks) = List::<ResultBlock<'de>>::of_seq(seq)?;
        Ok(Self(blocks.iter().map(|block| block.text.0).sum()))
    }

    fn of_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        ResultBlock::of_map(map).map(|block| Self(block.text.0))
    }
}

lenient! {
    /// A block of what a tool gave back; images have no text.
    struct ResultBlock<'a> {
        text: TextBytes = "text",
    }
}

/// The length of a text in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TextBytes(pub(crate) i64);

impl Taken<'_> for TextBytes {
    fn of_str(text: &str) -> Self {
        Self(text.len() as i64)
    }
}
