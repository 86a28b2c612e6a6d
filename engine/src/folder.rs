//! The folder of a feature repo.

use std::path::{Path, PathBuf};

use tidemark_offline::durable::FileError;
use tidemark_registry::applied::load_applied;
use tidemark_registry::{Applied, AppliedError, PROJECT_FILE};

use crate::Result;
use crate::error::EngineError;

/// Below a repo's folder: everything that Tidemark writes.
const DATA: &str = "data";

/// The folder of a feature repo: one that holds a [`PROJECT_FILE`].
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// The repo in this folder.
    ///
    /// # Errors
    /// Fails where it is none.
    pub fn at(path: &Path) -> Result<Self> {
        // A variable that is not set must not mean the current folder.
        if path.as_os_str().is_empty() {
            return Err(EngineError::NoRepo { place: "an empty path".to_owned() });
        }
        if path.join(PROJECT_FILE).is_file() {
            Ok(Self(path.to_owned()))
        } else {
            Err(EngineError::NoRepo { place: path.display().to_string() })
        }
    }

    /// The repo in the current folder, or the nearest one above it.
    ///
    /// # Errors
    /// Fails where there is none.
    pub fn find() -> Result<Self> {
        let mut folder = PathBuf::from(".");
        let absolute = std::path::absolute(&folder).map_err(FileError::of("find", &folder))?;
        for _ in absolute.ancestors() {
            if folder.join(PROJECT_FILE).is_file() {
                return Ok(Self(folder));
            }
            folder = if folder == Path::new(".") { "..".into() } else { folder.join("..") };
        }
        Err(EngineError::NoRepo { place: format!("{} or above it", absolute.display()) })
    }

    /// The folder itself, relative where it was found or given so.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path below it, as people would write it: without a leading `./`.
    pub fn join(&self, path: impl AsRef<Path>) -> PathBuf {
        self.0.strip_prefix(".").unwrap_or(&self.0).join(path)
    }

    /// Where applied versions are recorded.
    #[must_use]
    pub fn applied(&self) -> PathBuf {
        self.join(DATA).join("applied")
    }

    /// Where a process that runs the repo takes commands: a Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.join(DATA).join("dev.sock")
    }

    /// What a process keeps of files and pushes.
    pub(crate) fn journal(&self) -> PathBuf {
        self.join(DATA).join("ingest.redb")
    }

    /// The version that runs, if one was ever applied.
    ///
    /// # Errors
    /// Fails where it cannot be read, or is not valid for this version of Tidemark.
    pub fn running(&self) -> Result<Option<Applied>, AppliedError> {
        load_applied(&self.applied())
    }
}
