//! The Postgres server of this test process: a database for each test that asks, a schema for each ledger.

use burnlog_postgres::{Cluster, Database};
use std::cell::{Cell, OnceCell};

thread_local! {
    // Each test has a thread of its own, and its database goes with it.
    static DATABASE: OnceCell<Own> = const { OnceCell::new() };
    static LEDGERS: Cell<u32> = const { Cell::new(0) };
}

/// The database of a thread. It is dropped on another one, because what its driver keeps by thread is gone by then.
struct Own(Option<Database>);

impl Drop for Own {
    fn drop(&mut self) {
        let database = self.0.take();
        // One that could not be dropped goes with its server.
        let _ = std::thread::spawn(move || drop(database)).join();
    }
}

/// Makes an empty database.
pub(crate) fn database() -> Database {
    Cluster::shared().and_then(Cluster::database).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the URL of a ledger that is not there yet, in the database of this test.
pub(crate) fn empty_ledger() -> String {
    let number = LEDGERS.replace(LEDGERS.get() + 1);
    DATABASE.with(|kept| {
        let own = kept.get_or_init(|| Own(Some(database())));
        own.0.as_ref().expect("taken on the way out alone").url_with(&format!("ledger=ledger_{number}"))
    })
}
