//! Files that are there whole or not at all: written beside, synced, then renamed; and what the system says where that fails.
//!
//! A rename alone is not enough: after a power cut a file may have its name without its content, or the content without the
//! name. So the file is synced before it gets its name, and the folder after. Every crate that writes a file to be found later does it
//! here. Which errors mean a full disk is one list, that of [`ErrorKind`].

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fs::{self, File};
use std::io;
use std::iter::successors;
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};
use thiserror::Error;
use tidemark_kernel::{ErrorKind, Explain};

/// A file or folder could not be written or read.
#[derive(Debug, Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// What the system said, where it is the cause of an error.
#[must_use]
pub fn of_system<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e io::Error> {
    successors(Some(error), |&error| error.source()).find_map(|error| error.downcast_ref())
}

/// The kind of what the system said, where it is the cause of an error.
#[must_use]
pub fn kind_of_cause(error: &(dyn StdError + 'static)) -> Option<ErrorKind> {
    of_system(error).map(|error| error.kind().into())
}

/// Whether trying again later may help without anybody changing what is tried: on a full disk or a failing one, but
/// not on a path that is wrong or forbidden, and not at a limit on the size of files.
#[must_use]
pub fn may_pass(error: &io::Error) -> bool {
    match error.kind() {
        io::ErrorKind::FileTooLarge => false,
        kind => matches!(ErrorKind::from(kind), ErrorKind::OutOfSpace | ErrorKind::Unavailable),
    }
}

impl FileError {
    /// Whether there is no room left to write, or a file may not grow further.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.kind() == ErrorKind::OutOfSpace
    }

    /// Whether trying again later may help without anybody changing what is tried.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        may_pass(&self.source)
    }

    /// The error of doing `action` with `path`, from what the system says: `map_err(FileError::of("read", path))`.
    pub fn of<'p>(action: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> Self + 'p {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

impl Explain for FileError {
    fn kind(&self) -> ErrorKind {
        self.source.kind().into()
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self.source.kind() {
            io::ErrorKind::FileTooLarge => {
                "raise the limit of file sizes (`ulimit -f`), or use a file system that takes larger files"
            }
            kind if ErrorKind::from(kind) == ErrorKind::OutOfSpace => {
                "free some space, nothing was written in part"
            }
            io::ErrorKind::IsADirectory => "it is a folder: name a file",
            io::ErrorKind::PermissionDenied => "check the permissions of the folder and its owner",
            io::ErrorKind::ReadOnlyFilesystem => "remount the file system for writing, or use another folder",
            _ => return None,
        };
        Some(help.into())
    }
}

/// Creates a folder and its parents, each durable under its name.
///
/// # Errors
/// Names the folder that cannot be created.
pub fn create_folder(folder: &Path) -> Result<(), FileError> {
    let named = folder.ancestors().filter(|folder| !folder.as_os_str().is_empty());
    let missing: Vec<&Path> = named.take_while(|folder| !folder.exists()).collect();
    fs::create_dir_all(folder).map_err(FileError::of("create", folder))?;
    missing.into_iter().try_for_each(sync_name)
}

/// A file being written under a temporary name beside its own. Dropped before [`finish`](Self::finish), it leaves
/// nothing behind.
#[derive(Debug)]
pub struct Beside {
    file: NamedTempFile,
    path: PathBuf,
}

impl Beside {
    /// Starts the file.
    ///
    /// # Errors
    /// Fails where its folder does not exist or cannot be written.
    pub fn create(path: &Path) -> Result<Self, FileError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let file = Builder::new()
            .prefix(&format!(".{name}."))
            .suffix(".tmp")
            // Only its owner could read what `tempfile` itself creates.
            .make_in(folder_of(path), |temporary| File::create_new(temporary))
            .map_err(FileError::of("write", path))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// The file to write to.
    pub fn file(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// Makes the file durable and gives it its name, replacing what had it before.
    ///
    /// # Errors
    /// Names the path; the temporary file is removed.
    pub fn finish(self) -> Result<(), FileError> {
        let Self { file, path } = self;
        file.as_file().sync_all().map_err(FileError::of("write", &path))?;
        file.persist(&path).map_err(|failed| FileError::of("write", &path)(failed.error))?;
        sync_name(&path)
    }
}

/// Makes a file durable that another program or a library wrote, and its name in its folder.
///
/// # Errors
/// Names the path.
pub fn sync(path: &Path) -> Result<(), FileError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(FileError::of("sync", path))?;
    sync_name(path)
}

/// Gives a durable file another name in its folder, durably.
///
/// # Errors
/// Names the path that the file has before.
pub fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(FileError::of("rename", from))?;
    sync_name(to)
}

/// Makes the name of `path` durable in its folder.
///
/// # Errors
/// Names the folder.
pub fn sync_name(path: &Path) -> Result<(), FileError> {
    let folder = folder_of(path);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(FileError::of("sync", folder))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let mut beside = Beside::create(&path).unwrap();
        beside.file().write_all(b"half").unwrap();
        drop(beside);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let mut beside = Beside::create(&path).unwrap();
        beside.file().write_all(b"whole").unwrap();
        beside.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_finished_file_is_as_readable_as_any() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        Beside::create(&path("out.csv")).unwrap().finish().unwrap();
        fs::write(path("other.csv"), "").unwrap();
        let permissions = |name| fs::metadata(path(name)).unwrap().permissions();
        assert_eq!(permissions("out.csv"), permissions("other.csv"));
    }

    #[test]
    fn errors_name_the_path() {
        let error = Beside::create(Path::new("/nowhere/at/all/out.csv")).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /nowhere/at/all/out.csv: "), "{error}");
    }

    #[test]
    fn what_the_system_says_tells_what_to_do() {
        let failed = |kind: io::ErrorKind| FileError::of("write", Path::new("a"))(kind.into());
        for full in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            let error = failed(full);
            assert!(error.is_full() && error.may_pass(), "{error}");
            assert_eq!(error.explained(), format!("{error}; free some space, nothing was written in part"));
        }
        let limited = failed(io::ErrorKind::FileTooLarge);
        assert_eq!((limited.kind(), limited.may_pass()), (ErrorKind::OutOfSpace, false));
        assert_eq!(
            limited.help().as_deref(),
            Some("raise the limit of file sizes (`ulimit -f`), or use a file system that takes larger files")
        );
        let fixed = failed(io::ErrorKind::ReadOnlyFilesystem);
        assert_eq!((fixed.kind(), fixed.may_pass()), (ErrorKind::Environment, false));
        assert_eq!(
            fixed.help().as_deref(),
            Some("remount the file system for writing, or use another folder")
        );
        let denied = failed(io::ErrorKind::PermissionDenied);
        assert_eq!((denied.kind(), denied.may_pass()), (ErrorKind::Environment, false));
        assert_eq!(denied.help().as_deref(), Some("check the permissions of the folder and its owner"));
        assert_eq!(failed(io::ErrorKind::NotFound).help(), None);
    }
}
