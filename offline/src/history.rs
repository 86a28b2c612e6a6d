//! The events of a table as one view sees them, grouped by entity and ordered within each entity.
//!
//! Data files are read and evaluated side by side, rows that the view filters out or no label asks about are dropped,
//! and the rest is sorted by entity, event time, partition and offset; the sort spills. In memory at once are the sort's
//! allowance and the events of one entity.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, ArrayRef, BinaryArray, RecordBatch, UInt64Array, cast::AsArray};
use arrow::compute::{max, min, take};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimestampMillisecondType};
use arrow::error::ArrowError;
use datafusion_common::DataFusionError;
use datafusion_execution::memory_pool::FairSpillPool;
use datafusion_execution::runtime_env::RuntimeEnvBuilder;
use datafusion_execution::{SendableRecordBatchStream, TaskContext};
use datafusion_physical_expr::expressions::col;
use datafusion_physical_expr::{LexOrdering, PhysicalSortExpr};
use datafusion_physical_plan::ExecutionPlan;
use datafusion_physical_plan::sorts::sort::SortExec;
use datafusion_physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion_physical_plan::stream::RecordBatchStreamAdapter;
use datafusion_physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream::{self, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use thiserror::Error;
use tidemark_expr::{ExprError, ViewEvaluator, ViewRows};
use tidemark_kernel::value::arrow::{data_type, value_at};
use tidemark_kernel::{
    EntityKey, ErrorKind, Event, Explain, FeaturePlan, Partition, Stamp, Time, TimeRange, value::Type,
};

use crate::durable::kind_of_cause;
use crate::table::storage::Storage;
use crate::table::{EventTable, TableError, layout, read_in_order};

/// What went wrong reading a view's events.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The view's expressions do not compile: its plan was not made by a registry.
    #[error("view {view} cannot be evaluated: {source}")]
    View {
        /// The name of the view.
        view: String,
        /// What is wrong.
        source: ExprError,
    },
    /// The events could not be read, evaluated or sorted.
    #[error("cannot read the events of view {view}: {source}")]
    Read {
        /// The name of the view.
        view: String,
        /// What went wrong.
        source: Box<DataFusionError>,
    },
}

impl Explain for HistoryError {
    fn kind(&self) -> ErrorKind {
        match self {
            Self::Table(error) => error.kind(),
            // Not the kind of the expression's error: a registry has checked the plan.
            Self::View { .. } => ErrorKind::Internal,
            Self::Read { source, .. } if is_out_of_memory(source) => ErrorKind::Environment,
            Self::Read { .. } => kind_of_cause(self).unwrap_or(ErrorKind::Internal),
        }
    }

    fn help(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Table(error) => error.help(),
            Self::View { source, .. } => source.help(),
            Self::Read { source, .. } => is_out_of_memory(source).then_some(FEWER_CORES.into()),
        }
    }
}

/// What can be done where the sort has too little memory. It is [`Effort::memory`] in all, which no setting changes, and each
/// of [`Effort::threads`] has its share of it.
const FEWER_CORES: &str = "let the process use fewer cores, such as with `taskset`: they share the memory in \
                           which events are sorted";

/// Whether the sort, which is all that asks for memory here, did not get what it needs even to spill.
fn is_out_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

/// One entity and its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityEvents {
    /// The key of the entity.
    pub key: EntityKey,
    /// Its events that pass the view's filter, by event time, partition and offset.
    pub events: Vec<Event>,
}

/// A table's events as one view sees them, in order of entity.
pub struct History {
    view: String,
    rows: SendableRecordBatchStream,
    batch: Option<(Columns, usize)>,
    read: Arc<AtomicU64>,
    times: Arc<Mutex<Option<TimeRange>>>,
}

impl fmt::Debug for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("History")
            .field("view", &self.view)
            .field("read", &self.rows_read())
            .finish_non_exhaustive()
    }
}

