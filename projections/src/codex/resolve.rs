//! What the facts of one rollout mean together: which lines are copies and of whose, which snapshots are calls and
//! what each of them used, which model and folder they had.

use super::facts::{Counters, Dated, Fact, Meta, Said, Usage, decode, parse_key};
use super::{is_uuid, locate};
use crate::calls::Call;
use crate::compactions::Compaction;
use crate::groups::Group;
use crate::notices::Notice;
use crate::relationships::{KIND_FORK, KIND_SUBAGENT, Relationship};
use crate::relayburn::{ImportedTurn, call_of};
use crate::resolved::Resolved;
use crate::text::{Name, Tokens, key_text};
use crate::tool_calls::ToolCall;
use crate::user_turns::UserTurn;
use burnlog_log::{Address, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// A fact with the number of its line and its event.
type Placed = (u64, Address, Dated);

/// Tells what the facts of a rollout mean.
pub(super) fn resolve(group: &Group) -> Resolved {
    let (placed, tools) = read(group);
    let mut walk = Walk::at_start(group, &placed);
    for (seq, place, dated) in &placed {
        walk.seq = i64::try_from(*seq).unwrap_or(i64::MAX);
        walk.step(*place, dated);
    }
    let Walk { mut resolved, mut asked_by, .. } = walk;
    resolved.tool_calls = tools
        .into_iter()
        .map(|(tool_use, places)| ToolCall { call: asked_by.remove(&tool_use), tool_use, places })
        .collect();
    resolved
}

/// Reads the facts, in the order of the file, and where each tool use stands.
fn read(group: &Group) -> (Vec<Placed>, BTreeMap<String, Vec<Address>>) {
    let (mut seen, mut placed) = (BTreeSet::new(), Vec::new());
    let mut tools: BTreeMap<String, Vec<Address>> = BTreeMap::new();
    for (key, bytes) in group.facts.iter() {
        let (Some((seq, place)), Some(dated)) = (parse_key(key), decode(bytes)) else { continue };
        if let Fact::Tool { id } = &dated.fact {
            tools.entry(id.clone()).or_default().push(place);
        }
        // A file that was rewritten has the same lines at other numbers.
        if matches!(dated.fact, Fact::Unknown { .. }) || seen.insert(bytes) {
            placed.push((seq, place, dated));
        }
    }
    (placed, tools)
}

/// The key of a turn of which no line is there: one that no line has.
pub(super) fn imported_key(session: &str, turn: &ImportedTurn) -> String {
    key_text(&format!("{session}/relayburn/{}", turn.call)).into_owned()
}

/// The turn that a line names.
fn turn_of(fact: &Fact) -> Option<String> {
    if let Fact::Turn { turn, .. } = fact { turn.clone() } else { None }
}

/// The sessions whose lines a file can hold: its own, the one that was copied, the one that that one had copied …
struct Lineage {
    /// Each with the instant at which it was made, in milliseconds, where known.
    sessions: Vec<(Name, Option<i64>)>,
    /// Whether the file is known to hold lines of others.
    has_copies: bool,
}

impl Lineage {
    fn of(session: &Name, metas: &[&Meta]) -> Self {
        let created = |id: &str, meta: Option<&Meta>| {
            made_at(id).or_else(|| meta.and_then(|meta| meta.created).map(|micros| micros.div_euclid(1000)))
        };
        let own = metas.first().copied();
        let mut sessions = vec![(session.clone(), created(session, own))];
        let mut parent = own.and_then(|meta| meta.parent.as_deref());
        let mut has_copies = false;
        while let Some(id) = parent {
            let name = Name::from(id);
            if sessions.iter().any(|(known, _)| *known == name) {
                break;
            }
            let meta = metas.iter().skip(1).copied().find(|meta| meta.id.as_deref() == Some(id));
            has_copies |= meta.is_some();
            sessions.push((name, created(id, meta)));
            parent = meta.and_then(|meta| meta.parent.as_deref());
        }
        Self { sessions, has_copies }
    }

    /// Returns the session that made what a turn holds: the youngest that was there when the turn began.
    fn owner(&self, turn: Option<&str>) -> &Name {
        let oldest = self.sessions.last().expect("the own session is always there");
        let Some(began) = turn.and_then(made_at) else {
            // Older versions do not name turns: all that a fork continues is told under the session that began it.
            return if self.has_copies { &oldest.0 } else { &self.sessions[0].0 };
        };
        let was_there = |made: &Option<i64>| made.is_some_and(|made| made <= began);
        self.sessions.iter().find(|(_, made)| was_there(made)).map_or_else(
            || if self.sessions.len() == 1 { &self.sessions[0].0 } else { &oldest.0 },
            |(session, _)| session,
        )
    }
}

/// The milliseconds in a UUID of version 7.
fn made_at(id: &str) -> Option<i64> {
    if !is_uuid(id) || id.as_bytes()[14] != b'7' {
        return None;
    }
    i64::from_str_radix(&format!("{}{}", &id[..8], &id[9..13]), 16).ok()
}

/// The facts in the order of the file, with what holds at each.
struct Walk {
    source: Name,
    stream: Name,
    session: Name,
    lineage: Lineage,
    turn: Option<String>,
    model: Option<Name>,
    cwd: Option<Name>,
    branch: Option<Name>,
    version: Option<Name>,
    agent: Option<Name>,
    is_subagent: bool,
    has_events: bool,
    /// The last prompt that was seen as an item: the number of its line, and its place.
    item: Option<(i64, Address)>,
    /// The number of the line.
    seq: i64,
    /// How often the counters began anew.
    base: u64,
    before: Option<Counters>,
    /// How many things of each kind each session has so far.
    numbers: BTreeMap<(&'static str, Name), u64>,
    /// The turns that lines tell of.
    turns: BTreeSet<String>,
    /// The tools that were asked for since the last call: a call is told behind what it asked for.
    asked: Vec<String>,
    /// The tools that were asked for, with their calls.
    asked_by: BTreeMap<String, String>,
    resolved: Resolved,
}

impl Walk {
    /// What holds before the first line.
    fn at_start(group: &Group, placed: &[Placed]) -> Self {
        let metas: Vec<&Meta> = placed
            .iter()
            .filter_map(|(.., dated)| if let Fact::Meta(meta) = &dated.fact { Some(meta) } else { None })
            .collect();
        let own = metas.first().map_or_else(Meta::default, |meta| (*meta).clone());
        let first_turn = placed.iter().find_map(|(.., dated)| match &dated.fact {
            Fact::Turn { model: Some(model), .. } => Some(Name::from(&**model)),
            _ => None,
        });
        let has_events =
            placed.iter().any(|(.., dated)| matches!(dated.fact, Fact::User { said: Said::Event, .. }));
        let session = Name::from(locate(&group.name).0);
        Self {
            source: group.source.clone(),
            stream: group.name.clone(),
            lineage: Lineage::of(&session, &metas),
            session,
            turn: None,
            model: first_turn,
            cwd: own.cwd.as_deref().map(Name::from),
            branch: own.branch.as_deref().map(Name::from),
            version: own.version.as_deref().map(Name::from),
            agent: own.agent.as_deref().map(Name::from),
            is_subagent: own.is_subagent,
            has_events,
            item: None,
            seq: 0,
            base: 0,
            before: None,
            numbers: BTreeMap::new(),
            turns: placed.iter().filter_map(|(.., dated)| turn_of(&dated.fact)).collect(),
            asked: Vec::new(),
            asked_by: BTreeMap::new(),
            resolved: Resolved::default(),
        }
    }

    fn step(&mut self, place: Address, dated: &Dated) {
        let at = dated.at.map(Timestamp::from_micros);
        match &dated.fact {
            Fact::Meta(meta) => self.origin(place, at, meta),
            Fact::Turn { turn, model, cwd } => {
                if turn.is_some() && self.turn != *turn {
                    // What an aborted turn asked for last is of a call that nothing tells of.
                    self.asked.clear();
                }
                self.turn.clone_from(turn);
                self.model = model.as_deref().map(Name::from).or_else(|| self.model.take());
                self.cwd = cwd.as_deref().map(Name::from).or_else(|| self.cwd.take());
            }
            Fact::Usage(usage) => self.usage(place, at, usage),
            Fact::User { class, said, characters, images } => {
                if self.turn.is_none() && class == "prompt" {
                    self.asked.clear();
                }
                // A prompt stands in the file twice; the event is the one as it was sent.
                let is_double = *said == Said::Item && class == "prompt" && self.has_events;
                if is_double {
                    self.item = Some((self.seq, place));
                } else {
                    // The item, in the line before, is where the blocks of the prompt are.
                    let item = self.item.take().filter(|(seq, _)| seq + 1 == self.seq);
                    let place = item.filter(|_| *said == Said::Event).map_or(place, |(_, item)| item);
                    self.user_turn(place, at, class, (*characters, *images));
                }
            }
            Fact::Compaction => {
                let (owner, copied, compaction) = self.next_name("compaction");
                self.resolved.compactions.push(Compaction {
                    source: self.source.clone(),
                    compaction: format!("{owner}/{compaction}"),
                    copied,
                    timestamp: at,
                    session: self.session.clone(),
                    stream: self.stream.clone(),
                    trigger: None,
                    tokens_before: None,
                    place,
                });
            }
            Fact::Unknown { record_type } => {
                let version = self.version.clone().unwrap_or_default();
                *self.resolved.unknown.entry((version, Name::from(&**record_type))).or_default() += 1;
            }
            Fact::Notice { error } => self.notice(place, at, error.as_deref()),
            Fact::Imported(turn) if !self.turns.contains(&turn.call) => self.imported(place, turn),
            Fact::Imported(_) => {}
            Fact::Tool { id } => self.asked.push(id.clone()),
        }
    }

    /// A turn of which no line is there: all of its calls as one.
    fn imported(&mut self, place: Address, turn: &ImportedTurn) {
        let key = imported_key(&self.session, turn);
        self.resolved.calls.push(call_of(turn, &self.source, key, place));
    }

    /// Names a thing by the session that made it and its number there: a copy has the same name.
    fn next_name(&mut self, kind: &'static str) -> (Name, bool, String) {
        let owner = self.lineage.owner(self.turn.as_deref()).clone();
        let number = self.numbers.entry((kind, owner.clone())).or_default();
        *number += 1;
        let (copied, name) = (owner != self.session, format!("{kind}-{number}"));
        (owner, copied, name)
    }

    /// What a session came out of, as its own meta says.
    fn origin(&mut self, place: Address, at: Option<Timestamp>, meta: &Meta) {
        let is_own = meta.id.as_deref().is_some_and(|id| Name::from(id) == self.session);
        let Some(parent) = meta.parent.as_deref().filter(|_| is_own) else { return };
        let agent = if meta.is_subagent { self.agent.clone() } else { None };
        self.resolved.relationships.push(Relationship {
            source: self.source.clone(),
            from_session: Name::from(parent),
            to_session: self.session.clone(),
            kind: Name::from(if meta.is_subagent { KIND_SUBAGENT } else { KIND_FORK }),
            agent: agent.unwrap_or_default(),
            stream: Some(self.stream.clone()),
            at,
            tool_use: None,
            record: None,
            place,
        });
    }

    fn user_turn(&mut self, place: Address, at: Option<Timestamp>, class: &str, size: (i64, i64)) {
        let (owner, copied, turn) = self.next_name("user");
        let class = if class == "prompt" && self.is_subagent { "delegated" } else { class };
        self.resolved.user_turns.push(UserTurn {
            source: self.source.clone(),
            // Where turns have no names, a fork and what it was forked from count on alike; the length tells most apart.
            turn: format!("{owner}/{turn}-{}", size.0),
            copied,
            timestamp: at,
            session: self.session.clone(),
            stream: self.stream.clone(),
            class: Name::from(class),
            characters: size.0,
            images: size.1,
            text_prefix: 0,
            place,
            contested: false,
            forms: Vec::new(),
        });
    }

    fn notice(&mut self, place: Address, at: Option<Timestamp>, error: Option<&str>) {
        let (owner, copied, notice) = self.next_name("notice");
        self.resolved.notices.push(Notice {
            source: self.source.clone(),
            notice: format!("{owner}/{notice}"),
            copied,
            timestamp: at,
            session: self.session.clone(),
            stream: self.stream.clone(),
            error: error.map(Name::from),
            status: None,
            place,
        });
    }

    /// A snapshot is a call if the counters have moved: what they moved by is what it used.
    fn usage(&mut self, place: Address, at: Option<Timestamp>, usage: &Usage) {
        let total = usage.total;
        let used = match self.before {
            Some(before) if before == total => return,
            Some(before) if is_less(&total, &before) => {
                self.base += 1;
                total
            }
            Some(before) => difference(&total, &before),
            // The counter of a fork may go on from one whose snapshots are not in this file.
            None if self.lineage.sessions.len() > 1 => usage.last.unwrap_or(total),
            None => total,
        };
        self.before = Some(total);
        if is_nothing(&used) {
            return;
        }
        self.call(place, at, usage, &used);
    }

    fn call(&mut self, place: Address, at: Option<Timestamp>, usage: &Usage, used: &Counters) {
        let owner = self.lineage.owner(self.turn.as_deref());
        let number = |count: Option<i64>| count.map_or("-".to_owned(), |count| count.to_string());
        let counters = [usage.total.input, usage.total.cached, usage.total.output, usage.total.reasoning];
        let position = counters.map(number).join(".");
        let base = if self.base == 0 { String::new() } else { format!("#{}", self.base) };
        let tokens = |count: Option<i64>| count.map(Tokens);
        let fresh = used.input.map(|input| input.saturating_sub(used.cached.unwrap_or(0)).max(0));
        let key = key_text(&format!("{owner}/{position}{base}")).into_owned();
        for tool_use in self.asked.drain(..) {
            self.asked_by.insert(tool_use, key.clone());
        }
        self.resolved.calls.push(Call {
            source: self.source.clone(),
            call: key,
            request: None,
            model: self.model.clone(),
            input_tokens: tokens(fresh),
            output_tokens: tokens(used.output),
            cache_read_tokens: tokens(used.cached),
            cache_write_5m_tokens: None,
            cache_write_1h_tokens: None,
            reasoning_tokens: tokens(used.reasoning),
            stop_reason: None,
            complete: true,
            service_tier: None,
            speed: None,
            clamped: usage.clamped,
            kept_at: at,
            payload_prefix: usage.payload_prefix,
            place,
            session: self.session.clone(),
            stream: self.stream.clone(),
            seq: self.seq,
            copied: *owner != self.session,
            timestamp: at,
            cwd: self.cwd.clone(),
            branch: self.branch.clone(),
            version: self.version.clone(),
            sidechain: self.is_subagent,
            agent: self.agent.clone(),
            contested: false,
            elsewhere: Vec::new(),
            forms: Vec::new(),
        });
    }
}

/// Whether a counter that only grows has become smaller: it began anew.
fn is_less(now: &Counters, before: &Counters) -> bool {
    let pairs = [(now.input, before.input), (now.output, before.output), (now.total, before.total)];
    pairs.iter().any(|(now, before)| now.zip(*before).is_some_and(|(now, before)| now < before))
}

fn difference(now: &Counters, before: &Counters) -> Counters {
    let less = |now: Option<i64>, before: Option<i64>| now.map(|now| (now - before.unwrap_or(0)).max(0));
    Counters {
        input: less(now.input, before.input),
        cached: less(now.cached, before.cached),
        output: less(now.output, before.output),
        reasoning: less(now.reasoning, before.reasoning),
        total: less(now.total, before.total),
    }
}

fn is_nothing(used: &Counters) -> bool {
    let parts = [used.input, used.cached, used.output, used.reasoning];
    parts.iter().all(|part| part.unwrap_or(0) == 0)
}
