//! The rows of one chain of messages, as Claude Code writes them: the envelope that every row repeats, the chain of
//! parents, and the wrapping into `progress` rows. Knows nothing of what the messages say.

use super::random::Random;
use super::text::uuid;
use std::fmt::Write;

/// How a line counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Record,
    Blank,
    /// A JSON object but for bytes that are not UTF-8.
    NotUtf8,
    Unreadable,
}

/// One line of a file, without its newline.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) bytes: Vec<u8>,
    pub(crate) class: Class,
}

/// What every row of a session repeats.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) session: String,
    pub(crate) cwd: String,
    pub(crate) branch: &'static str,
    pub(crate) version: &'static str,
}

/// Where rows go that exist only as `progress` of a tool call.
#[derive(Debug, Clone)]
pub(crate) struct Wrap {
    pub(crate) agent: String,
    pub(crate) tool_use: String,
}

/// One chain of messages and the lines it wrote.
#[derive(Debug)]
pub(crate) struct Thread {
    pub(crate) lines: Vec<Line>,
    pub(crate) parent: Option<String>,
    pub(crate) sidechain: bool,
    /// Set in a subagent's own file.
    pub(crate) agent: Option<String>,
    /// Set while rows are written as progress of the parent.
    pub(crate) wrap: Option<Wrap>,
}

impl Thread {
    pub(crate) fn new(agent: Option<String>) -> Self {
        Self { lines: Vec::new(), parent: None, sidechain: agent.is_some(), agent, wrap: None }
    }

    /// Adds a line that is a JSON object.
    pub(crate) fn push(&mut self, text: String) {
        self.lines.push(Line { bytes: text.into_bytes(), class: Class::Record });
    }

    /// Adds a row of type `kind` whose own fields are `fields` (`"message":{…},"requestId":"…"`).
    pub(crate) fn row(
        &mut self,
        random: &mut Random,
        envelope: &Envelope,
        kind: &str,
        fields: &str,
        time: &str,
    ) {
        let id = uuid(random);
        if let Some(wrap) = self.wrap.clone() {
            let inner =
                format!("{{\"type\":\"{kind}\",\"timestamp\":\"{time}\",{fields},\"uuid\":\"{id}\"}}");
            self.progress(random, envelope, &wrap, &inner, time);
            return;
        }
        let mut out = self.open(envelope, fields.len());
        let _ = write!(out, ",\"type\":\"{kind}\",{fields},\"uuid\":\"{id}\",\"timestamp\":\"{time}\"}}");
        self.push(out);
        self.parent = Some(id);
    }

    /// Adds a `progress` row with the message of a subagent in it. It does not become anyone's parent.
    pub(crate) fn progress(
        &mut self,
        random: &mut Random,
        envelope: &Envelope,
        wrap: &Wrap,
        inner: &str,
        time: &str,
    ) {
        let id = uuid(random);
        let mut out = self.open(envelope, inner.len());
        let Wrap { agent, tool_use } = wrap;
        let _ = write!(
            out,
            ",\"type\":\"progress\",\"data\":{{\"message\":{inner},\"normalizedMessages\":[],\"type\":\"agent_progress\",\
             \"prompt\":\"\",\"agentId\":\"{agent}\"}},\"toolUseID\":\"agent_{agent}\",\"parentToolUseID\":\"{tool_use}\",\
             \"uuid\":\"{id}\",\"timestamp\":\"{time}\"}}"
        );
        self.push(out);
    }

    /// Begins a row: everything up to its type.
    fn open(&self, envelope: &Envelope, room: usize) -> String {
        let Envelope { session, cwd, branch, version } = envelope;
        let mut out = String::with_capacity(room + 480);
        match &self.parent {
            Some(parent) => write!(out, "{{\"parentUuid\":\"{parent}\""),
            None => write!(out, "{{\"parentUuid\":null"),
        }
        .expect("writing to memory cannot fail");
        let _ = write!(
            out,
            ",\"isSidechain\":{},\"userType\":\"external\",\"cwd\":\"{cwd}\",\"sessionId\":\"{session}\",\
             \"version\":\"{version}\",\"gitBranch\":\"{branch}\"",
            self.sidechain
        );
        if let Some(agent) = &self.agent {
            let _ = write!(out, ",\"agentId\":\"{agent}\"");
        }
        out
    }
}
