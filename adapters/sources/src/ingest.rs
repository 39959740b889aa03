//! The ingest: closes what is gone, reads what changed, closes what is final. Decides for each file whether it
//! is read; from where is in `reading`, what goes out in `records`, how in `outbox`.

use crate::below::is_below;
use crate::cursor::{Cursor, FeedPoint, StoredCursor, StoredHead};
use crate::cursor_file::CursorFile;
use crate::discover::{Plan, PlannedFile};
use crate::files::{Files, OsFiles, io_error};
use crate::filter::Filter;
use crate::outbox::{Again, Outbox};
use crate::owners::Owners;
use crate::reading::Trouble;
use crate::records::{push_extent, push_tail};
use crate::relayburn;
use crate::report::{Failed, Notice, Observer, Report};
use crate::run::{Role, Run, Start};
use crate::source::Shape;
use burnlog_log::limits::PAYLOAD_BYTES_MAX;
use burnlog_log::{Batch, Outcome, Result};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

/// How to ingest.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools, reason = "switches that do not depend on each other")]
pub struct Options {
    /// Hash every file up to its cursor, changed or not.
    pub recheck: bool,
    /// Nothing will be added to these files: record unterminated last records as they are, and the extents.
    pub close: bool,
    /// Read and count; send and save nothing.
    pub dry_run: bool,
    /// Which projects are read.
    pub filter: Filter,
    /// Whether records that are not JSON objects are counted; costs a pass over every new record.
    pub check_records: bool,
    /// About how many bytes go out together.
    pub batch_bytes: usize,
    /// The longest record in one event; at most [`PAYLOAD_BYTES_MAX`], which is also what all writers must use for
    /// their parts to be the same.
    pub record_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            recheck: false,
            close: false,
            dry_run: false,
            filter: Filter::default(),
            check_records: true,
            batch_bytes: 2 << 20,
            record_bytes_max: PAYLOAD_BYTES_MAX,
        }
    }
}

/// The answer to a batch.
#[derive(Debug, Clone)]
pub struct Acknowledged {
    /// What became of each event, in order.
    pub outcomes: Vec<Outcome>,
    /// The feed after the batch.
    pub point: FeedPoint,
}

/// Takes a batch: appends it, durably before it returns, and folds it if there is something to fold into.
pub type Sink<'a> = dyn FnMut(&Batch) -> Result<Acknowledged> + 'a;

/// Reads what is new in the planned files, and closes the streams whose files are gone.
///
/// Cursors are saved for what the sink acknowledged and nothing else. A file that cannot be read is counted and the
/// rest goes on. Errors are those of the sink and of saving cursors; what was acknowledged before them stays.
/// Memory is bounded by the longest record up to the limit and one batch.
pub fn ingest(
    plan: Plan,
    cursors: &mut CursorFile,
    options: &Options,
    sink: &mut Sink<'_>,
    observer: &mut dyn Observer,
) -> Result<Report> {
    ingest_in(&OsFiles, plan, cursors, options, sink, observer)
}

pub(crate) fn ingest_in(
    files: &dyn Files,
    mut plan: Plan,
    cursors: &mut CursorFile,
    options: &Options,
    sink: &mut Sink<'_>,
    observer: &mut dyn Observer,
) -> Result<Report> {
    let options = &Options {
        record_bytes_max: options.record_bytes_max.clamp(1, PAYLOAD_BYTES_MAX),
        ..options.clone()
    };
    let mut out = Outbox::new(options, cursors, sink, observer);
    out.progress.files_total = plan.files.len() as u64;
    out.progress.bytes_total = plan.files.iter().map(|file| file.stat.size).sum();
    let failed = std::mem::take(&mut plan.failed);
    let mut engine = Engine {
        files,
        plan: &plan,
        out,
        buffer: Vec::new(),
        owners: None,
        projects: HashMap::new(),
        closable: Vec::new(),
    };
    for failed in failed {
        engine.out.failed_walk(failed);
    }
    for source in crate::source::names() {
        engine.out.report.of(source);
    }
    engine.close_gone()?;
    for index in 0..plan.files.len() {
        engine.file(index, None)?;
    }
    engine.out.flush()?;
    while !engine.out.again.is_empty() {
        for again in std::mem::take(&mut engine.out.again) {
            engine.file(again.index, Some(again))?;
        }
        engine.out.flush()?;
    }
    if options.close && !options.dry_run {
        engine.close_planned()?;
    }
    engine.out.flush()?;
    if !options.dry_run {
        // What was saved is saved: without a new base the file is longer, and the next ingest tries again.
        if let Err(error) = engine.out.cursors.settle() {
            engine.out.notice(Notice::NotSettled(&error));
        }
    }
    Ok(engine.out.report)
}

