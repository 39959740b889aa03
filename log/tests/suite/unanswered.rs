//! A store that does not answer at first: questions are asked again, and given up after a few times.

use crate::{append, ledger};
use burnlog_log::{
    Address, Ahead, Append, Backend, BatchHead, Body, Compacted, Damage, Error, ErrorKind, FeedsPage, Found,
    Ledger, LedgerId, Limit, Location, MemoryBackend, Page, Presence, Result, Stat, Token, WriterId, replay,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// Answers each question only after so many failures. Does something ahead of each append.
struct Slow {
    inner: MemoryBackend,
    failures: u32,
    failed: AtomicU32,
    /// Whether it says that it has events that it lacks, all but the first.
    lies: bool,
    /// How many appends do not get an answer, and do not happen.
    unanswered: AtomicU32,
    /// What came of appends: the method that was called and the number of events, in order.
    calls: Arc<Mutex<Vec<(&'static str, usize)>>>,
}

impl Slow {
    fn new(number: u8, failures: u32) -> Self {
        let inner = MemoryBackend::new(LedgerId([number; 16]));
        let (failed, unanswered) = (AtomicU32::default(), AtomicU32::default());
        Self { inner, failures, failed, lies: false, unanswered, calls: Arc::default() }
    }

    fn take(&self, call: &'static str, append: &Append<'_>) -> Result<()> {
        self.calls.lock().unwrap().push((call, append.events.len()));
        if self.unanswered.load(Ordering::Relaxed) > 0 {
            self.unanswered.fetch_sub(1, Ordering::Relaxed);
            return Err(Error::new(ErrorKind::Unavailable, "append", "no answer"));
        }
        self.inner.append(append)
    }

    fn answer<T>(&self, answer: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.failed.fetch_add(1, Ordering::Relaxed) < self.failures {
            return Err(Error::new(ErrorKind::Unavailable, "ask", "no answer"));
        }
        self.failed.store(0, Ordering::Relaxed);
        answer()
    }
}

impl Backend for Slow {
    fn location(&self) -> Location {
        self.inner.location()
    }

    fn stat(&self) -> Result<Stat> {
        self.answer(|| self.inner.stat())
    }

    fn feeds(&self, after: Option<&WriterId>, since: Option<&Token>, limit: usize) -> Result<FeedsPage> {
        self.answer(|| self.inner.feeds(after, since, limit))
    }

    fn append(&self, append: &Append<'_>) -> Result<()> {
        self.take("append", append)
    }

    fn ahead(&self, append: &Append<'_>) -> Result<Option<Ahead>> {
        self.calls.lock().unwrap().push(("ahead", append.events.len()));
        Ok(Some(Ahead::new(*append.head)))
    }

    fn append_ahead(&self, append: &Append<'_>, ahead: Ahead) -> Result<()> {
        assert_eq!(ahead.take::<BatchHead>(), Some(*append.head), "it is that of this append");
        self.take("append_ahead", append)
    }

    fn read(&self, feed: &WriterId, from: u64, limit: Limit) -> Result<Page> {
        self.answer(|| self.inner.read(feed, from, limit))
    }

    fn find(&self, feed: &WriterId, addresses: &[Address]) -> Result<Vec<Found>> {
        let mut found = self.answer(|| self.inner.find(feed, addresses))?;
        if self.lies {
            found.iter_mut().skip(1).for_each(|found| found.presence = Presence::Present);
        }
        Ok(found)
    }

    fn get(&self, addresses: &[Address], limit: Limit) -> Result<Vec<Option<Body>>> {
        self.answer(|| self.inner.get(addresses, limit))
    }

    fn erase(&self, addresses: &[Address]) -> Result<()> {
        self.inner.erase(addresses)
    }

    fn compact(&self) -> Result<Compacted> {
        self.inner.compact()
    }

    fn check(&self, report: &mut dyn FnMut(Damage)) -> Result<()> {
        self.inner.check(report)
    }
}

#[test]
fn what_was_done_ahead_is_used_once_and_for_the_same_events_alone() {
    let source = ledger(1);
    append(&source, 1, "a", 0..3);
    let replayed = |lies, unanswered| {
        let store = Slow { lies, unanswered: AtomicU32::new(unanswered), ..Slow::new(4, 0) };
        let calls = Arc::clone(&store.calls);
        let there = Ledger::new(store);
        replay(&source, &there, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(there.feeds().unwrap(), source.feeds().unwrap());
        let calls = calls.lock().unwrap();
        calls.clone()
    };
    assert_eq!(replayed(false, 0), [("ahead", 4), ("append_ahead", 4)]);
    assert_eq!(replayed(false, 2), [("ahead", 4), ("append_ahead", 4), ("append", 4), ("append", 4)]);
    // Events that it lacks after all are sent with the next attempt.
    assert_eq!(replayed(true, 0), [("ahead", 1), ("append_ahead", 1), ("append", 4)]);
}

/// A ledger that answers after so many failures, and the pauses that were made before asking again.
fn slow(failures: u32) -> (Ledger, Arc<Mutex<Vec<u32>>>) {
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&pauses);
    let ledger = Ledger::new(Slow::new(3, failures));
    (ledger.with_pause(move |attempt| noted.lock().unwrap().push(attempt)), pauses)
}

#[test]
fn a_store_that_answers_late_is_written_replayed_and_read() {
    let source = ledger(1);
    append(&source, 1, "a", 0..9);
    append(&source, 2, "a", 3..7);
    let (there, pauses) = slow(6);
    append(&there, 3, "a", 0..4);
    assert_eq!(pauses.lock().unwrap()[..6], [1, 2, 3, 4, 5, 6]);
    replay(&source, &there, &mut |_| {}).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(there.feeds().unwrap().len(), 3);
    let address =
        there.read(&there.feeds().unwrap()[0].feed, 0, Limit::default()).unwrap().entries[0].address;
    assert!(there.get(&[address], Limit::default()).unwrap()[0].is_some());
    assert!(there.stat().unwrap().events > 0);
}

#[test]
fn a_store_that_never_answers_is_given_up() {
    let (there, pauses) = slow(u32::MAX);
    assert_eq!(there.stat().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(*pauses.lock().unwrap(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(there.feeds().unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(pauses.lock().unwrap().len(), 12);
}
