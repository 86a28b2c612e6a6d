//! The table's Delta log: opening, creating, evolving, committing, and the positions kept in it.
//!
//! Where a log stands is a Delta `txn` action: `tidemark/<source>/<log>` at version = position. Delta looks such
//! actions up by name only, so one more, `tidemark/<source>/partitions`, holds how many partitions to ask for.

use std::path::{Path, PathBuf};

use arrow::datatypes::Schema;
use deltalake_core::kernel::transaction::{
    CommitBuilder, CommitProperties, PROTOCOL, TableReference, TransactionError,
};
use deltalake_core::kernel::{Action, MetadataExt, StructField, StructType, Transaction};
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use tidemark_kernel::{Log, Position};
use url::Url;

use super::{Positions, TableError, layout};
use crate::durable::{self, FileError};

/// The newest state of a table's log that this handle has seen.
pub(super) struct TableLog {
    table: DeltaTable,
    source: String,
    positions: Positions,
}

/// How a commit that was not refused ended.
pub(super) enum Outcome {
    /// It is in.
    Committed(u64),
    /// Another commit came first; nothing was written.
    LostRace,
}

impl TableLog {
    /// Opens the log of an existing table; none where there is no table.
    pub(super) async fn open(folder: &Path, source: &str) -> Result<Option<Self>, TableError> {
        if !log_folder(folder).is_dir() {
            return Ok(None);
        }
        let mut table = handle(folder)?;
        match table.load().await {
            Err(DeltaTableError::NotATable(_)) => return Ok(None),
            result => result.map_err(TableError::log(folder))?,
        }
        let mut log = Self { table, source: source.to_owned(), positions: Positions::new() };
        let writable = PROTOCOL.can_write_to(log.state(folder)?);
        writable.map_err(|error| TableError::Newer { path: folder.into(), detail: error.to_string() })?;
        log.positions = log.read_positions(folder).await?;
        Ok(Some(log))
    }

    /// Creates the table. Where another process does so at the same time, theirs is opened.
    pub(super) async fn create(folder: &Path, source: &str, columns: &Schema) -> Result<Self, TableError> {
        durable::create_folder(&log_folder(folder))?;
        let create = CreateBuilder::new()
            .with_log_store(handle(folder)?.log_store())
            .with_table_name(folder.file_name().unwrap_or_default().to_string_lossy())
            .with_columns(layout::delta(columns))
            .with_save_mode(SaveMode::Ignore)
            .with_commit_properties(properties());
        match create.await {
            Err(error) if !is_lost_race(&error) => return Err(TableError::log(folder)(error)),
            _ => {}
        }
        sync_commit(folder, 0)?;
        Self::open(folder, source).await?.ok_or_else(|| TableError::Missing(folder.into()))
    }

    /// The state last seen.
    fn state(&self, folder: &Path) -> Result<&DeltaTableState, TableError> {
        self.table.snapshot().map_err(TableError::log(folder))
    }

    /// The table's version.
    pub(super) fn version(&self) -> u64 {
        self.table.version().unwrap_or(0)
    }

    /// Where every log of the table stands.
    pub(super) fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The table's columns.
    pub(super) fn columns(&self, folder: &Path) -> Result<StructType, TableError> {
        Ok(self.state(folder)?.schema().as_ref().clone())
    }

    /// The data files that make up the table: name, bytes and statistics.
    pub(super) fn files(&self, folder: &Path) -> Result<Vec<(String, u64, Option<String>)>, TableError> {
        let files = self.state(folder)?.log_data();
        Ok(files
            .iter()
            .map(|file| (file.path().into_owned(), file.size().max(0) as u64, file.stats()))
            .collect())
    }

    /// Catches up with what others have committed.
    pub(super) async fn reload(&mut self, folder: &Path) -> Result<(), TableError> {
        self.table.update_state().await.map_err(TableError::log(folder))?;
        self.positions = self.read_positions(folder).await?;
        Ok(())
    }

    /// Adds columns to the table.
    pub(super) async fn add_columns(
        &mut self,
        folder: &Path,
        fields: Vec<StructField>,
    ) -> Result<Outcome, TableError> {
        let state = self.state(folder)?;
        let nullable =
            fields.iter().map(|field| StructField::nullable(field.name(), field.data_type().clone()));
        let columns = state.schema().fields().cloned().chain(nullable).collect::<Vec<_>>();
        let schema = StructType::try_new(columns).map_err(TableError::log(folder))?;
        let metadata = state.metadata().clone().with_schema(&schema).map_err(TableError::log(folder))?;
        self.commit(folder, vec![Action::Metadata(metadata)], DeltaOperation::AddColumn { fields }).await
    }

