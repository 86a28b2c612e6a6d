//! Checks by the ids of a project's event tables that stored states were made from these tables and not from others.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidemark_kernel::{FeaturePlan, Partition, SourcePlan};
use tidemark_offline::table::properties;
use tidemark_offline::table::retract::retracted;
use tidemark_offline::{EventTable, Location};
use tidemark_store::{OnlineStore, StoreError, begun_at};

use crate::Result;
use crate::project::Project;

/// The event tables of a project, and the ids of those that were found.
#[derive(Debug)]
pub(crate) struct Histories {
    location: Location,
    sources: Vec<Arc<SourcePlan>>,
    found: BTreeMap<String, String>,
}

impl Histories {
    pub(crate) fn of(project: &Project) -> Result<Self> {
        Ok(Self { location: project.location()?, sources: project.sources(), found: BTreeMap::new() })
    }

    /// Makes sure that what the store holds was made from these tables. A table that is not here, as on a machine that
    /// only serves, or has no id yet, says nothing.
    pub(crate) async fn check(&mut self, store: &dyn OnlineStore) -> Result<(), StoreError> {
        match self.check_found(store).await {
            Err(StoreError::OtherHistory { .. }) => {
                // Tables that were deleted and created again have another id.
                self.found.clear();
                self.check_found(store).await
            }
            checked => checked,
        }
    }

    /// Whether a view holds records that were taken back since: the process that took them back was killed before it had
    /// brought the view up again.
    pub(crate) async fn hold_taken_back(
        &self,
        store: &dyn OnlineStore,
        views: &[Arc<FeaturePlan>],
    ) -> Result<bool, StoreError> {
        for source in &self.sources {
            // What is wrong with a table is said by those who need it.
            let Ok(table) = EventTable::open(&self.location, source).await else { continue };
            let retracted = retracted(table.properties());
            for view in views.iter().filter(|view| view.source == source.name) {
                let Some(live) = store.live(&view.view).await? else { continue };
                let begun = match store.positions_of(&live, &[Partition::RETRACTIONS]).await {
                    Err(StoreError::Gone(_)) => continue,
                    positions => begun_at(&positions?),
                };
                if begun != retracted {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn check_found(&mut self, store: &dyn OnlineStore) -> Result<(), StoreError> {
        for source in &self.sources {
            if !self.found.contains_key(&source.name) {
                // What is wrong with a table is said by those who need it.
                let Ok(table) = EventTable::open(&self.location, source).await else { continue };
                let Some(history) = table.properties().get(properties::HISTORY) else { continue };
                self.found.insert(source.name.clone(), history.clone());
            }
            store.check_history(&source.name, &self.found[&source.name]).await?;
        }
        Ok(())
    }
}
