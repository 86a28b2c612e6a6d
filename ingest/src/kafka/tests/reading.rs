//! A reader under test, and what it has handed over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use tidemark_host::Host;
use tidemark_kernel::{Partition, Position, Time};
use tidemark_offline::{Epochs, Positions};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::{numbers, source};
use crate::error::IngestError;
use crate::kafka::{Input, KafkaConfig, Resume, Subscription, TopicReader, Topics as _};
use crate::metrics::TopicMetrics;
use crate::room::Room;

/// The history that all read into.
pub(super) const HISTORY: &str = "00000001";

pub(super) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) type Records = ThreadedProducer<rdkafka::producer::DefaultProducerContext>;

pub(super) fn config(servers: &str) -> KafkaConfig {
    let options = BTreeMap::from([("session.timeout.ms".to_owned(), "6000".to_owned())]);
    KafkaConfig { bootstrap_servers: servers.into(), options, project: "test".into(), member: None }
}

pub(super) fn producer(servers: &str, settings: &[(&str, &str)]) -> Records {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers).set("linger.ms", "0");
    settings.iter().for_each(|(key, value)| {
        config.set(*key, *value);
    });
    config.create().expect("a producer")
}

/// Sends records numbered like this, the same in every partition.
pub(super) fn produce(producer: &Records, topic: &str, partitions: i32, numbers: std::ops::Range<i64>) {
    for n in numbers {
        // No more than a producer keeps in memory.
        if n % 10_000 == 0 {
            producer.flush(PATIENCE).expect("written");
        }
        for partition in 0..partitions {
            let (key, value) = (n.to_string(), format!(r#"{{"n":{n},"at":{n}}}"#));
            let record = BaseRecord::to(topic).partition(partition).key(&key).payload(&value);
            producer.send(record).map_err(|(error, _)| error).expect("sent");
        }
    }
    producer.flush(PATIENCE).expect("written");
}

/// A reader, and what it has handed over.
pub(super) struct Reading {
    pub(super) reader: TopicReader,
    pub(super) inputs: mpsc::Receiver<Input>,
    /// The position of each assigned partition.
    pub(super) positions: Positions,
    /// The numbers read of each partition, in order.
    pub(super) read: BTreeMap<Partition, Vec<i64>>,
    pub(super) idle: bool,
    pub(super) metrics: Arc<TopicMetrics>,
    /// Where partitions start.
    pub(super) starts: Positions,
    /// The leader epochs of the last records before that; then of what was read.
    pub(super) epochs: Epochs,
    /// Where partitions were given up, by any reader that shares this.
    pub(super) given_up: Shared<Positions>,
    /// What was read by any of them.
    pub(super) all: Shared<BTreeSet<(Partition, i64)>>,
}

/// Something that several readers share.
pub(super) type Shared<T> = Arc<Mutex<T>>;

impl Reading {
    pub(super) async fn start(config: &KafkaConfig, topic: &str) -> Self {
        let id = config.describe(topic).await.expect("described").id;
        let (metrics, host) = (Arc::new(TopicMetrics::default()), Host::real(Arc::new(Time::default)));
        let source = Arc::new(source());
        let (history, room) = (HISTORY.to_owned(), Room::default());
        let subscription = Subscription {
            source,
            topic: topic.to_owned(),
            history,
            id,
            metrics: Arc::clone(&metrics),
            room,
        };
        let started = TopicReader::start(config, &host, subscription);
        let (reader, inputs) = started.expect("started");
        Self {
            reader,
            inputs,
            positions: Positions::new(),
            read: BTreeMap::new(),
            idle: false,
            metrics,
            starts: Positions::new(),
            epochs: Epochs::new(),
            given_up: Shared::default(),
            all: Shared::default(),
        }
    }

    /// Another reader of the group goes on where this one gave up.
    pub(super) async fn second(&self, config: &KafkaConfig, topic: &str) -> Self {
        let (given_up, all) = (Arc::clone(&self.given_up), Arc::clone(&self.all));
        Self { given_up, all, ..Self::start(config, topic).await }
    }

    /// Takes one input.
    pub(super) fn take(&mut self, input: Input) -> Result<(), IngestError> {
        self.idle =
            matches!(input, Input::Idle) || self.idle && matches!(input, Input::Away(_) | Input::Back);
        match input {
            Input::Away(_) | Input::Back => {}
            Input::Assigned { partitions, answer } => {
                let given_up = self.given_up.lock().clone();
                let start = |partition| {
                    given_up.get(partition).or(self.starts.get(partition)).copied().unwrap_or_default()
                };
                let positions: Positions =
                    partitions.iter().map(|partition| (*partition, start(partition))).collect();
                for (partition, position) in &positions {
                    assert_eq!(
                        self.positions.insert(*partition, *position),
                        None,
                        "{partition} is assigned twice"
                    );
                }
                // A reader that has failed meanwhile says so next.
                let _ = answer.send(Resume { positions, epochs: self.epochs.clone() });
            }
            Input::Batches(batches) => {
                let partitions: BTreeSet<Partition> = batches.iter().map(|batch| batch.partition).collect();
                assert!(partitions.len() == batches.len() && !batches.is_empty());
                for batch in batches {
                    let position = self.positions.get_mut(&batch.partition).expect("an assigned partition");
                    assert_eq!(batch.from, *position, "partition {}", batch.partition);
                    assert!(batch.dead.is_empty() && batch.to > batch.from);
                    *position = batch.to;
                    self.epochs.extend(batch.epoch.map(|epoch| (batch.partition, epoch)));
                    let numbers = numbers(&batch, "n").into_iter().flatten();
                    for number in numbers {
                        let new = self.all.lock().insert((batch.partition, number));
                        assert!(new, "{number} of partition {} is read twice", batch.partition);
                        self.read.entry(batch.partition).or_default().push(number);
                    }
                }
            }
            Input::Revoked { partitions, done, .. } => {
                for partition in partitions {
                    let position = self.positions.remove(&partition).expect("an assigned partition");
                    self.given_up.lock().insert(partition, position);
                }
                let _ = done.send(());
            }
            Input::Idle => {}
            Input::Failed(error) => return Err(error),
        }
        Ok(())
    }

    /// Takes inputs until this is so.
    pub(super) async fn until(&mut self, so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so(self) {
            let input = timeout_at(deadline, self.inputs.recv()).await;
            let input = input.unwrap_or_else(|_| panic!("nothing more after {:?}", self.positions));
            self.take(input.expect("the reader lives")).expect("no error");
        }
    }

    /// Takes inputs until the reader fails.
    pub(super) async fn failure(&mut self) -> IngestError {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let input = timeout_at(deadline, self.inputs.recv()).await.expect("an error in time");
            if let Err(error) = self.take(input.expect("the reader lives")) {
                return error;
            }
        }
    }

    /// How many records were read.
    pub(super) fn count(&self) -> usize {
        self.read.values().map(Vec::len).sum()
    }

    /// Whether every partition was read to its end.
    pub(super) fn is_idle(&self) -> bool {
        self.idle
    }

    /// Whether this many partitions are assigned, each was read up to `end`, and that is the end.
    pub(super) fn is_at(&self, partitions: usize, end: i64) -> bool {
        self.idle
            && self.positions.len() == partitions
            && self.positions.values().all(|position| position.0 == end)
    }

    /// A reader leaves at once where it waits, but it may be in the middle of decoding a large batch.
    pub(super) async fn stop(self) {
        drop(self.inputs);
        assert!(self.reader.leaves_within(PATIENCE).await, "the reader hangs");
    }
}

/// Whether a partition has exactly these numbers, in order.
pub(super) fn assert_numbers(reading: &Reading, partition: i32, numbers: std::ops::Range<i64>) {
    let read = reading.read.get(&Partition(partition)).cloned().unwrap_or_default();
    assert_eq!(read, numbers.collect::<Vec<i64>>(), "partition {partition}");
}

/// The position `offset` of every partition.
pub(super) fn all_at(partitions: i32, offset: i64) -> Positions {
    (0..partitions).map(|partition| (Partition(partition), Position(offset))).collect()
}
