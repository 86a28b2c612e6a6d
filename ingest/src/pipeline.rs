//! One source: its logs, through its views, into the online store and the event tables.
//!
//! A batch goes to the views at once and to the event tables with the next large commit. Each of them keeps a
//! position of its own and skips what it has, so that a crash at any instant loses nothing and doubles nothing:
//! logs are read again from where `events` stands, and a view that is behind `events` is caught up from there.

use std::sync::Arc;

use futures::future::try_join_all;
use tidemark_kernel::{FeaturePlan, Log, Position, SourcePlan};
use tidemark_offline::{Location, Positions, TableError};
use tidemark_store::OnlineStore;
use tokio::task::spawn_blocking;

use crate::decode::Batch;
use crate::error::IngestError;
use crate::fill::{Fill, catch_up};
use crate::journal::{Journal, JournalError};
use crate::metrics::{Metrics, SourceMetrics};
use crate::progress::{Watch, unwatched};
use crate::push::{self, Accepting, PushLog};
use crate::tables::Tables;
use crate::view::{Advance, SharedView, advance};

pub(crate) mod take_in;

/// How many pushed records make a batch.
const PUSH_ROWS: usize = 4096;

/// What all pipelines share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) location: Location,
    pub(crate) store: Arc<dyn OnlineStore>,
    pub(crate) journal: Journal,
    pub(crate) push: PushLog,
    /// Who may push, and to which version of a source.
    pub(crate) accepting: Accepting,
    pub(crate) metrics: Arc<Metrics>,
}

/// One source on its way into both stores.
#[derive(Debug)]
pub(crate) struct Pipeline {
    shared: Shared,
    /// The version under which its logs are read.
    source: Arc<SourcePlan>,
    tables: Tables,
    views: Vec<SharedView>,
    metrics: Arc<SourceMetrics>,
}

impl Pipeline {
    /// Opens a source's tables. Its views are not up yet: [`switch`](Self::switch) it to them before it takes
    /// anything. A source that has changed since it was last open is opened as it was.
    pub(crate) async fn open(shared: Shared, source: Arc<SourcePlan>) -> Result<Self, IngestError> {
        let before = shared.journal.source(&source.name)?;
        let before = before.filter(|before| before.version() != source.version()).map(Arc::new);
        let (source, tables) = match before {
            Some(before) => Self::open_as_it_was(&shared, before, source).await?,
            None => (Arc::clone(&source), Tables::open(&shared.location, source).await?),
        };
        let metrics = shared.metrics.source(&source.name);
        let pipeline = Self { shared, source, tables, views: Vec::new(), metrics };
        pipeline.check_journal()?;
        Ok(pipeline)
    }

    /// The tables of a source that has changed. Where they have columns that only the new version knows, it took
    /// effect before: everything under the old one is in.
    async fn open_as_it_was(
        shared: &Shared,
        before: Arc<SourcePlan>,
        now: Arc<SourcePlan>,
    ) -> Result<(Arc<SourcePlan>, Tables), IngestError> {
        match Tables::open(&shared.location, Arc::clone(&before)).await {
            Err(IngestError::Table(TableError::Removed { .. } | TableError::Retyped { .. })) => {
                Ok((Arc::clone(&now), Tables::open(&shared.location, now).await?))
            }
            tables => Ok((before, tables?)),
        }
    }

    /// Journal and tables belong together: offsets given out once must never be given out again.
    fn check_journal(&self) -> Result<(), IngestError> {
        for (log, end) in self.ends()? {
            let committed = self.tables.committed(log);
            if committed > end {
                return Err(self.tables.gap(log, end, committed));
            }
        }
        Ok(())
    }

    /// Where the logs that we keep ourselves end.
    pub(crate) fn ends(&self) -> Result<Positions, IngestError> {
        let push = self.shared.journal.push_end(&self.source.name)?;
        let files = match self.shared.journal.last_file(&self.source.name)? {
            None => Position::START,
            // The end of a file that is being read is not known yet.
            Some(last) => last.rows.map_or(Position(i64::MAX), |rows| Position(last.first + rows)),
        };
        Ok(Positions::from([(Log::FILE, files), (Log::PUSH, push)]))
    }

    /// The version under which the source's logs are read.
    pub(crate) const fn source(&self) -> &Arc<SourcePlan> {
        &self.source
    }

    /// Its tables.
    pub(crate) const fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Takes effect of a source and its views: what was taken in before reaches both stores as it was defined then,
    /// whatever changed is filled, and everything that waits in the logs is taken in.
    pub(crate) async fn switch(
        &mut self,
        source: Arc<SourcePlan>,
        plans: &[Arc<FeaturePlan>],
        watch: Watch<'_>,
    ) -> Result<(), IngestError> {
        let changed = source.version() != self.source.version();
        if changed {
            self.finish(plans, watch).await?;
        }
        // What is pushed up to here is read under the old version, what is pushed afterwards under the new one.
        let mut accepting = self.shared.accepting.hold().await;
        if changed {
            self.drain_push().await?;
        }
        self.commit().await?;
        let tables = if source == self.source {
            None
        } else {
            Some(Tables::open(&self.shared.location, Arc::clone(&source)).await?)
        };
        let version = Arc::clone(&source);
        self.journal(move |journal| journal.set_source(&version)).await?;
        // All at once: whatever fails or is given up before leaves everything as it was.
        accepting.insert(source.name.clone(), Arc::clone(&source));
        drop(accepting);
        if let Some(tables) = tables {
            self.tables = tables;
        }
        self.source = source;
        self.bring_up(plans, watch).await?;
        self.resume_files(watch).await?;
        self.drain_push().await.map(drop)
    }

