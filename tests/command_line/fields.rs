//! Names in the data that differ from those in the definition: reported where they are not mapped, read where `from`
//! maps them.

use crate::dev::Dev;
use crate::repo::TestRepo;

/// Definitions with these fields, and the view `v` with these features.
fn definitions(fields: &str, features: &str) -> String {
    format!(
        "
entities:
  - {{name: user, keys: [{{name: user_id, type: int64}}]}}
sources:
  - name: payments
    fields:
      - {{name: user_id, type: int64}}
      - {{name: ts, type: timestamp}}
{fields}
    event_time: ts
    arrival: event_time
views:
  - name: v
    entity: user
    source: payments
    features:
{features}
services:
  - {{name: s, features: [v]}}
"
    )
}

const AMOUNT: &str = "      - {name: amount, type: float64}";
const COUNTED: &str = "      - {name: n,     aggregate: count(*),    windows: [1d]}
      - {name: total, aggregate: sum(amount), windows: [1d]}";

fn repo(definitions: &str) -> TestRepo {
    let repo = TestRepo::new();
    repo.write("shop.yaml", definitions);
    repo.write("labels.csv", "user_id,t\n1,2026-01-01T12:00:00Z\n");
    repo
}

fn trained(repo: &TestRepo) -> String {
    repo.run("train s --labels labels.csv --time t --out out.csv").done();
    std::fs::read_to_string(repo.file("out.csv")).expect("written")
}

#[test]
fn a_misspelt_field_is_told_in_every_format() {
    let repo = repo(&definitions(AMOUNT, COUNTED));
    repo.write("payments.csv", "user_id,Amount,ts\n1,1.5,2026-01-01T08:00:00Z\n");
    let lines = "{\"user_id\":1,\"Amount\":1.5,\"ts\":\"2026-01-01T08:00:00Z\"}
{\"user_id\":1,\"Amount\":2.5,\"ts\":\"2026-01-01T09:00:00Z\"}
";
    repo.write("payments.jsonl", lines);
    let help = "help: give another name with `from: {column: NAME}`, or declare a field that may be missing as \
                `optional: true`\n";
    repo.run("ingest --source payments --from payments.csv").refused(&[
        "error: payments.csv: no column `amount` (is it `Amount`?); the file has user_id, Amount, ts\n",
        help,
    ]);
    repo.run("ingest --source payments --from payments.jsonl").refused(&[
        "error: payments.jsonl: no member `amount` in any of the first 2 records (is it `Amount`?); the records \
         have user_id, Amount, ts\n",
        help,
    ]);
    // A record may lack what others have. Of the files that were refused, nothing was taken in.
    repo.write(
        "some.jsonl",
        &lines.replacen("\"Amount\":1.5", "\"amount\":null", 1).replace("Amount", "amount"),
    );
    repo.run("ingest --source payments --from some.jsonl").done();
    assert!(trained(&repo).trim_end().ends_with("2,2.5"), "{}", trained(&repo));
}

#[test]
fn an_optional_field_may_be_missing_from_a_file() {
    let optional = AMOUNT.replace('}', ", optional: true}");
    let repo = repo(&definitions(&optional, COUNTED));
    repo.write("payments.csv", "user_id,ts\n1,2026-01-01T08:00:00Z\n");
    repo.write("payments.jsonl", "{\"user_id\":1,\"ts\":\"2026-01-01T09:00:00Z\"}\n");
    repo.write("more.csv", "user_id,ts,amount\n1,2026-01-01T10:00:00Z,4.5\n");
    repo.run("ingest --source payments --from *.jsonl payments.csv more.csv").done();
    assert!(trained(&repo).trim_end().ends_with("3,4.5"), "{}", trained(&repo));
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
}

#[test]
fn fields_come_from_other_columns_and_from_members() {
    let named = "      - {name: \"Amount (EUR)\", type: float64}
      - {name: payment.currency, type: string}";
    let features = "      - {name: last_currency, aggregate: last(currency), windows: [1d]}
      - {name: total, aggregate: sum(amount), windows: [1d]}";
    let repo = repo(&definitions(named, features));
    let ran = repo.run("check");
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    for help in [
        "help: name the field, and say where it comes from: {name: amount_eur, from: {column: \"Amount (EUR)\"}}\n",
        "help: name the field, and say where it comes from: {name: payment_currency, from: {path: payment.currency}} \
         (`{column: payment.currency}` where the dot is part of the name)\n",
    ] {
        assert!(ran.stderr.contains(help), "no `{help}` in {ran:#?}");
    }

    // As the help says, under names of our own.
    let fields = "      - {name: amount, type: float64, optional: true, from: {column: \"Amount (EUR)\"}}
      - {name: currency, type: string, optional: true, from: {path: payment.currency}}";
    repo.write("shop.yaml", &definitions(fields, features));
    repo.run("check").done();
    repo.write("payments.csv", "user_id,Amount (EUR),ts\n1,9.5,2026-01-01T08:00:00Z\n");
    repo.write(
        "payments.jsonl",
        "{\"user_id\":1,\"payment\":{\"currency\":\"EUR\"},\"ts\":\"2026-01-01T08:00:00Z\"}\n\
         {\"user_id\":1,\"payment\":null,\"ts\":\"2026-01-01T07:00:00Z\"}\n",
    );
    repo.run("ingest --source payments --from payments.csv").done();
    repo.run("ingest --source payments --from payments.jsonl").done();
    assert!(trained(&repo).trim_end().ends_with("EUR,9.5"), "{}", trained(&repo));
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
}

#[test]
fn a_pushed_record_is_read_like_one_of_a_file_and_its_unknown_members_are_named() {
    let fields = "      - {name: amount, type: float64, from: {path: payment.value}}";
    let repo = repo(&definitions(fields, COUNTED));
    let dev = Dev::start(&repo);
    let push = |record: &str| dev.push("payments", record);
    let answer = push(r#"{"user_id":1,"payment":{"value":1.5},"ts":"2026-01-01T08:00:00Z"}"#);
    assert_eq!((&answer["accepted"], &answer["unknown"]), (&1.into(), &serde_json::json!([])), "{answer}");
    let answer = push(r#"{"user_id":1,"Amount":1,"payment":{"Value":1.5},"ts":"2026-01-01T08:00:00Z"}"#);
    assert_eq!(answer["unknown"], serde_json::json!(["Amount", "payment.Value"]), "{answer}");
    dev.stop();
    assert!(trained(&repo).trim_end().ends_with("2,1.5"), "{}", trained(&repo));
}
