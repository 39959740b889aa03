//! Group commit: appends that wait at the same time share one transaction and one sync. Each does its own part
//! in its own thread; the last one to leave commits for all.

use crate::fault::{Fail, caught};
use redb::WriteTransaction;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The most parts in one transaction: those who wait must not wait for ever.
const PARTS_MAX: usize = 64;

/// The transaction that is open for others to join.
#[derive(Default)]
pub(crate) struct Group {
    current: Mutex<Current>,
    ended: Condvar,
    /// Calls that will take the lock of `current` and do their part.
    arriving: AtomicUsize,
}

#[derive(Default)]
struct Current {
    txn: Option<WriteTransaction>,
    /// Which transaction this is.
    number: u64,
    /// Parts done in it.
    parts: usize,
    /// Calls that wait for it to end.
    waiting: usize,
    /// How transactions ended, with the number of calls that have yet to hear it.
    endings: HashMap<u64, (usize, Option<Ending>)>,
}

/// Why a transaction of several did not go through; told to each of them.
#[derive(Debug, Clone)]
pub(crate) struct Ending(pub(crate) String);

/// How the call of a part ended.
pub(crate) enum Outcome {
    /// Committed, durable as asked.
    Done,
    /// The part was refused; whatever it was refused for is committed.
    Refused(burnlog_log::Error),
    /// This call's own part or commit failed.
    Failed(Fail),
    /// The transaction that this part was in failed in another call.
    FailedElsewhere(Ending),
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `part` in a transaction of `begin` and returns once that is committed by `commit`.
    ///
    /// A part that returns `Refused` must have written nothing; after any other failure the transaction is given up.
    pub(crate) fn run(
        &self,
        begin: impl FnOnce() -> Result<WriteTransaction, Fail>,
        part: impl FnOnce(&WriteTransaction) -> Result<(), Fail>,
        commit: impl FnOnce(WriteTransaction) -> Result<(), Fail>,
    ) -> Outcome {
        self.arriving.fetch_add(1, Ordering::SeqCst);
        let mut current = self.lock();
        self.arriving.fetch_sub(1, Ordering::SeqCst);
        let txn = match current.txn.take().map_or_else(begin, Ok) {
            Ok(txn) => txn,
            Err(fail) => return Outcome::Failed(fail),
        };
        let refusal = match caught(|| part(&txn)) {
            Ok(()) => {
                current.parts += 1;
                None
            }
            Err(Fail::Refused(error)) => Some(error),
            Err(fail) => {
                drop(txn);
                self.end(&mut current, Some(Ending(format!("{fail:?}"))));
                return Outcome::Failed(fail);
            }
        };
        if self.arriving.load(Ordering::SeqCst) > 0 && current.parts < PARTS_MAX && current.parts > 0 {
            current.txn = Some(txn);
            return match self.wait(current) {
                Some(ending) => Outcome::FailedElsewhere(ending),
                None => refusal.map_or(Outcome::Done, Outcome::Refused),
            };
        }
        if current.parts > 0
            && let Err(fail) = caught(|| commit(txn))
        {
            self.end(&mut current, Some(Ending(format!("{fail:?}"))));
            return Outcome::Failed(fail);
        }
        self.end(&mut current, None);
        refusal.map_or(Outcome::Done, Outcome::Refused)
    }

    /// Ends the transaction and wakes those who wait for it.
    fn end(&self, current: &mut Current, ending: Option<Ending>) {
        if current.waiting > 0 {
            let (number, waiting) = (current.number, current.waiting);
            current.endings.insert(number, (waiting, ending));
        }
        current.number += 1;
        current.parts = 0;
        current.waiting = 0;
        self.ended.notify_all();
    }

    fn wait(&self, mut current: MutexGuard<'_, Current>) -> Option<Ending> {
        let number = current.number;
        current.waiting += 1;
        loop {
            current = self.ended.wait(current).unwrap_or_else(PoisonError::into_inner);
            if let Some((waiting, ending)) = current.endings.get_mut(&number) {
                *waiting -= 1;
                let (last, ending) = (*waiting == 0, ending.clone());
                if last {
                    current.endings.remove(&number);
                }
                return ending;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burnlog_log::{Error, ErrorKind};
    use redb::backends::InMemoryBackend;
    use redb::{Database, ReadableDatabase, TableDefinition};

    const TABLE: TableDefinition<u64, u64> = TableDefinition::new("table");

    type Part = fn(&WriteTransaction, u64) -> Result<(), Fail>;

    fn put(txn: &WriteTransaction, key: u64) -> Result<(), Fail> {
        txn.open_table(TABLE)?.insert(key, key)?;
        Ok(())
    }

    fn refuse(_: &WriteTransaction, _: u64) -> Result<(), Fail> {
        Err(Error::new(ErrorKind::Conflict, "append", "refused").into())
    }

    fn fail(txn: &WriteTransaction, key: u64) -> Result<(), Fail> {
        put(txn, key)?;
        Err(Fail::damaged("half done"))
    }

    /// Runs the parts at once, each with its position as the key: all of them arrive before the first is let in.
    /// Returns the outcomes, the keys found afterwards and the number of commits.
    fn run_at_once(parts: &[Part]) -> (Vec<Outcome>, Vec<u64>, usize) {
        let database = Database::builder().create_with_backend(InMemoryBackend::new()).unwrap();
        let (group, commits) = (Group::default(), AtomicUsize::new(0));
        let begin = || Ok(database.begin_write()?);
        let commit = |txn: WriteTransaction| {
            commits.fetch_add(1, Ordering::SeqCst);
            Ok(txn.commit()?)
        };
        let outcomes = std::thread::scope(|scope| {
            let entrance = group.lock();
            let (group, begin, commit) = (&group, &begin, &commit);
            let calls: Vec<_> = (0..)
                .zip(parts)
                .map(|(key, part)| scope.spawn(move || group.run(begin, |txn| part(txn, key), commit)))
                .collect();
            while group.arriving.load(Ordering::SeqCst) < parts.len() {
                std::thread::yield_now();
            }
            drop(entrance);
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        });
        let txn = database.begin_read().unwrap();
        let keys = txn.open_table(TABLE).map_or(Vec::new(), |table| {
            table.range::<u64>(..).unwrap().map(|row| row.unwrap().0.value()).collect()
        });
        (outcomes, keys, commits.into_inner())
    }

    #[test]
    fn parts_that_wait_share_one_commit() {
        let (outcomes, keys, commits) = run_at_once(&[put as Part; 8]);
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done)));
        assert_eq!((keys, commits), ((0..8).collect(), 1));
    }

    #[test]
    fn a_refused_part_does_not_hold_up_the_others() {
        let (outcomes, keys, commits) = run_at_once(&[put, refuse, put, refuse]);
        assert!(matches!(
            outcomes[..],
            [Outcome::Done, Outcome::Refused(_), Outcome::Done, Outcome::Refused(_)]
        ));
        assert_eq!((keys, commits), (vec![0, 2], 1));
    }

    #[test]
    fn a_part_that_fails_takes_along_what_shares_its_transaction_and_says_so() {
        let (outcomes, keys, _) = run_at_once(&[put, fail, put, put]);
        assert!(matches!(outcomes[1], Outcome::Failed(_)));
        let done = (0..).zip(&outcomes).filter(|(_, outcome)| matches!(outcome, Outcome::Done));
        assert_eq!(keys, done.map(|(key, _)| key).collect::<Vec<u64>>());
        let heard = |outcome: &&Outcome| matches!(outcome, Outcome::FailedElsewhere(_));
        assert_eq!(keys.len() + outcomes.iter().filter(heard).count(), 3);
    }
}
