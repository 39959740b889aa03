//! What goes out: events gathered into batches over file borders, their outcomes taken back to the files they came
//! from, and cursors saved for what was acknowledged and nothing more.

use crate::cursor::Cursor;
use crate::cursor_file::CursorFile;
use crate::ingest::{Options, Sink};
use crate::json;
use crate::report::{Counts, Failed, Notice, Observer, Progress, Report};
use crate::run::{Role, Run, Start};
use burnlog_log::{Batch, Error, ErrorKind, Kind, Outcome, Part, PayloadHash, Position, Result, failpoint};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Files without events whose cursors wait for a batch.
const RUNS_MAX: usize = 1024;

pub(crate) struct Outbox<'a> {
    pub(crate) options: &'a Options,
    pub(crate) cursors: &'a mut CursorFile,
    sink: &'a mut Sink<'a>,
    observer: &'a mut dyn Observer,
    batch: Batch,
    tags: Vec<Tag>,
    /// The files with events in the batch; the last one may not be finished.
    runs: Vec<Run>,
    pub(crate) report: Report,
    pub(crate) progress: Progress,
    /// Files to be read again with every record named.
    pub(crate) again: Vec<Again>,
}

/// To whom an event of the batch belongs, in the order of the batch.
struct Tag {
    run: usize,
    seq: u64,
    role: Role,
}

/// A file to be read again.
pub(crate) struct Again {
    pub(crate) index: usize,
    /// As far as the first attempt came.
    pub(crate) cursor: Cursor,
    pub(crate) carried: Counts,
}

impl<'a> Outbox<'a> {
    pub(crate) fn new(
        options: &'a Options,
        cursors: &'a mut CursorFile,
        sink: &'a mut Sink<'a>,
        observer: &'a mut dyn Observer,
    ) -> Self {
        Self {
            options,
            cursors,
            sink,
            observer,
            batch: Batch::default(),
            tags: Vec::new(),
            runs: Vec::new(),
            report: Report::default(),
            progress: Progress::default(),
            again: Vec::new(),
        }
    }

    /// Makes `run` the current one.
    pub(crate) fn begin(&mut self, run: Run) -> &mut Run {
        debug_assert!(self.runs.last().is_none_or(|run| run.finished), "one file at a time");
        self.runs.push(run);
        self.current()
    }

    /// The file whose events go out now.
    pub(crate) fn current(&mut self) -> &mut Run {
        self.runs.last_mut().expect("asked for between begin and finish")
    }

    /// Ends the current run; its cursor is saved with the batch that its last event goes out with.
    pub(crate) fn finish(&mut self) -> Result<()> {
        self.current().finished = true;
        if self.runs.len() >= RUNS_MAX { self.flush() } else { Ok(()) }
    }

    /// Returns whether the batch must go out before a payload of `bytes` goes in.
    pub(crate) fn is_full_for(&self, bytes: usize) -> bool {
        let full = self.batch.bytes() >= self.options.batch_bytes as u64 || !self.batch.has_room_for(bytes);
        full && !self.batch.is_empty()
    }

    /// Puts a row of a database, or a part of one, into the batch, which has room for it.
    pub(crate) fn push_row(&mut self, stream: &str, part: Option<Part>, payload: &[u8]) -> Result<()> {
        let source = Cow::Borrowed(self.runs[self.runs.len() - 1].source);
        self.push_at(
            Position { kind: Kind::Line, source, stream: Cow::Borrowed(stream), seq: 0, part },
            payload,
        )
    }

    /// Puts an event that names its own place into the batch, which has room for it.
    pub(crate) fn push_at(&mut self, position: Position<'_>, payload: &[u8]) -> Result<()> {
        let run = self.runs.len() - 1;
        self.batch.push_hashed(position, payload, PayloadHash::of(payload))?;
        self.tags.push(Tag { run, seq: 0, role: Role::Row });
        Ok(())
    }

    /// Puts one event of the current run into the batch, which has room for it, and returns its payload's hash.
    pub(crate) fn push(
        &mut self,
        kind: &Kind<'_>,
        seq: u64,
        part: Option<Part>,
        payload: &[u8],
        role: Role,
    ) -> Result<PayloadHash> {
        let hash = PayloadHash::of(payload);
        self.push_hashed(kind, seq, part, (payload, hash), role)?;
        Ok(hash)
    }

    /// As [`Outbox::push`], where the payload was hashed before.
    pub(crate) fn push_hashed(
        &mut self,
        kind: &Kind<'_>,
        seq: u64,
        part: Option<Part>,
        (payload, hash): (&[u8], PayloadHash),
        role: Role,
    ) -> Result<()> {
        let run = self.runs.len() - 1;
        let Run { source, cursor, .. } = &self.runs[run];
        let position = Position {
            kind: kind.clone(),
            source: Cow::Borrowed(source),
            stream: Cow::Borrowed(&cursor.stream),
            seq,
            part,
        };
        self.batch.push_hashed(position, payload, hash)?;
        self.tags.push(Tag { run, seq, role });
        Ok(())
    }

