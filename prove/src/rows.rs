//! Rows written to a Parquet file, which is there whole or not at all.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use thiserror::Error;
use tidemark_kernel::{ErrorKind, Explain};
use tidemark_offline::durable::{Beside, FileError};
use tidemark_offline::parquet_write_error;

/// Rows could not be written to a file.
#[derive(Debug, Error)]
pub enum WriteError {
    /// The file or its folder could not be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// Its rows could not be written as Parquet.
    #[error("cannot write {}: {source}", path.display())]
    Parquet {
        /// The path of the file.
        path: PathBuf,
        /// What went wrong.
        source: ParquetError,
    },
}

impl WriteError {
    fn of_parquet(path: &Path, error: ParquetError) -> Self {
        let parquet = |source| Self::Parquet { path: path.to_owned(), source };
        parquet_write_error(path, error).map_or_else(parquet, Self::File)
    }
}

impl Explain for WriteError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::Parquet { .. } => ErrorKind::Internal,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::File(error) => error.help(),
            Self::Parquet { .. } => None,
        }
    }
}

/// Writes rows, or says why they could not be made.
pub(crate) fn write(
    path: &Path,
    rows: Result<RecordBatch, ArrowError>,
    properties: Option<WriterProperties>,
) -> Result<(), WriteError> {
    let mut beside = Beside::create(path)?;
    let written = rows.map_err(ParquetError::from).and_then(|rows| {
        let mut writer = ArrowWriter::try_new(beside.file(), rows.schema(), properties)?;
        writer.write(&rows)?;
        writer.close().map(drop)
    });
    written.map_err(|error| WriteError::of_parquet(path, error))?;
    Ok(beside.finish()?)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_cause_tells_who_can_help() {
        let file = Path::new("rows.parquet");
        let of = |error| WriteError::of_parquet(file, error);
        let full = of(io::Error::from(io::ErrorKind::StorageFull).into());
        assert_eq!(full.kind(), ErrorKind::OutOfSpace);
        assert!(full.explained().starts_with(&format!("cannot write {}: ", file.display())), "{full}");
        let other = of(ParquetError::General("no schema".to_owned()));
        assert_eq!((other.kind(), other.help()), (ErrorKind::Internal, None));
    }
}
