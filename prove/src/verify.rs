//! Verify: the online state rebuilt from the event tables, and compared with the one that serves, byte for byte.
//!
//! Equal events give equal bytes, so a single comparison of bytes shows that every event was applied once and none
//! twice. For a sample of entities the stored states are also asked about instants from the earliest allowed on, and the
//! answers compared with those of training and of the oracle.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use thiserror::Error;
use tidemark_kernel::{
    EntityKey, ErrorKind, Explain, FeaturePlan, Fingerprint, Layout, Log, Position, SourcePlan, Time,
};
use tidemark_offline::table::retract::retracted;
use tidemark_offline::{Effort, EntityEvents, EventTable, History, HistoryError, Location, TableError};
use tidemark_store::{BUCKETS, EntityPages, EntityStates, Generation, OnlineStore, StoreError, begun_at};

mod answers;
mod difference;
mod rebuilt;

use rebuilt::Rebuilt;

/// What to verify.
#[derive(Clone, Debug)]
pub struct Request {
    /// The online store. Nobody may write to it meanwhile.
    pub store: Arc<dyn OnlineStore>,
    /// Where the event tables are.
    pub location: Location,
    /// The views.
    pub views: Vec<Arc<FeaturePlan>>,
    /// The plans of their sources, by name.
    pub sources: BTreeMap<String, Arc<SourcePlan>>,
    /// How many entities of each view to verify; all of them if none.
    pub sample: Option<usize>,
    /// For how many entities of each view to compare answers as well.
    pub asked: usize,
    /// Chooses the sample and the instants asked about.
    pub seed: u64,
    /// The wall clock: a state may be absent once no window can see its events.
    pub now: Time,
    /// How many threads and how much memory may be used.
    pub effort: Effort,
}

/// What was verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many entities, each counted once for each view.
    pub entities: u64,
    /// How many states, one for each entity and log.
    pub states: u64,
    /// How many values of answers.
    pub values: u64,
    /// How many of these were neither null nor 0, which any two would agree on who know nothing.
    pub telling: u64,
    /// Everything that differs, view by view in order of entity.
    pub mismatches: Vec<Mismatch>,
}

/// A state, or an answer from it, that is not what the events say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The view.
    pub view: String,
    /// The entity as `name=value`, its parts joined by commas.
    pub entity: String,
    /// The log; none where it concerns the whole entity.
    pub log: Option<Log>,
    /// What differs.
    pub what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {}, {}", self.view, self.entity)?;
        self.log.map_or(Ok(()), |log| write!(f, ", log {log}"))?;
        write!(f, ": {}", self.what)
    }
}

/// Why nothing could be verified.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The online store failed, or is damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An event table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A view's events cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A view has no live state.
    #[error("view {0} has no state yet")]
    NotFilled(String),
    /// A view's live state, or a part of it, is gone from the store.
    #[error("the state of view {0} is lost from the online store")]
    Lost(String),
    /// A view's live state holds records that were taken back since.
    #[error("the state of view {0} was made before records of its source were taken back")]
    TakenBack(String),
    /// A view's live state belongs to another definition.
    #[error("the live state of view {view} belongs to version {live}, not to {wanted}")]
    Foreign {
        /// The view.
        view: String,
        /// The version of the state.
        live: Fingerprint,
        /// The version asked for.
        wanted: Fingerprint,
    },
    /// The store has applied what the event table does not hold yet.
    #[error(
        "view {view} has applied log {log} up to {applied}, but the event table of {source_name} ends at {held}"
    )]
    Behind {
        /// The view.
        view: String,
        /// Its source.
        source_name: String,
        /// The log.
        log: Log,
        /// Where the store stands.
        applied: Position,
        /// Where the table stands.
        held: Position,
    },
    /// The plan of a view's source is missing.
    #[error("view {view} reads source {name}, whose plan is missing")]
    Source {
        /// The view.
        view: String,
        /// The source.
        name: String,
    },
}

impl Explain for VerifyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Table(error) => error.kind(),
            Self::History(error) => error.kind(),
            Self::NotFilled(_) | Self::Lost(_) | Self::TakenBack(_) => ErrorKind::NotReady,
            Self::Foreign { .. } | Self::Behind { .. } => ErrorKind::NotReady,
            Self::Source { .. } => ErrorKind::Internal,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::Store(error) => return error.help(),
            Self::Table(error) => return error.help(),
            Self::History(error) => return error.help(),
            Self::NotFilled(_) => "run `tidemark ingest` or `tidemark apply` to fill the view",
            Self::Lost(_) | Self::TakenBack(_) => {
                "run `tidemark ingest` or `tidemark apply` to backfill the view"
            }
            Self::Foreign { .. } => "run `tidemark apply` to backfill the view",
            Self::Behind { .. } => "run `tidemark ingest` to bring the event table up to date",
            Self::Source { .. } => return None,
        };
        Some(help.into())
    }
}

