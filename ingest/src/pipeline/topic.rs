//! The partitions of a Kafka topic that this process was given, on their way into both stores.
//!
//! Kafka's consumer group says which worker reads which partition, and correctness does not depend on it: two workers
//! that read the same partition write the same bytes. Where a partition is read from is what `events` says; what is
//! committed to Kafka is for lag tools.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::future::join_all;
use tidemark_kernel::{Explain, Partition, Position, SourcePlan};
use tidemark_offline::{OfflineStore, Positions, TableKind};
use tidemark_store::Generation;
use tokio::sync::mpsc;

use super::live::Fallen;
use super::{Pipeline, Shared};
use crate::backfill::catch_up;
use crate::decode::{Batch, DeadLetter, LOST};
use crate::error::IngestError;
use crate::feed::{SourceFeed, TopicFeed};
use crate::health::{Condition, SourceHealth};
use crate::kafka::{Input, Reader, Resume, Subscription, Topics};
use crate::mutant::{Mutant, is_on};
use crate::progress::unwatched;
use crate::tables::{Since, is_partition};
use crate::view::SharedView;

/// How long a revoked partition may delay its next reader: what is not committed by then is read again.
const HAND_OVER: Duration = Duration::from_secs(5);

/// How long a worker keeps partitions while it waits for the store or the disk. Others may be able to reach theirs.
const GIVE_BACK: Duration = Duration::from_secs(60);

/// A topic that is being read.
pub(super) struct Topic {
    reader: Box<dyn Reader>,
    inputs: mpsc::Receiver<Input>,
    assigned: BTreeSet<Partition>,
    /// Whether every assigned partition has been read to its end.
    at_end: bool,
    /// Whether the end of all partitions was reached once, and was reported.
    caught_up: bool,
}

impl Topic {
    /// Waits for the next input.
    pub(super) async fn next(&mut self) -> Input {
        let gone = || Input::Failed(IngestError::stopped("the reader of a topic died"));
        self.inputs.recv().await.unwrap_or_else(gone)
    }

    /// The next input, if there is one already.
    pub(super) fn next_if_any(&mut self) -> Option<Input> {
        self.inputs.try_recv().ok()
    }

    /// Whether everything there is was read.
    pub(super) const fn is_at_end(&self) -> bool {
        self.at_end
    }

    /// The partitions that were given to this process.
    pub(super) fn assigned(&self) -> impl Iterator<Item = Partition> + '_ {
        self.assigned.iter().copied()
    }

    /// Tells Kafka, for lag tools, how far `events` holds the partitions.
    pub(super) fn committed(&self, positions: &Positions) {
        let ours = positions.iter().filter(|(partition, _)| self.assigned.contains(partition));
        self.reader.committed(&ours.map(|(partition, position)| (*partition, *position)).collect());
    }
}

impl Shared {
    /// Where every partition of a source ends whose end is known: those that we keep, and the topic's partitions.
    pub(crate) async fn ends_of_partitions(&self, feed: &SourceFeed) -> Result<Positions, IngestError> {
        let mut all = self.ends(&feed.source.name)?;
        if let (Some(feed), Some(topics)) = (&feed.topic, &self.topics) {
            let partitions = topics.ends(&feed.topic).await?;
            all.extend(partitions.into_iter().map(|(partition, held)| (partition, held.end)));
        }
        Ok(all)
    }
}

impl Pipeline {
    /// Joins the consumer group of the source's topic, if it has one.
    pub(super) async fn join_topic(&mut self) -> Result<(), IngestError> {
        let Some(feed) = self.topic_feed.clone() else { return Ok(()) };
        let no_brokers = || IngestError::NoBrokers { source_name: self.source.name.clone() };
        let topics = self.shared.topics.clone().ok_or_else(no_brokers)?;
        let health = self.health.clone();
        let mut wait = health.wait();
        let id = loop {
            match self.begin_topic(&*topics, &feed).await {
                Ok(id) => break id,
                Err(error) if wait.out(&error).await => {}
                Err(error) => return Err(error),
            }
        };
        drop(wait);
        let subscription = Subscription {
            source: Arc::clone(&self.source),
            topic: feed.topic,
            history: self.tables.history().to_owned(),
            id,
            metrics: self.metrics.topic(),
            room: self.room.clone(),
        };
        let (reader, inputs) = topics.read(&self.shared.host, subscription)?;
        self.topic =
            Some(Topic { reader, inputs, assigned: BTreeSet::new(), at_end: false, caught_up: false });
        Ok(())
    }

