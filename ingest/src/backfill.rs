//! Backfilling a view from history.
//!
//! A new or changed view gets a generation of its own, into which `events` is streamed through the same code and the
//! same position-checked flushes as live events: killed at any step, it continues from its stored positions. Once
//! it has reached what `events` holds, one pointer is switched by compare-and-set. A live view that is behind
//! `events` is caught up in the same way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{RecordBatch, cast::AsArray};
use arrow::datatypes::Int32Type;
use futures::TryStreamExt;
use futures::future::try_join_all;
use tidemark_host::Host;
use tidemark_kernel::retention::least;
use tidemark_kernel::{FeaturePlan, Partition, Position};
use tidemark_offline::table::retract::retracted;
use tidemark_offline::table::{layout, properties};
use tidemark_offline::{OfflineTable, Positions};
use tidemark_store::{Generation, OnlineStore, PublishOutcome, StoreError};

use crate::decode::Batch;
use crate::division::Division;
use crate::error::IngestError;
use crate::memory::Memory;
use crate::metrics::ViewMetrics;
use crate::progress::{Progress, Task, Watch, unwatched};
use crate::tables::{answered_since, generations_since};
use crate::view::{Advance, SharedView, ViewWriter};

/// How often a view is brought up again when other processes, or a store that loses it, get in the way.
const ATTEMPTS: usize = 5;

/// What it takes to bring a view up.
pub(crate) struct Backfill<'a> {
    pub(crate) host: &'a Host,
    /// Where its states go.
    pub(crate) store: &'a Arc<dyn OnlineStore>,
    /// The view.
    pub(crate) plan: &'a Arc<FeaturePlan>,
    /// Where its events come from.
    pub(crate) events: &'a dyn OfflineTable,
    /// Where its partitions end. A state that claims to be further was backfilled from another history.
    pub(crate) ends: &'a Positions,
    /// The generation that was live when this began. A later one of neither its plan nor this one is of newer
    /// definitions, which another process runs; without it, we are the newer ones.
    pub(crate) began: Option<&'a Generation>,
    /// Its counters.
    pub(crate) metrics: &'a Arc<ViewMetrics>,
    /// What its writers share.
    pub(crate) memory: &'a Memory,
}

/// What became of an attempt to catch a view up.
enum Attempt {
    /// The view is caught up in the partitions that were asked for.
    Done(SharedView, Lacked),
    /// The view lacks more records than allowed.
    Far,
    /// Another process interfered, or the store lost the generation.
    Lost,
}

/// How many records of `events` a view lacked before it was caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lacked {
    /// In the partitions that were caught up.
    pub(crate) here: u64,
    /// In those that were left to other workers.
    pub(crate) elsewhere: u64,
}

