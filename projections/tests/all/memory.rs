//! The memory store passes the suite that it helps to check others with.

use burnlog_projections::MemoryProjections;
use burnlog_projections::conformance::{Fixture, Store};

struct Memory(MemoryProjections);

impl Fixture for Memory {
    fn create() -> Self {
        Self(MemoryProjections::new())
    }

    fn open(&self) -> Box<dyn Store> {
        Box::new(self.0.clone())
    }
}

burnlog_projections::fold_store_conformance!(Memory);
