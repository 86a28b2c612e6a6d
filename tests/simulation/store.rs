//! The online store as one process sees it: slow, away, failing, losing replies. Behind it is the store in
//! memory that all processes share.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tidemark_kernel::parts::Rest;
use tidemark_kernel::{EntityKey, Fingerprint, Partition, Position, Span};
use tidemark_store::{
    BucketFlush, EntityLookup, EntityPages, FlushOutcome, Generation, Loaded, MemoryStore, OnlineStore,
    Positions, PublishOutcome, Sizes, StoreError, Sweep,
};

use crate::mutant::Mutant;
use crate::world::World;

#[derive(Debug)]
pub(crate) struct Store {
    world: Arc<World>,
    shared: Arc<MemoryStore>,
    /// For a mutant: the positions at which this process believes the buckets to be.
    believed: Mutex<BTreeMap<(Generation, u16, Partition), Position>>,
}

impl Store {
    pub(crate) fn new(world: &Arc<World>, shared: &Arc<MemoryStore>) -> Self {
        Self { world: Arc::clone(world), shared: Arc::clone(shared), believed: Mutex::default() }
    }

    async fn call<T>(
        &self,
        name: &str,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.world.pause().await;
        let weather = self.world.weather();
        if weather.store_slow && self.world.chance(30) {
            self.world.count("store slow");
            self.world.dawdle().await;
        }
        if self.world.weather().store_away {
            self.world.count("store away");
            return Err(unavailable("away"));
        }
        if self.world.chance(weather.failing) {
            self.world.fault("store failed", name);
            return Err(unavailable("failed"));
        }
        let done = work.await;
        self.world.pause().await;
        if self.world.chance(weather.failing) {
            self.world.fault("store reply lost", name);
            return Err(unavailable("reply lost"));
        }
        done
    }

    fn believe(&self, of: &Generation, bucket: u16, partition: Partition, position: Position) {
        let mut believed = self.believed.lock();
        believed.insert((of.clone(), bucket, partition), position);
    }

    fn believed(&self, of: &Generation, bucket: u16, partition: Partition) -> Option<Position> {
        let believed = self.believed.lock();
        believed.get(&(of.clone(), bucket, partition)).copied()
    }

    async fn apply(
        &self,
        of: &Generation,
        mut flushes: Vec<BucketFlush>,
    ) -> Result<Vec<FlushOutcome>, StoreError> {
        match self.world.mutant {
            Some(Mutant::SplitFlush | Mutant::Epochs) => {
                let halves = flushes.iter_mut().map(|flush| {
                    let rest = flush.writes.split_off(flush.writes.len() / 2);
                    let writes = std::mem::replace(&mut flush.writes, rest);
                    BucketFlush { to: flush.from, writes, ..flush.clone() }
                });
                let halves: Vec<BucketFlush> = halves.collect();
                self.shared.flush(of, halves).await?;
                self.world.sleep(self.world.draw(0..200)).await;
            }
            Some(Mutant::UncheckedFlush) => {
                let stored = self.shared.positions(of).await?;
                for flush in &mut flushes {
                    let at =
                        stored.get(&flush.partition).and_then(|buckets| buckets.get(&flush.bucket)).copied();
                    flush.from = at.unwrap_or(flush.from);
                    flush.to = flush.to.max(flush.from);
                }
            }
            _ => {}
        }
        for state in flushes.iter().flat_map(|flush| &flush.writes).filter_map(|(_, state)| state.as_ref()) {
            if state.change.rest == Rest::Kept {
                self.world.count("parts kept");
            }
        }
        let places: Vec<_> = flushes.iter().map(|flush| (flush.bucket, flush.partition, flush.to)).collect();
        let outcomes = self.shared.flush(of, flushes).await?;
        for ((bucket, partition, to), outcome) in places.into_iter().zip(&outcomes) {
            match outcome {
                FlushOutcome::Applied => self.believe(of, bucket, partition, to),
                FlushOutcome::At(Some(at)) => {
                    self.world.count("flush refused");
                    self.believe(of, bucket, partition, *at);
                }
                FlushOutcome::Incomplete => self.world.count("flush incomplete"),
                FlushOutcome::At(None) => {}
            }
        }
        Ok(outcomes)
    }
}

