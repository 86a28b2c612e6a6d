//! Input of which few or no records are events: no command reports that as success.

use crate::process::Ran;
use crate::repo::TestRepo;

/// Asserts that it ended with this exit code, and that what it said on stderr has all `parts`.
#[track_caller]
fn told(ran: &Ran, code: i32, parts: &[&str]) {
    assert_eq!(ran.code, Some(code), "{ran:#?}");
    parts.iter().for_each(|part| assert!(ran.stderr.contains(part), "no `{part}` in {ran:#?}"));
}

const HEADER: &str = "user_id,amount,status,created_at\n";

#[test]
fn a_file_without_any_event_is_an_error() {
    let repo = TestRepo::new();
    let rows = "1,\"9,50\",settled,2026-11-20T08:00:00Z\n1,\"1,20\",settled,2026-11-20T09:00:00Z\n";
    repo.write("commas.csv", &format!("{HEADER}{rows}"));
    let ran = repo.run("ingest --from commas.csv --source payments");
    let error = "error: none of the 2 rows of commas.csv is an event\n  \
                 2 rows: field `amount`: expected a number like 4.2, got `9,50` (first: commas.csv:2)\n\
                 help: correct the definition, and take the rows again with `tidemark dead-letters --source payments \
                 --retry`, or correct the file; they are kept in data/offline/payments/dead_letters\n";
    told(&ran, 1, &[error]);
    assert!(ran.stdout.contains("0 events"), "the result is printed all the same: {ran:#?}");

    repo.write("empty.csv", HEADER);
    told(&repo.run("ingest --from empty.csv --source payments"), 0, &[]);
    let again = repo.run("ingest --from commas.csv --source payments").done();
    assert!(again.stdout.contains("skipped: taken in before"), "{again:#?}");
    let warning = "warning: commas.csv: 2 rows rejected when it was taken in, and not read again\nhelp: \
                   `tidemark dead-letters --source payments` says why; with `--retry` it takes them again";
    told(&again, 0, &[warning]);
}

#[test]
fn a_file_with_some_events_is_a_warning() {
    let repo = TestRepo::new();
    let rows =
        "1,2,settled,2026-11-20T08:00:00Z\n1,x,settled,2026-11-20T08:00:00Z\n1,2,settled,\n1,y,settled,\n";
    repo.write("some.csv", &format!("{HEADER}{rows}"));
    let ran = repo.run("ingest --from some.csv --source payments --format json");
    let warning = "warning: 3 of the 4 rows of some.csv are not events\n  \
                   2 rows: field `amount`: expected a number like 4.2, got `x` (first: some.csv:3)\n  \
                   1 row: no event time: field created_at is null or missing (first: some.csv:4)\n\
                   help: correct the definition, and take the rows again";
    told(&ran, 0, &[warning]);
    let rejected = &ran.json()["files"][0]["rejected"];
    assert_eq!(rejected[0]["count"], 2);
    assert_eq!(rejected[1]["place"], "some.csv:4");
}

#[test]
fn each_file_must_give_an_event() {
    let repo = TestRepo::new();
    repo.write("a.csv", &format!("{HEADER}1,x,settled,2026-11-20T08:00:00Z\n"));
    repo.write("b.csv", &format!("{HEADER}1,y,settled,2026-11-20T08:00:00Z\n"));
    let ran = repo.run("ingest --from a.csv b.csv payments.csv --source payments");
    told(&ran, 1, &["error: none of the 2 rows of 2 files is an event", "got `x` (first: a.csv:2)"]);
}

#[test]
fn events_that_no_view_can_see_are_a_warning() {
    let repo = TestRepo::new();
    repo.write(
        "keyless.csv",
        &format!("{HEADER},2,settled,2026-11-20T08:00:00Z\n,2,settled,2026-11-20T08:00:00Z\n"),
    );
    let ran = repo.run("ingest --from keyless.csv --source payments");
    let warning = "warning: 2 of the 2 rows of keyless.csv are events that no view can use\n  \
                   2 rows: null keys: no view can see an event without `user_id` (first: partition file offset 0)";
    told(&ran, 0, &[warning]);
}

#[test]
fn a_training_set_without_events_is_a_warning() {
    let repo = TestRepo::new();
    repo.write("commas.csv", &format!("{HEADER}1,\"9,50\",settled,2026-11-20T08:00:00Z\n"));
    repo.run("ingest --from commas.csv --source payments");
    let train = "train fraud --labels labels.csv --time at_time --out out.csv";
    let warning = "warning: source `payments` has no events: every feature of view `user_payments` is empty: \
         user_payments.payments_1h, user_payments.payments, user_payments.total\nhelp: ";
    told(&repo.run(train), 0, &[warning]);
    let ran = repo.run(&format!("{train} --format json"));
    assert_eq!(ran.json()["empty_views"][0], "user_payments");
    told(&repo.run("verify"), 0, &["warning: nothing was compared: no view holds a state"]);
    let status = repo.run("status --format json");
    told(
        &status,
        0,
        &[
            "warning: source payments: not one of 1 record is an event\n  the latest: field `amount`: expected a number like 4.2, got `9,50` (commas.csv:2)\n",
        ],
    );
    assert_eq!(status.json()["sources"][0]["rejecting"]["place"], "commas.csv:2");

    repo.run("ingest --from payments.csv --source payments").done();
    for command in [train, "verify", "status"] {
        let ran = repo.run(command).done();
        assert!(!ran.stderr.contains("warning"), "{ran:#?}");
    }
}
