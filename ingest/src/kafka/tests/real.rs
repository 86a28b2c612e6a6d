//! Readers of a real broker: what librdkafka's mock of one cannot do. Where there is no real broker, each of them says
//! so in one line and does nothing.

use std::io::Write;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tidemark_kernel::{Partition, Position, PositionRange, Span, Time};
use tidemark_offline::Epoch;
use tidemark_services::{Kafka, unique};

use super::reading::{HISTORY, PATIENCE, Reading, all_at, assert_numbers, config, produce, producer};
use crate::error::IngestError;
use crate::feed::Start;
use crate::kafka::{KafkaConfig, Reader as _, Timestamps, TopicSettings, Topics as _};

/// A topic of a test's own.
struct Topic {
    servers: String,
    name: String,
    partitions: i32,
    admin: AdminClient<DefaultClientContext>,
}

impl Topic {
    /// A new topic, if there is a broker.
    async fn new(test: &str, partitions: i32) -> Option<Self> {
        let kafka = Kafka::shared();
        if !kafka.is_real() {
            // Not `eprintln`, which is shown only where a test fails.
            let _ = writeln!(std::io::stderr(), "left out, for there is no real broker: {test}");
            return None;
        }
        let servers = kafka.bootstrap().to_owned();
        let admin = ClientConfig::new().set("bootstrap.servers", &servers).create().expect("a client");
        let name = unique(test);
        let topic = Self { servers, name, partitions, admin };
        topic.create().await;
        Some(topic)
    }

