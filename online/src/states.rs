//! From entities to their stored states: of the right meaning or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::{FeaturePlan, Fingerprint};
use tidemark_store::{EntityLookup, Generation, OnlineStore, PartitionStates, StoreError, begun_at};

use crate::answer::name_entity;
use crate::error::{Damage, DamageReason, LookupError};

/// One entity's stored states by partition, none for a null key; or what is wrong with them.
pub(crate) type Stored = Result<Option<PartitionStates>, Damage>;

/// What was read of one view for several entities.
#[derive(Debug)]
pub(crate) struct Read {
    /// The states of each entity.
    pub(crate) stored: Vec<Stored>,
    /// Up to where they were made without the rows that were taken back: a position in
    /// [`Partition::RETRACTIONS`](tidemark_kernel::Partition::RETRACTIONS).
    pub(crate) retractions: Position,
}

/// A generation that was live.
#[derive(Debug)]
struct Known {
    generation: Generation,
    /// As of [`Read::retractions`], once it is known. It never changes.
    retractions: Option<Position>,
}

/// How often to ask for the live generation again when the one just asked for is gone: it can be replaced and dropped
/// between the two questions. One that stays live and gone is lost.
const TRIES: usize = 5;

/// Where the states of views are: in the store's live generations, or in the ones that these replaced.
///
/// Views change one by one, services all at once. So whoever still serves the definitions of before goes on with the
/// generation that was live for them, which is kept for a while after it was replaced. It is written no more: its states
/// are those of one instant, and so is the token that comes with them.
#[derive(Debug)]
pub(crate) struct States {
    store: Arc<dyn OnlineStore>,
    /// For each plan the last generation of it that was live.
    known: Mutex<BTreeMap<Fingerprint, Known>>,
}

impl States {
    pub(crate) fn new(store: Arc<dyn OnlineStore>) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The live generation of a view, if it holds what the plan means.
    fn current(&self, plan: &FeaturePlan, live: Option<Generation>) -> Result<Generation, LookupError> {
        let generation = live.ok_or_else(|| LookupError::Backfilling { view: plan.view.clone() })?;
        if plan.layout_of_generation(generation.fingerprint).is_none() {
            let (wanted, live) = (plan.fingerprint(), generation.fingerprint);
            return Err(LookupError::Applying { view: plan.view.clone(), wanted, live });
        }
        let mut known = self.known.lock();
        if known.get(&plan.fingerprint()).is_none_or(|known| known.generation != generation) {
            known.insert(plan.fingerprint(), Known { generation: generation.clone(), retractions: None });
        }
        drop(known);
        Ok(generation)
    }

    /// The generation that holds what the plan means: the live one, or the one that was. That may be gone by now.
    async fn generation(&self, plan: &FeaturePlan) -> Result<Generation, LookupError> {
        let live = self.store.live(&plan.view).await.map_err(LookupError::Store)?;
        self.current_or_replaced(plan, live)
    }

    /// The same where the live generation is known.
    fn current_or_replaced(
        &self,
        plan: &FeaturePlan,
        live: Option<Generation>,
    ) -> Result<Generation, LookupError> {
        match self.current(plan, live) {
            Err(error @ LookupError::Applying { .. }) => self.replaced(plan).ok_or(error),
            current => current,
        }
    }

    fn replaced(&self, plan: &FeaturePlan) -> Option<Generation> {
        let known = self.known.lock();
        let generation = known.get(&plan.fingerprint()).map(|known| &known.generation);
        generation.filter(|generation| generation.view == plan.view).cloned()
    }