    /// Flushes when there is no room for a payload of `bytes`. The current run's prefix must be true.
    pub(crate) fn make_room(&mut self, bytes: usize) -> Result<()> {
        if self.is_full_for(bytes) { self.flush() } else { Ok(()) }
    }

    /// Puts a last record that is in memory into the batch, in parts where it is too long for one event. The current
    /// run's prefix must be true.
    pub(crate) fn push_tail(&mut self, kind: &Kind<'_>, seq: u64, text: &[u8]) -> Result<Vec<PayloadHash>> {
        let bytes_max = self.options.record_bytes_max;
        let count = text.len().div_ceil(bytes_max);
        let mut hashes = Vec::with_capacity(count);
        for (number, piece) in text.chunks(bytes_max).enumerate() {
            let part = (count > 1).then(|| Part { number: number as u32, more: number + 1 < count });
            self.make_room(piece.len())?;
            hashes.push(self.push(kind, seq, part, piece, Role::Tail)?);
        }
        Ok(hashes)
    }

    /// Sends the batch, takes back what became of its events, and saves the cursors of their files.
    pub(crate) fn flush(&mut self) -> Result<()> {
        let mut point = None;
        if !self.batch.is_empty() && !self.options.dry_run {
            let acknowledged = (self.sink)(&self.batch)?;
            failpoint("ingest-acknowledged");
            self.acknowledge(&acknowledged.outcomes)?;
            point = Some(acknowledged.point);
        }
        self.batch.clear();
        self.tags.clear();
        let unfinished = self.runs.pop_if(|run| !run.finished);
        let finished = std::mem::take(&mut self.runs);
        let mut saves = Vec::with_capacity(finished.len() + 1);
        let mut save = |path: &Path, cursor: &Cursor| {
            if self.cursors.get(path).as_ref() != Some(cursor) {
                let point = point.unwrap_or(cursor.point);
                saves.push((path.to_path_buf(), Cursor { point, ..cursor.clone() }));
            }
        };
        if let Some(run) = unfinished {
            if !run.doomed {
                save(&run.path, &run.cursor);
            }
            self.runs.push(run);
        }
        for run in finished {
            match run.index {
                Some(index) if run.doomed => {
                    let Counts { new, known, extents, rewritten, .. } = run.final_counts();
                    let carried = Counts { new, known, rewritten, extents, ..Counts::default() };
                    self.again.push(Again { index, cursor: run.cursor, carried });
                }
                _ => {
                    self.report.of(run.source).add(&run.final_counts());
                    save(&run.path, &run.cursor);
                }
            }
        }
        let reading = self.runs.last().filter(|run| run.start != Start::Closing);
        let in_file = reading.map_or(0, |run| run.cursor.offset);
        let progress = Progress { bytes_done: self.progress.bytes_done + in_file, ..self.progress };
        self.observer.progress(progress);
        if self.options.dry_run { Ok(()) } else { self.cursors.save(saves.into_iter()) }
    }

    fn acknowledge(&mut self, outcomes: &[Outcome]) -> Result<()> {
        if outcomes.len() != self.tags.len() {
            let message = format!("{} outcomes for a batch of {} events", outcomes.len(), self.tags.len());
            return Err(Error::new(ErrorKind::Invalid, "append batch", message));
        }
        for ((event, tag), outcome) in self.batch.events().zip(&self.tags).zip(outcomes) {
            self.runs[tag.run].acknowledge(tag.role, tag.seq, event.payload_hash, *outcome);
        }
        Ok(())
    }

    /// Counts a record of the current run.
    pub(crate) fn count_record(&mut self, payload: &[u8], bytes: u64) {
        let readable = !self.options.check_records || json::is_readable(payload);
        self.count_long_record(readable, bytes);
    }

    pub(crate) fn count_long_record(&mut self, readable: bool, bytes: u64) {
        let counts = &mut self.current().counts;
        counts.records += 1;
        counts.unreadable += u64::from(!readable);
        counts.bytes_in += bytes;
    }

    /// Saves a cursor that waits for no batch.
    pub(crate) fn save_now(&mut self, path: PathBuf, cursor: Cursor) -> Result<()> {
        if self.options.dry_run { Ok(()) } else { self.cursors.save(std::iter::once((path, cursor))) }
    }

    /// Returns whether a run was begun and not finished.
    pub(crate) fn is_running(&self) -> bool {
        self.runs.last().is_some_and(|run| !run.finished)
    }

    /// Takes a failure of the walk, which belongs to no planned file.
    pub(crate) fn failed_walk(&mut self, failed: Failed) {
        self.observer.notice(Notice::Failed(&failed));
        self.report.failed.push(failed);
    }

    pub(crate) fn failed(&mut self, source: &'static str, failed: Failed) {
        self.observer.notice(Notice::Failed(&failed));
        self.report.of(source).failed += 1;
        self.report.failed.push(failed);
    }

    pub(crate) fn notice(&mut self, notice: Notice<'_>) {
        self.observer.notice(notice);
    }

    /// Counts a file of `bytes` as passed.
    pub(crate) fn passed(&mut self, bytes: u64) {
        self.progress.files_done += 1;
        self.progress.bytes_done += bytes;
        self.observer.progress(self.progress);
    }
}
