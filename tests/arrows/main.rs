//! ARROWS-1: which crate may depend on which. A dependency that is not in the list of allowed ones fails here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

mod circles;

/// Which crates of the workspace each crate may depend on.
const ARROWS: [(&str, &[&str]); 16] = [
    ("tidemark-kernel", &[]),
    ("tidemark-expr", &["tidemark-kernel"]),
    ("tidemark-store", &["tidemark-kernel", "tidemark-host"]),
    ("tidemark-host", &["tidemark-kernel"]),
    ("tidemark-topic", &[]),
    ("tidemark-proto", &["tidemark-kernel"]),
    ("tidemark-registry", &["tidemark-kernel", "tidemark-host", "tidemark-expr"]),
    (
        "tidemark-online",
        &["tidemark-kernel", "tidemark-host", "tidemark-expr", "tidemark-store", "tidemark-proto"],
    ),
    ("tidemark-offline", &["tidemark-kernel", "tidemark-host", "tidemark-expr"]),
    (
        "tidemark-ingest",
        &[
            "tidemark-kernel",
            "tidemark-host",
            "tidemark-expr",
            "tidemark-store",
            "tidemark-offline",
            "tidemark-topic",
            "tidemark-proto",
        ],
    ),
    ("tidemark-prove", ENGINES),
    (
        "tidemark-engine",
        &[
            "tidemark-kernel",
            "tidemark-host",
            "tidemark-expr",
            "tidemark-registry",
            "tidemark-store",
            "tidemark-ingest",
            "tidemark-online",
            "tidemark-offline",
            "tidemark-prove",
        ],
    ),
    ("tidemark", EVERYTHING),
    ("tidemark-tests", EVERYTHING),
    ("tidemark-benches", EVERYTHING),
    ("xtask", &["tidemark-proto"]),
];

const ENGINES: &[&str] = &[
    "tidemark-kernel",
    "tidemark-host",
    "tidemark-expr",
    "tidemark-registry",
    "tidemark-store",
    "tidemark-ingest",
    "tidemark-online",
    "tidemark-offline",
];

const EVERYTHING: &[&str] = &[
    "tidemark-kernel",
    "tidemark-host",
    "tidemark-expr",
    "tidemark-registry",
    "tidemark-store",
    "tidemark-ingest",
    "tidemark-online",
    "tidemark-offline",
    "tidemark-proto",
    "tidemark-prove",
    "tidemark-engine",
];

/// What the kernel may use of the world: containers, numbers, hashes, text. No I/O, no async, no DataFusion.
const KERNEL: [&str; 14] = [
    "arrow-array",
    "arrow-buffer",
    "arrow-schema",
    "base64",
    "blake3",
    "chrono",
    "chrono-tz",
    "num-bigint",
    "num-traits",
    "serde",
    "serde_json",
    "smallvec",
    "thiserror",
    "xxhash-rust",
];

/// For each crate of the workspace, what it depends on but for tests alone.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = ["metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path", manifest];
    let output = Command::new(cargo).args(arguments).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let packages = metadata["packages"].as_array().expect("a list of packages");
    let named = packages.iter().map(|package| {
        let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
        let shipped = dependencies.iter().filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        (text(&package["name"]), shipped.map(|dependency| text(&dependency["name"])).collect())
    });
    named.collect()
}

#[test]
fn no_arrow_points_where_the_design_has_none() {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let crates = dependencies();
    let names: BTreeSet<&str> = crates.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        allowed.keys().copied().collect(),
        "a crate was added or removed: say whom it may know"
    );
    for (name, dependencies) in &crates {
        let inside = dependencies.iter().filter(|dependency| names.contains(dependency.as_str()));
        for dependency in inside {
            assert!(
                allowed[name.as_str()].contains(&dependency.as_str()),
                "{name} must not know {dependency}"
            );
        }
    }
}

#[test]
fn the_kernel_knows_little_of_the_world() {
    for dependency in &dependencies()["tidemark-kernel"] {
        assert!(KERNEL.contains(&dependency.as_str()), "the kernel must not know {dependency}");
    }
}

/// ARROWS-3: a record means the same wherever it comes from.
#[test]
fn the_kernel_names_nothing_that_records_come_from() {
    for path in circles::sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel/src")) {
        let text = fs::read_to_string(&path).expect("readable").to_lowercase();
        for word in ["kafka", "topic", "feed"] {
            assert!(!text.contains(word), "{} names `{word}`", path.display());
        }
    }
}

#[test]
fn only_the_engine_the_command_line_and_tests_know_the_proofs() {
    let crates = dependencies();
    let knowing = crates.iter().filter(|(_, dependencies)| dependencies.contains("tidemark-prove"));
    for (name, _) in knowing {
        assert!(
            ["tidemark-engine", "tidemark", "tidemark-tests", "tidemark-benches"].contains(&name.as_str()),
            "{name}"
        );
    }
}
