//! The table's Delta log: opening, creating, evolving, committing, and the positions and properties kept in it.
//!
//! The position of a partition is a Delta `txn` action: `tidemark/<source>/<partition>` at version = position. Delta
//! looks such actions up by name only, so one more, `tidemark/<source>/partitions`, holds how many partitions to ask
//! for. Two more of a partition, `tidemark/<source>/<partition>/epoch` and `…/epoch_at`, hold its leader epoch: they are
//! always written together. Versions without epochs do not take them for positions, since what follows the source's name
//! is no number.
//!
//! A commit builds only on durable ones: its writer has made the one before durable, or has seen that it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use deltalake_core::kernel::transaction::{
    CommitBuilder, CommitProperties, PROTOCOL, TableReference, TransactionError,
};
use deltalake_core::kernel::{Action, Add, MetadataExt, StructField, StructType, Transaction};
use deltalake_core::logstore::get_actions;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::table::state::DeltaTableState;
use deltalake_core::{DeltaTable, DeltaTableError, TableProperty};
use futures::TryStreamExt;
use tidemark_kernel::{Partition, Position, Time};

use super::properties::{self, Properties};
use super::storage::Storage;
use super::{DataFile, Epoch, Epochs, Positions, TableError, layout, order};
use crate::durable::FileError;
use checkpoint::{KEPT, REMEMBERED, is_due, load};

mod checkpoint;

/// The newest state of a table's log that this handle has seen.
#[derive(Clone)]
pub(super) struct TableLog {
    storage: Arc<dyn Storage>,
    table: DeltaTable,
    source: String,
    positions: Positions,
    properties: Properties,
    /// How many of the commits to come are told as failed once they are in.
    #[cfg(test)]
    pub(super) lost_answers: u32,
}

/// How a commit that was not refused ended.
pub(super) enum Outcome {
    /// The commit is in the log, as this version.
    Committed(u64),
    /// Another commit came first; nothing was written.
    LostRace,
}

impl TableLog {
    /// Opens the log of an existing table; none where there is no table.
    pub(super) async fn open(storage: &Arc<dyn Storage>, source: &str) -> Result<Option<Self>, TableError> {
        if !storage.has_log().await? {
            return Ok(None);
        }
        let table = match load(&**storage).await {
            Err(TableError::Missing(_)) => return Ok(None),
            loaded => loaded?,
        };
        let (positions, properties) = (Positions::new(), Properties::new());
        let mut log = Self {
            storage: Arc::clone(storage),
            table,
            source: source.to_owned(),
            positions,
            properties,
            #[cfg(test)]
            lost_answers: 0,
        };
        let writable = PROTOCOL.can_write_to(log.state()?);
        let place = storage.place();
        writable.map_err(|error| TableError::Newer { path: place.into(), detail: error.to_string() })?;
        sync_seen(&**storage, log.version()).await?;
        log.properties = properties::of(log.state()?.metadata().configuration());
        properties::check_format(place, &log.properties)?;
        log.positions = log.read_positions().await?;
        Ok(Some(log))
    }

    /// Creates the table. Where another process does so at the same time, theirs is opened.
    pub(super) async fn create(
        storage: &Arc<dyn Storage>,
        source: &str,
        columns: &Schema,
    ) -> Result<Self, TableError> {
        storage.prepare().await?;
        let place = storage.place();
        let create = CreateBuilder::new()
            .with_log_store(storage.delta()?.log_store())
            .with_table_name(place.file_name().unwrap_or_default().to_string_lossy())
            .with_columns(layout::delta(columns))
            .with_configuration_property(TableProperty::LogRetentionDuration, Some(KEPT))
            .with_configuration_property(TableProperty::DeletedFileRetentionDuration, Some(REMEMBERED))
            .with_save_mode(SaveMode::Ignore)
            .with_commit_properties(properties());
        match create.await {
            Err(error) if !is_lost_race(&error) => return Err(TableError::log(place)(error)),
            _ => {}
        }
        Self::open(storage, source).await?.ok_or_else(|| TableError::Missing(place.into()))
    }

    /// Where the table is kept.
    pub(super) const fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The error of what Delta says of this table.
    fn failed<E: Into<DeltaTableError>>(&self) -> impl FnOnce(E) -> TableError {
        TableError::log(self.storage.place())
    }

    /// The state last seen.
    fn state(&self) -> Result<&DeltaTableState, TableError> {
        self.table.snapshot().map_err(self.failed())
    }

    /// The table's version.
    pub(super) fn version(&self) -> u64 {
        self.table.version().unwrap_or(0)
    }

    /// The position of every partition of the table.
    pub(super) fn positions(&self) -> &Positions {
        &self.positions
    }

