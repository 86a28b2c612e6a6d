//! Every bad input ends in one clear message and exit code: never a panic, never a half-written output.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use redb::{Database, TableDefinition};
use xxhash_rust::xxh3::xxh3_64;

use crate::dev::Dev;
use crate::process::{Ran, binary, tidemark, tidemark_with_small_disk};
use crate::repo::{DEFINITIONS, EVENTS, TestRepo};

#[test]
fn a_folder_that_is_no_repo() {
    let folder = tempfile::tempdir().expect("a folder");
    tidemark(folder.path(), &["status"]).refused(&["there is no tidemark.yaml", "tidemark init DIR"]);
}

#[test]
fn wrong_usage() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [
        &["frobnicate"][..],
        &["lookup"],
        &["lookup", "fraud", "user_id"],
        &["ingest", "--from", "x.csv"],
        &["verify", "--sample", "0"],
        &["demo", "--events", "0"],
        &["demo", "--live", "5"],
        &["demo", "--live", "0", "--kafka", "localhost:9092"],
        &["demo", "--live", "5", "--kafka", "localhost:9092", "--dir", "here"],
        &["demo", "--topic", "payments", "--kafka", "localhost:9092"],
        &["dev", "--log", "xml"],
        &["compact", "--vacuum-older-than", "yesterday"],
    ] {
        let ran = tidemark(folder.path(), arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{ran:#?}");
    }
}

#[test]
fn a_missing_file() {
    let repo = TestRepo::new();
    repo.run("ingest --from nowhere.csv --source payments").refused(&["no file at `nowhere.csv`"]);
    repo.run("train fraud --labels nowhere.csv --time at_time --out out.parquet").refused(&["nowhere.csv"]);
    repo.run("lookup fraud --rows nowhere.jsonl").refused(&["cannot read nowhere.jsonl"]);
    assert!(!repo.file("out.parquet").exists());
}

#[test]
fn an_unknown_service_or_source() {
    let repo = TestRepo::new();
    repo.run("lookup frad user_id=1 amount=1").refused(&["unknown service `frad`", "did you mean `fraud`?"]);
    repo.run("train frad --labels labels.csv --time at_time --out o.csv").refused(&["did you mean `fraud`?"]);
    repo.run("ingest --from payments.csv --source payment")
        .refused(&["unknown source `payment`", "payments"]);
    repo.run("ingest --source payment").refused(&["unknown source `payment`", "payments"]);
}

#[test]
fn a_level_of_logs_that_is_none() {
    let repo = TestRepo::new();
    let output =
        Command::new(binary()).arg("status").env("TIDEMARK_LOG", "x=[").current_dir(repo.path()).output();
    Ran::of(output.expect("it runs")).refused(&["TIDEMARK_LOG cannot be understood", "write `debug`"]);
}

#[test]
fn a_monitor_for_what_ends_by_itself() {
    let repo = TestRepo::new();
    let ingest = "ingest --from payments.csv --source payments --http 127.0.0.1:0";
    repo.run(ingest).refused(&["--http is for what goes on running", "leave it out"]);
}

#[test]
fn lookups_served_from_a_store_of_one_process() {
    let repo = TestRepo::ingested();
    repo.run("serve --http 127.0.0.1:0 --grpc 127.0.0.1:0")
        .refused(&["the online store is embedded", "tidemark dev"]);
}

#[test]
fn a_wrong_key() {
    let repo = TestRepo::ingested();
    repo.run("lookup fraud user_id=abc amount=1").refused(&["user_id", "`abc`", "int64"]);
    repo.run("lookup fraud usr_id=1 amount=1").refused(&["`usr_id`", "did you mean `user_id`?"]);
    repo.run("lookup fraud amount=1").refused(&["lacks the key `user_id`"]);
    repo.run("lookup fraud user_id=1 user_id=2 amount=1").refused(&["given twice"]);
    let early = repo.run("lookup fraud user_id=1 amount=1 --at 2026-11-20T08:00:00Z");
    early.refused(&["user_payments", "10s", "train"]);
}

#[test]
fn an_empty_label_file() {
    let repo = TestRepo::ingested();
    repo.write("empty.csv", "user_id,amount,at_time\n");
    let train = "train fraud --labels empty.csv --time at_time --out out.parquet";
    repo.run(train).refused(&["empty.csv has no rows"]);
    assert!(!repo.file("out.parquet").exists());
}

#[test]
fn a_label_without_a_time() {
    let repo = TestRepo::ingested();
    repo.write("null.csv", "user_id,amount,at_time\n1,1,2026-11-20T09:00:00Z\n2,1,\n");
    let train = "train fraud --labels null.csv --time at_time --out out.parquet";
    repo.run(train).refused(&["null.csv:3: the label time `at_time` is null", "help: write an instant like"]);
    assert!(!repo.file("out.parquet").exists());
}

#[test]
fn a_training_set_over_its_own_labels() {
    let repo = TestRepo::ingested();
    let labels = fs::read(repo.file("labels.csv")).expect("read");
    repo.run("train fraud --labels labels.csv --time at_time --out ./labels.csv")
        .refused(&["would replace its labels", "another file"]);
    assert_eq!(fs::read(repo.file("labels.csv")).expect("read"), labels);
}

#[test]
fn a_definition_that_divides_text_by_a_number() {
    let repo = TestRepo::new();
    repo.write("shop.yaml", &DEFINITIONS.replace("sum(amount)", "sum(status / 2)"));
    let ran = repo.run("check");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), "1 problem\n"), "{ran:#?}");
    for part in ["shop.yaml:19:", "status / 2", "string"] {
        assert!(ran.stderr.contains(part), "no `{part}` in {ran:#?}");
    }
    let ran = repo.run("check --format json");
    assert_eq!((ran.code, &ran.json()["problems"][0]["line"]), (Some(1), &19.into()));
    let ran = repo.run("apply");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
    assert!(!repo.file("data").exists(), "nothing was applied");
}

