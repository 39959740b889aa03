//! Records imported from a relayburn ledger: what another program made of session files. They stand in for raw records that are gone,
//! so each becomes a row under the key of the raw record that it was made of, and loses against that. What the folds
//! of Codex and OpenCode need to tell which raw records are there is noted among their facts.
//!
//! Format facts: the schemas of relayburn's public repository (github.com/AgentWorkforce/burn), 1.x and 2.x.

mod compactions;
mod record;
mod turn;

pub(crate) use compactions::{note_raw as note_raw_compaction, resolve as resolve_compactions};
pub(crate) use turn::{ImportedTurn, call_of, tool_uses_of};

use crate::json;
use crate::records::{RecordClass, fingerprint};
use crate::relationships::{KIND_CONTINUATION, KIND_FORK, KIND_SUBAGENT, Relationship};
use crate::sources::{Facts, Reading, SourceRecord};
use crate::streams::Stream;
use crate::text::{Name, instant_of, key_text};
use crate::tool_uses::ToolUse;
use crate::user_turns::{CLASS_IMPORTED, UserTurn};
use burnlog_log::Timestamp;
use record::{Line, Record};

/// The source of what names no session.
pub(crate) const SOURCE: &str = "relayburn";

/// What stands before the session in the stream of an imported record.
const STREAM_PREFIX: &str = "relayburn/";

/// Returns whether a stream holds imported records: what another program made of the files of a session.
pub fn is_imported(stream: &str) -> bool {
    stream.starts_with(STREAM_PREFIX)
}

/// Returns the session of a stream of imported records.
pub(crate) fn session_of(stream: &str) -> Option<&str> {
    stream.strip_prefix(STREAM_PREFIX)
}

/// Folds one imported record.
pub(crate) fn fold(record: &SourceRecord<'_>, stream: &mut Stream, facts: &mut Facts) -> Reading {
    let text = facts.text_of(record.payload);
    let Some(line) = json::read::<Line<'_>>(&text) else {
        return Reading::of_class(RecordClass::Unreadable, "", facts);
    };
    let kind = line.kind.as_deref().unwrap_or_default();
    if !is_imported(&stream.stream) {
        return fold_unplaced(kind, &line, facts);
    }
    let mut fold = RecordFold { record, stream, facts, at: None };
    let Some(fields) = line.record.as_deref() else {
        return fold.content(&line);
    };
    fold.at = fields.ts.as_deref().and_then(instant_of);
    if let Some(at) = fold.at {
        fold.stream.offer_instant(at);
    }
    let (class, id) = match kind {
        "turn" => fold.turn(fields),
        "user_turn" => fold.user_turn(fields),
        "tool_result_event" => fold.tool_result(fields),
        "relationship" => fold.relationship(fields),
        "compaction" => fold.compaction(fields),
        _ => (RecordClass::Unknown, None),
    };
    let reading = Reading::of_class(class, &format!("record/{kind}"), fold.facts);
    Reading { fingerprint: id.map_or([0; 4], fingerprint), ..reading }
}

/// What names no session: an edge that a stamp says as well, a stamp on a range, or nothing that can be read.
fn fold_unplaced(kind: &str, line: &Line<'_>, facts: &mut Facts) -> Reading {
    let source = line.record.as_deref().and_then(|record| record.source.as_deref());
    match (kind, source) {
        ("relationship", Some("spawn-env")) => Reading::of_class(RecordClass::Normalised, "spawn-env", facts),
        ("stamp", _) => Reading::of_class(RecordClass::Unknown, "stamp", facts),
        _ => Reading::of_class(RecordClass::Unreadable, "", facts),
    }
}

/// One record and all that its rows have in common.
struct RecordFold<'f> {
    record: &'f SourceRecord<'f>,
    stream: &'f mut Stream,
    facts: &'f mut Facts,
    at: Option<Timestamp>,
}

