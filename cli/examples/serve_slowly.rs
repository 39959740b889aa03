//! `burnlog serve` over a jsonl ledger whose file seam counts the syncs of segments and makes each of them slower, for
//! `cargo xtask bench --server`. Its projections are in memory.
//!
//! `serve_slowly FOLDER DELAY_MS` says on standard error where it listens, and `syncs N` when SIGTERM ends it.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a tool for developers

use burnlog_http::Asked;
use burnlog_jsonl::{Access, File, Files, JsonlBackend, JsonlOptions, Listed, Mapped, SystemFiles};
use burnlog_log::{Ledger, Result, Timestamp};
use burnlog_projections::{FoldLimits, FoldStore, MemoryProjections, Queries};
use burnlog_server::{Limits, ProjectedLedger, Projections, Running, ServerConfig};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, delay) = (PathBuf::from(&arguments[0]), arguments[1].parse().unwrap());
    let files = Slowed { delay: Duration::from_millis(delay), syncs: Arc::default() };
    let options = JsonlOptions {
        create: true,
        seal_recomputes_hashes: false,
        files: Arc::new(files.clone()),
        ..JsonlOptions::default()
    };
    let ledger = Ledger::new(JsonlBackend::open(&folder.join("ledger"), options).unwrap());
    let projections = Arc::new(InMemory::default());
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
    eprintln!("syncs {}", files.syncs.load(Ordering::Relaxed));
}

/// The operating system with slower syncs of segments.
#[derive(Debug, Clone)]
struct Slowed {
    delay: Duration,
    syncs: Arc<AtomicU64>,
}

#[derive(Debug)]
struct SlowedFile {
    inner: Arc<dyn File>,
    /// `None` for files that are no segments.
    slowed: Option<Slowed>,
}

impl Files for Slowed {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let inner = SystemFiles.open(path, access)?;
        let is_segment = path.extension().is_some_and(|ending| ending == "jsonl");
        Ok(Arc::new(SlowedFile { inner, slowed: is_segment.then(|| self.clone()) }))
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

impl File for SlowedFile {
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
        if let Some(Slowed { delay, syncs }) = &self.slowed {
            syncs.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(*delay);
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

/// Projections in memory, shared with whoever holds a clone.
#[derive(Clone, Default)]
struct InMemory(MemoryProjections);

impl Projections for InMemory {
    fn folding(&self) -> Result<Box<dyn FoldStore>> {
        Ok(Box::new(self.0.clone()))
    }

    fn limits(&self) -> FoldLimits {
        FoldLimits::default()
    }

    fn asking(&self) -> Result<Box<dyn Queries + Send>> {
        Ok(Box::new(self.0.clone()))
    }

    fn lines(&self, _asked: &Asked, _queries: &dyn Queries) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }
}
