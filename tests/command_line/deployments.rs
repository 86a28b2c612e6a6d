//! Deployments of one project that share a Redis: the second one is refused before it reads or writes a state.

use std::fs;
use std::process::Command;

use tidemark_services::Redis;

use crate::http::get;
use crate::repo::TestRepo;
use crate::running::Running;

const INGEST: &str = "ingest --from payments.csv --source payments";
const LOOKUP: &str = "lookup fraud user_id=3 amount=10.5 --at 2026-11-20T09:00:00Z --format json";
const SERVE: &str = "serve --http 127.0.0.1:0 --grpc 127.0.0.1:0";
const REFUSAL: [&str; 4] = [
    "(tm:shop:*) holds states of source `payments` that were made from other event tables",
    "help: give one of the two deployments another `project`",
    "where the other event tables are gone for good",
    "delete what the store holds of this project",
];

/// A repo of the one project, with a data folder of its own.
fn deployment(redis: &Redis) -> TestRepo {
    let repo = TestRepo::new();
    let settings = format!("project: shop\nonline: {{store: redis, url: '{}'}}\n", redis.url());
    repo.write("tidemark.yaml", &settings);
    repo
}

#[track_caller]
fn answers(repo: &TestRepo) {
    assert_eq!(repo.run(LOOKUP).done().json()["rows"][0]["values"]["user_payments.total"], 121.25);
    repo.run("verify").done();
}

fn empty(redis: &Redis) {
    redis.command::<()>(&["FLUSHALL"]).expect("emptied");
}

#[test]
fn the_second_with_one_redis_is_refused() {
    let redis = Redis::start();
    let (one, other) = (deployment(&redis), deployment(&redis));
    one.run(INGEST).done();
    let keys = || redis.command::<u64>(&["DBSIZE"]).expect("it answers");
    let before = keys();
    // The first command makes its event tables, the others find them.
    for command in [INGEST, "apply", "status", LOOKUP, "verify", SERVE] {
        other.run(command).refused(&REFUSAL);
    }
    assert_eq!(keys(), before);
    answers(&one);

    // A Redis that has lost its data is whose it is filled by first.
    let serve = Running::start(&one, SERVE);
    assert_eq!(get(&serve.http, "/readyz").0, 200);
    empty(&redis);
    other.run(INGEST).done();
    answers(&other);
    one.run("apply").refused(&REFUSAL);
    serve.wait_for("error: the online store");
    serve.wait_for("help: give one of the two deployments another `project`");
}

#[test]
fn tables_that_are_moved_or_restored_go_on_and_new_ones_are_told_what_to_do() {
    let redis = Redis::start();
    let repo = deployment(&redis);
    repo.run(INGEST).done();
    let moved = deployment(&redis);
    let copied = Command::new("cp").arg("-R").arg(repo.file("data")).arg(moved.path()).status();
    assert!(copied.expect("cp runs").success());
    moved.run("apply").done();
    answers(&moved);

    fs::remove_dir_all(moved.file("data")).expect("removed");
    moved.run(INGEST).refused(&REFUSAL);
    empty(&redis);
    moved.run(INGEST).done();
    answers(&moved);
}

/// A store from before histories were recorded is taken over by the first that opens it.
#[test]
fn a_store_that_records_nothing_is_adopted() {
    let redis = Redis::start();
    let (one, other) = (deployment(&redis), deployment(&redis));
    one.run(INGEST).done();
    redis.command::<()>(&["DEL", "tm:shop:histories"]).expect("deleted");
    answers(&one);
    one.run("apply").done();
    other.run(INGEST).refused(&REFUSAL);
    answers(&one);
}
