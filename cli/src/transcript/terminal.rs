//! A transcript for a terminal: indented, cut, in colours where they are wanted. Control characters of what was
//! recorded never get out.

use super::text::{cut, headed, one_line};
use super::{Agent, Item, LeftOut, Place, Renderer};
use crate::commands::SessionLine;
use crate::output::{bytes, count, counted, printable, second};
use crate::zone;
use serde_json::value::RawValue;
use std::io::{self, Write};

/// How much of a result, a thought, or a text that the agent made is shown.
const LINES_MAX: usize = 10;
const BYTES_MAX: usize = 1200;
/// How much of a tool's input is shown, in characters.
const SUMMARY_MAX: usize = 160;

/// The most bytes that a result without anything in it takes.
const EMPTY_BYTES: u64 = 40;

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Bold,
    Dim,
    Red,
    Green,
    Cyan,
    Yellow,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "\u{1b}[1m",
            Self::Dim => "\u{1b}[2m",
            Self::Red => "\u{1b}[31m",
            Self::Green => "\u{1b}[1;32m",
            Self::Cyan => "\u{1b}[36m",
            Self::Yellow => "\u{1b}[33m",
        }
    }
}

/// Writes text for people.
pub(crate) struct Terminal<W> {
    out: W,
    colours: bool,
    full: bool,
    /// How many subagents we are in.
    depth: usize,
    /// The class of the turn that is told.
    class: String,
    lines: u64,
}

impl<W: Write> Terminal<W> {
    pub(crate) fn new(out: W, colours: bool, full: bool) -> Self {
        Self { out, colours, full, depth: 0, class: String::new(), lines: 0 }
    }

    /// Writes a text line by line, each behind the bars of the subagents and `before`.
    fn text(&mut self, style: Style, before: &str, text: &str) -> io::Result<()> {
        let text = printable(text);
        for line in text.split('\n') {
            let (on, off) =
                if self.colours && style != Style::Plain { (style.code(), "\u{1b}[0m") } else { ("", "") };
            let bars = "  ┃ ".repeat(self.depth);
            let shown = format!("{before}{line}");
            let shown = shown.trim_end();
            if shown.is_empty() {
                writeln!(self.out, "{}", bars.trim_end())?;
            } else {
                writeln!(self.out, "{bars}{on}{shown}{off}")?;
            }
            self.lines += 1;
        }
        Ok(())
    }

    /// A blank line between what belongs to different things.
    fn gap(&mut self) -> io::Result<()> {
        if self.lines > 0 { self.text(Style::Plain, "", "") } else { Ok(()) }
    }

    /// A text, cut unless all is asked for.
    fn long(&mut self, style: Style, before: &str, text: &str) -> io::Result<()> {
        let (kept, more) = if self.full { (text.trim_end(), 0) } else { cut(text, LINES_MAX, BYTES_MAX) };
        self.text(style, before, kept)?;
        if more > 0 {
            self.text(Style::Dim, before, &format!("… {} more", counted(more as u64, "byte")))?;
        }
        Ok(())
    }

    /// What the program said to the model, or of itself: a line that says how much more there is.
    fn aside(&mut self, role: &str, text: &str) -> io::Result<()> {
        let text = text.trim();
        if self.full {
            return self.text(Style::Dim, "", &format!("{role}: {text}"));
        }
        self.text(Style::Dim, "", &format!("{role}: {}", first_words(text)))
    }

    fn heading(&mut self, style: Style, parts: &[String]) -> io::Result<()> {
        self.gap()?;
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        self.text(style, "── ", &parts.join(" · "))
    }

    fn tool_use(&mut self, tool: Option<&str>, summary: &str, input: Option<&str>) -> io::Result<()> {
        let tool = tool.unwrap_or("a tool");
        if self.full {
            self.text(Style::Cyan, "● ", tool)?;
            let pretty = input.and_then(|input| serde_json::from_str::<serde_json::Value>(input).ok());
            let pretty = pretty.and_then(|value| serde_json::to_string_pretty(&value).ok());
            return self.text(Style::Plain, "    ", &pretty.unwrap_or_else(|| summary.to_owned()));
        }
        self.text(Style::Cyan, "● ", &format!("{tool}  {}", first_words(summary)))
    }

    fn result(&mut self, tool: Option<&str>, error: bool, follows: bool, text: &str) -> io::Result<()> {
        let style = if error { Style::Red } else { Style::Dim };
        if !follows {
            let what = tool.map_or_else(|| "a tool".to_owned(), str::to_owned);
            self.text(style, "● ", &format!("result of {what}"))?;
        }
        if error {
            self.text(style, "  │ ", "error:")?;
        }
        if text.trim().is_empty() {
            return Ok(());
        }
        if self.full {
            return self.long(style, "  │ ", text);
        }
        // In a line of its own, else the beginning of a result shows little of what it says.
        let (header, output) = headed(text);
        if !header.is_empty() {
            self.text(Style::Dim, "  │ ", &header.join(" · "))?;
        }
        if output.trim().is_empty() { Ok(()) } else { self.long(style, "  │ ", output) }
    }
}

