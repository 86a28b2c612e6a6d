//! Asks the brokers about a topic: its id, its partitions and their offsets.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use tidemark_kernel::{Partition, Position, PositionRange, Time};
use tidemark_offline::Positions;
use tokio::task::spawn_blocking;

use super::{KafkaConfig, context, failure};
use crate::error::IngestError;
use crate::feed::Start;

/// How long brokers may take to answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How long to listen for what librdkafka has to say.
const SAID: Duration = Duration::from_millis(10);

/// Written in place of an id that the brokers do not tell.
const UNKNOWN: &str = "-";

/// What Kafka knows of a topic now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicProperties {
    /// Its name.
    pub topic: String,
    /// What tells it from one that is created under its name later; none where brokers know of no such thing.
    pub id: Option<String>,
    /// How many partitions it has.
    pub partitions: i32,
}

impl fmt::Display for TopicProperties {
    /// The name and the id, to be kept beside what was read and checked later.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.topic, self.id.as_deref().unwrap_or(UNKNOWN))
    }
}

impl TopicProperties {
    /// Whether this is the topic that was kept in mind as `known`. Where the brokers told no id, the name decides.
    ///
    /// # Errors
    /// Fails where it is another one.
    pub(crate) fn check(&self, source_name: &str, known: &str) -> Result<(), IngestError> {
        let (name, id) = known.split_once(' ').unwrap_or((known, UNKNOWN));
        let source_name = source_name.to_owned();
        if name != self.topic {
            let (before, now) = (name.to_owned(), self.topic.clone());
            return Err(IngestError::OtherTopic { source_name, before, now });
        }
        match &self.id {
            Some(now) if id != UNKNOWN && id != now => {
                let (topic, before, now) = (self.topic.clone(), id.to_owned(), now.clone());
                Err(IngestError::Recreated { source_name, topic, before, now })
            }
            _ => Ok(()),
        }
    }
}

/// Asks the brokers for a topic.
///
/// # Errors
/// Fails where there is none of this name, or the brokers do not answer.
pub(crate) async fn describe(config: &KafkaConfig, topic: &str) -> Result<TopicProperties, IngestError> {
    ask(config, topic, Probe::describe).await
}

/// The first and the next offset of each partition. What is not stable yet lies behind the end.
///
/// # Errors
/// Like [`describe`].
pub(crate) async fn ends(
    config: &KafkaConfig,
    topic: &str,
) -> Result<BTreeMap<Partition, PositionRange>, IngestError> {
    ask(config, topic, Probe::ends).await
}

/// Where each partition starts for a reader that has never read the topic.
///
/// # Errors
/// Like [`describe`].
pub(crate) async fn starts(
    config: &KafkaConfig,
    topic: &str,
    start: Start,
) -> Result<Positions, IngestError> {
    ask(config, topic, move |probe| probe.starts(start)).await
}

async fn ask<T: Send + 'static>(
    config: &KafkaConfig,
    topic: &str,
    question: impl FnOnce(&Probe) -> Result<T, IngestError> + Send + 'static,
) -> Result<T, IngestError> {
    let (config, topic) = (config.clone(), topic.to_owned());
    let asked = spawn_blocking(move || question(&Probe::open(&config, &topic)?));
    asked.await.map_err(IngestError::stopped)?
}

/// A connection to the brokers for questions about a topic. Its methods wait for the answers.
pub(super) struct Probe {
    consumer: BaseConsumer<Said>,
    servers: String,
    topic: String,
}

/// What librdkafka said last about its errors.
struct Said {
    topic: String,
    last: Mutex<Option<(KafkaError, String)>>,
}

impl ClientContext for Said {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        context::log(&self.topic, level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let mut last = self.last.lock();
        // That all brokers are away follows from what was said before.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) || last.is_none() {
            *last = Some((error, reason.to_owned()));
        }
    }
}

impl ConsumerContext for Said {}

impl Probe {
    pub(super) fn open(config: &KafkaConfig, topic: &str) -> Result<Self, IngestError> {
        let servers = config.bootstrap_servers.clone();
        let said = Said { topic: topic.to_owned(), last: Mutex::default() };
        let consumer = BaseConsumer::from_config_and_context(&config.probe(), said);
        let consumer = consumer.map_err(|error| failure::asking(&servers, topic, &error, None))?;
        Ok(Self { consumer, servers, topic: topic.to_owned() })
    }

