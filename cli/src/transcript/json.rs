//! A transcript as one JSON object: `{session, items, left_out}`, subagents as items with items of their own. Written
//! as it comes, so that memory stays flat.

use super::{Agent, Item, LeftOut, Renderer};
use crate::commands::SessionLine;
use serde::Serialize;
use std::io::{self, Write};

/// Writes JSON.
pub(crate) struct Json<W> {
    out: W,
    /// Whether the list that is open has an item.
    filled: Vec<bool>,
}

impl<W: Write> Json<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, filled: vec![false] }
    }

    fn comma(&mut self) -> io::Result<()> {
        let is_first = self.filled.last_mut().is_some_and(|filled| !std::mem::replace(filled, true));
        if is_first { Ok(()) } else { self.out.write_all(b",") }
    }

    /// Writes a value: of control characters in strings, which JSON lets stand above U+007E, the escapes; without the
    /// white space that a tool's input may have between its fields.
    fn value(&mut self, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_string(value)?;
        let mut rest = text.as_str();
        while let Some((at, character)) = rest.char_indices().find(|(_, it)| it.is_control()) {
            self.out.write_all(&rest.as_bytes()[..at])?;
            if character > '\u{1f}' {
                write!(self.out, "\\u{:04x}", u32::from(character))?;
            }
            rest = &rest[at + character.len_utf8()..];
        }
        self.out.write_all(rest.as_bytes())
    }
}

impl<W: Write> Renderer for Json<W> {
    fn begin(&mut self, session: &SessionLine) -> io::Result<()> {
        self.out.write_all(b"{\"session\":")?;
        self.value(session)?;
        self.out.write_all(b",\"items\":[")
    }

    fn item(&mut self, item: &Item) -> io::Result<()> {
        self.comma()?;
        self.value(item)
    }

    fn begin_agent(&mut self, agent: &Agent) -> io::Result<()> {
        self.comma()?;
        self.out.write_all(b"{\"type\":\"agent\",\"agent\":")?;
        self.value(&agent.id)?;
        self.out.write_all(b",\"tool_use\":")?;
        self.value(&agent.tool_use)?;
        self.out.write_all(b",\"stream\":")?;
        self.value(&agent.stream)?;
        self.out.write_all(b",\"items\":[")?;
        self.filled.push(false);
        Ok(())
    }

    fn end_agent(&mut self) -> io::Result<()> {
        self.filled.pop();
        self.out.write_all(b"]}")
    }

    fn end(&mut self, left_out: &LeftOut) -> io::Result<()> {
        self.out.write_all(b"],\"left_out\":")?;
        self.value(left_out)?;
        self.out.write_all(b"}\n")?;
        self.out.flush()
    }
}
