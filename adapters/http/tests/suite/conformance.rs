//! Every case of the ledger's suite, through client and server, over the strictest of backends.

use crate::link::client;
use burnlog_http::Rights;
use burnlog_log::conformance::Fixture;
use burnlog_log::{Backend, LedgerId, MemoryBackend};
use std::sync::Arc;

struct Http(MemoryBackend);

impl Fixture for Http {
    fn create() -> Self {
        Self(MemoryBackend::new(LedgerId([7; 16])))
    }

    fn open(&self) -> Arc<dyn Backend> {
        Arc::new(client(Arc::new(self.0.clone()), Rights::ALL))
    }
}

burnlog_log::conformance!(Http);
