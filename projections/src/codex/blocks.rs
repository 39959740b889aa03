//! Where the content of a rollout's line is. Events of the kinds `agent_message`, `user_message`, `agent_reasoning`,
//! `item_completed`, `task_complete` and `*_end` say again what an item of the conversation says, and have no blocks;
//! nor has reasoning that is encrypted, nor the history that a compaction carries along.

use super::LineFold;
use super::line::Block;
use crate::json::{List, Span, Spanned};

impl LineFold<'_> {
    /// Tells where the blocks of a line of this type are.
    pub(super) fn fold_blocks(&mut self, kind: Option<&str>) {
        let payload = self.payload;
        match (kind, payload.kind.as_deref()) {
            (Some("response_item"), Some(item)) => self.fold_item_blocks(item),
            (Some("compacted"), _) => self.facts.block("summary", payload.message.text_span(), None),
            (Some("event_msg"), Some("error" | "warning" | "stream_error" | "background_event")) => {
                self.facts.block("system", payload.message.text_span(), None);
            }
            _ => {}
        }
    }

    fn fold_item_blocks(&mut self, item: &str) {
        let payload = self.payload;
        // Some calls have an id of the item alone.
        let tool_use = payload.call.as_deref().or(payload.id.as_deref());
        match item {
            "message" => {
                let is_said = matches!(payload.role.as_deref(), Some("user" | "assistant"));
                self.fold_texts(if is_said { "text" } else { "system" }, &payload.content);
            }
            "reasoning" => {
                self.fold_texts("thinking", &payload.summary);
                self.fold_texts("thinking", &payload.content);
            }
            "function_call" | "tool_search_call" => {
                self.fold_tool("tool_use", payload.arguments.there(), tool_use);
            }
            "custom_tool_call" => self.fold_tool("tool_use", payload.input.text_span(), tool_use),
            "local_shell_call" | "web_search_call" => {
                self.fold_tool("tool_use", payload.action.there(), tool_use);
            }
            "image_generation_call" => {
                self.facts.block("tool_use", payload.revised_prompt.text_span(), tool_use);
                self.facts.block("image", self.payload_span, tool_use);
            }
            "function_call_output" | "custom_tool_call_output" => {
                let Spanned { value: output, span } = &payload.output;
                let place = if output.content.is_absent() { *span } else { output.content };
                self.fold_tool("tool_result", place, payload.call.as_deref());
                for image in &output.images {
                    self.facts.block("image", *image, payload.call.as_deref());
                }
            }
            "tool_search_output" => {
                self.fold_tool("tool_result", payload.tools.there(), payload.call.as_deref());
            }
            _ => {}
        }
    }

    /// Texts are of the kind `kind`; of anything else the whole block is, and its own type is its kind.
    fn fold_texts(&mut self, kind: &str, blocks: &List<Spanned<Block<'_>>>) {
        for Spanned { value: block, span } in blocks.iter() {
            let text = block.text.text_span();
            match block.kind.as_deref() {
                Some("input_image") => self.facts.block("image", *span, None),
                _ if !text.is_absent() => self.facts.block(kind, text, None),
                other => self.facts.block(other.unwrap_or("unknown"), *span, None),
            }
        }
    }

    /// A tool use or result that holds nothing is the whole item.
    fn fold_tool(&mut self, kind: &str, place: Span, tool_use: Option<&str>) {
        let place = if place.is_absent() { self.payload_span } else { place };
        self.facts.block(kind, place, tool_use);
    }
}
