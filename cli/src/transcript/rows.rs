//! The rows that a transcript of one session needs, by the places at which they are looked for.

use burnlog_log::{Address, Result};
use burnlog_projections::{
    CLASS_PROMPT, Call, Compaction, CopiedHistory, Filter, KIND_FORK, KIND_RESUMED_AGENT, KIND_SPAWN_ENV,
    KIND_SUBAGENT, Name, Notice, PageRequest, Queries, RecordPlace, Row, RowReader, Session, Stream, ToolUse,
    UserTurn, Value, fingerprint, key_text, live, numbered_turns, origins, records,
};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The kinds of relationships in which one session begins another one that has a transcript of its own.
const STARTS: [&str; 3] = [KIND_SUBAGENT, KIND_RESUMED_AGENT, KIND_SPAWN_ENV];
/// How many rows are read at once.
const PAGE_ROWS: usize = 1024;

/// A turn and its number among the prompts of its home session.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    pub(super) ordinal: Option<u64>,
    pub(super) turn: UserTurn,
}

impl Turn {
    pub(super) fn is_prompt(&self) -> bool {
        &*self.turn.class == CLASS_PROMPT
    }
}

/// A subagent, as it is stated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AgentLink {
    pub(super) agent: Name,
    pub(super) tool_use: Option<String>,
    pub(super) stream: Option<Name>,
}

/// Another session that began this one or was begun by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Relative {
    pub(super) session: Name,
    pub(super) kind: Name,
    pub(super) agent: Option<Name>,
}

/// Rows of one record each: those at home here by its address, those of copied history by its fingerprint.
#[derive(Debug)]
struct Marks<R> {
    own: HashMap<Address, R>,
    copied: HashMap<[u8; 4], R>,
}

impl<R> Default for Marks<R> {
    fn default() -> Self {
        Self { own: HashMap::new(), copied: HashMap::new() }
    }
}

impl<R> Marks<R> {
    fn insert(&mut self, is_own: bool, place: Address, id: &str, row: R) {
        if is_own {
            self.own.insert(place, row);
        } else {
            self.copied.insert(fingerprint(id), row);
        }
    }

    fn get(&self, place: &RecordPlace) -> Option<&R> {
        let copied = || self.copied.get(&place.fingerprint).filter(|_| place.fingerprint != [0; 4]);
        self.own.get(&place.address).or_else(copied)
    }
}

/// Everything but the text.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) source: Name,
    pub(super) session: Name,
    pub(super) streams: Vec<Stream>,
    pub(super) agents: Vec<AgentLink>,
    /// Which sessions began this one.
    pub(super) begun_by: BTreeSet<Relative>,
    /// Which sessions this one began.
    pub(super) began: BTreeSet<Relative>,
    turns: Marks<Turn>,
    calls: HashMap<(Name, u64), Vec<Call>>,
    copied_calls: HashMap<[u8; 4], Vec<Call>>,
    compactions: Marks<Compaction>,
    notices: Marks<Notice>,
    tools: HashMap<String, ToolUse>,
    pub(super) copied: HashMap<Name, (Option<Name>, CopiedHistory)>,
    /// Where the session is a fork whose copied history is in streams of their own: what it came out of.
    pub(super) forked: Option<(Option<Name>, CopiedHistory)>,
    /// The streams of turns that are no copies.
    begins_own: BTreeSet<Name>,
    /// The records that rows were taken from: of several versions of a record these are meant.
    chosen: BTreeSet<Address>,
}

