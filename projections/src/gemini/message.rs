//! The fields of a session, a line or a message that the folds ask for, and nothing else of it.

use crate::json::{Count, Flag, List, Spanned, Taken, Text, There, lenient};
use crate::text::key_text;
use burnlog_log::scan::Scanner;

lenient! {
    /// A session, a line of one, or a message: whichever fields are there.
    struct Record<'a> {
        session: Text<'a> = b"sessionId",
        started: Text<'a> = b"startTime",
        updated: Text<'a> = b"lastUpdated",
        summary: Spanned<Text<'a>> = b"summary",
        messages: List<Message<'a>> = b"messages",
        set: Option<Box<Update<'a>>> = b"$set",
        rewind: There = b"$rewindTo",
        kind: Text<'a> = b"type",
    }
}

lenient! {
    /// What a `$set` line changes.
    struct Update<'a> {
        updated: Text<'a> = b"lastUpdated",
        summary: Spanned<Text<'a>> = b"summary",
        messages: List<Message<'a>> = b"messages",
    }
}

lenient! {
    /// A message.
    struct Message<'a> {
        id: Text<'a> = b"id",
        kind: Text<'a> = b"type",
        timestamp: Text<'a> = b"timestamp",
        model: Text<'a> = b"model",
        content: Content<'a> = b"content",
        thoughts: List<Thought<'a>> = b"thoughts",
        tokens: Option<Usage<'a>> = b"tokens",
        tools: List<Tool<'a>> = b"toolCalls",
    }
}

lenient! {
    /// What a message used. Input includes what came from a cache and not what tools put in; thoughts stand outside output.
    struct Usage<'a> {
        input: Count = b"input",
        output: Count = b"output",
        cached: Count = b"cached",
        thoughts: Count = b"thoughts",
        tool: Count = b"tool",
    }
}

lenient! {
    /// A tool use with its result.
    struct Tool<'a> {
        id: Text<'a> = b"id",
        name: Text<'a> = b"name",
        status: Text<'a> = b"status",
        timestamp: Text<'a> = b"timestamp",
        args: Spanned<Option<Args<'a>>> = b"args",
        result: Spanned<Content<'a>> = b"result",
        shown: Spanned<There> = b"resultDisplay",
    }
}

lenient! {
    /// The fields of a tool's input that name a file.
    struct Args<'a> {
        file_path: Text<'a> = b"file_path",
        absolute_path: Text<'a> = b"absolute_path",
        path: Text<'a> = b"path",
    }
}

impl Tool<'_> {
    /// The name of the tool use: ids are told apart within their message alone.
    pub(crate) fn key(&self, message: &str) -> Option<String> {
        self.id.as_deref().map(|id| key_text(&format!("{message}/{id}")).into_owned())
    }
}

lenient! {
    /// A summary of what the model thought.
    struct Thought<'a> {
        subject: Spanned<Text<'a>> = b"subject",
        description: Spanned<Text<'a>> = b"description",
    }
}

/// What a message or a result holds: a text, a part, or a list of them.
#[derive(Debug, Default)]
pub(crate) struct Content<'a> {
    one: Option<Spanned<Piece<'a>>>,
    list: List<Spanned<Piece<'a>>>,
}

impl<'a> Taken<'a> for Content<'a> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        match from.peek()? {
            b'"' | b'{' => self.one.insert(Spanned::default()).take(from),
            _ => self.list.take(from),
        }
    }
}

impl<'a> Content<'a> {
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &Spanned<Piece<'a>>> {
        self.one.iter().chain(self.list.iter())
    }

    /// The length of all texts.
    pub(crate) fn characters(&self) -> i64 {
        self.pieces().filter_map(|piece| piece.value.text.0.or(piece.value.part.text.value.0)).sum()
    }

    pub(crate) fn images(&self) -> i64 {
        self.pieces().filter(|piece| piece.value.part.kind_of_file() == Some("image")).count() as i64
    }
}

/// A text or a part.
#[derive(Debug, Default)]
pub(crate) struct Piece<'a> {
    pub(crate) text: Characters,
    pub(crate) part: Part<'a>,
}

impl<'a> Taken<'a> for Piece<'a> {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? == b'"' {
            return self.text.take(from);
        }
        self.part.take(from)
    }
}

lenient! {
    /// A part of a message.
    struct Part<'a> {
        text: Spanned<Characters> = b"text",
        thought: Flag = b"thought",
        call: Option<Box<FunctionCall<'a>>> = b"functionCall",
        response: Option<Box<FunctionResponse<'a>>> = b"functionResponse",
        inline: Option<File<'a>> = b"inlineData",
        file: Option<File<'a>> = b"fileData",
    }
}

impl Part<'_> {
    /// What a part that is a file shows.
    pub(crate) fn kind_of_file(&self) -> Option<&'static str> {
        let file = self.inline.as_ref().or(self.file.as_ref())?;
        let is_image = file.mime.as_deref().is_some_and(|mime| mime.starts_with("image/"));
        Some(if is_image { "image" } else { "file" })
    }
}

lenient! {
    /// A tool use inside a message.
    struct FunctionCall<'a> {
        id: Text<'a> = b"id",
        args: Spanned<There> = b"args",
    }
}

lenient! {
    /// What a tool gave back inside a message.
    struct FunctionResponse<'a> {
        id: Text<'a> = b"id",
        response: Spanned<There> = b"response",
        parts: List<Spanned<Piece<'a>>> = b"parts",
    }
}

lenient! {
    /// A file, inside the part or elsewhere.
    struct File<'a> {
        mime: Text<'a> = b"mimeType",
    }
}

/// The length of a text in characters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Characters(pub(crate) Option<i64>);

impl<'a> Taken<'a> for Characters {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'"' {
            return from.skip();
        }
        self.0 = Some(from.string()?.characters() as i64);
        Some(())
    }
}
