//! Folders and stores that another version of Tidemark has written.

use std::fs;

use blake3::Hasher;
use serde_json::Value as Json;

use crate::repo::TestRepo;

/// The checksum of an applied version: lengths and texts of the names and the files.
fn checksum(files: &Json) -> String {
    let mut hasher = Hasher::new();
    let texts = files.as_array().expect("files").iter().flat_map(|file| file.as_array().expect("a pair"));
    for text in texts.map(|text| text.as_str().expect("a text")) {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

#[test]
fn applied_definitions_that_this_version_refuses_are_told_and_can_be_replaced() {
    let repo = TestRepo::ingested();
    let path = repo.file("data/applied/00000001.json");
    let applied = fs::read_to_string(&path).expect("applied");
    // A function that only the other version knows.
    let mut applied: Json =
        serde_json::from_str(&applied.replace("sum(amount)", "total(amount)")).expect("JSON");
    applied["checksum"] = checksum(&applied["files"]).into();
    fs::write(&path, applied.to_string()).expect("written");

    for command in ["status", "ingest", "dev --http 127.0.0.1:0 --grpc 127.0.0.1:0"] {
        let ran = repo.run(command);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:#?}");
        let told = "the applied version 1 is not valid for this version of Tidemark";
        assert!(ran.stderr.contains(told) && ran.stderr.contains("total"), "{ran:#?}");
    }
    let ran = repo.run("apply").done();
    assert!(ran.stdout.contains("applied version 2"), "{ran:#?}");
    assert!(ran.stderr.contains("the version that runs is not valid"), "{ran:#?}");
    let ran = repo.run("lookup fraud user_id=3 amount=10.5 --at 2026-11-20T09:00:00Z --format json").done();
    assert_eq!(ran.json()["rows"][0]["values"]["user_payments.total"], 121.25);
    repo.run("verify").done();
}
