//! Both tables of a source, and the commits to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt;
use tidemark_kernel::value::{FeatureType, Type, Value, arrow::array_of};
use tidemark_kernel::{Partition, Position, PositionRange, SourcePlan};
use tidemark_offline::table::retract::retracted;
use tidemark_offline::table::{layout, properties};
use tidemark_offline::{Epochs, OfflineTable, Positions, Properties, TableError};

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
    /// The generations that count now still do.
    Unchanged,
    /// No view reads the source.
    NoViews,
    /// Generations count from this number on, which is greater than that of any generation before.
    Generation(u64),
}

/// What waits for a commit.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// Partition by partition in order and without gaps.
    pub(super) batches: Vec<Arc<Batch>>,
    /// For each partition, from the first batch to behind the last.
    pub(super) spans: BTreeMap<Partition, PositionRange>,
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
    pub(super) overtaken: BTreeSet<Partition>,
    /// The partitions of which nothing was committed, and which are read again.
    pub(super) discarded: BTreeSet<Partition>,
}

impl Pending {
    /// Drops the pending batches of a partition.
    pub(super) fn forget(&mut self, partition: Partition) {
        self.spans.remove(&partition);
        self.epochs.remove(&partition);
        for batch in self.batches.extract_if(.., |batch| batch.partition == partition) {
            self.rows -= (batch.to.0 - batch.from.0) as usize;
            self.bytes -= batch.bytes();
        }
    }

