//! Reads the stored states of entities, and only from a generation that was made by the plan of the service: states of
//! another plan would give wrong values.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemark_kernel::event::{Partition, Position};
use tidemark_kernel::key::EntityKey;
use tidemark_kernel::plan::{FeaturePlan, Fingerprint};
use tidemark_kernel::service::ServiceView;
use tidemark_store::{EntityLookup, Generation, OnlineStore, PartitionStates, StoreError, begun_at};

use crate::answer::{Entity, name_entity};
use crate::error::{Damage, DamageReason, LookupError, RowError};
use crate::served::Asking;

/// One entity's stored states by partition, none for a null key; or what is wrong with them.
pub(crate) type Stored = Result<Option<PartitionStates>, Damage>;

/// What was read of one view for the rows of a call. An entity is decoded once, however many rows ask about it.
pub(crate) struct Entities<'p> {
    view: &'p ServiceView,
    of_rows: Vec<usize>,
    entities: Vec<Read<'p>>,
    /// Up to where they were made without the rows that were taken back: a position in
    /// [`Partition::RETRACTIONS`](tidemark_kernel::Partition::RETRACTIONS).
    retractions: Position,
}

/// One entity that was read.
struct Read<'p> {
    key: Option<EntityKey>,
    stored: Stored,
    /// How many rows are still to ask about it.
    rows: usize,
    decoded: Option<Result<Arc<Entity<'p>>, RowError>>,
}

impl<'p> Entities<'p> {
    /// The entity that a row asks about. Each row asks once; after the last one it is let go of.
    pub(crate) fn of_row(&mut self, row: usize) -> Result<Arc<Entity<'p>>, RowError> {
        let (view, retractions) = (self.view, self.retractions);
        let read = &mut self.entities[self.of_rows[row]];
        let decoded = read.decoded.take().unwrap_or_else(|| {
            Entity::decode(view, read.key.as_ref(), &read.stored, retractions).map(Arc::new)
        });
        read.rows -= 1;
        if read.rows == 0 {
            read.stored = Ok(None);
        } else {
            read.decoded = Some(decoded.clone());
        }
        decoded
    }
}

/// A generation that was live.
#[derive(Debug)]
struct Known {
    generation: Generation,
    /// As of [`Entities::retractions`], once it is known. It never changes.
    retractions: Option<Position>,
}

/// How often to ask for the live generation again when the one just asked for is gone: it can be replaced and dropped
/// between the two questions. One that stays live and gone is lost.
const TRIES: usize = 5;

/// Where the states of views are: in the store's live generations, or in the ones that these replaced.
///
/// Views change one by one, services all at once. So a service that still has the earlier definitions goes on with the
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

    /// As [`generation`](Self::generation), where `live` is the live generation of the view.
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

    /// As of [`Entities::retractions`].
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

    /// The states of a view's entities, in one read of the store.
    pub(crate) async fn read<'p>(
        &self,
        view: &'p ServiceView,
        asking: Asking,
    ) -> Result<Entities<'p>, LookupError> {
        let plan = view.plan.as_ref();
        let keys: Vec<EntityKey> = asking.keys.iter().flatten().cloned().collect();
        let (found, retractions) = self.lookup(plan, &keys).await?;
        let mut found = found.into_iter();
        let mut rows = vec![0; asking.keys.len()];
        asking.of_rows.iter().for_each(|place| rows[*place] += 1);
        let entities = asking.keys.into_iter().zip(rows).map(|(key, rows)| {
            let stored = match key.as_ref().and_then(|_| found.next()) {
                None => Ok(None),
                Some(Ok(states)) => Ok(Some(states)),
                Some(Err(error)) => Err(damage(error, plan)?),
            };
            Ok(Read { key, stored, rows, decoded: None })
        });
        let entities = entities.collect::<Result<_, LookupError>>()?;
        Ok(Entities { view, of_rows: asking.of_rows, entities, retractions })
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

#[cfg(test)]
mod tests {
    use tidemark_kernel::aggregate::Function;
    use tidemark_kernel::plan::{FeatureSpec, KeyField, ViewSpec};
    use tidemark_kernel::time::Span;
    use tidemark_kernel::value::Type;
    use tidemark_kernel::window::Window;

    use super::*;

    fn plan() -> FeaturePlan {
        let count = FeatureSpec {
            name: "n".into(),
            function: Function::Count,
            input: None,
            filter: None,
            window: Window::Lifetime,
        };
        let key = KeyField { name: "user".into(), field: "user".into(), ty: Type::Int64 };
        FeaturePlan::new(ViewSpec {
            view: "v".into(),
            entity: "user".into(),
            source: "s".into(),
            source_version: None,
            fields: Vec::new(),
            keys: vec![key],
            filter: None,
            features: vec![count],
            time_travel: Span::from_secs(10),
            max_age: None,
            expression_semantics: tidemark_expr::SEMANTICS,
        })
        .expect("a plan")
    }

    #[test]
    fn an_entity_is_decoded_once_for_all_its_rows() {
        let view = ServiceView::from(Arc::new(plan()));
        let read = |rows| Read { key: None, stored: Ok(None), rows, decoded: None };
        let mut read = Entities {
            view: &view,
            of_rows: vec![0, 1, 0, 0],
            entities: vec![read(3), read(1)],
            retractions: Position::START,
        };
        let entities: Vec<_> = (0..4).map(|row| read.of_row(row).expect("no damage")).collect();
        assert!(Arc::ptr_eq(&entities[0], &entities[2]) && Arc::ptr_eq(&entities[0], &entities[3]));
        assert!(!Arc::ptr_eq(&entities[0], &entities[1]));
        assert!(read.entities.iter().all(|read| read.decoded.is_none()), "none outlives its last row");
    }
}
