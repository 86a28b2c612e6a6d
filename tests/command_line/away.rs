//! Kafka and Redis that do not answer. These tests need neither of them.

use std::time::Instant;

use serde_json::{Value as Json, json};

use crate::http::get;
use crate::repo::{DEFINITIONS, EVENTS, TestRepo};
use crate::running::{PATIENCE, Running};

/// No server listens there.
const REDIS: &str =
    "project: shop\nonline: {store: redis, url: 'redis://shop:${TIDEMARK_TEST_PASSWORD}@127.0.0.1:1/2'}\n";
const KAFKA: &str = "project: shop\nkafka: {bootstrap_servers: '127.0.0.1:1'}\n";

/// A repo that was ingested from a file, and whose source reads a topic from now on.
fn of_topic() -> TestRepo {
    let repo = TestRepo::new();
    repo.write("tidemark.yaml", KAFKA);
    repo.write("shop.yaml", &DEFINITIONS.replace("push: {}", "kafka: {topic: payments}"));
    repo.run("ingest --from payments.csv --source payments").done();
    repo
}

#[test]
fn a_redis_that_does_not_answer() {
    let repo = TestRepo::new();
    repo.write("tidemark.yaml", REDIS);
    for command in ["apply", "ingest", "status", "dev", "serve", "lookup fraud user_id=1 amount=1"] {
        repo.run(command).refused(&["online.url", "needs the environment variable TIDEMARK_TEST_PASSWORD"]);
    }
    repo.write("tidemark.yaml", &REDIS.replace("shop:${TIDEMARK_TEST_PASSWORD}@", ""));
    for command in ["apply", "ingest", "status", "serve --http 127.0.0.1:0 --grpc 127.0.0.1:0"] {
        repo.run(command).refused(&["the online store redis://127.0.0.1:1/2 (tm:shop:*) is not available"]);
    }
    assert!(!repo.file("data/applied").exists(), "nothing was applied");
}

#[test]
fn waiting_for_the_end_of_a_topic_fails_without_brokers() {
    let repo = of_topic();
    let ran =
        repo.run("ingest --until-idle").refused(&["Kafka at 127.0.0.1:1 does not answer", "help: see that"]);
    assert!(ran.stderr.contains("reading payments from topic payments at 127.0.0.1:1"), "{ran:#?}");
}

#[test]
fn status_says_what_it_can_without_the_brokers() {
    let repo = of_topic();
    let ran = repo.run("status --format json").done();
    let source = &ran.json()["sources"][0];
    assert_eq!(source["partitions"]["file"]["events"], EVENTS);
    assert!(source["unreachable"].as_str().is_some_and(|reason| reason.contains("127.0.0.1:1")), "{source}");
    assert_eq!(ran.stderr.lines().count(), 1, "{ran:#?}");
    assert!(ran.stderr.starts_with("note: where the topic of source payments ends is not known"), "{ran:#?}");
}

#[test]
fn a_service_waits_for_its_brokers_and_says_so() {
    let repo = of_topic();
    let ingest = Running::start(&repo, "ingest --http 127.0.0.1:0 --log json");
    assert_eq!(get(&ingest.http, "/healthz"), (200, "ok\n".to_owned()));
    let began = Instant::now();
    loop {
        let (status, reason) = get(&ingest.http, "/readyz");
        assert_eq!(status, 503, "{reason}");
        if reason.contains("source `payments` waits: Kafka at 127.0.0.1:1 does not answer") {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{reason}");
        std::thread::yield_now();
    }
    let (status, metrics) = get(&ingest.http, "/metrics");
    assert!(status == 200 && metrics.contains("tidemark_ingest_"), "{metrics}");
    let waiting: Json = serde_json::from_str(&ingest.wait_for("waiting")).expect("JSON");
    let said = (&waiting["level"], &waiting["message"], &waiting["source"]);
    assert_eq!(said, (&json!("WARN"), &json!("waiting"), &json!("payments")));
    for line in ingest.stop() {
        assert!(
            serde_json::from_str::<Json>(&line).is_ok_and(|line| line["timestamp"].is_string()),
            "{line}"
        );
    }
}