impl RecordFold<'_> {
    fn turn<'r>(&mut self, fields: &'r Record<'_>) -> (RecordClass, Option<&'r str>) {
        let Some(id) = fields.message.as_deref().filter(|id| !id.is_empty()) else {
            return (RecordClass::Unknown, None);
        };
        if let Some(project) = self.facts.names.option(fields.project.as_deref()) {
            self.stream.offer_project(&project, self.at.map_or(0, |at| at.as_micros().max(0) >> 10));
        }
        if fields.model.as_deref() == Some("<synthetic>") {
            // A notice of the program, which no model gave.
            return (RecordClass::Normalised, Some(id));
        }
        let turn = ImportedTurn::of(fields, id, &*self.stream, self.record);
        match &*self.stream.source {
            "codex" => crate::codex::note_imported(
                &turn,
                fields.path.as_deref(),
                self.record,
                self.stream,
                self.facts,
            ),
            "opencode" => crate::opencode::note_imported(&turn, self.record, self.stream, self.facts),
            _ => {
                let key = turn.call.clone();
                self.facts.calls.merge(call_of(&turn, &self.stream.source, key, self.record.address));
                for row in tool_uses_of(&turn, &self.stream.source, self.record.address) {
                    self.facts.tool_uses.merge(row);
                }
            }
        }
        (RecordClass::Normalised, Some(id))
    }

    /// A message in the place of the user. What the person or program meant by it the record does not say.
    fn user_turn<'r>(&mut self, fields: &'r Record<'_>) -> (RecordClass, Option<&'r str>) {
        let Some(id) = fields.user.as_deref().filter(|id| !id.is_empty()) else {
            return (RecordClass::Unknown, None);
        };
        let mut bytes = 0i64;
        for block in fields.blocks.iter() {
            if block.kind.as_deref() != Some("text") {
                // The result of a tool is none, whatever text comes with it.
                return (RecordClass::Normalised, Some(id));
            }
            bytes = bytes.saturating_add(block.bytes.value.unwrap_or(0));
        }
        self.facts.user_turns.merge(UserTurn {
            source: self.stream.source.clone(),
            turn: self.key(id),
            copied: false,
            timestamp: self.at,
            session: self.stream.session.clone(),
            stream: self.stream.stream.clone(),
            class: self.facts.names.get(CLASS_IMPORTED),
            characters: bytes,
            images: 0,
            text_prefix: 0,
            place: self.record.address,
            contested: false,
            forms: Vec::new(),
        });
        (RecordClass::Normalised, Some(id))
    }

    /// The id itself where raw records have it; one that no raw record has where those are named by their order.
    fn key(&self, id: &str) -> String {
        let is_named_alike = !matches!(&*self.stream.source, "codex" | "opencode");
        let own = || format!("{}/{id}", self.stream.stream);
        key_text(&if is_named_alike { id.to_owned() } else { own() }).into_owned()
    }

    fn tool_result<'r>(&mut self, fields: &'r Record<'_>) -> (RecordClass, Option<&'r str>) {
        let Some(id) = fields.tool_use.as_deref().filter(|id| !id.is_empty()) else {
            return (RecordClass::Unknown, None);
        };
        let status = fields.status.as_deref();
        let is_end = matches!(status, Some("completed" | "errored" | "cancelled"));
        // OpenCode's tool uses have other names than these records give them.
        if is_end && &*self.stream.source != "opencode" {
            let mut row = ToolUse::unseen(self.stream.source.clone(), key_text(id).into_owned());
            row.is_error = Some(fields.is_error.0.unwrap_or(status == Some("errored")));
            row.result_bytes = fields.output_bytes.value.or(fields.content_length.value);
            row.result_session = Some(self.stream.session.clone());
            row.result_at = self.at;
            row.result_place = Some(self.record.address);
            self.facts.tool_uses.merge(row);
        }
        (RecordClass::Normalised, Some(id))
    }

    /// Codex and OpenCode state theirs in facts that may yet change: there only raw records tell.
    fn relationship<'r>(&mut self, fields: &'r Record<'_>) -> (RecordClass, Option<&'r str>) {
        let kind = match fields.relationship.as_deref() {
            Some("fork") => KIND_FORK,
            Some("continuation") => KIND_CONTINUATION,
            Some("subagent") => KIND_SUBAGENT,
            Some("root") => return (RecordClass::Normalised, None),
            _ => return (RecordClass::Unknown, None),
        };
        let Some(from) = fields.related.as_deref().filter(|from| !from.is_empty()) else {
            return (RecordClass::Normalised, None);
        };
        let agent = fields.agent.as_deref().filter(|_| kind == KIND_SUBAGENT).unwrap_or_default();
        // An edge from a session to itself says something only of a subagent.
        let says_nothing = from == &*self.stream.session && agent.is_empty();
        if !says_nothing && !matches!(&*self.stream.source, "codex" | "opencode") {
            self.facts.relationships.merge(Relationship {
                source: self.stream.source.clone(),
                from_session: self.facts.names.get(from),
                to_session: self.stream.session.clone(),
                kind: Name::from(kind),
                agent: self.facts.names.get(agent),
                stream: Some(self.stream.stream.clone()),
                at: self.at,
                tool_use: fields.parent_tool_use.as_deref().map(|id| key_text(id).into_owned()),
                record: None,
                place: self.record.address,
            });
        }
        (RecordClass::Normalised, None)
    }

    fn compaction<'r>(&mut self, fields: &'r Record<'_>) -> (RecordClass, Option<&'r str>) {
        let Some(at) = self.at else { return (RecordClass::Unknown, None) };
        if &*self.stream.source == "claude-code" {
            compactions::note_imported(at, fields.tokens_before.value, self.record, self.stream, self.facts);
        }
        (RecordClass::Normalised, None)
    }

    /// A block of a conversation.
    fn content(&mut self, line: &Line<'_>) -> Reading {
        let kind = line.kind.as_deref().unwrap_or_default();
        if let Some(at) = line.ts.as_deref().and_then(instant_of) {
            self.stream.offer_instant(at);
        }
        let (tool, result) = (&line.tool_use, &line.tool_result);
        match kind {
            "text" | "thinking" => self.facts.block(kind, line.text.text_span(), None),
            "tool_use" => {
                let tool = tool.as_deref();
                let span = tool.map(|tool| tool.input.span).unwrap_or_default();
                self.facts.block(kind, span, tool.and_then(|tool| tool.id.as_deref()));
            }
            "tool_result" => {
                let result = result.as_deref();
                let span = result.map(|result| result.content.span).unwrap_or_default();
                self.facts.block(kind, span, result.and_then(|result| result.tool_use.as_deref()));
            }
            _ => return Reading::of_class(RecordClass::Unknown, "content", self.facts),
        }
        let id = line.message.as_deref();
        let class = match line.role.as_deref() {
            Some("assistant") => RecordClass::Assistant,
            Some("user" | "tool_result") => RecordClass::User,
            _ => RecordClass::Normalised,
        };
        let reading = Reading::of_class(class, "content", self.facts);
        Reading { fingerprint: id.map_or([0; 4], fingerprint), ..reading }
    }
}
