//! One view's way into the online store: batches of events become states, a bucket at a time.
//!
//! The store keeps one position per bucket and log. States are loaded together with that position and used only if
//! it is the one we stand at; a flush is applied only if the bucket still stands there. Whoever stands at the stored
//! position may write, since equal position means equal bytes: nothing is owned, and a lost race costs a reload.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::future::try_join_all;
use tidemark_expr::{ViewEvaluator, ViewRows};
use tidemark_kernel::{EntityKey, FeaturePlan, Log, LogState, Position};
use tidemark_store::{BUCKETS, BucketFlush, FlushOutcome, Generation, OnlineStore, StoreError};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::apply;
use crate::decode::Batch;
use crate::error::IngestError;
use crate::metrics::ViewMetrics;
use cache::Cache;

mod cache;

/// A view that is written by one batch at a time.
pub(crate) type SharedView = Arc<Mutex<ViewWriter>>;

/// How a view took a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// Every bucket has all of it.
    Done,
    /// A bucket is not even at the batch's first record: it has to be caught up from history first.
    Behind,
    /// The generation is gone, does not know the log, or a bucket has lost its position: it has to be filled anew.
    Lost,
}

/// One generation of one view, being written.
#[derive(Debug)]
pub struct ViewWriter {
    plan: Arc<FeaturePlan>,
    evaluator: ViewEvaluator,
    store: Arc<dyn OnlineStore>,
    generation: Generation,
    /// Where each bucket stands, as far as we know.
    positions: BTreeMap<Log, Vec<Position>>,
    cache: Cache,
    metrics: Arc<ViewMetrics>,
}

/// An entity of a batch: the rows that concern it, and its state once it is known.
struct Touched {
    key: EntityKey,
    kept: Vec<usize>,
    state: Option<LogState>,
}

/// What is to be done to one bucket.
struct Step {
    bucket: u16,
    from: Position,
    entities: Vec<Touched>,
}

/// Takes a batch on a thread where it may compute for long, so that lookups go on beside it.
pub(crate) async fn advance(view: &SharedView, batch: &Arc<Batch>) -> Result<Advance, IngestError> {
    let mut view = Arc::clone(view).lock_owned().await;
    let (batch, runtime) = (Arc::clone(batch), Handle::current());
    let task = spawn_blocking(move || runtime.block_on(view.advance(&batch)));
    task.await.map_err(IngestError::stopped)?
}

impl ViewWriter {
    /// Reads where a generation stands. None where it has lost a position and must be filled anew.
    ///
    /// # Errors
    /// Fails where the plan does not compile or the store fails.
    pub async fn open(
        plan: Arc<FeaturePlan>,
        store: Arc<dyn OnlineStore>,
        generation: Generation,
        metrics: Arc<ViewMetrics>,
    ) -> Result<Option<Self>, IngestError> {
        let evaluator = ViewEvaluator::new(&plan)
            .map_err(|source| IngestError::View { view: plan.view.clone(), source })?;
        let stored = store.positions(&generation).await?;
        let mut positions = BTreeMap::new();
        for (log, buckets) in stored {
            let all: Option<Vec<Position>> =
                (0..BUCKETS).map(|bucket| buckets.get(&bucket).copied()).collect();
            let Some(all) = all else { return Ok(None) };
            positions.insert(log, all);
        }
        Ok(Some(Self { plan, evaluator, store, generation, positions, cache: Cache::default(), metrics }))
    }

    /// The plan it carries out.
    pub const fn plan(&self) -> &Arc<FeaturePlan> {
        &self.plan
    }

    /// The position that every bucket has reached in a log.
    pub(crate) fn lowest(&self, log: Log) -> Position {
        self.positions.get(&log).and_then(|buckets| buckets.iter().min()).copied().unwrap_or(Position::START)
    }

