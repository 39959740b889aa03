//! What a line says of the sessions and subagents that it has to do with.

use super::LineFold;
use crate::relationships::{KIND_CONTINUATION, KIND_FORK, KIND_RESUMED_AGENT, KIND_SUBAGENT, Relationship};
use crate::text::{Name, key_text};

impl LineFold<'_> {
    /// The sessions that the line says this one came out of.
    pub(super) fn fold_origins(&mut self, elsewhere: bool) {
        let line = self.line;
        let origin = &line.forked_from.at;
        if let Some(session) = origin.session.as_deref() {
            self.fold_origin(KIND_FORK, session, origin.record.as_deref());
        }
        if let Some(session) = line.fork_of.as_deref() {
            self.fold_origin(KIND_FORK, session, None);
        }
        if let Some(session) = line.continued_from.as_deref() {
            self.fold_origin(KIND_CONTINUATION, session, None);
        }
        if let Some(session) = line.session.as_deref().filter(|_| elsewhere) {
            self.fold_origin(KIND_FORK, session, None);
        }
    }

    fn fold_origin(&mut self, kind: &str, from: &str, record: Option<&str>) {
        if from == self.record.session {
            return;
        }
        let from = self.facts.names.get(from);
        let mut row = self.relationship(kind, from, Name::default());
        row.record = record.map(|record| key_text(record).into_owned());
        self.facts.relationships.merge(row);
    }

    /// The agents that the tools of this line started or took up again.
    pub(super) fn fold_started_agents(&mut self) {
        let Some(result) = self.line.result.as_deref() else { return };
        let mut blocks = self.line.message.iter().flat_map(|message| message.content.blocks.iter());
        let tool_use = blocks.find_map(|block| block.value.tool_use.as_deref());
        let agents = [(KIND_SUBAGENT, &result.agent), (KIND_RESUMED_AGENT, &result.resumed_agent)];
        for (kind, agent) in agents {
            if let Some(agent) = agent.as_deref() {
                self.fold_agent(kind, agent, tool_use);
            }
        }
    }

    pub(super) fn fold_agent(&mut self, kind: &str, agent: &str, tool_use: Option<&str>) {
        let agent = self.facts.names.get(agent);
        let mut row = self.relationship(kind, self.stream.session.clone(), agent);
        row.tool_use = tool_use.map(|id| key_text(id).into_owned());
        self.facts.relationships.merge(row);
    }

    fn relationship(&mut self, kind: &str, from_session: Name, agent: Name) -> Relationship {
        Relationship {
            source: self.stream.source.clone(),
            from_session,
            to_session: self.stream.session.clone(),
            kind: self.facts.names.get(kind),
            agent,
            stream: Some(self.stream.stream.clone()),
            at: self.timestamp,
            tool_use: None,
            record: None,
            place: self.record.address,
        }
    }
}
