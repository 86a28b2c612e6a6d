//! The surface: every source of a project, in one process.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use futures::future::try_join_all;
use tidemark_kernel::{FeaturePlan, SourcePlan};
use tidemark_offline::Location;
use tidemark_store::{Clock, OnlineStore};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::IngestError;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::pipeline::take_in::FilesReport;
use crate::pipeline::{Pipeline, Shared};
use crate::progress::{Watch, unwatched};
use crate::push::{Accepting, PushLog, PushWriter, router};
use crate::status::Status;
use handle::Command;

mod handle;

pub use handle::IngestHandle;

/// How long pushed events wait at most for the event tables. Lookups see them long before.
const COMMIT_EVERY: Duration = Duration::from_secs(1);

/// How many commands may wait.
const WAITING: usize = 16;

/// What it takes to open an [`Ingest`].
#[derive(Clone)]
pub struct IngestConfig {
    /// The folder that holds `ingest.redb`. It is created if need be.
    pub data_dir: PathBuf,
    /// Where the event tables are.
    pub offline: Location,
    /// Every source.
    pub sources: Vec<Arc<SourcePlan>>,
    /// Every view.
    pub views: Vec<Arc<FeaturePlan>>,
    /// The online state.
    pub store: Arc<dyn OnlineStore>,
    /// The wall clock: when pushed events are received.
    pub clock: Clock,
}

/// Every source of a project on its way into the online state and the event tables.
///
/// It may be dropped at any instant, or its process killed: opened again, it goes on where it was.
pub struct Ingest {
    pipelines: BTreeMap<String, Pipeline>,
    sources: Vec<Arc<SourcePlan>>,
    views: Vec<Arc<FeaturePlan>>,
    /// Whether every view is up and everything that waited was taken in.
    ready: bool,
    shared: Shared,
    clock: Clock,
    handle: IngestHandle,
    commands: mpsc::Receiver<Command>,
    writer: PushWriter,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("pipelines", &self.pipelines).finish_non_exhaustive()
    }
}

impl Ingest {
    /// Opens the journal and the event tables, creating what does not exist. Nothing is taken in yet.
    ///
    /// # Errors
    /// Fails where another process has the journal open, a newer version wrote it or a table, the disk is full, or
    /// a source's fields do not fit its table.
    pub async fn open(config: IngestConfig) -> Result<Self, IngestError> {
        let journal = Journal::open(&config.data_dir.join("ingest.redb"))?;
        let writer = PushWriter::start(journal.clone())?;
        let accepting = Accepting::default();
        let shared = Shared {
            location: config.offline,
            store: config.store,
            journal,
            push: writer.log().clone(),
            accepting: accepting.clone(),
            metrics: Arc::default(),
        };
        let pipelines =
            config.sources.iter().map(|source| Pipeline::open(shared.clone(), Arc::clone(source)));
        let pipelines = try_join_all(pipelines).await?;
        let sources = pipelines.iter().map(|pipeline| Arc::clone(pipeline.source()));
        accepting.hold().await.extend(sources.map(|source| (source.name.clone(), source)));
        let pipelines =
            pipelines.into_iter().map(|pipeline| (pipeline.source().name.clone(), pipeline)).collect();
        let (send, commands) = mpsc::channel(WAITING);
        Ok(Self {
            pipelines,
            sources: config.sources,
            views: config.views,
            ready: false,
            shared,
            clock: config.clock,
            handle: IngestHandle::new(send),
            commands,
            writer,
        })
    }

    /// Brings everything to where the logs end: fills views that are new or changed, catches up those that are
    /// behind, takes up files that were cut short and takes in what was pushed. Everything else does this first.
    ///
    /// # Errors
    /// As of [`take_in_files`](Self::take_in_files); done again, it goes on where it was.
    pub async fn catch_up(&mut self, watch: Watch<'_>) -> Result<(), IngestError> {
        if self.ready {
            return Ok(());
        }
        let (sources, views) = (self.sources.clone(), self.views.clone());
        self.define(&sources, &views, watch).await?;
        self.commit().await?;
        self.ready = true;
        Ok(())
    }

    /// Takes in the files that path patterns name, sorted by path, and commits them. Files whose content was taken
    /// in before are skipped.
    ///
    /// # Errors
    /// Before anything is taken in: where the source is unknown, a pattern names no file, or a file's columns do not
    /// fit the source. Later: where a file, the store or a table cannot be read or written; what was taken in stays
    /// so, and the same call goes on from there.
    pub async fn take_in_files(
        &mut self,
        source: &str,
        patterns: &[String],
        watch: Watch<'_>,
    ) -> Result<FilesReport, IngestError> {
        self.pipeline(source)?;
        self.catch_up(watch).await?;
        self.pipeline(source)?.take_in(patterns, watch).await
    }

    /// Takes in everything that waits in the push logs, and commits it. How many records that was.
    ///
    /// # Errors
    /// Fails where the journal, the store or a table cannot be read or written.
    pub async fn drain_push(&mut self) -> Result<u64, IngestError> {
        self.catch_up(&unwatched).await?;
        let taken = self.apply_pushed().await?;
        self.commit().await?;
        Ok(taken)
    }

