use tidemark_kernel::value::Unit;

use super::*;
use crate::journal::push::PushedRecord;
use crate::push::decode;
use crate::tally::Tally;

fn read(source: &SourcePlan, records: &[&[u8]]) -> Batch {
    let records = records.iter().zip(0..);
    let pushed = records.map(|(json, offset)| PushedRecord { offset, received: NOW, json: json.to_vec() });
    decode(source, &pushed.collect::<Vec<_>>()).expect("decoded")
}

const NOW: Time = Time::from_millis(1_767_225_600_000);

#[track_caller]
fn reason(record: &[u8]) -> String {
    let batch = read(&source(), &[record]);
    batch.dead.first().expect("a dead letter").reason.clone()
}

#[test]
fn records_of_a_schema_registry_are_recognized() {
    let told = "this looks like Avro, Protobuf or JSON Schema of a schema registry (schema id 12); this source is read \
                as JSON";
    assert_eq!(reason(b"\0\0\0\0\x0c\x0e\x9c\xcd\xfb"), told);
    assert_eq!(reason(b"\0\0\0\0\x0c{\"at\":\"2026-01-01T00:00:00Z\"}"), told, "text is no JSON either");
    assert!(reason(b"\0\0\0\0").starts_with("the record is not a JSON object"));
    assert!(reason(b"\xff\0\0\0\0").starts_with("the record is not UTF-8"));
}

#[test]
fn envelopes_are_recognized() {
    let told = |path: &str, outer: &str| {
        format!(
            "no event time: field at is null or missing; this looks like an envelope, with the fields inside \
             `{outer}`: is it `from: {{path: {path}}}`?"
        )
    };
    let change =
        br#"{"before":{"at":"2026-01-01T00:00:00Z"},"after":{"at":"2026-01-01T00:00:01Z"},"op":"u"}"#;
    assert_eq!(reason(change), told("after.at", "after"));
    let with_schema =
        br#"{"schema":{"fields":[{"at":1}]},"payload":{"before":null,"after":{"at":"x"},"op":"c"}}"#;
    assert_eq!(reason(with_schema), told("payload.after.at", "payload"));
    let plain = "no event time: field at is null or missing";
    assert_eq!(reason(br#"{"before":{"at":"2026-01-01T00:00:00Z"},"after":null,"op":"d"}"#), plain);
    assert_eq!(reason(br#"{"at":null,"data":{"at":"2026-01-01T00:00:00Z"}}"#), plain, "it is there");
}

#[test]
fn other_types_of_events_are_named() {
    let told = reason(br#"{"event_type":"refund","count":1}"#);
    let expected = "no event time: field at is null or missing; its `event_type` is `refund`: are there several types \
                    of events?";
    assert_eq!(told, expected);
}

#[test]
fn seconds_in_a_field_of_milliseconds_are_recognized() {
    let tally = |unit, numbers: &[&str]| {
        let source = int64("at", unit);
        let records: Vec<String> = numbers.iter().map(|number| format!("{{\"at\":{number}}}")).collect();
        let records: Vec<&[u8]> = records.iter().map(String::as_bytes).collect();
        Tally::of(&read(&source, &records), &source, std::iter::empty())
    };
    let seconds = tally(Unit::Millis, &["1767225600", "1767225601", "1767225600000", "0"]);
    assert_eq!((seconds.records, seconds.usable()), (4, 2));
    assert_eq!(
        seconds.unseen.kinds()[0].text,
        "field `at` in `ms` is 1970-01-21T10:53:45.600Z; this looks like a time in `s`, which would be `unit: s`"
    );
    assert_eq!(seconds.unseen.kinds().len(), 1);
    let millis = tally(Unit::Micros, &["1767225600000"]);
    assert!(millis.unseen.kinds()[0].text.contains("a time in `ms`"), "{millis:?}");
    let seconds = tally(Unit::Nanos, &["1767225600"]);
    assert!(seconds.unseen.kinds()[0].text.contains("a time in `s`"), "{seconds:?}");
    assert_eq!(tally(Unit::Seconds, &["1767225600"]).usable(), 1);
}
