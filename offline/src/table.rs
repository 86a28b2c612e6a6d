//! Event tables: every accepted event of a source, and every dead letter, in Parquet under Delta Lake.
//!
//! A commit holds rows *and* the positions of its partitions after them, so that a crash can neither lose nor
//! double a row. Delta does not check positions: [`EventTable::append`] does, before the first try and after every
//! lost race. Data files are written before the commit that names them; what a crash leaves behind is an orphan
//! that no reader sees, and [`EventTable::vacuum`] removes it.
//!
//! Everything that a table reads or writes goes through one `Storage`, which knows where the table is.
//!
//! Layout, under the project's [`Location`]:
//!
//! ```text
//! <source>/events/            every accepted event            (tidemark/<source>/<partition> = its positions)
//! <source>/dead_letters/      every rejected record           (positions of its own)
//! ```
//!
//! Folders beside these are reserved for later versions: `<source>/by_<entity>` (a copy clustered by
//! entity hash and sorted by entity and event time, which training would read together with the tail of `events`
//! that it does not cover), `features/<view>` and `served/<service>`. [`History`](crate::History) is the only
//! reader that would learn of the clustered copy.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use deltalake_core::kernel::Add;
use tidemark_kernel::{Partition, Position, SourcePlan};

use crate::location::Location;
use log::{Outcome, TableLog};
use order::Order;
use statistics::Partitions;
use storage::Storage;

pub(crate) use read::read_in_order;

pub mod compact;
mod data_file;
mod epochs;
mod error;
mod held;
pub mod layout;
mod log;
mod order;
pub mod properties;
mod read;
mod remove;
pub mod retract;
mod scan;
mod statistics;
pub(crate) mod storage;
mod take_back;
mod vacuum;

#[cfg(test)]
mod tests;

pub use epochs::{Epoch, Epochs};
pub use error::TableError;
pub use held::{Held, HeldField};
pub use properties::Properties;
pub use read::Rows;
pub use remove::Places;
pub use retract::Retraction;
pub use statistics::PartitionStatistics;

/// Positions of partitions: the next offset of each. A partition that is not named is at its start.
pub type Positions = BTreeMap<Partition, Position>;

/// A commit that is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The version of the table it made. Where the answer to the commit was lost, it may be a later one.
    pub version: u64,
    /// How many rows it added.
    pub rows: usize,
}

/// One data file of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Its name in the table's folder. It tells nothing of the order of rows.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it holds of each partition, where the table's log tells.
    partitions: Option<Partitions>,
    /// Where it is in the order of files.
    order: Order,
}

/// A handle on one table: the newest state it has seen, and what it takes to move it on.
///
/// Any number of handles, in any number of processes, may be open on one table.
pub struct EventTable {
    schema: SchemaRef,
    log: TableLog,
    /// The version of the source that this handle works under, if it has one.
    source_version: Option<String>,
}

impl std::fmt::Debug for EventTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventTable")
            .field("folder", &self.folder())
            .field("version", &self.version())
            .finish()
    }
}

impl EventTable {
    /// Opens a source's `events`, creates it, or changes its columns: those of fields that the source has gained are added,
    /// and one that no row holds takes the declared type. The column of a field that the source has no more stays.
    ///
    /// # Errors
    /// [`TableError::Retyped`] where rows hold a field as another type. Fails where a newer version wrote the table, or it
    /// cannot be written.
    pub async fn open_or_create(location: &Location, source: &SourcePlan) -> Result<Self, TableError> {
        let storage = location.table(&source.name, "events");
        Self::make(storage, &source.name, layout::events(source)).await
    }

    /// Opens a source's `dead_letters`, or creates it.
    ///
    /// # Errors
    /// Fails where a newer version wrote it, or it cannot be written.
    pub async fn open_or_create_dead_letters(
        location: &Location,
        source: &SourcePlan,
    ) -> Result<Self, TableError> {
        let storage = location.table(&source.name, "dead_letters");
        Self::make(storage, &source.name, layout::dead_letters()).await
    }

