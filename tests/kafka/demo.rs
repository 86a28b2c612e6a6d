//! The demo through the real services, and the payments that it produces for others: the commands of README.md that need both.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use rdkafka::Message;
use serde_json::Value as Json;
use tidemark_services::{Kafka, Redis, unique};

use crate::is_real;
use crate::worker::{Worker, demo};

/// Twice in one folder: the second time it replaces the first.
#[test]
fn nothing_is_lost_between_topic_and_lookup() {
    let (kafka, redis) = (Kafka::shared(), Redis::start());
    if !is_real(kafka, "the demo through Kafka and Redis") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let keys = || redis.command::<u64>(&["DBSIZE"]).expect("it answers");
    let mut before = None;
    for _ in 0..2 {
        let words = ["--events", "5000", "--kafka", kafka.bootstrap(), "--redis", redis.url()];
        let said = demo(&folder.path().join("demo"), &words).done().said;
        assert!(said.contains("values compared, 0 mismatches"), "{said}");
        let now = keys();
        // Of the first, only what names its store and its views is left.
        assert!(now > 100 && before.is_none_or(|before| now < before + 50), "{before:?} keys, then {now}");
        before = Some(now);
    }
}

/// Twice into one topic, which is there the second time.
#[test]
fn live_payments_are_of_the_present_and_have_numbers_of_their_own() {
    let kafka = Kafka::shared();
    if !is_real(kafka, "the live payments of the demo") {
        return;
    }
    let (folder, topic, began) = (tempfile::tempdir().expect("a folder"), unique("live"), now());
    let words = ["--kafka", kafka.bootstrap(), "--topic", &topic, "--live", "500", "--events", "50"];
    let words: Vec<String> = ["demo"].iter().chain(&words).map(|word| (*word).to_owned()).collect();
    for _ in 0..2 {
        let said = Worker::exactly(&words, &[], None, folder.path().join("log")).ended().done().said;
        assert!(said.contains(&format!("produced 50 payments into topic {topic}")), "{said}");
    }
    let (records, ended) = (kafka.records(&topic), now());
    let mut times = records.iter().map(|record| record.timestamp().to_millis().expect("a timestamp"));
    assert!(times.all(|time| (began..=ended).contains(&time)));
    let numbers = records.iter().map(|record| {
        let value: Json = serde_json::from_slice(record.payload().expect("a value")).expect("JSON");
        value["payment_id"].as_i64().expect("a number")
    });
    assert_eq!(numbers.collect::<BTreeSet<_>>().len(), 100);
}

/// In milliseconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}
