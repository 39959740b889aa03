//! The fields of a rollout's line that the folds ask for, and nothing else of it.

use crate::json::{Count, Flag, List, Span, Spanned, Taken, Text, There, lenient};
use burnlog_log::scan::{RawText, Scanner};

lenient! {
    /// A line.
    struct Line<'a> {
        timestamp: Text<'a> = b"timestamp",
        kind: Text<'a> = b"type",
        payload: Spanned<Option<Box<Payload<'a>>>> = b"payload",
    }
}

lenient! {
    /// The payload of a line of any type.
    struct Payload<'a> {
        kind: Text<'a> = b"type",
        id: Text<'a> = b"id",
        session: Text<'a> = b"session_id",
        forked_from: Text<'a> = b"forked_from_id",
        created: Text<'a> = b"timestamp",
        cwd: Text<'a> = b"cwd",
        version: Text<'a> = b"cli_version",
        source: Origin<'a> = b"source",
        git: Option<Git<'a>> = b"git",
        turn: Text<'a> = b"turn_id",
        model: Text<'a> = b"model",
        info: Option<Snapshot<'a>> = b"info",
        role: Text<'a> = b"role",
        content: List<Spanned<Block<'a>>> = b"content",
        summary: List<Spanned<Block<'a>>> = b"summary",
        message: Spanned<Raw<'a>> = b"message",
        images: List<There> = b"images",
        local_images: List<There> = b"local_images",
        name: Text<'a> = b"name",
        call: Text<'a> = b"call_id",
        arguments: Spanned<There> = b"arguments",
        input: Spanned<Raw<'a>> = b"input",
        action: Spanned<There> = b"action",
        revised_prompt: Spanned<Raw<'a>> = b"revised_prompt",
        output: Spanned<Output<'a>> = b"output",
        tools: Spanned<There> = b"tools",
        exit_code: Count = b"exit_code",
        success: Flag = b"success",
        result: McpResult = b"result",
    }
}

lenient! {
    /// What git said when the session began.
    struct Git<'a> {
        branch: Text<'a> = b"branch",
    }
}

lenient! {
    /// The counters of a `token_count`.
    struct Snapshot<'a> {
        total: Option<Usage<'a>> = b"total_token_usage",
        last: Option<Usage<'a>> = b"last_token_usage",
    }
}

lenient! {
    /// Tokens since the counter began, or of one request.
    struct Usage<'a> {
        input: Count = b"input_tokens",
        cached: Count = b"cached_input_tokens",
        output: Count = b"output_tokens",
        reasoning: Count = b"reasoning_output_tokens",
        total: Count = b"total_tokens",
    }
}

lenient! {
    /// A block of a message, of reasoning or of what a tool gave back.
    struct Block<'a> {
        kind: Text<'a> = b"type",
        text: Spanned<Raw<'a>> = b"text",
    }
}

impl Block<'_> {
    pub(crate) fn is_image(&self) -> bool {
        self.kind.as_deref() == Some("input_image")
    }
}

/// A text that is looked at later, if at all.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Raw<'a>(pub(crate) Option<RawText<'a>>);

impl<'a> Taken<'a> for Raw<'a> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'"' {
            return from.skip();
        }
        self.0 = Some(from.string()?);
        Some(())
    }
}

impl Spanned<Raw<'_>> {
    /// Where the value stands if it is a text.
    pub(crate) fn text_span(&self) -> Span {
        if self.value.0.is_some() { self.span } else { Span::default() }
    }
}

/// Where a session comes from: a word for one that a person began, an object for one that another session began.
#[derive(Debug, Default)]
pub(crate) struct Origin<'a> {
    pub(crate) subagent: Option<Subagent<'a>>,
}

impl<'a> Taken<'a> for Origin<'a> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        let mut object = Option::<OriginObject<'a>>::default();
        Taken::take(&mut object, from)?;
        self.subagent = object.map(|object| object.subagent).filter(|subagent| subagent.is_one);
        Some(())
    }
}

lenient! {
    /// The object form of an origin.
    struct OriginObject<'a> {
        subagent: Subagent<'a> = b"subagent",
    }
}

/// Which subagent a session is: a word (`review`, `compact` …), or who spawned it.
#[derive(Debug, Default)]
pub(crate) struct Subagent<'a> {
    is_one: bool,
    word: Text<'a>,
    spawn: Option<SpawnObject<'a>>,
}

