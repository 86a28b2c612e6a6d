//! Which files the labels are in, and how each is opened.
//!
//! A path is a file, a folder with label files at any depth, or a pattern of either. Below a folder, names that begin
//! with `.` or `_` are left out, as the writers of such folders mean them to be, and so is what has no label file's
//! extension. Files are read in order of their paths.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufRead};
use std::path::{Component, Path, PathBuf};

use percent_encoding::percent_decode_str;

use crate::durable::FileError;
use crate::input::{Format, Packing};
use crate::training::error::TrainError;

/// What Hive and Spark name the folder of rows whose partition column is null.
const NULL_PARTITION: &str = "__HIVE_DEFAULT_PARTITION__";

/// One file of labels.
#[derive(Clone, Debug)]
pub(super) struct LabelFile {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    packing: Packing,
    /// The columns that folders of its path name, as in `day=2026-01-01/part.parquet`.
    pub(super) partitions: Vec<(String, Option<String>)>,
}

impl LabelFile {
    /// What a path says of the file.
    ///
    /// # Errors
    /// Fails where its extension names no format of labels.
    pub(super) fn of(path: PathBuf) -> Result<Self, TrainError> {
        let Some((format, packing)) = Format::of(&path) else { return Err(TrainError::LabelFormat(path)) };
        let partitions = partitions(&path);
        Ok(Self { path, format, packing, partitions })
    }

    /// Its bytes, decompressed.
    pub(super) fn open(&self) -> Result<Box<dyn BufRead + Send>, TrainError> {
        let file = File::open(&self.path).map_err(FileError::of("read", &self.path))?;
        self.packing.open(file).map_err(|error| self.unreadable(&error))
    }

    /// The error of a file that breaks off or is not what its name says.
    pub(super) fn unreadable(&self, reason: &impl ToString) -> TrainError {
        TrainError::Unreadable { path: self.path.clone(), reason: reason.to_string() }
    }
}

/// The files that a path of labels names, in order. A path that is neither a folder nor a pattern is its own file,
/// whether it exists or not.
///
/// # Errors
/// Fails where a folder cannot be listed, or nothing in it or of the pattern is a label file.
pub fn label_files(path: &Path) -> Result<Vec<PathBuf>, TrainError> {
    let mut found = Vec::new();
    match path.to_str().filter(|text| text.contains(['*', '?', '['])) {
        _ if path.is_dir() => walk(path, &mut found)?,
        // A name may look like a pattern.
        Some(pattern) if !path.exists() => matching(pattern, &mut found)?,
        _ => return Ok(vec![path.to_owned()]),
    }
    found.sort();
    if found.is_empty() { Err(TrainError::NoLabelFile(path.to_owned())) } else { Ok(found) }
}

fn matching(pattern: &str, found: &mut Vec<PathBuf>) -> Result<(), TrainError> {
    let unreadable = |error: glob::PatternError| TrainError::Pattern {
        pattern: pattern.to_owned(),
        reason: error.msg.to_owned(),
    };
    for path in glob::glob(pattern).map_err(unreadable)? {
        let path = path.map_err(|error| {
            let path = error.path().to_owned();
            FileError::of("look into", &path)(error.into())
        })?;
        if path.is_dir() { walk(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), TrainError> {
    let listed = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>());
    for entry in listed.map_err(FileError::of("look into", folder))? {
        let path = entry.path();
        if is_hidden(&entry.file_name()) {
            continue;
        }
        if path.is_dir() {
            walk(&path, found)?;
        } else if Format::of(&path).is_some() {
            found.push(path);
        }
    }
    Ok(())
}

fn is_hidden(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(['.', '_'])
}

fn partitions(path: &Path) -> Vec<(String, Option<String>)> {
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
