//! Ingestion: reads partitions and brings each event exactly once into the online store and the event tables.
//!
//! Whether a record is an event ([`decode`]) depends on the record and its source alone. A batch of one partition then
//! goes through every view of the source into the online store, at once, and with the next large commit into the event
//! tables. Progress is stored only as positions, which each of both keeps together with its data: each skips what it
//! already has, and so a crash at any instant loses nothing and doubles nothing.
//!
//! Reading order: [`decode`]; [`journal`] (what the file partition and the push partition are made of), [`files`], [`push`];
//! [`feed`] (the topic of a source) and [`kafka`] (a topic as partitions); then `apply` (the one place that touches the kernel's states), `view` (the protocol
//! with the online store), `tables` (the one with the event tables), `backfill` (a view from history), `division` (which
//! partitions of it a worker does), `pipeline` (one source), `room` (how much of it is on its way to its views), `memory` (how
//! much all of that may hold), [`tally`] (what became of its records), [`letters`] (those that were rejected, read back),
//! [`health`] (what it waits for); last [`Ingest`], the public interface, and [`monitor`] (health and metrics over
//! HTTP).
//!
//! This crate must never contain an aggregate of its own, and reads no clock but the one it is given.

mod apply;
mod backfill;
pub mod decode;
mod division;
pub mod error;
pub mod feed;
pub mod files;
pub mod health;
mod ingest;
pub mod journal;
pub mod kafka;
pub mod letters;
mod maintenance;
mod memory;
pub mod metrics;
pub mod monitor;
#[cfg(feature = "mutants")]
pub mod mutant;
#[cfg(not(feature = "mutants"))]
#[expect(unreachable_pub, reason = "it is public where the simulation is built")]
mod mutant;
mod pipeline;
pub mod progress;
pub mod push;
mod room;
pub mod status;
mod tables;
pub mod tally;
mod view;

#[cfg(test)]
mod tests;

pub use error::IngestError;
pub use feed::{SourceFeed, TopicFeed};
pub use files::{Changed, Earlier, EarlierKind};
pub use health::{Ahead, Condition, Health};
pub use ingest::{Ingest, IngestConfig, IngestHandle};
pub use journal::files::Records;
pub use kafka::{KafkaConfig, Topics};
pub use memory::Memory;
pub use metrics::Metrics;
pub use pipeline::retract::{Retract, TakenBack};
pub use pipeline::retry::Retried;
pub use pipeline::take_in::{FileOutcome, FileReport, FilesReport};
pub use progress::{Progress, Task, Watch, unwatched};
pub use push::PushPartition;
pub use room::Room;
pub use status::Status;
pub use tables::CommitRule;
pub use tally::Tally;
pub use view::{Advance, ViewWriter};
