//! The journal, `ingest.redb`: the content of the file partition and the push partition, which no Kafka keeps for us.
//!
//! It holds, for each source, the list of files and retractions that make up the [file partition](files), the records of the
//! [push partition](push) with the keys of their requests, rejected records that are [taken again](retries), the files of its feed that were [refused], and
//! the version of the source that they are [read](sources) under. One process at a time has it open.

use std::borrow::Cow;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use thiserror::Error;
use tidemark_kernel::codec::DecodeError;
use tidemark_kernel::error::{ErrorKind, Explain, USE_NEWER};
use tidemark_store::ensure_database;

pub mod files;
pub mod push;
pub mod refused;
pub mod retries;
pub mod sources;

/// The newest version of the layout of `ingest.redb` that is read. A journal is given a version as soon as it holds
/// something that older versions would misread: 2 knows retractions, and files of which only the end is an entry.
pub const FORMAT: u64 = 2;

/// The version of a new journal.
const FIRST_FORMAT: u64 = 1;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";

/// How much of the journal is kept in memory: the push partition is read soon after it is written.
const CACHE_BYTES: usize = 32 << 20;

/// The journal, open. Clones share it.
///
/// After a failed write redb refuses all others until the database is reopened. Where the disk was full, the next call
/// reopens it, so that pushes and files work again once there is room. After any other failure the process has to be
/// started again: what the disk holds then is to be read from the disk.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    path: PathBuf,
    open: Box<dyn Fn() -> Result<Database, redb::DatabaseError> + Send + Sync>,
    /// None after a write that the full disk refused.
    db: RwLock<Option<Database>>,
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal").field("path", &self.0.path).finish_non_exhaustive()
    }
}

/// Why the journal cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum JournalError {
    /// Another process has it open.
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// A newer version of Tidemark wrote it.
    #[error("{} has format {found}, this version reads up to {FORMAT}", path.display())]
    Newer {
        /// The path of the journal.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// A newer version of Tidemark wrote an entry of it.
    #[error("{} holds {what} in layout {found}, this version reads up to {supported}", path.display())]
    NewerEntry {
        /// The path of the journal.
        path: PathBuf,
        /// Which entry.
        what: String,
        /// The entry's layout.
        found: u8,
        /// The newest layout of such entries that is read.
        supported: u8,
    },
    /// There is no room left.
    #[error("no space left for {}", .0.display())]
    Full(PathBuf),
    /// What it holds is not what was written.
    #[error("{} is damaged ({what})", path.display())]
    Damaged {
        /// The path of the journal.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The journal could not be read or written.
    #[error("cannot {action} {}: {reason}", path.display())]
    Io {
        /// The path of the journal.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        reason: String,
        /// What the system says of it; `Other` where the failure is not the system's.
        kind: io::ErrorKind,
    },
}

impl Explain for JournalError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse(_) | Self::Newer { .. } | Self::NewerEntry { .. } => ErrorKind::Environment,
            Self::Full(_) => ErrorKind::OutOfSpace,
            Self::Damaged { .. } => ErrorKind::Damaged,
            Self::Io { kind, .. } => match (*kind).into() {
                // redb refuses every call after one that failed: it does not come back by itself.
                ErrorKind::Unavailable => ErrorKind::Internal,
                kind => kind,
            },
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::InUse(_) => "stop that process, or push the events to it",
            Self::Newer { .. } | Self::NewerEntry { .. } => USE_NEWER,
            Self::Full(_) => "free some disk space; nothing was written in part",
            Self::Damaged { .. } => "restore it together with the event tables",
            Self::Io { .. } => return None,
        };
        Some(help.into())
    }
}

