//! Events of a running service, for display.

use std::sync::Arc;
use std::time::Duration;

use tidemark_ingest::FilesReport;
use tidemark_ingest::progress::Progress;
use tidemark_registry::{Change, Loss};

use crate::error::EngineError;
use crate::project::Project;

/// What has happened. An error that ends the run is no event: the run returns it.
#[derive(Debug)]
pub enum Event<'e> {
    /// How far a piece of work is: a backfill, files being taken in.
    Progress(Progress<'e>),
    /// The definitions that were read change this, and are about to be applied.
    Changes(&'e [Change]),
    /// The definitions that are about to be applied take this away from what services answer.
    Losses(&'e [Loss]),
    /// Settings have changed, which take effect at the next start.
    SettingsLater,
    /// The definitions that were read cannot be applied: the version before goes on.
    Refused {
        /// What is wrong with them.
        error: &'e EngineError,
        /// The number of the version that goes on.
        version: u64,
    },
    /// After definitions that were refused, those of the version that runs were read again.
    Restored {
        /// The number of the version that runs.
        version: u64,
    },
    /// A version was applied and runs.
    Applied {
        /// The number of the version.
        version: u64,
        /// How long that took, with the backfill of its views.
        took: Duration,
    },
    /// Files of feeds were taken in.
    Files {
        /// The project at the version that runs.
        project: &'e Project,
        /// Each source with what became of its files.
        reports: &'e [(String, FilesReport)],
    },
    /// A pattern of a feed matches no file yet; files that appear are taken in.
    NoFiles {
        /// The name of the source.
        source: &'e str,
        /// The pattern of paths, as in the definition.
        pattern: &'e str,
    },
    /// The files of a feed could not be taken in; everything else goes on, and they are tried again.
    FilesFailed {
        /// The name of the source.
        source: &'e str,
        /// Why they could not be taken in.
        error: &'e EngineError,
    },
}

/// Receives each event. It may be called by several tasks at once, and must not block.
pub type Tell = Arc<dyn Fn(Event<'_>) + Send + Sync>;
