//! A Kafka broker for tests: a real one, or librdkafka's mock.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication, TopicResult};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::OwnedMessage;
use rdkafka::{Offset, TopicPartitionList};

mod broker;
mod mock;
mod producer;

pub use producer::{Producer, Record};

use crate::wait::until;
use broker::{Broker, Purpose};
use mock::Mock;

/// How long a request may take: longer than a broker's restart.
const PATIENCE: Duration = Duration::from_secs(90);

/// A broker of Apache Kafka 4 in KRaft mode, ours or given, or where neither Java nor Docker can be had, librdkafka's
/// mock of one.
#[derive(Debug)]
pub struct Kafka {
    bootstrap: String,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Own(Broker),
    Given,
    Mock(Mock),
}

impl Kafka {
    /// Starts one.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one with settings as in `server.properties`.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        Self::launch(Purpose::Tests, settings)
    }

    /// Starts one for benchmarks, whose code is compiled as well as that of a broker in production.
    pub fn for_load() -> Self {
        Self::launch(Purpose::Load, &[])
    }

    fn launch(purpose: Purpose, settings: &[(&str, &str)]) -> Self {
        let Some(broker) = Broker::new(purpose, settings) else {
            let mock = Mock::start();
            return Self { bootstrap: mock.bootstrap().to_owned(), kind: Kind::Mock(mock) };
        };
        broker.launch();
        let kafka = Self { bootstrap: broker.bootstrap(), kind: Kind::Own(broker) };
        kafka.wait_until_ready();
        kafka
    }

    /// The one of `TIDEMARK_TEST_KAFKA`, else one for this whole test binary. For tests that only use one: topics are
    /// named by [`crate::unique`].
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| match env::var("TIDEMARK_TEST_KAFKA") {
            Ok(bootstrap) => Self { bootstrap, kind: Kind::Given },
            Err(_) => Self::start(),
        })
    }

    /// Whether this is Apache Kafka. The mock has topics, producers and consumer groups, but nothing of it can be
    /// broken, deleted or aborted: a test that needs more says in one line what it leaves out.
    pub const fn is_real(&self) -> bool {
        !matches!(self.kind, Kind::Mock(_))
    }

    /// `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What a client of this broker begins with.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.broker().kill();
    }

    /// Starts it again, after a `kill -9` if it still runs, with the same port and folder, and waits until it answers.
    pub fn restart(&self) {
        self.broker().kill();
        self.broker().launch();
        self.wait_until_ready();
    }

    /// Kills it, takes the last record batches off a partition, and starts it again, as if its disk came from an older copy: the
    /// batches from the first one on that has a record at `offset` or after it. Where the partition ends now. It must have
    /// one segment only.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> i64 {
        self.kill();
        let end = truncate(&self.broker().partition(topic, partition), offset);
        self.restart();
        end
    }

    /// Suspends the process: connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.broker().signal("STOP");
    }

    /// Lets it go on after [`Kafka::pause`].
    pub fn resume(&self) {
        self.broker().signal("CONT");
    }

    /// Creates a topic with settings such as `("retention.ms", "1000")`, and waits until it can be written.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        if let Kind::Mock(mock) = &self.kind {
            return mock.create_topic(name, partitions);
        }
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        let topic = settings.iter().fold(topic, |topic, (name, value)| topic.set(name, value));
        done(self.administer(async |admin, options| admin.create_topics([&topic], options).await));
        self.wait_for_partitions(name, partitions as usize);
    }

    /// Deletes a topic, and waits until it is gone.
    pub fn delete_topic(&self, name: &str) {
        done(self.administer(async |admin, options| admin.delete_topics(&[name], options).await));
        self.wait_for_partitions(name, 0);
    }

    /// Raises how many partitions a topic has to `count`.
    pub fn add_partitions(&self, name: &str, count: usize) {
        let more = NewPartitions::new(name, count);
        done(self.administer(async |admin, options| admin.create_partitions([&more], options).await));
        self.wait_for_partitions(name, count);
    }

    /// Deletes what a partition has before `offset`, as retention would.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("an offset");
        let deleted = self.administer(async |admin, options| admin.delete_records(&list, options).await);
        deleted.elements().iter().for_each(|element| element.error().expect("records are deleted"));
    }

    /// Produces `records`, and waits until the broker has them. Their partitions and offsets, in the same order.
    pub fn produce(&self, records: &[Record]) -> Vec<(i32, i64)> {
        let producer = self.producer();
        records.iter().for_each(|record| producer.send(record));
        producer.flush()
    }

    /// A producer of its own, idempotent.
    pub fn producer(&self) -> Producer {
        self.producer_with(&[])
    }

    /// A producer of its own, idempotent unless the settings of librdkafka say otherwise, such as
    /// `("compression.type", "zstd")`.
    pub fn producer_with(&self, settings: &[(&str, &str)]) -> Producer {
        Producer::new(self.client(), settings)
    }

    /// A producer for transactions: [`Producer::begin`], then [`Producer::commit`] or [`Producer::abort`].
    pub fn transactional_producer(&self, id: &str) -> Producer {
        let producer = self.producer_with(&[("transactional.id", id)]);
        producer.init_transactions();
        producer
    }

    /// The offsets of the first record and behind the last, for each partition of a topic.
    pub fn watermarks(&self, topic: &str) -> BTreeMap<i32, (i64, i64)> {
        let consumer = self.reader();
        let marks =
            |partition| consumer.fetch_watermarks(topic, partition, PATIENCE).expect("the topic is there");
        self.partitions(topic).into_iter().map(|partition| (partition, marks(partition))).collect()
    }

    /// Every committed record of a topic, partition by partition in offset order.
    pub fn records(&self, topic: &str) -> Vec<OwnedMessage> {
        let partitions = self.partitions(topic);
        partitions.into_iter().flat_map(|partition| self.records_of(topic, partition)).collect()
    }

    fn records_of(&self, topic: &str, partition: i32) -> Vec<OwnedMessage> {
        let consumer = self.reader();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
        consumer.assign(&list).expect("a partition");
        let mut records = Vec::new();
        loop {
            match consumer.poll(PATIENCE).expect("the broker answers") {
                Ok(record) => records.push(record.detach()),
                Err(KafkaError::PartitionEOF(_)) => return records,
                Err(error) => panic!("cannot read {topic}: {error}"),
            }
        }
    }

    fn reader(&self) -> BaseConsumer {
        let mut config = self.client();
        config.set("group.id", "none").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        config.set("isolation.level", "read_committed").create().expect("a consumer")
    }

    fn partitions(&self, topic: &str) -> Vec<i32> {
        let metadata = self.reader().fetch_metadata(None, PATIENCE).expect("the broker answers");
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        found.map_or_else(Vec::new, |topic| {
            topic.partitions().iter().map(|partition| partition.id()).collect()
        })
    }

    fn wait_for_partitions(&self, topic: &str, count: usize) {
        until("partitions come and go", || (self.partitions(topic).len() == count).then_some(()));
    }

    fn wait_until_ready(&self) {
        let consumer = self.reader();
        until("Kafka answers", || {
            self.broker().check();
            let metadata = consumer.fetch_metadata(None, Duration::from_millis(500)).ok()?;
            (metadata.brokers().len() == 1).then_some(())
        });
    }

    /// Carries out a request, from within async tests as well.
    #[track_caller]
    fn administer<T: Send>(
        &self,
        request: impl AsyncFnOnce(&AdminClient<DefaultClientContext>, &AdminOptions) -> KafkaResult<T> + Send,
    ) -> T {
        assert!(self.is_real(), "librdkafka's mock cannot do this: ask is_real() first");
        let admin: AdminClient<DefaultClientContext> = self.client().create().expect("an admin client");
        let options = AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE));
        let carry_out = || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            runtime.block_on(request(&admin, &options))
        };
        let outcome = std::thread::scope(|scope| scope.spawn(carry_out).join().expect("no panic"));
        outcome.unwrap_or_else(|error| panic!("Kafka refuses: {error}"))
    }

    fn broker(&self) -> &Broker {
        match &self.kind {
            Kind::Own(broker) => broker,
            Kind::Given => panic!("a broker that was given is not ours to break: use Kafka::start"),
            Kind::Mock(_) => panic!("librdkafka's mock cannot be broken: ask is_real() first"),
        }
    }
}