/// Verifies every view. `watch` is told how many entities are done. Where all entities are verified, the store also checks
/// what else it holds. A sample is chosen by the store, and nothing else is read of it.
///
/// # Errors
/// Fails where store or tables cannot be read or do not belong together. States that differ are no error: they are
/// in what is returned.
pub async fn verify(request: &Request, watch: &mut (dyn FnMut(u64) + Send)) -> Result<Verified, VerifyError> {
    let (mut views, mut tables) = (Vec::with_capacity(request.views.len()), Tables::new());
    for plan in &request.views {
        views.push(View::open(request, plan, &mut tables).await?);
    }
    // Each of these may have to look at all keys of a server: once, not once for each view.
    let generations: Vec<Generation> = views.iter().map(|view| view.generation.clone()).collect();
    let mut verified = Verified::default();
    if let Some(count) = request.sample {
        let samples = request.store.sample(&generations, count, request.seed).await?;
        for (view, wanted) in views.iter().zip(samples) {
            let stored = Stored::of(view, &wanted).await?;
            view.verify(Some(wanted), stored, &mut verified, watch).await?;
        }
        return Ok(verified);
    }
    let all = request.store.entities_of(&generations).await?;
    for (view, pages) in views.iter().zip(all) {
        view.verify(None, Stored::all(pages), &mut verified, watch).await?;
    }
    request.store.check_others(&generations).await?;
    Ok(verified)
}

/// The event table of each source that was opened.
type Tables = BTreeMap<String, Arc<EventTable>>;

/// For each log the position of each bucket.
type Applied = BTreeMap<Log, Vec<Position>>;

/// One view being verified.
struct View<'r> {
    request: &'r Request,
    plan: &'r Arc<FeaturePlan>,
    generation: Generation,
    /// Of its states.
    layout: Layout,
    applied: Applied,
    table: Arc<EventTable>,
}

impl<'r> View<'r> {
    async fn open(
        request: &'r Request,
        plan: &'r Arc<FeaturePlan>,
        tables: &mut Tables,
    ) -> Result<Self, VerifyError> {
        let live = request.store.live(&plan.view).await?;
        let generation = live.ok_or_else(|| VerifyError::NotFilled(plan.view.clone()))?;
        let Some(layout) = plan.layout_of_generation(generation.fingerprint) else {
            let (live, wanted) = (generation.fingerprint, plan.fingerprint());
            return Err(VerifyError::Foreign { view: plan.view.clone(), live, wanted });
        };
        if !request.store.is_whole(&generation).await? {
            return Err(VerifyError::Lost(plan.view.clone()));
        }
        let mut positions = request.store.positions(&generation).await?;
        let retractions = begun_at(&positions);
        positions.remove(&Log::RETRACTIONS);
        let applied = positions.into_iter().map(|(log, buckets)| {
            let position = |bucket| buckets.get(&bucket).copied().unwrap_or(Position::START);
            (log, (0..BUCKETS).map(position).collect())
        });
        let applied = applied.collect();
        let missing = || VerifyError::Source { view: plan.view.clone(), name: plan.source.clone() };
        let source = request.sources.get(&plan.source).ok_or_else(missing)?;
        let table = match tables.get(&plan.source) {
            Some(table) => Arc::clone(table),
            None => {
                let table = Arc::new(EventTable::open(&request.location, source).await?);
                tables.insert(plan.source.clone(), Arc::clone(&table));
                table
            }
        };
        if retractions != retracted(table.facts()) {
            return Err(VerifyError::TakenBack(plan.view.clone()));
        }
        let view = Self { request, plan, generation, layout, applied, table };
        view.check_covered()?;
        Ok(view)
    }

    /// What was applied must be in the table, or there is nothing to compare with.
    fn check_covered(&self) -> Result<(), VerifyError> {
        for (log, buckets) in &self.applied {
            let held = self.table.positions().get(log).copied().unwrap_or(Position::START);
            if let Some(applied) = buckets.iter().max().copied().filter(|applied| *applied > held) {
                let (view, source_name) = (self.plan.view.clone(), self.plan.source.clone());
                return Err(VerifyError::Behind { view, source_name, log: *log, applied, held });
            }
        }
        Ok(())
    }

