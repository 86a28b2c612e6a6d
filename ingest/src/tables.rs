//! A source's event tables: what was taken in goes there in large commits, while more is taken in.
//!
//! Dead letters commit first, skipping those below that table's own position; `events` carries the positions that
//! count. A crash in between leaves dead letters whose records are read again, and skipped there. Where Kafka has deleted the
//! records meanwhile, the letter that tells of their loss is below that position and is not in: it is looked for by its row.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use tidemark_host::Host;
use tidemark_kernel::value::{FeatureType, Type, Value, arrow::array_of};
use tidemark_kernel::{Log, Position, SourcePlan};
use tidemark_offline::table::retract::retracted;
use tidemark_offline::table::{facts, layout};
use tidemark_offline::{Facts, OfflineStore, OfflineTable, Positions, Retraction, TableError, TableKind};
use tokio::task::{JoinError, JoinSet};

use crate::decode::{Batch, DeadLetter, Form, LOST};
use crate::error::IngestError;
use crate::health::SourceHealth;
use crate::kafka::TopicFacts;
use crate::letters;
use crate::memory::SourceMemory;
use crate::mutant::{Mutant, is_on};

/// When what was taken in is committed to the event tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommitRule {
    /// How long a record waits at most. What a crash leaves uncommitted is read again from its log.
    pub every: Duration,
    /// How many records do not wait.
    pub rows: usize,
}

impl Default for CommitRule {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), rows: 128 * 1024 }
    }
}

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
    /// Up to where `events` holds each log, as far as we have seen.
    committed: Positions,
    /// Up to where a commit is under way.
    leaving: Positions,
    pending: Pending,
}

/// Both tables, as far as we have seen them.
#[derive(Debug)]
pub(crate) struct Open {
    source: Arc<SourcePlan>,
    /// The events that are in.
    pub(crate) events: Box<dyn OfflineTable>,
    /// The dead letters that are in.
    pub(crate) dead_letters: Box<dyn OfflineTable>,
}

/// A commit that has ended: well, and how long it took, or not.
type Ended = (Open, Pending, Result<Duration, IngestError>);

/// From which generation number on the states of a source's views count, where its version changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// The version is not expected to change.
    Unchanged,
    /// No view reads the source.
    NoViews,
    /// This number, which is greater than that of any generation before.
    Generation(u64),
}

