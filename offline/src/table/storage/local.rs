//! Tables on the local disk, or on a file system that behaves like it.
//!
//! Put-if-absent is a hard link: Delta writes the entry of a commit under a temporary name and links it to its own, which
//! fails where the name is taken. The entry is made durable after that, and a commit counts only once it is.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use async_trait::async_trait;
use deltalake_core::{DeltaTable, DeltaTableBuilder};
use parquet::arrow::async_reader::AsyncFileReader;
use url::Url;

use super::{LOG_FOLDER, NewFile, Storage, Written};
use crate::durable::{self, Beside, FileError};
use crate::table::TableError;

/// A table in a folder.
#[derive(Clone, Debug)]
pub(crate) struct LocalDisk {
    folder: PathBuf,
}

impl LocalDisk {
    /// The table in a folder, which need not exist yet.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn log_folder(&self) -> PathBuf {
        self.folder.join(LOG_FOLDER)
    }

    fn commit(&self, version: u64) -> PathBuf {
        self.log_folder().join(format!("{version:020}.json"))
    }
}

#[async_trait]
impl Storage for LocalDisk {
    fn place(&self) -> &Path {
        &self.folder
    }

    fn delta(&self) -> Result<DeltaTable, TableError> {
        let folder = &self.folder;
        let absolute = std::path::absolute(folder).map_err(FileError::of("find", folder))?;
        let url = Url::from_directory_path(absolute).map_err(|()| TableError::Missing(folder.clone()))?;
        DeltaTableBuilder::from_url(url).and_then(DeltaTableBuilder::build).map_err(TableError::log(folder))
    }

    async fn has_log(&self) -> Result<bool, FileError> {
        Ok(self.log_folder().is_dir())
    }

    async fn prepare(&self) -> Result<(), FileError> {
        durable::create_folder(&self.log_folder())
    }

    async fn commits(&self) -> Result<BTreeSet<u64>, FileError> {
        let version = |name: &String| name.strip_suffix(".json").and_then(|version| version.parse().ok());
        Ok(names(&self.log_folder())?.iter().filter_map(version).collect())
    }

    async fn sync_commit(&self, version: u64) -> Result<(), FileError> {
        durable::sync(&self.commit(version))
    }

    async fn sync_checkpoint(&self, version: u64) -> Result<(), FileError> {
        durable::sync(&self.log_folder().join(format!("{version:020}.checkpoint.parquet")))?;
        durable::sync(&self.log_folder().join("_last_checkpoint"))
    }

    fn create(&self, name: &str) -> Result<Box<dyn NewFile>, FileError> {
        let path = self.folder.join(name);
        Ok(Box::new(NewLocalFile { beside: Beside::create(&path)?, path }))
    }

    async fn read(&self, name: &str) -> Result<Box<dyn AsyncFileReader>, FileError> {
        let path = self.folder.join(name);
        let file = tokio::fs::File::open(&path).await.map_err(FileError::of("read", &path))?;
        Ok(Box::new(file))
    }

    async fn rename(&self, from: &str, to: &str) -> Result<bool, FileError> {
        match durable::rename(&self.folder.join(from), &self.folder.join(to)) {
            Err(error) if error.source.kind() == ErrorKind::NotFound => Ok(false),
            renamed => renamed.map(|()| true),
        }
    }

    async fn remove(&self, name: &str) -> Result<(), FileError> {
        let path = self.folder.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(FileError::of("remove", &path)),
        }
    }

    async fn list(&self) -> Result<Vec<String>, FileError> {
        let mut names = names(&self.folder)?;
        names.retain(|name| is_data(name));
        Ok(names)
    }
}

/// The names of the files in a folder that are text, as all of ours are.
fn names(folder: &Path) -> Result<Vec<String>, FileError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(FileError::of("read", folder))? {
        let entry = entry.map_err(FileError::of("read", folder))?;
        // An entry whose type cannot be told was removed since.
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            names.extend(entry.file_name().into_string());
        }
    }
    Ok(names)
}

/// Whether a name is that of a data file, or of an unfinished one.
fn is_data(name: &str) -> bool {
    name.ends_with(".parquet") || (name.starts_with('.') && name.ends_with(".tmp"))
}

struct NewLocalFile {
    beside: Beside,
    path: PathBuf,
}

impl Write for NewLocalFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.beside.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.beside.file().flush()
    }
}

impl NewFile for NewLocalFile {
    fn finish(self: Box<Self>) -> Result<Written, FileError> {
        let Self { beside, path } = *self;
        beside.finish()?;
        let metadata = path.metadata().map_err(FileError::of("read", &path))?;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ms = modified.map_or(0, |since| since.as_millis() as i64);
        Ok(Written { bytes: metadata.len(), modified_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn data_files_are_there_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LocalDisk::new(folder.path().to_owned());
        assert!(!disk.has_log().await.unwrap());
        disk.prepare().await.unwrap();
        assert!(disk.has_log().await.unwrap());
        let mut half = disk.create("a.parquet").unwrap();
        half.write_all(b"half").unwrap();
        assert_eq!(disk.list().await.unwrap().len(), 1, "the unfinished file is listed");
        drop(half);
        assert_eq!(disk.list().await.unwrap(), Vec::<String>::new());

        let mut whole = disk.create("a.parquet").unwrap();
        whole.write_all(b"whole").unwrap();
        assert_eq!(whole.finish().unwrap().bytes, 5);
        assert!(disk.rename("a.parquet", "b.parquet").await.unwrap());
        assert!(!disk.rename("a.parquet", "c.parquet").await.unwrap(), "it is gone");
        assert_eq!(disk.list().await.unwrap(), ["b.parquet"]);
        disk.remove("b.parquet").await.unwrap();
        disk.remove("b.parquet").await.unwrap();
        let gone = disk.read("b.parquet").await.err().expect("it is gone");
        assert!(gone.to_string().contains("b.parquet"), "{gone}");
    }

    #[tokio::test]
    async fn only_commits_are_listed_as_commits() {
        let folder = tempfile::tempdir().unwrap();
        let disk = LocalDisk::new(folder.path().to_owned());
        disk.prepare().await.unwrap();
        for name in ["00000000000000000007.json", "00000000000000000012.json", "_last_checkpoint", "x.json"] {
            fs::write(disk.log_folder().join(name), "").unwrap();
        }
        fs::write(disk.log_folder().join("00000000000000000005.checkpoint.parquet"), "").unwrap();
        assert_eq!(disk.commits().await.unwrap(), BTreeSet::from([7, 12]));
    }
}
