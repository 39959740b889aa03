//! One API call: its blocks, its usage, and the several rows it is written as.

use super::random::Random;
use super::text::{identifier, push_text, push_token};
use super::truth::Tokens;
use std::fmt::Write;

/// How the rows of a call carry its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The last row has the stop reason and the full output count.
    Final,
    /// No row has a stop reason; the largest count is a floor.
    Open,
}

/// One API call, ready to be written.
#[derive(Debug)]
pub(crate) struct Call {
    id: String,
    request: String,
    model: &'static str,
    blocks: Vec<String>,
    stop: Option<&'static str>,
    tokens: Tokens,
    /// Whether the split of cache writes by lifetime is given.
    split: bool,
    /// Whether rows before the last leave the usage out.
    bare: bool,
}

/// What a call is made from.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) model: &'static str,
    /// Mean length of a block of text, in bytes.
    pub(crate) content: u64,
    /// The tool call that the message ends with, as JSON.
    pub(crate) tool: Option<String>,
    pub(crate) end: End,
    /// Tokens already in the cache.
    pub(crate) context: u64,
    pub(crate) split: bool,
}

impl Call {
    pub(crate) fn new(random: &mut Random, order: Order) -> Self {
        let Order { model, content, tool, end, context, split } = order;
        let mut blocks = Vec::new();
        if random.per_mille(400) {
            let mut block = "{\"type\":\"thinking\",\"thinking\":\"".to_owned();
            push_text(random, &mut block, content / 2);
            block.push_str("\",\"signature\":\"");
            push_token(random, &mut block, 180);
            block.push_str("\"}");
            blocks.push(block);
        }
        if tool.is_none() || random.per_mille(700) {
            let mut block = "{\"type\":\"text\",\"text\":\"".to_owned();
            push_text(random, &mut block, content);
            block.push_str("\"}");
            blocks.push(block);
        }
        let stop = (end == End::Final).then_some(if tool.is_some() { "tool_use" } else { "end_turn" });
        blocks.extend(tool);
        let written = random.between(100, 1500);
        let hour = if split && random.per_mille(300) { written } else { 0 };
        let size: usize = blocks.iter().map(String::len).sum();
        let tokens = Tokens {
            input: random.between(1, 12),
            output: if end == End::Final { size as u64 / 4 + 3 } else { random.between(2, 9) },
            cache_read: context,
            cache_write_5m: written - hour,
            cache_write_1h: hour,
        };
        let bare = random.per_mille(20);
        let (id, request) = (identifier(random, "msg_01"), identifier(random, "req_01"));
        Self { id, request, model, blocks, stop, tokens, split, bare }
    }

    /// The tokens of the row that is kept.
    pub(crate) fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// The fields of each row, in the order of writing: one row a block.
    pub(crate) fn rows(&self) -> Vec<String> {
        let last = self.blocks.len() - 1;
        self.blocks
            .iter()
            .enumerate()
            .map(|(position, block)| {
                let tokens = if position == last { self.tokens } else { self.early() };
                let stop = if position == last { self.stop } else { None };
                self.fields(block, stop, (position == last || !self.bare).then_some(tokens))
            })
            .collect()
    }

    /// The fields of a row as a `progress` row of the parent repeats it: the first block, before the end is known.
    pub(crate) fn echo(&self) -> String {
        self.fields(&self.blocks[0], None, Some(self.early()))
    }

    /// The usage of an early row: its output is never more than that of the kept row.
    fn early(&self) -> Tokens {
        Tokens { output: 1, ..self.tokens }
    }

    fn fields(&self, block: &str, stop: Option<&str>, usage: Option<Tokens>) -> String {
        let Self { id, request, model, .. } = self;
        let mut out = String::with_capacity(block.len() + 640);
        let _ = write!(
            out,
            "\"message\":{{\"model\":\"{model}\",\"id\":\"{id}\",\"type\":\"message\",\"role\":\"assistant\",\
             \"content\":[{block}],\"stop_reason\":"
        );
        match stop {
            Some(stop) => out.extend(["\"", stop, "\""]),
            None => out.push_str("null"),
        }
        out.push_str(",\"stop_sequence\":null");
        if let Some(tokens) = usage {
            self.push_usage(&mut out, &tokens);
        }
        let _ = write!(out, "}},\"requestId\":\"{request}\"");
        out
    }

    fn push_usage(&self, out: &mut String, tokens: &Tokens) {
        let (five, hour) = (tokens.cache_write_5m, tokens.cache_write_1h);
        let _ = write!(
            out,
            ",\"usage\":{{\"input_tokens\":{},\"cache_creation_input_tokens\":{},\"cache_read_input_tokens\":{},",
            tokens.input,
            five + hour,
            tokens.cache_read
        );
        if self.split {
            let _ = write!(
                out,
                "\"cache_creation\":{{\"ephemeral_5m_input_tokens\":{five},\"ephemeral_1h_input_tokens\":{hour}}},"
            );
        }
        let _ = write!(out, "\"output_tokens\":{},\"service_tier\":\"standard\"}}", tokens.output);
    }
}
