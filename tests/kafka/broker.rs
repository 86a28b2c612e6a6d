//! A broker that goes away, and topics that were deleted or have lost records.

use std::time::Duration;

use tidemark_services::{Kafka, until};

use crate::is_real;
use crate::world::{Setup, World, pause};

const CODECS: [&str; 4] = ["gzip", "snappy", "lz4", "zstd"];

#[test]
fn killed_and_restarted() {
    let kafka = Kafka::start();
    if !is_real(&kafka, "a broker that is killed and restarted") {
        return;
    }
    let world = World::of(Setup::on(&kafka));
    let mut worker = world.worker();
    for _ in 0..2 {
        world.with_traffic(|| {
            pause(Duration::from_millis(700));
            kafka.kill();
            pause(Duration::from_millis(700));
            kafka.restart();
        });
        world.wait_until_in();
        worker.check();
    }
    worker.stop();
    world.finish();
    world.find_records();
    world.check();
}

#[test]
fn a_topic_that_is_deleted_and_created_again_is_not_read() {
    let world = World::new();
    if !is_real(world.kafka, "a topic that is deleted and created again") {
        return;
    }
    let worker = world.worker();
    world.produce(600);
    world.wait_until_in();
    world.kafka.delete_topic(&world.topic);
    world.kafka.create_topic(&world.topic, 6, &[("retention.ms", "-1")]);
    // More than before: its offsets would fit.
    let record = |_| tidemark_services::Record::new(&world.topic, r#"{"shop": "s1"}"#);
    world.kafka.produce(&(0..1500).map(record).collect::<Vec<_>>());
    let refusal = ["was deleted and created again", "give the source another name"];
    worker.ended().refused(&refusal);
    world.launch(&[]).ended().refused(&refusal);
    world.tidemark(&["ingest", "--source", "payments", "--until-idle"]).refused(&refusal);
    world.check();
}

#[test]
fn records_that_retention_deletes_unread_are_never_skipped_in_silence() {
    let world = World::new();
    if !is_real(world.kafka, "retention that overtakes the consumer") {
        return;
    }
    let worker = world.worker();
    world.produce(600);
    world.wait_until_in();
    // While one reads: it is held up until its records are gone.
    worker.signal("STOP");
    let read = world.kafka.watermarks(&world.topic)[&2].1;
    pause(Duration::from_millis(400));
    world.produce(600);
    let end = world.kafka.watermarks(&world.topic)[&2].1;
    let first = read + (end - read) / 2;
    assert!(first > read + 1, "too few records");
    world.kafka.delete_records(&world.topic, 2, first);
    worker.signal("CONT");
    let gone = format!("records {read} to {} of partition 2", first - 1);
    worker.ended().refused(&[&gone, "--skip-lost"]);
    // And by a worker that starts now.
    world.launch(&[]).ended().refused(&[&gone, "--skip-lost"]);

    world.model.lock().lose(2, read..first);
    world.tidemark(&["ingest", "--source", "payments", "--skip-lost", "--until-idle"]).done();
    world.check();
    world.produce(300);
    world.wait_until_idle();
}

#[test]
fn transactions_that_are_taken_back_or_open() {
    let world = World::new();
    if !is_real(world.kafka, "producer transactions") {
        return;
    }
    let worker = world.worker();
    let producer = world.kafka.transactional_producer(&world.topic);
    for round in 0..6 {
        let open = world.begin(&producer, 80);
        world.produce(40);
        if round % 2 == 0 { world.abort(&producer, open) } else { world.commit(&producer, open) }
    }
    // The end of the topic is what was taken back.
    let open = world.begin(&producer, 300);
    world.abort(&producer, open);
    world.wait_until_in();
    world.check();

    // What comes after the first record of an open transaction waits for its end, and the test does not wait for that.
    let open = world.begin(&producer, 50);
    world.tidemark(&["ingest", "--source", "payments", "--until-idle"]).done();
    world.check();
    world.abort(&producer, open);
    let open = world.begin(&producer, 200);
    worker.kill();
    world.commit(&producer, open);
    world.wait_until_idle();
}

#[test]
fn more_partitions_while_it_runs() {
    let mut world = World::of(Setup { partitions: 3, ..Setup::new() });
    if !is_real(world.kafka, "a topic that is given more partitions") {
        return;
    }
    let (one, other) = (world.worker(), world.worker());
    world.produce(600);
    world.wait_until_in();
    world.add_partitions(8);
    world.with_traffic(|| {
        let all = || one.partitions() + other.partitions() == world.partitions();
        until("the new partitions are read", || all().then_some(()));
    });
    world.wait_until_in();
    one.stop();
    other.kill();
    world.wait_until_idle();
}

#[test]
fn compressed_topics() {
    let world = World::new();
    let mut worker = world.worker();
    for codec in CODECS {
        world.produce_with(&[("compression.type", codec), ("linger.ms", "20")], 500);
    }
    world.wait_until_in();
    worker.check();
    worker.stop();
    world.wait_until_idle();
}
