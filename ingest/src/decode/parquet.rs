//! Parquet: columns by name, members of structs by the names that lead to them, each of the field's type or a narrower
//! one.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, TimestampMillisecondArray, cast::AsArray, new_null_array};
use arrow::compute::{cast, is_null, nullif};
use arrow::datatypes::{DataType, Fields, Schema, TimeUnit};
use arrow::datatypes::{
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use tidemark_kernel::plan::Field;
use tidemark_kernel::value::{Type, arrow::data_type};
use tidemark_kernel::{Position, SourcePlan};

use super::columns::{Made, Names};
use super::{BATCH_BYTES, Chunk, ColumnsError, Form, Forms, Place, Raw};
use crate::error::IngestError;

/// Reads rows of one Parquet file.
pub(crate) struct ParquetRows {
    batches: ParquetRecordBatchReader,
    /// The column of each declared field in what is read; none where the file lacks one that is optional.
    columns: Vec<Option<Column>>,
    /// The next row, from 0.
    row: i64,
    rows: i64,
}

/// Where a field is found: a column, or a member of a struct.
#[derive(Clone, Debug)]
struct Column {
    /// The column, among those of the file or of what is read of it.
    root: usize,
    /// The place in its struct of each member that leads to the field.
    members: Vec<usize>,
}

impl ParquetRows {
    /// Finds the source's fields among the columns and goes to a row. `batch` is how many rows are read at a time,
    /// fewer where rows are large.
    pub(crate) fn open(
        path: &Path,
        file: File,
        source: &SourcePlan,
        skip: i64,
        batch: usize,
    ) -> Result<Self, IngestError> {
        let unreadable = |error: parquet::errors::ParquetError| IngestError::unreadable(path, error);
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(unreadable)?;
        let columns = find(source, builder.schema()).map_err(IngestError::columns(path))?;
        let rows = builder.metadata().file_metadata().num_rows();
        let groups = builder.metadata().row_groups();
        let bytes: i64 = groups.iter().map(|group| group.total_byte_size()).sum();
        let batch = batch.min(rows_of(BATCH_BYTES as i64, bytes, rows));
        let roots: BTreeSet<usize> = columns.iter().flatten().map(|column| column.root).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
        let reader = builder.with_projection(mask).with_batch_size(batch).with_offset(skip as usize);
        let columns = columns.into_iter().map(|column| column.map(|column| column.projected(&roots)));
        let (batches, columns) = (reader.build().map_err(unreadable)?, columns.collect());
        Ok(Self { batches, columns, row: skip, rows })
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
            added: None,
            numbers: (first + 1..=first + rows).collect(),
            raw: Raw::Columns,
            forms: Forms::All(Form::Columns),
            logs: None,
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
fn find(source: &SourcePlan, schema: &Schema) -> Result<Vec<Option<Column>>, ColumnsError> {
    let mut names = Names::default();
    add_names(&mut names, schema.fields());
    let columns: Result<Vec<_>, _> =
        source.fields.iter().map(|field| find_field(source, field, schema.fields())).collect();
    let columns = columns?;
    names.check(source, Made::Columns)?;
    Ok(columns)
}

fn add_names(names: &mut Names, fields: &Fields) {
    for field in fields {
        let inside = names.add(field.name());
        if let DataType::Struct(members) = field.data_type() {
            add_names(inside, members);
        }
    }
}

/// The column of one field. None where there is none, optional or not.
fn find_field(source: &SourcePlan, field: &Field, columns: &Fields) -> Result<Option<Column>, ColumnsError> {
    let path = source.path(&field.name);
    let (mut places, mut level) = (Vec::with_capacity(path.len()), columns);
    for (depth, name) in path.iter().enumerate() {
        let whole = || path[..=depth].join(".");
        let mut found = level.iter().enumerate().filter(|(_, column)| column.name() == name);
        let Some((place, column)) = found.next() else { return Ok(None) };
        if found.next().is_some() {
            return Err(ColumnsError::Twice(whole()));
        }
        places.push(place);
        match column.data_type() {
            ty if depth + 1 == path.len() => check(&whole(), field, ty)?,
            DataType::Struct(members) => level = members,
            ty => {
                let (found, field) = (ty.to_string(), field.name.clone());
                return Err(ColumnsError::NoStruct { column: whole(), found, field });
            }
        }
    }
    Ok(places.split_first().map(|(root, members)| Column { root: *root, members: members.to_vec() }))
}

impl Column {
    /// A projection keeps the order of the file: where the column is among `roots`, which are read.
    fn projected(self, roots: &BTreeSet<usize>) -> Self {
        Self { root: roots.range(..self.root).count(), ..self }
    }

    /// Its values. A member of a struct that is null is null, whatever is stored there.
    fn of(&self, batch: &RecordBatch) -> Result<ArrayRef, ArrowError> {
        let mut column = Arc::clone(batch.column(self.root));
        for member in &self.members {
            let outer = column.as_struct();
            column = nullif(outer.column(*member), &is_null(outer)?)?;
        }
        Ok(column)
    }
}

fn check(column: &str, field: &Field, found: &DataType) -> Result<(), ColumnsError> {
    use DataType::{
        Binary, BinaryView, Boolean, Dictionary, FixedSizeBinary, Float16, Float32, Float64, Int8, Int16,
        Int32, Int64, LargeBinary, LargeUtf8, Timestamp, UInt8, UInt16, UInt32, Utf8, Utf8View,
    };
    let found = if let Dictionary(_, values) = found { values } else { found };
    let fits = match field.ty {
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
    let (declared, remedy) = (field.ty, remedy(column, field.ty, found));
    let (column, found, field) = (column.to_owned(), found.to_string(), field.name.clone());
    Err(ColumnsError::Type { column, found, field, declared, remedy })
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
    let plain = column.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    let name = if plain { column.to_owned() } else { format!("\"{}\"", column.replace('"', "\"\"")) };
    let write = format!("write the file with `cast({name} as {sql})`");
    match (declared, found) {
        (Type::Timestamp, found) if found.is_integer() => {
            format!("declare the field as int64 and name the `unit` of the time, or {write}")
        }
        (_, DataType::Struct(_)) => format!("take a member of it with `from: {{path: {column}.NAME}}`"),
        (Type::Int64, DataType::Timestamp(_, _)) => format!("declare the field as timestamp, or {write}"),
        _ => write,
    }
}

fn columns(
    source: &SourcePlan,
    batch: &RecordBatch,
    columns: &[Option<Column>],
) -> Result<Vec<ArrayRef>, ArrowError> {
    let column = |(field, column): (&Field, &Option<Column>)| match column {
        Some(column) => widened(field.ty, &column.of(batch)?),
        None => Ok(new_null_array(&data_type(field.ty), batch.num_rows())),
    };
    source.fields.iter().zip(columns).map(column).collect()
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
