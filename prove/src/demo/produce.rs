//! Payments as records of a Kafka topic.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::{ClientConfig, FromClientConfig};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use serde_json::json;
use thiserror::Error;
use tidemark_kernel::{ErrorKind, Explain};

use super::Payment;

/// How long the brokers may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long they may take to have everything that waits to be sent.
const FLUSH: Duration = Duration::from_secs(60);

/// How many partitions the payments are spread over, by user.
const PARTITIONS: i32 = 4;

/// No record is deleted for its age. Otherwise a worker that was stopped for a week would find records gone that it
/// never read, and refuse to go on.
const KEPT: (&str, &str) = ("retention.ms", "-1");

/// The payments of the demo's month may be of the future.
const OF_ANY_TIME: (&str, &str) = ("message.timestamp.after.max.ms", "9223372036854775807");

/// A topic of the demo.
#[derive(Clone, Debug)]
pub struct DemoTopic {
    /// `host:port`, comma-separated.
    pub servers: String,
    /// Its name.
    pub name: String,
}

/// Payments could not be brought into a topic.
#[derive(Debug, Error)]
#[error("cannot {action} topic `{}` at {}: {reason}", topic.name, topic.servers)]
pub struct ProduceError {
    action: &'static str,
    topic: DemoTopic,
    reason: String,
}

impl Explain for ProduceError {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Unavailable
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        Some("see that a broker runs there and can be reached".into())
    }
}

impl DemoTopic {
    /// Creates the topic, for payments of any month.
    ///
    /// # Errors
    /// Fails where the brokers cannot be reached or will not.
    pub async fn create(&self) -> Result<(), ProduceError> {
        done(self.make(&[KEPT, OF_ANY_TIME]).await).map_err(|reason| self.failed("create", reason))
    }

    /// Creates the topic, for payments of the present. One that is there already stays as it is.
    ///
    /// # Errors
    /// Fails where the brokers cannot be reached or will not.
    pub async fn ensure(&self) -> Result<(), ProduceError> {
        let made = self.make(&[KEPT]).await.map(|mut results| {
            results.retain(|result| !matches!(result, Err((_, RDKafkaErrorCode::TopicAlreadyExists))));
            results
        });
        done(made).map_err(|reason| self.failed("create", reason))
    }

    async fn make(&self, settings: &[(&str, &str)]) -> KafkaResult<Vec<TopicResult>> {
        let topic = NewTopic::new(&self.name, PARTITIONS, TopicReplication::Fixed(-1));
        let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        self.admin()?.create_topics([&topic], &options()).await
    }

    /// Deletes the topic, with everything in it.
    ///
    /// # Errors
    /// Fails where the brokers cannot be reached or will not.
    pub async fn delete(&self) -> Result<(), ProduceError> {
        let deleted = async { self.admin()?.delete_topics(&[&self.name], &options()).await };
        done(deleted.await).map_err(|reason| self.failed("delete", reason))
    }

    /// Produces payments. This blocks until the brokers have them all.
    ///
    /// # Errors
    /// Fails where the brokers cannot be reached or do not take a record.
    pub fn produce(&self, payments: &[Payment]) -> Result<(), ProduceError> {
        let producer = self.producer()?;
        payments.iter().try_for_each(|payment| producer.send(payment))?;
        producer.flush()
    }

    /// A producer of payments into the topic.
    ///
    /// # Errors
    /// Fails where librdkafka refuses its settings.
    pub fn producer(&self) -> Result<PaymentProducer, ProduceError> {
        let mut settings = self.settings();
        settings.set("enable.idempotence", "true").set("linger.ms", "20").set("compression.type", "zstd");
        settings.set("message.timeout.ms", FLUSH.as_millis().to_string());
        let producer = settings.create_with_context(Deliveries::default());
        let producer = producer.map_err(|error| self.failed("write to", error.to_string()))?;
        Ok(PaymentProducer { topic: self.clone(), producer })
    }

    fn settings(&self) -> ClientConfig {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &self.servers).set("client.id", "tidemark-demo");
        settings
    }

    fn admin(&self) -> KafkaResult<AdminClient<DefaultClientContext>> {
        AdminClient::from_config(&self.settings())
    }

    fn failed(&self, action: &'static str, reason: String) -> ProduceError {
        ProduceError { action, topic: self.clone(), reason }
    }
}

/// Produces payments, each once, as JSON. A record's key is the user, its timestamp the time of receipt.
pub struct PaymentProducer {
    topic: DemoTopic,
    producer: BaseProducer<Deliveries>,
}

impl PaymentProducer {
    /// Sends a payment, without waiting for the brokers to have it.
    ///
    /// # Errors
    /// Fails where the brokers did not take this record or an earlier one.
    pub fn send(&self, payment: &Payment) -> Result<(), ProduceError> {
        let (key, value) = (payment.user_id.map(|user| user.to_string()), value(payment));
        let mut record =
            BaseRecord::to(&self.topic.name).payload(&value).timestamp(payment.received_at.millis());
        record.key = key.as_deref();
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), unsent)) => {
                    record = unsent;
                    self.producer.poll(Duration::from_millis(100));
                }
                Err((error, _)) => return Err(self.failed(&error)),
            }
        }
        self.producer.poll(Duration::ZERO);
        self.delivered()
    }

    /// Waits until the brokers have everything that was sent. This blocks.
    ///
    /// # Errors
    /// Fails where they did not take a record, or do not answer for a minute.
    pub fn flush(&self) -> Result<(), ProduceError> {
        self.producer.flush(FLUSH).map_err(|error| self.failed(&error))?;
        self.delivered()
    }

    fn delivered(&self) -> Result<(), ProduceError> {
        self.producer.context().failed.get().map_or(Ok(()), |error| Err(self.failed(error)))
    }

    fn failed(&self, error: &KafkaError) -> ProduceError {
        self.topic.failed("write to", error.to_string())
    }
}

/// The first record that the brokers did not take.
#[derive(Default)]
struct Deliveries {
    failed: OnceLock<KafkaError>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed.get_or_init(|| error.clone());
        }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

/// What became of the one topic that was asked about.
fn done(results: KafkaResult<Vec<TopicResult>>) -> Result<(), String> {
    let results = results.map_err(|error| error.to_string())?;
    results.into_iter().try_for_each(|result| match result {
        Ok(_) => Ok(()),
        Err((_, code)) => Err(code.to_string()),
    })
}

/// The fields of the source `payments`, by name.
fn value(payment: &Payment) -> String {
    let value = json!({
        "payment_id": payment.payment_id,
        "user_id": payment.user_id,
        "merchant_id": payment.merchant_id,
        "card_id": payment.card_id,
        "amount": payment.amount,
        "currency": payment.currency,
        "status": payment.status,
        "country": payment.country,
        "created_at": payment.created_at.to_string(),
        "received_at": payment.received_at.to_string(),
    });
    value.to_string()
}
