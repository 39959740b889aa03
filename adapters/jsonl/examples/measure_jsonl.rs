//! Measures group commit: one client, then many, append small batches to feeds of their own through one handle.
//!
//! `cargo run --release -p burnlog-jsonl --example measure_jsonl -- FOLDER [CLIENTS] [APPENDS] [SYNC_MS]`: FOLDER is made and must not
//! exist; with SYNC_MS every sync takes so many milliseconds more, like a slower disk.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers

use burnlog_jsonl::{JsonlBackend, JsonlOptions, Slowed};
use burnlog_log::{Batch, Kind, Ledger, Position, Timestamp, WriterKey};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = PathBuf::from(&arguments[0]);
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let (clients, appends, sync_ms) = (number(1, 50), number(2, 2000), number(3, 0));
    let alone = run(&folder.join("one"), 1, appends / 10, sync_ms);
    let many = run(&folder.join("many"), clients, appends, sync_ms);
    println!("{clients} clients have {:.1} times the throughput of one", many / alone);
}

/// Returns appends per second.
fn run(folder: &Path, clients: u64, appends: u64, sync_ms: u64) -> f64 {
    let files = Slowed::new(Duration::from_millis(sync_ms));
    let options = JsonlOptions { create: true, files: Arc::new(files.clone()), ..JsonlOptions::default() };
    let ledger = Ledger::new(JsonlBackend::open(folder, options).unwrap());
    let before = files.syncs();
    let each = appends / clients;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..clients {
            let ledger = &ledger;
            scope.spawn(move || append(ledger, client, each));
        }
    });
    let rate = (each * clients) as f64 / start.elapsed().as_secs_f64();
    let syncs = files.syncs() - before;
    println!(
        "{clients} clients: {rate:.0} appends/s, {:.1} appends a sync",
        (each * clients) as f64 / syncs as f64
    );
    rate
}

fn append(ledger: &Ledger, client: u64, count: u64) {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&client.to_le_bytes());
    let mut writer = ledger.writer(WriterKey::from_secret(secret)).unwrap();
    for seq in 0..count {
        let mut batch = Batch::default();
        let stream = format!("stream-{client}").into();
        let position = Position { kind: Kind::Line, source: "measure".into(), stream, seq, part: None };
        batch.push(position, &[b"{\"text\":\"", [b'x'; 1000].as_slice(), b"\"}"].concat()).unwrap();
        writer.append(&batch, Timestamp::from_micros(1)).unwrap();
    }
}
