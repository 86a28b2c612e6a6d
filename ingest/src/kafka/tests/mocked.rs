//! Readers of librdkafka's mock of a cluster.

use std::time::Duration;

use rdkafka::mocking::MockCluster;
use tidemark_kernel::{Partition, Position, PositionRange, Time};

use super::reading::{Reading, all_at, assert_numbers, config, produce, producer};
use crate::error::IngestError;
use crate::feed::Start;
use crate::kafka::{Input, Timestamps, Topics as _, gather, reader};

fn cluster(partitions: i32) -> (MockCluster<'static, rdkafka::producer::DefaultProducerContext>, String) {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("t", partitions, 1).expect("a topic");
    let servers = cluster.bootstrap_servers();
    (cluster, servers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_read_once_and_the_end_is_told() {
    let (_cluster, servers) = cluster(3);
    produce(&producer(&servers, &[]), "t", 3, 0..100);
    let mut reading = Reading::start(&config(&servers), "t").await;
    reading.until(Reading::is_idle).await;
    (0..3).for_each(|partition| assert_numbers(&reading, partition, 0..100));
    produce(&producer(&servers, &[]), "t", 3, 100..150);
    reading.until(|reading| reading.count() == 450 && reading.is_idle()).await;
    (0..3).for_each(|partition| assert_numbers(&reading, partition, 0..150));
    assert_eq!(reading.metrics.end(Partition(2)), Some(Position(150)));
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reading_begins_where_the_receiver_says() {
    let (_cluster, servers) = cluster(2);
    produce(&producer(&servers, &[]), "t", 2, 0..50);
    let mut reading = Reading::start(&config(&servers), "t").await;
    reading.starts = [(Partition(0), Position(30)), (Partition(1), Position(50))].into();
    reading.until(Reading::is_idle).await;
    assert_numbers(&reading, 0, 30..50);
    assert_numbers(&reading, 1, 0..0);
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_slow_loses_nothing() {
    let (_cluster, servers) = cluster(2);
    // Three times what a reader gathers, over both partitions.
    let records = 3 * gather::ROWS as i64 / 2;
    produce(&producer(&servers, &[]), "t", 2, 0..records);
    let mut reading = Reading::start(&config(&servers), "t").await;
    reading.until(|reading| reading.count() > 0).await;
    let received = reading.count() as u64;
    // Longer than the reader waits before it pauses: then it has one cut on its way, and gathers one more.
    tokio::time::sleep(reader::BUSY + Duration::from_secs(1)).await;
    let read = reading.metrics.records.load(std::sync::atomic::Ordering::Relaxed);
    let ahead = read - received;
    assert!(ahead <= 2 * gather::ROWS as u64, "{ahead} records were read without a receiver");
    reading.until(Reading::is_idle).await;
    (0..2).for_each(|partition| assert_numbers(&reading, partition, 0..records));
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_leaves_whatever_it_waits_for() {
    let (_cluster, servers) = cluster(1);
    let mut unanswered = Reading::start(&config(&servers), "t").await;
    let assigned = unanswered.inputs.recv().await;
    assert!(matches!(assigned, Some(Input::Assigned { .. })), "{assigned:?}");
    unanswered.stop().await;
    Reading::start(&config(&servers), "t").await.stop().await;
    // More than a reader gathers, so that it waits for room.
    produce(&producer(&servers, &[]), "t", 1, 0..3 * gather::ROWS as i64 / 2);
    let mut unread = Reading::start(&config(&servers), "t").await;
    unread.until(|reading| reading.count() > 0).await;
    unread.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_described() {
    let (_cluster, servers) = cluster(2);
    let before = Time::from_millis(0);
    produce(&producer(&servers, &[]), "t", 2, 0..5);
    let config = config(&servers);
    let properties = config.describe("t").await.expect("described");
    assert_eq!((properties.partitions, properties.id.is_some()), (2, true));
    let found = config.ends("t").await.expect("ends");
    assert_eq!(
        found.values().copied().collect::<Vec<_>>(),
        [PositionRange { start: Position(0), end: Position(5) }; 2]
    );
    assert_eq!(config.starts("t", Start::Earliest).await.expect("starts"), all_at(2, 0));
    assert_eq!(config.starts("t", Start::Latest).await.expect("starts"), all_at(2, 5));
    assert_eq!(config.starts("t", Start::At(before)).await.expect("starts").len(), 2);
    let missing = config.describe("no-such-topic").await.expect_err("there is none");
    assert!(matches!(missing, IngestError::NoTopic { .. }), "{missing}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_away_may_come_back() {
    let (cluster, servers) = cluster(1);
    produce(&producer(&servers, &[]), "t", 1, 0..10);
    let mut reading = Reading::start(&config(&servers), "t").await;
    reading.until(Reading::is_idle).await;
    cluster.broker_down(-1).expect("down");
    let away = config(&servers).describe("t").await.expect_err("no broker answers");
    assert!(matches!(away, IngestError::Unreachable { .. }), "{away}");
    assert!(away.to_string().contains("Connection refused"), "{away}");
    cluster.broker_up(-1).expect("up");
    produce(&producer(&servers, &[]), "t", 1, 10..20);
    reading.until(|reading| reading.count() == 20).await;
    assert_numbers(&reading, 0, 0..20);
    reading.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_does_not_tell_its_settings() {
    let (_cluster, servers) = cluster(1);
    let told = config(&servers).settings("t").await.expect("an answer");
    assert!(matches!(&told.timestamps, Timestamps::Unknown(reason) if !reason.is_empty()), "{told:?}");
    assert!(told.is_compacted, "that is safe whatever it is");
    let away = config("127.0.0.1:1").settings("t").await.expect_err("away");
    assert!(matches!(away, IngestError::Unreachable { .. }), "{away}");
}