/// How much a history may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// How many data files are read, and entities answered, at once.
    pub threads: usize,
    /// Bytes that the sort may hold before it spills to temporary files.
    pub memory: usize,
}

impl Default for Effort {
    /// Every core, and 512 MiB.
    fn default() -> Self {
        Self { threads: std::thread::available_parallelism().map_or(1, usize::from), memory: 512 << 20 }
    }
}

impl History {
    /// Starts reading `table`, which holds the events of the plan's source; only of `wanted` entities, where given.
    ///
    /// # Errors
    /// Fails where the plan's expressions do not compile or the table's log cannot be read.
    pub async fn open(
        table: &EventTable,
        plan: &FeaturePlan,
        wanted: Option<BTreeSet<EntityKey>>,
        effort: Effort,
    ) -> Result<Self, HistoryError> {
        let evaluator = ViewEvaluator::new(plan);
        let evaluator = evaluator.map_err(|source| HistoryError::View { view: plan.view.clone(), source })?;
        let (read, times) = (Arc::new(AtomicU64::new(0)), Arc::default());
        let (schema, wanted) = (sorted_schema(plan), wanted.map(Arc::new));
        let part = |files| Part {
            storage: Arc::clone(table.storage()),
            files,
            stored: Arc::new(stored_columns(table, plan)),
            schema: Arc::clone(&schema),
            evaluator: Arc::new(evaluator.clone()),
            wanted: wanted.clone(),
            read: Arc::clone(&read),
            times: Arc::clone(&times),
        };
        let files: Vec<String> = table.files()?.into_iter().map(|file| file.name).collect();
        let parts = deal(files, effort.threads)
            .into_iter()
            .map(|files| Arc::new(part(files)) as Arc<dyn PartitionStream>);
        let rows = sorted(&schema, parts.collect(), effort).map_err(Self::failed(&plan.view))?;
        Ok(Self { view: plan.view.clone(), rows, batch: None, read, times })
    }

    fn failed(view: &str) -> impl Fn(DataFusionError) -> HistoryError + '_ {
        let read = |source| HistoryError::Read { view: view.to_owned(), source: Box::new(source) };
        move |error| match error {
            DataFusionError::External(error) => match error.downcast::<TableError>() {
                Ok(error) => HistoryError::Table(*error),
                Err(error) => read(DataFusionError::External(error)),
            },
            error => read(error),
        }
    }

    /// How many rows of the table have been read so far, kept or not.
    #[must_use]
    pub fn rows_read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// The event times of the rows that have been read so far, kept or not: from the first to just behind the last; none
    /// where there were none. All are read before the first entity is given.
    #[must_use]
    pub fn event_times(&self) -> Option<TimeRange> {
        *self.times.lock()
    }

    /// The next entity that has events, in order of key bytes; none at the end.
    ///
    /// # Errors
    /// Fails where a data file cannot be read, a field does not have its declared type, or the sort finds no room
    /// to spill to.
    pub async fn next(&mut self) -> Result<Option<EntityEvents>, HistoryError> {
        let mut entity: Option<EntityEvents> = None;
        while let Some((columns, row)) = self.row().await? {
            let key = columns.keys.value(*row);
            let entity = entity
                .get_or_insert_with(|| EntityEvents { key: EntityKey::from_bytes(key), events: vec![] });
            if entity.key.as_bytes() != key {
                break;
            }
            entity.events.push(columns.event(*row));
            *row += 1;
        }
        Ok(entity)
    }

    /// The next row not yet taken.
    async fn row(&mut self) -> Result<Option<&mut (Columns, usize)>, HistoryError> {
        while self.batch.as_ref().is_none_or(|(columns, row)| *row == columns.keys.len()) {
            match self.rows.try_next().await.map_err(Self::failed(&self.view))? {
                None => return Ok(None),
                Some(batch) => self.batch = Some((Columns::new(&batch), 0)),
            }
        }
        Ok(self.batch.as_mut())
    }
}

const KEY: &str = "key";

