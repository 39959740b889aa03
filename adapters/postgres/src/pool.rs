//! A few connections, and transactions over them. Nothing outlives a transaction on the server: no session
//! settings, no named statements, so that PgBouncer in transaction mode may stand between.

use crate::driver::Driver;
use crate::errors;
use crate::options::PostgresOptions;
use crate::session::{Session, Statement};
use crate::target::Target;
use burnlog_log::{Error, ErrorKind, Result};
use futures_util::future::join;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_postgres::{Client, Row};
use tokio_postgres_rustls::MakeRustlsConnect;

mod open;

pub(crate) use open::Open;

/// Settings of every transaction, after its `BEGIN`. The planner is told what it cannot know: that a few
/// thousand addresses are looked up one by one in tables of any size, and that compiling is not worth it.
const PLANNER: &str = "SET LOCAL jit = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; \
     SET LOCAL enable_mergejoin = off; SET LOCAL max_parallel_workers_per_gather = 0; ";

/// What a server or role may have turned off: an acknowledged batch survives a crash of the server.
const DURABLE: &str = "SELECT set_config('synchronous_commit', 'on', true) \
     WHERE current_setting('synchronous_commit') = 'off'; ";

/// Rows that can be folded again need no wait for the disk: a crash takes back whole transactions, cursors included.
const DISPOSABLE: &str = "SET LOCAL synchronous_commit = off; ";

/// Connections to one target.
pub(crate) struct Pool {
    target: Target,
    tls: MakeRustlsConnect,
    connections_max: usize,
    /// The most time for a call: a few statements and one wait for a lock.
    call_timeout: Duration,
    begin_read: String,
    begin_write: String,
    begin_long: String,
    begin_query: String,
    begin_fold: String,
    begin_build: String,
    /// How often the server was spoken to and waited for.
    conversations: AtomicU64,
    /// Whether the server has taken the credentials.
    has_connected: AtomicBool,
    state: Mutex<State>,
    freed: Condvar,
    // Last, so that connections are dropped while their tasks still run.
    driver: Driver,
}

#[derive(Default)]
struct State {
    idle: Vec<Client>,
    open: usize,
}

