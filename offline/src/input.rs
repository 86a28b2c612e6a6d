//! Input files: which format and compression a file name means, and how a file is opened.
//!
//! Events and labels come in the same files, so there is one rule for both: which endings are read, what is compressed,
//! which files a path selects, and how Parquet is opened such that no instant becomes another.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Fields, Schema, TimeUnit};
use flate2::bufread::MultiGzDecoder;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::basic::Type as Physical;
use parquet::errors::ParquetError;
use parquet::schema::types::SchemaDescriptor;

mod paths;

pub use paths::{FolderColumn, PathsError, data_files, folder_columns};

/// How many bytes of a file are read at once.
const BUFFER: usize = 64 * 1024;

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Parquet.
    Parquet,
    /// Text with a header, its fields parted by this byte.
    Csv(u8),
    /// A JSON object on each line.
    Json,
}

/// How a file is compressed as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packing {
    /// Not at all.
    Plain,
    /// One or more members of gzip.
    Gzip,
    /// One or more frames of Zstandard.
    Zstd,
}

impl Format {
    /// What the name of a file says that it holds, in any case of letters; none where it says nothing that is known.
    #[must_use]
    pub fn of(path: &Path) -> Option<(Self, Packing)> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let gzip = name.strip_suffix(".gz").map(|name| (name, Packing::Gzip));
        let packed = gzip.or_else(|| name.strip_suffix(".zst").map(|name| (name, Packing::Zstd)));
        let (name, packing) = packed.unwrap_or((name.as_str(), Packing::Plain));
        let format = match name.rsplit_once('.')?.1 {
            // Parquet compresses its own pages, and is read from its end.
            "parquet" | "parq" | "pq" if packing == Packing::Plain => Self::Parquet,
            "csv" => Self::Csv(b','),
            "tsv" => Self::Csv(b'\t'),
            "jsonl" | "ndjson" | "json" => Self::Json,
            _ => return None,
        };
        Some((format, packing))
    }
}

impl Packing {
    /// The bytes that were packed. One that breaks off, or is not what it should be, is an error while it is read.
    ///
    /// # Errors
    /// Fails where no decoder can be made.
    pub fn open<'r>(self, from: impl Read + Send + 'r) -> io::Result<Box<dyn BufRead + Send + 'r>> {
        let from = BufReader::with_capacity(BUFFER, from);
        let opened: Box<dyn BufRead + Send + 'r> = match self {
            Self::Plain => Box::new(from),
            Self::Gzip => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(from))),
            Self::Zstd => Box::new(BufReader::with_capacity(BUFFER, zstd::Decoder::with_buffer(from)?)),
        };
        Ok(opened)
    }
}

/// Opens a Parquet file, with instants of the legacy type INT96 in `unit`. Spark writes them by default. They hold any day,
/// but Arrow reads them as nanoseconds, which end in the year 2262, and later ones would come out as others.
///
/// # Errors
/// Fails where the file is no Parquet.
pub fn open_parquet(
    file: File,
    unit: TimeUnit,
) -> Result<ParquetRecordBatchReaderBuilder<File>, ParquetError> {
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())?;
    let metadata = match without_nanos(metadata.schema(), metadata.parquet_schema(), unit) {
        None => metadata,
        Some(schema) => {
            let options = ArrowReaderOptions::new().with_schema(Arc::new(schema));
            ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)?
        }
    };
    Ok(ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata))
}