    /// Opens a source's `events` to read; nothing is created or changed. Columns the table lacks read as null.
    ///
    /// # Errors
    /// Fails where there is no table yet, or as [`open_or_create`](Self::open_or_create) does.
    pub async fn open(location: &Location, source: &SourcePlan) -> Result<Self, TableError> {
        let storage = location.table(&source.name, "events");
        Self::existing(storage, &source.name, layout::events(source)).await
    }

    /// Opens a source's `dead_letters` to read.
    ///
    /// # Errors
    /// Fails where there is no table yet, or as [`open_or_create`](Self::open_or_create) does.
    pub async fn open_dead_letters(location: &Location, source: &SourcePlan) -> Result<Self, TableError> {
        let storage = location.table(&source.name, "dead_letters");
        Self::existing(storage, &source.name, layout::dead_letters()).await
    }

    async fn existing(
        storage: Arc<dyn Storage>,
        source: &str,
        schema: SchemaRef,
    ) -> Result<Self, TableError> {
        let log = TableLog::open(&storage, source).await?;
        let log = log.ok_or_else(|| TableError::Missing(storage.place().to_owned()))?;
        let table = Self::new(schema, log);
        table.check_types().await?;
        Ok(table)
    }

    async fn make(storage: Arc<dyn Storage>, source: &str, schema: SchemaRef) -> Result<Self, TableError> {
        let log = match TableLog::open(&storage, source).await? {
            Some(log) => log,
            None => TableLog::create(&storage, source, &schema).await?,
        };
        let mut table = Self::new(schema, log);
        loop {
            // A type changes only where this very state of the table has no row with it: who comes first is seen.
            table.check_types().await?;
            let change = layout::compare(&table.log.columns()?, &table.schema);
            if change == layout::Change::default() {
                return Ok(table);
            }
            if matches!(table.log.change_columns(change).await?, Outcome::LostRace) {
                table.reload().await?;
            }
        }
    }

    fn new(schema: SchemaRef, log: TableLog) -> Self {
        Self { schema, log, source_version: None }
    }

