//! The fields of a line that the folds ask for, and nothing else of it.

use super::user_text::Prose;
use crate::json::{Count, Flag, List, Span, Spanned, Taken, Text, Unread, lenient};
use burnlog_log::scan::Scanner;

lenient! {
    /// A line.
    struct Line<'a> {
        kind: Text<'a> = b"type",
        subtype: Text<'a> = b"subtype",
        uuid: Text<'a> = b"uuid",
        parent: Text<'a> = b"parentUuid",
        logical_parent: Text<'a> = b"logicalParentUuid",
        session: Text<'a> = b"sessionId",
        timestamp: Text<'a> = b"timestamp",
        cwd: Text<'a> = b"cwd",
        branch: Text<'a> = b"gitBranch",
        version: Text<'a> = b"version",
        sidechain: Flag = b"isSidechain",
        meta: Flag = b"isMeta",
        compact_summary: Flag = b"isCompactSummary",
        request: Text<'a> = b"requestId",
        agent: Text<'a> = b"agentId",
        forked_from: Origin<'a> = b"forkedFrom",
        continued_from: Text<'a> = b"continuedFromSessionId",
        fork_of: Text<'a> = b"forkSessionId",
        parent_tool_use: Text<'a> = b"parentToolUseID",
        result: Option<Box<ToolUseResult<'a>>> = b"toolUseResult",
        origin: Option<Box<Typed<'a>>> = b"origin",
        error: Text<'a> = b"error",
        error_status: Count = b"apiErrorStatus",
        compact: Option<Box<Compact<'a>>> = b"compactMetadata",
        message: Option<Message<'a>> = b"message",
        summary: Spanned<Text<'a>> = b"summary",
        content: Spanned<Text<'a>> = b"content",
        custom_title: Text<'a> = b"customTitle",
        ai_title: Text<'a> = b"aiTitle",
        attachment: Option<Box<Attachment<'a>>> = b"attachment",
        data: Option<Box<Progress<'a>>> = b"data",
    }
}

lenient! {
    /// Something with a type or kind.
    struct Typed<'a> {
        kind: Text<'a> = b"type",
        origin: Text<'a> = b"kind",
    }
}

lenient! {
    /// What the agent puts into the conversation beside messages.
    struct Attachment<'a> {
        kind: Text<'a> = b"type",
        mode: Text<'a> = b"commandMode",
        prompt: Content<'a> = b"prompt",
        origin: Option<Box<Typed<'a>>> = b"origin",
    }
}

lenient! {
    /// What a tool's result says of the agent that it started.
    struct ToolUseResult<'a> {
        agent: Text<'a> = b"agentId",
        resumed_agent: Text<'a> = b"resumedAgentId",
    }
}

lenient! {
    /// The record that a session was forked from.
    struct OriginRecord<'a> {
        session: Text<'a> = b"sessionId",
        record: Text<'a> = b"messageUuid",
    }
}

/// Where a session was forked from; it is there also when it is of another shape.
#[derive(Debug, Default)]
pub(crate) struct Origin<'a> {
    pub(crate) is_there: bool,
    pub(crate) at: OriginRecord<'a>,
}

impl<'a> Taken<'a> for Origin<'a> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        self.is_there = from.peek()? != b'n';
        if from.peek()? == b'"' {
            return self.at.session.take(from);
        }
        self.at.take(from)
    }
}

lenient! {
    /// What a `compact_boundary` says of the compaction.
    struct Compact<'a> {
        trigger: Text<'a> = b"trigger",
        tokens_before: Count = b"preTokens",
    }
}

lenient! {
    /// The `data` of a `progress` line.
    struct Progress<'a> {
        kind: Text<'a> = b"type",
        agent: Text<'a> = b"agentId",
        line: Option<Box<ProgressLine<'a>>> = b"message",
    }
}

lenient! {
    /// A subagent's line inside a `progress` line.
    struct ProgressLine<'a> {
        kind: Text<'a> = b"type",
        timestamp: Text<'a> = b"timestamp",
        request: Text<'a> = b"requestId",
        message: Option<Box<Message<'a>>> = b"message",
    }
}

lenient! {
    /// A message of the API.
    struct Message<'a> {
        id: Text<'a> = b"id",
        model: Text<'a> = b"model",
        content: Content<'a> = b"content",
        stop_reason: Text<'a> = b"stop_reason",
        usage: Usage<'a> = b"usage",
    }
}

lenient! {
    /// What a call used, as far as this line knows.
    struct Usage<'a> {
        input: Count = b"input_tokens",
        output: Count = b"output_tokens",
        cache_read: Count = b"cache_read_input_tokens",
        cache_write: Count = b"cache_creation_input_tokens",
        cache_writes: CacheWrites<'a> = b"cache_creation",
        service_tier: Text<'a> = b"service_tier",
        speed: Text<'a> = b"speed",
    }
}

lenient! {
    /// Tokens written to caches, by how long they are kept.
    struct CacheWrites<'a> {
        five_minutes: Count = b"ephemeral_5m_input_tokens",
        an_hour: Count = b"ephemeral_1h_input_tokens",
    }
}

lenient! {
    /// A block of a message.
    struct Block<'a> {
        kind: Text<'a> = b"type",
        id: Text<'a> = b"id",
        name: Text<'a> = b"name",
        input: Spanned<Input<'a>> = b"input",
        tool_use: Text<'a> = b"tool_use_id",
        is_error: Flag = b"is_error",
        result: Spanned<ResultText> = b"content",
        text: Spanned<Prose> = b"text",
        thinking: Spanned<Unread> = b"thinking",
    }
}

lenient! {
    /// The fields of a tool's input that name a file.
    struct Input<'a> {
        file_path: Text<'a> = b"file_path",
        notebook_path: Text<'a> = b"notebook_path",
        path: Text<'a> = b"path",
    }
}

/// The content of a message: text alone, or blocks.
#[derive(Debug, Default)]
pub(crate) struct Content<'a> {
    pub(crate) text: Option<Spanned<Prose>>,
    pub(crate) blocks: List<Spanned<Block<'a>>>,
}

impl<'a> Taken<'a> for Content<'a> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? == b'"' {
            return self.text.insert(Spanned::default()).take(from);
        }
        self.blocks.take(from)
    }
}

/// What a tool gave back: a text, or blocks.
#[derive(Debug, Clone, Default)]
pub(crate) struct ResultText {
    /// The length of the text in bytes.
    pub(crate) bytes: i64,
    /// Where images are.
    pub(crate) images: Vec<Span>,
}

impl<'a> Taken<'a> for ResultText {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? == b'"' {
            self.bytes = from.string()?.bytes() as i64;
            return Some(());
        }
        let mut blocks = List::<Spanned<ResultBlock<'a>>>::default();
        blocks.take(from)?;
        self.bytes = blocks.iter().map(|block| block.value.text.0).sum();
        let images = blocks.iter().filter(|block| block.value.kind.as_deref() == Some("image"));
        self.images = images.map(|block| block.span).collect();
        Some(())
    }
}

lenient! {
    /// A block of what a tool gave back; images have no text.
    struct ResultBlock<'a> {
        kind: Text<'a> = b"type",
        text: TextBytes = b"text",
    }
}

/// The length of a text in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct TextBytes(i64);

impl<'a> Taken<'a> for TextBytes {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'"' {
            return from.skip();
        }
        self.0 = from.string()?.bytes() as i64;
        Some(())
    }
}
