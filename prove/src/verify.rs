//! Verify: the online state rebuilt from the event tables, and compared with the one that serves, byte for byte.
//!
//! Equal events give equal bytes, so a single comparison of bytes shows that every event was applied once and none
//! twice. For a sample of entities the stored states are also asked about instants from the earliest allowed on, and the
//! answers compared with those of training and of the oracle.
//!
//! An ingestion may run meanwhile. Two things follow from that:
//!
//! * The store is ahead of the event tables, by what the ingestion has not committed yet. So whatever position was read from
//!   the store, the table is read at a version that covers it. Where there is none yet, `verify` waits for it, up to
//!   [`Request::patience`].
//! * Positions are read first and states later. A state that was written in between differs from what the events up to the
//!   positions say. So a difference that is found like this is a suspicion: the entity is read again together with the
//!   positions of its bucket, as of one instant ([`OnlineStore::load`]), and compared with what the events up to exactly these
//!   positions say. What differs then is a mismatch.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tidemark_host::Host;
use tidemark_kernel::{
    EntityKey, ErrorKind, Explain, FeaturePlan, Fingerprint, Layout, Partition, Position, SourcePlan, Time,
};
use tidemark_offline::table::retract::retracted;
use tidemark_offline::{Effort, EventTable, HistoryError, Location, Positions, TableError};
use tidemark_store::{BUCKETS, EntityPages, EntityStates, Generation, OnlineStore, StoreError, begun_at};

mod again;
mod answers;
mod difference;
mod findings;
mod rebuilt;
mod tables;
#[cfg(test)]
mod tests;

use tables::Tables;

/// The default of how long to wait for an event table. An ingestion commits every few seconds.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What to verify.
#[derive(Clone, Debug)]
pub struct Request {
    /// The timers to wait by.
    pub host: Host,
    /// For how long to wait, each time, until an event table holds what the store has applied; [`PATIENCE`] if nothing says
    /// otherwise. Nothing is waited for where the table holds it at once.
    pub patience: Duration,
    /// The online store. Others may write to it meanwhile, and commit to the event tables.
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
    /// How many states, one for each entity and partition.
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
    /// The name of the view.
    pub view: String,
    /// The entity as `name=value`, its parts joined by commas.
    pub entity: String,
    /// The partition; none where it concerns the whole entity.
    pub partition: Option<Partition>,
    /// What differs.
    pub what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "view {}, {}", self.view, self.entity)?;
        self.partition.map_or(Ok(()), |partition| write!(f, ", partition {partition}"))?;
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
    NotBackfilled(String),
    /// A view's live state, or a part of it, is gone from the store.
    #[error("the state of view {0} is lost from the online store")]
    Lost(String),
    /// A view's live state was replaced by another, or removed, before all of it was verified.
    #[error("the state of view {0} was replaced while it was verified")]
    Replaced(String),
    /// A view's live state holds records that were taken back since.
    #[error("the state of view {0} was made before records of its source were taken back")]
    TakenBack(String),
    /// A view's live state belongs to another definition.
    #[error("the live state of view {view} belongs to version {live}, not to {wanted}")]
    Foreign {
        /// The name of the view.
        view: String,
        /// The version of the state.
        live: Fingerprint,
        /// The version asked for.
        wanted: Fingerprint,
    },
    /// The store has applied what the event table does not hold, not even after some time.
    #[error(
        "view {view} has applied partition {partition} up to {applied}, but the event table of {source_name} ends at {held}"
    )]
    Behind {
        /// The name of the view.
        view: String,
        /// The name of its source.
        source_name: String,
        /// The partition.
        partition: Partition,
        /// The position of the store.
        applied: Position,
        /// The position of the table.
        held: Position,
    },
    /// The plan of a view's source is missing.
    #[error("view {view} reads source {name}, whose plan is missing")]
    Source {
        /// The name of the view.
        view: String,
        /// The name of the source.
        name: String,
    },
}

impl Explain for VerifyError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Store(error) => error.kind(),
            Self::Table(error) => error.kind(),
            Self::History(error) => error.kind(),
            Self::NotBackfilled(_) | Self::Lost(_) | Self::Replaced(_) => ErrorKind::NotReady,
            Self::TakenBack(_) | Self::Foreign { .. } | Self::Behind { .. } => ErrorKind::NotReady,
            Self::Source { .. } => ErrorKind::Internal,
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        let help = match self {
            Self::Store(error) => return error.help(),
            Self::Table(error) => return error.help(),
            Self::History(error) => return error.help(),
            Self::NotBackfilled(_) => "run `tidemark ingest` or `tidemark apply` to backfill the view",
            Self::Lost(_) | Self::TakenBack(_) => {
                "run `tidemark ingest` or `tidemark apply` to backfill the view"
            }
            Self::Replaced(_) => "run it again",
            Self::Foreign { .. } => "run `tidemark apply` to backfill the view",
            Self::Behind { .. } => {
                "run `tidemark ingest` to bring the event table up to date; if one runs, `tidemark status` says what it \
                 waits for"
            }
            Self::Source { .. } => return None,
        };
        Some(help.into())
    }
}