fn unavailable(reason: &str) -> StoreError {
    StoreError::Unavailable { place: "simulated".into(), reason: reason.into() }
}

#[async_trait]
impl OnlineStore for Store {
    async fn load(
        &self,
        of: &Generation,
        bucket: u16,
        partition: Partition,
        keys: &[EntityKey],
    ) -> Result<Loaded, StoreError> {
        let mut loaded = self.call("load", self.shared.load(of, bucket, partition, keys)).await?;
        if self.world.mutant == Some(Mutant::Epochs) && loaded.position.is_some() {
            loaded.position = self.believed(of, bucket, partition).or(loaded.position);
        }
        Ok(loaded)
    }

    async fn flush(
        &self,
        of: &Generation,
        flushes: Vec<BucketFlush>,
    ) -> Result<Vec<FlushOutcome>, StoreError> {
        // A connection may break when only some buckets are written.
        if self.world.chance(self.world.weather().failing) && flushes.len() > 1 {
            self.world.fault("flush cut", "");
            let some = flushes.into_iter().step_by(2).collect();
            self.call("flush", self.apply(of, some)).await?;
            return Err(unavailable("cut"));
        }
        self.call("flush", self.apply(of, flushes)).await
    }

    async fn lookup(&self, of: &Generation, keys: &[EntityKey]) -> Result<Vec<EntityLookup>, StoreError> {
        self.call("lookup", self.shared.lookup(of, keys)).await
    }

    async fn positions(&self, of: &Generation) -> Result<Positions, StoreError> {
        let positions = self.call("positions", self.shared.positions(of)).await?;
        for (partition, buckets) in &positions {
            buckets.iter().for_each(|(bucket, position)| self.believe(of, *bucket, *partition, *position));
        }
        Ok(positions)
    }

    async fn claim_history(&self, source: &str, history: &str) -> Result<(), StoreError> {
        self.call("claim_history", self.shared.claim_history(source, history)).await
    }

    async fn check_history(&self, source: &str, history: &str) -> Result<(), StoreError> {
        self.call("check_history", self.shared.check_history(source, history)).await
    }

    async fn begin(
        &self,
        view: &str,
        fingerprint: Fingerprint,
        positions: &BTreeMap<Partition, Position>,
        idle: Option<Span>,
    ) -> Result<Generation, StoreError> {
        self.call("begin", self.shared.begin(view, fingerprint, positions, idle)).await
    }

    async fn add_partition(
        &self,
        of: &Generation,
        partition: Partition,
        position: Position,
    ) -> Result<(), StoreError> {
        self.call("add_log", self.shared.add_partition(of, partition, position)).await
    }

    async fn publish(
        &self,
        view: &str,
        expected: Option<&Generation>,
        new: Option<&Generation>,
    ) -> Result<PublishOutcome, StoreError> {
        let outcome = self.call("publish", self.shared.publish(view, expected, new)).await?;
        self.world.say(&format!("publish {new:?}: {outcome:?}"));
        Ok(outcome)
    }

    async fn live(&self, view: &str) -> Result<Option<Generation>, StoreError> {
        self.call("live", self.shared.live(view)).await
    }

    async fn unpublished(&self, view: &str) -> Result<Vec<Generation>, StoreError> {
        self.call("unpublished", self.shared.unpublished(view)).await
    }

    async fn drop_generation(&self, of: &Generation) -> Result<(), StoreError> {
        self.call("drop", self.shared.drop_generation(of)).await
    }

    async fn entities<'a>(&'a self, of: &Generation) -> Result<Box<dyn EntityPages + 'a>, StoreError> {
        self.call("entities", self.shared.entities(of)).await
    }

    async fn sizes(&self, of: &Generation) -> Result<Sizes, StoreError> {
        self.call("sizes", self.shared.sizes(of)).await
    }

    async fn expire(&self, of: &Generation, sweep: &mut Sweep) -> Result<u64, StoreError> {
        self.call("expire", self.shared.expire(of, sweep)).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.call("check", self.shared.check()).await
    }
}
