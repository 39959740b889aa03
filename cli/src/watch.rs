//! Waiting for session files to change: events of the file system, and looking again at intervals where there are none.
//! Knows paths and nothing of what is in them.

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long changes are gathered before they are read: an agent writes several lines at once.
const GATHER: Duration = Duration::from_millis(50);
/// How often everything is looked at where the file system tells nothing.
const POLL: Duration = Duration::from_millis(500);
/// How often a root that was missing is looked for.
const MISSING: Duration = Duration::from_secs(1);
/// How often everything is looked at although the file system tells of changes: some get lost when there are very many.
const RECHECK: Duration = Duration::from_secs(30);

/// What the watcher and whoever stops it send.
enum Signal {
    Event(notify::Result<notify::Event>),
    Stop,
}

/// Ends a watch.
#[derive(Clone)]
pub(crate) struct Stopper(Sender<Signal>);

impl Stopper {
    /// Lets the watch answer [`Changed::Stop`] as soon as it is asked.
    pub(crate) fn stop(&self) {
        // A watch that is gone needs no end.
        let _ = self.0.send(Signal::Stop);
    }
}

/// Where a watch hears of changes, made before it so that it can be stopped from the beginning.
pub(crate) struct Signals {
    send: Sender<Signal>,
    receive: Receiver<Signal>,
}

impl Signals {
    /// Makes the place.
    pub(crate) fn new() -> Self {
        let (send, receive) = channel();
        Self { send, receive }
    }

    /// Returns what ends the watch.
    pub(crate) fn stopper(&self) -> Stopper {
        Stopper(self.send.clone())
    }
}

/// What to read next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Changed {
    /// These paths, as the file system names them.
    Paths(BTreeSet<PathBuf>),
    /// Anything: look at everything.
    Anything,
    /// Nothing any more: the watch was stopped.
    Stop,
}

/// Watches folders and files.
pub(crate) struct Watch {
    watcher: Option<RecommendedWatcher>,
    events: Receiver<Signal>,
    is_stopped: bool,
    /// Roots that are watched, and those that are not there yet.
    watched: BTreeSet<PathBuf>,
    missing: BTreeSet<PathBuf>,
    /// Why the file system is polled, if it is.
    trouble: Option<String>,
    rechecked: Instant,
}

impl Watch {
    /// Starts to watch. What changes from now on is told by [`Watch::next`].
    pub(crate) fn start<'a>(roots: impl Iterator<Item = &'a Path>, signals: Signals) -> Self {
        let Signals { send, receive: events } = signals;
        let tell = move |event| {
            // Nobody hears when the watch is gone.
            let _ = send.send(Signal::Event(event));
        };
        let (watcher, trouble) = match notify::recommended_watcher(tell) {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let missing = roots.map(Path::to_path_buf).collect();
        let mut watch = Self {
            watcher,
            events,
            is_stopped: false,
            watched: BTreeSet::new(),
            missing,
            trouble,
            rechecked: Instant::now(),
        };
        watch.watch_missing();
        watch
    }

    /// Returns why everything is looked at at intervals, if it is.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Watches the roots that have appeared; returns whether any has.
    fn watch_missing(&mut self) -> bool {
        let there: Vec<PathBuf> = self.missing.iter().filter(|root| root.exists()).cloned().collect();
        for root in &there {
            self.missing.remove(root);
            let Some(watcher) = &mut self.watcher else { continue };
            match watcher.watch(root, RecursiveMode::Recursive) {
                Ok(()) => {
                    self.watched.insert(root.clone());
                }
                Err(error) => self.trouble = Some(error.to_string()),
            }
        }
        !there.is_empty()
    }

    /// Waits for the next change.
    pub(crate) fn next(&mut self) -> Changed {
        loop {
            if self.is_stopped {
                return Changed::Stop;
            }
            let pause = match (&self.trouble, self.missing.is_empty()) {
                (Some(_), _) => POLL,
                (None, false) => MISSING,
                (None, true) => RECHECK,
            };
            match self.events.recv_timeout(pause) {
                Ok(Signal::Stop) => self.is_stopped = true,
                Ok(Signal::Event(event)) => {
                    let mut changed = Changed::Paths(BTreeSet::new());
                    take(&mut changed, event);
                    self.gather(&mut changed);
                    if changed != Changed::Paths(BTreeSet::new()) {
                        return changed;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.trouble.get_or_insert_with(|| "the watcher ended".to_owned());
                    std::thread::sleep(POLL);
                    return Changed::Anything;
                }
                Err(RecvTimeoutError::Timeout) if self.trouble.is_some() || self.watch_missing() => {
                    return Changed::Anything;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.rechecked.elapsed() >= RECHECK {
                self.rechecked = Instant::now();
                return Changed::Anything;
            }
        }
    }

    /// Takes what else comes within a moment.
    fn gather(&mut self, changed: &mut Changed) {
        let end = Instant::now() + GATHER;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match self.events.recv_timeout(left) {
                Ok(Signal::Event(event)) => take(changed, event),
                Ok(Signal::Stop) => {
                    self.is_stopped = true;
                    return;
                }
                Err(_) => return,
            }
        }
    }
}

/// Adds an event to what changed.
fn take(changed: &mut Changed, event: notify::Result<notify::Event>) {
    match event {
        Ok(event) if event.need_rescan() => *changed = Changed::Anything,
        // Opening, reading and closing a file do not change it.
        Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
        Ok(event) => {
            if let Changed::Paths(paths) = changed {
                paths.extend(event.paths);
            }
        }
        Err(_) => *changed = Changed::Anything,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_that_grows_is_named_and_a_root_that_appears_is_anything() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        let (there, later) = (folder.join("there"), folder.join("later"));
        fs::create_dir(&there).unwrap();
        let signals = Signals::new();
        let stopper = signals.stopper();
        let mut watch = Watch::start([there.as_path(), later.as_path()].into_iter(), signals);
        assert_eq!(watch.trouble(), None);
        fs::write(there.join("a.jsonl"), "x").unwrap();
        assert_eq!(watch.next(), Changed::Paths([there.join("a.jsonl")].into()));
        fs::create_dir(&later).unwrap();
        assert_eq!(watch.next(), Changed::Anything);
        fs::write(later.join("b.jsonl"), "x").unwrap();
        assert_eq!(watch.next(), Changed::Paths([later.join("b.jsonl")].into()));
        stopper.stop();
        assert_eq!([watch.next(), watch.next()], [Changed::Stop, Changed::Stop]);
    }

    #[test]
    fn what_gets_lost_means_anything() {
        let mut changed = Changed::Paths(BTreeSet::new());
        take(&mut changed, Err(notify::Error::generic("overflow")));
        assert_eq!(changed, Changed::Anything);
    }
}
