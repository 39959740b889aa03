//! Rows as a Parquet file: every column optional, Snappy, row groups of bounded size. Writes columns by the low-level
//! writer, so that Arrow is not needed.

use crate::sheet::{Cell, FieldKind};
use parquet::basic::{Compression, ConvertedType, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::Type;
use std::io::Write;
use std::sync::Arc;

/// Rows in one group, at most.
const GROUP_ROWS: usize = 65_536;
/// Bytes of text in one group, at most, but for one row.
const GROUP_BYTES: usize = 64 << 20;

/// A Parquet file that is being written.
pub(crate) struct ParquetSheet<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    kinds: Vec<FieldKind>,
    /// The rows of the group, column by column.
    group: Vec<Vec<Cell>>,
    rows: usize,
    bytes: usize,
}

impl<W: Write + Send> ParquetSheet<W> {
    /// Begins a file with these columns.
    pub(crate) fn begin(out: W, columns: &[(&'static str, FieldKind)]) -> anyhow::Result<Self> {
        let fields = columns.iter().map(|(name, kind)| field(name, *kind)).collect::<Result<_, _>>()?;
        let schema = Type::group_type_builder("burnlog").with_fields(fields).build()?;
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let writer = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties))?;
        let kinds: Vec<FieldKind> = columns.iter().map(|(_, kind)| *kind).collect();
        Ok(Self { writer, group: vec![Vec::new(); kinds.len()], kinds, rows: 0, bytes: 0 })
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: &[Cell]) -> anyhow::Result<()> {
        for (column, cell) in self.group.iter_mut().zip(cells) {
            if let Cell::Text(text) = cell {
                self.bytes += text.len();
            }
            column.push(cell.clone());
        }
        self.rows += 1;
        if self.rows == GROUP_ROWS || self.bytes >= GROUP_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what is left, and the footer.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        if self.rows > 0 {
            self.flush()?;
        }
        let mut out = self.writer.into_inner()?;
        out.flush()?;
        Ok(())
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let mut group = self.writer.next_row_group()?;
        for (kind, cells) in self.kinds.iter().zip(&mut self.group) {
            let cells = std::mem::take(cells);
            match kind {
                FieldKind::Integer => write::<Int64Type, _>(&mut group, cells, |cell| match cell {
                    Cell::Integer(number) => Some(number),
                    _ => None,
                })?,
                FieldKind::Flag => write::<BoolType, _>(&mut group, cells, |cell| match cell {
                    Cell::Flag(flag) => Some(flag),
                    _ => None,
                })?,
                FieldKind::Text => write::<ByteArrayType, _>(&mut group, cells, |cell| match cell {
                    Cell::Text(text) => Some(ByteArray::from(text.into_bytes())),
                    _ => None,
                })?,
            }
        }
        group.close()?;
        (self.rows, self.bytes) = (0, 0);
        Ok(())
    }
}

fn field(name: &str, kind: FieldKind) -> parquet::errors::Result<Arc<Type>> {
    let physical = match kind {
        FieldKind::Integer => Physical::INT64,
        FieldKind::Flag => Physical::BOOLEAN,
        FieldKind::Text => Physical::BYTE_ARRAY,
    };
    let mut builder = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
    if kind == FieldKind::Text {
        builder =
            builder.with_converted_type(ConvertedType::UTF8).with_logical_type(Some(LogicalType::String));
    }
    builder.build().map(Arc::new)
}

/// Writes the next column of a group; a cell without a value of the column's kind is absent.
fn write<T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    cells: Vec<Cell>,
    value: fn(Cell) -> Option<T::T>,
) -> anyhow::Result<()> {
    let Some(mut column) = group.next_column()? else { return Ok(()) };
    let mut levels = Vec::with_capacity(cells.len());
    let mut values = Vec::with_capacity(cells.len());
    for cell in cells {
        let value = value(cell);
        levels.push(i16::from(value.is_some()));
        values.extend(value);
    }
    column.typed::<T>().write_batch(&values, Some(&levels), None)?;
    column.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::RowAccessor;

    #[test]
    fn what_is_written_is_read_again_and_absent_is_absent() {
        let columns = [("name", FieldKind::Text), ("tokens", FieldKind::Integer), ("final", FieldKind::Flag)];
        let path = tempfile::NamedTempFile::new().unwrap();
        let mut sheet = ParquetSheet::begin(path.reopen().unwrap(), &columns).unwrap();
        sheet.row(&[Cell::Text("é".to_owned()), Cell::Integer(i64::MAX), Cell::Flag(true)]).unwrap();
        sheet.row(&[Cell::Absent, Cell::Absent, Cell::Absent]).unwrap();
        sheet.finish().unwrap();
        let reader = SerializedFileReader::new(path.reopen().unwrap()).unwrap();
        let rows: Vec<_> = reader.get_row_iter(None).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0].get_string(0).unwrap(), "é");
        assert_eq!((rows[0].get_long(1).unwrap(), rows[0].get_bool(2).unwrap()), (i64::MAX, true));
        assert!(rows[1].get_string(0).is_err() && rows[1].get_long(1).is_err());
    }
}
