//! Reports of the files of a command: taken in, skipped or refused.

use std::path::PathBuf;
use std::time::Duration;

use tidemark_kernel::Explain;

use crate::error::IngestError;
use crate::files::Earlier;
use crate::tally::Tally;

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The path of the file.
    pub path: PathBuf,
    /// What became of it.
    pub outcome: FileOutcome,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOutcome {
    /// The file was taken in.
    TakenIn {
        /// What became of its rows, of those taken in now.
        tally: Tally,
        /// How many of its rows had been taken in before.
        before: u64,
        /// How many events of earlier content were taken back for it.
        taken_back: u64,
        /// How long it took.
        took: Duration,
    },
    /// The rest of the file was given up; one dead letter records that.
    GivenUp {
        /// How many of its rows were taken in before, and stay.
        rows: u64,
    },
    /// Its content was taken in before.
    Skipped {
        /// Under which name.
        known_as: PathBuf,
        /// How many of its rows are dead letters.
        rejected: u64,
    },
    /// The file would count rows twice, and was left out.
    SetAside(Earlier),
    /// The file is one of a feed, cannot be read as one of the source, and was left out.
    Refused {
        /// Why not, with its path.
        reason: String,
        /// What to do about it, one piece on each line.
        help: Option<String>,
    },
}

impl FileOutcome {
    /// The outcome of a file that is left out because of this error.
    pub(super) fn refused(error: &IngestError) -> Self {
        Self::Refused { reason: error.to_string(), help: error.help().map(Into::into) }
    }
}

/// What became of the files of one command, in the order in which they were looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FilesReport {
    /// One for each file, those first that had been taken in halfway.
    pub files: Vec<FileReport>,
}

impl FilesReport {
    /// How many events were taken in.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.sum(|outcome| match outcome {
            FileOutcome::TakenIn { tally, .. } => tally.events(),
            _ => 0,
        })
    }

    /// How many dead letters there were.
    #[must_use]
    pub fn dead_letters(&self) -> u64 {
        self.sum(|outcome| match outcome {
            FileOutcome::TakenIn { tally, .. } => tally.rejected.count(),
            FileOutcome::GivenUp { .. } => 1,
            FileOutcome::Skipped { .. } | FileOutcome::SetAside(_) | FileOutcome::Refused { .. } => 0,
        })
    }

    fn sum(&self, count: fn(&FileOutcome) -> u64) -> u64 {
        self.files.iter().map(|file| count(&file.outcome)).sum()
    }
}
