//! Event tables in memory, with the semantics of the real ones: a commit holds rows and positions, and loses against any
//! other that came first.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema, SchemaRef, TimestampMillisecondType};
use async_trait::async_trait;
use futures::stream::{self, StreamExt};
use parking_lot::Mutex;
use tidemark_kernel::value::arrow::data_type;
use tidemark_kernel::{Partition, Position, PositionRange, SourcePlan, Time, Type};
use tidemark_offline::durable::FileError;
use tidemark_offline::table::retract::{retracted, retractions, with_retraction};
use tidemark_offline::table::{Rows, layout, properties};
use tidemark_offline::{
    Committed, CompactOptions, Compacted, Epochs, HeldField, OfflineStore, OfflineTable, PartitionStatistics,
    Places, Positions, Properties, Retraction, TableError, TableKind,
};

use crate::mutant::Mutant;
use crate::world::World;

/// Every table, by source and kind.
type Tables = BTreeMap<(String, TableKind), Arc<Version>>;

/// The disk that all processes share.
#[derive(Clone, Debug)]
pub(crate) struct Offline {
    world: Arc<World>,
    tables: Arc<Mutex<Tables>>,
}

/// One version of a table.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    number: u64,
    schema: SchemaRef,
    rows: Vec<RecordBatch>,
    pub(crate) positions: Positions,
    epochs: Epochs,
    properties: Properties,
}

impl Version {
    /// The rows in commit order, with the columns of `schema`; null where they are older than a column.
    pub(crate) fn rows(&self, schema: &SchemaRef) -> Vec<RecordBatch> {
        self.rows.iter().map(|rows| project(rows, schema)).collect()
    }
}

fn project(rows: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let column = |name: &str, ty| -> ArrayRef {
        rows.column_by_name(name).cloned().unwrap_or_else(|| new_null_array(ty, rows.num_rows()))
    };
    let columns = schema.fields().iter().map(|field| column(field.name(), field.data_type()));
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).expect("columns of the schema")
}

impl Offline {
    pub(crate) fn new(world: &Arc<World>) -> Self {
        Self { world: Arc::clone(world), tables: Arc::default() }
    }

    /// What a table holds now, if it exists.
    pub(crate) fn version(&self, source: &str, kind: TableKind) -> Option<Arc<Version>> {
        self.tables.lock().get(&(source.to_owned(), kind)).cloned()
    }

    async fn reach(&self) {
        self.world.pause().await;
        if self.world.weather().tables_slow && self.world.chance(30) {
            self.world.count("table slow");
            self.world.dawdle().await;
        }
    }

