//! Claude Code: what a line of a session file means. One API call is written as several lines with one message
//! id; calls of subagents may stand inside `progress` lines alone. Format facts: from files of 97 versions.

mod line;
mod relations;
mod user_text;
mod user_turn;

use crate::beginnings::BEGINNING_RECORDS;
use crate::calls::Call;
use crate::compactions::Compaction;
use crate::json::{self, Count, Spanned};
use crate::notices::Notice;
use crate::records::{RecordClass, fingerprint};
use crate::relationships::KIND_SUBAGENT;
use crate::relayburn;
use crate::sources::{Copies, Facts, Reading, SourceFold, SourceRecord};
use crate::streams::Stream;
use crate::text::{Name, Tokens, instant_of, key_text, plain_text};
use crate::tool_uses::ToolUse;
use burnlog_log::Timestamp;
use line::{Block, Content, Line, Message, Usage};

pub(crate) const FOLD: SourceFold = SourceFold {
    name: "claude-code",
    rewrites: false,
    copies: Copies::Beginnings,
    names_session: false,
    locate,
    fold,
    resolve: relayburn::resolve_compactions,
    family: |_| None,
};

/// Types of which the folds need nothing, but which are no news.
const KNOWN_TYPES: &[&str] = &[
    "agent-name",
    "agent-setting",
    "attachment",
    "attribution-snapshot",
    "content-replacement",
    "context-collapse-commit",
    "context-collapse-snapshot",
    "file-history-snapshot",
    "frame-link",
    "last-prompt",
    "mode",
    "permission-mode",
    "pr-link",
    "queue-operation",
    "speculation-accept",
    "tag",
    "task-summary",
    "worktree-state",
];

/// `<session>`, or `<session>/subagents/agent-<id>`; a companion of the latter ends in `.meta`.
fn locate(stream: &str) -> (&str, Option<&str>) {
    let Some((session, rest)) = stream.split_once('/') else { return (stream, None) };
    let stem = rest.strip_prefix("subagents/").unwrap_or(rest);
    let stem = stem.strip_suffix(".meta").unwrap_or(stem);
    (session, Some(stem.strip_prefix("agent-").unwrap_or(stem)))
}

fn fold(record: &SourceRecord<'_>, stream: &mut Stream, facts: &mut Facts) -> Reading {
    let text = facts.text_of(record.payload);
    let line = json::read::<Line<'_>>(&text);
    let reading = match &line {
        Some(line) => fold_line(record, &text, line, stream, facts),
        None if record.payload.iter().all(u8::is_ascii_whitespace) => {
            Reading::of_class(RecordClass::Other, "blank", facts)
        }
        None => Reading::of_class(RecordClass::Unreadable, "", facts),
    };
    // Behind it: a record says nothing of itself.
    if record.seq < BEGINNING_RECORDS {
        stream.offer_beginning(record.seq, line.as_ref().and_then(mark_of));
    }
    reading
}

/// When the file began, as a line says that is in no chain and so is never copied.
fn mark_of(line: &Line<'_>) -> Option<Timestamp> {
    let is_mark = line.kind.as_deref() == Some("queue-operation") && line.uuid.as_deref().is_none();
    is_mark.then(|| line.timestamp.as_deref().and_then(instant_of)).flatten()
}

fn fold_line(
    record: &SourceRecord<'_>,
    text: &str,
    line: &Line<'_>,
    stream: &mut Stream,
    facts: &mut Facts,
) -> Reading {
    let timestamp = line.timestamp.as_deref().and_then(instant_of);
    let elsewhere = line.session.as_deref().is_some_and(|session| session != record.session);
    let is_own = timestamp.is_none_or(|at| stream.shows_own(record.seq, at));
    let copied = line.forked_from.is_there || elsewhere || !is_own;
    let cwd = facts.names.option(line.cwd.as_deref());
    let version = facts.names.option(line.version.as_deref());
    let seq = i64::try_from(record.seq).unwrap_or(i64::MAX);
    if let Some(cwd) = &cwd {
        stream.offer_project(cwd, seq);
    }
    if let Some(version) = &version {
        stream.offer_version(version, seq);
    }
    if let Some(instant) = timestamp.filter(|_| !copied) {
        stream.offer_instant(instant);
    }
    if let Some(id) = line.uuid.as_deref() {
        let parent = line.parent.as_deref().or_else(|| line.logical_parent.as_deref());
        stream.offer_first_record(id, parent, seq);
    }
    let mut fold = LineFold { record, text, line, stream, facts, timestamp, copied, cwd, version };
    fold.fold_origins(elsewhere);
    let class = fold.class_and_rows(seq);
    let record_type = fold.record_type();
    Reading {
        class,
        record_type,
        version: fold.version.unwrap_or_default(),
        fingerprint: line.uuid.as_deref().map_or([0; 4], fingerprint),
    }
}

