//! The tests of this crate from outside: the memory backend against the conformance suite, golden bytes,
//! replay, verify, and the public test vectors where they are present.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a failed unwrap is a failed test; one test says what it lacks

mod golden;
mod replay;
mod unanswered;
mod vectors;
mod verify;

use burnlog_log::conformance::Fixture;
use burnlog_log::{Backend, Batch, Kind, Ledger, LedgerId, MemoryBackend, Position, Timestamp, WriterKey};
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

/// Makes an empty ledger in memory.
fn ledger(number: u8) -> Ledger {
    Ledger::new(MemoryBackend::new(LedgerId([number; 16])))
}

/// Appends one batch of lines of `stream` as writer `number`.
fn append(ledger: &Ledger, number: u8, stream: &str, seqs: std::ops::Range<u64>) {
    let mut writer = ledger.writer(WriterKey::from_secret([number; 32])).unwrap();
    let mut batch = Batch::default();
    if writer.size() == 0 {
        let feed = writer.feed().to_string();
        let position = Position {
            kind: Kind::Writer,
            source: "burnlog".into(),
            stream: feed.into(),
            seq: 0,
            part: None,
        };
        batch.push(position, b"{\"host\":\"test\"}").unwrap();
    }
    for seq in seqs {
        let position =
            Position { kind: Kind::Line, source: "test".into(), stream: stream.into(), seq, part: None };
        batch.push(position, format!("{{\"stream\":{stream:?},\"seq\":{seq}}}").as_bytes()).unwrap();
    }
    writer.append(&batch, Timestamp::from_micros(1_700_000_000_000_000)).unwrap();
}
