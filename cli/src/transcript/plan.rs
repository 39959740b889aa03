//! The order in which a transcript tells things, from rows alone: a result behind its use, a subagent behind the tool
//! use that started it, each record once. Text is not read here, but for records that say nothing of a subagent in rows.

use super::read::{Fetched, PayloadReader};
use super::rows::{AgentLink, Rows, Turn};
use super::{Agent, LeftOut};
use burnlog_log::{Address, Result, Timestamp};
use burnlog_projections::{
    BlockFilter, BlockPlace, Call, CopiedHistory, Name, PageRequest, Queries, RecordClass, RecordPlace,
    Session, Stream, ToolUse, blocks, records,
};
use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

/// How many blocks are asked for at once.
const PAGE_BLOCKS: usize = 8192;
/// How deep subagents are folded into each other; deeper ones follow at the end.
const DEPTH_MAX: usize = 16;

/// One step of a transcript. What has text says where it stands.
#[derive(Debug)]
pub(super) enum Step {
    Turn(Box<Turn>),
    Call(Box<Call>),
    Compaction {
        trigger: Option<Name>,
        tokens_before: Option<i64>,
        timestamp: Option<Timestamp>,
    },
    Notice {
        error: Option<Name>,
        status: Option<i64>,
        timestamp: Option<Timestamp>,
    },
    Block {
        place: BlockPlace,
        role: &'static str,
        tool: Option<Box<ToolUse>>,
        follows: bool,
    },
    /// Somebody begins to speak of whom no row tells.
    Speaker {
        role: &'static str,
    },
    /// A record without blocks that still has something to say: it cannot be read, or is of an unknown type.
    Record {
        stream: Name,
        place: RecordPlace,
    },
    Copied {
        from: Option<Name>,
        records: u64,
        shown: bool,
    },
    CopiedEnd {
        from: Option<Name>,
    },
    AgentBegin(Agent),
    AgentEnd,
}

/// A transcript without its text.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) left_out: LeftOut,
}

/// Plans the transcript of a session. `copied` says whether copied history is shown.
pub(crate) fn plan(
    queries: &dyn Queries,
    payloads: &PayloadReader<'_>,
    session: &Session,
    copied: bool,
) -> Result<Plan> {
    let mut rows = Rows::read(queries, session)?;
    let is_content = |stream: &Stream| !stream.stream.ends_with(".meta");
    let mut streams: Vec<Stream> = std::mem::take(&mut rows.streams).into_iter().filter(is_content).collect();
    // The session's own file first; where there is none, by time.
    streams.sort_by_cached_key(|stream| {
        let first_at = stream.first_at;
        (stream.stream != stream.session, first_at.is_none(), first_at, stream.stream.clone())
    });
    let (own, mut unplaced): (Vec<_>, Vec<_>) = streams.into_iter().partition(|it| it.agent.is_none());
    // Those that a tool use names are told there.
    unplaced.retain(|stream| {
        !rows.agents.iter().any(|it| it.stream.as_ref() == Some(&stream.stream) && it.tool_use.is_some())
    });
    let mut planner = Planner {
        queries,
        payloads,
        rows,
        copied,
        unplaced,
        told: HashSet::new(),
        seen: HashMap::new(),
        speaker: "",
        plan: Plan::default(),
    };
    for stream in &own {
        planner.stream(&stream.stream, 0)?;
    }
    planner.rest()?;
    Ok(planner.plan)
}

struct Planner<'a> {
    queries: &'a dyn Queries,
    payloads: &'a PayloadReader<'a>,
    rows: Rows,
    copied: bool,
    /// Subagents of which no tool use is known, by the time of their first record.
    unplaced: Vec<Stream>,
    /// Streams that were told.
    told: HashSet<Name>,
    /// Records that were told: what a file says twice is told once.
    seen: HashMap<Likeness, Address>,
    /// Who speaks, as far as a heading said so.
    speaker: &'static str,
    plan: Plan,
}

/// What two records that say the same have in common in rows: the fingerprint, and kind and length of the blocks.
type Likeness = ([u8; 4], Vec<(String, u64)>);