    /// Whether the event table holds all of the topic: also the partitions that other workers read, or that no
    /// worker reads for a moment.
    pub(super) async fn is_all_in(&mut self) -> Result<bool, IngestError> {
        let (Some(topics), Some(feed)) = (&self.shared.topics, &self.topic_feed) else {
            return Ok(true);
        };
        let ends = match topics.ends(&feed.topic).await {
            Err(error) if error.may_pass() => return Ok(false),
            ends => ends?,
        };
        self.tables.reload().await?;
        Ok(ends.iter().all(|(partition, held)| self.tables.committed(*partition) >= held.end))
    }

    /// Looks for partitions of the topic with unread records in which no worker makes progress. What other workers have
    /// committed is seen beside the loop.
    pub(super) fn look_for_stalled(&mut self) {
        while self.looking.try_join_next().is_some() {}
        if self.topic.is_some() {
            let ends = self.metrics.topic().all_ends();
            let is_time = self.health.note_read(self.tables.positions(), &ends);
            if is_time && self.looking.is_empty() {
                let (offline, source) = (Arc::clone(&self.shared.offline), Arc::clone(&self.source));
                self.looking.spawn(see_committed(offline, source, self.health.clone(), ends));
            }
        }
        self.metrics.stalled(self.health.stalled());
    }

    /// Forgets the partitions: this process does not read the topic any more.
    fn forget_stalled(&mut self) {
        self.looking.abort_all();
        self.health.forget_unread();
        self.metrics.stalled(0);
    }

    /// Leaves the topic where this worker has waited too long for a store or the disk, and joins again afterwards.
    pub(super) async fn give_back_or_join(&mut self) -> Result<(), IngestError> {
        if self.topic.is_some() {
            if self.health.longest_wait() >= GIVE_BACK {
                self.give_back().await;
            }
            return Ok(());
        }
        if self.topic_feed.is_none() || !self.health.longest_wait().is_zero() {
            return Ok(());
        }
        let reached = self.shared.store.check_history(&self.source.name, self.tables.history()).await;
        match reached.map_err(IngestError::from) {
            Err(error) if error.may_pass() => {
                self.health.set(Condition::waiting(&error));
                return Ok(());
            }
            reached => reached?,
        }
        tracing::info!(source = self.source.name, "nothing is waited for any more; reading the topic again");
        self.join_topic().await?;
        // The reader before may have reported that the brokers are away.
        self.health.set(Condition::Running);
        Ok(())
    }

    async fn give_back(&mut self) {
        let seconds = GIVE_BACK.as_secs();
        tracing::warn!(
            source = self.source.name,
            seconds,
            "still waiting; giving the partitions back to the group"
        );
        let partitions: Vec<Partition> = self.topic.iter().flat_map(Topic::assigned).collect();
        self.leave_topic().await;
        self.metrics.given_up(&partitions);
    }

    /// Leaves the topic, so that other workers can take over as soon as possible.
    pub(super) async fn leave_topic(&mut self) {
        self.forget_ids(is_partition);
        self.forget_stalled();
        if let Some(topic) = self.topic.take() {
            self.tell_own();
            drop(topic.inputs);
            if !topic.reader.stop().await {
                tracing::warn!(source = self.source.name, "Kafka's group could not be left in time");
            }
        }
    }

