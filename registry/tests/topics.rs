//! A topic in definitions, as engines get it.

use std::collections::BTreeMap;

use tidemark_kernel::source::Origin;
use tidemark_kernel::time::{Span, Time};
use tidemark_registry::feed::{KafkaFeed, Start};
use tidemark_registry::{Feed, Kafka, Offline, Online, Repo, parse};

const SETTINGS: &str = "\
project: shop
online: {store: redis, url: 'redis://:${REDIS_PASSWORD}@redis:6379'}
offline: {commit_every: 500ms, commit_rows: 1000}
kafka:
  bootstrap_servers: 127.0.0.1:9092
  options: {fetch.min.bytes: 1, sasl.password: '${KAFKA_PASSWORD}'}
";

const PAYMENTS: &str = "\
entities:
  - {name: user, keys: [{name: user_id, type: int64}]}
sources:
  - name: payments
    kafka: {topic: payments.v2, start: earliest}
    fields:
      - {name: user_id, type: int64, from: key}
      - {name: trace, type: string, from: {header: trace-id}}
      - {name: produced, type: timestamp, from: timestamp}
      - {name: t, type: timestamp}
    event_time: t
views:
  - {name: v, entity: user, source: payments, features: [{name: n, aggregate: count(*), windows: [1h]}]}
";

fn repo(payments: &str) -> Repo {
    parse([("tidemark.yaml", SETTINGS), ("payments.yaml", payments)]).expect("good definitions")
}

#[test]
fn a_source_says_where_its_fields_come_from() {
    let repo = repo(PAYMENTS);
    let source = &repo.sources["payments"];
    let origins = [
        ("user_id", Origin::Key),
        ("trace", Origin::Header("trace-id".into())),
        ("produced", Origin::Timestamp),
    ];
    assert_eq!(source.origins, origins.map(|(field, origin)| (field.to_owned(), origin)).into());
    assert_eq!(repo.views["v"].source_version, Some(source.version()));
}

/// Fingerprints name what is stored: how a source gets its records decides no more of them than that topics have workers that
/// share their partitions.
#[test]
fn of_a_feed_only_whether_workers_share_it_is_part_of_views() {
    let fingerprint = |text: &str| repo(text).views["v"].fingerprint().to_string();
    assert_eq!(repo(PAYMENTS).sources["payments"].version().to_string(), "2755c991a3bf6a0c");
    assert_eq!(fingerprint(PAYMENTS), "691edd3a2ffdb123343b6a05547eb2b1");
    let elsewhere = "topic: orders, start: latest, max_timestamp_ahead: any";
    let elsewhere = PAYMENTS.replace("topic: payments.v2, start: earliest", elsewhere);
    assert_eq!(fingerprint(&elsewhere), fingerprint(PAYMENTS));

    let mut plain = PAYMENTS.to_owned();
    for from in ["key", "{header: trace-id}", "timestamp"] {
        plain = plain.replace(&format!(", from: {from}"), "");
    }
    let kafka = "kafka: {topic: payments.v2, start: earliest}";
    assert_eq!(fingerprint(&plain), "04ae87d618557b6c0984c740f8140c2e");
    for feed in ["push: {}", "files: {path: 'payments/*.csv'}"] {
        let text = plain.replace(kafka, feed);
        assert_eq!(repo(&text).sources["payments"].version().to_string(), "473d17a2a4420f05", "{feed}");
        assert_eq!(fingerprint(&text), "d567c67ba7a7993964c9139032cec560", "{feed}");
    }
}

#[test]
fn columns_paths_and_optional_fields_need_no_topic() {
    let fields = "
      - {name: user_id, type: int64}
      - {name: trace, type: string, from: {column: \"Trace (hex)\"}, optional: true}
      - {name: produced, type: timestamp, from: {path: meta.produced}}
      - {name: code, type: string, from: {path: [meta, iso.4217]}, optional: false}
      - {name: t, type: timestamp}
    event_time";
    let (start, end) =
        (PAYMENTS.find("    kafka:").expect("it"), PAYMENTS.find("    event_time").expect("it"));
    let text =
        format!("{}    fields:{fields}{}", &PAYMENTS[..start], &PAYMENTS[end + "    event_time".len()..]);
    let repo = repo(&text);
    let source = &repo.sources["payments"];
    assert_eq!(source.path("trace"), ["Trace (hex)"]);
    assert_eq!(source.path("produced"), ["meta", "produced"]);
    assert_eq!(source.path("code"), ["meta", "iso.4217"]);
    assert_eq!(source.path("user_id"), ["user_id"]);
    assert_eq!(source.optional.iter().collect::<Vec<_>>(), ["trace"]);
}

#[test]
fn a_topic_is_read_from_where_its_source_says() {
    let start = |written: &str| match &repo(&PAYMENTS.replace(", start: earliest", written)).feeds["payments"]
    {
        Feed::Kafka(KafkaFeed { topic, start, .. }) => {
            assert_eq!(topic, "payments.v2");
            *start
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(start(""), Start::Earliest);
    assert_eq!(start(", start: earliest"), Start::Earliest);
    assert_eq!(start(", start: latest"), Start::Latest);
    let noon = Time::parse("2026-01-31T12:00:00Z").map(Start::At);
    assert_eq!(Some(start(", start: 2026-01-31T12:00:00Z")), noon);
    assert_eq!(Some(start(", start: 2026-01-31T13:00:00+01:00")), noon);
}

#[test]
fn arrivals_and_timestamps_are_bounded_unless_a_source_says_otherwise() {
    let bounds = |kafka: &str, more: &str| {
        let text = PAYMENTS.replace(", start: earliest", kafka).replace("event_time: t", more);
        let repo = repo(&text);
        let feed = repo.feeds["payments"].kafka().expect("a topic");
        (repo.sources["payments"].max_arrival_ahead, feed.max_timestamp_ahead)
    };
    let (minute, hour) = (Some(Span::from_secs(60)), Some(Span::from_secs(3600)));
    assert_eq!(bounds("", "event_time: t"), (minute, hour));
    let two_hours = Some(Span::from_secs(7200));
    assert_eq!(
        bounds(", max_timestamp_ahead: 2h", "max_arrival_ahead: 1h\n    event_time: t"),
        (hour, two_hours)
    );
    assert_eq!(bounds(", max_timestamp_ahead: any", "event_time: t"), (minute, None));
}

#[test]
fn a_project_keeps_the_names_of_variables() {
    let project = repo(PAYMENTS).project;
    assert_eq!(project.online, Online::Redis { url: "redis://:${REDIS_PASSWORD}@redis:6379".into() });
    let (path, commit_every) = (Offline::default().path, Span::from_millis(500));
    assert_eq!(project.offline, Offline { path, commit_every, commit_rows: 1000 });
    let options = [("fetch.min.bytes", "1"), ("sasl.password", "${KAFKA_PASSWORD}")];
    let options: BTreeMap<String, String> =
        options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    assert_eq!(project.kafka, Some(Kafka { bootstrap_servers: "127.0.0.1:9092".into(), options }));
}

#[test]
fn definitions_alone_need_no_brokers() {
    assert!(parse([("payments.yaml", PAYMENTS)]).is_ok());
}
