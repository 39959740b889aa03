//! A database as a part of an ingest: each of its rows is a stream of its own, and the cursor is the latest change that was
//! read. How rows become records is in `opencode_db`.

use crate::cursor::Cursor;
use crate::ingest::Engine;
use crate::opencode_db::{Database, Wanted};
use crate::outbox::Outbox;
use crate::reading::Trouble;
use crate::run::{Run, Start};
use crate::source::{Shape, Stream};
use burnlog_log::Part;

const NANOSECONDS_A_MILLISECOND: i64 = 1_000_000;

impl Engine<'_> {
    /// Reads the rows of a planned database that changed since the last time. Returns whether all of them were read.
    pub(crate) fn read_database(&mut self, index: usize) -> Result<bool, Trouble> {
        let file = &self.plan.files[index];
        let options = self.out.options;
        let database = Database::open(&file.path).map_err(|error| Trouble::File("open database", error))?;
        let Stream::Named(stream) = &file.identity.stream else { return Ok(false) };
        let known = self.out.cursors.get(&file.path);
        let cursor = known.unwrap_or_else(|| Cursor::new(file.source.name(), stream.clone(), Shape::Rows));
        let is_filtered = !options.filter.admits_all();
        let mark = (cursor.offset > 0).then(|| i64::try_from(cursor.offset).unwrap_or(i64::MAX));
        let admits = |folder: Option<&str>| options.filter.admits(folder, "");
        let wanted = Wanted {
            // What a filter leaves out must be read once the filter is another.
            since: mark.filter(|_| !is_filtered && !options.recheck),
            admits: if is_filtered { Some(&admits) } else { None },
        };
        let run = self.out.begin(Run::new(file.source.name(), file.path.clone(), Start::Continued, cursor));
        run.index = Some(index);
        let out = &mut self.out;
        let read = database.rows::<Trouble>(&wanted, &mut |stream, payload| row(out, stream, payload));
        let complete = read.is_ok() && !is_filtered;
        if let (Ok(Some(latest)), true) = (&read, complete) {
            // A row from the future must not hide those that change meanwhile.
            let latest = (*latest).min(file.stat.modified_ns / NANOSECONDS_A_MILLISECOND).max(1);
            let cursor = &mut self.out.current().cursor;
            cursor.offset = cursor.offset.max(latest.unsigned_abs());
        }
        if complete {
            self.out.current().cursor.stat = Some(file.stat);
        }
        if !matches!(read, Err(Trouble::Stop(_))) {
            self.out.finish()?;
        }
        read.map(|_| complete)
    }
}

/// Sends one row, in parts where it is too long for one event.
fn row(out: &mut Outbox<'_>, stream: &str, payload: &[u8]) -> Result<(), Trouble> {
    let bytes_max = out.options.record_bytes_max;
    let count = payload.len().div_ceil(bytes_max);
    for (number, piece) in payload.chunks(bytes_max).enumerate() {
        let part = (count > 1).then(|| Part { number: number as u32, more: number + 1 < count });
        out.make_room(piece.len())?;
        out.push_row(stream, part, piece)?;
    }
    out.count_record(payload, payload.len() as u64);
    out.current().cursor.closed = false;
    Ok(())
}