    /// Makes sure that the event table belongs to this very topic, and where the topic was never read, decides where
    /// each partition starts: all of them in one commit, so that the second worker finds them decided. Returns the
    /// topic's id, where brokers give one.
    async fn begin_topic(
        &mut self,
        topics: &dyn Topics,
        feed: &TopicFeed,
    ) -> Result<Option<String>, IngestError> {
        let found = topics.describe(&feed.topic).await?;
        if let Some(max) = feed.max_timestamp_ahead {
            topics.settings(&feed.topic).await?.timestamps.check(&self.source.name, &feed.topic, max)?;
        }
        let starts = topics.starts(&feed.topic, feed.start).await?;
        let is_compacted = self.is_compacted(topics, &feed.topic).await?;
        if !self.tables.has_topic().await? {
            // Before the topic is begun, so that whatever cuts this short, it is done again.
            // A view that claims to have read any of it was made from another history.
            self.backfill_beyond(starts.keys().map(|partition| (*partition, Position::START))).await?;
        }
        if self.tables.begin(&found, is_compacted, &starts).await? {
            tracing::info!(
                source = self.source.name,
                topic = feed.topic,
                ?starts,
                "reading a topic for the first time"
            );
        }
        Ok(found.id)
    }

    /// Backfills again, before anything else, the views whose positions in these partitions are beyond the given ones.
    pub(super) async fn backfill_beyond(
        &mut self,
        positions: impl Iterator<Item = (Partition, Position)>,
    ) -> Result<(), IngestError> {
        let mut ends = self.ends()?;
        ends.extend(positions);
        self.backfills.pause().await;
        let plans = self.backfills.plans(&self.views);
        let views = self.backfill_all(&plans, &ends, &unwatched).await?;
        // As in `try_join`.
        self.tables.reload().await?;
        self.views = self.all_live(views);
        self.backfills.all_are_up();
        Ok(())
    }

    /// Takes what a topic's reader hands over.
    pub(super) async fn receive(&mut self, input: Input) -> Result<(), IngestError> {
        let at_end = matches!(input, Input::Idle);
        if let Some(topic) = self.topic.as_mut().filter(|_| !matches!(input, Input::Away(_) | Input::Back)) {
            topic.at_end = at_end;
        }
        match input {
            Input::Batches(batches) => self.take(batches).await.map(drop),
            Input::Assigned { partitions, answer } => {
                let Some(resume) = self.take_over(&partitions).await? else {
                    self.give_back().await;
                    return Ok(());
                };
                // A reader that does not wait any more was given something else meanwhile.
                drop(answer.send(resume));
                Ok(())
            }
            Input::Revoked { partitions, lost, done } => {
                let given_up = self.give_up(&partitions, lost).await;
                done.send(()).unwrap_or_default();
                given_up
            }
            Input::Idle => {
                self.say_caught_up();
                Ok(())
            }
            Input::Away(error) => {
                self.health.set(Condition::waiting(&error));
                Ok(())
            }
            Input::Back => {
                self.health.set(Condition::Running);
                Ok(())
            }
            Input::Failed(error) => Err(error),
        }
    }

    /// Reports, once, that everything there is was read.
    fn say_caught_up(&mut self) {
        if let Some(topic) = self.topic.as_mut().filter(|topic| !topic.caught_up) {
            topic.caught_up = true;
            tracing::info!(source = self.source.name, "caught up: everything there is was read");
        }
    }

    /// Brings the views to the positions of `events` in these partitions, from which they are read next. None where
    /// the store, the disk or the brokers could not be reached for too long.
    async fn take_over(&mut self, partitions: &[Partition]) -> Result<Option<Resume>, IngestError> {
        let (health, since) = (self.health.clone(), self.shared.host.stopwatch());
        let mut wait = health.wait();
        loop {
            match self.try_take_over(partitions).await {
                Ok(resume) => break Ok(Some(resume)),
                Err(error) if error.may_pass() && since.elapsed() >= GIVE_BACK => break Ok(None),
                Err(error) if wait.out(&error).await => {}
                Err(error) => break Err(error),
            }
        }
    }

