//! What can go wrong while events are taken in, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tidemark_expr::{EvaluateError, ExprError};
use tidemark_kernel::codec::DecodeError;
use tidemark_kernel::{EntityKey, Log, Position};
use tidemark_offline::TableError;
use tidemark_store::{Generation, Remedy, StoreError};

use crate::decode::ColumnsError;
use crate::journal::JournalError;

/// Why events could not be taken in. A record that is no event is not an error: it becomes a dead letter.
#[derive(Debug, Error)]
pub enum IngestError {
    /// No source has this name.
    #[error("unknown source `{given}`; the sources are {known}")]
    UnknownSource {
        /// The name given.
        given: String,
        /// Every source, comma-separated.
        known: String,
    },
    /// A path pattern cannot be read.
    #[error("`{pattern}` is no path pattern: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No file matches a pattern.
    #[error("no file at `{0}`; give a file, or a pattern such as `data/*.parquet`")]
    NoFile(String),
    /// The file's name does not say what it holds.
    #[error("cannot tell the format of {}; name it .parquet, .csv, .jsonl, .ndjson or .json", .0.display())]
    Format(PathBuf),
    /// A file cannot be opened or read.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was being done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file cannot be read as what its name says it is.
    #[error("cannot read {}: {reason}; repair the file", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file does not have the columns that the source declares. Nothing of it was taken in.
    #[error("{}: {source}", path.display())]
    Columns {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        source: ColumnsError,
    },
    /// A file that was taken in halfway is there no more.
    #[error(
        "{} was taken in up to row {row} of source `{}` and is gone now; put it back and start again",
        path.display(), source_name
    )]
    FileGone {
        /// The file.
        path: PathBuf,
        /// The source.
        source_name: String,
        /// The next row to read.
        row: i64,
    },
    /// A file that was taken in halfway has other content now.
    #[error(
        "{} was taken in up to row {row} of source `{}` and has changed since; put back what it held and start \
         again, the new content can be taken in afterwards",
        path.display(), source_name
    )]
    FileChanged {
        /// The file.
        path: PathBuf,
        /// The source.
        source_name: String,
        /// The next row to read.
        row: i64,
    },
    /// The journal (`ingest.redb`) cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The event tables cannot be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The online store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Records between two positions can be read nowhere.
    #[error(
        "source `{source_name}`, log {log}: records from {from} to {to} are missing; the event tables and \
         ingest.redb belong together, restore both from the same backup"
    )]
    Gap {
        /// The source.
        source_name: String,
        /// The log.
        log: Log,
        /// The first offset missing.
        from: Position,
        /// The first offset there is.
        to: Position,
    },
    /// The event tables ended behind what was once read from them.
    #[error(
        "source `{source_name}`, log {log}: the event table fell back from {from} to {to}; stop whoever restores or \
         rewrites it and start again"
    )]
    FellBack {
        /// The source.
        source_name: String,
        /// The log.
        log: Log,
        /// Where it stood.
        from: Position,
        /// Where it stands.
        to: Position,
    },
    /// A view's expressions do not compile: the plan is not one that a registry checked.
    #[error("view `{view}` cannot be compiled: {source}; run `tidemark check`")]
    View {
        /// The view.
        view: String,
        /// What is wrong.
        source: ExprError,
    },
    /// A view's expressions cannot be evaluated on the source's events.
    #[error("view `{view}`: {source}")]
    Evaluate {
        /// The view.
        view: String,
        /// What is wrong.
        source: EvaluateError,
    },
    /// A stored state is not what was written.
    #[error("the state of entity 0x{key:?} in {generation} cannot be read ({source}); run `tidemark verify`")]
    State {
        /// The generation.
        generation: Generation,
        /// The entity.
        key: EntityKey,
        /// What is wrong.
        source: DecodeError,
    },
    /// Another process keeps taking over the generation that is being written.
    #[error("view `{0}` is being rebuilt by another process; stop one of the two")]
    Contended(String),
    /// Rows cannot be made into a batch: a bug in Tidemark.
    #[error("cannot build a batch for source `{source_name}`: {reason}")]
    Batch {
        /// The source.
        source_name: String,
        /// What went wrong.
        reason: String,
    },
    /// The runtime is shutting down, or a task died.
    #[error("the ingestion was stopped in the middle: {0}; start again, it goes on where it was")]
    Stopped(String),
}

impl IngestError {
    /// What to do about it.
    #[must_use]
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Store(error) => error.remedy(),
            Self::Journal(error) => error.remedy(),
            Self::UnknownSource { .. } | Self::Pattern { .. } | Self::NoFile(_) | Self::Format(_) => {
                Remedy::Fix
            }
            Self::File { .. } | Self::Unreadable { .. } | Self::Columns { .. } => Remedy::Fix,
            Self::FileGone { .. } | Self::FileChanged { .. } | Self::Contended(_) => Remedy::Fix,
            Self::Table(_) | Self::View { .. } | Self::Gap { .. } | Self::State { .. } => Remedy::Fix,
            Self::FellBack { .. } | Self::Stopped(_) => Remedy::Retry,
            Self::Evaluate { .. } | Self::Batch { .. } => Remedy::Stop,
        }
    }

    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn unreadable(path: &Path, reason: impl ToString) -> Self {
        Self::Unreadable { path: path.to_owned(), reason: reason.to_string() }
    }

    pub(crate) fn stopped(error: impl ToString) -> Self {
        Self::Stopped(error.to_string())
    }
}