/// One line and all that its rows have in common.
struct LineFold<'f> {
    record: &'f SourceRecord<'f>,
    text: &'f str,
    line: &'f Line<'f>,
    stream: &'f mut Stream,
    facts: &'f mut Facts,
    timestamp: Option<Timestamp>,
    copied: bool,
    cwd: Option<Name>,
    version: Option<Name>,
}

/// What differs between a message of its own and one inside a `progress` line.
struct Envelope<'f> {
    message: Option<&'f Message<'f>>,
    request: Option<&'f str>,
    timestamp: Option<Timestamp>,
    sidechain: bool,
    agent: Option<&'f str>,
}

impl<'f> LineFold<'f> {
    fn class_and_rows(&mut self, seq: i64) -> RecordClass {
        let line = self.line;
        match line.kind.as_deref() {
            Some("assistant") => {
                self.fold_answer(&self.own_envelope());
                RecordClass::Assistant
            }
            Some("user") => {
                self.fold_results(&self.own_envelope());
                self.fold_started_agents();
                self.fold_user_turn();
                RecordClass::User
            }
            Some("attachment") if self.fold_queued() => RecordClass::User,
            Some("progress") => {
                self.fold_progress();
                RecordClass::Progress
            }
            Some("system") => {
                if line.subtype.as_deref() == Some("compact_boundary") {
                    self.fold_compaction();
                }
                self.facts.block("system", line.content.text_span(), None);
                RecordClass::System
            }
            Some("summary") => {
                self.facts.block("summary", line.summary.text_span(), None);
                self.fold_title(line.summary.value.as_deref(), 1, seq)
            }
            Some("ai-title") => self.fold_title(line.ai_title.as_deref(), 2, seq),
            Some("custom-title") => self.fold_title(line.custom_title.as_deref(), 3, seq),
            Some(other) if KNOWN_TYPES.binary_search(&other).is_ok() => RecordClass::Other,
            None if self.is_companion() => RecordClass::Other,
            _ => RecordClass::Unknown,
        }
    }

    /// Whether the record is the `.meta.json` file beside a subagent's.
    fn is_companion(&self) -> bool {
        let is_object = self.record.payload.trim_ascii_start().first() == Some(&b'{');
        is_object && self.stream.agent.is_some() && self.stream.stream.ends_with(".meta")
    }

    fn record_type(&mut self) -> Name {
        let line = self.line;
        let Some(kind) = line.kind.as_deref() else {
            return self.facts.names.get(if self.is_companion() { "subagent-meta" } else { "" });
        };
        let subtype = match kind {
            "attachment" => line.attachment.as_ref().and_then(|attachment| attachment.kind.as_deref()),
            "progress" => line.data.as_ref().and_then(|data| data.kind.as_deref()),
            _ => line.subtype.as_deref(),
        };
        match subtype {
            Some(subtype) => self.facts.names.get(&format!("{kind}/{subtype}")),
            None => self.facts.names.get(kind),
        }
    }

