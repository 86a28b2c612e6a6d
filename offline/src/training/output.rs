//! Training sets as files: whole or not at all.

use std::io::Write;
use std::path::Path;

use arrow::csv::WriterBuilder;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::TrainingSet;
use super::error::TrainError;
use super::labels::Format;
use crate::durable::{Beside, FileError};

/// Fails early where a training set with these columns cannot be written to `path`, or nothing can.
pub(super) fn check(path: &Path, schema: &Schema) -> Result<(), TrainError> {
    check_columns(path, schema)?;
    drop(Beside::create(path)?);
    Ok(())
}

fn check_columns(path: &Path, schema: &Schema) -> Result<(), TrainError> {
    if Format::of(path, "training sets")? == Format::Parquet {
        return Ok(());
    }
    match schema.fields().iter().find(|field| field.data_type().is_nested()) {
        None => Ok(()),
        Some(list) => {
            let (column, instead) = (list.name().clone(), path.with_extension("parquet"));
            Err(TrainError::List { column, instead })
        }
    }
}

/// Writes a training set beside its path, then renames.
pub(super) fn write(set: &TrainingSet, path: &Path) -> Result<(), TrainError> {
    check_columns(path, &set.schema)?;
    let mut beside = Beside::create(path)?;
    match Format::of(path, "training sets")? {
        Format::Parquet => parquet(set, &mut beside).map_err(|source| from_parquet(path, source))?,
        Format::Csv => csv(set, &mut beside).map_err(|source| from_csv(path, source))?,
    }
    Ok(beside.finish()?)
}

fn parquet(set: &TrainingSet, beside: &mut Beside) -> Result<(), ParquetError> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(beside.file(), set.schema.clone(), Some(properties))?;
    for batch in &set.batches {
        writer.write(batch)?;
    }
    writer.close().map(drop)
}

/// Batch by batch through memory: the library would make a text of the system's error.
fn csv(set: &TrainingSet, beside: &mut Beside) -> Result<(), ArrowError> {
    for (at, batch) in set.batches.iter().enumerate() {
        let mut text = Vec::new();
        WriterBuilder::new().with_header(at == 0).build(&mut text).write(batch)?;
        beside.file().write_all(&text)?;
    }
    Ok(())
}

fn from_parquet(path: &Path, error: ParquetError) -> TrainError {
    let parquet = |source| TrainError::Parquet { path: path.to_owned(), source };
    FileError::of_parquet(path, error).map_or_else(parquet, TrainError::File)
}

fn from_csv(path: &Path, error: ArrowError) -> TrainError {
    match error {
        ArrowError::IoError(_, source) => FileError::of("write", path)(source).into(),
        other => TrainError::Assemble(other),
    }
}
