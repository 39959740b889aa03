//! Measures the backend: appends every line below a folder, in batches, and reads the feed back.
//!
//! `cargo run --release -p burnlog-redb --example measure_redb -- FOLDER LEDGER [BATCH_BYTES] [os]`

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers

use burnlog_log::{Backend, Batch, Kind, Ledger, Limit, Position, Timestamp, WriterKey};
use burnlog_redb::{Durability, RedbBackend, RedbOptions};
use std::path::{Path, PathBuf};
use std::time::Instant;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut files = Vec::new();
    walk(Path::new(&arguments[0]), &mut files);
    files.sort();
    let path = PathBuf::from(&arguments[1]);
    let batch_bytes = arguments.get(2).map_or(1 << 20, |text| text.parse().unwrap());
    let durability =
        if arguments.get(3).is_some_and(|text| text == "os") { Durability::Os } else { Durability::Batch };
    let options = RedbOptions { create: true, durability, ..RedbOptions::default() };
    let ledger = Ledger::new(RedbBackend::open(&path, options.clone()).unwrap());

    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let (records, source_bytes) = ingest(&ledger, &files, batch_bytes);
    let (seconds, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "append    {records} records, {source_bytes} bytes: {seconds:.2} s, {cpu:.2} CPU s, {:.0} records/s",
        records as f64 / seconds
    );
    println!("peak      {} MiB", peak_mib());
    report_size("open", &path, source_bytes);

    let wall = Instant::now();
    let (_, again) = (ingest(&ledger, &files, batch_bytes), wall.elapsed().as_secs_f64());
    println!("again     {again:.2} s, nothing new");

    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let (entries, bytes) = read_back(&ledger);
    println!(
        "read back {entries} entries, {bytes} bytes: {:.2} s, {:.2} CPU s",
        wall.elapsed().as_secs_f64(),
        cpu_seconds() - cpu
    );

    let wall = Instant::now();
    let mut damages = 0;
    ledger.backend().check(&mut |_| damages += 1).unwrap();
    println!("check     {damages} damages: {:.2} s", wall.elapsed().as_secs_f64());
    drop(ledger);
    report_size("closed", &path, source_bytes);
    let backend = RedbBackend::open(&path, options).unwrap();
    let wall = Instant::now();
    backend.compact().unwrap();
    println!("compact   {:.2} s", wall.elapsed().as_secs_f64());
    drop(backend);
    report_size("compacted", &path, source_bytes);
    println!("peak      {} MiB", peak_mib());
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

fn ingest(ledger: &Ledger, files: &[PathBuf], batch_bytes: u64) -> (u64, u64) {
    let mut writer = ledger.writer(WriterKey::from_secret([1; 32])).unwrap();
    let mut batch = Batch::default();
    let (mut records, mut source_bytes) = (0, 0);
    for file in files {
        let stream = file.file_stem().unwrap().to_string_lossy().into_owned();
        let content = std::fs::read(file).unwrap();
        source_bytes += content.len() as u64;
        for (seq, line) in (0..).zip(content.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())) {
            if batch.bytes() >= batch_bytes || !batch.has_room_for(line.len()) {
                writer.append(&batch, Timestamp::from_micros(0)).unwrap();
                batch.clear();
            }
            let position = Position {
                kind: Kind::Line,
                source: "claude-code".into(),
                stream: stream.as_str().into(),
                seq,
                part: None,
            };
            batch.push(position, line).unwrap();
            records += 1;
        }
    }
    writer.append(&batch, Timestamp::from_micros(0)).unwrap();
    (records, source_bytes)
}

fn read_back(ledger: &Ledger) -> (u64, u64) {
    let feed = WriterKey::from_secret([1; 32]).writer();
    let (mut entries, mut bytes) = (0, 0);
    loop {
        let page = ledger.read(&feed, entries, Limit::default()).unwrap();
        if page.entries.is_empty() {
            return (entries, bytes);
        }
        entries += page.entries.len() as u64;
        for entry in page.entries {
            if let burnlog_log::Body::Present { payload, .. } = entry.body {
                bytes += payload.len() as u64;
            }
        }
    }
}

fn report_size(when: &str, path: &Path, source_bytes: u64) {
    let bytes = std::fs::metadata(path).unwrap().len();
    println!("size      {when}: {bytes} bytes, {:.3} of the source", bytes as f64 / source_bytes as f64);
}

/// User and system time of this process so far.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
