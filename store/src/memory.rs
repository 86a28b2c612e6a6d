//! The contract in its plainest form: everything in memory under one lock. For tests and for throw-away runs.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::parts::StateChange;
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::time::{Span, Time};

use crate::contract::{
    BUCKETS, BucketFlush, Clock, EntityLookup, EntityPages, EntityStates, FlushOutcome, Generation, Loaded,
    NewState, OnlineStore, PartitionStates, Positions, PublishOutcome, Sizes, check_bucket, check_flushes,
    compare_history,
};
use crate::error::StoreError;
use crate::parts;
use crate::sweep::{Sweep, Term};

#[cfg(any(test, feature = "conformance"))]
mod faults;

#[cfg(any(test, feature = "conformance"))]
pub use faults::Snapshot;

/// How many entities one step of a sweep looks at.
const STEP: usize = 1000;

/// What messages call the store.
const PLACE: &str = "in memory";

/// An online store that forgets everything when it is dropped.
pub struct MemoryStore {
    clock: Clock,
    held: Mutex<Held>,
}

#[derive(Clone, Default)]
struct Held {
    newest: u64,
    generations: BTreeMap<Generation, Contents>,
    live: BTreeMap<String, Generation>,
    /// The history recorded for each source.
    histories: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
struct Contents {
    positions: Positions,
    entities: BTreeMap<EntityKey, BTreeMap<Partition, State>>,
}

#[derive(Clone)]
struct State {
    first: Vec<u8>,
    /// The other parts by number.
    others: BTreeMap<i64, Vec<u8>>,
    term: Term,
}

impl State {
    /// All parts in one piece.
    fn bytes(&self) -> Vec<u8> {
        let parts: Vec<&[u8]> =
            std::iter::once(&self.first).chain(self.others.values()).map(Vec::as_slice).collect();
        parts.concat()
    }
}

impl MemoryStore {
    /// An empty store that tells by `clock` when a state was written, and whether it may be forgotten.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, held: Mutex::default() }
    }
}

impl Held {
    fn contents(&self, generation: &Generation) -> Result<&Contents, StoreError> {
        self.generations.get(generation).ok_or_else(|| StoreError::Gone(generation.clone()))
    }

    fn contents_mut(&mut self, generation: &Generation) -> Result<&mut Contents, StoreError> {
        self.generations.get_mut(generation).ok_or_else(|| StoreError::Gone(generation.clone()))
    }
}

impl Contents {
    fn position(&self, partition: Partition, bucket: u16) -> Option<Position> {
        self.positions.get(&partition)?.get(&bucket).copied()
    }

    fn states(&self, key: &EntityKey) -> PartitionStates {
        let partitions = self.entities.get(key).into_iter().flatten();
        partitions.map(|(partition, state)| (*partition, state.bytes())).collect()
    }

    fn add_partition(&mut self, partition: Partition, position: Position) {
        let buckets = self.positions.entry(partition).or_default();
        for bucket in 0..BUCKETS {
            buckets.entry(bucket).or_insert(position);
        }
    }

    fn flush(&mut self, flush: BucketFlush, now: Time) -> FlushOutcome {
        let is_stored = |key: &EntityKey| {
            self.entities.get(key).is_some_and(|partitions| partitions.contains_key(&flush.partition))
        };
        let is_complete = flush.kept().all(is_stored);
        let stored =
            self.positions.get_mut(&flush.partition).and_then(|buckets| buckets.get_mut(&flush.bucket));
        match stored {
            Some(position) if *position == flush.from && is_complete => *position = flush.to,
            Some(position) if *position == flush.from => return FlushOutcome::Incomplete,
            other => return FlushOutcome::At(other.copied()),
        }
        for (key, state) in flush.writes {
            self.write(key, flush.partition, state, now);
        }
        FlushOutcome::Applied
    }

    fn write(&mut self, key: EntityKey, partition: Partition, state: Option<NewState>, now: Time) {
        let partitions = self.entities.entry(key.clone()).or_default();
        match state {
            Some(NewState { change: StateChange { first, parts: changes, rest }, retention, renew }) => {
                let (mut term, mut others) = (Term { written: now, retention }, BTreeMap::new());
                if let Some(stored) = partitions.remove(&partition) {
                    others = stored.others;
                    if !renew {
                        term = stored.term;
                    }
                }
                parts::change(&mut others, changes, rest);
                partitions.insert(partition, State { first, others, term });
            }
            None => drop(partitions.remove(&partition)),
        }
        if partitions.is_empty() {
            self.entities.remove(&key);
        }
    }

    fn page(&self) -> Vec<EntityStates> {
        let entity = |key: &EntityKey| EntityStates { key: key.clone(), states: self.states(key) };
        self.entities.keys().map(entity).collect()
    }
}

#[async_trait]
impl OnlineStore for MemoryStore {
    async fn load(
        &self,
        generation: &Generation,
        bucket: u16,
        partition: Partition,
        keys: &[EntityKey],
    ) -> Result<Loaded, StoreError> {
        check_bucket(bucket, keys)?;
        let held = self.held.lock();
        let contents = held.contents(generation)?;
        let state = |key| Some(contents.entities.get(key)?.get(&partition)?.bytes());
        Ok(Loaded {
            position: contents.position(partition, bucket),
            states: keys.iter().map(state).collect(),
        })
    }

