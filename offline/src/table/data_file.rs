//! Data files: rows in Parquet in the order given, durable before they are named.

use std::collections::HashMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use arrow::array::{Array, RecordBatch, cast::AsArray};
use arrow::compute::{max, min};
use arrow::datatypes::{Int32Type, Int64Type, SchemaRef, TimestampMicrosecondType};
use deltalake_core::kernel::Add;
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value as Json, json};
use tidemark_kernel::Time;
use uuid::Uuid;

use super::{TableError, layout};
use crate::durable::{Beside, FileError};

/// How many rows a row group holds: enough to compress well, few enough to be skipped in useful pieces.
const ROWS_PER_GROUP: usize = 128 * 1024;

/// A name for a data file written by a writer that has seen `version` of the table.
///
/// Names sort in commit order log by log: rows of a log are written only by one who has seen the commit of the rows
/// before them.
pub(super) fn name(version: u64) -> String {
    format!("{:020}-{}.parquet", version + 1, Uuid::new_v4())
}

/// Writes rows, given as stored, to a new file and says what the table's log must know of it.
pub(super) fn write(
    folder: &Path,
    name: &str,
    schema: &SchemaRef,
    rows: &[RecordBatch],
) -> Result<Add, TableError> {
    let path = folder.join(name);
    let other = |source| TableError::Parquet { path: path.clone(), source };
    let parquet = |error| FileError::of_parquet(&path, error).map_or_else(other, TableError::File);
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .build();
    let mut beside = Beside::create(&path)?;
    let mut writer =
        ArrowWriter::try_new(beside.file(), schema.clone(), Some(properties)).map_err(parquet)?;
    for batch in rows {
        writer.write(batch).map_err(parquet)?;
    }
    writer.close().map_err(parquet)?;
    beside.finish()?;
    describe(&path, name, rows)
}

fn describe(path: &Path, name: &str, rows: &[RecordBatch]) -> Result<Add, TableError> {
    let metadata = path.metadata().map_err(FileError::of("read", path))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(Add {
        path: name.to_owned(),
        partition_values: HashMap::new(),
        size: metadata.len() as i64,
        modification_time: modified.map_or(0, |since| since.as_millis() as i64),
        data_change: true,
        stats: Some(statistics(rows).to_string()),
        ..Add::default()
    })
}

/// The system columns whose least and greatest values the log keeps, to skip files by.
const BOUNDED: [&str; 4] = [layout::EVENT_TIME, layout::ARRIVAL_TIME, layout::LOG, layout::OFFSET];

fn statistics(rows: &[RecordBatch]) -> Json {
    let (mut least, mut greatest, mut nulls) = (Map::new(), Map::new(), Map::new());
    for name in BOUNDED {
        let columns: Vec<_> = rows.iter().filter_map(|batch| batch.column_by_name(name)).collect();
        let Some(first) = columns.first() else { continue };
        let is_time = first.data_type().is_temporal();
        let bounds = columns.iter().filter_map(|column| bounds(column.as_ref()));
        let bounds = bounds.reduce(|(low, high), (least, greatest)| (low.min(least), high.max(greatest)));
        if let Some((low, high)) = bounds {
            least.insert(name.into(), bound(low, is_time));
            greatest.insert(name.into(), bound(high, is_time));
        }
        let count: usize = columns.iter().map(|column| column.null_count()).sum();
        nulls.insert(name.into(), json!(count));
    }
    let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
    json!({ "numRecords": count, "minValues": least, "maxValues": greatest, "nullCount": nulls })
}

fn bounds(column: &dyn Array) -> Option<(i64, i64)> {
    if let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() {
        return min(times).zip(max(times));
    }
    if let Some(logs) = column.as_primitive_opt::<Int32Type>() {
        return min(logs).map(i64::from).zip(max(logs).map(i64::from));
    }
    column.as_primitive_opt::<Int64Type>().and_then(|offsets| min(offsets).zip(max(offsets)))
}

fn bound(value: i64, is_time: bool) -> Json {
    if is_time { json!(Time::from_millis(value.div_euclid(1000)).to_string()) } else { json!(value) }
}
