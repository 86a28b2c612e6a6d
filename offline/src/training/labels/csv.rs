//! Label files in CSV, which has no types of its own.
//!
//! Columns that mean something are read as they are declared where their text allows it, the rest as what all their
//! values look like. Instants are UTC unless they say otherwise. A column in which a whole number has leading zeros
//! (`007`) is text: as a number it would come out as another one.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, cast::AsArray};
use arrow::compute::cast;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::prelude::CsvReadOptions;
use futures::TryStreamExt;
use tidemark_kernel::plan::Field as Typed;
use tidemark_kernel::value::{Type, arrow::data_type};

use super::extension;
use crate::session::{Limits, file_url, session};

/// The columns and rows of a CSV file; those in `typed` mean something.
pub(super) async fn read(
    path: &Path,
    typed: &[Typed],
) -> Result<(SchemaRef, Vec<RecordBatch>), DataFusionError> {
    let (session, extension, url) = (session(&Limits::IN_ORDER)?, extension(path), file_url(path)?);
    let options = CsvReadOptions::new().file_extension(&extension).schema_infer_max_records(usize::MAX);
    let inferred = session.read_csv(url.clone(), options.clone()).await?;
    let inferred = inferred.schema().as_arrow();
    let schema = declared(inferred, typed);
    let rows = session.read_csv(url, options.schema(&schema)).await?.execute_stream().await?;
    let batches: Vec<RecordBatch> = rows.try_collect().await?;
    let numbers: Vec<usize> =
        (0..schema.fields().len()).filter(|at| is_undecided(inferred.field(*at), typed)).collect();
    Ok(decide(&schema, batches, &numbers)?)
}

/// The first column name that the header has twice: DataFusion would take the two for one.
pub(super) fn named_twice(file: File) -> Option<String> {
    let (header, _) = Format::default().with_header(true).infer_schema(file, Some(0)).ok()?;
    let mut names = BTreeSet::new();
    header.fields().iter().find(|field| !names.insert(field.name())).map(|field| field.name().clone())
}

/// What is declared of a column.
fn type_of(column: &Field, typed: &[Typed]) -> Option<Type> {
    typed.iter().find(|typed| typed.name == *column.name()).map(|typed| typed.ty)
}

/// Whether a column looks like whole numbers and nobody says that it is.
fn is_undecided(column: &Field, typed: &[Typed]) -> bool {
    *column.data_type() == DataType::Int64 && type_of(column, typed).is_none()
}

/// The inferred columns, with declared types where every text of the column can be read so: all text is text, whole
/// numbers are floats, dates are instants. Undecided ones are text at first.
fn declared(inferred: &Schema, typed: &[Typed]) -> Schema {
    let fields = inferred.fields().iter().map(|column| {
        let ty = match (type_of(column, typed), column.data_type()) {
            (Some(Type::String), _) => DataType::Utf8,
            (Some(Type::Float64), DataType::Int64) => DataType::Float64,
            (Some(Type::Timestamp), DataType::Date32) => data_type(Type::Timestamp),
            (None, DataType::Int64) => DataType::Utf8,
            // Parquet has no timestamps in seconds.
            (_, DataType::Timestamp(TimeUnit::Second, _)) => data_type(Type::Timestamp),
            (_, DataType::Timestamp(unit, _)) => DataType::Timestamp(*unit, Some("UTC".into())),
            (_, other) => other.clone(),
        };
        Field::new(column.name(), ty, true)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Makes numbers of the undecided columns in which no text would change by it.
fn decide(
    schema: &Schema,
    batches: Vec<RecordBatch>,
    undecided: &[usize],
) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    let stay = |at: &usize| {
        batches.iter().all(|batch| batch.column(*at).as_string::<i32>().iter().flatten().all(is_plain))
    };
    let numbers: Vec<usize> = undecided.iter().copied().filter(stay).collect();
    let field = |(at, field): (usize, &Arc<Field>)| match numbers.contains(&at) {
        true => Arc::new(Field::new(field.name(), DataType::Int64, true)),
        false => Arc::clone(field),
    };
    let schema = Arc::new(Schema::new(schema.fields().iter().enumerate().map(field).collect::<Vec<_>>()));
    let number = |(at, column): (usize, &ArrayRef)| match numbers.contains(&at) {
        true => cast(column, &DataType::Int64),
        false => Ok(Arc::clone(column)),
    };
    let batches = batches.iter().map(|batch| {
        let columns = batch.columns().iter().enumerate().map(number).collect::<Result<_, _>>()?;
        RecordBatch::try_new(Arc::clone(&schema), columns)
    });
    let batches = batches.collect::<Result<_, _>>()?;
    Ok((schema, batches))
}

/// Whether a whole number is spelled as numbers are.
fn is_plain(number: &str) -> bool {
    let digits = number.strip_prefix('-').unwrap_or(number);
    number == "0" || !digits.starts_with('0')
}
