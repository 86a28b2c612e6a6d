//! Topics that let producers set timestamps far ahead, and a record that has one.

use crate::is_real;
use crate::world::World;
use tidemark_services::{Record, until};

/// 2030-01-01.
const IN_2030: i64 = 1_893_456_000_000;

/// A world whose topic takes any timestamp.
fn without_bound(world: &World<'_>) {
    world.kafka.delete_topic(&world.topic);
    let any = i64::MAX.to_string();
    let settings = [("retention.ms", "-1"), ("message.timestamp.after.max.ms", any.as_str())];
    world.kafka.create_topic(&world.topic, 2, &settings);
}

#[test]
fn a_topic_that_takes_any_timestamp_is_refused_unless_its_source_allows_it() {
    let world = World::new();
    if !is_real(world.kafka, "a topic that takes any timestamp") {
        return;
    }
    without_bound(&world);
    let refusal = [
        "producers may set timestamps any length of time ahead",
        "set `message.timestamp.after.max.ms` of the topic to 3600000",
        "`max_timestamp_ahead: any`",
    ];
    world.launch(&[]).ended().refused(&refusal);
    world.tidemark(&["ingest", "--source", "payments", "--until-idle"]).refused(&refusal);

    world.define(|text| text.replace("start: earliest", "start: earliest, max_timestamp_ahead: any"));
    world.tidemark(&["apply"]).done();
    let mut worker = world.worker();
    worker.wait_until_ready();
    let payment = |at: &str| format!(r#"{{"shop": "s1", "amount": 5, "at": "{at}"}}"#);
    let record = Record::new(&world.topic, payment("2030-01-01T00:00:00Z")).key("1").partition(1);
    world.kafka.produce(&[record.at(IN_2030)]);
    let told = until("it is told", || {
        worker.check();
        worker.notes().filter(|notes| notes.contains("arrivals run"))
    });
    let place = format!("the newest is 2030-01-01T00:00:00.000Z ({}/1@0)", world.topic);
    assert!(told.starts_with("ok\nnote: source `payments`: ") && told.contains(&place), "{told}");
    until("it is logged", || Some(worker.said()).filter(|said| said.contains(&place)));
    worker.stop();
    let status = world.tidemark(&["status"]).done();
    assert!(status.said.contains("warning: source payments: arrivals run "), "{}", status.said);
    assert!(status.said.contains(&place), "{}", status.said);
}

#[test]
fn a_topic_is_refused_where_its_source_asks_for_less_than_it_allows() {
    let world = World::new();
    if !is_real(world.kafka, "a topic that takes timestamps an hour ahead") {
        return;
    }
    world.define(|text| text.replace("start: earliest", "start: earliest, max_timestamp_ahead: 5m"));
    world.tidemark(&["apply"]).done();
    let refusal = ["producers may set timestamps up to 1h ahead", "of the topic to 300000 or less"];
    world.launch(&[]).ended().refused(&refusal);
}