    /// The position that some bucket has reached in a log.
    pub(crate) fn highest(&self, log: Log) -> Position {
        self.positions.get(&log).and_then(|buckets| buckets.iter().max()).copied().unwrap_or(Position::START)
    }

    /// Starts a log that appeared after the generation was begun.
    pub(crate) async fn add_log(&mut self, log: Log) -> Result<(), IngestError> {
        if self.positions.contains_key(&log) {
            return Ok(());
        }
        self.store.add_log(&self.generation, log, Position::START).await?;
        let stored = self.store.positions(&self.generation).await?.remove(&log).unwrap_or_default();
        let buckets = (0..BUCKETS).map(|bucket| stored.get(&bucket).copied().unwrap_or(Position::START));
        self.positions.insert(log, buckets.collect());
        Ok(())
    }

    /// Applies what each bucket does not have yet, until all have everything.
    ///
    /// # Errors
    /// Fails where the batch does not fit the plan, a stored state cannot be read, or the store fails.
    pub async fn advance(&mut self, batch: &Batch) -> Result<Advance, IngestError> {
        if self.lowest(batch.log) >= batch.to {
            return Ok(Advance::Done);
        }
        if !self.positions.contains_key(&batch.log) {
            return Ok(Advance::Lost);
        }
        let seen = self.evaluator.evaluate(&batch.events);
        let seen = seen.map_err(|source| IngestError::Evaluate { view: self.plan.view.clone(), source })?;
        self.metrics.seen(&seen);
        loop {
            let lowest = self.lowest(batch.log);
            if lowest >= batch.to {
                self.cache.trim();
                return Ok(Advance::Done);
            }
            if lowest < batch.from {
                return Ok(Advance::Behind);
            }
            match self.step(batch, &seen).await {
                Ok(true) => {}
                Ok(false) | Err(IngestError::Store(StoreError::Gone(_))) => return Ok(Advance::Lost),
                Err(error) => return Err(error),
            }
        }
    }

    /// Loads, applies and flushes once. False where a bucket has lost its position.
    async fn step(&mut self, batch: &Batch, seen: &ViewRows) -> Result<bool, IngestError> {
        let steps = self.steps(batch, seen);
        let Some(mut steps) = self.load(batch.log, steps).await? else { return Ok(false) };
        let flushes: Vec<BucketFlush> =
            steps.iter_mut().map(|step| self.applied(step, batch, seen)).collect();
        let sizes: Vec<Vec<usize>> = flushes.iter().map(written).collect();
        self.metrics.flushes(flushes.len());
        let outcomes = self.store.flush(&self.generation, flushes).await?;
        let mut whole = true;
        for ((step, sizes), outcome) in steps.into_iter().zip(sizes).zip(outcomes) {
            let position = match outcome {
                FlushOutcome::Applied => Some(batch.to),
                FlushOutcome::At(position) => position,
            };
            if position == Some(batch.to) {
                self.cache.keep(step.bucket, batch.log, step.entities, &sizes);
            }
            whole &= self.moved(batch.log, step.bucket, position, batch.to);
        }
        Ok(whole)
    }

    /// The buckets that lack something of a batch, with the entities it concerns.
    fn steps(&self, batch: &Batch, seen: &ViewRows) -> Vec<Step> {
        let positions = self.positions.get(&batch.log).map_or(&[][..], Vec::as_slice);
        let mut steps: Vec<Step> = Vec::new();
        let mut step_of = vec![None; usize::from(BUCKETS)];
        for (bucket, from) in (0..BUCKETS).zip(positions).filter(|(_, position)| **position < batch.to) {
            step_of[usize::from(bucket)] = Some(steps.len());
            steps.push(Step { bucket, from: *from, entities: Vec::new() });
        }
        let offsets = batch.offsets();
        let mut entity_of: HashMap<&EntityKey, usize> = HashMap::new();
        for (index, (key, row)) in seen.keys.iter().zip(&seen.rows).enumerate() {
            let Some(step) = step_of[usize::from(key.bucket(BUCKETS))] else { continue };
            let Step { from, entities, .. } = &mut steps[step];
            if from.covers(offsets[*row]) {
                continue;
            }
            let entity = *entity_of.entry(key).or_insert_with(|| {
                entities.push(Touched { key: key.clone(), kept: Vec::new(), state: None });
                entities.len() - 1
            });
            entities[entity].kept.push(index);
        }
        steps
    }

