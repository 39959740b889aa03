//! Every case of the projections' suite: folded into a store in memory, and asked through client and server.

use crate::link::{Direct, once};
use burnlog_http::{HttpQueries, Link, Rights};
use burnlog_log::{Ledger, LedgerId, MemoryBackend};
use burnlog_projections::MemoryProjections;
use burnlog_projections::conformance::halves::Halves;
use burnlog_projections::conformance::{Fixture, Store};
use std::sync::Arc;

struct Http(MemoryProjections);

impl Fixture for Http {
    fn create() -> Self {
        Self(MemoryProjections::new())
    }

    fn open(&self) -> Box<dyn Store> {
        let ledger = Ledger::new(MemoryBackend::new(LedgerId([7; 16])));
        let direct = Direct { ledger, rights: Rights::ALL, rows: self.0.clone() };
        let link = Link::open(Box::new(direct), "http://test".to_owned(), once()).unwrap();
        // Folds go to the store, questions go around.
        Box::new(Halves::new(HttpQueries::open(Arc::new(link)).unwrap(), self.0.clone()))
    }
}

burnlog_projections::fold_store_conformance!(Http);
