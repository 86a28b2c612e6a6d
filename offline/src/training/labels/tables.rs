//! Several files as one table, with the columns of the first file in its order. No value of any file is lost.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tidemark_kernel::value::Type;

use super::files::LabelFile;
use super::{csv, json, parquet};
use crate::input::Format;
use crate::training::declared::{Texts, declared};
use crate::training::error::TrainError;

/// What one file holds.
pub(super) struct Table {
    pub(super) schema: SchemaRef,
    pub(super) batches: Vec<RecordBatch>,
    /// The line on which each row begins; none where the format has no lines.
    pub(super) lines: Option<Vec<u64>>,
}

/// Reads one file, its partition columns behind its own. Names of columns that are text go into `texts`.
pub(super) fn read_file(file: &LabelFile, texts: &mut BTreeSet<String>) -> Result<Table, TrainError> {
    let table = match file.format {
        Format::Parquet => parquet::read(file)?,
        Format::Csv(delimiter) => csv::read(file, delimiter)?,
        Format::Json => json::read(file)?,
    };
    let mut names = names(&file.path, &table.schema)?;
    if matches!(file.format, Format::Csv(_)) {
        texts.extend(names.iter().cloned());
    }
    // Some writers keep the column in the file as well.
    let partitions: Vec<_> = file.partitions.iter().filter(|(name, _)| !names.contains(name)).collect();
    texts.extend(partitions.iter().map(|(name, _)| name.clone()));
    let mut fields: Vec<Arc<Field>> = table.schema.fields().iter().cloned().collect();
    for (name, _) in &partitions {
        if !names.insert(name.clone()) {
            return Err(TrainError::Twice { path: file.path.clone(), column: name.clone() });
        }
        fields.push(Arc::new(Field::new(name, DataType::Utf8, true)));
    }
    let schema = Arc::new(Schema::new_with_metadata(fields, table.schema.metadata().clone()));
    let batches = table.batches.iter().map(|batch| {
        let constant = |value: &Option<String>| -> ArrayRef {
            Arc::new((0..batch.num_rows()).map(|_| value.as_deref()).collect::<StringArray>())
        };
        let added = partitions.iter().map(|(_, value)| constant(value));
        RecordBatch::try_new(Arc::clone(&schema), batch.columns().iter().cloned().chain(added).collect())
    });
    Ok(Table { batches: batches.collect::<Result<_, _>>()?, schema, lines: table.lines })
}

/// The names of columns, each of which is there once.
fn names(path: &Path, schema: &Schema) -> Result<BTreeSet<String>, TrainError> {
    let mut names = BTreeSet::new();
    match schema.fields().iter().find(|field| !names.insert(field.name().clone())) {
        Some(twice) => Err(TrainError::Twice { path: path.to_owned(), column: twice.name().clone() }),
        None => Ok(names),
    }
}

/// The schema of batches that are one table, called `path` in messages: all of them have it.
pub(super) fn check_batches(path: &Path, batches: &[RecordBatch]) -> Result<SchemaRef, TrainError> {
    let Some(first) = batches.first() else { return Err(TrainError::Empty(path.to_owned())) };
    names(path, &first.schema())?;
    for batch in &batches[1..] {
        if batch.schema().fields() != first.schema().fields() {
            let reason = "its batches have different columns".to_owned();
            return Err(TrainError::Unreadable { path: path.to_owned(), reason });
        }
    }
    Ok(first.schema())
}

/// Gives all files the columns of the first, in its order, and returns them. Files of JSON lines may lack columns,
/// which are null in them.
pub(super) fn unite(files: &[LabelFile], tables: &mut [Table]) -> Result<SchemaRef, TrainError> {
    let mut fields: Vec<Arc<Field>> = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        for field in table.schema.fields() {
            match fields.iter().position(|known| known.name() == field.name()) {
                Some(place) => {
                    let known = (*fields[place]).clone();
                    let Some(ty) = common_type(known.data_type(), field.data_type()) else {
                        return Err(differing(&files[at], field, &known));
                    };
                    let nullable = known.is_nullable() || field.is_nullable();
                    fields[place] = Arc::new(known.with_data_type(ty).with_nullable(nullable));
                }
                None if at == 0 || files[at].format == Format::Json => fields.push(Arc::clone(field)),
                None => return Err(lacking(files, 0, at, field.name())),
            }
        }
    }
    if tables.len() == 1 {
        return Ok(Arc::clone(&tables[0].schema));
    }
    for (at, table) in tables.iter().enumerate() {
        let missing = fields.iter().find(|field| table.schema.index_of(field.name()).is_err());
        if let Some(field) = missing.filter(|_| files[at].format != Format::Json) {
            return Err(lacking(files, at, 0, field.name()));
        }
    }
    if files.iter().any(|file| file.format == Format::Json) {
        fields = fields.iter().map(|field| Arc::new((**field).clone().with_nullable(true))).collect();
    }
    let metadata = tables.first().map(|first| first.schema.metadata().clone()).unwrap_or_default();
    let schema = Arc::new(Schema::new_with_metadata(fields, metadata));
    for (file, table) in files.iter().zip(tables) {
        let batches = table.batches.iter().map(|batch| -> Result<RecordBatch, TrainError> {
            let column = |field: &Arc<Field>| match table.schema.index_of(field.name()) {
                Ok(at) => converted(batch.column(at), field)
                    .ok_or_else(|| differing(file, table.schema.field(at), field)),
                Err(_) => Ok(new_null_array(field.data_type(), batch.num_rows())),
            };
            let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
            Ok(RecordBatch::try_new(Arc::clone(&schema), columns)?)
        });
        table.batches = batches.collect::<Result<_, _>>()?;
    }
    Ok(schema)
}

/// A column as the [common type](common_type) that a field has; none where a value would change.
fn converted(column: &ArrayRef, field: &Field) -> Option<ArrayRef> {
    match (column.data_type(), field.data_type()) {
        (has, wanted) if has == wanted => Some(Arc::clone(column)),
        (DataType::Null, wanted) => Some(new_null_array(wanted, column.len())),
        _ => declared(column, Type::Float64, None, Texts::Typed).ok(),
    }
}

/// The type that holds the values of both.
fn common_type(one: &DataType, other: &DataType) -> Option<DataType> {
    match (one, other) {
        _ if one == other => Some(one.clone()),
        (DataType::Null, ty) | (ty, DataType::Null) => Some(ty.clone()),
        (DataType::Int64, DataType::Float64) | (DataType::Float64, DataType::Int64) => {
            Some(DataType::Float64)
        }
        _ => None,
    }
}

fn lacking(files: &[LabelFile], at: usize, other: usize, column: &str) -> TrainError {
    TrainError::Lacking {
        path: files[at].path.clone(),
        column: column.to_owned(),
        other: files[other].path.clone(),
    }
}

fn differing(file: &LabelFile, field: &Field, known: &Field) -> TrainError {
    TrainError::Differing {
        path: file.path.clone(),
        column: field.name().clone(),
        found: field.data_type().to_string(),
        known: known.data_type().to_string(),
    }
}
