//! Removing what crashes and compactions leave behind.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::log::Outcome;
use super::{EventTable, TableError};
use crate::durable::FileError;
use tidemark_kernel::Time;

impl EventTable {
    /// Removes data files that the table does not name and that were last written, or replaced by a merged one,
    /// before `older_than`; gives their paths.
    ///
    /// A reader may still use files that were replaced after that: stay hours in the past. A commit under way is
    /// safe however long its process was stopped: it loses the race against a commit made here, and takes note of
    /// what became of its file.
    ///
    /// # Errors
    /// Fails where the table cannot be read or written or a file cannot be removed; those removed before stay removed.
    pub async fn vacuum(&mut self, older_than: Time) -> Result<Vec<PathBuf>, TableError> {
        let unnamed = loop {
            self.reload().await?;
            let unnamed = self.unnamed(older_than)?;
            if unnamed.is_empty() {
                return Ok(unnamed);
            }
            if let Outcome::Committed(_) = self.log.fence(&self.folder).await? {
                break unnamed;
            }
        };
        for path in &unnamed {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(FileError::of("remove", path))?,
            }
        }
        Ok(unnamed)
    }

    /// The data files that the table does not name and that were last written before a time.
    fn unnamed(&self, older_than: Time) -> Result<Vec<PathBuf>, TableError> {
        let named: BTreeSet<PathBuf> = self.files()?.into_iter().map(|file| file.path).collect();
        let mut unnamed = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(FileError::of("read", &self.folder))? {
            let path = entry.map_err(FileError::of("read", &self.folder))?.path();
            if !named.contains(&path)
                && is_data(&path)
                && last_written(&path)?.is_some_and(|at| at < older_than)
            {
                unnamed.push(path);
            }
        }
        unnamed.sort();
        Ok(unnamed)
    }
}

/// Whether a path looks like one of our data files, finished or not.
fn is_data(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.is_file() && (name.ends_with(".parquet") || (name.starts_with('.') && name.ends_with(".tmp")))
}

/// When a file was last written; none where it is gone.
fn last_written(path: &Path) -> Result<Option<Time>, TableError> {
    match path.metadata().and_then(|metadata| metadata.modified()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        modified => {
            let since = modified.map_err(FileError::of("read", path))?.duration_since(UNIX_EPOCH);
            Ok(Some(Time::from_millis(since.unwrap_or_default().as_millis() as i64)))
        }
    }
}