impl Rows {
    /// Reads the rows of a session.
    pub(super) fn read(queries: &dyn Queries, session: &Session) -> Result<Self> {
        let (source, id) = (session.source.clone(), session.session.clone());
        let mut this = Self {
            streams: queries.streams(&source, &id)?,
            agents: Vec::new(),
            begun_by: BTreeSet::new(),
            began: BTreeSet::new(),
            turns: Marks::default(),
            calls: HashMap::new(),
            copied_calls: HashMap::new(),
            compactions: Marks::default(),
            notices: Marks::default(),
            tools: HashMap::new(),
            copied: HashMap::new(),
            forked: None,
            begins_own: BTreeSet::new(),
            chosen: BTreeSet::new(),
            source,
            session: id.clone(),
        };
        for tool in queries.tool_uses(&this.source, &id)? {
            this.chosen.extend(tool.place);
            this.tools.insert(tool.tool_use.clone(), tool);
        }
        let mut others = this.read_links(queries, &id)?;
        others.extend(this.read_calls(queries, &id)?);
        for numbered in numbered_turns(queries, &this.source, &id)? {
            this.chosen.insert(numbered.turn.place);
            if !numbered.turn.copied {
                this.begins_own.insert(numbered.turn.stream.clone());
            }
            let turn = Turn { ordinal: numbered.ordinal, turn: numbered.turn };
            this.turns.insert(true, turn.turn.place, "", turn);
        }
        for other in others.iter().filter(|other| **other != id) {
            for numbered in numbered_turns(queries, &this.source, other)? {
                let turn = Turn { ordinal: None, turn: numbered.turn };
                this.turns.insert(false, turn.turn.place, &turn.turn.turn.clone(), turn);
            }
        }
        this.read_marks(queries, session, &others)?;
        Ok(this)
    }

    /// Subagents and copied history; returns the sessions that history was copied from.
    fn read_links(&mut self, queries: &dyn Queries, session: &Name) -> Result<BTreeSet<Name>> {
        let mut others = BTreeSet::new();
        for link in origins(queries, &self.source, session)? {
            let from = link.from_session.clone().filter(|from| *from != link.to_session);
            if let Some(from) = from.filter(|_| STARTS.contains(&&*link.kind)) {
                let (kind, agent) = (link.kind.clone(), link.agent.clone());
                if from == *session {
                    self.began.insert(Relative { session: link.to_session.clone(), kind, agent });
                } else if link.to_session == *session {
                    self.begun_by.insert(Relative { session: from, kind, agent: None });
                }
            }
            if link.to_session != *session {
                continue;
            }
            if let Some(agent) = link.agent {
                let is_of_this = link.from_session.as_ref() == Some(session);
                if is_of_this && &*link.kind == KIND_SUBAGENT {
                    self.agents.push(AgentLink { agent, tool_use: link.tool_use, stream: link.to_stream });
                }
            } else if let (Some(copied), KIND_FORK, None) = (link.copied, &*link.kind, link.place) {
                // No record states it: what both have are objects under other names.
                self.forked = Some((link.from_session, copied));
            } else if let (Some(copied), Some(stream)) = (link.copied, link.to_stream) {
                others.extend(link.from_session.clone());
                let known = self.copied.get(&stream);
                if known.is_none_or(|(_, known)| known.end.seq < copied.end.seq) {
                    self.copied.insert(stream, (link.from_session, copied));
                }
            }
        }
        Ok(others)
    }

