//! Every case of the ledger's suite over a socket; and the fold that follows an append.

use crate::place::{Given, Place};
use burnlog_log::Backend;
use burnlog_log::conformance::Fixture;
use burnlog_log::conformance::build::{Event, TestFeed};
use burnlog_projections::status;
use std::sync::Arc;

struct Served(Place);

impl Fixture for Served {
    fn create() -> Self {
        Self(Place::new(Given::default()))
    }

    fn open(&self) -> Arc<dyn Backend> {
        self.0.client()
    }
}

burnlog_log::conformance!(Served);

#[test]
fn a_query_after_an_append_sees_it_folded() {
    let place = Place::new(Given::default());
    let (backend, mut feed) = (place.client(), TestFeed::new(1));
    for size in 1..=3u64 {
        feed.append(&*backend, &[Event::line("a", size, b"{}")]).unwrap();
        let status = status(&place.queries()).unwrap();
        assert_eq!(status.cursors.iter().map(|cursor| cursor.next).collect::<Vec<_>>(), [size]);
    }
}
