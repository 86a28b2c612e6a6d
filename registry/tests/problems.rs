//! What people read when a definition is wrong, held as text.
//!
//! Each file of `tests/problems/` is a list of cases: a heading, one or several `yaml NAME` blocks, and the `text`
//! block that the definitions give. Blocks before the first heading belong to every case that has no file of that
//! name. With `UPDATE_EXPECT=1` the `text` blocks are rewritten.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use tidemark_registry::{Problems, parse};

type Files = Vec<(String, String)>;

#[test]
fn every_problem_is_shown_as_it_should_be() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/problems");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let update = std::env::var_os("UPDATE_EXPECT").is_some();
    let cases: usize = paths.iter().map(|path| check(path, update)).sum();
    assert!(cases >= 60, "{cases} cases");
}

/// Runs one file and gives how many cases it has.
fn check(path: &Path, update: bool) -> usize {
    let text = fs::read_to_string(path).expect("a readable file");
    let mut parts = text.split("\n## ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    let shared = blocks(&out).0;
    let mut cases = 0;
    for part in parts {
        let (mut files, expected) = blocks(part);
        let own = |name: &String| files.iter().any(|(file, _)| file == name);
        let more: Files = shared.iter().filter(|(name, _)| !own(name)).cloned().collect();
        files.splice(0..0, more);
        let found = shown(files);
        let title = part.lines().next().unwrap_or_default();
        assert!(
            update || expected == found,
            "{}: {title}\n--- expected\n{expected}--- found\n{found}",
            path.display()
        );
        let start = part.find("```text\n").unwrap_or(part.len());
        write!(out, "\n## {}```text\n{found}```\n", &part[..start]).expect("a string takes all");
        cases += 1;
    }
    if update {
        fs::write(path, out).expect("a writable file");
    }
    cases
}

fn shown(files: Files) -> String {
    match parse(files) {
        Ok(repo) if repo.warnings.is_empty() => "fine\n".to_owned(),
        Ok(repo) => repo.warnings.to_string(),
        Err(problems) => {
            report_is_valid(&problems);
            problems.to_string()
        }
    }
}

/// The machine form names a place that exists.
fn report_is_valid(problems: &Problems) {
    for entry in problems.report() {
        assert!(entry.line >= 1 && entry.column >= 1 && entry.length >= 1, "{entry:?}");
    }
}

/// The definition files and the expected text of a case.
fn blocks(part: &str) -> (Files, String) {
    let (mut files, mut expected) = (Files::new(), String::new());
    for block in part.split("```").skip(1).step_by(2) {
        let (info, body) = block.split_once('\n').expect("a block's first line");
        match info.strip_prefix("yaml ") {
            Some(name) => files.push((name.to_owned(), body.to_owned())),
            None => expected = body.to_owned(),
        }
    }
    (files, expected)
}
