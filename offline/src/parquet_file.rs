//! What went wrong while a Parquet file was written: the disk, or the rows.

use std::io;
use std::path::Path;

use parquet::errors::ParquetError;

use crate::durable::FileError;

/// What the system said while Parquet was written to `path`.
///
/// # Errors
/// Anything else comes back as it is: the rows do not fit, or Parquet is at fault.
pub fn parquet_write_error(path: &Path, error: ParquetError) -> Result<FileError, ParquetError> {
    match error {
        ParquetError::External(source) => match source.downcast::<io::Error>() {
            Ok(source) => Ok(FileError::of("write", path)(*source)),
            Err(source) => Err(ParquetError::External(source)),
        },
        other => Err(other),
    }
}

#[cfg(test)]
mod tests {
    use tidemark_kernel::{ErrorKind, Explain};

    use super::*;

    #[test]
    fn what_the_system_says_is_told_from_what_parquet_says() {
        let full = ParquetError::from(io::Error::from(io::ErrorKind::StorageFull));
        let full = parquet_write_error(Path::new("a"), full).unwrap();
        assert_eq!((full.kind(), full.path.as_path()), (ErrorKind::OutOfSpace, Path::new("a")));
        let other = ParquetError::General("no schema".to_owned());
        assert_eq!(
            parquet_write_error(Path::new("a"), other).unwrap_err().to_string(),
            "Parquet error: no schema"
        );
    }
}
