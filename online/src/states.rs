//! From entities to their stored states: of the right meaning or not at all.

use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::FeaturePlan;
use tidemark_store::{EntityLookup, Generation, LogStates, OnlineStore, StoreError};

use crate::answer::name_entity;
use crate::error::{Damage, DamageReason, LookupError};

/// One entity's stored states by log, none for a null key; or what is wrong with them.
pub(crate) type Stored = Result<Option<LogStates>, Damage>;

/// How often to ask for the live generation again when the one just asked for is gone: it can be replaced and dropped
/// between the two questions. One that stays live and gone is lost.
const TRIES: usize = 5;

/// The live generation of a view, if it holds what the plan means.
async fn live(store: &dyn OnlineStore, plan: &FeaturePlan) -> Result<Generation, LookupError> {
    let live = store.live(&plan.view).await.map_err(LookupError::Store)?;
    let generation = live.ok_or_else(|| LookupError::Filling { view: plan.view.clone() })?;
    let (wanted, live) = (plan.fingerprint(), generation.fingerprint);
    if wanted == live {
        Ok(generation)
    } else {
        Err(LookupError::Applying { view: plan.view.clone(), wanted, live })
    }
}

/// The states of a view's entities, in their order, in one read of the store.
pub(crate) async fn read(
    store: &dyn OnlineStore,
    plan: &FeaturePlan,
    entities: &[Option<&EntityKey>],
) -> Result<Vec<Stored>, LookupError> {
    let keys: Vec<EntityKey> = entities.iter().copied().flatten().cloned().collect();
    let mut found = lookup(store, plan, &keys).await?.into_iter();
    let stored = entities.iter().map(|entity| match entity.and_then(|_| found.next()) {
        None => Ok(Ok(None)),
        Some(Ok(states)) => Ok(Ok(Some(states))),
        Some(Err(error)) => damage(error, plan).map(Err),
    });
    stored.collect()
}

/// Makes sure that every entity of a view can be looked up.
pub(crate) async fn check_readable(store: &dyn OnlineStore, plan: &FeaturePlan) -> Result<(), LookupError> {
    for _ in 0..TRIES {
        let generation = live(store, plan).await?;
        if store.is_whole(&generation).await.map_err(LookupError::Store)? {
            return Ok(());
        }
    }
    Err(LookupError::Lost { view: plan.view.clone() })
}

async fn lookup(
    store: &dyn OnlineStore,
    plan: &FeaturePlan,
    keys: &[EntityKey],
) -> Result<Vec<EntityLookup>, LookupError> {
    for _ in 0..TRIES {
        let generation = live(store, plan).await?;
        match store.lookup(&generation, keys).await {
            Err(StoreError::Gone(_)) => {}
            found => return found.map_err(LookupError::Store),
        }
    }
    Err(LookupError::Lost { view: plan.view.clone() })
}

/// What a store has found wrong with one entity. A store knows entities by their bytes; we know their names and values.
fn damage(error: StoreError, plan: &FeaturePlan) -> Result<Damage, LookupError> {
    let (key, log, reason) = match error {
        StoreError::CorruptState { key, log, .. } => (key, Some(log), DamageReason::Checksum),
        StoreError::CorruptEntity { key, what, .. } => (key, None, DamageReason::Foreign(what)),
        other => return Err(LookupError::Store(other)),
    };
    Ok(Damage { view: plan.view.clone(), entity: name_entity(plan, &key), log, reason })
}
