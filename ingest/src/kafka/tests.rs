//! Records without a broker here; readers with librdkafka's mock of one in `mocked`, with a real one in `real`.

#![allow(clippy::disallowed_methods, reason = "real services are waited for, and timed, by the real clock")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use rdkafka::Timestamp;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};
use tidemark_kernel::source::{Arrival, Origin, TimeField};
use tidemark_kernel::value::{Field, Type, Unit};
use tidemark_kernel::{Partition, Position, SourcePlan};
use tidemark_offline::Epoch;
use tidemark_offline::table::layout;

use super::failure::{Meaning, Truncation, meaning, truncation};
use super::gather::Gathered;
use super::probe::TopicProperties;
use crate::decode::Batch;
use crate::error::IngestError;
use crate::metrics::TopicMetrics;
use crate::room::Room;

mod mocked;
mod reading;
mod real;

/// Payments: `n` and `at` from the value, the rest from elsewhere.
fn source() -> SourcePlan {
    let field = |name: &str, ty| Field { name: name.into(), ty };
    let origins = [
        ("user", Origin::Key),
        ("trace", Origin::Header("trace-id".into())),
        ("produced_at", Origin::Timestamp),
    ];
    SourcePlan {
        name: "payments".into(),
        fields: vec![
            field("n", Type::Int64),
            field("at", Type::Int64),
            field("user", Type::Int64),
            field("trace", Type::String),
            field("produced_at", Type::Timestamp),
        ],
        origins: origins.into_iter().map(|(name, origin)| (name.to_owned(), origin)).collect(),
        optional: BTreeSet::new(),
        zones: BTreeMap::new(),
        event_time: TimeField { field: "at".into(), unit: Some(Unit::Millis) },
        arrival: Arrival::EventTime,
        max_ahead: SourcePlan::DEFAULT_MAX_AHEAD,
        max_arrival_ahead: Some(SourcePlan::DEFAULT_MAX_ARRIVAL_AHEAD),
        unique: None,
        keep_raw: false,
    }
}

/// Record `offset` of partition 3.
fn record(
    offset: i64,
    key: Option<&str>,
    value: Option<&str>,
    headers: &[(&str, Option<&str>)],
) -> OwnedMessage {
    let bytes = |text: &str| text.as_bytes().to_vec();
    let headers = headers
        .iter()
        .fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: *value }));
    let time = Timestamp::CreateTime(1000 + offset);
    OwnedMessage::new(value.map(bytes), key.map(bytes), "t".into(), time, 3, offset, Some(headers))
}

/// The batch that these records of partition 3 become, read from 10 on.
fn gathered(source: &SourcePlan, records: &[OwnedMessage]) -> (Batch, Arc<TopicMetrics>) {
    let metrics = Arc::new(TopicMetrics::default());
    let mut gathered = Gathered::new(source, "t", Arc::clone(&metrics), Room::default());
    gathered.assign(Partition(3), Position(10), None);
    records.iter().for_each(|record| gathered.take(record, None));
    let mut batches = gathered.cut().expect("a batch");
    assert!(gathered.is_empty() && batches.len() == 1);
    (batches.remove(0), metrics)
}

