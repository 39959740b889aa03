//! The connection that writes. Appends of several threads that wait for it share one transaction and one sync: whoever finds
//! others in line leaves its batch uncommitted for them, the last commits for all. Each batch is there whole or not at all, and
//! has an answer of its own. Knows nothing of what is written.

use super::fault::Fail;
use super::place::Place;
use burnlog_log::{Error, ErrorKind, Result};
use rusqlite::Connection;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

/// The most batches of one transaction: nobody waits for ever in a line that does not end.
const GROUP_BATCHES_MAX: usize = 64;

/// The connection that writes, and who waits for it.
#[derive(Debug, Default)]
pub(crate) struct SharedWriter {
    writer: Mutex<Writer>,
    /// Appends that are about to get the connection. Each of them does, and then settles its group or leaves it to another.
    in_line: AtomicUsize,
    settled: Condvar,
}

#[derive(Debug, Default)]
struct Writer {
    /// `None` before the first write, and after a failure of the disk.
    connection: Option<Connection>,
    /// The batches in the open transaction; `None` where there is none.
    group: Option<Arc<Group>>,
    /// How many these are.
    batches: usize,
}

/// Batches that become durable together.
#[derive(Debug, Default)]
struct Group {
    /// Set when it is known what became of them: nothing, or the kind and the words of the failure of all.
    outcome: OnceLock<std::result::Result<(), (ErrorKind, String)>>,
}

/// Fails the open group where a thread panics while it has the connection, so that nobody waits for it.
struct OnPanic<'w>(&'w SharedWriter);

impl Drop for OnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let message = "a thread of this program ended in the midst of its batch: try again";
            self.0.lock().fail(&Error::new(ErrorKind::Unavailable, "append", message));
            self.0.settled.notify_all();
        }
    }
}

