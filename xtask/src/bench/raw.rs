//! The raw limits: what each part of burnlog's work costs as a small straight loop over the same files, one thread, nothing shared with
//! burnlog. `xtask raw` prints them as JSON; the ratio to them is what `bench` shows.

use super::rows::{Line, Rows};
use crate::count::list_session_files;
use crate::output::say;
use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

const FRAME_BYTES: usize = 1 << 20;

/// What one loop cost.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Loop {
    pub(crate) cpu_s: f64,
    pub(crate) wall_s: f64,
    /// Bytes that went in.
    pub(crate) bytes: u64,
    /// Records, files, frames or rows, whichever the loop counts.
    pub(crate) items: u64,
}

/// All loops by name, and the size of the compressed frames.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(crate) struct Limits {
    pub(crate) loops: BTreeMap<String, Loop>,
    pub(crate) source_bytes: u64,
    pub(crate) compressed_bytes: u64,
}

/// Arguments of the hidden command `raw`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The HOME folder to read.
    home: PathBuf,
    /// An empty folder to write to.
    scratch: PathBuf,
}

/// Runs all loops and prints them.
pub(crate) fn run(options: &Options) -> Result<()> {
    say(serde_json::to_string(&limits(&options.home, &options.scratch)?)?)
}

/// Runs all loops over the sessions of `home`; writes below `scratch`.
pub(super) fn limits(home: &Path, scratch: &Path) -> Result<Limits> {
    let mut pass = Pass::new(scratch)?;
    let files = pass.walk(home)?;
    for (stream, path) in files.iter().enumerate() {
        pass.read(path)?;
        pass.split();
        pass.hash_payloads();
        pass.hash_skeletons(stream);
        pass.grow_frontier();
        pass.checksum();
        pass.compress()?;
        pass.parse_and_store(stream as i64)?;
    }
    pass.finish()
}

/// Everything that the loops hand to each other, file by file.
struct Pass {
    limits: Limits,
    scratch: PathBuf,
    bytes: Vec<u8>,
    lines: Vec<(usize, usize)>,
    payload_hashes: Vec<[u8; 32]>,
    skeletons: Vec<u8>,
    skeleton_ends: Vec<usize>,
    addresses: Vec<[u8; 32]>,
    peaks: Vec<[u8; 32]>,
    leaves: u64,
    compressor: zstd::bulk::Compressor<'static>,
    frame: Vec<u8>,
    frames: Vec<Vec<u8>>,
    rows: Rows,
    /// Keeps the results of loops alive that would otherwise be optimised away.
    witness: u64,
}

impl Pass {
    fn new(scratch: &Path) -> Result<Self> {
        Ok(Self {
            limits: Limits::default(),
            scratch: scratch.to_path_buf(),
            bytes: Vec::new(),
            lines: Vec::new(),
            payload_hashes: Vec::new(),
            skeletons: Vec::new(),
            skeleton_ends: Vec::new(),
            addresses: Vec::new(),
            peaks: Vec::new(),
            leaves: 0,
            compressor: zstd::bulk::Compressor::new(3)?,
            frame: Vec::with_capacity(FRAME_BYTES + (FRAME_BYTES >> 2)),
            frames: Vec::new(),
            rows: Rows::create(&scratch.join("rows.sqlite"))?,
            witness: 0,
        })
    }

    fn walk(&mut self, home: &Path) -> Result<Vec<PathBuf>> {
        let timer = Timer::start();
        let mut files = Vec::new();
        list_session_files(&home.join(".claude/projects"), &mut files)?;
        for path in &files {
            self.limits.source_bytes += fs::metadata(path)?.len();
        }
        timer.stop(&mut self.limits, "walk", 0, files.len() as u64);
        Ok(files)
    }

    fn read(&mut self, path: &PathBuf) -> Result<()> {
        let timer = Timer::start();
        self.bytes.clear();
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        file.read_to_end(&mut self.bytes)?;
        timer.stop(&mut self.limits, "read", self.bytes.len() as u64, 1);
        Ok(())
    }

