//! Label files in Parquet: columns as their writer made them, with the metadata of the file.

use std::fs::File;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::TimeUnit;
use arrow::error::ArrowError;
use parquet::errors::ParquetError;

use super::files::LabelFile;
use super::tables::Table;
use crate::durable::FileError;
use crate::input::open_parquet;
use crate::training::error::TrainError;

/// How many rows make a batch.
const BATCH_ROWS: usize = 8192;

/// The columns and rows of a file.
pub(super) fn read(file: &LabelFile) -> Result<Table, TrainError> {
    let opened = File::open(&file.path).map_err(FileError::of("read", &file.path))?;
    let unreadable = |error: ParquetError| match error {
        ParquetError::General(reason) => file.unreadable(&reason),
        other => file.unreadable(&other),
    };
    let reader = open_parquet(opened, TimeUnit::Microsecond).map_err(unreadable)?;
    let schema = Arc::clone(reader.schema());
    let rows = reader.with_batch_size(BATCH_ROWS).build().map_err(unreadable)?;
    let batches: Result<Vec<RecordBatch>, ArrowError> = rows.collect();
    Ok(Table { schema, batches: batches.map_err(|error| file.unreadable(&error))?, lines: None })
}
