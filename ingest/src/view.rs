//! The writer of one view: it applies batches of events to states and flushes them to the online store by bucket.
//!
//! The store keeps one position per bucket and partition. States are loaded together with that position and used only if
//! it is the writer's own; a flush is applied only if the bucket is still at it. Every writer whose position is the
//! stored one may write, since equal position means equal bytes: nothing is owned, and a lost race costs a reload.
//!
//! Partitions do not wait for each other: each has a [writer](PartitionWriter) of its own, with its own positions and cache.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidemark_expr::ViewEvaluator;
use tidemark_host::Host;
use tidemark_kernel::{FeaturePlan, Layout, Partition, Position};
use tidemark_offline::Positions as PartitionPositions;
use tidemark_store::{BUCKETS, Generation, OnlineStore, Positions, StoreError, begun_at, names_every_bucket};

use crate::decode::Batch;
use crate::error::IngestError;
use crate::memory::Memory;
use crate::metrics::ViewMetrics;
use crate::mutant::{Mutant, is_on};
use partition::PartitionWriter;

mod cache;
mod expiry;
mod partition;

/// How often to look whether a partition has all of its positions, and the pause in between.
const ATTEMPTS: usize = 5;
const PAUSE: Duration = Duration::from_millis(50);

/// A view that several partitions are written to at once.
pub(crate) type SharedView = Arc<ViewWriter>;

/// How a view took a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Every bucket has all of it.
    Done,
    /// A bucket is not even at the batch's first record: it has to be caught up from history first.
    Behind,
    /// The generation is gone, does not know the partition, or a bucket has lost its position: the view must be
    /// backfilled again.
    Lost,
}

/// One generation of one view, being written.
#[derive(Debug)]
pub struct ViewWriter {
    target: Arc<Target>,
    /// The position in [`Partition::RETRACTIONS`] that it was begun at.
    retractions: Position,
    partitions: Mutex<BTreeMap<Partition, Arc<tokio::sync::Mutex<PartitionWriter>>>>,
}

/// What the writers of all partitions share.
#[derive(Debug)]
struct Target {
    host: Host,
    plan: Arc<FeaturePlan>,
    evaluator: Arc<ViewEvaluator>,
    store: Arc<dyn OnlineStore>,
    generation: Generation,
    /// Of its states.
    layout: Layout,
    metrics: Arc<ViewMetrics>,
    memory: Memory,
}

impl ViewWriter {
    /// Reads the positions of a generation. None where it is gone, has lost a position, or is of another plan: another
    /// one must be backfilled.
    ///
    /// # Errors
    /// Fails where the plan does not compile or the store fails.
    pub async fn open(
        host: Host,
        plan: Arc<FeaturePlan>,
        store: Arc<dyn OnlineStore>,
        generation: Generation,
        metrics: Arc<ViewMetrics>,
        memory: Memory,
    ) -> Result<Option<Self>, IngestError> {
        let mut stored = match store.positions(&generation).await {
            Err(StoreError::Gone(_)) if !is_on(Mutant::LostView) => return Ok(None),
            stored => stored?,
        };
        let retractions = begun_at(&stored);
        stored.remove(&Partition::RETRACTIONS);
        if !names_every_bucket(&stored) {
            return Ok(None);
        }
        let evaluator = ViewEvaluator::new(&plan)
            .map_err(|source| IngestError::View { view: plan.view.clone(), source })?;
        let evaluator = Arc::new(evaluator);
        let Some(layout) = plan.layout_of_generation(generation.fingerprint) else { return Ok(None) };
        let target = Target { host, plan, evaluator, store, generation, layout, metrics, memory };
        let target = Arc::new(target);
        let mut partitions = BTreeMap::new();
        for partition in stored.keys() {
            let Some(buckets) = buckets(&stored, *partition) else { return Ok(None) };
            partitions
                .insert(*partition, shared(PartitionWriter::new(Arc::clone(&target), *partition, buckets)));
        }
        Ok(Some(Self { target, retractions, partitions: Mutex::new(partitions) }))
    }

    /// The plan it carries out.
    pub fn plan(&self) -> &Arc<FeaturePlan> {
        &self.target.plan
    }

    /// The generation it writes.
    pub(crate) fn generation(&self) -> &Generation {
        &self.target.generation
    }

    /// The position in [`Partition::RETRACTIONS`] that it was begun at: rows that were taken back before are not in it.
    pub(crate) const fn retractions(&self) -> Position {
        self.retractions
    }

    /// The position that every bucket has reached in a partition.
    pub(crate) async fn lowest(&self, partition: Partition) -> Position {
        match self.writer(partition) {
            Some(writer) => writer.lock().await.lowest(),
            None => Position::START,
        }
    }

    /// The position that some bucket has reached in a partition.
    pub(crate) async fn highest(&self, partition: Partition) -> Position {
        match self.writer(partition) {
            Some(writer) => writer.lock().await.highest(),
            None => Position::START,
        }
    }

