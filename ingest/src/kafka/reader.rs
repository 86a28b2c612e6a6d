//! The thread that reads a topic.
//!
//! It never waits long for anything but records, so that its group knows it to be alive however slow the receiver is:
//! what cannot be handed over yet is gathered, and once enough is, nothing more is fetched.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use tidemark_host::{Host, Stopwatch};
use tidemark_kernel::{Partition, Position, SourcePlan};
use tidemark_offline::Epoch;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{self, error::TrySendError};

use super::context::Context;
use super::failure::{self, Meaning, Truncation, meaning};
use super::gather::Gathered;
use super::probe::{Probe, TopicProperties};
use super::watch::{Seen, Watch};
use super::{Input, KafkaConfig, Orders};
use crate::error::IngestError;
use crate::metrics::TopicMetrics;
use crate::room::Room;
use assignment::Pending;

mod assignment;

/// How long to wait for a record with nothing else to do. An order is seen that late.
const UNHURRIED: Duration = Duration::from_millis(100);

/// How long to wait for a record while an answer, or room for what was gathered, is waited for as well.
const HURRIED: Duration = Duration::from_millis(1);

/// How long the receiver may be busy before fetching pauses. Pausing throws away what librdkafka has read ahead, so it
/// is longer than a batch takes that is as large as they become.
pub(super) const BUSY: Duration = Duration::from_secs(3);

/// Everything a reader needs.
pub(super) struct Task {
    pub(super) host: Host,
    pub(super) config: KafkaConfig,
    pub(super) source: Arc<SourcePlan>,
    pub(super) topic: String,
    /// The id of the history that the records go to.
    pub(super) history: String,
    pub(super) id: Option<String>,
    pub(super) metrics: Arc<TopicMetrics>,
    pub(super) room: Room,
    pub(super) orders: Arc<Orders>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) runtime: Handle,
}

impl Task {
    /// Makes the consumer; nothing is sent to the brokers yet.
    pub(super) fn open(&self) -> Result<BaseConsumer<Context>, IngestError> {
        let context = Context::new(&self.source.name, &self.topic, self.id.clone());
        let consumer = BaseConsumer::from_config_and_context(
            &self.config.reader(&self.source.name, &self.history),
            context,
        );
        consumer.map_err(|error| failure::asking(&self.config.bootstrap_servers, &self.topic, &error, None))
    }

    /// Reads until it is told to stop, the receiver is gone, or it cannot go on.
    pub(super) fn run(self, consumer: BaseConsumer<Context>) {
        for input in self.read(consumer) {
            if self.orders.stopped() || self.inputs.blocking_send(input).is_err() {
                return;
            }
        }
    }

    /// Reads, leaves the group, and says what is still to be handed over.
    fn read(&self, consumer: BaseConsumer<Context>) -> Vec<Input> {
        let _leave = Leave(&consumer);
        let (metrics, room) = (Arc::clone(&self.metrics), self.room.clone());
        let gathered = Gathered::new(&self.source, &self.topic, metrics, room);
        let mut reader = match Reader::start(self, &consumer, gathered) {
            Ok(reader) => reader,
            Err(error) => return vec![Input::Failed(error)],
        };
        match reader.read() {
            Ok(()) => Vec::new(),
            // What was read before may be gone from Kafka afterwards.
            Err(error) => reader.rest().into_iter().chain([Input::Failed(error)]).collect(),
        }
    }
}

/// Leaves the group once the reader has ended, however it did. Dropped while a change of the assignment is not carried
/// out, a consumer would wait for that without end.
struct Leave<'c>(&'c BaseConsumer<Context>);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.context().leave(self.0) {
            tracing::debug!(%error, "a group could not be left");
        }
    }
}

struct Reader<'s> {
    task: &'s Task,
    consumer: &'s BaseConsumer<Context>,
    watch: Watch,
    gathered: Gathered<'s>,
    /// What goes before that.
    waiting: VecDeque<Input>,
    pending: Option<Pending>,
    /// The partitions that librdkafka was not yet told to check, each with the epoch of the last record that was read, and how
    /// long ago it was assigned. Records of them that arrive before that are discarded.
    unchecked: BTreeMap<Partition, (Epoch, Stopwatch)>,
    /// Whether the group has assigned us a set of partitions, maybe an empty one, since it last revoked some.
    assigned: bool,
    /// Whether the end of some partition was reached since their positions were last looked at.
    ended: bool,
    /// Whether the receiver was told that everything was read.
    idle: bool,
    paused: bool,
    /// The partitions that are not fetched, because what is gathered of them has no room.
    crowded: BTreeSet<Partition>,
    /// Whether the brokers were said to be away.
    away: bool,
}