/// Entity, place and times of an event, then one column per aggregate of the plan.
fn sorted_schema(plan: &FeaturePlan) -> SchemaRef {
    let mut fields = vec![
        Field::new(KEY, DataType::Binary, false),
        Field::new(layout::EVENT_TIME, data_type(Type::Timestamp), false),
        Field::new(layout::LOG, DataType::Int32, false),
        Field::new(layout::OFFSET, DataType::Int64, false),
        Field::new(layout::ARRIVAL_TIME, data_type(Type::Timestamp), false),
    ];
    let input =
        |aggregate: &tidemark_kernel::plan::Aggregate| aggregate.input.as_ref().map_or(Type::Bool, |i| i.ty);
    let inputs = plan.aggregates.iter().enumerate();
    fields.extend(
        inputs.map(|(at, aggregate)| Field::new(format!("input{at}"), data_type(input(aggregate)), true)),
    );
    Arc::new(Schema::new(fields))
}

/// The columns of the data files that the plan needs.
fn stored_columns(table: &EventTable, plan: &FeaturePlan) -> Schema {
    let stored = layout::stored(table.schema());
    let system = [layout::EVENT_TIME, layout::LOG, layout::OFFSET, layout::ARRIVAL_TIME];
    let names = plan.fields.iter().map(|field| field.name.as_str()).chain(system);
    // A field that the table lacks is reported by the evaluator, by name.
    Schema::new(names.filter_map(|name| stored.field_with_name(name).ok().cloned()).collect::<Vec<_>>())
}

/// Deals files to at most `hands` parts, none of them empty.
fn deal(files: Vec<String>, hands: usize) -> Vec<Vec<String>> {
    let mut parts = vec![Vec::new(); hands.clamp(1, files.len().max(1))];
    let count = parts.len();
    files.into_iter().enumerate().for_each(|(at, file)| parts[at % count].push(file));
    parts
}

/// The rows of all parts in order. Parts are read and sorted side by side; what does not fit into the memory given is spilled to
/// temporary files.
fn sorted(
    schema: &SchemaRef,
    parts: Vec<Arc<dyn PartitionStream>>,
    effort: Effort,
) -> Result<SendableRecordBatchStream, DataFusionError> {
    let column = |name| Ok(PhysicalSortExpr::new_default(col(name, schema)?).asc().nulls_last());
    let order = [KEY, layout::EVENT_TIME, layout::LOG, layout::OFFSET].map(column);
    let order = LexOrdering::new(order.into_iter().collect::<Result<Vec<_>, DataFusionError>>()?);
    let order = order.ok_or_else(|| DataFusionError::Internal("no columns to sort by".into()))?;
    let rows = StreamingTableExec::try_new(Arc::clone(schema), parts, None, [], false, None)?;
    let rows = SortExec::new(order.clone(), Arc::new(rows)).with_preserve_partitioning(true);
    let rows = SortPreservingMergeExec::new(order, Arc::new(rows));
    let memory = Arc::new(FairSpillPool::new(effort.memory));
    let runtime = RuntimeEnvBuilder::new().with_memory_pool(memory).build_arc()?;
    rows.execute(0, Arc::new(TaskContext::default().with_runtime(runtime)))
}

/// Some of the data files, evaluated.
struct Part {
    storage: Arc<dyn Storage>,
    files: Vec<String>,
    stored: SchemaRef,
    schema: SchemaRef,
    evaluator: Arc<ViewEvaluator>,
    wanted: Option<Arc<BTreeSet<EntityKey>>>,
    read: Arc<AtomicU64>,
    times: Arc<Mutex<Option<TimeRange>>>,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("files", &self.files).finish_non_exhaustive()
    }
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (storage, stored) = (Arc::clone(&self.storage), Arc::clone(&self.stored));
        let rows = stream::iter(self.files.clone())
            .then(move |file| read_in_order(Arc::clone(&storage), file, Arc::clone(&stored)));
        let (evaluator, wanted) = (Arc::clone(&self.evaluator), self.wanted.clone());
        let (schema, read) = (Arc::clone(&self.schema), Arc::clone(&self.read));
        let times = Arc::clone(&self.times);
        let rows = rows.try_flatten().map(move |batch| {
            let batch = batch.map_err(|error| DataFusionError::External(Box::new(error)))?;
            let batch = layout::from_stored(&batch)?;
            read.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            widen_to(&times, &batch);
            let seen =
                evaluator.evaluate(&batch).map_err(|error| DataFusionError::External(Box::new(error)))?;
            Ok(kept(&schema, &batch, &seen, wanted.as_deref())?)
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows.boxed()))
    }
}

