//! Which files the labels are in, and how each is opened.
//!
//! A path is a file, a folder or a pattern, as [`data_files`] takes them. Files are read in order of their paths.

use std::fs::File;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use crate::durable::FileError;
use crate::input::{FolderColumn, Format, Packing, PathsError, data_files, folder_columns};
use crate::training::error::TrainError;

/// One file of labels.
#[derive(Clone, Debug)]
pub(super) struct LabelFile {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    packing: Packing,
    /// The columns that folders of its path name, as in `day=2026-01-01/part.parquet`.
    pub(super) partitions: Vec<FolderColumn>,
}

impl LabelFile {
    /// What a path says of the file.
    ///
    /// # Errors
    /// Fails where its extension names no format of labels.
    pub(super) fn of(path: PathBuf) -> Result<Self, TrainError> {
        let Some((format, packing)) = Format::of(&path) else { return Err(TrainError::LabelFormat(path)) };
        let partitions = folder_columns(&path);
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
    let is_pattern = path.to_str().is_some_and(|text| text.contains(['*', '?', '[']));
    if !path.is_dir() && (!is_pattern || path.exists()) {
        return Ok(vec![path.to_owned()]);
    }
    let found = data_files(path).map_err(|error| match error {
        PathsError::Pattern(reason) => TrainError::Pattern { pattern: path.display().to_string(), reason },
        PathsError::File(error) => error.into(),
    })?;
    if found.is_empty() {
        Err(TrainError::NoLabelFile(path.to_owned()))
    } else {
        Ok(found.into_iter().collect())
    }
}
