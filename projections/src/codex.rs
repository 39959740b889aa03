//! Codex: what a line of a rollout means. Usage is a counter that grows over the whole session, so a call is the
//! difference of two lines; forks and subagents begin with a copy of another session's lines. What depends on other
//! lines is noted as a fact here and told in `resolve`. Format facts: from files of 37 versions.

mod blocks;
mod facts;
mod line;
mod resolve;

use crate::json::{self, Count, Span};
use crate::records::{RecordClass, fingerprint};
use crate::relayburn::{ImportedTurn, tool_uses_of};
use crate::sources::{Copies, Facts, Reading, SourceFold, SourceRecord};
use crate::streams::Stream;
use crate::text::{KEY_BYTES_MAX, Name, instant_of, key_text};
use crate::tool_uses::ToolUse;
use burnlog_log::Timestamp;
use facts::{Counters, Dated, Fact, Meta, Said, TEXT_BYTES_MAX};
use line::{Line, Payload, Usage};
use std::borrow::Cow;

pub(crate) const FOLD: SourceFold = SourceFold {
    name: "codex",
    rewrites: true,
    copies: Copies::Stated,
    names_session: false,
    locate,
    fold,
    resolve: resolve::resolve,
    family,
};

/// How much of a text is looked at to tell what it is, in bytes.
const HEAD_BYTES: usize = 600;

/// Types of which the folds need nothing, but which are no news: `type`, or `type/payload type`. Sorted.
const KNOWN_TYPES: &[&str] = &[
    "event_msg/agent_message",
    "event_msg/agent_reasoning",
    "event_msg/agent_reasoning_raw_content",
    "event_msg/agent_reasoning_section_break",
    "event_msg/background_event",
    "event_msg/context_compacted",
    "event_msg/deprecation_notice",
    "event_msg/entered_review_mode",
    "event_msg/exec_command_begin",
    "event_msg/exited_review_mode",
    "event_msg/item_completed",
    "event_msg/item_started",
    "event_msg/mcp_tool_call_begin",
    "event_msg/patch_apply_begin",
    "event_msg/plan_update",
    "event_msg/stream_error",
    "event_msg/task_complete",
    "event_msg/thread_name_updated",
    "event_msg/thread_rolled_back",
    "event_msg/turn_aborted",
    "event_msg/turn_complete",
    "event_msg/undo_completed",
    "event_msg/undo_started",
    "event_msg/view_image_tool_call",
    "event_msg/warning",
    "event_msg/web_search_begin",
    "event_msg/web_search_end",
    "response_item/compaction",
    "response_item/ghost_snapshot",
    "response_item/other",
    "response_item/reasoning",
];

/// `rollout-<when>-<uuid>`: the session is the uuid. Anything else is a session of its own.
fn locate(stream: &str) -> (&str, Option<&str>) {
    let uuid = stream.len().checked_sub(36).and_then(|at| stream.get(at..));
    let session = uuid.filter(|uuid| stream.len() <= KEY_BYTES_MAX && is_uuid(uuid));
    (session.unwrap_or(stream), None)
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `<session that made it>/…`.
fn family(name: &str) -> Option<&str> {
    name.rsplit_once('/').map(|(family, _)| family)
}

/// Notes a turn of which another program tells: among the facts of the rollout that it was made of, where the record names
/// that, else among those of the session, so that the lines of the rollout take its place.
pub(crate) fn note_imported(
    turn: &ImportedTurn,
    path: Option<&str>,
    record: &SourceRecord<'_>,
    stream: &Stream,
    facts: &mut Facts,
) {
    let file = path.and_then(|path| path.rsplit(['/', '\\']).next());
    let rollout = file.and_then(|file| file.split_once(".jsonl")).map(|(stem, _)| stem);
    let rollout = rollout.filter(|stem| *locate(stem).0 == *stream.session);
    let group = facts.names.get(rollout.unwrap_or(&stream.session));
    // Behind all lines, whose numbers it does not share.
    let key = facts::key_of(u64::MAX, &record.address);
    let fact = facts::encode(&Dated { at: None, fact: Fact::Imported(turn.to_fact()) });
    facts.note(&stream.source, &group, key, fact);
    for mut row in tool_uses_of(turn, &stream.source, record.address) {
        row.call = Some(resolve::imported_key(&stream.session, turn));
        facts.tool_uses.merge(row);
    }
}

fn fold(record: &SourceRecord<'_>, stream: &mut Stream, facts: &mut Facts) -> Reading {
    let text = facts.text_of(record.payload);
    match json::read::<Line<'_>>(&text) {
        Some(line) => fold_line(record, &line, stream, facts),
        None if record.payload.iter().all(u8::is_ascii_whitespace) => {
            Reading::of_class(RecordClass::Other, "blank", facts)
        }
        None => Reading::of_class(RecordClass::Unreadable, "", facts),
    }
}

