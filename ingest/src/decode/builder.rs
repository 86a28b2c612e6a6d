//! The columns of a chunk in the making, filled row by row.
//!
//! A payload may turn out to be broken after some of its fields were read, and a JSON object may have a member twice, of
//! which the last counts. Arrow's own builders cannot undo a value. These can, for the row that is being read, so that
//! a decoder need not collect a row before it writes it.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, NullBufferBuilder};
use arrow::array::{StringArray, TimestampMillisecondArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use tidemark_kernel::value::{Type, canonical};
use tidemark_kernel::{SourcePlan, Time};

/// A value of one field in one row, borrowed from the payload where it is written there as it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell<'a> {
    Null,
    Bool(bool),
    Int64(i64),
    Float64(f64),
    String(Cow<'a, str>),
    Timestamp(Time),
    /// An instant that is read as UTC because nothing says its zone.
    Clock(Time),
    Bytes(Cow<'a, [u8]>),
}

/// One column for each declared field of a source.
#[derive(Debug)]
pub struct ColumnsBuilder {
    columns: Vec<Column>,
    /// How many rows are complete. Of the row that is being read a column has one cell more, or none yet.
    rows: usize,
    /// Whether a time was read as UTC because nothing says its zone.
    has_clocks: bool,
}

impl ColumnsBuilder {
    /// No rows yet.
    #[must_use]
    pub fn new(source: &SourcePlan) -> Self {
        let columns = source.fields.iter().map(|field| Column::new(field.ty)).collect();
        Self { columns, rows: 0, has_clocks: false }
    }

    /// Adds a row: `decode` sets its fields, and those that it leaves alone are null.
    ///
    /// # Errors
    /// Fails where `decode` does. There is no new row then.
    pub fn add(&mut self, decode: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<(), String> {
        let outcome = decode(self);
        let rows = self.rows;
        if outcome.is_ok() {
            self.columns.iter_mut().filter(|column| column.len() == rows).for_each(|it| it.push(Cell::Null));
            self.rows += 1;
        } else {
            self.columns.iter_mut().for_each(|column| column.truncate(rows));
        }
        outcome
    }

    /// Sets a field of the row that is being read. What it was set to before no longer counts; a value of another type
    /// than the field's is null.
    pub(crate) fn set(&mut self, field: usize, cell: Cell<'_>) {
        self.has_clocks |= matches!(cell, Cell::Clock(_));
        let column = &mut self.columns[field];
        column.truncate(self.rows);
        column.push(cell);
    }

    /// Whether a time of any row was read as UTC because nothing says its zone.
    pub(crate) const fn has_clocks(&self) -> bool {
        self.has_clocks
    }

    /// The columns, in the order of the fields.
    #[must_use]
    pub fn finish(self) -> Vec<ArrayRef> {
        self.columns.into_iter().map(Column::finish).collect()
    }
}

#[derive(Debug)]
struct Column {
    cells: Cells,
    nulls: NullBufferBuilder,
}

/// The cells of a column; those that are null hold anything.
#[derive(Debug)]
enum Cells {
    Bool(Vec<bool>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    String(Texts),
    Timestamp(Vec<i64>),
    Bytes(Texts),
}

/// Cells of any length, one after the other.
#[derive(Debug, Default)]
struct Texts {
    bytes: Vec<u8>,
    /// Where each cell ends in `bytes`.
    ends: Vec<usize>,
}

impl Column {
    fn new(ty: Type) -> Self {
        let cells = match ty {
            Type::Bool => Cells::Bool(Vec::new()),
            Type::Int64 => Cells::Int64(Vec::new()),
            Type::Float64 => Cells::Float64(Vec::new()),
            Type::String => Cells::String(Texts::default()),
            Type::Timestamp => Cells::Timestamp(Vec::new()),
            Type::Bytes => Cells::Bytes(Texts::default()),
        };
        Self { cells, nulls: NullBufferBuilder::new(0) }
    }

    fn len(&self) -> usize {
        self.nulls.len()
    }

    fn truncate(&mut self, rows: usize) {
        if self.len() > rows {
            self.nulls.truncate(rows);
            self.cells.truncate(rows);
        }
    }

    fn push(&mut self, cell: Cell<'_>) {
        let is_value = match (&mut self.cells, cell) {
            (Cells::Bool(cells), Cell::Bool(value)) => add(cells, value),
            (Cells::Int64(cells), Cell::Int64(value)) => add(cells, value),
            (Cells::Float64(cells), Cell::Float64(value)) => add(cells, canonical(value)),
            (Cells::String(cells), Cell::String(value)) => cells.add(value.as_bytes()),
            (Cells::Timestamp(cells), Cell::Timestamp(value) | Cell::Clock(value)) => {
                add(cells, value.millis())
            }
            (Cells::Bytes(cells), Cell::Bytes(value)) => cells.add(&value),
            (cells, _) => cells.add_null(),
        };
        self.nulls.append(is_value);
    }

    fn finish(mut self) -> ArrayRef {
        // Of a row that was taken back nulls may have been noted, where there are none now.
        let nulls = self.nulls.finish().filter(|nulls| nulls.null_count() > 0);
        match self.cells {
            Cells::Bool(cells) => Arc::new(BooleanArray::new(cells.into(), nulls)),
            Cells::Int64(cells) => Arc::new(Int64Array::new(cells.into(), nulls)),
            Cells::Float64(cells) => Arc::new(Float64Array::new(cells.into(), nulls)),
            Cells::String(cells) => {
                let (offsets, bytes) = cells.finish();
                Arc::new(StringArray::new(offsets, bytes, nulls))
            }
            Cells::Timestamp(cells) => {
                Arc::new(TimestampMillisecondArray::new(cells.into(), nulls).with_timezone("UTC"))
            }
            Cells::Bytes(cells) => {
                let (offsets, bytes) = cells.finish();
                Arc::new(BinaryArray::new(offsets, bytes, nulls))
            }
        }
    }
}

impl Cells {
    fn truncate(&mut self, rows: usize) {
        match self {
            Self::Bool(cells) => cells.truncate(rows),
            Self::Int64(cells) | Self::Timestamp(cells) => cells.truncate(rows),
            Self::Float64(cells) => cells.truncate(rows),
            Self::String(cells) | Self::Bytes(cells) => cells.truncate(rows),
        }
    }

    /// False: this is no value.
    fn add_null(&mut self) -> bool {
        match self {
            Self::Bool(cells) => cells.push(false),
            Self::Int64(cells) | Self::Timestamp(cells) => cells.push(0),
            Self::Float64(cells) => cells.push(0.0),
            Self::String(cells) | Self::Bytes(cells) => cells.ends.push(cells.bytes.len()),
        }
        false
    }
}

/// True: this is a value.
fn add<T>(cells: &mut Vec<T>, value: T) -> bool {
    cells.push(value);
    true
}

impl Texts {
    fn add(&mut self, bytes: &[u8]) -> bool {
        self.bytes.extend_from_slice(bytes);
        add(&mut self.ends, self.bytes.len())
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    fn finish(self) -> (OffsetBuffer<i32>, Buffer) {
        let mut start = 0;
        let lengths = self.ends.into_iter().map(|end| end - std::mem::replace(&mut start, end));
        (OffsetBuffer::from_lengths(lengths), self.bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use arrow::array::Array;
    use tidemark_kernel::source::{Arrival, TimeField};
    use tidemark_kernel::value::Field;
    use tidemark_kernel::value::{FeatureType, Value, arrow::array_of};

    use super::*;

    /// A source with one field of each type.
    fn source() -> SourcePlan {
        SourcePlan {
            name: "all".into(),
            fields: Type::ALL.map(|ty| Field { name: ty.name().into(), ty }).to_vec(),
            origins: BTreeMap::new(),
            optional: BTreeSet::new(),
            zones: BTreeMap::new(),
            event_time: TimeField { field: "timestamp".into(), unit: None },
            arrival: Arrival::EventTime,
            max_ahead: SourcePlan::DEFAULT_MAX_AHEAD,
            max_arrival_ahead: None,
            unique: None,
            keep_raw: false,
        }
    }

    fn cells(number: i64) -> [Cell<'static>; 6] {
        [
            Cell::Bool(number % 2 == 0),
            Cell::Int64(number),
            Cell::Float64(-0.0),
            Cell::String(format!("ß{number}").into()),
            Cell::Timestamp(Time::from_millis(number)),
            Cell::Bytes(vec![255, 0].into()),
        ]
    }

    fn values(number: i64) -> [Value; 6] {
        [
            Value::Bool(number % 2 == 0),
            Value::Int64(number),
            Value::float(0.0),
            Value::string(&format!("ß{number}")),
            Value::Timestamp(Time::from_millis(number)),
            Value::Bytes([255, 0].as_slice().into()),
        ]
    }

    /// The arrays that the kernel makes of these rows, none for a row of nulls.
    fn expected(rows: &[Option<[Value; 6]>]) -> Vec<ArrayRef> {
        let null = Value::Null;
        let column = |(index, ty): (usize, Type)| {
            let values = rows.iter().map(|row| row.as_ref().map_or(&null, |row| &row[index]));
            array_of(FeatureType::Scalar(ty), values)
        };
        Type::ALL.into_iter().enumerate().map(column).collect()
    }

    fn set(row: &mut ColumnsBuilder, cells: [Cell<'_>; 6]) -> Result<(), String> {
        cells.into_iter().enumerate().for_each(|(field, cell)| row.set(field, cell));
        Ok(())
    }

    #[test]
    fn every_type_is_as_the_kernel_has_it() {
        let mut columns = ColumnsBuilder::new(&source());
        columns.add(|row| set(row, cells(1))).expect("a row");
        columns.add(|_| Ok(())).expect("a row of nulls");
        columns.add(|row| set(row, cells(20))).expect("a row");
        assert_eq!(columns.finish(), expected(&[Some(values(1)), None, Some(values(20))]));
        assert_eq!(ColumnsBuilder::new(&source()).finish(), expected(&[]));
    }

    #[test]
    fn a_row_that_is_not_read_to_its_end_leaves_nothing() {
        let mut columns = ColumnsBuilder::new(&source());
        let broken = |row: &mut ColumnsBuilder| -> Result<(), String> {
            set(row, cells(300))?;
            row.set(0, Cell::Null);
            Err("broken".to_owned())
        };
        assert_eq!(columns.add(broken), Err("broken".into()));
        columns.add(|row| set(row, cells(2))).expect("a row");
        assert_eq!(columns.add(broken), Err("broken".into()));
        let columns = columns.finish();
        assert_eq!(columns, expected(&[Some(values(2))]));
        assert!(columns.iter().all(|column| column.nulls().is_none()));
    }

    #[test]
    fn what_is_set_last_counts_and_another_type_is_null() {
        let mut columns = ColumnsBuilder::new(&source());
        let twice = |row: &mut ColumnsBuilder| -> Result<(), String> {
            set(row, cells(7))?;
            set(row, cells(8))
        };
        let other = |row: &mut ColumnsBuilder| -> Result<(), String> {
            (0..6).for_each(|field| row.set(field, cells(9)[(field + 1) % 6].clone()));
            Ok(())
        };
        columns.add(twice).expect("a row");
        columns.add(other).expect("a row");
        assert_eq!(columns.finish(), expected(&[Some(values(8)), None]));
    }
}
