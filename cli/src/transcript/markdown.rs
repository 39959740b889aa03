//! A transcript to paste into an issue: headings, quoted prompts, fenced results, subagents in `<details>`. What was
//! recorded cannot break out of its fence or close a fold.

use super::terminal::{
    copied_line, first_words, image_name, left_out_lines, lost_line, relative_line, session_lines, tokens,
    turn_name,
};
use super::text::{cut, one_line};
use super::{Agent, Item, LeftOut, Renderer};
use crate::commands::SessionLine;
use crate::output::{count, counted, printable, second};
use std::io::{self, Write};

const LINES_MAX: usize = 20;
const BYTES_MAX: usize = 2000;
const SUMMARY_MAX: usize = 160;

/// Writes Markdown as GitHub reads it.
pub(crate) struct Markdown<W> {
    out: W,
    full: bool,
}

impl<W: Write> Markdown<W> {
    pub(crate) fn new(out: W, full: bool) -> Self {
        Self { out, full }
    }

    fn paragraph(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "{text}\n")
    }

    /// The text as it stands, cut unless all is asked for, and how it goes on.
    fn cut<'t>(&self, text: &'t str) -> (&'t str, String) {
        let (kept, more) = if self.full { (text.trim_end(), 0) } else { cut(text, LINES_MAX, BYTES_MAX) };
        (kept, if more > 0 { format!("… {} more", counted(more as u64, "byte")) } else { String::new() })
    }

    /// A block that shows every character as it is, behind a fence longer than any in it.
    fn fenced(&mut self, text: &str) -> io::Result<()> {
        let (kept, more) = self.cut(text);
        let kept = printable(kept);
        let fence = "`".repeat(longest_run(&kept, '`').max(2) + 1);
        writeln!(self.out, "{fence}text\n{kept}\n{fence}")?;
        if more.is_empty() { writeln!(self.out) } else { writeln!(self.out, "{more}\n") }
    }

    fn quoted(&mut self, text: &str) -> io::Result<()> {
        for line in closed(&printable(text.trim_end())).lines() {
            writeln!(self.out, "> {line}")?;
        }
        writeln!(self.out)
    }

    fn folded(&mut self, summary: &str, text: &str) -> io::Result<()> {
        writeln!(self.out, "<details><summary>{}</summary>\n", inline(summary))?;
        self.fenced(text)?;
        self.paragraph("</details>")
    }

    fn heading(&mut self, parts: &[String]) -> io::Result<()> {
        let parts: Vec<String> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| inline(part)).collect();
        self.paragraph(&format!("### {}", parts.join(" · ")))
    }
}

/// The longest run of a character.
fn longest_run(text: &str, of: char) -> usize {
    text.split(|character| character != of).map(str::len).max().unwrap_or_default()
}

/// Text for one line between marks: nothing in it is a mark, and it has no line break.
fn inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in printable(text).chars() {
        match character {
            '\n' | '\t' => out.push(' '),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' => out.extend(['\\', character]),
            other => out.push(other),
        }
    }
    out
}

/// A text that is Markdown already: a fence that it leaves open is closed, and it cannot close a fold of ours, nor
/// open a comment.
fn closed(text: &str) -> String {
    let mut open: Option<String> = None;
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let trimmed = line.trim_start_matches(' ');
        let mark = trimmed.chars().next().filter(|mark| matches!(mark, '`' | '~'));
        let run = mark.map_or(0, |mark| trimmed.chars().take_while(|it| *it == mark).count());
        // What is indented further is code, and what has a backtick behind backticks is a span.
        let is_span = mark == Some('`') && trimmed[run..].contains('`');
        let is_fence = run >= 3 && line.len() - trimmed.len() < 4 && !is_span;
        if let Some(fence) = &open {
            out.push_str(line);
            if is_fence && trimmed.starts_with(fence.as_str()) && trimmed[run..].trim().is_empty() {
                open = None;
            }
        } else {
            out.push_str(&without_folds(line));
            open = is_fence.then(|| trimmed[..run].to_owned());
        }
        out.push('\n');
    }
    if let Some(fence) = open {
        out.push_str(&fence);
        out.push('\n');
    }
    out
}

