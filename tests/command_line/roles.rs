//! One view in two roles of a service: the buyer and the seller of a transfer.

use std::fs;

use serde_json::json;

use crate::http::{get, post};
use crate::repo::TestRepo;
use crate::running::Running;

const DEFINITIONS: &str = "
entities:
  - {name: user, keys: [{name: user_id, type: int64}]}
sources:
  - name: payments
    push: {}
    fields: [{name: user_id, type: int64}, {name: amount, type: int64}, {name: ts, type: timestamp}]
    event_time: ts
views:
  - {name: v, entity: user, source: payments, features: [{name: spent, aggregate: sum(amount), windows: [1d]}]}
services:
  - name: transfer
    features:
      - {view: v, as: buyer, keys: {user_id: buyer_id}}
      - {view: v, as: seller, keys: {user_id: seller_id}}
    derived: [{name: share, expr: seller.spent_1d / buyer.spent_1d}]
";

const LABELS: &str = "buyer_id,seller_id,t\n1,2,2026-01-01T10:00:00Z\n2,1,2026-01-01T10:00:00Z\n";

fn repo() -> TestRepo {
    let repo = TestRepo::new();
    repo.write("shop.yaml", DEFINITIONS);
    repo.write("payments.csv", "user_id,amount,ts\n1,10,2026-01-01T08:00:00Z\n2,7,2026-01-01T08:00:00Z\n");
    repo.write("labels.csv", LABELS);
    repo.run("ingest --source payments --from payments.csv").done();
    repo
}

#[test]
fn both_roles_are_answered_from_one_state_of_each_user() {
    let repo = repo();
    repo.run("train transfer --labels labels.csv --time t --out out.csv").done();
    let trained = fs::read_to_string(repo.file("out.csv")).expect("written");
    let columns = "buyer_id,seller_id,t,buyer.spent_1d,seller.spent_1d,share\n";
    assert!(trained.starts_with(columns) && trained.contains(",10,7,0.7\n"), "{trained}");
    assert!(trained.contains("2,1,2026-01-01T10:00:00Z,7,10,"), "{trained}");

    let row = "buyer_id=1 seller_id=2 --at 2026-01-01T10:00:00Z --format json";
    let answer = repo.run(&format!("lookup transfer {row}")).done().json()["rows"][0].clone();
    let values = json!({"buyer.spent_1d": 10, "seller.spent_1d": 7, "share": 0.7});
    assert_eq!(answer["values"], values, "{answer}");
    let newest = "2026-01-01T08:00:00.000Z";
    assert_eq!(answer["newest_event"], json!({"buyer": newest, "seller": newest}), "{answer}");
    repo.run("lookup transfer user_id=1").refused(&["`user_id`"]);

    // One view, one generation, two entities.
    let status = repo.run("status --format json").done().json();
    assert_eq!(status["views"].as_array().map(Vec::len), Some(1), "{status}");
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));

    // The token names both: an event that came later for either of them is not seen.
    let token = answer["token"].as_str().expect("a token");
    repo.write("served.csv", &format!("buyer_id,seller_id,t,token\n1,2,2026-01-01T10:00:00Z,{token}\n"));
    repo.write("late.csv", "user_id,amount,ts\n1,100,2026-01-01T09:00:00Z\n2,1000,2026-01-01T09:00:00Z\n");
    repo.run("ingest --source payments --from late.csv").done();
    let train = "train transfer --labels served.csv --time t --out served_out.csv";
    repo.run(&format!("{train} --visibility as_served --token token")).done();
    let served = fs::read_to_string(repo.file("served_out.csv")).expect("written");
    assert!(served.trim_end().ends_with(",10,7,0.7"), "{served}");
    repo.run(train).done();
    let known = fs::read_to_string(repo.file("served_out.csv")).expect("written");
    assert!(known.contains(",110,1007,"), "{known}");
}

#[test]
fn keys_are_mapped_to_label_columns_role_by_role() {
    let repo = repo();
    repo.write("labels.csv", &LABELS.replace("buyer_id", "from").replace("seller_id", "to"));
    let train = "train transfer --labels labels.csv --time t --out out.csv";
    repo.run(&format!("{train} --key buyer_id=from --key seller_id=to")).done();
    let trained = fs::read_to_string(repo.file("out.csv")).expect("written");
    assert!(trained.contains(",10,7,0.7\n"), "{trained}");
    repo.run(&format!("{train} --key buyer_id=from --key buyer_id=to"))
        .refused(&["`buyer_id` is mapped twice, to `from` and to `to`"]);
    repo.run(&format!("{train} --key user_id=from"))
        .refused(&["the service has no key or request field user_id", "buyer_id, seller_id"]);
}

#[test]
fn servers_tell_and_answer_roles() {
    let repo = repo();
    let dev = Running::start(&repo, "dev --http 127.0.0.1:0 --grpc 127.0.0.1:0");
    let (status, service) = get(&dev.http, "/v1/services");
    assert_eq!(status, 200, "{service}");
    for part in ["\"buyer_id\"", "\"seller_id\"", "\"buyer.spent_1d\"", "\"view\":\"v\""] {
        assert!(service.contains(part), "no `{part}` in {service}");
    }
    let row = json!({"rows": [{"buyer_id": 2, "seller_id": null}], "at": "2026-01-01T10:00:00Z"});
    let (status, answer) = post(&dev.http, "/v1/services/transfer/lookup", &row.to_string());
    assert_eq!(status, 200, "{answer}");
    assert!(
        answer.contains("\"buyer.spent_1d\":7") && answer.contains("\"seller.spent_1d\":\"not_found\""),
        "{answer}"
    );
    dev.stop();
}

#[test]
fn a_role_that_changes_is_told_and_refills_nothing() {
    let repo = repo();
    repo.write("shop.yaml", &DEFINITIONS.replace("{user_id: seller_id}", "{user_id: payee_id}"));
    let applied = repo.run("apply").done();
    assert!(applied.stdout.contains("changed service transfer: the keys of seller changed"), "{applied:#?}");
    assert!(!applied.stdout.contains("view v"), "{applied:#?}");
    let renamed = DEFINITIONS.replace("as: seller", "as: payee").replace("seller.spent", "payee.spent");
    repo.write("shop.yaml", &renamed);
    repo.run("apply").refused(&["\n  seller.spent_1d of service transfer\n", "`tidemark apply --yes`"]);
    repo.run("apply --yes").done();
}
