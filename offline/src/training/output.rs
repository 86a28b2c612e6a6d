//! Training sets as files, which exist completely or not at all.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use arrow::csv::WriterBuilder;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use super::TrainingSet;
use super::error::TrainError;
use crate::durable::{Beside, FileError};
use crate::parquet_file::parquet_write_error;

/// The formats that training sets have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Csv,
}

impl Format {
    /// The format of a path by its extension.
    pub(super) fn of(path: &Path) -> Result<Self, TrainError> {
        match path.extension().unwrap_or_default().to_ascii_lowercase().to_str() {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            _ => Err(TrainError::Format(path.to_owned())),
        }
    }
}

/// Fails early where a training set with these columns cannot be written to `path`, or nothing can.
pub(super) fn check(path: &Path, schema: &Schema) -> Result<(), TrainError> {
    check_columns(path, schema)?;
    drop(Beside::create(path)?);
    Ok(())
}

fn check_columns(path: &Path, schema: &Schema) -> Result<(), TrainError> {
    if Format::of(path)? == Format::Parquet {
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
    match Format::of(path)? {
        Format::Parquet => parquet(set, &mut beside).map_err(|source| from_parquet(path, source))?,
        Format::Csv => csv(set, &mut beside).map_err(|source| from_csv(path, source))?,
    }
    Ok(beside.finish()?)
}

fn parquet(set: &TrainingSet, beside: &mut Beside) -> Result<(), ParquetError> {
    // Arrow keeps a schema's metadata in an encoded schema only, where pandas does not look.
    let metadata: BTreeMap<&String, &String> = set.schema.metadata().iter().collect();
    let metadata = metadata.into_iter().map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    let metadata: Option<Vec<KeyValue>> = Some(metadata.collect()).filter(|list: &Vec<_>| !list.is_empty());
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_key_value_metadata(metadata)
        .build();
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
    parquet_write_error(path, error).map_or_else(parquet, TrainError::File)
}

fn from_csv(path: &Path, error: ArrowError) -> TrainError {
    match error {
        ArrowError::IoError(_, source) => FileError::of("write", path)(source).into(),
        other => TrainError::Assemble(other),
    }
}