pub(crate) struct Engine<'a> {
    pub(crate) files: &'a dyn Files,
    pub(crate) plan: &'a Plan,
    pub(crate) out: Outbox<'a>,
    pub(crate) buffer: Vec<u8>,
    /// Made when it is first asked for.
    owners: Option<Owners>,
    /// The working folder of each stream, for the streams that do not name one; kept only where a filter asks.
    pub(crate) projects: HashMap<String, String>,
    /// Planned files that were read to their end, now or before.
    closable: Vec<usize>,
}

impl Engine<'_> {
    /// Reads one planned file if it must be read. Errors of the file are counted, errors of the sink returned.
    fn file(&mut self, index: usize, again: Option<Again>) -> Result<()> {
        let plan = self.plan;
        let file = &plan.files[index];
        let first = again.is_none();
        if first {
            self.out.report.of(file.source.name()).files += 1;
            if self.is_done(file) {
                self.closable.push(index);
                self.out.passed(file.stat.size);
                return Ok(());
            }
        }
        let result = match file.identity.shape {
            Shape::Rows if file.source.name() == relayburn::NAME => self.import(index),
            Shape::Rows => self.read_database(index),
            Shape::Lines | Shape::Object => self.read(index, again),
        };
        match result {
            Ok(true) => self.closable.push(index),
            Ok(false) => {}
            Err(Trouble::Stop(error)) => return Err(error),
            Err(Trouble::File(operation, error)) => {
                let error = io_error(operation, &file.path, error);
                self.out.failed(file.source.name(), Failed { path: file.path.clone(), error });
            }
        }
        if first {
            self.out.passed(file.stat.size);
        }
        Ok(())
    }

    /// Counts a file that need not be opened: nothing changed, or left out by what the cursor remembers.
    fn is_done(&mut self, file: &PlannedFile) -> bool {
        let options = self.out.options;
        let Some(cursor) = self.out.cursors.look(&file.path) else { return false };
        let filtered = !options.filter.admits_all();
        if filtered && cursor.project.is_some() {
            let admitted = options.filter.admits(cursor.project, cursor.folder);
            let (stream, project) =
                (cursor.head.stream.to_owned(), cursor.project.map(str::to_owned).unwrap_or_default());
            self.projects.insert(stream, project);
            if !admitted {
                self.out.report.of(file.source.name()).excluded += 1;
                return true;
            }
        }
        let unchanged = cursor.stat == Some(file.stat) && !options.recheck;
        if !unchanged || (filtered && cursor.project.is_none()) {
            return false;
        }
        let (pending, closed, choose_all) = (cursor.head.pending_bytes, cursor.closed, cursor.choose_all);
        if options.close && !closed && !choose_all {
            // Its extent must name its records once another file has the stream.
            let stream = cursor.head.stream.to_owned();
            if self.is_shared(file, &stream) {
                return false;
            }
        }
        let counts = self.out.report.of(file.source.name());
        counts.unchanged += 1;
        if pending > 0 && !closed && !options.close {
            counts.pending_records += 1;
            counts.pending_bytes += pending;
        }
        counts.closed += u64::from(options.close && options.dry_run && !closed);
        true
    }

    /// Returns whether another file has or had the same stream.
    pub(crate) fn is_shared(&mut self, file: &PlannedFile, stream: &str) -> bool {
        // One more turn of one session looks at no other.
        let is_alone = self.owners.is_none() && self.plan.files.len() == 1;
        if is_alone && self.out.cursors.is_only_file_of(file.source.name(), stream, &file.path) {
            return false;
        }
        let owners = self.owners.get_or_insert_with(|| Owners::new(self.plan, self.out.cursors));
        owners.add(file.source.name(), stream, &file.path)
    }

    /// Closes the streams of files that were below the planned roots and are not there any more.
    fn close_gone(&mut self) -> Result<()> {
        // Not by `Path`, which is taken apart to be hashed.
        let planned: HashSet<&OsStr> = self.plan.files.iter().map(|file| file.path.as_os_str()).collect();
        let below_root = |head: &StoredHead<'_>, path: &Path| {
            self.plan.roots.iter().any(|(source, root)| head.source == *source && is_below(path, root))
        };
        let is_gone = |path: &Path| {
            let gone = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
            self.files.stat(path).is_err_and(|error| gone.contains(&error.kind()))
        };
        let (cursors, filter) = (&*self.out.cursors, &self.out.options.filter);
        let is_open = |path: &Path| {
            let is_open = |cursor: &StoredCursor<'_>| {
                below_root(&cursor.head, path)
                    && !cursor.closed
                    && filter.admits(cursor.project, cursor.folder)
            };
            cursors.look(path).as_ref().is_some_and(is_open)
        };
        let is_left = |path: &&Path| !planned.contains(path.as_os_str()) && is_open(path) && is_gone(path);
        // Of an ingest of few files no other cursor is looked at.
        let mut gone: Vec<PathBuf> = if let Some(only) = &self.plan.only {
            only.iter().map(PathBuf::as_path).filter(is_left).map(Path::to_path_buf).collect()
        } else {
            let below = self.plan.roots.iter().flat_map(|(_, root)| cursors.paths_below(root));
            below.filter(is_left).map(Path::to_path_buf).collect()
        };
        gone.sort_unstable();
        // One root can be below another.
        gone.dedup();
        for path in gone {
            let Some(cursor) = self.out.cursors.get(&path) else { continue };
            let Some(source) = crate::source::names().find(|name| *name == cursor.source) else { continue };
            let lost = if cursor.pending.is_empty() { cursor.pending_bytes } else { 0 };
            if lost > 0 {
                self.out.notice(Notice::PendingLost { path: &path, stream: &cursor.stream, bytes: lost });
            }
            let mut state = cursor.clone();
            let pending = std::mem::take(&mut state.pending);
            self.begin_closing(source, path, cursor);
            push_tail(&mut self.out, &mut state, &pending)?;
            self.end_closing(&state)?;
        }
        Ok(())
    }

    /// Closes the streams of all files that were read to their end. All of their records are acknowledged by now.
    fn close_planned(&mut self) -> Result<()> {
        for index in std::mem::take(&mut self.closable) {
            let file = &self.plan.files[index];
            let Some(cursor) = self.out.cursors.get(&file.path).filter(|cursor| !cursor.closed) else {
                continue;
            };
            let mut state = cursor.clone();
            let pending = std::mem::take(&mut state.pending);
            let is_kept = cursor.pending_bytes == pending.len() as u64;
            self.begin_closing(file.source.name(), file.path.clone(), cursor);
            if is_kept {
                push_tail(&mut self.out, &mut state, &pending)?;
                self.end_closing(&state)?;
                continue;
            }
            match self.read_tail(index) {
                Ok((hashes, bytes)) => {
                    state.add_tail(&hashes, bytes);
                    self.end_closing(&state)?;
                }
                Err(Trouble::Stop(error)) => return Err(error),
                Err(Trouble::File(operation, error)) => {
                    self.out.finish()?;
                    let error = io_error(operation, &file.path, error);
                    self.out.failed(file.source.name(), Failed { path: file.path.clone(), error });
                }
            }
        }
        Ok(())
    }

    fn begin_closing(&mut self, source: &'static str, path: PathBuf, cursor: Cursor) {
        self.out.begin(Run::new(source, path, Start::Closing, cursor));
    }

    /// Records the extent of `state`, which is the current run's cursor with its tail.
    fn end_closing(&mut self, state: &Cursor) -> Result<()> {
        let is_something = state.records > 0;
        if is_something {
            push_extent(&mut self.out, state, Role::Extent)?;
        }
        let run = self.out.current();
        run.cursor.closed = true;
        if state.records > run.cursor.records && run.cursor.records < run.cursor.seen {
            run.cursor.add_ambiguous(run.cursor.records);
        }
        run.cursor.seen = run.cursor.seen.max(state.records);
        run.counts.closed += u64::from(is_something);
        if is_something {
            let (path, stream) = (run.path.clone(), run.cursor.stream.clone());
            self.out.notice(Notice::Closed { path: &path, stream: &stream });
        }
        self.out.finish()
    }
}
