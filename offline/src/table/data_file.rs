//! Data files: rows in Parquet in the order given, durable before they are named.
//!
//! A file is written for one commit, the next one after the version that its writer has seen, and its name says which:
//!
//! ```text
//! 00000000000000000017-6f9619ff-….parquet                              rows of commit 17
//! 00000000000000000017-6f9619ff-….00000000000000000023-8b86d011….parquet   what took its place with commit 23
//! ```
//!
//! If another writer makes that commit, the file gets a new name, or is written again. So a name whose commit is in without it can
//! never enter the table any more, which [`vacuum`](super::vacuum) goes by. The order of files is not in their names
//! ([`order`](super::order)); the first number is what earlier versions of Tidemark order files by.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::Add;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::WriterProperties;
use uuid::Uuid;

use super::statistics::{self, Statistics};
use super::storage::{Storage, Written};
use super::{TableError, layout};
use crate::parquet_file::parquet_write_error;

/// How many rows a row group holds: enough to compress well, few enough to be skipped in useful pieces.
const ROWS_PER_GROUP: usize = 128 * 1024;

/// How many bytes a row group holds at most: what writing a file, and reading it back, needs of memory.
const BYTES_PER_GROUP: usize = 64 << 20;

/// A name for a data file written by a writer that has seen `version` of the table.
#[expect(clippy::disallowed_methods, reason = "names of files are unique; nothing else depends on them")]
pub(super) fn name(version: u64) -> String {
    format!("{:020}-{}.parquet", version + 1, Uuid::new_v4())
}

/// A name for a data file that takes the place of the one named `first`, written by a writer that has seen `version` of the table.
#[expect(clippy::disallowed_methods, reason = "names of files are unique; nothing else depends on them")]
pub(super) fn name_in_place_of(first: &str, version: u64) -> String {
    let (place, _) = first.split_once('.').unwrap_or((first, ""));
    format!("{place}.{:020}-{}.parquet", version + 1, Uuid::new_v4().simple())
}

/// The version of the commit that a file, finished or not, was written for. None where the name is not one of ours, and where an
/// earlier version wrote it to take the place of others: such a name has the commit of the first of these only, and the file may be
/// about to be committed.
pub(super) fn commit_of(name: &str) -> Option<u64> {
    let name = match name.strip_suffix(".tmp") {
        // `.NAME.RANDOM.tmp`, as it is called until it is finished.
        Some(unfinished) => unfinished.strip_prefix('.')?.rsplit_once('.')?.0,
        None => name,
    };
    let name = name.strip_suffix(".parquet")?;
    let own = name.split_once('.').map_or(name, |(_, own)| own);
    let (digits, _) = own.split_once('-').filter(|(digits, _)| digits.len() == 20)?;
    digits.parse().ok()
}

/// Writes rows, given as stored, to a new file and says what the table's log must know of it.
pub(super) fn write(
    storage: &dyn Storage,
    name: &str,
    schema: &SchemaRef,
    rows: impl IntoIterator<Item = Result<RecordBatch, TableError>>,
) -> Result<Add, TableError> {
    let path = storage.place().join(name);
    let other = |source| TableError::Parquet { path: path.clone(), source };
    let parquet = |error| parquet_write_error(&path, error).map_or_else(other, TableError::File);
    let mut statistics = Statistics::default();
    let mut file = storage.create(name)?;
    let mut writer = ArrowWriter::try_new(&mut *file, schema.clone(), Some(properties())).map_err(parquet)?;
    for batch in rows {
        let batch = batch?;
        statistics.add(&batch);
        writer.write(&batch).map_err(parquet)?;
    }
    writer.close().map_err(parquet)?;
    Ok(described(name, file.finish()?, &statistics))
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

fn described(name: &str, written: Written, statistics: &Statistics) -> Add {
    Add {
        path: name.to_owned(),
        partition_values: HashMap::new(),
        size: written.bytes as i64,
        modification_time: written.modified_ms,
        data_change: true,
        stats: Some(statistics.delta().to_string()),
        tags: Some(HashMap::from([(statistics::TAG.to_owned(), Some(statistics.tag()))])),
        ..Add::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_which_commit_it_was_written_for() {
        let first = name(16);
        assert_eq!(commit_of(&first), Some(17));
        let merged = name_in_place_of(&first, 22);
        assert_eq!(commit_of(&merged), Some(23));
        assert!(merged.starts_with(first.strip_suffix("parquet").unwrap()), "earlier versions read it there");
        assert_eq!(commit_of(&name_in_place_of(&merged, 30)), Some(31));
        assert_eq!(commit_of(&format!(".{merged}.a1B2c3.tmp")), Some(23));
        let earlier = first.replace(".parquet", ".6f9619ff8b86d011b42d00c04fc964ff.parquet");
        assert_eq!(commit_of(&earlier), None);
        for other in ["part-00000-6f96-c000.snappy.parquet", ".part.parquet.tmp", "x.parquet", ".tmp", ""] {
            assert_eq!(commit_of(other), None, "{other}");
        }
    }
}
