//! Files that were corrected or have grown, and records that should never have come in.

use std::fs;

use serde_json::{Value as Json, json};
use tidemark_kernel::{Partition, Position};
use tidemark_offline::{EventTable, Location, Retraction};

use crate::process::Ran;
use crate::repo::TestRepo;

const DEFINITIONS: &str = "\
entities:
  - {name: user, keys: [{name: user_id, type: int64}]}
sources:
  - name: payments
    fields: [{name: user_id, type: int64}, {name: amount, type: float64}, {name: ts, type: timestamp}]
    event_time: ts
views:
  - name: v
    entity: user
    source: payments
    features:
      - {name: n, aggregate: count(*), windows: [1d]}
      - {name: total, aggregate: sum(amount), windows: [1d]}
services:
  - {name: s, features: [v]}
";

const WRONG: &str = "\
user_id,amount,ts
1,10,2026-01-01T08:00:00Z
1,20,2026-01-01T09:00:00Z
1,300,2026-01-01T10:00:00Z
";

const TAKE_IN: &str = "ingest --source payments --from january.csv";

/// A repo that has taken in a file with a wrong cell.
fn mistaken() -> TestRepo {
    let repo = TestRepo::new();
    repo.write("shop.yaml", DEFINITIONS);
    repo.write("labels.csv", "user_id,t\n1,2026-01-01T12:00:00Z\n");
    repo.write("january.csv", WRONG);
    repo.run(TAKE_IN).done();
    assert_values(&repo, 3, 330.0);
    repo
}

/// A lookup at noon, with its token.
fn look_up(repo: &TestRepo) -> Json {
    let json = repo.run("lookup s user_id=1 --at 2026-01-01T12:00:00Z --format json").done().json();
    json["rows"][0].clone()
}

/// Asserts the count and the sum, in a lookup and in a training set, and that the stores agree.
#[track_caller]
fn assert_values(repo: &TestRepo, count: i64, total: f64) {
    let row = look_up(repo);
    assert_eq!(
        (&row["values"]["v.n_1d"], &row["values"]["v.total_1d"]),
        (&json!(count), &json!(total)),
        "{row}"
    );
    repo.run("train s --labels labels.csv --time t --out out.csv").done();
    let set = fs::read_to_string(repo.file("out.csv")).expect("written");
    let line = set.lines().nth(1).expect("a row");
    assert!(
        line.ends_with(&format!(",{count},{total:.1}")) || line.ends_with(&format!(",{count},{total}")),
        "{set}"
    );
    let ran = repo.run("verify").done();
    assert!(ran.stdout.contains("0 mismatches"), "{ran:#?}");
}

#[test]
fn a_corrected_file_counts_once() {
    let repo = mistaken();
    let served = look_up(&repo)["token"].as_str().expect("a token").to_owned();
    repo.write("january.csv", &WRONG.replace(",300,", ",30,"));
    let refused = repo.run(TAKE_IN).refused(&[
        "error: january.csv was taken in before with other content (3 rows, offsets 0 to 2 of source `payments`)\n",
        "help: --replace takes those rows back and reads the file again, --as-new keeps them and counts the file as a new one\n",
    ]);
    assert!(!refused.stderr.contains("panicked"), "{refused:#?}");
    assert_values(&repo, 3, 330.0);

    let ran = repo.run(&format!("{TAKE_IN} --replace")).done();
    assert!(ran.stdout.contains("3 events of earlier content taken back"), "{ran:#?}");
    assert_values(&repo, 3, 60.0);
    let again = repo.run(&format!("{TAKE_IN} --replace")).done();
    assert!(again.stdout.contains("skipped: taken in before"), "{again:#?}");
    assert_values(&repo, 3, 60.0);

    // What the lookup before it saw cannot be made again; what one after it saw can.
    let train =
        "train s --labels served.csv --time t --visibility as_served --token token --out served.out.csv";
    let label = |token: &str| format!("user_id,t,token\n1,2026-01-01T12:00:00Z,{token}\n");
    repo.write("served.csv", &label(&served));
    repo.run(train).refused(&[
        "served.csv:2: the lookup was answered before the records of offsets 0..=2 of partition file of source payments were taken back",
        "help: leave the row out",
    ]);
    let now = look_up(&repo)["token"].as_str().expect("a token").to_owned();
    assert_ne!(now, served);
    repo.write("served.csv", &label(&now));
    repo.run(train).done();
    let set = fs::read_to_string(repo.file("served.out.csv")).expect("written");
    assert!(set.contains(",3,60"), "{set}");

    let status = repo.run("status --files").done();
    let words = status.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("january.csv 0 3 taken back") && words.contains("january.csv 4 3"), "{status:#?}");
    let files = repo.run("status --files --format json").done().json()["files"].clone();
    let told = |file: usize| {
        [&files[file]["first"], &files[file]["rows"], &files[file]["rows_taken_back"]].map(Json::clone)
    };
    assert_eq!((told(0), told(1)), ([json!(0), json!(3), json!(3)], [json!(4), json!(3), json!(0)]));
}

#[test]
fn only_the_new_rows_of_a_file_that_has_grown_are_appended() {
    let repo = mistaken();
    repo.write("january.csv", &format!("{WRONG}1,5,2026-01-01T11:00:00Z\n"));
    repo.run(TAKE_IN)
        .refused(&["has grown since (3 rows, offsets 0 to 2", "help: --append keeps those rows"]);
    let ran = repo.run(&format!("{TAKE_IN} --append --format json")).done();
    assert_eq!(ran.json()["events"], 1);
    assert_values(&repo, 4, 335.0);
    repo.run(&format!("{TAKE_IN} --append")).done();
    assert_values(&repo, 4, 335.0);

    repo.write("january.csv", &WRONG.replace(",300,", ",30,"));
    repo.run(&format!("{TAKE_IN} --append")).refused(&["cannot be appended", "help: --replace"]);
    repo.run(&format!("{TAKE_IN} --replace")).done();
    assert_values(&repo, 3, 60.0);
    repo.write("january.csv", WRONG);
    repo.run(&format!("{TAKE_IN} --as-new")).done();
    assert_values(&repo, 6, 390.0);
}

