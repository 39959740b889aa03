//! Where the content of messages is. A session that is one object has the blocks of its latest version alone; where a
//! session is lines, a message that is written anew has those of each of its lines.

use super::MessageFold;
use super::message::{Message, Piece, Tool};
use crate::json::{Span, Spanned};

impl MessageFold<'_> {
    /// Tells which version of the session the record is: the later one counts, then the one of the smaller hash.
    pub(super) fn rank_blocks(&mut self) {
        let updated = self.updated.map_or(0, |at| at.as_micros().max(0));
        let mut rank = [0; 16];
        rank[..8].copy_from_slice(&updated.to_be_bytes());
        for (byte, of_hash) in rank[8..].iter_mut().zip(self.record.payload_hash.0) {
            *byte = !of_hash;
        }
        self.facts.rank_blocks(&rank);
    }

    /// Where the blocks of a message are: its thoughts, what it says, and its tools.
    pub(super) fn message_blocks(&mut self, id: &str, message: &Message<'_>) {
        for thought in message.thoughts.iter() {
            self.facts.block("thinking", thought.subject.text_span(), None);
            self.facts.block("thinking", thought.description.text_span(), None);
        }
        let is_said = !matches!(message.kind.as_deref(), Some("info" | "warning" | "error"));
        for piece in message.content.pieces() {
            self.fold_piece(if is_said { "text" } else { "system" }, piece);
        }
        for tool in message.tools.iter() {
            self.tool_blocks(tool.key(id).as_deref(), tool);
        }
    }

    fn fold_piece(&mut self, kind: &str, piece: &Spanned<Piece<'_>>) {
        let Spanned { value: Piece { text, part }, span } = piece;
        let text =
            if text.0.is_some() { *span } else { span_of(part.text.value.0.is_some(), part.text.span) };
        if !text.is_absent() {
            let kind = if part.thought.0 == Some(true) { "thinking" } else { kind };
            self.facts.block(kind, text, None);
        } else if let Some(call) = &part.call {
            let place = call.args.there();
            self.facts.block("tool_use", if place.is_absent() { *span } else { place }, call.id.as_deref());
        } else if let Some(response) = &part.response {
            let (place, id) = (response.response.there(), response.id.as_deref());
            self.facts.block("tool_result", if place.is_absent() { *span } else { place }, id);
            self.fold_files(response.parts.iter(), id);
        } else {
            self.facts.block(part.kind_of_file().unwrap_or("unknown"), *span, None);
        }
    }

    /// What was asked of a tool and what it gave back; where that is not kept, what was shown of it.
    fn tool_blocks(&mut self, key: Option<&str>, tool: &Tool<'_>) {
        self.facts.block("tool_use", span_of(tool.args.value.is_some(), tool.args.span), key);
        let mut pieces = tool.result.value.pieces().peekable();
        let result = span_of(pieces.peek().is_some(), tool.result.span);
        self.facts.block("tool_result", if result.is_absent() { tool.shown.there() } else { result }, key);
        for piece in pieces {
            self.fold_files(std::iter::once(piece), key);
            let response = piece.value.part.response.as_ref();
            self.fold_files(response.iter().flat_map(|response| response.parts.iter()), key);
        }
    }

    fn fold_files<'p, 'a: 'p>(
        &mut self,
        pieces: impl Iterator<Item = &'p Spanned<Piece<'a>>>,
        tool_use: Option<&str>,
    ) {
        for piece in pieces {
            if let Some(kind) = piece.value.part.kind_of_file() {
                self.facts.block(kind, piece.span, tool_use);
            }
        }
    }
}

fn span_of(is_there: bool, span: Span) -> Span {
    if is_there { span } else { Span::default() }
}