/// Widens a range of event times to those of a batch.
fn widen_to(times: &Mutex<Option<TimeRange>>, batch: &RecordBatch) {
    let column = batch.column_by_name(layout::EVENT_TIME);
    let column = column.and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>());
    let Some((first, last)) = column.and_then(|column| Some((min(column)?, max(column)?))) else { return };
    let (start, end) = (Time::from_millis(first), Time::from_millis(last).next());
    let mut times = times.lock();
    let known = times.unwrap_or(TimeRange { start, end });
    *times = Some(TimeRange { start: known.start.min(start), end: known.end.max(end) });
}

/// The rows that the view sees and a label asks about, with the columns of `schema`.
fn kept(
    schema: &SchemaRef,
    batch: &RecordBatch,
    seen: &ViewRows,
    wanted: Option<&BTreeSet<EntityKey>>,
) -> Result<RecordBatch, ArrowError> {
    let is_wanted = |key: &EntityKey| wanted.is_none_or(|wanted| wanted.contains(key));
    let kept: Vec<usize> = (0..seen.rows.len()).filter(|at| is_wanted(&seen.keys[*at])).collect();
    let of_seen = UInt64Array::from_iter_values(kept.iter().map(|at| *at as u64));
    let of_batch = UInt64Array::from_iter_values(kept.iter().map(|at| seen.rows[*at] as u64));
    let keys = BinaryArray::from_iter_values(kept.iter().map(|at| seen.keys[*at].as_bytes()));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(keys)];
    for name in [layout::EVENT_TIME, layout::LOG, layout::OFFSET, layout::ARRIVAL_TIME] {
        columns.push(take(batch.column(batch.schema().index_of(name)?), &of_batch, None)?);
    }
    for input in &seen.inputs {
        columns.push(take(input, &of_seen, None)?);
    }
    RecordBatch::try_new(Arc::clone(schema), columns)
}

/// The columns of a sorted batch, by their types.
struct Columns {
    keys: BinaryArray,
    event_times: arrow::array::TimestampMillisecondArray,
    partitions: arrow::array::Int32Array,
    offsets: arrow::array::Int64Array,
    arrival_times: arrow::array::TimestampMillisecondArray,
    inputs: Vec<ArrayRef>,
}

impl Columns {
    /// The columns of a batch of [`sorted_schema`].
    fn new(batch: &RecordBatch) -> Self {
        Self {
            keys: batch.column(0).as_binary().clone(),
            event_times: batch.column(1).as_primitive::<TimestampMillisecondType>().clone(),
            partitions: batch.column(2).as_primitive::<Int32Type>().clone(),
            offsets: batch.column(3).as_primitive::<Int64Type>().clone(),
            arrival_times: batch.column(4).as_primitive::<TimestampMillisecondType>().clone(),
            inputs: batch.columns()[5..].to_vec(),
        }
    }

    fn event(&self, row: usize) -> Event {
        let stamp = Stamp {
            partition: Partition(self.partitions.value(row)),
            offset: self.offsets.value(row),
            event_time: Time::from_millis(self.event_times.value(row)),
            arrival_time: Time::from_millis(self.arrival_times.value(row)),
        };
        Event { stamp, inputs: self.inputs.iter().map(|input| value_at(input, row)).collect() }
    }
}
