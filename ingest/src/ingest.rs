//! The public interface of ingestion: all sources of a project, in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use futures::future::try_join_all;
use tidemark_host::Host;
use tidemark_kernel::{FeaturePlan, SourcePlan};
use tidemark_offline::OfflineStore;
use tidemark_proto::openapi::Operation;
use tidemark_store::OnlineStore;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::error::IngestError;
use crate::feed::SourceFeed;
use crate::files::Changed;
use crate::health::Health;
use crate::journal::Journal;
use crate::kafka::Topics;
use crate::maintenance::{Names, drop_replaced};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::pipeline::kept::Kept;
use crate::pipeline::retract::{Retract, TakenBack};
use crate::pipeline::retry::Retried;
use crate::pipeline::run::{Answer, Definitions};
use crate::pipeline::take_in::{FileReport, FilesReport};
use crate::pipeline::{Pipeline, Shared, drop_view};
use crate::progress::{Watch, unwatched};
use crate::push::{Accepting, Applied, PushPartition, PushWriter, Pushing, operations, router};
use crate::status::{self, Detail, Status};
use crate::tables::CommitRule;
use handle::Command;
use running::Running;

mod handle;
mod running;

pub use handle::IngestHandle;

/// How many commands may wait.
const WAITING: usize = 16;

/// What it takes to open an [`Ingest`].
#[derive(Clone)]
pub struct IngestConfig {
    /// What this process keeps itself: which files it takes in, and what is pushed to it. One process at a time can have
    /// a journal open. Without one only topics are read, by any number of processes.
    pub journal: Option<Journal>,
    /// Where the event tables are.
    pub offline: Arc<dyn OfflineStore>,
    /// When what was taken in is committed to them.
    pub commit: CommitRule,
    /// Every source, with its topic if it has one.
    pub sources: Vec<SourceFeed>,
    /// Every view.
    pub views: Vec<Arc<FeaturePlan>>,
    /// The online state.
    pub store: Arc<dyn OnlineStore>,
    /// The Kafka brokers, if there are any: a [`KafkaConfig`](crate::KafkaConfig).
    pub topics: Option<Arc<dyn Topics>>,
    /// Whether records that Kafka has deleted before they were read may be passed over. If so,
    /// one dead letter records the gap; if not, lost records are an error.
    pub skip_lost: bool,
    /// Partly ingested files to give up, as absolute paths: rows already ingested stay, and a dead letter records the rest.
    /// A file that is not known, or was read to its end, is left as it is.
    pub give_up: Vec<PathBuf>,
    /// The memory that may be used.
    pub memory: Memory,
    /// The machine that this process runs on.
    pub host: Host,
}

/// Every source of a project on its way into the online state and the event tables.
///
/// It may be dropped at any instant, or its process killed: opened again, it goes on where it was.
pub struct Ingest {
    pipelines: BTreeMap<String, Pipeline>,
    sources: Vec<SourceFeed>,
    views: Vec<Arc<FeaturePlan>>,
    /// Whether every view is up and everything that waited was taken in.
    ready: bool,
    shared: Shared,
    /// Every view that this object was ever told of, with its source.
    known: BTreeSet<(String, String)>,
    /// How often sources and views were replaced.
    defined: u64,
    handle: IngestHandle,
    commands: mpsc::Receiver<Command>,
    /// Keeps the push partition's thread.
    writer: Option<PushWriter>,
}

/// The end of taking definitions into effect.
struct Defined {
    /// As of [`Ingest::defined`].
    number: u64,
    outcome: Result<(), IngestError>,
    answer: Answer<()>,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("pipelines", &self.pipelines).finish_non_exhaustive()
    }
}

