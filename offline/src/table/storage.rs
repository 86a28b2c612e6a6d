//! The seam between event tables and what keeps their files.
//!
//! A table is a Delta log and the data files that the log names. [`Storage`] is everything that a table asks of the place
//! where both are kept. [`LocalDisk`] is the only implementation so far; an object store becomes another one, and
//! besides this module only `Location` changes for it.
//!
//! What a storage does not give, tables do not use: no order of names, no modification times, no locks. The order of files
//! and what was removed when are in the table's log ([`order`](super::order), [`vacuum`](super::vacuum)).

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use deltalake_core::DeltaTable;
use parquet::arrow::async_reader::AsyncFileReader;

use super::TableError;
use crate::durable::FileError;
use crate::location::Location;

use local::LocalDisk;

pub(super) mod local;

impl Location {
    /// Where one table of a source is kept.
    pub(crate) fn table(&self, source: &str, table: &str) -> Arc<dyn Storage> {
        Arc::new(LocalDisk::new(self.root().join(source).join(table)))
    }
}

/// The folder of a table's log.
pub(super) const LOG_FOLDER: &str = "_delta_log";

/// The files of one table: its log and its data files. Data files are named without a folder.
///
/// An implementation must keep the following:
///
/// * Through [`delta`](Self::delta), the entry of a commit is written by put-if-absent: of any number of writers that write the
///   entry of the same version at once, in any processes, exactly one succeeds, and no reader sees a part of an entry. This
///   alone decides races between writers.
/// * A data file appears under its name whole or not at all, and is durable once [`finish`](NewFile::finish) returns.
/// * A file that is there is found at once by [`list`](Self::list) and [`read`](Self::read), in every process. A file that was
///   opened to be read may fail to be read on once it is removed; tables keep what they have replaced for that long.
/// * An error for lack of room says so: its [`kind`](tidemark_kernel::Explain::kind) is
///   [`OutOfSpace`](tidemark_kernel::ErrorKind::OutOfSpace), and nothing is left under the name.
#[async_trait]
pub(crate) trait Storage: Send + Sync + Debug {
    /// The place as users name it, for messages. Nothing is opened by it.
    fn place(&self) -> &Path;

    /// Delta's access to the table, not loaded yet.
    ///
    /// # Errors
    /// Fails where the place cannot be addressed.
    fn delta(&self) -> Result<DeltaTable, TableError>;

    /// Whether a log was begun here.
    async fn has_log(&self) -> Result<bool, FileError>;

    /// Makes room for a log.
    ///
    /// # Errors
    /// Fails where the place cannot be written.
    async fn prepare(&self) -> Result<(), FileError>;

    /// The versions of the commits that are still in the log.
    async fn commits(&self) -> Result<BTreeSet<u64>, FileError>;

    /// Makes a commit durable, whichever process has written it.
    async fn sync_commit(&self, version: u64) -> Result<(), FileError>;

    /// Makes the checkpoint of a version durable, and the file that names the newest one.
    async fn sync_checkpoint(&self, version: u64) -> Result<(), FileError>;

    /// Starts a data file. Called, and written to, where blocking is allowed.
    fn create(&self, name: &str) -> Result<Box<dyn NewFile>, FileError>;

    /// Opens a data file.
    async fn read(&self, name: &str) -> Result<Box<dyn AsyncFileReader>, FileError>;

    /// Gives a data file another name, durably; false where it is gone.
    async fn rename(&self, from: &str, to: &str) -> Result<bool, FileError>;

    /// Removes a data file. One that is gone already is no error.
    async fn remove(&self, name: &str) -> Result<(), FileError>;

    /// The names of all data files, in no particular order, and of what unfinished ones have left behind.
    async fn list(&self) -> Result<Vec<String>, FileError>;
}

/// A data file that is being written. Dropped before it is finished, it leaves nothing behind.
pub(crate) trait NewFile: Write + Send {
    /// Makes the file durable and gives it its name.
    fn finish(self: Box<Self>) -> Result<Written, FileError>;
}

/// A data file that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// When it was written, in milliseconds since 1970 by the clock of the storage. Delta's format asks for it; nothing here
    /// uses it.
    pub(crate) modified_ms: i64,
}
