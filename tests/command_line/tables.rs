//! Event tables, read by other programs.

use std::env;
use std::fs;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::repo::{EVENTS, TestRepo};

/// Reads both tables with DuckDB and with Polars, by the files that the Delta log names.
const SCRIPT: &str = r#"
import json, sys
import duckdb, polars
from deltalake import DeltaTable

def read(path):
    files = DeltaTable(path).file_uris()
    return duckdb.sql(f"from read_parquet({files!r})"), polars.read_delta(path)

events, frame = read(sys.argv[1])
dead, dead_frame = read(sys.argv[2])
print(json.dumps({
    "duckdb": events.aggregate("count(*), sum(amount), count(created_at)").fetchall()[0],
    "polars": [frame.height, frame["amount"].sum(), frame["created_at"].count()],
    "dead_duckdb": dead.aggregate("count(reason)").fetchall()[0][0],
    "dead_polars": dead_frame["reason"].count(),
}))
"#;

#[test]
fn duckdb_and_polars_read_what_was_ingested() {
    let Some(python) = env::var_os("TIDEMARK_TEST_PYTHON") else {
        eprintln!(
            "skipped: TIDEMARK_TEST_PYTHON names no Python with duckdb, polars and deltalake; `cargo xtask test` does"
        );
        return;
    };
    let repo = TestRepo::ingested();
    repo.write("broken.jsonl", "{\"user_id\": 1\n");
    assert_eq!(
        repo.run("ingest --from broken.jsonl --source payments").code,
        Some(1),
        "nothing in it is an event"
    );
    fs::write(repo.file("read.py"), SCRIPT).expect("written");
    let tables = ["data/offline/payments/events", "data/offline/payments/dead_letters"];
    let output =
        Command::new(python).arg("read.py").args(tables).current_dir(repo.path()).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: Json = serde_json::from_slice(&output.stdout).expect("JSON");
    let total = (1..=EVENTS).map(|index| index as f64 + 0.25).sum::<f64>();
    let all = json!([EVENTS, total, EVENTS]);
    assert_eq!((&read["duckdb"], &read["polars"]), (&all, &all));
    assert_eq!((&read["dead_duckdb"], &read["dead_polars"]), (&json!(1), &json!(1)));
}