    /// Where the table is kept.
    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        self.log.storage()
    }

    /// The table's folder, for messages.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.storage().place()
    }

    /// The columns of the rows to append and of the rows read: [`layout::events`] or [`layout::dead_letters`].
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The version of the table this handle has seen.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.log.version()
    }

    /// The position of each partition, as this handle has seen it. A partition that was neither moved nor started is
    /// absent.
    #[must_use]
    pub fn positions(&self) -> &Positions {
        self.log.positions()
    }

    /// Catches up with what other handles have committed.
    ///
    /// # Errors
    /// Fails where the table's log cannot be read.
    pub async fn reload(&mut self) -> Result<(), TableError> {
        self.log.reload().await
    }

    /// The data files of the table, in the order in which the table's log says that they were committed. Files that take the place
    /// of others are where those were.
    ///
    /// # Errors
    /// Fails where the table's log cannot be read.
    pub fn files(&self) -> Result<Vec<DataFile>, TableError> {
        let file = |file: Add| DataFile {
            bytes: file.size.max(0) as u64,
            partitions: statistics::of_file(&file),
            order: Order::of(&file),
            name: file.path,
        };
        let mut files: Vec<DataFile> = self.log.files()?.into_iter().map(file).collect();
        // Names order only the files of which the log tells nothing, so that they are read in the same order each time.
        files.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
        Ok(files)
    }

    /// Appends rows and moves partitions in one commit: all of it is in, or nothing.
    ///
    /// `rows` have the columns of [`schema`](Self::schema) and are in order of offset partition by partition; there may be none.
    /// `from` holds the positions that the caller expects of the partitions that these rows, and `to`, move on; a
    /// partition that `from` does not name is expected at its start. Where rows depend on which others were taken back,
    /// `from` also names [`Partition::RETRACTIONS`].
    /// `epochs` are the leader epochs that the rows were read at, where any are known: an epoch belongs to what was read up to
    /// `to`, and that of a partition which is not named stays as it is.
    ///
    /// # Errors
    /// [`TableError::Behind`] where one of the partitions is not at `from`, [`TableError::Superseded`] where the
    /// source has another version than the one to [work under](Self::work_under): nothing was written. After any
    /// other error the commit may be in where the table could not be read afterwards, or there were no rows; the next `append`
    /// finds out, by losing the race against it.
    pub async fn append(
        &mut self,
        rows: &[RecordBatch],
        from: &Positions,
        to: &Positions,
        epochs: Option<&Epochs>,
    ) -> Result<Committed, TableError> {
        self.check(from, to).await?;
        let unknown = Epochs::new();
        let epochs = epochs.unwrap_or(&unknown);
        let count = rows.iter().map(RecordBatch::num_rows).sum();
        let mut file = if count == 0 { None } else { Some(self.write(rows).await?) };
        loop {
            let failed = match self.log.append(file.clone(), to, epochs).await {
                Ok(Outcome::Committed(version)) => return Ok(Committed { version, rows: count }),
                Ok(Outcome::LostRace) => self.reload_and_check(from, to).await.err(),
                Err(error) => Some(error),
            };
            match (failed, &file) {
                (None, None) => {}
                (None, Some(written)) => file = Some(self.renew(written, rows).await?),
                (Some(error), written) => return self.failed(error, written.as_ref(), count).await,
            }
        }
    }

    /// What became of a commit of so many rows that failed like this. It may be in, and its answer lost: no other commit has a
    /// file of this name.
    async fn failed(
        &mut self,
        error: TableError,
        file: Option<&Add>,
        rows: usize,
    ) -> Result<Committed, TableError> {
        if let Some(file) = file
            && self.find_or_discard(file).await
        {
            return Ok(Committed { version: self.version(), rows });
        }
        Err(error)
    }

    /// Appends rows without moving the position of any partition, and returns true. Returns false, and changes nothing, where
    /// another commit was made since this handle was last reloaded. For tables of dead letters: a partition is no longer read in
    /// order of offset where these rows come after others.
    ///
    /// # Errors
    /// Fails like [`append`](Self::append). The commit may be in then: positions do not tell, the rows do.
    pub async fn append_unmoved(&mut self, rows: &[RecordBatch]) -> Result<bool, TableError> {
        let unmoved = Positions::new();
        self.check(&unmoved, &unmoved).await?;
        let file = self.write(rows).await?;
        let outcome = self.log.append(Some(file.clone()), &unmoved, &Epochs::new()).await;
        if let Ok(Outcome::Committed(_)) = outcome {
            return Ok(true);
        }
        if self.find_or_discard(&file).await {
            return Ok(true);
        }
        outcome.map(|_| false)
    }

    /// Whether the source still has our version, and every partition that is moved on stands where the caller believes.
    async fn check(&self, from: &Positions, to: &Positions) -> Result<(), TableError> {
        self.check_version()?;
        self.check_columns().await?;
        let expected = |partition| from.get(partition).copied().unwrap_or(Position::START);
        let current = |partition: &Partition| match *partition {
            Partition::RETRACTIONS => retract::retracted(self.properties()),
            _ => self.log.positions().get(partition).copied().unwrap_or(Position::START),
        };
        if from.keys().chain(to.keys()).all(|partition| current(partition) == expected(partition)) {
            return Ok(());
        }
        Err(self.behind())
    }

    /// The same of what others have committed meanwhile.
    async fn reload_and_check(&mut self, from: &Positions, to: &Positions) -> Result<(), TableError> {
        self.reload().await?;
        self.check(from, to).await
    }

    /// The error of a caller that has not seen where the partitions stand.
    fn behind(&self) -> TableError {
        TableError::Behind { path: self.folder().to_owned(), positions: self.log.positions().clone() }
    }

    /// The file of a commit that has lost its race, under a new name: `vacuum` may have had its eye on the old one.
    async fn renew(&self, file: &Add, rows: &[RecordBatch]) -> Result<Add, TableError> {
        match self.rename(file, data_file::name(self.version())).await? {
            Some(renewed) => Ok(renewed),
            None => self.write(rows).await,
        }
    }

    /// Whether files that were to take the place of `replaced`, in a commit that has lost its race, can still do so: the table has all of
    /// these by now, and none of the new files is gone. The new files have other names then.
    async fn go_on(&mut self, replaced: &[DataFile], new: &mut [Add]) -> Result<bool, TableError> {
        self.reload().await?;
        Ok(self.has_all(replaced)? && self.renew_all(new).await?)
    }

    /// Whether the table has all of these files, as this handle has seen it.
    fn has_all(&self, files: &[DataFile]) -> Result<bool, TableError> {
        let now = self.files()?;
        Ok(files.iter().all(|file| now.iter().any(|known| known.name == file.name)))
    }

    /// The same as [`renew`](Self::renew) for files that take the place of others; false where one of them is gone.
    async fn renew_all(&self, files: &mut [Add]) -> Result<bool, TableError> {
        for file in files {
            let name = data_file::name_in_place_of(&file.path, self.version());
            match self.rename(file, name).await? {
                Some(renewed) => *file = renewed,
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Gives a file that no commit names yet another name; none where it is gone.
    async fn rename(&self, file: &Add, name: String) -> Result<Option<Add>, TableError> {
        let is_there = self.storage().rename(&file.path, &name).await?;
        Ok(is_there.then(|| Add { path: name, ..file.clone() }))
    }

    /// True where the table has a file after a commit of it that failed or lost its race: the commit is in, and its answer was
    /// lost. False where the table has it not, which removes the file, and where the table cannot be read: then `vacuum` removes
    /// the file some day.
    async fn find_or_discard(&mut self, file: &Add) -> bool {
        let files = self.reload().await.and_then(|()| self.files());
        let is_in = files.map(|files| files.iter().any(|known| known.name == file.path));
        if let Ok(false) = is_in {
            // The error that brought us here is the one to report.
            let _ = self.storage().remove(&file.path).await;
        }
        is_in.unwrap_or(false)
    }

    /// Removes a file that was to be committed, where the table certainly has it not.
    async fn discard(&mut self, file: &Add) {
        self.find_or_discard(file).await;
    }

    async fn write(&self, rows: &[RecordBatch]) -> Result<Add, TableError> {
        let schema = layout::stored(&self.schema);
        let stored = rows.iter().map(|batch| layout::to_stored(batch, &schema));
        let stored: Vec<RecordBatch> =
            stored.collect::<Result<_, _>>().map_err(TableError::rows(self.folder()))?;
        self.write_file(data_file::name(self.version()), schema, stored.into_iter().map(Ok)).await
    }

    /// Writes a data file that takes the place of `first`, once it is committed. `rows` may block.
    async fn write_in_place_of(
        &self,
        first: &DataFile,
        schema: SchemaRef,
        rows: impl Iterator<Item = Result<RecordBatch, TableError>> + Send + 'static,
    ) -> Result<Add, TableError> {
        let name = data_file::name_in_place_of(&first.name, self.version());
        Ok(order::placed(self.write_file(name, schema, rows).await?, first.order))
    }

    /// Writes a data file that no commit names yet. `rows` may block.
    async fn write_file(
        &self,
        name: String,
        schema: SchemaRef,
        rows: impl Iterator<Item = Result<RecordBatch, TableError>> + Send + 'static,
    ) -> Result<Add, TableError> {
        let storage = Arc::clone(self.storage());
        let written =
            tokio::task::spawn_blocking(move || data_file::write(&*storage, &name, &schema, rows)).await;
        written.unwrap_or_else(|stopped| Err(self.stopped(stopped)))
    }

    /// The runtime shut down, or a library panicked, in the middle of a write.
    fn stopped(&self, error: tokio::task::JoinError) -> TableError {
        let (action, path) = ("write to", self.folder().to_owned());
        TableError::File(crate::durable::FileError { action, path, source: std::io::Error::other(error) })
    }
}