impl<'s> Reader<'s> {
    fn start(
        task: &'s Task,
        consumer: &'s BaseConsumer<Context>,
        gathered: Gathered<'s>,
    ) -> Result<Self, IngestError> {
        let topic = task.topic.as_str();
        let known = TopicProperties { topic: topic.to_owned(), id: task.id.clone(), partitions: 0 };
        let source = task.source.name.clone();
        let watch = Watch::start(task.config.clone(), source, known, Arc::clone(&task.metrics))?;
        let reader = Self {
            task,
            consumer,
            watch,
            gathered,
            waiting: VecDeque::new(),
            pending: None,
            unchecked: BTreeMap::new(),
            assigned: false,
            ended: false,
            idle: false,
            paused: false,
            crowded: BTreeSet::new(),
            away: false,
        };
        consumer.subscribe(&[topic]).map_err(|error| reader.failed(&error))?;
        Ok(reader)
    }

    fn read(&mut self) -> Result<(), IngestError> {
        while !self.task.orders.stopped() && !self.task.inputs.is_closed() {
            if self.gathered.is_full() {
                self.make_room()?;
            }
            let polled = self.consumer.poll(self.patience());
            if let Some((before, now)) = self.consumer.context().recreated() {
                let (source_name, topic) = self.names();
                return Err(IngestError::Recreated { source_name, topic, before, now });
            }
            match polled {
                Some(Ok(message)) => {
                    self.back();
                    let partition = Partition(message.partition());
                    if !self.unchecked.contains_key(&partition) {
                        self.gathered.take(&message, tidemark_topic::leader_epoch(&message));
                        self.pause_if_crowded(partition)?;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.back();
                    if !self.unchecked.contains_key(&Partition(partition)) {
                        self.ended = true;
                        self.gathered.ended(Partition(partition));
                    }
                }
                Some(Err(error)) => self.weigh(&error)?,
                None => self.rest_a_little()?,
            }
        }
        Ok(())
    }

    /// How long the next record may be waited for.
    fn patience(&self) -> Duration {
        let is_ready = !self.waiting.is_empty() || self.gathered.has_room();
        match self.gathered.is_empty() && self.waiting.is_empty() {
            true if self.pending.is_none() && self.unchecked.is_empty() => UNHURRIED,
            false if is_ready && self.task.inputs.capacity() > 0 => Duration::ZERO,
            _ => HURRIED,
        }
    }

    /// There is no record just now: time for everything else.
    fn rest_a_little(&mut self) -> Result<(), IngestError> {
        match self.watch.seen() {
            Some(Seen::Gone(error)) => return Err(error),
            Some(Seen::Same) => self.back(),
            None => {}
        }
        self.change()?;
        self.check_epochs()?;
        self.pass_on_committed();
        self.look_at_ends()?;
        self.hand_over()
    }

    /// Commits our positions to Kafka for lag tools only: whether the commit succeeds does not matter.
    fn pass_on_committed(&self) {
        let Some(committed) = self.task.orders.take_committed() else { return };
        let mut list = TopicPartitionList::new();
        let ours = committed.into_iter().filter(|(partition, _)| self.gathered.has(*partition));
        let added = ours.into_iter().try_for_each(|(partition, position)| {
            list.add_partition_offset(&self.task.topic, partition.0, Offset::Offset(position.0))
        });
        let sent = added.and_then(|()| match list.count() {
            0 => Ok(()),
            _ => self.consumer.commit(&list, CommitMode::Async),
        });
        if let Err(error) = sent {
            tracing::debug!(source = self.task.source.name, %error, "positions could not be told to Kafka");
        }
    }

    /// Marks of transactions, and what those took back, are passed over without a word. Where a partition ends with
    /// some, its position moves all the same.
    fn look_at_ends(&mut self) -> Result<(), IngestError> {
        if !std::mem::take(&mut self.ended) {
            return Ok(());
        }
        let positions = self.consumer.position().map_err(|error| self.failed(&error))?;
        for element in positions.elements() {
            if let Offset::Offset(offset) = element.offset() {
                self.gathered.ends_at(Partition(element.partition()), Position(offset));
            }
        }
        Ok(())
    }

    /// Hands over as much as the receiver has room for.
    fn hand_over(&mut self) -> Result<(), IngestError> {
        while self.task.inputs.capacity() > 0 {
            if self.waiting.is_empty() {
                self.cut()?;
            }
            let is_read = self.gathered.is_at_end() && self.gathered.is_empty();
            let idle = self.assigned && self.pending.is_none() && is_read;
            let input = match self.waiting.pop_front() {
                Some(input) => {
                    self.idle = false;
                    input
                }
                None if idle && !self.idle => {
                    self.idle = true;
                    Input::Idle
                }
                None => break,
            };
            // There is no other sender, so there is room; a receiver that is gone is noticed in the loop.
            if let Err(TrySendError::Full(input)) = self.task.inputs.try_send(input) {
                self.waiting.push_front(input);
            }
        }
        if self.paused && !self.gathered.is_full() {
            self.paused = false;
            self.crowded.clear();
            self.everything(|consumer, list| consumer.resume(list))?;
        }
        self.resume_crowded()
    }

    /// Cuts what is gathered and has room, to be handed over next.
    fn cut(&mut self) -> Result<(), IngestError> {
        let batches = self.gathered.cut()?;
        if !batches.is_empty() {
            self.waiting.push_back(Input::Batches(batches));
        }
        Ok(())
    }

    /// Fetches nothing more of a partition that has much gathered and no room.
    fn pause_if_crowded(&mut self, partition: Partition) -> Result<(), IngestError> {
        if self.crowded.contains(&partition) || !self.gathered.is_crowded(partition) {
            return Ok(());
        }
        self.crowded.insert(partition);
        self.consumer.pause(&self.list([partition])).map_err(|error| self.failed(&error))
    }

    /// Fetches partitions again whose gathered records found room.
    fn resume_crowded(&mut self) -> Result<(), IngestError> {
        let gathered: BTreeSet<Partition> = self.gathered.gathered().collect();
        let free: Vec<Partition> =
            self.crowded.extract_if(.., |partition| !gathered.contains(partition)).collect();
        let free = self.list(free.into_iter().filter(|partition| self.gathered.has(*partition)));
        match free.count() {
            0 => Ok(()),
            _ => self.consumer.resume(&free).map_err(|error| self.failed(&error)),
        }
    }

    fn list(&self, partitions: impl IntoIterator<Item = Partition>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition(&self.task.topic, partition.0);
        }
        list
    }

