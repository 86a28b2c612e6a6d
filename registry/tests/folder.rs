//! Repos on disk: which files count, and what is said about those that cannot be read.

use std::fs;
use std::path::Path;

use tidemark_expr::DerivedEvaluator;
use tidemark_kernel::window::Window;
use tidemark_registry::{Online, load};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../feature_repo");

fn write(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap_or(dir)).expect("a folder");
    fs::write(path, bytes).expect("a file");
}

fn shown(dir: &Path) -> String {
    let shown = match load(dir) {
        Ok(repo) => repo.warnings.to_string(),
        Err(problems) => problems.to_string(),
    };
    shown.replace(&dir.display().to_string(), "REPO")
}

#[test]
fn the_example_repo_is_fine() {
    let repo = load(Path::new(EXAMPLE)).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(repo.warnings.is_empty(), "{}", repo.warnings);
    assert_eq!(repo.project.name, "shop");
    assert_eq!(repo.project.online, Online::Embedded { path: "data/online".into() });
    let fraud = &repo.services["fraud"];
    let keys: Vec<&str> = fraud.keys().iter().map(|key| key.name.as_str()).collect();
    assert_eq!(keys, ["user_id", "merchant_id", "card_id"]);
    assert_eq!(repo.descriptions["view.user_payments"], "What a user does.");
    let merchant: Vec<&str> =
        repo.views["merchant_payments"].fields.iter().map(|field| field.name.as_str()).collect();
    assert_eq!(
        merchant,
        ["user_id", "merchant_id", "amount", "status"],
        "only fields in use, in the source's order"
    );
    assert!(DerivedEvaluator::new(fraud).is_ok(), "engines see the same names as the registry");
    assert!(repo.views["user_payments"].windows.contains(&Window::Lifetime));
}

#[test]
fn definitions_are_found_in_folders_and_state_is_not() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "tidemark.yaml", "\u{feff}project: shop\r\n");
    let entity = "entities:\n  - {name: user, keys: [{name: user_id, type: int64}]}\n";
    write(dir.path(), "teams/risk/entities.yml", entity);
    for skipped in ["data/registry/x.yaml", "tests/one.yaml", ".git/x.yaml", ".hidden.yaml", "notes.md"] {
        write(dir.path(), skipped, "not: [a definition");
    }
    let repo = load(dir.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let names: Vec<&str> = repo.texts().map(|(name, _)| name).collect();
    assert_eq!(names, ["tidemark.yaml", "teams/risk/entities.yml"]);
    assert_eq!(
        shown(dir.path()),
        "warning: entity `user` is used by no view\n \
         --> REPO/teams/risk/entities.yml:2:12\n  \
           |\n\
         2 |   - {name: user, keys: [{name: user_id, type: int64}]}\n  \
           |            ^^^^\n"
    );
}

#[test]
fn a_folder_that_is_no_repo_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let empty = shown(dir.path());
    assert!(empty.starts_with("error: there is no tidemark.yaml, so this is no repo\n"), "{empty}");
    assert!(empty.contains("REPO/tidemark.yaml") && empty.contains("tidemark init"), "{empty}");
    let missing = shown(&dir.path().join("nowhere"));
    assert!(missing.starts_with("error: cannot be read\n") && missing.contains("No such file"), "{missing}");
}

#[test]
fn a_file_that_is_no_text_is_shown_at_its_first_bad_byte() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "tidemark.yaml", "project: shop\n");
    write(dir.path(), "a.yaml", b"entities:\r\n  - {name: us\xffer}\n");
    let shown = shown(dir.path());
    assert!(shown.starts_with("error: the file is not UTF-8\n"), "{shown}");
    assert!(shown.contains("REPO/a.yaml:2:14"), "{shown}");
    assert_eq!(shown.matches("error").count(), 1, "{shown}");
}
