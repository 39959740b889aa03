//! Gemini CLI: what a session file means: one object that is rewritten in place, or, in newer versions, lines of which a later one
//! with the same message id replaces an earlier one. A message that was rewound stays a call: it was paid for. The whole
//! of what the folds know of this source is in this file.

use crate::calls::Call;
use crate::json::{self, Count, List, Taken, Text, There, lenient};
use crate::notices::Notice;
use crate::records::{RecordClass, fingerprint};
use crate::resolved::Resolved;
use crate::scan::Scanner;
use crate::sources::{Facts, Reading, SourceFold, SourceRecord};
use crate::streams::Stream;
use crate::text::{Tokens, instant_of, key_text, plain_text};
use crate::tool_uses::ToolUse;
use crate::user_turns::UserTurn;
use burnlog_log::Timestamp;

pub(crate) const FOLD: SourceFold = SourceFold {
    name: "gemini-cli",
    rewrites: true,
    locate,
    fold,
    resolve: |_| Resolved::default(),
    family: |_| None,
};

lenient! {
    /// A session, a line of one, or a message: whichever fields are there.
    struct Record<'a> {
        session: Text<'a> = b"sessionId",
        started: Text<'a> = b"startTime",
        updated: Text<'a> = b"lastUpdated",
        summary: Text<'a> = b"summary",
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
        summary: Text<'a> = b"summary",
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
        content: Content = b"content",
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
        args: Option<Args<'a>> = b"args",
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

/// The length in characters of a text, of a part or of a list of them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Content(i64);

impl<'a> Taken<'a> for Content {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        match from.peek()? {
            b'"' => self.0 = from.string()?.characters() as i64,
            b'[' => {
                let mut parts = List::<Part<'a>>::default();
                parts.take(from)?;
                self.0 = parts.iter().map(|part| part.text.0).sum();
            }
            _ => {
                let mut part = Part::default();
                part.take(from)?;
                self.0 = part.text.0;
            }
        }
        Some(())
    }
}

lenient! {
    /// A part of a message.
    struct Part<'a> {
        text: Characters = b"text",
    }
}

/// The length of a text in characters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Characters(i64);

impl<'a> Taken<'a> for Characters {
    fn take(&mut self, from: &mut Scanner<'a>) -> Option<()> {
        if from.peek()? != b'"' {
            return from.skip();
        }
        self.0 = from.string()?.characters() as i64;
        Some(())
    }
}

/// `session-<when>-<id>`, or `<session id>/<id>` of a subagent, which is a session of its own.
fn locate(stream: &str) -> (&str, Option<&str>) {
    (stream, stream.split_once('/').map(|(_, agent)| agent))
}

fn fold(record: &SourceRecord<'_>, stream: &mut Stream, facts: &mut Facts) -> Reading {
    let text = json::text_of(record.payload);
    let Some(fields) = json::read::<Record<'_>>(&text) else {
        let is_blank = record.payload.iter().all(u8::is_ascii_whitespace);
        let (class, kind) =
            if is_blank { (RecordClass::Other, "blank") } else { (RecordClass::Unreadable, "") };
        return Reading::of_class(class, kind, facts);
    };
    let seq = i64::try_from(record.seq).unwrap_or(i64::MAX);
    let updated = fields.updated.as_deref().and_then(instant_of);
    let mut fold = MessageFold { record, stream, facts, updated };
    fold.offer_header(&fields, seq);
    if let Some(update) = &fields.set {
        fold.updated = update.updated.as_deref().and_then(instant_of);
        fold.offer_title(update.summary.as_deref(), seq);
        fold.messages(&update.messages);
        return Reading::of_class(RecordClass::Other, "$set", fold.facts);
    }
    if fields.rewind.0 {
        return Reading::of_class(RecordClass::Other, "$rewindTo", fold.facts);
    }
    if fields.kind.as_deref().is_none() && fields.session.as_deref().is_some() {
        fold.messages(&fields.messages);
        return Reading::of_class(RecordClass::Title, "session", fold.facts);
    }
    let message: Message<'_> = json::read(&text).unwrap_or_default();
    let class = fold.message(&message);
    let kind = message.kind.as_deref().unwrap_or_default();
    let reading = Reading::of_class(class, kind, fold.facts);
    Reading { fingerprint: message.id.as_deref().map_or([0; 4], fingerprint), ..reading }
}

/// One event and all that its messages have in common.
struct MessageFold<'f> {
    record: &'f SourceRecord<'f>,
    stream: &'f mut Stream,
    facts: &'f mut Facts,
    /// When the session was written, where the record says so: the later version of a message counts.
    updated: Option<Timestamp>,
}