    async fn try_take_over(&mut self, partitions: &[Partition]) -> Result<Resume, IngestError> {
        self.commit().await?;
        self.tables.reload().await?;
        let Some(feed) = self.topic_feed.clone() else { return Ok(Resume::default()) };
        let Some(topics) = self.shared.topics.clone() else { return Ok(Resume::default()) };
        let ends = topics.ends(&feed.topic).await?;
        self.ask_cleanup_policy(&*topics, &feed.topic).await?;
        // A partition that the topic did not have when it was first read belongs to it from its first record, also
        // where that is gone from Kafka already: then it is missed below.
        let new = partitions.iter().filter(|partition| !self.tables.positions().contains_key(partition));
        let new: Positions = new.map(|partition| (*partition, Position::START)).collect();
        self.tables.start_partitions(&new).await?;
        if let Some(topic) = &mut self.topic {
            topic.assigned.extend(partitions);
        }
        self.tell_own();
        self.catch_up_views(partitions).await?;
        self.know_ids(partitions).await?;
        for partition in partitions {
            let (position, Some(held)) = (self.tables.committed(*partition), ends.get(partition)) else {
                continue;
            };
            if position < held.start {
                self.skip_lost(&feed.topic, *partition, position, held.start).await?;
            } else if position > held.end {
                let (source_name, topic) = (self.source.name.clone(), feed.topic.clone());
                return Err(IngestError::Shrunk {
                    source_name,
                    topic,
                    partition: *partition,
                    position,
                    end: held.end,
                });
            }
        }
        let positions: Positions =
            partitions.iter().map(|partition| (*partition, self.tables.taken(*partition))).collect();
        self.metrics.taken_over(&positions);
        let mut epochs = self.tables.epochs(partitions).await?;
        // Where retention has deleted the record and what follows it, there is nothing to compare, and nothing to begin at.
        epochs.retain(|partition, epoch| ends.get(partition).is_some_and(|held| held.start <= epoch.until));
        Ok(Resume { positions, epochs })
    }

    /// Asks whether the topic is compacted, and notes it in the event table where that has changed.
    ///
    /// Where it is compacted from now on, records that views have and `events` lacks may be gone from it, so that no generation
    /// from before counts. It is noted first, and then a generation is begun from which on they count: a worker that opens such a
    /// generation reads the table afterwards, finds the note, and gives it records from commits alone.
    async fn ask_cleanup_policy(&mut self, topics: &dyn Topics, topic: &str) -> Result<(), IngestError> {
        loop {
            // In this order: the answer is newer than the note that it replaces.
            self.tables.reload().await?;
            let is_compacted = self.is_compacted(topics, topic).await?;
            if !is_compacted && !self.tables.commits_first() {
                return Ok(());
            }
            if !is_compacted || !self.tables.commits_first() {
                if self.tables.note_compacted(is_compacted, None).await? {
                    tracing::info!(
                        source = self.source.name,
                        topic,
                        is_compacted,
                        "`cleanup.policy` has changed"
                    );
                }
                continue;
            }
            if self.tables.counts_compacted().await? {
                return Ok(());
            }
            let since = match self.backfills.plans(&self.views).first() {
                Some(plan) => self.begin_anew(plan).await?,
                None => Since::NoViews,
            };
            if self.tables.note_compacted(true, Some(since)).await? {
                tracing::info!(
                    source = self.source.name,
                    topic,
                    "views get records once the event table has them, and are backfilled"
                );
            }
        }
    }

    /// Whether the topic is compacted, or its brokers do not tell.
    async fn is_compacted(&self, topics: &dyn Topics, topic: &str) -> Result<bool, IngestError> {
        Ok(topics.settings(topic).await?.is_compacted && !is_on(Mutant::AppliedFirst))
    }