    /// The table's properties.
    pub(super) fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The table's columns.
    pub(super) fn columns(&self) -> Result<StructType, TableError> {
        Ok(self.state()?.schema().as_ref().clone())
    }

    /// The table's columns as they are in the files: all of them, also those that a source has no more.
    pub(super) fn stored_columns(&self) -> Result<SchemaRef, TableError> {
        Ok(self.state()?.snapshot().arrow_schema())
    }

    /// The data files that make up the table.
    #[expect(deprecated, reason = "nothing else gives the tags of a file")]
    pub(super) fn files(&self) -> Result<Vec<Add>, TableError> {
        Ok(self.state()?.log_data().iter().map(|file| file.add_action()).collect())
    }

    /// When files were removed from the table, by their names, as far as the log still tells. A file whose time the log does not
    /// tell, since other programs may leave it out, counts as removed at the end of time.
    pub(super) async fn removed(&self) -> Result<BTreeMap<String, Time>, TableError> {
        let log_store = self.table.log_store();
        let removed = self.state()?.all_tombstones(log_store.as_ref()).map_ok(|file| {
            let at = file.deletion_timestamp().map_or(Time::MAX, Time::from_millis);
            (file.path().into_owned(), at)
        });
        removed.try_collect().await.map_err(self.failed())
    }

    /// What a commit did; none where it has expired.
    pub(super) async fn actions(&self, version: u64) -> Result<Option<Vec<Action>>, TableError> {
        let entry = self.table.log_store().read_commit_entry(version).await;
        let entry = entry.map_err(self.failed())?;
        entry.map(|entry| get_actions(version, &entry)).transpose().map_err(self.failed())
    }

    /// Catches up with what others have committed.
    pub(super) async fn reload(&mut self) -> Result<(), TableError> {
        let mut table = self.table.clone();
        table.update_state().await.map_err(self.failed())?;
        if is_due(self.version(), table.version().unwrap_or(0)) {
            table = load(&*self.storage).await?;
        }
        self.advance(table).await
    }

    /// Goes on to another state of the table, all of it or, on an error, nothing.
    async fn advance(&mut self, table: DeltaTable) -> Result<(), TableError> {
        let mut newer = Self { table, ..self.clone() };
        if newer.version() > self.version() {
            sync_seen(&*self.storage, newer.version()).await?;
            newer.properties = properties::of(newer.state()?.metadata().configuration());
            properties::check_format(self.storage.place(), &newer.properties)?;
            match newer.moved_since(self.version()).await? {
                Some(moved) => newer.positions.extend(moved),
                None => newer.positions = newer.read_positions().await?,
            }
        }
        *self = newer;
        Ok(())
    }

    /// Adds columns to the table, and gives others another type.
    pub(super) async fn change_columns(&mut self, change: layout::Change) -> Result<Outcome, TableError> {
        let layout::Change { retyped, added } = change;
        let state = self.state()?;
        let nullable = |field: &StructField| StructField::nullable(field.name(), field.data_type().clone());
        let schema = state.schema();
        let kept = schema.fields().map(|field| {
            let retyped = retyped.iter().find(|retyped| retyped.name() == field.name());
            retyped.map_or_else(|| field.clone(), nullable)
        });
        let columns = kept.chain(added.iter().map(nullable)).collect::<Vec<_>>();
        let schema = StructType::try_new(columns).map_err(self.failed())?;
        let metadata = state.metadata().clone().with_schema(&schema).map_err(self.failed())?;
        let fields = [retyped, added].concat();
        self.commit(vec![Action::Metadata(metadata)], DeltaOperation::AddColumn { fields }).await
    }

    /// Replaces the properties, where given, and names partitions that were not named yet.
    pub(super) async fn declare(
        &mut self,
        properties: Option<&Properties>,
        starts: &Positions,
    ) -> Result<Outcome, TableError> {
        let mut actions = self.moves(starts);
        if let Some(properties) = properties {
            let metadata = properties::put(self.state()?.metadata(), properties);
            actions.push(Action::Metadata(metadata.map_err(self.failed())?));
        }
        let properties =
            properties.into_iter().flatten().map(|(name, property)| (name.clone(), property.clone()));
        let operation = DeltaOperation::SetTableProperties { properties: properties.collect() };
        self.commit(actions, operation).await
    }

    /// Adds a data file, if any, moves the partitions in `to`, and records leader epochs.
    pub(super) async fn append(
        &mut self,
        file: Option<Add>,
        to: &Positions,
        epochs: &Epochs,
    ) -> Result<Outcome, TableError> {
        let moves = self.moves(to).into_iter().chain(self.epoch_actions(epochs));
        let actions = file.map(Action::Add).into_iter().chain(moves).collect();
        let operation = DeltaOperation::Write { mode: SaveMode::Append, partition_by: None, predicate: None };
        self.commit(actions, operation).await
    }

