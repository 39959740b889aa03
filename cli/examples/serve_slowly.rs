//! `burnlog serve` over a jsonl ledger whose file seam counts the syncs of segments and makes each of them slower, for
//! `cargo xtask bench --server`. Its projections are in memory.
//!
//! `serve_slowly FOLDER DELAY_MS` says on standard error where it listens, and `syncs N` when SIGTERM ends it.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a tool for developers

use burnlog_jsonl::{JsonlBackend, JsonlOptions, Slowed};
use burnlog_log::Ledger;
use burnlog_projections::MemoryProjections;
use burnlog_server::{Limits, ProjectedLedger, Running, ServerConfig};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, delay) = (PathBuf::from(&arguments[0]), arguments[1].parse().unwrap());
    let files = Slowed::new(Duration::from_millis(delay));
    let options = JsonlOptions {
        create: true,
        seal_recomputes_hashes: false,
        files: Arc::new(files.clone()),
        ..JsonlOptions::default()
    };
    let ledger = Ledger::new(JsonlBackend::open(&folder.join("ledger"), options).unwrap());
    let projections = Arc::new(MemoryProjections::new());
    let running = Running::start(ServerConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        tokens: folder.join("tokens.json"),
        ledgers: vec![ProjectedLedger { name: "default".to_owned(), ledger, projections }],
        limits: Limits::default(),
    })
    .unwrap();
    eprintln!("listening on http://{}", running.address());
    running.wait_for_signal().unwrap();
    running.stop();
    eprintln!("syncs {}", files.syncs());
}
