//! What is known of one stream before it is told: its records and blocks, which of them say the same or are older
//! versions, and which belong to a subagent.

use super::Planner;
use crate::transcript::read::Fetched;
use crate::transcript::rows::{AgentLink, Turn};
use burnlog_log::{Address, Result};
use burnlog_projections::{
    BlockFilter, BlockPlace, Name, PageRequest, RecordClass, RecordPlace, blocks, records,
};
use std::borrow::Cow;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

/// How many blocks are asked for at once.
const PAGE_BLOCKS: usize = 8192;

/// What two records that say the same have in common in rows: the fingerprint, and kind and length of the blocks.
pub(super) type Likeness = ([u8; 4], Vec<(String, u64)>);

/// One stream while it is told.
pub(super) struct Telling {
    pub(super) stream: Name,
    pub(super) records: Vec<RecordPlace>,
    /// The blocks of each record.
    pub(super) blocks: HashMap<(u64, Address), Vec<BlockPlace>>,
    /// The records with a result, by the tool use.
    pub(super) results: HashMap<String, Vec<usize>>,
    /// The records of a subagent without a file of its own, by the tool use that started it.
    pub(super) inner: HashMap<String, (Option<Name>, Vec<usize>)>,
    /// Who speaks in a record with a subagent's message.
    pub(super) roles: HashMap<usize, &'static str>,
    /// Records that are not told.
    pub(super) skipped: HashSet<usize>,
    /// Records of subagents that are told behind the tool use that started them.
    pub(super) folded: HashSet<usize>,
    /// Results that were told behind their use.
    pub(super) told_results: HashSet<(u64, Address, u32)>,
    /// The numbers of the records in which somebody speaks.
    pub(super) turns: Vec<u64>,
}

impl Planner<'_> {
    /// Reads the places of a stream, and of records that say the same or are older versions the ones to tell.
    pub(super) fn read(&mut self, stream: &Name) -> Result<Telling> {
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
            let told = self.versions_told(telling, versions.clone());
            for at in versions {
                let place = telling.records[at];
                if told.as_ref().is_some_and(|told| !told.contains(&at)) {
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

    /// Which versions of a record are told; all when it does not matter. Those that rows were taken from; else what is
    /// not an unfinished end of something that came whole; of an object that is rewritten in place what says most.
    fn versions_told(&self, telling: &Telling, versions: Range<usize>) -> Option<Vec<usize>> {
        if versions.len() < 2 {
            return None;
        }
        let record = |at: &usize| &telling.records[*at];
        let chosen: Vec<usize> =
            versions.clone().filter(|at| self.rows.is_chosen(&record(at).address)).collect();
        if !chosen.is_empty() {
            return Some(chosen);
        }
        let whole: Vec<usize> = versions.clone().filter(|at| record(at).class != RecordClass::Tail).collect();
        let is_object = telling.records.iter().all(|place| place.seq == 0);
        let says = |at: &usize| {
            let place = record(at);
            let blocks = telling.blocks.get(&(place.seq, place.address)).into_iter().flatten();
            (blocks.map(|block| block.bytes).sum::<u64>(), place.address)
        };
        match whole.iter().copied().max_by_key(says) {
            Some(most) if is_object => Some(vec![most]),
            Some(_) => Some(whole),
            None => None,
        }
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
}

pub(super) fn is_use(block: &BlockPlace) -> bool {
    block.kind.ends_with("tool_use") && block.tool_use.is_some()
}

pub(super) fn is_result(block: &BlockPlace) -> bool {
    !block.kind.ends_with("tool_use") && block.tool_use.is_some()
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