impl Backfill<'_> {
    /// The view's live generation, up to date with `events`; backfilled and published if there is none of this plan.
    ///
    /// # Errors
    /// Fails where store or table do, or where the view is taken over or lost again and again.
    pub(crate) async fn bring_up(&self, watch: Watch<'_>) -> Result<SharedView, IngestError> {
        let caught_up = self.catch_up_within(u64::MAX, None, watch).await?;
        caught_up.map(|(view, _)| view).ok_or_else(|| IngestError::Contended(self.plan.view.clone()))
    }

    /// As [`bring_up`](Self::bring_up) does, where that takes no more than `near` records; if it takes more, none, and
    /// nothing is published.
    pub(crate) async fn join(&self, near: u64) -> Result<Option<SharedView>, IngestError> {
        Ok(self.catch_up_within(near, None, &unwatched).await?.map(|(view, _)| view))
    }

    /// Catches the generation up that [`bring_up`](Self::bring_up) would, in this worker's part of its partitions and without
    /// publishing it. `watch` gets the progress of all partitions.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn prepare(
        &self,
        division: &mut Division,
        watch: Watch<'_>,
    ) -> Result<Lacked, IngestError> {
        let caught_up = self.catch_up_within(u64::MAX, Some(division), watch).await?;
        caught_up.map(|(_, lacked)| lacked).ok_or_else(|| IngestError::Contended(self.plan.view.clone()))
    }

    /// None where the view lacks more than `near` records. A part of it is not published.
    async fn catch_up_within(
        &self,
        near: u64,
        mut division: Option<&mut Division>,
        watch: Watch<'_>,
    ) -> Result<Option<(SharedView, Lacked)>, IngestError> {
        let before = self.store.live(&self.plan.view).await?;
        for _ in 0..ATTEMPTS {
            match self.attempt(near, division.as_deref_mut(), watch).await {
                Ok(Attempt::Done(view, lacked)) => return Ok(Some((view, lacked))),
                Ok(Attempt::Far) => return Ok(None),
                Ok(Attempt::Lost) | Err(IngestError::Store(StoreError::Gone(_))) => {}
                Err(error) => return Err(error),
            }
        }
        // Only another process makes a later generation live while this one publishes none.
        let later = |live: &Generation| before.as_ref().is_none_or(|before| live.number > before.number);
        let rival = self.store.live(&self.plan.view).await?.is_some_and(|live| later(&live));
        let view = self.plan.view.clone();
        Err(if rival { IngestError::Contended(view) } else { IngestError::LostAgain(view) })
    }

    async fn attempt(
        &self,
        near: u64,
        mut division: Option<&mut Division>,
        watch: Watch<'_>,
    ) -> Result<Attempt, IngestError> {
        // A store that has lost its data may be another deployment's by now.
        if let Some(history) = self.events.properties().get(properties::HISTORY) {
            self.store.claim_history(&self.plan.source, history).await?;
        }
        let live = self.store.live(&self.plan.view).await?;
        self.check_replaced(live.as_ref())?;
        if let Some(live) = &live
            && self.is_ahead(live).await?
        {
            return Err(IngestError::TakenBackMeanwhile(self.plan.view.clone()));
        }
        let mut current = live.as_ref().filter(|live| self.is_ours(live));
        let (generation, view, lacked) = loop {
            let Some((generation, view)) = self.open_or_begin(live.as_ref(), current).await? else {
                return Ok(Attempt::Lost);
            };
            let positions = self.events.positions();
            let lacking = lacking(&view, positions, &self.partitions()).await;
            if distance(&lacking, positions) > near {
                return Ok(Attempt::Far);
            }
            let part = match &mut division {
                Some(division) => division.part(&view, &lacking).await,
                None => self.partitions(),
            };
            let (here, elsewhere): (Positions, Positions) =
                lacking.into_iter().partition(|(partition, _)| part.contains(partition));
            let (here, elsewhere) = (distance(&here, positions), distance(&elsewhere, positions));
            let of_all = |progress: Progress<'_>| {
                watch(Progress { total: progress.total + elsewhere, ..progress });
            };
            if part.is_empty() || catch_up(&view, self.events, &part, &of_all).await? {
                break (generation, view, Lacked { here, elsewhere });
            }
            if current != Some(&generation) || self.store.live(&self.plan.view).await? != live {
                return Ok(Attempt::Lost);
            }
            // It is lost, and the pointer to it is left: only another generation can take its place.
            current = None;
        };
        if division.is_none() {
            if live.as_ref() != Some(&generation) && !self.publish(live.as_ref(), &generation).await? {
                return Ok(Attempt::Lost);
            }
            // Also where an earlier attempt was cut short before this.
            self.drop_replaced(&generation, live.as_ref()).await?;
        }
        Ok(Attempt::Done(view, lacked))
    }

    /// Whether the generation that [`bring_up`](Self::bring_up) would take is live already, and how many records it lacks.
    pub(crate) async fn standing(&self) -> Result<(bool, u64), IngestError> {
        let live = self.store.live(&self.plan.view).await?;
        let current = live.as_ref().filter(|live| self.is_ours(live));
        match self.open_or_begin(live.as_ref(), current).await {
            Ok(Some((generation, view))) => Ok((current == Some(&generation), self.lacked(&view).await)),
            Ok(None) | Err(IngestError::Store(StoreError::Gone(_))) => Ok((false, u64::MAX)),
            Err(error) => Err(error),
        }
    }

    /// How many records of `events` a view lacks.
    async fn lacked(&self, view: &ViewWriter) -> u64 {
        distance(&lacking(view, self.events.positions(), &self.partitions()).await, self.events.positions())
    }

    fn check_replaced(&self, live: Option<&Generation>) -> Result<(), IngestError> {
        let (Some(began), Some(live)) = (self.began, live) else { return Ok(()) };
        let is_other = live.fingerprint != began.fingerprint && !is_of_plan(self.plan, live);
        if live.number > began.number && is_other {
            return Err(IngestError::Replaced(self.plan.view.clone()));
        }
        Ok(())
    }

    /// Opens a generation that can be continued and belongs to this history. None where it was dropped or lost as well: its
    /// name, or the pointer to it, may be all that is left.
    async fn open(&self, generation: &Generation) -> Result<Option<SharedView>, IngestError> {
        let (host, plan, store) = (self.host.clone(), Arc::clone(self.plan), Arc::clone(self.store));
        let view = ViewWriter::open(
            host,
            plan,
            store,
            generation.clone(),
            Arc::clone(self.metrics),
            self.memory.clone(),
        )
        .await?;
        // One that was begun at another position has rows that were taken back, or lacks some that were not.
        let view = view.filter(|view| view.retractions() == retracted(self.events.properties()));
        let Some(view) = view else { return Ok(None) };
        for (partition, end) in self.ends {
            if view.highest(*partition).await > *end {
                return Ok(None);
            }
        }
        for partition in self.partitions() {
            if !view.add_partition(partition).await? {
                return Ok(None);
            }
        }
        Ok(Some(Arc::new(view)))
    }

    /// The `current` generation, the backfill that was cut short, if its plan is this one, or a new one.
    async fn open_or_begin(
        &self,
        live: Option<&Generation>,
        current: Option<&Generation>,
    ) -> Result<Option<(Generation, SharedView)>, IngestError> {
        if let Some(current) = current
            && let Some(view) = self.open(current).await?
        {
            return Ok(Some((current.clone(), view)));
        }
        let newer = |generation: &Generation| live.is_none_or(|live| generation.number > live.number);
        let unpublished = self.store.unpublished(&self.plan.view).await?;
        let ours = |generation: &&Generation| newer(generation) && self.is_ours(generation);
        for generation in unpublished.iter().rev().filter(ours) {
            if let Some(view) = self.open(generation).await? {
                return Ok(Some((generation.clone(), view)));
            }
            if !self.is_ahead(generation).await? {
                self.discard(generation).await?;
            }
        }
        let generation = begin(&**self.store, self.plan, self.events).await?;
        Ok(self.open(&generation).await?.map(|view| (generation, view)))
    }

    /// Whether a generation was begun by a process that has seen a retraction which this one has not seen yet.
    async fn is_ahead(&self, generation: &Generation) -> Result<bool, StoreError> {
        Ok(begun_at(&**self.store, generation).await? > retracted(self.events.properties()))
    }

    fn is_ours(&self, generation: &Generation) -> bool {
        counts(self.plan, self.events, generation)
    }

    fn partitions(&self) -> Vec<Partition> {
        partitions(self.events)
    }

    /// Switches the live pointer. False if another process switched it first.
    async fn publish(&self, live: Option<&Generation>, new: &Generation) -> Result<bool, IngestError> {
        let outcome = self.store.publish(&self.plan.view, live, Some(new)).await?;
        let published = match outcome {
            PublishOutcome::Published => true,
            PublishOutcome::Live(other) => other.as_ref() == Some(new),
        };
        if !published {
            // The live one has the same states or newer definitions, and no other process drops this one.
            self.discard(new).await?;
        }
        Ok(published)
    }

    /// Drops what the live generation has replaced. The last one goes on answering servers with the definitions of before,
    /// for a [while](crate::maintenance::KEPT_FOR_SERVERS).
    async fn drop_replaced(&self, live: &Generation, before: Option<&Generation>) -> Result<(), IngestError> {
        for old in self.store.unpublished(&self.plan.view).await? {
            let is_last = before == Some(live) || before == Some(&old);
            if old.number < live.number && !(is_last && self.still_answers(&old).await?) {
                self.discard(&old).await?;
            }
        }
        Ok(())
    }

    /// Drops a generation, unless another process has made it live meanwhile.
    async fn discard(&self, generation: &Generation) -> Result<(), StoreError> {
        match self.store.drop_generation(generation).await {
            Err(StoreError::Live(_)) => Ok(()),
            dropped => dropped,
        }
    }

    /// Whether a generation that was replaced is right all the same: of another plan, and made from records as `events`
    /// has them, or by an earlier version of Tidemark. One of the same plan was replaced because it had lost something.
    async fn still_answers(&self, old: &Generation) -> Result<bool, StoreError> {
        let properties = self.events.properties();
        let answers = old.number >= answered_since(properties) && !is_of_plan(self.plan, old);
        Ok(answers && begun_at(&**self.store, old).await? == retracted(properties))
    }
}

