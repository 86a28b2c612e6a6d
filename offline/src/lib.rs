//! Event tables and the training-set engine.
//!
//! * [`table`]: per source `events` and `dead_letters`, Parquet under Delta Lake: the source of truth, from which
//!   everything else can be rebuilt. Rows and the positions of the partitions they came from are committed together.
//! * [`input`]: files of events and of labels, in the formats that users have.
//! * [`history`]: a table's events as one view sees them, entity by entity, in bounded memory.
//! * [`training`]: label files in, training sets out. What a value *is* comes from `tidemark_kernel::replay`,
//!   called in `training::answers` and nowhere else.
//!
//! This crate must never contain an aggregate of its own, a clock, or anything of Redis. Types of Delta stay inside
//! [`table`].
//!
//! [`OfflineStore`] and [`OfflineTable`] are the traits through which ingestion uses this crate.
//!
//! Reading order: [`location`], [`table::layout`], [`table`], [`history`], [`training`].

mod contract;
pub mod history;
pub mod input;
pub mod location;
mod parquet_file;
pub mod table;
pub mod training;

pub use contract::{OfflineStore, OfflineTable, TableKind};
pub use history::{Effort, EntityEvents, History, HistoryError};
pub use location::Location;
pub use parquet_file::parquet_write_error;
pub use table::compact::{CompactOptions, Compacted};
pub use table::{
    Committed, Epoch, Epochs, EventTable, Held, HeldField, PartitionStatistics, Places, Positions,
    Properties, Retraction, TableError,
};
/// Where files are written, here and in other crates; [`TableError`] and [`TrainError`] hold its errors.
pub use tidemark_host::durable;
pub use training::{
    LabelSource, Progress, Summary, TrainError, TrainRequest, TrainingSet, label_files, train,
};