fn fold_line(record: &SourceRecord<'_>, line: &Line<'_>, stream: &mut Stream, facts: &mut Facts) -> Reading {
    let timestamp = line.timestamp.as_deref().and_then(instant_of);
    if let Some(instant) = timestamp {
        stream.offer_instant(instant);
    }
    let seq = i64::try_from(record.seq).unwrap_or(i64::MAX);
    let empty = Payload::default();
    let payload = line.payload.value.as_deref().unwrap_or(&empty);
    let payload_span = line.payload.span;
    let mut fold = LineFold { record, payload, payload_span, stream, facts, timestamp, seq };
    fold.fold_blocks(line.kind.as_deref());
    let (kind, subtype) = (line.kind.as_deref(), payload.kind.as_deref());
    let record_type = match (kind, subtype) {
        (Some(kind), Some(subtype)) => fold.facts.names.get(&format!("{kind}/{subtype}")),
        (Some(kind), None) => fold.facts.names.get(kind),
        (None, _) => fold.facts.names.get(""),
    };
    let mut version = Name::default();
    let class = match kind {
        Some("session_meta") => {
            version = fold.fold_meta();
            RecordClass::System
        }
        Some("turn_context") => fold.fold_turn(),
        Some("compacted") => {
            fold.note(Fact::Compaction);
            RecordClass::System
        }
        Some("world_state") => RecordClass::Other,
        Some("event_msg") => fold.fold_event(&record_type),
        Some("response_item") => fold.fold_item(&record_type),
        _ => RecordClass::Unknown,
    };
    if class == RecordClass::Unknown {
        fold.note(Fact::Unknown { record_type: record_type.to_string() });
    }
    let id = payload.call.as_deref().filter(|id| !id.is_empty());
    if let Some(id) = id {
        fold.stream.offer_first_record(id, None, seq);
    }
    let fingerprint = id.map_or([0; 4], fingerprint);
    Reading { class, record_type, version, fingerprint }
}

/// One line and all that its facts have in common.
struct LineFold<'f> {
    record: &'f SourceRecord<'f>,
    payload: &'f Payload<'f>,
    payload_span: Span,
    stream: &'f mut Stream,
    facts: &'f mut Facts,
    timestamp: Option<Timestamp>,
    seq: i64,
}

