//! Writing the index: the tail becomes a run, runs are merged, the manifest is replaced. Without the ledger's lock, or on a
//! folder that is only read, the same happens in memory.

use crate::files::{Access, io_error};
use crate::index::{Failure, Manifest, Run, Site, from_rows, merge, persist};
use crate::options::Durability;
use crate::refresh::tail_crcs;
use crate::segment::{Form, Part};
use crate::store::{State, Store};
use burnlog_log::{Result, failpoint};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

/// A run is merged with the one before it unless that has more than so many times its rows.
const MERGE_RATIO: u64 = 3;
/// From so many bytes of active segments that no run covers, closing the ledger writes one.
const UNCOVERED_BYTES_MAX: u64 = 128 << 10;

type Outcome<T> = std::result::Result<T, Failure>;

impl Store {
    /// Whether what no run covers would make the next opening slow.
    pub(crate) fn is_tail_large(state: &State) -> bool {
        let active = state.segments.iter().filter(|segment| segment.form == Form::Active);
        let uncovered: u64 =
            active.map(|segment| segment.known.bytes.saturating_sub(segment.covered.bytes)).sum();
        uncovered > UNCOVERED_BYTES_MAX || state.index.runs.iter().any(|run| !run.is_file())
    }

    /// Turns the durable part of the tail into a run and merges runs of like size.
    pub(crate) fn flush(&self, state: &mut State) -> Outcome<()> {
        let folder = self.folder.join("index");
        let mut may_write = !self.options.read_only && state.lock_is_held;
        // What the index on disk covers must be durable, or a crash would leave batches that only the index has.
        if may_write && let Err(error) = self.sync_covered(state) {
            state.note("index-not-written", "index/".to_owned(), error.to_string());
            may_write = false;
        }
        let site = Site { files: self.files(), folder: may_write.then_some(&*folder), ledger: self.ledger };
        let in_memory = Site { folder: None, ..site };
        let durable = state.index.tail.durable();
        if durable.rows > 0 || durable.batches > 0 {
            let rows = state.index.tail.sorted();
            // One that is merged at once is never read from a file.
            let last = state.index.runs.last().map(|run| run.rows::<crate::index::AddressRow>());
            let is_merged = last.is_some_and(|last| last <= MERGE_RATIO * rows.0.len() as u64);
            let run = match from_rows(if is_merged { in_memory } else { site }, &rows) {
                Err(Failure::Error(error)) if may_write => {
                    // Nothing depends on the file: the index can be made again.
                    state.note("index-not-written", "index/".to_owned(), error.to_string());
                    from_rows(in_memory, &rows)?
                }
                result => result?,
            };
            state.index.runs.push(Arc::new(run));
            state.index.tail.forget_durable();
        }
        self.cover(state)?;
        while let [.., one, two] = &state.index.runs[..] {
            if one.rows::<crate::index::AddressRow>() > MERGE_RATIO * two.rows::<crate::index::AddressRow>() {
                break;
            }
            let merged = match merge(site, one, two) {
                Err(Failure::Error(_)) if may_write => merge(in_memory, one, two)?,
                result => result?,
            };
            state.index.runs.truncate(state.index.runs.len() - 2);
            state.index.runs.push(Arc::new(merged));
        }
        for run in &state.index.runs {
            run.release();
        }
        if may_write && let Err(error) = self.write_manifest(state, site) {
            state.note("index-not-written", "index/".to_owned(), error.to_string());
        }
        Ok(())
    }

    /// Syncs what the index is about to cover, of this process and of others that do not sync.
    fn sync_covered(&self, state: &mut State) -> Result<()> {
        if self.options.durability == Durability::Os {
            Self::sync_own(state)?;
        }
        let others: BTreeSet<u32> = (0..state.segments.len() as u32).collect();
        self.lean_on(state, &others)?;
        self.sync_leaned_on(state)
    }

    /// Merges all runs into one. The caller holds the lock.
    pub(crate) fn merge_all(&self, state: &mut State) -> Outcome<()> {
        let folder = self.folder.join("index");
        let site = Site { files: self.files(), folder: Some(&folder), ledger: self.ledger };
        while let [.., one, two] = &state.index.runs[..] {
            let merged = merge(site, one, two)?;
            state.index.runs.truncate(state.index.runs.len() - 2);
            state.index.runs.push(Arc::new(merged));
        }
        Ok(self.write_manifest(state, site)?)
    }

    /// Declares everything known covered by runs.
    fn cover(&self, state: &mut State) -> Result<()> {
        for segment in &mut state.segments {
            if segment.form == Form::Active && segment.covered.bytes != segment.known.bytes {
                let path = Part::Active.path(&self.folder, &segment.name);
                let crcs = self
                    .files()
                    .open(&path, Access::Read)
                    .and_then(|file| tail_crcs(&*file, segment.known.bytes));
                segment.tail_crcs = match crcs {
                    Ok(crcs) => crcs,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => [0; 2],
                    Err(error) => return Err(io_error("write index", path.display(), error)),
                };
            }
            segment.covered = segment.known;
        }
        Ok(())
    }

    fn write_manifest(&self, state: &mut State, site: Site<'_>) -> Result<()> {
        for run in &mut state.index.runs {
            if !run.is_file() {
                *run = Arc::new(persist(site, run)?);
            }
        }
        failpoint("jsonl-index-written");
        let folder = self.folder.join("index");
        let failed = |error| io_error("write index", folder.display(), error);
        let mut stamp = [0; 8];
        self.files().random(&mut stamp).map_err(failed)?;
        let stamp = u64::from_le_bytes(stamp);
        let segments = state.segments.iter().map(crate::segment::Segment::to_covered).collect();
        let runs: Vec<String> = state.index.runs.iter().map(|run| Run::name(run).to_owned()).collect();
        let manifest = Manifest::new(self.ledger, stamp, segments, runs);
        manifest.write(self.files(), &folder).map_err(failed)?;
        failpoint("jsonl-manifest-renamed");
        (state.manifest_stamp, state.index_is_stale) = (Some(stamp), false);
        state.changes = Some(self.lock.count()?);
        // Runs that no manifest names are leftovers; processes that have them mapped go on reading them.
        for listed in self.files().list(&folder).map_err(failed)? {
            let is_run = listed.name.strip_suffix(".run").is_some() && !listed.is_folder;
            if is_run && !manifest.runs.contains(&listed.name) {
                self.files().remove(&folder.join(&listed.name)).map_err(failed)?;
            }
        }
        Ok(())
    }
}
