//! Measures the ledger against a bare insert loop: replays every line below a folder into a new ledger, twice, reads
//! it back, checks and compacts it.
//!
//! `cargo run --release -p burnlog-sqlite --example sqlite_replay -- FOLDER EMPTY_FOLDER`

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers

use burnlog_log::{
    Batch, Body, Kind, Ledger, LedgerId, Limit, MemoryBackend, Position, Timestamp, WriterKey, replay,
};
use burnlog_sqlite::{SqliteBackend, SqliteLedgerOptions};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut files = Vec::new();
    walk(Path::new(&arguments[0]), &mut files);
    files.sort();
    let folder = PathBuf::from(&arguments[1]);
    let source = Ledger::new(MemoryBackend::new(LedgerId([1; 16])));
    let source_bytes = fill(&source, &files);
    let events = source.stat().unwrap().events;
    println!("source    {events} events, {source_bytes} bytes");

    let bare = timed("bare", || insert(&source, &folder.join("bare.sqlite")));
    let path = folder.join("ledger.sqlite");
    let options = SqliteLedgerOptions { create: true, ..SqliteLedgerOptions::default() };
    let ledger = Ledger::new(SqliteBackend::open(&path, options).unwrap());
    let first = timed("replay", || drop(replay(&source, &ledger, &mut |_| {}).unwrap()));
    let second = timed("again", || drop(replay(&source, &ledger, &mut |_| {}).unwrap()));
    println!(
        "ratios    {:.2} of the bare loop's speed; again {:.4} of the first",
        bare / first,
        second / first
    );
    let bytes = ledger.stat().unwrap().bytes_on_disk;
    println!("size      {bytes} bytes, {:.3} of the source", bytes as f64 / source_bytes as f64);
    timed("read", || assert_eq!(each(&ledger, &mut |_, _, _| {}), each(&source, &mut |_, _, _| {})));
    timed("check", || ledger.backend().check(&mut |damage| panic!("{damage:?}")).unwrap());
    timed("compact", || assert!(ledger.compact().unwrap().bytes_after > 0));
    let bytes = ledger.stat().unwrap().bytes_on_disk;
    println!("size      {bytes} bytes, {:.3} of the source", bytes as f64 / source_bytes as f64);
}

fn timed(what: &str, work: impl FnOnce()) -> f64 {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    work();
    let seconds = wall.elapsed().as_secs_f64();
    println!("{what:9} {seconds:.2} s, {:.2} CPU s", cpu_seconds() - cpu);
    cpu_seconds() - cpu
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "jsonl") {
            files.push(path);
        }
    }
}

fn fill(ledger: &Ledger, files: &[PathBuf]) -> u64 {
    let mut writer = ledger.writer(WriterKey::from_secret([1; 32])).unwrap();
    let (mut batch, mut source_bytes) = (Batch::default(), 0);
    for file in files {
        let stream = file.file_stem().unwrap().to_string_lossy().into_owned();
        let content = std::fs::read(file).unwrap();
        source_bytes += content.len() as u64;
        for (seq, line) in (0..).zip(content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())) {
            if batch.bytes() >= 1 << 20 || !batch.has_room_for(line.len()) {
                writer.append(&batch, Timestamp::from_micros(0)).unwrap();
                batch.clear();
            }
            let source = "claude-code".into();
            let stream = stream.as_str().into();
            batch.push(Position { kind: Kind::Line, source, stream, seq, part: None }, line).unwrap();
        }
    }
    writer.append(&batch, Timestamp::from_micros(0)).unwrap();
    source_bytes
}

/// Takes an address, a skeleton and a payload.
type Take<'a> = dyn FnMut(&[u8], &[u8], &[u8]) + 'a;

/// Reads the feed and returns the bytes of its payloads.
fn each(ledger: &Ledger, take: &mut Take<'_>) -> u64 {
    let feed = WriterKey::from_secret([1; 32]).writer();
    let (mut entries, mut bytes) = (0, 0);
    loop {
        let page = ledger.read(&feed, entries, Limit::default()).unwrap();
        if page.entries.is_empty() {
            return bytes;
        }
        entries += page.entries.len() as u64;
        for entry in page.entries {
            if let Body::Present { skeleton, payload } = entry.body {
                bytes += payload.len() as u64;
                take(&entry.address.0, &skeleton, &payload);
            }
        }
    }
}

/// What one would write without thinking: a row an event, all in one transaction.
fn insert(source: &Ledger, path: &Path) {
    let mut connection = Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    let table =
        "CREATE TABLE events (id INTEGER PRIMARY KEY, address BLOB UNIQUE, skeleton BLOB, payload BLOB)";
    connection.execute_batch(table).unwrap();
    let transaction = connection.transaction().unwrap();
    let mut insert = transaction
        .prepare("INSERT OR IGNORE INTO events (address, skeleton, payload) VALUES (?1, ?2, ?3)")
        .unwrap();
    each(source, &mut |address, skeleton, payload| {
        insert.execute((address, skeleton, payload)).unwrap();
    });
    drop(insert);
    transaction.commit().unwrap();
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
