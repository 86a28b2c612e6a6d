//! Label files of JSON lines: one object on each line, a column for each member that any object has.
//!
//! A column has a type where all its values are of one: text, bools, whole numbers, numbers. Any other is the values'
//! JSON text, so an unused column never stops a run. A missing member is null.

use std::io::BufRead;
use std::sync::Arc;

use arrow::array::{Array, ArrayBuilder, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch};
use arrow::array::{StringArray, StringBuilder, new_null_array};
use arrow::datatypes::{DataType, Field, Schema};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::files::LabelFile;
use super::tables::Table;
use crate::training::error::TrainError;
use crate::training::problems::{LabelProblems, quoted};

/// How many rows make a batch at most.
const BATCH_ROWS: usize = 64 * 1024;

/// How many bytes of text make a batch, lest the offsets of an array overflow.
const BATCH_BYTES: usize = 256 << 20;

/// The columns and rows of a file.
pub(super) fn read(file: &LabelFile) -> Result<Table, TrainError> {
    let (mut from, mut rows, mut problems) = (file.open()?, Rows::default(), LabelProblems::default());
    let (mut line, mut number) = (Vec::new(), 0);
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line).map_err(|error| file.unreadable(&error))? == 0 {
            break;
        }
        number += 1;
        let text = if number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&line) } else { &line[..] };
        if text.trim_ascii().is_empty() {
            continue;
        }
        match serde_json::from_slice::<Record>(text) {
            Ok(record) => rows.add(number, record),
            Err(_) => {
                let shown = quoted(String::from_utf8_lossy(text).trim());
                let message = format!("{}:{number}: {shown} is no JSON object", file.path.display());
                let help = "write one object on each line, as `df.to_json(path, orient=\"records\", lines=True)` does";
                problems.add("", Some(rows.lines.len()), || (message, help.to_owned()));
            }
        }
    }
    problems.check()?;
    if let Some(column) = rows.twice.take() {
        return Err(TrainError::Twice { path: file.path.clone(), column });
    }
    rows.finish()
}

/// The members of an object in their order, as they are spelled.
struct Record(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_map(Members)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Record;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Record, M::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry::<String, Box<RawValue>>()? {
            members.push(member);
        }
        Ok(Record(members))
    }
}

/// What values a column has, apart from nulls.
#[derive(Clone, Copy, Debug, Default)]
struct Kinds {
    text: bool,
    bools: bool,
    whole: bool,
    /// Whole numbers that a float64 may not hold.
    large: bool,
    fractions: bool,
    other: bool,
}

impl Kinds {
    fn add(&mut self, spelled: &str) {
        match spelled.as_bytes().first() {
            Some(b'"') => self.text = true,
            Some(b't' | b'f') => self.bools = true,
            Some(b'{' | b'[') | None => self.other = true,
            Some(_) => match spelled.parse::<i64>() {
                Ok(number) if number.unsigned_abs() <= 1 << 53 => self.whole = true,
                Ok(_) => self.large = true,
                Err(_) if !spelled.contains(['.', 'e', 'E']) => self.other = true,
                Err(_) => match spelled.parse::<f64>() {
                    Ok(number) if number.is_finite() => self.fractions = true,
                    _ => self.other = true,
                },
            },
        }
    }

    fn data_type(self) -> DataType {
        let whole = self.whole || self.large;
        match self {
            Self { text: false, bools: false, fractions: false, other: false, .. } if !whole => {
                DataType::Null
            }
            Self { bools: true, text: false, fractions: false, other: false, .. } if !whole => {
                DataType::Boolean
            }
            Self { bools: false, text: false, fractions: false, other: false, .. } if whole => {
                DataType::Int64
            }
            Self { bools: false, text: false, fractions: true, other: false, large: false, .. } => {
                DataType::Float64
            }
            _ => DataType::Utf8,
        }
    }
}

/// The rows read so far. Values are kept as they are spelled until all are known.
#[derive(Default)]
struct Rows {
    names: Vec<String>,
    kinds: Vec<Kinds>,
    columns: Vec<StringBuilder>,
    /// How many rows, and bytes, the columns hold.
    held: (usize, usize),
    /// Batches that are full: how many rows each has, and those of its columns that were known then.
    full: Vec<(usize, Vec<StringArray>)>,
    lines: Vec<u64>,
    /// A member that an object has twice.
    twice: Option<String>,
}