impl Ingest {
    /// Opens the event tables, creating those that do not exist. Nothing is taken in yet.
    ///
    /// # Errors
    /// Fails where a newer version wrote the journal or a table, the disk is full, or a source's fields do not fit its
    /// table.
    pub async fn open(config: IngestConfig) -> Result<Self, IngestError> {
        let start = |journal| PushWriter::start(&config.host, journal);
        let writer = config.journal.clone().map(start).transpose()?;
        let kept = config.journal.zip(writer.as_ref()).map(|(journal, writer)| Kept {
            journal,
            push: writer.partition().clone(),
            accepting: Accepting::default(),
            applied: Applied::default(),
        });
        let shared = Shared {
            host: config.host,
            offline: config.offline,
            store: config.store,
            kept,
            topics: config.topics,
            rule: config.commit,
            memory: config.memory,
            skip_lost: config.skip_lost,
            give_up: config.give_up.into(),
            metrics: Arc::default(),
            health: Arc::default(),
        };
        let pipelines = config.sources.iter().map(|feed| Pipeline::open(shared.clone(), feed.clone()));
        let pipelines = try_join_all(pipelines).await?;
        if let Some(kept) = &shared.kept {
            let sources = pipelines.iter().map(|pipeline| Arc::clone(pipeline.source()));
            kept.accepting.hold().await.extend(sources.map(|source| (source.name.clone(), source)));
        }
        let pipelines =
            pipelines.into_iter().map(|pipeline| (pipeline.source().name.clone(), pipeline)).collect();
        let (send, commands) = mpsc::channel(WAITING);
        let known = config.views.iter().map(|view| (view.view.clone(), view.source.clone())).collect();
        Ok(Self {
            pipelines,
            known,
            defined: 0,
            sources: config.sources,
            views: config.views,
            ready: false,
            shared,
            handle: IngestHandle::new(send),
            commands,
            writer,
        })
    }

    /// Brings everything to where the partitions end that this process keeps: backfills views that are new or changed, catches
    /// up those that are behind, takes up files that were cut short and takes in what was pushed. Everything else
    /// does this first.
    ///
    /// # Errors
    /// As of [`take_in_files`](Self::take_in_files); done again, it goes on where it was.
    pub async fn catch_up(&mut self, watch: Watch<'_>) -> Result<(), IngestError> {
        if self.ready {
            return Ok(());
        }
        let ups = self.pipelines.values_mut().map(async |pipeline| {
            let (feed, plans) = definitions(&self.sources, &self.views, pipeline);
            pipeline.switch(feed, &plans, watch).await?;
            pipeline.finish_all().await
        });
        try_join_all(ups).await?;
        self.ready = true;
        Ok(())
    }

    /// Takes in the files that path patterns name, sorted by path, and commits them. Files whose content was taken
    /// in before are skipped.
    ///
    /// # Errors
    /// Before anything is taken in: where the source is unknown, a pattern names no file, a file's columns do not
    /// fit the source, or a file would count rows twice ([`IngestError::CountedBefore`]). Later: where a file, the store or a table cannot be read or written; what was taken in stays
    /// so, and the same call goes on from there.
    pub async fn take_in_files(
        &mut self,
        source: &str,
        patterns: &[String],
        watch: Watch<'_>,
    ) -> Result<FilesReport, IngestError> {
        self.take_in_files_as(source, patterns, Changed::Refuse, watch).await
    }

    /// Takes in files, and does with those that would count rows twice what `changed` says.
    ///
    /// # Errors
    /// As of [`take_in_files`](Self::take_in_files). Before anything is taken in also where a file cannot be
    /// [appended](Changed::Append).
    pub async fn take_in_files_as(
        &mut self,
        source: &str,
        patterns: &[String],
        changed: Changed,
        watch: Watch<'_>,
    ) -> Result<FilesReport, IngestError> {
        self.pipeline(source)?;
        self.catch_up(watch).await?;
        self.pipeline(source)?.take_in(patterns, changed, watch).await
    }

