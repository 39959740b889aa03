//! The sessions that are measured: a generated set, kept below the build output by its parameters, or a folder that the user names.

use crate::count::list_session_files;
use crate::generate::{Group, Parameters, SHAPE, Truth, one_turn, write_set};
use crate::output::say;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A HOME folder and, where it is known, what is in it.
pub(crate) struct Set {
    pub(crate) home: PathBuf,
    pub(crate) days: Option<Vec<Group>>,
    pub(crate) bytes: u64,
    pub(crate) files: u64,
}

impl Set {
    /// The generated set with these parameters, made now unless it is there already, whole and unchanged.
    pub(crate) fn generated(workspace: &Workspace, parameters: &Parameters) -> Result<Self> {
        let Parameters { sessions, turns, content, seed, projects, fork_every, odd_every } = parameters;
        let name = format!("{SHAPE}-{sessions}-{turns}-{content}-{seed}-{projects}-{fork_every}-{odd_every}");
        let folder = workspace.target.join("bench").join(name);
        let (home, saved) = (folder.join("home"), folder.join("truth.json"));
        if let Some(truth) = read_truth(&saved) {
            let (files, bytes) = size(&home).unwrap_or_default();
            if (files, bytes) == (truth.files, truth.bytes) {
                return Ok(Self::of(home, truth));
            }
        }
        say(format!("generating {sessions} sessions below {}", folder.display()))?;
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("empty {}", folder.display()))?;
        }
        let truth = write_set(&home, parameters)?;
        fs::write(&saved, serde_json::to_vec_pretty(&truth)?)
            .with_context(|| format!("write {}", saved.display()))?;
        Ok(Self::of(home, truth))
    }

    fn of(home: PathBuf, truth: Truth) -> Self {
        Self { home, days: Some(truth.days), bytes: truth.bytes, files: truth.files }
    }

    /// A folder of the user's, about which only its size is known. Nothing is ever written there.
    pub(crate) fn named(home: &Path) -> Result<Self> {
        let home = home.canonicalize().with_context(|| format!("{}", home.display()))?;
        let (files, bytes) = size(&home)?;
        Ok(Self { home, days: None, bytes, files })
    }

    /// Lets one session of the generated set, the one at `position` of those that can, grow by a turn until the answer is
    /// dropped.
    pub(crate) fn grow(&self, position: usize, seed: u64) -> Result<Grown> {
        let mut files = Vec::new();
        list_session_files(&self.home.join(".claude/projects"), &mut files)?;
        let ends_whole = |path: &PathBuf| fs::read(path).is_ok_and(|bytes| bytes.ends_with(b"}\n"));
        let session = |path: &PathBuf| path.parent().is_some_and(|folder| !folder.ends_with("subagents"));
        let mut whole = files.into_iter().filter(session).filter(ends_whole);
        let path = whole.nth(position).context("a session that ends whole")?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = fs::metadata(&path)?.len();
        let (lines, truth) = one_turn(&stem, seed);
        let grown = Grown { path, bytes, days: truth.days };
        let mut file = OpenOptions::new().append(true).open(&grown.path)?;
        file.write_all(&lines).with_context(|| format!("append to {}", grown.path.display()))?;
        Ok(grown)
    }
}

/// A session file that is longer than it was; dropping it cuts the file back.
pub(crate) struct Grown {
    pub(crate) path: PathBuf,
    bytes: u64,
    /// What the new lines add.
    pub(crate) days: Vec<Group>,
}

impl Drop for Grown {
    fn drop(&mut self) {
        // A set that could not be cut back has another size than its truth and is made anew next time.
        let _ = OpenOptions::new().write(true).open(&self.path).and_then(|file| file.set_len(self.bytes));
    }
}

fn read_truth(path: &Path) -> Option<Truth> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// The number and total size of the session files in a HOME.
fn size(home: &Path) -> Result<(u64, u64)> {
    let mut files = Vec::new();
    list_session_files(&home.join(".claude/projects"), &mut files)?;
    let sizes = files.iter().map(|path| Ok(fs::metadata(path)?.len())).collect::<Result<Vec<u64>>>()?;
    Ok((files.len() as u64, sizes.iter().sum()))
}
