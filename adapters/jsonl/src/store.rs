//! The ledger's folder and what this process knows of it: the shared parts behind every method of the backend. Opening,
//! locking and the one way to look at the state are here; what is done with it is in the modules named after it.

use crate::cache::Cache;
use crate::erased::Erased;
use crate::files::{Files, io_error};
use crate::identity;
use crate::index::{Failure, Fault, Index};
use crate::lock::LedgerLock;
use crate::options::JsonlOptions;
use crate::pack::Packer;
use crate::segment::{Segment, SegmentRef};
use crate::writer::{Group, Writer};
use burnlog_log::{Address, Error, ErrorKind, LedgerId, Result};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often an operation that met damage in the index makes the index again.
pub(crate) const REBUILDS_MAX: u32 = 2;

/// Something that happened on the side and that a person may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// A stable code in lower case with hyphens.
    pub code: &'static str,
    /// Where.
    pub place: String,
    /// What.
    pub message: String,
}

/// A ledger's folder, open.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) folder: PathBuf,
    pub(crate) ledger: LedgerId,
    pub(crate) options: JsonlOptions,
    pub(crate) lock: LedgerLock,
    state: Mutex<State>,
    /// A group became durable or failed, or the lock was given back.
    pub(crate) changed: Condvar,
    /// All are there whom a sync waits for.
    pub(crate) gathered: Condvar,
    cache: Mutex<Cache>,
    /// What large batches are compressed with, kept for the next one.
    pub(crate) packer: Mutex<Option<Packer>>,
}

/// What this process knows of the ledger.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By number, as rows of the index name them.
    pub(crate) segments: Vec<Segment>,
    pub(crate) numbers: HashMap<Arc<str>, u32>,
    pub(crate) index: Index,
    /// The stamp of the manifest that the runs are from.
    pub(crate) manifest_stamp: Option<u64>,
    /// Whether the index on disk is of no use and has to be written again.
    pub(crate) index_is_stale: bool,
    /// The counter of the lock file when everything was looked at.
    pub(crate) changes: Option<u64>,
    pub(crate) erased: Arc<Erased>,
    /// Whether this process holds the ledger's lock, and for which threads.
    pub(crate) lock_is_held: bool,
    pub(crate) writer: Option<Writer>,
    /// The segment that was removed, moved or replaced while this process appended to it: what it knows of the ledger is
    /// not there any more, so nothing is appended before the ledger is opened again.
    pub(crate) gone: Option<PathBuf>,
    /// Segments of others whose unsynced bytes what was appended without syncs depends on.
    pub(crate) leaned_on: BTreeSet<Arc<str>>,
    pub(crate) group: Group,
    /// How many wait for a change, whatever it is.
    pub(crate) onlookers: usize,
    pub(crate) notices: Vec<Notice>,
    /// Damage found while reading active segments, by segment and offset, to be reported once.
    pub(crate) damage: BTreeMap<(Arc<str>, u64), String>,
    /// Counts changes of what is known; see `last_absent`.
    pub(crate) version: u64,
    /// The version at which these addresses, in this order, were last found absent: an append need not look again.
    pub(crate) last_absent: (u64, Vec<Address>),
}

impl Store {
    /// Opens or creates the ledger in `folder`.
    pub(crate) fn open(folder: &Path, options: JsonlOptions) -> Result<Self> {
        let files = Arc::clone(&options.files);
        let found = identity::read(&*files, folder)?;
        if found.is_none() && (options.read_only || !options.create) {
            if identity::holds_segments(&*files, folder) {
                return Err(identity::lost("open ledger", folder));
            }
            let message = "no ledger here; it is made by the first `ingest`";
            return Err(Error::new(ErrorKind::NotFound, "open ledger", message).at(folder.display()));
        }
        if found.is_none() {
            files
                .create_folder(folder)
                .map_err(|error| io_error("create ledger", folder.display(), error))?;
        }
        let lock = LedgerLock::open(&*files, folder, options.read_only)?;
        let ledger = match found {
            Some(ledger) => ledger,
            None => create(&*files, folder, &lock, options.lock_wait_max)?,
        };
        let store = Self {
            folder: folder.to_path_buf(),
            ledger,
            options,
            lock,
            state: Mutex::default(),
            changed: Condvar::new(),
            gathered: Condvar::new(),
            cache: Mutex::default(),
            packer: Mutex::default(),
        };
        store.open_segments()?;
        Ok(store)
    }

    pub(crate) fn files(&self) -> &dyn Files {
        &*self.options.files
    }

