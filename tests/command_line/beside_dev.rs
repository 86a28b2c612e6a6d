//! Commands in another terminal while `tidemark dev` runs: it carries them out.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;

use serde_json::json;

use crate::dev::Dev;
use crate::process::{Ran, binary};
use crate::repo::{DEFINITIONS, EVENTS, TestRepo};

const SOCKET: &str = "data/dev.sock";

/// Runs `tidemark` in a folder other than the repo's, with something on stdin.
fn elsewhere(repo: &TestRepo, folder: &str, arguments: &str, stdin: &str) -> Ran {
    let mut command = Command::new(binary());
    command.args(arguments.split_whitespace()).current_dir(repo.file(folder));
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("it runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), stdin.as_bytes()).expect("it reads");
    Ran::of(child.wait_with_output().expect("it ends"))
}

#[test]
fn commands_use_what_dev_has_open() {
    let repo = TestRepo::ingested();
    let dev = Dev::start(&repo);
    let mode = fs::metadata(repo.file(SOCKET)).expect("it listens").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "of this user alone");

    let status = repo.run("status --format json").done().json();
    assert_eq!(status["sources"][0]["partitions"]["file"]["events"], EVENTS);
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
    let looked_up = repo.run("lookup fraud user_id=3 amount=1 --format json").done().json();
    assert_eq!(looked_up["rows"][0]["values"]["user_payments.total"], json!(121.25));
    assert!(repo.run("dead-letters").done().stdout.contains("there are no dead letters"));
    assert!(repo.run("apply").done().stdout.contains("nothing has changed since version 1"));

    // What the process that runs is asked for is seen by everything at once.
    repo.write("more.csv", "user_id,amount,status,created_at\n3,0.75,settled,2026-11-20T10:00:00Z\n");
    let taken_in = repo.run("ingest --from more.csv --source payments").done();
    assert!(taken_in.stdout.contains("1 event in "), "{taken_in:#?}");
    let looked_up = repo.run("lookup fraud user_id=3 amount=1 --format json").done().json();
    assert_eq!(looked_up["rows"][0]["values"]["user_payments.total"], json!(122.0));
    assert!(repo.run("ingest --from more.csv --source payments").done().stdout.contains("more.csv"));

    let feature = "      - {name: largest, aggregate: max(amount), windows: [lifetime]}\nservices:";
    repo.write("shop.yaml", &DEFINITIONS.replace("services:", feature));
    assert!(repo.run("apply").done().stdout.contains("version 2"));
    let looked_up = repo.run("lookup fraud user_id=3 amount=1 --format json").done().json();
    assert_eq!(looked_up["rows"][0]["values"]["user_payments.largest"], json!(44.25));

    dev.stop();
    assert!(!repo.file(SOCKET).exists());
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
}

#[test]
fn mistakes_are_told_as_they_are_elsewhere() {
    let repo = TestRepo::ingested();
    let told = |command: &str| repo.run(command);
    let commands = [
        "lookup frod user_id=3 amount=1",
        "lookup fraud user_id=three amount=1",
        "ingest --from nowhere.csv --source payments",
        "ingest --from payments.csv --source payment",
        "dead-letters --source payment",
    ];
    let alone: Vec<Ran> = commands.iter().map(|command| told(command)).collect();
    let dev = Dev::start(&repo);
    for (command, alone) in commands.iter().zip(alone) {
        let beside = told(command);
        assert_eq!(
            (beside.code, &beside.stdout, &beside.stderr),
            (Some(1), &alone.stdout, &alone.stderr),
            "{command}"
        );
    }
    repo.write("shop.yaml", &DEFINITIONS.replace("sum(amount)", "sum(amuont)"));
    let wrong = repo.run("apply");
    assert_eq!(wrong.code, Some(1), "{wrong:#?}");
    for part in
        ["did you mean `amount`", "error: 1 problem in the definitions\n", "help: nothing was changed"]
    {
        assert!(wrong.stderr.contains(part), "no `{part}` in {wrong:#?}");
    }
    for command in ["ingest --source payments --forget payments.csv", "dead-letters --retry"] {
        repo.run(command).refused(&["while `tidemark dev` is running", "help: stop it first\n"]);
    }
    dev.stop();
}