/// Whether a generation is of this plan, in whatever layout.
pub(crate) fn is_of_plan(plan: &FeaturePlan, generation: &Generation) -> bool {
    plan.layout_of_generation(generation.fingerprint).is_some()
}

/// Whether a generation is of this plan, and made from records as `events` has them.
pub(crate) fn counts(plan: &FeaturePlan, events: &dyn OfflineTable, generation: &Generation) -> bool {
    is_of_plan(plan, generation) && generation.number >= generations_since(events.properties())
}

/// The position in [`Partition::RETRACTIONS`] that a generation was begun at; the start where it is gone.
async fn begun_at(store: &dyn OnlineStore, generation: &Generation) -> Result<Position, StoreError> {
    match store.positions_of(generation, &[Partition::RETRACTIONS]).await {
        Err(StoreError::Gone(_)) => Ok(Position::START),
        positions => positions.map(|positions| tidemark_store::begun_at(&positions)),
    }
}

/// Begins a generation of a view, from the first record of every partition. It notes up to which retraction its events
/// will be without the rows that were taken back.
pub(crate) async fn begin(
    store: &dyn OnlineStore,
    plan: &FeaturePlan,
    events: &dyn OfflineTable,
) -> Result<Generation, StoreError> {
    let mut starts: Positions =
        partitions(events).into_iter().map(|partition| (partition, Position::START)).collect();
    let retracted = retracted(events.properties());
    if retracted > Position::START {
        starts.insert(Partition::RETRACTIONS, retracted);
    }
    store.begin(&plan.view, plan.new_generation_fingerprint(), &starts, least(plan)).await
}