    /// Waits for the receiver, and for room. Once that takes long, nothing more is fetched.
    fn make_room(&mut self) -> Result<(), IngestError> {
        let (task, gathered) = (self.task, self.gathered.gathered().collect::<Vec<_>>());
        let is_waiting = !self.waiting.is_empty() || gathered.is_empty();
        let room = async {
            if !is_waiting {
                task.room.free_for_any(&gathered).await;
            }
            // A receiver that is gone is found below.
            drop(task.inputs.reserve().await);
        };
        let waited = self.task.runtime.block_on(task.host.timeout(BUSY, room)).is_some();
        if self.task.inputs.is_closed() {
            // The receiver is gone, and with it the use of a cut.
            return Ok(());
        }
        if waited {
            return self.hand_over();
        }
        if !self.paused {
            self.paused = true;
            self.everything(|consumer, list| consumer.pause(list))?;
        }
        Ok(())
    }

    /// Does something to all assigned partitions.
    fn everything(
        &self,
        what: impl FnOnce(&BaseConsumer<Context>, &TopicPartitionList) -> Result<(), KafkaError>,
    ) -> Result<(), IngestError> {
        let assigned = self.consumer.assignment().map_err(|error| self.failed(&error))?;
        what(self.consumer, &assigned).map_err(|error| self.failed(&error))
    }

