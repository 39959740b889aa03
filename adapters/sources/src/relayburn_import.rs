//! A relayburn ledger as a part of an ingest: its files are read from their start whenever they changed, and each record goes out by what
//! it says and not by where it stands. Writes nothing there. What a record becomes is in `relayburn_record`.

use crate::cursor::Cursor;
use crate::files::OpenFile;
use crate::ingest::Engine;
use crate::json;
use crate::lines::{Lines, Next};
use crate::opencode_db::Database;
use crate::outbox::Outbox;
use crate::reading::Trouble;
use crate::relayburn::{self, CONTENT_DATABASE, DATABASE};
use crate::relayburn_record::{Placed, TABLES, line_of_row, line_of_stamp, place};
use crate::run::{Role, Run, Start};
use crate::source::{Shape, Stream};
use burnlog_log::{Kind, Part, Position};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row};
use std::borrow::Cow;
use std::io;

impl Engine<'_> {
    /// Reads a planned file of a relayburn ledger. Returns whether it was read to its end.
    pub(crate) fn import(&mut self, index: usize) -> Result<bool, Trouble> {
        let file = &self.plan.files[index];
        if !self.out.options.filter.admits_all() {
            // Most records do not say to which project they belong.
            self.out.report.of(file.source.name()).excluded += 1;
            return Ok(false);
        }
        let Stream::Named(stream) = &file.identity.stream else { return Ok(false) };
        let is_database = matches!(stream.as_str(), DATABASE | CONTENT_DATABASE);
        let opened = if is_database {
            let database = Database::open(&file.path);
            Ledger::Rows(database.map_err(|error| Trouble::File("open database", error))?)
        } else {
            let handle = self.files.open(&file.path);
            Ledger::Lines(handle.map_err(|error| Trouble::File("open ledger", error))?)
        };
        let known = self.out.cursors.get(&file.path);
        let cursor = known.unwrap_or_else(|| Cursor::new(relayburn::NAME, stream.clone(), Shape::Rows));
        let stat = file.stat;
        let run = self.out.begin(Run::new(relayburn::NAME, file.path.clone(), Start::Continued, cursor));
        run.index = Some(index);
        // Until all of it is acknowledged the file counts as changed.
        run.cursor.stat = None;
        let read = match opened {
            Ledger::Rows(database) => rows(database.connection(), &mut self.out).map(|()| true),
            Ledger::Lines(handle) => {
                let mut buffer = std::mem::take(&mut self.buffer);
                let read = self.import_lines(&mut Lines::new(handle, &mut buffer));
                self.buffer = buffer;
                read
            }
        };
        if matches!(read, Ok(true)) {
            self.out.current().cursor.stat = Some(stat);
        }
        if !matches!(read, Err(Trouble::Stop(_))) {
            self.out.finish()?;
        }
        read
    }

    /// Returns whether no unterminated record waits at the end.
    fn import_lines(&mut self, lines: &mut Lines<'_>) -> Result<bool, Trouble> {
        loop {
            match lines.next(self.out.options.record_bytes_max)? {
                Next::Line(range, _) => {
                    let line = lines.bytes(range);
                    self.out.count_record(line, line.len() as u64 + 1);
                    if !line.trim_ascii().is_empty() {
                        send(&mut self.out, line)?;
                    }
                }
                Next::Rest(range) => {
                    let line = lines.bytes(range);
                    if !json::is_complete_record(line, false) && !self.out.options.close {
                        let counts = &mut self.out.current().counts;
                        counts.pending_records += 1;
                        counts.pending_bytes += line.len() as u64;
                        return Ok(false);
                    }
                    self.out.count_record(line, line.len() as u64);
                    send(&mut self.out, line)?;
                    return Ok(true);
                }
                Next::Long => {
                    let end = lines.long_end(true)?;
                    self.push_long(lines, (&Kind::Record, Role::Row), &end)?;
                    self.out.count_long_record(false, end.bytes + u64::from(end.terminated));
                }
                Next::End => return Ok(true),
            }
        }
    }
}

/// What was opened.
enum Ledger {
    Lines(Box<dyn OpenFile>),
    Rows(Database),
}