impl Rows {
    fn add(&mut self, line: u64, record: Record) {
        self.lines.push(line);
        for (place, (name, value)) in record.0.into_iter().enumerate() {
            let at = self.column(place, name);
            let column = &mut self.columns[at];
            if column.len() > self.held.0 {
                self.twice = self.twice.take().or_else(|| Some(self.names[at].clone()));
                continue;
            }
            pad(column, self.held.0);
            match value.get() {
                "null" => column.append_null(),
                spelled => {
                    self.kinds[at].add(spelled);
                    self.held.1 += spelled.len();
                    column.append_value(spelled);
                }
            }
        }
        self.held.0 += 1;
        if self.held.0 >= BATCH_ROWS || self.held.1 >= BATCH_BYTES {
            self.flush();
        }
    }

    /// The column of a member, which is most often at the same place in all objects.
    fn column(&mut self, place: usize, name: String) -> usize {
        if self.names.get(place) == Some(&name) {
            return place;
        }
        let known = self.names.iter().position(|known| *known == name);
        known.unwrap_or_else(|| {
            self.names.push(name);
            self.kinds.push(Kinds::default());
            self.columns.push(StringBuilder::new());
            self.names.len() - 1
        })
    }

    fn flush(&mut self) {
        let rows = self.held.0;
        let columns = self.columns.iter_mut().map(|column| {
            pad(column, rows);
            column.finish()
        });
        self.full.push((rows, columns.collect()));
        self.held = (0, 0);
    }

    fn finish(mut self) -> Result<Table, TrainError> {
        if self.held.0 > 0 {
            self.flush();
        }
        let types: Vec<DataType> = self.kinds.iter().map(|kinds| kinds.data_type()).collect();
        let fields = self.names.iter().zip(&types).map(|(name, ty)| Field::new(name, ty.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batches = self.full.iter().map(|(rows, columns)| {
            let column = |(at, ty): (usize, &DataType)| match columns.get(at) {
                Some(spelled) => typed(spelled, ty),
                None => new_null_array(ty, *rows),
            };
            let columns = types.iter().enumerate().map(column).collect();
            RecordBatch::try_new(Arc::clone(&schema), columns)
        });
        let batches = batches.collect::<Result<Vec<_>, _>>()?;
        Ok(Table { schema, batches, lines: Some(self.lines) })
    }
}

/// Nulls up to `rows`: objects that lacked the member.
fn pad(column: &mut StringBuilder, rows: usize) {
    while column.len() < rows {
        column.append_null();
    }
}

/// Values as a type that all of them have.
fn typed(spelled: &StringArray, ty: &DataType) -> ArrayRef {
    let values = spelled.iter();
    match ty {
        DataType::Null => new_null_array(ty, spelled.len()),
        DataType::Boolean => {
            Arc::new(values.map(|value| value.map(|value| value == "true")).collect::<BooleanArray>())
        }
        DataType::Int64 => Arc::new(
            values.map(|value| value.and_then(|value| value.parse::<i64>().ok())).collect::<Int64Array>(),
        ),
        DataType::Float64 => Arc::new(
            values.map(|value| value.and_then(|value| value.parse::<f64>().ok())).collect::<Float64Array>(),
        ),
        _ => Arc::new(values.map(|value| value.map(text)).collect::<StringArray>()),
    }
}

/// A JSON text's own text; of any other value, its JSON.
fn text(spelled: &str) -> String {
    let text = Some(spelled).filter(|spelled| spelled.starts_with('"'));
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| spelled.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_type_that_all_their_values_have() {
        let of = |values: &[&str]| {
            let mut kinds = Kinds::default();
            values.iter().for_each(|value| kinds.add(value));
            kinds.data_type()
        };
        assert_eq!(of(&[]), DataType::Null);
        assert_eq!(of(&["\"a\"", "\"1\""]), DataType::Utf8);
        assert_eq!(of(&["true", "false"]), DataType::Boolean);
        assert_eq!(of(&["1", "-9223372036854775808"]), DataType::Int64);
        assert_eq!(of(&["1", "0.5", "1e3"]), DataType::Float64);
        for mixed in [&["9007199254740993", "0.5"][..], &["18446744073709551615"], &["1", "\"1\""], &["{}"]] {
            assert_eq!(of(mixed), DataType::Utf8, "{mixed:?}");
        }
        assert_eq!([text(r#""a\nb""#), text("[1]")], ["a\nb".to_owned(), "[1]".to_owned()]);
    }
}