#[test]
fn a_half_written_line() {
    let repo = TestRepo::new();
    let whole = r#"{"user_id": 1, "amount": 2, "status": "settled", "created_at": "2026-11-20T08:00:00Z"}"#;
    repo.write("half.jsonl", &format!("{whole}\n{}", &whole[..40]));
    let ran = repo.run("ingest --from half.jsonl --source payments").done();
    assert!(ran.stderr.contains(" data/offline/payments/dead_letters"), "{ran:#?}");
    assert!(
        ran.stdout.contains("1 event ")
            && ran.stderr.contains("1 of the 2 rows of half.jsonl is not an event"),
        "{ran:#?}"
    );
    repo.write("rows.jsonl", "{\"user_id\": 1, \"amount\": 1}\n{\"user_id\": 1,");
    repo.run("lookup fraud --rows rows.jsonl").refused(&["line 2 is no JSON object"]);
}

#[test]
fn a_full_disk() {
    let repo = TestRepo::new();
    let many: String =
        (0..60_000).map(|row| format!("{row},{row}.5,settled,2026-11-20T08:00:00Z\n")).collect();
    repo.write("many.csv", &format!("user_id,amount,status,created_at\n{many}"));
    repo.run("apply").done();
    for blocks in [64, 2048, 6144] {
        let ran = tidemark_with_small_disk(repo.path(), blocks, "ingest --from many.csv --source payments");
        ran.refused(&["space"]);
    }
    repo.run("ingest --from many.csv --source payments").done();
    assert!(repo.run("verify").done().stdout.contains("0 mismatches"));

    let labels: String = (0..60_000).map(|row| format!("{row},{row}.5,2026-11-20T09:00:00Z\n")).collect();
    repo.write("many_labels.csv", &format!("user_id,amount,at_time\n{labels}"));
    let train = "train fraud --labels many_labels.csv --time at_time --out out.csv";
    let ran = tidemark_with_small_disk(repo.path(), 64, train);
    ran.refused(&["out.csv"]);
    let left: Vec<_> =
        fs::read_dir(repo.path()).expect("listed").map(|entry| entry.expect("read").file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains("out.csv")), "{left:?}");
    repo.run(train).done();
}

#[test]
fn a_store_of_a_newer_version() {
    let repo = TestRepo::ingested();
    let seal = |place: u8, body: [u8; 4]| {
        [&xxh3_64(&[&[place][..], &body].concat()).to_le_bytes()[..], &body].concat()
    };
    let meta: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
    edit(&repo.file("data/online/online.redb"), |transaction| {
        let mut meta = transaction.open_table(meta).expect("opened");
        meta.insert("format", seal(0, 7_u32.to_le_bytes()).as_slice()).expect("written");
    });
    for command in ["lookup fraud user_id=1 amount=1", "verify", "status", "ingest --until-idle", "apply"] {
        repo.run(command).refused(&["online.redb has format 7", "use the version of Tidemark that wrote it"]);
    }
}

#[test]
fn a_journal_of_a_newer_version() {
    let repo = TestRepo::ingested();
    let meta: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
    edit(&repo.file("data/ingest.redb"), |transaction| {
        transaction.open_table(meta).expect("opened").insert("format", 7).expect("written");
    });
    repo.run("ingest --until-idle")
        .refused(&["ingest.redb has format 7", "use the version of Tidemark that wrote it"]);
}

fn edit(path: &Path, work: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).expect("opened");
    let transaction = database.begin_write().expect("begun");
    work(&transaction);
    transaction.commit().expect("committed");
}

#[test]
fn an_applied_version_of_a_newer_form_or_damaged() {
    let repo = TestRepo::ingested();
    let path = repo.file("data/applied/00000001.json");
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, text.replacen("\"format\": 1", "\"format\": 2", 1)).expect("written");
    repo.run("status").refused(&["newer Tidemark"]);
    fs::write(&path, &text[..text.len() / 2]).expect("written");
    repo.run("status").refused(&["00000001.json is damaged"]);
}

#[test]
fn a_port_in_use() {
    let repo = TestRepo::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("an address");
    let port = format!("port {} of 127.0.0.1 is in use", address.port());
    repo.run(&format!("dev --http {address} --grpc 127.0.0.1:0")).refused(&[&port]);
    repo.run(&format!("dev --grpc {address} --http 127.0.0.1:0")).refused(&[&port]);
}

#[test]
fn a_second_process_on_the_same_store() {
    let repo = TestRepo::ingested();
    let dev = Dev::start(&repo);
    repo.run("dev --http 127.0.0.1:0 --grpc 127.0.0.1:0").refused(&["in use by another process"]);
    // Event tables may be read by anyone.
    repo.run("train fraud --labels labels.csv --time at_time --out out.csv").done();
    dev.stop();
    assert_eq!(
        repo.run("status --format json").done().json()["sources"][0]["partitions"]["file"]["events"],
        EVENTS
    );
}
