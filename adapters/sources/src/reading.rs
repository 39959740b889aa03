//! One file: from where it is read, and what is said about a file that is not any more what it was. What is read is
//! in `records`.

use crate::compressed;
use crate::cursor::{Cursor, StoredCursor};
use crate::discover::PlannedFile;
use crate::files::FileKind;
use crate::ingest::Engine;
use crate::lines::{CHUNK_BYTES, Lines};
use crate::outbox::Again;
use crate::records::{push_extent, push_tail};
use crate::report::Notice;
use crate::run::{Role, Run, Start};
use crate::source::{Shape, Stream};
use burnlog_log::{Error, Result};
use std::io;

/// Why reading a file ended early.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The file; the others go on.
    File(&'static str, io::Error),
    /// The sink or the cursors; everything stops.
    Stop(Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::File("read session file", error)
    }
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Stop(error)
    }
}

/// What the first lines of a file say.
#[derive(Default)]
struct Head {
    stream: Option<String>,
    project: Option<String>,
}

impl Engine<'_> {
    /// Reads what is new in a planned file. Returns whether it was read to its end.
    pub(crate) fn read(&mut self, index: usize, again: Option<Again>) -> Result<bool, Trouble> {
        let file = &self.plan.files[index];
        let handle = compressed::open(self.files, &file.path)
            .map_err(|error| Trouble::File("open session file", error))?;
        let stat = handle.stat()?;
        if stat.kind != FileKind::File {
            return Err(Trouble::File("open session file", io::ErrorKind::IsADirectory.into()));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = self.read_open(index, &mut Lines::new(handle, &mut buffer), again);
        self.buffer = buffer;
        if matches!(result, Err(Trouble::Stop(_))) || !self.out.is_running() {
            return result;
        }
        let (close, is_dry) = (self.out.options.close, self.out.options.dry_run);
        let run = self.out.current();
        let complete = result.is_ok() && !run.doomed;
        if complete {
            // From before the first read: what was added since then makes a difference to it.
            run.cursor.stat = Some(stat);
            if run.cursor.pending_bytes > 0 && !run.cursor.closed && !close {
                run.counts.pending_records += 1;
                run.counts.pending_bytes += run.cursor.pending_bytes;
            }
            run.counts.closed += u64::from(close && is_dry && !run.cursor.closed);
        }
        self.out.finish()?;
        result.map(|_| complete)
    }

    fn read_open(
        &mut self,
        index: usize,
        lines: &mut Lines<'_>,
        again: Option<Again>,
    ) -> Result<bool, Trouble> {
        let file = &self.plan.files[index];
        let old = match &again {
            Some(again) => Some(again.cursor.clone()),
            None => self.out.cursors.get(&file.path),
        };
        let head = self.head(file, lines, old.as_ref())?;
        if !self.admit(file, old.as_ref(), &head)? {
            return Ok(false);
        }
        let has_more = self.start(index, lines, old, &head, again)?;
        let result = match file.identity.shape {
            _ if !has_more => Ok(()),
            Shape::Lines => self.lines(lines),
            Shape::Object => self.object(lines),
            // Databases are read elsewhere, in `rows`.
            Shape::Rows => Ok(()),
        };
        let cursor = &mut self.out.current().cursor;
        // Of a long record that failed half-way the hash of what stands before it is there already.
        if let Some(prefix) = lines.prefix_at(cursor.offset) {
            cursor.prefix = prefix;
        }
        result.map(|()| true)
    }

    /// Looks at the first lines where the path or the cursor does not say everything.
    fn head(&self, file: &PlannedFile, lines: &mut Lines<'_>, old: Option<&Cursor>) -> io::Result<Head> {
        let project = old.and_then(|old| old.project.clone());
        let is_asked = !self.out.options.filter.admits_all() && project.is_none();
        let Stream::InContent { stem } = &file.identity.stream else {
            if !is_asked {
                return Ok(Head { stream: None, project });
            }
            let range = lines.peek(CHUNK_BYTES)?;
            return Ok(Head { stream: None, project: file.source.project_in(lines.bytes(range)) });
        };
        let range = lines.peek(CHUNK_BYTES)?;
        let head = lines.bytes(range);
        let found = if is_asked { file.source.project_in(head) } else { None };
        Ok(Head { stream: file.source.stream_in(stem, head), project: project.or(found) })
    }

    /// Asks the filter. The cursor of a file that is left out keeps its project, so that it is not opened every time.
    fn admit(&mut self, file: &PlannedFile, old: Option<&Cursor>, head: &Head) -> Result<bool> {
        let filter = &self.out.options.filter;
        if filter.admits_all() {
            return Ok(true);
        }
        let companion = file.identity.companion.as_ref().and_then(|stream| self.projects.get(stream));
        let project = head.project.as_ref().or(companion);
        let stream = stream_of(file, head);
        let admitted = filter.admits(project.map(String::as_str), &file.identity.project_folder);
        if let Some(project) = project.cloned() {
            self.projects.insert(stream.clone(), project);
        }
        if !admitted {
            self.out.report.of(file.source.name()).excluded += 1;
            if old.is_none() && head.project.is_some() {
                let cursor = blank(file, stream, head);
                self.out.save_now(file.path.clone(), cursor)?;
            }
        }
        Ok(admitted)
    }

    /// Decides from where the file is read and begins its run. Returns whether there is anything to read.
    fn start(
        &mut self,
        index: usize,
        lines: &mut Lines<'_>,
        old: Option<Cursor>,
        head: &Head,
        again: Option<Again>,
    ) -> Result<bool, Trouble> {
        let file = &self.plan.files[index];
        let is_object = file.identity.shape == Shape::Object;
        let blank = blank(file, stream_of(file, head), head);
        let (start, cursor) = match old {
            Some(old) if again.is_some() => (Start::ChooseAll, old),
            Some(old) if !old.is_blank() => self.compare(file, lines, old, blank)?,
            _ => (Start::Fresh, blank),
        };
        let run = self.out.begin(Run::new(file.source.name(), file.path.clone(), start, cursor));
        run.index = Some(index);
        run.carried = again.map_or_else(Default::default, |again| again.carried);
        if run.cursor.project.is_none() {
            run.cursor.project.clone_from(&head.project);
        }
        match start {
            Start::Continued => return Ok(!is_object && self.pass_newline(lines)?),
            Start::ChooseAll => {
                run.cursor = run.cursor.again_from_start();
                run.cursor.choose_all = true;
            }
            Start::Rewritten if is_object => run.cursor = run.cursor.again_from_start(),
            Start::Rewritten => {
                run.cursor.choose_all |= run.cursor.is_cut_short();
                self.end_former(file, head)?;
            }
            Start::Fresh | Start::Closing => {}
        }
        lines.rewind()?;
        let stream = self.out.current().cursor.stream.clone();
        if self.is_shared(file, &stream) {
            let run = self.out.current();
            run.cursor.choose_all = true;
            if run.start == Start::Fresh {
                self.record_others(file, &stream)?;
            }
        }
        Ok(true)
    }

    /// Compares the file with what was recorded of it.
    fn compare(
        &mut self,
        file: &PlannedFile,
        lines: &mut Lines<'_>,
        old: Cursor,
        blank: Cursor,
    ) -> io::Result<(Start, Cursor)> {
        let mut continues = continues(lines, &old)?;
        if continues && file.identity.shape == Shape::Object {
            // An object does not grow, it is rewritten: what it was must be all that it is.
            continues = lines.peek(old.pending.len() + 1)?.len() as u64 == old.pending_bytes;
        }
        if !continues {
            return Ok((Start::Rewritten, old));
        }
        if old.records == 0 && old.stream != blank.stream {
            return Ok((Start::Fresh, blank));
        }
        let is_unsure = old.is_cut_short() || (!old.choose_all && self.is_shared(file, &old.stream));
        Ok((if is_unsure { Start::ChooseAll } else { Start::Continued }, old))
    }

    /// Passes the newline of the last record where it has come since. True: there may be more.
    fn pass_newline(&mut self, lines: &mut Lines<'_>) -> Result<bool, Trouble> {
        let run = self.out.current();
        if !run.cursor.ends_with_newline && !lines.peek(1)?.is_empty() {
            lines.pass(1)?;
            run.cursor.offset += 1;
            run.cursor.ends_with_newline = true;
            run.cursor.closed = false;
            run.counts.bytes_in += 1;
        }
        Ok(true)
    }

    /// Records what the file was before it was rewritten, and turns the current run to its start.
    fn end_former(&mut self, file: &PlannedFile, head: &Head) -> Result<()> {
        let mut state = self.out.current().cursor.clone();
        let pending = std::mem::take(&mut state.pending);
        push_tail(&mut self.out, &mut state, &pending)?;
        if state.records > 0 {
            push_extent(&mut self.out, &state, Role::ExtentBefore)?;
        }
        self.out.notice(Notice::Rewritten { path: &file.path, stream: &state.stream });
        let stream = stream_of(file, head);
        let blank = blank(file, stream, head);
        let run = self.out.current();
        run.counts.rewritten += 1;
        if run.cursor.stream == blank.stream {
            run.cursor.seen = run.cursor.seen.max(state.records);
            run.cursor = run.cursor.again_from_start();
        } else {
            (run.cursor, run.start) = (blank, Start::Fresh);
        }
        run.seen_before = run.cursor.seen;
        Ok(())
    }

    /// Records what the other files of this stream are, while each of their records has one version in the feed that came
    /// before. From now on their extents must name theirs.
    fn record_others(&mut self, file: &PlannedFile, stream: &str) -> Result<()> {
        // One of them may have been read just now.
        self.out.flush()?;
        let is_other = |cursor: &StoredCursor<'_>| {
            cursor.head.source == file.source.name()
                && cursor.head.stream == stream
                && !(cursor.closed || cursor.choose_all || cursor.head.is_blank())
        };
        let mut others: Vec<_> = self.out.cursors.iter().filter(|(_, cursor)| is_other(cursor)).collect();
        others.sort_unstable_by_key(|(path, _)| *path);
        let others: Vec<Cursor> = others.into_iter().filter_map(|(_, cursor)| cursor.to_cursor()).collect();
        for mut state in others {
            let pending = std::mem::take(&mut state.pending);
            push_tail(&mut self.out, &mut state, &pending)?;
            push_extent(&mut self.out, &state, Role::Extent)?;
        }
        Ok(())
    }
}