    /// Other workers may have written these partitions: reads the positions of the views in them again.
    async fn catch_up_views(&mut self, partitions: &[Partition]) -> Result<(), IngestError> {
        join_all(self.views.iter().map(|view| view.forget(partitions))).await;
        let held: Positions =
            partitions.iter().map(|partition| (*partition, self.tables.committed(*partition))).collect();
        for view in self.read_views(partitions).await? {
            if view.is_at(&held) {
                continue;
            }
            if !catch_up(&view, &*self.tables.open_tables().await?.events, partitions, &unwatched).await? {
                // The loop restores it. This end of the channel is always open.
                drop(self.falls.send(Fallen { writer: view, outcome: Ok(()) }));
            }
        }
        Ok(())
    }

    /// Reads the position of every view in partitions that were released, with one call to the store for all of them.
    async fn read_views(&self, partitions: &[Partition]) -> Result<Vec<SharedView>, IngestError> {
        let views: Vec<SharedView> = self.views.iter().map(|view| Arc::clone(view.writer())).collect();
        let generations: Vec<Generation> = views.iter().map(|view| view.generation().clone()).collect();
        let stored = self.shared.store.positions_of_each(&generations, partitions).await?;
        for (view, stored) in views.iter().zip(stored) {
            // One that is gone, or has lost a position, is found out when it is caught up.
            if let Some(stored) = &stored {
                view.add_read(stored);
            }
        }
        Ok(views)
    }

    /// Records that Kafka has deleted before they were read are an error, unless their loss was accepted: then one
    /// dead letter records the gap.
    async fn skip_lost(
        &mut self,
        topic: &str,
        partition: Partition,
        position: Position,
        first: Position,
    ) -> Result<(), IngestError> {
        let (source_name, topic) = (self.source.name.clone(), topic.to_owned());
        let lost = IngestError::Overtaken { source_name, topic: topic.clone(), partition, position, first };
        if !self.shared.skip_lost {
            return Err(lost);
        }
        tracing::error!(source = self.source.name, lost = lost.explained(), "skipped as asked for");
        // A view that was ahead has applied some of what `events` will never hold.
        self.backfill_beyond([(partition, position)].into_iter()).await?;
        let letter = DeadLetter {
            offset: position.0,
            code: LOST,
            reason: format!(
                "records {position} to {} were gone from Kafka before they were read",
                first.0 - 1
            ),
            place: format!("{topic}/{partition}@{position}"),
            raw: Vec::new(),
            form: None,
            record_time: None,
        };
        let events = RecordBatch::new_empty(self.tables.open_tables().await?.events.schema().clone());
        self.take(vec![Batch {
            partition,
            from: position,
            to: first,
            events,
            dead: vec![letter],
            epoch: None,
        }])
        .await
        .map(drop)
    }

    /// Releases partitions: what was read of them is committed before their next reader asks, unless they have one
    /// already.
    async fn give_up(&mut self, partitions: &[Partition], lost: bool) -> Result<(), IngestError> {
        if !lost {
            let host = self.shared.host.clone();
            // Views that cannot go on are restored later, outside this timeout.
            let hand_over = async {
                self.commit().await?;
                self.room.drained(partitions).await;
                self.reconcile_once(partitions).await;
                Ok::<_, IngestError>(())
            };
            // The worker that takes over reads again what is not committed by then.
            host.timeout(HAND_OVER, hand_over).await.unwrap_or(Ok(()))?;
        }
        if let Some(topic) = &mut self.topic {
            topic.assigned.retain(|partition| !partitions.contains(partition));
        }
        self.tell_own();
        self.metrics.given_up(partitions);
        self.forget_ids(|partition| partitions.contains(&partition));
        join_all(self.views.iter().map(|view| view.forget(partitions))).await;
        Ok(())
    }
}

/// Reads how far any worker has committed the partitions of a topic, which end at `ends`.
async fn see_committed(
    offline: Arc<dyn OfflineStore>,
    source: Arc<SourcePlan>,
    health: SourceHealth,
    ends: Positions,
) {
    // A handle of its own: that of the source's tables may be away with a commit.
    match offline.open(&source, TableKind::Events).await {
        Ok(events) => health.note_committed(events.positions(), &ends),
        Err(error) => health.note_unseen(&error.into()),
    }
}
