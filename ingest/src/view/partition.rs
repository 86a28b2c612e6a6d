//! The writer of one partition of one view.

use std::collections::HashMap;
use std::sync::Arc;

use futures::future::try_join_all;
use tidemark_expr::ViewRows;
use tidemark_kernel::{EntityKey, Partition, PartitionState, Position};
use tidemark_store::{BUCKETS, BucketFlush, FlushOutcome, Loaded, StoreError};

use super::cache::{Cache, Cached};
use super::expiry::{Expiry, Moment};
use super::{Advance, Target};
use crate::apply::{self, Rows};
use crate::decode::Batch;
use crate::error::IngestError;
use crate::memory::WriterMemory;
use crate::mutant::{Mutant, is_on};

/// How far an idle bucket may fall behind before its position is written all the same. Small
/// batches touch few buckets; moving the others as well would be most of the work.
const UNWRITTEN: i64 = 4096;

/// How many states are loaded at once: an answer must not take so long that it times out.
const LOADED: usize = 256;

/// How many rows are worked on at once. More go to a thread where computing delays nothing else; for fewer that would
/// take longer than the work itself.
const INLINE: usize = 256;

/// How many bytes a state is taken to have until one was seen.
const TYPICAL: usize = 16 << 10;

/// How often a state is in memory while it is worked on: as it was, as it is written, and as it is kept.
const COPIES: usize = 3;

/// One partition on its way into one generation of a view.
#[derive(Debug)]
pub(super) struct PartitionWriter {
    target: Arc<Target>,
    partition: Partition,
    /// The position of each bucket, as far as we know.
    buckets: Vec<Standing>,
    cache: Cache,
    memory: WriterMemory,
    /// How many bytes a state that was written lately has.
    typical: usize,
}

/// The positions of a bucket.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// The position that the store keeps.
    stored: Position,
    /// The position up to which the bucket needs no write: no event from `stored` to here concerns it.
    reached: Position,
}

/// An entity of a batch: the rows that concern it, and its state.
#[derive(Debug)]
pub(super) struct Touched {
    pub(super) key: EntityKey,
    pub(super) kept: Vec<usize>,
    /// Its state; none where it has to be loaded.
    pub(super) state: Option<PartitionState>,
    /// What is known of the expiry of its state.
    pub(super) expiry: Option<Expiry>,
    /// Its state as it was loaded; none where there is none.
    loaded: Option<Vec<u8>>,
}

impl Touched {
    pub(super) const fn new(key: EntityKey, state: Option<PartitionState>) -> Self {
        Self { key, kept: Vec::new(), state, expiry: None, loaded: None }
    }
}

/// The work on one bucket.
struct Step {
    bucket: usize,
    from: Position,
    entities: Vec<Touched>,
}

impl PartitionWriter {
    /// A writer of a partition whose buckets are at these positions.
    pub(super) fn new(target: Arc<Target>, partition: Partition, buckets: Vec<Position>) -> Self {
        let memory = target.memory.for_writer();
        let standing = |position| Standing { stored: position, reached: position };
        let buckets = buckets.into_iter().map(standing).collect();
        Self { target, partition, buckets, cache: Cache::default(), memory, typical: TYPICAL }
    }

    /// The position that every bucket has reached.
    pub(super) fn lowest(&self) -> Position {
        self.buckets.iter().map(|bucket| bucket.reached).min().unwrap_or(Position::START)
    }

    /// The position that some bucket has reached.
    pub(super) fn highest(&self) -> Position {
        self.buckets.iter().map(|bucket| bucket.reached).max().unwrap_or(Position::START)
    }

    /// Whether every bucket is stored at this position, as far as we know, and has reached no other.
    pub(super) fn is_at(&self, position: Position) -> bool {
        self.buckets.iter().all(|bucket| bucket.stored == position && bucket.reached == position)
    }

    /// The sum of the positions that the buckets are stored at.
    pub(super) fn progress(&self) -> i128 {
        self.buckets.iter().map(|bucket| i128::from(bucket.stored.0)).sum()
    }

    /// Applies what each bucket does not have yet, until all have everything.
    pub(super) async fn advance(&mut self, batch: &Arc<Batch>) -> Result<Advance, IngestError> {
        if self.lowest() >= batch.to {
            return Ok(Advance::Done);
        }
        let (evaluator, events) = (Arc::clone(&self.target.evaluator), batch.events.clone());
        let seen = self.compute(events.num_rows(), move || evaluator.evaluate(&events)).await?;
        let seen =
            seen.map_err(|source| IngestError::Evaluate { view: self.target.plan.view.clone(), source })?;
        self.target.metrics.seen(&seen);
        let seen = Arc::new(seen);
        loop {
            let lowest = self.lowest();
            if lowest >= batch.to {
                return Ok(Advance::Done);
            }
            if lowest < batch.from {
                return Ok(Advance::Behind);
            }
            if !self.step(batch, &seen).await? {
                return Ok(Advance::Lost);
            }
        }
    }