    fn split(&mut self) {
        let timer = Timer::start();
        self.lines.clear();
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &self.bytes) {
            self.lines.push((start, end));
            start = end + 1;
        }
        if start < self.bytes.len() {
            self.lines.push((start, self.bytes.len()));
        }
        timer.stop(&mut self.limits, "split", self.bytes.len() as u64, self.lines.len() as u64);
    }

    fn hash_payloads(&mut self) {
        let timer = Timer::start();
        self.payload_hashes.clear();
        let hash = |(start, end): &(usize, usize)| *blake3::hash(&self.bytes[*start..*end]).as_bytes();
        self.payload_hashes.extend(self.lines.iter().map(hash));
        timer.stop(&mut self.limits, "blake3 payload", self.bytes.len() as u64, self.lines.len() as u64);
    }

    fn hash_skeletons(&mut self, stream: usize) {
        let timer = Timer::start();
        self.skeletons.clear();
        self.skeleton_ends.clear();
        self.addresses.clear();
        for (seq, (hash, (start, end))) in self.payload_hashes.iter().zip(&self.lines).enumerate() {
            let from = self.skeletons.len();
            // A stream's name has the length of a session id.
            let _ = write!(
                Text(&mut self.skeletons),
                "{{\"v\":1,\"kind\":\"line\",\"source\":\"claude-code\",\"stream\":\"{stream:036}\",\"seq\":{seq},\"payload\":\"b3:"
            );
            push_hex(&mut self.skeletons, hash);
            let _ = write!(Text(&mut self.skeletons), "\",\"bytes\":{}}}", end - start);
            self.addresses.push(*blake3::hash(&self.skeletons[from..]).as_bytes());
            self.skeleton_ends.push(self.skeletons.len());
        }
        timer.stop(&mut self.limits, "blake3 skeleton", self.skeletons.len() as u64, self.lines.len() as u64);
    }

    fn grow_frontier(&mut self) {
        let timer = Timer::start();
        let mut start = 0;
        for end in &self.skeleton_ends {
            let mut carried: [u8; 32] =
                Sha256::new().chain_update([0]).chain_update(&self.skeletons[start..*end]).finalize().into();
            for _ in 0..self.leaves.trailing_ones() {
                let left = self.peaks.pop().unwrap_or_default();
                carried = Sha256::new()
                    .chain_update([1])
                    .chain_update(left)
                    .chain_update(carried)
                    .finalize()
                    .into();
            }
            self.peaks.push(carried);
            self.leaves += 1;
            start = *end;
        }
        timer.stop(
            &mut self.limits,
            "sha-256 frontier",
            self.skeletons.len() as u64,
            self.lines.len() as u64,
        );
    }

    fn checksum(&mut self) {
        let timer = Timer::start();
        let mut sum = 0;
        for (start, end) in &self.lines {
            sum ^= crc32fast::hash(&self.bytes[*start..*end]);
        }
        self.witness ^= u64::from(sum);
        timer.stop(&mut self.limits, "crc-32", self.bytes.len() as u64, self.lines.len() as u64);
    }

    /// Compresses payloads, each with 24 bytes in place of what a ledger keeps beside it, in frames of 1 MiB.
    fn compress(&mut self) -> Result<()> {
        let timer = Timer::start();
        for ((start, end), address) in self.lines.iter().zip(&self.addresses) {
            let line = &self.bytes[*start..*end];
            self.frame.extend_from_slice(&(line.len() as u64).to_be_bytes());
            self.frame.extend_from_slice(&self.leaves.to_be_bytes());
            self.witness ^= u64::from(address[0]);
            self.frame.extend_from_slice(b"        ");
            self.frame.extend_from_slice(line);
            self.frame.push(b'\n');
            if self.frame.len() >= FRAME_BYTES {
                self.frames.push(self.compressor.compress(&self.frame)?);
                self.frame.clear();
            }
        }
        timer.stop(&mut self.limits, "zstd-3", self.bytes.len() as u64, self.lines.len() as u64);
        Ok(())
    }

    fn parse_and_store(&mut self, stream: i64) -> Result<()> {
        let timer = Timer::start();
        let mut parsed: Vec<Option<Line<'_>>> = Vec::with_capacity(self.lines.len());
        for (start, end) in &self.lines {
            parsed.push(serde_json::from_slice(&self.bytes[*start..*end]).ok());
        }
        timer.stop(&mut self.limits, "parse", self.bytes.len() as u64, self.lines.len() as u64);
        let timer = Timer::start();
        for (seq, (line, address)) in parsed.iter().zip(&self.addresses).enumerate() {
            self.rows.store(stream, seq as i64, address, line.as_ref())?;
        }
        timer.stop(&mut self.limits, "sqlite upserts", self.bytes.len() as u64, self.lines.len() as u64);
        Ok(())
    }

    /// The loops that need everything: the last frame, fsyncs, decompression, the commit, and reading the rows back.
    fn finish(mut self) -> Result<Limits> {
        self.frames.push(self.compressor.compress(&self.frame)?);
        let compressed: usize = self.frames.iter().map(Vec::len).sum();
        self.limits.compressed_bytes = compressed as u64;
        let frames = self.frames.len() as u64;

        let timer = Timer::start();
        let mut file = File::create(self.scratch.join("frames.zst"))?;
        for frame in &self.frames {
            file.write_all(frame)?;
            file.sync_data()?;
        }
        timer.stop(&mut self.limits, "write and fsync", compressed as u64, frames);

        let timer = Timer::start();
        let mut decompressor = zstd::bulk::Decompressor::new()?;
        let (mut out, mut bytes) = (Vec::new(), 0);
        for frame in &self.frames {
            let size = zstd::bulk::Decompressor::upper_bound(frame).unwrap_or(4 * FRAME_BYTES);
            out.clear();
            out.reserve(size);
            decompressor.decompress_to_buffer(frame, &mut out)?;
            bytes += out.len() as u64;
        }
        timer.stop(&mut self.limits, "zstd decode", bytes, frames);

        let timer = Timer::start();
        let mut rows = self.rows.commit()?;
        timer.stop(&mut self.limits, "sqlite upserts", 0, 0);
        let timer = Timer::start();
        let calls = rows.read_back()?;
        timer.stop(&mut self.limits, "sqlite select", 0, calls);
        std::hint::black_box(self.witness);
        Ok(self.limits)
    }
}

/// Lets `write!` append to bytes.
struct Text<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// Processor and wall time of a stretch of this thread.
struct Timer {
    cpu_s: f64,
    wall: Instant,
}

impl Timer {
    fn start() -> Self {
        Self { cpu_s: cpu_seconds(), wall: Instant::now() }
    }

    /// Adds what was measured to the loop `name`.
    fn stop(self, limits: &mut Limits, name: &str, bytes: u64, items: u64) {
        let total = limits.loops.entry(name.to_owned()).or_default();
        total.cpu_s += cpu_seconds() - self.cpu_s;
        total.wall_s += self.wall.elapsed().as_secs_f64();
        total.bytes += bytes;
        total.items += items;
    }
}

fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .expect("every thread has a clock of its processor time");
    now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9
}
