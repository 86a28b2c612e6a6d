//! Schema changes: which changes of a source's definition are incompatible with its stored events.
//!
//! Only the rows that exist restrict a definition, not what was declared before. So a type can change where no row has
//! the column, and the column of a field that is no longer declared stays.

use std::collections::BTreeSet;
use std::fmt;

use deltalake_core::kernel::StructField;
use tidemark_kernel::{Partition, SourcePlan, Type};

use super::log::TableLog;
use super::statistics::{self, Partitions};
use super::storage::Storage;
use super::{DataFile, EventTable, TableError, layout, properties, read};
use crate::location::Location;

/// What the stored events of a source need of its definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The declared fields that rows hold as another type.
    pub fields: Vec<HeldField>,
    /// The topic whose positions the table has; none where no topic was ever read.
    pub topic: Option<String>,
}

/// A field that rows hold as another type than it is declared as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldField {
    /// Its name.
    pub field: String,
    /// The type that rows have.
    pub stored: Type,
    /// The type that is declared.
    pub declared: Type,
    /// How many rows have it, null or not.
    pub rows: u64,
    /// Where they are: for each partition, the least and the greatest offset.
    pub places: Vec<(Partition, i64, i64)>,
}

impl HeldField {
    /// Where the rows are: `partition file offsets 0 to 11`; empty where that is not known.
    #[must_use]
    pub fn place(&self) -> String {
        let place = |(partition, first, last): &(Partition, i64, i64)| match last == first {
            true => format!("partition {partition} offset {first}"),
            false => format!("partition {partition} offsets {first} to {last}"),
        };
        self.places.iter().map(place).collect::<Vec<_>>().join(", ")
    }
}

/// ``field `qty` is declared as float64, but 1 row holds it as int64 (partition file offset 0)``
impl fmt::Display for HeldField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, stored, declared, rows, .. } = self;
        write!(f, "field `{field}` is declared as {declared}, but ")?;
        match rows {
            0 => return write!(f, "by now the column is {stored}"),
            1 => write!(f, "1 row holds it as {stored}")?,
            rows => write!(f, "{rows} rows hold it as {stored}")?,
        }
        match self.place() {
            place if place.is_empty() => Ok(()),
            place => write!(f, " ({place})"),
        }
    }
}

impl EventTable {
    /// What the `events` of a source need of this definition of it; nothing where there is no table yet.
    ///
    /// # Errors
    /// Fails where a newer version wrote the table, or it cannot be read.
    pub async fn held(location: &Location, source: &SourcePlan) -> Result<Held, TableError> {
        let storage = location.table(&source.name, "events");
        let Some(log) = TableLog::open(&storage, &source.name).await? else { return Ok(Held::default()) };
        let table = Self::new(layout::events(source), log);
        let topic = table.properties().get(properties::TOPIC);
        let topic = topic.and_then(|topic| topic.split(' ').next()).map(str::to_owned);
        Ok(Held { fields: table.held_fields().await?, topic })
    }

    /// Whether no row holds a column as another type than ours.
    pub(super) async fn check_types(&self) -> Result<(), TableError> {
        match self.held_fields().await?.into_iter().next() {
            Some(held) => Err(TableError::Retyped { path: self.folder().to_owned(), held }),
            None => Ok(()),
        }
    }

    /// Whether the columns still have our types: another process may have given them others, as newer definitions say.
    pub(super) async fn check_columns(&self) -> Result<(), TableError> {
        let Some(field) = self.retyped()?.into_iter().next() else { return Ok(()) };
        let held = self.held_field(&field).await?;
        Err(TableError::Retyped { path: self.folder().to_owned(), held })
    }

    fn retyped(&self) -> Result<Vec<StructField>, TableError> {
        Ok(layout::compare(&self.log.columns()?, &self.schema).retyped)
    }

    async fn held_fields(&self) -> Result<Vec<HeldField>, TableError> {
        let mut fields = Vec::new();
        for field in self.retyped()? {
            fields.push(self.held_field(&field).await?);
        }
        fields.retain(|held| held.rows > 0);
        Ok(fields)
    }

    /// The rows of the files that have this column, whatever is in it: a reader of the table finds it there.
    async fn held_field(&self, ours: &StructField) -> Result<HeldField, TableError> {
        let columns = self.log.columns()?;
        let stored = columns.field(ours.name()).and_then(|field| layout::type_of(field.data_type()));
        let (mut rows, mut partitions) = (0, Partitions::new());
        for file in self.files()? {
            let held = rows_with(&**self.storage(), &file, ours.name()).await?;
            if held > 0 {
                rows += held;
                statistics::merge(&mut partitions, file.partitions.as_ref().unwrap_or(&Partitions::new()));
            }
        }
        Ok(HeldField {
            field: ours.name().clone(),
            // A column that no field can have is none that a field was stored in.
            stored: stored.unwrap_or(Type::Bytes),
            declared: layout::type_of(ours.data_type()).unwrap_or(Type::Bytes),
            rows,
            places: partitions.iter().map(|(partition, held)| (*partition, held.first, held.last)).collect(),
        })
    }
}

/// How many rows of a data file have a column; 0 where the file was written without it.
async fn rows_with(storage: &dyn Storage, file: &DataFile, column: &str) -> Result<u64, TableError> {
    let (columns, rows) = written(storage, file).await?;
    Ok(if columns.contains(column) { rows } else { 0 })
}

/// The columns that a data file was written with, and how many rows it has.
pub(super) async fn written(
    storage: &dyn Storage,
    file: &DataFile,
) -> Result<(BTreeSet<String>, u64), TableError> {
    let opened = read::open(storage, &file.name).await?;
    let metadata = opened.metadata().file_metadata();
    let columns = metadata.schema_descr().columns().iter().map(|column| column.name().to_owned());
    Ok((columns.collect(), metadata.num_rows().max(0).unsigned_abs()))
}
