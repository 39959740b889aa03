//! The order in which a transcript tells things, from rows alone: a result behind its use, a subagent behind the tool
//! use that started it, each record once. Text is not read here, but for records that say nothing of a subagent in rows.

mod telling;

use super::read::PayloadReader;
use super::rows::{AgentLink, Relative, Rows, Turn};
use super::{Agent, LeftOut};
use burnlog_log::{Address, Result, Timestamp};
use burnlog_projections::{
    BlockPlace, Call, CopiedHistory, Name, Queries, RecordClass, RecordPlace, Session, Stream, ToolUse,
};
use std::collections::{HashMap, HashSet};
use std::mem;
use telling::{Likeness, Telling, is_result, is_use};

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
    BegunBy(Relative),
    Began(Relative),
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
    let mut streams: Vec<Stream> = mem::take(&mut rows.streams).into_iter().filter(is_content).collect();
    streams.sort_by_cached_key(in_order);
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
        answer: None,
        is_headed: false,
        plan: Plan::default(),
    };
    let (begun_by, began) = (mem::take(&mut planner.rows.begun_by), mem::take(&mut planner.rows.began));
    planner.plan.steps.extend(begun_by.into_iter().map(Step::BegunBy));
    planner.own(&own)?;
    planner.rest()?;
    planner.plan.steps.extend(began.into_iter().map(Step::Began));
    Ok(planner.plan)
}

/// Orders streams: the session's own file first, others by time. Objects that are files of their own follow each other
/// by their ids, which begin with the time in all sources that have such: `message/msg_<time>…`, `part/prt_<time>…`.
fn in_order(stream: &Stream) -> impl Ord + use<> {
    let id = stream.stream.split_once('/').filter(|_| stream.agent.is_none());
    let id = id.map(|(_, id)| id.split_once('_').map_or(id, |(_, time)| time).to_owned());
    let first_at = stream.first_at;
    (stream.stream != stream.session, id, first_at.is_none(), first_at, stream.stream.clone())
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
    /// Where an answer began of which no call was told yet, and in which stream. Some sources tell of a call behind what it
    /// said.
    answer: Option<(usize, Name)>,
    /// Whether what is said now stands below the heading of its call.
    is_headed: bool,
    plan: Plan,
}

impl Planner<'_> {
    fn push(&mut self, step: Step) {
        self.plan.steps.push(step);
    }

    /// The session's own streams. Where copied history is in streams of their own it ends where the first turn is no copy.
    fn own(&mut self, streams: &[Stream]) -> Result<()> {
        let forked = self.rows.forked.take();
        if let Some((from, copied)) = &forked {
            self.push(Step::Copied { from: from.clone(), records: copied.records, shown: self.copied });
        }
        let mut is_copied = forked.is_some();
        for stream in streams {
            if is_copied && self.rows.begins_own(&stream.stream) {
                is_copied = false;
                self.end_of_copied(forked.as_ref());
            }
            if is_copied && !self.copied {
                self.told.insert(stream.stream.clone());
                continue;
            }
            self.stream(&stream.stream, 0)?;
        }
        if is_copied {
            self.end_of_copied(forked.as_ref());
        }
        Ok(())
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

    fn record(&mut self, telling: &mut Telling, at: usize, depth: usize) -> Result<()> {
        let place = telling.records[at];
        let turn = self.rows.turn(&place).cloned();
        let calls = self.rows.calls(&telling.stream, &place).to_vec();
        let now = turn.as_ref().map(|it| it.turn.timestamp).or_else(|| calls.first().map(|it| it.timestamp));
        self.tell_unplaced(now.flatten(), depth)?;
        if let Some(turn) = turn {
            self.speaker = "user";
            (self.answer, self.is_headed) = (None, false);
            self.push(Step::Turn(Box::new(turn)));
        }
        let blocks = telling.blocks.get(&(place.seq, place.address)).cloned();
        for call in calls {
            self.call(call, &telling.stream, blocks.is_some());
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
        match place.class {
            _ if blocks.is_some() => {}
            class if is_worth_telling(class) => {
                self.push(Step::Record { stream: telling.stream.clone(), place });
            }
            RecordClass::Assistant | RecordClass::User => self.plan.left_out.records_without_content += 1,
            _ => {}
        }
        let role = telling.roles.get(&at).copied().unwrap_or_else(|| place.class.name());
        for block in blocks.into_iter().flatten() {
            self.block(telling, block, role, depth)?;
        }
        Ok(())
    }

    /// Tells of a call above what it said: that follows, but for sources that tell of a call in a record behind it.
    fn call(&mut self, call: Call, stream: &Name, has_blocks: bool) {
        let step = Step::Call(Box::new(call));
        let said = self.answer.take().filter(|(_, said_in)| !has_blocks && said_in == stream);
        (self.is_headed, self.speaker) = (has_blocks, if said.is_some() { "" } else { "assistant" });
        match said {
            Some((at, _)) if matches!(self.plan.steps[at], Step::Speaker { .. }) => {
                self.plan.steps[at] = step;
            }
            Some((at, _)) => self.plan.steps.insert(at, step),
            None => self.push(step),
        }
    }

    fn block(
        &mut self,
        telling: &mut Telling,
        block: BlockPlace,
        role: &'static str,
        depth: usize,
    ) -> Result<()> {
        // Of a compaction the heading tells.
        if block.kind == "compaction"
            || telling.told_results.contains(&(block.seq, block.address, block.ordinal))
        {
            return Ok(());
        }
        let tool = match &block.tool_use {
            Some(id) => self.rows.tool(self.queries, id)?.cloned().map(Box::new),
            None => None,
        };
        if role == "assistant" && !is_result(&block) && !self.is_headed {
            self.answer.get_or_insert((self.plan.steps.len(), telling.stream.clone()));
        }
        if matches!(role, "user" | "assistant") && !is_result(&block) && self.speaker != role {
            self.speaker = role;
            self.push(Step::Speaker { role });
        }
        let (tool_use, seq) = (block.tool_use.clone().filter(|_| is_use(&block)), block.seq);
        self.push(Step::Block { place: block, role, tool: tool.clone(), follows: false });
        let Some(tool_use) = tool_use else { return Ok(()) };
        let before = (mem::take(&mut self.speaker), self.answer.take(), self.is_headed);
        self.agents_of(telling, &tool_use, depth)?;
        (self.speaker, self.answer, self.is_headed) = before;
        self.results_of(telling, &tool_use, seq, tool.as_deref());
        Ok(())
    }

    /// The subagents that a tool use started.
    fn agents_of(&mut self, telling: &mut Telling, tool_use: &str, depth: usize) -> Result<()> {
        if let Some((agent, inner)) = telling.inner.remove(tool_use) {
            let id = agent.map(|agent| agent.to_string());
            self.push(Step::AgentBegin(Agent { id, tool_use: Some(tool_use.to_owned()), stream: None }));
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
            id: Some(agent.agent.to_string()),
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
        for stream in mem::take(&mut self.unplaced) {
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
