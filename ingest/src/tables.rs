//! A source's event tables: what was taken in goes there in large commits.
//!
//! Dead letters commit first, skipping those below that table's own position; `events` carries the positions that
//! count. A crash in between leaves dead letters whose records are read again, and skipped there.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{BinaryArray, Int32Array, Int64Array, RecordBatch, StringArray};
use tidemark_kernel::value::{FeatureType, Type, Value, arrow::array_of};
use tidemark_kernel::{Log, Position, SourcePlan};
use tidemark_offline::table::layout;
use tidemark_offline::{EventTable, Location, Positions, TableError};

use crate::decode::{Batch, DeadLetter};
use crate::error::IngestError;

/// How many records make a commit.
const COMMIT_ROWS: usize = 128 * 1024;

/// How many bytes in memory make a commit, however few records they are.
const COMMIT_BYTES: usize = 256 << 20;

/// The tables of one source, and what is waiting for their next commit.
#[derive(Debug)]
pub(crate) struct Tables {
    source: Arc<SourcePlan>,
    events: EventTable,
    dead_letters: EventTable,
    /// Batches in the order taken, log by log without gaps.
    pending: Vec<Arc<Batch>>,
    /// For each log with pending batches, the position of the first and the position after the last.
    spans: BTreeMap<Log, (Position, Position)>,
    rows: usize,
    bytes: usize,
}

impl Tables {
    /// Opens the tables of a source, creating them where they do not exist.
    pub(crate) async fn open(location: &Location, source: Arc<SourcePlan>) -> Result<Self, IngestError> {
        let events = EventTable::open_or_create(location, &source).await?;
        let dead_letters = EventTable::open_or_create_dead_letters(location, &source).await?;
        Ok(Self {
            source,
            events,
            dead_letters,
            pending: Vec::new(),
            spans: BTreeMap::new(),
            rows: 0,
            bytes: 0,
        })
    }

    /// The events that are in, as far as we have seen.
    pub(crate) const fn events(&self) -> &EventTable {
        &self.events
    }

    /// The dead letters that are in, as far as we have seen.
    pub(crate) const fn dead_letters(&self) -> &EventTable {
        &self.dead_letters
    }

    /// Up to where `events` holds a log.
    pub(crate) fn committed(&self, log: Log) -> Position {
        stands(self.events.positions(), log)
    }

    /// Up to where a log was taken, committed or not.
    pub(crate) fn taken(&self, log: Log) -> Position {
        self.spans.get(&log).map_or_else(|| self.committed(log), |(_, to)| (*to).max(self.committed(log)))
    }

    /// Whether enough waits for a commit of a good size.
    pub(crate) const fn is_full(&self) -> bool {
        self.rows >= COMMIT_ROWS || self.bytes >= COMMIT_BYTES
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
        self.spans.entry(batch.log).or_insert((taken, taken)).1 = batch.to;
        self.rows += (batch.to.0 - batch.from.0) as usize;
        self.bytes += batch.bytes();
        self.pending.push(batch);
        Ok(())
    }

    /// The error for records that are nowhere.
    pub(crate) fn gap(&self, log: Log, from: Position, to: Position) -> IngestError {
        IngestError::Gap { source_name: self.source.name.clone(), log, from, to }
    }

    /// Commits what is pending: all of it is in, or can be tried again. Whether there was anything.
    pub(crate) async fn commit(&mut self) -> Result<bool, IngestError> {
        if self.pending.is_empty() {
            return Ok(false);
        }
        self.commit_dead_letters().await?;
        self.commit_events().await?;
        self.pending.clear();
        self.spans.clear();
        (self.rows, self.bytes) = (0, 0);
        Ok(true)
    }

    async fn commit_dead_letters(&mut self) -> Result<(), IngestError> {
        loop {
            let standing = self.dead_letters.positions().clone();
            let new = |log, letter: &DeadLetter| !stands(&standing, log).covers(letter.offset);
            let pending =
                self.pending.iter().flat_map(|batch| batch.dead.iter().map(|letter| (batch.log, letter)));
            let letters: Vec<(Log, &DeadLetter)> =
                pending.filter(|(log, letter)| new(*log, letter)).collect();
            if letters.is_empty() {
                return Ok(());
            }
            let logs = letters.iter().map(|(log, _)| *log);
            let (from, to): (Positions, Positions) = logs
                .map(|log| {
                    ((log, stands(&standing, log)), (log, self.taken(log).max(stands(&standing, log))))
                })
                .unzip();
            let rows = dead_letter_rows(&letters).map_err(|error| self.broken(&error))?;
            match self.dead_letters.append(&[rows], &from, &to).await {
                Err(TableError::Behind { .. }) => self.dead_letters.reload().await?,
                outcome => return Ok(outcome.map(drop)?),
            }
        }
    }

    async fn commit_events(&mut self) -> Result<(), IngestError> {
        loop {
            let (mut from, mut to) = (Positions::new(), Positions::new());
            for (log, (first, last)) in &self.spans {
                let standing = self.committed(*log);
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
            let pending = self.pending.iter().map(|batch| batch.events_from(self.committed(batch.log)));
            let rows: Vec<RecordBatch> = pending.filter(|rows| rows.num_rows() > 0).collect();
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
        ],
    )
}
