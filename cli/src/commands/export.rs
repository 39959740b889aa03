//! `burnlog export`: the rows of the projections for other programs: JSON lines, CSV, and Parquet where it is built in.

use super::export_rows::{self, ChosenRows};
use super::sessions::{self, SessionHosts};
use super::{Context, content, diagnostics, relationships, turns};
use crate::args::{Export, ExportFormat};
use crate::filter::{self, ChosenSessions};
use crate::output::{counted, say};
use crate::sheet::{Cell, Field, FieldKind, IntoCell, Sheet, fields};
use crate::transcript::PayloadReader;
use burnlog_log::{Error, ErrorKind, Ledger, Timestamp, push_hex};
use burnlog_projections::{
    Chunk, ColumnKind, Diagnostic, Filter, Queries, Row, RowReader, TABLES, Table, UsageDay, Value, Values,
    live,
};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// How many rows are read at once.
const PAGE_ROWS: usize = 1024;

const TURNS: &[Field<turns::Line>] = fields!(turns::Line: source session stream call request model timestamp
    input_tokens output_tokens cache_read_tokens cache_write_5m_tokens cache_write_1h_tokens reasoning_tokens
    stop_reason complete project cwd branch sidechain);
const SESSIONS: &[Field<super::SessionLine>] = fields!(super::SessionLine: source session project title first_at
    last_at streams calls incomplete_calls copied_calls prompts tool_uses tool_errors compactions input_tokens
    output_tokens cache_read_tokens cache_write_tokens reasoning_tokens hosts);
const CONTENT: &[Field<content::Line>] = fields!(content::Line: source session stream seq role kind tool_use
    address start bytes state text);
const RELATIONSHIPS: &[Field<super::LinkLine>] = fields!(super::LinkLine: source kind from_session from_stream
    to_session to_stream agent tool_use record at address copied_records copied_to_seq);

pub(super) fn run(context: &Context, arguments: &Export) -> anyhow::Result<ExitCode> {
    let global = &context.global;
    if global.json || global.csv {
        let message = "export says its form with --format; leave --json and --csv";
        return Err(Error::new(ErrorKind::Invalid, "read arguments", message).into());
    }
    let (ledger, store) = context.ledger_and_queries()?;
    let Some(path) = &arguments.to else {
        let out = io::BufWriter::with_capacity(1 << 16, io::stdout());
        write(context, &ledger, &*store, arguments, out)?;
        return Ok(ExitCode::SUCCESS);
    };
    let beside = PathBuf::from(format!("{}.part", path.display()));
    let failed = |error: io::Error| file_error(path, error);
    let file = File::create(&beside).map_err(failed)?;
    let written = write(context, &ledger, &*store, arguments, io::BufWriter::with_capacity(1 << 16, file));
    let renamed = written.and_then(|rows| {
        std::fs::rename(&beside, path).map_err(failed)?;
        Ok(rows)
    });
    if renamed.is_err() {
        // Best effort: the error itself is what matters.
        let _ = std::fs::remove_file(&beside);
    }
    say(global, &format!("burnlog: {} to {}", counted(renamed?, "row"), path.display()));
    Ok(ExitCode::SUCCESS)
}

fn file_error(path: &Path, error: io::Error) -> Error {
    let message = "the file could not be written; name another place with --to";
    Error::new(ErrorKind::Unavailable, "export", message).at(path.display()).caused_by(error)
}

