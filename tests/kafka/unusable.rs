//! Topics of which no record can be used: no command and no worker reports that as success.

use tidemark_services::{Record, until};

use crate::world::World;

/// As a serializer of a schema registry writes them.
fn produce_avro(world: &World<'_>, count: usize) {
    let producer = world.kafka.producer();
    for _ in 0..count {
        producer.send(&Record::new(&world.topic, &b"\0\0\0\0\x0c\x0e\x9c\xcd\xfb\xaa\xc4h"[..]).key("1"));
    }
    producer.flush();
}

const CAUSE: &str = "this looks like Avro, Protobuf or JSON Schema of a schema registry (schema id 12)";

#[test]
fn a_topic_of_a_schema_registry_is_told_by_commands() {
    let world = World::new();
    produce_avro(&world, 500);
    let idle = ["ingest", "--source", "payments", "--until-idle"];
    let ran = world.tidemark(&idle).refused(&["none of the 500 records of source `payments` is an event"]);
    let reason = format!("  500 records: {CAUSE}; this source is read as JSON (first: {}/", world.topic);
    assert!(ran.said.contains(&reason), "{}", ran.said);
    world.tidemark(&idle).done();
    let status = world.tidemark(&["status"]).done();
    let told = format!("warning: source payments: not one of 500 records is an event\n  the latest: {CAUSE}");
    assert!(status.said.contains(&told), "{}", status.said);

    world.produce(500);
    world.tidemark(&idle).done();
    world.tidemark(&["verify"]).done();
}

#[test]
fn a_topic_of_a_schema_registry_is_told_by_a_worker() {
    let world = World::new();
    let mut worker = world.worker();
    produce_avro(&world, 100);
    worker.wait_until_it_waits_for(CAUSE);
    let said = until("it is logged", || Some(worker.said()).filter(|said| said.contains(CAUSE)));
    assert!(said.contains("most records of the last minute cannot be used"), "{said}");

    world.produce(500);
    worker.wait_until_ready();
    worker.stop();
}
