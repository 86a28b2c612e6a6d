//! What was taken, on its way into both stores: the queues of the views, and the commits of the event tables.
//!
//! A view that cannot go on is restored from `events` here, by a task that no timeout cancels.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::join_all;
use tidemark_kernel::Partition;
use tidemark_offline::Positions;
use tokio::sync::oneshot;

use super::Pipeline;
use super::idle::Idle;
use super::live::{Fallen, Live};
use super::repeated::Deduplicated;
use super::topic::Topic;
use crate::decode::Batch;
use crate::error::IngestError;
use crate::room::InFlight;
use crate::tables::{Landed, is_partition};
use crate::view::SharedView;

impl Pipeline {
    /// Takes batches: they go into the event tables with the next commit, and into the queues of every view, at once or
    /// [from there](Self::hand_to_views).
    ///
    /// Returns how many of their events were repetitions of others, and were left out.
    pub(super) async fn take(&mut self, batches: Vec<Batch>) -> Result<u64, IngestError> {
        // A commit may have ended without a look at what it brought.
        self.hand_to_views().await;
        let mut all_repeated = 0;
        for batch in batches {
            if self.is_read_again(batch.partition) {
                continue;
            }
            let taken = self.tables.taken(batch.partition);
            if batch.from > taken {
                return Err(self.tables.gap(batch.partition, taken, batch.from));
            }
            let Some(Deduplicated { batch, repeated }) = self.without_repetitions(batch).await? else {
                continue;
            };
            if self.is_read_again(batch.partition) {
                continue;
            }
            all_repeated += repeated;
            self.count(&batch, repeated);
            if self.tables.is_committed_first(batch.partition) {
                self.tables.add(Arc::new(batch))?;
            } else {
                let batch = self.apply(batch);
                self.tables.add(Arc::clone(&batch.batch))?;
            }
        }
        self.commit_if_full();
        Ok(all_repeated)
    }

    /// Whether a partition belongs to the topic, and this worker has left the topic. Its next reader reads it again.
    fn is_read_again(&self, partition: Partition) -> bool {
        is_partition(partition) && self.topic.is_none()
    }

    /// Adds a batch to the queues of all views.
    fn apply(&self, batch: Batch) -> Arc<InFlight> {
        let batch = self.room.enter(batch, &self.arrivals);
        self.views.iter().for_each(|view| view.apply(Arc::clone(&batch)));
        batch
    }

    /// Hands to the views what they get from commits. Batches of partitions that were taken away are dropped: their next
    /// reader catches the views up from `events`.
    pub(super) async fn hand_to_views(&mut self) {
        let landed = self.tables.take_landed();
        if landed.is_empty() {
            return;
        }
        let Landed { mut batches, mut overtaken, discarded } = landed;
        self.forget_ids(|partition| overtaken.contains(&partition));
        let assigned: BTreeSet<Partition> = self.topic.iter().flat_map(Topic::assigned).collect();
        batches.retain(|batch| assigned.contains(&batch.partition));
        overtaken.retain(|partition| assigned.contains(partition));
        for batch in batches {
            self.apply(batch);
        }
        if overtaken.is_empty() {
            return;
        }
        tracing::warn!(
            source = self.source.name,
            ?overtaken,
            "others have committed some of these partitions first, or the answer to a commit was lost"
        );
        for view in &self.views {
            // They are restored from `events`. This end of the channel is always open.
            drop(self.falls.send(Fallen { writer: Arc::clone(view.writer()), outcome: Ok(()) }));
        }
        if !discarded.is_empty() {
            self.metrics.given_up(&assigned.into_iter().collect::<Vec<_>>());
            self.leave_topic().await;
            self.joins_again = true;
        }
    }

    /// Starts a commit of a good size. What waits for the next one is bounded, so that readers are slowed to the pace
    /// of the disk.
    fn commit_if_full(&mut self) {
        if self.tables.is_full() {
            self.tables.start_commit(&self.health);
        }
        // While none is under way, the next batch or tick starts one.
        self.room.tables_are_full(self.tables.is_full() && self.tables.is_committing());
    }

    /// Waits until a batch of a partition may be taken.
    pub(super) async fn make_room(&mut self, partition: Partition) -> Result<(), IngestError> {
        let room = self.room.clone();
        self.attend(room.free(partition)).await
    }