/// What waits for a commit.
#[derive(Debug, Default)]
struct Pending {
    /// Log by log in order and without gaps.
    batches: Vec<Arc<Batch>>,
    /// For each log, the position of the first batch and the position after the last.
    spans: BTreeMap<Log, (Position, Position)>,
    rows: usize,
    bytes: usize,
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
        let committed = events.positions().clone();
        Ok(Self {
            host: host.clone(),
            source: Arc::clone(&source),
            rule,
            memory,
            history,
            open: Some(Open { source, events, dead_letters }),
            commit: JoinSet::new(),
            ended: None,
            committed,
            leaving: Positions::new(),
            pending: Pending::default(),
        })
    }

    /// The id of the history that `events` holds: made with the table, and moved with it.
    pub(crate) fn history(&self) -> &str {
        &self.history
    }

    /// Up to where `events` holds a log.
    pub(crate) fn committed(&self, log: Log) -> Position {
        stands(&self.committed, log)
    }

    /// Up to where `events` holds each log.
    pub(crate) const fn positions(&self) -> &Positions {
        &self.committed
    }

    /// Up to where a log was taken, committed or not.
    pub(crate) fn taken(&self, log: Log) -> Position {
        let waiting = self.pending.spans.get(&log).map(|(_, to)| *to);
        let waiting = waiting.max(self.leaving.get(&log).copied());
        waiting.map_or_else(|| self.committed(log), |to| to.max(self.committed(log)))
    }

    /// Where the list of retractions ends, as far as we have seen; none while a commit is under way.
    pub(crate) fn retracted(&self) -> Option<Position> {
        self.open.as_ref().map(|open| retracted(open.events.facts()))
    }

    /// Deletes the rows of a retraction from both tables; how many events that were, none where it was done before.
    pub(crate) async fn retract(&mut self, retraction: Retraction) -> Result<Option<u64>, IngestError> {
        let open = self.open_tables().await?;
        open.dead_letters.retract(retraction).await?;
        let events = open.events.retract(retraction).await?;
        self.committed = open.events.positions().clone();
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
        let taken = self.taken(batch.log);
        if batch.to <= taken {
            return Ok(());
        }
        if batch.from > taken {
            return Err(self.gap(batch.log, taken, batch.from));
        }
        // A reader may hand over again what it has handed over before.
        let overlaps = batch.from < taken && !is_on(Mutant::Overlap);
        let batch = if overlaps { Arc::new(batch.starting_at(taken)) } else { batch };
        self.pending.spans.entry(batch.log).or_insert((taken, taken)).1 = batch.to;
        self.pending.rows += (batch.to.0 - batch.from.0) as usize;
        self.pending.bytes += batch.bytes();
        self.pending.batches.push(batch);
        Ok(())
    }

    /// The error for records that are nowhere.
    pub(crate) fn gap(&self, log: Log, from: Position, to: Position) -> IngestError {
        IngestError::Gap { source_name: self.source.name.clone(), log, from, to }
    }

    /// Starts to commit what is pending, unless a commit is under way. What may come back by itself, as room on a disk, is
    /// waited for meanwhile.
    pub(crate) fn start_commit(&mut self, health: &SourceHealth) {
        if self.pending.batches.is_empty() {
            return;
        }
        let Some(mut open) = self.open.take() else { return };
        let mut pending = std::mem::take(&mut self.pending);
        self.leaving = pending.spans.iter().map(|(log, (_, to))| (*log, *to)).collect();
        let (watch, health) = (self.host.stopwatch(), health.clone());
        self.commit.spawn(async move {
            let mut wait = health.wait();
            let outcome = loop {
                match open.commit(&mut pending).await {
                    Err(error) if wait.out(&error).await => {}
                    outcome => break outcome,
                }
            };
            drop(wait);
            (open, pending, outcome.map(|()| watch.elapsed()))
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
        self.committed = open.events.positions().clone();
        self.open = Some(open);
        if outcome.is_err() {
            let later = std::mem::replace(&mut self.pending, pending);
            self.pending.append(later);
        }
        outcome.map(Some)
    }

    /// Both tables, once no commit is under way.
    pub(crate) async fn open_tables(&mut self) -> Result<&mut Open, IngestError> {
        self.commit_ended().await?;
        self.open.as_mut().ok_or_else(|| IngestError::stopped("a commit died in the middle"))
    }

    /// Catches up with what others have committed.
    pub(crate) async fn reload(&mut self) -> Result<(), IngestError> {
        let open = self.open_tables().await?;
        open.events.reload().await?;
        open.dead_letters.reload().await?;
        self.committed = open.events.positions().clone();
        Ok(())
    }

    /// Whether the events were last read under another version of the source.
    pub(crate) async fn has_other_version(&mut self) -> Result<bool, IngestError> {
        self.reload().await?;
        let version = self.source.version().to_string();
        let facts = self.open_tables().await?.events.facts();
        Ok(facts.get(facts::SOURCE_VERSION).is_some_and(|known| *known != version))
    }

    /// Makes the source's version the one that its events are read under. Workers on another version can no longer
    /// commit. False, and nothing was changed, where the version changes and `since` says that it does not.
    pub(crate) async fn claim(&mut self, since: Since) -> Result<bool, IngestError> {
        let version = self.source.version().to_string();
        let claimed = self.open_tables().await?.claim(&version, since).await?;
        self.committed = self.open_tables().await?.events.positions().clone();
        Ok(claimed)
    }

    /// Forgets what waits for the next commit: it is read again.
    pub(crate) fn forget(&mut self) {
        self.pending = Pending::default();
    }

    /// Whether the events are known to be those of some topic.
    pub(crate) async fn has_topic(&mut self) -> Result<bool, IngestError> {
        self.reload().await?;
        Ok(self.open_tables().await?.events.facts().contains_key(facts::TOPIC))
    }

    /// Makes sure that the events are those of this very topic. Where nobody has read any, they are from now on, from
    /// `starts`: whether that was so.
    pub(crate) async fn begin(
        &mut self,
        topic: &TopicFacts,
        starts: &Positions,
    ) -> Result<bool, IngestError> {
        let source_name = self.source.name.clone();
        let events = &mut self.open_tables().await?.events;
        let began = loop {
            events.reload().await?;
            let before = events.facts().clone();
            if let Some(known) = before.get(facts::TOPIC) {
                topic.check(&source_name, known)?;
                break false;
            }
            let mut facts = before.clone();
            facts.insert(facts::TOPIC.to_owned(), topic.to_string());
            let unnamed = starts.iter().filter(|(log, _)| !events.positions().contains_key(log));
            let unnamed = unnamed.map(|(log, start)| (*log, *start)).collect();
            match events.begin(&before, &facts, &unnamed).await {
                Err(TableError::OtherFacts { .. } | TableError::Behind { .. }) => {}
                outcome => break outcome.map(|()| true)?,
            }
        };
        self.reload().await?;
        Ok(began)
    }

    /// Names logs that nobody has read yet, at the positions they start at. Where somebody else has named one of them
    /// first, theirs stands.
    pub(crate) async fn start_logs(&mut self, starts: &Positions) -> Result<(), IngestError> {
        let events = &mut self.open_tables().await?.events;
        loop {
            let unnamed = starts.iter().filter(|(log, _)| !events.positions().contains_key(log));
            let unnamed: Positions = unnamed.map(|(log, start)| (*log, *start)).collect();
            if unnamed.is_empty() {
                break;
            }
            match events.start_logs(&unnamed).await {
                Err(TableError::Behind { .. }) => {}
                outcome => outcome?,
            }
        }
        self.committed = self.open_tables().await?.events.positions().clone();
        Ok(())
    }
}

impl Pending {
    /// These batches and later ones.
    fn append(&mut self, later: Self) {
        for (log, (first, last)) in later.spans {
            self.spans.entry(log).or_insert((first, last)).1 = last;
        }
        self.batches.extend(later.batches);
        self.rows += later.rows;
        self.bytes += later.bytes;
    }
}

impl Open {
    async fn claim(&mut self, version: &str, since: Since) -> Result<bool, IngestError> {
        let changes = |facts: &Facts| facts.get(facts::SOURCE_VERSION).is_some_and(|known| known != version);
        let claimed = |facts: &Facts| {
            let mut claimed = facts.clone();
            claimed.insert(facts::SOURCE_VERSION.to_owned(), version.to_owned());
            if let Since::Generation(number) = since {
                let known = facts.get(facts::GENERATIONS_SINCE).and_then(|known| known.parse::<u64>().ok());
                if changes(facts) || known.is_some_and(|known| number < known) {
                    claimed.insert(facts::GENERATIONS_SINCE.to_owned(), number.to_string());
                }
            }
            claimed
        };
        loop {
            self.events.reload().await?;
            let before = self.events.facts().clone();
            if changes(&before) && since == Since::Unchanged {
                return Ok(false);
            }
            match self.events.set_facts(&before, &claimed(&before)).await {
                Err(TableError::OtherFacts { .. }) => {}
                outcome => break outcome?,
            }
        }
        self.events.work_under(version.to_owned());
        // Dead letters are committed first. Those whose events can never follow are taken back: the records are read
        // again, and may be events now.
        loop {
            self.dead_letters.reload().await?;
            let before = self.dead_letters.facts().clone();
            if claimed(&before) == before {
                break;
            }
            // In this order: from here on nobody has claimed the events who did not come first with the dead letters.
            self.events.check_source().await?;
            if self.dead_letters.take_back(self.events.positions(), &claimed(&before)).await? {
                break;
            }
        }
        self.dead_letters.work_under(version.to_owned());
        Ok(true)
    }

    async fn commit(&mut self, pending: &mut Pending) -> Result<(), IngestError> {
        // Rows of one log lie together: they compress better, and are read back in longer runs.
        pending.batches.sort_by_key(|batch| batch.log);
        self.commit_dead_letters(pending).await?;
        self.commit_events(pending).await?;
        if pending.batches.iter().any(|batch| !batch.dead.is_empty()) {
            // In between, another version may have been claimed, which takes dead letters back whose events are not in, and
            // this one again, so that the events could follow.
            self.dead_letters.reload().await?;
            self.commit_dead_letters(pending).await?;
        }
        Ok(())
    }

    async fn commit_dead_letters(&mut self, pending: &Pending) -> Result<(), IngestError> {
        loop {
            self.commit_lost(pending).await?;
            let standing = self.dead_letters.positions().clone();
            let new = |log, letter: &DeadLetter| !stands(&standing, log).covers(letter.offset);
            let dead =
                pending.batches.iter().flat_map(|batch| batch.dead.iter().map(|letter| (batch.log, letter)));
            let letters: Vec<(Log, &DeadLetter)> = dead.filter(|(log, letter)| new(*log, letter)).collect();
            if letters.is_empty() {
                return Ok(());
            }
            let (mut from, mut to) = (Positions::new(), Positions::new());
            for (log, _) in &letters {
                let stands = stands(&standing, *log);
                let taken = pending.spans.get(log).map_or(stands, |(_, last)| *last);
                from.insert(*log, stands);
                to.insert(*log, taken.max(stands));
            }
            let rows = dead_letter_rows(&letters).map_err(|error| self.broken(&error))?;
            match self.dead_letters.append(&[rows], &from, &to).await {
                Err(TableError::Behind { .. }) => self.dead_letters.reload().await?,
                outcome => return Ok(outcome.map(drop)?),
            }
        }
    }

    /// Commits the letters of lost records that are below this table's position: a worker that has read the records died
    /// before their events were in. Such a letter may have the offset of one of these records.
    async fn commit_lost(&mut self, pending: &Pending) -> Result<(), IngestError> {
        for batch in &pending.batches {
            for letter in batch.dead.iter().filter(|letter| letter.code == LOST) {
                while self.lacks_lost(batch.log, letter).await? {
                    let rows =
                        dead_letter_rows(&[(batch.log, letter)]).map_err(|error| self.broken(&error))?;
                    self.dead_letters.append_unmoved(&[rows]).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether the table, as it is now, is past this letter of lost records without having it. One that tells of fewer
    /// records is another: retention has deleted more since.
    async fn lacks_lost(&mut self, log: Log, letter: &DeadLetter) -> Result<bool, IngestError> {
        self.dead_letters.reload().await?;
        if !stands(self.dead_letters.positions(), log).covers(letter.offset) {
            return Ok(false);
        }
        let at = |offset| Positions::from([(log, Position(offset))]);
        let (from, to) = (at(letter.offset), at(letter.offset + 1));
        let mut rows = self.dead_letters.scan(&letters::TOLD, &from, &to)?;
        while let Some(rows) = rows.try_next().await? {
            if letters::tells_of_lost(&rows, &letter.reason) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    async fn commit_events(&mut self, pending: &Pending) -> Result<(), IngestError> {
        loop {
            let (mut from, mut to) = (Positions::new(), Positions::new());
            let committed = self.events.positions().clone();
            for (log, (first, last)) in &pending.spans {
                let standing = stands(&committed, *log);
                if standing < *first {
                    let source_name = self.source.name.clone();
                    return Err(IngestError::FellBack { source_name, log: *log, from: *first, to: standing });
                }
                if standing < *last {
                    from.insert(*log, standing);
                    to.insert(*log, *last);
                }
            }
            if to.is_empty() {
                return Ok(());
            }
            let rows = pending.batches.iter().map(|batch| batch.events_from(stands(&committed, batch.log)));
            let rows: Vec<RecordBatch> = rows.filter(|rows| rows.num_rows() > 0).collect();
            match self.events.append(&rows, &from, &to).await {
                Err(TableError::Behind { .. }) => self.events.reload().await?,
                outcome => return Ok(outcome.map(drop)?),
            }
        }
    }

    fn broken(&self, error: &arrow::error::ArrowError) -> IngestError {
        IngestError::Batch { source_name: self.source.name.clone(), reason: error.to_string() }
    }
}

/// The id of the history that `events` holds, made where there is none: by a version that knew no ids, or because the table is
/// new.
async fn identify(events: &mut dyn OfflineTable, host: &Host) -> Result<String, IngestError> {
    loop {
        let before = events.facts().clone();
        if let Some(history) = before.get(facts::HISTORY) {
            return Ok(history.clone());
        }
        let mut facts = before.clone();
        facts.insert(facts::HISTORY.to_owned(), format!("{:032x}", host.id()));
        match events.set_facts(&before, &facts).await {
            Err(TableError::OtherFacts { .. }) => {}
            outcome => outcome?,
        }
    }
}

fn stands(positions: &Positions, log: Log) -> Position {
    positions.get(&log).copied().unwrap_or(Position::START)
}

fn dead_letter_rows(letters: &[(Log, &DeadLetter)]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let times: Vec<Value> = letters
        .iter()
        .map(|(_, letter)| {
            letter.record_time.filter(|time| time.is_valid()).map_or(Value::Null, Value::Timestamp)
        })
        .collect();
    RecordBatch::try_new(
        layout::dead_letters(),
        vec![
            Arc::new(Int32Array::from_iter_values(letters.iter().map(|(log, _)| log.0))),
            Arc::new(Int64Array::from_iter_values(letters.iter().map(|(_, letter)| letter.offset))),
            Arc::new(StringArray::from_iter_values(letters.iter().map(|(_, letter)| letter.code))),
            Arc::new(StringArray::from_iter_values(letters.iter().map(|(_, letter)| &letter.reason))),
            Arc::new(StringArray::from_iter_values(letters.iter().map(|(_, letter)| &letter.place))),
            Arc::new(BinaryArray::from_iter_values(letters.iter().map(|(_, letter)| &letter.raw))),
            array_of(FeatureType::Scalar(Type::Timestamp), &times),
            Arc::new(StringArray::from_iter(
                letters.iter().map(|(_, letter)| letter.form.as_ref().map(Form::to_json)),
            )),
        ],
    )
}

#[cfg(test)]
mod tests;
