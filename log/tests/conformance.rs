//! The memory backend against the conformance suite.

use burnlog_log::conformance::Fixture;
use burnlog_log::{Backend, LedgerId, MemoryBackend};
use std::sync::Arc;

struct Memory(MemoryBackend);

impl Fixture for Memory {
    fn create() -> Self {
        Self(MemoryBackend::new(LedgerId([7; 16])))
    }

    fn open(&self) -> Arc<dyn Backend> {
        Arc::new(self.0.clone())
    }
}

burnlog_log::conformance!(Memory);
