//! Data files: rows in Parquet in the order given, durable before they are named.
//!
//! Names are the order of rows: files are read in order of their names, and in that order every partition is in order of
//! offset. A name starts with the version that its writer had seen, plus one. Two files with rows of one partition were
//! never written under the same: whoever writes the later rows has seen the commit of the earlier ones. A file that
//! is merged from a run of neighbours takes the place of the first of them. So it stays behind everything that stood
//! before the run; and an append under way, whose name may fall into the middle of the run, has in common with the
//! run only partitions of those parts that stand before it.

use std::collections::HashMap;
use std::path::Path;
use std::time::UNIX_EPOCH;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::Add;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::statistics::{self, Statistics};
use super::{TableError, layout};
use crate::durable::{self, Beside, FileError};

/// How many rows a row group holds: enough to compress well, few enough to be skipped in useful pieces.
const ROWS_PER_GROUP: usize = 128 * 1024;

/// How many bytes a row group holds at most: what writing a file, and reading it back, needs of memory.
const BYTES_PER_GROUP: usize = 64 << 20;

/// A name for a data file written by a writer that has seen `version` of the table.
#[expect(clippy::disallowed_methods, reason = "names of files are unique; nothing else depends on them")]
pub(super) fn name(version: u64) -> String {
    format!("{:020}-{}.parquet", version + 1, Uuid::new_v4())
}

/// A name for a data file that takes the place of the one named `first`.
#[expect(clippy::disallowed_methods, reason = "names of files are unique; nothing else depends on them")]
pub(super) fn name_in_place_of(first: &str) -> String {
    let (place, _) = first.split_once('.').unwrap_or((first, ""));
    format!("{place}.{}.parquet", Uuid::new_v4().simple())
}

/// Writes rows, given as stored, to a new file and says what the table's log must know of it.
pub(super) fn write(
    folder: &Path,
    name: &str,
    schema: &SchemaRef,
    rows: impl IntoIterator<Item = Result<RecordBatch, TableError>>,
) -> Result<Add, TableError> {
    let path = folder.join(name);
    let other = |source| TableError::Parquet { path: path.clone(), source };
    let parquet = |error| FileError::of_parquet(&path, error).map_or_else(other, TableError::File);
    let mut statistics = Statistics::default();
    let mut beside = Beside::create(&path)?;
    let mut writer =
        ArrowWriter::try_new(beside.file(), schema.clone(), Some(properties())).map_err(parquet)?;
    for batch in rows {
        let batch = batch?;
        statistics.add(&batch);
        writer.write(&batch).map_err(parquet)?;
    }
    writer.close().map_err(parquet)?;
    beside.finish()?;
    describe(&path, name, &statistics)
}

/// How files are written. Times and offsets hardly repeat, but grow little by little: their differences are both
/// smaller and quicker to write than a dictionary of them.
fn properties() -> WriterProperties {
    let growing = [layout::EVENT_TIME, layout::ARRIVAL_TIME, layout::OFFSET];
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_max_row_group_bytes(Some(BYTES_PER_GROUP));
    let delta = growing.into_iter().fold(properties, |properties, column| {
        properties
            .set_column_dictionary_enabled(column.into(), false)
            .set_column_encoding(column.into(), Encoding::DELTA_BINARY_PACKED)
    });
    delta.build()
}

fn describe(path: &Path, name: &str, statistics: &Statistics) -> Result<Add, TableError> {
    let metadata = path.metadata().map_err(FileError::of("read", path))?;
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Ok(Add {
        path: name.to_owned(),
        partition_values: HashMap::new(),
        size: metadata.len() as i64,
        modification_time: modified.map_or(0, |since| since.as_millis() as i64),
        data_change: true,
        stats: Some(statistics.delta().to_string()),
        tags: Some(HashMap::from([(statistics::TAG.to_owned(), Some(statistics.tag()))])),
        ..Add::default()
    })
}

/// Gives a file that no commit names yet another name; none where it is gone.
pub(super) fn rename(folder: &Path, file: &Add, name: String) -> Result<Option<Add>, FileError> {
    match durable::rename(&folder.join(&file.path), &folder.join(&name)) {
        Ok(()) => Ok(Some(Add { path: name, ..file.clone() })),
        Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