/// As much of a text as goes into a line, and how much more there is.
pub(super) fn first_words(text: &str) -> String {
    let line = one_line(text, SUMMARY_MAX);
    match line.strip_suffix('…') {
        Some(kept) if text.len() > kept.len() => {
            format!("{line} {} more", counted((text.len() - kept.len()) as u64, "byte"))
        }
        _ => line,
    }
}

/// A text without the blank lines around it.
pub(super) fn body(text: &str) -> &str {
    text.trim_start_matches(['\n', '\r']).trim_end()
}

/// The first digits of an address: enough to find it in the JSON form.
pub(super) fn short(address: &burnlog_log::Address) -> String {
    address.to_string().chars().take(19).collect()
}

/// The tokens of a call in a few words.
pub(super) fn tokens(item: &Item) -> String {
    let Item::Call { input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, complete, .. } =
        item
    else {
        return String::new();
    };
    let number = |tokens: &Option<i64>| tokens.map(|tokens| count(tokens.max(0) as u64));
    let parts = [
        number(input_tokens).map(|tokens| format!("{tokens} in")),
        number(cache_read_tokens).map(|tokens| format!("{tokens} cached")),
        number(cache_write_tokens).map(|tokens| format!("{tokens} to cache")),
        number(output_tokens).map(|tokens| format!("{}{tokens} out", if *complete { "" } else { "≥" })),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The heading of a turn: `prompt 3`, or what it is instead.
pub(super) fn turn_name(ordinal: Option<u64>, class: &str) -> String {
    match (ordinal, class) {
        (Some(ordinal), _) => format!("prompt {ordinal}"),
        (None, "delegated") => "task".to_owned(),
        (None, class) => class.replace('_', " "),
    }
}

/// An image in a few words.
pub(super) fn image_name(media_type: Option<&str>, size: Option<u64>, place: &Place) -> String {
    let size = bytes(size.unwrap_or(place.bytes));
    format!("[image {}, {size}, {}]", media_type.unwrap_or("of unknown type"), short(&place.address))
}

/// The session in a few lines; the first is its name.
pub(super) fn session_lines(session: &SessionLine) -> Vec<String> {
    let span = match [session.first_at, session.last_at].map(second) {
        [first, last] if first.is_empty() && last.is_empty() => "no time known".to_owned(),
        [first, last] => format!("{first} to {last} {}", zone::name()),
    };
    let total = session.input_tokens + session.cache_read_tokens + session.cache_write_tokens;
    let counts = [
        counted(session.prompts as u64, "prompt"),
        counted(session.calls as u64, "call"),
        counted(session.tool_uses as u64, "tool use"),
        counted(session.tool_errors as u64, "error"),
        counted(session.compactions as u64, "compaction"),
        format!("{} in, {} out", count(total as u64), count(session.output_tokens as u64)),
    ];
    let title = session.title.as_deref().map(|title| format!(": {title}")).unwrap_or_default();
    let project = session.project.as_deref().unwrap_or("no project");
    vec![
        format!("session {}{title}", session.session),
        format!("{} · {project} · {span}", session.source),
        counts.join(" · "),
    ]
}

/// What was left out, as sentences.
pub(super) fn left_out_lines(left_out: &LeftOut) -> Vec<String> {
    let mut lines = Vec::new();
    if left_out.repeated_records > 0 {
        let records = counted(left_out.repeated_records, "record");
        lines.push(format!("{records} not shown: they say again what is shown"));
    }
    if left_out.older_versions > 0 {
        let versions = counted(left_out.older_versions, "older version");
        lines.push(format!("{versions} of rewritten records not shown"));
    }
    if left_out.records_without_content > 0 {
        let records = counted(left_out.records_without_content, "record");
        lines.push(format!(
            "{records} without text that can be shown; burnlog restore writes them as they were"
        ));
    }
    lines
}

/// A record that cannot be shown.
pub(super) fn lost_line(seq: u64, message: &str, address: &burnlog_log::Address) -> String {
    format!("[record {seq}, {}: {message}]", short(address))
}

/// The heading of copied history.
pub(super) fn copied_line(from: Option<&str>, records: u64, shown: bool) -> String {
    let from = from.unwrap_or("a session that was never recorded");
    let records = counted(records, "record");
    if shown {
        format!("copied from session {from}: {records}")
    } else {
        format!("{records} copied from session {from}, not shown")
    }
}

/// Another session that began this one or was begun by it.
pub(super) fn relative_line(item: &Item) -> String {
    match item {
        Item::BegunBy { kind, session } => format!("{kind} of session {session}"),
        Item::Began { kind, session, agent } => {
            let agent = agent.as_deref().map(|agent| format!(" {agent}")).unwrap_or_default();
            format!("{kind}{agent}: session {session}")
        }
        _ => String::new(),
    }
}

impl<W: Write> Renderer for Terminal<W> {
    fn begin(&mut self, session: &SessionLine) -> io::Result<()> {
        for (at, line) in session_lines(session).iter().enumerate() {
            self.text(if at == 0 { Style::Bold } else { Style::Dim }, "", line)?;
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Turn { ordinal, class, timestamp } => {
                self.class.clone_from(class);
                let style = if ordinal.is_some() { Style::Green } else { Style::Dim };
                self.heading(style, &[turn_name(*ordinal, class), second(*timestamp)])
            }
            Item::Speaker { role } => {
                self.class = if *role == "user" { "prompt".to_owned() } else { String::new() };
                self.heading(Style::Dim, &[(*role).to_owned()])
            }
            Item::Call { model, timestamp, stop_reason, sidechain, .. } => {
                self.class.clear();
                let parts = [
                    model.clone().unwrap_or_else(|| "unknown model".to_owned()),
                    second(*timestamp),
                    tokens(item),
                    stop_reason.clone().unwrap_or_default(),
                    if *sidechain && self.depth == 0 { "sidechain" } else { "" }.to_owned(),
                ];
                self.heading(Style::Bold, &parts)
            }
            Item::Text { role, text, .. } => match *role {
                "user" if matches!(self.class.as_str(), "prompt" | "delegated") => {
                    self.text(Style::Plain, "", body(text))
                }
                "user" => self.long(Style::Dim, "", text),
                "assistant" => self.text(Style::Plain, "", body(text)),
                _ if text.trim().is_empty() => Ok(()),
                role => self.aside(role, text),
            },
            Item::Thinking { text, .. } if text.trim().is_empty() => Ok(()),
            Item::Thinking { text, .. } => self.long(Style::Dim, "  ", &format!("(thinking) {text}")),
            Item::ToolUse { tool, summary, input, .. } => {
                self.tool_use(tool.as_deref(), summary, input.as_deref().map(RawValue::get))
            }
            Item::ToolResult { tool, error, follows, text, place, .. } => {
                // Without text it is images, which follow, or really nothing.
                let text = if text.is_empty() && place.bytes <= EMPTY_BYTES { "(nothing)" } else { text };
                self.result(tool.as_deref(), *error == Some(true), *follows, text)
            }
            Item::Image { media_type, image_bytes, tool_use, place } => {
                let before = if tool_use.is_some() { "  │ " } else { "" };
                self.text(Style::Yellow, before, &image_name(media_type.as_deref(), *image_bytes, place))
            }
            Item::Block { kind, text, .. } => self.long(Style::Dim, "", &format!("[{kind}] {text}")),
            Item::Compaction { trigger, tokens_before, timestamp } => {
                let parts = [
                    "context compacted".to_owned(),
                    trigger.clone().unwrap_or_default(),
                    tokens_before
                        .map(|it| format!("{} tokens before", count(it.max(0) as u64)))
                        .unwrap_or_default(),
                    second(*timestamp),
                ];
                self.heading(Style::Yellow, &parts)
            }
            Item::Notice { error, status, timestamp } => {
                let status = status.map(|status| format!("status {status}")).unwrap_or_default();
                let error = error.clone().unwrap_or_default();
                self.heading(Style::Red, &["notice".to_owned(), error, status, second(*timestamp)])
            }
            Item::Lost { seq, message, address, .. } => {
                self.text(Style::Red, "", &lost_line(*seq, message, address))
            }
            Item::Copied { from_session, records, shown } => {
                self.heading(Style::Yellow, &[copied_line(from_session.as_deref(), *records, *shown)])
            }
            Item::CopiedEnd { from_session } => {
                let from = from_session.as_deref().unwrap_or("another session");
                self.heading(Style::Yellow, &[format!("end of what was copied from {from}")])
            }
            Item::BegunBy { .. } | Item::Began { .. } => self.heading(Style::Yellow, &[relative_line(item)]),
        }
    }

    fn begin_agent(&mut self, agent: &Agent) -> io::Result<()> {
        self.depth += 1;
        let name = agent.id.as_deref().unwrap_or("without a name");
        self.text(Style::Cyan, "── ", &format!("subagent {name}"))
    }

    fn end_agent(&mut self) -> io::Result<()> {
        self.text(Style::Cyan, "── ", "end of subagent")?;
        self.depth = self.depth.saturating_sub(1);
        Ok(())
    }

    fn end(&mut self, left_out: &LeftOut) -> io::Result<()> {
        let lines = left_out_lines(left_out);
        if !lines.is_empty() {
            self.gap()?;
        }
        for line in lines {
            self.text(Style::Dim, "", &line)?;
        }
        self.out.flush()
    }
}