fn stream_of(file: &PlannedFile, head: &Head) -> String {
    match (&file.identity.stream, &head.stream) {
        (Stream::Named(stream), _) | (Stream::InContent { .. }, Some(stream)) => stream.clone(),
        (Stream::InContent { stem }, None) => stem.clone(),
    }
}

/// The cursor of a file of which nothing is recorded.
fn blank(file: &PlannedFile, stream: String, head: &Head) -> Cursor {
    let mut cursor = Cursor::new(file.source.name(), stream, file.identity.shape);
    cursor.project.clone_from(&head.project);
    cursor.folder.clone_from(&file.identity.project_folder);
    cursor
}

/// Returns whether the file still begins with what is recorded of it, and what is pending still follows; the reader
/// then stands at the cursor's offset.
pub(crate) fn continues(lines: &mut Lines<'_>, cursor: &Cursor) -> io::Result<bool> {
    if !lines.pass(cursor.offset)? || lines.prefix_at(cursor.offset) != Some(cursor.prefix) {
        return Ok(false);
    }
    let range = lines.peek(cursor.pending.len())?;
    if lines.bytes(range) != cursor.pending {
        return Ok(false);
    }
    // A record that was whole without its newline and goes on is not the record that it was.
    let next = lines.peek(1)?;
    Ok(cursor.ends_with_newline || cursor.shape == Shape::Object || matches!(lines.bytes(next), b"" | b"\n"))
}