    async fn flush(
        &self,
        generation: &Generation,
        flushes: Vec<BucketFlush>,
    ) -> Result<Vec<FlushOutcome>, StoreError> {
        check_flushes(&flushes)?;
        let now = (self.clock)();
        let mut held = self.held.lock();
        let contents = held.contents_mut(generation)?;
        Ok(flushes.into_iter().map(|flush| contents.flush(flush, now)).collect())
    }

    async fn lookup(
        &self,
        generation: &Generation,
        keys: &[EntityKey],
    ) -> Result<Vec<EntityLookup>, StoreError> {
        let held = self.held.lock();
        let contents = held.contents(generation)?;
        Ok(keys.iter().map(|key| Ok(contents.states(key))).collect())
    }

    async fn positions(&self, generation: &Generation) -> Result<Positions, StoreError> {
        Ok(self.held.lock().contents(generation)?.positions.clone())
    }

    async fn claim_history(&self, source: &str, history: &str) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        let recorded = held.histories.entry(source.to_owned()).or_insert_with(|| history.to_owned());
        compare_history(PLACE, source, Some(recorded), history)
    }

    async fn check_history(&self, source: &str, history: &str) -> Result<(), StoreError> {
        let held = self.held.lock();
        compare_history(PLACE, source, held.histories.get(source).map(String::as_str), history)
    }

    async fn begin(
        &self,
        view: &str,
        fingerprint: Fingerprint,
        positions: &BTreeMap<Partition, Position>,
        _least: Option<Span>,
    ) -> Result<Generation, StoreError> {
        let mut held = self.held.lock();
        held.newest += 1;
        let generation = Generation { view: view.to_owned(), number: held.newest, fingerprint };
        let mut contents = Contents::default();
        positions.iter().for_each(|(partition, position)| contents.add_partition(*partition, *position));
        held.generations.insert(generation.clone(), contents);
        Ok(generation)
    }

    async fn add_partition(
        &self,
        generation: &Generation,
        partition: Partition,
        position: Position,
    ) -> Result<(), StoreError> {
        self.held.lock().contents_mut(generation)?.add_partition(partition, position);
        Ok(())
    }

    async fn publish(
        &self,
        view: &str,
        expected: Option<&Generation>,
        new: Option<&Generation>,
    ) -> Result<PublishOutcome, StoreError> {
        let mut held = self.held.lock();
        if let Some(new) = new.filter(|new| new.view != view || !held.generations.contains_key(new)) {
            return Err(StoreError::Gone(new.clone()));
        }
        let live = held.live.get(view);
        if live != expected {
            return Ok(PublishOutcome::Live(live.cloned()));
        }
        match new {
            Some(new) => drop(held.live.insert(view.to_owned(), new.clone())),
            None => drop(held.live.remove(view)),
        }
        Ok(PublishOutcome::Published)
    }

    async fn live(&self, view: &str) -> Result<Option<Generation>, StoreError> {
        Ok(self.held.lock().live.get(view).cloned())
    }

    async fn unpublished(&self, view: &str) -> Result<Vec<Generation>, StoreError> {
        let held = self.held.lock();
        let live = held.live.get(view);
        let others =
            held.generations.keys().filter(|generation| generation.view == view && Some(*generation) != live);
        Ok(others.cloned().collect())
    }

    async fn drop_generation(&self, generation: &Generation) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        if held.live.get(&generation.view) == Some(generation) {
            return Err(StoreError::Live(generation.clone()));
        }
        held.generations.remove(generation);
        Ok(())
    }

    async fn entities<'a>(
        &'a self,
        generation: &Generation,
    ) -> Result<Box<dyn EntityPages + 'a>, StoreError> {
        Ok(Box::new(OnePage(self.held.lock().contents(generation)?.page())))
    }

    async fn sizes(&self, generation: &Generation) -> Result<Sizes, StoreError> {
        let mut sizes = Sizes::default();
        self.held.lock().contents(generation)?.page().iter().for_each(|entity| sizes.add(entity));
        Ok(sizes)
    }

    async fn expire(&self, generation: &Generation, sweep: &mut Sweep) -> Result<u64, StoreError> {
        let now = (self.clock)();
        let mut held = self.held.lock();
        let contents = held.contents_mut(generation)?;
        let from = sweep.after().map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let step =
            contents.entities.range((from, Bound::Unbounded)).map(|(key, _)| key.clone()).take(STEP + 1);
        let mut step: Vec<EntityKey> = step.collect();
        let more = step.len() > STEP;
        step.truncate(STEP);
        let mut forgotten = 0;
        for key in &step {
            let Some(partitions) = contents.entities.get_mut(key) else { continue };
            let before = partitions.len();
            partitions.retain(|partition, state| !sweep.meet(*partition, state.term, now));
            forgotten += (before - partitions.len()) as u64;
            if partitions.is_empty() {
                contents.entities.remove(key);
            }
        }
        sweep.step(step.pop().filter(|_| more));
        Ok(forgotten)
    }

    async fn check(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").finish_non_exhaustive()
    }
}

/// A copy of everything, given out at once.
struct OnePage(Vec<EntityStates>);

#[async_trait]
impl EntityPages for OnePage {
    async fn next_page(&mut self) -> Result<Vec<EntityStates>, StoreError> {
        Ok(std::mem::take(&mut self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::conformance::Subject;

    crate::conformance!(async || (Arc::new(MemoryStore::new(Arc::new(Time::default))) as Subject, ()));

    crate::conformance_of_expiry!(async |clock: Clock| (Arc::new(MemoryStore::new(clock)) as Subject, ()));
}
