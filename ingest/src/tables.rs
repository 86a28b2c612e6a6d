//! A source's event tables: records are written to them in large commits, while more are read.
//!
//! Dead letters commit first, skipping those below that table's own position; `events` carries the positions that
//! count. A crash in between leaves dead letters whose records are read again, and skipped there. Where Kafka has deleted the
//! records meanwhile, the dead letter of the gap is below that position and not yet in the table: it is searched for by
//! its row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidemark_host::{Host, Stopwatch};
use tidemark_kernel::{Partition, Position, PositionRange, SourcePlan};
use tidemark_offline::table::properties;
use tidemark_offline::table::retract::retracted;
use tidemark_offline::{
    Epochs, OfflineStore, OfflineTable, Positions, Properties, Retraction, TableError, TableKind,
};
use tokio::task::{JoinError, JoinSet};

use crate::decode::Batch;
use crate::error::IngestError;
use crate::health::SourceHealth;
use crate::kafka::TopicProperties;
use crate::memory::SourceMemory;
use crate::mutant::{Mutant, is_on};
pub(crate) use open::is_partition;
use open::{Conflicts, Pending, position_in};
pub(crate) use open::{Open, Since};

mod open;

/// When what was taken in is committed to the event tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRule {
    /// How long a record waits at most. What a crash leaves uncommitted is read again from its partition.
    pub every: Duration,
    /// How many records do not wait.
    pub rows: usize,
}

impl Default for CommitRule {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), rows: 128 * 1024 }
    }
}

/// How long views wait for records that they get from a commit, before it begins: commits of a topic with few records stay
/// that far apart.
const PACE: Duration = Duration::from_secs(1);

/// The tables of one source, what is on its way there, and what is waiting for the next commit.
#[derive(Debug)]
pub(crate) struct Tables {
    host: Host,
    source: Arc<SourcePlan>,
    rule: CommitRule,
    memory: Arc<SourceMemory>,
    /// The id of the history that `events` holds.
    history: String,
    /// Both tables; away while a commit is under way.
    open: Option<Open>,
    /// The commit that is under way, if one is: at most one task, which ends with this.
    commit: JoinSet<Ended>,
    /// The commit that has ended and was not looked at yet.
    ended: Option<Result<Ended, JoinError>>,
    /// Up to where `events` holds each partition, as far as we have seen.
    committed: Positions,
    /// Where the list of retractions ends, as far as we have seen.
    retracted: Position,
    /// The number of the first generation that counts, as far as we have seen.
    generations_since: u64,
    /// Up to where a commit is under way.
    leaving: Positions,
    pending: Pending,
    /// Whether the topic is compacted, as far as we have seen.
    commits_first: bool,
    /// What views are to get from the last ones.
    landed: Landed,
    /// How long ago the last one began.
    since_commit: Stopwatch,
}

/// What commits brought that views get from them.
#[derive(Debug, Default)]
pub(crate) struct Landed {
    /// At most one for each partition of a topic.
    pub(crate) batches: Vec<Batch>,
    /// The partitions that others have committed part of first. Other records may have been there when they read them, so
    /// that views are restored from `events`.
    pub(crate) overtaken: BTreeSet<Partition>,
    /// The overtaken partitions that are read again from the position of `events`.
    pub(crate) discarded: BTreeSet<Partition>,
}

impl Landed {
    /// Whether there is nothing for the views.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty() && self.overtaken.is_empty()
    }
}

/// A commit that has ended: well, or not.
type Ended = (Open, Pending, Result<Done, IngestError>);

/// A commit that went well.
#[derive(Debug)]
struct Done {
    took: Duration,
    conflicts: Conflicts,
}

impl Tables {
    /// Opens the tables of a source, creating them where they do not exist.
    pub(crate) async fn open(
        offline: &dyn OfflineStore,
        host: &Host,
        source: Arc<SourcePlan>,
        rule: CommitRule,
        memory: Arc<SourceMemory>,
    ) -> Result<Self, IngestError> {
        let mut events = offline.open_or_create(&source, TableKind::Events).await?;
        let history = identify(&mut *events, host).await?;
        let dead_letters = offline.open_or_create(&source, TableKind::DeadLetters).await?;
        let mut tables = Self {
            host: host.clone(),
            source: Arc::clone(&source),
            rule,
            memory,
            history,
            open: Some(Open { source, events, dead_letters }),
            commit: JoinSet::new(),
            ended: None,
            committed: Positions::new(),
            retracted: Position::START,
            generations_since: 0,
            leaving: Positions::new(),
            pending: Pending::default(),
            commits_first: false,
            landed: Landed::default(),
            since_commit: host.stopwatch(),
        };
        tables.look();
        Ok(tables)
    }