impl<'a> Taken<'a> for Subagent<'a> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        self.is_one = true;
        match from.peek()? {
            b'"' => self.word.take(from),
            _ => Taken::take(&mut self.spawn, from),
        }
    }
}

impl Subagent<'_> {
    /// The session that spawned it.
    pub(crate) fn parent(&self) -> Option<&str> {
        self.spawn.as_ref().and_then(|object| object.spawn.as_ref()).and_then(|spawn| spawn.parent.as_deref())
    }

    /// Its name, role or kind.
    pub(crate) fn name(&self) -> Option<&str> {
        let spawn = self.spawn.as_ref().and_then(|object| object.spawn.as_ref());
        let spawned = spawn.and_then(|spawn| spawn.nickname.as_deref().or(spawn.role.as_deref()));
        let other = self.spawn.as_ref().and_then(|object| object.other.as_deref());
        spawned.or(other).or(self.word.as_deref())
    }
}

lenient! {
    /// The object form of a subagent.
    struct SpawnObject<'a> {
        spawn: Option<Spawn<'a>> = b"thread_spawn",
        other: Text<'a> = b"other",
    }
}

lenient! {
    /// Who spawned a subagent.
    struct Spawn<'a> {
        parent: Text<'a> = b"parent_thread_id",
        nickname: Text<'a> = b"agent_nickname",
        role: Text<'a> = b"agent_role",
    }
}

/// What a tool gave back: a text, blocks, or an object around one of them.
#[derive(Debug, Default)]
pub(crate) struct Output<'a> {
    pub(crate) bytes: Option<i64>,
    pub(crate) text: Option<RawText<'a>>,
    pub(crate) success: Option<bool>,
    /// Where the text or the blocks stand inside an object.
    pub(crate) content: Span,
    /// Where images are.
    pub(crate) images: Vec<Span>,
}

impl<'a> Taken<'a> for Output<'a> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'{' {
            return self.take_content(from);
        }
        let mut object = Option::<OutputObject<'a>>::default();
        Taken::take(&mut object, from)?;
        if let Some(object) = object {
            let Spanned { value, span } = object.content;
            let content = if value.0.bytes.is_some() { span } else { Span::default() };
            *self = Self { success: object.success.0, content, ..value.0 };
        }
        Some(())
    }
}

impl<'a> Output<'a> {
    fn take_content(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? == b'"' {
            let text = from.string()?;
            self.bytes = Some(text.bytes() as i64);
            self.text = Some(text);
            return Some(());
        }
        let is_list = from.peek()? == b'[';
        let mut blocks = List::<Spanned<Block<'a>>>::default();
        blocks.take(from)?;
        let texts = || blocks.iter().filter_map(|block| block.value.text.value.0);
        self.text = texts().next();
        self.bytes = is_list.then(|| texts().map(|text| text.bytes() as i64).sum());
        self.images = blocks.iter().filter(|block| block.value.is_image()).map(|block| block.span).collect();
        Some(())
    }
}

lenient! {
    /// The object form of what a tool gave back.
    struct OutputObject<'a> {
        content: Spanned<OutputContent<'a>> = b"content",
        success: Flag = b"success",
    }
}

/// The content inside the object form: a text or blocks.
#[derive(Debug, Default)]
pub(crate) struct OutputContent<'a>(Output<'a>);

impl<'a> Taken<'a> for OutputContent<'a> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        self.0.take_content(from)
    }
}

/// Whether the result of an MCP tool is an error: `{"Err":…}`, or `{"Ok":{"isError":true …}}`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct McpResult {
    pub(crate) is_error: bool,
}

impl<'a> Taken<'a> for McpResult {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        let mut object = Option::<McpObject<'a>>::default();
        Taken::take(&mut object, from)?;
        self.is_error = object
            .is_some_and(|object| object.error.0 || object.ok.is_some_and(|ok| ok.is_error.0 == Some(true)));
        Some(())
    }
}

lenient! {
    /// The object form of an MCP result.
    struct McpObject<'a> {
        error: There = b"Err",
        ok: Option<McpOk<'a>> = b"Ok",
    }
}

lenient! {
    /// An answer of an MCP server, which may still say that it failed.
    struct McpOk<'a> {
        is_error: Flag = b"isError",
    }
}