    fn room(&self, folder: &Path) -> Result<(), TableError> {
        if self.world.weather().tables_full {
            self.world.count("table full");
            return Err(failed(folder, io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn handle(&self, source: &SourcePlan, kind: TableKind, seen: Arc<Version>) -> Box<dyn OfflineTable> {
        let (key, schema) = ((source.name.clone(), kind), schema(source, kind));
        let folder = folder(source, kind);
        Box::new(Handle { place: self.clone(), key, folder, schema, seen, source_version: None })
    }
}

fn failed(folder: &Path, kind: io::ErrorKind) -> TableError {
    TableError::File(FileError { action: "write to", path: folder.to_owned(), source: kind.into() })
}

fn folder(source: &SourcePlan, kind: TableKind) -> PathBuf {
    PathBuf::from(format!("{}/{kind:?}", source.name))
}

fn schema(source: &SourcePlan, kind: TableKind) -> SchemaRef {
    match kind {
        TableKind::Events => layout::events(source),
        TableKind::DeadLetters => layout::dead_letters(),
    }
}

/// Why a table cannot hold rows of this schema, if it cannot: others have a column as another type.
fn incompatible(path: &Path, rows: &[RecordBatch], declared: &Schema) -> Option<TableError> {
    let retyped = |rows: &RecordBatch| {
        let schema = rows.schema();
        let fields = declared.fields().iter();
        let field = fields.into_iter().find(|field| {
            schema.field_with_name(field.name()).is_ok_and(|stored| stored.data_type() != field.data_type())
        })?;
        let stored = schema.field_with_name(field.name()).expect("a column").data_type().clone();
        Some((field.name().clone(), stored, field.data_type().clone(), rows.num_rows() as u64))
    };
    let (field, stored, declared, rows) = rows.iter().find_map(retyped)?;
    let ty = |ty: &DataType| {
        Type::ALL.into_iter().find(|known| data_type(*known) == *ty).expect("a type of a field")
    };
    let (stored, declared) = (ty(&stored), ty(&declared));
    let held = HeldField { field, stored, declared, rows, places: Vec::new() };
    Some(TableError::Retyped { path: path.to_owned(), held })
}

#[async_trait]
impl OfflineStore for Offline {
    async fn open_or_create(
        &self,
        source: &SourcePlan,
        kind: TableKind,
    ) -> Result<Box<dyn OfflineTable>, TableError> {
        self.reach().await;
        let schema = schema(source, kind);
        let folder = folder(source, kind);
        self.room(&folder)?;
        let mut tables = self.tables.lock();
        let empty = || {
            let (schema, rows) = (Arc::clone(&schema), Vec::new());
            let (positions, epochs, properties) = (Positions::new(), Epochs::new(), Properties::new());
            Arc::new(Version { number: 0, schema, rows, positions, epochs, properties })
        };
        let version = tables.entry((source.name.clone(), kind)).or_insert_with(empty);
        if let Some(error) = incompatible(&folder, &version.rows, &schema) {
            return Err(error);
        }
        if version.schema != schema {
            let number = version.number + 1;
            *version = Arc::new(Version { number, schema, ..(**version).clone() });
        }
        let seen = Arc::clone(version);
        drop(tables);
        Ok(self.handle(source, kind, seen))
    }

    async fn open(&self, source: &SourcePlan, kind: TableKind) -> Result<Box<dyn OfflineTable>, TableError> {
        self.reach().await;
        let folder = folder(source, kind);
        let seen = self.version(&source.name, kind).ok_or_else(|| TableError::Missing(folder.clone()))?;
        match incompatible(&folder, &seen.rows, &schema(source, kind)) {
            Some(error) => Err(error),
            None => Ok(self.handle(source, kind, seen)),
        }
    }
}

#[derive(Debug)]
struct Handle {
    place: Offline,
    key: (String, TableKind),
    folder: PathBuf,
    schema: SchemaRef,
    seen: Arc<Version>,
    source_version: Option<String>,
}

/// What a handle is told of a commit.
enum Reply {
    Committed,
    /// The commit is in, and the handle gets an error.
    Lost,
    /// Another commit came first; nothing was written.
    LostRace,
}

impl Handle {
    /// Commits the next version, if the one that the handle has seen is still the newest.
    async fn commit(&mut self, next: Version) -> Result<bool, TableError> {
        match self.try_commit(next).await? {
            Reply::Committed => Ok(true),
            Reply::LostRace => Ok(false),
            Reply::Lost => Err(failed(&self.folder, io::ErrorKind::TimedOut)),
        }
    }

    /// The same for a commit with a data file: where its reply is lost, and the table can be read, the file tells that it is in.
    async fn commit_file(&mut self, next: Version) -> Result<bool, TableError> {
        match self.try_commit(next).await? {
            Reply::Committed => Ok(true),
            Reply::LostRace => Ok(false),
            Reply::Lost => {
                let error = failed(&self.folder, io::ErrorKind::TimedOut);
                self.reload().await.map(|()| true).map_err(|_| error)
            }
        }
    }

    /// The reply may be lost.
    async fn try_commit(&mut self, next: Version) -> Result<Reply, TableError> {
        self.place.reach().await;
        self.place.room(&self.folder)?;
        let committed;
        {
            let mut tables = self.place.tables.lock();
            let latest = tables.get_mut(&self.key).expect("the table was opened");
            if latest.number != self.seen.number {
                self.place.world.count("commit lost its race");
                return Ok(Reply::LostRace);
            }
            committed = Arc::new(Version { number: latest.number + 1, ..next });
            *latest = Arc::clone(&committed);
        }
        self.place.world.pause().await;
        if self.place.world.chance(self.place.world.weather().failing) {
            self.place.world.fault("table reply lost", &self.folder.to_string_lossy());
            return Ok(Reply::Lost);
        }
        self.seen = committed;
        Ok(Reply::Committed)
    }

    fn next(&self) -> Version {
        (*self.seen).clone()
    }

    fn check(&self, from: &Positions, to: &Positions) -> Result<(), TableError> {
        self.check_version()?;
        let position_in = |positions: &Positions, partition: &Partition| {
            positions.get(partition).copied().unwrap_or(Position::START)
        };
        let is_as_expected = |partition: &Partition| match *partition {
            Partition::RETRACTIONS => retracted(&self.seen.properties) == position_in(from, partition),
            _ => position_in(&self.seen.positions, partition) == position_in(from, partition),
        };
        if self.place.world.mutant == Some(Mutant::UncheckedCommit)
            || from.keys().chain(to.keys()).all(is_as_expected)
        {
            return Ok(());
        }
        Err(self.behind())
    }

    fn behind(&self) -> TableError {
        TableError::Behind { path: self.folder.clone(), positions: self.seen.positions.clone() }
    }

    fn check_version(&self) -> Result<(), TableError> {
        match (&self.source_version, self.seen.properties.get(properties::SOURCE_VERSION)) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                let (path, ours, theirs) = (self.folder.clone(), ours.clone(), theirs.clone());
                Err(TableError::Superseded { path, ours, theirs })
            }
            _ => Ok(()),
        }
    }

    async fn declare(
        &mut self,
        properties: Option<(&Properties, &Properties)>,
        starts: &Positions,
    ) -> Result<(), TableError> {
        loop {
            self.reload().await?;
            match properties {
                Some((expected, _)) if *expected != self.seen.properties => {
                    let (path, properties) = (self.folder.clone(), self.seen.properties.clone());
                    return Err(TableError::OtherProperties { path, properties });
                }
                Some(_) => {}
                None => self.check_version()?,
            }
            if starts.keys().any(|partition| self.seen.positions.contains_key(partition)) {
                return Err(self.behind());
            }
            let mut next = self.next();
            if let Some((_, new)) = properties {
                next.properties = new.clone();
            }
            next.positions.extend(starts);
            if next.properties == self.seen.properties && starts.is_empty() || self.commit(next).await? {
                return Ok(());
            }
        }
    }
}

/// Which rows are of `from <= offset < to` of their partition.
fn within(rows: &RecordBatch, range: impl Fn(Partition) -> PositionRange) -> RecordBatch {
    let partitions = rows.column_by_name(layout::LOG).expect("a column").as_primitive::<Int32Type>();
    let offsets = rows.column_by_name(layout::OFFSET).expect("a column").as_primitive::<Int64Type>();
    let kept = partitions.values().iter().zip(offsets.values());
    let kept = kept.map(|(partition, offset)| range(Partition(*partition)).contains(*offset));
    filter_record_batch(rows, &BooleanArray::from_iter(kept.map(Some))).expect("one flag for each row")
}

/// The rows that are at none of these places, or there for one of the reasons in `except`.
fn without(rows: &RecordBatch, places: &Places, except: &[&str]) -> RecordBatch {
    let reasons = rows.column_by_name(layout::REASON).and_then(|reasons| reasons.as_string_opt::<i32>());
    let stays = |row| reasons.is_some_and(|reasons| except.contains(&reasons.value(row)));
    let partitions = rows.column_by_name(layout::LOG).expect("a column").as_primitive::<Int32Type>();
    let offsets = rows.column_by_name(layout::OFFSET).expect("a column").as_primitive::<Int64Type>();
    let is_gone =
        |partition, offset| places.get(&Partition(partition)).is_some_and(|gone| gone.contains(&offset));
    let rows_kept = partitions.values().iter().zip(offsets.values()).enumerate();
    let kept = rows_kept.map(|(row, (partition, offset))| !is_gone(*partition, *offset) || stays(row));
    filter_record_batch(rows, &BooleanArray::from_iter(kept.map(Some))).expect("one flag for each row")
}

impl Handle {
    /// Some columns of rows, batch by batch.
    fn read(&self, columns: &[&str], rows: impl Iterator<Item = RecordBatch>) -> Rows {
        let indices: Vec<usize> = match columns {
            [] => (0..self.schema.fields().len()).collect(),
            names => names.iter().map(|name| self.schema.index_of(name).expect("a column")).collect(),
        };
        let rows = rows.filter(|rows| rows.num_rows() > 0);
        let rows: Vec<RecordBatch> = rows.map(|rows| rows.project(&indices).expect("columns")).collect();
        let place = self.place.clone();
        let rows = stream::iter(rows).then(move |rows| {
            let place = place.clone();
            async move {
                place.reach().await;
                Ok(rows)
            }
        });
        rows.boxed()
    }
}

#[async_trait]
impl OfflineTable for Handle {
    fn folder(&self) -> &Path {
        &self.folder
    }

    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn positions(&self) -> &Positions {
        &self.seen.positions
    }

    fn properties(&self) -> &Properties {
        &self.seen.properties
    }

    fn work_under(&mut self, source_version: String) {
        self.source_version = Some(source_version);
    }

    fn scan(&self, columns: &[&str], from: &Positions, to: &Positions) -> Result<Rows, TableError> {
        let position_in =
            |positions: &Positions, partition| positions.get(&partition).copied().unwrap_or(Position::START);
        let rows = self.seen.rows(&self.schema).into_iter();
        let rows = rows.map(|rows| {
            within(&rows, |partition| PositionRange {
                start: position_in(from, partition),
                end: position_in(to, partition),
            })
        });
        Ok(self.read(columns, rows))
    }

    fn scan_since(&self, columns: &[&str], partition: Partition, since: Time) -> Result<Rows, TableError> {
        let rows = self.seen.rows(&self.schema).into_iter().map(|rows| {
            let of_partition = within(&rows, |other| {
                let end = if other == partition { Position::UNBOUNDED } else { Position::START };
                PositionRange { start: Position::START, end }
            });
            let arrivals = of_partition.column_by_name(layout::ARRIVAL_TIME).expect("a column");
            let arrivals = arrivals.as_primitive::<TimestampMillisecondType>();
            let later = arrivals.values().iter().map(|arrival| Some(*arrival > since.millis()));
            filter_record_batch(&of_partition, &later.collect()).expect("one flag for each row")
        });
        Ok(self.read(columns, rows))
    }

    async fn reload(&mut self) -> Result<(), TableError> {
        self.place.reach().await;
        if self.place.world.chance(self.place.world.weather().failing) {
            self.place.world.fault("table unreadable", &self.folder.to_string_lossy());
            return Err(failed(&self.folder, io::ErrorKind::TimedOut));
        }
        self.seen = self.place.version(&self.key.0, self.key.1).expect("the table was opened");
        Ok(())
    }

    async fn epochs(&self, partitions: &[Partition]) -> Result<Epochs, TableError> {
        let known = self.seen.epochs.iter().filter(|(partition, _)| partitions.contains(partition));
        Ok(known.map(|(partition, epoch)| (*partition, *epoch)).collect())
    }

    async fn append(
        &mut self,
        rows: &[RecordBatch],
        from: &Positions,
        to: &Positions,
        epochs: Option<&Epochs>,
    ) -> Result<Committed, TableError> {
        self.check(from, to)?;
        let count = rows.iter().map(RecordBatch::num_rows).sum();
        loop {
            let mut next = self.next();
            next.rows.extend(rows.iter().filter(|rows| rows.num_rows() > 0).cloned());
            next.positions.extend(to);
            next.epochs.extend(epochs.into_iter().flatten());
            let is_in = if count > 0 { self.commit_file(next).await? } else { self.commit(next).await? };
            if is_in {
                return Ok(Committed { version: self.seen.number, rows: count });
            }
            self.reload().await?;
            self.check(from, to)?;
        }
    }

    async fn append_unmoved(&mut self, rows: &[RecordBatch]) -> Result<bool, TableError> {
        self.check_version()?;
        let mut next = self.next();
        next.rows.extend(rows.iter().cloned());
        self.commit_file(next).await
    }

    async fn set_properties(&mut self, expected: &Properties, new: &Properties) -> Result<(), TableError> {
        self.declare(Some((expected, new)), &Positions::new()).await
    }

    async fn start_partitions(&mut self, starts: &Positions) -> Result<(), TableError> {
        self.declare(None, starts).await
    }

    async fn begin(
        &mut self,
        expected: &Properties,
        new: &Properties,
        starts: &Positions,
    ) -> Result<(), TableError> {
        self.declare(Some((expected, new)), starts).await
    }

    async fn check_source(&mut self) -> Result<(), TableError> {
        self.reload().await?;
        self.check_version()
    }

    async fn take_back(&mut self, to: &Positions, properties: &Properties) -> Result<bool, TableError> {
        let end = |partition: Partition| to.get(&partition).copied().unwrap_or(Position::START);
        let mut next = self.next();
        next.properties = properties.clone();
        for (partition, position) in &mut next.positions {
            *position = end(*partition).min(*position);
        }
        let keep = next.positions.clone();
        let end = |partition: Partition| keep.get(&partition).copied().unwrap_or(Position::UNBOUNDED);
        let range = |partition: Partition| PositionRange { start: Position::START, end: end(partition) };
        next.rows = next.rows.iter().map(|rows| within(rows, range)).collect();
        self.commit(next).await
    }

    async fn remove(&mut self, places: &Places, except: &[&str]) -> Result<u64, TableError> {
        loop {
            self.reload().await?;
            let mut next = self.next();
            next.rows = next.rows.iter().map(|rows| without(rows, places, except)).collect();
            let count = |rows: &[RecordBatch]| rows.iter().map(|rows| rows.num_rows() as u64).sum::<u64>();
            let removed = count(&self.seen.rows) - count(&next.rows);
            if removed == 0 || self.commit(next).await? {
                return Ok(removed);
            }
        }
    }

    async fn retract(&mut self, retraction: Retraction) -> Result<Option<u64>, TableError> {
        loop {
            self.reload().await?;
            let known = retractions(&self.seen.properties).expect("properties that this program has written");
            if known.contains(&retraction) {
                return Ok(None);
            }
            let mut next = self.next();
            let count = |rows: &[RecordBatch]| rows.iter().map(RecordBatch::num_rows).sum::<usize>();
            let before = count(&next.rows);
            let rest = next.rows.iter().map(|rows| retraction.without(rows).expect("columns"));
            next.rows = rest.collect();
            next.properties = with_retraction(&next.properties, &retraction);
            let removed = before - count(&next.rows);
            if self.commit(next).await? {
                return Ok(Some(removed as u64));
            }
        }
    }

    async fn partition_statistics(&self) -> Result<BTreeMap<Partition, PartitionStatistics>, TableError> {
        let mut held = BTreeMap::<Partition, PartitionStatistics>::new();
        for rows in self.seen.rows(&self.schema) {
            let numbers = |name: &str| rows.column_by_name(name).expect("a column").clone();
            let (partitions, offsets) = (numbers(layout::LOG), numbers(layout::OFFSET));
            let (event, arrival) = (numbers(layout::EVENT_TIME), numbers(layout::ARRIVAL_TIME));
            let millis = |times: &ArrayRef, row| {
                Some(Time::from_millis(times.as_primitive::<TimestampMillisecondType>().value(row)))
            };
            for row in 0..rows.num_rows() {
                let partition = Partition(partitions.as_primitive::<Int32Type>().value(row));
                let offset = offsets.as_primitive::<Int64Type>().value(row);
                let (newest_event, newest_arrival) = (millis(&event, row), millis(&arrival, row));
                let row = PartitionStatistics {
                    rows: 1,
                    first: offset,
                    last: offset,
                    newest_event,
                    newest_arrival,
                };
                held.entry(partition).and_modify(|held| held.merge(&row)).or_insert(row);
            }
        }
        Ok(held)
    }

    async fn recent(&self, _: Time) -> Result<BTreeMap<Partition, u64>, TableError> {
        Ok(BTreeMap::new())
    }

    async fn compact(&mut self, _: CompactOptions) -> Result<Compacted, TableError> {
        Ok(Compacted::default())
    }

    async fn vacuum(&mut self, _: Time) -> Result<usize, TableError> {
        Ok(0)
    }
}
