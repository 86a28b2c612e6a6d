//! Data files as other writers of Delta tables may leave them.

use arrow::array::{Float64Array, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field as Column, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;

use super::*;
use crate::table::storage::local::LocalDisk;

/// A data file with these columns.
fn written(folder: &TempDir, columns: Vec<(&str, ArrayRef)>) -> std::path::PathBuf {
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let path = folder.path().join("part.parquet");
    let mut file = ArrowWriter::try_new(fs::File::create(&path).unwrap(), rows.schema(), None).unwrap();
    file.write(&rows).unwrap();
    file.close().unwrap();
    path
}

async fn read(path: std::path::PathBuf, columns: Vec<Column>) -> Result<Vec<RecordBatch>, TableError> {
    let storage: Arc<dyn Storage> = Arc::new(LocalDisk::new(path.parent().unwrap().to_owned()));
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    read_in_order(storage, name, Arc::new(Schema::new(columns))).await?.try_collect().await
}

fn ints(values: Vec<Option<i32>>) -> ArrayRef {
    Arc::new(Int32Array::from(values))
}

#[tokio::test]
async fn columns_are_read_as_the_table_has_them() {
    let folder = TempDir::new().unwrap();
    let times = TimestampMillisecondArray::from(vec![-1, 1]).with_timezone("UTC");
    let path = written(&folder, vec![("narrow", ints(vec![Some(7), None])), ("at", Arc::new(times))]);
    let micros = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let columns = vec![
        Column::new("at", micros, false),
        Column::new("missing", DataType::Float64, true),
        Column::new("narrow", DataType::Int64, true),
    ];
    let found = read(path, columns.clone()).await.unwrap();
    let expected: Vec<ArrayRef> = vec![
        Arc::new(TimestampMicrosecondArray::from(vec![-1000, 1000]).with_timezone("UTC")),
        Arc::new(Float64Array::from(vec![None, None])),
        Arc::new(Int64Array::from(vec![Some(7), None])),
    ];
    assert_eq!(found, [RecordBatch::try_new(Arc::new(Schema::new(columns)), expected).unwrap()]);
}

#[tokio::test]
async fn a_file_with_none_of_the_columns_has_its_rows() {
    let folder = TempDir::new().unwrap();
    let path = written(&folder, vec![("other", ints(vec![Some(1); 3]))]);
    let found = read(path, vec![Column::new("missing", DataType::Utf8, true)]).await.unwrap();
    assert_eq!((found.len(), found[0].num_rows(), found[0].column(0).null_count()), (1, 3, 3));
}

#[tokio::test]
async fn what_does_not_fit_is_an_error_that_names_the_file() {
    let folder = TempDir::new().unwrap();
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["7", "x"]));
    let path = written(&folder, vec![("text", texts), ("gap", ints(vec![Some(1), None]))]);
    for column in [Column::new("text", DataType::Int64, true), Column::new("gap", DataType::Int32, false)] {
        let error = read(path.clone(), vec![column]).await.unwrap_err();
        assert!(matches!(error, TableError::Read { .. }) && !error.may_pass(), "{error:?}");
        assert!(error.to_string().contains("part.parquet"), "{error}");
    }
    fs::write(&path, b"no Parquet").unwrap();
    assert!(matches!(read(path.clone(), vec![]).await, Err(TableError::Read { .. })));
    fs::remove_file(&path).unwrap();
    let error = read(path, vec![]).await.unwrap_err();
    assert!(matches!(error, TableError::File(_)), "{error:?}");
}