    /// The id of the history that `events` holds: made with the table, and moved with it.
    pub(crate) fn history(&self) -> &str {
        &self.history
    }

    /// Up to where `events` holds a partition.
    pub(crate) fn committed(&self, partition: Partition) -> Position {
        position_in(&self.committed, partition)
    }

    /// Up to where `events` holds each partition.
    pub(crate) const fn positions(&self) -> &Positions {
        &self.committed
    }

    /// Up to where a partition was taken, committed or not.
    pub(crate) fn taken(&self, partition: Partition) -> Position {
        let waiting = self.pending.spans.get(&partition).map(|span| span.end);
        let waiting = waiting.max(self.leaving.get(&partition).copied());
        waiting.map_or_else(|| self.committed(partition), |to| to.max(self.committed(partition)))
    }

    /// Whether the topic is compacted, as far as we have seen: then views get its records from commits. What no commit holds
    /// may be gone from a compacted topic when it is read again.
    pub(crate) const fn commits_first(&self) -> bool {
        self.commits_first
    }

    /// Whether the topic is noted to be compacted, and generations that were begun before do not count for that reason.
    pub(crate) async fn counts_compacted(&mut self) -> Result<bool, IngestError> {
        let properties = self.open_tables().await?.events.properties();
        Ok(properties.get(properties::COMPACTED).is_some_and(|noted| noted != properties::NOTED))
    }

    /// Notes in the event table whether the topic is compacted; with `since`, also from which generation on states count, which was
    /// begun after it was noted first. False, and nothing was changed, where another worker has changed the table's properties since
    /// we last saw them.
    pub(crate) async fn note_compacted(
        &mut self,
        is_compacted: bool,
        since: Option<Since>,
    ) -> Result<bool, IngestError> {
        let is_noted = self.open_tables().await?.note_compacted(is_compacted, since).await?;
        self.look();
        Ok(is_noted)
    }

    /// The number of the first generation that counts: older ones may hold records that are not in `events`.
    pub(crate) const fn generations_since(&self) -> u64 {
        self.generations_since
    }

    /// Makes generations count from this number on, which is lower than before: the store numbers them from a lower number. False,
    /// and nothing was changed, where another worker has changed the table's properties since we last saw them.
    pub(crate) async fn lower_since(&mut self, number: u64) -> Result<bool, IngestError> {
        let is_lowered = self.open_tables().await?.lower_since(number).await?;
        self.look();
        Ok(is_lowered)
    }

    /// Whether views get the records of a partition from commits.
    pub(crate) const fn is_committed_first(&self, partition: Partition) -> bool {
        self.commits_first && is_partition(partition)
    }

    /// Up to where a partition was handed to the views.
    pub(crate) fn handed_over(&self, partition: Partition) -> Position {
        if !self.is_committed_first(partition) {
            return self.taken(partition);
        }
        let landed = self.landed.batches.iter().find(|batch| batch.partition == partition);
        landed.map_or_else(|| self.committed(partition), |batch| batch.from)
    }

    /// The time until a commit is to begin that views wait for: zero where committed batches wait to be handed over, none
    /// where no view waits for a commit.
    pub(crate) fn until_due(&self) -> Option<Duration> {
        if !self.landed.is_empty() {
            return Some(Duration::ZERO);
        }
        let wait = !self.is_committing()
            && self.pending.spans.keys().any(|partition| self.is_committed_first(*partition));
        wait.then(|| PACE.saturating_sub(self.since_commit.elapsed()))
    }

    /// What the last commits brought that views get from them; the next call gives it no more.
    pub(crate) fn take_landed(&mut self) -> Landed {
        std::mem::take(&mut self.landed)
    }