    /// As of [`Read::retractions`].
    async fn retractions(&self, plan: &FeaturePlan, generation: &Generation) -> Result<Position, StoreError> {
        let remembered = |known: &Known| known.retractions.filter(|_| known.generation == *generation);
        if let Some(retractions) = self.known.lock().get(&plan.fingerprint()).and_then(remembered) {
            return Ok(retractions);
        }
        let retractions = begun_at(&self.store.positions_of(generation, &[Partition::RETRACTIONS]).await?);
        if let Some(known) = self.known.lock().get_mut(&plan.fingerprint())
            && known.generation == *generation
        {
            known.retractions = Some(retractions);
        }
        Ok(retractions)
    }

    /// Makes sure that every entity of these views can be looked up: in two reads of the store, which load balancers ask for
    /// every few seconds. Views that are not readable at first sight are looked at one by one.
    pub(crate) async fn check_readable(&self, plans: &[&FeaturePlan]) -> Result<(), LookupError> {
        let views: Vec<&str> = plans.iter().map(|plan| plan.view.as_str()).collect();
        let live = self.store.live_of(&views).await.map_err(LookupError::Store)?;
        let mut generations = Vec::with_capacity(plans.len());
        for (plan, live) in plans.iter().zip(live) {
            generations.push(self.current_or_replaced(plan, live)?);
        }
        let whole = self.store.are_whole(&generations).await.map_err(LookupError::Store)?;
        for (plan, is_whole) in plans.iter().zip(whole) {
            if !is_whole {
                self.forget(plan);
                self.check_one(plan).await?;
            }
        }
        Ok(())
    }

    async fn check_one(&self, plan: &FeaturePlan) -> Result<(), LookupError> {
        for _ in 0..TRIES {
            let generation = self.generation(plan).await?;
            if self.store.is_whole(&generation).await.map_err(LookupError::Store)? {
                return Ok(());
            }
            self.forget(plan);
        }
        Err(LookupError::Lost { view: plan.view.clone() })
    }

    /// The states of a view's entities, in their order, in one read of the store.
    pub(crate) async fn read(
        &self,
        plan: &FeaturePlan,
        entities: &[Option<&EntityKey>],
    ) -> Result<Read, LookupError> {
        let keys: Vec<EntityKey> = entities.iter().copied().flatten().cloned().collect();
        let (found, retractions) = self.lookup(plan, &keys).await?;
        let mut found = found.into_iter();
        let stored = entities.iter().map(|entity| match entity.and_then(|_| found.next()) {
            None => Ok(Ok(None)),
            Some(Ok(states)) => Ok(Ok(Some(states))),
            Some(Err(error)) => damage(error, plan).map(Err),
        });
        Ok(Read { stored: stored.collect::<Result<_, _>>()?, retractions })
    }

    async fn lookup(
        &self,
        plan: &FeaturePlan,
        keys: &[EntityKey],
    ) -> Result<(Vec<EntityLookup>, Position), LookupError> {
        for _ in 0..TRIES {
            let generation = self.generation(plan).await?;
            let found = async {
                let retractions = self.retractions(plan, &generation).await?;
                Ok((self.store.lookup(&generation, keys).await?, retractions))
            };
            match found.await {
                Err(StoreError::Gone(_)) => self.forget(plan),
                found => return found.map_err(LookupError::Store),
            }
        }
        Err(LookupError::Lost { view: plan.view.clone() })
    }

    /// The generation of a plan is gone, whether it was live or not.
    fn forget(&self, plan: &FeaturePlan) {
        self.known.lock().remove(&plan.fingerprint());
    }
}

/// What a store has found wrong with one entity. A store knows entities by their bytes; we know their names and values.
fn damage(error: StoreError, plan: &FeaturePlan) -> Result<Damage, LookupError> {
    let (key, partition, reason) = match error {
        StoreError::CorruptState { key, partition, .. } => (key, Some(partition), DamageReason::Checksum),
        StoreError::CorruptEntity { key, what, .. } => (key, None, DamageReason::Foreign(what)),
        other => return Err(LookupError::Store(other)),
    };
    Ok(Damage { view: plan.view.clone(), entity: name_entity(plan, &key), partition, reason })
}
