//! The dump: every row that depends on the events alone, as one line of JSON each, sorted by projection and key.
//! Two ledgers with the same events have the same dump, byte for byte, whoever recorded them and whatever folded them.

use crate::TABLES;
use crate::blocks::places;
use crate::content::Content;
use crate::lookup::live;
use crate::records::Chunk;
use crate::store::{Generation, RowReader};
use crate::table::{ColumnKind, Row, Table, Value, Values};
use burnlog_log::{Error, ErrorKind, Result, Timestamp, push_hex};

/// How many rows are read at once.
const PAGE_ROWS: usize = 1024;

/// What a dump shows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DumpOptions {
    /// Only this projection.
    pub projection: Option<String>,
    /// Also which feeds saw what, and who writes them.
    pub hosts: bool,
}

/// Calls `line` with each line of the dump, without a newline. `NotFound` for a projection that there is not.
///
/// `{"projection":…,"key":[…],"row":{…}}`; object keys sorted; bytes in hex, an address in its text form, instants RFC 3339.
pub fn dump(
    reader: &(impl RowReader + ?Sized),
    options: &DumpOptions,
    line: &mut dyn FnMut(&str) -> Result<()>,
) -> Result<()> {
    let generation = live(reader)?;
    let shown = |table: &Table| {
        let is_host_table = matches!(table.name, "feeds" | "stream_feeds");
        (table.dumped || options.hosts && is_host_table)
            && options.projection.as_deref().is_none_or(|name| name == table.name)
    };
    let mut tables: Vec<&'static Table> = TABLES.iter().copied().filter(|table| shown(table)).collect();
    if tables.is_empty() {
        let wanted = options.projection.as_deref().unwrap_or_default();
        return Err(Error::new(ErrorKind::NotFound, "dump", format!("there is no projection {wanted:?}")));
    }
    tables.sort_by_key(|table| table.name);
    let mut text = Vec::new();
    for table in tables {
        let mut after: Option<Values> = None;
        loop {
            let rows = reader.scan(generation, table, after.as_deref(), PAGE_ROWS)?;
            let Some(last) = rows.last() else { break };
            after = Some(last[..table.key].to_vec());
            for row in rows {
                text.clear();
                if table.name == Content::TABLE.name {
                    push_content(reader, generation, &mut text, &Content::read(row)?)?;
                } else {
                    push_line(&mut text, table, row)?;
                }
                let lines = std::str::from_utf8(&text).expect("JSON is written as UTF-8");
                lines.lines().try_for_each(&mut *line)?;
            }
        }
    }
    Ok(())
}

fn push_line(out: &mut Vec<u8>, table: &'static Table, row: Values) -> Result<()> {
    out.extend_from_slice(b"{\"projection\":\"");
    out.extend_from_slice(table.name.as_bytes());
    out.extend_from_slice(b"\",\"key\":[");
    for (position, (value, column)) in row.iter().zip(table.key_columns()).enumerate() {
        if position > 0 {
            out.push(b',');
        }
        push_value(out, value, column.kind);
    }
    out.extend_from_slice(b"],\"row\":{");
    if table.name == Chunk::TABLE.name {
        push_chunk(out, &Chunk::read(row)?);
    } else {
        let mut fields: Vec<_> = table.columns.iter().zip(&row).skip(table.key).collect();
        fields.sort_by_key(|(column, _)| column.name);
        for (position, (column, value)) in fields.into_iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            push_text(out, column.name);
            out.push(b':');
            push_value(out, value, column.kind);
        }
    }
    out.extend_from_slice(b"}}");
    Ok(())
}

/// Shows the blocks of a row, one a line: `"key":[source,stream,seq,address,number in the record]`.
fn push_content(
    reader: &(impl RowReader + ?Sized),
    generation: Generation,
    out: &mut Vec<u8>,
    content: &Content,
) -> Result<()> {
    for place in places(reader, generation, content, |_| true)? {
        out.extend_from_slice(b"{\"projection\":\"content\",\"key\":[");
        push_text(out, &content.source);
        out.push(b',');
        push_text(out, &content.stream);
        out.extend_from_slice(format!(",{},\"", place.seq).as_bytes());
        place.address.push_text(out);
        let numbers = (place.ordinal, place.bytes);
        out.extend_from_slice(
            format!("\",{}],\"row\":{{\"bytes\":{},\"kind\":", numbers.0, numbers.1).as_bytes(),
        );
        push_text(out, &place.kind);
        out.extend_from_slice(format!(",\"start\":{},\"tool_use\":", place.start).as_bytes());
        match &place.tool_use {
            Some(tool_use) => push_text(out, tool_use),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b"}}\n");
    }
    Ok(())
}

/// Shows a chunk unpacked: `"entries":[[seq,address,class,fingerprint],…]`.
fn push_chunk(out: &mut Vec<u8>, chunk: &Chunk) {
    out.extend_from_slice(b"\"entries\":[");
    for (position, place) in chunk.places().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("[{},\"", place.seq).as_bytes());
        place.address.push_text(out);
        out.extend_from_slice(b"\",\"");
        out.extend_from_slice(place.class.name().as_bytes());
        out.extend_from_slice(b"\",\"");
        push_hex(out, &place.fingerprint);
        out.extend_from_slice(b"\"]");
    }
    out.push(b']');
}

fn push_value(out: &mut Vec<u8>, value: &Value<'_>, kind: ColumnKind) {
    match (value, kind) {
        (Value::Null, _) => out.extend_from_slice(b"null"),
        (Value::Integer(number), ColumnKind::Flag) => {
            out.extend_from_slice(if *number == 0 { b"false" } else { b"true" });
        }
        (Value::Integer(micros), ColumnKind::Instant) => {
            push_text(out, &Timestamp::from_micros(*micros).to_string());
        }
        (Value::Integer(number), _) => out.extend_from_slice(number.to_string().as_bytes()),
        (Value::Text(text), _) => push_text(out, text),
        (Value::Name(name), _) => push_text(out, name),
        (Value::Blob(bytes), kind) => {
            out.push(b'"');
            if kind == ColumnKind::Address {
                out.extend_from_slice(b"b3:");
            }
            push_hex(out, bytes);
            out.push(b'"');
        }
    }
}

fn push_text(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect("writing a string to memory cannot fail");
}
