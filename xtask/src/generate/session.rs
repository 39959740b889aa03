//! The script of one session: prompts, chains of tool calls, subagents in three layouts, compactions, and lines that
//! no parser likes. Writes rows through `thread` and adds each call to the truth once.

use super::call::{Call, End, Order};
use super::clock::Clock;
use super::random::Random;
use super::text::{agent_id, identifier, push_text, uuid};
use super::thread::{Class, Envelope, Line, Thread, Wrap};
use super::truth::{Days, Truth};
use std::fmt::Write;

const MODELS: [&str; 3] = ["claude-sonnet-4-6", "claude-opus-4-7", "claude-haiku-4-5-20251001"];
const VERSIONS: [&str; 3] = ["1.0.64", "2.1.34", "2.1.50"];
const PROJECTS: [&str; 7] = ["ledger-viewer", "mail_sorter", "tide", "atlas", "kiln.rs", "notes", "quarry"];

/// The file of a subagent.
#[derive(Debug)]
pub(crate) struct AgentFile {
    pub(crate) agent: String,
    pub(crate) lines: Vec<Line>,
}

/// A written session.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) session: String,
    pub(crate) cwd: String,
    pub(crate) lines: Vec<Line>,
    pub(crate) agents: Vec<AgentFile>,
    /// Whether subagents' files lie beside the session's, as older versions put them.
    pub(crate) flat: bool,
}

/// Writes one session.
pub(crate) struct Script<'a> {
    random: &'a mut Random,
    truth: &'a mut Truth,
    days: &'a mut Days,
    content: u64,
    odd_every: u64,
    clock: Clock,
    envelope: Envelope,
    model: &'static str,
    context: u64,
    thread: Thread,
    agents: Vec<AgentFile>,
    /// Calls still to be made.
    left: u64,
    /// A tool result that arrives after other rows.
    late: Option<String>,
    /// Rows of a subagent that the parent repeats as progress.
    echoes: Option<Vec<String>>,
}

/// What a script is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The number of the session in the set.
    pub(crate) number: u64,
    /// Distinct calls to make.
    pub(crate) calls: u64,
    /// Mean length of a block of text, in bytes.
    pub(crate) content: u64,
    pub(crate) projects: u64,
    /// One odd line among so many rows; 0 for none.
    pub(crate) odd_every: u64,
}

impl<'a> Script<'a> {
    pub(crate) fn new(random: &'a mut Random, truth: &'a mut Truth, days: &'a mut Days, plan: Plan) -> Self {
        let project = plan.number % plan.projects.max(1);
        let name = PROJECTS[project as usize % PROJECTS.len()];
        let envelope = Envelope {
            session: uuid(random),
            cwd: format!("/srv/code/{name}{project}"),
            branch: if random.per_mille(700) { "main" } else { "wip/second-try" },
            version: VERSIONS[(plan.number % 3) as usize],
        };
        let model = random.pick(&MODELS);
        let context = random.between(8000, 20_000);
        let clock = Clock::of_session(plan.number);
        let Plan { calls: left, content, odd_every, .. } = plan;
        let thread = Thread::new(None);
        let agents = Vec::new();
        Self {
            random,
            truth,
            days,
            content,
            odd_every,
            clock,
            envelope,
            model,
            context,
            thread,
            agents,
            left,
            late: None,
            echoes: None,
        }
    }

    /// Begins with the first fifth of another session, with its session id kept or replaced by this one's.
    pub(crate) fn copy_history(&mut self, of: &Written, rewrite: bool) {
        let (old, new) = (format!("\"{}\"", of.session), format!("\"{}\"", self.envelope.session));
        for line in &of.lines[..of.lines.len() / 5] {
            let mut line = line.clone();
            if rewrite && line.class == Class::Record {
                line.bytes = String::from_utf8_lossy(&line.bytes).replace(&old, &new).into_bytes();
            }
            self.thread.lines.push(line);
        }
        self.truth.forks += 1;
        self.clock.skip_minutes(180);
    }