impl SharedWriter {
    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in a transaction that may be shared with other appends, and returns when it is durable or failed.
    ///
    /// An answer that depends on batches before it in the same transaction is given only once these are durable.
    pub(crate) fn append(
        &self,
        place: &Place,
        work: impl FnOnce(&Connection) -> Result<(), Fail>,
    ) -> Result<()> {
        self.in_line.fetch_add(1, Ordering::SeqCst);
        let _fails_the_others = OnPanic(self);
        let mut writer = self.lock();
        self.in_line.fetch_sub(1, Ordering::SeqCst);
        let (answer, group) = writer.join(place, work);
        let Some(group) = group else { return answer };
        // Whoever is in line by now comes after this.
        let is_last = self.in_line.load(Ordering::SeqCst) == 0 || writer.batches >= GROUP_BATCHES_MAX;
        let committed = if is_last { writer.settle(place) } else { Ok(()) };
        if group.outcome.get().is_some() {
            self.settled.notify_all();
        }
        committed?;
        loop {
            match group.outcome.get() {
                Some(Ok(())) => return answer,
                Some(Err((kind, message))) => {
                    return Err(Error::new(*kind, "append", message.clone()).at(&place.name));
                }
                None => writer = self.settled.wait(writer).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    /// Runs `work` on the connection, with no transaction open.
    pub(crate) fn with<T>(
        &self,
        operation: &'static str,
        place: &Place,
        work: impl FnOnce(&mut Connection) -> Result<T, Fail>,
    ) -> Result<T> {
        let mut writer = self.lock();
        // What becomes of others' batches they are told themselves.
        let _ = writer.settle(place);
        self.settled.notify_all();
        place.check_in_place(operation)?;
        let done = writer.connect(place).and_then(|mut connection| {
            let done = work(&mut connection);
            writer.keep(connection, done.as_ref().err());
            done
        });
        done.map_err(|fail| fail.located(operation, &place.name))
    }
}

impl Writer {
    fn connect(&mut self, place: &Place) -> Result<Connection, Fail> {
        self.connection.take().map_or_else(|| place.connect(true), Ok)
    }

    /// Keeps a connection for the next call. After a failed sync nobody knows what the system still has in memory: what is
    /// read next comes from the file, through a connection that remembers nothing.
    fn keep(&mut self, connection: Connection, fail: Option<&Fail>) {
        if connection.is_autocommit() && !fail.is_some_and(Fail::is_of_disk) {
            self.connection = Some(connection);
        }
    }

    /// Runs `work` in the open transaction, which is begun if there is none. Returns its answer, and the group that has to be
    /// settled before that may be told.
    fn join(
        &mut self,
        place: &Place,
        work: impl FnOnce(&Connection) -> Result<(), Fail>,
    ) -> (Result<()>, Option<Arc<Group>>) {
        let open = self.group.clone();
        // Where the file is gone the group fails when it is settled.
        let in_place = place.check_in_place("append");
        if in_place.is_err() {
            return (in_place, open);
        }
        let (done, is_group_good) =
            if open.is_some() { self.add(work) } else { (self.begin(place, work), true) };
        let answer = done.map_err(|fail| fail.located("append", &place.name));
        let group = self.group.clone();
        if let Err(error) = &answer
            && !is_group_good
        {
            self.fail(error);
        }
        (answer, group)
    }

    /// Runs the first batch of a transaction. There is none after it failed.
    fn begin(
        &mut self,
        place: &Place,
        work: impl FnOnce(&Connection) -> Result<(), Fail>,
    ) -> Result<(), Fail> {
        let connection = self.connect(place)?;
        let done = run(&connection, "BEGIN IMMEDIATE").and_then(|()| work(&connection));
        if let Err(fail) = &done {
            if !connection.is_autocommit() && !fail.is_of_disk() {
                run(&connection, "ROLLBACK")?;
            }
            self.keep(connection, Some(fail));
            return done;
        }
        (self.connection, self.group, self.batches) = (Some(connection), Some(Arc::default()), 1);
        done
    }

    /// Runs a further batch; tells whether the transaction still holds those before it, and nothing of a batch that failed.
    fn add(&mut self, work: impl FnOnce(&Connection) -> Result<(), Fail>) -> (Result<(), Fail>, bool) {
        let Some(connection) = &self.connection else {
            return (Err(Fail::damaged("an open transaction has no connection")), false);
        };
        self.batches += 1;
        if let Err(fail) = run(connection, "SAVEPOINT batch") {
            return (Err(fail), false);
        }
        let done = work(connection);
        let ended = match &done {
            Ok(()) => run(connection, "RELEASE batch"),
            // SQLite takes the whole transaction back by itself after some failures.
            Err(fail) if fail.is_of_disk() || connection.is_autocommit() => return (done, false),
            Err(_) => run(connection, "ROLLBACK TO batch").and_then(|()| run(connection, "RELEASE batch")),
        };
        let is_good = ended.is_ok();
        (done.and(ended), is_good)
    }

    /// Commits the open transaction, if there is one, and says so to whoever waits for it.
    fn settle(&mut self, place: &Place) -> Result<()> {
        let (Some(group), Some(connection)) = (self.group.clone(), self.connection.take()) else {
            return Ok(());
        };
        let committed = place.check_in_place("append").and_then(|()| {
            let committed = run(&connection, "COMMIT");
            committed.map_err(|fail| fail.located("append", &place.name))
        });
        match &committed {
            Ok(()) => {
                self.connection = Some(connection);
                self.group = None;
                let _ = group.outcome.set(Ok(()));
            }
            Err(error) => self.fail(error),
        }
        committed
    }

    /// Says to whoever waits for the open transaction that it failed. Its connection goes, and the transaction with it.
    fn fail(&mut self, error: &Error) {
        self.connection = None;
        if let Some(group) = self.group.take() {
            let _ = group.outcome.set(Err((error.kind(), error.message().to_owned())));
        }
    }
}

fn run(connection: &Connection, sql: &str) -> Result<(), Fail> {
    Ok(connection.prepare_cached(sql)?.execute([]).map(drop)?)
}

#[cfg(test)]
mod tests {
    use super::super::{SqliteBackend, SqliteLedgerOptions};
    use super::*;
    use burnlog_log::conformance::build::{Event, TestFeed, assert_feed};
    use burnlog_log::{Backend, Limit};
    use std::path::{Path, PathBuf};

    fn ledger() -> (tempfile::TempDir, PathBuf, SqliteBackend) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        let options = SqliteLedgerOptions { create: true, ..SqliteLedgerOptions::default() };
        let backend = SqliteBackend::open(&path, options).unwrap();
        (folder, path, backend)
    }

    /// How many transactions are in the log of changes: frames that say how large the file is after them.
    fn commits(path: &Path) -> usize {
        let log = std::fs::read(format!("{}-wal", path.display())).unwrap();
        let word = |at: usize| u32::from_be_bytes(log[at..at + 4].try_into().unwrap());
        let (page, salt) = (word(8) as usize, &log[16..24]);
        let frames = (32..log.len()).step_by(24 + page);
        frames.filter(|at| word(at + 4) > 0 && &log[at + 8..at + 16] == salt).count()
    }

    /// Runs `each` for `count` writers at once, all of which come to the connection while another program has the file; lets
    /// them in when the last is in line.
    fn together<T: Send>(
        path: &Path,
        backend: &SqliteBackend,
        count: u8,
        before: impl FnOnce(),
        each: impl Fn(u8) -> T + Sync,
    ) -> Vec<T> {
        let gate = Connection::open(path).unwrap();
        gate.execute_batch("BEGIN IMMEDIATE").unwrap();
        std::thread::scope(|scope| {
            let each = &each;
            let writers: Vec<_> = (1..=count).map(|number| scope.spawn(move || each(number))).collect();
            // The first has the connection and waits for the file.
            while backend.writer.in_line.load(Ordering::SeqCst) < usize::from(count) - 1 {
                std::thread::yield_now();
            }
            before();
            gate.execute_batch("ROLLBACK").unwrap();
            writers.into_iter().map(|writer| writer.join().unwrap()).collect()
        })
    }

    /// One event that all writers have, one of its own.
    fn events(number: u8, round: u64) -> [Event; 2] {
        [Event::line("shared", round, b"of all"), Event::line(&format!("own-{number}"), round, b"of one")]
    }

    #[test]
    fn fifty_appends_that_wait_share_one_commit() {
        let (_folder, path, backend) = ledger();
        TestFeed::new(99).append(&backend, &Event::lines("before", 1)).unwrap();
        let before = commits(&path);
        let feeds = together(
            &path,
            &backend,
            50,
            || (),
            |number| {
                let mut feed = TestFeed::new(number);
                feed.append(&backend, &events(number, 0)).unwrap();
                feed
            },
        );
        assert_eq!(commits(&path) - before, 1);
        for (feed, number) in feeds.iter().zip(1..) {
            assert_feed(&backend, feed, &events(number, 0));
        }
        assert_eq!(backend.stat().unwrap().events, 1 + 1 + 50, "shared events are stored once");
        backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
    }

    #[test]
    fn one_client_commits_each_append_and_waits_for_nobody() {
        let (_folder, path, backend) = ledger();
        let mut feed = TestFeed::new(1);
        feed.append(&backend, &events(1, 0)).unwrap();
        let before = commits(&path);
        (1..=5).for_each(|round| feed.append(&backend, &events(1, round)).unwrap());
        assert_eq!(commits(&path) - before, 5);
    }

    #[test]
    fn a_line_that_is_too_long_is_committed_in_parts() {
        let (_folder, path, backend) = ledger();
        TestFeed::new(199).append(&backend, &Event::lines("before", 1)).unwrap();
        let before = commits(&path);
        together(
            &path,
            &backend,
            130,
            || (),
            |number| {
                TestFeed::new(number).append(&backend, &events(number, 0)).unwrap();
            },
        );
        assert_eq!(commits(&path) - before, 130usize.div_ceil(GROUP_BATCHES_MAX));
    }

    #[test]
    fn each_batch_of_a_group_has_its_own_answer() {
        let (_folder, path, backend) = ledger();
        let mut known = TestFeed::new(100);
        known.append(&backend, &events(100, 0)).unwrap();
        let before = commits(&path);
        // Of five: two are good, two are written with the same key, one names an event that nobody has.
        let answers = together(
            &path,
            &backend,
            5,
            || (),
            |number| match number {
                1 | 2 => {
                    TestFeed::new(number).append(&backend, &events(number, 0)).map_err(|error| error.kind())
                }
                3 | 4 => TestFeed::new(3).append(&backend, &events(3, 0)).map_err(|error| error.kind()),
                _ => {
                    let mut prepared = TestFeed::new(5).prepare(&events(5, 0));
                    prepared.events.clear();
                    prepared.apply(&backend).map_err(|error| error.kind())
                }
            },
        );
        assert_eq!((answers[0], answers[1]), (Ok(()), Ok(())));
        let mut same_key = [answers[2], answers[3]];
        same_key.sort_by_key(Result::is_err);
        assert_eq!(same_key, [Ok(()), Err(ErrorKind::Conflict)]);
        assert_eq!(answers[4], Err(ErrorKind::Missing));
        assert_eq!(commits(&path) - before, 1);
        assert_eq!(backend.feeds(None, None, 10).unwrap().heads.len(), 4);
        backend.check(&mut |damage| panic!("{damage:?}")).unwrap();
    }

    #[test]
    fn a_group_whose_commit_cannot_be_read_by_anybody_fails_whole() {
        let (_folder, path, backend) = ledger();
        TestFeed::new(99).append(&backend, &Event::lines("before", 1)).unwrap();
        let away = path.with_extension("away");
        let take_away = || std::fs::rename(&path, &away).unwrap();
        let answers = together(&path, &backend, 8, take_away, |number| {
            TestFeed::new(number).append(&backend, &events(number, 0)).map_err(|error| error.kind())
        });
        assert_eq!(answers, [Err(ErrorKind::NotFound); 8]);
        std::fs::rename(&away, &path).unwrap();
        assert_eq!(backend.stat().unwrap().events, 1, "nothing of the group is there");
        let mut feed = TestFeed::new(1);
        feed.append(&backend, &events(1, 0)).unwrap();
        assert_feed(&backend, &feed, &events(1, 0));
    }

    #[test]
    fn a_batch_that_panics_fails_those_that_wait_for_it_and_nobody_after() {
        let (_folder, path, backend) = ledger();
        TestFeed::new(99).append(&backend, &Event::lines("before", 1)).unwrap();
        let answers = together(
            &path,
            &backend,
            6,
            || (),
            |number| {
                if number > 1 {
                    return TestFeed::new(number)
                        .append(&backend, &events(number, 0))
                        .map_err(|error| error.kind());
                }
                let place = &backend.place;
                let append = || backend.writer.append(place, |_| panic!("a defect"));
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(append)).unwrap_err();
                Err(ErrorKind::Invalid)
            },
        );
        // Those before it in its transaction fail, those behind it do not.
        let known = [Ok(()), Err(ErrorKind::Unavailable)];
        assert!(answers[1..].iter().all(|answer| known.contains(answer)), "{answers:?}");
        for (answer, number) in answers.iter().zip(1..).skip(1) {
            let page = backend.read(&TestFeed::new(number).id(), 0, Limit::default()).unwrap();
            assert_eq!(page.state.is_some(), answer.is_ok(), "writer {number}");
        }
    }
}
