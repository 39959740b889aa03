//! A transaction that its caller drives call by call, because what it writes depends on code that knows no database.

use super::{Lease, Pool, within};
use crate::errors;
use crate::session::{Session, Statement};
use burnlog_log::{ErrorKind, Result};
use futures_util::future::join3;
use std::time::Duration;
use tokio_postgres::Row;

/// A transaction that has begun. Dropped without a commit it is rolled back.
pub(crate) struct Open<'p> {
    lease: Lease<'p>,
    timeout: Option<Duration>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Committed,
    /// The connection hangs, or is about to end.
    Broken,
}

impl Pool {
    /// Begins a transaction that writes rows, with its first statement.
    pub(crate) fn begin_fold(
        &self,
        operation: &'static str,
        first: Statement<'_>,
    ) -> Result<(Open<'_>, Vec<Row>)> {
        self.begin(operation, &self.begin_fold, Some(self.call_timeout), first)
    }

    /// Begins a transaction that makes and drops tables and indexes; no time is set for its statements.
    pub(crate) fn begin_build(
        &self,
        operation: &'static str,
        first: Statement<'_>,
    ) -> Result<(Open<'_>, Vec<Row>)> {
        self.begin(operation, &self.begin_build, None, first)
    }

    fn begin(
        &self,
        operation: &'static str,
        begin: &str,
        timeout: Option<Duration>,
        first: Statement<'_>,
    ) -> Result<(Open<'_>, Vec<Row>)> {
        let (lease, opened) = self.start(operation, begin, timeout, first)?;
        let is_broken = opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable);
        let state = if is_broken { State::Broken } else { State::Open };
        let open = Open { lease, timeout, state };
        opened.map(|rows| (open, rows))
    }
}

impl Open<'_> {
    /// Runs statements and waits for their answers.
    pub(crate) fn run<T>(&mut self, body: impl AsyncFnOnce(&Session<'_>) -> Result<T>) -> Result<T> {
        let pool = self.lease.pool;
        let session = self.lease.session();
        let done = pool.converse(within(self.timeout, body(&session)));
        let result = done.unwrap_or_else(|| Err(errors::timed_out(self.lease.operation, pool.url())));
        if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Unavailable) {
            self.state = State::Broken;
        }
        result
    }

    /// Commits.
    pub(crate) fn commit(mut self) -> Result<()> {
        self.run(async |session| session.run("COMMIT").await)?;
        self.state = State::Committed;
        Ok(())
    }

    /// Runs two last statements and commits, in one conversation.
    pub(crate) fn commit_with(mut self, one: Statement<'_>, two: Statement<'_>) -> Result<()> {
        self.run(async |session| {
            let (one, two, committed) =
                join3(session.execute(one.0, one.1), session.execute(two.0, two.1), session.run("COMMIT"))
                    .await;
            // After an error the server refuses all that follows, so the first is the one to tell.
            one.and(two).and(committed)
        })?;
        self.state = State::Committed;
        Ok(())
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if self.state == State::Open {
            // Waited for: whoever is told of the error finds nothing locked any more.
            let _ = self.run(async |session| session.run("ROLLBACK").await);
        }
        self.lease.sound = self.state != State::Broken;
    }
}
