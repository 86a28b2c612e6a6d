//! The contract in its plainest form: everything in memory under one lock. For tests and for throw-away runs.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidemark_kernel::event::{Log, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::parts::StateChange;
use tidemark_kernel::plan::Fingerprint;
use tidemark_kernel::time::{Span, Time};

use crate::contract::{
    BUCKETS, BucketFlush, Clock, EntityLookup, EntityPages, EntityStates, FlushOutcome, Generation, Loaded,
    LogStates, NewState, OnlineStore, Positions, PublishOutcome, Sizes, check_bucket, check_flushes,
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
    fills: BTreeMap<Generation, Fill>,
    live: BTreeMap<String, Generation>,
    /// The history recorded for each source.
    histories: BTreeMap<String, String>,
}

#[derive(Clone, Default)]
struct Fill {
    positions: Positions,
    entities: BTreeMap<EntityKey, BTreeMap<Log, State>>,
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
    fn fill(&self, generation: &Generation) -> Result<&Fill, StoreError> {
        self.fills.get(generation).ok_or_else(|| StoreError::Gone(generation.clone()))
    }

    fn fill_mut(&mut self, generation: &Generation) -> Result<&mut Fill, StoreError> {
        self.fills.get_mut(generation).ok_or_else(|| StoreError::Gone(generation.clone()))
    }
}

impl Fill {
    fn position(&self, log: Log, bucket: u16) -> Option<Position> {
        self.positions.get(&log)?.get(&bucket).copied()
    }

    fn states(&self, key: &EntityKey) -> LogStates {
        let logs = self.entities.get(key).into_iter().flatten();
        logs.map(|(log, state)| (*log, state.bytes())).collect()
    }

    fn add_log(&mut self, log: Log, position: Position) {
        let buckets = self.positions.entry(log).or_default();
        for bucket in 0..BUCKETS {
            buckets.entry(bucket).or_insert(position);
        }
    }

    fn flush(&mut self, flush: BucketFlush, now: Time) -> FlushOutcome {
        let is_stored =
            |key: &EntityKey| self.entities.get(key).is_some_and(|logs| logs.contains_key(&flush.log));
        let is_complete = flush.kept().all(is_stored);
        let stored = self.positions.get_mut(&flush.log).and_then(|buckets| buckets.get_mut(&flush.bucket));
        match stored {
            Some(position) if *position == flush.from && is_complete => *position = flush.to,
            Some(position) if *position == flush.from => return FlushOutcome::Incomplete,
            other => return FlushOutcome::At(other.copied()),
        }
        for (key, state) in flush.writes {
            self.write(key, flush.log, state, now);
        }
        FlushOutcome::Applied
    }

    fn write(&mut self, key: EntityKey, log: Log, state: Option<NewState>, now: Time) {
        let logs = self.entities.entry(key.clone()).or_default();
        match state {
            Some(NewState { change: StateChange { first, parts: changes, rest }, retention, renew }) => {
                let (mut term, mut others) = (Term { written: now, retention }, BTreeMap::new());
                if let Some(stored) = logs.remove(&log) {
                    others = stored.others;
                    if !renew {
                        term = stored.term;
                    }
                }
                parts::change(&mut others, changes, rest);
                logs.insert(log, State { first, others, term });
            }
            None => drop(logs.remove(&log)),
        }
        if logs.is_empty() {
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
        log: Log,
        keys: &[EntityKey],
    ) -> Result<Loaded, StoreError> {
        check_bucket(bucket, keys)?;
        let held = self.held.lock();
        let fill = held.fill(generation)?;
        let state = |key| Some(fill.entities.get(key)?.get(&log)?.bytes());
        Ok(Loaded { position: fill.position(log, bucket), states: keys.iter().map(state).collect() })
    }

    async fn flush(
        &self,
        generation: &Generation,
        flushes: Vec<BucketFlush>,
    ) -> Result<Vec<FlushOutcome>, StoreError> {
        check_flushes(&flushes)?;
        let now = (self.clock)();
        let mut held = self.held.lock();
        let fill = held.fill_mut(generation)?;
        Ok(flushes.into_iter().map(|flush| fill.flush(flush, now)).collect())
    }

    async fn lookup(
        &self,
        generation: &Generation,
        keys: &[EntityKey],
    ) -> Result<Vec<EntityLookup>, StoreError> {
        let held = self.held.lock();
        let fill = held.fill(generation)?;
        Ok(keys.iter().map(|key| Ok(fill.states(key))).collect())
    }

    async fn positions(&self, generation: &Generation) -> Result<Positions, StoreError> {
        Ok(self.held.lock().fill(generation)?.positions.clone())
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
        positions: &BTreeMap<Log, Position>,
        _least: Option<Span>,
    ) -> Result<Generation, StoreError> {
        let mut held = self.held.lock();
        held.newest += 1;
        let generation = Generation { view: view.to_owned(), number: held.newest, fingerprint };
        let mut fill = Fill::default();
        positions.iter().for_each(|(log, position)| fill.add_log(*log, *position));
        held.fills.insert(generation.clone(), fill);
        Ok(generation)
    }

    async fn add_log(&self, generation: &Generation, log: Log, position: Position) -> Result<(), StoreError> {
        self.held.lock().fill_mut(generation)?.add_log(log, position);
        Ok(())
    }

    async fn publish(
        &self,
        view: &str,
        expected: Option<&Generation>,
        new: Option<&Generation>,
    ) -> Result<PublishOutcome, StoreError> {
        let mut held = self.held.lock();
        if let Some(new) = new.filter(|new| new.view != view || !held.fills.contains_key(new)) {
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
        let others = held.fills.keys().filter(|fill| fill.view == view && Some(*fill) != live);
        Ok(others.cloned().collect())
    }

    async fn drop_generation(&self, generation: &Generation) -> Result<(), StoreError> {
        let mut held = self.held.lock();
        if held.live.get(&generation.view) == Some(generation) {
            return Err(StoreError::Live(generation.clone()));
        }
        held.fills.remove(generation);
        Ok(())
    }

    async fn entities<'a>(
        &'a self,
        generation: &Generation,
    ) -> Result<Box<dyn EntityPages + 'a>, StoreError> {
        Ok(Box::new(OnePage(self.held.lock().fill(generation)?.page())))
    }

    async fn sizes(&self, generation: &Generation) -> Result<Sizes, StoreError> {
        let mut sizes = Sizes::default();
        self.held.lock().fill(generation)?.page().iter().for_each(|entity| sizes.add(entity));
        Ok(sizes)
    }

    async fn expire(&self, generation: &Generation, sweep: &mut Sweep) -> Result<u64, StoreError> {
        let now = (self.clock)();
        let mut held = self.held.lock();
        let fill = held.fill_mut(generation)?;
        let from = sweep.after().map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let step = fill.entities.range((from, Bound::Unbounded)).map(|(key, _)| key.clone()).take(STEP + 1);
        let mut step: Vec<EntityKey> = step.collect();
        let more = step.len() > STEP;
        step.truncate(STEP);
        let mut forgotten = 0;
        for key in &step {
            let Some(logs) = fill.entities.get_mut(key) else { continue };
            let before = logs.len();
            logs.retain(|log, state| !sweep.meet(*log, state.term, now));
            forgotten += (before - logs.len()) as u64;
            if logs.is_empty() {
                fill.entities.remove(key);
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
