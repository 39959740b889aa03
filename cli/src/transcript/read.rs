//! The text of a transcript: payloads read from the ledger in pages, cut at the places that rows name, and handed to a
//! renderer. A payload that cannot be read is an item that says so.

use super::plan::{Plan, Step};
use super::{Item, Place, Renderer, text};
use burnlog_log::{Address, Body, Ledger, Limit, Result};
use burnlog_projections::{BlockPlace, RecordClass, RecordPlace, ToolUse};
use bytes::Bytes;
use serde_json::value::RawValue;
use std::collections::HashMap;

/// How many steps are read ahead.
const PAGE_STEPS: usize = 512;
/// How much of a record that cannot be understood is shown, in bytes.
const GLIMPSE_BYTES: usize = 200;

/// What the ledger has of an event.
#[derive(Debug, Clone)]
pub(crate) enum Fetched {
    /// The payload.
    Present(Bytes),
    /// It was erased.
    Erased,
    /// The store cannot read it, and says why.
    Damaged(String),
    /// The ledger does not have the event.
    Missing,
}

/// Reads payloads, many at once.
pub(crate) struct PayloadReader<'a> {
    ledger: &'a Ledger,
}

impl<'a> PayloadReader<'a> {
    pub(crate) fn new(ledger: &'a Ledger) -> Self {
        Self { ledger }
    }

    /// Calls `each` with every event of the list, in its order. Memory holds one page of the ledger at a time.
    pub(crate) fn for_each(
        &self,
        addresses: &[Address],
        each: &mut dyn FnMut(&Address, Fetched) -> Result<()>,
    ) -> Result<()> {
        let mut at = 0;
        while at < addresses.len() {
            let bodies = self.ledger.get(&addresses[at..], Limit::default())?;
            for body in bodies {
                let fetched = match body {
                    Some(Body::Present { payload, .. }) => Fetched::Present(payload),
                    Some(Body::Erased { .. }) => Fetched::Erased,
                    Some(Body::Damaged { place, reason }) => Fetched::Damaged(format!("{reason} ({place})")),
                    None => Fetched::Missing,
                };
                each(&addresses[at], fetched)?;
                at += 1;
            }
        }
        Ok(())
    }
}

/// Writes a planned transcript.
pub(crate) fn write(
    plan: &Plan,
    payloads: &PayloadReader<'_>,
    renderer: &mut dyn Renderer,
) -> anyhow::Result<()> {
    let mut lost: Option<Address> = None;
    for steps in plan.steps.chunks(PAGE_STEPS) {
        let mut wanted: Vec<Address> = steps.iter().filter_map(address).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut fetched: HashMap<Address, Fetched> = HashMap::with_capacity(wanted.len());
        payloads.for_each(&wanted, &mut |address, body| {
            fetched.insert(*address, body);
            Ok(())
        })?;
        for step in steps {
            match step {
                Step::AgentBegin(agent) => renderer.begin_agent(agent)?,
                Step::AgentEnd => renderer.end_agent()?,
                step => {
                    let body = address(step).and_then(|address| fetched.get(&address));
                    let Some(item) = item(step, body) else { continue };
                    // Of a record that is lost one block says so for all.
                    if let Item::Lost { address, .. } = &item
                        && lost.replace(*address) == Some(*address)
                    {
                        continue;
                    }
                    renderer.item(&item)?;
                }
            }
        }
    }
    renderer.end(&plan.left_out)?;
    Ok(())
}

fn address(step: &Step) -> Option<Address> {
    match step {
        Step::Block { place, .. } => Some(place.address),
        Step::Record { place, .. } => Some(place.address),
        _ => None,
    }
}

/// The item of a step; a subagent's beginning and end are none.
fn item(step: &Step, body: Option<&Fetched>) -> Option<Item> {
    let text = |name: &Option<burnlog_projections::Name>| name.as_ref().map(ToString::to_string);
    Some(match step {
        Step::Turn(turn) => Item::Turn {
            ordinal: turn.ordinal,
            class: turn.turn.class.to_string(),
            timestamp: turn.turn.timestamp,
        },
        Step::Call(call) => call_item(call),
        Step::Compaction { trigger, tokens_before, timestamp } => {
            Item::Compaction { trigger: text(trigger), tokens_before: *tokens_before, timestamp: *timestamp }
        }
        Step::Notice { error, status, timestamp } => {
            Item::Notice { error: text(error), status: *status, timestamp: *timestamp }
        }
        Step::Speaker { role } => Item::Speaker { role },
        Step::Block { place, role, tool, follows } => block(place, role, tool.as_deref(), *follows, body),
        Step::Record { stream, place } => record(stream, place, body),
        Step::Copied { from, records, shown } => {
            Item::Copied { from_session: text(from), records: *records, shown: *shown }
        }
        Step::CopiedEnd { from } => Item::CopiedEnd { from_session: text(from) },
        Step::BegunBy(from) => {
            Item::BegunBy { kind: from.kind.to_string(), session: from.session.to_string() }
        }
        Step::Began(other) => Item::Began {
            kind: other.kind.to_string(),
            session: other.session.to_string(),
            agent: text(&other.agent),
        },
        Step::AgentBegin(_) | Step::AgentEnd => return None,
    })
}