    /// Puts one data file in place of others that hold the same rows.
    pub(super) async fn replace(&mut self, parts: &[DataFile], merged: Add) -> Result<Outcome, TableError> {
        let target_size = merged.size;
        let files = self.state()?.log_data();
        let replaced = files.iter().filter(|file| parts.iter().any(|part| part.name == file.path()));
        let mut actions: Vec<Action> =
            replaced.map(|file| Action::Remove(file.remove_action(false))).collect();
        actions.push(Action::Add(Add { data_change: false, ..merged }));
        self.commit(actions, DeltaOperation::Optimize { predicate: None, target_size }).await
    }

    /// Puts the rests of data files in their place, puts partitions back, and replaces the properties.
    pub(super) async fn take_back(
        &mut self,
        cut: &[DataFile],
        rests: Vec<Add>,
        back: &Positions,
        properties: &Properties,
    ) -> Result<Outcome, TableError> {
        let state = self.state()?;
        let metadata = properties::put(state.metadata(), properties).map_err(self.failed())?;
        let files = state.log_data();
        let files = files.iter().filter(|file| cut.iter().any(|cut| cut.name == file.path()));
        let mut actions: Vec<Action> = files.map(|file| Action::Remove(file.remove_action(true))).collect();
        actions.extend(rests.into_iter().map(Action::Add));
        actions.extend(self.moves(back));
        actions.push(Action::Metadata(metadata));
        self.commit(actions, DeltaOperation::Delete { predicate: None }).await
    }

    /// Puts the rests of data files in their place: rows of them are gone.
    pub(super) async fn cut(&mut self, cut: &[DataFile], rests: Vec<Add>) -> Result<Outcome, TableError> {
        let files = self.state()?.log_data();
        let files = files.iter().filter(|file| cut.iter().any(|cut| cut.name == file.path()));
        let mut actions: Vec<Action> = files.map(|file| Action::Remove(file.remove_action(true))).collect();
        actions.extend(rests.into_iter().map(Action::Add));
        self.commit(actions, DeltaOperation::Delete { predicate: None }).await
    }

    /// Commits nothing: a writer that has not seen it loses the race against it.
    pub(super) async fn fence(&mut self) -> Result<Outcome, TableError> {
        let operation = DeltaOperation::VacuumStart {
            retention_check_enabled: false,
            specified_retention_millis: None,
            default_retention_millis: 0,
        };
        self.commit(vec![], operation).await
    }

    /// The actions that store the positions of partitions.
    fn moves(&self, to: &Positions) -> Vec<Action> {
        let transaction = |id, version| Action::Txn(Transaction::new(id, version));
        let mut moves: Vec<Action> =
            to.iter().map(|(partition, position)| transaction(self.app_id(*partition), position.0)).collect();
        let (known, partitions) = (partitions(&self.positions), partitions(to));
        if partitions > known {
            moves.push(transaction(self.partitions_id(), partitions));
        }
        moves
    }

    /// The actions that record leader epochs.
    fn epoch_actions(&self, epochs: &Epochs) -> Vec<Action> {
        let transaction = |id, version| Action::Txn(Transaction::new(id, version));
        let both = epochs.iter().flat_map(|(partition, epoch)| {
            let number = transaction(self.epoch_id(*partition), i64::from(epoch.number));
            [number, transaction(self.epoch_at_id(*partition), epoch.until.0)]
        });
        both.collect()
    }

    /// The leader epoch that was last recorded of a partition.
    pub(super) async fn epoch(&self, partition: Partition) -> Result<Option<Epoch>, TableError> {
        let Some(until) = self.transaction(self.epoch_at_id(partition)).await? else { return Ok(None) };
        let number = self.transaction(self.epoch_id(partition)).await?;
        let number = number.and_then(|number| i32::try_from(number).ok());
        Ok(number.map(|number| Epoch { number, until: Position(until) }))
    }

    /// The positions of partitions that actions store.
    fn moved(&self, actions: &[Action]) -> Positions {
        let moved = actions.iter().filter_map(|action| match action {
            Action::Txn(moved) => Some((self.partition_of(&moved.app_id)?, Position(moved.version))),
            _ => None,
        });
        moved.collect()
    }