/// Every partition that history knows, and those that every source has.
fn partitions(events: &dyn OfflineTable) -> Vec<Partition> {
    let known = events.positions().keys().copied();
    known.chain([Partition::FILE, Partition::PUSH]).collect::<BTreeSet<_>>().into_iter().collect()
}

/// Applies what a view lacks of the events that are in, of these partitions. False where its generation was lost meanwhile.
pub(crate) async fn catch_up(
    view: &SharedView,
    events: &dyn OfflineTable,
    partitions: &[Partition],
    watch: Watch<'_>,
) -> Result<bool, IngestError> {
    loop {
        match pass(view, events, partitions, watch).await {
            Ok(Advance::Done) => return Ok(true),
            Ok(Advance::Lost) | Err(IngestError::Store(StoreError::Gone(_))) => return Ok(false),
            Ok(Advance::Behind) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn pass(
    view: &SharedView,
    events: &dyn OfflineTable,
    partitions: &[Partition],
    watch: Watch<'_>,
) -> Result<Advance, IngestError> {
    for partition in partitions {
        view.add_partition(*partition).await?;
    }
    let mut next = lacking(view, events.positions(), partitions).await;
    if next.is_empty() {
        return view.reconcile(&held(events, partitions)).await;
    }
    let plan = Arc::clone(view.plan());
    let to: Positions =
        next.keys().filter_map(|partition| Some((*partition, *events.positions().get(partition)?))).collect();
    let mut columns: Vec<&str> = plan.fields.iter().map(|field| field.name.as_str()).collect();
    columns.extend([layout::EVENT_TIME, layout::ARRIVAL_TIME, layout::LOG, layout::OFFSET]);
    let mut meter = Meter { plan: &plan, done: 0, total: distance(&next, &to), rows: 0 };
    let mut rows = events.scan(&columns, &next, &to)?;
    while let Some(rows) = rows.try_next().await? {
        let partitions = runs(&rows, &mut next).into_values().map(|batches| advance_all(view, batches));
        for outcome in try_join_all(partitions).await? {
            match outcome {
                (Advance::Done, length) => meter.advance(length, watch),
                (other, _) => return Ok(other),
            }
        }
        meter.rows += rows.num_rows() as u64;
    }
    // What follows the last event was dead letters: only the positions move.
    for (partition, to) in to {
        let from = next.get(&partition).copied().unwrap_or(to);
        let events = RecordBatch::new_empty(schema(events, &columns));
        match advance_all(view, vec![Batch { partition, from, to, events, dead: Vec::new(), epoch: None }])
            .await?
        {
            (Advance::Done, length) => meter.advance(length, watch),
            (other, _) => return Ok(other),
        }
    }
    view.reconcile(&held(events, partitions)).await
}

/// Where these partitions end in the event table.
fn held(events: &dyn OfflineTable, partitions: &[Partition]) -> Positions {
    let position =
        |partition: &Partition| events.positions().get(partition).copied().unwrap_or(Position::START);
    partitions.iter().map(|partition| (*partition, position(partition))).collect()
}

/// Applies batches of one partition that follow one another; how far that was.
async fn advance_all(view: &SharedView, batches: Vec<Batch>) -> Result<(Advance, i64), IngestError> {
    let mut length = 0;
    for batch in batches {
        length += batch.to.0 - batch.from.0;
        let outcome = view.advance(&Arc::new(batch)).await?;
        if outcome != Advance::Done {
            return Ok((outcome, length));
        }
    }
    Ok((Advance::Done, length))
}

struct Meter<'a> {
    plan: &'a FeaturePlan,
    done: u64,
    total: u64,
    rows: u64,
}

impl Meter<'_> {
    fn advance(&mut self, length: i64, watch: Watch<'_>) {
        self.done += length.unsigned_abs();
        let task = Task::Backfill { view: &self.plan.view };
        watch(Progress { task, done: self.done, total: self.total, rows: self.rows });
    }
}

fn schema(events: &dyn OfflineTable, columns: &[&str]) -> arrow::datatypes::SchemaRef {
    let fields = columns.iter().filter_map(|name| events.schema().field_with_name(name).ok().cloned());
    Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()))
}

