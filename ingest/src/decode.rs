//! Decoding: from raw rows to events and dead letters.
//!
//! A format reads rows into a [`Chunk`]: the source's declared fields in the kernel's Arrow types, each by its own name
//! or from where the source says. Payloads are read by a [`Decoder`] ([`json`], [`csv`]), straight into
//! the columns; [`parquet`] has columns from the start. A value is converted by one
//! [table](tidemark_kernel::value::convert) for all formats; a value that its field cannot hold makes its row a dead
//! letter. [`Chunk::accept`] then asks the source, row by row, which of them are events. Reading and accepting depend
//! on nothing but the record, its receipt and the source: every reader of a partition decides the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, cast::AsArray};
use arrow::compute::concat_batches;
use arrow::error::ArrowError;
use tidemark_kernel::event::Offset;
use tidemark_kernel::{Partition, Position, Time};
use tidemark_offline::Epoch;
use tidemark_offline::table::layout;

mod accept;
mod builder;
mod cause;
pub(crate) mod cells;
mod columns;
pub mod csv;
pub mod decoder;
pub(crate) mod folders;
pub mod form;
pub mod json;
mod lines;
mod members;
pub mod parquet;
pub(crate) mod rows;
pub(crate) mod spelled;
#[cfg(test)]
mod tests;

pub(crate) use builder::Cell;
pub use builder::ColumnsBuilder;
pub use columns::ColumnsError;
pub use decoder::Decoder;
pub use form::{Form, Forms};
pub(crate) use lines::LONGEST;
pub(crate) use rows::RowsBuilder;

/// The members that records of a source are taken from.
#[cfg(test)]
pub(crate) fn members(source: &tidemark_kernel::SourcePlan) -> members::Members {
    members::Members::of(source)
}

/// How many bytes make a batch, however few rows they are: large records must not cost the machine's memory.
pub(crate) const BATCH_BYTES: usize = 16 << 20;

/// The [`DeadLetter::code`] of the rest of a file that was given up.
pub(crate) const GIVEN_UP: &str = "given_up";

/// The [`DeadLetter::code`] of an entry of the file partition that takes records back.
pub(crate) const RETRACTED: &str = "retracted";

/// The [`DeadLetter::code`] of records that were gone from Kafka before they were read.
pub(crate) const LOST: &str = "lost";

/// A record that is no event, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place in its partition, which it takes up like an event.
    pub offset: Offset,
    /// A short stable name of the reason: [`Rejection::code`](tidemark_kernel::source::Rejection::code).
    pub code: &'static str,
    /// The reason, for people.
    pub reason: String,
    /// Where it came from: `file.jsonl:17`, `push 123`, `topic/3@456`.
    pub place: String,
    /// What was received.
    pub raw: Vec<u8>,
    /// How these bytes are read, with the key and headers received with them; none where no record was read.
    pub form: Option<Form>,
    /// The record's own timestamp, where it has one.
    pub record_time: Option<Time>,
}

impl DeadLetter {
    /// Whether it is a record that was read. One that was not read represents any number of records, which were
    /// passed over or taken back because the user asked for it.
    #[must_use]
    pub fn is_record(&self) -> bool {
        ![GIVEN_UP, LOST, RETRACTED].contains(&self.code)
    }
}

/// A run of one partition, decoded and decided.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The partition.
    pub partition: Partition,
    /// The position of its first record.
    pub from: Position,
    /// The position after its last record.
    pub to: Position,
    /// The events, in order of offset, with the columns of the event table.
    pub events: RecordBatch,
    /// The other records, in order of offset.
    pub dead: Vec<DeadLetter>,
    /// The leader epoch of the last record that was read of a partition of a topic up to `to`, which may be one before `from`;
    /// none where the brokers tell none, and for other partitions.
    pub epoch: Option<Epoch>,
}

impl Batch {
    /// The offsets of the events.
    #[must_use]
    pub fn offsets(&self) -> &[Offset] {
        column(&self.events, layout::OFFSET)
    }

    /// The event times, in milliseconds.
    pub(crate) fn event_times(&self) -> &[i64] {
        column(&self.events, layout::EVENT_TIME)
    }

    /// The arrival times, in milliseconds.
    pub(crate) fn arrival_times(&self) -> &[i64] {
        arrival_times(&self.events)
    }

    /// About how much memory it takes.
    pub(crate) fn bytes(&self) -> usize {
        let form = |letter: &DeadLetter| letter.form.as_ref().map_or(0, Form::bytes);
        let dead = self.dead.iter().map(|letter| letter.raw.len() + letter.reason.len() + form(letter));
        self.events.get_array_memory_size() + dead.sum::<usize>()
    }