    /// Writes the session to its end.
    pub(crate) fn run(mut self) -> Written {
        self.opening();
        while self.left > 0 {
            self.prompt();
            for _ in 0..self.random.between(3, 12) {
                self.step();
            }
            if self.left > 0 {
                self.call(None, 0);
            }
            if self.random.per_mille(20) {
                self.compact();
            }
            if self.random.per_mille(15) {
                self.notice();
            }
        }
        self.release_late();
        Written {
            session: self.envelope.session,
            cwd: self.envelope.cwd,
            lines: self.thread.lines,
            agents: self.agents,
            flat: self.envelope.version == VERSIONS[0],
        }
    }

    /// Writes one more prompt, tool call, result and answer: what a session grows by while it is watched.
    pub(crate) fn one_turn(mut self, session: &str) -> Vec<Line> {
        session.clone_into(&mut self.envelope.session);
        self.odd_every = 0;
        self.left = 2;
        self.prompt();
        self.tool_call();
        self.release_late();
        self.call(None, 0);
        self.thread.lines
    }

    fn opening(&mut self) {
        let (leaf, message) = (uuid(self.random), uuid(self.random));
        let mut summary = "{\"type\":\"summary\",\"summary\":\"".to_owned();
        push_text(self.random, &mut summary, 40);
        let _ = write!(summary, "\",\"leafUuid\":\"{leaf}\"}}");
        self.thread.push(summary);
        self.thread.push(format!(
            "{{\"type\":\"file-history-snapshot\",\"messageId\":\"{message}\",\"snapshot\":{{\"messageId\":\"{message}\",\
             \"trackedFileBackups\":{{}}}},\"isSnapshotUpdate\":false}}"
        ));
    }

    fn step(&mut self) {
        match self.random.below(1000) {
            0..=9 if self.left >= 5 => self.inline_sidechain(),
            10..=13 if self.left >= 7 => self.subagent_file(),
            14..=16 if self.left >= 5 => self.progress_only(),
            _ if self.left > 0 => self.tool_call(),
            _ => {}
        }
    }

    fn row(&mut self, kind: &str, fields: &str) {
        let time = self.clock.tick(self.random);
        self.thread.row(self.random, &self.envelope, kind, fields, &time);
        let calm = self.thread.wrap.is_some() || self.thread.agent.is_some();
        if self.odd_every > 0 && !calm && self.random.below(self.odd_every) == 0 {
            self.odd_line();
        }
    }

    /// Writes a call and adds it to the truth.
    fn call(&mut self, tool: Option<String>, floor_per_mille: u64) {
        self.clock.clear_midnight();
        let in_progress = self.thread.wrap.is_some();
        let open = in_progress || self.random.per_mille(30 + floor_per_mille);
        let order = Order {
            model: self.model,
            content: self.content,
            tool,
            end: if open { End::Open } else { End::Final },
            context: self.context,
            split: self.envelope.version != VERSIONS[0],
        };
        let call = Call::new(self.random, order);
        for fields in call.rows() {
            self.row("assistant", &fields);
        }
        if let Some(echoes) = &mut self.echoes {
            echoes.push(call.echo());
        }
        let tokens = *call.tokens();
        self.context += tokens.cache_write_5m + tokens.cache_write_1h;
        self.left -= 1;
        self.truth.floor_calls += u64::from(open);
        self.truth.progress_only_calls += u64::from(in_progress);
        self.truth.total.add_call(&tokens);
        self.days.entry((self.clock.day(), self.model.to_owned())).or_default().add_call(&tokens);
    }

    fn prompt(&mut self) {
        let length = self.random.between(30, (self.content / 2).max(60));
        self.user_text(length);
    }

    fn user_text(&mut self, length: u64) {
        let mut fields = "\"message\":{\"role\":\"user\",\"content\":\"".to_owned();
        push_text(self.random, &mut fields, length);
        fields.push_str("\"}");
        self.row("user", &fields);
    }

