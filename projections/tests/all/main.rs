//! The tests of the projections: the conformance suite over the memory store, laws, and the traps of the formats.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed claim

mod blocks;
mod codex;
mod codex_tools;
mod content;
mod gemini;
mod laws;
mod memory;
mod merges;
mod opencode;
mod opencode_forks;
mod races;
mod recount;
mod relations;
mod relayburn;
mod stamps;
mod trap_table;
mod traps;