    /// Takes records of a source back that should never have come in: they are deleted from the event tables, and the
    /// views of the source are backfilled without them. What was taken back before stays so.
    ///
    /// # Errors
    /// Before anything is changed: where the source is unknown, a file was never taken in, or records are not in. Later:
    /// where the journal, the store or a table cannot be read or written; the next call of anything goes on from there.
    pub async fn retract(
        &mut self,
        source: &str,
        wanted: &Retract,
        watch: Watch<'_>,
    ) -> Result<Vec<TakenBack>, IngestError> {
        self.pipeline(source)?;
        self.catch_up(watch).await?;
        self.pipeline(source)?.retract(wanted, watch).await
    }

    /// Takes the dead letters of a source again, under its present definition. Those that are events by now get new offsets of
    /// the file partition, each once, and leave `dead_letters`; those that are rejected again stay there.
    ///
    /// # Errors
    /// Fails where the source is unknown, this process keeps no journal, or the journal, the store or a table cannot be read
    /// or written; the same call goes on from there.
    pub async fn retry(&mut self, source: &str, watch: Watch<'_>) -> Result<Retried, IngestError> {
        self.pipeline(source)?;
        self.catch_up(watch).await?;
        self.pipeline(source)?.retry(watch).await
    }

    /// Takes in everything that waits in the push partitions, and commits it. How many records that was.
    ///
    /// # Errors
    /// Fails where the journal, the store or a table cannot be read or written.
    pub async fn drain_push(&mut self) -> Result<u64, IngestError> {
        self.catch_up(&unwatched).await?;
        let drains = self.pipelines.values_mut().map(async |pipeline| {
            let taken = pipeline.drain_push().await?;
            pipeline.finish_all().await?;
            Ok::<_, IngestError>(taken)
        });
        Ok(try_join_all(drains).await?.into_iter().sum())
    }

