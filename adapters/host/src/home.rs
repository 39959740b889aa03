//! Where things are under `RELAYBURN_HOME`.

use crate::files::{create_folder, replace};
use burnlog_log::{LedgerId, Result};
use std::path::{Path, PathBuf};

/// The folder that `RELAYBURN_HOME` names. Files of other programs in it are never touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// Names the folder; nothing is made.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self(folder.into())
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Returns where the default ledger is.
    pub fn ledger(&self) -> PathBuf {
        self.0.join("ledger")
    }

    /// Returns where the projections of a ledger without tables of its own are.
    pub fn projections(&self, ledger: LedgerId) -> PathBuf {
        self.0.join("projections").join(format!("{ledger}.sqlite"))
    }

    /// Returns where the search index of a ledger is, on this host whatever the backend; it may be deleted at any time.
    pub fn search(&self, ledger: LedgerId) -> PathBuf {
        self.0.join("projections").join(format!("{ledger}.search.sqlite"))
    }

    /// Returns where the configuration is.
    pub fn config(&self) -> PathBuf {
        self.0.join("host").join("config.json")
    }

    /// Returns where the user's own price table is, if there is one.
    pub fn prices(&self) -> PathBuf {
        self.0.join("host").join("prices.json")
    }

    /// Returns where the tokens of a server on this host are.
    pub fn tokens(&self) -> PathBuf {
        self.0.join("host").join("tokens.json")
    }

    /// Names the state that belongs to one ledger; nothing is made.
    pub fn ledger_state(&self, ledger: LedgerId) -> LedgerState {
        LedgerState(self.0.join("host").join(ledger.to_string()))
    }

    /// Writes a file of this host whole and durably, readable by its owner alone.
    pub fn keep_private(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        create_folder(&self.0.join("host"))?;
        replace(path, bytes, true)
    }

    /// Makes the folder of the projections.
    pub fn create_projections_folder(&self) -> Result<()> {
        create_folder(&self.0.join("projections"))
    }
}

/// The host-local state of one ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerState(PathBuf);

impl LedgerState {
    /// Makes the folder.
    pub fn create(&self) -> Result<()> {
        create_folder(&self.0)
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// Returns where the writer key is.
    pub fn key(&self) -> PathBuf {
        self.0.join("writer.key")
    }

    /// Returns where the cursors are.
    pub fn cursors(&self) -> PathBuf {
        self.0.join("cursors")
    }

    /// Returns where the remembered heads are.
    pub fn heads(&self) -> PathBuf {
        self.0.join("heads.jsonl")
    }

    /// Returns where evidence of forks is kept.
    pub fn evidence(&self) -> PathBuf {
        self.0.join("evidence")
    }

    /// Returns where it is kept what was pushed to which ledger.
    pub fn pushed(&self) -> PathBuf {
        self.0.join("pushed")
    }

    /// Returns the lock that one push holds.
    pub fn push_lock(&self) -> PathBuf {
        self.0.join("push.lock")
    }

    /// Returns the lock that one ingest holds.
    pub fn lock(&self) -> PathBuf {
        self.0.join("ingest.lock")
    }
}