    /// These batches and later ones.
    pub(super) fn append(&mut self, later: Self) {
        for (partition, span) in later.spans {
            self.spans.entry(partition).or_insert(span).end = span.end;
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
        let changes = |properties: &Properties| {
            properties.get(properties::SOURCE_VERSION).is_some_and(|known| known != version)
        };
        let source = Arc::clone(&self.source);
        let upgrades = |properties: &Properties| {
            let known = properties.get(properties::SOURCE_VERSION);
            source.version().to_string() == version && known.is_some_and(|known| source.had_version(known))
        };
        let claimed = |properties: &Properties| {
            let mut claimed = properties.clone();
            claimed.insert(properties::SOURCE_VERSION.to_owned(), version.to_owned());
            if let Since::Generation(number) = since {
                let known =
                    properties.get(properties::GENERATIONS_SINCE).and_then(|known| known.parse::<u64>().ok());
                if changes(properties) || known.is_some_and(|known| number < known) {
                    claimed.insert(properties::GENERATIONS_SINCE.to_owned(), number.to_string());
                }
                if upgrades(properties) {
                    let former = generations_since(properties);
                    claimed.insert(properties::UPGRADED_SINCE.to_owned(), format!("{number} {former}"));
                }
            }
            claimed
        };
        loop {
            self.events.reload().await?;
            let before = self.events.properties().clone();
            if changes(&before) && since == Since::Unchanged {
                return Ok(false);
            }
            match self.events.set_properties(&before, &claimed(&before)).await {
                Err(TableError::OtherProperties { .. }) => {}
                outcome => break outcome?,
            }
        }
        self.events.work_under(version.to_owned());
        // Dead letters are committed first. Those whose events can never follow are taken back: the records are read
        // again, and may be events now.
        loop {
            self.dead_letters.reload().await?;
            let before = self.dead_letters.properties().clone();
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
            let end = |partition: Partition, letters: Position| {
                if is_partition(partition) { letters } else { letters.min(position_in(committed, partition)) }
            };
            let standing = self.dead_letters.positions();
            let to: Positions =
                standing.iter().map(|(partition, at)| (*partition, end(*partition, *at))).collect();
            if to == *standing {
                return Ok(());
            }
            let properties = self.dead_letters.properties().clone();
            if self.dead_letters.take_back(&to, &properties).await? {
                return Ok(());
            }
            self.events.reload().await?;
            self.dead_letters.reload().await?;
        }
    }

    /// As of [`Tables::lower_since`](super::Tables::lower_since).
    pub(super) async fn lower_since(&mut self, number: u64) -> Result<bool, IngestError> {
        let before = self.events.properties().clone();
        let mut now = before.clone();
        now.insert(properties::GENERATIONS_SINCE.to_owned(), number.to_string());
        match self.events.set_properties(&before, &now).await {
            Err(TableError::OtherProperties { .. }) => Ok(false),
            outcome => Ok(outcome.map(|()| true)?),
        }
    }

    /// As of [`Tables::note_compacted`](super::Tables::note_compacted).
    pub(super) async fn note_compacted(
        &mut self,
        is_compacted: bool,
        since: Option<Since>,
    ) -> Result<bool, IngestError> {
        let before = self.events.properties().clone();
        let mut now = before.clone();
        if is_compacted {
            let noted = since.map_or_else(|| properties::NOTED.to_owned(), |_| true.to_string());
            now.insert(properties::COMPACTED.to_owned(), noted);
        } else {
            now.remove(properties::COMPACTED);
        }
        if let Some(Since::Generation(number)) = since {
            now.insert(properties::GENERATIONS_SINCE.to_owned(), number.to_string());
        }
        match self.events.set_properties(&before, &now).await {
            Err(TableError::OtherProperties { .. }) => Ok(false),
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
        // Rows of one partition lie together: they compress better, and are read back in longer runs.
        pending.batches.sort_by_key(|batch| batch.partition);
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
            let others = |partition| began.get(partition).copied().unwrap_or(Position::UNBOUNDED);
            let decided = pending.spans.keys().map(|partition| (*partition, others(partition))).collect();
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
            let new = |partition, letter: &DeadLetter| {
                !position_in(&standing, partition).max(position_in(decided, partition)).covers(letter.offset)
            };
            let dead = pending
                .batches
                .iter()
                .flat_map(|batch| batch.dead.iter().map(|letter| (batch.partition, letter)));
            let letters: Vec<(Partition, &DeadLetter)> =
                dead.filter(|(partition, letter)| new(*partition, letter)).collect();
            if letters.is_empty() {
                return Ok(());
            }
            let (mut from, mut to) = (Positions::new(), Positions::new());
            for (partition, _) in &letters {
                let current = position_in(&standing, *partition);
                let taken = pending.spans.get(partition).map_or(current, |span| span.end);
                from.insert(*partition, current);
                to.insert(*partition, taken.max(current));
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
                while self.lacks_lost(batch.partition, letter).await? {
                    let rows = dead_letter_rows(&[(batch.partition, letter)])
                        .map_err(|error| self.broken(&error))?;
                    self.dead_letters.append_unmoved(&[rows]).await?;
                }
            }
        }
        Ok(())
    }

    /// Whether the table, as it is now, is past this letter of lost records without having it. A letter that counts
    /// fewer records is another: retention has deleted more since.
    async fn lacks_lost(&mut self, partition: Partition, letter: &DeadLetter) -> Result<bool, IngestError> {
        self.dead_letters.reload().await?;
        if !position_in(self.dead_letters.positions(), partition).covers(letter.offset) {
            return Ok(false);
        }
        let at = |offset| Positions::from([(partition, Position(offset))]);
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
            let is_outdated = pending.decided_at.is_some_and(|at| at != retracted(self.events.properties()));
            for (partition, PositionRange { start: first, end: last }) in &pending.spans {
                if is_outdated && is_partition(*partition) {
                    conflicts.discarded.insert(*partition);
                    continue;
                }
                let standing = position_in(&committed, *partition);
                if standing < *first {
                    let source_name = self.source.name.clone();
                    return Err(IngestError::FellBack {
                        source_name,
                        partition: *partition,
                        from: *first,
                        to: standing,
                    });
                }
                if standing > *first && rereads_overtaken && is_partition(*partition) {
                    conflicts.discarded.insert(*partition);
                    continue;
                }
                if standing > *first {
                    conflicts.overtaken.insert(*partition);
                }
                if standing < *last {
                    from.insert(*partition, standing);
                    to.insert(*partition, *last);
                }
            }
            if to.is_empty() {
                return Ok((conflicts, from));
            }
            let began = from.clone();
            if !is_outdated {
                from.extend(pending.decided_at.map(|at| (Partition::RETRACTIONS, at)));
            }
            let batches = pending.batches.iter().filter(|batch| to.contains_key(&batch.partition));
            let rows = batches.map(|batch| batch.events_from(position_in(&committed, batch.partition)));
            let rows: Vec<RecordBatch> = rows.filter(|rows| rows.num_rows() > 0).collect();
            // Of a partition that others have moved on beyond the record, they have recorded a later epoch, or none is known.
            let is_new = |partition: Partition, until| {
                to.contains_key(&partition) && until > position_in(&committed, partition)
            };
            let epochs = pending.epochs.iter().filter(|(partition, epoch)| is_new(**partition, epoch.until));
            let epochs: Epochs = epochs.map(|(partition, epoch)| (*partition, *epoch)).collect();
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

/// Whether a partition is a partition of a topic.
pub(crate) const fn is_partition(partition: Partition) -> bool {
    partition.is_shared()
}

pub(super) fn position_in(positions: &Positions, partition: Partition) -> Position {
    positions.get(&partition).copied().unwrap_or(Position::START)
}

fn dead_letter_rows(letters: &[(Partition, &DeadLetter)]) -> Result<RecordBatch, arrow::error::ArrowError> {
    let times: Vec<Value> = letters
        .iter()
        .map(|(_, letter)| {
            letter.record_time.filter(|time| time.is_valid()).map_or(Value::Null, Value::Timestamp)
        })
        .collect();
    RecordBatch::try_new(
        layout::dead_letters(),
        vec![
            Arc::new(Int32Array::from_iter_values(letters.iter().map(|(partition, _)| partition.0))),
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
