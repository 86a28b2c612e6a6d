//! Label files as users have them: all their columns are in the training set, and each problem is reported with its
//! place.

use std::fs;

use crate::repo::TestRepo;

/// A repo whose view counts and sums the events of users, with one event of 10 for user 1 and one of 7 for user 2.
fn repo() -> TestRepo {
    let repo = TestRepo::new();
    let definitions = "
entities:
  - {name: user, keys: [{name: u, type: int64}]}
sources:
  - name: orders
    fields: [{name: u, type: int64}, {name: amount, type: int64}, {name: ts, type: timestamp}]
    event_time: ts
views:
  - name: v
    entity: user
    source: orders
    features:
      - {name: n, aggregate: count(*), windows: [7d]}
      - {name: spent, aggregate: sum(amount), windows: [7d]}
services:
  - {name: s, features: [v]}
";
    repo.write("shop.yaml", definitions);
    repo.write("orders.csv", "u,amount,ts\n1,10,2026-01-01T08:00:00Z\n2,7,2026-01-01T08:00:00Z\n");
    repo.run("ingest --source orders --from orders.csv").done();
    repo
}

#[test]
fn unused_columns_are_not_touched() {
    let repo = repo();
    let train = |labels: &str, text: &str| {
        repo.write(labels, text);
        repo.run(&format!("train s --labels {labels} --time t --out out.csv")).done();
        fs::read_to_string(repo.file("out.csv")).expect("written")
    };
    assert_eq!(
        train("codes.csv", "u,t,product_ref\n1,2026-01-01T10:00:00Z,32E0134\n"),
        "u,t,product_ref,v.n_7d,v.spent_7d\n1,2026-01-01T10:00:00Z,32E0134,1,10\n"
    );
    let dates = "u,t,last_login\n1,2026-01-01T10:00:00Z,2025-12-24\n1,2026-01-01T11:00:00Z,0000-00-00\n";
    assert_eq!(
        train("zero.csv", dates),
        "u,t,last_login,v.n_7d,v.spent_7d\n1,2026-01-01T10:00:00Z,2025-12-24,1,10\n\
         1,2026-01-01T11:00:00Z,0000-00-00,1,10\n"
    );
    // One row more than fits into 8 KiB, and far more than that.
    for rows in [233, 234, 20_000] {
        let row = "1,2,2026-01-02T00:00:00Z,\"one\ntwo\"";
        let set = train("notes.csv", &format!("u,y,t,note\n{}", format!("{row}\n").repeat(rows)));
        assert_eq!(
            set,
            format!("u,y,t,note,v.n_7d,v.spent_7d\n{}", format!("{row},1,10\n").repeat(rows)),
            "{rows} rows"
        );
    }
}

#[test]
fn every_problem_of_a_label_file_is_told_with_its_place() {
    let repo = repo();
    let mut labels = "u,t\n".to_owned();
    labels += &"1,2026-01-01T10:00:00Z\n".repeat(1000);
    labels += "x7,2026-01-01T10:00:00Z\n";
    repo.write("labels.csv", &labels);
    repo.run("train s --labels labels.csv --time t --out out.csv").refused(&[
        "error: labels.csv:1002: `u` is `x7`, which is no int64\n",
        "help: write an int64 like 42\n",
    ]);
    repo.write("labels.csv", "u,t\nx7,yesterday\n1,\n\"1\n");
    repo.run("train s --labels labels.csv --time t --out out.csv")
        .refused(&["labels.csv:4: a quote is not closed\n", "help: close the quote"]);
    repo.write("labels.csv", "u,t\nx7,yesterday\n1,\n");
    repo.run("train s --labels labels.csv --time t --out out.csv").refused(&[
        "error: the labels have 3 problems\n",
        "  labels.csv:2: `u` is `x7`, which is no int64\n",
        "  labels.csv:2: the label time `t` is `yesterday`, which is no instant\n",
        "  labels.csv:3: the label time `t` is null, and every label needs an instant\n",
        "help: write an int64 like 42\nhelp: write an instant like 2026-05-01T12:00:00Z\n",
    ]);
    assert!(!repo.file("out.csv").exists());
}

#[test]
fn a_key_that_is_mapped_twice_is_refused() {
    let repo = repo();
    repo.write("labels.csv", "buyer_id,seller_id,t\n1,2,2026-01-01T10:00:00Z\n");
    repo.run("train s --labels labels.csv --time t --key u=buyer_id --key u=seller_id --out out.csv")
        .refused(&[
            "`u` is mapped twice, to `buyer_id` and to `seller_id`",
            "help: give each key one column",
        ]);
    repo.run("train s --labels labels.csv --time t --key u=seller_id --out out.csv").done();
    let set = fs::read_to_string(repo.file("out.csv")).expect("written");
    assert!(set.ends_with("1,2,2026-01-01T10:00:00Z,1,7\n"), "{set}");
}

