//! `tidemark dev`: pushing, looking up and editing while it runs.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::http::{get, post, post_with};
use crate::repo::{DEFINITIONS, TestRepo};
use crate::running::{PATIENCE, Running};

/// The document has pushes beside lookups, and nothing that the process does not answer.
fn every_operation_is_answered(address: &str) {
    let (status, document) = get(address, "/openapi.json");
    let document: Json = serde_json::from_str(&document).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(status, 200);
    for path in ["/v1/sources/{source}/events", "/v1/services/{service}/lookup", "/v1/services/fraud/lookup"]
    {
        assert!(paths.contains_key(path), "{path} is not in {document:#}");
    }
    for (path, methods) in paths {
        let path = path.replace("{service}", "fraud").replace("{source}", "payments");
        for method in methods.as_object().expect("methods").keys() {
            let (status, answer) = match method.as_str() {
                "get" => get(address, &path),
                _ => post(address, &path, ""),
            };
            let expected = if method == "get" { 200 } else { 400 };
            assert_eq!(status, expected, "{method} {path}: {answer}");
        }
    }
}

/// A running `tidemark dev`.
pub(crate) struct Dev(Running);

impl Dev {
    /// Starts it on free ports and waits until it serves.
    pub(crate) fn start(repo: &TestRepo) -> Self {
        Self(Running::start(repo, "dev --http 127.0.0.1:0 --grpc 127.0.0.1:0"))
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(self) {
        self.0.stop();
    }

    /// Waits until it says something.
    #[track_caller]
    pub(crate) fn wait_for(&self, part: &str) {
        self.0.wait_for(part);
    }

    /// Where it answers HTTP.
    pub(crate) fn http(&self) -> &str {
        &self.0.http
    }

    /// Pushes a record, and gives the answer.
    pub(crate) fn push(&self, source: &str, record: &str) -> Json {
        let (status, answer) = post(&self.0.http, &format!("/v1/sources/{source}/events"), record);
        let answer: Json = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(status, if answer["dead_letters"] == 0 { 200 } else { 207 }, "{answer}");
        answer
    }

    fn lookup(&self, user: i64) -> Json {
        let body = json!({"rows": [{"user_id": user, "amount": 1.0}]});
        let (status, answer) = post(&self.0.http, "/v1/services/fraud/lookup", &body.to_string());
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Json>(&answer).expect("JSON")["rows"][0]["values"].clone()
    }

    /// Looks up until a value is there.
    #[track_caller]
    fn await_value(&self, user: i64, feature: &str, value: &Json) {
        let began = Instant::now();
        while &self.lookup(user)[feature] != value {
            assert!(
                began.elapsed() < PATIENCE,
                "{feature} is {} and not {value}",
                self.lookup(user)[feature]
            );
            thread::yield_now();
        }
    }
}

#[test]
fn pushed_events_are_served_at_once_and_edits_are_backfilled() {
    let repo = TestRepo::ingested();
    let dev = Dev::start(&repo);
    dev.await_value(3, "user_payments.total", &json!(121.25));

    let event =
        json!({"user_id": 3, "amount": 0.75, "status": "settled", "created_at": "2026-11-20T10:00:00Z"});
    let push_once = || {
        let key = "Idempotency-Key: 8e03978e-40d5-43e8-bc93-6894a57f9324\r\n";
        let (status, answer) = post_with(&dev.0.http, "/v1/sources/payments/events", key, &event.to_string());
        assert_eq!(status, 200, "{answer}");
        serde_json::from_str::<Json>(&answer).expect("JSON")
    };
    let first = push_once();
    let pushed = Instant::now();
    dev.await_value(3, "user_payments.total", &json!(122.0));
    let again = push_once();
    assert_eq!((&again["first_offset"], &again["repeated"]), (&first["first_offset"], &json!(true)));
    assert_eq!(dev.lookup(3)["user_payments.total"], json!(122.0), "it counts once");
    assert!(pushed.elapsed() < Duration::from_secs(10), "{:?}", pushed.elapsed());
    let (status, answer) = post(&dev.0.http, "/v1/sources/payments/events", &event.to_string()[..30]);
    assert_eq!(status, 400, "{answer}");

    // What is wrong is said, and the old definitions go on.
    repo.write("shop.yaml", &DEFINITIONS.replace("sum(amount)", "sum(amuont)"));
    dev.0.wait_for("did you mean `amount`");
    dev.0.wait_for("version 1 goes on running");
    assert_eq!(dev.lookup(3)["user_payments.total"], json!(122.0));

    repo.write("shop.yaml", DEFINITIONS);
    dev.0.wait_for("those of version 1 again");

    let feature = "      - {name: largest, aggregate: max(amount), windows: [lifetime]}\nservices:";
    repo.write("shop.yaml", &DEFINITIONS.replace("services:", feature));
    dev.0.wait_for("applied version 2");
    assert_eq!(dev.lookup(3)["user_payments.largest"], json!(44.25));
    assert_eq!(dev.lookup(3)["user_payments.total"], json!(122.0));
    let (status, metrics) = get(&dev.0.http, "/metrics");
    assert!(
        status == 200 && metrics.contains("tidemark_lookups_total") && metrics.contains("tidemark_ingest_"),
        "{metrics}"
    );
    assert_eq!(get(&dev.0.http, "/readyz").0, 200);
    every_operation_is_answered(&dev.0.http);
    dev.stop();

    // Everything was committed: another process sees it, and it is right.
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
    let status = repo.run("status --format json").done().json();
    assert_eq!(
        (&status["version"], &status["sources"][0]["partitions"]["push"]["events"]),
        (&json!(2), &json!(1))
    );
}