    /// Batches of one partition that follow one another, as one; none of none.
    pub(crate) fn join(batches: &[Arc<Self>]) -> Result<Option<Self>, ArrowError> {
        let ([first, ..], [.., last]) = (batches, batches) else { return Ok(None) };
        let events = concat_batches(first.events.schema_ref(), batches.iter().map(|batch| &batch.events))?;
        let dead = batches.iter().flat_map(|batch| batch.dead.iter().cloned()).collect();
        let epoch = batches.iter().rev().find_map(|batch| batch.epoch);
        Ok(Some(Self { partition: first.partition, from: first.from, to: last.to, events, dead, epoch }))
    }

    /// What it holds from a position within it on.
    pub(crate) fn starting_at(&self, position: Position) -> Self {
        let dead = self.dead.iter().filter(|letter| !position.covers(letter.offset)).cloned().collect();
        let (partition, to, epoch) = (self.partition, self.to, self.epoch);
        Self { partition, from: position, to, events: self.events_from(position), dead, epoch }
    }

    /// The events that are not before `position`.
    pub(crate) fn events_from(&self, position: Position) -> RecordBatch {
        let first = self.offsets().partition_point(|offset| position.covers(*offset));
        self.events.slice(first, self.events.num_rows() - first)
    }
}

/// The arrival times of events, in milliseconds.
pub(crate) fn arrival_times(events: &RecordBatch) -> &[i64] {
    column(events, layout::ARRIVAL_TIME)
}

/// A column of 64-bit numbers; empty where there is none such, which the table's layout rules out.
fn column<'a>(batch: &'a RecordBatch, name: &str) -> &'a [i64] {
    let Some(column) = batch.column_by_name(name) else { return &[] };
    if let Some(times) = column.as_primitive_opt::<arrow::datatypes::TimestampMillisecondType>() {
        return times.values();
    }
    column.as_primitive_opt::<arrow::datatypes::Int64Type>().map_or(&[], |numbers| numbers.values())
}

/// What was received, row by row.
#[derive(Clone, Debug)]
pub enum Raw {
    /// The text of each row: where each ends in `bytes`.
    Text {
        /// All rows.
        bytes: Vec<u8>,
        /// Where each row ends.
        ends: Vec<usize>,
    },
    /// The rows have no bytes of their own: they are spelled out in JSON.
    Columns,
}

/// How a record's place is named.
#[derive(Clone, Debug)]
pub enum RecordPlace {
    /// A line of a text file, by the file's name.
    Line(Arc<str>),
    /// A row of a file, by the file's name.
    Row(Arc<str>),
    /// The push partition.
    Push,
    /// A partition of a Kafka topic.
    Partition(Arc<str>, i32),
    /// Where records that are taken again came from first, one after the other.
    Known(Arc<[String]>),
}

impl RecordPlace {
    /// The place of a record: its line or row from 1, its offset in the push partition or in a partition of a topic, or which of the known
    /// ones it is, from 0.
    #[must_use]
    pub fn at(&self, number: i64) -> String {
        match self {
            Self::Line(file) => format!("{file}:{number}"),
            Self::Row(file) => format!("{file} row {number}"),
            Self::Push => format!("push {number}"),
            Self::Partition(topic, partition) => format!("{topic}/{partition}@{number}"),
            Self::Known(places) => {
                let place = usize::try_from(number).ok().and_then(|number| places.get(number));
                place.cloned().unwrap_or_default()
            }
        }
    }
}

/// Rows of one partition in the source's declared fields, not yet decided.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// One column for each declared field of the source.
    pub columns: Vec<ArrayRef>,
    /// Whether some times were read as UTC because neither they nor the source says their zone.
    pub has_clocks: bool,
    /// The offset of each row.
    pub offsets: Vec<Offset>,
    /// The record's own timestamp of each row, where it has one.
    pub times: Vec<Option<Time>>,
    /// When the file that the rows are of was added to the file partition; none for other rows, and where that is not
    /// known.
    pub added: Option<Time>,
    /// The number of each row in its [`RecordPlace`].
    pub numbers: Vec<i64>,
    /// What was received.
    pub raw: Raw,
    /// How that is read, row by row.
    pub forms: Forms,
    /// For rows that are taken again: the partition that each was first read from, whose rules decide about it.
    pub partitions: Option<Vec<Partition>>,
    /// How places are named.
    pub place: RecordPlace,
    /// The records that could not be read.
    pub dead: Vec<DeadLetter>,
    /// The position of the first record.
    pub from: Position,
    /// The position after the last record.
    pub to: Position,
}
