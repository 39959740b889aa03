//! Where the work of a request is done: on a thread that may block, or in its place where nobody else is served.

use crate::hosted::Hosted;
use burnlog_http::{
    Answer, Asked, FrameKind, Operation, Question, Rights, frame, is_of_store, perform, refuse_asked, reply,
    success,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the requests that are worked on.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    busy: Arc<AtomicUsize>,
}

/// One who is counted until this is dropped.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Desk {
    /// Does the work of a request to its end, also when nobody waits for it any more; `None` where it panicked.
    ///
    /// Who is alone, with a small message, is served where its bytes came in: the runtime moves to another thread, and two
    /// changes of threads are less between a request and its answer. Whoever comes meanwhile goes to a thread of the pool. So does a
    /// large message: what the allocator keeps for a thread would be kept for each that the runtime moves to.
    pub(crate) async fn work<T: Send + 'static>(
        &self,
        is_small: bool,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let is_alone = self.busy.fetch_add(1, Ordering::Relaxed) == 0;
        let seat = Seat(Arc::clone(&self.busy));
        let seated = move || {
            let _seat = seat;
            work()
        };
        if is_alone && is_small {
            tokio::task::block_in_place(|| catch_unwind(AssertUnwindSafe(seated))).ok()
        } else {
            tokio::task::spawn_blocking(seated).await.ok()
        }
    }
}

/// Does the work of a request, where it may block. Returns beside the answer what the log is told of a failure.
pub(crate) fn work(hosted: &Hosted, rights: Rights, asked: &Asked) -> (Answer, Option<String>) {
    let done = match asked.operation {
        Operation::Ask => Question::decode(asked.message.clone())
            .and_then(|question| hosted.ask(|queries| reply(queries, &question)))
            .map(|message| frame(FrameKind::Reply, &message)),
        Operation::Search
        | Operation::Sessions
        | Operation::Turns
        | Operation::Usage
        | Operation::Content
        | Operation::Relationships => hosted.lines(asked),
        _ => perform(&hosted.ledger, rights, asked),
    };
    match done {
        Ok(body) => (success(hosted.ledger.location().id, body), None),
        Err(error) => {
            let answer = refuse_asked(&hosted.ledger, asked, &error);
            // What was asked for wrongly may hold anything, and its answer says all of it.
            let failure = (answer.status >= 500 || is_of_store(&error)).then(|| error.to_string());
            (answer, failure)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use tokio::runtime::Runtime;

    /// With one thread for the sockets, the least there can be.
    fn runtime() -> Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn who_is_served_alone_holds_up_nobody() {
        let (runtime, desk) = (runtime(), Arc::new(Desk::default()));
        let ((begun, has_begun), (go_on, may_go_on)) = (channel(), channel());
        let own = Arc::clone(&desk);
        let alone = runtime.spawn(async move {
            let work = move || {
                begun.send(std::thread::current().id()).unwrap();
                may_go_on.recv().unwrap();
                std::thread::current().id()
            };
            own.work(true, work).await
        });
        let thread = has_begun.recv().unwrap();
        // Whoever comes now is served, on another thread, while the first one is still at it.
        let own = Arc::clone(&desk);
        let second = runtime.spawn(async move { own.work(true, || std::thread::current().id()).await });
        assert_ne!(runtime.block_on(second).unwrap(), Some(thread));
        go_on.send(()).unwrap();
        assert_eq!(runtime.block_on(alone).unwrap(), Some(thread));
        assert_eq!(desk.busy.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn work_that_panics_gives_its_place_back_alone_or_not() {
        let (runtime, desk) = (runtime(), Arc::new(Desk::default()));
        for others in [0, 1] {
            desk.busy.store(others, Ordering::Relaxed);
            let own = Arc::clone(&desk);
            let done =
                runtime.spawn(async move { own.work(true, || panic!("as planned")).await.map(|()| 7) });
            assert_eq!(runtime.block_on(done).unwrap(), None);
            assert_eq!(desk.busy.load(Ordering::Relaxed), others);
        }
    }
}
