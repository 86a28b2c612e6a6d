//! Rejected records: listed by reason, taken again after a fix; and which definitions they leave free to change.

use crate::dev::Dev;
use crate::repo::TestRepo;

/// A source of orders with these fields, whose event time is read so.
fn definitions(fields: &str, event_time: &str) -> String {
    format!(
        "
entities:
  - {{name: user, keys: [{{name: user_id, type: int64}}]}}
sources:
  - name: orders
    push: {{}}
    fields: [{{name: user_id, type: int64}}, {fields}]
    event_time: {event_time}
views:
  - {{name: v, entity: user, source: orders, features: [{{name: q, aggregate: sum(qty), windows: [1d]}}]}}
services:
  - {{name: s, features: [v]}}
"
    )
}

fn numeric(unit: &str) -> String {
    let fields = "{name: qty, type: int64}, {name: ts, type: int64}";
    definitions(fields, &format!("{{field: ts, unit: {unit}}}"))
}

fn typed(qty: &str, more: &str) -> String {
    definitions(&format!("{{name: qty, type: {qty}}}, {{name: ts, type: timestamp}}{more}"), "ts")
}

fn repo(definitions: &str) -> TestRepo {
    let repo = TestRepo::new();
    repo.write("shop.yaml", definitions);
    repo.write("labels.csv", "user_id,t\n1,2026-01-01T12:00:00Z\n");
    repo
}

/// That lookups and training give this value at noon, and that the states are those of history.
#[track_caller]
fn gives(repo: &TestRepo, value: &str) {
    let looked_up = repo.run("lookup s user_id=1 --at 2026-01-01T12:00:00Z --format json").done();
    assert_eq!(looked_up.json()["rows"][0]["values"]["v.q_1d"].to_string(), value, "{looked_up:#?}");
    repo.run("train s --labels labels.csv --time t --out out.csv").done();
    let trained = std::fs::read_to_string(repo.file("out.csv")).expect("written");
    assert!(trained.trim_end().ends_with(&format!(",{value}")), "{trained}");
    let verified = repo.run("verify").done();
    assert!(verified.stdout.contains("0 mismatches"), "{verified:#?}");
}

/// That the definitions are not applied, for this reason.
#[track_caller]
fn refuses(repo: &TestRepo, reason: &str) {
    let refused = repo.run("apply");
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert!(refused.stderr.starts_with(&format!("error: {reason}\n")), "{refused:#?}");
}

/// How many events and dead letters a partition has.
fn counts(repo: &TestRepo, partition: &str) -> (u64, u64) {
    let status = repo.run("status --format json").done();
    let partition = &status.json()["sources"][0]["partitions"][partition];
    (partition["events"].as_u64().unwrap_or(0), partition["dead_letters"].as_u64().unwrap_or(0))
}

#[test]
fn rows_of_a_wrong_unit_are_taken_again_once() {
    let repo = repo(&numeric("s"));
    repo.write("orders.jsonl", "{\"user_id\":1,\"qty\":2,\"ts\":1767254400000}\n");
    let ingest = "ingest --source orders --from orders.jsonl";
    assert_eq!(repo.run(ingest).code, Some(1));
    let list = repo.run("dead-letters --format json").done().json();
    let reason = &list["sources"][0]["reasons"][0];
    assert_eq!((&reason["reason"], &reason["count"]), (&"time_out_of_range".into(), &1.into()), "{list}");
    assert_eq!(reason["places"], serde_json::json!(["orders.jsonl:1"]));
    assert!(reason["detail"].as_str().is_some_and(|detail| detail.ends_with("is the unit right?")), "{list}");
    let same = repo.run("dead-letters --retry");
    assert_eq!(same.code, Some(1), "{same:#?}");
    assert!(
        same.stderr.contains("error: 1 of 1 dead letter of source `orders` rejected again\n"),
        "{same:#?}"
    );

    repo.write("shop.yaml", &numeric("ms"));
    repo.run("apply").done();
    let skipped = repo.run(ingest).done();
    assert!(skipped.stdout.contains("; 1 of its rows rejected"), "{skipped:#?}");
    assert!(
        skipped.stderr.contains("`tidemark dead-letters --source orders` says why; with `--retry`"),
        "{skipped:#?}"
    );
    let retried = repo.run("dead-letters --retry").done();
    assert!(retried.stdout.contains("1 event taken in"), "{retried:#?}");
    for _ in 0..2 {
        gives(&repo, "2");
        assert_eq!(counts(&repo, "file"), (1, 0));
        let again = repo.run("dead-letters --retry").done();
        assert!(again.stdout.contains("there are no dead letters"), "{again:#?}");
        let again = repo.run(ingest).done();
        assert!(!again.stdout.contains("rejected") && again.stderr.is_empty(), "{again:#?}");
    }
}

