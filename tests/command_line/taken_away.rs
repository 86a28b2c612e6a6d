//! Definitions that take away what services answer.

use serde_json::json;

use crate::dev::Dev;
use crate::repo::{DEFINITIONS, TestRepo};

const LOOKUP: &str = "lookup fraud user_id=3 amount=1 --at 2026-11-20T09:00:00Z --format json";

/// Without one of the view's features, and what is made of it.
fn without_total() -> String {
    let feature = "      - {name: total, aggregate: sum(amount), windows: [lifetime]}\n";
    let derived = "    derived: [{name: share, expr: amount / nullif(user_payments.total, 0)}]\n";
    DEFINITIONS.replace(feature, "").replace(derived, "")
}

#[test]
fn apply_names_it_and_needs_yes() {
    let repo = TestRepo::ingested();
    repo.write("shop.yaml", &without_total());
    let checked = repo.run("check --format json").done();
    assert!(checked.stderr.starts_with("warning: this takes away what services answer:\n"), "{checked:#?}");
    assert_eq!(checked.json()["losses"][1], json!("share of service fraud"));
    let refused = repo.run("apply").refused(&[
        "error: this takes away what services answer:\n  user_payments.total of service fraud\n  \
         share of service fraud\n",
        "help: nothing was applied; if no program needs them any more, run `tidemark apply --yes`\n",
    ]);
    assert!(refused.stderr.starts_with("error: "), "{refused:#?}");
    // What runs goes on.
    let answer = repo.run(LOOKUP).done();
    assert_eq!(answer.json()["rows"][0]["values"]["user_payments.total"], json!(121.25));
    assert_eq!(repo.run("status --format json").done().json()["version"], json!(1));

    let applied = repo.run("apply --yes --format json").done();
    assert!(applied.stderr.starts_with("warning: this takes away what services answer:\n"), "{applied:#?}");
    let losses = json!(["user_payments.total of service fraud", "share of service fraud"]);
    assert_eq!((&applied.json()["losses"], &applied.json()["version"]), (&losses, &json!(2)));
    let answer = repo.run(LOOKUP).done().json();
    assert!(answer["rows"][0]["values"].get("user_payments.total").is_none(), "{answer}");
}

#[test]
fn whole_services_and_other_types_are_taken_away_too() {
    let repo = TestRepo::ingested();
    let other_type = DEFINITIONS.replace("sum(amount)", "count(amount)");
    repo.write("shop.yaml", &other_type);
    repo.run("apply").refused(&["user_payments.total of service fraud as float64: it becomes int64"]);
    repo.write("shop.yaml", &DEFINITIONS.replace("name: fraud", "name: risk"));
    repo.run("apply").refused(&["\n  service fraud\n"]);
    // A feature that no service uses is not a loss.
    let unused = "      - {name: largest, aggregate: max(amount), windows: [lifetime]}\nservices:";
    let service = "features: [user_payments.payments_1h, user_payments.total]";
    let with_unused = DEFINITIONS.replace("services:", unused).replace("features: [user_payments]", service);
    repo.write("shop.yaml", &with_unused);
    repo.run("apply --yes").done();
    repo.write("shop.yaml", &DEFINITIONS.replace("features: [user_payments]", service));
    let applied = repo.run("apply").done();
    assert!(
        !applied.stderr.contains("takes away") && applied.stdout.contains("largest removed"),
        "{applied:#?}"
    );
}

#[test]
fn dev_follows_the_files_and_tells_it() {
    let repo = TestRepo::ingested();
    let dev = Dev::start(&repo);
    repo.write("shop.yaml", &without_total());
    dev.wait_for("warning: this takes away what services answer:");
    dev.wait_for("  share of service fraud");
    dev.wait_for("applied version 2");
    dev.stop();
}
