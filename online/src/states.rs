//! From entities to their stored states: of the right meaning or not at all.

use tidemark_kernel::event::Log;
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::FeaturePlan;
use tidemark_store::{Generation, OnlineStore, StoreError};

use crate::answer::name_entity;
use crate::error::{Damage, DamageReason, LookupError};

/// One entity's stored states by log; none for a null key.
pub(crate) type Stored = Option<Vec<(Log, Vec<u8>)>>;

/// How often to ask for the live generation again when the one just asked for was replaced.
const TRIES: usize = 5;

/// The live generation of a view, if it holds what the plan means.
pub(crate) async fn live(store: &dyn OnlineStore, plan: &FeaturePlan) -> Result<Generation, LookupError> {
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
    Ok(entities.iter().map(|entity| entity.and_then(|_| found.next())).collect())
}

/// A generation can be replaced and dropped between the two questions; then both are asked again.
async fn lookup(
    store: &dyn OnlineStore,
    plan: &FeaturePlan,
    keys: &[EntityKey],
) -> Result<Vec<Vec<(Log, Vec<u8>)>>, LookupError> {
    let mut tries = 0;
    loop {
        tries += 1;
        let generation = live(store, plan).await?;
        match store.lookup(&generation, keys).await {
            Err(StoreError::Gone(_)) if tries < TRIES => {}
            Err(error) => return Err(named(error, plan)),
            Ok(states) => return Ok(states),
        }
    }
}

/// A store knows entities by their bytes; we know their names and values.
fn named(error: StoreError, plan: &FeaturePlan) -> LookupError {
    match error {
        StoreError::CorruptState { view, key, log, .. } => {
            let entity = name_entity(plan, &key);
            LookupError::Damaged(Damage { view, entity, log, reason: DamageReason::Checksum })
        }
        other => LookupError::Store(other),
    }
}
