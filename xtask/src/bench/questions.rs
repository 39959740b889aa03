//! What is asked of an archive: lists, sums, one session, words.

use super::{Bench, Plan};
use crate::totals::Archive;
use anyhow::{Context, Result};

pub(super) const SESSIONS: Plan =
    Plan { name: "sessions", command: "sessions --json", limit: &["sqlite select"] };
pub(super) const TURNS: Plan = Plan { name: "turns", command: "turns --json", limit: &["sqlite select"] };
const USAGE: Plan = Plan { name: "usage", command: "usage --cost --json", limit: &[] };
/// The session with the most calls.
const SHOW: Plan = Plan { name: "show", command: "show SESSION --format text, the largest", limit: &[] };
const SEARCH_FIRST: Plan =
    Plan { name: "search, first", command: "search, which makes the index", limit: &[] };
const SEARCH: Plan =
    Plan { name: "search", command: "search of one to three words, medians over all of them", limit: &[] };

/// Words of programmers, in generated and in real sessions.
const WORDS: [&str; 9] = [
    "merge",
    "stale handle",
    "queue",
    "commit early",
    "parser",
    "close socket",
    "warning",
    "\"every branch\"",
    "fixture newline then",
];

impl Bench {
    /// Asks everything once, and weighs it.
    pub(super) fn questions(&mut self, archive: &Archive) -> Result<()> {
        self.weigh(SESSIONS, archive, &["sessions", "--json"])?;
        self.weigh(TURNS, archive, &["turns", "--json"])?;
        self.weigh(USAGE, archive, &["usage", "--cost", "--json"])?;
        let session = largest_session(archive)?;
        self.weigh(SHOW, archive, &["show", &session, "--format", "text"])?;
        self.weigh(SEARCH_FIRST, archive, &["search", "walk"])?;
        for words in WORDS {
            self.weigh(SEARCH, archive, &["search", words])?;
        }
        Ok(())
    }
}

/// Returns the id of the session with the most calls.
fn largest_session(archive: &Archive) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Line {
        session: String,
        calls: u64,
    }
    let sessions = archive.output(&["sessions", "--json"])?;
    let lines = sessions.lines().map(serde_json::from_str).collect::<serde_json::Result<Vec<Line>>>();
    let largest = lines.context("sessions --json")?.into_iter().max_by_key(|line| line.calls);
    Ok(largest.context("there is no session")?.session)
}
