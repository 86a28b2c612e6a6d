//! Decides which rows of a chunk are events.
//!
//! This is done for every row there is, so what does not differ between rows is looked up once for a chunk: the columns
//! that decide, and their types.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BinaryArray, BooleanArray, Int32Array, Int64Array, RecordBatch};
use arrow::array::{TimestampMillisecondArray, cast::AsArray};
use arrow::buffer::NullBuffer;
use arrow::compute::filter_record_batch;
use arrow::datatypes::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow::error::ArrowError;
use tidemark_kernel::source::{Arrival, EventTimes, Rejection, TimeField};
use tidemark_kernel::value::arrow::value_at;
use tidemark_kernel::value::{Type, Unit, json};
use tidemark_kernel::{Partition, SourcePlan, Time};
use tidemark_offline::table::layout;

use super::members::Members;
use super::{Batch, Chunk, DeadLetter, Raw, cause, spelled};

/// When an event happened and arrived, or why a row is none.
type Decision = Result<EventTimes, Rejection>;

impl Chunk {
    /// Decides which rows are events.
    ///
    /// # Errors
    /// Fails where the columns are not those of the source, which the formats rule out.
    pub fn accept(mut self, source: &SourcePlan, partition: Partition) -> Result<Batch, ArrowError> {
        let members = Members::of(source);
        let times = Times::of(source, &self.columns);
        let decisions: Vec<Decision> =
            (0..self.offsets.len()).map(|row| self.decide(source, partition, &times, row)).collect();
        let mut dead = std::mem::take(&mut self.dead);
        for (row, decision) in decisions.iter().enumerate() {
            if let Err(rejection) = decision {
                dead.push(self.dead_letter(source, &members, row, rejection));
            }
        }
        dead.sort_by_key(|letter| letter.offset);
        let (from, to) = (self.from, self.to);
        let events = self.events(source, &members, partition, &decisions)?;
        Ok(Batch { partition, from, to, events, dead, epoch: None })
    }

    fn decide(&self, source: &SourcePlan, partition: Partition, times: &Times<'_>, row: usize) -> Decision {
        times.check(row)?;
        let partition = self.partitions.as_ref().map_or(partition, |partitions| partitions[row]);
        let at = |instants: Option<Instants<'_>>| instants.and_then(|instants| instants.at(row));
        source.accept_times(partition, self.times[row].or(self.added), at(times.event), at(times.arrival))
    }

    fn dead_letter(
        &self,
        source: &SourcePlan,
        members: &Members,
        row: usize,
        rejection: &Rejection,
    ) -> DeadLetter {
        let raw = self.raw(members, row);
        let cause = match (rejection, &self.raw) {
            (Rejection::NoEventTime(field) | Rejection::NoArrivalTime(field), Raw::Text { .. }) => {
                cause::of_missing(source, field, &raw)
            }
            _ => None,
        };
        DeadLetter {
            offset: self.offsets[row],
            code: rejection.code(),
            reason: rejection.to_string() + &cause.map(|cause| format!("; {cause}")).unwrap_or_default(),
            place: self.place.at(self.numbers[row]),
            raw: raw.into_owned(),
            form: self.forms.of(row),
            record_time: self.times[row].filter(|time| time.is_valid()),
        }
    }