impl MessageFold<'_> {
    fn offer_header(&mut self, fields: &Record<'_>, seq: i64) {
        for at in [&fields.started, &fields.updated].into_iter().filter_map(|at| at.as_deref()) {
            if let Some(at) = instant_of(at) {
                self.stream.offer_instant(at);
            }
        }
        self.offer_title(fields.summary.as_deref(), seq);
    }

    fn offer_title(&mut self, summary: Option<&str>, seq: i64) {
        let place = self.updated.map_or(seq, |at| at.as_micros().max(0) >> 10);
        if let Some(summary) = summary {
            self.stream.offer_title(&plain_text(summary), 1, place);
        }
    }

    fn messages(&mut self, messages: &List<Message<'_>>) {
        for message in messages.iter() {
            // What a message inside a record is does not change what the record is.
            let _ = self.message(message);
        }
    }

    fn message(&mut self, message: &Message<'_>) -> RecordClass {
        let at = message.timestamp.as_deref().and_then(instant_of);
        if let Some(at) = at {
            self.stream.offer_instant(at);
        }
        let id = message.id.as_deref().filter(|id| !id.is_empty());
        let id = id.map_or_else(|| self.record.address.to_string(), |id| key_text(id).into_owned());
        match message.kind.as_deref() {
            Some("gemini") => {
                message.tools.iter().for_each(|tool| self.tool(&id, tool, at));
                self.call(id, message, at);
                RecordClass::Assistant
            }
            Some("user") => {
                self.user_turn(id, message, at);
                RecordClass::User
            }
            Some("error") => {
                self.notice(id, at);
                RecordClass::System
            }
            Some("info" | "warning") => RecordClass::System,
            _ => RecordClass::Unknown,
        }
    }

    fn call(&mut self, call: String, message: &Message<'_>, at: Option<Timestamp>) {
        let usage = message.tokens.as_ref();
        let value = |count: fn(&Usage<'_>) -> Count| usage.and_then(|usage| count(usage).value);
        let counts = usage.map(|u| [u.input, u.output, u.cached, u.thoughts, u.tool]);
        let (cached, tool) = (value(|usage| usage.cached), value(|usage| usage.tool));
        let input = value(|usage| usage.input)
            .map(|input| input.saturating_sub(cached.unwrap_or(0)).max(0).saturating_add(tool.unwrap_or(0)));
        let prefix = self.record.payload_hash.0.first_chunk().expect("a hash has 32 bytes");
        self.facts.calls.merge(Call {
            source: self.stream.source.clone(),
            call,
            request: None,
            model: self.facts.names.option(message.model.as_deref()),
            input_tokens: input.map(Tokens),
            output_tokens: value(|usage| usage.output).map(Tokens),
            cache_read_tokens: cached.map(Tokens),
            cache_write_5m_tokens: None,
            cache_write_1h_tokens: None,
            reasoning_tokens: value(|usage| usage.thoughts).map(Tokens),
            stop_reason: None,
            complete: usage.is_some(),
            service_tier: None,
            speed: None,
            clamped: counts.iter().flatten().any(|count| count.clamped),
            kept_at: self.updated.or(at),
            payload_prefix: i64::from_be_bytes(*prefix),
            place: self.record.address,
            session: self.stream.session.clone(),
            stream: self.stream.stream.clone(),
            seq: i64::try_from(self.record.seq).unwrap_or(i64::MAX),
            copied: false,
            timestamp: at,
            cwd: None,
            branch: None,
            version: None,
            sidechain: self.stream.agent.is_some(),
            agent: self.stream.agent.clone(),
            contested: false,
            elsewhere: Vec::new(),
            forms: Vec::new(),
        });
    }

    fn tool(&mut self, message: &str, tool: &Tool<'_>, at: Option<Timestamp>) {
        let Some(id) = tool.id.as_deref() else { return };
        let key = key_text(&format!("{message}/{id}")).into_owned();
        let mut row = ToolUse::unseen(self.stream.source.clone(), key);
        let args = tool.args.as_ref();
        let target = args.and_then(|args| {
            [&args.file_path, &args.absolute_path, &args.path].into_iter().find_map(|path| path.as_deref())
        });
        let used_at = tool.timestamp.as_deref().and_then(instant_of).or(at);
        row.call = Some(message.to_owned());
        row.tool = self.facts.names.option(tool.name.as_deref());
        row.target = self.facts.names.option(target);
        row.session = Some(self.stream.session.clone());
        row.used_at = used_at;
        row.use_copied = Some(false);
        row.place = Some(self.record.address);
        if let Some(status @ ("success" | "error" | "cancelled")) = tool.status.as_deref() {
            row.is_error = Some(status == "error");
            row.result_session = Some(self.stream.session.clone());
            row.result_at = used_at;
            row.result_copied = Some(false);
            row.result_place = Some(self.record.address);
        }
        self.facts.tool_uses.merge(row);
    }

    fn user_turn(&mut self, turn: String, message: &Message<'_>, at: Option<Timestamp>) {
        let class = if self.stream.agent.is_some() { "delegated" } else { "prompt" };
        self.facts.user_turns.merge(UserTurn {
            source: self.stream.source.clone(),
            turn,
            copied: false,
            timestamp: at,
            session: self.stream.session.clone(),
            stream: self.stream.stream.clone(),
            class: self.facts.names.get(class),
            characters: message.content.0,
            images: 0,
            text_prefix: 0,
            place: self.record.address,
            contested: false,
            forms: Vec::new(),
        });
    }

    fn notice(&mut self, notice: String, at: Option<Timestamp>) {
        self.facts.notices.merge(Notice {
            source: self.stream.source.clone(),
            notice,
            copied: false,
            timestamp: at,
            session: self.stream.session.clone(),
            stream: self.stream.stream.clone(),
            error: None,
            status: None,
            place: self.record.address,
        });
    }
}
