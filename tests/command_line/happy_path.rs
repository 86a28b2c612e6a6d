//! From an empty folder to a training set.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;

use crate::process::tidemark;
use crate::repo::{EVENTS, TestRepo};

#[test]
fn the_example_repo_holds_and_answers() {
    let folder = tempfile::tempdir().expect("a folder");
    let ran = tidemark(folder.path(), &["init", "shop"]).done();
    assert!(ran.stdout.contains("tidemark dev"), "{ran:#?}");
    let shop = folder.path().join("shop");
    let ran = tidemark(&shop, &["check"]).done();
    assert!(ran.stdout.ends_with("no problems\n"), "{ran:#?}");
    let ran = tidemark(&shop, &["test"]).done();
    assert!(ran.stdout.ends_with(" 0 failed\n"), "{ran:#?}");
    assert_eq!(files(&shop, ""), files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../feature_repo"), ""));
    // The repo is found from below, too.
    fs::create_dir(shop.join("notes")).expect("created");
    let asked = ["lookup", "fraud", "user_id=7", "merchant_id=3", "card_id=c-7-1", "amount=12.5"];
    let ran = tidemark(&shop.join("notes"), &asked).done();
    assert!(ran.stdout.contains("user_payments.payments_1h"), "{ran:#?}");
    assert!(ran.stderr.contains("nothing was applied here before"), "{ran:#?}");
    assert!(tidemark(folder.path(), &["init", "shop"]).refused(&["not an empty folder"]).stdout.is_empty());
}

/// Two projects that share a Redis or a Kafka cluster are told apart by their names.
#[test]
fn a_new_project_is_named_after_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    for (dir, project) in
        [("fraud", "fraud"), ("Fraud-Detection v2", "fraud_detection_v2"), ("2026", "project_2026")]
    {
        let ran = tidemark(folder.path(), &["init", dir]).done();
        assert!(ran.stdout.contains(&format!("project `{project}`")), "{ran:#?}");
        let settings = fs::read_to_string(folder.path().join(dir).join("tidemark.yaml")).expect("written");
        assert!(settings.contains(&format!("\nproject: {project}\n")), "{settings}");
        tidemark(&folder.path().join(dir), &["check"]).done();
    }
    // The folder that one is in has a name as well.
    let inside = folder.path().join("churn");
    fs::create_dir(&inside).expect("created");
    let told = tidemark(&inside, &["init", ".", "--format", "json"]).done().json();
    assert_eq!(told["project"], "churn");
}

/// Every file below a folder, with its text.
fn files(folder: &Path, below: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder.join(below)).expect("listed") {
        let entry = entry.expect("read");
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        match entry.path().is_dir() {
            true => found.extend(files(folder, &format!("{name}/"))),
            false => drop(found.insert(name, fs::read_to_string(entry.path()).expect("text"))),
        }
    }
    found
}

#[test]
fn what_was_declared_is_ingested_looked_up_trained_on_and_verified() {
    let repo = TestRepo::new();
    repo.run("check").done();
    let ran = repo.run("apply").done();
    assert!(ran.stdout.contains("added view user_payments (backfill)"), "{ran:#?}");
    let ran = repo.run("ingest --from payments.csv --source payments").done();
    assert!(ran.stdout.contains(&format!("{EVENTS} events")), "{ran:#?}");
    let again = repo.run("ingest --from payments.csv --source payments").done();
    assert!(again.stdout.contains("skipped: taken in before"), "{again:#?}");

    let ran = repo.run("lookup fraud user_id=3 amount=10.5 --at 2026-11-20T09:00:00Z").done();
    let words = ran.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "user_payments.payments_1h 5 present",
        "user_payments.total 121.25 present",
        "2026-11-20T08:24:00.000Z",
        "tm1",
    ] {
        assert!(words.contains(part), "no `{part}` in {ran:#?}");
    }

    repo.run("train fraud --labels labels.csv --time at_time --out out.csv --status").done();
    let set = fs::read_to_string(repo.file("out.csv")).expect("written");
    assert_eq!(set.lines().count(), 11, "{set}");
    let third = set.lines().find(|line| line.starts_with("3,")).expect("user 3");
    assert!(third.contains(",5,") && third.contains("121.25") && third.contains("present"), "{set}");

    let ran = repo.run("verify").done();
    assert!(ran.stdout.contains("0 mismatches") && !ran.stdout.contains(" 0 values"), "{ran:#?}");
    repo.run("verify --sample 3").done();
    let ran = repo.run("status").done();
    assert!(ran.stdout.contains("file") && ran.stdout.contains("user_payments"), "{ran:#?}");
}

