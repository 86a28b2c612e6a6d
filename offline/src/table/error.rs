//! What can go wrong with an event table.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};

use arrow::error::ArrowError;
use deltalake_core::DeltaTableError;
use parquet::errors::ParquetError;
use thiserror::Error;
use tidemark_kernel::error::{ErrorKind, Explain, USE_NEWER};

use super::{HeldField, Positions, Properties, storage::LOG_FOLDER};
use crate::durable::{FileError, kind_of_cause, may_pass, of_system};

/// What went wrong with an event table.
#[derive(Debug, Error)]
pub enum TableError {
    /// A file or folder of the table could not be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// There is no table yet.
    #[error("there is no event table at {}", .0.display())]
    Missing(PathBuf),
    /// The table needs features this build does not have.
    #[error("the table {} was written by a newer version ({detail})", path.display())]
    Newer {
        /// The table.
        path: PathBuf,
        /// What is needed.
        detail: String,
    },
    /// Rows hold a field as another type than it is declared as.
    #[error("in the table {}, {held}", path.display())]
    Retyped {
        /// The table.
        path: PathBuf,
        /// The field, and the rows that are in the way.
        held: HeldField,
    },
    /// Another writer has committed some of these rows: nothing was written. Skip what the positions cover and go on.
    #[error("the table {} has rows that another writer has committed meanwhile", path.display())]
    Behind {
        /// The table.
        path: PathBuf,
        /// The position of every partition of the table now.
        positions: Positions,
    },
    /// The table has other properties than the caller believed: nothing was written.
    #[error("the table {} has other properties by now", path.display())]
    OtherProperties {
        /// The table.
        path: PathBuf,
        /// What it says.
        properties: Properties,
    },
    /// Records are read under another version of the source by now: nothing was written.
    #[error(
        "the definitions of the source have changed, and another process runs the newer ones already (the table {} \
         is written under version {theirs} of the source, this process has version {ours})",
        path.display()
    )]
    Superseded {
        /// The table.
        path: PathBuf,
        /// The version of the source that this handle works under.
        ours: String,
        /// The version that the table names.
        theirs: String,
    },
    /// Data files do not hold the rows that the table's log says.
    #[error(
        "the data files of the table {} from {first} on do not hold the rows that its log says",
        path.display()
    )]
    Damaged {
        /// The table.
        path: PathBuf,
        /// The name of the first of these files.
        first: String,
    },
    /// Rows to append do not have the table's columns, or hold a time that cannot be stored.
    #[error("rows do not fit the table {}: {source}", path.display())]
    Rows {
        /// The table.
        path: PathBuf,
        /// What does not fit.
        source: ArrowError,
    },
    /// A data file could not be written as Parquet.
    #[error("cannot write the data file {}: {source}", path.display())]
    Parquet {
        /// The data file.
        path: PathBuf,
        /// What went wrong.
        source: ParquetError,
    },
    /// A data file could not be read as Parquet.
    #[error("cannot read the data file {}: {source}", path.display())]
    Read {
        /// The data file.
        path: PathBuf,
        /// What went wrong.
        source: ParquetError,
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
    /// Whether there is no room left to write. Nothing was written then.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::File(error) if error.is_full())
    }

    /// Whether trying again later may help without anybody changing what is tried: no room to write, or a disk that
    /// does not answer. What may be waited for says `true`.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        of_system(self).is_some_and(may_pass)
    }

    /// Errors of the table's log. A full disk and what a newer writer left behind are recognised.
    pub(super) fn log<E: Into<DeltaTableError>>(path: &Path) -> impl FnOnce(E) -> Self + '_ {
        move |source| {
            let source = source.into();
            let full = of_system(&source).map(|error| FileError {
                action: "write to",
                path: path.join(LOG_FOLDER),
                source: error
                    .raw_os_error()
                    .map_or_else(|| error.kind().into(), io::Error::from_raw_os_error),
            });
            if let Some(full) = full.filter(FileError::is_full) {
                return Self::File(full);
            }
            match source.to_string() {
                detail if detail.to_lowercase().contains("unsupported") => {
                    Self::Newer { path: path.into(), detail }
                }
                _ => Self::Log { path: path.into(), source: Box::new(source) },
            }
        }
    }

    pub(super) fn read(path: &Path) -> impl FnOnce(ParquetError) -> Self + '_ {
        move |source| Self::Read { path: path.into(), source }
    }

    pub(super) fn rows(path: &Path) -> impl FnOnce(ArrowError) -> Self + '_ {
        move |source| Self::Rows { path: path.into(), source }
    }
}

