//! Producing records.

use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::error::RDKafkaErrorCode::{QueueFull, UnknownPartition};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};

use super::PATIENCE;
use crate::wait::until;

/// A record to be produced.
#[derive(Clone, Debug, Default)]
pub struct Record {
    topic: String,
    partition: Option<i32>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    timestamp: Option<i64>,
}

impl Record {
    /// A record with a value alone.
    pub fn new(topic: &str, value: impl Into<Vec<u8>>) -> Self {
        Self { topic: topic.to_owned(), value: Some(value.into()), ..Self::default() }
    }

    /// A record that has a key and no value.
    pub fn tombstone(topic: &str, key: impl Into<Vec<u8>>) -> Self {
        Self { topic: topic.to_owned(), key: Some(key.into()), ..Self::default() }
    }

    /// With this key.
    #[must_use]
    pub fn key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// To this partition, not the one that its key chooses.
    #[must_use]
    pub fn partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With this timestamp, in milliseconds since 1970.
    #[must_use]
    pub fn at(self, timestamp_ms: i64) -> Self {
        Self { timestamp: Some(timestamp_ms), ..self }
    }

    fn borrowed(&self, nth: usize) -> BaseRecord<'_, [u8], [u8], usize> {
        let insert = |headers: OwnedHeaders, (key, value): &(String, Vec<u8>)| {
            headers.insert(Header { key, value: Some(value) })
        };
        let mut record = BaseRecord::with_opaque_to(&self.topic, nth);
        record.partition = self.partition;
        record.key = self.key.as_deref();
        record.payload = self.value.as_deref();
        record.timestamp = self.timestamp;
        let headers =
            (!self.headers.is_empty()).then(|| self.headers.iter().fold(OwnedHeaders::new(), insert));
        record.headers = headers;
        record
    }
}

/// Sends records to a broker.
pub struct Producer {
    client: BaseProducer<Deliveries>,
}

/// Where each record since the last flush has landed.
#[derive(Default)]
struct Deliveries(Mutex<Vec<Option<Landed>>>);

/// A partition and an offset, or why not.
type Landed = Result<(i32, i64), KafkaError>;

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, nth: usize) {
        let landed = match result {
            Ok(record) => Ok((record.partition(), record.offset())),
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock()[nth] = Some(landed);
    }
}

impl Producer {
    pub(crate) fn new(mut config: ClientConfig, settings: &[(&str, &str)]) -> Self {
        config.set("enable.idempotence", "true").set("linger.ms", "1");
        // Partitions that were added are there to be written soon.
        config.set("topic.metadata.refresh.interval.ms", "500");
        config.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { client: config.create_with_context(Deliveries::default()).expect("a producer") }
    }

    /// Hands over a record to be sent in the background.
    pub fn send(&self, record: &Record) {
        let nth = {
            let mut landed = self.client.context().0.lock();
            landed.push(None);
            landed.len() - 1
        };
        until("the record can be queued", || match self.client.send(record.borrowed(nth)) {
            Ok(()) => Some(()),
            Err((KafkaError::MessageProduction(QueueFull | UnknownPartition), _)) => {
                self.client.poll(Duration::from_millis(10));
                None
            }
            Err((error, _)) => panic!("cannot produce {record:?}: {error}"),
        });
    }

    /// Waits until the broker has every record. Their partitions and offsets since the last flush, in the order in
    /// which they were sent.
    pub fn flush(&self) -> Vec<(i32, i64)> {
        self.client.flush(PATIENCE).expect("the broker answers");
        let landed = std::mem::take(&mut *self.client.context().0.lock());
        landed.into_iter().map(|landed| landed.expect("flushed").expect("delivered")).collect()
    }

    /// Begins a transaction.
    pub fn begin(&self) {
        self.client.begin_transaction().expect("no other transaction is under way");
    }

    /// Commits the transaction under way, and waits until it is.
    pub fn commit(&self) {
        self.flush();
        self.client.commit_transaction(PATIENCE).expect("committed");
    }

    /// Aborts the transaction under way, after its records have been sent: readers have to pass over them.
    pub fn abort(&self) {
        self.flush();
        self.client.abort_transaction(PATIENCE).expect("aborted");
    }

    pub(crate) fn init_transactions(&self) {
        self.client.init_transactions(PATIENCE).expect("the broker answers");
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").finish_non_exhaustive()
    }
}