    fn raw(&self, members: &Members, row: usize) -> Cow<'_, [u8]> {
        match &self.raw {
            Raw::Text { bytes, ends } => {
                let start = row.checked_sub(1).map_or(0, |before| ends[before]);
                Cow::Borrowed(&bytes[start..ends[row]])
            }
            Raw::Columns => {
                let values =
                    self.columns.iter().map(|column| json::write(&value_at(column, row)).to_string());
                Cow::Owned(spelled::spell(members, &values.collect::<Vec<_>>()).into_bytes())
            }
        }
    }

    fn events(
        self,
        source: &SourcePlan,
        members: &Members,
        partition: Partition,
        decisions: &[Decision],
    ) -> Result<RecordBatch, ArrowError> {
        let rows = 0..decisions.len();
        let raw = source
            .keep_raw
            .then(|| BinaryArray::from_iter_values(rows.clone().map(|row| self.raw(members, row))));
        let mut columns = self.columns;
        columns.push(times(decisions, |times| times.event_time));
        columns.push(times(decisions, |times| times.arrival_time));
        columns.push(Arc::new(Int32Array::from(vec![partition.0; rows.len()])));
        columns.push(Arc::new(Int64Array::from(self.offsets)));
        columns.extend(raw.map(|raw| -> ArrayRef { Arc::new(raw) }));
        let all = RecordBatch::try_new(layout::events(source), columns)?;
        if decisions.iter().all(Result::is_ok) {
            return Ok(all);
        }
        filter_record_batch(&all, &BooleanArray::from_iter(decisions.iter().map(|times| Some(times.is_ok()))))
    }
}

/// One of the two times of each row; that of a row that is no event is of no use.
fn times(decisions: &[Decision], pick: impl Fn(&EventTimes) -> Time) -> ArrayRef {
    let times = decisions.iter().map(|times| times.as_ref().map_or(Time::default(), &pick).millis());
    Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"))
}

/// The columns of instants that decide which rows are events.
struct Times<'c> {
    /// The event time; none where there is no such column.
    event: Option<Instants<'c>>,
    /// The arrival time; none where it is not from a field.
    arrival: Option<Instants<'c>>,
    /// Every field of type timestamp, by its name.
    timestamps: Vec<(&'c str, Instants<'c>)>,
}

impl<'c> Times<'c> {
    fn of(source: &'c SourcePlan, columns: &'c [ArrayRef]) -> Self {
        let of = |time: &TimeField| Instants::of(&columns[source.field(&time.field)?], time.unit);
        let arrival = match &source.arrival {
            Arrival::Field(time) => of(time),
            Arrival::Record | Arrival::EventTime => None,
        };
        let timestamps = source.fields.iter().zip(columns).filter(|(field, _)| field.ty == Type::Timestamp);
        let timestamps = timestamps
            .filter_map(|(field, column)| Some((field.name.as_str(), Instants::of(column, None)?)))
            .collect();
        Self { event: of(&source.event_time), arrival, timestamps }
    }

    /// No table could hold an instant outside years 1 to 9999, in whatever field it is.
    fn check(&self, row: usize) -> Result<(), Rejection> {
        let invalid = self.timestamps.iter().find_map(|(field, instants)| {
            instants.at(row).filter(|time| !time.is_valid()).map(|time| (field, time))
        });
        let Some((field, time)) = invalid else { return Ok(()) };
        Err(Rejection::Undecodable(format!("field `{field}`: {time} is outside years 1 to 9999")))
    }
}

/// A column of instants.
#[derive(Clone, Copy)]
struct Instants<'c> {
    numbers: Numbers<'c>,
    nulls: Option<&'c NullBuffer>,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Numbers<'c> {
    Whole(&'c [i64]),
    Float(&'c [f64]),
}

impl<'c> Instants<'c> {
    /// The instants of a column of timestamps, or of numbers in a unit.
    fn of(column: &'c ArrayRef, unit: Option<Unit>) -> Option<Self> {
        let nulls = column.nulls();
        if let Some(times) = column.as_primitive_opt::<TimestampMillisecondType>() {
            return Some(Self { numbers: Numbers::Whole(times.values()), nulls, unit: Unit::Millis });
        }
        let numbers = match column.as_primitive_opt::<Int64Type>() {
            Some(numbers) => Numbers::Whole(numbers.values()),
            None => Numbers::Float(column.as_primitive_opt::<Float64Type>()?.values()),
        };
        Some(Self { numbers, nulls, unit: unit? })
    }

    /// The instant of a row; none where it is null, or no number.
    fn at(&self, row: usize) -> Option<Time> {
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        match self.numbers {
            Numbers::Whole(numbers) => Some(self.unit.time(numbers[row])),
            Numbers::Float(numbers) => self.unit.time_of_float(numbers[row]),
        }
    }
}
