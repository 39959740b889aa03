//! What the objects of one session mean together: messages that are calls or prompts, with what their parts add, and
//! whether another session began this one.

use super::copied::{copied_after, identity};
use super::facts::{Fact, Message, Placed, Tokens, Tool, decode};
use super::{instant, name};
use crate::calls::Call;
use crate::compactions::Compaction;
use crate::copies::Instance;
use crate::groups::Group;
use crate::notices::Notice;
use crate::relationships::{KIND_SUBAGENT, Relationship};
use crate::relayburn::{ImportedTurn, call_of, tool_uses_of};
use crate::resolved::Resolved;
use crate::text::{Name, Tokens as Count};
use crate::tool_uses::ToolUse;
use crate::user_turns::UserTurn;
use burnlog_log::Address;
use std::collections::{HashMap, HashSet};

/// What the parts of a message say.
#[derive(Default)]
struct Parts {
    characters: i64,
    images: i64,
    has_own_text: bool,
    has_synthetic_text: bool,
    compaction: Option<(Address, Option<bool>)>,
    steps: Option<Tokens>,
}

/// Tells what the facts of a session mean.
pub(super) fn resolve(group: &Group) -> Resolved {
    let placed: Vec<Placed> = group.facts.iter().filter_map(|(_, bytes)| decode(bytes)).collect();
    let mut session = Session::of(group, &placed);
    let mut parts: HashMap<&str, Parts> = HashMap::new();
    for Placed { place, fact, .. } in &placed {
        match fact {
            Fact::Text { message, characters, synthetic } => {
                let parts = parts.entry(message).or_default();
                parts.has_synthetic_text |= synthetic;
                parts.has_own_text |= !synthetic;
                parts.characters += if *synthetic { 0 } else { *characters };
            }
            Fact::File { message, is_image } => {
                parts.entry(message).or_default().images += i64::from(*is_image);
            }
            Fact::Compaction { message, auto } => {
                parts.entry(message).or_default().compaction = Some((*place, *auto));
            }
            Fact::Step { message, tokens } => {
                parts.entry(message).or_default().steps.get_or_insert_default().add(tokens);
            }
            _ => {}
        }
    }
    let messages: HashSet<&str> = placed
        .iter()
        .filter_map(
            |placed| if let Fact::Message(message) = &placed.fact { Some(&*message.id) } else { None },
        )
        .collect();
    let none = Parts::default();
    for Placed { place, payload_prefix, fact } in &placed {
        match fact {
            Fact::Message(message) => {
                let parts = parts.get(&*message.id).unwrap_or(&none);
                if message.is_user {
                    session.user_message(*place, message, parts);
                } else {
                    session.call(*place, *payload_prefix, message, parts);
                }
            }
            Fact::Session { parent: Some(parent), .. } => session.origin(*place, parent),
            Fact::Tool(tool) => session.tool(*place, tool),
            Fact::Imported(turn) if !messages.contains(&*turn.call) => session.imported(*place, turn),
            Fact::Unknown { record_type } => {
                let key = (session.version.clone().unwrap_or_default(), Name::from(&**record_type));
                *session.resolved.unknown.entry(key).or_default() += 1;
            }
            _ => {}
        }
    }
    session.resolved
}

/// What all rows of a session have in common.
struct Session {
    source: Name,
    name: Name,
    version: Option<Name>,
    is_child: bool,
    /// When the last copied answer ended: a fork copies all that came before it, too.
    copied_until: Option<i64>,
    resolved: Resolved,
}

impl Session {
    fn of(group: &Group, placed: &[Placed]) -> Self {
        let object = placed.iter().find_map(|placed| match &placed.fact {
            Fact::Session { parent, version } => Some((parent, version)),
            _ => None,
        });
        Self {
            source: group.source.clone(),
            name: group.name.clone(),
            version: object.and_then(|(_, version)| name(version.as_ref())),
            is_child: object.is_some_and(|(parent, _)| parent.is_some()),
            copied_until: placed.iter().filter_map(ended_if_copied).max(),
            resolved: Resolved::default(),
        }
    }

    /// Whether what happened then is part of the history that a fork copied.
    fn is_copied(&self, at: Option<i64>) -> bool {
        at.is_some_and(|at| self.copied_until.is_some_and(|until| at <= until))
    }

    /// A child session is a subagent of the one that began it.
    fn origin(&mut self, place: Address, parent: &str) {
        self.resolved.relationships.push(Relationship {
            source: self.source.clone(),
            from_session: Name::from(parent),
            to_session: self.name.clone(),
            kind: Name::from(KIND_SUBAGENT),
            agent: Name::default(),
            stream: Some(Name::from(&*format!("session/{}", self.name))),
            at: None,
            tool_use: None,
            record: None,
            place,
        });
    }