/// Sends one record as the event that it becomes.
fn send(out: &mut Outbox<'_>, record: &[u8]) -> Result<(), Trouble> {
    let (kind, source, stream, payload) = match place(record) {
        Placed::Record { source, stream } => {
            (Kind::Record, Cow::Owned(source), Cow::Owned(stream), Cow::Borrowed(record))
        }
        Placed::Stamp(payload) => {
            (Kind::Stamp, Cow::Borrowed("burnlog"), Cow::Borrowed("stamps"), Cow::Owned(payload))
        }
        Placed::Unplaced => {
            let stream = out.current().cursor.stream.clone();
            (Kind::Record, Cow::Borrowed(relayburn::NAME), Cow::Owned(stream), Cow::Borrowed(record))
        }
    };
    let bytes_max = out.options.record_bytes_max;
    let count = payload.len().div_ceil(bytes_max);
    for (number, piece) in payload.chunks(bytes_max).enumerate() {
        let part = (count > 1).then(|| Part { number: number as u32, more: number + 1 < count });
        out.make_room(piece.len())?;
        let (source, stream) = (Cow::Borrowed(&*source), Cow::Borrowed(&*stream));
        out.push_at(Position { kind: kind.clone(), source, stream, seq: 0, part }, piece)?;
    }
    Ok(())
}

/// Sends the rows of a database of 2.x, in the order in which they were written.
fn rows(connection: &Connection, out: &mut Outbox<'_>) -> Result<(), Trouble> {
    let transaction = connection.unchecked_transaction().map_err(refused)?;
    let mut tables_found = 0;
    let mut line = Vec::new();
    for (table, kind) in TABLES {
        tables_found += each(&transaction, table, &["record_json"], &mut |row| {
            let record = text_of(row, 0)?;
            if json::is_object(&record) {
                line_of_row(kind, &record, &mut line);
                send_row(out, &line)
            } else {
                send_row(out, &record)
            }
        })?;
    }
    let columns = ["ts", "selector_json", "enrichment_json"];
    tables_found += each(&transaction, "stamps", &columns, &mut |row| {
        let texts = [text_of(row, 0)?, text_of(row, 1)?, text_of(row, 2)?];
        let [ts, selector, enrichment] = texts.each_ref().map(|text| String::from_utf8_lossy(text));
        match line_of_stamp(&ts, &selector, &enrichment) {
            Some(line) => send_row(out, &line),
            None => send_row(out, &texts.join(&b' ')),
        }
    })?;
    tables_found += each(&transaction, "content", &["body"], &mut |row| send_row(out, &text_of(row, 0)?))?;
    if tables_found == 0 {
        let message = "no table of a relayburn ledger in it; name the folder or file that holds one";
        return Err(Trouble::File("read database", io::Error::other(message)));
    }
    Ok(())
}

fn send_row(out: &mut Outbox<'_>, record: &[u8]) -> Result<(), Trouble> {
    out.count_record(record, record.len() as u64);
    send(out, record)
}

fn text_of(row: &Row<'_>, column: usize) -> Result<Vec<u8>, Trouble> {
    Ok(match row.get_ref(column).map_err(refused)? {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    })
}

/// Calls `take` with each row of a table. Returns how many tables of that name and those columns there are: one or none.
fn each(
    connection: &Connection,
    table: &str,
    columns: &[&str],
    take: &mut dyn FnMut(&Row<'_>) -> Result<(), Trouble>,
) -> Result<u32, Trouble> {
    for column in columns {
        let found = connection.query_row(
            "SELECT count(*) FROM pragma_table_info(?1) WHERE name = ?2",
            [table, column],
            |row| row.get::<_, i64>(0),
        );
        if found.map_err(refused)? == 0 {
            return Ok(0);
        }
    }
    let select = format!("SELECT {} FROM {table} ORDER BY rowid", columns.join(","));
    let mut select = connection.prepare(&select).map_err(refused)?;
    let mut rows = select.query([]).map_err(refused)?;
    while let Some(row) = rows.next().map_err(refused)? {
        take(row)?;
    }
    Ok(1)
}

fn refused(error: rusqlite::Error) -> Trouble {
    Trouble::File("read database", io::Error::other(error))
}
