//! Every case of the ledger's suite, through client and server, over the strictest of backends.

use crate::link::client;
use burnlog_http::Rights;
use burnlog_log::conformance::Fixture;
use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
use burnlog_log::{Backend, ErrorKind, LedgerId, MemoryBackend};
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

/// Other processes append to the store behind a server as well.
#[test]
fn a_feed_that_somebody_else_brought_on_is_a_conflict() {
    let inner = MemoryBackend::new(LedgerId([7; 16]));
    let backend = client(Arc::new(inner.clone()), Rights::ALL);
    let (mut feed, events) = (TestFeed::new(1), Event::lines("a", 6));
    feed.append(&backend, &events[..2]).unwrap();
    let late = feed.prepare(&events[2..4]);
    // Past the server, into the store behind it.
    feed.append(&inner, &events[4..]).unwrap();
    assert_eq!(late.refused(&backend).kind(), ErrorKind::Conflict);
    let mut all = events[..2].to_vec();
    all.extend_from_slice(&events[4..]);
    assert_feed(&backend, &feed, &all);
    // What goes on from there is taken.
    feed.append(&backend, &events[2..4]).unwrap();
}