/// The positions of a view in those of the partitions in which it is behind.
async fn lacking(view: &ViewWriter, positions: &Positions, partitions: &[Partition]) -> Positions {
    let mut lacking = Positions::new();
    for (partition, position) in positions.iter().filter(|(partition, _)| partitions.contains(partition)) {
        let lowest = view.lowest(*partition).await;
        if lowest < *position {
            lacking.insert(*partition, lowest);
        }
    }
    lacking
}

/// How many records lie between these positions, in the partitions of `from`.
fn distance(from: &Positions, to: &Positions) -> u64 {
    let distances = from.iter().map(|(partition, from)| to.get(partition).map_or(0, |to| to.0 - from.0));
    distances.map(|distance| distance.max(0).unsigned_abs()).sum()
}

/// Cuts rows in commit order into batches of one partition each, every one of which goes on where the last one of its partition
/// ended.
fn runs(rows: &RecordBatch, next: &mut Positions) -> BTreeMap<Partition, Vec<Batch>> {
    let partitions =
        rows.column_by_name(layout::LOG).and_then(|partitions| partitions.as_primitive_opt::<Int32Type>());
    let partitions = partitions.map_or(&[][..], |partitions| partitions.values());
    let mut batches: BTreeMap<Partition, Vec<Batch>> = BTreeMap::new();
    let mut start = 0;
    for run in partitions.chunk_by(|a, b| a == b) {
        let events = rows.slice(start, run.len());
        start += run.len();
        let partition = Partition(run[0]);
        let mut batch = Batch {
            partition,
            from: Position::START,
            to: Position::START,
            events,
            dead: Vec::new(),
            epoch: None,
        };
        batch.to = batch.offsets().last().map_or(Position::START, |last| Position::after(*last));
        batch.from = next.insert(partition, batch.to).unwrap_or(batch.to);
        batches.entry(partition).or_default().push(batch);
    }
    batches
}
