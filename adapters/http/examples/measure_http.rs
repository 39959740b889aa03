//! Clients that append, for `cargo xtask bench --server`, which starts the servers. Prints one JSON object.
//!
//! `measure_http one URL APPENDS`: one record after the other; the time of each request, and how large the last one was.
//! `measure_http bare URL APPENDS BYTES`: POSTs of so many bytes by the same HTTP client to a server that only writes and syncs; the query
//! of the URL tells it how much.
//! `measure_http many URL CLIENTS APPENDS RECORDS`: clients that append at once, each to a feed of its own.
//! `measure_http idle ADDRESS CONNECTIONS`: holds connections that asked once, until standard input ends.

#![allow(clippy::unwrap_used, clippy::print_stdout)] // a tool for developers

use burnlog_http::{FrameKind, HttpBackend, HttpOptions, HttpTarget, encode_append, frame};
use burnlog_log::{
    Address, Append, Backend, Batch, BatchHead, Frontier, Kind, NewEvent, Position, Timestamp, WriterKey,
    leaf,
};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// The size of a record's payload, about that of a real one.
const RECORD_BYTES: usize = 1000;
/// Requests before the clock runs: connections are made, the feed begins, the server has its threads.
const WARM_UP: u64 = 50;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| arguments[at].parse::<u64>().unwrap();
    let url = arguments[1].as_str();
    let measured = match arguments[0].as_str() {
        "one" => one(url, number(2)),
        "bare" => bare(url, number(2), number(3) as usize),
        "many" => many(url, number(2), number(3), number(4)),
        "idle" => idle(url, number(2)),
        other => panic!("no mode {other}"),
    };
    println!("{measured}");
}

fn one(url: &str, appends: u64) -> serde_json::Value {
    let mut client = Client::open(url, u64::from(std::process::id()));
    for _ in 0..WARM_UP {
        client.append(1);
    }
    let mut measured = quantiles((0..appends).map(|_| client.append(1)).collect());
    measured["request_bytes"] = client.request_bytes().into();
    measured["appends"] = (WARM_UP + appends).into();
    measured
}

fn bare(url: &str, appends: u64, bytes: usize) -> serde_json::Value {
    let agent = ureq::Agent::config_builder().build().new_agent();
    let mut body = vec![0; bytes];
    let mut times = Vec::new();
    for number in 0..WARM_UP + appends {
        body[..8].copy_from_slice(&number.to_le_bytes());
        let begun = Instant::now();
        agent.post(url).send(&body[..]).unwrap().body_mut().read_to_vec().unwrap();
        if number >= WARM_UP {
            times.push(begun.elapsed());
        }
    }
    quantiles(times)
}

fn many(url: &str, clients: u64, appends: u64, records: u64) -> serde_json::Value {
    let ready = Barrier::new(clients as usize + 1);
    let (seconds, times) = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..clients)
            .map(|number| {
                let ready = &ready;
                scope.spawn(move || {
                    let mut client = Client::open(url, (u64::from(std::process::id()) << 16) + number);
                    client.append(records);
                    ready.wait();
                    (0..appends / clients).map(|_| client.append(records)).collect::<Vec<_>>()
                })
            })
            .collect();
        ready.wait();
        let begun = Instant::now();
        let times: Vec<Duration> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (begun.elapsed().as_secs_f64(), times)
    });
    let done = times.len() as u64;
    let mut measured = quantiles(times);
    // Each client's first append is not in the time but in what the server counts.
    measured["appends"] = (done + clients).into();
    measured["appends_per_s"] = (done as f64 / seconds).into();
    measured
}

fn idle(address: &str, connections: u64) -> serde_json::Value {
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let held: Vec<TcpStream> = (0..connections)
        .map(|_| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut answer = [0; 512];
            let length = stream.read(&mut answer).unwrap();
            assert!(answer[..length].starts_with(b"HTTP/1.1 200"), "not healthy");
            stream
        })
        .collect();
    println!("{}", serde_json::json!({ "held": held.len() }));
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    // A server that had closed one of them would be measured with fewer than were promised.
    let is_open = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        stream.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    };
    serde_json::json!({ "open_at_end": held.iter().filter(is_open).count() })
}

fn quantiles(mut times: Vec<Duration>) -> serde_json::Value {
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize].as_secs_f64() * 1e3;
    serde_json::json!({ "p50_ms": at(0.5), "p99_ms": at(0.99) })
}

/// One feed that grows through the seam, so that an append is one request.
struct Client {
    backend: HttpBackend,
    key: WriterKey,
    frontier: Frontier,
    number: u64,
    seq: u64,
}

impl Client {
    fn open(url: &str, number: u64) -> Self {
        let target = HttpTarget::parse(url).unwrap();
        let backend = HttpBackend::new(burnlog_http::open(&target, &HttpOptions::default()).unwrap());
        let mut secret = [7; 32];
        secret[..8].copy_from_slice(&number.to_le_bytes());
        let key = WriterKey::from_secret(secret);
        Self { backend, key, frontier: Frontier::default(), number, seq: 0 }
    }

    /// Appends records that nobody has yet. Returns how long the request took; what a client does before it, signing for one, is
    /// not counted.
    fn append(&mut self, records: u64) -> Duration {
        let (frontier, took) = self.next(records, |append| {
            let begun = Instant::now();
            self.backend.append(append).unwrap();
            begun.elapsed()
        });
        self.frontier = frontier;
        self.seq += records;
        took
    }

    /// Returns the size of a request with one record.
    fn request_bytes(&self) -> usize {
        self.next(1, |append| frame(FrameKind::Append, &encode_append(append).unwrap()).len()).1
    }

    /// Prepares the next records. Returns the frontier behind them, and what was made of them.
    fn next<T>(&self, records: u64, act: impl FnOnce(&Append<'_>) -> T) -> (Frontier, T) {
        let mut batch = Batch::default();
        let stream = format!("stream-{}", self.number);
        for seq in self.seq..self.seq + records {
            let stream = stream.as_str().into();
            let position = Position { kind: Kind::Line, source: "measure".into(), stream, seq, part: None };
            batch.push(position, &payload(self.number, seq)).unwrap();
        }
        let mut frontier = self.frontier.clone();
        frontier.extend(batch.events().map(|event| leaf(event.skeleton)));
        let head: BatchHead = self.key.sign_head(&frontier, Timestamp::from_micros(1));
        let entries: Vec<Address> = batch.events().map(|event| event.address).collect();
        let events: Vec<NewEvent<'_>> = batch
            .events()
            .map(|event| NewEvent {
                address: event.address,
                skeleton: event.skeleton,
                payload: Some(event.payload),
            })
            .collect();
        let made = act(&Append {
            expected_size: self.frontier.size(),
            expected_root: self.frontier.root(),
            entries: &entries,
            events: &events,
            head: &head,
            frontier: frontier.peaks(),
        });
        (frontier, made)
    }
}

/// A JSON line that packs about as well as a record of a session: half of it words, half of it digits that differ.
fn payload(number: u64, seq: u64) -> Vec<u8> {
    let mut state = (number << 32) ^ seq ^ 0x9e37_79b9_7f4a_7c15;
    let mut line = b"{\"text\":\"".to_vec();
    while line.len() < RECORD_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        line.extend_from_slice(format!("the value of this is {:016x} ", state >> 8).as_bytes());
    }
    line.extend_from_slice(b"\"}");
    line
}
