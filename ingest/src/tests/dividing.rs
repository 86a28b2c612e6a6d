//! Workers that divide a backfill among them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidemark_host::Host;
use tidemark_kernel::{FeaturePlan, Partition, Position, Time};
use tidemark_offline::{EventTable, Positions};
use tidemark_store::OnlineStore;
use tokio::sync::watch;

use super::fixture::{Patient, Project, RECEIVED, by_shop, by_user, lines, memory, payments, states};
use crate::backfill::{Backfill, Lacked};
use crate::division::{Division, LOOK};
use crate::memory::Memory;
use crate::metrics::{Metrics, ViewMetrics};
use crate::unwatched;

/// For each entity, by its key, the states by partition.
type States = BTreeMap<Vec<u8>, Vec<(Partition, Vec<u8>)>>;

/// A history with a file partition and a push partition, and a view that was not there when it came in.
struct History {
    project: Project,
    events: EventTable,
    plan: Arc<FeaturePlan>,
    ends: Positions,
    host: Host,
    memory: Memory,
}

impl History {
    async fn new() -> Self {
        let project = Project { views: vec![by_user()], ..Project::new(memory()) };
        let mut ingest = project.open().await;
        let path = project.file("0.jsonl", &lines(0, 300));
        ingest.take_in_files("payments", &[path], &unwatched).await.expect("taken in");
        let records = lines(1000, 200).lines().map(|line| line.as_bytes().to_vec()).collect();
        ingest
            .push_partition()
            .expect("a journal")
            .append("payments", RECEIVED, records)
            .await
            .expect("appended");
        ingest.drain_push().await.expect("drained");
        let events = EventTable::open(&project.location(), &payments()).await.expect("events");
        let ends: Positions =
            [Partition::FILE, Partition::PUSH].map(|partition| (partition, Position(i64::MAX))).into();
        let (plan, host) = (by_shop(), Host::new(Patient::default()));
        Self { project, events, plan, ends, host, memory: Memory::default() }
    }

    fn records(&self, partition: Partition) -> u64 {
        self.events.positions()[&partition].0.unsigned_abs()
    }

    fn backfill<'a>(
        &'a self,
        store: &'a Arc<dyn OnlineStore>,
        metrics: &'a Arc<ViewMetrics>,
    ) -> Backfill<'a> {
        let Self { events, plan, ends, host, memory, .. } = self;
        Backfill { host, store, plan, events, ends, began: None, metrics, memory }
    }

    /// The states of the view once a worker has joined the generation to the stream.
    async fn joined(&self, store: &Arc<dyn OnlineStore>, worker: &Worker) -> States {
        let joined = self.backfill(store, &worker.view).join(0).await;
        assert!(joined.expect("joined").is_some(), "nothing is lacking");
        states(store, "by_shop").await
    }
}

/// A worker with a part in a backfill.
struct Worker {
    division: Division,
    metrics: Metrics,
    view: Arc<ViewMetrics>,
    _reads: watch::Sender<BTreeSet<Partition>>,
}

impl Worker {
    fn new(history: &History, own: &[Partition]) -> Self {
        let (reads, own) = watch::channel(own.iter().copied().collect());
        let metrics = Metrics::default();
        let view = metrics.view("by_shop");
        let division = Division::new(history.host.clone(), own, Arc::clone(&view));
        Self { division, metrics, view, _reads: reads }
    }

    /// Backfills its present part; returns how many records the view lacked there before, and in the other partitions.
    async fn work(&mut self, history: &History, store: &Arc<dyn OnlineStore>) -> (u64, u64) {
        let backfill = history.backfill(store, &self.view);
        let lacked = backfill.prepare(&mut self.division, &unwatched).await.expect("prepared");
        let Lacked { here, elsewhere } = lacked;
        (here, elsewhere)
    }

    fn count(&self, name: &str) -> u64 {
        let text = self.metrics.prometheus(Time::default());
        let prefix = format!("{name}{{view=\"by_shop\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix)).expect("a counter");
        value.parse().expect("a number")
    }

    fn applied(&self) -> u64 {
        self.count("tidemark_ingest_applied_events_total")
    }

    fn divided(&self) -> u64 {
        self.count("tidemark_ingest_divided_backfills_total")
    }
}

#[tokio::test]
async fn each_worker_applies_its_own_partitions() {
    let history = History::new().await;
    let (files, pushes) = (history.records(Partition::FILE), history.records(Partition::PUSH));
    let whole = memory();
    let mut alone = Worker::new(&history, &[Partition::FILE, Partition::PUSH]);
    assert_eq!(alone.work(&history, &whole).await, (files + pushes, 0));
    assert_eq!(alone.work(&history, &whole).await, (0, 0));

    let divided = &history.project.store;
    let (mut one, mut other) =
        (Worker::new(&history, &[Partition::FILE]), Worker::new(&history, &[Partition::PUSH]));
    assert_eq!(one.work(&history, divided).await, (files, pushes));
    assert_eq!(one.work(&history, divided).await, (0, pushes), "the rest is not its part");
    assert_eq!(other.work(&history, divided).await, (pushes, 0));
    assert_eq!(one.work(&history, divided).await, (0, 0), "the other has done it");
    assert!(one.applied() > 0 && other.applied() > 0);
    assert_eq!(one.applied() + other.applied(), alone.applied(), "each event once");
    assert_eq!((alone.divided(), one.divided()), (0, 1));
    assert!(history.joined(divided, &other).await == history.joined(&whole, &alone).await, "byte for byte");
}

#[tokio::test]
async fn partitions_without_a_worker_are_taken_over() {
    for own in [&[Partition::FILE][..], &[]] {
        let history = History::new().await;
        let (store, mut worker) = (&history.project.store, Worker::new(&history, own));
        let began = history.host.stopwatch();
        while worker.work(&history, store).await != (0, 0) {
            history.host.sleep(LOOK).await;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "it took {:?}", began.elapsed());
        assert_eq!(worker.divided(), 0, "no other worker has a part in it");
        let (whole, mut alone) = (memory(), Worker::new(&history, &[Partition::FILE, Partition::PUSH]));
        alone.work(&history, &whole).await;
        assert_eq!(worker.applied(), alone.applied());
        assert!(history.joined(store, &worker).await == history.joined(&whole, &alone).await);
    }
}
