//! A transcript as one HTML file that needs nothing else: no script, no request, everything recorded escaped. Tools, subagents
//! and long texts that stand in the user's place without being a prompt are folded.

use super::terminal::{
    body, copied_line, image_name, left_out_lines, lost_line, relative_line, session_lines, tokens, turn_name,
};
use super::text::{cut, headed, one_line};
use super::{Agent, Item, LeftOut, Renderer};
use crate::commands::SessionLine;
use crate::output::{count, counted, printable, second};
use burnlog_projections::CLASS_PROMPT;
use std::io::{self, Write};

const LINES_MAX: usize = 200;
const BYTES_MAX: usize = 20_000;
const SUMMARY_MAX: usize = 160;
/// A text of so many lines that no person wrote is folded.
const UNFOLDED_LINES_MAX: usize = 12;

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
"#;
const STYLE: &str = "<style>
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;overflow-wrap:anywhere}
pre{white-space:pre-wrap;margin:.3rem 0;font:13px/1.45 ui-monospace,monospace}
h2{font-size:1rem;margin:1.6rem 0 .3rem;border-top:1px solid #8884;padding-top:.6rem}
h2.prompt{color:#178a3a}h2.notice,.error>summary,.lost{color:#c62828}h2.compaction,.copied{color:#a66a00}
.text{white-space:pre-wrap}.dim{opacity:.65}
details{margin:.3rem 0 .3rem .5rem;border-left:3px solid #8884;padding-left:.7rem}
details.agent{border-left-color:#2a7ab8}summary{cursor:pointer}
</style></head><body>
";

/// Writes HTML.
pub(crate) struct Html<W> {
    out: W,
    full: bool,
    /// Whether what follows stands in the user's place and is no prompt.
    is_beside: bool,
}

impl<W: Write> Html<W> {
    pub(crate) fn new(out: W, full: bool) -> Self {
        Self { out, full, is_beside: false }
    }

    fn text(&mut self, class: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "<div class=\"text {class}\">{}</div>", escaped(body(text)))
    }

    fn pre(&mut self, text: &str) -> io::Result<()> {
        let (kept, more) = if self.full { (text.trim_end(), 0) } else { cut(text, LINES_MAX, BYTES_MAX) };
        writeln!(self.out, "<pre>{}</pre>", escaped(kept))?;
        if more > 0 {
            writeln!(self.out, "<div class=\"dim\">… {} more</div>", counted(more as u64, "byte"))?;
        }
        Ok(())
    }

    fn folded(&mut self, class: &str, summary: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "<details class=\"{class}\"><summary>{}</summary>", escaped(summary))?;
        self.pre(text)?;
        writeln!(self.out, "</details>")
    }

    fn heading(&mut self, class: &str, parts: &[String]) -> io::Result<()> {
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
        writeln!(self.out, "<h2 class=\"{class}\">{}</h2>", escaped(&parts.join(" · ")))
    }
}

/// Text in which nothing is a mark of HTML.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

impl<W: Write> Renderer for Html<W> {
    fn begin(&mut self, session: &SessionLine) -> io::Result<()> {
        let lines = session_lines(session);
        let title = escaped(lines.first().map_or("session", String::as_str));
        writeln!(self.out, "{HEAD}<title>{title}</title>\n{STYLE}<h1>{title}</h1>")?;
        lines.iter().skip(1).try_for_each(|line| self.text("dim", line))
    }

    fn item(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Turn { class, .. } => self.is_beside = *class != CLASS_PROMPT,
            Item::Call { .. } | Item::Speaker { .. } => self.is_beside = false,
            _ => {}
        }
        match item {
            Item::Turn { ordinal, class, timestamp } => {
                let style = if ordinal.is_some() { "prompt" } else { "dim" };
                self.heading(style, &[turn_name(*ordinal, class), second(*timestamp)])
            }
            Item::Speaker { role } => self.heading("dim", &[(*role).to_owned()]),
            Item::Call { model, timestamp, stop_reason, .. } => {
                let model = model.clone().unwrap_or_else(|| "unknown model".to_owned());
                let stop = stop_reason.clone().unwrap_or_default();
                self.heading("call", &[model, second(*timestamp), tokens(item), stop])
            }
            Item::Text { role: "user", text, .. }
                if self.is_beside && text.trim().lines().nth(UNFOLDED_LINES_MAX).is_some() =>
            {
                self.folded("", &one_line(text, SUMMARY_MAX), text)
            }
            Item::Text { role: "assistant" | "user", text, .. } => self.text("", text),
            Item::Text { text, .. } if text.trim().is_empty() => Ok(()),
            Item::Text { role, text, .. } if one_line(text, SUMMARY_MAX).ends_with('…') => {
                let line = one_line(text, SUMMARY_MAX);
                self.folded("dim", &format!("{role}: {line}"), text)
            }
            Item::Text { role, text, .. } => self.text("dim", &format!("{role}: {text}")),
            Item::Thinking { text, .. } if text.trim().is_empty() => Ok(()),
            Item::Thinking { text, .. } => self.folded("dim", "thinking", text),
            Item::ToolUse { tool, summary, input, .. } => {
                let line = one_line(summary, SUMMARY_MAX);
                let name = format!("{} {line}", tool.as_deref().unwrap_or("a tool"));
                let input =
                    input.as_deref().and_then(|it| serde_json::from_str::<serde_json::Value>(it.get()).ok());
                let pretty = input.and_then(|value| serde_json::to_string_pretty(&value).ok());
                self.folded("tool", &name, &pretty.unwrap_or_else(|| summary.clone()))
            }
            Item::ToolResult { tool, error, text, .. } => {
                let (class, what) =
                    if *error == Some(true) { ("error", "error of") } else { ("tool", "result of") };
                let (_, output) = headed(text);
                let told = if output.trim().is_empty() { text } else { output };
                let line = one_line(told, SUMMARY_MAX / 2);
                self.folded(class, &format!("{what} {}: {line}", tool.as_deref().unwrap_or("a tool")), text)
            }
            Item::Image { media_type, image_bytes, place, .. } => {
                self.text("dim", &image_name(media_type.as_deref(), *image_bytes, place))
            }
            Item::Block { kind, text, .. } => self.folded("dim", kind, text),
            Item::Compaction { trigger, tokens_before, timestamp } => {
                let before = tokens_before.map(|it| format!("{} tokens before", count(it.max(0) as u64)));
                let trigger = trigger.clone().unwrap_or_default();
                let parts =
                    ["context compacted".to_owned(), trigger, before.unwrap_or_default(), second(*timestamp)];
                self.heading("compaction", &parts)
            }
            Item::Notice { error, status, timestamp } => {
                let status = status.map(|status| format!("status {status}")).unwrap_or_default();
                let parts =
                    ["notice".to_owned(), error.clone().unwrap_or_default(), status, second(*timestamp)];
                self.heading("notice", &parts)
            }
            Item::Lost { seq, message, address, .. } => self.text("lost", &lost_line(*seq, message, address)),
            Item::Copied { from_session, records, shown } => {
                self.text("copied", &copied_line(from_session.as_deref(), *records, *shown))
            }
            Item::CopiedEnd { from_session } => {
                let from = from_session.as_deref().unwrap_or("another session");
                self.text("copied", &format!("end of what was copied from {from}"))
            }
            Item::BegunBy { .. } | Item::Began { .. } => self.text("copied", &relative_line(item)),
        }
    }

    fn begin_agent(&mut self, agent: &Agent) -> io::Result<()> {
        let name = escaped(agent.id.as_deref().unwrap_or("without a name"));
        writeln!(self.out, "<details class=\"agent\"><summary>subagent {name}</summary>")
    }

    fn end_agent(&mut self) -> io::Result<()> {
        writeln!(self.out, "</details>")
    }

    fn end(&mut self, left_out: &LeftOut) -> io::Result<()> {
        for line in left_out_lines(left_out) {
            self.text("dim", &line)?;
        }
        writeln!(self.out, "</body></html>")?;
        self.out.flush()
    }
}
