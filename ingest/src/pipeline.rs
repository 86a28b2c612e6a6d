//! One source: its partitions, through its views, into the online store and the event tables.
//!
//! Batches go to the queues of the views at once and to the event tables with the next large commit; views of a compacted
//! topic get them from commits. Each of them keeps a position of its own and skips what it has, so that a crash at any
//! instant loses nothing and doubles nothing: partitions are read again from the positions of `events`, and a view that
//! is behind `events` is caught up from there.
//!
//! [`kept`] has the partitions that this process keeps itself, [`take_in`] the reader of files and [`intake`] what it hands
//! over, [`retry`] the records that are taken again, [`topic`] the partitions of a Kafka topic, [`repeated`] what was sent
//! twice, [`flow`] the way of what was taken into both stores, [`live`] the views that are up, [`idle`] how those with nothing
//! to write are compared with the store, [`backfill`] the views that are backfilled from history meanwhile, [`run`] the loop that
//! serves them all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use futures::future::try_join_all;
use tidemark_host::Host;
use tidemark_kernel::{FeaturePlan, Partition, SourcePlan, Time};
use tidemark_offline::table::properties;
use tidemark_offline::{OfflineStore, Positions, TableError};
use tidemark_store::{Generation, OnlineStore, StoreError};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::backfill::{Backfill, begin, counts};
use crate::error::IngestError;
use crate::feed::{SourceFeed, TopicFeed};
use crate::health::{Health, SourceHealth};
use crate::kafka::Topics;
use crate::memory::{Memory, SourceMemory};
use crate::metrics::{Metrics, SourceMetrics};
use crate::progress::Watch;
use crate::room::{Arrivals, Room};
use crate::tables::{CommitRule, Since, Tables};
use crate::view::SharedView;
use backfill::Backfills;
use intake::{Intake, Order};
use kept::{Kept, Pushes};
use live::{Fallen, FallenSender, Live};
use repeated::Known;
use retract::TakenBack;
use take_in::FileReport;
use topic::Topic;

pub(crate) mod arrivals;
mod backfill;
mod changed;
mod count;
mod flow;
mod history;
mod idle;
pub(crate) mod intake;
pub(crate) mod kept;
mod live;
mod repeated;
pub(crate) mod retract;
pub(crate) mod retry;
pub(crate) mod run;
pub(crate) mod take_in;
mod topic;

/// The state that the pipelines of all sources share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) offline: Arc<dyn OfflineStore>,
    pub(crate) store: Arc<dyn OnlineStore>,
    /// The partitions that this process keeps, if it keeps any.
    pub(crate) kept: Option<Kept>,
    /// How to reach the brokers, if there are any.
    pub(crate) topics: Option<Arc<dyn Topics>>,
    pub(crate) rule: CommitRule,
    pub(crate) memory: Memory,
    /// Whether records that Kafka has deleted before they were read may be passed over.
    pub(crate) skip_lost: bool,
    /// Files that are given up at their present position, by absolute path.
    pub(crate) give_up: Arc<[PathBuf]>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: Arc<Health>,
}

/// Takes a view out of service and drops its generations.
pub(crate) async fn drop_view(store: &dyn OnlineStore, view: &str) -> Result<(), IngestError> {
    if let Some(live) = store.live(view).await? {
        store.publish(view, Some(&live), None).await?;
    }
    let left = store.unpublished(view).await?;
    if !left.is_empty() {
        store.drop_generations(&left).await?;
    }
    Ok(())
}

impl Shared {
    /// Opens the tables of a source, creating them where they do not exist.
    async fn tables(
        &self,
        source: Arc<SourcePlan>,
        memory: &Arc<SourceMemory>,
    ) -> Result<Tables, IngestError> {
        Tables::open(&*self.offline, &self.host, source, self.rule, Arc::clone(memory)).await
    }
}