    /// The calls that the session contains; returns the sessions where the others are at home.
    fn read_calls(&mut self, queries: &dyn Queries, session: &Name) -> Result<BTreeSet<Name>> {
        let filter = Filter {
            source: Some(self.source.to_string()),
            session: Some(session.to_string()),
            ..Filter::default()
        };
        let mut page = PageRequest { after: None, limit: PAGE_ROWS };
        let mut elsewhere: BTreeMap<Name, Vec<Call>> = BTreeMap::new();
        let mut others = BTreeSet::new();
        loop {
            let turns = queries.turns(&filter, &page)?;
            for call in turns.items.into_iter().map(|turn| turn.call) {
                if call.session == *session {
                    self.chosen.insert(call.place);
                    self.calls.entry((call.stream.clone(), call.seq as u64)).or_default().push(call);
                } else {
                    others.insert(call.session.clone());
                    elsewhere.entry(call.stream.clone()).or_default().push(call);
                }
            }
            match turns.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
        // A copy has the id of its original, and so the fingerprint.
        for (stream, calls) in elsewhere {
            let home: HashMap<u64, RecordPlace> = records(queries, &self.source, &stream, 0..u64::MAX)?
                .into_iter()
                .map(|p| (p.seq, p))
                .collect();
            for call in calls {
                if let Some(place) = home.get(&(call.seq as u64)) {
                    self.copied_calls.entry(place.fingerprint).or_default().push(call);
                }
            }
        }
        Ok(others)
    }

    /// Compactions and notices: few, and read only where the session has any.
    fn read_marks(
        &mut self,
        queries: &dyn Queries,
        session: &Session,
        others: &BTreeSet<Name>,
    ) -> Result<()> {
        let is_wanted = |of: &Name| *of == session.session || others.contains(of);
        if session.compactions > 0 || !others.is_empty() {
            for_each_row::<Compaction>(queries, &mut |row| {
                if row.source == session.source && is_wanted(&row.session) {
                    self.compactions.insert(
                        row.session == session.session,
                        row.place,
                        &row.compaction.clone(),
                        row,
                    );
                }
                Ok(())
            })?;
        }
        if session.notices > 0 || !others.is_empty() {
            for_each_row::<Notice>(queries, &mut |row| {
                if row.source == session.source && is_wanted(&row.session) {
                    self.notices.insert(row.session == session.session, row.place, &row.notice.clone(), row);
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Whether a stream is that of a turn that is no copy.
    pub(super) fn begins_own(&self, stream: &Name) -> bool {
        self.begins_own.contains(stream)
    }

    /// The turn that a record is.
    pub(super) fn turn(&self, place: &RecordPlace) -> Option<&Turn> {
        self.turns.get(place)
    }

    /// The calls that begin with a record.
    pub(super) fn calls(&self, stream: &Name, place: &RecordPlace) -> &[Call] {
        let copied = || self.copied_calls.get(&place.fingerprint).filter(|_| place.fingerprint != [0; 4]);
        self.calls.get(&(stream.clone(), place.seq)).or_else(copied).map_or(&[], Vec::as_slice)
    }

    pub(super) fn compaction(&self, place: &RecordPlace) -> Option<&Compaction> {
        self.compactions.get(place)
    }

    pub(super) fn notice(&self, place: &RecordPlace) -> Option<&Notice> {
        self.notices.get(place)
    }

    pub(super) fn is_chosen(&self, address: &Address) -> bool {
        self.chosen.contains(address)
    }

    /// What is known of a tool use, which may be at home in another session.
    pub(super) fn tool(&mut self, queries: &dyn Queries, id: &str) -> Result<Option<&ToolUse>> {
        if !self.tools.contains_key(id) {
            let key = [Value::Text(Cow::Borrowed(&*self.source)), Value::Text(key_text(id))];
            let row = queries.get(live(queries)?, ToolUse::TABLE, &key)?.map(ToolUse::read).transpose()?;
            let Some(row) = row else { return Ok(None) };
            self.tools.insert(id.to_owned(), row);
        }
        Ok(self.tools.get(id))
    }
}

/// Calls `each` with every row of a table, in the order of the keys.
fn for_each_row<R: Row>(
    reader: &(impl RowReader + ?Sized),
    each: &mut dyn FnMut(R) -> Result<()>,
) -> Result<()> {
    let generation = live(reader)?;
    let mut after: Option<Vec<Value<'static>>> = None;
    loop {
        let page = reader.scan(generation, R::TABLE, after.as_deref(), PAGE_ROWS)?;
        let full = page.len() == PAGE_ROWS;
        for values in page {
            after = Some(values[..R::TABLE.key].to_vec());
            each(R::read(values)?)?;
        }
        if !full {
            return Ok(());
        }
    }
}
