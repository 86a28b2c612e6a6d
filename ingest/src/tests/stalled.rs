//! Partitions of a topic that no worker reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::future::{BoxFuture, ready};
use parking_lot::Mutex;
use tidemark_host::{Host, Machine, Stopped, Work};
use tidemark_kernel::{Partition, Position, PositionRange, Time};
use tidemark_offline::Positions;
use tidemark_offline::table::layout;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};

use super::fixture::{Project, RECEIVED, memory, payments};
use crate::decode::Batch;
use crate::feed::{SourceFeed, Start, TopicFeed};
use crate::journal::Journal;
use crate::kafka::{Input, Reader, Subscription, Timestamps, TopicProperties, TopicSettings};
use crate::{CommitRule, Health, Ingest, IngestConfig, IngestError, Metrics, Topics};

const TICK: Duration = Duration::from_secs(5);

/// How long a tick lasts by the real clock, where a worker has something to do, and where it has not.
const BUSY: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_millis(5);

/// Where both partitions of the topic end.
const END: Position = Position(40);

const PARTITIONS: [Partition; 2] = [Partition(0), Partition(1)];

/// A machine whose time passes only where the test says so.
#[derive(Clone)]
struct Stepped(Arc<watch::Sender<Duration>>);

impl Stepped {
    fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Duration::ZERO)))
    }

    /// Lets a tick pass.
    async fn step(&self, lasts: Duration) {
        self.0.send_modify(|uptime| *uptime += TICK);
        tokio::time::sleep(lasts).await;
    }

    /// Lets ticks pass until something is so.
    async fn until(&self, lasts: Duration, is_so: impl Fn() -> bool) {
        for _ in 0..10_000 {
            if is_so() {
                return;
            }
            self.step(lasts).await;
        }
        panic!("it never is");
    }
}

impl Machine for Stepped {
    fn now(&self) -> Time {
        RECEIVED
    }
    fn uptime(&self) -> Duration {
        *self.0.borrow()
    }
    fn sleep(&self, span: Duration) -> BoxFuture<'static, ()> {
        let (mut uptime, until) = (self.0.subscribe(), self.uptime().saturating_add(span));
        Box::pin(async move {
            drop(uptime.wait_for(|uptime| *uptime >= until).await.map(drop));
        })
    }
    fn id(&self) -> u128 {
        0
    }
    fn blocking(&self, work: Work) -> BoxFuture<'static, ()> {
        work();
        Box::pin(ready(()))
    }
    /// Nothing runs apart.
    fn apart(&self, _: &str, _: BoxFuture<'static, ()>) -> Result<Box<dyn Send + Sync>, Stopped> {
        Ok(Box::new(()))
    }
}

/// A topic, and a member of its group that reads what the test hands over.
#[derive(Debug, Default)]
struct Member {
    inputs: Mutex<Option<mpsc::Sender<Input>>>,
    committed: Arc<Mutex<Positions>>,
}

#[async_trait]
impl Topics for Member {
    async fn describe(&self, topic: &str) -> Result<TopicProperties, IngestError> {
        Ok(TopicProperties { topic: topic.to_owned(), id: Some("one".to_owned()), partitions: 2 })
    }
    async fn settings(&self, _: &str) -> Result<TopicSettings, IngestError> {
        Ok(TopicSettings { timestamps: Timestamps::Producers(None), is_compacted: false })
    }
    async fn ends(&self, _: &str) -> Result<BTreeMap<Partition, PositionRange>, IngestError> {
        Ok(BTreeMap::from(
            PARTITIONS.map(|partition| (partition, PositionRange { start: Position::START, end: END })),
        ))
    }
    async fn starts(&self, _: &str, _: Start) -> Result<Positions, IngestError> {
        Ok(Positions::from(PARTITIONS.map(|partition| (partition, Position::START))))
    }
    fn read(
        &self,
        _: &Host,
        subscription: Subscription,
    ) -> Result<(Box<dyn Reader>, mpsc::Receiver<Input>), IngestError> {
        PARTITIONS.iter().for_each(|partition| subscription.metrics.ends_at(*partition, END));
        let (inputs, receive) = mpsc::channel(1);
        *self.inputs.lock() = Some(inputs);
        Ok((Box::new(Silent(Arc::clone(&self.committed))), receive))
    }
}

/// A reader that hands over nothing by itself.
struct Silent(Arc<Mutex<Positions>>);

#[async_trait]
impl Reader for Silent {
    fn committed(&self, positions: &Positions) {
        self.0.lock().extend(positions);
    }
    async fn stop(self: Box<Self>) -> bool {
        true
    }
}