/// One source on its way into both stores.
pub(crate) struct Pipeline {
    shared: Shared,
    /// The version under which its partitions are read.
    source: Arc<SourcePlan>,
    /// The topic that it is read from, if it has one.
    topic_feed: Option<TopicFeed>,
    tables: Tables,
    /// The views that are up.
    views: Vec<Live>,
    /// Those of them that cannot go on, and the channel on which they report it.
    fallen: mpsc::UnboundedReceiver<Fallen>,
    falls: FallenSender,
    /// The batches that are on their way to them.
    room: Room,
    /// The memory that those batches and the next commit may take.
    memory: Arc<SourceMemory>,
    arrivals: Arc<Arrivals>,
    /// The ids of each partition, where the source leaves repetitions out.
    known: BTreeMap<Partition, Known>,
    /// The orders that use the file partition, while [running](run).
    intake: Intake,
    /// Whether files that were taken in halfway were ordered again since it began to run.
    has_resumed: bool,
    /// What reads the push partition, once it is read.
    pushes: Option<Pushes>,
    /// The views that are not up yet, while [running](run).
    backfills: Backfills,
    /// The partitions that this process writes, for [backfills](backfill) that are divided among workers.
    own: watch::Sender<BTreeSet<Partition>>,
    /// Whether the topic was left to be read again from the positions of `events`.
    joins_again: bool,
    /// Whether the source is served by the [loop](run), or is about to be: long work is then done beside the loop.
    is_running: bool,
    /// The files that were given up at their position.
    given_up: Vec<FileReport>,
    /// The retractions that were carried out.
    taken_back: Vec<TakenBack>,
    /// The partitions that are being read, while [running](run).
    topic: Option<Topic>,
    /// What compares [idle] views with the store, while [running](run).
    comparing: JoinSet<()>,
    /// What sees how far other workers have committed the topic, while some partition seems to make no progress.
    looking: JoinSet<()>,
    /// What keeps its tables in shape, while [running](run).
    upkeep: JoinSet<()>,
    metrics: Arc<SourceMetrics>,
    health: SourceHealth,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("source", &self.source.name).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Opens a source's tables. Its views are not up yet: [`switch`](Self::switch) it to them before it takes
    /// anything. A source that has changed since it was last open is opened as it was.
    pub(crate) async fn open(shared: Shared, feed: SourceFeed) -> Result<Self, IngestError> {
        let SourceFeed { source, topic: topic_feed } = feed;
        let before = shared.kept.as_ref().map(|kept| kept.source(&source.name)).transpose()?.flatten();
        let before = before.filter(|before| before.version() != source.version()).map(Arc::new);
        let memory = Arc::new(shared.memory.for_source());
        let (source, tables) = match before {
            Some(before) => Self::open_as_it_was(&shared, &memory, before, source).await?,
            None => (Arc::clone(&source), shared.tables(source, &memory).await?),
        };
        let metrics = shared.metrics.source(&source.name);
        let health = shared.health.of(&source.name, &shared.host);
        health.commits_every(shared.rule.every);
        let arrivals = Arrivals {
            source: source.name.clone(),
            host: shared.host.clone(),
            metrics: Arc::clone(&metrics),
            applied: shared.kept.as_ref().map(|kept| kept.applied.clone()),
        };
        let (falls, fallen) = mpsc::unbounded_channel();
        let mut pipeline = Self {
            shared,
            source,
            topic_feed,
            tables,
            views: Vec::new(),
            fallen,
            falls,
            room: Room::within(Arc::clone(&memory)),
            memory,
            arrivals: Arc::new(arrivals),
            known: BTreeMap::new(),
            intake: Intake::default(),
            has_resumed: false,
            pushes: None,
            backfills: Backfills::default(),
            own: watch::Sender::default(),
            joins_again: false,
            is_running: false,
            given_up: Vec::new(),
            taken_back: Vec::new(),
            topic: None,
            comparing: JoinSet::new(),
            looking: JoinSet::new(),
            upkeep: JoinSet::new(),
            metrics,
            health,
        };
        pipeline.check_journal()?;
        if pipeline.shared.kept.is_some() {
            pipeline.tables.decide_again().await?;
        }
        pipeline.claim_history().await?;
        Ok(pipeline)
    }

    /// The tables of a source that has changed. Where they have rows that only the new version knows, it took effect
    /// before: everything under the old one is in.
    async fn open_as_it_was(
        shared: &Shared,
        memory: &Arc<SourceMemory>,
        before: Arc<SourcePlan>,
        now: Arc<SourcePlan>,
    ) -> Result<(Arc<SourcePlan>, Tables), IngestError> {
        match shared.tables(Arc::clone(&before), memory).await {
            Err(IngestError::Table(TableError::Retyped { .. })) => {
                Ok((Arc::clone(&now), shared.tables(now, memory).await?))
            }
            tables => Ok((before, tables?)),
        }
    }

    /// The version under which the source's partitions are read.
    pub(crate) const fn source(&self) -> &Arc<SourcePlan> {
        &self.source
    }

    /// The same with the topic that it is read from.
    pub(crate) fn feed(&self) -> SourceFeed {
        SourceFeed { source: Arc::clone(&self.source), topic: self.topic_feed.clone() }
    }

    /// Whether it is read like this already.
    fn is_fed_by(&self, feed: &SourceFeed) -> bool {
        feed.source == self.source && feed.topic == self.topic_feed
    }

    /// The files that were ended where they stood, as [asked for](Shared::give_up).
    pub(crate) fn given_up(&self) -> &[FileReport] {
        &self.given_up
    }

    /// The source is served by the loop from now on: views that lack many records are backfilled beside it, not before.
    pub(crate) const fn begin_running(&mut self) {
        self.is_running = true;
    }

