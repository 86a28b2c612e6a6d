//! Verifies one view: all of its entities are compared, and those that differ are read and compared a second time.

use std::collections::{BTreeMap, BTreeSet};

use tidemark_kernel::{EntityKey, Event, Partition};
use tidemark_offline::{EntityEvents, History, Positions};
use tidemark_store::{BUCKETS, EntityStates};

use super::answers::Asking;
use super::rebuilt::Rebuilt;
use super::tables::Tables;
use super::{Mismatch, States, Stored, Verified, VerifyError, View, difference, name_entity};

/// What differs of each state of an entity that differs.
type Differences = Vec<(Partition, String)>;

/// Entities whose states differ from what the events up to the positions say that were read before. That may be because they
/// were written in between.
type Suspects = BTreeMap<EntityKey, Differences>;

/// What is found of one view.
pub(super) struct Findings<'v> {
    view: &'v View<'v>,
    asking: Asking<'v>,
    verified: &'v mut Verified,
    /// What is certain, in any order of entity: what differs, and the partition of the state that does.
    mismatches: Vec<(EntityKey, Option<Partition>, String)>,
}

/// An entity that was compared.
struct Compared {
    /// How many states it has, stored or rebuilt.
    states: u64,
    differences: Differences,
    /// Its events that the store has applied.
    events: Vec<Event>,
}

impl View<'_> {
    /// Compares the `wanted` entities, or all if none are named, with what is `stored` of them.
    pub(super) async fn verify(
        &self,
        wanted: Option<BTreeSet<EntityKey>>,
        stored: Stored<'_>,
        tables: &mut Tables<'_>,
        verified: &mut Verified,
        watch: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), VerifyError> {
        let table = tables.covering(self, &self.reached()).await?;
        let history = History::open(&table, self.plan, wanted, self.request.effort).await?;
        let mut findings = Findings::new(self, verified);
        let suspects = findings.look(history, stored, watch).await?;
        if !suspects.is_empty() {
            findings.look_again(suspects, tables).await?;
        }
        findings.report();
        Ok(())
    }

    /// Compares the states of one entity with what its events up to `standing` say.
    fn compare(&self, events: Vec<Event>, stored: &States, standing: &Positions) -> Compared {
        let rebuilt = Rebuilt::new(self.plan, self.layout, standing, events);
        let partitions: BTreeSet<Partition> = stored.keys().chain(rebuilt.states.keys()).copied().collect();
        let mut differences = Differences::new();
        for partition in &partitions {
            let (stored, rebuilt) = (stored.get(partition).map(Vec::as_slice), rebuilt.states.get(partition));
            if let Some(what) = difference::of(self.plan, stored, rebuilt, self.request.now) {
                differences.push((*partition, what));
            }
        }
        Compared { states: partitions.len() as u64, differences, events: rebuilt.events }
    }
}

impl<'v> Findings<'v> {
    fn new(view: &'v View<'v>, verified: &'v mut Verified) -> Self {
        let asking = Asking::new(view.plan, view.request.asked, view.request.seed);
        Self { view, asking, verified, mismatches: Vec::new() }
    }

    /// Compares all that is in the history or stored, each entity with the positions that were read before. Gives those whose
    /// states differ.
    async fn look(
        &mut self,
        mut history: History,
        mut stored: Stored<'_>,
        watch: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Suspects, VerifyError> {
        let standing: Vec<Positions> = (0..BUCKETS).map(|bucket| self.view.standing(bucket)).collect();
        let mut suspects = Suspects::new();
        let (mut events, mut states) = (history.next().await?, stored.next().await?);
        loop {
            // Both come in order of the key's bytes.
            let key = match (&events, &states) {
                (None, None) => return Ok(suspects),
                (Some(events), Some(states)) => events.key.clone().min(states.key.clone()),
                (Some(events), None) => events.key.clone(),
                (None, Some(states)) => states.key.clone(),
            };
            let of_key = events.take_if(|events| events.key == key);
            let stored_of_key = states.take_if(|states| states.key == key);
            let standing = &standing[usize::from(key.bucket(BUCKETS))];
            let differences = self.first(&key, of_key, stored_of_key, standing);
            if !differences.is_empty() {
                suspects.insert(key, differences);
            }
            watch(self.verified.entities);
            if events.is_none() {
                events = history.next().await?;
            }
            if states.is_none() {
                states = stored.next().await?;
            }
        }
    }

    /// Compares an entity for the first time, which is when it is counted. Gives what differs of its states.
    fn first(
        &mut self,
        key: &EntityKey,
        events: Option<EntityEvents>,
        stored: Option<EntityStates>,
        standing: &Positions,
    ) -> Differences {
        let events = events.map_or_else(Vec::new, |entity| entity.events);
        let stored = stored.map_or_else(States::new, |entity| entity.states.into_iter().collect());
        let compared = self.view.compare(events, &stored, standing);
        self.verified.entities += 1;
        self.verified.states += compared.states;
        if compared.differences.is_empty() {
            self.ask(key, &stored, &compared.events);
        }
        compared.differences
    }

    /// Looks again at entities that differed.
    async fn look_again(&mut self, suspects: Suspects, tables: &mut Tables<'_>) -> Result<(), VerifyError> {
        let view = self.view;
        // States are not written without moving a position.
        let positions = view.request.store.positions(&view.generation).await?;
        if positions == view.positions {
            suspects.into_iter().for_each(|(key, differences)| self.convict(&key, differences));
            return Ok(());
        }
        let partitions = positions.into_keys().filter(|partition| *partition != Partition::RETRACTIONS);
        // A state of a partition that has no position is found by this.
        let differing = suspects.values().flatten().map(|(partition, _)| *partition);
        let partitions: BTreeSet<Partition> = partitions.chain(differing).collect();
        let keys: Vec<EntityKey> = suspects.into_keys().collect();
        view.read_again(keys, &partitions, tables, self).await
    }

    /// Compares an entity once more: with its states as stored at one instant, and the positions of its bucket at that
    /// instant.
    pub(super) fn second(
        &mut self,
        key: &EntityKey,
        events: Vec<Event>,
        stored: &States,
        standing: &Positions,
    ) {
        let compared = self.view.compare(events, stored, standing);
        if compared.differences.is_empty() {
            self.ask(key, stored, &compared.events);
        }
        self.convict(key, compared.differences);
    }

    /// Asks states that are what these events say. Answers that differ do so for certain: states and events belong together.
    /// States that differ are not asked; to say for each answer that it differs as well would bury what matters.
    fn ask(&mut self, key: &EntityKey, stored: &States, events: &[Event]) {
        let asked = self.asking.ask(stored, events);
        self.verified.values += asked.values;
        self.verified.telling += asked.telling;
        let differences = asked.differences.into_iter();
        self.mismatches.extend(differences.map(|what| (key.clone(), None, what)));
    }

    /// Takes note of what differs for certain.
    fn convict(&mut self, key: &EntityKey, differences: Differences) {
        let differences = differences.into_iter();
        self.mismatches.extend(differences.map(|(partition, what)| (key.clone(), Some(partition), what)));
    }

    /// Adds the mismatches to the report, in order of entity.
    fn report(mut self) {
        self.mismatches.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        let plan = self.view.plan;
        let mismatches = self.mismatches.into_iter().map(|(key, partition, what)| {
            let (view, entity) = (plan.view.clone(), name_entity(plan, &key));
            Mismatch { view, entity, partition, what }
        });
        self.verified.mismatches.extend(mismatches);
    }
}