    /// Adds a data file, if any, and moves the logs in `to`.
    pub(super) async fn append(
        &mut self,
        folder: &Path,
        file: Option<deltalake_core::kernel::Add>,
        to: &Positions,
    ) -> Result<Outcome, TableError> {
        let mut actions: Vec<Action> = file.map(Action::Add).into_iter().collect();
        for (log, position) in to {
            actions.push(Action::Txn(Transaction::new(self.app_id(*log), position.0)));
        }
        let known = partitions(&self.positions);
        let partitions = known.max(partitions(to));
        if partitions > known {
            actions.push(Action::Txn(Transaction::new(self.partitions_id(), partitions)));
        }
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        let outcome = self.commit(folder, actions, operation).await?;
        if matches!(outcome, Outcome::Committed(_)) {
            self.positions.extend(to);
        }
        Ok(outcome)
    }

    /// Commits to the very next version or not at all. Delta's own retries would put a commit behind one that
    /// moved the same logs, so there are none.
    async fn commit(
        &mut self,
        folder: &Path,
        actions: Vec<Action>,
        operation: DeltaOperation,
    ) -> Result<Outcome, TableError> {
        let state = self.state(folder)?;
        let commit = CommitBuilder::from(properties()).with_actions(actions).build(
            Some(state as &dyn TableReference),
            self.table.log_store(),
            operation,
        );
        let committed = match commit.await {
            Ok(committed) => committed,
            Err(error) if is_lost_race(&error) => return Ok(Outcome::LostRace),
            Err(error) => return Err(TableError::log(folder)(error)),
        };
        // Seen only once it is durable: if this fails, the next commit loses its race and finds the positions moved.
        sync_commit(folder, committed.version())?;
        self.table.state = Some(committed.snapshot());
        Ok(Outcome::Committed(committed.version()))
    }

    async fn read_positions(&self, folder: &Path) -> Result<Positions, TableError> {
        let partitions = self.transaction(folder, self.partitions_id()).await?.unwrap_or(0);
        let partitions = (0..partitions).filter_map(|partition| i32::try_from(partition).ok()).map(Log);
        let mut positions = Positions::new();
        for log in [Log::PUSH, Log::FILE].into_iter().chain(partitions) {
            if let Some(position) = self.transaction(folder, self.app_id(log)).await? {
                positions.insert(log, Position(position));
            }
        }
        Ok(positions)
    }

    async fn transaction(&self, folder: &Path, app_id: String) -> Result<Option<i64>, TableError> {
        let log_store = self.table.log_store();
        let version = self.state(folder)?.transaction_version(log_store.as_ref(), app_id).await;
        version.map_err(TableError::log(folder))
    }

    fn app_id(&self, log: Log) -> String {
        format!("tidemark/{}/{log}", self.source)
    }

    fn partitions_id(&self) -> String {
        format!("tidemark/{}/partitions", self.source)
    }
}

/// One more than the highest partition among these logs.
fn partitions(positions: &Positions) -> i64 {
    positions.last_key_value().map_or(0, |(log, _)| i64::from(log.0.max(-1)) + 1)
}

fn handle(folder: &Path) -> Result<DeltaTable, TableError> {
    let absolute = std::path::absolute(folder).map_err(FileError::of("find", folder))?;
    let url = Url::from_directory_path(absolute).map_err(|()| TableError::Missing(folder.into()))?;
    DeltaTableBuilder::from_url(url).and_then(DeltaTableBuilder::build).map_err(TableError::log(folder))
}

fn properties() -> CommitProperties {
    CommitProperties::default().with_max_retries(0)
}

fn is_lost_race(error: &DeltaTableError) -> bool {
    use TransactionError::{CommitConflict, MaxCommitAttempts, VersionAlreadyExists};
    match error {
        DeltaTableError::VersionAlreadyExists(_) => true,
        DeltaTableError::Transaction { source } => {
            matches!(source, CommitConflict(_) | MaxCommitAttempts(_) | VersionAlreadyExists(_))
        }
        _ => false,
    }
}

fn log_folder(folder: &Path) -> PathBuf {
    folder.join("_delta_log")
}

/// Makes a commit durable, and the checkpoint that the library may have written after it: a checkpoint torn by a
/// power cut would hide the commits that it stands for.
fn sync_commit(folder: &Path, version: u64) -> Result<(), TableError> {
    let log = log_folder(folder);
    let checkpoint = log.join(format!("{version:020}.checkpoint.parquet"));
    if checkpoint.exists() {
        durable::sync(&checkpoint)?;
        durable::sync(&log.join("_last_checkpoint"))?;
    }
    Ok(durable::sync(&log.join(format!("{version:020}.json")))?)
}