/// Verifies every view. `watch` is told how many entities are done. Where all entities are verified, the store also checks
/// what else it holds. A sample is chosen by the store, and nothing else is read of it.
///
/// An ingestion may run meanwhile: what it writes is neither a mismatch nor an error. A view that gets another live state
/// meanwhile is [`VerifyError::Replaced`].
///
/// # Errors
/// Fails where store or tables cannot be read or do not belong together; also where the store says that a state is damaged.
/// States that differ are no error: they are in what is returned.
pub async fn verify(request: &Request, watch: &mut (dyn FnMut(u64) + Send)) -> Result<Verified, VerifyError> {
    match verify_all(request, watch).await {
        Err(VerifyError::Store(StoreError::Gone(generation))) => {
            let lost = VerifyError::Lost(generation.view.clone());
            Err(unless_replaced(request, &generation, lost).await)
        }
        result => result,
    }
}

async fn verify_all(request: &Request, watch: &mut (dyn FnMut(u64) + Send)) -> Result<Verified, VerifyError> {
    let mut views = Vec::with_capacity(request.views.len());
    for plan in &request.views {
        views.push(View::open(request, plan).await?);
    }
    // After the positions of all views, so that it is waited for all of them at once.
    let mut tables = Tables::new(request);
    for view in &views {
        tables.covering(view, &view.reached()).await?;
    }
    // Each of these may have to look at all keys of a server: once, not once for each view.
    let generations: Vec<Generation> = views.iter().map(|view| view.generation.clone()).collect();
    let mut verified = Verified::default();
    if let Some(count) = request.sample {
        let samples = request.store.sample(&generations, count, request.seed).await?;
        for (view, wanted) in views.iter().zip(samples) {
            let stored = Stored::of(view, &wanted).await?;
            view.verify(Some(wanted), stored, &mut tables, &mut verified, watch).await?;
        }
        return Ok(verified);
    }
    let all = request.store.entities_of(&generations).await?;
    for (view, pages) in views.iter().zip(all) {
        view.verify(None, Stored::all(pages), &mut tables, &mut verified, watch).await?;
    }
    request.store.check_others(&generations).await?;
    Ok(verified)
}

/// What to say of a generation: this error, unless its view has another live state by now.
async fn unless_replaced(request: &Request, generation: &Generation, error: VerifyError) -> VerifyError {
    match request.store.live(&generation.view).await {
        Ok(live) if live.as_ref() == Some(generation) => error,
        Ok(_) => VerifyError::Replaced(generation.view.clone()),
        Err(failed) => failed.into(),
    }
}

/// The stored states of one entity.
type States = BTreeMap<Partition, Vec<u8>>;

/// One view being verified.
struct View<'r> {
    request: &'r Request,
    plan: &'r Arc<FeaturePlan>,
    generation: Generation,
    /// Of its states.
    layout: Layout,
    /// The positions of the generation before its states were read.
    positions: tidemark_store::Positions,
}

impl<'r> View<'r> {
    async fn open(request: &'r Request, plan: &'r Arc<FeaturePlan>) -> Result<Self, VerifyError> {
        let live = request.store.live(&plan.view).await?;
        let generation = live.ok_or_else(|| VerifyError::NotBackfilled(plan.view.clone()))?;
        let Some(layout) = plan.layout_of_generation(generation.fingerprint) else {
            let (live, wanted) = (generation.fingerprint, plan.fingerprint());
            return Err(VerifyError::Foreign { view: plan.view.clone(), live, wanted });
        };
        if !request.store.is_whole(&generation).await? {
            return Err(StoreError::Gone(generation).into());
        }
        let positions = request.store.positions(&generation).await?;
        Ok(Self { request, plan, generation, layout, positions })
    }

    /// The bucket's position in each partition, where it has one.
    fn standing(&self, bucket: u16) -> Positions {
        let of_bucket = |(partition, buckets): (&Partition, &BTreeMap<u16, Position>)| {
            Some((*partition, *buckets.get(&bucket)?))
        };
        let mut standing: Positions = self.positions.iter().filter_map(of_bucket).collect();
        standing.remove(&Partition::RETRACTIONS);
        standing
    }

    /// For each partition, the position of the bucket that is furthest.
    fn reached(&self) -> Positions {
        let all: Vec<Positions> = (0..BUCKETS).map(|bucket| self.standing(bucket)).collect();
        furthest(&all)
    }

    /// Fails unless the states were made from what the table holds: rows that were taken back since are still in them.
    async fn check_retractions(&self, table: &EventTable) -> Result<(), VerifyError> {
        if begun_at(&self.positions) == retracted(table.properties()) {
            return Ok(());
        }
        let taken_back = VerifyError::TakenBack(self.plan.view.clone());
        Err(unless_replaced(self.request, &self.generation, taken_back).await)
    }
}

/// The furthest position of each partition.
fn furthest<'p>(all: impl IntoIterator<Item = &'p Positions>) -> Positions {
    let mut furthest = Positions::new();
    for (partition, position) in all.into_iter().flatten() {
        let reached = furthest.entry(*partition).or_insert(*position);
        *reached = (*reached).max(*position);
    }
    furthest
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
