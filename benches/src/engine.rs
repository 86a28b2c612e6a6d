//! A running ingestion in a folder of its own.

use std::sync::Arc;

use futures::FutureExt;
use tempfile::TempDir;
use tidemark_engine::sources;
use tidemark_host::Host;
use tidemark_ingest::{
    CommitRule, Ingest, IngestConfig, IngestError, IngestHandle, KafkaConfig, Memory, Metrics,
};
use tidemark_offline::Location;
use tidemark_registry::Repo;
use tidemark_store::OnlineStore;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::now;

/// An ingestion of all sources of a repo, set up as the product sets it up.
#[derive(Debug)]
pub struct Engine {
    handle: IngestHandle,
    metrics: Arc<Metrics>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), IngestError>>,
    _tables: TempDir,
}

impl Engine {
    /// Starts to read topics from the brokers at `kafka` into `store` and into tables in a temporary folder.
    ///
    /// # Panics
    /// Where a table cannot be created.
    pub async fn start(repo: &Repo, kafka: &str, store: Arc<dyn OnlineStore>) -> Self {
        let tables = tempfile::tempdir().expect("a folder");
        let kafka = KafkaConfig {
            bootstrap_servers: kafka.to_owned(),
            options: [].into(),
            project: "benches".to_owned(),
            member: None,
        };
        let config = IngestConfig {
            journal: None,
            offline: Arc::new(Location::local(tables.path())),
            commit: CommitRule::default(),
            sources: sources(repo),
            views: repo.views.values().cloned().collect(),
            store,
            topics: Some(Arc::new(kafka)),
            skip_lost: false,
            give_up: Vec::new(),
            memory: Memory::default(),
            host: Host::real(Arc::new(now)),
        };
        let mut ingest = Ingest::open(config).await.expect("opened");
        let (handle, metrics) = (ingest.handle(), ingest.metrics());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move { ingest.run(stopped.map(drop)).await });
        Self { handle, metrics, stop, task, _tables: tables }
    }

    /// Waits until everything that the topics hold is in both stores. Call this once, before they have everything.
    ///
    /// # Panics
    /// Where the ingestion ends before.
    pub async fn idle(&mut self) {
        tokio::select! {
            idle = self.handle.idle() => idle.expect("it runs"),
            ended = &mut self.task => panic!("the ingestion has ended: {ended:?}"),
        }
    }

    /// The sum of a counter over all its labels.
    ///
    /// # Panics
    /// Where the ingestion has ended.
    pub fn counter(&mut self, name: &str) -> u64 {
        if let Some(ended) = (&mut self.task).now_or_never() {
            panic!("the ingestion has ended: {ended:?}");
        }
        let text = self.metrics.prometheus(now());
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let ours = lines.filter(|(series, _)| series.split('{').next() == Some(name));
        ours.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
    }

    /// Commits everything and ends.
    ///
    /// # Panics
    /// Where it cannot.
    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.task.await.expect("no panic").expect("ended well");
    }
}
