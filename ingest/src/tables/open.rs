//! Both tables of a source, and what is brought into them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use tidemark_kernel::source::READING;
use tidemark_kernel::value::{FeatureType, Type, Value, arrow::array_of};
use tidemark_kernel::{Log, Position, SourcePlan};
use tidemark_offline::table::retract::retracted;
use tidemark_offline::table::{facts, layout};
use tidemark_offline::{Epochs, Facts, OfflineTable, Positions, TableError};

use super::generations_since;
use crate::decode::{Batch, DeadLetter, Form, LOST};
use crate::error::IngestError;
use crate::letters;
use crate::mutant::{Mutant, is_on};

/// Both tables, as far as we have seen them.
#[derive(Debug)]
pub(crate) struct Open {
    pub(super) source: Arc<SourcePlan>,
    /// The events that are in.
    pub(crate) events: Box<dyn OfflineTable>,
    /// The dead letters that are in.
    pub(crate) dead_letters: Box<dyn OfflineTable>,
}

/// From which generation number on the states of a source's views count, where those from before do not any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Since {
    /// Those that count now still do.
    Unchanged,
    /// No view reads the source.
    NoViews,
    /// This number, which is greater than that of any generation before.
    Generation(u64),
}

/// What waits for a commit.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Log by log in order and without gaps.
    pub(super) batches: Vec<Arc<Batch>>,
    /// For each log, the position of the first batch and the position after the last.
    pub(super) spans: BTreeMap<Log, (Position, Position)>,
    /// The leader epochs of the last records, where they are known.
    pub(super) epochs: Epochs,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    /// Where the list of retractions ended when repetitions among them were left out; none where none are.
    pub(super) decided_at: Option<Position>,
}

/// What a commit found that others had committed.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    /// The partitions that another worker, or a commit whose answer was lost, had moved on. The rest was committed.
    pub(super) overtaken: BTreeSet<Log>,
    /// Those of which nothing was committed, and which are read again.
    pub(super) discarded: BTreeSet<Log>,
}

impl Pending {
    /// Drops the pending batches of a partition.
    pub(super) fn forget(&mut self, log: Log) {
        self.spans.remove(&log);
        self.epochs.remove(&log);
        for batch in self.batches.extract_if(.., |batch| batch.log == log) {
            self.rows -= (batch.to.0 - batch.from.0) as usize;
            self.bytes -= batch.bytes();
        }
    }

    /// These batches and later ones.
    pub(super) fn append(&mut self, later: Self) {
        for (log, (first, last)) in later.spans {
            self.spans.entry(log).or_insert((first, last)).1 = last;
        }
        self.batches.extend(later.batches);
        self.epochs.extend(later.epochs);
        self.decided_at = self.decided_at.or(later.decided_at);
        self.rows += later.rows;
        self.bytes += later.bytes;
    }
}

