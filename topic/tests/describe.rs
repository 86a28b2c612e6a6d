//! A topic that is created again under the same name has another id.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]

use std::io::Write;
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::mocking::MockCluster;
use tidemark_services::{Kafka, unique, until};
use tidemark_topic::Description;

const PATIENCE: Duration = Duration::from_secs(10);

type Admin = AdminClient<DefaultClientContext>;

fn client(servers: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", servers).create().expect("a client")
}

fn describe(client: &BaseConsumer, topic: &str) -> KafkaResult<Description> {
    tidemark_topic::describe(client.client(), topic, PATIENCE)
}

#[test]
fn a_topic_has_an_id_and_partitions() {
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("one", 3, 1).expect("a topic");
    cluster.create_topic("two", 1, 1).expect("a topic");
    let client = client(&cluster.bootstrap_servers());
    let (one, two) = (describe(&client, "one"), describe(&client, "two"));
    let (one, two) = (one.expect("described"), two.expect("described"));
    assert_eq!((one.partitions, two.partitions), (3, 1));
    assert!(one.id.is_some() && one.id != two.id, "{one:?} {two:?}");
    assert_eq!(
        describe(&client, "three"),
        Err(KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition))
    );
}

#[test]
fn brokers_that_do_not_answer_are_not_waited_for_long() {
    let client = client("127.0.0.1:9");
    let began = std::time::Instant::now();
    assert!(tidemark_topic::describe(client.client(), "one", Duration::from_millis(500)).is_err());
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// With a real broker, which alone gives a topic another id.
#[test]
fn a_topic_that_is_created_again_has_another_id() {
    let kafka = Kafka::shared();
    if !kafka.is_real() {
        // Not `eprintln`, which is shown only where a test fails.
        let _ = writeln!(std::io::stderr(), "left out, for there is no real broker: a topic created again");
        return;
    }
    let name = unique("described");
    let admin: Admin = kafka.client().create().expect("a client");
    let client = client(kafka.bootstrap());
    create(&admin, &name);
    let first = wait_for(&client, &name, |_| true);
    let deleted = admin.delete_topics(&[&name], &AdminOptions::new());
    block_on(deleted).expect("an answer")[0].as_ref().expect("deleted");
    create(&admin, &name);
    let second = wait_for(&client, &name, |described| *described != first);
    assert!(first.id.is_some() && second.id.is_some() && first.id != second.id, "{first:?} {second:?}");
    assert_eq!((first.partitions, second.partitions), (2, 2));
}

fn create(admin: &Admin, name: &str) {
    let topic = NewTopic::new(name, 2, TopicReplication::Fixed(1));
    // One that was just deleted may linger.
    until("a topic is created", || {
        block_on(admin.create_topics([&topic], &AdminOptions::new())).expect("an answer").remove(0).ok()
    });
}

/// Waits until the brokers know of the topic that is meant.
fn wait_for(client: &BaseConsumer, name: &str, meant: impl Fn(&Description) -> bool) -> Description {
    until("the brokers know of a topic", || {
        describe(client, name).ok().filter(|described| described.partitions > 0 && meant(described))
    })
}
