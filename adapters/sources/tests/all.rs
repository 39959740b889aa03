//! The claims of this crate over real files in temporary folders and a ledger in memory.
#![allow(clippy::unwrap_used, reason = "these are tests, their support as well")]

#[path = "all/support.rs"]
mod support;

#[path = "all/cursors.rs"]
mod cursors;
#[path = "all/cuts.rs"]
mod cuts;
#[path = "all/discovery.rs"]
mod discovery;
#[path = "all/extents.rs"]
mod extents;
#[path = "all/harnesses.rs"]
mod harnesses;
#[path = "all/laws.rs"]
mod laws;
#[path = "all/oddities.rs"]
mod oddities;
#[path = "all/relayburn.rs"]
mod relayburn;
