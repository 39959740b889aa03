//! Rows with named, typed columns, written as JSON lines, as CSV or as Parquet. Knows no table.

use crate::args::ExportFormat;
use burnlog_log::{Address, Timestamp};
use std::io::Write;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldKind {
    /// A whole number.
    Integer,
    /// True or false.
    Flag,
    /// Text; instants, addresses and bytes as well.
    Text,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cell {
    /// There is none.
    Absent,
    /// A whole number.
    Integer(i64),
    /// True or false.
    Flag(bool),
    /// Text.
    Text(String),
}

/// A column of rows of one type.
pub(crate) struct Field<R> {
    /// The name.
    pub(crate) name: &'static str,
    /// What it holds.
    pub(crate) kind: FieldKind,
    /// The value of a row.
    pub(crate) cell: fn(&R) -> Cell,
}

/// A type that can stand in a column.
pub(crate) trait IntoCell {
    /// The kind of its columns.
    const KIND: FieldKind;
    /// The value.
    fn cell(&self) -> Cell;
}

impl<T: IntoCell> IntoCell for Option<T> {
    const KIND: FieldKind = T::KIND;
    fn cell(&self) -> Cell {
        self.as_ref().map_or(Cell::Absent, T::cell)
    }
}

macro_rules! into_cell {
    ($($type:ty, $kind:ident, |$this:ident| $cell:expr;)+) => {
        $(impl IntoCell for $type {
            const KIND: FieldKind = FieldKind::$kind;
            fn cell(&self) -> Cell {
                let $this = self;
                $cell
            }
        })+
    };
}

into_cell! {
    i64, Integer, |it| Cell::Integer(*it);
    u64, Integer, |it| Cell::Integer(i64::try_from(*it).unwrap_or(i64::MAX));
    bool, Flag, |it| Cell::Flag(*it);
    String, Text, |it| Cell::Text(it.clone());
    &'static str, Text, |it| Cell::Text((*it).to_owned());
    Timestamp, Text, |it| Cell::Text(it.to_string());
    Address, Text, |it| Cell::Text(it.to_string());
}

/// The kind of what a function returns a reference to; for [`fields!`].
pub(crate) const fn kind_of<R, T: IntoCell>(_: fn(&R) -> &T) -> FieldKind {
    T::KIND
}

/// Lists fields of a struct as columns.
macro_rules! fields {
    ($row:ty: $($name:ident)+) => {
        &[$($crate::sheet::Field {
            name: stringify!($name),
            kind: $crate::sheet::kind_of(|row: &$row| &row.$name),
            cell: |row: &$row| $crate::sheet::IntoCell::cell(&row.$name),
        }),+]
    };
}
pub(crate) use fields;

/// Rows on their way out.
pub(crate) struct Sheet<W: Write + Send> {
    columns: Vec<(&'static str, FieldKind)>,
    out: Form<W>,
    rows: u64,
}

enum Form<W: Write + Send> {
    Jsonl(W),
    Csv(Box<csv::Writer<W>>),
    #[cfg(feature = "parquet")]
    Parquet(Box<crate::parquet::ParquetSheet<W>>),
}

impl<W: Write + Send> Sheet<W> {
    /// Begins: CSV with its header.
    pub(crate) fn begin(
        out: W,
        format: ExportFormat,
        columns: Vec<(&'static str, FieldKind)>,
    ) -> anyhow::Result<Self> {
        let out = match format {
            ExportFormat::Jsonl => Form::Jsonl(out),
            ExportFormat::Csv => {
                let mut writer = csv::Writer::from_writer(out);
                writer.write_record(columns.iter().map(|(name, _)| name))?;
                Form::Csv(Box::new(writer))
            }
            #[cfg(feature = "parquet")]
            ExportFormat::Parquet => {
                Form::Parquet(Box::new(crate::parquet::ParquetSheet::begin(out, &columns)?))
            }
        };
        Ok(Self { columns, out, rows: 0 })
    }

    /// Writes a row: one cell for each column.
    pub(crate) fn row(&mut self, cells: &[Cell]) -> anyhow::Result<()> {
        self.rows += 1;
        match &mut self.out {
            Form::Jsonl(out) => json_line(out, &self.columns, cells)?,
            Form::Csv(out) => out.write_record(cells.iter().map(text))?,
            #[cfg(feature = "parquet")]
            Form::Parquet(out) => out.row(cells)?,
        }
        Ok(())
    }

    /// Writes what is left and returns the number of rows.
    pub(crate) fn finish(self) -> anyhow::Result<u64> {
        match self.out {
            Form::Jsonl(mut out) => out.flush()?,
            Form::Csv(mut out) => out.flush()?,
            #[cfg(feature = "parquet")]
            Form::Parquet(out) => out.finish()?,
        }
        Ok(self.rows)
    }
}

fn json_line(
    out: &mut impl Write,
    columns: &[(&'static str, FieldKind)],
    cells: &[Cell],
) -> anyhow::Result<()> {
    for (at, ((name, _), cell)) in columns.iter().zip(cells).enumerate() {
        write!(out, "{}\"{name}\":", if at == 0 { "{" } else { "," })?;
        match cell {
            Cell::Absent => out.write_all(b"null")?,
            Cell::Integer(number) => write!(out, "{number}")?,
            Cell::Flag(flag) => write!(out, "{flag}")?,
            Cell::Text(text) => serde_json::to_writer(&mut *out, text)?,
        }
    }
    out.write_all(b"}\n")?;
    Ok(())
}

/// A cell of CSV, where absent and empty look alike.
fn text(cell: &Cell) -> String {
    match cell {
        Cell::Absent => String::new(),
        Cell::Integer(number) => number.to_string(),
        Cell::Flag(flag) => flag.to_string(),
        Cell::Text(text) => text.clone(),
    }
}
