//! Progress on standard error, for work that takes more than half a second, when somebody is watching.

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SILENT_FIRST: Duration = Duration::from_millis(500);

/// A bar that appears late and never in a pipe.
pub(crate) struct Progress {
    start: Instant,
    verb: &'static str,
    wanted: bool,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Starts the clock. `verb` is what is being done: `reading`, `folding`.
    pub(crate) fn start(verb: &'static str, quiet: bool) -> Self {
        Self { start: Instant::now(), verb, wanted: !quiet && stderr().is_terminal(), bar: None }
    }

    /// Shows where the work stands: bytes done of a total (0 if unknown), and items.
    pub(crate) fn show(&mut self, bytes: u64, bytes_total: u64, items: u64, noun: &str) {
        if !self.wanted || (self.bar.is_none() && self.start.elapsed() < SILENT_FIRST) {
            return;
        }
        let verb = self.verb;
        let bar = self.bar.get_or_insert_with(|| bar(verb));
        bar.set_length(bytes_total.max(bytes).max(1));
        bar.set_position(bytes);
        bar.set_message(format!("{}  {} {noun}", HumanBytes(bytes), HumanCount(items)));
    }

    /// Shows where work stands that is counted in items alone.
    pub(crate) fn show_items(&mut self, items: u64, items_total: u64, noun: &str) {
        if !self.wanted || (self.bar.is_none() && self.start.elapsed() < SILENT_FIRST) {
            return;
        }
        let verb = self.verb;
        let bar = self.bar.get_or_insert_with(|| bar(verb));
        bar.set_length(items_total.max(items).max(1));
        bar.set_position(items);
        bar.set_message(format!("{} {noun}", HumanCount(items)));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

fn bar(verb: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:30} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(1).with_style(style).with_prefix(verb)
}

/// A sign of life for work that cannot say how far it is; goes away when dropped.
pub(crate) struct Waiting {
    done: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Waiting {
    /// Starts the clock. `verb` is what is being done: `verifying`.
    pub(crate) fn start(verb: &'static str, quiet: bool) -> Self {
        if quiet || !stderr().is_terminal() {
            return Self { done: None, thread: None };
        }
        let (done, wait) = channel::<()>();
        let thread = std::thread::spawn(move || {
            if wait.recv_timeout(SILENT_FIRST) == Err(RecvTimeoutError::Timeout) {
                let spinner = ProgressBar::new_spinner().with_message(verb);
                spinner.enable_steady_tick(Duration::from_millis(120));
                // Ends when the other side is dropped.
                let _ = wait.recv();
                spinner.finish_and_clear();
            }
        });
        Self { done: Some(done), thread: Some(thread) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.done.take());
        if let Some(thread) = self.thread.take() {
            // A spinner that panicked is no reason to fail.
            let _ = thread.join();
        }
    }
}