    fn tool_call(&mut self) {
        let id = identifier(self.random, "toolu_01");
        let tool = self.tool(&id);
        self.call(Some(tool), 0);
        self.release_late();
        let fields = self.tool_result(&id);
        if self.random.per_mille(20) {
            self.late = Some(fields);
        } else {
            self.row("user", &fields);
        }
    }

    fn release_late(&mut self) {
        if let Some(fields) = self.late.take() {
            self.row("user", &fields);
        }
    }

    /// Makes the fields of a tool result; one in sixteen is an error.
    fn tool_result(&mut self, id: &str) -> String {
        let mut body = String::new();
        let length = self.random.between(20, self.content * 2);
        push_text(self.random, &mut body, length / 4);
        let head = body.clone();
        push_text(self.random, &mut body, length - length / 4);
        let error = self.random.per_mille(62);
        self.truth.tool_results += 1;
        self.truth.tool_errors += u64::from(error);
        let mark = if error { ",\"is_error\":true" } else { "" };
        format!(
            "\"message\":{{\"role\":\"user\",\"content\":[{{\"tool_use_id\":\"{id}\",\"type\":\"tool_result\",\
             \"content\":\"{body}\"{mark}}}]}},\"toolUseResult\":{{\"stdout\":\"{head}\",\"stderr\":\"\",\
             \"interrupted\":false}}"
        )
    }

    /// Makes a tool call as JSON.
    fn tool(&mut self, id: &str) -> String {
        let mut out = format!("{{\"type\":\"tool_use\",\"id\":\"{id}\",\"name\":");
        let path = format!("{}/src/part_{:02}.rs", self.envelope.cwd, self.random.below(64));
        match self.random.below(5) {
            0 => {
                let _ = write!(out, "\"Read\",\"input\":{{\"file_path\":\"{path}\",\"limit\":200}}}}");
            }
            1 => {
                let _ = write!(out, "\"Edit\",\"input\":{{\"file_path\":\"{path}\",\"old_string\":\"");
                push_text(self.random, &mut out, 70);
                out.push_str("\",\"new_string\":\"");
                push_text(self.random, &mut out, 95);
                out.push_str("\"}}");
            }
            2 => {
                let _ = write!(out, "\"Write\",\"input\":{{\"file_path\":\"{path}\",\"content\":\"");
                push_text(self.random, &mut out, 120);
                out.push_str("\"}}");
            }
            3 => {
                out.push_str("\"Grep\",\"input\":{\"pattern\":\"");
                push_text(self.random, &mut out, 6);
                out.push_str("\",\"path\":\"src\",\"output_mode\":\"files_with_matches\"}}");
            }
            _ => {
                let command =
                    *self.random.pick(&["cargo test -q", "git diff --stat", "ls -l target", "make check"]);
                let _ = write!(out, "\"Bash\",\"input\":{{\"command\":\"{command}\",\"description\":\"");
                push_text(self.random, &mut out, 20);
                out.push_str("\"}}");
            }
        }
        out
    }

    /// Writes the call that starts a subagent and returns its tool id.
    fn task_call(&mut self) -> String {
        self.release_late();
        let id = identifier(self.random, "toolu_01");
        let mut tool = format!(
            "{{\"type\":\"tool_use\",\"id\":\"{id}\",\"name\":\"Task\",\"input\":{{\"subagent_type\":\"general-purpose\",\
             \"description\":\"look around\",\"prompt\":\""
        );
        push_text(self.random, &mut tool, 200);
        tool.push_str("\"}}");
        self.call(Some(tool), 0);
        id
    }

    fn task_result(&mut self, id: &str) {
        let fields = self.tool_result(id);
        self.row("user", &fields);
    }

    fn inline_sidechain(&mut self) {
        let id = self.task_call();
        let main = self.thread.parent.take();
        self.thread.sidechain = true;
        self.user_text(200);
        for _ in 0..4 {
            self.tool_call();
        }
        self.release_late();
        self.thread.sidechain = false;
        self.thread.parent = main;
        self.task_result(&id);
    }

