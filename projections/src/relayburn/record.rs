//! The fields of relayburn's records that the folds look at, whichever kind a record is.

use crate::json::{Count, Flag, List, Spanned, Text, Unread, lenient};

lenient! {
    /// A line of the ledger, with a record in it; or a record of content, which has none.
    struct Line<'a> {
        kind: Text<'a> = b"kind",
        record: Option<Box<Record<'a>>> = b"record",
        role: Text<'a> = b"role",
        message: Text<'a> = b"messageId",
        ts: Text<'a> = b"ts",
        text: Spanned<Text<'a>> = b"text",
        tool_use: Option<Box<ContentToolUse<'a>>> = b"toolUse",
        tool_result: Option<Box<ContentToolResult<'a>>> = b"toolResult",
    }
}

lenient! {
    /// A record: a turn, a user turn, a compaction, a relationship or the result of a tool.
    struct Record<'a> {
        source: Text<'a> = b"source",
        path: Text<'a> = b"sessionPath",
        message: Text<'a> = b"messageId",
        ts: Text<'a> = b"ts",
        model: Text<'a> = b"model",
        project: Text<'a> = b"project",
        usage: Option<Usage<'a>> = b"usage",
        tools: List<Tool<'a>> = b"toolCalls",
        subagent: Option<Box<Subagent<'a>>> = b"subagent",
        stop_reason: Text<'a> = b"stopReason",
        fidelity: Option<Box<Fidelity<'a>>> = b"fidelity",
        user: Text<'a> = b"userUuid",
        blocks: List<Block<'a>> = b"blocks",
        tool_use: Text<'a> = b"toolUseId",
        status: Text<'a> = b"status",
        is_error: Flag = b"isError",
        content_length: Count = b"contentLength",
        output_bytes: Count = b"outputBytes",
        relationship: Text<'a> = b"relationshipType",
        related: Text<'a> = b"relatedSessionId",
        agent: Text<'a> = b"agentId",
        parent_tool_use: Text<'a> = b"parentToolUseId",
        tokens_before: Count = b"tokensBeforeCompact",
    }
}

lenient! {
    /// What a turn used. What was not told is 0 here; newer versions say so beside it.
    struct Usage<'a> {
        input: Count = b"input",
        output: Count = b"output",
        reasoning: Count = b"reasoning",
        cache_read: Count = b"cacheRead",
        cache_write_5m: Count = b"cacheCreate5m",
        cache_write_1h: Count = b"cacheCreate1h",
    }
}

lenient! {
    /// A tool use of a turn.
    struct Tool<'a> {
        id: Text<'a> = b"id",
        name: Text<'a> = b"name",
        target: Text<'a> = b"target",
        is_error: Flag = b"isError",
    }
}

lenient! {
    /// The subagent that made a turn.
    struct Subagent<'a> {
        sidechain: Flag = b"isSidechain",
        agent: Text<'a> = b"agentId",
    }
}

lenient! {
    /// How well a turn is known.
    struct Fidelity<'a> {
        coverage: Option<Coverage<'a>> = b"coverage",
    }
}

lenient! {
    /// Which numbers of the usage were told.
    struct Coverage<'a> {
        input: Flag = b"hasInputTokens",
        output: Flag = b"hasOutputTokens",
        reasoning: Flag = b"hasReasoningTokens",
        cache_read: Flag = b"hasCacheReadTokens",
        cache_write: Flag = b"hasCacheCreateTokens",
    }
}

lenient! {
    /// A block of a user turn.
    struct Block<'a> {
        kind: Text<'a> = b"kind",
        bytes: Count = b"byteLen",
    }
}

lenient! {
    /// A tool use as content.
    struct ContentToolUse<'a> {
        id: Text<'a> = b"id",
        input: Spanned<Unread> = b"input",
    }
}

lenient! {
    /// What a tool gave back, as content.
    struct ContentToolResult<'a> {
        tool_use: Text<'a> = b"toolUseId",
        content: Spanned<Unread> = b"content",
    }
}
