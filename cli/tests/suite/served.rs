//! Every case of the ledger's suite through a client and a server with each backend behind it. Opening again is a stop of
//! the server and another one over the store as it was left.

use burnlog_http::{HttpBackend, HttpOptions, HttpTarget};
use burnlog_jsonl::{JsonlBackend, JsonlOptions};
use burnlog_log::conformance::Fixture;
use burnlog_log::{Backend, Ledger};
use burnlog_projections::MemoryProjections;
use burnlog_redb::{RedbBackend, RedbOptions};
use burnlog_server::{Limits, ProjectedLedger, Running, ServerConfig};
use burnlog_sqlite::{SqliteBackend, SqliteLedgerOptions};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// A folder and the server over the ledger in it.
struct Served {
    folder: tempfile::TempDir,
    running: Mutex<Option<Running>>,
}

impl Served {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), running: Mutex::new(None) }
    }

    fn open(&self, store: impl Fn(&Path) -> Ledger) -> Arc<dyn Backend> {
        let mut running = self.running.lock().unwrap();
        drop(running.take());
        let name = "default".to_owned();
        let projections = Arc::new(MemoryProjections::new());
        let ledgers =
            vec![ProjectedLedger { name, ledger: store(&self.folder.path().join("ledger")), projections }];
        let server = Running::start(ServerConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            tokens: self.folder.path().join("tokens.json"),
            ledgers,
            limits: Limits::default(),
        })
        .unwrap();
        let target = HttpTarget::parse(&format!("http://{}", server.address())).unwrap();
        *running = Some(server);
        Arc::new(HttpBackend::new(burnlog_http::open(&target, &HttpOptions::default()).unwrap()))
    }
}

macro_rules! behind {
    ($module:ident, |$path:ident| $store:expr) => {
        mod $module {
            use super::*;

            struct Behind(Served);

            impl Fixture for Behind {
                fn create() -> Self {
                    Self(Served::new())
                }

                fn open(&self) -> Arc<dyn Backend> {
                    self.0.open(|$path| Ledger::new($store))
                }
            }

            burnlog_log::conformance!(Behind);
        }
    };
}

behind!(jsonl, |path| JsonlBackend::open(path, JsonlOptions { create: true, ..JsonlOptions::default() })
    .unwrap());
behind!(sqlite, |path| SqliteBackend::open(
    path,
    SqliteLedgerOptions { create: true, ..SqliteLedgerOptions::default() }
)
.unwrap());
behind!(redb, |path| RedbBackend::open(path, RedbOptions { create: true, ..RedbOptions::default() })
    .unwrap());