#[test]
fn machines_read_every_result() {
    let repo = TestRepo::new();
    let json = repo.run("check --format json").done().json();
    assert_eq!(json["problems"], json!([]));
    assert_eq!(json["repo"]["entities"][0]["keys"], json!([{"name": "user_id", "type": "int64"}]));
    assert_eq!(json["repo"]["services"][0]["request"], json!([{"name": "amount", "type": "float64"}]));
    assert_eq!(repo.run("apply --format json").done().json()["version"], 1);
    let json = repo.run("ingest --from payments.csv --source payments --format json").done().json();
    assert_eq!((&json["events"], &json["dead_letters"]), (&json!(EVENTS), &json!(0)));
    repo.write("rows.jsonl", "{\"user_id\": 3, \"amount\": 1}\n\n{\"user_id\": null, \"amount\": null}\n");
    let json =
        repo.run("lookup fraud --rows rows.jsonl --at 2026-11-20T09:00:00Z --format json").done().json();
    assert_eq!(json["rows"][0]["values"]["user_payments.total"], 121.25);
    assert_eq!(json["rows"][1]["statuses"]["user_payments.payments"], "not_found");
    let json = repo
        .run("train fraud --labels labels.csv --time at_time --out out.parquet --format json")
        .done()
        .json();
    assert_eq!((&json["rows"], &json["features"][0]["nulls"]), (&json!(10), &json!(0)));
    assert_eq!(repo.run("verify --format json").done().json()["mismatches"], json!([]));
    let json = repo.run("status --format json").done().json();
    assert_eq!(json["sources"][0]["partitions"]["file"]["events"], EVENTS);
    assert_eq!(json["views"][0]["entities"], 10);
    fs::create_dir(repo.file("tests")).expect("created");
    repo.write("tests/count.md", SCENARIO);
    assert_eq!(repo.run("test --format json").done().json()["scenarios"][0]["holds"], true);
}

const SCENARIO: &str = "\
# Payments of the last hour count

## Events

| user_id | amount | status  | created_at |
|---------|--------|---------|------------|
| 1       | 10     | settled | 08:00      |
| 1       | 5      | settled | 08:30      |

## Expect: fraud

| user_id | amount | at    | user_payments.payments_1h | user_payments.total |
|---------|--------|-------|---------------------------|---------------------|
| 1       | 1      | 08:45 | 2                         | 15.0                |
";

#[test]
fn a_changed_view_is_backfilled_by_apply_and_named_until_then() {
    let repo = TestRepo::ingested();
    let definitions = crate::repo::DEFINITIONS.replace("sum(amount)", "max(amount)");
    repo.write("shop.yaml", &definitions);
    let asked = "lookup fraud user_id=3 amount=10.5 --at 2026-11-20T09:00:00Z --format json";
    let before = repo.run(asked).done();
    assert!(before.stderr.contains("the definitions differ from version 1"), "{before:#?}");
    assert_eq!(before.json()["rows"][0]["values"]["user_payments.total"], 121.25);
    let applied = repo.run("apply").done();
    assert!(applied.stdout.contains("changed view user_payments (backfill): total changed"), "{applied:#?}");
    assert_eq!(repo.run(asked).done().json()["rows"][0]["values"]["user_payments.total"], 44.25);
    repo.run("verify").done();
    assert!(repo.run("apply").done().stdout.contains("nothing has changed since version 2"));
}

#[test]
fn files_of_a_feed_are_taken_in_together() {
    let repo = TestRepo::new();
    let feed = crate::repo::DEFINITIONS.replace("push: {}", "files: {path: 'payments*.csv'}");
    repo.write("shop.yaml", &feed);
    repo.write("payments_2.csv", "user_id,amount,status,created_at\n3,1,settled,2026-11-20T08:59:00Z\n");
    let json = repo.run("ingest --format json").done().json();
    assert_eq!(json["events"], EVENTS + 1);
    assert_eq!(json["files"].as_array().map(Vec::len), Some(2));
}
