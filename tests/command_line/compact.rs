//! `tidemark compact`.

use serde_json::json;

use crate::repo::TestRepo;

#[test]
fn small_files_become_one_and_go_once_they_are_old() {
    let repo = TestRepo::ingested();
    let at = "2026-11-20T08:59:00Z";
    let rows = [format!("3,1,settled,{at}\n"), format!("4,2,settled,{at}\n5,x,settled,now\n")];
    for (file, rows) in ["more.csv", "yet_more.csv"].into_iter().zip(rows) {
        repo.write(file, &format!("user_id,amount,status,created_at\n{rows}"));
        repo.run(&format!("ingest --from {file} --source payments")).done();
    }
    let partitions =
        || repo.run("status --format json").done().json()["sources"][0]["partitions"]["file"].clone();
    let before = partitions();

    let ran = repo.run("compact --source payments --format json").done().json();
    let [events, dead_letters] = &ran["tables"].as_array().expect("tables")[..] else { panic!("{ran}") };
    assert_eq!((&events["table"], &dead_letters["table"]), (&json!("events"), &json!("dead_letters")));
    assert_eq!((&events["files_before"], &events["files_after"]), (&json!(3), &json!(1)));
    assert_eq!((&dead_letters["files_before"], &dead_letters["files_after"]), (&json!(1), &json!(1)));
    assert_eq!(events["removed"], 0, "nothing is old enough");

    let nothing = repo.run("compact --vacuum-older-than none").done();
    assert!(nothing.stdout.contains("payments   events"), "{nothing:#?}");
    let ran = repo.run("compact --vacuum-older-than 0s --format json").done().json();
    assert_eq!((&ran["tables"][0]["files_before"], &ran["tables"][0]["removed"]), (&json!(1), &json!(3)));

    assert_eq!(partitions(), before);
    repo.run("verify").done();
    let labels = "train fraud --labels labels.csv --time at_time --out out.csv";
    repo.run(labels).done();
    repo.run("compact --source payment").refused(&["unknown source `payment`"]);
}