    /// The loop does not serve the source any more. Backfills end where they are.
    pub(crate) async fn end_running(&mut self) {
        self.is_running = false;
        self.has_resumed = false;
        self.intake.stop().await;
        self.backfills.stop(IngestError::NotRunning).await;
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> Time {
        self.shared.host.now()
    }

    /// Applies the definitions of a source and its views: what was taken in before reaches both stores as it was defined then,
    /// whatever changed is backfilled, and everything that waits in the partitions that we keep is taken in.
    pub(crate) async fn switch(
        &mut self,
        feed: SourceFeed,
        plans: &[Arc<FeaturePlan>],
        watch: Watch<'_>,
    ) -> Result<(), IngestError> {
        let is_as_before = self.is_fed_by(&feed);
        let SourceFeed { source, topic: topic_feed } = feed;
        let changed = source.version() != self.source.version();
        let mut finished = Ok(());
        if changed {
            finished = self.finish(watch).await;
            if finished.is_ok() {
                // What was acknowledged is seen by lookups also while the successors of these views are backfilled.
                self.room.drained(&self.partitions()).await;
            }
        }
        // What is pushed up to here is read under the old version, what is pushed afterwards under the new one.
        let mut accepting = match &self.shared.kept {
            Some(kept) => Some(kept.accepting.hold().await),
            None => None,
        };
        if changed && finished.is_ok() {
            finished = self.drain_push().await.map(drop);
        }
        if finished.is_ok() {
            finished = self.commit().await;
        }
        match finished {
            // Others read the source under other definitions already: what is not in is read again like that.
            Err(error) if changed && error.is_outdated() => {
                self.tables.forget();
                self.known.clear();
                self.room.tables_are_full(false);
            }
            finished => finished?,
        }
        let tables = if is_as_before {
            None
        } else {
            Some(self.shared.tables(Arc::clone(&source), &self.memory).await?)
        };
        self.keep_source(&source).await?;
        // All at once: whatever fails or is given up before leaves everything as it was.
        if let Some(accepting) = &mut accepting {
            accepting.insert(source.name.clone(), Arc::clone(&source));
        }
        drop(accepting);
        // Their generations stay as they are, and are gone on with where their plans are still wanted.
        self.backfills.stop(IngestError::Superseded).await;
        if let Some(tables) = tables {
            self.tables = tables;
        }
        self.source = source;
        self.topic_feed = topic_feed;
        if changed {
            self.known.clear();
            self.pushes = None;
        }
        self.claim(plans).await?;
        if changed {
            // They read fields as they were.
            self.views.clear();
        }
        if self.is_running {
            self.bring_up_beside(plans).await?;
        } else {
            self.bring_up(plans, watch).await?;
        }
        if !self.is_running {
            self.resume_files(watch).await?;
            self.finish_retries().await?;
        } else if self.shared.kept.is_some() && (changed || !self.has_resumed) {
            self.has_resumed = true;
            self.order(Order::Resume);
        }
        self.drain_push().await.map(drop)
    }

    /// Makes the version of a topic's source the one that its events are read under. Workers on another version can no
    /// longer commit, and stop.
    ///
    /// Generations begun before the version changes are not used again, even those of the same plan: the version may have
    /// been in force before, and they may hold records that were read again since.
    async fn claim(&mut self, plans: &[Arc<FeaturePlan>]) -> Result<(), IngestError> {
        if self.topic_feed.is_none() {
            return Ok(());
        }
        let health = self.health.clone();
        let mut wait = health.wait();
        loop {
            match self.try_claim(plans).await {
                Ok(true) => return Ok(()),
                Ok(false) => {}
                Err(error) if wait.out(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// False where another worker has changed the version in between.
    async fn try_claim(&mut self, plans: &[Arc<FeaturePlan>]) -> Result<bool, IngestError> {
        let since = match plans.first() {
            None => Since::NoViews,
            Some(plan) if self.has_none_that_counts(plan).await? => self.begin_anew(plan).await?,
            Some(_) => Since::Unchanged,
        };
        self.tables.claim(since).await
    }

    /// Begins a generation of a view that is newer than any of the source's views, and counts from then on as the first one.
    async fn begin_anew(&mut self, plan: &FeaturePlan) -> Result<Since, IngestError> {
        let events = &*self.tables.open_tables().await?.events;
        Ok(Since::Generation(begin(&*self.shared.store, plan, events).await?.number))
    }

    /// Whether no generation of a view counts: because the version of its source changes, or because the store is not the
    /// one that it was when the version changed last, and its numbers may be lower.
    async fn has_none_that_counts(&mut self, plan: &FeaturePlan) -> Result<bool, IngestError> {
        if self.tables.has_other_version().await? {
            return Ok(true);
        }
        let events = &*self.tables.open_tables().await?.events;
        if !events.properties().contains_key(properties::GENERATIONS_SINCE) {
            return Ok(false);
        }
        self.knows_none_that_counts(plan).await
    }

    /// Whether the store has no generation of a view that counts.
    async fn knows_none_that_counts(&mut self, plan: &FeaturePlan) -> Result<bool, IngestError> {
        let events = &*self.tables.open_tables().await?.events;
        let mut known = self.shared.store.unpublished(&plan.view).await?;
        known.extend(self.shared.store.live(&plan.view).await?);
        Ok(!known.iter().any(|generation| counts(plan, events, generation)))
    }

    /// Where the store has lost all generations of a view and gives them lower numbers than before, makes those count that
    /// are begun from now on. Each worker would begin others without end.
    pub(super) async fn renew_numbers(&mut self, plan: &FeaturePlan) -> Result<(), IngestError> {
        loop {
            // A worker that reads under another version than the others must not decide about it.
            if self.tables.generations_since() == 0
                || self.tables.has_other_version().await?
                || !self.knows_none_that_counts(plan).await?
            {
                return Ok(());
            }
            // As of this state of the table, or it is not lowered.
            let since = self.tables.generations_since();
            let events = &*self.tables.open_tables().await?.events;
            let begun = begin(&*self.shared.store, plan, events).await?;
            if begun.number >= since || !self.drop_uncounted(plan, begun.number, since).await? {
                return Ok(());
            }
            if self.tables.lower_since(begun.number).await? {
                return Ok(());
            }
        }
    }

    /// Drops the generations of other views that do not count and would if those from `number` on did: which ones count is said
    /// once for a source, and each view has numbers of its own. False, and nothing was dropped, where one of them is live: its
    /// own worker renews that view first.
    async fn drop_uncounted(&self, plan: &FeaturePlan, number: u64, since: u64) -> Result<bool, IngestError> {
        let plans = self.backfills.plans(&self.views);
        let names = plans.iter().map(|other| other.view.as_str());
        let others: Vec<&str> = names.filter(|other| *other != plan.view.as_str()).collect();
        let would_count = |generation: &Generation| (number..since).contains(&generation.number);
        let live = self.shared.store.live_of(&others).await?;
        if live.iter().flatten().any(would_count) {
            return Ok(false);
        }
        let unpublished = self.shared.store.unpublished_of(&others).await?;
        let left: Vec<Generation> = unpublished.into_iter().flatten().filter(would_count).collect();
        if left.is_empty() {
            return Ok(true);
        }
        match self.shared.store.drop_generations(&left).await {
            Err(StoreError::Live(_)) => Ok(false),
            dropped => Ok(dropped.map(|()| true)?),
        }
    }

    /// Brings everything that was taken in under the present version of the source into `events`, from where views get
    /// it.
    async fn finish(&mut self, watch: Watch<'_>) -> Result<(), IngestError> {
        let ends = self.ends()?;
        if ends.iter().all(|(partition, end)| self.tables.committed(*partition) == *end) {
            return Ok(());
        }
        self.resume_files(watch).await?;
        self.drain_push().await?;
        self.commit().await
    }

    /// Brings up the views of these plans, several at once; those that are up and unchanged stay as they are.
    async fn bring_up(&mut self, plans: &[Arc<FeaturePlan>], watch: Watch<'_>) -> Result<(), IngestError> {
        self.commit().await?;
        // Files that others have merged since may be gone soon.
        self.tables.reload().await?;
        let ends = self.ends()?;
        let health = self.health.clone();
        let mut wait = health.wait();
        loop {
            match self.backfill_all(plans, &ends, watch).await {
                Ok(views) => {
                    self.views = self.all_live(views);
                    return Ok(());
                }
                Err(error) if wait.out(&error).await => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn backfill_all(
        &mut self,
        plans: &[Arc<FeaturePlan>],
        ends: &Positions,
        watch: Watch<'_>,
    ) -> Result<Vec<SharedView>, IngestError> {
        let events = &self.tables.open_tables().await?.events;
        let Shared { host, store, metrics, memory, .. } = &self.shared;
        let views = plans.iter().map(async |plan| {
            let metrics = metrics.view(&plan.view);
            let events = &**events;
            Backfill { host, store, plan, events, ends, began: None, metrics: &metrics, memory }
                .bring_up(watch)
                .await
        });
        try_join_all(views).await
    }

    fn all_live(&self, views: Vec<SharedView>) -> Vec<Live> {
        views.into_iter().map(|view| self.live(view)).collect()
    }

    /// A view that has everything that was taken so far is up from now on.
    fn live(&self, view: SharedView) -> Live {
        Live::start(view, self.health.clone(), self.falls.clone())
    }
}