    /// Differs between two looks if any process has moved a bucket in a partition in between.
    pub(crate) async fn progress(&self, partition: Partition) -> i128 {
        match self.writer(partition) {
            Some(writer) => writer.lock().await.progress(),
            None => 0,
        }
    }

    /// Makes sure that a partition is written: one that appeared after the generation was begun, from its first record. False
    /// for one that has lost a position: every batch of it will find the generation lost.
    pub(crate) async fn add_partition(&self, partition: Partition) -> Result<bool, IngestError> {
        if self.writer(partition).is_some() {
            return Ok(true);
        }
        let (store, generation) = (&self.target.store, &self.target.generation);
        for _ in 0..ATTEMPTS {
            let stored = store.positions_of(generation, &[partition]).await?;
            if let Some(buckets) = buckets(&stored, partition) {
                self.partitions.lock().insert(
                    partition,
                    shared(PartitionWriter::new(Arc::clone(&self.target), partition, buckets)),
                );
                return Ok(true);
            }
            match stored.get(&partition) {
                None => store.add_partition(generation, partition, Position::START).await?,
                // Another worker may be about to add it.
                Some(_) => self.target.host.sleep(PAUSE).await,
            }
        }
        Ok(false)
    }

    /// As [`add_partition`](Self::add_partition), for partitions whose positions were just read. One that has lost a position is left out.
    pub(crate) fn add_read(&self, stored: &Positions) {
        let mut partitions = self.partitions.lock();
        for partition in stored.keys() {
            let Some(buckets) = buckets(stored, *partition) else { continue };
            let writer = || shared(PartitionWriter::new(Arc::clone(&self.target), *partition, buckets));
            partitions.entry(*partition).or_insert_with(writer);
        }
    }

    /// Whether every bucket is stored at exactly these positions, as far as this process knows. False while something is being
    /// applied: then the positions are checked anyway.
    pub(crate) fn is_at(&self, expected: &PartitionPositions) -> bool {
        expected.iter().all(|(partition, position)| {
            let Some(writer) = self.writer(*partition) else { return false };
            writer.try_lock().is_ok_and(|writer| writer.is_at(*position))
        })
    }

    /// Lets go of a partition.
    pub(crate) fn forget(&self, partition: Partition) {
        self.partitions.lock().remove(&partition);
    }

    /// Applies what each bucket does not have yet, until all have everything.
    ///
    /// # Errors
    /// Fails where the batch does not fit the plan, a stored state cannot be read, or the store fails.
    pub async fn advance(&self, batch: &Arc<Batch>) -> Result<Advance, IngestError> {
        let Some(writer) = self.writer(batch.partition) else { return Ok(Advance::Lost) };
        found(writer.lock().await.advance(batch).await)
    }

    /// Stores the positions that were reached in these partitions, and compares what the store then holds with where each
    /// should be: the store may have fallen back while nothing was written.
    pub(crate) async fn reconcile(&self, expected: &PartitionPositions) -> Result<Advance, IngestError> {
        let partitions: Vec<Partition> = expected.keys().copied().collect();
        let stored = match self.target.store.positions_of(&self.target.generation, &partitions).await {
            Err(StoreError::Gone(_)) => return Ok(Advance::Lost),
            stored => stored?,
        };
        for (partition, expected) in expected {
            let Some(buckets) = buckets(&stored, *partition) else { return Ok(Advance::Lost) };
            // The view was released meanwhile.
            let Some(writer) = self.writer(*partition) else { continue };
            let reconciled = found(writer.lock().await.reconcile(&buckets, *expected).await)?;
            if reconciled != Advance::Done {
                return Ok(reconciled);
            }
        }
        Ok(Advance::Done)
    }

    /// Whether lookups are answered from this generation. A store that has fallen back may have forgotten that.
    pub(crate) async fn is_live(&self) -> Result<bool, IngestError> {
        let live = self.target.store.live(&self.target.plan.view).await?;
        Ok(live.as_ref() == Some(&self.target.generation))
    }

    fn writer(&self, partition: Partition) -> Option<Arc<tokio::sync::Mutex<PartitionWriter>>> {
        self.partitions.lock().get(&partition).cloned()
    }
}

fn shared(writer: PartitionWriter) -> Arc<tokio::sync::Mutex<PartitionWriter>> {
    Arc::new(tokio::sync::Mutex::new(writer))
}

/// The position of every bucket; none where one has lost it.
fn buckets(stored: &Positions, partition: Partition) -> Option<Vec<Position>> {
    let buckets = stored.get(&partition)?;
    (0..BUCKETS).map(|bucket| buckets.get(&bucket).copied()).collect()
}

/// A generation that another process has dropped is no error.
fn found(outcome: Result<Advance, IngestError>) -> Result<Advance, IngestError> {
    match outcome {
        Err(IngestError::Store(StoreError::Gone(_))) => Ok(Advance::Lost),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