    /// Brings everything that was taken in under the present version of the source into both stores.
    async fn finish(&mut self, plans: &[Arc<FeaturePlan>], watch: Watch<'_>) -> Result<(), IngestError> {
        let ends = self.ends()?;
        if ends.iter().all(|(log, end)| self.tables.committed(*log) == *end) {
            return Ok(());
        }
        if self.views.is_empty() {
            self.bring_up(&self.going_on(plans).await?, watch).await?;
        }
        self.resume_files(watch).await?;
        self.drain_push().await?;
        self.commit().await
    }

    /// The views that go on as they are when the source changes: those may have applied what `events` lacks.
    async fn going_on(&self, plans: &[Arc<FeaturePlan>]) -> Result<Vec<Arc<FeaturePlan>>, IngestError> {
        let mut going_on = Vec::new();
        for plan in
            plans.iter().filter(|plan| plan.fields.iter().all(|field| self.source.fields.contains(field)))
        {
            let live = self.shared.store.live(&plan.view).await?;
            if live.is_some_and(|live| live.fingerprint == plan.fingerprint()) {
                going_on.push(Arc::clone(plan));
            }
        }
        Ok(going_on)
    }

    /// Brings up the views of these plans, several at once; those that are up and unchanged stay as they are.
    async fn bring_up(&mut self, plans: &[Arc<FeaturePlan>], watch: Watch<'_>) -> Result<(), IngestError> {
        self.commit().await?;
        let ends = self.ends()?;
        let views = plans.iter().map(|plan| self.fill(plan, &ends, watch));
        self.views = try_join_all(views).await?;
        Ok(())
    }

    async fn fill(
        &self,
        plan: &Arc<FeaturePlan>,
        ends: &Positions,
        watch: Watch<'_>,
    ) -> Result<SharedView, IngestError> {
        let metrics = self.shared.metrics.view(&plan.view);
        let fill =
            Fill { store: &self.shared.store, plan, events: self.tables.events(), ends, metrics: &metrics };
        fill.bring_up(watch).await
    }

    /// Takes a batch: into every view at once, into the event tables with the next commit.
    pub(crate) async fn take(&mut self, batch: Batch) -> Result<(), IngestError> {
        if batch.from > self.tables.taken(batch.log) {
            return Err(self.tables.gap(batch.log, self.tables.taken(batch.log), batch.from));
        }
        let batch = Arc::new(batch);
        loop {
            let outcomes = try_join_all(self.views.iter().map(|view| advance(view, &batch))).await?;
            if outcomes.iter().all(|outcome| *outcome == Advance::Done) {
                break;
            }
            self.restore(&outcomes).await?;
        }
        self.metrics.taken(&batch);
        self.tables.add(batch)?;
        if self.tables.is_full() {
            self.commit().await?;
        }
        Ok(())
    }

    /// Brings views that fell back to where the event table stands, which is made to be all that was taken.
    async fn restore(&mut self, outcomes: &[Advance]) -> Result<(), IngestError> {
        self.commit().await?;
        let ends = self.ends()?;
        for (index, outcome) in outcomes.iter().enumerate().filter(|(_, outcome)| **outcome != Advance::Done)
        {
            self.metrics.rewound();
            let view = &self.views[index];
            let whole =
                *outcome == Advance::Behind && catch_up(view, self.tables.events(), &unwatched).await?;
            if !whole {
                let plan = Arc::clone(view.lock().await.plan());
                self.views[index] = self.fill(&plan, &ends, &unwatched).await?;
            }
        }
        Ok(())
    }

    /// Commits what waits for the event tables, and lets go of the pushed records that are in.
    pub(crate) async fn commit(&mut self) -> Result<(), IngestError> {
        let before = self.tables.committed(Log::PUSH);
        if self.tables.commit().await? {
            self.metrics.committed();
        }
        let committed = self.tables.committed(Log::PUSH);
        if committed > before {
            self.shared.push.trim(&self.source.name, committed).await;
        }
        Ok(())
    }

    /// Takes in everything that waits in the push log. How many records that was.
    pub(crate) async fn drain_push(&mut self) -> Result<u64, IngestError> {
        let mut taken = 0;
        while let Some(batch) = self.next_pushed().await? {
            taken += (batch.to.0 - batch.from.0).unsigned_abs();
            self.take(batch).await?;
        }
        Ok(taken)
    }

    async fn next_pushed(&self) -> Result<Option<Batch>, IngestError> {
        let (journal, source) = (self.shared.journal.clone(), Arc::clone(&self.source));
        let from = self.tables.taken(Log::PUSH);
        let read = spawn_blocking(move || {
            // In this order: what is appended in between is no gap.
            let end = journal.push_end(&source.name)?;
            let records = journal.pushed(&source.name, from, PUSH_ROWS)?;
            match records.first() {
                None => Ok((end, None)),
                Some(_) => push::decode(&source, &records).map(|batch| (end, Some(batch))),
            }
        });
        match read.await.map_err(IngestError::stopped)?? {
            (end, None) if end > from => Err(self.tables.gap(Log::PUSH, from, end)),
            (_, batch) => Ok(batch),
        }
    }

    /// Asks the journal where waiting for the disk holds up nobody.
    async fn journal<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Journal) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, IngestError> {
        let journal = self.shared.journal.clone();
        let done = spawn_blocking(move || work(&journal));
        Ok(done.await.map_err(IngestError::stopped)??)
    }
}