impl Journal {
    /// Opens the journal at `path`, or creates it.
    ///
    /// # Errors
    /// Fails where another process has it open, a newer version wrote it, or it cannot be read or written.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let io = |action| move |reason: io::Error| error(path, action)(redb::Error::Io(reason));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(io("create the folder of"))?;
        ensure_database(path).map_err(error(path, "create"))?;
        let file = path.to_owned();
        // Not created where it is missing: it was there when it was opened first.
        Self::with(path, move || Database::builder().set_cache_size(CACHE_BYTES).open(&file))
    }

    /// A journal on other storage than a file; messages show `name` in place of its path.
    ///
    /// # Errors
    /// Fails where a newer version wrote it, or it cannot be read or written.
    pub fn on<B: redb::StorageBackend>(
        backend: impl Fn() -> B + Send + Sync + 'static,
        name: &str,
    ) -> Result<Self, JournalError> {
        Self::with(Path::new(name), move || {
            Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(backend())
        })
    }

    fn with(
        path: &Path,
        open: impl Fn() -> Result<Database, redb::DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, JournalError> {
        let db = RwLock::new(None);
        let journal = Self(Arc::new(Shared { path: path.to_owned(), open: Box::new(open), db }));
        journal.check_format()?;
        Ok(journal)
    }

    fn check_format(&self) -> Result<(), JournalError> {
        self.write(|transaction| {
            let mut meta = transaction.open_table(META)?;
            let found = meta.get(FORMAT_KEY)?.map(|found| found.value());
            match found {
                Some(found) => Ok(found),
                None => meta.insert(FORMAT_KEY, FIRST_FORMAT).map(|_| FIRST_FORMAT).map_err(Into::into),
            }
        })
        .and_then(|found| match found {
            0..=FORMAT => Ok(()),
            found => Err(JournalError::Newer { path: self.0.path.clone(), found }),
        })
    }

    /// Does `work` in one durable transaction: all of it, or nothing where it fails.
    pub(crate) fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, JournalError> {
        let written = self.with_open(|db| {
            let transaction = db.begin_write()?;
            let done = work(&transaction)?;
            transaction.commit()?;
            Ok(done)
        });
        let is_full = |reason: &io::Error| ErrorKind::from(reason.kind()) == ErrorKind::OutOfSpace;
        if matches!(&written, Err(redb::Error::Io(reason)) if is_full(reason)) {
            *self.0.db.write() = None;
        }
        written.map_err(error(&self.0.path, "write"))
    }

    /// Gives the journal this version at least, so that older ones leave it alone.
    fn raise_format(transaction: &WriteTransaction, format: u64) -> Result<(), redb::Error> {
        let mut meta = transaction.open_table(META)?;
        let known = meta.get(FORMAT_KEY)?.map_or(FIRST_FORMAT, |known| known.value());
        if known < format {
            meta.insert(FORMAT_KEY, format)?;
        }
        Ok(())
    }

    /// Reads as of one instant.
    pub(crate) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, redb::Error>,
    ) -> Result<T, JournalError> {
        self.with_open(|db| work(&db.begin_read()?)).map_err(error(&self.0.path, "read"))
    }

    /// Does `work` with the database, which is opened if it is not.
    fn with_open<T>(&self, work: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, redb::Error> {
        if let Some(db) = &*self.0.db.read() {
            return work(db);
        }
        let mut db = self.0.db.write();
        let open = match db.take() {
            // Another thread was faster.
            Some(open) => open,
            None => (self.0.open)()?,
        };
        work(db.insert(open))
    }

    pub(crate) fn damaged(&self, what: impl Into<String>) -> JournalError {
        JournalError::Damaged { path: self.0.path.clone(), what: what.into() }
    }

    /// The error for an entry that cannot be decoded: it is damaged, or a newer version wrote it.
    fn undecodable(&self, what: String, error: &DecodeError) -> JournalError {
        match error {
            DecodeError::Newer { found, supported } => JournalError::NewerEntry {
                path: self.0.path.clone(),
                what,
                found: *found,
                supported: *supported,
            },
            error => self.damaged(format!("{what}: {error}")),
        }
    }
}

fn error<E: Into<redb::Error>>(path: &Path, action: &'static str) -> impl FnOnce(E) -> JournalError {
    let path = path.to_owned();
    move |error| match error.into() {
        redb::Error::DatabaseAlreadyOpen => JournalError::InUse(path),
        redb::Error::UpgradeRequired(found) => JournalError::Newer { path, found: found.into() },
        redb::Error::Corrupted(what) => JournalError::Damaged { path, what },
        redb::Error::Io(reason) if ErrorKind::from(reason.kind()) == ErrorKind::OutOfSpace => {
            JournalError::Full(path)
        }
        redb::Error::Io(reason) if reason.kind() == io::ErrorKind::InvalidData => {
            JournalError::Damaged { path, what: reason.to_string() }
        }
        redb::Error::Io(reason) => {
            JournalError::Io { path, action, reason: reason.to_string(), kind: reason.kind() }
        }
        other => JournalError::Io { path, action, reason: other.to_string(), kind: io::ErrorKind::Other },
    }
}

/// A table that nothing was written to yet is no error to those who read it.
pub(crate) fn opened<T>(table: Result<T, redb::TableError>) -> Result<Option<T>, redb::Error> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_and_a_newer_format_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data/ingest.redb");
        let journal = Journal::open(&path).expect("created");
        assert_eq!(Journal::open(&path).err(), Some(JournalError::InUse(path.clone())));
        let newer = |transaction: &WriteTransaction| {
            transaction.open_table(META)?.insert(FORMAT_KEY, FORMAT + 1)?;
            Ok(())
        };
        journal.write(newer).expect("written");
        drop(journal);
        assert_eq!(Journal::open(&path).err(), Some(JournalError::Newer { path, found: FORMAT + 1 }));
    }

    #[test]
    fn a_file_that_is_no_journal_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("ingest.redb");
        std::fs::write(&path, b"not a database, but long enough to be taken for one").expect("written");
        let error = Journal::open(&path).expect_err("refused");
        assert!(error.to_string().contains("ingest.redb"), "{error}");
    }

    #[test]
    fn what_the_system_says_tells_the_kind() {
        let failed = |kind: io::ErrorKind| error(Path::new("a.redb"), "write")(redb::Error::Io(kind.into()));
        for (io, kind) in [
            (io::ErrorKind::PermissionDenied, ErrorKind::Environment),
            (io::ErrorKind::StorageFull, ErrorKind::OutOfSpace),
            (io::ErrorKind::InvalidData, ErrorKind::Damaged),
            // redb refuses all later calls.
            (io::ErrorKind::TimedOut, ErrorKind::Internal),
        ] {
            assert_eq!(failed(io).kind(), kind, "{io}");
        }
        let denied = failed(io::ErrorKind::PermissionDenied);
        assert_eq!(denied.to_string(), "cannot write a.redb: permission denied");
        let unusable = error(Path::new("a.redb"), "write")(redb::Error::PreviousIo);
        assert_eq!(unusable.kind(), ErrorKind::Internal);
    }
}
