//! Leaving out records that are [repetitions](tidemark_kernel::unique) of others.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::TryStreamExt;
use tidemark_kernel::unique::{KnownIds, Unique};
use tidemark_kernel::value::arrow::value_at;
use tidemark_kernel::{Partition, Position, Time, Value};
use tidemark_offline::table::layout;
use tidemark_offline::table::retract::retracted;

use super::Pipeline;
use crate::decode::{Batch, arrival_times};
use crate::error::IngestError;
use crate::memory::SourceMemory;
use crate::mutant::{Mutant, is_on};

/// The ids of the events of a partition.
pub(super) struct Known {
    ids: KnownIds,
    /// The position up to which `ids` covers the partition.
    at: Position,
    /// Where the list of retractions ended when they were read.
    retracted: Position,
}

/// A batch without repetitions.
pub(super) struct Deduplicated {
    pub(super) batch: Batch,
    /// How many events it had that were repetitions.
    pub(super) repeated: u64,
}

impl Pipeline {
    /// What counts of a batch, from where its partition was taken on; none where all of it was taken before.
    pub(super) async fn without_repetitions(
        &mut self,
        batch: Batch,
    ) -> Result<Option<Deduplicated>, IngestError> {
        let Some(unique) = self.source.unique.clone() else {
            return Ok(Some(Deduplicated { batch, repeated: 0 }));
        };
        let partition = batch.partition;
        let known = self.known.remove(&partition).filter(|known| self.is_current(partition, known));
        let mut known = match known {
            Some(known) => known,
            None => self.recover_ids(partition, &unique).await?,
        };
        let mut batch = batch;
        if batch.from < known.at {
            batch = batch.starting_at(known.at.min(batch.to));
        }
        let counts = counting(&batch.events, &unique.field, |id, arrival| known.ids.counts(id, arrival));
        let repeated = counts.false_count() as u64;
        if repeated > 0 {
            let events = filter_record_batch(&batch.events, &counts);
            batch.events = events.map_err(|error| self.tables.broken(&error))?;
        }
        let is_new = batch.from < batch.to;
        known.at = known.at.max(batch.to);
        self.known.insert(partition, known);
        check_ids(&self.source.name, &unique, &self.memory, self.known.values_mut())?;
        Ok(is_new.then_some(Deduplicated { batch, repeated }))
    }

    /// Whether known ids are those of a partition as it was taken.
    fn is_current(&self, partition: Partition, known: &Known) -> bool {
        known.at == self.tables.taken(partition) && known.retracted == self.tables.retracted()
    }

    /// Finds the ids of partitions that are about to be read, where the source leaves repetitions out: whatever has to be waited
    /// for is waited for by the caller.
    pub(super) async fn know_ids(&mut self, partitions: &[Partition]) -> Result<(), IngestError> {
        let Some(unique) = self.source.unique.clone() else { return Ok(()) };
        for partition in partitions {
            let known = self.try_recover_ids(*partition, &unique).await?;
            self.known.insert(*partition, known);
        }
        Ok(())
    }

    /// Forgets the ids of these partitions.
    pub(super) fn forget_ids(&mut self, of: impl Fn(Partition) -> bool) {
        self.known.retain(|partition, _| !of(*partition));
    }

    /// Finds the ids of a partition in the event table, which is made to hold all that was taken of it.
    async fn recover_ids(&mut self, partition: Partition, unique: &Unique) -> Result<Known, IngestError> {
        let health = self.health.clone();
        let mut wait = health.wait();
        loop {
            match self.try_recover_ids(partition, unique).await {
                Err(error) if wait.out(&error).await => {}
                recovered => return recovered,
            }
        }
    }

    async fn try_recover_ids(&mut self, partition: Partition, unique: &Unique) -> Result<Known, IngestError> {
        self.commit().await?;
        let at = self.tables.committed(partition);
        let events = &self.tables.open_tables().await?.events;
        let mut known =
            Known { ids: KnownIds::new(unique.within), at, retracted: retracted(events.properties()) };
        let newest =
            events.partition_statistics().await?.get(&partition).and_then(|held| held.newest_arrival);
        let Some(newest) = newest.filter(|_| !is_on(Mutant::ForgottenIds)) else { return Ok(known) };
        let columns = [unique.field.as_str(), layout::ARRIVAL_TIME];
        let mut rows = events.scan_since(&columns, partition, newest.minus(unique.within))?;
        let (memory, source_name) = (Arc::clone(&self.memory), self.source.name.clone());
        while let Some(rows) = rows.try_next().await? {
            counting(&rows, &unique.field, |id, arrival| {
                known.ids.add(id, arrival);
                true
            });
            // Not only once all of them are read: they may be many more.
            check_ids(&source_name, unique, &memory, [&mut known].into_iter())?;
        }
        Ok(known)
    }
}

/// Known ids cannot be given up to make room: what a record is must not depend on how much memory there is.
fn check_ids<'k>(
    source_name: &str,
    unique: &Unique,
    memory: &SourceMemory,
    known: impl Iterator<Item = &'k mut Known>,
) -> Result<(), IngestError> {
    let mut known: Vec<&mut Known> = known.collect();
    let bytes = |known: &[&mut Known]| known.iter().map(|known| known.ids.heap()).sum::<usize>();
    if bytes(&known) <= memory.ids() {
        return Ok(());
    }
    known.iter_mut().for_each(|known| known.ids.prune());
    let bytes = bytes(&known);
    if bytes <= memory.ids() {
        return Ok(());
    }
    let ids = known.iter().map(|known| known.ids.len()).sum();
    let (source_name, within, share) = (source_name.to_owned(), unique.within, memory.ids());
    Err(IngestError::TooManyIds { source_name, ids, within, bytes, share })
}

/// Asks for each event whether it counts.
fn counting(events: &RecordBatch, field: &str, mut counts: impl FnMut(&Value, Time) -> bool) -> BooleanArray {
    let (ids, arrivals) = (events.column_by_name(field), arrival_times(events));
    let row = |(row, arrival): (usize, &i64)| {
        // A table without the column has no id.
        ids.is_none_or(|ids| counts(&value_at(ids, row), Time::from_millis(*arrival)))
    };
    arrivals.iter().enumerate().map(row).map(Some).collect()
}
