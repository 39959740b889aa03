//! Progress on standard error, for work that takes more than half a second, when somebody is watching.

use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};
use std::io::{IsTerminal, stderr};
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
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{prefix} {bar:30} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(bytes_total.max(1)).with_style(style).with_prefix(verb)
        });
        bar.set_length(bytes_total.max(bytes).max(1));
        bar.set_position(bytes);
        bar.set_message(format!("{}  {} {noun}", HumanBytes(bytes), HumanCount(items)));
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