    /// Waits for `work` that depends on the views or the next commit, and meanwhile keeps both going.
    pub(super) async fn attend<T>(&mut self, work: impl Future<Output = T>) -> Result<T, IngestError> {
        let mut work = std::pin::pin!(work);
        loop {
            if !self.tables.is_committing() {
                self.commit_if_full();
            }
            let committing = self.tables.is_committing();
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                Some(fallen) = self.fallen.recv() => self.restore_or_keep(fallen).await?,
                () = self.tables.finished(), if committing => self.end_commit().await?,
            }
        }
    }

    /// As [`restore`](Self::restore), for work that fails alone: where this fails, the loop that serves the source finds the view
    /// again, or the error that ends it.
    async fn restore_or_keep(&mut self, fallen: Fallen) -> Result<(), IngestError> {
        if !self.is_running {
            return self.restore(fallen).await;
        }
        // This end of the channel is always open.
        if let Err(error) = &fallen.outcome {
            let told = IngestError::stopped(error);
            drop(self.falls.send(fallen));
            return Err(told);
        }
        let writer = Arc::clone(&fallen.writer);
        let restored = self.restore(fallen).await;
        if restored.is_err() {
            drop(self.falls.send(Fallen { writer, outcome: Ok(()) }));
        }
        restored
    }

    /// Brings a view that fell back to the positions of the event table, to which everything taken so far is committed
    /// first. Where that takes long, it runs beside the intake.
    pub(super) async fn restore(&mut self, fallen: Fallen) -> Result<(), IngestError> {
        if !self.views.iter().any(|view| Arc::ptr_eq(view.writer(), &fallen.writer)) {
            return Ok(());
        }
        fallen.outcome?;
        let health = self.health.clone();
        let mut wait = health.wait();
        loop {
            match self.commit_and_reload().await {
                Ok(()) => break,
                Err(error) if wait.out(&error).await => {}
                Err(error) => return Err(error),
            }
        }
        drop(wait);
        self.metrics.rewound();
        tracing::warn!(source = self.source.name, generation = %fallen.writer.generation(), "the view is behind the event table; catching up");
        self.replace(&fallen.writer).await
    }

    async fn commit_and_reload(&mut self) -> Result<(), IngestError> {
        self.commit().await?;
        self.tables.reload().await
    }

    /// Waits until the views have these partitions, makes the store's positions those that were reached, finds out
    /// whether the store has fallen back or answers from another generation, and if so brings it to the position of the
    /// event table.
    pub(super) async fn reconcile(&mut self, partitions: &[Partition]) -> Result<(), IngestError> {
        loop {
            let room = self.room.clone();
            self.attend(room.drained(partitions)).await?;
            let fallen = self.reconcile_once(partitions).await;
            if fallen.is_empty() {
                return Ok(());
            }
            // What they say for themselves first: it may not be possible to bring them back.
            while let Ok(fallen) = self.fallen.try_recv() {
                self.restore_or_keep(fallen).await?;
            }
            for writer in fallen {
                self.restore_or_keep(Fallen { writer, outcome: Ok(()) }).await?;
            }
        }
    }

    /// The views that cannot go on. Each also reports it itself.
    pub(super) async fn reconcile_once(&self, partitions: &[Partition]) -> Vec<SharedView> {
        let reconciling = self.views.iter().map(async |view| {
            let reconciled = self.reconcile_view(view, partitions).await;
            reconciled.err().map(|_| Arc::clone(view.writer()))
        });
        join_all(reconciling).await.into_iter().flatten().collect()
    }

    /// As [`reconcile`](Self::reconcile) does, for partitions of which no batch is in flight, and without waiting.
    pub(super) fn reconcile_beside(&mut self) {
        let mut partitions = self.partitions();
        partitions.retain(|partition| self.room.is_drained(*partition));
        let expected = self.expected(&partitions);
        let mut idle = Idle::at(expected.clone());
        for view in &self.views {
            if self.is_whole(view) && view.writer().is_at(&expected) {
                idle.add(view);
            } else {
                // A view that cannot go on says so itself.
                drop(self.reconcile_view(view, &partitions));
            }
        }
        self.compare(idle);
    }

    /// Compares idle views with the store, unless that is still being done since an earlier tick.
    fn compare(&mut self, idle: Idle) {
        while self.comparing.try_join_next().is_some() {}
        if self.comparing.is_empty() && !idle.is_empty() {
            self.comparing.spawn(idle.compare(Arc::clone(&self.shared.store)));
        }
    }

    fn reconcile_view(&self, view: &Live, partitions: &[Partition]) -> oneshot::Receiver<()> {
        view.reconcile(self.expected(partitions), self.is_whole(view))
    }

    /// Whether a view has what `events` has. A generation still holds records that were taken back since it was begun,
    /// and one that does not count any more may hold records that are not in `events`.
    fn is_whole(&self, view: &Live) -> bool {
        let writer = view.writer();
        writer.retractions() == self.tables.retracted()
            && writer.generation().number >= self.tables.generations_since()
    }

    /// The positions in these partitions of views that have everything.
    fn expected(&self, partitions: &[Partition]) -> Positions {
        partitions.iter().map(|partition| (*partition, self.tables.handed_over(*partition))).collect()
    }

    /// Every partition that this process writes.
    pub(super) fn partitions(&self) -> Vec<Partition> {
        let partitions = self.topic.iter().flat_map(Topic::assigned);
        let kept = self.shared.kept.as_ref().map_or(&[][..], |_| &[Partition::PUSH, Partition::FILE]);
        kept.iter().copied().chain(partitions).collect()
    }

    /// Tells backfills which partitions this process writes.
    pub(super) fn tell_own(&self) {
        self.own.send_replace(self.partitions().into_iter().collect());
    }

    /// Brings everything that was read into both stores.
    pub(crate) async fn finish_all(&mut self) -> Result<(), IngestError> {
        self.commit().await?;
        let partitions = self.partitions();
        self.reconcile(&partitions).await
    }

    /// Commits what waits for the event tables, and drops the pushed records that are in from the journal.
    pub(super) async fn commit(&mut self) -> Result<(), IngestError> {
        while self.tables.is_behind() {
            self.tables.start_commit(&self.health);
            self.end_commit().await?;
        }
        self.hand_to_views().await;
        Ok(())
    }

    /// Waits for the end of the commit that is under way, if one is.
    pub(super) async fn end_commit(&mut self) -> Result<(), IngestError> {
        let before = self.tables.committed(Partition::PUSH);
        let ended = self.tables.commit_ended().await;
        self.room.tables_are_full(false);
        let Some(took) = ended? else { return Ok(()) };
        self.metrics.committed(took);
        self.hand_to_views().await;
        self.commit_if_full();
        if let Some(topic) = &self.topic {
            topic.committed(self.tables.positions());
        }
        let committed = self.tables.committed(Partition::PUSH);
        if let Some(kept) = self.shared.kept.as_ref().filter(|_| committed > before) {
            kept.push.trim(&self.source.name, committed).await;
        }
        Ok(())
    }
}
