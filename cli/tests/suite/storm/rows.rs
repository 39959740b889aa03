//! The rows in a real SQLite file. What SQLite itself does in a crash is its own business; what it promises is taken at its word: after one the file is
//! as some commit left it, the log of changes (`-wal`) being cut anywhere, or it is damaged and made again.

use super::machine::{Storm, caught_up, draw, open};
use super::{after_ingest, disturb_sessions, is_off, undisturbed};
use crate::laws::{dump_of, dump_text};
use burnlog_jsonl::{Durability, Fault};
use burnlog_log::ErrorKind;
use burnlog_sqlite::{SqliteOptions, SqliteProjections};
use std::fs;
use std::path::{Path, PathBuf};

/// What a file of rows and its log of changes held after a commit.
#[derive(Debug, Clone, Default)]
struct Left {
    rows: Vec<u8>,
    log: Vec<u8>,
}

fn log_of(path: &Path) -> PathBuf {
    path.with_extension("sqlite-wal")
}

impl Left {
    fn at(path: &Path) -> Self {
        Self { rows: fs::read(path).unwrap(), log: fs::read(log_of(path)).unwrap_or_default() }
    }

    fn put(&self, path: &Path) {
        fs::write(path, &self.rows).unwrap();
        fs::write(log_of(path), &self.log).unwrap();
    }
}

/// Opens rows as the program does: damaged ones are thrown away.
fn open_or_anew(path: &Path, is_damaged: bool) -> SqliteProjections {
    let opened = SqliteProjections::open(path, &SqliteOptions::default());
    if !is_damaged {
        return opened.unwrap();
    }
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::Corrupt);
    fs::remove_file(path).unwrap();
    fs::remove_file(log_of(path)).ok();
    SqliteProjections::open(path, &SqliteOptions::default()).unwrap()
}

/// Crashes an ingest somewhere and goes on with what that leaves of its rows.
fn crash(mut storm: Storm, at: u64, seed: u64, expected: &str, what: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before.sqlite"), folder.path().join("after.sqlite"));
    let mut store = SqliteProjections::open(&before, &SqliteOptions::default()).unwrap();
    caught_up(&mut store, &open(&storm.system.copy(), Durability::Batch).unwrap());
    let mut left = vec![Left::at(&before)];
    let fallen_back = storm.system.copy();
    storm.system.set_fault(Some(Fault::Crash(at)));
    if let Err(error) = storm.ingest_into(&mut store, &mut || left.push(Left::at(&before))) {
        assert!(is_off(&error), "{what}: {error}");
    }
    left.push(Left::at(&before));
    drop(store);
    storm.after_crash(seed);
    let mut disturbed = false;
    if storm.durability == Durability::Os {
        if seed.is_multiple_of(2) {
            // Nothing of it was on the disk, or the ledger was put back from a copy.
            storm.system = fallen_back;
        }
        storm.acknowledged.clear();
        disturbed = disturb_sessions(&storm, seed);
    }
    let mut left = left.swap_remove((draw(seed, 21) % left.len() as u64) as usize);
    if draw(seed, 22).is_multiple_of(3) {
        left.log.truncate((draw(seed, 23) % (left.log.len() as u64 + 1)) as usize);
    }
    let is_damaged = seed.is_multiple_of(5);
    if is_damaged {
        left.rows.get_mut(..16).unwrap().fill(0);
        left.log.clear();
    }
    left.put(&after);
    let mut store = open_or_anew(&after, is_damaged);
    storm
        .ingest_into(&mut store, &mut || ())
        .unwrap_or_else(|error| panic!("{what}: the next ingest: {error}"));
    let ledger = open(&storm.system, Durability::Batch).unwrap();
    storm.examine(&ledger, what);
    let dump = dump_text(&store);
    assert_eq!(dump, dump_of(&ledger), "{what}: kept up, and folded anew");
    assert!(disturbed || dump == expected, "{what}: another dump");
    storm.write_grown();
}

#[test]
fn rows_in_a_sqlite_file_are_made_up_for_whatever_a_crash_leaves_of_it() {
    for (durability, seeds) in [(Durability::Batch, 0..15), (Durability::Os, 100..140)] {
        let grown = Storm::grown(durability);
        let (_, before, expected) = undisturbed(grown.copy());
        let operations = after_ingest(grown.copy()).0 - before.0;
        for seed in seeds {
            let at = before.0 + 1 + draw(seed, 20) % operations;
            let what = format!("rows in SQLite, {durability:?}, crash at operation {at}, seed {seed}");
            crash(grown.copy(), at, seed, &expected, &what);
        }
    }
}