/// Takes record batches off the first segment of a partition, and what may tell of them beside it.
fn truncate(folder: &Path, offset: i64) -> i64 {
    let log = folder.join(format!("{:020}.log", 0));
    let bytes = fs::read(&log).expect("a segment");
    let (mut kept, mut end) = (0, 0);
    // A batch begins with its first offset and its length from there on, and has the distance to its last offset at 23.
    while let Some(batch) = bytes.get(kept..).filter(|rest| rest.len() > 27) {
        let number = |at: usize| i32::from_be_bytes(batch[at..at + 4].try_into().expect("four bytes"));
        let first = i64::from_be_bytes(batch[..8].try_into().expect("eight bytes"));
        let last = first + i64::from(number(23));
        if last >= offset {
            break;
        }
        (kept, end) = (kept + 12 + number(8) as usize, last + 1);
    }
    File::options().write(true).open(&log).and_then(|log| log.set_len(kept as u64)).expect("truncated");
    for file in fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()) {
        let kind = file.extension().and_then(|kind| kind.to_str());
        if matches!(kind, Some("index" | "timeindex" | "txnindex" | "snapshot")) {
            fs::remove_file(file).expect("removed");
        }
    }
    end
}

#[track_caller]
fn done(results: Vec<TopicResult>) {
    for result in results {
        result.unwrap_or_else(|(topic, error)| panic!("{topic}: {error}"));
    }
}

#[cfg(test)]
mod tests;
