//! The demo through the real services, twice in one folder: the second time it replaces the first.

use tidemark_services::{Kafka, Redis};

use crate::is_real;
use crate::worker::demo;

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
