//! A server from start to stop.

use crate::body::Memory;
use crate::config::ServerConfig;
use crate::hosted::Hosted;
use crate::listen;
use crate::metrics::Metrics;
use crate::router::Server;
use crate::tls;
use crate::tokens::Tokens;
use crate::work::Desk;
use burnlog_http::is_ledger_name;
use burnlog_log::{Error, ErrorKind, Result};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use tokio::sync::{Semaphore, oneshot};

/// A server that runs until it is stopped or dropped.
pub struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

fn failed(kind: ErrorKind, message: impl Into<String>) -> Error {
    Error::new(kind, "serve", message)
}

/// Lets this process have as many open files as the system allows it: each connection is one, and the usual 1,024 are
/// fewer than the connections that are taken.
fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

impl Running {
    /// Starts a server; it listens when this returns.
    ///
    /// `Denied` for an address that others reach while there is no token, and for a certificate that cannot be used;
    /// `Invalid` for names of ledgers; `InUse` or `Unavailable` where the address cannot be taken.
    pub fn start(config: ServerConfig) -> Result<Self> {
        let ServerConfig { listen, tls, tokens, ledgers, limits } = config;
        let tokens = Tokens::new(tokens);
        let loopback_only = listen.ip().is_loopback();
        if !loopback_only && tokens.list()?.iter().all(|token| token.revoked_at.is_some()) {
            let message = "without a token the server listens on this machine alone; make one with burnlog token create";
            return Err(failed(ErrorKind::Denied, message).at(listen));
        }
        let acceptor = tls.as_ref().map(tls::acceptor).transpose()?;
        raise_descriptors();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            // One does as well for small messages; a second one decrypts and decompresses while the first has a large one.
            .worker_threads(2)
            .max_blocking_threads(limits.threads)
            .thread_name("serve")
            .enable_all()
            .build()
            .map_err(|error| failed(ErrorKind::Unavailable, "no threads").caused_by(error))?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind(listen)).map_err(|error| {
            let (kind, message) = match error.kind() {
                std::io::ErrorKind::AddrInUse => (ErrorKind::InUse, "another program listens there"),
                _ => (ErrorKind::Unavailable, "the address cannot be listened on"),
            };
            failed(kind, message).at(listen).caused_by(error)
        })?;
        let address = listener
            .local_addr()
            .map_err(|error| failed(ErrorKind::Unavailable, "no address").caused_by(error))?;
        let mut hosted = BTreeMap::new();
        for served in ledgers {
            let name = served.name.clone();
            if !is_ledger_name(&name) {
                let message = format!("{name:?} names no ledger: 1 to 63 of a-z, 0-9, _ and -");
                return Err(failed(ErrorKind::Invalid, message));
            }
            if hosted.insert(name.clone(), Arc::new(Hosted::start(served)?)).is_some() {
                return Err(failed(ErrorKind::Invalid, format!("two ledgers have the name {name:?}")));
            }
        }
        let mut run = [0; 4];
        getrandom::fill(&mut run).map_err(|error| {
            failed(ErrorKind::Unavailable, "this system gives no random bytes").caused_by(error.to_string())
        })?;
        let server = Arc::new(Server {
            ledgers: hosted,
            tokens,
            memory: Memory::new(limits.messages_bytes),
            large: Arc::new(Semaphore::new(limits.large_messages.max(1))),
            limits,
            desk: Desk::default(),
            metrics: Metrics::new(),
            loopback_only,
            run: u32::from_le_bytes(run),
            requests: AtomicU64::new(1),
        });
        let (stop, stopped) = oneshot::channel();
        let serving = move || {
            let until = async {
                // Dropped or told: both mean to stop.
                let _ = stopped.await;
            };
            runtime.block_on(listen::serve(listener, acceptor, Arc::clone(&server), until));
            // Work that was cut off goes on to its end, as an append must.
            drop(runtime);
            server.ledgers.values().for_each(|hosted| hosted.folds.stop());
        };
        let thread = std::thread::Builder::new()
            .name("serve".to_owned())
            .spawn(serving)
            .map_err(|error| failed(ErrorKind::Unavailable, "no thread").caused_by(error))?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for SIGTERM, SIGINT, or the end of the server by a defect.
    pub fn wait_for_signal(&self) -> Result<()> {
        let unavailable = |error: std::io::Error| {
            failed(ErrorKind::Unavailable, "signals cannot be waited for").caused_by(error)
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(unavailable)?;
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let mut terminate = signal(SignalKind::terminate()).map_err(unavailable)?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(unavailable)?;
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            Ok(())
        })
    }

    /// Stops accepting, lets what is under way finish, and returns.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported by the thread itself.
            drop(thread.join());
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}
