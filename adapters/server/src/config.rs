//! What a server is told at its start.

use crate::hosted::ProjectedLedger;
use burnlog_http::MESSAGE_BYTES_MAX;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What a server serves, where, to whom, and how much of it at once.
pub struct ServerConfig {
    /// The address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The certificate and key; plain HTTP without.
    pub tls: Option<TlsFiles>,
    /// The file of tokens. Without any token only loopback addresses are taken, and everything is allowed.
    pub tokens: PathBuf,
    /// The ledgers by name.
    pub ledgers: Vec<ProjectedLedger>,
    /// How much at once, and for how long.
    pub limits: Limits,
}

/// The files of a certificate chain and its key, both PEM.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate, and those between it and the root.
    pub certificates: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// A message of more bytes is a large one: some hundreds of records.
pub const LARGE_BYTES: usize = 128 << 10;

/// What keeps memory and waiting bounded.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections; more wait to be accepted.
    pub connections: usize,
    /// Bytes of messages held at once over all requests, decompressed; one that is taken counts twice, for what is made of
    /// it. At least one full batch.
    pub messages_bytes: u64,
    /// Threads that do the work of requests. About half of them share a sync while the others wait for the next one.
    pub threads: usize,
    /// How many messages of more than [`LARGE_BYTES`] are worked on at once; others wait for them. What such a message takes beside
    /// itself, its lines and what the allocator keeps for each thread, is taken so many times and not for every thread.
    pub large_messages: usize,
    /// How long a header may take to arrive, and a connection may be idle.
    pub header_timeout: Duration,
    /// How long the next piece of a body may take to arrive.
    pub piece_timeout: Duration,
    /// How long a whole body may take to arrive.
    pub body_timeout: Duration,
    /// How long a client may take nothing of an answer that waits for it.
    pub write_timeout: Duration,
    /// How long a request waits for others to give back memory before it is told to come again.
    pub admission_timeout: Duration,
    /// How long a query waits for the folds.
    pub fold_timeout: Duration,
    /// How long a stop waits for what is under way.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1100,
            messages_bytes: MESSAGE_BYTES_MAX + (6 << 20),
            threads: 64,
            large_messages: 2,
            header_timeout: Duration::from_secs(20),
            piece_timeout: Duration::from_secs(20),
            body_timeout: Duration::from_secs(300),
            write_timeout: Duration::from_secs(30),
            admission_timeout: Duration::from_secs(5),
            fold_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(30),
        }
    }
}