    /// Where the list of retractions ends, as far as we have seen.
    pub(crate) const fn retracted(&self) -> Position {
        self.retracted
    }

    /// Records the positions of `events`.
    fn look(&mut self) {
        if let Some(open) = &self.open {
            let properties = open.events.properties();
            self.committed = open.events.positions().clone();
            self.retracted = retracted(properties);
            self.generations_since = generations_since(properties);
            self.commits_first = properties.contains_key(properties::COMPACTED);
        }
    }

    /// Deletes the rows of a retraction from both tables; how many events that were, none where it was done before.
    pub(crate) async fn retract(&mut self, retraction: Retraction) -> Result<Option<u64>, IngestError> {
        let open = self.open_tables().await?;
        open.dead_letters.retract(retraction).await?;
        let events = open.events.retract(retraction).await?;
        self.look();
        Ok(events)
    }

    /// Whether a commit is under way, or has ended and was not looked at yet.
    pub(crate) fn is_committing(&self) -> bool {
        !self.commit.is_empty() || self.ended.is_some()
    }

    /// Whether anything is not committed yet.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_committing() || !self.pending.batches.is_empty()
    }

    /// Whether enough waits for a commit of a good size.
    pub(crate) fn is_full(&self) -> bool {
        self.pending.rows >= self.rule.rows || self.pending.bytes >= self.memory.commit()
    }

    /// Adds a batch to the next commit.
    pub(crate) fn add(&mut self, batch: Arc<Batch>) -> Result<(), IngestError> {
        let taken = self.taken(batch.partition);
        if batch.to <= taken {
            return Ok(());
        }
        if batch.from > taken {
            return Err(self.gap(batch.partition, taken, batch.from));
        }
        // A reader may hand over again what it has handed over before.
        let overlaps = batch.from < taken && !is_on(Mutant::Overlap);
        let batch = if overlaps { Arc::new(batch.starting_at(taken)) } else { batch };
        if self.source.unique.is_some() {
            self.pending.decided_at.get_or_insert(self.retracted);
        }
        let span = self.pending.spans.entry(batch.partition);
        span.or_insert(PositionRange { start: taken, end: taken }).end = batch.to;
        self.pending.epochs.extend(batch.epoch.map(|epoch| (batch.partition, epoch)));
        self.pending.rows += (batch.to.0 - batch.from.0) as usize;
        self.pending.bytes += batch.bytes();
        self.pending.batches.push(batch);
        Ok(())
    }

    /// The error for records that are nowhere.
    pub(crate) fn gap(&self, partition: Partition, from: Position, to: Position) -> IngestError {
        IngestError::Gap { source_name: self.source.name.clone(), partition, from, to }
    }

    /// Whether a partition is discarded and read again once another worker has committed part of it. On a compacted topic the
    /// two may have read different records, so that decisions about repetitions can rest on ids that `events` lacks.
    fn rereads_overtaken(&self) -> bool {
        self.commits_first && self.source.unique.is_some()
    }

    /// Starts to commit what is pending, unless a commit is under way. What may come back by itself, as room on a disk, is
    /// waited for meanwhile.
    pub(crate) fn start_commit(&mut self, health: &SourceHealth) {
        if self.pending.batches.is_empty() {
            return;
        }
        let Some(mut open) = self.open.take() else { return };
        let mut pending = std::mem::take(&mut self.pending);
        self.leaving = pending.spans.iter().map(|(partition, span)| (*partition, span.end)).collect();
        self.since_commit = self.host.stopwatch();
        let (watch, health, rereads) = (self.host.stopwatch(), health.clone(), self.rereads_overtaken());
        self.commit.spawn(async move {
            let mut wait = health.wait();
            let outcome = loop {
                match open.commit(&mut pending, rereads).await {
                    Err(error) if wait.out(&error).await => {}
                    outcome => break outcome,
                }
            };
            drop(wait);
            (open, pending, outcome.map(|conflicts| Done { took: watch.elapsed(), conflicts }))
        });
    }

    /// Waits until no commit is under way.
    pub(crate) async fn finished(&mut self) {
        if let Some(ended) = self.commit.join_next().await {
            self.ended = Some(ended);
        }
    }

    /// Waits for the end of the commit that is under way: how long it took, if there was one.
    ///
    /// # Errors
    /// Where it failed, what it brought waits for the next one.
    pub(crate) async fn commit_ended(&mut self) -> Result<Option<Duration>, IngestError> {
        self.finished().await;
        let Some(ended) = self.ended.take() else { return Ok(None) };
        let (open, pending, outcome) = ended.map_err(IngestError::stopped)?;
        self.leaving.clear();
        self.open = Some(open);
        self.look();
        match outcome {
            Ok(Done { took, conflicts }) => {
                self.land(pending, conflicts)?;
                Ok(Some(took))
            }
            Err(error) => {
                let later = std::mem::replace(&mut self.pending, pending);
                self.pending.append(later);
                Err(error)
            }
        }
    }

    /// Keeps what was committed for the views, where they get it from commits.
    fn land(&mut self, pending: Pending, conflicts: Conflicts) -> Result<(), IngestError> {
        let Conflicts { overtaken, discarded } = conflicts;
        discarded.iter().for_each(|partition| self.pending.forget(*partition));
        if self.commits_first {
            self.landed.overtaken.extend(overtaken.into_iter().filter(|partition| is_partition(*partition)));
        }
        self.landed.overtaken.extend(&discarded);
        self.landed.discarded.extend(&discarded);
        let earlier = std::mem::take(&mut self.landed.batches).into_iter().map(Arc::new);
        let mut of_partitions = BTreeMap::<Partition, Vec<Arc<Batch>>>::new();
        for batch in earlier.chain(pending.batches) {
            if !self.is_committed_first(batch.partition) {
                continue;
            }
            let of_partition = of_partitions.entry(batch.partition).or_default();
            if of_partition.last().is_some_and(|last| last.to != batch.from) {
                // Others have committed what lies in between.
                self.landed.overtaken.insert(batch.partition);
            }
            of_partition.push(batch);
        }
        of_partitions.retain(|partition, _| !self.landed.overtaken.contains(partition));
        let joined = of_partitions.into_values().filter_map(|batches| Batch::join(&batches).transpose());
        self.landed.batches = joined.collect::<Result<_, _>>().map_err(|error| self.broken(&error))?;
        Ok(())
    }

    /// The error for rows that do not become a batch.
    pub(crate) fn broken(&self, error: &arrow::error::ArrowError) -> IngestError {
        IngestError::Batch { source_name: self.source.name.clone(), reason: error.to_string() }
    }

    /// Both tables, once no commit is under way.
    pub(crate) async fn open_tables(&mut self) -> Result<&mut Open, IngestError> {
        self.commit_ended().await?;
        self.open.as_mut().ok_or_else(|| IngestError::stopped("a commit died in the middle"))
    }

    /// The leader epochs of the last records that `events` holds of these partitions, where they are known.
    pub(crate) async fn epochs(&mut self, partitions: &[Partition]) -> Result<Epochs, IngestError> {
        Ok(self.open_tables().await?.events.epochs(partitions).await?)
    }

    /// Catches up with what others have committed.
    pub(crate) async fn reload(&mut self) -> Result<(), IngestError> {
        let open = self.open_tables().await?;
        open.events.reload().await?;
        open.dead_letters.reload().await?;
        self.look();
        Ok(())
    }

    /// Whether the events were last read under another version of the source.
    pub(crate) async fn has_other_version(&mut self) -> Result<bool, IngestError> {
        self.reload().await?;
        let version = self.source.version().to_string();
        let properties = self.open_tables().await?.events.properties();
        Ok(properties.get(properties::SOURCE_VERSION).is_some_and(|known| *known != version))
    }

    /// Makes the source's version the one that its events are read under. Workers on another version can no longer
    /// commit. False, and nothing was changed, where the version changes and `since` says that it does not.
    pub(crate) async fn claim(&mut self, since: Since) -> Result<bool, IngestError> {
        let version = self.source.version().to_string();
        let claimed = self.open_tables().await?.claim(&version, since).await?;
        self.look();
        Ok(claimed)
    }

    /// Takes the dead letters of kept partitions back whose events are not in: the process that committed them died before it
    /// committed the events. It may have been of another version of Tidemark, which read the records differently; this one reads
    /// them again, and they may be events now.
    pub(crate) async fn decide_again(&mut self) -> Result<(), IngestError> {
        self.open_tables().await?.decide_again().await
    }

    /// Forgets what waits for the next commit: it is read again.
    pub(crate) fn forget(&mut self) {
        self.pending = Pending::default();
    }

    /// Whether the events are known to be those of some topic.
    pub(crate) async fn has_topic(&mut self) -> Result<bool, IngestError> {
        self.reload().await?;
        Ok(self.open_tables().await?.events.properties().contains_key(properties::TOPIC))
    }

    /// Makes sure that the events are those of this very topic. A table without events is bound to the topic from now
    /// on, with partitions that begin at `starts`. Returns whether that was so.
    pub(crate) async fn begin(
        &mut self,
        topic: &TopicProperties,
        is_compacted: bool,
        starts: &Positions,
    ) -> Result<bool, IngestError> {
        let source_name = self.source.name.clone();
        let events = &mut self.open_tables().await?.events;
        let began = loop {
            events.reload().await?;
            let before = events.properties().clone();
            if let Some(known) = before.get(properties::TOPIC) {
                topic.check(&source_name, known)?;
                break false;
            }
            let mut properties = before.clone();
            properties.insert(properties::TOPIC.to_owned(), topic.to_string());
            if is_compacted {
                // No view has any record of it.
                properties.insert(properties::COMPACTED.to_owned(), true.to_string());
            }
            let unnamed = starts.iter().filter(|(partition, _)| !events.positions().contains_key(partition));
            let unnamed = unnamed.map(|(partition, start)| (*partition, *start)).collect();
            match events.begin(&before, &properties, &unnamed).await {
                Err(TableError::OtherProperties { .. } | TableError::Behind { .. }) => {}
                outcome => break outcome.map(|()| true)?,
            }
        };
        self.reload().await?;
        Ok(began)
    }

    /// Registers partitions that were never read, at the positions they start at. Where another worker has registered
    /// one of them first, its position is kept.
    pub(crate) async fn start_partitions(&mut self, starts: &Positions) -> Result<(), IngestError> {
        let events = &mut self.open_tables().await?.events;
        loop {
            let unnamed = starts.iter().filter(|(partition, _)| !events.positions().contains_key(partition));
            let unnamed: Positions = unnamed.map(|(partition, start)| (*partition, *start)).collect();
            if unnamed.is_empty() {
                break;
            }
            match events.start_partitions(&unnamed).await {
                Err(TableError::Behind { .. }) => {}
                outcome => outcome?,
            }
        }
        self.look();
        Ok(())
    }
}