fn numbers(batch: &Batch, column: &str) -> Vec<Option<i64>> {
    batch.events.column_by_name(column).expect("a column").as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn fields_come_from_value_key_headers_and_timestamp() {
    let source = source();
    let (batch, _) = gathered(
        &source,
        &[
            record(
                10,
                Some("42"),
                Some(r#"{"n":1,"at":5,"user":"not this one"}"#),
                &[("trace-id", Some("a")), ("other", Some("x")), ("trace-id", Some("b"))],
            ),
            record(11, None, Some(r#"{"n":2,"at":6}"#), &[("trace-id", None)]),
        ],
    );
    assert!(batch.dead.is_empty(), "{:?}", batch.dead);
    assert_eq!(numbers(&batch, "user"), [Some(42), None]);
    let traces: Vec<_> =
        batch.events.column_by_name("trace").expect("a column").as_string::<i32>().iter().collect();
    assert_eq!(traces, [Some("b"), None], "the last header of the name counts");
    let times = batch.events.column_by_name("produced_at").expect("a column");
    assert_eq!(times.as_primitive::<TimestampMillisecondType>().values(), &[1010, 1011]);
    assert_eq!((batch.partition, batch.from, batch.to), (Partition(3), Position(10), Position(12)));
}

#[test]
fn fields_come_from_other_members_and_unknown_ones_are_counted() {
    let mut source = source();
    source.origins.insert("n".into(), Origin::Path(vec!["payment".into(), "n".into()]));
    source.origins.insert("at".into(), Origin::Column("At (ms)".into()));
    let (batch, metrics) = gathered(
        &source,
        &[
            record(10, Some("42"), Some(r#"{"payment":{"n":1},"At (ms)":5}"#), &[]),
            record(11, Some("42"), Some(r#"{"payment":{"n":2},"At (ms)":6,"at":7,"more":1}"#), &[]),
            record(12, Some("42"), Some(r#"{"payment":{"N":3},"At (ms)":7}"#), &[]),
            record(13, Some("42"), Some(r#"{"n":4,"at":8,"user":1}"#), &[]),
        ],
    );
    assert_eq!(numbers(&batch, "n"), [Some(1), Some(2), None]);
    assert_eq!(numbers(&batch, "at"), [Some(5), Some(6), Some(7)]);
    assert_eq!(numbers(&batch, "user"), [Some(42); 3]);
    assert_eq!(batch.dead.len(), 1);
    assert_eq!(metrics.unknown_members.load(std::sync::atomic::Ordering::Relaxed), 3);
}

#[test]
fn what_cannot_be_read_is_a_dead_letter_that_says_where_and_why() {
    let mut source = source();
    source.keep_raw = true;
    let value = r#"{"n":1,"at":5}"#;
    let (batch, _) = gathered(
        &source,
        &[
            record(10, Some("abc"), Some(value), &[]),
            record(11, Some("1"), Some("{"), &[]),
            record(12, Some(""), Some(value), &[]),
            record(13, Some("7"), Some(value), &[]),
            record(14, None, Some(r#"{"n":1}"#), &[]),
        ],
    );
    let reasons: Vec<&str> = batch.dead.iter().map(|letter| letter.reason.as_str()).collect();
    assert_eq!(reasons[0], "key: expected an int64 like 42, got `abc`");
    assert!(reasons[1].starts_with("the record is not a JSON object"), "{}", reasons[1]);
    assert_eq!(reasons[2], "key: expected an int64 like 42, got ``");
    assert_eq!(reasons[3], "no event time: field at is null or missing");
    assert_eq!(batch.dead[0].place, "t/3@10");
    assert_eq!(batch.dead[0].raw, value.as_bytes());
    assert_eq!(batch.dead[3].place, "t/3@14");
    assert_eq!(batch.dead[3].record_time.map(|time| time.millis()), Some(1014));
    assert_eq!(batch.offsets(), [13]);
    let raw = batch.events.column_by_name(layout::RAW).expect("a column");
    assert_eq!(raw.as_binary::<i32>().value(0), value.as_bytes());
}

#[test]
fn a_tombstone_is_passed_over_and_counted() {
    let source = source();
    let value = Some(r#"{"n":1,"at":5}"#);
    let (batch, metrics) = gathered(
        &source,
        &[
            record(10, Some("1"), None, &[]),
            record(15, Some("1"), value, &[]),
            record(17, Some("1"), None, &[]),
        ],
    );
    assert!(batch.dead.is_empty());
    assert_eq!(batch.offsets(), [15], "offsets may have gaps");
    assert_eq!((batch.from, batch.to), (Position(10), Position(18)));
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!((count(&metrics.tombstones), count(&metrics.records)), (2, 3));
}

#[test]
fn a_record_is_taken_once_and_only_of_an_assigned_partition() {
    let source = source();
    let mut gathered = Gathered::new(&source, "t", Arc::default(), Room::default());
    let value = Some(r#"{"n":1,"at":5}"#);
    gathered.take(&record(10, None, value, &[]), None);
    assert!(gathered.is_empty(), "not assigned");
    gathered.assign(Partition(3), Position(11), None);
    gathered.take(&record(10, None, value, &[]), None);
    assert!(gathered.is_empty(), "read before");
    gathered.take(&record(11, None, value, &[]), None);
    gathered.take(&record(11, None, value, &[]), None);
    let batches = gathered.cut().expect("a batch");
    assert_eq!((batches[0].offsets(), batches[0].to), (&[11][..], Position(12)));
    assert!(gathered.cut().expect("nothing").is_empty());
}

#[test]
fn a_batch_has_the_epoch_of_the_last_record_and_none_of_a_marker() {
    let source = source();
    let mut gathered = Gathered::new(&source, "t", Arc::default(), Room::default());
    let epoch = |number, until| Some(Epoch { number, until: Position(until) });
    let value = Some(r#"{"n":1,"at":5}"#);
    gathered.assign(Partition(3), Position(14), epoch(2, 11));
    // Read again, from where the epoch ended.
    gathered.take(&record(11, None, value, &[]), Some(3));
    gathered.ended(Partition(3));
    gathered.ends_at(Partition(3), Position(15));
    assert_eq!(gathered.cut().expect("a batch")[0].epoch, epoch(2, 11), "only markers came");
    gathered.take(&record(15, None, value, &[]), Some(3));
    gathered.take(&record(16, None, value, &[]), Some(4));
    gathered.ended(Partition(3));
    gathered.ends_at(Partition(3), Position(18));
    let batches = gathered.cut().expect("a batch");
    assert_eq!((batches[0].to, batches[0].epoch), (Position(18), epoch(4, 17)));
    assert_eq!(gathered.epochs()[&Partition(3)].number, 4);
    gathered.take(&record(18, None, value, &[]), None);
    assert_eq!(gathered.cut().expect("a batch")[0].epoch, epoch(4, 17), "no epoch was told");
}

#[test]
fn the_end_may_lie_behind_the_last_record_once_it_is_reached() {
    let source = source();
    let mut gathered = Gathered::new(&source, "t", Arc::default(), Room::default());
    gathered.assign(Partition(3), Position(11), None);
    gathered.ends_at(Partition(3), Position(20));
    assert!(gathered.is_empty() && !gathered.is_at_end(), "that is its position under an earlier assignment");
    gathered.take(&record(11, None, Some(r#"{"n":1,"at":5}"#), &[]), None);
    gathered.ended(Partition(3));
    gathered.ends_at(Partition(3), Position(14));
    gathered.ends_at(Partition(3), Position(12));
    let batches = gathered.cut().expect("a batch");
    assert_eq!((batches[0].offsets(), batches[0].to), (&[11][..], Position(14)));
    gathered.ends_at(Partition(3), Position(20));
    let batches = gathered.cut().expect("a batch");
    let empty = &batches[0];
    assert_eq!((empty.events.num_rows(), empty.from, empty.to), (0, Position(14), Position(20)));
    assert!(gathered.is_at_end() && gathered.is_empty());
}

#[test]
fn records_without_timestamps_may_lie_between_others() {
    let mut source = source();
    source.arrival = Arrival::Record;
    let value = br#"{"n":1,"at":5}"#.to_vec();
    let without = OwnedMessage::new(Some(value), None, "t".into(), Timestamp::NotAvailable, 3, 11, None);
    let good = record(10, None, Some(r#"{"n":1,"at":5}"#), &[]);
    let (batch, _) = gathered(&source, &[good, without]);
    assert_eq!(batch.offsets(), [10]);
    assert_eq!(batch.dead[0].reason, "no arrival time: the record has no timestamp");
}

#[test]
fn what_librdkafka_says_of_a_truncated_partition_is_read() {
    let read = Epoch { number: 3, until: Position(120) };
    let shorter = "Partition log truncation detected at offset 120 (leader epoch 3): broker end offset is 80 (offset \
                   leader epoch 2). Reset to INVALID.: Local: Partition log truncation detected (broker 1)";
    assert_eq!(truncation(shorter), Some(Truncation { read, end: Some(Position(80)) }));
    let unknown = "No epoch found less or equal to offset 120 (leader epoch 3): broker end offset is -1 (offset leader \
                   epoch -1). Reset using configured policy.: Local: Partition log truncation detected (broker 1)";
    assert_eq!(truncation(unknown), Some(Truncation { read, end: None }));
    for other in
        ["", "Partition log truncation detected at offset", "fetch failed due to requested offset 120"]
    {
        assert_eq!(truncation(other), None, "{other}");
    }
}

#[test]
fn a_topic_is_known_again_by_its_id() {
    let properties = |topic: &str, id: Option<&str>| TopicProperties {
        topic: topic.into(),
        id: id.map(Into::into),
        partitions: 1,
    };
    let known = properties("t", Some("a")).to_string();
    assert_eq!(known, "t a");
    assert!(properties("t", Some("a")).check("payments", &known).is_ok());
    let other = properties("t", Some("b")).check("payments", &known).expect_err("another id");
    assert!(
        matches!(&other, IngestError::Recreated { before, now, .. } if before == "a" && now == "b"),
        "{other}"
    );
    let other = properties("u", Some("a")).check("payments", &known).expect_err("another name");
    assert!(matches!(&other, IngestError::OtherTopic { .. }), "{other}");
    assert!(properties("t", None).check("payments", &known).is_ok(), "old brokers tell no id");
    assert!(properties("t", Some("b")).check("payments", &properties("t", None).to_string()).is_ok());
}

#[test]
fn settings_that_everything_rests_on_stay_and_secrets_are_not_shown() {
    let options =
        [("isolation.level", "read_uncommitted"), ("sasl.password", "hunter2"), ("fetch.wait.max.ms", "5")];
    let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let config = super::KafkaConfig {
        bootstrap_servers: "h:1".into(),
        options,
        project: "p".into(),
        member: Some("m".into()),
    };
    let settings = config.reader("s", "0123456789abcdef");
    let expected = BTreeMap::from([
        ("isolation.level", "read_committed"),
        ("fetch.wait.max.ms", "5"),
        ("group.id", "tidemark-p-s-01234567"),
        ("group.instance.id", "tidemark-p-s-01234567-m"),
        ("auto.offset.reset", "error"),
    ]);
    for (key, value) in expected {
        assert_eq!(settings.get(key), Some(value), "{key}");
    }
    assert!(settings.create_native_config().is_ok());
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn an_unknown_option_is_refused() {
    let options = BTreeMap::from([("no.such.option".to_owned(), "1".to_owned())]);
    let config =
        super::KafkaConfig { bootstrap_servers: "h:1".into(), options, project: "p".into(), member: None };
    let error = super::probe::Probe::open(&config, "t").err().expect("refused").to_string();
    assert!(error.contains("no.such.option"), "{error}");
    let code = rdkafka::types::RDKafkaErrorCode::AllBrokersDown;
    assert_eq!(meaning(&rdkafka::error::KafkaError::MessageConsumption(code)), Meaning::Away);
}
