//! What an ingest tells: counts, failures, progress, notices. Words for people are the caller's.

use burnlog_log::Error;
use std::path::{Path, PathBuf};

/// A file or folder that could not be read. Everything else was.
#[derive(Debug)]
pub struct Failed {
    /// Where.
    pub path: PathBuf,
    /// What happened.
    pub error: Error,
}

/// What was counted. Records are lines and tails; a record in several parts counts once in `records`, and each of its
/// parts in `new`, `known` or `present`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Session files found.
    pub files: u64,
    /// Files that were not opened, because nothing about them had changed.
    pub unchanged: u64,
    /// Files left out by `include` and `exclude`.
    pub excluded: u64,
    /// Files that could not be read, or not to the end.
    pub failed: u64,
    /// Records read.
    pub records: u64,
    /// Events that the ledger did not have.
    pub new: u64,
    /// Events that the ledger had from another feed.
    pub known: u64,
    /// Events that this feed had.
    pub present: u64,
    /// Unterminated last records that wait for their rest.
    pub pending_records: u64,
    /// Their bytes.
    pub pending_bytes: u64,
    /// Records read that are neither blank nor one JSON object.
    pub unreadable: u64,
    /// Bytes of the records read, newlines included.
    pub bytes_in: u64,
    /// Files whose already recorded part had changed.
    pub rewritten: u64,
    /// Streams closed: their file is gone, or the caller said that they are final.
    pub closed: u64,
    /// Extents that the feed did not have.
    pub extents: u64,
}

impl Counts {
    /// Adds what another ingest, source or file counted.
    pub fn add(&mut self, other: &Self) {
        let Self {
            files,
            unchanged,
            excluded,
            failed,
            records,
            new,
            known,
            present,
            pending_records,
            pending_bytes,
            unreadable,
            bytes_in,
            rewritten,
            closed,
            extents,
        } = other;
        self.files += files;
        self.unchanged += unchanged;
        self.excluded += excluded;
        self.failed += failed;
        self.records += records;
        self.new += new;
        self.known += known;
        self.present += present;
        self.pending_records += pending_records;
        self.pending_bytes += pending_bytes;
        self.unreadable += unreadable;
        self.bytes_in += bytes_in;
        self.rewritten += rewritten;
        self.closed += closed;
        self.extents += extents;
    }
}

/// The result of an ingest.
#[derive(Debug, Default)]
pub struct Report {
    /// What each source counted, in the order of reading.
    pub sources: Vec<(&'static str, Counts)>,
    /// Files and folders that could not be read, those of the walk included.
    pub failed: Vec<Failed>,
}

impl Report {
    /// Returns the counts of all sources together.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.sources.iter().for_each(|(_, counts)| total.add(counts));
        total
    }

    pub(crate) fn of(&mut self, source: &'static str) -> &mut Counts {
        let at = self.sources.iter().position(|(name, _)| *name == source).unwrap_or_else(|| {
            self.sources.push((source, Counts::default()));
            self.sources.len() - 1
        });
        &mut self.sources[at].1
    }
}

/// How far an ingest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Files done, unchanged ones included.
    pub files_done: u64,
    /// Files found.
    pub files_total: u64,
    /// Bytes passed: read, or before the point from which a file is read on.
    pub bytes_done: u64,
    /// Bytes of all files when they were found; files that grow meanwhile exceed it.
    pub bytes_total: u64,
}

/// Something that a person may want to know, while it happens.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// The recorded part of the file has changed: what it was is in the log, and it was read again from its start.
    Rewritten {
        /// The file.
        path: &'a Path,
        /// Its stream.
        stream: &'a str,
    },
    /// The stream was closed.
    Closed {
        /// The file, which may be gone.
        path: &'a Path,
        /// Its stream.
        stream: &'a str,
    },
    /// The file is gone, and with it an unterminated last record that was too long to keep.
    PendingLost {
        /// The file.
        path: &'a Path,
        /// Its stream.
        stream: &'a str,
        /// The length of what is lost.
        bytes: u64,
    },
    /// The file could not be read, or not to the end.
    Failed(&'a Failed),
    /// Everything was read and recorded, and the file of cursors could not be made smaller.
    NotSettled(&'a Error),
}

/// Watches an ingest.
pub trait Observer {
    /// Hears how far it is: after each file and each batch.
    fn progress(&mut self, progress: Progress);
    /// Hears what a person may want to know.
    fn notice(&mut self, notice: Notice<'_>);
}

/// Nobody watches.
impl Observer for () {
    fn progress(&mut self, _: Progress) {}
    fn notice(&mut self, _: Notice<'_>) {}
}