impl LineFold<'_> {
    fn note(&mut self, fact: Fact) {
        let at = self.timestamp.map(Timestamp::as_micros);
        let key = facts::key_of(self.record.seq, &self.record.address);
        let fact = facts::encode(&Dated { at, fact });
        self.facts.note(&self.stream.source, &self.stream.stream, key, fact);
    }

    /// Notes under the session that the file tells of a turn: an imported record that names no rollout stands there.
    fn note_told(&mut self, turn: Option<&String>) {
        if let Some(turn) = turn.filter(|_| self.stream.session != self.stream.stream) {
            let key = facts::key_of(self.record.seq, &self.record.address);
            let fact = Fact::Turn { turn: Some(turn.clone()), model: None, cwd: None };
            let fact = facts::encode(&Dated { at: None, fact });
            self.facts.note(&self.stream.source, &self.stream.session, key, fact);
        }
    }

    /// Returns the version of the agent, if the session is this file's own.
    fn fold_meta(&mut self) -> Name {
        let payload = self.payload;
        let is_own = payload.id.as_deref() == Some(self.record.session) || self.record.seq == 0;
        let version = self.facts.names.option(payload.version.as_deref());
        if let Some(cwd) = self.facts.names.option(payload.cwd.as_deref()) {
            self.stream.offer_project(&cwd, self.seq);
        }
        if let Some(version) = version.as_ref().filter(|_| is_own) {
            self.stream.offer_version(version, self.seq);
        }
        let subagent = payload.source.subagent.as_ref();
        let parent = payload.forked_from.as_deref().or(subagent.and_then(|subagent| subagent.parent()));
        self.note(Fact::Meta(Meta {
            id: owned(payload.id.as_deref()),
            parent: owned(parent),
            created: payload.created.as_deref().and_then(instant_of).map(Timestamp::as_micros),
            version: owned(payload.version.as_deref()),
            cwd: owned(payload.cwd.as_deref()),
            branch: owned(payload.git.as_ref().and_then(|git| git.branch.as_deref())),
            is_subagent: subagent.is_some(),
            agent: owned(subagent.and_then(|subagent| subagent.name())),
        }));
        version.filter(|_| is_own).unwrap_or_default()
    }

    fn fold_turn(&mut self) -> RecordClass {
        let payload = self.payload;
        if let Some(cwd) = self.facts.names.option(payload.cwd.as_deref()) {
            self.stream.offer_project(&cwd, self.seq);
        }
        let (turn, model, cwd) = (&payload.turn, &payload.model, &payload.cwd);
        let (turn, model, cwd) = (owned(turn.as_deref()), owned(model.as_deref()), owned(cwd.as_deref()));
        self.note_told(turn.as_ref());
        self.note(Fact::Turn { turn, model, cwd });
        RecordClass::System
    }

    fn fold_event(&mut self, record_type: &str) -> RecordClass {
        let payload = self.payload;
        match payload.kind.as_deref() {
            Some("token_count") => {
                self.fold_usage();
                RecordClass::Assistant
            }
            Some("task_started" | "turn_started") => {
                let turn = owned(payload.turn.as_deref());
                self.note_told(turn.as_ref());
                self.note(Fact::Turn { turn, model: None, cwd: None });
                RecordClass::Progress
            }
            Some("user_message") => {
                let characters = payload.message.value.0.map_or(0, |text| text.characters() as i64);
                let images = (payload.images.iter().count() + payload.local_images.iter().count()) as i64;
                self.note_user("prompt", Said::Event, characters, images);
                RecordClass::User
            }
            Some("exec_command_end") => {
                let code = payload.exit_code;
                self.fold_failure(code.clamped || code.value.is_some_and(|code| code != 0))
            }
            Some("patch_apply_end") => self.fold_failure(payload.success.0 == Some(false)),
            Some("mcp_tool_call_end") => self.fold_failure(payload.result.is_error),
            Some("error") => {
                let message = payload.message.value.0.map(|text| text.head(200));
                self.note(Fact::Notice { error: owned(message.as_deref()) });
                RecordClass::System
            }
            _ => known(record_type, RecordClass::System),
        }
    }

    fn fold_usage(&mut self) {
        let Some(info) = &self.payload.info else { return };
        let Some(total) = &info.total else { return };
        let mut clamped = false;
        let total = counters(total, &mut clamped);
        let last = info.last.as_ref().map(|last| counters(last, &mut clamped));
        let prefix = self.record.payload_hash.0.first_chunk().expect("a hash has 32 bytes");
        let payload_prefix = i64::from_be_bytes(*prefix);
        self.note(Fact::Usage(facts::Usage { total, last, clamped, payload_prefix }));
    }

    fn note_user(&mut self, class: &str, said: Said, characters: i64, images: i64) {
        self.note(Fact::User { class: class.to_owned(), said, characters, images });
    }

    fn fold_item(&mut self, record_type: &str) -> RecordClass {
        let payload = self.payload;
        match payload.kind.as_deref() {
            Some("message") => self.fold_message(),
            Some(
                "function_call"
                | "custom_tool_call"
                | "local_shell_call"
                | "web_search_call"
                | "tool_search_call"
                | "image_generation_call",
            ) => {
                self.fold_tool_use();
                RecordClass::Assistant
            }
            Some("function_call_output" | "custom_tool_call_output" | "tool_search_output") => {
                self.fold_tool_result();
                RecordClass::User
            }
            _ => known(record_type, RecordClass::Assistant),
        }
    }

    /// A message of the conversation. Only those in the user's place are facts; what the program put there is told by
    /// how it begins.
    fn fold_message(&mut self) -> RecordClass {
        let payload = self.payload;
        match payload.role.as_deref() {
            Some("user") => {}
            Some("assistant") => return RecordClass::Assistant,
            _ => return RecordClass::System,
        }
        let texts = || payload.content.iter().filter_map(|block| block.value.text.value.0);
        let class = texts().map(|text| class_of(&text.head(HEAD_BYTES))).find(|class| *class != "prompt");
        let characters = texts().map(|text| text.characters() as i64).sum();
        let images = payload.content.iter().filter(|block| block.value.is_image()).count() as i64;
        self.note_user(class.unwrap_or("prompt"), Said::Item, characters, images);
        RecordClass::User
    }

    fn tool_row(&self) -> Option<ToolUse> {
        let id = self.payload.call.as_deref().filter(|id| !id.is_empty());
        Some(ToolUse::unseen(self.stream.source.clone(), key_text(id?).into_owned()))
    }

    fn fold_tool_use(&mut self) {
        let payload = self.payload;
        let Some(mut row) = self.tool_row() else { return };
        let kind = payload.kind.as_deref().map(|kind| kind.strip_suffix("_call").unwrap_or(kind));
        row.tool = self.facts.names.option(payload.name.as_deref().or(kind));
        let patch = payload.input.value.0.map(|input| input.head(HEAD_BYTES));
        row.target = self.facts.names.option(patch.as_deref().and_then(patched_file));
        row.session = Some(self.stream.session.clone());
        row.used_at = self.timestamp;
        row.use_copied = Some(false);
        row.place = Some(self.record.address);
        // The call that asked for it is told by a line behind this one.
        let key = facts::key_of(self.record.seq, &self.record.address);
        let fact = facts::encode(&Dated { at: None, fact: Fact::Tool { id: row.tool_use.clone() } });
        self.facts.note(&self.stream.source, &self.stream.stream, key, fact);
        self.facts.tool_uses.merge(row);
    }

    fn fold_tool_result(&mut self) {
        let Some(mut row) = self.tool_row() else { return };
        let output = &self.payload.output.value;
        let head = output.text.map(|text| text.head(HEAD_BYTES));
        let failed = output.success.map(|success| !success).or_else(|| head.as_deref().map(has_failed));
        row.is_error = Some(failed.unwrap_or(false));
        row.result_bytes = output.bytes;
        row.result_session = Some(self.stream.session.clone());
        row.result_at = self.timestamp;
        row.result_copied = Some(false);
        row.result_place = Some(self.record.address);
        self.facts.tool_uses.merge(row);
    }

    /// An event that tells how a tool ended; what it gave back is in another record.
    fn fold_failure(&mut self, failed: bool) -> RecordClass {
        if let Some(mut row) = self.tool_row().filter(|_| failed) {
            row.is_error = Some(true);
            self.facts.tool_uses.merge(row);
        }
        RecordClass::User
    }
}

