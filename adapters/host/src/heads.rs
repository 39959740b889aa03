//! Remembered heads: the newest signed head of each feed that this host has seen in a ledger. What lets `verify`
//! name a cut at a batch boundary, and an ingest notice a ledger restored from a backup. Also keeps evidence of forks.

use crate::files::{create_folder, read, replace};
use burnlog_log::{BatchHead, Error, ErrorKind, Result, WriterId};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The remembered heads of one ledger. Nothing is written before [`RememberedHeads::save`].
#[derive(Debug)]
pub struct RememberedHeads {
    path: PathBuf,
    heads: BTreeMap<WriterId, BatchHead>,
    changed: bool,
}

impl RememberedHeads {
    /// Loads the file; empty where there is none. `Corrupt` with the line for what is not a head.
    pub fn load(path: &Path) -> Result<Self> {
        let mut heads = BTreeMap::new();
        let bytes = read(path)?.unwrap_or_default();
        for (number, line) in
            bytes.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty())
        {
            let head: BatchHead = serde_json::from_slice(line).map_err(|error| {
                let message = "not a batch head; move the file away to forget what this host remembers";
                Error::new(ErrorKind::Corrupt, "read remembered heads", message)
                    .at(format_args!("{}:{}", path.display(), number + 1))
                    .caused_by(error)
            })?;
            heads.insert(head.feed, head);
        }
        Ok(Self { path: path.to_owned(), heads, changed: false })
    }

    /// Returns what is remembered of a feed.
    pub fn get(&self, feed: &WriterId) -> Option<&BatchHead> {
        self.heads.get(feed)
    }

    /// Returns all of them, by feed.
    pub fn all(&self) -> Vec<BatchHead> {
        self.heads.values().copied().collect()
    }

    /// Remembers a head, if it is further than the one remembered.
    pub fn remember(&mut self, head: &BatchHead) {
        let known = self.heads.get(&head.feed).map_or(0, |known| known.size);
        if head.size > known {
            self.heads.insert(head.feed, *head);
            self.changed = true;
        }
    }

    /// Writes the file, if something changed.
    pub fn save(&mut self) -> Result<()> {
        if !self.changed {
            return Ok(());
        }
        let mut text = Vec::new();
        for head in self.heads.values() {
            serde_json::to_writer(&mut text, head).expect("a head is plain data");
            text.push(b'\n');
        }
        replace(&self.path, &text, false)?;
        self.changed = false;
        Ok(())
    }
}

/// Keeps two heads that contradict each other; returns the file.
pub(crate) fn keep_evidence(folder: &Path, ours: &BatchHead, theirs: Option<&BatchHead>) -> Result<PathBuf> {
    create_folder(folder)?;
    let text = serde_json::json!({ "ours": ours, "theirs": theirs });
    let path = folder.join(format!("fork-{}-{}.json", &ours.feed.to_string()[8..24], ours.size));
    replace(&path, format!("{text}\n").as_bytes(), true)?;
    Ok(path)
}

impl crate::LedgerState {
    /// Keeps evidence of a fork: the head that this host signed and the one that the ledger shows.
    pub fn keep_evidence(&self, ours: &BatchHead, theirs: Option<&BatchHead>) -> Result<PathBuf> {
        keep_evidence(&self.evidence(), ours, theirs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burnlog_log::{Frontier, Timestamp, WriterKey, leaf};

    fn head(number: u8, size: u64) -> BatchHead {
        let mut frontier = Frontier::default();
        frontier.extend((0..size).map(|n| leaf(&n.to_le_bytes())));
        WriterKey::from_secret([number; 32]).sign_head(&frontier, Timestamp::from_micros(5))
    }

    #[test]
    fn the_furthest_head_of_each_feed_is_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("heads.jsonl");
        let mut heads = RememberedHeads::load(&path).unwrap();
        for (number, size) in [(1, 3), (2, 1), (1, 2), (1, 5)] {
            heads.remember(&head(number, size));
        }
        heads.save().unwrap();
        let again = RememberedHeads::load(&path).unwrap();
        assert_eq!(again.all().len(), 2);
        assert_eq!(again.get(&head(1, 1).feed), Some(&head(1, 5)));
        std::fs::write(&path, "{\"feed\":1}\n").unwrap();
        assert_eq!(RememberedHeads::load(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn evidence_holds_both_heads() {
        let folder = tempfile::tempdir().unwrap();
        let path = keep_evidence(&folder.path().join("evidence"), &head(1, 3), Some(&head(1, 4))).unwrap();
        let text: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let ours: BatchHead = serde_json::from_value(text["ours"].clone()).unwrap();
        ours.verify().unwrap();
        assert_eq!(text["theirs"]["size"], 4);
    }
}