    /// Compares where the buckets are stored with where we believe them to be, and moves those that nothing happened in
    /// to where the others are. Behind where one is not at `expected`: what this writer believes is no measure, since it
    /// follows a store that falls back.
    pub(super) async fn reconcile(
        &mut self,
        stored: &[Position],
        expected: Position,
    ) -> Result<Advance, IngestError> {
        for (bucket, position) in stored.iter().enumerate() {
            self.moved(bucket, Some(*position), self.buckets[bucket].stored);
        }
        let still =
            self.buckets.iter().enumerate().filter(|(_, standing)| standing.stored < standing.reached);
        let still = still.map(|(bucket, standing)| (bucket, *standing));
        let (buckets, flushes): (Vec<_>, Vec<_>) = still
            .map(|(bucket, Standing { stored, reached })| {
                let of = bucket as u16;
                (
                    (bucket, reached),
                    BucketFlush {
                        bucket: of,
                        partition: self.partition,
                        from: stored,
                        to: reached,
                        writes: vec![],
                    },
                )
            })
            .unzip();
        if !flushes.is_empty() {
            let outcomes = self.flush(flushes).await?;
            for ((bucket, to), outcome) in buckets.into_iter().zip(outcomes) {
                if !self.moved(bucket, position_after(outcome, to), to) {
                    return Ok(Advance::Lost);
                }
            }
        }
        let is_behind = self.lowest() < expected && !is_on(Mutant::Uncompared);
        Ok(if is_behind { Advance::Behind } else { Advance::Done })
    }

    /// Computes, on another thread where that takes long.
    async fn compute<T: Send + 'static>(
        &self,
        rows: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, IngestError> {
        if rows <= INLINE {
            return Ok(work());
        }
        self.target.host.blocking(work).await.map_err(IngestError::stopped)
    }

    /// Loads, applies and flushes once, as many buckets at a time as the memory allows. False where one of them has lost its
    /// position.
    async fn step(&mut self, batch: &Arc<Batch>, seen: &Arc<ViewRows>) -> Result<bool, IngestError> {
        let mut steps = self.steps(batch, seen);
        while !steps.is_empty() {
            let rest = steps.split_off(self.fitting(&steps));
            if !self.work_on(batch, seen, steps).await? {
                return Ok(false);
            }
            steps = rest;
        }
        Ok(true)
    }

    /// How many of these steps, at least one, fit into memory together.
    fn fitting(&self, steps: &[Step]) -> usize {
        let mut entities = self.memory.worked_on() / (COPIES * self.typical.max(1));
        let fits = |step: &&Step| {
            let left = entities.checked_sub(step.entities.len());
            entities = left.unwrap_or(0);
            left.is_some()
        };
        steps.iter().take_while(fits).count().max(1)
    }

    async fn work_on(
        &mut self,
        batch: &Arc<Batch>,
        seen: &Arc<ViewRows>,
        steps: Vec<Step>,
    ) -> Result<bool, IngestError> {
        let Some(steps) = self.load(steps).await? else { return Ok(false) };
        if steps.is_empty() {
            return Ok(true);
        }
        let (target, partition) = (Arc::clone(&self.target), self.partition);
        let (of, rows) = (Arc::clone(batch), Arc::clone(seen));
        let now = Moment::now(&self.target.host);
        let apply = move || apply_all(&target, partition, &of, &rows, steps, now);
        let (mut steps, flushes) = self.compute(seen.rows.len(), apply).await??;
        self.target.metrics.applied(steps.iter().map(Step::rows).sum());
        let outcomes = self.flush(flushes).await?;
        for (step, outcome) in steps.iter_mut().zip(&outcomes) {
            // It was not this write that set the expiry: another writer was there, or the store had forgotten the state.
            if *outcome != FlushOutcome::Applied {
                step.entities.iter_mut().for_each(|entity| entity.expiry = None);
            }
        }
        let outcomes = self.complete(&steps, batch.to, outcomes).await?;
        let mut whole = true;
        let (mut entities, mut bytes) = (0, 0);
        for (step, outcome) in steps.into_iter().zip(outcomes) {
            let position = position_after(outcome, batch.to);
            whole &= self.moved(step.bucket, position, batch.to);
            if position == Some(batch.to) {
                entities += step.entities.len();
                bytes += self.cache.keep(step.bucket, step.entities);
            }
        }
        if let Some(typical) = bytes.checked_div(entities) {
            self.typical = typical;
        }
        self.cache.trim(self.memory.cached());
        Ok(whole)
    }