    /// The message of the line itself.
    fn own_envelope(&self) -> Envelope<'f> {
        let line = self.line;
        Envelope {
            message: line.message.as_ref(),
            request: line.request.as_deref(),
            timestamp: self.timestamp,
            sidechain: line.sidechain.0.unwrap_or(false) || self.stream.agent.is_some(),
            agent: line.agent.as_deref(),
        }
    }

    /// A message of a subagent that stands in a `progress` line.
    fn fold_progress(&mut self) {
        let Some(data) = self.line.data.as_deref() else { return };
        let (Some("agent_progress"), Some(inner)) = (data.kind.as_deref(), data.line.as_deref()) else {
            return;
        };
        let envelope = Envelope {
            message: inner.message.as_deref(),
            request: inner.request.as_deref(),
            timestamp: inner.timestamp.as_deref().and_then(instant_of).or(self.timestamp),
            sidechain: true,
            agent: data.agent.as_deref(),
        };
        if let Some(agent) = envelope.agent {
            self.fold_agent(KIND_SUBAGENT, agent, self.line.parent_tool_use.as_deref());
        }
        match inner.kind.as_deref() {
            Some("assistant") => self.fold_answer(&envelope),
            Some("user") => self.fold_results(&envelope),
            _ => {}
        }
    }

    /// What a model answered: a call and the tools that it asks for, or a notice that no model gave.
    fn fold_answer(&mut self, envelope: &Envelope<'f>) {
        let Some(message) = envelope.message else { return };
        self.fold_blocks(&message.content);
        if message.model.as_deref() == Some("<synthetic>") {
            return self.fold_notice(envelope);
        }
        let call = match message.id.as_deref() {
            Some(id) if !id.is_empty() => key_text(id).into_owned(),
            _ => self.own_id(),
        };
        for block in message.content.blocks.iter().map(|block| &block.value) {
            if block.kind.as_deref().is_some_and(|kind| kind == "tool_use" || kind == "server_tool_use") {
                self.fold_tool_use(block, &call, envelope);
            }
        }
        self.fold_call(call, message, envelope);
    }

    /// Where the blocks of a message are.
    fn fold_blocks(&mut self, content: &Content<'_>) {
        if let Some(text) = &content.text {
            self.facts.block("text", text.span, None);
        }
        for Spanned { value: block, span } in content.blocks.iter() {
            let kind = block.kind.as_deref().unwrap_or("unknown");
            let (id, tool_use) = (block.id.as_deref(), block.tool_use.as_deref());
            let (place, tool_use) = match kind {
                "text" => (block.text.span, None),
                "thinking" => (block.thinking.span, None),
                "tool_use" | "server_tool_use" => (block.input.span, id),
                "tool_result" => (block.result.span, tool_use),
                _ => (*span, tool_use),
            };
            let place = if place.is_absent() { *span } else { place };
            self.facts.block(kind, place, tool_use);
            for image in &block.result.value.images {
                self.facts.block("image", *image, tool_use);
            }
        }
    }

    fn fold_call(&mut self, call: String, message: &Message<'_>, envelope: &Envelope<'_>) {
        let names = &mut self.facts.names;
        let usage = &message.usage;
        let mut clamped = false;
        let mut tokens = |count: Count| {
            clamped |= count.clamped;
            count.value.map(Tokens)
        };
        let (five_minutes, an_hour) = cache_writes(usage);
        let stop_reason = names.option(message.stop_reason.as_deref());
        let prefix = self.record.payload_hash.0.first_chunk().expect("a hash has 32 bytes");
        let row = Call {
            source: self.stream.source.clone(),
            call,
            request: envelope.request.map(|request| key_text(request).into_owned()),
            model: names.option(message.model.as_deref()),
            input_tokens: tokens(usage.input),
            output_tokens: tokens(usage.output),
            cache_read_tokens: tokens(usage.cache_read),
            cache_write_5m_tokens: tokens(five_minutes),
            cache_write_1h_tokens: tokens(an_hour),
            reasoning_tokens: None,
            complete: stop_reason.is_some(),
            stop_reason,
            service_tier: names.option(usage.service_tier.as_deref()),
            speed: names.option(usage.speed.as_deref()),
            clamped,
            kept_at: envelope.timestamp,
            payload_prefix: i64::from_be_bytes(*prefix),
            place: self.record.address,
            session: self.stream.session.clone(),
            stream: self.stream.stream.clone(),
            seq: i64::try_from(self.record.seq).unwrap_or(i64::MAX),
            copied: self.copied,
            timestamp: envelope.timestamp,
            cwd: self.cwd.clone(),
            branch: names.option(self.line.branch.as_deref()),
            version: self.version.clone(),
            sidechain: envelope.sidechain,
            agent: names.option(envelope.agent).or_else(|| self.stream.agent.clone()),
            contested: false,
            elsewhere: Vec::new(),
            forms: Vec::new(),
        };
        self.facts.calls.merge(row);
    }

    fn fold_tool_use(&mut self, block: &Block<'_>, call: &str, envelope: &Envelope<'_>) {
        let Some(id) = block.id.as_deref() else { return };
        let input = &block.input.value;
        let paths = [&input.file_path, &input.notebook_path, &input.path];
        let target = paths.into_iter().find_map(|path| path.as_deref());
        let names = &mut self.facts.names;
        let mut row = ToolUse::unseen(self.stream.source.clone(), key_text(id).into_owned());
        row.call = Some(call.to_owned());
        row.tool = names.option(block.name.as_deref());
        row.target = names.option(target);
        row.session = Some(self.stream.session.clone());
        row.used_at = envelope.timestamp;
        row.use_copied = Some(self.copied);
        row.place = Some(self.record.address);
        self.facts.tool_uses.merge(row);
    }

    /// What tools gave back.
    fn fold_results(&mut self, envelope: &Envelope<'_>) {
        let Some(message) = envelope.message else { return };
        self.fold_blocks(&message.content);
        for block in message.content.blocks.iter().map(|block| &block.value) {
            let Some(id) = block.tool_use.as_deref() else { continue };
            let mut row = ToolUse::unseen(self.stream.source.clone(), key_text(id).into_owned());
            row.is_error = Some(block.is_error.0.unwrap_or(false));
            row.result_bytes = Some(block.result.value.bytes);
            row.result_place = Some(self.record.address);
            row.result_session = Some(self.stream.session.clone());
            row.result_at = envelope.timestamp;
            row.result_copied = Some(self.copied);
            self.facts.tool_uses.merge(row);
        }
    }

    fn fold_compaction(&mut self) {
        let compact = self.line.compact.as_deref();
        let row = Compaction {
            source: self.stream.source.clone(),
            compaction: self.own_id(),
            copied: self.copied,
            timestamp: self.timestamp,
            session: self.stream.session.clone(),
            stream: self.stream.stream.clone(),
            trigger: self.facts.names.option(compact.and_then(|compact| compact.trigger.as_deref())),
            tokens_before: compact.and_then(|compact| compact.tokens_before.value).map(Tokens),
            place: self.record.address,
        };
        relayburn::note_raw_compaction(self.timestamp, self.record.address, self.stream, self.facts);
        self.facts.compactions.merge(row);
    }

    fn fold_notice(&mut self, envelope: &Envelope<'_>) {
        let row = Notice {
            source: self.stream.source.clone(),
            notice: self.own_id(),
            copied: self.copied,
            timestamp: envelope.timestamp,
            session: self.stream.session.clone(),
            stream: self.stream.stream.clone(),
            error: self.facts.names.option(self.line.error.as_deref()),
            status: self.line.error_status.value,
            place: self.record.address,
        };
        self.facts.notices.merge(row);
    }

    fn fold_title(&mut self, title: Option<&str>, rank: u8, seq: i64) -> RecordClass {
        if let Some(title) = title {
            self.stream.offer_title(&plain_text(title), rank, seq);
        }
        RecordClass::Title
    }

    /// The record's own id, or its address where it has none.
    fn own_id(&self) -> String {
        match self.line.uuid.as_deref() {
            Some(id) if !id.is_empty() => key_text(id).into_owned(),
            _ => self.record.address.to_string(),
        }
    }
}

fn is(block: &Block<'_>, kind: &str) -> bool {
    block.kind.as_deref() == Some(kind)
}

/// Splits the tokens written to caches; where the split is missing, the total was for five minutes.
fn cache_writes(usage: &Usage<'_>) -> (Count, Count) {
    let writes = &usage.cache_writes;
    if writes.five_minutes.value.is_some() || writes.an_hour.value.is_some() {
        (writes.five_minutes, writes.an_hour)
    } else {
        (usage.cache_write, Count::default())
    }
}
