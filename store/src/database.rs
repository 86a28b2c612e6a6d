//! Creates a database file such that it is complete once it exists, also where the process is killed.

use std::io;
use std::path::Path;

use redb::{Database, DatabaseError, StorageError};
use tempfile::Builder;
use tidemark_host::durable;

/// Creates a redb file at `path` unless there is one.
///
/// redb writes the number that marks its files last, so a process killed while it creates one leaves a file that
/// nothing can open. It is therefore created under another name, and given its own only when it is complete; what a
/// killed process leaves is `*.new`, which is never read. Of several processes that create at once the first wins.
///
/// # Errors
/// Fails where the file cannot be created.
pub fn ensure_database(path: &Path) -> Result<(), DatabaseError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !path.try_exists().map_err(failed)? {
        create(path, folder)?;
    }
    // The name is as durable as the content only once the folder is, and the process that created it may not have come so far.
    durable::sync_name(path).map_err(|error| failed(error.source))
}

fn create(path: &Path, folder: &Path) -> Result<(), DatabaseError> {
    let name = path.file_name().unwrap_or_default();
    let unborn = Builder::new().prefix(name).suffix(".new").tempfile_in(folder).map_err(failed)?;
    drop(Database::create(unborn.path())?);
    match unborn.persist_noclobber(path) {
        Err(error) if !path.exists() => Err(failed(error.error)),
        _ => Ok(()),
    }
}

fn failed(error: io::Error) -> DatabaseError {
    DatabaseError::Storage(StorageError::Io(error))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    #[test]
    fn a_file_that_exists_is_whole_however_many_create_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.redb");
        let creators: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                thread::spawn(move || ensure_database(&path).map_err(|error| error.to_string()))
            })
            .collect();
        for creator in creators {
            assert_eq!(creator.join().expect("no panic"), Ok(()));
        }
        let names: Vec<_> = fs::read_dir(folder.path()).expect("listed").flatten().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        Database::open(&path).expect("a database");
    }

    #[test]
    fn what_is_there_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("x.redb");
        fs::write(&path, "something else").expect("written");
        assert!(ensure_database(&path).is_ok());
        assert_eq!(fs::read(&path).expect("read"), b"something else");
        assert!(ensure_database(&folder.path().join("missing/x.redb")).is_err());
    }
}
