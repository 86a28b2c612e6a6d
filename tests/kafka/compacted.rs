//! Compacted topics: a record that was read once may not be there a second time.

use std::ops::Range;

use tidemark_kernel::Time;
use tidemark_services::{Kafka, Record, until};

use crate::check::Standing;
use crate::is_real;
use crate::world::{COMMIT_EVERY, Setup, World};

/// Everything but the last records of a partition is compacted at once.
pub(crate) const COMPACTED: &[(&str, &str)] = &[
    ("cleanup.policy", "compact"),
    ("segment.ms", "1000"),
    ("min.cleanable.dirty.ratio", "0.001"),
    ("max.compaction.lag.ms", "100"),
    ("delete.retention.ms", "0"),
];

/// Payments of the same few users, a second apart. Every record of a compacted topic has a key.
fn payments(topic: &str, numbers: Range<i64>) -> Vec<Record> {
    let payment = |number: i64| {
        let millis = 1_717_236_000_000 + 1000 * number;
        let (shop, at) = (number % 7, Time::from_millis(millis));
        let value = format!(r#"{{"shop": "s{shop}", "amount": {number}.5, "at": "{at}"}}"#);
        Record::new(topic, value).key((number % 50).to_string()).at(millis)
    };
    numbers.map(payment).collect()
}

#[test]
fn what_a_view_has_is_in_the_event_table_before_it_can_be_compacted() {
    let kafka = Kafka::with(&[("log.cleaner.backoff.ms", "100")]);
    if !is_real(&kafka, "a compacted topic") {
        return;
    }
    let world = World::of(Setup { partitions: 2, topic: COMPACTED, ..Setup::on(&kafka) });
    // Between two commits there is time for everything.
    let settings = std::fs::read_to_string(world.repo().join("tidemark.yaml")).expect("written before");
    let often = format!("commit_every: {}ms", COMMIT_EVERY.as_millis());
    assert!(settings.contains(&often), "{settings}");
    world.write("tidemark.yaml", &settings.replace(&often, "commit_every: 10m"));
    for round in 0..3 {
        let worker = world.worker();
        let first = round * 900;
        kafka.produce(&payments(&world.topic, first..first + 600));
        until("views get records", || world.standing().filter(Standing::has_records_in_views));
        worker.kill();
        let standing = world.standing().expect("everything is there");
        assert!(standing.views_follow_events(), "{standing:?}");
        let before = kafka.records(&world.topic).len();
        kafka.produce(&payments(&world.topic, first + 600..first + 900));
        until("records are compacted", || (kafka.records(&world.topic).len() < before).then_some(()));
    }
    world.finish();
    let verified = world.tidemark(&["verify"]).done();
    assert!(verified.said.contains(" 0 mismatches"), "{}", verified.said);
    let standing = world.standing().expect("everything is there");
    assert!(standing.is_at(&kafka.watermarks(&world.topic)), "{standing:?}");
}
