//! The folds of one ledger: a thread that is woken after appends, folds all there is, and tells how far it has come.
//! However many wake it meanwhile, one more fold is enough for all of them.

use crate::hosted::Projections;
use burnlog_log::{Error, ErrorKind, Ledger, Result};
use burnlog_projections::{CaughtUp, Projector};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long appends are gathered for one fold when nobody waits for it.
const GATHERING: Duration = Duration::from_millis(500);

/// How often the gathering is drawn out while appends go on.
const GATHERINGS_MAX: u32 = 20;

/// The thread that folds, and what is known of it.
pub(crate) struct Folds {
    shared: Arc<Shared>,
    done: watch::Receiver<u64>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

struct Shared {
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    wanted: u64,
    /// Whether somebody waits for it.
    awaited: bool,
    /// Whether the thread waits for the first wake. While it folds, and while it gathers, it looks by itself.
    idle: bool,
    stopping: bool,
    failure: Option<ErrorKind>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a fold is wanted beyond `done`; `None` when it is time to stop.
    fn next(&self, done: u64) -> Option<u64> {
        let nothing = |state: &mut State| state.wanted == done && !state.stopping;
        let mut state = self.lock();
        state.idle = true;
        let mut state = self.woken.wait_while(state, nothing).unwrap_or_else(PoisonError::into_inner);
        state.idle = false;
        // Appends come in rows, and one fold over many is cheaper than many: unless somebody waits, more may come. A row
        // without end is folded now and then.
        for _ in 0..GATHERINGS_MAX {
            let before = state.wanted;
            let gathering = |state: &mut State| !state.awaited && !state.stopping;
            (state, _) = self
                .woken
                .wait_timeout_while(state, GATHERING, gathering)
                .unwrap_or_else(PoisonError::into_inner);
            if state.wanted == before || state.awaited || state.stopping {
                break;
            }
        }
        state.awaited = false;
        (!state.stopping).then_some(state.wanted)
    }
}

impl Folds {
    /// Starts the thread, which folds at once.
    pub(crate) fn start(name: &str, ledger: Ledger, projections: Arc<dyn Projections>) -> Result<Self> {
        let state = State { wanted: 1, awaited: true, ..State::default() };
        let shared = Arc::new(Shared { state: Mutex::new(state), woken: Condvar::new() });
        let (tell, done) = watch::channel(0);
        let (own, name) = (Arc::clone(&shared), name.to_owned());
        let thread = std::thread::Builder::new()
            .name(format!("fold-{name}"))
            .spawn(move || {
                let mut at = 0;
                while let Some(wanted) = own.next(at) {
                    let folded = fold(&ledger, &*projections);
                    own.lock().failure = match folded {
                        Ok(CaughtUp { entries: 0, .. }) => None,
                        Ok(CaughtUp { feeds, entries, damaged, .. }) => {
                            tracing::info!(ledger = name, feeds, entries, damaged, "folded");
                            None
                        }
                        Err(error) => {
                            tracing::warn!(ledger = name, %error, "not folded");
                            Some(error.kind())
                        }
                    };
                    at = wanted;
                    tell.send_replace(at);
                }
            })
            .map_err(|error| {
                let message = "the thread that folds cannot be started";
                Error::new(ErrorKind::Unavailable, "serve", message).caused_by(error)
            })?;
        Ok(Self { shared, done, thread: Mutex::new(Some(thread)) })
    }

    /// Asks for a fold of all that is there now, soon.
    pub(crate) fn wake(&self) {
        let mut state = self.shared.lock();
        state.wanted += 1;
        // Each wake of the thread is one of the processor that the next append wants.
        let idle = state.idle;
        drop(state);
        if idle {
            self.shared.woken.notify_all();
        }
    }

    /// Asks for a fold of all that is there now, at once, and returns what [`Folds::reached`] waits for.
    pub(crate) fn wake_for(&self) -> u64 {
        let mut state = self.shared.lock();
        state.wanted += 1;
        state.awaited = true;
        self.shared.woken.notify_all();
        state.wanted
    }

    /// Waits until a fold that began after the wake is done; false when that takes longer than `timeout`.
    pub(crate) async fn reached(&self, ticket: u64, timeout: Duration) -> bool {
        let mut done = self.done.clone();
        let waited = tokio::time::timeout(timeout, done.wait_for(|done| *done >= ticket)).await;
        matches!(waited, Ok(Ok(_))) && self.failure().is_none()
    }

    /// How the last fold failed, if it did. `InUse`: somebody else is folding, and the rows come from there.
    pub(crate) fn failure(&self) -> Option<ErrorKind> {
        self.shared.lock().failure
    }

    /// Whether the last fold failed and nobody else does the work.
    pub(crate) fn is_broken(&self) -> bool {
        self.failure().is_some_and(|kind| kind != ErrorKind::InUse)
    }

    /// Ends the thread after the fold that is under way.
    pub(crate) fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.woken.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic in there was reported by the thread itself.
            drop(thread.join());
        }
    }
}

/// Folds what is new; a ledger that went back is folded anew from its beginning.
fn fold(ledger: &Ledger, projections: &dyn Projections) -> Result<CaughtUp> {
    let mut store = projections.folding()?;
    let mut projector = Projector::new(&mut *store, ledger, projections.limits())?;
    projector.catch_up_or_anew(ledger, &mut |error| tracing::warn!(%error, "folding anew"))
}
