//! Events as people have them: spellings, numbers and files of other programs.

use std::fs;

use crate::dev::Dev;
use crate::repo::TestRepo;

/// A repo with one source of orders, which counts and sums them.
fn repo() -> TestRepo {
    let repo = TestRepo::new();
    let definitions = "
entities:
  - {name: user, keys: [{name: user_id, type: int64}]}
sources:
  - name: orders
    push: {}
    fields:
      - {name: user_id, type: int64}
      - {name: price, type: float64}
      - {name: gift, type: bool, optional: true}
      - {name: ts, type: timestamp}
    event_time: ts
    arrival: event_time
views:
  - name: v
    entity: user
    source: orders
    features:
      - {name: spent, aggregate: sum(price), windows: [1d]}
      - {name: gifts, aggregate: count(*) filter (where gift), windows: [1d]}
services:
  - {name: s, features: [v], request: [{name: gift, type: bool}]}
";
    repo.write("shop.yaml", definitions);
    repo
}

fn trained(repo: &TestRepo, labels: &str) -> String {
    repo.write("labels.csv", labels);
    repo.run("train s --labels labels.csv --time t --out out.csv").done();
    fs::read_to_string(repo.file("out.csv")).expect("written")
}

#[test]
fn events_and_labels_read_the_same_spellings() {
    let repo = repo();
    repo.write(
        "orders.csv",
        "user_id,price,gift,ts\n\
         1,1.5,true,2026-01-01 08:00:00 UTC\n\
         1,1.5,True,2026-01-01T08:00:00Z\n\
         1,1.5,TRUE,2026-01-01T08:00:00+0000\n\
         1,1.5,t,2026-01-01 09:00:00+01\n\
         1, 1.5,yes,2026-01-01T08:00:00Z\n",
    );
    repo.run("apply").done();
    let ran = repo.run("ingest --source orders --from orders.csv").done();
    assert!(ran.stdout.contains("5 events") && ran.stderr.is_empty(), "{ran:#?}");
    for gift in ["True", "t", "yes", "1"] {
        let set = trained(&repo, &format!("user_id,gift,t\n1,{gift},2026-01-01 12:00:00 UTC\n"));
        assert!(set.ends_with(",7.5,5\n"), "{set}");
    }
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
}

#[test]
fn an_int64_may_be_pushed_as_the_text_of_its_digits() {
    let repo = repo();
    let dev = Dev::start(&repo);
    let at = "2026-01-01T08:00:00Z";
    for user in ["653247040368672769", "\"653247040368672769\""] {
        let answer = dev.push("orders", &format!("{{\"user_id\":{user},\"price\":2,\"ts\":\"{at}\"}}"));
        assert_eq!((&answer["accepted"], &answer["dead_letters"]), (&1.into(), &0.into()), "{answer}");
    }
    let answer = dev.push("orders", &format!("{{\"user_id\":\"1.0\",\"price\":2,\"ts\":\"{at}\"}}"));
    assert_eq!(answer["rejected"][0]["reason"], "field `user_id`: expected an int64 like 42, got \"1.0\"");
    dev.stop();
    let set = trained(&repo, "user_id,gift,t\n653247040368672769,0,2026-01-01T12:00:00Z\n");
    assert!(set.ends_with(",4.0,0\n"), "{set}");
}

#[test]
fn a_time_may_be_seconds_with_a_fraction() {
    let repo = repo();
    let shop = fs::read_to_string(repo.file("shop.yaml")).expect("read");
    let shop = shop
        .replace("{name: ts, type: timestamp}", "{name: ts, type: float64}")
        .replace("event_time: ts", "event_time: {field: ts, unit: s}");
    repo.write("shop.yaml", &shop);
    repo.run("check").done();
    repo.write("orders.jsonl", "{\"user_id\":1,\"price\":1,\"ts\":1767254400.25}\n");
    repo.write("orders.csv", "user_id,price,ts\n1,1,1767254400.123\n");
    repo.run("ingest --source orders --from orders.jsonl").done();
    repo.run("ingest --source orders --from orders.csv").done();
    for (at, spent) in
        [("08:00:00.123", ""), ("08:00:00.124", "1.0"), ("08:00:00.250", "1.0"), ("08:00:00.251", "2.0")]
    {
        let set = trained(&repo, &format!("user_id,gift,t\n1,0,2026-01-01T{at}Z\n"));
        assert!(set.ends_with(&format!(",{spent},0\n")), "{at}: {set}");
    }
}

#[test]
fn a_folder_and_columns_that_do_not_fit_are_told() {
    let repo = repo();
    repo.write("orders.tsv", "user_id\tprice\tts\n1\t1.5\t2026-01-01T08:00:00Z\n");
    repo.run("ingest --source orders --from orders.tsv").done();
    let set = trained(&repo, "user_id,gift,t\n1,0,2026-01-01T12:00:00Z\n");
    assert!(set.ends_with(",1.5,0\n"), "{set}");
    fs::create_dir(repo.file("lake")).expect("created");
    repo.run("ingest --source orders --from lake").refused(&["`lake` is a folder", "`lake/**/*.parquet`"]);
    repo.write("twice.csv", "user_id,ts,ts\n");
    repo.run("ingest --source orders --from twice.csv").refused(&[
        "twice.csv: 2 problems with its columns\n",
        "\n  no column `price`; the file has user_id, ts; give another name with ",
        "\n  column `ts` is there twice; rename one of the two\n",
    ]);
    repo.write("orders.xlsx", "");
    repo.run("ingest --source orders --from orders.xlsx")
        .refused(&["cannot tell the format", ".tsv or .jsonl"]);
}
