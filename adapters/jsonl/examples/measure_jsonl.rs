//! Measures group commit: one client, then many, append small batches to feeds of their own through one handle.
//!
//! `cargo run --release -p burnlog-jsonl --example measure_jsonl -- FOLDER [CLIENTS] [APPENDS] [SYNC_MS]`: FOLDER is made and must not
//! exist; with SYNC_MS every sync takes so many milliseconds more, like a slower disk.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers

use burnlog_jsonl::{Access, File, Files, JsonlBackend, JsonlOptions, Listed, Mapped, SystemFiles};
use burnlog_log::{Batch, Kind, Ledger, Position, Timestamp, WriterKey};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    let files = Slow { sync: Duration::from_millis(sync_ms), syncs: Arc::default() };
    let options = JsonlOptions { create: true, files: Arc::new(files.clone()), ..JsonlOptions::default() };
    let ledger = Ledger::new(JsonlBackend::open(folder, options).unwrap());
    files.syncs.store(0, Ordering::Relaxed);
    let each = appends / clients;
    let start = Instant::now();
    std::thread::scope(|scope| {
        for client in 0..clients {
            let ledger = &ledger;
            scope.spawn(move || append(ledger, client, each));
        }
    });
    let rate = (each * clients) as f64 / start.elapsed().as_secs_f64();
    let syncs = files.syncs.load(Ordering::Relaxed);
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

/// The system, with slower syncs that are counted.
#[derive(Debug, Clone)]
struct Slow {
    sync: Duration,
    syncs: Arc<AtomicU64>,
}

#[derive(Debug)]
struct SlowFile {
    inner: Arc<dyn File>,
    system: Slow,
}

impl Files for Slow {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(SlowFile { inner: SystemFiles.open(path, access)?, system: self.clone() }))
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        SystemFiles.list(folder)
    }

    fn create_folder(&self, folder: &Path) -> io::Result<()> {
        SystemFiles.create_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemFiles.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemFiles.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        SystemFiles.sync_folder(folder)
    }

    fn map(&self, path: &Path) -> io::Result<Mapped> {
        SystemFiles.map(path)
    }

    fn now(&self) -> Timestamp {
        SystemFiles.now()
    }

    fn random(&self, out: &mut [u8]) -> io::Result<()> {
        SystemFiles.random(out)
    }

    fn pause(&self, duration: Duration) {
        SystemFiles.pause(duration);
    }
}

impl File for SlowFile {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(out, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_at(bytes, offset)
    }

    fn bytes(&self) -> io::Result<u64> {
        self.inner.bytes()
    }

    fn set_bytes(&self, bytes: u64) -> io::Result<()> {
        self.inner.set_bytes(bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.system.syncs.fetch_add(1, Ordering::Relaxed);
        if !self.system.sync.is_zero() {
            std::thread::sleep(self.system.sync);
        }
        self.inner.sync()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        self.inner.is_at(path)
    }

    fn try_lock(&self, exclusive: bool) -> io::Result<bool> {
        self.inner.try_lock(exclusive)
    }

    fn unlock(&self) -> io::Result<()> {
        self.inner.unlock()
    }
}
