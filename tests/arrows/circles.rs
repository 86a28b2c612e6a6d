//! ARROWS-2: the modules of a crate form no circle, so that each can be read after those that it uses.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates without a circle. A crate is added once it has none.
const UNTIED: [&str; 5] = ["kernel", "host", "expr", "registry", "offline"];

/// For each module of a crate, those that it uses.
type Uses = BTreeMap<String, BTreeSet<String>>;

#[test]
fn no_module_uses_one_that_uses_it() {
    for name in UNTIED {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let mut uses = uses(&root);
        assert!(uses.len() > 1, "{name} has modules");
        // What uses none of the others is read first, then what uses only that, and so on.
        loop {
            let rest: BTreeSet<String> = uses.keys().cloned().collect();
            let before = uses.len();
            uses.retain(|_, used| {
                used.retain(|module| rest.contains(module));
                !used.is_empty()
            });
            if uses.len() == before {
                break;
            }
        }
        assert!(uses.is_empty(), "modules of {name} use each other in a circle: {uses:#?}");
    }
}

/// What the modules of the crate use, apart from their tests.
fn uses(root: &Path) -> Uses {
    let files = sources(root);
    let module = |path: &Path| {
        let first = path.strip_prefix(root).expect("below it").iter().next().expect("a name");
        first.to_str().expect("a name in UTF-8").trim_end_matches(".rs").to_owned()
    };
    let mut uses: Uses = files.iter().map(|path| (module(path), BTreeSet::new())).collect();
    let exported = exported(&fs::read_to_string(root.join("lib.rs")).expect("readable"));
    for path in &files {
        let (text, name) = (fs::read_to_string(path).expect("readable"), module(path));
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        let code = code.join("\n");
        let named = code.split("crate::").skip(1).map(|rest| words(rest).next().unwrap_or_default());
        let modules = named.map(|word| exported.get(word).map_or(word, String::as_str));
        let others: Vec<String> =
            modules.filter(|used| *used != name && uses.contains_key(*used)).map(str::to_owned).collect();
        uses.entry(name).or_default().extend(others);
    }
    uses
}

/// The files of a crate but for `lib.rs` and tests.
pub(crate) fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() {
            if name != "tests" {
                found.extend(sources(&path));
            }
        } else if name.ends_with(".rs") && !matches!(name, "lib.rs" | "tests.rs") {
            found.push(path);
        }
    }
    found
}

/// The module of each name that `lib.rs` exports.
fn exported(lib: &str) -> BTreeMap<String, String> {
    let statements = lib.split(';').filter_map(|statement| statement.trim().strip_prefix("pub use "));
    let names = statements.flat_map(|statement| {
        let module = words(statement).next().unwrap_or_default().to_owned();
        words(statement).skip(1).map(move |name| (name.to_owned(), module.clone())).collect::<Vec<_>>()
    });
    names.collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| !word.is_empty())
}
