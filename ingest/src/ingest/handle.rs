//! A handle to a running ingestion: requests such as a status, files to take in, or new definitions.

use std::sync::Arc;

use tidemark_kernel::FeaturePlan;
use tokio::sync::{mpsc, oneshot};

use crate::error::IngestError;
use crate::feed::SourceFeed;
use crate::files::Changed;
use crate::pipeline::run::Answer;
use crate::pipeline::take_in::FilesReport;
use crate::status::{Detail, Status};

pub(super) enum Command {
    Define { sources: Vec<SourceFeed>, views: Vec<Arc<FeaturePlan>>, answer: Answer<()> },
    TakeIn { source: String, patterns: Vec<String>, changed: Changed, answer: Answer<FilesReport> },
    WaitUntilIdle { answer: Answer<()> },
    Status { detail: Detail, answer: Answer<Status> },
    Idle { answer: Answer<()> },
}

/// Asks a [running](super::Ingest::run) ingestion to do something while it runs.
///
/// Every request waits until it is done. All fail with [`IngestError::NotRunning`] once the ingestion or the
/// source has ended.
#[derive(Clone)]
pub struct IngestHandle {
    commands: mpsc::Sender<Command>,
}

impl std::fmt::Debug for IngestHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IngestHandle").finish_non_exhaustive()
    }
}

impl IngestHandle {
    pub(super) const fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands }
    }

    /// Replaces all definitions. What was taken in before reaches both stores as it was defined then; changed views
    /// are backfilled from history beside what comes in, while their old generations keep answering; unchanged ones go on.
    /// Returns once every view is up.
    ///
    /// # Errors
    /// Fails where a backfill does, or a source's fields no longer fit its table; other sources and views may be as newly
    /// defined by then. [`IngestError::Superseded`] where definitions were replaced again before.
    pub async fn reload(
        &self,
        sources: Vec<SourceFeed>,
        views: Vec<Arc<FeaturePlan>>,
    ) -> Result<(), IngestError> {
        self.ask(|answer| Command::Define { sources, views, answer }).await
    }

    /// Takes in files, as [`Ingest::take_in_files`](super::Ingest::take_in_files) does, after those that were asked for before and
    /// beside everything else.
    ///
    /// # Errors
    /// As there.
    pub async fn take_in_files(
        &self,
        source: &str,
        patterns: Vec<String>,
    ) -> Result<FilesReport, IngestError> {
        self.take_in_files_as(source, patterns, Changed::Refuse).await
    }

    /// Takes in files, as [`Ingest::take_in_files_as`](super::Ingest::take_in_files_as) does.
    ///
    /// # Errors
    /// As there.
    pub async fn take_in_files_as(
        &self,
        source: &str,
        patterns: Vec<String>,
        changed: Changed,
    ) -> Result<FilesReport, IngestError> {
        self.ask(|answer| Command::TakeIn { source: source.to_owned(), patterns, changed, answer }).await
    }

    /// Waits until everything that was pushed before is in both stores.
    ///
    /// # Errors
    /// Fails where a store does.
    pub async fn wait_until_idle(&self) -> Result<(), IngestError> {
        self.ask(|answer| Command::WaitUntilIdle { answer }).await
    }

    /// The status of every source and view.
    ///
    /// # Errors
    /// As of [`Ingest::status`](super::Ingest::status).
    pub async fn status(&self, detail: Detail) -> Result<Status, IngestError> {
        self.ask(|answer| Command::Status { detail, answer }).await
    }

    /// Waits until everything there is, in topics, pushes and the files that were asked for, is in both stores.
    ///
    /// # Errors
    /// Fails where the ingestion ends before.
    pub async fn idle(&self) -> Result<(), IngestError> {
        self.ask(|answer| Command::Idle { answer }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, IngestError> {
        let (answer, answered) = oneshot::channel();
        let gone = || IngestError::NotRunning;
        self.commands.send(command(answer)).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }
}