    /// Takes in what is pushed, as it is pushed, and does what [`handle`](Self::handle)s ask for, until `shutdown`;
    /// then commits everything. Lookups see a pushed event within milliseconds. A file or a fill that is under way at
    /// `shutdown` is left there, and taken up by the next start.
    ///
    /// # Errors
    /// Fails where the journal, the store or a table cannot be read or written. Nothing is lost: run it again.
    pub async fn run(&mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), IngestError> {
        let mut shutdown = std::pin::pin!(shutdown);
        tokio::select! {
            () = &mut shutdown => return self.commit().await,
            caught_up = self.catch_up(&unwatched) => caught_up?,
        }
        let mut appended = self.writer.log().appended();
        let mut commits = interval(COMMIT_EVERY);
        commits.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                changed = appended.changed() => changed.map_err(|_| self.shared.push.gone())?,
                _ = commits.tick() => self.commit().await?,
                Some(command) = self.commands.recv() => tokio::select! {
                    // What it was about to change may be half changed: nothing more is taken in.
                    () = &mut shutdown => return self.commit().await,
                    () = self.obey(command) => {}
                },
            }
            self.apply_pushed().await?;
        }
        self.apply_pushed().await?;
        self.commit().await
    }

    /// What asks a [running](Self::run) ingestion to do something else. Clones ask the same one.
    #[must_use]
    pub fn handle(&self) -> IngestHandle {
        self.handle.clone()
    }

    /// The HTTP routes for pushing events: `POST /v1/sources/{source}/events`.
    ///
    /// A record is acknowledged once it is durable; it is taken in by [`run`](Self::run) or
    /// [`drain_push`](Self::drain_push). The routes outlive this object, but then refuse everything.
    pub fn push_router(&self) -> Router {
        router(self.shared.accepting.clone(), self.writer.log().clone(), Arc::clone(&self.clock))
    }

    /// The push logs, for pushing without HTTP.
    #[must_use]
    pub fn push_log(&self) -> PushLog {
        self.shared.push.clone()
    }

    /// The counters, which go on counting whatever is redefined.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Where every source and view stands. It reads columns of the event tables, and may read the online store.
    ///
    /// # Errors
    /// Fails where a table, the journal or the store cannot be read.
    pub async fn status(&self) -> Result<Status, IngestError> {
        Status::read(self.pipelines.values(), &self.views, &self.shared).await
    }

    /// Takes effect of other sources and views. Views that are unchanged go on; the live generation of a changed
    /// one keeps answering until its successor is filled.
    async fn define(
        &mut self,
        sources: &[Arc<SourcePlan>],
        views: &[Arc<FeaturePlan>],
        watch: Watch<'_>,
    ) -> Result<(), IngestError> {
        let gone = |name: &String| !sources.iter().any(|source| source.name == *name);
        let removed: Vec<String> = self.pipelines.keys().filter(|name| gone(name)).cloned().collect();
        for name in removed {
            self.shared.accepting.hold().await.remove(&name);
            if let Some(mut pipeline) = self.pipelines.remove(&name) {
                pipeline.drain_push().await?;
                pipeline.commit().await?;
            }
        }
        for source in sources {
            let plans: Vec<_> = views.iter().filter(|plan| plan.source == source.name).cloned().collect();
            if !self.pipelines.contains_key(&source.name) {
                let pipeline = Pipeline::open(self.shared.clone(), Arc::clone(source)).await?;
                self.pipelines.insert(source.name.clone(), pipeline);
            }
            self.pipeline(&source.name)?.switch(Arc::clone(source), &plans, watch).await?;
        }
        (self.sources, self.views) = (sources.to_vec(), views.to_vec());
        Ok(())
    }

    async fn obey(&mut self, command: Command) {
        // Whoever asked and did not wait for the answer does not want it.
        match command {
            Command::Define { sources, views, answer } => {
                drop(answer.send(self.define(&sources, &views, &unwatched).await));
            }
            Command::TakeIn { source, patterns, answer } => {
                drop(answer.send(self.take_in_files(&source, &patterns, &unwatched).await));
            }
            Command::Settle { answer } => drop(answer.send(self.drain_push().await.map(drop))),
            Command::Status { answer } => drop(answer.send(self.status().await)),
        }
    }

    fn pipeline(&mut self, source: &str) -> Result<&mut Pipeline, IngestError> {
        let known = || self.sources.iter().map(|source| source.name.as_str()).collect::<Vec<_>>().join(", ");
        let unknown = || IngestError::UnknownSource { given: source.to_owned(), known: known() };
        self.pipelines.get_mut(source).ok_or_else(unknown)
    }

    async fn apply_pushed(&mut self) -> Result<u64, IngestError> {
        let drains = self.pipelines.values_mut().map(Pipeline::drain_push);
        Ok(try_join_all(drains).await?.into_iter().sum())
    }

    async fn commit(&mut self) -> Result<(), IngestError> {
        let commits = self.pipelines.values_mut().map(Pipeline::commit);
        try_join_all(commits).await.map(drop)
    }
}