#[test]
fn a_type_changes_where_no_event_was_kept() {
    let repo = repo(&typed("int64", ""));
    repo.write("orders.csv", "user_id,qty,ts\n1,2.5,2026-01-01T08:00:00Z\n");
    assert_eq!(repo.run("ingest --source orders --from orders.csv").code, Some(1));
    repo.write("shop.yaml", &typed("float64", ""));
    repo.run("apply")
        .refused(&["v.q_1d of service s as int64: it becomes float64", "`tidemark apply --yes`"]);
    let applied = repo.run("apply --yes").done();
    assert!(applied.stdout.contains("changed source orders: field qty changed"), "{applied:#?}");
    repo.run("dead-letters --source orders --retry").done();
    gives(&repo, "2.5");
    assert_eq!(counts(&repo, "file"), (1, 0));

    repo.write("shop.yaml", &typed("int64", ""));
    refuses(
        &repo,
        "field `qty` of source `orders` is int64 now, but 1 row holds it as float64 (partition file offset 1)",
    );
    gives(&repo, "2.5");
}

#[test]
fn the_first_command_locks_nothing() {
    let repo = repo(&typed("string", "").replace("sum(qty)", "count(qty)"));
    repo.run("ingest --source orders --from missing.csv").refused(&["no file at `missing.csv`"]);
    repo.write("shop.yaml", &typed("int64", ""));
    repo.write("orders.csv", "user_id,qty,ts\n1,3,2026-01-01T08:00:00Z\n");
    repo.run("apply").done();
    repo.run("ingest --source orders --from orders.csv").done();
    gives(&repo, "3");
}

#[test]
fn a_field_that_was_added_is_taken_back_and_added_again() {
    let (plain, grown) = (typed("int64", ""), typed("int64", ", {name: n, type: int64}"));
    let counted = grown.replace("features: [{", "features: [{name: n, aggregate: sum(n), windows: [1d]}, {");
    let repo = repo(&plain);
    repo.write("1.csv", "user_id,qty,ts\n1,1,2026-01-01T08:00:00Z\n");
    repo.run("ingest --source orders --from 1.csv").done();
    repo.write("shop.yaml", &counted);
    repo.run("apply").done();
    repo.write("2.csv", "user_id,qty,ts,n\n1,10,2026-01-01T08:00:01Z,5\n");
    repo.run("ingest --source orders --from 2.csv").done();
    repo.write("shop.yaml", &plain);
    let reverted = repo.run("apply --yes").done();
    assert!(reverted.stdout.contains("changed source orders: field n removed"), "{reverted:#?}");
    gives(&repo, "11");
    repo.write("3.csv", "user_id,qty,ts,n\n1,100,2026-01-01T08:00:02Z,7\n");
    repo.run("ingest --source orders --from 3.csv").done();
    gives(&repo, "111");

    repo.write("shop.yaml", &counted.replace("{name: n, type: int64}", "{name: n, type: float64}"));
    refuses(
        &repo,
        "field `n` of source `orders` is float64 now, but 1 row holds it as int64 (partition file offset 1)",
    );
    repo.write("shop.yaml", &counted);
    repo.run("apply").done();
    gives(&repo, "111");
    let looked_up = repo.run("lookup s user_id=1 --at 2026-01-01T12:00:00Z --format json").done();
    assert_eq!(looked_up.json()["rows"][0]["values"]["v.n_1d"], 5, "what was read without the field is null");
}

#[test]
fn pushed_records_are_taken_again_and_arrive_when_they_were_received() {
    let repo = repo(&numeric("s"));
    let dev = Dev::start(&repo);
    let answer = dev.push("orders", "{\"user_id\":1,\"qty\":2,\"ts\":1767254400000}");
    assert_eq!(answer["accepted"], 0, "{answer}");
    repo.run("dead-letters --retry").refused(&["while `tidemark dev` is running", "help: stop it first\n"]);
    dev.stop();
    let listed = repo.run("dead-letters").done();
    assert!(listed.stdout.contains("time_out_of_range") && listed.stdout.contains("push 0"), "{listed:#?}");
    repo.write("shop.yaml", &numeric("ms"));
    repo.run("apply").done();
    repo.run("dead-letters --retry").done();
    assert_eq!((counts(&repo, "push"), counts(&repo, "file")), ((0, 0), (1, 0)));
    // It was not known at noon that day.
    let train = "train s --labels labels.csv --time t --out out.csv --visibility event_time";
    repo.run(train).done();
    let trained = std::fs::read_to_string(repo.file("out.csv")).expect("written");
    assert!(trained.trim_end().ends_with(",2"), "{trained}");
    repo.run("train s --labels labels.csv --time t --out out.csv").done();
    let trained = std::fs::read_to_string(repo.file("out.csv")).expect("written");
    assert!(!trained.trim_end().ends_with(",2"), "{trained}");
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
}