/// A worker that runs.
struct Worker {
    member: Arc<Member>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    _running: JoinSet<Result<(), IngestError>>,
}

impl Worker {
    async fn start(project: &Project, name: &str) -> Self {
        let journal = Journal::open(&project.folder.path().join(name).join("ingest.redb")).expect("created");
        let member = Arc::new(Member::default());
        let topics: Option<Arc<dyn Topics>> = Some(Arc::clone(&member) as Arc<dyn Topics>);
        let commit = CommitRule { every: TICK, ..CommitRule::default() };
        let topic = TopicFeed { topic: "payments".into(), start: Start::Earliest, max_timestamp_ahead: None };
        let sources = vec![SourceFeed { source: payments(), topic: Some(topic) }];
        let config = IngestConfig { journal: None, sources, topics, commit, ..project.config(journal) };
        let mut ingest = Ingest::open(config).await.expect("opened");
        let (health, metrics) = (ingest.health(), ingest.metrics());
        let mut running = JoinSet::new();
        running.spawn(async move { ingest.run(std::future::pending()).await });
        Self { member, health, metrics, _running: running }
    }

    async fn hand_over(&self, input: Input) {
        loop {
            let inputs = self.member.inputs.lock().clone();
            if let Some(inputs) = inputs {
                return inputs.send(input).await.expect("it reads the topic");
            }
            tokio::task::yield_now().await;
        }
    }

    async fn is_given(&self, partition: Partition) {
        let (answer, answered) = oneshot::channel();
        self.hand_over(Input::Assigned { partitions: vec![partition], answer }).await;
        answered.await.expect("an answer");
    }

    /// Reads a partition to its end.
    async fn reads(&self, partition: Partition) {
        let events = RecordBatch::new_empty(layout::events(&payments()));
        let batch =
            Batch { partition, from: Position::START, to: END, events, dead: Vec::new(), epoch: None };
        self.hand_over(Input::Batches(vec![batch])).await;
    }

    fn has_committed(&self, partition: Partition) -> bool {
        self.member.committed.lock().get(&partition) == Some(&END)
    }

    fn notes(&self) -> Vec<String> {
        self.health.notes(RECEIVED)
    }

    /// The gauge.
    fn stalled(&self) -> usize {
        let text = self.metrics.prometheus(RECEIVED);
        let prefix = "tidemark_ingest_stalled_partitions{source=\"payments\"} ";
        let value = text.lines().find_map(|line| line.strip_prefix(prefix)).expect("a gauge");
        value.parse().expect("a number")
    }
}

/// The warnings that were logged.
#[derive(Clone, Debug, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    fn count(&self, beginning: &str) -> usize {
        let warnings = self.0.lock();
        warnings.iter().filter(|warning| warning.starts_with(beginning)).count()
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.0.lock().push(message.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The text of an event.
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[tokio::test]
async fn a_partition_whose_worker_hangs_is_told_until_it_goes_on() {
    let warnings = Warnings::default();
    let _subscribed = tracing::subscriber::set_default(warnings.clone());
    let machine = Stepped::new();
    let project = Project { views: Vec::new(), host: Host::new(machine.clone()), ..Project::new(memory()) };
    let workers = [Worker::start(&project, "one").await, Worker::start(&project, "other").await];
    let [one, other] = &workers;
    one.is_given(Partition(0)).await;
    other.is_given(Partition(1)).await;
    one.reads(Partition(0)).await;
    machine.until(BUSY, || one.has_committed(Partition(0))).await;

    machine.until(IDLE, || workers.iter().all(|worker| worker.stalled() == 1)).await;
    assert!(machine.uptime() >= Duration::from_secs(300), "it has some time");
    let told = "partition 1 has 40 unread records, and nothing of them was committed for 5 minutes; ";
    for worker in &workers {
        let notes = worker.notes();
        assert!(notes.len() == 1 && notes[0].starts_with(&format!("source `payments`: {told}")), "{notes:?}");
    }
    for _ in 0..30 {
        machine.step(IDLE).await;
    }
    assert_eq!(warnings.count(told), workers.len(), "each tells it once");

    other.reads(Partition(1)).await;
    machine.until(BUSY, || other.stalled() == 0).await;
    assert!(other.notes().is_empty() && other.has_committed(Partition(1)), "it has committed them itself");
    machine.until(IDLE, || one.stalled() == 0).await;
    assert!(one.notes().is_empty(), "it has seen that the other one has");
    for _ in 0..100 {
        machine.step(IDLE).await;
    }
    assert!(workers.iter().all(|worker| worker.stalled() == 0 && worker.notes().is_empty()));
    assert_eq!(warnings.count(told), workers.len());
}