impl Pool {
    /// Prepares for connections; makes none yet.
    pub(crate) fn new(target: Target, options: &PostgresOptions) -> Result<Self> {
        let statement = options.statement_timeout.as_millis().max(1);
        let lock = options.lock_timeout.as_millis().max(1);
        let timeouts = |statement: u128| {
            format!(
                "SET LOCAL statement_timeout = {statement}; SET LOCAL lock_timeout = {lock}; \
                 SET LOCAL idle_in_transaction_session_timeout = {lock}; "
            )
        };
        Ok(Self {
            tls: crate::tls::connector(&target)?,
            target,
            connections_max: options.connections.max(1),
            call_timeout: options.statement_timeout * 3 + options.lock_timeout,
            begin_read: format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}{PLANNER}",
                timeouts(statement)
            ),
            begin_write: format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {}{PLANNER}{DURABLE}",
                timeouts(statement)
            ),
            begin_long: format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}", timeouts(0)),
            begin_query: format!(
                "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; {}SET LOCAL jit = off; ",
                timeouts(statement)
            ),
            begin_fold: format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {}{PLANNER}{DISPOSABLE}",
                timeouts(statement)
            ),
            begin_build: format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; {}{DISPOSABLE}",
                timeouts(0)
            ),
            conversations: AtomicU64::new(0),
            has_connected: AtomicBool::new(false),
            state: Mutex::default(),
            freed: Condvar::new(),
            driver: Driver::start()?,
        })
    }

    /// Returns the URL without secrets.
    pub(crate) fn url(&self) -> &str {
        &self.target.url
    }

    /// Runs `first` and then `body` in a read-only transaction that sees one moment.
    pub(crate) fn read<T>(
        &self,
        operation: &'static str,
        first: Statement<'_>,
        body: impl AsyncFnOnce(&Session<'_>, Vec<Row>) -> Result<T>,
    ) -> Result<T> {
        self.transaction(
            operation,
            &self.begin_read,
            Some(self.call_timeout),
            first,
            async |session, rows| {
                let result = body(session, rows).await?;
                session.send_only("COMMIT");
                Ok(result)
            },
        )
    }

    /// Runs one statement, with which the planner is free, in a read-only transaction, and takes its rows.
    pub(crate) fn query<T>(
        &self,
        operation: &'static str,
        statement: Statement<'_>,
        take: impl Fn(&Session<'_>, &Row) -> Result<T>,
    ) -> Result<Vec<T>> {
        let (begin, timeout) = (&self.begin_query, Some(self.call_timeout));
        self.transaction(operation, begin, timeout, statement, async |session, rows| {
            session.send_only("COMMIT");
            rows.iter().map(|row| take(session, row)).collect()
        })
    }

    /// Returns how often the server was spoken to and waited for.
    pub(crate) fn conversations(&self) -> u64 {
        self.conversations.load(Ordering::Relaxed)
    }

    /// Waits for an answer.
    fn converse<F: Future>(&self, future: F) -> F::Output {
        self.conversations.fetch_add(1, Ordering::Relaxed);
        self.driver.wait(future)
    }

    /// Like [`Pool::read`], for a reading of everything: the planner is free and no time is set.
    pub(crate) fn read_long<T>(
        &self,
        operation: &'static str,
        first: Statement<'_>,
        body: impl AsyncFnOnce(&Session<'_>, Vec<Row>) -> Result<T>,
    ) -> Result<T> {
        self.transaction(operation, &self.begin_long, None, first, async |session, rows| {
            let result = body(session, rows).await?;
            session.send_only("COMMIT");
            Ok(result)
        })
    }

    /// Runs `first` and then `body` in a transaction that writes. The body commits as its last act; whatever
    /// error it returns rolls back.
    pub(crate) fn write<T>(
        &self,
        operation: &'static str,
        first: Statement<'_>,
        body: impl AsyncFnOnce(&Session<'_>, Vec<Row>) -> Result<T>,
    ) -> Result<T> {
        self.transaction(operation, &self.begin_write, Some(self.call_timeout), first, body)
    }

    /// Runs `body` on a connection outside any transaction, without a limit of time.
    pub(crate) fn plain<T>(
        &self,
        operation: &'static str,
        body: impl AsyncFnOnce(&Session<'_>) -> Result<T>,
    ) -> Result<T> {
        let lease = self.lease(operation)?;
        let session = lease.session();
        let result = self.driver.wait(body(&session))?;
        lease.give_back();
        Ok(result)
    }

    fn transaction<T>(
        &self,
        operation: &'static str,
        begin: &str,
        timeout: Option<Duration>,
        first: Statement<'_>,
        body: impl AsyncFnOnce(&Session<'_>, Vec<Row>) -> Result<T>,
    ) -> Result<T> {
        let (lease, opened) = self.start(operation, begin, timeout, first)?;
        self.go_on(lease, timeout, opened, body)
    }

    /// Begins a transaction on some connection, with its first statement.
    fn start(
        &self,
        operation: &'static str,
        begin: &str,
        timeout: Option<Duration>,
        first: Statement<'_>,
    ) -> Result<(Lease<'_>, Result<Vec<Row>>)> {
        loop {
            let lease = self.lease(operation)?;
            let session = lease.session();
            // The beginning and the first statement travel together; nothing goes on before both are answered.
            let opening = join(session.run(begin), session.query(first.0, first.1));
            let Some((begun, rows)) = self.converse(within(timeout, opening)) else {
                return Err(errors::timed_out(operation, self.url()));
            };
            match begun {
                // The server ended this connection while it was idle; nothing was done on it.
                Err(error) if lease.reused && error.kind() == ErrorKind::Unavailable => {}
                begun => return Ok((lease, begun.and(rows))),
            }
        }
    }

    /// Runs the body of a transaction that has begun, and gives the connection back where it is still of use.
    fn go_on<T>(
        &self,
        lease: Lease<'_>,
        timeout: Option<Duration>,
        opened: Result<Vec<Row>>,
        body: impl AsyncFnOnce(&Session<'_>, Vec<Row>) -> Result<T>,
    ) -> Result<T> {
        let session = lease.session();
        let result = opened.and_then(|rows| {
            let done = self.converse(within(timeout, body(&session, rows)));
            done.unwrap_or_else(|| Err(errors::timed_out(lease.operation, self.url())))
        });
        match &result {
            // The connection hangs, or is about to end: dropped, with whatever is open in it.
            Err(error) if error.kind() == ErrorKind::Unavailable => return result,
            Err(_) => session.send_only("ROLLBACK"),
            Ok(_) => {}
        }
        lease.give_back();
        result
    }

    /// Takes an idle connection, makes one where there may be more, or waits for one.
    fn lease(&self, operation: &'static str) -> Result<Lease<'_>> {
        let mut state = self.lock();
        loop {
            while let Some(client) = state.idle.pop() {
                if !client.is_closed() {
                    return Ok(Lease {
                        pool: self,
                        operation,
                        client: Some(client),
                        reused: true,
                        sound: false,
                    });
                }
                state.open -= 1;
            }
            if state.open < self.connections_max {
                state.open += 1;
                break;
            }
            let (again, waited) =
                self.freed.wait_timeout(state, self.call_timeout).unwrap_or_else(PoisonError::into_inner);
            state = again;
            if waited.timed_out() && state.idle.is_empty() && state.open >= self.connections_max {
                let message = format!("all {} connections are busy; try again", self.connections_max);
                return Err(Error::new(ErrorKind::Unavailable, operation, message).at(self.url()));
            }
        }
        drop(state);
        let mut lease = Lease { pool: self, operation, client: None, reused: false, sound: false };
        lease.client = Some(self.driver.wait(self.connect(operation))?);
        Ok(lease)
    }

    async fn connect(&self, operation: &'static str) -> Result<Client> {
        // The driver's own limit covers one address of one host, and not the conversation after it.
        let limit = self.target.config.get_connect_timeout().copied().unwrap_or(Duration::from_secs(10)) * 3;
        let connecting = self.target.config.connect(self.tls.clone());
        let (client, connection) = match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(connected)) => connected,
            // A server takes a password of which only a part arrived for a wrong one.
            Ok(Err(error))
                if errors::is_wrong_password(&error) && self.has_connected.load(Ordering::Relaxed) =>
            {
                return Err(errors::password_no_longer_taken(operation, self.url()));
            }
            Ok(Err(error)) => return Err(errors::of_driver(operation, self.url(), &error)),
            Err(_) => return Err(errors::timed_out(operation, self.url())),
        };
        self.has_connected.store(true, Ordering::Relaxed);
        self.driver.spawn(async {
            // What goes wrong here is told to the calls that wait for an answer.
            let _ = connection.await;
        });
        Ok(client)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a future for at most so long; `None` when the time is over.
async fn within<T>(limit: Option<Duration>, future: impl Future<Output = T>) -> Option<T> {
    match limit {
        Some(limit) => tokio::time::timeout(limit, future).await.ok(),
        None => Some(future.await),
    }
}

/// A connection in use. Dropped without being given back, it is closed.
struct Lease<'p> {
    pool: &'p Pool,
    operation: &'static str,
    client: Option<Client>,
    /// Whether it was idle before, so that the server may have ended it unnoticed.
    reused: bool,
    sound: bool,
}

impl Lease<'_> {
    fn session(&self) -> Session<'_> {
        let client = self.client.as_ref().expect("a lease has its client once it is handed out");
        Session::new(client, self.operation, self.pool.url())
    }

    fn give_back(mut self) {
        self.sound = true;
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let sound = self.sound;
        let client = self.client.take().filter(|client| sound && !client.is_closed());
        let mut state = self.pool.lock();
        match client {
            Some(client) => state.idle.push(client),
            None => state.open -= 1,
        }
        drop(state);
        self.pool.freed.notify_one();
    }
}