    /// What an error calls for.
    fn weigh(&mut self, error: &KafkaError) -> Result<(), IngestError> {
        let detail = self.consumer.context().detail();
        if matches!(error, KafkaError::MessageConsumptionFatal(_)) {
            return Err(self.broken(detail));
        }
        match meaning(error) {
            Meaning::Away => {
                if !self.away {
                    self.away = true;
                    tracing::warn!(source = self.task.source.name, reason = detail, "Kafka is away");
                    let servers = self.task.config.bootstrap_servers.clone();
                    let error = IngestError::Unreachable { servers, reason: detail };
                    self.waiting.push_back(Input::Away(error));
                }
            }
            Meaning::NoTopic => self.watch.ask(),
            Meaning::Refused => {
                let servers = self.task.config.bootstrap_servers.clone();
                return Err(IngestError::Refused { servers, reason: detail });
            }
            Meaning::Misplaced => return Err(self.misplaced(detail)),
            Meaning::Broken => return Err(self.broken(detail)),
            Meaning::Other => tracing::warn!(source = self.task.source.name, reason = detail, "from Kafka"),
        }
        Ok(())
    }

    /// The brokers are there.
    fn back(&mut self) {
        if std::mem::take(&mut self.away) {
            tracing::info!(source = self.task.source.name, "Kafka is back");
            self.waiting.push_back(Input::Back);
        }
    }

    /// Why a position could not be read from.
    fn misplaced(&self, detail: String) -> IngestError {
        let misplaced = self.find_misplaced().unwrap_or_else(Some);
        misplaced.or_else(|| self.find_truncated(&detail)).unwrap_or_else(|| self.broken(detail))
    }

    /// The error of a partition that was truncated, where librdkafka has said so. It does not name the partition: those whose
    /// position and epoch it compared are named.
    fn find_truncated(&self, detail: &str) -> Option<IngestError> {
        let Truncation { read, end } = failure::truncation(detail)?;
        let epochs = self.gathered.epochs().into_iter();
        let mut partitions: Vec<Partition> =
            epochs.filter(|(_, epoch)| *epoch == read).map(|(partition, _)| partition).collect();
        if partitions.is_empty() {
            // It has read ahead of what was taken.
            partitions = self.gathered.positions().into_keys().collect();
        }
        let (source_name, topic) = self.names();
        Some(IngestError::Truncated { source_name, topic, partitions, position: read.until, end })
    }

    fn find_misplaced(&self) -> Result<Option<IngestError>, IngestError> {
        let probe = Probe::open(&self.task.config, &self.task.topic)?;
        let properties = probe.describe()?;
        let known = TopicProperties { id: self.task.id.clone(), ..properties.clone() };
        properties.check(&self.task.source.name, &known.to_string())?;
        let ends = probe.ends_of(properties.partitions)?;
        let (source_name, topic) = self.names();
        Ok(self.gathered.positions().into_iter().find_map(|(partition, position)| {
            match ends.get(&partition) {
                Some(held) if position < held.start => {
                    let (source_name, topic) = (source_name.clone(), topic.clone());
                    Some(IngestError::Overtaken {
                        source_name,
                        topic,
                        partition,
                        position,
                        first: held.start,
                    })
                }
                Some(held) if position > held.end => {
                    let (source_name, topic) = (source_name.clone(), topic.clone());
                    Some(IngestError::Shrunk { source_name, topic, partition, position, end: held.end })
                }
                _ => None,
            }
        }))
    }

    /// What was read and not handed over.
    fn rest(&mut self) -> VecDeque<Input> {
        // An error here would hide the one that ends the reading.
        let all: Vec<Partition> = self.gathered.positions().into_keys().collect();
        let last = self.gathered.cut_last(&all).unwrap_or_default();
        if !last.is_empty() {
            self.waiting.push_back(Input::Batches(last));
        }
        let mut rest = std::mem::take(&mut self.waiting);
        rest.retain(|input| matches!(input, Input::Batches(_)));
        rest
    }

    fn names(&self) -> (String, String) {
        (self.task.source.name.clone(), self.task.topic.clone())
    }

    fn failed(&self, error: &KafkaError) -> IngestError {
        self.broken(failure::told(error))
    }

    fn broken(&self, reason: String) -> IngestError {
        let (source_name, topic) = self.names();
        IngestError::TopicFailed { source_name, topic, reason }
    }
}