    async fn create(&self) {
        let new = NewTopic::new(&self.name, self.partitions, TopicReplication::Fixed(1));
        let new = new.set("retention.ms", "-1");
        // A topic that was just deleted may linger.
        for _ in 0..100 {
            let created = self.admin.create_topics([&new], &AdminOptions::new()).await.expect("an answer");
            if created[0].is_ok() {
                return self.wait_for(true).await;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} cannot be created", self.name);
    }

    async fn delete(&self) {
        let deleted = self.admin.delete_topics(&[&self.name], &AdminOptions::new()).await.expect("an answer");
        deleted[0].as_ref().expect("deleted");
    }

    /// Waits until brokers know of the topic, or of none.
    async fn wait_for(&self, there: bool) {
        let began = Instant::now();
        while self.config().describe(&self.name).await.is_ok() != there {
            assert!(began.elapsed() < PATIENCE, "{} does not come or go", self.name);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A group of this test's own, which sees new partitions soon.
    fn config(&self) -> KafkaConfig {
        let mut config = config(&self.servers);
        config.project.clone_from(&self.name);
        config.options.insert("topic.metadata.refresh.interval.ms".into(), "500".into());
        config.options.insert("heartbeat.interval.ms".into(), "500".into());
        config
    }

    fn produce(&self, numbers: std::ops::Range<i64>) {
        produce(&producer(&self.servers, &[]), &self.name, self.partitions, numbers);
    }

    async fn reading(&self) -> Reading {
        Reading::start(&self.config(), &self.name).await
    }

    /// Drops the records before `offset`.
    async fn forget(&self, partition: i32, offset: i64) {
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(&self.name, partition, Offset::Offset(offset)).expect("an offset");
        self.admin.delete_records(&before, &AdminOptions::new()).await.expect("forgotten");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_move_between_readers_and_every_record_is_read_once() {
    let Some(topic) = Topic::new("rebalance", 4).await else { return };
    topic.produce(0..1000);
    let mut first = topic.reading().await;
    first.until(|reading| reading.count() >= 500).await;
    let mut second = first.second(&topic.config(), &topic.name).await;
    let half = |end| move |reading: &Reading| reading.is_at(2, end);
    tokio::join!(first.until(half(1000)), second.until(half(1000)));
    topic.produce(1000..2000);
    tokio::join!(first.until(half(2000)), second.until(half(2000)));
    assert!(second.count() >= 2000);
    let left = second.positions.clone();
    second.stop().await;
    topic.produce(2000..2100);
    // A reader that leaves releases nothing by itself: the other goes on where it was.
    first.given_up.lock().extend(left);
    first.until(|reading| reading.is_at(4, 2100)).await;
    assert_eq!(first.all.lock().len(), 4 * 2100, "each record once, by one of the two");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_given_nothing_has_read_everything() {
    let Some(topic) = Topic::new("nothing", 1).await else { return };
    let mut first = topic.reading().await;
    first.until(Reading::is_idle).await;
    let mut second = first.second(&topic.config(), &topic.name).await;
    second.until(Reading::is_idle).await;
    assert!(second.positions.is_empty());
    first.stop().await;
    second.until(|reading| reading.positions.len() == 1 && reading.is_idle()).await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lag_tools_are_told_what_is_committed() {
    let Some(topic) = Topic::new("committed", 1).await else { return };
    topic.produce(0..10);
    let mut reading = topic.reading().await;
    reading.until(Reading::is_idle).await;
    reading.reader.committed(&all_at(1, 7));
    let group = format!("tidemark-{}-payments-{HISTORY}", topic.name);
    let tool: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &topic.servers)
        .set("group.id", &group)
        .create()
        .expect("a client");
    let told = || {
        let mut list = TopicPartitionList::new();
        list.add_partition(&topic.name, 0);
        let list = tool.committed_offsets(list, PATIENCE).expect("an answer");
        list.elements()[0].offset()
    };
    let began = Instant::now();
    while told() != Offset::Offset(7) {
        assert!(began.elapsed() < PATIENCE, "{:?}", told());
    }
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_another_process_became_ends() {
    let Some(topic) = Topic::new("member", 1).await else { return };
    topic.produce(0..10);
    let config = KafkaConfig { member: Some("one".into()), ..topic.config() };
    let mut first = Reading::start(&config, &topic.name).await;
    first.until(Reading::is_idle).await;
    first.given_up.lock().extend(all_at(1, 10));
    let mut second = first.second(&config, &topic.name).await;
    let (error, ()) = tokio::join!(first.failure(), second.until(Reading::is_idle));
    assert!(matches!(error, IngestError::TopicFailed { .. }), "{error}");
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn added_partitions_are_read_from_their_first_record() {
    let Some(mut topic) = Topic::new("added", 1).await else { return };
    topic.produce(0..10);
    let mut reading = topic.reading().await;
    reading.until(Reading::is_idle).await;
    let added =
        topic.admin.create_partitions(&[NewPartitions::new(&topic.name, 3)], &AdminOptions::new()).await;
    added.expect("an answer")[0].as_ref().expect("added");
    topic.partitions = 3;
    topic.produce(10..20);
    reading.until(|reading| reading.count() == 40).await;
    assert_numbers(&reading, 0, 0..20);
    assert_numbers(&reading, 2, 10..20);
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_transactions_are_never_seen_and_the_end_is_reached() {
    let Some(topic) = Topic::new("aborted", 1).await else { return };
    let producer = producer(&topic.servers, &[("transactional.id", &topic.name)]);
    producer.init_transactions(PATIENCE).expect("transactions");
    let mut reading = topic.reading().await;
    let write = |numbers: std::ops::Range<i64>, keep: bool| {
        producer.begin_transaction().expect("begun");
        produce(&producer, &topic.name, 1, numbers);
        if keep { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) }
            .expect("ended");
    };
    write(0..10, true);
    write(100..110, false);
    reading.until(|reading| reading.positions == all_at(1, 22)).await;
    assert_numbers(&reading, 0, 0..10);
    write(200..210, false);
    reading.until(|reading| reading.positions == all_at(1, 33) && reading.is_idle()).await;
    write(10..20, true);
    reading.until(|reading| reading.positions == all_at(1, 44) && reading.is_idle()).await;
    assert_numbers(&reading, 0, 0..20);
    // One that is under way is behind the end.
    producer.begin_transaction().expect("begun");
    produce(&producer, &topic.name, 1, 20..30);
    let found = topic.config().ends(&topic.name).await.expect("ends");
    assert_eq!(found[&Partition(0)], PositionRange { start: Position(0), end: Position(44) });
    producer.commit_transaction(PATIENCE).expect("ended");
    reading.until(|reading| reading.positions == all_at(1, 55)).await;
    assert_numbers(&reading, 0, 0..30);
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_gone_before_they_were_read_are_an_error() {
    let Some(topic) = Topic::new("overtaken", 2).await else { return };
    topic.produce(0..100);
    topic.forget(1, 60).await;
    let mut reading = topic.reading().await;
    let error = reading.failure().await;
    assert!(
        matches!(
            &error,
            IngestError::Overtaken {
                partition: Partition(1),
                position: Position(0),
                first: Position(60),
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().starts_with("records 0 to 59 of partition 1 of topic"), "{error}");
    reading.stop().await;
    assert_eq!(
        topic.config().starts(&topic.name, Start::Earliest).await.expect("starts")[&Partition(1)],
        Position(60)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_position_behind_the_end_is_an_error() {
    let Some(topic) = Topic::new("shrunk", 1).await else { return };
    topic.produce(0..10);
    let mut reading = topic.reading().await;
    reading.starts = all_at(1, 50);
    let error = reading.failure().await;
    assert!(
        matches!(error, IngestError::Shrunk { position: Position(50), end: Position(10), .. }),
        "{error}"
    );
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_epoch_of_the_last_record_is_checked_before_reading_on() {
    let Some(topic) = Topic::new("epochs", 2).await else { return };
    topic.produce(0..10);
    let mut first = topic.reading().await;
    first.until(Reading::is_idle).await;
    let epochs = first.epochs.clone();
    let read: Vec<_> = epochs.iter().map(|(partition, epoch)| (partition.0, epoch.until.0)).collect();
    assert_eq!(read, [(0, 10), (1, 10)]);
    first.stop().await;

    topic.produce(10..20);
    let mut second = topic.reading().await;
    second.starts = all_at(2, 10);
    second.epochs.clone_from(&epochs);
    second.until(|reading| reading.is_at(2, 20)).await;
    (0..2).for_each(|partition| assert_numbers(&second, partition, 10..20));
    second.stop().await;

    // The broker knows no such epoch: its partition is not the one that was read.
    let mut third = topic.reading().await;
    third.starts = all_at(2, 10);
    third.epochs = epochs;
    third.epochs.insert(Partition(1), Epoch { number: 1_000_000, until: Position(10) });
    let error = third.failure().await;
    let is_told = matches!(
        &error,
        IngestError::Truncated { partitions, position: Position(10), end: None, .. } if *partitions == [Partition(1)]
    );
    assert!(is_told, "{error}");
    assert!(error.to_string().starts_with("partition 1 of topic"), "{error}");
    assert_numbers(&third, 1, 0..0);
    third.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_deleted_is_an_error() {
    let Some(topic) = Topic::new("deleted", 1).await else { return };
    topic.produce(0..10);
    let mut reading = topic.reading().await;
    reading.until(Reading::is_idle).await;
    topic.delete().await;
    let error = reading.failure().await;
    assert!(matches!(error, IngestError::NoTopic { .. }), "{error}");
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_read_of_a_topic_that_took_the_place_of_another() {
    let Some(topic) = Topic::new("recreated", 1).await else { return };
    // Also beyond where the old one was read, and before anybody could have noticed that it was gone.
    for (more, at_once) in [(0, false), (5, true), (5000, false), (5000, true)] {
        topic.produce(0..10);
        let mut reading = topic.reading().await;
        reading.until(Reading::is_idle).await;
        topic.delete().await;
        if !at_once {
            topic.wait_for(false).await;
        }
        topic.create().await;
        topic.produce(0..more);
        let error = reading.failure().await;
        assert!(matches!(error, IngestError::Recreated { .. }), "{error}");
        assert_numbers(&reading, 0, 0..10);
        reading.stop().await;
        topic.delete().await;
        topic.wait_for(false).await;
        topic.create().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_may_begin_at_an_instant() {
    let Some(topic) = Topic::new("instant", 1).await else { return };
    let producer = producer(&topic.servers, &[]);
    for time in [1000, 2000, 3000] {
        let record = BaseRecord::<str, str>::to(&topic.name).payload("{}").timestamp(time);
        producer.send(record).map_err(|(error, _)| error).expect("sent");
    }
    producer.flush(PATIENCE).expect("written");
    for (time, position) in [(0, 0), (1000, 0), (1001, 1), (3000, 2), (3001, 3)] {
        let start = Start::At(Time::from_millis(time));
        let found = topic.config().starts(&topic.name, start).await.expect("starts");
        assert_eq!(found, all_at(1, position), "since {time}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_records_are_read() {
    let Some(topic) = Topic::new("compressed", 1).await else { return };
    let mut at = 0;
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        let producer = producer(&topic.servers, &[("compression.type", codec), ("linger.ms", "50")]);
        produce(&producer, &topic.name, 1, at..at + 100);
        at += 100;
    }
    let mut reading = topic.reading().await;
    reading.until(|reading| reading.count() == 400).await;
    assert_numbers(&reading, 0, 0..400);
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_tell_who_sets_timestamps_and_how_far_ahead() {
    let Some(topic) = Topic::new("timestamps", 1).await else { return };
    let (config, hour) = (topic.config(), Span::from_secs(3600));
    let told = config.settings(&topic.name).await.expect("told");
    let by_default = TopicSettings { timestamps: Timestamps::Producers(Some(hour)), is_compacted: false };
    assert_eq!(told, by_default, "the default of Kafka 4");
    let any = i64::MAX.to_string();
    for (name, value, expected) in [
        ("message.timestamp.after.max.ms", "60000", Timestamps::Producers(Some(Span::from_secs(60)))),
        ("message.timestamp.after.max.ms", any.as_str(), Timestamps::Producers(None)),
        ("message.timestamp.type", "LogAppendTime", Timestamps::Brokers),
    ] {
        let change = AlterConfig::new(ResourceSpecifier::Topic(&topic.name)).set(name, value);
        let changed = topic.admin.alter_configs([&change], &AdminOptions::new()).await.expect("an answer");
        changed[0].as_ref().expect("changed");
        let began = Instant::now();
        while config.settings(&topic.name).await.expect("told").timestamps != expected {
            assert!(began.elapsed() < PATIENCE, "{name} is not {value}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    let missing = config.settings("no-such-topic").await.expect_err("no topic");
    assert!(matches!(missing, IngestError::NoTopic { .. }), "{missing}");
}
