//! Reading a Kafka topic: each of its partitions is a partition of the source, with the same number and offsets.
//!
//! A `TopicReader` joins the consumer group of its source on a thread of its own. It decodes the records of the
//! partitions that this process is given and hands them over in batches, as large as they become while the last ones
//! are being worked on. The receiver of the batches says where to read a partition from; what is committed to Kafka is
//! for lag tools only. A reader that cannot go on exactly where it was ends with an error and never skips a record.
//!
//! Reading order: `record` (one record), `gather` (batches), `reader` (the thread), `context` (what librdkafka tells
//! it); `probe`, `topic_settings`, `timestamps` and `watch` (what the topic itself is like), `settings`, `failure`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidemark_host::Host;
use tidemark_kernel::{Partition, PositionRange, SourcePlan};
use tidemark_offline::{Epochs, Positions};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use crate::decode::Batch;
use crate::error::IngestError;
use crate::feed::Start;
use crate::metrics::TopicMetrics;
use crate::room::Room;

mod context;
mod failure;
mod gather;
mod probe;
mod reader;
pub(crate) mod record;
mod settings;
#[cfg(test)]
mod tests;
mod timestamps;
mod topic_settings;
mod watch;

pub use gather::Gathered;
pub use probe::TopicProperties;
pub use timestamps::Timestamps;
pub use topic_settings::TopicSettings;

/// How many inputs wait for the receiver. More would make batches smaller, not faster.
const AHEAD: usize = 1;

/// How long a reader may take to leave its group. One that cannot is missed after its session's timeout.
const LEAVE: Duration = Duration::from_secs(5);

/// How often to look whether it has.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What ingestion asks of Kafka. [`KafkaConfig`] asks real brokers; the simulation has others.
#[async_trait]
pub trait Topics: Send + Sync + fmt::Debug {
    /// What a topic is like now.
    ///
    /// # Errors
    /// Fails where there is no topic of this name, or the brokers do not answer.
    async fn describe(&self, topic: &str) -> Result<TopicProperties, IngestError>;

    /// How the brokers treat the topic's records.
    ///
    /// # Errors
    /// Like [`describe`](Self::describe). Brokers that do not tell are no error.
    async fn settings(&self, topic: &str) -> Result<TopicSettings, IngestError>;

    /// The first and the next offset of each partition. What is not stable yet lies behind the end.
    ///
    /// # Errors
    /// Like [`describe`](Self::describe).
    async fn ends(&self, topic: &str) -> Result<BTreeMap<Partition, PositionRange>, IngestError>;

    /// Where each partition starts for a source that never read the topic.
    ///
    /// # Errors
    /// Like [`describe`](Self::describe).
    async fn starts(&self, topic: &str, start: Start) -> Result<Positions, IngestError>;

    /// Starts reading the topic of a Kafka source; call it in a Tokio runtime. The inputs must be received until the reader is
    /// stopped.
    ///
    /// # Errors
    /// Fails where the settings are not librdkafka's. Brokers that cannot be reached are waited for.
    fn read(
        &self,
        host: &Host,
        subscription: Subscription,
    ) -> Result<(Box<dyn Reader>, mpsc::Receiver<Input>), IngestError>;
}

/// What a reader reads, and how it hands that over.
#[derive(Debug)]
pub struct Subscription {
    /// The source.
    pub source: Arc<SourcePlan>,
    /// The name of its topic.
    pub topic: String,
    /// The id of the history that the records go to: those who read the topic into the same one share its partitions.
    pub history: String,
    /// The id of the topic, where the brokers give one: the reader ends where the topic has another.
    pub id: Option<String>,
    /// What the reader counts.
    pub metrics: Arc<TopicMetrics>,
    /// How much of each partition may be handed over.
    pub room: Room,
}

/// A member of the consumer group of a source. Dropped, it stops reading and leaves the group soon afterwards.
#[async_trait]
pub trait Reader: Send + Sync {
    /// Tells Kafka, for lag tools only, how far partitions are committed.
    fn committed(&self, positions: &Positions);

    /// Stops reading and leaves the group. What was handed over stays valid; what still waits to be received is given
    /// up, so drop the receiver first. Returns whether it ended in time; a reader that did not is left behind.
    async fn stop(self: Box<Self>) -> bool;
}

/// How to reach the brokers, and as whom.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Where to find them: `host:port`, comma-separated.
    pub bootstrap_servers: String,
    /// Any other settings of librdkafka. Those that Tidemark needs as they are stay so.
    pub options: BTreeMap<String, String>,
    /// The project. Its readers of a source are the consumer group `tidemark-<project>-<source>-<id>`, where the id is the
    /// beginning of that of the source's event table: deployments of the same project share nothing.
    pub project: String,
    /// A stable name of this process in the group, so that the group waits for its restart instead of giving its
    /// partitions away at once.
    pub member: Option<String>,
}

impl fmt::Debug for KafkaConfig {
    /// The values of options may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("options", &self.options.keys())
            .field("project", &self.project)
            .field("member", &self.member)
            .finish()
    }
}