    /// Commits to the very next version or not at all: put-if-absent of its entry decides. Delta's own retries would put a
    /// commit behind one that moved the same partitions, so there are none.
    async fn commit(
        &mut self,
        actions: Vec<Action>,
        operation: DeltaOperation,
    ) -> Result<Outcome, TableError> {
        let state = self.state()?;
        let moved = self.moved(&actions);
        let actions = order::in_commit(actions, self.version() + 1);
        let commit = CommitBuilder::from(properties()).with_actions(actions).build(
            Some(state as &dyn TableReference),
            self.table.log_store(),
            operation,
        );
        let committed = match commit.await {
            Ok(committed) => committed,
            Err(error) if is_lost_race(&error) || self.has_expired(&error).await => {
                return Ok(Outcome::LostRace);
            }
            Err(error) => return Err(self.failed()(error)),
        };
        // Seen only once it is durable: if this fails, the next commit loses its race and finds the positions moved.
        let version = committed.version();
        #[cfg(test)]
        self.lose_answer()?;
        self.storage.sync_commit(version).await?;
        self.properties = properties::of(committed.snapshot.metadata().configuration());
        self.table.state = Some(committed.snapshot);
        self.positions.extend(moved);
        if is_due(version - 1, version) {
            self.checkpoint().await;
        }
        Ok(Outcome::Committed(version))
    }

    /// Fails as a disk does that cannot sync what it holds, as often as a test wants it to.
    #[cfg(test)]
    fn lose_answer(&mut self) -> Result<(), TableError> {
        if self.lost_answers == 0 {
            return Ok(());
        }
        self.lost_answers -= 1;
        let source = std::io::ErrorKind::TimedOut.into();
        Err(TableError::File(FileError { action: "sync", path: self.storage.place().to_owned(), source }))
    }

    /// Whether a commit failed because the state that this handle has seen is so old that its commits are gone.
    async fn has_expired(&mut self, error: &DeltaTableError) -> bool {
        let seen = self.version();
        matches!(error, DeltaTableError::InvalidVersion(_))
            && self.reload().await.is_ok()
            && self.version() > seen
    }

    /// Where the commits after a version have moved partitions; none where some of them have expired.
    async fn moved_since(&self, version: u64) -> Result<Option<Positions>, TableError> {
        let mut moved = Positions::new();
        for version in version + 1..=self.version() {
            let Some(actions) = self.actions(version).await? else { return Ok(None) };
            moved.extend(self.moved(&actions));
        }
        Ok(Some(moved))
    }

    async fn read_positions(&self) -> Result<Positions, TableError> {
        let partitions = self.transaction(self.partitions_id()).await?.unwrap_or(0);
        let partitions = (0..partitions).filter_map(|partition| i32::try_from(partition).ok()).map(Partition);
        let mut positions = Positions::new();
        for partition in [Partition::PUSH, Partition::FILE].into_iter().chain(partitions) {
            if let Some(position) = self.transaction(self.app_id(partition)).await? {
                positions.insert(partition, Position(position));
            }
        }
        Ok(positions)
    }

    async fn transaction(&self, app_id: String) -> Result<Option<i64>, TableError> {
        let log_store = self.table.log_store();
        let version = self.state()?.transaction_version(log_store.as_ref(), app_id).await;
        version.map_err(self.failed())
    }

    fn app_id(&self, partition: Partition) -> String {
        format!("tidemark/{}/{partition}", self.source)
    }

    fn epoch_id(&self, partition: Partition) -> String {
        format!("{}/epoch", self.app_id(partition))
    }

    fn epoch_at_id(&self, partition: Partition) -> String {
        format!("{}/epoch_at", self.app_id(partition))
    }

    /// The partition whose position an action holds; none where it holds something else.
    fn partition_of(&self, app_id: &str) -> Option<Partition> {
        match app_id.strip_prefix("tidemark/")?.strip_prefix(&self.source)?.strip_prefix('/')? {
            name if name == Partition::FILE.to_string() => Some(Partition::FILE),
            name if name == Partition::PUSH.to_string() => Some(Partition::PUSH),
            name => name.parse().ok().map(Partition),
        }
    }

    fn partitions_id(&self) -> String {
        format!("tidemark/{}/partitions", self.source)
    }
}

/// One more than the highest partition number; 0 where there is none.
fn partitions(positions: &Positions) -> i64 {
    positions.last_key_value().map_or(0, |(partition, _)| i64::from(partition.0.max(-1)) + 1)
}

/// Checkpoints and what expires are ours: the library would look through the whole log after every commit, and take
/// a checkpoint that cannot be written for a commit that is not in.
fn properties() -> CommitProperties {
    let properties = CommitProperties::default().with_max_retries(0);
    properties.with_create_checkpoint(false).with_cleanup_expired_logs(Some(false))
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

/// Makes a commit durable whose process may have been killed before it could. On a file system that is not written
/// to there is none.
async fn sync_seen(storage: &dyn Storage, version: u64) -> Result<(), FileError> {
    use std::io::ErrorKind::{InvalidInput, ReadOnlyFilesystem, Unsupported};
    match storage.sync_commit(version).await {
        Err(error) if matches!(error.source.kind(), InvalidInput | ReadOnlyFilesystem | Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}