    /// Compares the `wanted` entities, or all if none are named, with what is `stored` of them.
    async fn verify(
        &self,
        wanted: Option<BTreeSet<EntityKey>>,
        mut stored: Stored<'_>,
        verified: &mut Verified,
        watch: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), VerifyError> {
        let mut history = History::open(&self.table, self.plan, wanted, self.request.effort).await?;
        let mut asking = answers::Asking::new(self.plan, self.request.asked, self.request.seed);
        let (mut events, mut states) = (history.next().await?, stored.next().await?);
        loop {
            // Both come in order of the key's bytes.
            let key = match (&events, &states) {
                (None, None) => return Ok(()),
                (Some(events), Some(states)) => events.key.clone().min(states.key.clone()),
                (Some(events), None) => events.key.clone(),
                (None, Some(states)) => states.key.clone(),
            };
            let of_key = events.take_if(|events| events.key == key);
            let stored_of_key = states.take_if(|states| states.key == key);
            self.entity(&key, of_key, stored_of_key, &mut asking, verified);
            watch(verified.entities);
            if events.is_none() {
                events = history.next().await?;
            }
            if states.is_none() {
                states = stored.next().await?;
            }
        }
    }

    /// Compares what is stored of one entity with what its events say.
    fn entity(
        &self,
        key: &EntityKey,
        events: Option<EntityEvents>,
        stored: Option<EntityStates>,
        asking: &mut answers::Asking<'_>,
        verified: &mut Verified,
    ) {
        let rebuilt = Rebuilt::new(
            self.plan,
            self.layout,
            &self.applied,
            key,
            events.map_or_else(Vec::new, |entity| entity.events),
        );
        let stored: BTreeMap<Log, Vec<u8>> =
            stored.map(|entity| entity.states.into_iter().collect()).unwrap_or_default();
        verified.entities += 1;
        let before = verified.mismatches.len();
        let logs: BTreeSet<Log> = stored.keys().chain(rebuilt.states.keys()).copied().collect();
        for log in logs {
            verified.states += 1;
            let (stored, rebuilt) = (stored.get(&log), rebuilt.states.get(&log));
            if let Some(what) =
                difference::of(self.plan, stored.map(Vec::as_slice), rebuilt, self.request.now)
            {
                verified.mismatches.push(self.mismatch(key, Some(log), what));
            }
        }
        // States that differ answer differently; saying so again for each answer would bury what matters.
        if verified.mismatches.len() == before {
            let asked = asking.ask(&stored, &rebuilt.events);
            verified.values += asked.values;
            verified.telling += asked.telling;
            verified
                .mismatches
                .extend(asked.differences.into_iter().map(|what| self.mismatch(key, None, what)));
        }
    }

    fn mismatch(&self, key: &EntityKey, log: Option<Log>, what: String) -> Mismatch {
        Mismatch { view: self.plan.view.clone(), entity: name_entity(self.plan, key), log, what }
    }
}

/// The stored entities in order of their keys: all of them page by page, or the wanted ones.
struct Stored<'v> {
    pages: Option<Box<dyn EntityPages + 'v>>,
    page: std::vec::IntoIter<EntityStates>,
}

impl<'v> Stored<'v> {
    fn all(pages: Box<dyn EntityPages + 'v>) -> Self {
        Self { pages: Some(pages), page: Vec::new().into_iter() }
    }

    async fn of(view: &View<'_>, wanted: &BTreeSet<EntityKey>) -> Result<Self, VerifyError> {
        let keys: Vec<EntityKey> = wanted.iter().cloned().collect();
        let states = view.request.store.lookup(&view.generation, &keys).await?;
        let entities = keys.into_iter().zip(states);
        let entities = entities.map(|(key, states)| Ok(EntityStates { key, states: states? }));
        let mut entities: Vec<EntityStates> = entities.collect::<Result<_, StoreError>>()?;
        entities.retain(|entity| !entity.states.is_empty());
        Ok(Self { pages: None, page: entities.into_iter() })
    }

    async fn next(&mut self) -> Result<Option<EntityStates>, VerifyError> {
        loop {
            if let Some(entity) = self.page.next() {
                return Ok(Some(entity));
            }
            let Some(pages) = &mut self.pages else { return Ok(None) };
            self.page = pages.next_page().await?.into_iter();
            if self.page.len() == 0 {
                return Ok(None);
            }
        }
    }
}

/// An entity as `name=value`, its parts joined by commas; its bytes in hexadecimal where they are no such key.
fn name_entity(plan: &FeaturePlan, key: &EntityKey) -> String {
    match key.decode(plan.key_types()) {
        Ok(values) => {
            let parts = plan.keys.iter().zip(values).map(|(key, value)| format!("{}={value}", key.name));
            parts.collect::<Vec<_>>().join(",")
        }
        Err(_) => format!("0x{key:?}"),
    }
}