#[test]
fn label_times_are_numbers_of_a_unit_or_read_as_utc_which_is_said() {
    let repo = repo();
    repo.write("epochs.csv", "u,t\n1,1767261600\n");
    let train = "train s --labels epochs.csv --time t --out out.csv";
    repo.run(train).refused(&["epochs.csv:2: the label time `t` is `1767261600`", "--unit s"]);
    assert_eq!(repo.run(&format!("{train} --unit h")).code, Some(2));
    let ran = repo.run(&format!("{train} --unit s")).done();
    assert!(!ran.stderr.contains("no zone"), "{ran:#?}");
    let set = fs::read_to_string(repo.file("out.csv")).expect("written");
    assert!(set.ends_with("\n1,1767261600,1,10\n"), "{set}");

    repo.write("naive.csv", &format!("u,t\n{}", "1,2026-01-01 10:00:00\n".repeat(3)));
    let ran = repo.run("train s --labels naive.csv --time t --out out.csv").done();
    assert_eq!(ran.stderr.matches("note: the times in `t` name no zone and were read as UTC").count(), 1);
}

#[test]
fn labels_come_from_folders_and_patterns_with_their_partitions() {
    let repo = repo();
    for (day, user) in [("2026-01-02", 1), ("2026-01-03", 2)] {
        fs::create_dir_all(repo.file(&format!("labels/day={day}"))).expect("created");
        repo.write(
            &format!("labels/day={day}/part.jsonl"),
            &format!("{{\"u\":{user},\"t\":\"{day}T00:00:00Z\"}}\n"),
        );
    }
    let expected = "u,t,day,v.n_7d,v.spent_7d\n1,2026-01-02T00:00:00Z,2026-01-02,1,10\n2,2026-01-03T00:00:00Z,2026-01-03,1,7\n";
    for labels in ["labels", "labels/day=*", "labels/*/*.jsonl"] {
        repo.run(&format!("train s --labels {labels} --time t --out out.csv")).done();
        assert_eq!(fs::read_to_string(repo.file("out.csv")).expect("written"), expected, "{labels}");
    }
    // The labels are never replaced, however they are named.
    fs::copy(repo.file("out.csv"), repo.file("labels.csv")).expect("copied");
    repo.run("train s --labels lab*.csv --time t --out labels.csv").refused(&["would replace its labels"]);
}

#[test]
fn what_is_empty_is_named_last() {
    let repo = repo();
    repo.write("early.csv", "u,t\n1,2025-12-31T00:00:00Z\n1,2026-01-02T00:00:00Z\n1,2026-03-01T00:00:00Z\n");
    let ran = repo.run("train s --labels early.csv --time t --out out.csv").done();
    let warning = "warning: of 3 labels, 1 at or before the first event (2026-01-01T08:00:00.000Z) and 1 too long after \
                   the last event (2026-01-01T08:00:00.000Z): source `orders` has nothing for them, so these are empty: \
                   v.n_7d, v.spent_7d\nhelp: ";
    assert!(ran.stderr.contains(warning), "{ran:#?}");
    assert!(!ran.stderr.contains("null in every row"), "{ran:#?}");

    repo.write("strangers.csv", "u,t\n8,2026-01-02T00:00:00Z\n9,2026-01-02T00:00:00Z\n");
    let ran = repo.run("train s --labels strangers.csv --time t --out out.csv --format json").done();
    assert!(ran.stderr.contains("warning: 1 feature is null in every row: v.spent_7d\nhelp: "), "{ran:#?}");
    assert_eq!(ran.json()["empty_features"], serde_json::json!(["v.spent_7d"]));
    // A count of nothing is 0, which looks like a value.
    let zeros = "warning: no label sees an event in view `v`, so these are 0 in every row: v.n_7d\nhelp: ";
    assert!(ran.stderr.contains(zeros), "{ran:#?}");
    assert_eq!(ran.json()["unseen_views"], serde_json::json!(["v"]));

    repo.write("one.csv", "u,t\n8,2026-01-02T00:00:00Z\n1,2026-01-02T00:00:00Z\n");
    let ran = repo.run("train s --labels one.csv --time t --out out.csv --format json").done();
    assert!(!ran.stderr.contains("warning: "), "{ran:#?}");
    assert_eq!(ran.json()["unseen_views"], serde_json::json!([]));
}