    pub(crate) fn lock_state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves counters and rows that were set together; nothing is half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something changed; the state is free meanwhile.
    pub(crate) fn wait<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.onlookers += 1;
        let mut state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        state.onlookers -= 1;
        state
    }

    /// Lets those look who wait for a change.
    pub(crate) fn tell_onlookers(&self, state: &State) {
        // With nobody there it would still be a call of the system, for every append.
        if state.onlookers > 0 {
            self.changed.notify_all();
        }
    }

    /// Looks at the state after taking up what other processes did. Where the index turns out to be damaged it is made
    /// again and `look` starts over.
    pub(crate) fn with_state<T>(
        &self,
        mut look: impl FnMut(&mut State) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let mut state = self.lock_state();
        let mut rebuilds = 0;
        loop {
            let result = match self.refresh(&mut state) {
                Ok(()) => look(&mut state),
                Err(failure) => Err(failure),
            };
            match result {
                Ok(value) => return Ok(value),
                Err(Failure::Error(error)) => return Err(error),
                Err(Failure::Fault(fault)) => {
                    rebuilds += 1;
                    if rebuilds > REBUILDS_MAX {
                        return Err(self.fault_error(&fault));
                    }
                    while state.group.is_busy() {
                        state = self.wait(state);
                    }
                    self.rebuild_after(&mut state, &fault)?;
                }
            }
        }
    }

    pub(crate) fn fault_error(&self, fault: &Fault) -> Error {
        let message = format!(
            "page {} of the index is damaged again after it was made anew; check the disk",
            fault.page
        );
        Error::new(ErrorKind::Corrupt, "read index", message).at(self
            .folder
            .join("index")
            .join(&fault.run)
            .display())
    }

    /// Refuses to write where that was not asked for.
    pub(crate) fn writable(&self, operation: &'static str) -> Result<()> {
        if self.options.read_only {
            let message = "the ledger was opened for reading only";
            return Err(Error::new(ErrorKind::Denied, operation, message).at(self.folder.display()));
        }
        Ok(())
    }

    /// Takes the ledger's lock for this process, or returns at once if the process has it.
    pub(crate) fn take_lock<'a>(&'a self, mut state: MutexGuard<'a, State>) -> Result<MutexGuard<'a, State>> {
        let mut waited = Duration::ZERO;
        loop {
            if state.lock_is_held {
                return Ok(state);
            }
            if self.lock.try_take()? {
                state.lock_is_held = true;
                return Ok(state);
            }
            if waited >= self.options.lock_wait_max {
                return Err(self.lock.in_use(waited));
            }
            drop(state);
            let pause = (waited / 4).clamp(Duration::from_micros(200), Duration::from_millis(20));
            self.files().pause(pause);
            waited += pause;
            state = self.lock_state();
        }
    }

    /// Gives the lock back unless appends of this process are under way.
    pub(crate) fn release_lock(&self, state: &mut State) {
        if state.group.is_busy() {
            // Nothing that anybody waits for has happened; of fifty threads in a group each would wake all others.
            return;
        }
        if state.lock_is_held {
            self.lock.give_back();
            state.lock_is_held = false;
        }
        self.tell_onlookers(state);
    }

    /// Runs `act` alone: with the ledger's lock, no append under way, and everything other processes did taken up. Where the
    /// index turns out to be damaged it is made again and `act` starts over.
    pub(crate) fn exclusively<T>(
        &self,
        mut act: impl FnMut(&mut State) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let mut state = self.lock_state();
        loop {
            while state.group.is_busy() {
                state = self.wait(state);
            }
            state = self.take_lock(state)?;
            if !state.group.is_busy() {
                break;
            }
        }
        let mut rebuilds = 0;
        let result = loop {
            match self.refresh(&mut state).and_then(|()| act(&mut state)) {
                Ok(value) => break Ok(value),
                Err(Failure::Error(error)) => break Err(error),
                Err(Failure::Fault(fault)) => {
                    rebuilds += 1;
                    if rebuilds > REBUILDS_MAX {
                        break Err(self.fault_error(&fault));
                    }
                    if let Err(error) = self.rebuild_after(&mut state, &fault) {
                        break Err(error);
                    }
                }
            }
        };
        self.release_lock(&mut state);
        result
    }
}

impl State {
    /// Notes damage in a segment, once.
    pub(crate) fn note_damage(&mut self, name: &Arc<str>, ending: &str, offset: u64, reason: String) {
        if self.damage.insert((Arc::clone(name), offset), reason.clone()).is_none() {
            self.note("segment-damaged", format!("segments/{name}{ending} at {offset}"), reason);
        }
    }

    /// Notes that the index on disk is of no use, once until it is written again.
    pub(crate) fn note_stale_index(&mut self, place: &str, message: &str) {
        if !std::mem::replace(&mut self.index_is_stale, true) {
            self.note("index-rebuilt", place.to_owned(), message.to_owned());
        }
    }

    /// Notes something for a person.
    pub(crate) fn note(&mut self, code: &'static str, place: String, message: String) {
        // A caller that never asks must not make this grow.
        if self.notices.len() < 1000 {
            self.notices.push(Notice { code, place, message });
        }
    }

    /// Returns what reading a segment needs to know.
    pub(crate) fn reference(&self, segment: u32) -> Option<SegmentRef> {
        self.segments.get(segment as usize).map(Segment::reference)
    }
}

fn create(files: &dyn Files, folder: &Path, lock: &LedgerLock, wait_max: Duration) -> Result<LedgerId> {
    let mut waited = Duration::ZERO;
    while !lock.try_take()? {
        if waited >= wait_max {
            return Err(lock.in_use(waited));
        }
        let pause = Duration::from_millis(1);
        files.pause(pause);
        waited += pause;
    }
    // Another process may have made it meanwhile.
    let result = match identity::read(files, folder) {
        Ok(Some(ledger)) => Ok(ledger),
        Ok(None) => identity::create(files, folder),
        Err(error) => Err(error),
    };
    lock.give_back();
    result
}
