use rdkafka::message::Headers;
use rdkafka::{Message, Timestamp};

use super::*;
use crate::unique;

fn values(kafka: &Kafka, topic: &str) -> Vec<String> {
    let text = |record: OwnedMessage| String::from_utf8(record.payload().unwrap_or(b"-").to_vec());
    kafka.records(topic).into_iter().map(|record| text(record).expect("UTF-8")).collect()
}

#[test]
fn what_is_produced_is_there_as_a_whole() {
    let (kafka, topic) = (Kafka::shared(), unique("whole"));
    kafka.create_topic(&topic, 2, &[]);
    let full = Record::new(&topic, "v").key("k").partition(1).header("trace", "t-1").at(1_700_000_000_000);
    let landed = kafka.produce(&[full, Record::tombstone(&topic, "k").partition(1)]);
    assert_eq!(landed, [(1, 0), (1, 1)]);
    assert_eq!(kafka.watermarks(&topic), BTreeMap::from([(0, (0, 0)), (1, (0, 2))]));
    let records = kafka.records(&topic);
    let [record, tombstone] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!((record.key(), record.payload()), (Some(&b"k"[..]), Some(&b"v"[..])));
    assert_eq!(record.timestamp(), Timestamp::CreateTime(1_700_000_000_000));
    let header = record.headers().expect("headers").get(0);
    assert_eq!((header.key, header.value), ("trace", Some(&b"t-1"[..])));
    assert_eq!(tombstone.payload(), None);
}

#[test]
fn only_what_was_committed_is_read() {
    let (kafka, topic) = (Kafka::shared(), unique("transactions"));
    if !kafka.is_real() {
        return leaves_out("aborted transactions");
    }
    kafka.create_topic(&topic, 1, &[]);
    let producer = kafka.transactional_producer(&topic);
    for (value, committed) in [("a", true), ("b", false), ("c", true)] {
        producer.begin();
        producer.send(&Record::new(&topic, value));
        if committed { producer.commit() } else { producer.abort() }
    }
    assert_eq!(values(kafka, &topic), ["a", "c"]);
}

#[test]
fn topics_grow_shrink_and_go() {
    let (kafka, topic) = (Kafka::shared(), unique("topics"));
    if !kafka.is_real() {
        return leaves_out("growing, shrinking and deleting topics");
    }
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&["a", "b", "c"].map(|value| Record::new(&topic, value)));
    kafka.delete_records(&topic, 0, 2);
    assert_eq!(values(kafka, &topic), ["c"]);
    let producer = kafka.producer();
    producer.send(&Record::new(&topic, "d"));
    producer.flush();
    kafka.add_partitions(&topic, 3);
    producer.send(&Record::new(&topic, "e").partition(2));
    assert_eq!(producer.flush(), [(2, 0)]);
    kafka.delete_topic(&topic);
    kafka.create_topic(&topic, 1, &[("retention.ms", "1")]);
    kafka.produce(&[Record::new(&topic, "old").at(1_000)]);
    until("retention deletes it", || (kafka.watermarks(&topic)[&0] == (1, 1)).then_some(()));
}

#[test]
fn a_broker_that_was_killed_comes_back_with_what_it_had() {
    let kafka = Kafka::start();
    if !kafka.is_real() {
        return leaves_out("restarting a broker");
    }
    kafka.create_topic("kept", 1, &[]);
    kafka.produce(&[Record::new("kept", "a")]);
    kafka.restart();
    kafka.produce(&[Record::new("kept", "b")]);
    assert_eq!(values(&kafka, "kept"), ["a", "b"]);
}

/// Says what could not be tested, past the test runner.
fn leaves_out(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "kafka's mock: {what} left out");
}
