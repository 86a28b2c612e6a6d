//! Reading one data file.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use futures::stream::{BoxStream, StreamExt, TryStreamExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ParquetRecordBatchStreamBuilder, ProjectionMask};

use super::TableError;
use super::storage::Storage;

/// Rows of a table, batch by batch.
pub type Rows = BoxStream<'static, Result<RecordBatch, TableError>>;

/// How many rows a batch has at most.
const BATCH: usize = 8192;

/// The rows of a data file in the order in which they are stored, with the columns of `schema`; one that the file lacks is null.
///
/// # Errors
/// Fails if the file is missing or is not a Parquet file; the stream fails if a page cannot be read, or a value does not fit the type
/// of its column.
pub(crate) async fn read_in_order(
    storage: Arc<dyn Storage>,
    name: String,
    schema: SchemaRef,
) -> Result<Rows, TableError> {
    let (builder, path) = (open(&*storage, &name).await?, storage.place().join(&name));
    let wanted = schema.fields().iter().filter_map(|field| builder.schema().index_of(field.name()).ok());
    let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
    let rows = builder.with_projection(mask).with_batch_size(BATCH).build();
    let rows = rows.map_err(TableError::read(&path))?;
    let rows = rows.map(move |batch| Ok(conform(&batch?, &schema)?));
    Ok(rows.map_err(move |error| TableError::read(&path)(error)).boxed())
}

/// Opens a data file and reads what it says of itself.
pub(super) async fn open(
    storage: &dyn Storage,
    name: &str,
) -> Result<ParquetRecordBatchStreamBuilder<Box<dyn AsyncFileReader>>, TableError> {
    let file = storage.read(name).await?;
    // The Arrow schema that some writers embed (views, dictionaries) is ignored.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(file, options).await;
    builder.map_err(TableError::read(&storage.place().join(name)))
}

/// The columns of `schema`. Those of other types are cast to them.
fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = schema.fields().iter().map(|field| match batch.column_by_name(field.name()) {
        Some(column) => cast_with_options(column, field.data_type(), &strict),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    });
    let columns = columns.collect::<Result<_, _>>()?;
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(SchemaRef::clone(schema), columns, &rows)
}
