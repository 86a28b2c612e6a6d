//! `tidemark schema`, which needs no repo.

use serde_json::Value as Json;

use crate::process::tidemark;

fn properties(arguments: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let schema = tidemark(folder.path(), arguments).done().json();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["additionalProperties"], false);
    let mut names: Vec<String> =
        schema["properties"].as_object().map(|them| them.keys().cloned().collect()).unwrap_or_default();
    names.sort();
    names
}

#[test]
fn each_kind_of_file_has_a_schema() {
    let definitions = ["entities", "services", "sources", "views"];
    assert_eq!(properties(&["schema"]), definitions);
    assert_eq!(properties(&["schema", "definitions", "--format", "json"]), definitions);
    assert_eq!(
        properties(&["schema", "project"]),
        ["kafka", "lookups", "memory", "offline", "online", "ports", "project"]
    );
}

#[test]
fn every_reference_is_to_a_definition() {
    let folder = tempfile::tempdir().expect("a folder");
    let schema = tidemark(folder.path(), &["schema"]).done().json();
    let mut open = vec![&schema];
    let mut count = 0;
    while let Some(value) = open.pop() {
        if let Some(name) = value.get("$ref").and_then(Json::as_str) {
            let pointer = name.strip_prefix('#').expect("in the same file");
            assert!(schema.pointer(pointer).is_some(), "{name}");
            count += 1;
        }
        open.extend(value.as_array().into_iter().flatten());
        open.extend(value.as_object().into_iter().flat_map(|object| object.values()));
    }
    assert!(count >= 10, "{count} references");
}