/// One stream while it is told.
struct Telling {
    stream: Name,
    records: Vec<RecordPlace>,
    /// The blocks of each record.
    blocks: HashMap<(u64, Address), Vec<BlockPlace>>,
    /// The records with a result, by the tool use.
    results: HashMap<String, Vec<usize>>,
    /// The records of a subagent without a file of its own, by the tool use that started it.
    inner: HashMap<String, (Option<Name>, Vec<usize>)>,
    /// Who speaks in a record with a subagent's message.
    roles: HashMap<usize, &'static str>,
    /// Records that are not told.
    skipped: HashSet<usize>,
    /// Records of subagents that are told behind the tool use that started them.
    folded: HashSet<usize>,
    /// Results that were told behind their use.
    told_results: HashSet<(u64, Address, u32)>,
    /// The numbers of the records in which somebody speaks.
    turns: Vec<u64>,
}

impl Planner<'_> {
    fn push(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    fn stream(&mut self, stream: &Name, depth: usize) -> Result<()> {
        if !self.told.insert(stream.clone()) {
            return Ok(());
        }
        let mut telling = self.read(stream)?;
        let copied = self.rows.copied.remove(stream);
        if let Some((from, copied)) = &copied {
            self.push(Step::Copied { from: from.clone(), records: copied.records, shown: self.copied });
        }
        let end = copied.as_ref().map(|(_, copied)| copied.end.seq);
        let mut is_copied = end.is_some();
        for at in 0..telling.records.len() {
            let place = telling.records[at];
            if is_copied && end.is_some_and(|end| place.seq > end) {
                is_copied = false;
                self.end_of_copied(copied.as_ref());
            }
            let is_elsewhere = telling.skipped.contains(&at) || telling.folded.contains(&at);
            if is_elsewhere || (is_copied && !self.copied) {
                continue;
            }
            self.record(&mut telling, at, depth)?;
        }
        if is_copied {
            self.end_of_copied(copied.as_ref());
        }
        Ok(())
    }

    /// Marks where copied history ends, if it is shown.
    fn end_of_copied(&mut self, copied: Option<&(Option<Name>, CopiedHistory)>) {
        if let (true, Some((from, _))) = (self.copied, copied) {
            self.speaker = "";
            self.push(Step::CopiedEnd { from: from.clone() });
        }
    }

    /// Reads the places of a stream, and of records that say the same or are older versions the ones to tell.
    fn read(&mut self, stream: &Name) -> Result<Telling> {
        let source = self.rows.source.clone();
        let mut telling = Telling {
            stream: stream.clone(),
            records: records(self.queries, &source, stream, 0..u64::MAX)?,
            blocks: HashMap::new(),
            results: HashMap::new(),
            inner: HashMap::new(),
            roles: HashMap::new(),
            skipped: HashSet::new(),
            folded: HashSet::new(),
            told_results: HashSet::new(),
            turns: Vec::new(),
        };
        let filter = BlockFilter {
            source: source.to_string(),
            session: self.rows.session.to_string(),
            stream: Some(stream.to_string()),
            kinds: Vec::new(),
        };
        let mut page = PageRequest { after: None, limit: PAGE_BLOCKS };
        loop {
            let listed = blocks(self.queries, &filter, &page)?;
            for place in listed.items {
                telling.blocks.entry((place.seq, place.address)).or_default().push(place);
            }
            match listed.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        self.leave_out(&mut telling)?;
        self.place_progress(&mut telling)?;
        for (at, place) in telling.records.iter().enumerate() {
            if telling.skipped.contains(&at) {
                continue;
            }
            if self.rows.turn(place).is_some_and(Turn::is_prompt) {
                telling.turns.push(place.seq);
            }
            for block in telling.blocks.get(&(place.seq, place.address)).into_iter().flatten() {
                if let (true, Some(tool_use)) = (is_result(block), &block.tool_use) {
                    let places = telling.results.entry(tool_use.clone()).or_default();
                    if places.last() != Some(&at) {
                        places.push(at);
                    }
                }
            }
        }
        Ok(telling)
    }

    /// Of several versions of a record those that no row was taken from, and of records that say the same all but the
    /// first, are counted and not told.
    fn leave_out(&mut self, telling: &mut Telling) -> Result<()> {
        let mut alike: Vec<(usize, Address)> = Vec::new();
        let mut first = 0;
        while first < telling.records.len() {
            let seq = telling.records[first].seq;
            let after = telling.records[first..].iter().position(|place| place.seq != seq);
            let end = after.map_or(telling.records.len(), |after| first + after);
            let versions = first..end;
            let is_chosen = |at: &usize| self.rows.is_chosen(&telling.records[*at].address);
            let has_line = versions.clone().any(|at| telling.records[at].class != RecordClass::Tail);
            let some_chosen = versions.len() > 1 && versions.clone().any(|at| is_chosen(&at));
            for at in versions {
                let place = telling.records[at];
                let is_old_end = place.class == RecordClass::Tail && has_line;
                if is_old_end || (some_chosen && !is_chosen(&at)) {
                    telling.skipped.insert(at);
                    self.plan.left_out.older_versions += 1;
                    continue;
                }
                let blocks = telling.blocks.get(&(place.seq, place.address));
                let (Some(blocks), true) = (blocks, place.fingerprint != [0; 4]) else { continue };
                let says = blocks.iter().map(|block| (block.kind.clone(), block.bytes)).collect();
                match self.seen.entry((place.fingerprint, says)) {
                    Entry::Occupied(known) => alike.push((at, *known.get())),
                    Entry::Vacant(new) => drop(new.insert(place.address)),
                }
            }
            first = end;
        }
        self.leave_out_repeated(telling, &alike)
    }

    /// Of records that look alike in rows those are left out that have the same id, or the same bytes.
    fn leave_out_repeated(&mut self, telling: &mut Telling, alike: &[(usize, Address)]) -> Result<()> {
        let mut ids: HashMap<Address, Option<String>> = HashMap::new();
        let mut wanted: Vec<Address> = alike.iter().map(|(at, _)| telling.records[*at].address).collect();
        wanted.extend(alike.iter().map(|(_, known)| *known));
        wanted.sort_unstable();
        wanted.dedup();
        self.payloads.for_each(&wanted, &mut |address, fetched| {
            let id = if let Fetched::Present(payload) = fetched { Identity::read(&payload) } else { None };
            ids.insert(*address, id);
            Ok(())
        })?;
        for (at, known) in alike {
            let address = telling.records[*at].address;
            let [one, other] = [&address, known].map(|it| ids.get(it).and_then(Option::as_ref));
            if address == *known || (one.is_some() && one == other) {
                telling.skipped.insert(*at);
                self.plan.left_out.repeated_records += 1;
            }
        }
        Ok(())
    }

    /// Finds the tool uses that started the subagents whose messages stand in this stream. Those with a stream of their
    /// own are told there.
    fn place_progress(&mut self, telling: &mut Telling) -> Result<()> {
        let is_one = |place: &RecordPlace| {
            place.class == RecordClass::Progress && telling.blocks.contains_key(&(place.seq, place.address))
        };
        let found: Vec<usize> = (0..telling.records.len())
            .filter(|at| !telling.skipped.contains(at) && is_one(&telling.records[*at]))
            .collect();
        let addresses: Vec<Address> = found.iter().map(|at| telling.records[*at].address).collect();
        let mut at = 0;
        self.payloads.for_each(&addresses, &mut |_, fetched| {
            let index = found[at];
            at += 1;
            let Fetched::Present(payload) = fetched else { return Ok(()) };
            let Some(started) = Started::read(&payload) else { return Ok(()) };
            let agent: Option<Name> = started.data.agent.as_deref().map(Name::from);
            let is_user = started.data.message.kind.as_deref() == Some("user");
            telling.roles.insert(index, if is_user { "user" } else { "assistant" });
            let is_this = |it: &&AgentLink| Some(&it.agent) == agent.as_ref() && it.stream.is_some();
            if self.rows.agents.iter().any(|it| is_this(&it)) {
                telling.skipped.insert(index);
                self.plan.left_out.repeated_records += 1;
            } else if let Some(tool_use) = started.tool_use {
                let inner = telling.inner.entry(tool_use.into_owned()).or_insert((agent, Vec::new()));
                inner.1.push(index);
            }
            Ok(())
        })?;
        // What no tool use of this stream would tell is told in its place.
        let uses: HashSet<&str> = telling
            .blocks
            .values()
            .flatten()
            .filter(|block| is_use(block))
            .filter_map(|block| block.tool_use.as_deref())
            .collect();
        telling.inner.retain(|tool_use, _| uses.contains(tool_use.as_str()));
        telling.folded.extend(telling.inner.values().flat_map(|(_, inner)| inner.iter().copied()));
        Ok(())
    }

    fn record(&mut self, telling: &mut Telling, at: usize, depth: usize) -> Result<()> {
        let place = telling.records[at];
        let turn = self.rows.turn(&place).cloned();
        let calls = self.rows.calls(&telling.stream, &place).to_vec();
        let now = turn.as_ref().map(|it| it.turn.timestamp).or_else(|| calls.first().map(|it| it.timestamp));
        self.tell_unplaced(now.flatten(), depth)?;
        if let Some(turn) = turn {
            self.speaker = "user";
            self.push(Step::Turn(Box::new(turn)));
        }
        for call in calls {
            self.speaker = "assistant";
            self.push(Step::Call(Box::new(call)));
        }
        if let Some(row) = self.rows.compaction(&place) {
            let step = Step::Compaction {
                trigger: row.trigger.clone(),
                tokens_before: row.tokens_before.map(|tokens| tokens.0),
                timestamp: row.timestamp,
            };
            self.push(step);
        }
        if let Some(row) = self.rows.notice(&place) {
            let (error, status, timestamp) = (row.error.clone(), row.status, row.timestamp);
            self.speaker = "assistant";
            self.push(Step::Notice { error, status, timestamp });
        }
        let blocks = telling.blocks.get(&(place.seq, place.address)).cloned();
        if blocks.is_none() && is_worth_telling(place.class) {
            self.push(Step::Record { stream: telling.stream.clone(), place });
        }
        let role = telling.roles.get(&at).copied().unwrap_or_else(|| place.class.name());
        for block in blocks.into_iter().flatten() {
            self.block(telling, block, role, depth)?;
        }
        Ok(())
    }

    fn block(
        &mut self,
        telling: &mut Telling,
        block: BlockPlace,
        role: &'static str,
        depth: usize,
    ) -> Result<()> {
        if telling.told_results.contains(&(block.seq, block.address, block.ordinal)) {
            return Ok(());
        }
        let tool = match &block.tool_use {
            Some(id) => self.rows.tool(self.queries, id)?.cloned().map(Box::new),
            None => None,
        };
        if matches!(role, "user" | "assistant") && !is_result(&block) && self.speaker != role {
            self.speaker = role;
            self.push(Step::Speaker { role });
        }
        let (tool_use, seq) = (block.tool_use.clone().filter(|_| is_use(&block)), block.seq);
        self.push(Step::Block { place: block, role, tool: tool.clone(), follows: false });
        let Some(tool_use) = tool_use else { return Ok(()) };
        let speaker = std::mem::take(&mut self.speaker);
        self.agents_of(telling, &tool_use, depth)?;
        self.speaker = speaker;
        self.results_of(telling, &tool_use, seq, tool.as_deref());
        Ok(())
    }

    /// The subagents that a tool use started.
    fn agents_of(&mut self, telling: &mut Telling, tool_use: &str, depth: usize) -> Result<()> {
        if let Some((agent, inner)) = telling.inner.remove(tool_use) {
            let agent = agent.map(|agent| agent.to_string());
            self.push(Step::AgentBegin(Agent { agent, tool_use: Some(tool_use.to_owned()), stream: None }));
            for at in inner {
                self.record(telling, at, depth + 1)?;
            }
            self.push(Step::AgentEnd);
        }
        let is_started = |it: &&AgentLink| it.tool_use.as_deref() == Some(tool_use) && it.stream.is_some();
        let started: Vec<AgentLink> = self.rows.agents.iter().filter(is_started).cloned().collect();
        for agent in started {
            if depth < DEPTH_MAX {
                self.agent(&agent, depth)?;
            }
        }
        Ok(())
    }

    fn agent(&mut self, agent: &AgentLink, depth: usize) -> Result<()> {
        let Some(stream) = agent.stream.clone().filter(|stream| !self.told.contains(stream)) else {
            return Ok(());
        };
        self.push(Step::AgentBegin(Agent {
            agent: Some(agent.agent.to_string()),
            tool_use: agent.tool_use.clone(),
            stream: Some(stream.to_string()),
        }));
        let before = self.plan.steps.len();
        self.stream(&stream, depth + 1)?;
        if self.plan.steps.len() == before {
            self.plan.steps.pop();
        } else {
            self.push(Step::AgentEnd);
        }
        Ok(())
    }

    /// What the tool gave back, if that was before somebody spoke again.
    fn results_of(&mut self, telling: &mut Telling, tool_use: &str, seq: u64, tool: Option<&ToolUse>) {
        let Some(at) = telling.results.get(tool_use).and_then(|places| places.first()) else { return };
        let record = telling.records[*at];
        let spoke = telling.turns.iter().any(|turn| *turn > seq && *turn <= record.seq);
        if spoke || record.seq < seq {
            return;
        }
        let blocks = telling.blocks.get(&(record.seq, record.address)).into_iter().flatten();
        for block in blocks.filter(|it| it.tool_use.as_deref() == Some(tool_use) && is_result(it)) {
            if telling.told_results.insert((block.seq, block.address, block.ordinal)) {
                self.plan.steps.push(Step::Block {
                    place: block.clone(),
                    role: record.class.name(),
                    tool: tool.cloned().map(Box::new),
                    follows: true,
                });
            }
        }
    }

    /// Subagents of which no tool use is known are told when they began.
    fn tell_unplaced(&mut self, now: Option<Timestamp>, depth: usize) -> Result<()> {
        let Some(now) = now.filter(|_| depth == 0) else { return Ok(()) };
        while self.unplaced.first().is_some_and(|it| it.first_at.is_some_and(|first| first < now)) {
            let stream = self.unplaced.remove(0);
            self.agent(&unlinked(&stream), depth)?;
        }
        Ok(())
    }

    /// Whatever was not told yet.
    fn rest(&mut self) -> Result<()> {
        for stream in std::mem::take(&mut self.unplaced) {
            self.agent(&unlinked(&stream), 0)?;
        }
        for agent in self.rows.agents.clone() {
            self.agent(&agent, 0)?;
        }
        Ok(())
    }
}

fn unlinked(stream: &Stream) -> AgentLink {
    AgentLink {
        agent: stream.agent.clone().unwrap_or_default(),
        tool_use: None,
        stream: Some(stream.stream.clone()),
    }
}

fn is_use(block: &BlockPlace) -> bool {
    block.kind.ends_with("tool_use") && block.tool_use.is_some()
}

fn is_result(block: &BlockPlace) -> bool {
    !block.kind.ends_with("tool_use") && block.tool_use.is_some()
}

fn is_worth_telling(class: RecordClass) -> bool {
    matches!(
        class,
        RecordClass::Unknown
            | RecordClass::Unreadable
            | RecordClass::Tail
            | RecordClass::Part
            | RecordClass::Erased
            | RecordClass::OtherKind
    )
}

/// What a record that carries a subagent's message says of its start; no row has it for every record.
#[derive(serde::Deserialize)]
struct Started<'a> {
    #[serde(rename = "parentToolUseID", borrow)]
    tool_use: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    data: StartedAgent<'a>,
}

#[derive(Default, serde::Deserialize)]
struct StartedAgent<'a> {
    #[serde(rename = "agentId", borrow)]
    agent: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    message: StartedMessage<'a>,
}

#[derive(Default, serde::Deserialize)]
struct StartedMessage<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
}

impl<'a> Started<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }
}

/// The id of a record, in whatever field its source keeps it: rows have four bytes of it.
#[derive(serde::Deserialize)]
struct Identity {
    #[serde(alias = "id")]
    uuid: Option<String>,
}

impl Identity {
    fn read(payload: &[u8]) -> Option<String> {
        serde_json::from_slice::<Self>(payload).ok()?.uuid
    }
}