fn call_item(call: &burnlog_projections::Call) -> Item {
    let tokens = |tokens: Option<burnlog_projections::Tokens>| tokens.map(|tokens| tokens.0);
    let writes = [call.cache_write_5m_tokens, call.cache_write_1h_tokens];
    let written = writes.iter().flatten().fold(0i64, |sum, tokens| sum.saturating_add(tokens.0));
    Item::Call {
        call: call.call.clone(),
        model: call.model.as_ref().map(ToString::to_string),
        timestamp: call.timestamp,
        input_tokens: tokens(call.input_tokens),
        output_tokens: tokens(call.output_tokens),
        cache_read_tokens: tokens(call.cache_read_tokens),
        cache_write_tokens: writes.iter().any(Option::is_some).then_some(written),
        reasoning_tokens: tokens(call.reasoning_tokens),
        stop_reason: call.stop_reason.as_ref().map(ToString::to_string),
        complete: call.complete,
        sidechain: call.sidechain,
    }
}

/// The item of a block.
fn block(
    place: &BlockPlace,
    role: &'static str,
    tool: Option<&ToolUse>,
    follows: bool,
    body: Option<&Fetched>,
) -> Item {
    let payload = match body {
        Some(Fetched::Present(payload)) => payload,
        other => return lost(&place.stream, place.seq, place.address, other),
    };
    let range = place.start as usize..place.start.saturating_add(place.bytes) as usize;
    let Some(raw) = payload.get(range) else {
        return Item::Lost {
            reason: "misplaced",
            message: "the place lies outside of the record; run burnlog project rebuild".to_owned(),
            stream: place.stream.to_string(),
            seq: place.seq,
            address: place.address,
        };
    };
    let name = |name: Option<&burnlog_projections::Name>| name.map(ToString::to_string);
    let at = Place {
        stream: place.stream.to_string(),
        seq: place.seq,
        address: place.address,
        start: place.start,
        bytes: place.bytes,
    };
    let tool_use = place.tool_use.clone();
    match place.kind.as_str() {
        "text" | "system" | "summary" => Item::Text { role, text: text::block_text("text", raw), place: at },
        "thinking" => Item::Thinking { text: text::block_text("thinking", raw), place: at },
        "tool_use" | "server_tool_use" => Item::ToolUse {
            tool: name(tool.and_then(|tool| tool.tool.as_ref())),
            timestamp: tool.and_then(|tool| tool.used_at),
            summary: text::summary(raw),
            input: std::str::from_utf8(raw).ok().and_then(|text| RawValue::from_string(text.to_owned()).ok()),
            tool_use,
            place: at,
        },
        "tool_result" => Item::ToolResult {
            tool: name(tool.and_then(|tool| tool.tool.as_ref())),
            timestamp: tool.and_then(|tool| tool.result_at),
            error: tool.and_then(|tool| tool.is_error),
            follows,
            text: text::block_text("tool_result", raw),
            tool_use,
            place: at,
        },
        "image" => {
            let (media_type, image_bytes) = text::image(raw);
            Item::Image { media_type, image_bytes, tool_use, place: at }
        }
        kind => Item::Block { kind: kind.to_owned(), text: text::block_text(kind, raw), place: at },
    }
}

/// The item of a record that has no blocks.
fn record(stream: &str, place: &RecordPlace, body: Option<&Fetched>) -> Item {
    let payload = match body {
        Some(Fetched::Present(payload)) if place.class != RecordClass::Erased => payload,
        other => return lost(stream, place.seq, place.address, other),
    };
    let (reason, why) = match place.class {
        RecordClass::Tail => ("tail", "the file ended in the middle of this record"),
        RecordClass::Part => ("part", "a part of a record that is too long for one event"),
        RecordClass::Unreadable => ("unreadable", "not to be parsed"),
        RecordClass::OtherKind => ("other_kind", "an event of a kind that this program does not know"),
        _ => ("unknown", "of a type that this program does not know"),
    };
    let glimpse = String::from_utf8_lossy(&payload[..payload.len().min(GLIMPSE_BYTES)]).into_owned();
    let more = if payload.len() > GLIMPSE_BYTES { "…" } else { "" };
    let message = format!("{why}, {}: {glimpse}{more}", crate::output::bytes(payload.len() as u64));
    Item::Lost { reason, message, stream: stream.to_owned(), seq: place.seq, address: place.address }
}

fn lost(stream: &str, seq: u64, address: Address, body: Option<&Fetched>) -> Item {
    let (reason, message) = match body {
        Some(Fetched::Erased | Fetched::Present(_)) => ("erased", "its payload was erased".to_owned()),
        Some(Fetched::Damaged(why)) => {
            ("damaged", format!("the store cannot read it: {why}; run burnlog verify"))
        }
        Some(Fetched::Missing) | None => {
            ("missing", "the ledger does not give the event back; run burnlog verify".to_owned())
        }
    };
    Item::Lost { reason, message, stream: stream.to_owned(), seq, address }
}