    fn call(&mut self, place: Address, payload_prefix: i64, message: &Message, parts: &Parts) {
        let complete = message.completed.is_some();
        // Until its first step has ended a message says 0, and means nothing yet.
        let told = message.tokens.filter(|tokens| complete || !tokens.is_nothing());
        let tokens = told.or(parts.steps).unwrap_or_default();
        let count = |count: Option<i64>| count.map(Count);
        let agent = name(message.agent.as_ref()).filter(|_| self.is_child);
        let copied_after = copied_after(message);
        let call = Call {
            source: self.source.clone(),
            call: message.id.clone(),
            request: None,
            model: name(message.model.as_ref()),
            input_tokens: count(tokens.input),
            output_tokens: count(tokens.output),
            cache_read_tokens: count(tokens.cache_read),
            cache_write_5m_tokens: count(tokens.cache_write),
            cache_write_1h_tokens: None,
            reasoning_tokens: count(tokens.reasoning),
            stop_reason: name(message.finish.as_ref()),
            complete,
            service_tier: None,
            speed: None,
            clamped: tokens.clamped,
            kept_at: instant(message.completed.or(message.created)),
            payload_prefix,
            place,
            session: self.name.clone(),
            stream: Name::from(&*format!("message/{}", message.id)),
            seq: 0,
            copied: copied_after.is_some(),
            timestamp: instant(message.created),
            cwd: name(message.cwd.as_ref()),
            branch: None,
            version: self.version.clone(),
            sidechain: self.is_child,
            agent,
            contested: false,
            elsewhere: Vec::new(),
            forms: Vec::new(),
        };
        let identity = identity(message).map(|identity| Name::from(&*identity));
        self.resolved.instances.push(Instance { identity, copied_after, call });
        if let Some(error) = name(message.error.as_ref()) {
            self.resolved.notices.push(Notice {
                source: self.source.clone(),
                notice: message.id.clone(),
                copied: copied_after.is_some(),
                timestamp: instant(message.created),
                session: self.name.clone(),
                stream: Name::from(&*format!("message/{}", message.id)),
                error: Some(error),
                status: message.status,
                place,
            });
        }
    }

    /// A message of which no object is there.
    fn imported(&mut self, place: Address, turn: &ImportedTurn) {
        self.resolved.calls.push(call_of(turn, &self.source, turn.call.clone(), place));
        self.resolved.tool_uses.extend(tool_uses_of(turn, &self.source, place));
    }

    fn user_message(&mut self, place: Address, message: &Message, parts: &Parts) {
        let stream = Name::from(&*format!("message/{}", message.id));
        if let Some((_, auto)) = parts.compaction {
            let trigger = auto.map(|auto| Name::from(if auto { "auto" } else { "manual" }));
            self.resolved.compactions.push(Compaction {
                source: self.source.clone(),
                compaction: message.id.clone(),
                copied: self.is_copied(message.created),
                timestamp: instant(message.created),
                session: self.name.clone(),
                stream,
                trigger,
                tokens_before: None,
                place,
            });
            return;
        }
        let class = match parts {
            _ if self.is_child => "delegated",
            Parts { has_own_text: false, has_synthetic_text: true, .. } => "meta",
            _ => "prompt",
        };
        self.resolved.user_turns.push(UserTurn {
            source: self.source.clone(),
            turn: message.id.clone(),
            copied: self.is_copied(message.created),
            timestamp: instant(message.created),
            session: self.name.clone(),
            stream,
            class: Name::from(class),
            characters: parts.characters,
            images: parts.images,
            text_prefix: 0,
            place,
            contested: false,
            forms: Vec::new(),
        });
    }

    fn tool(&mut self, place: Address, tool: &Tool) {
        let is_copied = self.is_copied(tool.start);
        let mut row = ToolUse::unseen(self.source.clone(), tool.id.clone());
        row.call = Some(tool.message.clone());
        row.tool = name(tool.name.as_ref());
        row.target = name(tool.target.as_ref());
        row.session = Some(self.name.clone());
        row.used_at = instant(tool.start);
        row.use_copied = Some(is_copied);
        row.place = Some(place);
        if tool.is_error.is_some() {
            row.is_error = tool.is_error;
            row.result_bytes = tool.bytes;
            row.result_session = Some(self.name.clone());
            row.result_at = instant(tool.end);
            row.result_copied = Some(is_copied);
            row.result_place = Some(place);
        }
        self.resolved.tool_uses.push(row);
    }
}

/// When a message ended, or began if it did not, if it is a copied answer.
fn ended_if_copied(placed: &Placed) -> Option<i64> {
    let Fact::Message(message) = &placed.fact else { return None };
    copied_after(message).and(message.completed.or(message.created))
}
