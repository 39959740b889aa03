//! What a generated set holds, added up while it is made: the truth that an ingest is checked against.
//! Knows how each call ends because it was made that way; reads nothing back.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Tokens of one or many calls, each call counted once by its kept row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Tokens {
    #[serde(rename = "input_tokens")]
    pub(crate) input: u64,
    #[serde(rename = "output_tokens")]
    pub(crate) output: u64,
    #[serde(rename = "cache_read_tokens")]
    pub(crate) cache_read: u64,
    #[serde(rename = "cache_write_5m_tokens")]
    pub(crate) cache_write_5m: u64,
    #[serde(rename = "cache_write_1h_tokens")]
    pub(crate) cache_write_1h: u64,
}

impl Tokens {
    pub(crate) fn add(&mut self, other: &Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_read += other.cache_read;
        self.cache_write_5m += other.cache_write_5m;
        self.cache_write_1h += other.cache_write_1h;
    }
}

/// Distinct calls and their tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Sum {
    pub(crate) calls: u64,
    #[serde(flatten)]
    pub(crate) tokens: Tokens,
}

impl Sum {
    pub(crate) fn add_call(&mut self, tokens: &Tokens) {
        self.calls += 1;
        self.tokens.add(tokens);
    }
}

/// The sum of one day (UTC, of the kept row) and model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) day: String,
    pub(crate) model: String,
    #[serde(flatten)]
    pub(crate) sum: Sum,
}

/// Sums by day and model.
pub(crate) type Days = BTreeMap<(String, String), Sum>;

/// The exact content of a generated set.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Truth {
    /// Session files, not counting those of subagents.
    pub(crate) sessions: u64,
    /// Sessions that begin with history copied from another.
    pub(crate) forks: u64,
    /// All `.jsonl` files.
    pub(crate) files: u64,
    /// Files of subagents, in both layouts.
    pub(crate) agent_files: u64,
    /// `.meta.json` files beside those of subagents.
    pub(crate) meta_files: u64,
    /// Bytes of all `.jsonl` files.
    pub(crate) bytes: u64,
    /// Records, blank lines included; unterminated incomplete last ones not.
    pub(crate) records: u64,
    /// Blank lines.
    pub(crate) blank: u64,
    /// Records that are a JSON object but for bytes that are not UTF-8.
    pub(crate) not_utf8: u64,
    /// Records that are not JSON, whatever stands for such bytes.
    pub(crate) unreadable: u64,
    /// Unterminated last records that are not complete.
    pub(crate) pending: u64,
    /// Calls that exist in `progress` rows alone.
    pub(crate) progress_only_calls: u64,
    /// Calls without a row that has a stop reason: their output is a floor.
    pub(crate) floor_calls: u64,
    /// Local notices under the model `<synthetic>`; not calls.
    pub(crate) notices: u64,
    pub(crate) compactions: u64,
    pub(crate) tool_results: u64,
    pub(crate) tool_errors: u64,
    /// Distinct calls and their tokens.
    pub(crate) total: Sum,
    /// The same by day and model, sorted.
    pub(crate) days: Vec<Group>,
}

/// Lists sums by day and model in sorted order.
pub(crate) fn list_days(days: Days) -> Vec<Group> {
    days.into_iter().map(|((day, model), sum)| Group { day, model, sum }).collect()
}
