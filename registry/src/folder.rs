//! The definition files of a folder.

use std::fs;
use std::io;
use std::path::Path;

use crate::file::{Files, Place};
use crate::problem::Problem;

/// The file with a project's settings.
pub const PROJECT_FILE: &str = "tidemark.yaml";

/// Top folders that hold no definitions.
const OTHERS: [&str; 2] = ["data", "tests"];

/// Every definition file in order of names, `tidemark.yaml` first, and what could not be read.
pub(crate) fn read(dir: &Path) -> (Files, Vec<Problem>) {
    let mut found = Found::default();
    found.walk(dir, Path::new(""));
    found.names.sort_by_key(|name| (name != PROJECT_FILE, name.clone()));
    let mut files = Files::under(dir);
    let mut problems = Vec::new();
    for (name, error) in found.unreadable {
        problems.push(unreadable(&mut files, name, &error));
    }
    for name in found.names {
        match fs::read(dir.join(&name)) {
            Ok(bytes) => add(&mut files, name, bytes, &mut problems),
            Err(error) => problems.push(unreadable(&mut files, name, &error)),
        }
    }
    (files, problems)
}

fn add(files: &mut Files, name: String, bytes: Vec<u8>, problems: &mut Vec<Problem>) {
    let error = match String::from_utf8(bytes) {
        Ok(text) => {
            files.add(name, &text);
            return;
        }
        Err(error) => error,
    };
    // The text before the first bad byte is read again, as it stands in the file's normal form.
    let good = String::from_utf8_lossy(&error.as_bytes()[..error.utf8_error().valid_up_to()]).into_owned();
    let file = files.add(name, &(good + "\u{fffd}"));
    let end = files.file(Place { file, start: 0, end: 0 }).text.len();
    let place = Place { file, start: end - '\u{fffd}'.len_utf8(), end };
    problems.push(
        Problem::error(place, "the file is not UTF-8")
            .label("the first byte that is none")
            .help("save it as UTF-8".to_owned()),
    );
}

fn unreadable(files: &mut Files, name: String, error: &io::Error) -> Problem {
    let file = files.add(name, "");
    Problem::error(Place { file, start: 0, end: 0 }, "cannot be read").label(error.to_string())
}

/// The YAML files below a folder, and what could not be listed.
#[derive(Default)]
struct Found {
    names: Vec<String>,
    unreadable: Vec<(String, io::Error)>,
}

impl Found {
    fn walk(&mut self, dir: &Path, below: &Path) {
        let entries = fs::read_dir(dir.join(below)).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        match entries {
            Ok(entries) => entries.iter().for_each(|entry| self.visit(dir, below, entry)),
            Err(error) => self.unreadable.push((slashed(below), error)),
        }
    }

    fn visit(&mut self, dir: &Path, below: &Path, entry: &fs::DirEntry) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = below.join(&name);
        // Links to folders are not followed: they may lead back here.
        let folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let other = below == Path::new("") && OTHERS.contains(&name.as_str());
        match () {
            () if name.starts_with('.') || folder && other => {}
            () if folder => self.walk(dir, &path),
            () if is_yaml(&path) && !dir.join(&path).is_dir() => self.names.push(slashed(&path)),
            () => {}
        }
    }
}

fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn slashed(path: &Path) -> String {
    let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.join("/")
}
