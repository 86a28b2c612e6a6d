//! Which files a path selects, and what its folders say of their rows.
//!
//! Data sets lie in folders: of several files, with markers and partitions of their writers beside them, and often parted by a column
//! whose values are names of folders (`day=2026-11-20/`). The rules are the same for events and labels.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;
use thiserror::Error;
use tidemark_kernel::{ErrorKind, Explain};

use super::Format;
use crate::durable::FileError;

/// What Hive and Spark name the folder of rows whose partition column is null.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// A column that a folder names, as text; none where its value is null.
pub type FolderColumn = (String, Option<String>);

/// Why a path selects no files.
#[derive(Debug, Error)]
pub enum PathsError {
    /// It cannot be read as a pattern.
    #[error("{0}")]
    Pattern(String),
    /// A folder cannot be listed.
    #[error(transparent)]
    File(#[from] FileError),
}

impl Explain for PathsError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Pattern(_) => ErrorKind::Invalid,
            Self::File(error) => error.kind(),
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Pattern(_) => Some("`*` matches any name, `**` any folders, `[*]` a literal `*`".into()),
            Self::File(error) => error.help(),
        }
    }
}

/// The files that a path selects, in order; empty where there are none. A path is a file, a folder, which selects the
/// data files in it at any depth, or a pattern of either. Names that begin with `.` or `_` are left out, as the writers of
/// folders mean them to be, unless the path spells that out.
///
/// # Errors
/// Fails where a pattern cannot be read, or a folder cannot be listed.
pub fn data_files(path: &Path) -> Result<BTreeSet<PathBuf>, PathsError> {
    let mut found = BTreeSet::new();
    // A name may look like a pattern, and like one that cannot be read.
    if path.is_file() {
        found.insert(path.to_owned());
    } else if path.is_dir() {
        walk(path, &mut found)?;
    } else if let Some(pattern) = path.to_str() {
        matching(pattern, &mut found)?;
    }
    Ok(found)
}

fn matching(pattern: &str, found: &mut BTreeSet<PathBuf>) -> Result<(), PathsError> {
    let paths = glob::glob(pattern).map_err(|error| PathsError::Pattern(error.msg.to_owned()))?;
    for path in paths {
        let path = path.map_err(|error| {
            let path = error.path().to_owned();
            FileError::of("look into", &path)(error.into())
        })?;
        if is_left_out(&path, pattern) {
            continue;
        }
        if path.is_dir() {
            walk(&path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

fn walk(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<(), FileError> {
    let listed = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    for entry in listed.map_err(FileError::of("look into", folder))? {
        let path = entry.path();
        if is_hidden(&entry.file_name().to_string_lossy()) {
            continue;
        }
        if path.is_dir() {
            walk(&path, found)?;
        } else if Format::of(&path).is_some() {
            found.insert(path);
        }
    }
    Ok(())
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '_'])
}

/// Whether a path has a hidden name that its pattern does not spell out.
fn is_left_out(path: &Path, pattern: &str) -> bool {
    let spelled = |name: &str| {
        let mut parts = pattern.split('/');
        parts.any(|part| is_hidden(part) && glob::Pattern::new(part).is_ok_and(|part| part.matches(name)))
    };
    path.components().any(|part| match part {
        Component::Normal(name) => {
            let name = name.to_string_lossy();
            is_hidden(&name) && !spelled(&name)
        }
        _ => false,
    })
}

/// The columns that the folders of a file's path name, outermost first: `country=DE/day=2026-01-01/part.parquet`.
#[must_use]
pub fn folder_columns(path: &Path) -> Vec<FolderColumn> {
    let folders = path.parent().unwrap_or(Path::new("")).components();
    let named = folders.filter_map(|folder| {
        let Component::Normal(folder) = folder else { return None };
        let folder = folder.to_string_lossy();
        let (name, value) = folder.split_once('=').filter(|(name, _)| !name.is_empty())?;
        let decoded = |text| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let value = Some(value).filter(|value| !value.is_empty() && *value != NULL_PARTITION);
        Some((decoded(name), value.map(decoded)))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for name in names {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            fs::write(path, "").expect("written");
        }
        folder
    }

    fn found(folder: &tempfile::TempDir, path: &str) -> Vec<String> {
        let files = data_files(&folder.path().join(path)).expect("readable");
        let name = |file: &PathBuf| file.strip_prefix(folder.path()).expect("inside").display().to_string();
        files.iter().map(name).collect()
    }

    #[test]
    fn folders_and_patterns_select_the_data_files_in_them() {
        let folder = folder(&[
            "lake/b=2/x.csv",
            "lake/a=1/x.csv.gz",
            "lake/a=1/_SUCCESS",
            "lake/a=1/.x.csv.gz.crc",
            "lake/_delta_log/0.json",
            "lake/readme.md",
            "lake/a[1].csv",
        ]);
        let all = ["lake/a=1/x.csv.gz", "lake/a[1].csv", "lake/b=2/x.csv"];
        assert_eq!(found(&folder, "lake"), all);
        assert_eq!(found(&folder, "l*"), all);
        assert_eq!(found(&folder, "lake/**/*.csv*"), all, "each once");
        assert_eq!(found(&folder, "lake/*=*"), ["lake/a=1/x.csv.gz", "lake/b=2/x.csv"]);
        assert_eq!(found(&folder, "lake/a[1].csv"), ["lake/a[1].csv"], "a name that looks like a pattern");
        assert_eq!(found(&folder, "lake/_delta_log/*.json"), ["lake/_delta_log/0.json"], "it is spelled out");
        assert_eq!(found(&folder, "lake/_delta_log"), ["lake/_delta_log/0.json"]);
        assert_eq!(
            found(&folder, "lake/*.md"),
            ["lake/readme.md"],
            "it is named: its format is told to be unknown"
        );
        assert!(found(&folder, "lake/*.pq").is_empty() && found(&folder, "gone.csv").is_empty());
        let error = data_files(Path::new("lake/a[.csv")).expect_err("no pattern");
        assert!(matches!(error, PathsError::Pattern(_)), "{error}");
    }

    #[test]
    fn folders_name_columns() {
        let columns = |path: &str| folder_columns(Path::new(path));
        let text = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        assert_eq!(
            columns("/lake/country=DE/at=2026-01-01%2008%3A00/x=1.csv"),
            [text("country", Some("DE")), text("at", Some("2026-01-01 08:00"))]
        );
        assert_eq!(columns("a=__HIVE_DEFAULT_PARTITION__/b=/=c/d/x.csv"), [text("a", None), text("b", None)]);
        assert!(columns("x.csv").is_empty());
    }
}