/// Writes one table and returns the number of rows.
fn write<W: Write + Send>(
    context: &Context,
    ledger: &Ledger,
    store: &dyn Queries,
    arguments: &Export,
    out: W,
) -> anyhow::Result<u64> {
    let format = arguments.format;
    let filter = filter::of_arguments(&arguments.filter, store)?;
    let limit = arguments.filter.limit;
    match arguments.table.as_str() {
        "turns" => {
            let mut sheet = sheet(out, format, TURNS)?;
            let each = |turn| sheet.row(&cells(TURNS, &turns::line(turn)));
            filter::for_each(limit, |page| store.turns(&filter, page), each)?;
            sheet.finish()
        }
        "sessions" => {
            let mut sheet = sheet(out, format, SESSIONS)?;
            let mut hosts = SessionHosts::new(store)?;
            let each = |session| sheet.row(&cells(SESSIONS, &sessions::line(session, &mut hosts)?));
            filter::for_each(limit, |page| store.sessions(&filter, page), each)?;
            sheet.finish()
        }
        "content" => {
            let mut sheet = sheet(out, format, CONTENT)?;
            let payloads = PayloadReader::new(ledger);
            let mut left = limit.unwrap_or(usize::MAX);
            let each = |session| {
                let row = &mut |line| sheet.row(&cells(CONTENT, &line)).map(|()| true);
                let blocks = content::BlocksOf { session: &session, kinds: &[] };
                if left > 0 {
                    content::for_each_block(store, &payloads, &blocks, None, &mut left, row)?;
                }
                Ok(())
            };
            filter::for_each(None, |page| store.sessions(&filter, page), each)?;
            sheet.finish()
        }
        "relationships" => {
            let mut sheet = sheet(out, format, RELATIONSHIPS)?;
            let chosen = ChosenSessions::of(&filter, store)?;
            let mut left = limit.unwrap_or(usize::MAX);
            relationships::for_each_line(store, &mut |line| {
                if left == 0 || !relationships::is_chosen(&line, &chosen) {
                    return Ok(());
                }
                left -= 1;
                sheet.row(&cells(RELATIONSHIPS, &line))
            })?;
            sheet.finish()
        }
        name => {
            let table = TABLES.iter().find(|table| table.name == name).ok_or_else(|| unknown_table(name))?;
            let limit = limit.unwrap_or(usize::MAX);
            let is_filtered = filter != Filter::default();
            // Sums and counts know less than a filter asks: they are made anew of what it chooses.
            if name == UsageDay::TABLE.name && is_filtered {
                return made(table, export_rows::sums(&filter, store)?, limit, out, format);
            }
            if name == Diagnostic::TABLE.name && is_filtered {
                let counts = diagnostics::rows(context, ledger, store, &filter)?;
                return made(table, export_rows::counts(&counts), limit, out, format);
            }
            let chosen = ChosenRows::of(table, &filter, store)?;
            if name == Chunk::TABLE.name {
                return records(store, &chosen, limit, out, format);
            }
            rows(store, table, &chosen, limit, out, format)
        }
    }
}

fn unknown_table(name: &str) -> Error {
    let mut names = vec!["turns"];
    names.extend(TABLES.iter().map(|table| table.name));
    names.sort_unstable();
    let message = format!("there is no table {name:?}; there are {}", names.join(", "));
    Error::new(ErrorKind::Invalid, "read arguments", message)
}

fn sheet<R, W: Write + Send>(out: W, format: ExportFormat, fields: &[Field<R>]) -> anyhow::Result<Sheet<W>> {
    Sheet::begin(out, format, fields.iter().map(|field| (field.name, field.kind)).collect())
}

fn cells<R>(fields: &[Field<R>], row: &R) -> Vec<Cell> {
    fields.iter().map(|field| (field.cell)(row)).collect()
}

fn table_sheet<W: Write + Send>(
    table: &'static Table,
    out: W,
    format: ExportFormat,
) -> anyhow::Result<Sheet<W>> {
    let columns = table.columns.iter().map(|column| (column.name, kind(column.kind))).collect();
    Sheet::begin(out, format, columns)
}

fn table_cells(table: &'static Table, values: Values) -> Vec<Cell> {
    values.into_iter().zip(table.columns).map(|(value, column)| cell(value, column.kind)).collect()
}

