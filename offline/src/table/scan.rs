//! Scans: reading rows of a range of positions, in the order in which they were committed.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch, cast::AsArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Int32Type, Int64Type, Schema, TimestampMicrosecondType};
use futures::stream::{self, StreamExt, TryStreamExt};
use tidemark_kernel::{Partition, Position, PositionRange, Time};

use super::read::{Rows, read_in_order};
use super::{DataFile, EventTable, PartitionStatistics, Positions, TableError, layout};

impl EventTable {
    /// Rows with `from <= offset < to` of each partition, in commit order: partition by partition in order of offset, partitions mixed.
    ///
    /// `columns` are the wanted ones in their order; all of [`schema`](Self::schema) if empty. A partition that `from`
    /// does not name is read from its start, one that `to` does not name is not read. A column newer than a row is
    /// null there.
    ///
    /// # Errors
    /// Fails where a column is unknown or the table's log cannot be read; the stream fails where a data file cannot.
    pub fn scan(&self, columns: &[&str], from: &Positions, to: &Positions) -> Result<Rows, TableError> {
        let all: Vec<&str> = self.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let columns = if columns.is_empty() { &all } else { columns };
        self.read(Wanted::new(columns, from.clone(), to.clone()))
    }

    /// The rows of a partition that arrived after `since`, in order of offset. Files that cannot hold any are not read.
    ///
    /// # Errors
    /// As [`scan`](Self::scan).
    pub fn scan_since(
        &self,
        columns: &[&str],
        partition: Partition,
        since: Time,
    ) -> Result<Rows, TableError> {
        let to = self.positions().get(&partition).map(|end| (partition, *end)).into_iter().collect();
        self.read(Wanted { since: Some(since), ..Wanted::new(columns, Positions::new(), to) })
    }

    fn read(&self, wanted: Wanted) -> Result<Rows, TableError> {
        let schema =
            wanted.read_schema(&layout::stored(&self.schema)).map_err(TableError::rows(self.folder()))?;
        let schema = Arc::new(schema);
        let files: Vec<DataFile> = self.files()?.into_iter().filter(|file| wanted.may_hold(file)).collect();
        let storage = Arc::clone(self.storage());
        let batches = stream::iter(files)
            .then(move |file| read_in_order(Arc::clone(&storage), file.name, Arc::clone(&schema)))
            .try_flatten();
        let folder = self.folder().to_owned();
        let rows = batches.and_then(move |batch| {
            let kept = wanted.keep(&batch).map_err(TableError::rows(&folder));
            std::future::ready(kept)
        });
        Ok(rows.try_filter(|batch| std::future::ready(batch.num_rows() > 0)).boxed())
    }
}

/// Which rows and columns a scan gives.
struct Wanted {
    columns: Vec<String>,
    from: Positions,
    to: Positions,
    /// Only those that arrived later.
    since: Option<Time>,
}

impl Wanted {
    fn new(columns: &[&str], from: Positions, to: Positions) -> Self {
        Self { columns: columns.iter().map(|&name| name.to_owned()).collect(), from, to, since: None }
    }

    /// The columns to read: the wanted ones, then those that rows are chosen by.
    fn read_schema(&self, stored: &Schema) -> Result<Schema, arrow::error::ArrowError> {
        let mut names: Vec<&str> = self.columns.iter().map(String::as_str).collect();
        let mut chosen_by = vec![layout::LOG, layout::OFFSET];
        chosen_by.extend(self.since.map(|_| layout::ARRIVAL_TIME));
        names.extend(chosen_by.iter().filter(|name| !self.columns.iter().any(|c| c == *name)));
        let fields = names.iter().map(|name| stored.field_with_name(name).cloned());
        Ok(Schema::new(fields.collect::<Result<Vec<_>, _>>()?))
    }

    /// The range of a partition that is wanted.
    fn range(&self, partition: Partition) -> PositionRange {
        let at = |positions: &Positions| positions.get(&partition).copied().unwrap_or(Position::START);
        PositionRange { start: at(&self.from), end: at(&self.to) }
    }

    /// Whether a file may hold a wanted row, as far as its statistics tell.
    fn may_hold(&self, file: &DataFile) -> bool {
        let overlaps = |(partition, held): (&Partition, &PartitionStatistics)| {
            let range = self.range(*partition);
            let is_later = self.since.is_none_or(|since| held.newest_arrival > Some(since));
            range.start.0 <= held.last && held.first < range.end.0 && is_later
        };
        file.partitions.as_ref().is_none_or(|partitions| partitions.iter().any(overlaps))
    }

    fn keep(&self, batch: &RecordBatch) -> Result<RecordBatch, arrow::error::ArrowError> {
        let partitions =
            batch.column(batch.schema().index_of(layout::LOG)?).as_primitive::<Int32Type>().clone();
        let offsets = batch.column(batch.schema().index_of(layout::OFFSET)?).as_primitive::<Int64Type>();
        let wanted = partitions.values().iter().zip(offsets.values());
        let wanted = wanted.map(|(partition, offset)| self.range(Partition(*partition)).contains(*offset));
        let mut wanted: Vec<bool> = wanted.collect();
        if let Some(since) = self.since {
            let arrivals = batch.column(batch.schema().index_of(layout::ARRIVAL_TIME)?);
            let arrivals = arrivals.as_primitive::<TimestampMicrosecondType>();
            let since = since.millis().saturating_mul(1000);
            wanted
                .iter_mut()
                .zip(arrivals)
                .for_each(|(wanted, at)| *wanted &= at.is_some_and(|at| at > since));
        }
        let rows = filter_record_batch(batch, &BooleanArray::from(wanted))?;
        let columns: Vec<usize> = (0..self.columns.len()).collect();
        layout::from_stored(&rows.project(&columns)?)
    }
}