    async fn flush(&self, flushes: Vec<BucketFlush>) -> Result<Vec<FlushOutcome>, StoreError> {
        self.target.metrics.flushes(flushes.len());
        self.target.metrics.written(flushes.iter().map(written).sum());
        self.target.store.flush(&self.target.generation, flushes).await
    }

    /// Flushes once more, with whole states, the buckets in which the store has forgotten a state that a change was written to.
    async fn complete(
        &self,
        steps: &[Step],
        to: Position,
        mut outcomes: Vec<FlushOutcome>,
    ) -> Result<Vec<FlushOutcome>, StoreError> {
        let incomplete = |(_, outcome): &(usize, &FlushOutcome)| **outcome == FlushOutcome::Incomplete;
        let places: Vec<usize> =
            outcomes.iter().enumerate().filter(incomplete).map(|(place, _)| place).collect();
        if places.is_empty() {
            return Ok(outcomes);
        }
        let whole = |entity: &Touched| {
            let state = apply::whole(&self.target.plan, entity.state.as_ref()?);
            Some((entity.key.clone(), Some(state)))
        };
        let flush = |place: &usize| {
            let step = &steps[*place];
            let writes = step.entities.iter().filter_map(whole).collect();
            BucketFlush { bucket: step.bucket as u16, partition: self.partition, from: step.from, to, writes }
        };
        let completed = self.flush(places.iter().map(flush).collect()).await?;
        for (place, outcome) in places.into_iter().zip(completed) {
            outcomes[place] = outcome;
        }
        Ok(outcomes)
    }

    /// The buckets that lack something of a batch, with the entities it concerns. Those that it does not concern
    /// have it.
    fn steps(&mut self, batch: &Batch, seen: &ViewRows) -> Vec<Step> {
        let mut steps: Vec<Step> = Vec::new();
        let mut step_of = vec![None; self.buckets.len()];
        for (bucket, standing) in self.buckets.iter().enumerate() {
            if standing.reached < batch.to {
                step_of[bucket] = Some(steps.len());
                steps.push(Step { bucket, from: standing.stored, entities: Vec::new() });
            }
        }
        let offsets = batch.offsets();
        let mut entity_of: HashMap<&EntityKey, usize> = HashMap::new();
        for (index, (key, row)) in seen.keys.iter().zip(&seen.rows).enumerate() {
            let bucket = usize::from(key.bucket(BUCKETS));
            let Some(step) = step_of[bucket] else { continue };
            if self.buckets[bucket].reached.covers(offsets[*row]) {
                continue;
            }
            let entities = &mut steps[step].entities;
            let entity = *entity_of.entry(key).or_insert_with(|| {
                entities.push(Touched::new(key.clone(), None));
                entities.len() - 1
            });
            entities[entity].kept.push(index);
        }
        steps.retain(|step| {
            let idle = step.entities.is_empty() && batch.to.0 - step.from.0 < UNWRITTEN;
            if idle {
                self.buckets[step.bucket].reached = batch.to;
            }
            !idle
        });
        steps
    }

    /// Returns the states of all entities, from the cache or the store. Buckets that turn out to be at another position
    /// are left out and tried again later. None where one has lost its position.
    async fn load(&mut self, mut steps: Vec<Step>) -> Result<Option<Vec<Step>>, IngestError> {
        for step in &mut steps {
            for entity in &mut step.entities {
                if let Some(Cached { state, expiry }) = self.cache.take(step.bucket, &entity.key) {
                    (entity.state, entity.expiry) = (Some(state), expiry);
                }
            }
        }
        let missing: Vec<Vec<EntityKey>> = steps.iter().map(Step::missing).collect();
        self.count_hits(&steps, &missing);
        let loads = steps.iter().zip(&missing).filter(|(_, keys)| !keys.is_empty());
        let loads = loads.map(|(step, keys)| self.load_bucket(step, keys));
        let mut loaded = try_join_all(loads).await?.into_iter();
        let mut current = Vec::with_capacity(steps.len());
        for (mut step, keys) in steps.into_iter().zip(missing) {
            if keys.is_empty() {
                current.push(step);
                continue;
            }
            let Some(loaded) = loaded.next() else { continue };
            if loaded.position == Some(step.from) {
                step.loaded(loaded.states);
                current.push(step);
            } else if !self.moved(step.bucket, loaded.position, step.from) {
                return Ok(None);
            }
        }
        Ok(Some(current))
    }

