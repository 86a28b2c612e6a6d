//! Partitions that lose records which were read, and get others at the same offsets.

use tidemark_services::{Kafka, Record};

use crate::is_real;
use crate::world::{Setup, World};

/// Where `events` holds the one partition, and where the broker ends it.
fn ends(world: &World<'_>) -> (i64, i64) {
    let standing = world.standing().expect("everything is there");
    let held = standing.events.values().next().expect("one partition").0;
    (held, world.kafka.watermarks(&world.topic)[&0].1)
}

#[test]
fn records_in_the_place_of_those_that_were_read_are_not_read() {
    let kafka = Kafka::start();
    if !is_real(&kafka, "a partition that is truncated") {
        return;
    }
    let world = World::of(Setup { partitions: 1, ..Setup::on(&kafka) });
    let worker = world.worker();
    for _ in 0..6 {
        world.produce(50);
    }
    world.wait_until_in();
    worker.stop();
    let (held, before) = ends(&world);
    assert_eq!(held, before);

    let end = kafka.truncate(&world.topic, 0, before - 100);
    assert!(end > 0 && end <= before - 100, "{end} of {before}");
    assert_eq!(kafka.watermarks(&world.topic)[&0], (0, end));
    // More than before: its offsets would fit.
    let record = |_| Record::new(&world.topic, r#"{"shop": "s1"}"#).partition(0);
    kafka.produce(&(0..500).map(record).collect::<Vec<_>>());

    let from = format!("from offset {end} on or earlier");
    let refusal: [&str; 5] = [
        "partition 0 of topic",
        &format!("was read up to {held}"),
        &from,
        "unclean leader election",
        "give the source another name",
    ];
    world.launch(&[]).ended().refused(&refusal);
    world.tidemark(&["ingest", "--source", "payments", "--until-idle"]).refused(&refusal);
    assert_eq!(ends(&world).0, held, "nothing was taken in");
}

#[test]
fn another_epoch_alone_is_no_truncation() {
    let kafka = Kafka::start();
    if !is_real(&kafka, "a broker that is restarted between transactions") {
        return;
    }
    let world = World::of(Setup { partitions: 1, ..Setup::on(&kafka) });
    let producer = kafka.transactional_producer(&world.topic);
    for round in 0..3 {
        let worker = world.worker();
        world.produce(100);
        let open = world.begin(&producer, 50);
        if round == 1 {
            // The marker has a later epoch than the records before it.
            kafka.restart();
        }
        // The partition ends with a marker, or with what was aborted as well.
        world.commit(&producer, open);
        if round == 2 {
            let open = world.begin(&producer, 50);
            world.abort(&producer, open);
        }
        world.wait_until_in();
        worker.stop();
        kafka.restart();
        world.produce(100);
        world.wait_until_idle();
    }
}