    pub(super) fn describe(&self) -> Result<TopicProperties, IngestError> {
        let described = tidemark_topic::describe(self.consumer.client(), &self.topic, PATIENCE);
        let described = described.map_err(|error| self.failed(&error))?;
        if described.partitions == 0 {
            return Err(self.unreachable("the topic is just being created"));
        }
        let partitions = i32::try_from(described.partitions).unwrap_or(i32::MAX);
        Ok(TopicProperties { topic: self.topic.clone(), id: described.id, partitions })
    }

    /// The id of a broker that answers.
    pub(super) fn broker(&self) -> Result<i32, IngestError> {
        let metadata = self.consumer.fetch_metadata(Some(&self.topic), PATIENCE);
        let metadata = metadata.map_err(|error| self.failed(&error))?;
        let broker = metadata.brokers().first().map(|broker| broker.id());
        broker.ok_or_else(|| self.unreachable("no broker is there"))
    }

    fn ends(&self) -> Result<BTreeMap<Partition, PositionRange>, IngestError> {
        self.ends_of(self.describe()?.partitions)
    }

    /// The first and the next offset of the first so many partitions.
    pub(super) fn ends_of(&self, partitions: i32) -> Result<BTreeMap<Partition, PositionRange>, IngestError> {
        let first = self.offsets(partitions, Offset::Beginning)?;
        let mut next = self.offsets(partitions, Offset::End)?;
        let range = |(partition, first): (Partition, Option<Position>)| {
            Some((partition, PositionRange { start: first?, end: next.remove(&partition)?? }))
        };
        Ok(first.into_iter().filter_map(range).collect())
    }

    fn starts(&self, start: Start) -> Result<Positions, IngestError> {
        // In this order: a record that comes in between is late enough, and behind the end.
        let ends = self.ends()?;
        let since = match start {
            Start::At(time) => self.since(ends.len(), time)?,
            Start::Earliest | Start::Latest => BTreeMap::new(),
        };
        let of = |(partition, held): (Partition, PositionRange)| match start {
            Start::Earliest => (partition, held.start),
            Start::Latest => (partition, held.end),
            Start::At(_) => (partition, since.get(&partition).copied().flatten().unwrap_or(held.end)),
        };
        Ok(ends.into_iter().map(of).collect())
    }

    /// The first record of each partition that is not before `time`, if there is any.
    fn since(
        &self,
        partitions: usize,
        time: Time,
    ) -> Result<BTreeMap<Partition, Option<Position>>, IngestError> {
        let partitions = i32::try_from(partitions).unwrap_or(i32::MAX);
        self.offsets(partitions, Offset::Offset(time.millis().max(0)))
    }

    /// Asks every partition for an offset: the first, the end, or that of the first record since an instant.
    fn offsets(
        &self,
        partitions: i32,
        of: Offset,
    ) -> Result<BTreeMap<Partition, Option<Position>>, IngestError> {
        self.try_offsets(partitions, of).map_err(|error| match self.failed(&error) {
            // The topic is there; not every broker knows of all its partitions yet.
            IngestError::NoTopic { .. } => self.unreachable(failure::told(&error)),
            error => error,
        })
    }

    fn try_offsets(&self, partitions: i32, of: Offset) -> KafkaResult<BTreeMap<Partition, Option<Position>>> {
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(&self.topic, partition, of)?;
        }
        let found = self.consumer.offsets_for_times(list, PATIENCE)?;
        let elements = found.elements();
        let positions = elements.iter().map(|element| {
            element.error()?;
            let position = match element.offset() {
                Offset::Offset(offset) => Some(Position(offset)),
                _ => None,
            };
            Ok((Partition(element.partition()), position))
        });
        positions.collect()
    }

    fn unreachable(&self, reason: impl ToString) -> IngestError {
        IngestError::Unreachable { servers: self.servers.clone(), reason: reason.to_string() }
    }

    /// The error of a question that failed with `error`. What went wrong with the connection tells more, if anything
    /// did.
    fn failed(&self, error: &KafkaError) -> IngestError {
        // Errors of connections wait to be polled.
        while self.consumer.poll(SAID).is_some() {}
        let said = self.consumer.context().last.lock().take();
        match (failure::meaning(error), said) {
            (failure::Meaning::Away, Some((cause, reason))) => {
                failure::asking(&self.servers, &self.topic, &cause, Some(reason))
            }
            _ => failure::asking(&self.servers, &self.topic, error, None),
        }
    }
}
