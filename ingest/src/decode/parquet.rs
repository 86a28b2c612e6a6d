//! Parquet: columns by name, each of the field's type or a narrower one.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMillisecondArray, cast::AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use arrow::datatypes::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use tidemark_kernel::value::{Type, arrow::data_type};
use tidemark_kernel::{Position, SourcePlan};

use super::{BATCH_BYTES, Chunk, ColumnsError, Place, Raw};
use crate::error::IngestError;

/// Reads rows of one Parquet file.
pub(crate) struct ParquetRows {
    batches: ParquetRecordBatchReader,
    /// The column of each declared field in what is read.
    columns: Vec<usize>,
    /// The next row, from 0.
    row: i64,
    rows: i64,
}

impl ParquetRows {
    /// Finds the source's fields among the columns and goes to a row. `batch` is how many rows are read at a time, fewer where rows are
    /// large.
    pub(crate) fn open(
        path: &Path,
        file: File,
        source: &SourcePlan,
        skip: i64,
        batch: usize,
    ) -> Result<Self, IngestError> {
        let unreadable = |error: parquet::errors::ParquetError| IngestError::unreadable(path, error);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
        let roots = find(source, builder.schema())
            .map_err(|source| IngestError::Columns { path: path.to_owned(), source })?;
        let rows = builder.metadata().file_metadata().num_rows();
        let groups = builder.metadata().row_groups();
        let bytes: i64 = groups.iter().map(|group| group.total_byte_size()).sum();
        let batch = batch.min(rows_of(BATCH_BYTES as i64, bytes, rows));
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
        let reader = builder.with_projection(mask).with_batch_size(batch).with_offset(skip as usize);
        Ok(Self { batches: reader.build().map_err(unreadable)?, columns: projected(&roots), row: skip, rows })
    }

    /// How many rows the file has.
    pub(crate) const fn rows(&self) -> i64 {
        self.rows
    }

    /// The next row, from 0.
    pub(crate) const fn row(&self) -> i64 {
        self.row
    }

    /// The next rows, none at the end of the file.
    pub(crate) fn read(
        &mut self,
        source: &SourcePlan,
        place: &Place,
        from: Position,
    ) -> Result<Option<Chunk>, ArrowError> {
        let Some(batch) = self.batches.next().transpose()? else { return Ok(None) };
        let rows = batch.num_rows() as i64;
        let first = self.row;
        self.row += rows;
        Ok(Some(Chunk {
            columns: columns(source, &batch, &self.columns)?,
            offsets: (from.0..from.0 + rows).collect(),
            times: vec![None; batch.num_rows()],
            numbers: (first + 1..=first + rows).collect(),
            raw: Raw::Columns,
            place: place.clone(),
            dead: Vec::new(),
            from,
            to: Position(from.0 + rows),
        }))
    }
}

/// How many rows take up so many bytes in a file of `total` bytes and `rows` rows: at least one.
fn rows_of(bytes: i64, total: i64, rows: i64) -> usize {
    let each = (total / rows.max(1)).max(1);
    usize::try_from((bytes / each).max(1)).unwrap_or(1)
}

/// The columns of the source's fields, with their types checked.
fn find(source: &SourcePlan, schema: &arrow::datatypes::Schema) -> Result<Vec<usize>, ColumnsError> {
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    let roots = ColumnsError::find(source.fields.iter().map(|field| field.name.as_str()), &names)?;
    for (field, root) in source.fields.iter().zip(&roots) {
        check(&field.name, field.ty, schema.field(*root).data_type())?;
    }
    Ok(roots)
}

/// A projection keeps the order of the file: where each root is found in it.
fn projected(roots: &[usize]) -> Vec<usize> {
    let place = |root: &usize| roots.iter().filter(|other| *other < root).count();
    roots.iter().map(place).collect()
}

fn check(column: &str, declared: Type, found: &DataType) -> Result<(), ColumnsError> {
    use DataType::{
        Binary, BinaryView, Boolean, Dictionary, FixedSizeBinary, Float16, Float32, Float64, Int8, Int16,
        Int32, Int64, LargeBinary, LargeUtf8, Timestamp, UInt8, UInt16, UInt32, Utf8, Utf8View,
    };
    let found = if let Dictionary(_, values) = found { values } else { found };
    let fits = match declared {
        Type::Bool => matches!(found, Boolean),
        Type::Int64 => matches!(found, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32),
        Type::Float64 => {
            let narrower = matches!(found, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32);
            narrower || matches!(found, Float16 | Float32 | Float64)
        }
        Type::String => matches!(found, Utf8 | LargeUtf8 | Utf8View),
        Type::Timestamp => matches!(found, Timestamp(_, _)),
        Type::Bytes => matches!(found, Binary | LargeBinary | BinaryView | FixedSizeBinary(_)),
    };
    if fits {
        return Ok(());
    }
    let remedy = remedy(column, declared, found);
    Err(ColumnsError::Type { column: column.to_owned(), found: found.to_string(), declared, remedy })
}

/// What to write, where it can be said.
fn remedy(column: &str, declared: Type, found: &DataType) -> String {
    let sql = match declared {
        Type::Bool => "boolean",
        Type::Int64 => "bigint",
        Type::Float64 => "double",
        Type::String => "varchar",
        Type::Timestamp => "timestamp",
        Type::Bytes => "blob",
    };
    let write = format!("write the file with `cast({column} as {sql})`");
    match (declared, found) {
        (Type::Timestamp, found) if found.is_integer() => {
            format!("declare the field as int64 and name the `unit` of the time, or {write}")
        }
        (Type::Int64, DataType::Timestamp(_, _)) => format!("declare the field as timestamp, or {write}"),
        _ => write,
    }
}

fn columns(source: &SourcePlan, batch: &RecordBatch, places: &[usize]) -> Result<Vec<ArrayRef>, ArrowError> {
    let fields = source.fields.iter().zip(places);
    fields.map(|(field, place)| widened(field.ty, batch.column(*place))).collect()
}

fn widened(ty: Type, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let wanted = data_type(ty);
    match column.data_type() {
        found if *found == wanted => Ok(Arc::clone(column)),
        DataType::Dictionary(_, values) => widened(ty, &cast(column, values)?),
        DataType::Timestamp(unit, _) => Ok(Arc::new(floored(*unit, column).with_timezone("UTC"))),
        _ => cast(column, &wanted),
    }
}

/// Arrow's own cast rounds towards the epoch; instants are floored. Seconds too large for milliseconds stay out of
/// the range of instants and are refused there.
fn floored(unit: TimeUnit, column: &ArrayRef) -> TimestampMillisecondArray {
    match unit {
        TimeUnit::Second => {
            column.as_primitive::<TimestampSecondType>().unary(|time| time.saturating_mul(1000))
        }
        TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().clone(),
        TimeUnit::Microsecond => {
            column.as_primitive::<TimestampMicrosecondType>().unary(|time| time.div_euclid(1000))
        }
        TimeUnit::Nanosecond => {
            column.as_primitive::<TimestampNanosecondType>().unary(|time| time.div_euclid(1_000_000))
        }
    }
}