#[test]
fn what_should_never_have_come_in_is_forgotten() {
    let repo = mistaken();
    repo.write("more.csv", "user_id,amount,ts\n1,7,2026-01-01T11:00:00Z\n");
    repo.run("ingest --source payments --from more.csv").done();
    assert_values(&repo, 4, 337.0);
    let ran = repo.run("ingest --source payments --forget-offsets 1..3 --format json").done();
    assert_eq!(ran.json()["taken_back"][0]["events"], 2);
    assert_values(&repo, 2, 17.0);
    let ran = repo.run("ingest --source payments --forget january.csv").done();
    assert!(ran.stdout.contains("took back 1 event, offsets 0 to 2 of partition file"), "{ran:#?}");
    assert_values(&repo, 1, 7.0);
    let again = repo.run("ingest --source payments --forget january.csv").done();
    assert!(again.stdout.contains("were taken back before"), "{again:#?}");
    assert_values(&repo, 1, 7.0);

    repo.run("ingest --source payments --forget other.csv")
        .refused(&["other.csv was never taken into source `payments`", "help: `tidemark status --files`"]);
    repo.run("ingest --source payments --forget-offsets 3..9")
        .refused(&["are not all in", "help: name a range"]);
    for wrong in [
        "--forget-offsets 3..3",
        "--forget-offsets x",
        "--forget january.csv --from january.csv",
        "--replace",
    ] {
        let ran = repo.run(&format!("ingest --source payments {wrong}"));
        assert_eq!(ran.code, Some(2), "{ran:#?}");
    }
    repo.run(TAKE_IN).done();
    assert_values(&repo, 4, 337.0);
}

#[test]
fn a_changed_file_of_a_feed_does_not_stop_the_others() {
    let repo = TestRepo::new();
    let feed = DEFINITIONS.replace("    fields:", "    files: {path: 'days/*.csv'}\n    fields:");
    repo.write("shop.yaml", &feed);
    repo.write("labels.csv", "user_id,t\n1,2026-01-01T12:00:00Z\n");
    fs::create_dir(repo.file("days")).expect("created");
    repo.write("days/january.csv", WRONG);
    repo.run("ingest").done();
    repo.write("days/january.csv", &WRONG.replace(",300,", ",30,"));
    repo.write("days/more.csv", "user_id,amount,ts\n1,7,2026-01-01T11:00:00Z\n");
    let told = |ran: &Ran| {
        for part in [
            "days/january.csv was taken in before with other content (3 rows, offsets 0 to 2 of source `payments`)\n",
            "help: `tidemark ingest --source payments --from days/january.csv` with --replace takes those rows back",
        ] {
            assert!(ran.stderr.contains(part), "no `{part}` in {ran:#?}");
        }
    };
    let ran = repo.run("ingest");
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    told(&ran);
    assert!(ran.stdout.contains("left out: it would count rows twice"), "{ran:#?}");
    assert_values(&repo, 4, 337.0);
    let status = repo.run("status").done();
    assert!(status.stderr.contains("warning: source payments: left out of its feed: "), "{status:#?}");

    repo.run("ingest --source payments --from days/january.csv --replace").done();
    assert_values(&repo, 4, 67.0);
    assert!(!repo.run("status").done().stderr.contains("left out"));
    repo.run("ingest").done();
    repo.run("ingest --source payments --forget days/more.csv").done();
    let ran = repo.run("ingest");
    assert!(ran.stderr.contains("days/more.csv holds rows that were taken back"), "{ran:#?}");
    assert_values(&repo, 3, 60.0);

    repo.write("days/broken.csv", "user_id,price,ts\n1,7,2026-01-01T11:00:00Z\n");
    repo.write("days/whole.csv", "user_id,amount,ts\n1,8,2026-01-01T11:00:00Z\n");
    let ran = repo.run("ingest");
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    for part in ["error: days/broken.csv: no column `amount`", "correct the file or the definition"] {
        assert!(ran.stderr.contains(part), "no `{part}` in {ran:#?}");
    }
    assert!(ran.stdout.contains("left out: it cannot be read"), "{ran:#?}");
    assert_values(&repo, 4, 68.0);
    assert!(repo.run("status").done().stderr.contains("left out of its feed: days/broken.csv: no column"));
}

/// What a process leaves behind that was killed once the events were deleted.
#[tokio::main(flavor = "current_thread")]
async fn delete_events(repo: &TestRepo) {
    let plans = tidemark_registry::parse([("shop.yaml", DEFINITIONS)]).expect("definitions");
    let location = Location::local(repo.file("data/offline"));
    let mut events = EventTable::open(&location, &plans.sources["payments"]).await.expect("a table");
    let wrong = Retraction { partition: Partition::FILE, from: Position(2), to: Position(3), at: 3 };
    assert_eq!(events.retract(wrong).await.expect("deleted"), Some(1));
}

#[test]
fn nothing_answers_with_what_is_gone_from_history() {
    let repo = mistaken();
    delete_events(&repo);
    repo.run("verify")
        .refused(&["the state of view v was made before records of its source were taken back"]);
    assert_values(&repo, 2, 30.0);
}
