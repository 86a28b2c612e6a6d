//! The demo that README.md begins with, with a few events.

use std::fs;

use crate::process::tidemark;

#[test]
fn the_demo_compares_and_can_be_repeated() {
    let folder = tempfile::tempdir().expect("a folder");
    let demo = ["demo", "--dir", "here", "--events", "5000"];
    for _ in 0..2 {
        let ran = tidemark(folder.path(), &demo).done();
        for part in ["values compared, 0 mismatches", "tidemark dev", "curl"] {
            assert!(ran.stdout.contains(part), "no `{part}` in {ran:#?}");
        }
    }
    let here = folder.path().join("here");
    assert!(tidemark(&here, &["verify"]).done().stdout.contains("0 mismatches"));
    let json = tidemark(folder.path(), &["demo", "--dir", "here", "--events", "5000", "--format", "json"])
        .done()
        .json();
    assert_eq!(json["mismatches"], 0);
    assert!(json["values_compared"].as_u64() > Some(1000), "{json}");
}

#[test]
fn a_folder_that_is_no_demo_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("precious.txt"), "mine").expect("written");
    tidemark(folder.path(), &["demo", "--dir", "."]).refused(&["no demo"]);
    assert_eq!(fs::read_dir(folder.path()).expect("listed").count(), 1);
}
