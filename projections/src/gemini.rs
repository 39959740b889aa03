//! Gemini CLI: what a session file means: one object that is rewritten in place, or, in newer versions, lines of which a later one
//! with the same message id replaces an earlier one. A message that was rewound stays a call: it was paid for.

mod blocks;
mod message;
mod subagents;

use crate::calls::Call;
use crate::json::{self, Count, List};
use crate::notices::Notice;
use crate::records::{RecordClass, fingerprint};
use crate::sources::{Copies, Facts, Reading, SourceFold, SourceRecord};
use crate::streams::Stream;
use crate::text::{Tokens, instant_of, key_text, plain_text};
use crate::tool_uses::ToolUse;
use crate::user_turns::UserTurn;
use burnlog_log::Timestamp;
use message::{Message, Record, Tool, Usage};

pub(crate) const FOLD: SourceFold = SourceFold {
    name: "gemini-cli",
    rewrites: true,
    copies: Copies::Stated,
    names_session: false,
    locate,
    fold,
    resolve: subagents::resolve,
    family: |_| None,
};

/// `session-<when>-<id>`, or `<session id>/<id>` of a subagent, which is a session of its own.
fn locate(stream: &str) -> (&str, Option<&str>) {
    (stream, stream.split_once('/').map(|(_, agent)| agent))
}

fn fold(record: &SourceRecord<'_>, stream: &mut Stream, facts: &mut Facts) -> Reading {
    let text = facts.text_of(record.payload);
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
        fold.offer_title(update.summary.value.as_deref(), seq);
        fold.facts.block("summary", update.summary.text_span(), None);
        fold.messages(&update.messages);
        return Reading::of_class(RecordClass::Other, "$set", fold.facts);
    }
    if fields.rewind.0 {
        return Reading::of_class(RecordClass::Other, "$rewindTo", fold.facts);
    }
    if fields.kind.as_deref().is_none() && fields.session.as_deref().is_some() {
        fold.note_origin(fields.session.as_deref().unwrap_or_default());
        fold.rank_blocks();
        fold.facts.block("summary", fields.summary.text_span(), None);
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
        self.offer_title(fields.summary.value.as_deref(), seq);
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
        if let Some(id) = id {
            self.stream.offer_first_record(id, None, i64::try_from(self.record.seq).unwrap_or(i64::MAX));
        }
        let id = id.map_or_else(|| self.record.address.to_string(), |id| key_text(id).into_owned());
        self.message_blocks(&id, message);
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
        let Some(key) = tool.key(message) else { return };
        let mut row = ToolUse::unseen(self.stream.source.clone(), key);
        let args = tool.args.value.as_ref();
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
            characters: message.content.characters(),
            images: message.content.images(),
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