impl Explain for TableError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::File(error) => error.kind(),
            Self::Missing(_) | Self::Newer { .. } => ErrorKind::Environment,
            Self::Retyped { .. } | Self::Superseded { .. } => ErrorKind::Environment,
            Self::Damaged { .. } => ErrorKind::Damaged,
            // The writer handles the first two and retries.
            Self::Behind { .. } | Self::OtherProperties { .. } | Self::Rows { .. } => ErrorKind::Internal,
            Self::Parquet { .. } | Self::Log { .. } => kind_of_cause(self).unwrap_or(ErrorKind::Internal),
            Self::Read { .. } => kind_of_cause(self).unwrap_or(ErrorKind::Damaged),
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::File(error) => return error.help(),
            Self::Missing(_) => "ingest something into the source first",
            Self::Newer { .. } => USE_NEWER,
            Self::Retyped { .. } => {
                "give the field another name (`from` says what it is called in the data), or the source"
            }
            Self::Superseded { .. } => "restart this process with the definitions that were applied last",
            Self::Damaged { .. } => "nothing was changed, restore the folder from a backup",
            Self::Behind { .. } | Self::OtherProperties { .. } => return None,
            Self::Rows { .. } | Self::Parquet { .. } | Self::Read { .. } | Self::Log { .. } => {
                return None;
            }
        };
        Some(help.into())
    }
}

#[cfg(test)]
mod tests {
    use deltalake_core::ObjectStoreError;

    use super::*;

    fn of_log(kind: io::ErrorKind) -> TableError {
        let source = Box::new(io::Error::from(kind));
        TableError::log(Path::new("events"))(ObjectStoreError::Generic { store: "disk", source })
    }

    #[test]
    fn what_may_pass_is_told_from_what_needs_somebody() {
        let full = of_log(io::ErrorKind::StorageFull);
        assert!(full.is_full() && full.may_pass());
        assert!(full.to_string().starts_with("cannot write to events/_delta_log: "), "{full}");
        assert!(full.explained().ends_with("; free some space, nothing was written in part"), "{full}");

        let limited = of_log(io::ErrorKind::FileTooLarge);
        assert!(limited.is_full() && !limited.may_pass(), "{limited}");

        let slow = of_log(io::ErrorKind::TimedOut);
        assert!(slow.may_pass() && !slow.is_full(), "{slow}");
        let parquet = ParquetError::External(Box::new(io::Error::from(io::ErrorKind::ResourceBusy)));
        assert!(TableError::Parquet { path: "a".into(), source: parquet }.may_pass());
        let read = io::Error::from(io::ErrorKind::Interrupted).into();
        assert!(TableError::read(Path::new("events"))(read).may_pass());

        for kind in [io::ErrorKind::NotFound, io::ErrorKind::PermissionDenied, io::ErrorKind::InvalidData] {
            assert!(!of_log(kind).may_pass(), "{kind}");
        }
        assert!(!TableError::Missing("events".into()).may_pass());
    }

    #[test]
    fn the_cause_tells_the_kind() {
        assert_eq!(of_log(io::ErrorKind::StorageFull).kind(), ErrorKind::OutOfSpace);
        assert_eq!(of_log(io::ErrorKind::TimedOut).kind(), ErrorKind::Unavailable);
        assert_eq!(of_log(io::ErrorKind::PermissionDenied).kind(), ErrorKind::Environment);
        let torn = || ParquetError::General("no footer".to_owned());
        assert_eq!(TableError::read(Path::new("events"))(torn()).kind(), ErrorKind::Damaged);
        assert_eq!(TableError::Parquet { path: "a".into(), source: torn() }.kind(), ErrorKind::Internal);
        assert_eq!(TableError::Missing("events".into()).kind(), ErrorKind::Environment);
        let behind = TableError::Behind { path: "events".into(), positions: Positions::new() };
        assert_eq!((behind.kind(), behind.help()), (ErrorKind::Internal, None));
        let newer = TableError::Newer { path: "events".into(), detail: "deletion vectors".into() };
        assert_eq!((newer.kind(), newer.help().as_deref()), (ErrorKind::Environment, Some(USE_NEWER)));
    }
}