/// What a reader hands over, in this order.
#[derive(Debug)]
pub enum Input {
    /// Partitions were given to this process: answer from where each is to be read. Until then none is.
    Assigned {
        /// The partitions.
        partitions: Vec<Partition>,
        /// Where to answer. A reader that gets no answer ends.
        answer: oneshot::Sender<Resume>,
    },
    /// Decoded records: at most one batch for each partition, each going on where its partition's last one ended. A batch may be
    /// without any record, and only say how far the partition was read.
    Batches(Vec<Batch>),
    /// Partitions were taken away; nothing of them follows until they are assigned again.
    Revoked {
        /// The partitions.
        partitions: Vec<Partition>,
        /// Whether others may read them already. Otherwise they wait for the answer.
        lost: bool,
        /// Where to answer once whatever is under way has ended.
        done: oneshot::Sender<()>,
    },
    /// Every assigned partition has been read to its end, and all of it was handed over.
    Idle,
    /// The brokers do not answer, as this error says. They are asked again and again.
    Away(IngestError),
    /// The brokers answer again.
    Back,
    /// The reader has ended with this error.
    Failed(IngestError),
}

/// From where assigned partitions are read on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resume {
    /// The next offset of each partition.
    pub positions: Positions,
    /// The leader epochs of the last records before these positions, where they are known. The reader ends with an error where a
    /// partition has no such record any more.
    pub epochs: Epochs,
}

/// A message to a running reader.
#[derive(Debug, Default)]
struct Orders {
    stop: AtomicBool,
    /// Up to where partitions are committed, to be told to Kafka.
    committed: Mutex<Option<Positions>>,
}

impl Orders {
    fn stopped(&self) -> bool {
        self.stop.load(Relaxed)
    }

    fn take_committed(&self) -> Option<Positions> {
        self.committed.lock().take()
    }
}

#[async_trait]
impl Topics for KafkaConfig {
    async fn describe(&self, topic: &str) -> Result<TopicProperties, IngestError> {
        probe::describe(self, topic).await
    }

    async fn settings(&self, topic: &str) -> Result<TopicSettings, IngestError> {
        topic_settings::ask(self, topic).await
    }

    async fn ends(&self, topic: &str) -> Result<BTreeMap<Partition, PositionRange>, IngestError> {
        probe::ends(self, topic).await
    }

    async fn starts(&self, topic: &str, start: Start) -> Result<Positions, IngestError> {
        probe::starts(self, topic, start).await
    }

    fn read(
        &self,
        host: &Host,
        subscription: Subscription,
    ) -> Result<(Box<dyn Reader>, mpsc::Receiver<Input>), IngestError> {
        let (reader, inputs) = TopicReader::start(self, host, subscription)?;
        Ok((Box::new(reader), inputs))
    }
}

/// Reads one source's topic on a thread of its own.
#[derive(Debug)]
pub(crate) struct TopicReader {
    host: Host,
    orders: Arc<Orders>,
    thread: Option<JoinHandle<()>>,
}

impl TopicReader {
    /// See [`Topics::read`].
    pub(crate) fn start(
        config: &KafkaConfig,
        host: &Host,
        subscription: Subscription,
    ) -> Result<(Self, mpsc::Receiver<Input>), IngestError> {
        let Subscription { source, topic, history, id, metrics, room } = subscription;
        let orders = Arc::new(Orders::default());
        let (send, inputs) = mpsc::channel(AHEAD);
        let task = reader::Task {
            host: host.clone(),
            config: config.clone(),
            source,
            topic,
            history,
            id,
            metrics,
            room,
            orders: Arc::clone(&orders),
            inputs: send,
            runtime: Handle::current(),
        };
        let consumer = task.open()?;
        let thread = std::thread::Builder::new().name("kafka".into());
        let thread = thread.spawn(move || task.run(consumer)).map_err(IngestError::stopped)?;
        Ok((Self { host: host.clone(), orders, thread: Some(thread) }, inputs))
    }

    /// Stops reading, and whether the reader has left its group this long afterwards.
    async fn leaves_within(mut self, span: Duration) -> bool {
        self.orders.stop.store(true, Relaxed);
        let Some(thread) = self.thread.take() else { return true };
        // Not joined where a runtime waits for that: should librdkafka hang, the process ends all the same.
        let ended = async {
            while !thread.is_finished() {
                self.host.sleep(LOOK_AGAIN).await;
            }
        };
        self.host.timeout(span, ended).await.is_some()
    }
}

#[async_trait]
impl Reader for TopicReader {
    fn committed(&self, positions: &Positions) {
        let mut committed = self.orders.committed.lock();
        committed.get_or_insert_default().extend(positions);
    }

    async fn stop(self: Box<Self>) -> bool {
        self.leaves_within(LEAVE).await
    }
}

impl Drop for TopicReader {
    fn drop(&mut self) {
        self.orders.stop.store(true, Relaxed);
    }
}