fn known(record_type: &str, class: RecordClass) -> RecordClass {
    if KNOWN_TYPES.binary_search(&record_type).is_ok() { class } else { RecordClass::Unknown }
}

/// A text for a fact, cut where it is too long to be a name.
fn owned(text: Option<&str>) -> Option<String> {
    text.map(|text| {
        if text.len() > TEXT_BYTES_MAX { key_text(text) } else { Cow::Borrowed(text) }.into_owned()
    })
}

fn counters(usage: &Usage<'_>, clamped: &mut bool) -> Counters {
    let mut value = |count: Count| {
        *clamped |= count.clamped;
        count.value
    };
    Counters {
        input: value(usage.input),
        cached: value(usage.cached),
        output: value(usage.output),
        reasoning: value(usage.reasoning),
        total: value(usage.total),
    }
}

/// Tells what stands in the user's place by how it begins.
fn class_of(head: &str) -> &'static str {
    let head = head.trim_start();
    let begins = |tags: &[&str]| tags.iter().any(|tag| head.starts_with(tag));
    if begins(&["<turn_aborted>"]) {
        "interruption"
    } else if begins(&["<subagent_notification>"]) {
        "notification"
    } else if begins(&["<user_shell_command>"]) {
        "command"
    } else if begins(&[
        "<environment_context>",
        "# AGENTS.md instructions",
        "<user_instructions>",
        "<permissions instructions>",
        "<skill>",
        "<skills_instructions>",
        "<collaboration_mode>",
        "<model_switch>",
        "<INSTRUCTIONS>",
    ]) {
        "meta"
    } else {
        "prompt"
    }
}