    /// Brings the states of all entities, from the cache or the store. Buckets that turn out to stand elsewhere are
    /// left out: their turn comes again. None where one has lost its position.
    async fn load(&mut self, log: Log, mut steps: Vec<Step>) -> Result<Option<Vec<Step>>, IngestError> {
        for step in &mut steps {
            for entity in &mut step.entities {
                entity.state = self.cache.take(step.bucket, log, &entity.key);
            }
        }
        let missing: Vec<(u16, Vec<EntityKey>)> = steps.iter().map(Step::missing).collect();
        let loads = missing.iter().filter(|(_, keys)| !keys.is_empty());
        let loads = loads.map(|(bucket, keys)| self.store.load(&self.generation, *bucket, log, keys));
        let mut loaded = try_join_all(loads).await?.into_iter();
        let mut current = Vec::with_capacity(steps.len());
        for (mut step, (_, keys)) in steps.into_iter().zip(missing) {
            if keys.is_empty() {
                current.push(step);
                continue;
            }
            let Some(loaded) = loaded.next() else { continue };
            if loaded.position == Some(step.from) {
                self.decode(&mut step, loaded.states)?;
                current.push(step);
            } else if !self.moved(log, step.bucket, loaded.position, step.from) {
                return Ok(None);
            }
        }
        Ok(Some(current))
    }

    fn decode(&self, step: &mut Step, states: Vec<Option<Vec<u8>>>) -> Result<(), IngestError> {
        let missing = step.entities.iter_mut().filter(|entity| entity.state.is_none());
        for (entity, bytes) in missing.zip(states) {
            let state = apply::stored(&self.plan, bytes.as_deref()).map_err(|source| IngestError::State {
                generation: self.generation.clone(),
                key: entity.key.clone(),
                source,
            });
            entity.state = Some(state?);
        }
        Ok(())
    }

    fn applied(&self, step: &mut Step, batch: &Batch, seen: &ViewRows) -> BucketFlush {
        let writes = step.entities.iter_mut().map(|entity| {
            let state = entity.state.get_or_insert_default();
            apply::apply(&self.plan, state, batch, seen, &entity.kept);
            (entity.key.clone(), Some(apply::bytes(&self.plan, state)))
        });
        let writes = writes.collect();
        BucketFlush { bucket: step.bucket, log: batch.log, from: step.from, to: batch.to, writes }
    }

    /// Takes note of where a bucket stands. If that is not `expected`, somebody else moved it, and what we knew of
    /// its states is void. False where it stands nowhere.
    fn moved(&mut self, log: Log, bucket: u16, position: Option<Position>, expected: Position) -> bool {
        if position != Some(expected) {
            self.metrics.lost_race();
            self.cache.forget(bucket, log);
        }
        let known = self.positions.get_mut(&log).and_then(|buckets| buckets.get_mut(usize::from(bucket)));
        match (known, position) {
            (Some(known), Some(position)) => {
                *known = position;
                true
            }
            _ => false,
        }
    }
}

impl Step {
    fn missing(&self) -> (u16, Vec<EntityKey>) {
        let missing = self.entities.iter().filter(|entity| entity.state.is_none());
        (self.bucket, missing.map(|entity| entity.key.clone()).collect())
    }
}

/// How many bytes each state of a flush has.
fn written(flush: &BucketFlush) -> Vec<usize> {
    flush.writes.iter().map(|(_, bytes)| bytes.as_ref().map_or(0, Vec::len)).collect()
}
