//! Removing the newest rows again, which were written too early: their records are read again.

use std::sync::Arc;

use deltalake_core::kernel::Add;
use futures::TryStreamExt;
use tidemark_kernel::Position;

use super::log::Outcome;
use super::read::read_in_order;
use super::{DataFile, EventTable, Positions, Properties, TableError, layout};

impl EventTable {
    /// Removes the rows that are not before `to`, moves every partition that is beyond `to` back to it, and replaces
    /// the properties: all in one commit, provided that no other handle has committed anything since this one was last
    /// reloaded. Returns whether that was so; if not, nothing was changed.
    ///
    /// # Errors
    /// Fails where the table cannot be read or written; nothing was changed.
    pub async fn take_back(&mut self, to: &Positions, properties: &Properties) -> Result<bool, TableError> {
        let end = |partition| to.get(partition).copied().unwrap_or(Position::START);
        let behind = self.positions().keys().map(|partition| (*partition, end(partition)));
        let back: Positions = behind.filter(|(partition, end)| self.positions()[partition] > *end).collect();
        let (cut, rests) = self.write_rests(&back).await?;
        let outcome = self.log.take_back(&cut, rests.clone(), &back, properties).await;
        if let Ok(Outcome::Committed(_)) = outcome {
            return Ok(true);
        }
        for rest in &rests {
            self.discard(rest).await;
        }
        outcome.map(|_| false)
    }

    /// The files that hold rows not before `to` of the partitions it names, and for each, if it has any others, a file with
    /// these.
    async fn write_rests(&self, to: &Positions) -> Result<(Vec<DataFile>, Vec<Add>), TableError> {
        let beyond = |file: &DataFile| {
            file.partitions.as_ref().is_none_or(|partitions| {
                partitions
                    .iter()
                    .any(|(partition, held)| to.get(partition).is_some_and(|to| held.last >= to.0))
            })
        };
        let files = if to.is_empty() { Vec::new() } else { self.files()? };
        let cut: Vec<DataFile> = files.into_iter().filter(beyond).collect();
        let schema = self.log.stored_columns()?;
        let mut rests = Vec::new();
        for file in &cut {
            let rows = read_in_order(Arc::clone(self.storage()), file.name.clone(), schema.clone()).await?;
            let rows: Vec<_> = rows.try_collect().await?;
            let rows = rows.iter().map(|rows| layout::before(rows, to)).collect::<Result<Vec<_>, _>>();
            let rows = rows.map_err(TableError::rows(self.folder()))?;
            if rows.iter().any(|rows| rows.num_rows() > 0) {
                rests.push(self.write_in_place_of(file, schema.clone(), rows.into_iter().map(Ok)).await?);
            }
        }
        Ok((cut, rests))
    }
}