/// The first file that a patch names.
fn patched_file(patch: &str) -> Option<&str> {
    let mut lines = patch.lines().filter(|_| patch.starts_with("*** Begin Patch"));
    let verbs = ["*** Add File: ", "*** Update File: ", "*** Delete File: "];
    lines.find_map(|line| verbs.iter().find_map(|verb| line.strip_prefix(verb)))
}

/// Whether what a command gave back says in its head, before the output, that it ended with another code than 0.
fn has_failed(head: &str) -> bool {
    let head = head.split("\nOutput:").next().unwrap_or(head);
    let code = ["Process exited with code ", "Exit code: "]
        .iter()
        .find_map(|words| head.lines().find_map(|line| line.strip_prefix(words)));
    code.is_some_and(|code| code.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_types_are_sorted() {
        assert!(KNOWN_TYPES.is_sorted());
    }

    #[test]
    fn a_stream_is_of_the_session_that_its_name_ends_with() {
        let uuid = "019d6306-cf06-7193-b86e-12f73f94af8b";
        assert_eq!(locate(&format!("rollout-2026-04-06T13-41-23-{uuid}")).0, uuid);
        for other in ["", "rollout", "rollout-ä019d6306-cf06-7193-b86e-12f73f94af8", &"x".repeat(300)] {
            assert_eq!(locate(other).0, other);
        }
    }

    #[test]
    fn heads_tell_what_a_text_is() {
        assert!(has_failed("Chunk ID: 1\nProcess exited with code 2\nOutput:\nx"));
        assert!(has_failed("Exit code: 1\nWall time: 0\nOutput:\n"));
        assert!(!has_failed("Process exited with code 0\nOutput:\nExit code: 1\n"));
        assert!(!has_failed("Exit code: is what I asked"[6..].trim_start()));
        assert_eq!(patched_file("*** Begin Patch\n*** Update File: a b.rs\n@@\n"), Some("a b.rs"));
        assert_eq!(patched_file("*** Update File: a\n"), None);
        assert_eq!(class_of(" <environment_context>\n"), "meta");
        assert_eq!(class_of("what does <environment_context> mean?"), "prompt");
    }
}