/// The number of the first generation that was made from records as `events` has them.
pub(crate) fn generations_since(properties: &Properties) -> u64 {
    if is_on(Mutant::EarlierReading) {
        return 0;
    }
    properties.get(properties::GENERATIONS_SINCE).and_then(|since| since.parse().ok()).unwrap_or(0)
}

/// The number of the first generation that servers may answer from once it was replaced. Earlier than [`generations_since`]
/// where only an earlier version of Tidemark has read the source differently: what its servers say is what that version makes
/// of the records.
pub(crate) fn answered_since(properties: &Properties) -> u64 {
    let since = generations_since(properties);
    let upgrade = properties.get(properties::UPGRADED_SINCE).and_then(|upgrade| upgrade.split_once(' '));
    let former = upgrade.filter(|(number, _)| *number == since.to_string()).map(|(_, former)| former);
    former.and_then(|former| former.parse().ok()).unwrap_or(since)
}

/// The id of the history that `events` holds, made where there is none: by a version that knew no ids, or because the table is
/// new.
async fn identify(events: &mut dyn OfflineTable, host: &Host) -> Result<String, IngestError> {
    loop {
        let before = events.properties().clone();
        if let Some(history) = before.get(properties::HISTORY) {
            return Ok(history.clone());
        }
        let mut properties = before.clone();
        properties.insert(properties::HISTORY.to_owned(), format!("{:032x}", host.id()));
        match events.set_properties(&before, &properties).await {
            Err(TableError::OtherProperties { .. }) => {}
            outcome => outcome?,
        }
    }
}

#[cfg(test)]
mod tests;
