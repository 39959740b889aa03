//! The turns of users: prompts, and all that stands in their place.

use super::line::{Content, Typed};
use super::user_text::{Prose, Shape};
use super::{LineFold, is};
use crate::json::Spanned;
use crate::user_turns::{CLASS_PROMPT, UserTurn};
use burnlog_log::scan::{RawText, Scanner};

impl LineFold<'_> {
    /// Returns the first eight bytes of the hash of texts, by their places.
    fn text_prefix<'t>(&self, texts: impl Iterator<Item = &'t Spanned<Prose>>) -> i64 {
        let mut hasher = blake3::Hasher::new();
        for Spanned { span, .. } in texts {
            let (start, end) = (span.start as usize, (span.start + span.bytes) as usize);
            let raw = self.text.get(start..end).and_then(|text| Scanner::new(text).string());
            hasher.update(raw.map(RawText::text).unwrap_or_default().as_bytes());
            hasher.update(&[0]);
        }
        i64::from_be_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes"))
    }

    /// The prompt of a user, or what stands in its place.
    pub(super) fn fold_user_turn(&mut self) {
        let line = self.line;
        if let Some(message) = &line.message {
            self.fold_turn(&message.content, None, line.origin.as_deref());
        }
    }

    /// A prompt that waited while the agent worked and then reached the model beside its tools: no message holds it. What
    /// waited and became a message of its own is told by that. Returns whether the line is one.
    pub(super) fn fold_queued(&mut self) -> bool {
        let Some(attachment) = self.line.attachment.as_deref() else { return false };
        if attachment.kind.as_deref() != Some("queued_command") {
            return false;
        }
        self.fold_blocks(&attachment.prompt);
        let mode = attachment.mode.as_deref();
        self.fold_turn(&attachment.prompt, mode, attachment.origin.as_deref());
        true
    }

    fn fold_turn(&mut self, content: &Content<'_>, mode: Option<&str>, origin: Option<&Typed<'_>>) {
        let blocks = || content.blocks.iter().map(|block| &block.value);
        let texts = || content.text.iter().chain(blocks().filter(|b| is(b, "text")).map(|b| &b.text));
        let mut shapes = texts().map(|prose| prose.value.shape);
        let first = shapes.next().unwrap_or_default();
        let shape = if shapes.all(|shape| shape == first) { first } else { Shape::Plain };
        let is_result = blocks().any(|block| is(block, "tool_result"));
        if is_result && shape != Shape::Interruption {
            return;
        }
        let characters = texts().map(|prose| prose.value.characters).sum();
        let images = blocks().filter(|block| is(block, "image")).count() as i64;
        let origin = origin.and_then(|origin| origin.origin.as_deref()).or(mode);
        let class = self.class_of_turn(shape, origin, characters > 0 || images > 0);
        let row = UserTurn {
            source: self.stream.source.clone(),
            turn: self.own_id(),
            copied: self.copied,
            timestamp: self.timestamp,
            session: self.stream.session.clone(),
            stream: self.stream.stream.clone(),
            class: self.facts.names.get(class),
            characters,
            images,
            text_prefix: self.text_prefix(texts()),
            place: self.record.address,
            contested: false,
            forms: Vec::new(),
        };
        self.facts.user_turns.merge(row);
    }

    /// Tells by purpose, where the line states one, and else by shape what stands in the user's place.
    fn class_of_turn(&self, shape: Shape, origin: Option<&str>, has_content: bool) -> &'static str {
        let line = self.line;
        let delegated = line.sidechain.0 == Some(true) || self.stream.agent.is_some();
        match (shape, origin) {
            _ if line.compact_summary.0 == Some(true) => "compact_summary",
            _ if line.meta.0 == Some(true) => "meta",
            (_, Some("human")) => CLASS_PROMPT,
            (_, Some("task-notification")) | (Shape::Notification, _) => "notification",
            (Shape::Command, _) | (_, Some("bash")) => "command",
            (Shape::CommandOutput, _) => "command_output",
            (Shape::Interruption, _) => "interruption",
            (Shape::Plain, _) if delegated => "delegated",
            (Shape::Plain, _) if has_content => CLASS_PROMPT,
            (Shape::Plain | Shape::Reminder, _) => "meta",
        }
    }
}
