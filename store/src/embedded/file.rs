//! The file and its transactions: all calls of redb go through here, and all its errors are translated here.

use std::io;
use std::path::Path;
use std::sync::OnceLock;

use parking_lot::RwLock;
use redb::{Builder, Database, ReadTransaction, ReadableDatabase, WriteTransaction};
use tidemark_kernel::event::Partition;
use tidemark_kernel::key::EntityKey;

use super::barrier;
use crate::database::ensure_database;
use crate::error::StoreError;

/// An open database file.
pub(super) struct File {
    place: String,
    /// Taken for writing by a check alone, which redb wants to be undisturbed; empty once the file is closed.
    database: RwLock<Option<Database>>,
    /// The failure after which redb refuses to go on, returned again to later callers: redb itself would only say
    /// that there was one.
    broken: OnceLock<StoreError>,
}

/// Why a transaction failed, before the file's name is put to it.
pub(super) enum Fault {
    /// redb failed.
    Redb(redb::Error),
    /// The contract says so.
    Contract(StoreError),
    /// What is stored is not what was written.
    Damaged(String),
    /// The state of one entity is damaged.
    DamagedState { view: String, key: EntityKey, partition: Partition },
}

impl File {
    /// Opens or creates the file at `path`, and repairs it after an unclean end. `cache` bytes of it may be kept in memory.
    pub(super) fn open(path: &Path, cache: usize) -> Result<Self, StoreError> {
        Self::with(path, cache, |builder| {
            ensure_database(path)?;
            builder.create(path)
        })
    }

    /// Opens what `backend` holds; `path` is what messages call it.
    #[cfg(test)]
    pub(super) fn open_backend(path: &Path, backend: impl redb::StorageBackend) -> Result<Self, StoreError> {
        Self::with(path, super::CACHE, |builder| builder.create_with_backend(backend))
    }

    fn with(
        path: &Path,
        cache: usize,
        open: impl FnOnce(&Builder) -> Result<Database, redb::DatabaseError>,
    ) -> Result<Self, StoreError> {
        let (place, broken) = (path.display().to_string(), OnceLock::new());
        let file = Self { place, database: RwLock::new(None), broken };
        let database = file.guard("open", || Ok(open(Database::builder().set_cache_size(cache))?))?;
        *file.database.write() = Some(database);
        Ok(file)
    }

    /// What messages call the file.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Runs `work` on one snapshot of the file. It never waits for a writer.
    pub(super) fn read<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let database = self.database.read();
        self.guard("read", || work(&opened(database.as_ref())?.begin_read()?))
    }

    /// Runs `work` as the one writer and commits durably what it wrote, or, if it fails, nothing.
    pub(super) fn write<T>(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        let database = self.database.read();
        self.guard("write", || {
            // redb syncs the file before a commit returns, by default; a dropped transaction is undone.
            let transaction = opened(database.as_ref())?.begin_write()?;
            let result = work(&transaction)?;
            transaction.commit()?;
            Ok(result)
        })
    }

    /// Checks every page in use against its checksum, alone with the file.
    pub(super) fn check_pages(&self) -> Result<(), StoreError> {
        let mut database = self.database.write();
        self.guard("read", || match database.as_mut().ok_or_else(closed)?.check_integrity()? {
            true => Ok(()),
            false => Err(Fault::Damaged("pages did not match their checksums".to_owned())),
        })
    }

    /// Runs `work` where its panics are errors, and puts the file's name to whatever goes wrong.
    fn guard<T>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        if let Some(broken) = self.broken.get() {
            return Err(broken.clone());
        }
        match barrier::run(work) {
            Ok(result) => result.map_err(|fault| self.explain(action, fault)),
            Err(panic) => Err(self.breaks(self.corrupt(format!("the database library says: {panic}")))),
        }
    }

    /// The fault as an error that names the file.
    pub(super) fn explain(&self, action: &'static str, fault: Fault) -> StoreError {
        match fault {
            Fault::Contract(error) => error,
            Fault::Damaged(what) => self.corrupt(what),
            Fault::DamagedState { view, key, partition } => {
                StoreError::CorruptState { place: self.place.clone(), view, key, partition }
            }
            Fault::Redb(redb::Error::DatabaseAlreadyOpen) => StoreError::InUse { place: self.place.clone() },
            Fault::Redb(redb::Error::Io(error)) => self.breaks(self.explain_io(action, error)),
            Fault::Redb(redb::Error::PreviousIo) => {
                let first = io::Error::other("an earlier failure left it unusable, start again");
                self.broken.get().cloned().unwrap_or_else(|| StoreError::io(&self.place, action, first))
            }
            Fault::Redb(other) => self.corrupt(other.to_string()),
        }
    }

    /// A file that ends too early, or holds what redb cannot take for a database, is a damaged one.
    fn explain_io(&self, action: &'static str, error: io::Error) -> StoreError {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.corrupt("it ends too early".to_owned()),
            io::ErrorKind::InvalidData => self.corrupt(error.to_string()),
            _ => StoreError::io(&self.place, action, error),
        }
    }

    fn corrupt(&self, what: String) -> StoreError {
        StoreError::Corrupt { place: self.place.clone(), what }
    }

    /// Remembers the first failure that redb cannot go on after.
    fn breaks(&self, error: StoreError) -> StoreError {
        self.broken.get_or_init(|| error).clone()
    }
}

/// Closing writes, and so may panic on a damaged file like anything else.
impl Drop for File {
    fn drop(&mut self) {
        let database = self.database.get_mut().take();
        // There is no caller left to report an error to: the next process that opens the file will find it.
        drop(barrier::run(|| drop(database)));
    }
}

fn opened(database: Option<&Database>) -> Result<&Database, Fault> {
    database.ok_or_else(closed)
}

fn closed() -> Fault {
    Fault::Redb(redb::Error::DatabaseClosed)
}

macro_rules! faults_of_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for Fault {
            fn from(error: redb::$error) -> Self {
                Self::Redb(error.into())
            }
        }
    )*};
}

faults_of_redb!(CommitError, DatabaseError, StorageError, TableError, TransactionError);

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Contract(error)
    }
}
