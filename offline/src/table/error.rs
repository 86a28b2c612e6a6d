//! What can go wrong with an event table.

use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use deltalake_core::DeltaTableError;
use parquet::errors::ParquetError;
use thiserror::Error;

use super::{Positions, layout::Change};
use crate::durable::FileError;

/// What went wrong with an event table.
#[derive(Debug, Error)]
pub enum TableError {
    /// A file or folder of the table could not be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no table yet.
    #[error("there is no event table at {}; ingest something into the source first", .0.display())]
    Missing(PathBuf),
    /// The table needs features this build does not have.
    #[error(
        "the table {} was written by a newer version ({detail}); upgrade tidemark, or use the version that wrote it",
        path.display()
    )]
    Newer {
        /// The table.
        path: PathBuf,
        /// What is needed.
        detail: String,
    },
    /// A field has another type than the table's column.
    #[error(
        "field {field} is declared as {declared}, but the table {} holds it as {stored}; \
         give the new field another name, or the source",
        path.display()
    )]
    Retyped {
        /// The table.
        path: PathBuf,
        /// The field.
        field: String,
        /// The table's type, as Delta names it.
        stored: String,
        /// The declared type, as Delta names it.
        declared: String,
    },
    /// A column of the table is declared no more.
    #[error(
        "the table {} has a column {field} that the source declares no more; declare the field again \
         (events without it have null), or give the source another name",
        path.display()
    )]
    Removed {
        /// The table.
        path: PathBuf,
        /// The column.
        field: String,
    },
    /// Somebody else has committed some of these rows: nothing was written. Skip what the positions cover and go on.
    #[error("the table {} has moved on to {positions:?}; skip what is in and append the rest", path.display())]
    Behind {
        /// The table.
        path: PathBuf,
        /// Where every log of the table stands now.
        positions: Positions,
    },
    /// Rows to append do not have the table's columns, or hold a time that cannot be stored.
    #[error("rows do not fit the table {}: {source}", path.display())]
    Rows {
        /// The table.
        path: PathBuf,
        /// What does not fit.
        source: ArrowError,
    },
    /// A data file could not be written or read as Parquet.
    #[error("cannot write the data file {}: {source}", path.display())]
    Parquet {
        /// The data file.
        path: PathBuf,
        /// What went wrong.
        source: ParquetError,
    },
    /// The table could not be read.
    #[error("cannot read the table {}: {source}", path.display())]
    Read {
        /// The table.
        path: PathBuf,
        /// What went wrong.
        source: Box<DataFusionError>,
    },
    /// The table's log could not be read or written.
    #[error("cannot read or write the log of the table {}: {source}", path.display())]
    Log {
        /// The table.
        path: PathBuf,
        /// What went wrong.
        source: Box<DeltaTableError>,
    },
}

impl TableError {
    /// Errors of the table's log. What a newer writer left behind is recognised.
    pub(super) fn log<E: Into<DeltaTableError>>(path: &Path) -> impl FnOnce(E) -> Self + '_ {
        move |source| {
            let source = source.into();
            match source.to_string() {
                detail if detail.to_lowercase().contains("unsupported") => {
                    Self::Newer { path: path.into(), detail }
                }
                _ => Self::Log { path: path.into(), source: Box::new(source) },
            }
        }
    }

    pub(super) fn read(path: &Path) -> impl FnOnce(DataFusionError) -> Self + '_ {
        move |source| Self::Read { path: path.into(), source: Box::new(source) }
    }

    pub(super) fn rows(path: &Path) -> impl FnOnce(ArrowError) -> Self + '_ {
        move |source| Self::Rows { path: path.into(), source }
    }

    pub(super) fn incompatible(path: &Path, change: Change) -> Option<Self> {
        let path = path.to_owned();
        match change {
            Change::Retyped(field, stored, declared) => Some(Self::Retyped { path, field, stored, declared }),
            Change::Removed(field) => Some(Self::Removed { path, field }),
            Change::Added(_) => None,
        }
    }
}