    /// Loads states of a bucket, a part at a time. Where the bucket turns out to be at another position, only that
    /// is returned.
    async fn load_bucket(&self, step: &Step, keys: &[EntityKey]) -> Result<Loaded, StoreError> {
        let (store, generation) = (&self.target.store, &self.target.generation);
        let mut whole = Loaded { position: Some(step.from), states: Vec::with_capacity(keys.len()) };
        for keys in keys.chunks(LOADED) {
            let part = store.load(generation, step.bucket as u16, self.partition, keys).await?;
            if part.position != whole.position {
                return Ok(part);
            }
            whole.states.extend(part.states);
        }
        Ok(whole)
    }

    fn count_hits(&self, steps: &[Step], missing: &[Vec<EntityKey>]) {
        let wanted: usize = steps.iter().map(|step| step.entities.len()).sum();
        let missed: usize = missing.iter().map(Vec::len).sum();
        self.target.metrics.cached(wanted - missed, missed);
    }

    /// Takes note of the stored position of a bucket. If that is not `expected`, another writer has moved it, and what
    /// we knew of its states is void. False where the bucket has no position.
    fn moved(&mut self, bucket: usize, position: Option<Position>, expected: Position) -> bool {
        if position != Some(expected) {
            self.target.metrics.lost_race();
            self.cache.forget(bucket);
        }
        let Some(position) = position else { return false };
        let standing = &mut self.buckets[bucket];
        // What nothing happens in stays so, unless the bucket has fallen back behind it.
        let reached = if position < standing.stored { position } else { standing.reached.max(position) };
        *standing = Standing { stored: position, reached };
        true
    }
}

impl Step {
    /// How many rows it applies.
    fn rows(&self) -> usize {
        self.entities.iter().map(|entity| entity.kept.len()).sum()
    }

    fn missing(&self) -> Vec<EntityKey> {
        let missing = self.entities.iter().filter(|entity| entity.state.is_none());
        missing.map(|entity| entity.key.clone()).collect()
    }

    /// Takes the states of those that were [missing](Self::missing).
    fn loaded(&mut self, states: Vec<Option<Vec<u8>>>) {
        let missing = self.entities.iter_mut().filter(|entity| entity.state.is_none());
        missing.zip(states).for_each(|(entity, state)| entity.loaded = state);
    }
}

/// Applies the rows of each bucket to its states, and returns the flushes to send.
fn apply_all(
    target: &Target,
    partition: Partition,
    batch: &Batch,
    seen: &ViewRows,
    mut steps: Vec<Step>,
    now: Moment,
) -> Result<(Vec<Step>, Vec<BucketFlush>), IngestError> {
    let (rows, mut inputs) = (Rows::of(batch, seen), Vec::new());
    let mut flushes = Vec::with_capacity(steps.len());
    for step in &mut steps {
        let mut writes = Vec::with_capacity(step.entities.len());
        for entity in &mut step.entities {
            let mut state = match entity.state.take() {
                Some(state) => state,
                None => stored(target, &entity.key, entity.loaded.take())?,
            };
            rows.apply(&target.plan, &mut state, &entity.kept, &mut inputs);
            let mut new = apply::changed(&target.plan, &mut state);
            entity.expiry = Some(Expiry::decide(entity.expiry, &mut new, now));
            entity.state = Some(state);
            writes.push((entity.key.clone(), Some(new)));
        }
        flushes.push(BucketFlush {
            bucket: step.bucket as u16,
            partition,
            from: step.from,
            to: batch.to,
            writes,
        });
    }
    Ok((steps, flushes))
}

fn stored(target: &Target, key: &EntityKey, bytes: Option<Vec<u8>>) -> Result<PartitionState, IngestError> {
    apply::stored(&target.plan, target.layout, bytes.as_deref()).map_err(|source| IngestError::State {
        generation: target.generation.clone(),
        key: key.clone(),
        source,
    })
}

fn position_after(outcome: FlushOutcome, to: Position) -> Option<Position> {
    match outcome {
        FlushOutcome::Applied => Some(to),
        FlushOutcome::At(position) => position,
        // Nothing is incomplete that was given whole.
        FlushOutcome::Incomplete => None,
    }
}

/// How many bytes the states of a flush have.
fn written(flush: &BucketFlush) -> usize {
    flush.writes.iter().filter_map(|(_, state)| state.as_ref()).map(|state| state.change.size()).sum()
}