    fn subagent_file(&mut self) {
        let id = self.task_call();
        let agent = agent_id(self.random);
        let (model, context) = (self.model, std::mem::replace(&mut self.context, 3000));
        let main = std::mem::replace(&mut self.thread, Thread::new(Some(agent.clone())));
        self.model = MODELS[2];
        self.echoes = self.random.per_mille(500).then(Vec::new);
        self.user_text(200);
        for _ in 0..5 {
            self.tool_call();
        }
        self.release_late();
        self.call(None, 0);
        let done = std::mem::replace(&mut self.thread, main);
        (self.model, self.context) = (model, context);
        self.agents.push(AgentFile { agent: agent.clone(), lines: done.lines });
        let wrap = Wrap { agent, tool_use: id.clone() };
        for fields in self.echoes.take().unwrap_or_default() {
            let time = self.clock.tick(self.random);
            let inner_id = uuid(self.random);
            let inner = format!(
                "{{\"type\":\"assistant\",\"timestamp\":\"{time}\",{fields},\"uuid\":\"{inner_id}\"}}"
            );
            self.thread.progress(self.random, &self.envelope, &wrap, &inner, &time);
        }
        self.task_result(&id);
    }

    fn progress_only(&mut self) {
        let id = self.task_call();
        let agent = agent_id(self.random);
        let model = std::mem::replace(&mut self.model, MODELS[2]);
        self.thread.wrap = Some(Wrap { agent, tool_use: id.clone() });
        self.user_text(120);
        for _ in 0..4 {
            self.tool_call();
        }
        self.release_late();
        self.thread.wrap = None;
        self.model = model;
        self.task_result(&id);
    }

    fn compact(&mut self) {
        self.release_late();
        let before = self.context;
        let logical = self.thread.parent.take().unwrap_or_default();
        self.row(
            "system",
            &format!(
                "\"logicalParentUuid\":\"{logical}\",\"subtype\":\"compact_boundary\",\"content\":\"Conversation compacted\",\
                 \"compactMetadata\":{{\"trigger\":\"auto\",\"preTokens\":{before}}}"
            ),
        );
        let mut fields = "\"isCompactSummary\":true,\"message\":{\"role\":\"user\",\"content\":\"".to_owned();
        push_text(self.random, &mut fields, self.content * 3);
        fields.push_str("\"}");
        self.row("user", &fields);
        self.context = 12_000;
        self.truth.compactions += 1;
    }

    fn notice(&mut self) {
        let id = uuid(self.random);
        self.row(
            "assistant",
            &format!(
                "\"message\":{{\"id\":\"{id}\",\"model\":\"<synthetic>\",\"role\":\"assistant\",\"type\":\"message\",\
                 \"stop_reason\":\"stop_sequence\",\"stop_sequence\":\"\",\"usage\":{{\"input_tokens\":0,\"output_tokens\":0,\
                 \"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0}},\"content\":[{{\"type\":\"text\",\
                 \"text\":\"API Error: the server is overloaded\"}}]}},\"isApiErrorMessage\":true"
            ),
        );
        self.truth.notices += 1;
    }

    /// Adds a line that must be kept and must not stop anything.
    fn odd_line(&mut self) {
        let (bytes, class) = match self.random.below(5) {
            0 => (Vec::new(), Class::Blank),
            1 => (vec![0; self.random.between(1, 200) as usize], Class::Unreadable),
            2 => {
                let mut bytes =
                    b"{\"type\":\"user\",\"message\":{\"role\":\"user\",\"content\":\"caf".to_vec();
                bytes.extend_from_slice(b"\xe9 \xff\"}}");
                (bytes, Class::NotUtf8)
            }
            3 => {
                let mut bytes = b"{\"type\":\"user\",\"message\":{\"role\":\"us".to_vec();
                bytes.extend_from_slice(b"{\"type\":\"mode\",\"mode\":\"normal\"}");
                (bytes, Class::Unreadable)
            }
            _ => (
                b"{\"type\":\"mode\",\"mode\":\"\\ud83d\",\"type\":\"mode\",\"at\":9007199254740993}"
                    .to_vec(),
                Class::Record,
            ),
        };
        self.thread.lines.push(Line { bytes, class });
    }
}
