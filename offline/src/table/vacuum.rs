//! Removing what crashes leave behind.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{EventTable, TableError};
use crate::durable::FileError;
use tidemark_kernel::Time;

impl EventTable {
    /// Removes data files that the table does not name and that were last written before `older_than`; gives
    /// their paths.
    ///
    /// A file younger than that may belong to a commit under way: stay hours in the past. So may a reader still
    /// use files that a compaction has replaced.
    ///
    /// # Errors
    /// Fails where the table cannot be read or a file cannot be removed; those removed before stay removed.
    pub async fn vacuum(&mut self, older_than: Time) -> Result<Vec<PathBuf>, TableError> {
        self.reload().await?;
        let named: BTreeSet<PathBuf> = self.files()?.into_iter().map(|file| file.path).collect();
        let mut removed = Vec::new();
        for entry in std::fs::read_dir(&self.folder).map_err(FileError::of("read", &self.folder))? {
            let path = entry.map_err(FileError::of("read", &self.folder))?.path();
            if !named.contains(&path) && is_data(&path) && last_written(&path)? < older_than {
                std::fs::remove_file(&path).map_err(FileError::of("remove", &path))?;
                removed.push(path);
            }
        }
        removed.sort();
        Ok(removed)
    }
}

/// Whether a path looks like one of our data files, finished or not.
fn is_data(path: &std::path::Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.is_file() && (name.ends_with(".parquet") || (name.starts_with('.') && name.ends_with(".tmp")))
}

fn last_written(path: &std::path::Path) -> Result<Time, TableError> {
    let modified =
        path.metadata().and_then(|metadata| metadata.modified()).map_err(FileError::of("read", path))?;
    let since = modified.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Ok(Time::from_millis(since.as_millis() as i64))
}