/// Elements of HTML that would reach beyond the text that they stand in become text.
fn without_folds(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('<') {
        out.push_str(&rest[..at]);
        let after = rest[at + 1..].trim_start_matches('/').to_ascii_lowercase();
        let is_element =
            after.starts_with(|first: char| first.is_ascii_alphabetic() || first == '!' || first == '?');
        out.push_str(if is_element { "&lt;" } else { "<" });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out
}

impl<W: Write> Renderer for Markdown<W> {
    fn begin(&mut self, session: &SessionLine) -> io::Result<()> {
        for (at, line) in session_lines(session).iter().enumerate() {
            let line = inline(line);
            self.paragraph(&if at == 0 { format!("## {line}") } else { line })?;
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) -> io::Result<()> {
        match item {
            Item::Turn { ordinal, class, timestamp } => {
                self.heading(&[turn_name(*ordinal, class), second(*timestamp)])
            }
            Item::Speaker { role } => self.heading(&[(*role).to_owned()]),
            Item::Call { model, timestamp, stop_reason, .. } => {
                let model = model.clone().unwrap_or_else(|| "unknown model".to_owned());
                let stop = stop_reason.clone().unwrap_or_default();
                self.heading(&[model, second(*timestamp), tokens(item), stop])
            }
            Item::Text { role: "assistant", text, .. } => {
                let text = closed(&printable(text.trim_end()));
                self.paragraph(text.trim_end())
            }
            Item::Text { role: "user", text, .. } => self.quoted(text),
            Item::Text { text, .. } if text.trim().is_empty() => Ok(()),
            Item::Text { role, text, .. } => {
                let text = if self.full { text.trim().to_owned() } else { first_words(text.trim()) };
                self.paragraph(&format!("*{}: {}*", inline(role), inline(&text)))
            }
            Item::Thinking { text, .. } if text.trim().is_empty() => Ok(()),
            Item::Thinking { text, .. } => self.folded("thinking", text),
            Item::ToolUse { tool, summary, input, .. } => {
                let tool = tool.as_deref().unwrap_or("a tool");
                self.paragraph(&format!("**{}** {}", inline(tool), inline(&one_line(summary, SUMMARY_MAX))))?;
                match input {
                    Some(input) if self.full => self.fenced(input.get()),
                    _ => Ok(()),
                }
            }
            Item::ToolResult { tool, error, text, .. } => {
                let what = if *error == Some(true) { "error of" } else { "result of" };
                let summary = format!("{what} {}", tool.as_deref().unwrap_or("a tool"));
                self.folded(&summary, text)
            }
            Item::Image { media_type, image_bytes, place, .. } => {
                self.paragraph(&inline(&image_name(media_type.as_deref(), *image_bytes, place)))
            }
            Item::Block { kind, text, .. } => self.folded(kind, text),
            Item::Compaction { trigger, tokens_before, timestamp } => {
                let before = tokens_before.map(|it| format!("{} tokens before", count(it.max(0) as u64)));
                self.heading(&[
                    "context compacted".to_owned(),
                    trigger.clone().unwrap_or_default(),
                    before.unwrap_or_default(),
                    second(*timestamp),
                ])
            }
            Item::Notice { error, status, timestamp } => {
                let status = status.map(|status| format!("status {status}")).unwrap_or_default();
                let error = error.clone().unwrap_or_default();
                self.heading(&["notice".to_owned(), error, status, second(*timestamp)])
            }
            Item::Lost { seq, message, address, .. } => {
                self.paragraph(&inline(&lost_line(*seq, message, address)))
            }
            Item::Copied { from_session, records, shown } => {
                let line = copied_line(from_session.as_deref(), *records, *shown);
                self.paragraph(&format!("---\n\n*{}*", inline(&line)))
            }
            Item::CopiedEnd { from_session } => {
                let from = from_session.as_deref().unwrap_or("another session");
                self.paragraph(&format!("*end of what was copied from {}*\n\n---", inline(from)))
            }
            Item::BegunBy { .. } | Item::Began { .. } => {
                self.paragraph(&format!("*{}*", inline(&relative_line(item))))
            }
        }
    }

    fn begin_agent(&mut self, agent: &Agent) -> io::Result<()> {
        let name = inline(agent.id.as_deref().unwrap_or("without a name"));
        self.paragraph(&format!("<details><summary>subagent {name}</summary>"))
    }

    fn end_agent(&mut self) -> io::Result<()> {
        self.paragraph("</details>")
    }

    fn end(&mut self, left_out: &LeftOut) -> io::Result<()> {
        for line in left_out_lines(left_out) {
            self.paragraph(&format!("*{}*", inline(&line)))?;
        }
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recorded_text_cannot_break_out() {
        assert_eq!(inline("<b>\n`x`"), "&lt;b&gt; \\`x\\`");
        assert_eq!(closed("a\n```rust\n<b>"), "a\n```rust\n<b>\n```\n");
        assert_eq!(closed("</details> 1 < 2 <!-- x"), "&lt;/details> 1 < 2 &lt;!-- x\n");
        let mut out = Vec::new();
        Markdown::new(&mut out, false).fenced("a\n````\nb").unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "`````text\na\n````\nb\n`````\n\n");
    }
}
