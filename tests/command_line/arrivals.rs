//! One record from a clock that is years ahead: the features of other entities are not lost.

use serde_json::{Value as Json, json};

use crate::dev::Dev;
use crate::http::{get, post};
use crate::repo::TestRepo;

const SHOP: &str = "
entities:
  - {name: user,     keys: [{name: user_id,     type: int64}]}
  - {name: merchant, keys: [{name: merchant_id, type: int64}]}
sources:
  - name: payments
    push: {}
    fields:
      - {name: user_id,     type: int64}
      - {name: merchant_id, type: int64}
      - {name: created_at,  type: timestamp}
      - {name: received_at, type: timestamp}
    event_time: created_at
    arrival: received_at
views:
  - {name: by_user,     entity: user,     source: payments, features: [{name: n, aggregate: count(*), windows: [lifetime]}]}
  - {name: by_merchant, entity: merchant, source: payments, features: [{name: n, aggregate: count(*), windows: [lifetime]}]}
services:
  - {name: fraud, features: [by_user, by_merchant]}
";

/// What user 42 at merchant 7 is answered.
fn look(dev: &Dev) -> Json {
    let (status, answer) =
        post(dev.http(), "/v1/services/fraud/lookup", r#"{"rows":[{"user_id":42,"merchant_id":7}]}"#);
    assert_eq!(status, 200, "{answer}");
    serde_json::from_str::<Json>(&answer).expect("JSON")["rows"][0].clone()
}

fn payment(user: i64, at: &str) -> String {
    json!({"user_id": user, "merchant_id": 7, "created_at": at, "received_at": at}).to_string()
}

fn repo(more: &str) -> TestRepo {
    let repo = TestRepo::new();
    repo.write("shop.yaml", &SHOP.replace("arrival: received_at", &format!("arrival: received_at{more}")));
    repo
}

#[test]
fn a_push_from_2030_is_refused_and_all_others_are_answered() {
    let repo = repo("");
    let dev = Dev::start(&repo);
    for _ in 0..5 {
        dev.push("payments", &payment(42, "2026-11-20T08:00:00Z"));
    }
    let answer = dev.push("payments", &payment(99, "2030-01-01T00:00:00Z"));
    assert_eq!((&answer["accepted"], &answer["dead_letters"]), (&json!(0), &json!(1)), "{answer}");
    assert!(answer.to_string().contains("more than 1m ahead of"), "{answer}");
    let row = look(&dev);
    assert_eq!(
        (&row["values"]["by_user.n"], &row["values"]["by_merchant.n"]),
        (&json!(5), &json!(5)),
        "{row}"
    );
    assert!(row["at"].as_str().expect("an instant") < "2030", "{row}");
    assert_eq!(get(dev.http(), "/readyz"), (200, "ok\n".to_owned()));
    dev.stop();
    let status = repo.run("status --format json").done();
    assert!(!status.stderr.contains("ahead"), "{status:#?}");
    let source = &status.json()["sources"][0];
    assert_eq!(
        (&source["partitions"]["push"]["dead_letters"], &source["arrivals_ahead"]),
        (&json!(1), &Json::Null)
    );
}

#[test]
fn a_row_of_a_file_from_2030_is_refused() {
    let repo = repo("");
    let rows = ["2026-11-20T08:00:00Z", "2030-01-01T00:00:00Z"].map(|at| payment(42, at)).join("\n");
    repo.write("payments.jsonl", &rows);
    let ran = repo.run("ingest --from payments.jsonl --source payments").done();
    assert!(
        ran.stderr.contains("the arrival time 2030-01-01T00:00:00.000Z is more than 1m ahead of"),
        "{ran:#?}"
    );
    assert!(ran.stderr.contains("(first: payments.jsonl:2)"), "{ran:#?}");
}

#[test]
fn arrivals_that_a_source_lets_run_ahead_are_told() {
    let repo = repo("\n    max_arrival_ahead: 3000d");
    let rows = [(42, "2026-11-20T08:00:00Z"), (99, "2030-01-01T00:00:00Z")];
    repo.write("payments.jsonl", &rows.map(|(user, at)| payment(user, at)).join("\n"));
    repo.run("ingest --from payments.jsonl --source payments").done();
    let status = repo.run("status").done();
    assert!(!status.stderr.contains("ahead"), "it is allowed: {status:#?}");
    // The other user has never had anything to do with that clock.
    for instant in ["", " --at 2026-11-20T09:00:00Z"] {
        let row = "user_id=42 merchant_id=7 --format json";
        let answer = repo.run(&format!("lookup fraud {row}{instant}")).done().json()["rows"][0].clone();
        let told = |kind: &str| ["by_user.n", "by_merchant.n"].map(|name| answer[kind][name].clone());
        assert_eq!(told("values"), [json!(1), Json::Null], "{answer}");
        assert_eq!(told("statuses"), [json!("present"), json!("too_early")], "{answer}");
        assert!(answer["at"].as_str().expect("an instant") < "2030", "{answer}");
    }
    // What a source took before it was bounded stays, and is told.
    repo.write("shop.yaml", SHOP);
    repo.run("apply").done();
    let status = repo.run("status --format json").done();
    assert!(status.stderr.starts_with("warning: source payments: arrivals run "), "{status:#?}");
    assert!(
        status.stderr.contains("the newest is 2030-01-01T00:00:00.000Z (partition file offset 1)"),
        "{status:#?}"
    );
    let ahead = &status.json()["sources"][0]["arrivals_ahead"];
    assert_eq!(
        (&ahead["arrival"], &ahead["place"]),
        (&json!("2030-01-01T00:00:00.000Z"), &json!("partition file offset 1"))
    );
}
