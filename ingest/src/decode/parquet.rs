//! Parquet: columns by name, members of structs by the names that lead to them.
//!
//! A column of which no value can be of the field's type is the fault of the definition or of the whole file, which is
//! refused. Where single values do not fit, their rows are dead letters.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, cast::AsArray, new_null_array};
use arrow::compute::{filter, is_null, nullif};
use arrow::datatypes::{DataType, Fields, Schema, TimeUnit};
use arrow::error::ArrowError;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReader;
use parquet::errors::ParquetError;
use tidemark_kernel::source::Rejection;
use tidemark_kernel::time::Zone;
use tidemark_kernel::value::arrow::{data_type, value_at};
use tidemark_kernel::value::{Field, Type, convert, json};
use tidemark_kernel::{Position, SourcePlan};
use tidemark_offline::input::open_parquet;

use super::columns::{Made, Names};
use super::folders::Folders;
use super::json::shortened;
use super::members::Members;
use super::spelled::spell;
use super::{BATCH_BYTES, Chunk, ColumnsError, DeadLetter, Form, Forms, Raw, RecordPlace, cells};
use crate::error::IngestError;

/// Reads rows of one Parquet file.
pub(crate) struct ParquetRows {
    batches: ParquetRecordBatchReader,
    /// The column of each declared field in what is read; none where the file lacks one that is optional.
    columns: Vec<Option<Column>>,
    /// The fields that come from names of folders.
    folders: Folders,
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
    /// Finds the source's fields among the columns and goes to a row. Those that the file lacks may be named by `folders`.
    /// `batch` is how many rows are read at a time, fewer where rows are large.
    pub(crate) fn open(
        path: &Path,
        file: File,
        source: &SourcePlan,
        folders: Folders,
        skip: i64,
        batch: usize,
    ) -> Result<Self, IngestError> {
        let unreadable = |error: ParquetError| IngestError::unreadable(path, error);
        let again = file.try_clone().map_err(IngestError::file("open", path))?;
        let builder = open_parquet(file, TimeUnit::Millisecond).map_err(unreadable)?;
        let rows = builder.metadata().file_metadata().num_rows();
        let groups = builder.metadata().row_groups();
        let bytes: i64 = groups.iter().map(|group| group.total_byte_size()).sum();
        let batch = batch.min(rows_of(BATCH_BYTES as i64, bytes, rows));
        let is_null = |column: &Column| is_null_only(&again, batch, column);
        let columns = find(&folders.source(source), builder.schema(), is_null).map_err(unreadable)?;
        let columns = columns.map_err(IngestError::columns(path))?;
        let folders = folders.without(|name| builder.schema().column_with_name(name).is_some());
        let roots: BTreeSet<usize> = columns.iter().flatten().map(|column| column.root).collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
        let reader = builder.with_projection(mask).with_batch_size(batch).with_offset(skip as usize);
        let columns = columns.into_iter().map(|column| column.map(|column| column.projected(&roots)));
        let (batches, columns) = (reader.build().map_err(unreadable)?, columns.collect());
        Ok(Self { batches, columns, folders, row: skip, rows })
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
        place: &RecordPlace,
        from: Position,
    ) -> Result<Option<Chunk>, ArrowError> {
        let Some(batch) = self.batches.next().transpose()? else { return Ok(None) };
        let rows = batch.num_rows() as i64;
        let first = self.row;
        self.row += rows;
        let Columns { mut columns, wrong, has_clocks } =
            Columns::of(source, &batch, &self.columns, &self.folders)?;
        let (members, mut dead) = (Members::of(source), Vec::with_capacity(wrong.len()));
        for (row, cells) in &wrong {
            let raw = spell(&members, &spelled(&columns, *row, cells)).into_bytes();
            let reasons = cells.iter().map(|cell| cell.reason.as_str());
            let rejection = Rejection::Undecodable(reasons.collect::<Vec<_>>().join("; "));
            dead.push(DeadLetter {
                offset: from.0 + *row as i64,
                code: rejection.code(),
                reason: rejection.to_string(),
                place: place.at(first + 1 + *row as i64),
                raw,
                form: Some(Form::Columns),
                record_time: None,
            });
        }
        if !wrong.is_empty() {
            let fits: BooleanArray =
                (0..batch.num_rows()).map(|row| Some(!wrong.contains_key(&row))).collect();
            columns = columns.iter().map(|column| filter(column, &fits)).collect::<Result<_, _>>()?;
        }
        let fitting: Vec<i64> = (0..rows).filter(|row| !wrong.contains_key(&(*row as usize))).collect();
        Ok(Some(Chunk {
            columns,
            has_clocks,
            offsets: fitting.iter().map(|row| from.0 + row).collect(),
            times: vec![None; fitting.len()],
            added: None,
            numbers: fitting.iter().map(|row| first + 1 + row).collect(),
            raw: Raw::Columns,
            forms: Forms::All(Form::Columns),
            partitions: None,
            place: place.clone(),
            dead,
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

/// The columns of the source's fields, with their types checked. None of one that has nothing but nulls, which `is_null`
/// says: writers that know no type for it make one up.
fn find(
    source: &SourcePlan,
    schema: &Schema,
    is_null: impl Fn(&Column) -> Result<bool, ParquetError>,
) -> Result<Result<Vec<Option<Column>>, ColumnsError>, ParquetError> {
    let mut names = Names::default();
    add_names(&mut names, schema.fields());
    let (mut columns, mut problems) = (Vec::with_capacity(source.fields.len()), Vec::new());
    for field in &source.fields {
        let problem = match find_field(source, field, schema.fields()) {
            Found::Fits(column) => {
                columns.push(Some(column));
                continue;
            }
            Found::Nothing => {
                columns.push(None);
                continue;
            }
            Found::Misfit(column, problem) => (!is_null(&column)?).then_some(problem),
            Found::Twice(problem) => Some(problem),
        };
        columns.push(None);
        problems.extend(problem);
        // Do not also report it as missing.
        source.path(&field.name).into_iter().fold(&mut names, |names, name| names.add(name));
    }
    problems.extend(names.check(source, Made::Columns).err());
    Ok(ColumnsError::none_of(problems).map(|()| columns))
}

/// Whether a column has nothing but nulls. It is read, up to its first value: a file may have no statistics, or wrong
/// ones, by which values would be lost in silence. Nulls take next to no room.
fn is_null_only(file: &File, batch: usize, column: &Column) -> Result<bool, ParquetError> {
    let builder = open_parquet(file.try_clone()?, TimeUnit::Millisecond)?;
    let mask = ProjectionMask::roots(builder.parquet_schema(), [column.root]);
    let column = column.clone().projected(&BTreeSet::from([column.root]));
    for rows in builder.with_projection(mask).with_batch_size(batch).build()? {
        let values = column.of(&rows?)?;
        if values.logical_null_count() < values.len() {
            return Ok(false);
        }
    }
    Ok(true)
}

fn add_names(names: &mut Names, fields: &Fields) {
    for field in fields {
        let inside = names.add(field.name());
        if let DataType::Struct(members) = field.data_type() {
            add_names(inside, members);
        }
    }
}

/// What a file has for one field.
enum Found {
    /// A column of which values can be of the field's type.
    Fits(Column),
    /// A column of which no value but null can be, or one on the way to the field that has no members; and the problem
    /// if it has values.
    Misfit(Column, ColumnsError),
    /// Two columns of one name.
    Twice(ColumnsError),
    /// No column, be the field optional or not.
    Nothing,
}

fn find_field(source: &SourcePlan, field: &Field, columns: &Fields) -> Found {
    let path = source.path(&field.name);
    let (mut places, mut level) = (Vec::with_capacity(path.len()), columns);
    for (depth, name) in path.iter().enumerate() {
        let whole = || path[..=depth].join(".");
        let mut found = level.iter().enumerate().filter(|(_, column)| column.name() == name);
        let Some((place, column)) = found.next() else { return Found::Nothing };
        if found.next().is_some() {
            return Found::Twice(ColumnsError::Twice(whole()));
        }
        places.push(place);
        let here = |places: &[usize]| Column { root: places[0], members: places[1..].to_vec() };
        match column.data_type() {
            ty if depth + 1 == path.len() => {
                return match check(&whole(), field, ty) {
                    Ok(()) => Found::Fits(here(&places)),
                    Err(problem) => Found::Misfit(here(&places), problem),
                };
            }
            DataType::Struct(members) => level = members,
            ty => {
                let (found, field) = (ty.to_string(), field.name.clone());
                let problem = ColumnsError::NoStruct { column: whole(), found, field };
                return Found::Misfit(here(&places), problem);
            }
        }
    }
    Found::Nothing
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
    let found = if let DataType::Dictionary(_, values) = found { values } else { found };
    if convert::fits(found, field.ty) {
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
        (Type::Timestamp, found) if found.is_numeric() => {
            let numbers = if found.is_integer() { Type::Int64 } else { Type::Float64 };
            format!("declare the field as {numbers} and name the `unit` of the time, or {write}")
        }
        (Type::String, found) if found.is_integer() => format!("declare the field as int64, or {write}"),
        (_, DataType::Struct(_)) => format!("take a member of it with `from: {{path: {column}.NAME}}`"),
        (Type::Int64, DataType::Timestamp(_, _)) => format!("declare the field as timestamp, or {write}"),
        _ => write,
    }
}

/// The columns of some rows, in the order of the fields.
struct Columns {
    /// Null where a value is none of its field's.
    columns: Vec<ArrayRef>,
    /// The rows that have such values.
    wrong: BTreeMap<usize, Vec<WrongCell>>,
    /// Whether some times were read as UTC because neither they nor the source says their zone.
    has_clocks: bool,
}

/// A value that its field cannot hold.
struct WrongCell {
    /// The field, by its index.
    field: usize,
    /// The value, in JSON.
    spelled: String,
    /// What is wrong with it.
    reason: String,
}

impl Columns {
    fn of(
        source: &SourcePlan,
        batch: &RecordBatch,
        columns: &[Option<Column>],
        folders: &Folders,
    ) -> Result<Self, ArrowError> {
        let room = Vec::with_capacity(columns.len());
        let mut found = Self { columns: room, wrong: BTreeMap::new(), has_clocks: false };
        for (index, (field, column)) in source.fields.iter().zip(columns).enumerate() {
            match column {
                Some(column) => found.add(field, source.zone(&field.name), &column.of(batch)?)?,
                None => {
                    let rows = batch.num_rows();
                    let named = folders.column(index, rows);
                    found.columns.push(named.unwrap_or_else(|| new_null_array(&data_type(field.ty), rows)));
                }
            }
        }
        Ok(found)
    }

    fn add(&mut self, field: &Field, zone: Option<Zone>, column: &ArrayRef) -> Result<(), ArrowError> {
        let converted = convert::column(column, field.ty, zone).ok_or_else(|| {
            ArrowError::CastError(format!("a column of {} is not {}", column.data_type(), field.ty))
        })?;
        if field.ty == Type::Timestamp
            && zone.is_none()
            && !matches!(column.data_type(), DataType::Timestamp(_, Some(_)))
        {
            self.has_clocks |= (0..column.len()).any(|row| convert::content(column, row).is_clock());
        }
        for row in converted.wrong {
            let content = convert::content(column, row);
            let spelled = json::write_content(&content);
            let reason = cells::unfit(&cells::expected(field.ty, zone, &content), &shortened(&spelled));
            let reason = format!("field `{}`: {reason}", field.name);
            let cell = WrongCell { field: self.columns.len(), spelled, reason };
            self.wrong.entry(row).or_default().push(cell);
        }
        self.columns.push(converted.column);
        Ok(())
    }
}

/// The values of a row in JSON, those that do not fit as the file has them.
fn spelled(columns: &[ArrayRef], row: usize, wrong: &[WrongCell]) -> Vec<String> {
    let values = columns.iter().map(|column| json::write(&value_at(column, row)).to_string());
    let mut spelled: Vec<String> = values.collect();
    for cell in wrong {
        spelled[cell.field].clone_from(&cell.spelled);
    }
    spelled
}
