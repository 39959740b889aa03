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