impl Open {
    pub(super) async fn claim(&mut self, version: &str, since: Since) -> Result<bool, IngestError> {
        let changes = |facts: &Facts| facts.get(facts::SOURCE_VERSION).is_some_and(|known| known != version);
        let source = Arc::clone(&self.source);
        let upgrades = |facts: &Facts| {
            let known = facts.get(facts::SOURCE_VERSION);
            let earlier =
                |reading| known.is_some_and(|known| *known == source.version_under(reading).to_string());
            source.version().to_string() == version && (1..READING).any(earlier)
        };
        let claimed = |facts: &Facts| {
            let mut claimed = facts.clone();
            claimed.insert(facts::SOURCE_VERSION.to_owned(), version.to_owned());
            if let Since::Generation(number) = since {
                let known = facts.get(facts::GENERATIONS_SINCE).and_then(|known| known.parse::<u64>().ok());
                if changes(facts) || known.is_some_and(|known| number < known) {
                    claimed.insert(facts::GENERATIONS_SINCE.to_owned(), number.to_string());
                }
                if upgrades(facts) {
                    let former = generations_since(facts);
                    claimed.insert(facts::UPGRADED_SINCE.to_owned(), format!("{number} {former}"));
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
            // The order matters: where another version has claimed the events before, this check fails, and one that claims them later
            // writes the dead letters later, or makes this write lose its race.
            self.events.check_source().await?;
            if self.dead_letters.take_back(self.events.positions(), &claimed(&before)).await? {
                break;
            }
        }
        self.dead_letters.work_under(version.to_owned());
        Ok(true)
    }

    /// See [`Tables::decide_again`](super::Tables::decide_again). For the partitions of a topic, [`claim`](Self::claim) does this when
    /// the version of the source changes.
    pub(super) async fn decide_again(&mut self) -> Result<(), IngestError> {
        loop {
            let committed = self.events.positions();
            let end = |log: Log, letters: Position| {
                if is_partition(log) { letters } else { letters.min(stands(committed, log)) }
            };
            let standing = self.dead_letters.positions();
            let to: Positions = standing.iter().map(|(log, at)| (*log, end(*log, *at))).collect();
            if to == *standing {
                return Ok(());
            }
            let facts = self.dead_letters.facts().clone();
            if self.dead_letters.take_back(&to, &facts).await? {
                return Ok(());
            }
            self.events.reload().await?;
            self.dead_letters.reload().await?;
        }
    }

    /// As of [`Tables::lower_since`](super::Tables::lower_since).
    pub(super) async fn lower_since(&mut self, number: u64) -> Result<bool, IngestError> {
        let before = self.events.facts().clone();
        let mut now = before.clone();
        now.insert(facts::GENERATIONS_SINCE.to_owned(), number.to_string());
        match self.events.set_facts(&before, &now).await {
            Err(TableError::OtherFacts { .. }) => Ok(false),
            outcome => Ok(outcome.map(|()| true)?),
        }
    }

    /// As of [`Tables::note_compacted`](super::Tables::note_compacted).
    pub(super) async fn note_compacted(
        &mut self,
        is_compacted: bool,
        since: Option<Since>,
    ) -> Result<bool, IngestError> {
        let before = self.events.facts().clone();
        let mut now = before.clone();
        if is_compacted {
            let noted = since.map_or_else(|| facts::NOTED.to_owned(), |_| true.to_string());
            now.insert(facts::COMPACTED.to_owned(), noted);
        } else {
            now.remove(facts::COMPACTED);
        }
        if let Some(Since::Generation(number)) = since {
            now.insert(facts::GENERATIONS_SINCE.to_owned(), number.to_string());
        }
        match self.events.set_facts(&before, &now).await {
            Err(TableError::OtherFacts { .. }) => Ok(false),
            outcome => Ok(outcome.map(|()| true)?),
        }
    }

    /// Commits what is pending. With `rereads_overtaken`, nothing of a partition that another worker has committed part of
    /// first.
    pub(super) async fn commit(
        &mut self,
        pending: &mut Pending,
        rereads_overtaken: bool,
    ) -> Result<Conflicts, IngestError> {
        // Rows of one log lie together: they compress better, and are read back in longer runs.
        pending.batches.sort_by_key(|batch| batch.log);
        let has_dead = pending.batches.iter().any(|batch| !batch.dead.is_empty());
        if has_dead {
            // Others may have read the records under another version, with this one in force again since.
            self.events.check_source().await?;
            let decided =
                if is_on(Mutant::Overlap) { Positions::new() } else { self.events.positions().clone() };
            self.commit_dead_letters(pending, &decided).await?;
        }
        let (conflicts, began) = self.commit_events(pending, rereads_overtaken).await?;
        if has_dead {
            // In between, another version may have been claimed, which takes dead letters back whose events are not in, and
            // this one again, so that the events could follow.
            self.dead_letters.reload().await?;
            let others = |log| began.get(log).copied().unwrap_or(Position(i64::MAX));
            let decided = pending.spans.keys().map(|log| (*log, others(log))).collect();
            self.commit_dead_letters(pending, &decided).await?;
        }
        Ok(conflicts)
    }

    /// Commits dead letters, but for those of records below `decided`: others have decided about these, and have committed
    /// their letters.
    pub(super) async fn commit_dead_letters(
        &mut self,
        pending: &Pending,
        decided: &Positions,
    ) -> Result<(), IngestError> {
        loop {
            self.commit_lost(pending).await?;
            let standing = self.dead_letters.positions().clone();
            let new = |log, letter: &DeadLetter| {
                !stands(&standing, log).max(stands(decided, log)).covers(letter.offset)
            };
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
            match self.dead_letters.append(&[rows], &from, &to, None).await {
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

    /// Also gives, for each partition of which anything was committed, where that began.
    async fn commit_events(
        &mut self,
        pending: &Pending,
        rereads_overtaken: bool,
    ) -> Result<(Conflicts, Positions), IngestError> {
        loop {
            let (mut from, mut to) = (Positions::new(), Positions::new());
            let mut conflicts = Conflicts::default();
            let committed = self.events.positions().clone();
            let is_outdated = pending.decided_at.is_some_and(|at| at != retracted(self.events.facts()));
            for (log, (first, last)) in &pending.spans {
                if is_outdated && is_partition(*log) {
                    conflicts.discarded.insert(*log);
                    continue;
                }
                let standing = stands(&committed, *log);
                if standing < *first {
                    let source_name = self.source.name.clone();
                    return Err(IngestError::FellBack { source_name, log: *log, from: *first, to: standing });
                }
                if standing > *first && rereads_overtaken && is_partition(*log) {
                    conflicts.discarded.insert(*log);
                    continue;
                }
                if standing > *first {
                    conflicts.overtaken.insert(*log);
                }
                if standing < *last {
                    from.insert(*log, standing);
                    to.insert(*log, *last);
                }
            }
            if to.is_empty() {
                return Ok((conflicts, from));
            }
            let began = from.clone();
            if !is_outdated {
                from.extend(pending.decided_at.map(|at| (Log::RETRACTIONS, at)));
            }
            let batches = pending.batches.iter().filter(|batch| to.contains_key(&batch.log));
            let rows = batches.map(|batch| batch.events_from(stands(&committed, batch.log)));
            let rows: Vec<RecordBatch> = rows.filter(|rows| rows.num_rows() > 0).collect();
            // Of a log that others have moved on beyond the record, they have recorded a later epoch, or none is known.
            let is_new = |log: Log, until| to.contains_key(&log) && until > stands(&committed, log);
            let epochs = pending.epochs.iter().filter(|(log, epoch)| is_new(**log, epoch.until));
            let epochs: Epochs = epochs.map(|(log, epoch)| (*log, *epoch)).collect();
            match self.events.append(&rows, &from, &to, Some(&epochs)).await {
                Err(TableError::Behind { .. }) => self.events.reload().await?,
                outcome => return Ok(outcome.map(|_| (conflicts, began))?),
            }
        }
    }

    fn broken(&self, error: &arrow::error::ArrowError) -> IngestError {
        IngestError::Batch { source_name: self.source.name.clone(), reason: error.to_string() }
    }
}

/// Whether a log is a partition of a topic.
pub(crate) const fn is_partition(log: Log) -> bool {
    log.0 >= 0
}

pub(super) fn stands(positions: &Positions, log: Log) -> Position {
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