    /// Reads topics, takes in what is pushed, as it is pushed, and does what [`handle`](Self::handle)s ask for, until
    /// `shutdown`; then commits everything. Lookups see an event within milliseconds. Each source goes at its own
    /// pace, and waits without a limit for a store, disk or broker that may come back. Views that are new, changed or lost are
    /// backfilled beside that, and are up once they have caught up. A file or a backfill that is under way at `shutdown` is left
    /// there, and taken up by the next start.
    ///
    /// # Errors
    /// Fails where the journal, the store or a table cannot be read or written, or a topic was replaced or has lost
    /// records. Nothing is lost: run it again.
    pub async fn run(&mut self, shutdown: impl Future<Output = ()> + Send) -> Result<(), IngestError> {
        self.shared.health.wait_for_ever();
        self.pipelines.values_mut().for_each(Pipeline::begin_running);
        let mut shutdown = std::pin::pin!(shutdown);
        let pipelines = std::mem::take(&mut self.pipelines);
        let mut running = Running::start(pipelines, self.shared.clone(), |pipeline| {
            (!self.ready).then(|| definitions(&self.sources, &self.views, pipeline))
        });
        // What is backfilled beside may not be up when this ends.
        self.ready = false;
        let (mut answers, mut defining) = (JoinSet::new(), JoinSet::<Defined>::new());
        let (mut upkeep, names) = (JoinSet::new(), Names::default());
        self.name_views(&names);
        upkeep.spawn(drop_replaced(
            self.shared.host.clone(),
            Arc::clone(&self.shared.store),
            Arc::clone(&names),
        ));
        let outcome = loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break Ok(()),
                ended = running.ended() => break ended,
                Some(_) = answers.join_next() => {}
                Some(Ok(defined)) = defining.join_next() => self.defined(defined).await,
                Some(command) = self.commands.recv() => tokio::select! {
                    biased;
                    // What it was about to change may be half changed: nothing more is taken in.
                    () = &mut shutdown => break Ok(()),
                    () = self.obey(&mut running, &mut answers, &mut defining, command) => self.name_views(&names),
                },
            }
        };
        let (pipelines, ended) = running.stop().await;
        self.pipelines = pipelines;
        outcome.and(ended)
    }

    /// The files that [`catch_up`](Self::catch_up) has given up at their position, as [`IngestConfig::give_up`] asked,
    /// with their sources.
    #[must_use]
    pub fn given_up(&self) -> Vec<(String, FileReport)> {
        let of = |(source, pipeline): (&String, &Pipeline)| {
            pipeline.given_up().iter().map(|file| (source.clone(), file.clone())).collect::<Vec<_>>()
        };
        self.pipelines.iter().flat_map(of).collect()
    }

    /// What was taken back since this was opened, with the sources: also what an earlier process had begun to.
    #[must_use]
    pub fn taken_back(&self) -> Vec<(String, TakenBack)> {
        let of = |(source, pipeline): (&String, &Pipeline)| {
            pipeline.taken_back().iter().map(|records| (source.clone(), records.clone())).collect::<Vec<_>>()
        };
        self.pipelines.iter().flat_map(of).collect()
    }

    /// What asks a [running](Self::run) ingestion to do something else. Clones ask the same one.
    #[must_use]
    pub fn handle(&self) -> IngestHandle {
        self.handle.clone()
    }

    /// The HTTP routes for pushing events: `POST /v1/sources/{source}/events`; none where no journal is kept.
    ///
    /// A record is acknowledged once it is durable and, while this [runs](Self::run), every view that is up has it: the
    /// next lookup sees it. After five seconds, and at once with `?wait=durable`, it is acknowledged as durable alone.
    /// Outside of `run`, [`drain_push`](Self::drain_push) takes it in. The routes outlive this object, but then refuse
    /// everything.
    pub fn push_router(&self) -> Router {
        let Some(kept) = &self.shared.kept else { return Router::new() };
        let Kept { push: partition, accepting: sources, applied, .. } = kept.clone();
        router(Pushing {
            sources,
            partition,
            applied,
            metrics: self.metrics(),
            host: self.shared.host.clone(),
        })
    }

    /// What the routes for pushing events take and answer; nothing where there are none.
    #[must_use]
    pub fn push_operations(&self) -> Vec<Operation> {
        if self.shared.kept.is_some() { operations() } else { Vec::new() }
    }

    #[cfg(test)]
    pub(crate) const fn kept(&self) -> Option<&Kept> {
        self.shared.kept.as_ref()
    }

    /// The push partitions, for pushing without HTTP; none where no journal is kept.
    #[must_use]
    pub fn push_partition(&self) -> Option<PushPartition> {
        self.writer.as_ref().map(|writer| writer.partition().clone())
    }

    /// The counters, which go on counting whatever is redefined.
    #[must_use]
    pub fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    /// Whether every source is being taken in, and what it waits for if not.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        Arc::clone(&self.shared.health)
    }

    /// The status of every source and view. It reads little but metadata of the event tables and a sample of the online
    /// store, unless more `detail` is wanted.
    ///
    /// # Errors
    /// Fails where a table, the journal, the store or the brokers cannot be read.
    pub async fn status(&mut self, detail: Detail) -> Result<Status, IngestError> {
        let feeds: Vec<SourceFeed> = self.pipelines.values().map(Pipeline::feed).collect();
        let sources = try_join_all(feeds.iter().map(|feed| self.shared.status(feed, detail))).await?;
        Ok(Status { sources, views: status::views(&self.views, &*self.shared.store, detail).await? })
    }

    /// Applies other sources and views. Views that are unchanged go on; the live generation of a changed
    /// one keeps answering until its successor is backfilled. The returned future ends once all are backfilled.
    async fn define(
        &mut self,
        running: &mut Running,
        sources: Vec<SourceFeed>,
        views: Vec<Arc<FeaturePlan>>,
    ) -> Result<impl Future<Output = Result<(), IngestError>> + Send + use<>, IngestError> {
        self.defined += 1;
        for gone in
            running.names().into_iter().filter(|name| !sources.iter().any(|feed| feed.source.name == *name))
        {
            if let Some(kept) = &self.shared.kept {
                kept.accepting.hold().await.remove(&gone);
            }
            running.remove(&gone).await?;
        }
        self.known.extend(views.iter().map(|view| (view.view.clone(), view.source.clone())));
        (self.sources, self.views) = (sources, views);
        let mut up = Vec::new();
        for feed in &self.sources {
            up.push(running.switch(feed.clone(), plans_of(&self.views, &feed.source)).await?);
        }
        Ok(async move { try_join_all(up).await.map(drop) })
    }

    /// Tells the upkeep which views there are.
    fn name_views(&self, names: &Names) {
        let mut names = names.lock();
        *names = self.views.iter().map(|view| view.view.clone()).collect();
    }

    /// Definitions are in effect, or could not be.
    async fn defined(&self, defined: Defined) {
        let ended = match defined.outcome {
            Ok(()) if defined.number == self.defined => self.drop_removed().await,
            Ok(()) => Err(IngestError::Superseded),
            Err(error) => Err(error),
        };
        // The caller may have stopped waiting.
        drop(defined.answer.send(ended));
    }

    /// Takes views that are no more out of service.
    async fn drop_removed(&self) -> Result<(), IngestError> {
        // A source that is removed as well may still be on its way out, and would backfill them again.
        let is_read = |source: &String| self.sources.iter().any(|read| read.source.name == *source);
        let is_defined = |view: &String| self.views.iter().any(|plan| plan.view == *view);
        for (view, _) in self.known.iter().filter(|(view, source)| is_read(source) && !is_defined(view)) {
            drop_view(&*self.shared.store, view).await?;
        }
        Ok(())
    }

    async fn obey(
        &mut self,
        running: &mut Running,
        answers: &mut JoinSet<()>,
        defining: &mut JoinSet<Defined>,
        command: Command,
    ) {
        // A caller that has gone away does not need the answer.
        match command {
            Command::Define { sources, views, answer } => match self.define(running, sources, views).await {
                Ok(up) => {
                    let number = self.defined;
                    defining.spawn(async move { Defined { number, outcome: up.await, answer } });
                }
                Err(error) => drop(answer.send(Err(error))),
            },
            Command::TakeIn { source, patterns, changed, answer } => {
                match running.take_in(&source, patterns, changed) {
                    Some(report) => {
                        answers.spawn(async move { drop(answer.send(report.await)) });
                    }
                    None => drop(answer.send(Err(self.unknown(&source)))),
                }
            }
            Command::WaitUntilIdle { answer } => {
                let reconciled = running.wait_until_idle();
                answers.spawn(async move { drop(answer.send(reconciled.await)) });
            }
            Command::Status { detail, answer } => {
                let (sources, plans, store) =
                    (running.status(detail), self.views.clone(), Arc::clone(&self.shared.store));
                let status = async move {
                    let views = status::views(&plans, &*store, detail);
                    Ok(Status { sources: sources.await?, views: views.await? })
                };
                answers.spawn(async move { drop(answer.send(status.await)) });
            }
            Command::Idle { answer } => {
                let idle = running.idle();
                answers.spawn(async move { drop(answer.send(idle.await)) });
            }
        }
    }

    fn pipeline(&mut self, source: &str) -> Result<&mut Pipeline, IngestError> {
        let unknown = self.unknown(source);
        self.pipelines.get_mut(source).ok_or(unknown)
    }

    fn unknown(&self, source: &str) -> IngestError {
        let known = self.sources.iter().map(|feed| feed.source.name.as_str()).collect::<Vec<_>>().join(", ");
        IngestError::UnknownSource { given: source.to_owned(), known }
    }
}

/// How a source and its views are to be defined.
fn definitions(sources: &[SourceFeed], views: &[Arc<FeaturePlan>], pipeline: &Pipeline) -> Definitions {
    let feed = sources.iter().find(|feed| feed.source.name == pipeline.source().name);
    let feed = feed.cloned().unwrap_or_else(|| pipeline.feed());
    let plans = plans_of(views, &feed.source);
    (feed, plans)
}

/// The views of a source.
fn plans_of(views: &[Arc<FeaturePlan>], source: &SourcePlan) -> Vec<Arc<FeaturePlan>> {
    views.iter().filter(|plan| plan.source == source.name).cloned().collect()
}
