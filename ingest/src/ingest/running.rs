//! The sources of a running ingestion: a task for each, so that none waits for another.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt, try_join_all};
use tidemark_kernel::FeaturePlan;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::error::IngestError;
use crate::feed::SourceFeed;
use crate::files::Changed;
use crate::pipeline::intake::Switch;
use crate::pipeline::run::{Answer, Definitions, Idle, Line, Request};
use crate::pipeline::take_in::FilesReport;
use crate::pipeline::{Pipeline, Shared};
use crate::progress::unwatched;
use crate::status::{Detail, SourceStatus};

/// How many requests to a source may wait.
const WAITING: usize = 16;

/// Every source, each in a task of its own.
pub(super) struct Running {
    shared: Shared,
    sources: BTreeMap<String, Source>,
    tasks: JoinSet<(Pipeline, Result<(), IngestError>)>,
}

/// What reaches one source.
struct Source {
    requests: mpsc::Sender<Request>,
    stop: watch::Sender<bool>,
    idle: watch::Sender<Idle>,
    reads: watch::Receiver<SourceFeed>,
}

impl Running {
    /// Starts every source, which first [switches](Pipeline::switch) to these definitions of it, if there are any.
    pub(super) fn start(
        pipelines: BTreeMap<String, Pipeline>,
        shared: Shared,
        mut first: impl FnMut(&Pipeline) -> Option<Definitions>,
    ) -> Self {
        let mut running = Self { shared, sources: BTreeMap::new(), tasks: JoinSet::new() };
        for pipeline in pipelines.into_values() {
            let first = first(&pipeline);
            running.add(pipeline, first);
        }
        running
    }

    fn add(&mut self, pipeline: Pipeline, first: Option<Definitions>) {
        let (requests, receive) = mpsc::channel(WAITING);
        let (stop, stopped) = watch::channel(false);
        let idle = watch::Sender::new(Idle::Unasked);
        let (reads, is_read) = watch::channel(pipeline.feed());
        let line = Line { first, requests: receive, stop: stopped, idle: idle.clone(), reads };
        let name = pipeline.source().name.clone();
        self.tasks.spawn(pipeline.run(line));
        self.sources.insert(name, Source { requests, stop, idle, reads: is_read });
    }

    /// The end of a source that ended by itself.
    pub(super) async fn ended(&mut self) -> Result<(), IngestError> {
        loop {
            match self.tasks.join_next().await {
                Some(Ok((pipeline, outcome))) => {
                    let was_removed = self.sources.remove(&pipeline.source().name).is_none();
                    if !was_removed || outcome.is_err() {
                        return outcome;
                    }
                }
                Some(Err(error)) => return Err(IngestError::stopped(error)),
                None => std::future::pending().await,
            }
        }
    }

    /// Stops every source and gives them back.
    pub(super) async fn stop(mut self) -> (BTreeMap<String, Pipeline>, Result<(), IngestError>) {
        for source in self.sources.values() {
            source.stop.send_replace(true);
        }
        let (mut pipelines, mut outcome) = (BTreeMap::new(), Ok(()));
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.map_err(IngestError::stopped).map(|(pipeline, ended)| {
                pipelines.insert(pipeline.source().name.clone(), pipeline);
                ended
            });
            outcome = outcome.and(ended.and_then(|ended| ended));
        }
        (pipelines, outcome)
    }

    /// The names of all sources.
    pub(super) fn names(&self) -> Vec<String> {
        self.sources.keys().cloned().collect()
    }

    /// Ends a source that is no more, once everything it has taken in is committed.
    pub(super) async fn remove(&mut self, name: &str) -> Result<(), IngestError> {
        let Some(source) = self.sources.remove(name) else { return Ok(()) };
        ask(&source.requests, |answer| Request::WaitUntilIdle { answer }).await?;
        source.stop.send_replace(true);
        self.shared.health.remove(name);
        Ok(())
    }

    /// Changes the definition of a source and its views, or adds a source. The returned future ends once every view is
    /// up.
    pub(super) async fn switch(
        &mut self,
        feed: SourceFeed,
        plans: Vec<Arc<FeaturePlan>>,
    ) -> Result<BoxFuture<'static, Result<(), IngestError>>, IngestError> {
        if let Some(known) = self.sources.get(&feed.source.name) {
            // Sent now: of two switches the later one counts.
            let (answer, up) = oneshot::channel();
            let sent = known.requests.send(Request::Switch(Switch { feed, plans, answer })).await;
            sent.map_err(|_| IngestError::NotRunning)?;
            return Ok(async move { up.await.unwrap_or_else(|_| Err(IngestError::NotRunning)) }.boxed());
        }
        let mut pipeline = Pipeline::open(self.shared.clone(), feed.clone()).await?;
        pipeline.begin_running();
        pipeline.switch(feed, &plans, &unwatched).await?;
        let up = pipeline.all_up();
        self.add(pipeline, None);
        Ok(up.boxed())
    }

    /// Takes in files; none where the source is unknown.
    pub(super) fn take_in(
        &self,
        source: &str,
        patterns: Vec<String>,
        changed: Changed,
    ) -> Option<impl Future<Output = Result<FilesReport, IngestError>> + Send + use<>> {
        let requests = self.sources.get(source)?.requests.clone();
        Some(async move { ask(&requests, |answer| Request::TakeIn { patterns, changed, answer }).await })
    }

    /// Waits until everything that was pushed before is in both stores.
    pub(super) fn wait_until_idle(&self) -> impl Future<Output = Result<(), IngestError>> + Send + use<> {
        let all = self.each(|answer| Request::WaitUntilIdle { answer });
        async move { all.await.map(drop) }
    }

    /// The status of every source.
    pub(super) fn status(
        &self,
        detail: Detail,
    ) -> impl Future<Output = Result<Vec<SourceStatus>, IngestError>> + Send + use<> {
        let feeds = self.sources.values().map(|source| source.reads.borrow().clone());
        let (feeds, shared) = (feeds.collect::<Vec<_>>(), self.shared.clone());
        async move { try_join_all(feeds.iter().map(|feed| shared.status(feed, detail))).await }
    }

    /// Waits until every source has taken in and committed everything there is.
    pub(super) fn idle(&self) -> impl Future<Output = Result<(), IngestError>> + Send + use<> {
        let mut all = Vec::new();
        for source in self.sources.values() {
            source.idle.send_if_modified(|idle| {
                let asked = *idle != Idle::Unasked;
                if !asked {
                    *idle = Idle::No;
                }
                !asked
            });
            all.push(source.idle.subscribe());
        }
        async move {
            while !all.iter().all(|idle| *idle.borrow() == Idle::Yes) {
                for idle in &mut all {
                    let seen = idle.wait_for(|idle| *idle == Idle::Yes).await;
                    seen.map_err(|_| IngestError::NotRunning)?;
                }
            }
            Ok(())
        }
    }

    fn each<T: Send + 'static>(
        &self,
        request: fn(Answer<T>) -> Request,
    ) -> impl Future<Output = Result<Vec<T>, IngestError>> + Send + use<T> {
        let requests: Vec<_> = self.sources.values().map(|source| source.requests.clone()).collect();
        async move { try_join_all(requests.iter().map(|requests| ask(requests, request))).await }
    }
}

async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(Answer<T>) -> Request,
) -> Result<T, IngestError> {
    let (answer, answered) = oneshot::channel();
    requests.send(request(answer)).await.map_err(|_| IngestError::NotRunning)?;
    answered.await.map_err(|_| IngestError::NotRunning)?
}
