//! The traits through which ingestion uses event tables: of the storage that holds them, and of one table.
//!
//! [`Location`] and [`EventTable`] implement them on disk. The simulation (`tests/simulation`) has another, in memory,
//! which follows the same rules and adds faults.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tidemark_kernel::{Partition, SourcePlan, Time};

use crate::location::Location;
use crate::table::compact::{CompactOptions, Compacted};
use crate::table::{
    Committed, Epochs, EventTable, PartitionStatistics, Places, Positions, Properties, Retraction, Rows,
    TableError,
};

/// Which table of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableKind {
    /// Every accepted event.
    Events,
    /// Every rejected record.
    DeadLetters,
}

/// The place where the event tables of a project are kept.
#[async_trait]
pub trait OfflineStore: Send + Sync + Debug {
    /// Opens a source's table to write. Creates it, or adds columns for fields that the source has gained.
    ///
    /// # Errors
    /// Those of [`EventTable::open_or_create`].
    async fn open_or_create(
        &self,
        source: &SourcePlan,
        kind: TableKind,
    ) -> Result<Box<dyn OfflineTable>, TableError>;

    /// Opens a source's table as it is.
    ///
    /// # Errors
    /// Those of [`EventTable::open`].
    async fn open(&self, source: &SourcePlan, kind: TableKind) -> Result<Box<dyn OfflineTable>, TableError>;
}

/// A handle on one event table. [`EventTable`] says what each method does, and what it fails with.
#[async_trait]
#[expect(missing_docs, reason = "each method is documented at `EventTable`, under the same name")]
pub trait OfflineTable: Send + Sync + Debug {
    fn folder(&self) -> &Path;
    fn schema(&self) -> &SchemaRef;
    fn positions(&self) -> &Positions;
    fn properties(&self) -> &Properties;
    fn work_under(&mut self, source_version: String);
    fn scan(&self, columns: &[&str], from: &Positions, to: &Positions) -> Result<Rows, TableError>;
    fn scan_since(&self, columns: &[&str], partition: Partition, since: Time) -> Result<Rows, TableError>;
    async fn reload(&mut self) -> Result<(), TableError>;
    async fn append(
        &mut self,
        rows: &[RecordBatch],
        from: &Positions,
        to: &Positions,
        epochs: Option<&Epochs>,
    ) -> Result<Committed, TableError>;
    async fn epochs(&self, partitions: &[Partition]) -> Result<Epochs, TableError>;
    async fn append_unmoved(&mut self, rows: &[RecordBatch]) -> Result<bool, TableError>;
    async fn set_properties(&mut self, expected: &Properties, new: &Properties) -> Result<(), TableError>;
    async fn start_partitions(&mut self, starts: &Positions) -> Result<(), TableError>;
    async fn begin(
        &mut self,
        expected: &Properties,
        new: &Properties,
        starts: &Positions,
    ) -> Result<(), TableError>;
    async fn check_source(&mut self) -> Result<(), TableError>;
    async fn take_back(&mut self, to: &Positions, properties: &Properties) -> Result<bool, TableError>;
    async fn remove(&mut self, places: &Places, except: &[&str]) -> Result<u64, TableError>;
    async fn retract(&mut self, retraction: Retraction) -> Result<Option<u64>, TableError>;
    async fn partition_statistics(&self) -> Result<BTreeMap<Partition, PartitionStatistics>, TableError>;
    async fn recent(&self, since: Time) -> Result<BTreeMap<Partition, u64>, TableError>;
    async fn compact(&mut self, options: CompactOptions) -> Result<Compacted, TableError>;
    /// How many files were removed.
    async fn vacuum(&mut self, older_than: Time) -> Result<usize, TableError>;
}

#[async_trait]
impl OfflineStore for Location {
    async fn open_or_create(
        &self,
        source: &SourcePlan,
        kind: TableKind,
    ) -> Result<Box<dyn OfflineTable>, TableError> {
        Ok(Box::new(match kind {
            TableKind::Events => EventTable::open_or_create(self, source).await?,
            TableKind::DeadLetters => EventTable::open_or_create_dead_letters(self, source).await?,
        }))
    }

    async fn open(&self, source: &SourcePlan, kind: TableKind) -> Result<Box<dyn OfflineTable>, TableError> {
        Ok(Box::new(match kind {
            TableKind::Events => EventTable::open(self, source).await?,
            TableKind::DeadLetters => EventTable::open_dead_letters(self, source).await?,
        }))
    }
}

#[async_trait]
impl OfflineTable for EventTable {
    fn folder(&self) -> &Path {
        self.folder()
    }
    fn schema(&self) -> &SchemaRef {
        self.schema()
    }
    fn positions(&self) -> &Positions {
        self.positions()
    }
    fn properties(&self) -> &Properties {
        self.properties()
    }
    fn work_under(&mut self, source_version: String) {
        self.work_under(source_version);
    }
    fn scan(&self, columns: &[&str], from: &Positions, to: &Positions) -> Result<Rows, TableError> {
        self.scan(columns, from, to)
    }
    fn scan_since(&self, columns: &[&str], partition: Partition, since: Time) -> Result<Rows, TableError> {
        self.scan_since(columns, partition, since)
    }
    async fn reload(&mut self) -> Result<(), TableError> {
        self.reload().await
    }
    async fn append(
        &mut self,
        rows: &[RecordBatch],
        from: &Positions,
        to: &Positions,
        epochs: Option<&Epochs>,
    ) -> Result<Committed, TableError> {
        self.append(rows, from, to, epochs).await
    }
    async fn epochs(&self, partitions: &[Partition]) -> Result<Epochs, TableError> {
        self.epochs(partitions).await
    }
    async fn append_unmoved(&mut self, rows: &[RecordBatch]) -> Result<bool, TableError> {
        self.append_unmoved(rows).await
    }
    async fn set_properties(&mut self, expected: &Properties, new: &Properties) -> Result<(), TableError> {
        self.set_properties(expected, new).await
    }
    async fn start_partitions(&mut self, starts: &Positions) -> Result<(), TableError> {
        self.start_partitions(starts).await
    }
    async fn begin(
        &mut self,
        expected: &Properties,
        new: &Properties,
        starts: &Positions,
    ) -> Result<(), TableError> {
        self.begin(expected, new, starts).await
    }
    async fn check_source(&mut self) -> Result<(), TableError> {
        self.check_source().await
    }
    async fn take_back(&mut self, to: &Positions, properties: &Properties) -> Result<bool, TableError> {
        self.take_back(to, properties).await
    }
    async fn remove(&mut self, places: &Places, except: &[&str]) -> Result<u64, TableError> {
        self.remove(places, except).await
    }
    async fn retract(&mut self, retraction: Retraction) -> Result<Option<u64>, TableError> {
        self.retract(retraction).await
    }
    async fn partition_statistics(&self) -> Result<BTreeMap<Partition, PartitionStatistics>, TableError> {
        self.partition_statistics().await
    }
    async fn recent(&self, since: Time) -> Result<BTreeMap<Partition, u64>, TableError> {
        self.recent(since).await
    }
    async fn compact(&mut self, options: CompactOptions) -> Result<Compacted, TableError> {
        self.compact(options).await
    }
    async fn vacuum(&mut self, older_than: Time) -> Result<usize, TableError> {
        Ok(self.vacuum(older_than).await?.len())
    }
}
