//! The fields of a session, message or part that the folds ask for. An object has one of three forms: a file of the
//! storage tree, a row of the database (id columns around `data`), or an element of an export.

use crate::json::{Count, Flag, List, Span, Spanned, Taken, Text, lenient};
use burnlog_log::scan::{RawText, Scanner};

lenient! {
    /// A file of the tree, or a row of the database: its columns, and in `data` what the file would hold.
    struct Object<'a> {
        table: Text<'a> = b"table",
        row_session: Text<'a> = b"session_id",
        row_message: Text<'a> = b"message_id",
        row_parent: Text<'a> = b"parent_id",
        row_created: Count = b"time_created",
        row_updated: Count = b"time_updated",
        data: Spanned<Option<Box<Fields<'a>>>> = b"data",
        id: Text<'a> = b"id",
        session: Text<'a> = b"sessionID",
        message: Text<'a> = b"messageID",
        parent: Text<'a> = b"parentID",
        directory: Text<'a> = b"directory",
        title: Text<'a> = b"title",
        version: Text<'a> = b"version",
        kind: Text<'a> = b"type",
        role: Text<'a> = b"role",
        model: Text<'a> = b"modelID",
        provider: Text<'a> = b"providerID",
        agent: Text<'a> = b"agent",
        mode: Text<'a> = b"mode",
        finish: Text<'a> = b"finish",
        tokens: Option<Tokens<'a>> = b"tokens",
        time: Option<Time<'a>> = b"time",
        path: Option<Path<'a>> = b"path",
        error: Option<Failure<'a>> = b"error",
        text: Spanned<Length> = b"text",
        synthetic: Flag = b"synthetic",
        tool: Text<'a> = b"tool",
        state: Option<Box<State<'a>>> = b"state",
        auto: Flag = b"auto",
        mime: Text<'a> = b"mime",
        info: Option<Box<Fields<'a>>> = b"info",
        messages: List<ExportMessage<'a>> = b"messages",
    }
}

lenient! {
    /// The `data` of a row, or an object of an export.
    struct Fields<'a> {
        id: Text<'a> = b"id",
        session: Text<'a> = b"sessionID",
        message: Text<'a> = b"messageID",
        parent: Text<'a> = b"parentID",
        directory: Text<'a> = b"directory",
        title: Text<'a> = b"title",
        version: Text<'a> = b"version",
        kind: Text<'a> = b"type",
        role: Text<'a> = b"role",
        model: Text<'a> = b"modelID",
        provider: Text<'a> = b"providerID",
        agent: Text<'a> = b"agent",
        mode: Text<'a> = b"mode",
        finish: Text<'a> = b"finish",
        tokens: Option<Tokens<'a>> = b"tokens",
        time: Option<Time<'a>> = b"time",
        path: Option<Path<'a>> = b"path",
        error: Option<Failure<'a>> = b"error",
        text: Spanned<Length> = b"text",
        synthetic: Flag = b"synthetic",
        tool: Text<'a> = b"tool",
        state: Option<Box<State<'a>>> = b"state",
        auto: Flag = b"auto",
        mime: Text<'a> = b"mime",
    }
}

impl<'a> Object<'a> {
    /// Splits what the form has from what the object is. Columns fill in for fields that rows keep outside `data`, and
    /// the object stands where `data` stands; else where the `whole` does.
    pub(crate) fn into_fields(self, whole: Span) -> (Form, Spanned<Fields<'a>>, List<ExportMessage<'a>>) {
        let is_row = self.table.as_deref().is_some();
        let form = Form {
            is_export: self.info.is_some(),
            created: self.row_created.value,
            updated: self.row_updated.value,
        };
        if let Some(info) = self.info {
            return (form, Spanned { value: *info, span: whole }, self.messages);
        }
        let own = Fields {
            id: self.id,
            session: self.session,
            message: self.message,
            parent: self.parent,
            directory: self.directory,
            title: self.title,
            version: self.version,
            kind: self.kind,
            role: self.role,
            model: self.model,
            provider: self.provider,
            agent: self.agent,
            mode: self.mode,
            finish: self.finish,
            tokens: self.tokens,
            time: self.time,
            path: self.path,
            error: self.error,
            text: self.text,
            synthetic: self.synthetic,
            tool: self.tool,
            state: self.state,
            auto: self.auto,
            mime: self.mime,
            ..Fields::default()
        };
        let (value, span) = match self.data.value {
            Some(data) if is_row => {
                let (session, message) = (self.row_session, self.row_message);
                (Fields { id: own.id, session, message, ..*data }, self.data.span)
            }
            _ if is_row => (Fields { parent: self.row_parent, ..own }, whole),
            _ => (own, whole),
        };
        (form, Spanned { value, span }, self.messages)
    }
}