/// Rows of a table that were made for this export.
fn made<W: Write + Send>(
    table: &'static Table,
    rows: Vec<Values>,
    limit: usize,
    out: W,
    format: ExportFormat,
) -> anyhow::Result<u64> {
    let mut sheet = table_sheet(table, out, format)?;
    rows.into_iter().take(limit).try_for_each(|values| sheet.row(&table_cells(table, values)))?;
    sheet.finish()
}

/// The rows of a table as they are: the columns of the projection, key first.
fn rows<W: Write + Send>(
    store: &dyn RowReader,
    table: &'static Table,
    chosen: &ChosenRows,
    limit: usize,
    out: W,
    format: ExportFormat,
) -> anyhow::Result<u64> {
    let mut sheet = table_sheet(table, out, format)?;
    let mut left = limit;
    for_each_row(store, table, &mut |values| {
        if left == 0 || !chosen.have(&values) {
            return Ok(left > 0);
        }
        left -= 1;
        sheet.row(&table_cells(table, values))?;
        Ok(left > 0)
    })?;
    sheet.finish()
}

/// The events of each record, one a row.
fn records<W: Write + Send>(
    store: &dyn RowReader,
    chosen: &ChosenRows,
    limit: usize,
    out: W,
    format: ExportFormat,
) -> anyhow::Result<u64> {
    let columns = vec![
        ("source", FieldKind::Text),
        ("stream", FieldKind::Text),
        ("seq", FieldKind::Integer),
        ("address", FieldKind::Text),
        ("class", FieldKind::Text),
    ];
    let mut sheet = Sheet::begin(out, format, columns)?;
    let mut left = limit;
    for_each_row(store, Chunk::TABLE, &mut |values| {
        if !chosen.have(&values) {
            return Ok(true);
        }
        let chunk = Chunk::read(values)?;
        for place in chunk.places().take(left) {
            left -= 1;
            sheet.row(&[
                Cell::Text(chunk.source.to_string()),
                Cell::Text(chunk.stream.to_string()),
                place.seq.cell(),
                place.address.cell(),
                Cell::Text(place.class.name().to_owned()),
            ])?;
        }
        Ok(left > 0)
    })?;
    sheet.finish()
}

/// Calls `each` with every row of a table until it says that this is enough.
pub(super) fn for_each_row(
    store: &(impl RowReader + ?Sized),
    table: &'static Table,
    each: &mut dyn FnMut(Vec<Value<'static>>) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let generation = live(store)?;
    let mut after: Option<Vec<Value<'static>>> = None;
    loop {
        let page = store.scan(generation, table, after.as_deref(), PAGE_ROWS)?;
        let full = page.len() == PAGE_ROWS;
        for values in page {
            after = Some(values[..table.key].to_vec());
            if !each(values)? {
                return Ok(());
            }
        }
        if !full {
            return Ok(());
        }
    }
}

fn kind(kind: ColumnKind) -> FieldKind {
    match kind {
        ColumnKind::Integer => FieldKind::Integer,
        ColumnKind::Flag => FieldKind::Flag,
        _ => FieldKind::Text,
    }
}

fn cell(value: Value<'static>, kind: ColumnKind) -> Cell {
    match (value, kind) {
        (Value::Null, _) => Cell::Absent,
        (Value::Integer(number), ColumnKind::Flag) => Cell::Flag(number != 0),
        (Value::Integer(micros), ColumnKind::Instant) => Timestamp::from_micros(micros).cell(),
        (Value::Integer(number), _) => Cell::Integer(number),
        (Value::Text(text), _) => Cell::Text(text.into_owned()),
        (Value::Name(name), _) => Cell::Text(name.to_string()),
        (Value::Blob(bytes), kind) => {
            let mut text = if kind == ColumnKind::Address { b"b3:".to_vec() } else { Vec::new() };
            push_hex(&mut text, &bytes);
            Cell::Text(String::from_utf8_lossy(&text).into_owned())
        }
    }
}
