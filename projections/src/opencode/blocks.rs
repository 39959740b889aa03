//! Where the content of messages and parts is. A tool use is named as its row is: by the id of the part. Text that the
//! program adds to a message is of the kind `system`: nothing else would tell it from what the user typed.

use super::ObjectFold;
use super::object::{Fields, State};
use crate::json::{Spanned, Text};
use crate::text::key_text;

/// Types of parts that mark a place and hold no content. Sorted.
const MARKS: &[&str] = &["snapshot", "step-finish", "step-start"];

impl ObjectFold<'_> {
    /// Tells which version of its object the record is, an object that has blocks or may have had some.
    pub(super) fn rank_blocks(&mut self, clock: Option<i64>, is_complete: bool) {
        let version = self.version(clock, is_complete);
        self.facts.rank_blocks(&version.rank());
    }

    /// Why a message failed; the rest of it is in its parts.
    pub(super) fn message_blocks(&mut self, fields: &Fields<'_>) {
        let reply = fields.error.as_ref().and_then(|error| error.data.as_ref());
        if let Some(reply) = reply {
            self.facts.block("system", reply.message.text_span(), None);
        }
    }

    /// Where the blocks of a part are; returns whether a part of its type can have any.
    pub(super) fn part_blocks(&mut self, part: &Spanned<Fields<'_>>) -> bool {
        let fields = &part.value;
        let kind = fields.kind.as_deref().unwrap_or("unknown");
        match kind {
            "text" if fields.synthetic.0 == Some(true) => {
                self.facts.block("system", fields.text.text_span(), None);
            }
            "text" => self.facts.block("text", fields.text.text_span(), None),
            "reasoning" => self.facts.block("thinking", fields.text.text_span(), None),
            "tool" => {
                let id = key_text(fields.id.as_deref().unwrap_or_default());
                if let Some(state) = &fields.state {
                    self.tool_blocks(&id, state);
                }
            }
            "file" => self.facts.block(kind_of_file(&fields.mime), part.span, None),
            mark if MARKS.binary_search(&mark).is_ok() => return false,
            other => self.facts.block(other, part.span, None),
        }
        true
    }

    fn tool_blocks(&mut self, id: &str, state: &State<'_>) {
        if state.input.value.is_some() {
            self.facts.block("tool_use", state.input.span, Some(id));
        }
        for result in [&state.output, &state.error] {
            self.facts.block("tool_result", result.text_span(), Some(id));
        }
        for Spanned { value: file, span } in state.attachments.iter() {
            self.facts.block(kind_of_file(&file.mime), *span, Some(id));
        }
    }
}

fn kind_of_file(mime: &Text<'_>) -> &'static str {
    let is_image = mime.as_deref().is_some_and(|mime| mime.starts_with("image/"));
    if is_image { "image" } else { "file" }
}

#[cfg(test)]
mod tests {
    #[test]
    fn marks_are_sorted() {
        assert!(super::MARKS.is_sorted());
    }
}
