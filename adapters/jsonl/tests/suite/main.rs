//! Tests of the jsonl backend from outside: the conformance suite and what only this backend promises.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

mod crash;
mod damage;
mod detection;
mod forms;
mod groups;
mod room;
mod sharing;

use burnlog_jsonl::JsonlBackend;
use burnlog_log::Backend;
use burnlog_log::conformance::Fixture;
use std::sync::Arc;

struct Jsonl(tempfile::TempDir);

impl Fixture for Jsonl {
    fn create() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Arc<dyn Backend> {
        Arc::new(JsonlBackend::create(&self.0.path().join("ledger")).unwrap())
    }
}

burnlog_log::conformance!(Jsonl);

/// The same with every batch in packs.
mod packed {
    use super::{Arc, Backend, Fixture};
    use burnlog_jsonl::{JsonlBackend, JsonlOptions};

    struct Packed(tempfile::TempDir);

    impl Fixture for Packed {
        fn create() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn open(&self) -> Arc<dyn Backend> {
            let options = JsonlOptions { create: true, pack_bytes_min: 0, ..JsonlOptions::default() };
            Arc::new(JsonlBackend::open(&self.0.path().join("ledger"), options).unwrap())
        }
    }

    burnlog_log::conformance!(Packed);
}
