//! A server on a free port, with ledgers and projections in memory.

use burnlog_http::{HttpBackend, HttpOptions, HttpQueries, HttpTarget, Link};
use burnlog_log::{Backend, Ledger, LedgerId, MemoryBackend, Result};
use burnlog_projections::MemoryProjections;
use burnlog_server::{Limits, ProjectedLedger, Running, ServerConfig, TlsFiles};
use std::path::PathBuf;
use std::sync::Arc;

/// A server with its folder; stopped and deleted when dropped.
pub(crate) struct Place {
    pub(crate) running: Running,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: MemoryBackend,
    tls: bool,
}

/// How a server of a test differs from any other.
#[derive(Default)]
pub(crate) struct Given {
    pub(crate) limits: Limits,
    pub(crate) tls: Option<TlsFiles>,
}

impl Place {
    /// Starts a server with the ledgers `default` and `other`.
    pub(crate) fn new(given: Given) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, rows) = (MemoryBackend::new(LedgerId([7; 16])), MemoryProjections::new());
        let ledger = |name: &str, store: &MemoryBackend, rows: &MemoryProjections| ProjectedLedger {
            name: name.to_owned(),
            ledger: Ledger::new(store.clone()),
            projections: Arc::new(rows.clone()),
        };
        let other = MemoryBackend::new(LedgerId([8; 16]));
        let tls = given.tls.is_some();
        let running = Running::start(ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: given.tls,
            tokens: folder.path().join("tokens.json"),
            ledgers: vec![
                ledger("default", &store, &rows),
                ledger("other", &other, &MemoryProjections::new()),
            ],
            limits: given.limits,
        })
        .unwrap();
        Self { running, folder, store, tls }
    }

    pub(crate) fn tokens(&self) -> PathBuf {
        self.folder.path().join("tokens.json")
    }

    /// The URL of a ledger.
    pub(crate) fn url(&self, ledger: &str) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}/v1/ledgers/{ledger}", self.running.address())
    }

    pub(crate) fn link(&self, ledger: &str, options: &HttpOptions) -> Result<Arc<Link>> {
        burnlog_http::open(&HttpTarget::parse(&self.url(ledger)).unwrap(), options)
    }

    /// A client of the ledger `default` without a token.
    pub(crate) fn client(&self) -> Arc<dyn Backend> {
        Arc::new(HttpBackend::new(self.link("default", &HttpOptions::default()).unwrap()))
    }

    pub(crate) fn queries(&self) -> HttpQueries {
        HttpQueries::open(self.link("default", &HttpOptions::default()).unwrap()).unwrap()
    }
}

/// Options with a token.
pub(crate) fn with_token(token: &str) -> HttpOptions {
    HttpOptions { token: Some(token.to_owned()), attempts: 1, ..HttpOptions::default() }
}