/// In which form an object came, and what rows say of its times.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Form {
    pub(crate) is_export: bool,
    pub(crate) created: Option<i64>,
    pub(crate) updated: Option<i64>,
}

lenient! {
    /// A message of an export with its parts.
    struct ExportMessage<'a> {
        info: Fields<'a> = b"info",
        parts: List<Spanned<Fields<'a>>> = b"parts",
    }
}

lenient! {
    /// What a message or a step used. Input is what came from no cache.
    struct Tokens<'a> {
        input: Count = b"input",
        output: Count = b"output",
        reasoning: Count = b"reasoning",
        cache: Cache<'a> = b"cache",
    }
}

lenient! {
    /// Tokens read from and written to caches.
    struct Cache<'a> {
        read: Count = b"read",
        write: Count = b"write",
    }
}

lenient! {
    /// Instants in milliseconds since 1970.
    struct Time<'a> {
        created: Count = b"created",
        updated: Count = b"updated",
        completed: Count = b"completed",
        start: Count = b"start",
        end: Count = b"end",
        compacted: Count = b"compacted",
    }
}

impl Time<'_> {
    /// The latest of them: the clock by which versions of an object are told apart.
    pub(crate) fn latest(&self) -> Option<i64> {
        let all = [self.created, self.updated, self.completed, self.start, self.end, self.compacted];
        all.iter().filter_map(|count| count.value).max()
    }
}

lenient! {
    /// Where a message was made.
    struct Path<'a> {
        cwd: Text<'a> = b"cwd",
    }
}

lenient! {
    /// Why a message failed.
    struct Failure<'a> {
        name: Text<'a> = b"name",
        data: Option<Reply<'a>> = b"data",
    }
}

lenient! {
    /// More on why a message failed.
    struct Reply<'a> {
        status: Count = b"statusCode",
        message: Spanned<Length> = b"message",
    }
}

lenient! {
    /// How far a tool use is.
    struct State<'a> {
        status: Text<'a> = b"status",
        input: Spanned<Option<Input<'a>>> = b"input",
        output: Spanned<Length> = b"output",
        error: Spanned<Length> = b"error",
        attachments: List<Spanned<Attachment<'a>>> = b"attachments",
        time: Option<Time<'a>> = b"time",
    }
}

lenient! {
    /// A file that a tool gave back.
    struct Attachment<'a> {
        mime: Text<'a> = b"mime",
    }
}

lenient! {
    /// The fields of a tool's input that name a file.
    struct Input<'a> {
        file_path: Text<'a> = b"filePath",
        path: Text<'a> = b"path",
    }
}

/// A text of which only the length counts.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Length(Option<usize>, Option<usize>);

impl Length {
    pub(crate) fn bytes(self) -> Option<i64> {
        self.0.map(|bytes| bytes as i64)
    }

    pub(crate) fn characters(self) -> i64 {
        self.1.map_or(0, |characters| characters as i64)
    }
}

impl Spanned<Length> {
    /// Where the value stands if it is a text.
    pub(crate) fn text_span(&self) -> Span {
        if self.value.0.is_some() { self.span } else { Span::default() }
    }
}

impl<'a> Taken<'a> for Length {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'"' {
            return from.skip();
        }
        let text: RawText<'a> = from.string()?;
        *self = Self(Some(text.bytes()), Some(text.characters()));
        Some(())
    }
}
