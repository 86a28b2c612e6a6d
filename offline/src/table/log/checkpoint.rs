//! Checkpoints of the table's log. Without them, opening a table would take longer with each commit.

use deltalake_core::checkpoints::{cleanup_metadata, create_checkpoint};
use deltalake_core::{DeltaTable, DeltaTableError};
use tidemark_kernel::Explain;

use super::TableLog;
use crate::table::TableError;
use crate::table::storage::Storage;

/// How many commits are summed up in a checkpoint: so few that replaying the rest takes no time.
const COMMITS_PER_CHECKPOINT: u64 = 100;

/// How long commits are kept that a checkpoint sums up. Nobody travels back in a table that only grows; a reader needs them for
/// the moment in which it opens the table.
pub(super) const KEPT: &str = "interval 1 days";

/// How long the log names files that were removed from the table: a day longer than workers keep them. Tables of earlier versions
/// have a day in all.
pub(super) const REMEMBERED: &str = "interval 2 days";

/// Whether there is a checkpoint to be made, or to be found, on the way from one version to another.
pub(super) fn is_due(from: u64, to: u64) -> bool {
    to / COMMITS_PER_CHECKPOINT > from / COMMITS_PER_CHECKPOINT
}

impl TableLog {
    /// Sums up the log and removes what has expired of it. The table is whole without; the next hundred tries again.
    pub(super) async fn checkpoint(&mut self) {
        if let Err(error) = self.try_checkpoint().await {
            let (table, error) = (self.storage.place().display(), error.explained());
            tracing::warn!(%table, %error, "the log of the table could not be summed up; opening it takes longer");
        }
    }

    async fn try_checkpoint(&mut self) -> Result<(), TableError> {
        create_checkpoint(&self.table, None).await.map_err(self.failed())?;
        // One that a power cut has torn would hide the commits that it stands for.
        self.storage.sync_checkpoint(self.version()).await?;
        cleanup_metadata(&self.table, None).await.map_err(self.failed())?;
        self.advance(load(&*self.storage).await?).await
    }
}

/// The newest state of a table, from its newest checkpoint.
///
/// A state that goes from commit to commit refers to commits that expire, and carries a batch of files for each of
/// them through every further one. So a handle is loaded again at each checkpoint.
pub(super) async fn load(storage: &dyn Storage) -> Result<DeltaTable, TableError> {
    let (mut table, place) = (storage.delta()?, storage.place());
    match table.load().await {
        Err(DeltaTableError::NotATable(_)) => Err(TableError::Missing(place.into())),
        result => result.map(|()| table).map_err(TableError::log(place)),
    }
}