/// The schema with another unit for INT96; none where the file has no such column.
fn without_nanos(schema: &Schema, file: &SchemaDescriptor, unit: TimeUnit) -> Option<Schema> {
    if !file.columns().iter().any(|column| column.physical_type() == Physical::INT96) {
        return None;
    }
    let mut leaves = file.columns().iter().map(|column| column.physical_type() == Physical::INT96);
    let fields: Fields = schema.fields().iter().map(|field| replaced(field, &mut leaves, unit)).collect();
    Some(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// A field with another unit for INT96. `leaves` are the columns of the file that follow, in the order of the fields.
fn replaced(field: &FieldRef, leaves: &mut dyn Iterator<Item = bool>, unit: TimeUnit) -> FieldRef {
    let inside = match field.data_type() {
        DataType::Struct(members) => {
            DataType::Struct(members.iter().map(|member| replaced(member, leaves, unit)).collect())
        }
        DataType::List(item) => DataType::List(replaced(item, leaves, unit)),
        DataType::LargeList(item) => DataType::LargeList(replaced(item, leaves, unit)),
        DataType::FixedSizeList(item, size) => DataType::FixedSizeList(replaced(item, leaves, unit), *size),
        DataType::Map(entries, is_sorted) => DataType::Map(replaced(entries, leaves, unit), *is_sorted),
        leaf => match (leaf, leaves.next()) {
            (DataType::Timestamp(TimeUnit::Nanosecond, zone), Some(true)) => {
                DataType::Timestamp(unit, zone.clone())
            }
            _ => return Arc::clone(field),
        },
    };
    Arc::new(field.as_ref().clone().with_data_type(inside))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use arrow::array::{Array, StructArray, TimestampMillisecondArray, cast::AsArray};
    use arrow::datatypes::TimestampMillisecondType;
    use parquet::data_type::{Int64Type, Int96, Int96Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::*;

    #[test]
    fn names_say_what_files_hold() {
        for (name, found) in [
            ("a.parquet", Some((Format::Parquet, Packing::Plain))),
            ("a.PQ", Some((Format::Parquet, Packing::Plain))),
            ("a.parq", Some((Format::Parquet, Packing::Plain))),
            ("a.b.csv", Some((Format::Csv(b','), Packing::Plain))),
            ("a.tsv.gz", Some((Format::Csv(b'\t'), Packing::Gzip))),
            ("a.ndjson.zst", Some((Format::Json, Packing::Zstd))),
            ("a.parquet.gz", None),
            ("a.gz", None),
            ("csv", None),
            ("a.xlsx", None),
        ] {
            assert_eq!(Format::of(Path::new(name)), found, "{name}");
        }
    }

    #[test]
    fn packed_files_are_read_over_all_their_members() {
        let gzip = |text: &str| {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(text.as_bytes()).expect("packed");
            packed.finish().expect("packed")
        };
        let zstd = |text: &str| zstd::encode_all(text.as_bytes(), 1).expect("packed");
        for (packing, packed) in [
            (Packing::Gzip, [gzip("a\n"), gzip("b\n")].concat()),
            (Packing::Zstd, [zstd("a\n"), zstd("b\n")].concat()),
        ] {
            let mut text = String::new();
            packing.open(packed.as_slice()).expect("opened").read_to_string(&mut text).expect("read");
            assert_eq!(text, "a\nb\n");
            let cut = &packed[..packed.len() - 3];
            assert!(packing.open(cut).expect("opened").read_to_string(&mut text).is_err(), "it breaks off");
        }
        assert!(
            Packing::Gzip.open(&b"a,b\n"[..]).expect("opened").read_to_string(&mut String::new()).is_err()
        );
    }

    /// An INT96 of the midnight of a day after 1970.
    fn midnight(day: i64) -> Int96 {
        let mut instant = Int96::new();
        instant.set_data(0, 0, u32::try_from(day + 2_440_588).expect("a Julian day"));
        instant
    }

    #[test]
    fn instants_of_spark_are_themselves() {
        let schema = "message spark { required int64 id; optional group inner { optional int96 at; } optional int96 until; }";
        let schema = Arc::new(parse_message_type(schema).expect("a schema"));
        let (mut bytes, properties) =
            (tempfile::tempfile().expect("a file"), WriterProperties::builder().build());
        let file = bytes.try_clone().expect("the same file");
        let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).expect("a writer");
        let mut group = writer.next_row_group().expect("a group");
        let mut column = group.next_column().expect("written").expect("a column");
        column.typed::<Int64Type>().write_batch(&[1], None, None).expect("written");
        column.close().expect("closed");
        for (day, level) in [(-719_162, 2), (2_932_896, 1)] {
            let mut column = group.next_column().expect("written").expect("a column");
            column.typed::<Int96Type>().write_batch(&[midnight(day)], Some(&[level]), None).expect("written");
            column.close().expect("closed");
        }
        group.close().expect("closed");
        writer.close().expect("closed");
        bytes.flush().expect("flushed");
        let mut rows =
            open_parquet(bytes, TimeUnit::Millisecond).expect("Parquet").build().expect("a reader");
        let batch = rows.next().expect("a batch").expect("readable");
        let at = |array: &TimestampMillisecondArray| array.value(0);
        let inner: &StructArray = batch.column(1).as_struct();
        assert_eq!(at(inner.column(0).as_primitive::<TimestampMillisecondType>()), -62_135_596_800_000);
        assert_eq!(at(batch.column(2).as_primitive::<TimestampMillisecondType>()), 253_402_214_400_000);
        assert_eq!(batch.column(0).len(), 1);
    }
}