#[test]
fn verify_is_right_while_events_come_in() {
    let repo = TestRepo::ingested();
    let dev = Dev::start(&repo);
    let verified = thread::scope(|scope| {
        let verifying = scope.spawn(|| repo.run("verify"));
        let mut user = 0;
        while !verifying.is_finished() {
            let event = json!({
                "user_id": user, "amount": 0.25, "status": "settled", "created_at": "2026-11-20T10:00:00Z",
            });
            dev.push("payments", &event.to_string());
            user = (user + 1) % 10;
        }
        verifying.join().expect("no panic")
    });
    assert!(verified.done().stdout.contains("0 mismatches"));
    dev.stop();
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));
}

#[test]
fn a_file_that_was_left_out_is_taken_in_once_the_definition_fits() {
    let repo = TestRepo::new();
    for folder in ["inbox", "empty"] {
        fs::create_dir(repo.file(folder)).expect("created");
    }
    let definitions = DEFINITIONS.replace("push: {}", "files: {path: [inbox/*.csv, empty/*.csv]}");
    repo.write("shop.yaml", &definitions);
    let renamed = fs::read_to_string(repo.file("payments.csv")).expect("read").replacen("amount", "price", 1);
    repo.write("inbox/payments.csv", &renamed);
    let dev = Dev::start(&repo);
    let refused = repo.run("status").done().stderr;
    assert!(refused.contains("left out of its feed") && refused.contains("no column `amount`"), "{refused}");
    let fitting = "{name: amount, type: float64, from: {column: price}}";
    repo.write("shop.yaml", &definitions.replacen("{name: amount, type: float64}", fitting, 1));
    dev.wait_for("applied version 2");
    dev.wait_for("inbox/payments.csv");
    let looked_up = repo.run("lookup fraud user_id=3 amount=1 --format json").done().json();
    assert_eq!(looked_up["rows"][0]["values"]["user_payments.total"], json!(121.25));
    dev.stop();
}

#[test]
fn paths_and_stdin_are_those_of_the_caller() {
    let repo = TestRepo::ingested();
    fs::create_dir(repo.file("inner")).expect("created");
    repo.write("inner/more.csv", "user_id,amount,status,created_at\n3,0.75,settled,2026-11-20T10:00:00Z\n");
    let dev = Dev::start(&repo);
    let row = "{\"user_id\": 3, \"amount\": 1.0}\n";
    let taken_in = elsewhere(&repo, "inner", "ingest --from *.csv --source payments", "").done();
    assert!(taken_in.stdout.contains("1 event in "), "{taken_in:#?}");
    let looked_up = elsewhere(&repo, "inner", "lookup fraud --rows - --format json", row).done().json();
    assert_eq!(looked_up["rows"][0]["values"]["user_payments.total"], json!(122.0));
    repo.write("inner/rows.jsonl", row);
    let looked_up =
        elsewhere(&repo, "inner", "lookup fraud --rows rows.jsonl --format json", "").done().json();
    assert_eq!(looked_up["rows"][0]["values"]["user_payments.total"], json!(122.0));
    dev.stop();
}

#[test]
fn a_socket_that_was_left_behind_is_no_obstacle() {
    let repo = TestRepo::ingested();
    // As `kill -9` leaves it.
    drop(std::os::unix::net::UnixListener::bind(repo.file(SOCKET)).expect("bound"));
    assert!(repo.file(SOCKET).exists());
    repo.run("status").done();
    let dev = Dev::start(&repo);
    assert!(repo.run("status").done().stdout.contains("payments"));
    dev.stop();
    assert!(!repo.file(SOCKET).exists());
}

#[test]
fn new_files_of_a_feed_are_taken_in() {
    let repo = TestRepo::new();
    fs::create_dir(repo.file("inbox")).expect("created");
    repo.write("shop.yaml", &DEFINITIONS.replace("push: {}", "files: {path: inbox/*.csv}"));
    let dev = Dev::start(&repo);
    fs::copy(repo.file("payments.csv"), repo.file("inbox/payments.csv")).expect("copied");
    dev.wait_for("inbox/payments.csv");
    let looked_up = repo.run("lookup fraud user_id=3 amount=1 --format json").done().json();
    assert_eq!(looked_up["rows"][0]["values"]["user_payments.total"], json!(121.25));
    repo.write("inbox/wrong.csv", "user,price\n1,2\n");
    dev.wait_for("wrong.csv: ");
    repo.run("status").done();
    dev.stop();
}
