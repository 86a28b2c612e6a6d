//! Rejected records of a topic, retried from their dead letters.

use tidemark_services::{Record, unique, until};

use crate::world::World;

/// Orders whose buyer is the key of the record, and whose time is a header, in this unit.
fn orders(topic: &str, unit: &str) -> String {
    format!(
        "
entities:
  - {{name: buyer, keys: [{{name: buyer_id, type: int64}}]}}
sources:
  - name: orders
    kafka: {{topic: {topic}}}
    fields:
      - {{name: buyer_id, type: int64, from: key}}
      - {{name: qty, type: int64}}
      - {{name: ts, type: int64, from: {{header: at}}}}
    event_time: {{field: ts, unit: {unit}}}
views:
  - name: bought
    entity: buyer
    source: orders
    features: [{{name: qty, aggregate: sum(qty), windows: [lifetime]}}]
services:
  - {{name: buyers, features: [bought]}}
"
    )
}

/// 2026-01-01T08:00:00Z.
const TIME: i64 = 1_767_254_400_000;

#[test]
fn a_fix_beside_a_worker_takes_them_in_once_without_the_topic() {
    let world = World::new();
    let topic = unique("orders");
    let define = |topic: &str, unit: &str| {
        world.write("orders.yaml", &orders(topic, unit));
        world.tidemark(&["apply"]).done();
    };
    let idle = ["ingest", "--source", "orders", "--until-idle"];
    define("nowhere", "s");
    world.tidemark(&idle).refused(&["there is no topic `nowhere`"]);

    world.kafka.create_topic(&topic, 2, &[("retention.ms", "-1")]);
    let producer = world.kafka.producer();
    for (partition, qty) in [(0, 1), (1, 10), (0, 100)] {
        let record = Record::new(&topic, format!("{{\"qty\":{qty}}}")).key("7").partition(partition);
        producer.send(&record.header("at", TIME.to_string()).at(TIME + 1000));
    }
    producer.flush();
    define(&topic, "s");
    world.tidemark(&idle).refused(&["none of the 3 records of source `orders` is an event"]);
    let listed = world.tidemark(&["dead-letters", "--source", "orders"]).done();
    assert!(
        listed.said.contains("time_out_of_range") && listed.said.contains("3 dead letters"),
        "{}",
        listed.said
    );

    let worker = world.begin_command(&["ingest", "--source", "orders"]);
    define(&topic, "ms");
    let retry = ["dead-letters", "--source", "orders", "--retry"];
    let retried = world.tidemark(&retry).done();
    assert!(retried.said.contains("3 events taken in"), "{}", retried.said);
    let again = world.tidemark(&retry).done();
    assert!(again.said.contains("there are no dead letters"), "{}", again.said);
    let looked_up = world.tidemark(&["lookup", "buyers", "buyer_id=7", "--format", "json"]).done();
    assert!(looked_up.said.contains("\"bought.qty\": 111"), "{}", looked_up.said);

    // What comes next is read from the present position in the topic.
    let record = Record::new(&topic, "{\"qty\":1000}").key("7").header("at", TIME.to_string());
    producer.send(&record.at(TIME + 1000));
    producer.flush();
    worker.stop();
    world.tidemark(&idle).done();
    let looked_up = world.tidemark(&["lookup", "buyers", "buyer_id=7", "--format", "json"]).done();
    assert!(looked_up.said.contains("\"bought.qty\": 1111"), "{}", looked_up.said);
    world.tidemark(&["verify"]).done();
}

#[test]
fn a_field_of_a_topic_is_added_and_taken_back_under_a_worker() {
    let world = World::new();
    let topic = unique("orders");
    world.kafka.create_topic(&topic, 2, &[("retention.ms", "-1")]);
    let (plain, field) = (orders(&topic, "ms"), "      - {name: pieces, type: int64}\n    event_time");
    let grown = plain.replace("    event_time", field).replace(
        "windows: [lifetime]}]",
        "windows: [lifetime]}, {name: pieces, aggregate: sum(pieces), windows: [lifetime]}]",
    );
    let define = |text: &str| {
        world.write("orders.yaml", text);
        world.tidemark(&["apply", "--yes"]).done();
    };
    define(&plain);
    let worker = world.begin_command(&["ingest", "--source", "orders"]);
    let producer = world.kafka.producer();
    let mut sum = 0;
    for (text, qty) in [(&plain, 1), (&grown, 10), (&plain, 100), (&grown, 1000)] {
        if qty > 1 {
            define(text);
        }
        let record = Record::new(&topic, format!("{{\"qty\":{qty},\"pieces\":{}}}", qty / 2)).key("7");
        producer.send(&record.header("at", TIME.to_string()).at(TIME + 1000));
        producer.flush();
        sum += qty;
        let ask = ["lookup", "buyers", "buyer_id=7", "--format", "json"];
        let counted = format!("\"bought.qty\": {sum}");
        until(&counted, || {
            // Until every view is up it is refused.
            let said = world.tidemark(&ask).said;
            (said.contains(&counted) && said.contains("bought.pieces") == (text == &grown)).then_some(())
        });
        // What is not in `events` by the next change is read again after it.
        world.tidemark(&["ingest", "--source", "orders", "--until-idle"]).done();
    }
    worker.stop();
    // The record that was read without the field has none: 5 and 500, not 50.
    let looked_up = world.tidemark(&["lookup", "buyers", "buyer_id=7", "--format", "json"]).done();
    assert!(looked_up.said.contains("\"bought.pieces\": 505"), "{}", looked_up.said);
    world.tidemark(&["verify"]).done();
}
